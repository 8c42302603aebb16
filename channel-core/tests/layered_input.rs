//! Input that a layer holds: bounded while a unit is incomplete, and none while it is idle.

#[path = "support/buffers.rs"]
mod buffers;
mod support;

use std::io::IoSlice;

use buffers::assert_none_holds_a_buffer;
use channel_core::engine::{Advance, Handshake};
use channel_core::{Buffer, Channel, ChannelExt, Error, ErrorKind, Layered, Limits, MemoryChannel, Result, WriteFlags};
use channel_testkit::child;
use support::{NeverDone, Plain, plain};

impl Handshake<Plain, Plain> for NeverDone {
    fn advance(&mut self, _: &mut [u8], _: bool, _: &mut Buffer) -> Result<Advance<Plain, Plain>> {
        Ok(Advance::NeedInput { consumed: 0 })
    }

    fn abort(&mut self, cause: &Error, out: &mut Buffer) {
        assert_eq!(cause.kind(), ErrorKind::LimitExceeded);
        out.extend(b"too long");
    }
}

const MOST: usize = 50_000;

fn limits() -> Limits {
    Limits { input_bytes: MOST, ..Limits::default() }
}

/// Sends without waiting until `read` fails for good; says how, and how many bytes were read.
fn flood(far: &MemoryChannel, mut read: impl FnMut() -> Result<()>) -> (Error, usize) {
    let mut sent = 0;
    loop {
        if let Ok(count) = far.writev_full(&[IoSlice::new(&[7; 10_000])], &[], WriteFlags::DONT_WAIT) {
            sent += count;
        }
        assert!(sent < 100 * MOST, "{sent} bytes of one unit were taken, and the limit is {MOST}");
        match read() {
            Err(error) if error.is_would_block() => {}
            Err(error) => return (error, sent),
            Ok(()) => panic!("nothing can come of this"),
        }
    }
}

#[test]
fn a_unit_that_does_not_end_is_bounded() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let near = Layered::open("never", Box::new(near), NeverDone, Plain, limits()).unwrap();
    near.set_blocking(false);
    let (error, sent) = flood(&far, || near.read(&mut [0; 8]).map(drop));
    assert_eq!((error.kind(), error.layer()), (ErrorKind::LimitExceeded, "never"), "{error}");
    assert!((MOST..3 * MOST).contains(&sent), "{sent}");
    assert_eq!(near.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::LimitExceeded, "the stream stays ended");
    near.write_all(b"still written").unwrap();
}

#[test]
fn a_handshake_message_that_does_not_end_is_bounded_and_refused_in_its_own_words() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let near: Layered<Plain, Plain> =
        Layered::with_handshake("never", Box::new(near), Box::new(NeverDone), limits()).unwrap();
    near.set_blocking(false);
    let (error, sent) = flood(&far, || near.handshake());
    assert_eq!((error.kind(), error.operation()), (ErrorKind::LimitExceeded, "handshake"), "{error}");
    assert!((MOST..3 * MOST).contains(&sent), "{sent}");
    let mut heard = [0; 8];
    far.read_all(&mut heard).unwrap();
    assert_eq!(&heard, b"too long");
}

fn small_pair() -> (MemoryChannel, MemoryChannel) {
    MemoryChannel::pair_with_capacity(1000).unwrap()
}

#[test]
fn connections_that_are_idle_hold_no_buffers() {
    child::run("connections_that_are_idle_hold_no_buffers", || {
        assert_none_holds_a_buffer(|| {
            let (near, far) = small_pair();
            let near = plain("plain", near);
            near.set_blocking(false);
            near.write_all(b"out").unwrap();
            far.read_all(&mut [0; 3]).unwrap();
            far.write_all(b"what comes in").unwrap();
            near.read_all(&mut [0; 4]).unwrap(); // the layer holds the rest
            near.read_all(&mut [0; 9]).unwrap();
            assert!(near.read(&mut [0]).unwrap_err().is_would_block());
            (near, far)
        });
    });
}

#[test]
fn connections_that_never_met_would_block_hold_no_buffers() {
    child::run("connections_that_never_met_would_block_hold_no_buffers", || {
        assert_none_holds_a_buffer(|| {
            let (near, far) = small_pair();
            let near = plain("plain", near);
            near.write_all(b"out").unwrap();
            far.read_all(&mut [0; 3]).unwrap();
            far.write_all(b"what comes in").unwrap();
            near.read_all(&mut [0; 13]).unwrap();
            far.write_all(b"more").unwrap();
            assert_eq!(near.with_read_buf(&mut |bytes| bytes.len()).unwrap(), 4);
            near.set_cork(true);
            near.write_all(b"later").unwrap();
            near.set_cork(false);
            far.read_all(&mut [0; 5]).unwrap(); // what the channel below holds is not ours
            (near, far)
        });
    });
}

#[test]
fn connections_with_a_part_of_a_unit_hold_no_whole_buffers() {
    child::run("connections_with_a_part_of_a_unit_hold_no_whole_buffers", || {
        assert_none_holds_a_buffer(|| {
            let (near, far) = small_pair();
            let near = Layered::open("never", Box::new(near), NeverDone, Plain, limits()).unwrap();
            near.set_blocking(false);
            far.write_all(b"h").unwrap();
            assert!(near.read(&mut [0]).unwrap_err().is_would_block());
            (near, far)
        });
        assert_none_holds_a_buffer(|| {
            let (near, far) = small_pair();
            let near: Layered<Plain, Plain> =
                Layered::with_handshake("never", Box::new(near), Box::new(NeverDone), limits()).unwrap();
            near.set_blocking(false);
            far.write_all(b"h").unwrap();
            assert!(near.handshake().unwrap_err().is_would_block());
            (near, far)
        });
    });
}

#[test]
fn connections_whose_peer_says_nothing_hold_no_buffers() {
    child::run("connections_whose_peer_says_nothing_hold_no_buffers", || {
        assert_none_holds_a_buffer(|| {
            let (near, far) = small_pair();
            let near: Layered<Plain, Plain> =
                Layered::with_handshake("never", Box::new(near), Box::new(NeverDone), limits()).unwrap();
            near.set_blocking(false);
            assert!(near.handshake().unwrap_err().is_would_block());
            (near, far)
        });
    });
}
