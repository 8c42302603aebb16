//! An engine that panics ends its channel: later calls report it and never go on with a state nobody knows.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use channel_core::engine::{Advance, Decoded, Decoder, Encoder, Handshake, Sink, Source, Stopped};
use channel_core::{
    AioChange, AioHandler, Buffer, Channel, ChannelExt, Direction, Error, ErrorKind, EventLoop, Layered, Limits,
    MemoryChannel, Result,
};
use channel_testkit::watchdog;

struct Fragile;

impl Decoder for Fragile {
    fn decode(&mut self, input: &mut [u8], sink: &mut Sink<'_, '_>) -> Result<Decoded> {
        assert_ne!(input, b"panic");
        sink.put(input);
        Ok(Decoded { consumed: input.len(), stopped: Stopped::NeedInput, reply: false })
    }

    fn end(&mut self, _: usize) -> Result<()> {
        Ok(())
    }
}

impl Encoder for Fragile {
    fn encode(&mut self, source: &mut Source<'_, '_>, out: &mut Buffer) -> Result<()> {
        out.extend(source.chunk());
        assert_ne!(source.chunk(), b"panic");
        source.consume(source.len());
        Ok(())
    }
}

fn pair() -> (Layered<Fragile, Fragile>, MemoryChannel) {
    let (near, far) = MemoryChannel::pair().unwrap();
    (Layered::open("fragile", Box::new(near), Fragile, Fragile, Limits::default()).unwrap(), far)
}

#[test]
fn a_panic_while_writing_is_reported_by_every_later_write_and_sends_nothing_half_done() {
    let (near, far) = pair();
    near.write_all(b"fine").unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| near.write(b"panic"))).is_err());
    for _ in 0..2 {
        assert_eq!(near.write(b"more").unwrap_err().kind(), ErrorKind::Internal);
        assert_eq!(near.flush().unwrap_err().kind(), ErrorKind::Internal);
    }
    far.write_all(b"back").unwrap();
    let mut heard = [0; 8];
    assert_eq!(near.read(&mut heard).unwrap(), 4, "reading goes on");
    near.shutdown(channel_core::Shutdown::Both).unwrap();
    assert_eq!(far.read(&mut heard).unwrap(), 4);
    assert_eq!(&heard[..4], b"fine");
    assert_eq!(far.read(&mut heard).unwrap(), 0);
}

#[test]
fn a_panic_while_reading_is_reported_by_every_later_read() {
    let (near, far) = pair();
    far.write_all(b"panic").unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| near.read(&mut [0; 8]))).is_err());
    assert_eq!(near.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::Internal);
    near.write_all(b"writing goes on").unwrap();
    near.close().unwrap();
}

#[test]
fn a_panic_is_told_at_once_to_a_reader_that_would_sleep_first() {
    watchdog::run("a_panic_is_told_at_once", || {
        let (near, far) = pair();
        near.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        assert_eq!(near.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::TimedOut);
        near.set_read_timeout(None).unwrap();
        far.write_all(b"panic").unwrap();
        assert!(catch_unwind(AssertUnwindSafe(|| near.read(&mut [0; 8]))).is_err());
        assert!(near.wait(Direction::Read, Some(Duration::ZERO)).unwrap());
        assert_eq!(near.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::Internal);
    });
}

impl Handshake<Self, Self> for Fragile {
    fn advance(&mut self, input: &mut [u8], _: bool, _: &mut Buffer) -> Result<Advance<Self, Self>> {
        assert_ne!(input, b"panic");
        Ok(Advance::NeedInput { consumed: 0 })
    }

    fn abort(&mut self, _: &Error, _: &mut Buffer) {}
}

/// How often a handler is called in many turns of a loop that has something for it all the while.
fn calls(near: Layered<Fragile, Fragile>, direction: Direction, call: fn(&dyn Channel) -> Result<()>) -> usize {
    let (near, event_loop, calls) = (Arc::new(near), EventLoop::new().unwrap(), Arc::new(AtomicUsize::new(0)));
    let (channel, counted) = (Arc::downgrade(&near), Arc::clone(&calls));
    let handler = AioHandler::new(event_loop.handle(), move || {
        counted.fetch_add(1, Ordering::SeqCst);
        if let Some(channel) = channel.upgrade() {
            assert!(!call(&*channel).unwrap_err().is_would_block());
        }
    });
    let (set, keep) = (AioChange::Set(handler), AioChange::Keep);
    let (read, write) = if direction == Direction::Read { (set, keep) } else { (keep, set) };
    drop(near.set_aio_fd_handler(read, write).unwrap());
    for _ in 0..500 {
        event_loop.run_once(Some(Duration::ZERO)).unwrap();
    }
    calls.load(Ordering::SeqCst)
}

#[test]
fn a_handler_whose_calls_fail_for_a_panic_comes_to_rest() {
    let (near, far) = pair();
    near.set_blocking(false);
    far.write_all(b"panic").unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| near.read(&mut [0; 8]))).is_err());
    far.write_all(b"more").unwrap();
    let read = calls(near, Direction::Read, |near| near.read(&mut [0; 8]).map(drop));

    let (near, _far) = pair();
    near.set_blocking(false);
    assert!(catch_unwind(AssertUnwindSafe(|| near.write(b"panic"))).is_err());
    let write = calls(near, Direction::Write, |near| near.write(b"more").map(drop));

    let (inner, far) = MemoryChannel::pair().unwrap();
    let near = Layered::with_handshake("fragile", Box::new(inner), Box::new(Fragile), Limits::default()).unwrap();
    near.set_blocking(false);
    far.write_all(b"panic").unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| near.handshake())).is_err());
    far.write_all(b"more").unwrap();
    let handshake = calls(near, Direction::Read, Channel::handshake);
    assert!([read, write, handshake].into_iter().all(|calls| calls < 10), "{read} {write} {handshake}");
}

#[test]
fn a_reader_of_a_channel_that_nobody_opens_comes_to_rest() {
    let (inner, far) = MemoryChannel::pair().unwrap();
    let near = Layered::with_handshake("fragile", Box::new(inner), Box::new(Fragile), Limits::default()).unwrap();
    near.set_blocking(false);
    far.write_all(b"hello").unwrap();
    let calls = calls(near, Direction::Read, |near| near.read(&mut [0; 8]).map(drop));
    assert!((1..10).contains(&calls), "{calls}: due once, as somebody has to begin");
}
