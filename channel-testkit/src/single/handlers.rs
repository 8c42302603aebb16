//! What loops call: H.

use std::io::SeekFrom;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use channel_core::{AioChange, AioHandler, Direction, Error, Features};

use super::{Setup, Subject, attempt};
use crate::recording::Recorder;

/// What is done beyond what there is to do: a look in vain, a call that tells of the end.
const SLACK: usize = 3;

/// A handler, and how often it was called.
fn counting(recorder: &Arc<Recorder>, call: impl Fn() + Send + Sync + 'static) -> (AioHandler, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let callback = move || {
        counted.fetch_add(1, Ordering::SeqCst);
        call();
    };
    (AioHandler::new(recorder.clone(), callback), calls)
}

fn set(one: &Subject, direction: Direction, change: AioChange) -> Result<(), Error> {
    let (read, write) = match direction {
        Direction::Read => (change, AioChange::Keep),
        Direction::Write => (AioChange::Keep, change),
    };
    one.set_aio_fd_handler(read, write).map(drop)
}

/// Turns until nothing is left to do, for so many turns at the most.
fn rests(recorder: &Recorder, most: usize) -> bool {
    (0..most).any(|_| recorder.turn(Duration::ZERO).expect("a turn") == 0)
}

/// Makes a call for one byte each time, until nothing more comes of it; how many bytes there were, and that there are no more.
fn byte_by_byte(
    one: &Subject,
    recorder: &Arc<Recorder>,
    direction: Direction,
) -> (AioHandler, Arc<AtomicUsize>, Arc<AtomicBool>) {
    let (channel, over) = (Arc::downgrade(&one.channel), Arc::new(AtomicBool::new(false)));
    let (moved, ended) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&over));
    let count = Arc::clone(&moved);
    let call = move || {
        let Some(channel) = Weak::upgrade(&channel) else { return };
        match attempt(&**channel, direction, 1) {
            Ok(1..) => {
                count.fetch_add(1, Ordering::SeqCst);
            }
            _ => ended.store(true, Ordering::SeqCst),
        }
    };
    (AioHandler::new(recorder.clone(), call), moved, over)
}

/// How many calls for one byte a channel is ready for. Some take more, as sockets do that poll(2) calls full long before they are.
fn ready_calls(one: &Subject, direction: Direction) -> usize {
    const MANY: usize = 200;
    let is_ready = || one.channel.readiness(direction).block(Some(Instant::now())).expect("poll");
    (0..MANY).take_while(|_| is_ready() && matches!(one.attempt(direction, 1), Ok(1..))).count()
}

/// \[H1\] A handler is called while its direction can make progress, and after a seek.
pub fn h1_a_handler_is_called_while_there_is_something_to_do(setup: &Setup) {
    for direction in setup.make().directions() {
        let (one, expected) = (setup.make(), ready_calls(&setup.make(), direction));
        let recorder = Recorder::new();
        let (handler, moved, over) = byte_by_byte(&one, &recorder, direction);
        set(&one, direction, AioChange::Set(handler)).expect("a handler");
        let done = || over.load(Ordering::SeqCst) || moved.load(Ordering::SeqCst) >= expected;
        let all = recorder.turn_until(setup.patience, done).expect("turns");
        let seen = moved.load(Ordering::SeqCst);
        assert!(all && seen >= expected, "of {expected} bytes a handler to {direction:?} was called for {seen}");
    }
    seeks(setup);
}

/// Behind the end there is nothing to call for; a seek changes that.
fn seeks(setup: &Setup) {
    let one = setup.make();
    if !one.features().contains(Features::SEEKABLE) || !one.carries(Direction::Read) {
        return;
    }
    let recorder = Recorder::new();
    let (blocks, there) = one.exhaust(Direction::Read);
    if blocks || there == 0 || there >= super::ENOUGH {
        return; // it has no end
    }
    let (handler, moved, over) = byte_by_byte(&one, &recorder, Direction::Read);
    set(&one, Direction::Read, AioChange::Set(handler)).expect("a handler");
    let ended = recorder.turn_until(setup.patience, || over.load(Ordering::SeqCst)).expect("turns");
    assert!(ended && rests(&recorder, SLACK), "the handler is called for an end that it knows");
    one.seek(SeekFrom::Start(0)).expect("a seek");
    let back = recorder.turn_until(setup.patience, || moved.load(Ordering::SeqCst) > 0).expect("turns");
    assert!(back, "a handler that came to the end is not called after a seek");
}

/// \[H2\] No call of a handler starts after it was cleared or replaced, or its channel closed or dropped.
pub fn h2_no_handler_is_called_that_is_gone(setup: &Setup) {
    for direction in setup.make().directions() {
        for how in ["cleared", "replaced", "closed", "dropped"] {
            let one = setup.make();
            let recorder = Recorder::new();
            let (handler, calls) = counting(&recorder, || ());
            set(&one, direction, AioChange::Set(handler)).expect("a handler");
            match how {
                "cleared" => set(&one, direction, AioChange::Clear).expect("no handler"),
                "replaced" => {
                    let (other, _) = counting(&recorder, || ());
                    set(&one, direction, AioChange::Set(other)).expect("another handler");
                }
                "closed" => one.close().expect("close"),
                _ => drop(one),
            }
            rests(&recorder, SLACK);
            let calls = calls.load(Ordering::SeqCst);
            assert_eq!(calls, 0, "calls of a handler to {direction:?} that was {how}");
        }
    }
}

/// \[H5\] A handler that does nothing is called a few times, until somebody calls the channel; behind the end its loop comes to rest.
pub fn h5_nothing_spins(setup: &Setup) {
    for direction in setup.make().directions() {
        let one = setup.make();
        let recorder = Recorder::new();
        let (handler, calls) = counting(&recorder, || ());
        set(&one, direction, AioChange::Set(handler)).expect("a handler");
        for time in 0..3 {
            let rests = rests(&recorder, 2 * SLACK);
            let called = calls.swap(0, Ordering::SeqCst);
            assert!(
                rests && called <= SLACK,
                "a handler to {direction:?} that does nothing was called {called} times and more"
            );
            let is_due = one.readiness(direction).is_ready() || one.attempt(direction, 1).is_ok();
            assert!(
                called > 0 || time > 0 || !is_due,
                "a handler to {direction:?} was not called, though there is something to do"
            );
            if one.attempt(direction, 1).is_ok_and(|count| count > 0)
                && one.attempt(direction, 1).is_ok_and(|count| count > 0)
            {
                let again = recorder.turn_until(setup.patience, || calls.load(Ordering::SeqCst) > 0).expect("turns");
                assert!(again, "a handler to {direction:?} that does nothing is not due again after a call");
            }
        }
    }
    for how in ["the last byte", "shutdown", "close_write"] {
        let one = setup.make();
        let recorder = Recorder::new();
        let handlers: Vec<_> =
            one.directions().map(|direction| (direction, byte_by_byte(&one, &recorder, direction))).collect();
        match how {
            "shutdown" => one.shutdown(std::net::Shutdown::Both).expect("shutdown"),
            "close_write" if one.close_write().is_ok() => {}
            _ => {}
        }
        for (direction, (handler, _, over)) in handlers {
            if one.exhaust(direction).1 >= super::ENOUGH {
                continue; // it has no end
            }
            set(&one, direction, AioChange::Set(handler)).expect("a handler");
            if one.readiness(direction).is_ready() {
                let told = recorder.turn_until(setup.patience, || over.load(Ordering::SeqCst)).expect("turns");
                assert!(told, "a handler to {direction:?} was not called for the end behind {how}");
            }
            assert!(
                rests(&recorder, 3 * SLACK),
                "behind {how} the loop of a handler to {direction:?} does not come to rest"
            );
        }
    }
}

/// \[H8\] A claim where there is a handler is `Busy`; releasing removes only the very handler; what goes is dropped.
pub fn h8_a_handler_is_claimed_and_let_go_of(setup: &Setup) {
    for direction in setup.make().directions() {
        for how in ["released", "cleared", "closed", "dropped"] {
            let one = setup.make();
            let recorder = Recorder::new();
            let alive = Arc::new(());
            let held = Arc::clone(&alive);
            let (first, _) = counting(&recorder, move || drop(Arc::clone(&held)));
            let (second, _) = counting(&recorder, || ());
            set(&one, direction, AioChange::Claim(first.clone())).expect("a claim");
            let busy = set(&one, direction, AioChange::Claim(second.clone()));
            assert!(busy.as_ref().is_err_and(Error::is_busy), "a second claim gave {busy:?}");
            set(&one, direction, AioChange::Release(second)).expect("the release of what is not set");
            let busy = set(&one, direction, AioChange::Claim(first.clone()));
            assert!(busy.as_ref().is_err_and(Error::is_busy), "a claim after the release of another gave {busy:?}");
            match how {
                "released" => set(&one, direction, AioChange::Release(first.clone())).expect("a release"),
                "cleared" => set(&one, direction, AioChange::Clear).expect("no handler"),
                "closed" => one.close().expect("close"),
                _ => drop(one),
            }
            drop(first);
            rests(&recorder, SLACK);
            assert_eq!(Arc::strong_count(&alive), 1, "who keeps a handler to {direction:?} that was {how}");
        }
    }
}
