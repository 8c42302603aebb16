//! Handlers that move, fail to be set, or come late.

mod support;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use channel_core::engine::{Decoded, Decoder, Encoder, Sink, Source, Stopped};
use channel_core::{
    AioChange, AioContext, AioHandler, Buffer, Callback, Channel, ChannelExt, Direction, Error, ErrorKind, Layered,
    Limits, MemoryChannel, Result, TimerId,
};
use channel_testkit::recording::Recorder;
use support::{Plain, plain};

/// For what happens at once, or never.
const LONG: Duration = Duration::from_secs(20);

/// A handler on `context` that counts how often it is called.
fn counting(context: Arc<dyn AioContext>) -> (AioChange, Arc<AtomicUsize>) {
    let called = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&called);
    let handler = AioHandler::new(context, move || {
        count.fetch_add(1, Ordering::SeqCst);
    });
    (AioChange::Set(handler), called)
}

#[test]
fn unsent_output_moves_with_the_handler_to_its_new_loop() {
    let (near, far) = MemoryChannel::pair_with_capacity(4).unwrap();
    let near = plain("plain", near);
    near.set_blocking(false);
    let (old, new) = (Recorder::new(), Recorder::new());
    near.set_aio_fd_handler(counting(old.clone()).0, AioChange::Keep).unwrap();
    assert_eq!(near.write(b"0123456789").unwrap(), 10);
    near.set_aio_fd_handler(counting(new.clone()).0, AioChange::Keep).unwrap();
    assert!(old.handlers().is_empty());

    far.set_blocking(false);
    let mut heard: Vec<u8> = Vec::new();
    let all = new.turn_until(LONG, || {
        let mut bytes = [0; 16];
        if let Ok(count) = far.read(&mut bytes) {
            heard.extend(&bytes[..count]);
        }
        heard.len() == 10
    });
    assert!(all.unwrap());
    assert_eq!(heard, b"0123456789");
}

/// A loop that takes no descriptors, though it can still be asked to call back.
#[derive(Debug)]
struct NoDescriptors(Arc<Recorder>);

impl AioContext for NoDescriptors {
    fn set_fd_handler(&self, _: &Arc<OwnedFd>, _: Direction, callback: Option<Callback>) -> Result<()> {
        match callback {
            Some(_) => Err(Error::new(ErrorKind::InvalidInput, "loop", "takes no descriptors")),
            None => Ok(()),
        }
    }

    fn schedule(&self, callback: Box<dyn FnOnce() + Send>) {
        self.0.schedule(callback);
    }

    fn set_timer(&self, deadline: Instant, callback: Box<dyn FnOnce() + Send>) -> TimerId {
        self.0.set_timer(deadline, callback)
    }

    fn clear_timer(&self, timer: TimerId) {
        self.0.clear_timer(timer);
    }
}

#[test]
fn a_handler_that_could_not_be_set_is_never_called() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let near = plain("plain", near);
    far.write_all(b"0123456789").unwrap();
    assert_eq!(near.read(&mut [0; 2]).unwrap(), 2, "the layer holds the rest");

    let recorder = Recorder::new();
    let (set, called) = counting(Arc::new(NoDescriptors(recorder.clone())));
    assert_eq!(near.set_aio_fd_handler(set, AioChange::Keep).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(near.read(&mut [0; 2]).unwrap(), 2);
    recorder.turn(Duration::ZERO).unwrap();
    assert_eq!(called.load(Ordering::SeqCst), 0);
}

/// Ends the stream with the first byte, whatever the channel below has still to say.
struct EndsAtOnce;

impl Decoder for EndsAtOnce {
    fn decode(&mut self, input: &mut [u8], _: &mut Sink<'_, '_>) -> Result<Decoded> {
        let stopped = if input.is_empty() { Stopped::NeedInput } else { Stopped::End };
        Ok(Decoded { consumed: input.len(), stopped, reply: false })
    }

    fn end(&mut self, _: usize) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_handler_set_after_the_end_was_read_is_still_told_of_it() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let near = Layered::open("ends", Box::new(near), EndsAtOnce, Plain, Limits::default()).unwrap();
    far.write_all(b"x").unwrap();
    assert_eq!(near.read(&mut [0; 2]).unwrap(), 0);

    let recorder = Recorder::new();
    let (set, called) = counting(recorder.clone());
    near.set_aio_fd_handler(set, AioChange::Keep).unwrap();
    recorder.turn(Duration::ZERO).unwrap();
    assert_eq!(called.load(Ordering::SeqCst), 1);
}

struct NeverEncodes;

impl Encoder for NeverEncodes {
    fn encode(&mut self, _: &mut Source<'_, '_>, _: &mut Buffer) -> Result<()> {
        Err(Error::new(ErrorKind::Protocol, "never", "encodes nothing"))
    }
}

#[test]
fn a_loop_comes_to_rest_after_output_could_not_be_encoded() {
    let (near, _far) = MemoryChannel::pair().unwrap();
    let near = Layered::open("never", Box::new(near), Plain, NeverEncodes, Limits::default()).unwrap();
    let recorder = Recorder::new();
    near.set_cork(true);
    near.write_all(b"data").unwrap();
    near.set_aio_fd_handler(counting(recorder.clone()).0, AioChange::Keep).unwrap();
    near.set_cork(false);
    let quiet = (0..8).any(|_| recorder.turn(Duration::ZERO).unwrap() == 0);
    assert!(quiet);
}
