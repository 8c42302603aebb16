//! Replies that meet a writer at work, and what a lend leaves to be decoded.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread;

use channel_core::engine::{Decoded, Decoder, Encoder, Sink, Source, Stopped};
use channel_core::{Buffer, Channel, ChannelExt, Layered, Limits, MemoryChannel, Result};
use channel_testkit::watchdog;
use support::{Plain, plain};

/// Has a reply to whatever comes. While a writer is at work one comes: somebody reads, on another thread.
#[derive(Clone, Default)]
struct Replies {
    waiting: Arc<Mutex<Vec<u8>>>,
    reads_next: Arc<Mutex<Weak<Layered<Self, Self>>>>,
}

impl Decoder for Replies {
    fn decode(&mut self, input: &mut [u8], _: &mut Sink<'_, '_>) -> Result<Decoded> {
        self.waiting.lock().unwrap().extend(&*input);
        Ok(Decoded { consumed: input.len(), stopped: Stopped::NeedInput, reply: !input.is_empty() })
    }

    fn end(&mut self, _: usize) -> Result<()> {
        Ok(())
    }
}

impl Encoder for Replies {
    fn pump(&mut self, out: &mut Buffer) -> Result<()> {
        out.extend(&std::mem::take(&mut *self.waiting.lock().unwrap()));
        Ok(())
    }

    fn encode(&mut self, source: &mut Source<'_, '_>, out: &mut Buffer) -> Result<()> {
        let near = std::mem::take(&mut *self.reads_next.lock().unwrap()).upgrade();
        thread::scope(|scope| {
            let near = near.as_ref();
            scope.spawn(move || near.map(|near| assert!(near.read(&mut [0]).unwrap_err().is_would_block())));
        });
        Plain.encode(source, out)
    }
}

#[test]
fn a_reply_that_meets_a_writer_at_work_is_sent_when_that_is_done() {
    watchdog::run("a_reply_that_meets_a_writer_at_work", || {
        let (near, far) = MemoryChannel::pair().unwrap();
        let engine = Replies::default();
        let near = Arc::new(
            Layered::open("replies", Box::new(near), engine.clone(), engine.clone(), Limits::default()).unwrap(),
        );
        *engine.reads_next.lock().unwrap() = Arc::downgrade(&near);
        near.set_blocking(false);
        far.write_all(b"ping").unwrap();
        assert_eq!(near.write(b"data").unwrap(), 4);
        far.set_blocking(false);
        let mut heard = [0; 16];
        let count = far.read(&mut heard).unwrap();
        let mut all = heard[..count].to_vec();
        if let Ok(count) = far.read(&mut heard) {
            all.extend(&heard[..count]);
        }
        assert_eq!(all, b"dataping");
    });
}

#[test]
fn what_an_engine_has_to_say_at_first_goes_with_the_first_write() {
    watchdog::run("what_an_engine_has_to_say_at_first", || {
        let (near, far) = MemoryChannel::pair().unwrap();
        let engine = Replies::default();
        engine.waiting.lock().unwrap().extend(b"hello");
        let near = Layered::open("replies", Box::new(near), engine.clone(), engine, Limits::default()).unwrap();
        near.write_all(b"data").unwrap();
        let mut heard = [0; 9];
        far.read_all(&mut heard).unwrap();
        assert_eq!(&heard, b"datahello");
    });
}

#[test]
fn a_reply_that_comes_up_behind_the_end_of_the_channel_below_is_dropped_and_fails_nothing() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let engine = Replies::default();
    let near = Layered::open("replies", Box::new(near), engine.clone(), engine, Limits::default()).unwrap();
    near.set_blocking(false);
    near.close_write().unwrap();
    far.write_all(b"ping").unwrap();
    assert!(near.read(&mut [0]).unwrap_err().is_would_block());
    near.flush().unwrap();
    near.close().unwrap();
}

/// Puts what it decodes into its sink in two pieces.
struct Halves;

impl Decoder for Halves {
    fn decode(&mut self, input: &mut [u8], sink: &mut Sink<'_, '_>) -> Result<Decoded> {
        let (first, second) = input.split_at(input.len() / 2);
        sink.put(first);
        sink.put(second);
        Ok(Decoded { consumed: input.len(), stopped: Stopped::NeedInput, reply: false })
    }

    fn end(&mut self, _: usize) -> Result<()> {
        Ok(())
    }
}

/// Has a reply to every question mark.
#[derive(Clone, Default)]
struct Answers(Arc<AtomicUsize>);

impl Decoder for Answers {
    fn decode(&mut self, _: &mut [u8], _: &mut Sink<'_, '_>) -> Result<Decoded> {
        Ok(Decoded { consumed: 0, stopped: Stopped::NeedInput, reply: false })
    }

    fn decodes_lent(&self) -> bool {
        true
    }

    fn decode_lent(&mut self, input: &[u8], _: &mut Sink<'_, '_>) -> Result<Decoded> {
        let asked = input.iter().filter(|byte| **byte == b'?').count();
        self.0.fetch_add(asked, Ordering::SeqCst);
        Ok(Decoded { consumed: input.len(), stopped: Stopped::NeedInput, reply: asked > 0 })
    }

    fn end(&mut self, _: usize) -> Result<()> {
        Ok(())
    }
}

impl Encoder for Answers {
    fn pump(&mut self, out: &mut Buffer) -> Result<()> {
        out.extend(&vec![b'!'; self.0.swap(0, Ordering::SeqCst)]);
        Ok(())
    }

    fn encode(&mut self, source: &mut Source<'_, '_>, out: &mut Buffer) -> Result<()> {
        Plain.encode(source, out)
    }
}

#[test]
fn a_reply_to_the_first_piece_of_a_lend_is_sent_though_the_second_asks_for_none() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let below = Layered::open("halves", Box::new(near), Halves, Plain, Limits::default()).unwrap();
    let engine = Answers::default();
    let near = Layered::open("answers", Box::new(below), engine.clone(), engine, Limits::default()).unwrap();
    near.set_blocking(false);
    far.set_blocking(false);
    far.write_all(b"a? b").unwrap();
    assert!(near.read(&mut [0]).unwrap_err().is_would_block());
    let mut heard = [0; 2];
    assert_eq!(far.read(&mut heard).unwrap(), 1);
    assert_eq!(heard[0], b'!');
}

/// Passes on what it is lent, a byte at a time, and counts how often it is asked to decode nothing.
struct Sips(Arc<AtomicUsize>);

impl Decoder for Sips {
    fn decode(&mut self, input: &mut [u8], sink: &mut Sink<'_, '_>) -> Result<Decoded> {
        if input.is_empty() {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
        Plain.decode(input, sink)
    }

    fn decodes_lent(&self) -> bool {
        true
    }

    fn decode_lent(&mut self, input: &[u8], sink: &mut Sink<'_, '_>) -> Result<Decoded> {
        let count = input.len().min(1);
        sink.put(&input[..count]);
        Ok(Decoded { consumed: count, stopped: Stopped::SinkFull, reply: false })
    }

    fn end(&mut self, _: usize) -> Result<()> {
        Ok(())
    }
}

#[test]
fn what_is_left_of_a_lend_is_the_lenders_to_announce_and_to_lend_again() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let near =
        Layered::open("sips", Box::new(plain("lends", near)), Sips(Arc::clone(&asked)), Plain, Limits::default())
            .unwrap();
    near.set_blocking(false);
    assert!(near.read(&mut [0]).unwrap_err().is_would_block());
    let before = asked.load(Ordering::SeqCst);
    far.write_all(b"abc").unwrap();
    for byte in b"abc" {
        let mut heard = [0];
        assert_eq!(near.read(&mut heard).unwrap(), 1);
        assert_eq!(heard, [*byte]);
    }
    // The last byte was all there was; whether the decoder kept something of it, it alone knows.
    assert_eq!(asked.load(Ordering::SeqCst), before, "asked to decode nothing while the layer below held bytes");
    assert!(near.read(&mut [0]).unwrap_err().is_would_block());
}

#[test]
fn a_reply_that_finds_no_room_below_a_cork_leaves_with_what_made_room() {
    let (near, far) = MemoryChannel::pair_with_capacity(4).unwrap();
    let engine = Replies::default();
    let near =
        Layered::open("replies", Box::new(plain("below", near)), engine.clone(), engine, Limits::default()).unwrap();
    near.set_blocking(false);
    far.set_blocking(false);
    near.set_cork(true);
    // More than a cork gathers, so that both layers hold some of it.
    while near.write(&[b'x'; 100_000]).is_ok() {}
    far.write_all(b"ping").unwrap();
    let (mut heard, mut piece) = (Vec::new(), [0; 4]);
    let mut idle = 0;
    while idle < 3 && !heard.ends_with(b"ping") {
        assert!(near.read(&mut [0]).unwrap_err().is_would_block());
        match far.read(&mut piece) {
            Ok(count) => heard.extend(&piece[..count]),
            Err(error) if error.is_would_block() => idle += 1,
            Err(error) => panic!("{error}"),
        }
    }
    let at = heard.windows(4).position(|four| four == b"ping");
    assert!(at.is_some(), "{} bytes came, and no reply", heard.len());
}
