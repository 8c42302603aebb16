//! Watches: what they are told, and what is left of them when they are over.

mod support;

use std::ops::ControlFlow::{Break, Continue};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use channel_core::{AioContext, Callback, Channel, ChannelExt, Condition, Direction, MemoryChannel, Result, TimerId};
use channel_testkit::recording::Recorder;
use support::plain;

fn turns(recorder: &Recorder) {
    for _ in 0..4 {
        recorder.turn(Duration::ZERO).unwrap();
    }
}

/// The near end alone, and in a layer.
fn nears(near: fn() -> (MemoryChannel, MemoryChannel)) -> [(Arc<dyn Channel>, MemoryChannel); 2] {
    let ((alone, far), (below, far_below)) = (near(), near());
    [(Arc::new(alone), far), (Arc::new(plain("plain", below)), far_below)]
}

fn pair() -> (MemoryChannel, MemoryChannel) {
    MemoryChannel::pair().unwrap()
}

#[test]
fn a_condition_that_was_told_and_has_passed_is_not_told_again() {
    let (near, far) = MemoryChannel::pair_with_capacity(1).unwrap();
    let near: Arc<dyn Channel> = Arc::new(near);
    near.set_blocking(false);
    near.write_all(b"f").unwrap(); // now there is no room
    let recorder = Recorder::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    let tells = Arc::clone(&told);
    let guard = near
        .add_watch(recorder.clone(), Condition::IN | Condition::OUT, move |near, condition| {
            tells.lock().unwrap().push(condition);
            if condition.contains(Condition::IN) {
                assert_eq!(near.read(&mut [0]).unwrap(), 1);
            }
            if condition.contains(Condition::OUT) { Break(()) } else { Continue(()) }
        })
        .unwrap();
    far.write_all(b"x").unwrap();
    turns(&recorder);
    far.read_all(&mut [0]).unwrap();
    turns(&recorder);
    assert_eq!(*told.lock().unwrap(), [Condition::IN, Condition::OUT]);
    assert!(guard.is_over());
}

#[test]
fn of_a_watch_that_is_over_nothing_is_left_whoever_forgot_its_guard_and_when() {
    for first in ["over", "forgotten"] {
        for (near, far) in nears(pair) {
            let recorder = Recorder::new();
            let guard = near.add_watch(recorder.clone(), Condition::IN | Condition::HUP, |_, _| Break(())).unwrap();
            let mut guard = Some(guard);
            if first == "forgotten" {
                guard.take().unwrap().forget();
            }
            far.write_all(b"x").unwrap();
            turns(&recorder);
            if let Some(guard) = guard {
                assert!(guard.is_over());
                guard.forget();
            }
            assert!(recorder.handlers().is_empty());
            assert_eq!(Arc::strong_count(&recorder), 1, "the loop of a watch that was {first} first is kept");
            assert_eq!(Arc::strong_count(&near), 1);
        }
    }
}

#[test]
fn of_a_watch_whose_guard_was_dropped_nothing_is_left_in_its_channel() {
    for condition in [Condition::IN, Condition::OUT, Condition::HUP, Condition::ERR, Condition::all()] {
        for (near, _far) in nears(pair) {
            let recorder = Recorder::new();
            let guard = near.add_watch(recorder.clone(), condition, |_, _| Continue(())).unwrap();
            assert!(Arc::strong_count(&recorder) > 1);
            drop(guard);
            turns(&recorder);
            assert!(recorder.handlers().is_empty());
            assert_eq!(Arc::strong_count(&recorder), 1, "the channel keeps a handler of a watch for {condition:?}");
        }
    }
}

/// A loop on which something happens just before a handler is set beside others, as another thread may make it happen.
struct Interrupted {
    recorder: Arc<Recorder>,
    happens: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl std::fmt::Debug for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Interrupted").finish_non_exhaustive()
    }
}

impl AioContext for Interrupted {
    fn set_fd_handler(&self, fd: &Arc<OwnedFd>, direction: Direction, callback: Option<Callback>) -> Result<()> {
        if callback.is_some() && !self.recorder.handlers().is_empty() {
            let happens = self.happens.lock().unwrap_or_else(PoisonError::into_inner).take();
            happens.into_iter().for_each(|happens| happens());
        }
        self.recorder.set_fd_handler(fd, direction, callback)
    }

    fn schedule(&self, callback: Box<dyn FnOnce() + Send>) {
        self.recorder.schedule(callback);
    }

    fn set_timer(&self, deadline: Instant, callback: Box<dyn FnOnce() + Send>) -> TimerId {
        self.recorder.set_timer(deadline, callback)
    }

    fn clear_timer(&self, timer: TimerId) {
        self.recorder.clear_timer(timer);
    }
}

#[test]
fn a_watch_that_ends_while_it_is_set_leaves_nothing_on_its_loop() {
    for closes in [false, true] {
        for (near, far) in nears(pair) {
            let recorder = Recorder::new();
            let (turned, closed) = (Arc::clone(&recorder), Arc::clone(&near));
            // The reader is set by now, and calls; what tells of hang-ups is about to be set.
            let happens: Box<dyn FnOnce() + Send> = Box::new(move || {
                assert!(turned.turn(Duration::ZERO).unwrap() > 0);
                if closes {
                    closed.close().unwrap();
                }
            });
            let context = Arc::new(Interrupted { recorder: recorder.clone(), happens: Mutex::new(Some(happens)) });
            far.write_all(b"x").unwrap();
            let guard = near.add_watch(context.clone(), Condition::IN | Condition::HUP, |_, _| Break(())).unwrap();
            assert!(context.happens.lock().unwrap().is_none());
            assert!(guard.is_over());
            assert!(recorder.handlers().is_empty(), "the loop polls for a watch that is over");
            drop((guard, context));
            assert_eq!(Arc::strong_count(&recorder), 1);
        }
    }
}
