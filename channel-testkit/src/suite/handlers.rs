//! H: handlers that an event loop calls.

mod cuts;
mod loops;
mod removal;
mod spin;

use std::io::IoSliceMut;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use channel_core::{AioChange, AioHandler, Channel, Direction, ReadFlags};

pub use cuts::*;
pub use loops::*;
pub use removal::*;
pub use spin::*;

use super::Setup;
use super::end::{End, UNBOUNDED, assert_stream, stream};
use super::setup::closing_soon;
use super::write::drain;
use crate::recording::Recorder;

/// How many turns a loop takes to see that nothing is called, and how long each waits.
const TURNS: usize = 3;
const TURN: Duration = Duration::from_millis(5);

/// \[H1\] A handler set with `set_aio_fd_handler` is called while its direction can make progress, also for bytes held in a layer
/// above a silent descriptor, and whoever's call left them there; and when somebody else's call met the end of the direction.
pub fn h1_a_handler_is_called_while_there_is_progress(setup: &Setup) {
    const COUNT: usize = 300;
    let recorder = Recorder::new();
    let (near, far) = setup.pair();
    let near = near.without_handlers();
    let got = Arc::new(Mutex::new(Vec::new()));
    set_read(&near, by_byte(&recorder, &near, &got));
    let received = || lock(&got).len();
    far.put(&stream(0, COUNT));
    let all = setup.turn_until(&recorder, || received() == COUNT);
    assert!(all, "a handler that reads one byte each time was called for {} of {COUNT} bytes", received());
    assert_stream(0, &lock(&got));

    // Bytes that somebody else's read left behind; whether the handler was there before them or not.
    let (mut at, calls) = (0, Arc::new(AtomicUsize::new(0)));
    far.put(&stream(0, COUNT));
    for set_before in [false, true, true] {
        let before = calls.load(Ordering::Relaxed);
        if set_before {
            assert_stream(at, &near.take(1));
        } else {
            near.set_aio_fd_handler(AioChange::Clear, AioChange::Keep).expect("clearing a handler");
            assert_stream(at, &near.take(1));
            set_read(&near, counting(&recorder, &calls));
        }
        at += 1;
        let called = setup.turn_until(&recorder, || calls.load(Ordering::Relaxed) > before);
        assert!(called, "a read left {} bytes behind, and the handler was not called", COUNT - at);
    }
    near.take(COUNT - at);
    far.end_output();
    let ended = Arc::new(AtomicUsize::new(0));
    let by_end = {
        let (near, ended) = (Arc::downgrade(near.channel()), Arc::clone(&ended));
        handler(&recorder, move || {
            let read = near.upgrade().map(|near| {
                let mut byte = [0];
                let mut bufs = [IoSliceMut::new(&mut byte)];
                near.readv_full(&mut bufs, None, ReadFlags::DONT_WAIT)
            });
            ended.fetch_add(usize::from(matches!(read, Some(Ok(0)))), Ordering::Relaxed);
        })
    };
    set_read(&near, by_end);
    let seen = setup.turn_until(&recorder, || ended.load(Ordering::Relaxed) > 0);
    assert!(seen, "the peer ended the stream, and the read handler was not called");
    of_an_end_that_another_call_met(setup, &recorder);

    let (near, far) = setup.small_pair();
    let taken = near.fill(0, UNBOUNDED);
    let wrote = Arc::new(AtomicUsize::new(0));
    let writing = {
        let (near, wrote) = (Arc::downgrade(near.channel()), Arc::clone(&wrote));
        handler(&recorder, move || {
            let bytes = stream(taken + wrote.load(Ordering::Relaxed), 1);
            let bufs = [std::io::IoSlice::new(&bytes)];
            let written = near.upgrade().map(|near| near.writev_full(&bufs, &[], channel_core::WriteFlags::DONT_WAIT));
            wrote.fetch_add(usize::from(matches!(written, Some(Ok(1)))), Ordering::Relaxed);
        })
    };
    near.set_aio_fd_handler(AioChange::Keep, AioChange::Set(writing)).expect("setting a handler");
    let mut seen = 0;
    let made = setup.turn_until(&recorder, || {
        seen += drain(&far, seen);
        wrote.load(Ordering::Relaxed) > 0 && seen >= taken
    });
    assert!(made, "the peer made room, and the write handler was not called until it could write");
}

fn of_an_end_that_another_call_met(setup: &Setup, recorder: &Arc<Recorder>) {
    let (near, far) = setup.pair();
    let near = near.without_handlers();
    let calls: [Arc<AtomicUsize>; 2] = Default::default();
    let [read, write] = calls.each_ref().map(|calls| AioChange::Set(counting(recorder, calls)));
    set(&near, read, write);
    for _ in 0..TURNS {
        recorder.turn(TURN).expect("a turn");
    }
    let told = |direction: Direction, what: &str| {
        let calls = &calls[direction as usize];
        let before = calls.load(Ordering::Relaxed);
        let called = setup.turn_until(recorder, || calls.load(Ordering::Relaxed) > before);
        assert!(called, "another call met {what}, and the handler was not called");
    };
    far.end_output();
    assert_eq!(near.read_some(&mut [0; 8]).expect("the clean end"), 0);
    told(Direction::Read, "the end of the stream");
    drop(far);
    while near.write_some(&[0; 1000]).is_ok() {}
    told(Direction::Write, "the end of the output");
}

/// \[H2\] No call of a handler starts after it was cleared or replaced, or its channel closed or dropped.
pub fn h2_no_handler_is_called_after_it_was_removed(setup: &Setup) {
    let recorder = Recorder::new();
    for how in ["cleared", "replaced", "closed", "dropped"] {
        let (near, far) = setup.pair_with(&closing_soon());
        let near = near.without_handlers();
        let (old, new) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counted = || AioChange::Set(counting(&recorder, &old));
        set(&near, counted(), counted());
        // Ready in both directions, and perhaps scheduled already.
        far.put(&stream(0, 10));
        assert_stream(0, &near.take(1));
        let mut near = Some(near);
        match (how, &near) {
            ("cleared", Some(near)) => {
                near.set_aio_fd_handler(AioChange::Clear, AioChange::Clear).expect("clearing handlers");
            }
            ("replaced", Some(near)) => {
                let change = || AioChange::Set(counting(&recorder, &new));
                near.set_aio_fd_handler(change(), change()).expect("replacing handlers");
            }
            ("closed", Some(near)) => {
                // The peer does not read to the end; that close says so is none of this clause's business.
                let _ = near.drive(Direction::Write, Channel::close);
            }
            _ => near = None,
        }
        let calls = old.load(Ordering::Relaxed);
        for _ in 0..TURNS {
            recorder.turn(TURN).expect("a turn");
        }
        assert_eq!(old.load(Ordering::Relaxed), calls, "calls of a handler whose channel or self was {how}");
        if how == "replaced" {
            assert!(new.load(Ordering::Relaxed) > 0, "a handler that replaced another was not called");
        }
        drop(near);
        assert_eq!(recorder.handlers().len(), 0, "descriptors that still have a handler, {how} and dropped");
    }
}

fn handler(recorder: &Arc<Recorder>, callback: impl Fn() + Send + Sync + 'static) -> AioHandler {
    AioHandler::new(Arc::clone(recorder) as _, callback)
}

fn counting(recorder: &Arc<Recorder>, calls: &Arc<AtomicUsize>) -> AioHandler {
    let calls = Arc::clone(calls);
    handler(recorder, move || {
        calls.fetch_add(1, Ordering::Relaxed);
    })
}

/// A handler that reads one byte each time.
fn by_byte(recorder: &Arc<Recorder>, near: &End, got: &Arc<Mutex<Vec<u8>>>) -> AioHandler {
    let (near, got) = (Arc::downgrade(near.channel()), Arc::clone(got));
    handler(recorder, move || {
        let Some(near) = near.upgrade() else { return };
        let mut byte = [0];
        match near.readv_full(&mut [IoSliceMut::new(&mut byte)], None, ReadFlags::DONT_WAIT) {
            Ok(0) => {}
            Ok(_) => lock(&got).push(byte[0]),
            Err(error) => assert!(error.is_would_block(), "a read in a handler failed: {error:?}"),
        }
    })
}

/// Sets a read handler.
fn set_read(near: &End, handler: AioHandler) {
    set(near, AioChange::Set(handler), AioChange::Keep);
}

/// Sets handlers.
fn set(near: &End, read: AioChange, write: AioChange) {
    drop(near.set_aio_fd_handler(read, write).expect("setting handlers"));
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
