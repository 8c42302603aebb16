//! Replies that meet a writer at work, and what a lend leaves to be decoded.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread;

use channel_core::engine::{Decoded, Decoder, Encoder, Sink, Source, Stopped};
use channel_core::{Buffer, Channel, ChannelExt, Layered, Limits, MemoryChannel, Result};
use channel_testkit::watchdog;
use support::{Plain, plain};

/// Has a reply to whatever comes. When a writer has just found that there is no reply to what it has sent, one comes: somebody reads, on
/// another thread.
#[derive(Clone, Default)]
struct Replies {
    waiting: Arc<Mutex<Vec<u8>>>,
    reads_next: Arc<Mutex<Weak<Layered<Self, Self>>>>,
    encoded: bool,
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
        if self.encoded && out.is_empty() {
            let near = std::mem::take(&mut *self.reads_next.lock().unwrap()).upgrade();
            thread::scope(|scope| {
                let near = near.as_ref();
                scope.spawn(move || near.map(|near| assert!(near.read(&mut [0]).unwrap_err().is_would_block())));
            });
        }
        Ok(())
    }

    fn encode(&mut self, source: &mut Source<'_, '_>, out: &mut Buffer) -> Result<()> {
        self.encoded = true;
        Plain.encode(source, out)
    }
}

#[test]
fn a_reply_that_meets_a_writer_at_work_is_sent_when_that_is_done() {
    watchdog::run("a_reply_that_meets_a_writer_at_work", || {
        let (near, far) = MemoryChannel::pair().unwrap();
        let engine = Replies::default();
        let near =
            Arc::new(Layered::open("replies", Box::new(near), engine.clone(), engine.clone(), Limits::default()));
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

/// Passes on what it is lent, a byte at a time, and counts how often it is asked to decode nothing.
struct Sips(Arc<AtomicUsize>);

impl Decoder for Sips {
    fn decode(&mut self, input: &mut [u8], sink: &mut Sink<'_, '_>) -> Result<Decoded> {
        if input.is_empty() {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
        Plain.decode(input, sink)
    }

    fn decode_lent(&mut self, input: &[u8], sink: &mut Sink<'_, '_>) -> Option<Result<Decoded>> {
        let count = input.len().min(1);
        sink.put(&input[..count]);
        Some(Ok(Decoded { consumed: count, stopped: Stopped::SinkFull, reply: false }))
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
        Layered::open("sips", Box::new(plain("lends", near)), Sips(Arc::clone(&asked)), Plain, Limits::default());
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
