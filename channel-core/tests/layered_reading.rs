//! Reading where the amounts do not match: what comes out is neither lost, nor doubled, nor left inside.

#[path = "support/odd.rs"]
mod odd;
mod support;

use std::io::IoSliceMut;
use std::panic::{self, AssertUnwindSafe};

use channel_core::engine::{Decoded, Decoder, Sink, Stopped};
use channel_core::{Channel, ChannelExt, Direction, ErrorKind, Layered, Limits, MemoryChannel, ReadFlags, Result};
use channel_testkit::watchdog;
use odd::endless;
use support::{Empties, Plain};

/// Makes four bytes of each, and keeps what the caller has no room for.
struct Fourfold {
    waiting: Vec<u8>,
    lent: bool,
}

impl Fourfold {
    fn expand(&mut self, input: &[u8], sink: &mut Sink<'_, '_>) -> Decoded {
        for byte in input {
            self.waiting.extend([*byte; 4]);
        }
        while !self.waiting.is_empty() && !sink.is_full() {
            let into = sink.space(self.waiting.len());
            let count = into.len();
            into.copy_from_slice(&self.waiting[..count]);
            sink.commit(count);
            self.waiting.drain(..count);
        }
        let stopped = if self.waiting.is_empty() { Stopped::NeedInput } else { Stopped::SinkFull };
        Decoded { consumed: input.len(), stopped, reply: false }
    }
}

impl Decoder for Fourfold {
    fn decode(&mut self, input: &mut [u8], sink: &mut Sink<'_, '_>) -> Result<Decoded> {
        Ok(self.expand(input, sink))
    }

    fn decodes_lent(&self) -> bool {
        self.lent
    }

    fn decode_lent(&mut self, input: &[u8], sink: &mut Sink<'_, '_>) -> Result<Decoded> {
        Ok(self.expand(input, sink))
    }

    fn end(&mut self, _: usize) -> Result<()> {
        Ok(())
    }
}

/// Reads without waiting, byte by byte, until there is nothing to give.
fn read_byte_by_byte(channel: &impl Channel) -> Vec<u8> {
    channel.set_blocking(false);
    let mut read = Vec::new();
    loop {
        let mut byte = [0];
        match channel.read(&mut byte) {
            Ok(count) => read.extend(&byte[..count]),
            Err(error) if error.is_would_block() => return read,
            Err(error) => panic!("{error}"),
        }
    }
}

fn expanded(lent: bool) -> Vec<u8> {
    let (near, far) = MemoryChannel::pair().unwrap();
    let decoder = Fourfold { waiting: Vec::new(), lent };
    let near = Layered::open("fourfold", Box::new(near), decoder, Plain, Limits::default()).unwrap();
    far.write_all(b"ab").unwrap();
    read_byte_by_byte(&near)
}

#[test]
fn what_a_decoder_keeps_for_want_of_room_is_read_without_more_input() {
    assert_eq!(expanded(false), b"aaaabbbb");
}

#[test]
fn what_a_decoder_of_lent_bytes_keeps_for_want_of_room_is_read_without_more_input() {
    assert_eq!(expanded(true), b"aaaabbbb");
}

#[test]
fn a_peek_that_would_have_to_go_on_is_refused_rather_than_given_the_same_bytes_again() {
    let (near, far) = MemoryChannel::pair().unwrap();
    near.write_all(b"abc").unwrap();
    let mut room = [0; 9];
    let peeked = far.readv_full_all(&mut [IoSliceMut::new(&mut room)], None, ReadFlags::MSG_PEEK);
    assert_eq!(peeked.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(room, [0; 9]);
    assert_eq!(read_byte_by_byte(&far), b"abc");
}

#[test]
fn a_borrower_that_claims_more_than_it_was_lent_took_what_it_was_lent() {
    let (near, far) = MemoryChannel::pair().unwrap();
    near.write_all(b"abc").unwrap();
    assert_eq!(far.with_read_buf(&mut |lent| lent.len() + 1).unwrap(), 3);
    near.write_all(b"def").unwrap();
    assert_eq!(read_byte_by_byte(&far), b"def");
}

#[test]
fn a_panic_of_who_borrows_is_its_own_and_nothing_is_taken() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let near = support::plain("upper", support::plain("lower", near));
    far.write_all(b"0123456789").unwrap();
    let mut calls = 0;
    let panics = panic::catch_unwind(AssertUnwindSafe(|| {
        near.with_read_buf(&mut |_| {
            calls += 1;
            panic::resume_unwind(Box::new("mine"))
        })
    }));
    assert_eq!(panics.unwrap_err().downcast_ref(), Some(&"mine"));
    assert_eq!(calls, 1);
    let mut read = [0; 10];
    near.read_all(&mut read).unwrap();
    assert_eq!(&read, b"0123456789");
    near.close().unwrap();
}

#[test]
fn a_call_over_what_carries_nothing_ends_before_all_of_that_is_decoded() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let near = Layered::open("empties", Box::new(near), Empties, Plain, Limits::default()).unwrap();
    near.set_blocking(false);
    far.write_all(&[0; 60_000]).unwrap();
    let mut calls = 1;
    while near.read(&mut [0]).unwrap_err().is_would_block() && near.readiness(Direction::Read).is_ready() {
        calls += 1;
    }
    assert!((30..200).contains(&calls), "{calls} calls for 60,000 units");
}

#[test]
fn a_call_whose_turn_is_over_reads_no_further() {
    let (near, _far) = MemoryChannel::pair().unwrap();
    let (recorded, log) = channel_testkit::adverse::record(Box::new(endless(Box::new(near))));
    let near = Layered::open("empties", recorded, Empties, Plain, Limits::default()).unwrap();
    near.set_blocking(false);
    assert!(near.read(&mut [0]).unwrap_err().is_would_block());
    assert_eq!(log.of("readv_full").len(), 1);
    assert!(near.readiness(Direction::Read).is_ready(), "there is more");
}

/// Has no units, and finds plaintext in nothing.
struct Sieve;

impl Decoder for Sieve {
    fn decode(&mut self, input: &mut [u8], _: &mut Sink<'_, '_>) -> Result<Decoded> {
        Ok(Decoded { consumed: input.len(), stopped: Stopped::NeedInput, reply: false })
    }

    fn end(&mut self, _: usize) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_peer_that_never_stops_sending_nothing_gives_others_their_turn() {
    watchdog::run("nothing without end", || {
        let (near, _far) = MemoryChannel::pair().unwrap();
        let near = Layered::open("sieve", Box::new(endless(Box::new(near))), Sieve, Plain, Limits::default()).unwrap();
        near.set_blocking(false);
        assert!(near.read(&mut [0]).unwrap_err().is_would_block());
    });
}
