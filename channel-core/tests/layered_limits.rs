//! The limit of a handshake: it is the handshake's alone, and its timer is where the handlers are; and that of input.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use channel_core::engine::{Advance, Decoded, Decoder, Handshake, Sink, Stopped};
use channel_core::{
    AioChange, AioChannel, AioHandler, Buffer, Channel, ChannelExt, Direction, Error, ErrorKind, EventLoop, Layered,
    Limits, MemoryChannel, Readiness, Result,
};
use channel_testkit::recording::Recorder;
use support::{NeverDone, Plain, plain};

/// Opens with the first byte that comes.
struct AnyByte;

impl Handshake<Plain, Plain> for AnyByte {
    fn advance(&mut self, input: &mut [u8], _: bool, _: &mut Buffer) -> Result<Advance<Plain, Plain>> {
        if input.is_empty() {
            return Ok(Advance::NeedInput { consumed: 0 });
        }
        Ok(Advance::Open { consumed: 1, decoder: Plain, encoder: Plain })
    }

    fn abort(&mut self, _: &Error, out: &mut Buffer) {
        out.extend(b"too late");
    }
}

/// A layer on its way to open, within `limit` from now on, and the far end of the channel below.
fn opening(limit: Duration) -> (Layered<Plain, Plain>, MemoryChannel) {
    let (near, far) = MemoryChannel::pair().unwrap();
    let limits = Limits { handshake: limit, ..Limits::default() };
    let near = Layered::with_handshake("opening", Box::new(near), Box::new(AnyByte), limits).unwrap();
    near.set_blocking(false);
    if limit > Duration::ZERO {
        assert!(near.handshake().unwrap_err().is_would_block());
    }
    (near, far)
}

fn counting(recorder: &Arc<Recorder>) -> (AioChange, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let handler = AioHandler::new(recorder.clone(), move || {
        count.fetch_add(1, Ordering::SeqCst);
    });
    (AioChange::Set(handler), calls)
}

const LONG: Duration = Duration::from_secs(1000);

fn deadline(channel: &dyn Channel, direction: Direction) -> Option<Instant> {
    match channel.readiness(direction) {
        Readiness::Wait(interests) => interests.deadline(),
        Readiness::Ready => None,
    }
}

#[test]
fn a_limit_that_runs_is_told_to_who_waits_until_the_handshake_is_done() {
    let (near, far) = opening(LONG);
    let recorder = Recorder::new();
    near.set_aio_fd_handler(counting(&recorder).0, AioChange::Keep).unwrap();
    assert!(deadline(&near, Direction::Read).is_some());
    assert_eq!(recorder.timers(), 1);
    far.write_all(b"x").unwrap();
    near.handshake().unwrap();
    for direction in [Direction::Read, Direction::Write] {
        assert_eq!(deadline(&near, direction), None, "a limit of an open layer, for {direction:?}");
    }
    assert_eq!(recorder.timers(), 0, "a timer of an open layer");
}

#[test]
fn a_limit_moves_with_the_handlers_to_their_new_loop() {
    let (near, _far) = opening(LONG);
    let (old, new) = (Recorder::new(), Recorder::new());
    near.set_aio_fd_handler(counting(&old).0, AioChange::Keep).unwrap();
    assert_eq!(old.timers(), 1);
    near.set_aio_fd_handler(counting(&new).0, AioChange::Keep).unwrap();
    assert_eq!((old.timers(), new.timers()), (0, 1));
    near.set_aio_fd_handler(AioChange::Clear, counting(&old).0).unwrap();
    assert_eq!((old.timers(), new.timers()), (1, 0));
    near.set_aio_fd_handler(AioChange::Keep, AioChange::Clear).unwrap();
    assert_eq!((old.timers(), new.timers()), (0, 0));
}

#[test]
fn a_limit_that_has_passed_ends_the_handshake_though_the_peer_goes_on_talking() {
    let (near, far) = opening(Duration::ZERO);
    far.write_all(b"x").unwrap(); // all that it needs
    let error = near.handshake().unwrap_err();
    assert_eq!((error.kind(), error.layer()), (ErrorKind::TimedOut, "opening"), "{error}");
    let mut heard = [0; 8];
    far.read_all(&mut heard).unwrap();
    assert_eq!(&heard, b"too late");
    assert_eq!(near.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
}

#[test]
fn a_layer_that_is_open_from_the_start_does_not_limit_the_handshake_below() {
    let (below, far) = opening(LONG);
    let limits = Limits { handshake: Duration::ZERO, ..Limits::default() };
    let near = Layered::open("open", Box::new(below), Plain, Plain, limits).unwrap();
    near.set_blocking(false);
    for _ in 0..2 {
        let error = near.handshake().unwrap_err();
        assert!(error.is_would_block(), "{error}");
    }
    far.write_all(b"x").unwrap();
    near.handshake().unwrap();
}

#[test]
fn the_limit_is_counted_from_the_first_call_however_many_follow() {
    const SHORT: Duration = Duration::from_millis(20);
    let (near, far) = MemoryChannel::pair().unwrap();
    let limits = Limits { handshake: SHORT, ..Limits::default() };
    let near: Layered<Plain, Plain> =
        Layered::with_handshake("opening", Box::new(near), Box::new(AnyByte), limits).unwrap();
    near.set_blocking(false);
    let first = near.handshake();
    let past = Instant::now() + SHORT;
    while Instant::now() <= past {
        near.wait(Direction::Read, None).unwrap(); // for the limit: nothing else can come
    }
    let second = near.handshake().unwrap_err();
    assert_eq!(second.kind(), ErrorKind::TimedOut, "after {first:?}");
    drop(far);
}

#[test]
fn a_timeout_of_a_channel_that_a_layer_has_taken_is_none_of_the_layers() {
    let (near, _far) = MemoryChannel::pair().unwrap();
    near.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let near = plain("plain", near);
    assert_eq!(near.next_layer().unwrap().read_timeout(), None);
    assert!(!near.wait(Direction::Read, Some(Duration::from_millis(10))).unwrap());
}

#[test]
fn where_calls_wait_no_time_runs_between_them() {
    let (near, _far) = MemoryChannel::pair().unwrap();
    let timed = |near: &dyn Channel| {
        near.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        assert!(!near.wait(Direction::Read, Some(Duration::from_millis(20))).unwrap(), "{near:?} is ready");
    };
    timed(&near);
    timed(&plain("plain", near));
}

#[test]
fn a_handshake_of_a_task_takes_none_of_the_time_of_the_first_read() {
    const TIME: Duration = Duration::from_millis(20);
    let (near, far) = MemoryChannel::pair().unwrap();
    let near: Arc<dyn Channel> = Arc::new(
        Layered::with_handshake(
            "any byte",
            Box::new(near),
            Box::new(AnyByte),
            Limits { handshake: Duration::from_secs(1000), ..Limits::default() },
        )
        .unwrap(),
    );
    near.set_read_timeout(Some(TIME)).unwrap();
    let (aio, event_loop) = (AioChannel::from_arc(Arc::clone(&near)), EventLoop::new().unwrap());
    let mut opening = Box::pin(aio.handshake());
    let (begun, mut answer) = (Instant::now(), Some(b"!"));
    event_loop
        .block_on(std::future::poll_fn(|cx| {
            if begun.elapsed() > 2 * TIME {
                answer.take().into_iter().for_each(|answer| far.write_all(answer).unwrap());
            }
            cx.waker().wake_by_ref();
            opening.as_mut().poll(cx)
        }))
        .unwrap()
        .unwrap();
    let opened = Instant::now();
    let read = near.read(&mut [0]);
    assert!(read.as_ref().is_err_and(Error::is_would_block) || opened.elapsed() > TIME / 2, "{read:?}");
}

/// Gives a byte a call.
struct Sips;

impl Decoder for Sips {
    fn decode(&mut self, input: &mut [u8], sink: &mut Sink<'_, '_>) -> Result<Decoded> {
        let consumed = usize::from(!input.is_empty() && !sink.is_full());
        sink.put(&input[..consumed]);
        let stopped = if input.len() > consumed { Stopped::SinkFull } else { Stopped::NeedInput };
        Ok(Decoded { consumed, stopped, reply: false })
    }

    fn end(&mut self, _: usize) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_unit_that_is_too_long_is_told_by_the_call_that_finds_it_so() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let below = Layered::open("sips", Box::new(near), Sips, Plain, Limits::default()).unwrap();
    let limits = Limits { input_bytes: 64, ..Limits::default() }; // as many as the reads of one call
    let near = Layered::open("hungry", Box::new(below), NeverDone, Plain, limits).unwrap();
    near.set_blocking(false);
    far.write_all(&[1; 64]).unwrap();
    assert_eq!(near.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::LimitExceeded);
}
