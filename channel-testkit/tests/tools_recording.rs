//! The recording context is a context, and adverse channels lose no event on it.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use channel_core::{
    AioChange, AioContext, AioHandler, Channel, ChannelExt, Direction, Error, ErrorKind, Interests, MemoryChannel,
    NullChannel, Readiness,
};
use channel_testkit::adverse::{self, HARMLESS};
use channel_testkit::recording::{Recorded, Recorder};
use channel_testkit::watchdog;

/// What `channel` waits for in one direction.
fn waits_for(channel: &dyn Channel, direction: Direction) -> Arc<OwnedFd> {
    let Readiness::Wait(interests) = channel.readiness(direction) else {
        panic!("it is ready");
    };
    Arc::clone(&Interests::iter(&interests).next().unwrap().fd)
}

fn set(recorder: &Arc<Recorder>, callback: impl Fn() + Send + Sync + 'static) -> AioChange {
    AioChange::Set(AioHandler::new(recorder.clone(), callback))
}

fn counter() -> (Arc<AtomicUsize>, impl Fn() + Send + Sync + Clone) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    (count, move || {
        counted.fetch_add(1, Ordering::SeqCst);
    })
}

const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_handler_set_on_a_stack_arrives_on_its_descriptor() {
    let (near, _far) = MemoryChannel::pair().unwrap();
    let fd = waits_for(&near, Direction::Read);
    let stack = adverse::would_block_every_other(adverse::one_byte(Box::new(near)));
    let recorder = Recorder::new();
    stack.set_aio_fd_handler(set(&recorder, || ()), AioChange::Keep).unwrap();
    // A memory channel waits for an eventfd to become readable, whichever way its bytes go.
    assert!(recorder.calls()[0].is_set_on(&fd, Direction::Read), "{:?}", recorder.calls());
    assert_eq!(recorder.handlers().len(), 1);
    assert!(Arc::ptr_eq(&recorder.handlers()[0].0, &fd));
    stack.set_aio_fd_handler(AioChange::Clear, AioChange::Keep).unwrap();
    assert!(recorder.handlers().is_empty());
    assert!(matches!(&recorder.calls()[1], Recorded::Cleared(on, Direction::Read) if on.as_ptr() == Arc::as_ptr(&fd)));
}

#[test]
fn handlers_are_called_as_long_as_their_descriptor_is_ready() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let recorder = Recorder::new();
    let (count, call) = counter();
    near.set_aio_fd_handler(set(&recorder, call), AioChange::Keep).unwrap();
    assert_eq!(recorder.turn(Duration::ZERO).unwrap(), 0);
    far.write_all(b"x").unwrap();
    assert_eq!(recorder.turn(SOON).unwrap(), 1);
    assert_eq!(recorder.turn(SOON).unwrap(), 1);
    near.read_all(&mut [0]).unwrap();
    assert_eq!(recorder.turn(Duration::ZERO).unwrap(), 0);
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

#[test]
fn a_sleeping_turn_is_woken_by_what_is_scheduled() {
    watchdog::run("a_sleeping_turn_is_woken_by_what_is_scheduled", || {
        let recorder = Recorder::new();
        thread::scope(|scope| {
            let turn = scope.spawn(|| recorder.turn(Duration::from_secs(3600)).unwrap());
            recorder.schedule(Box::new(|| ()));
            assert_eq!(turn.join().unwrap(), 1);
        });
        assert!(matches!(recorder.calls()[..], [Recorded::Scheduled]));
    });
}

#[test]
fn a_sleeping_turn_notices_a_new_handler() {
    watchdog::run("a_sleeping_turn_notices_a_new_handler", || {
        let (near, far) = MemoryChannel::pair().unwrap();
        far.write_all(b"x").unwrap();
        let recorder = Recorder::new();
        thread::scope(|scope| {
            let turn = scope.spawn(|| recorder.turn(Duration::from_secs(3600)).unwrap());
            near.set_aio_fd_handler(set(&recorder, || ()), AioChange::Keep).unwrap();
            assert_eq!(turn.join().unwrap(), 1);
        });
    });
}

#[test]
fn what_a_callback_schedules_runs_in_the_next_turn() {
    let recorder = Recorder::new();
    let (count, call) = counter();
    let later = Arc::clone(&recorder);
    recorder.schedule(Box::new(move || later.schedule(Box::new(call))));
    assert_eq!(recorder.turn(Duration::ZERO).unwrap(), 1);
    assert_eq!(count.load(Ordering::SeqCst), 0);
    assert_eq!(recorder.turn(Duration::ZERO).unwrap(), 1);
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[test]
fn what_is_due_can_be_held_and_called_late() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let recorder = Recorder::new();
    let (count, call) = counter();
    near.set_aio_fd_handler(set(&recorder, call.clone()), AioChange::Keep).unwrap();
    assert!(recorder.due().unwrap().is_empty());
    far.write_all(b"x").unwrap();
    recorder.schedule(Box::new(call.clone()));
    recorder.set_timer(Instant::now(), Box::new(call));
    assert_eq!((recorder.scheduled(), recorder.timers(), recorder.polls()), (1, 1, 0));
    let due = recorder.due().unwrap();
    assert_eq!((recorder.scheduled(), recorder.timers(), recorder.handlers().len()), (0, 0, 1));
    assert_eq!(count.load(Ordering::SeqCst), 0);
    assert_eq!(due.len(), 3);
    for callback in due {
        callback();
    }
    assert_eq!(count.load(Ordering::SeqCst), 3);
}

#[test]
fn a_handler_cleared_by_an_earlier_one_of_the_same_turn_is_not_called() {
    let recorder = Recorder::new();
    let (near, far) = MemoryChannel::pair().unwrap();
    far.write_all(b"x").unwrap();
    let near = Arc::new(near);
    let (count, call) = counter();
    // Both directions are ready; whichever runs first clears the other.
    for direction in [Direction::Read, Direction::Write] {
        let (channel, call) = (Arc::clone(&near), call.clone());
        let handler = move || {
            call();
            let (read, write) = match direction {
                Direction::Read => (AioChange::Keep, AioChange::Clear),
                Direction::Write => (AioChange::Clear, AioChange::Keep),
            };
            channel.set_aio_fd_handler(read, write).unwrap();
        };
        let (read, write) = match direction {
            Direction::Read => (set(&recorder, handler), AioChange::Keep),
            Direction::Write => (AioChange::Keep, set(&recorder, handler)),
        };
        near.set_aio_fd_handler(read, write).unwrap();
    }
    assert_eq!(recorder.turn(Duration::ZERO).unwrap(), 1);
    assert_eq!(count.load(Ordering::SeqCst), 1);
    near.close().unwrap(); // the handlers hold the channel
}

/// Echoes whatever comes, by handlers alone, one call of the channel for each call of a handler.
fn echo(channel: Arc<Box<dyn Channel>>, recorder: &Arc<Recorder>) {
    channel.set_blocking(false);
    let held = Arc::new(Mutex::new(Vec::new()));
    let (reading, writing) = ((Arc::clone(&channel), Arc::clone(&held)), (Arc::clone(&channel), held));
    let (on_read, on_write) = (Arc::clone(recorder), Arc::clone(recorder));
    let write = move || {
        let (channel, held) = &writing;
        let mut held = held.lock().unwrap();
        match channel.write(&held) {
            Ok(count) => drop(held.drain(..count)),
            Err(error) => assert!(error.is_would_block(), "{error}"),
        }
        if held.is_empty() {
            channel.set_aio_fd_handler(AioChange::Keep, AioChange::Clear).unwrap();
        }
    };
    let write = AioHandler::new(on_write, write);
    let read = move || {
        let (channel, held) = &reading;
        let mut piece = [0; 300];
        match channel.read(&mut piece) {
            Ok(0) => channel.close().unwrap(),
            Ok(count) => {
                held.lock().unwrap().extend_from_slice(&piece[..count]);
                channel.set_aio_fd_handler(AioChange::Keep, AioChange::Set(write.clone())).unwrap();
            }
            Err(error) => assert!(error.is_would_block(), "{error}"),
        }
    };
    channel.set_aio_fd_handler(set(&on_read, read), AioChange::Keep).unwrap();
}

#[test]
fn harmless_wrappers_lose_no_event() {
    watchdog::run("harmless_wrappers_lose_no_event", || {
        for (outer_name, outer) in HARMLESS {
            for (inner_name, inner) in HARMLESS {
                let (near, far) = MemoryChannel::pair_with_capacity(100).unwrap();
                let recorder = Recorder::new();
                let near = Arc::new(outer(inner(Box::new(near))));
                echo(Arc::clone(&near), &recorder);
                let sent: Vec<u8> = (0..3000u32).map(|index| index as u8).collect();
                let received = Mutex::new(Vec::new());
                thread::scope(|scope| {
                    scope.spawn(|| far.write_all(&sent).unwrap());
                    scope.spawn(|| {
                        let mut piece = [0; 64];
                        while received.lock().unwrap().len() < sent.len() {
                            let count = far.read(&mut piece).unwrap();
                            received.lock().unwrap().extend_from_slice(&piece[..count]);
                        }
                        recorder.schedule(Box::new(|| ())); // for the loop to look at once
                    });
                    let done = recorder.turn_until(SOON, || received.lock().unwrap().len() == sent.len());
                    assert!(done.unwrap(), "{outer_name} over {inner_name}: an event was lost");
                });
                assert_eq!(*received.lock().unwrap(), sent, "{outer_name} over {inner_name}");
                near.close().unwrap(); // the handlers hold the channel
            }
        }
    });
}

#[test]
fn a_held_up_call_is_told_again_though_the_channel_below_is_silent() {
    // A null channel calls a handler again only after a call that reached it; one that was held up did not.
    let near = Arc::new(adverse::would_block_every_other(Box::new(NullChannel::new())));
    near.set_blocking(false);
    let recorder = Recorder::new();
    let (channel, written) = (Arc::clone(&near), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&written);
    let write = set(&recorder, move || match channel.write(b"x") {
        Ok(done) => drop(count.fetch_add(done, Ordering::SeqCst)),
        Err(error) => assert!(error.is_would_block(), "{error}"),
    });
    near.set_aio_fd_handler(AioChange::Keep, write).unwrap();
    assert!(recorder.turn_until(SOON, || written.load(Ordering::SeqCst) >= 10).unwrap());
    near.close().unwrap(); // the handler holds the channel
}

#[test]
fn handlers_learn_of_ends_and_failures_though_the_channel_below_is_silent() {
    let error = Error::new(ErrorKind::Reset, "test", "on purpose");
    let (near, far) = MemoryChannel::pair().unwrap();
    let failing = adverse::fail_after(Box::new(near), Direction::Read, 2, error);
    let (near, other) = MemoryChannel::pair().unwrap();
    let ending = adverse::truncate_after(Box::new(near), 1);
    for (channel, peer) in [(&failing, &far), (&ending, &other)] {
        peer.write_all(b"x").unwrap();
        let recorder = Recorder::new();
        let (count, call) = counter();
        channel.set_aio_fd_handler(set(&recorder, call.clone()), AioChange::Keep).unwrap();
        channel.read_all(&mut [0]).unwrap();
        assert_eq!(recorder.turn(Duration::ZERO).unwrap(), 1, "called though no more bytes came");
        assert_eq!(recorder.turn(Duration::ZERO).unwrap(), 0, "called once until the next call of the channel");
        // One that is set when the end has come is called too.
        channel.set_aio_fd_handler(set(&recorder, call), AioChange::Keep).unwrap();
        assert_eq!(recorder.turn(Duration::ZERO).unwrap(), 1);
        assert_eq!(count.load(Ordering::SeqCst), 2);
    }
}

#[test]
fn no_handler_is_called_after_it_was_cleared_replaced_closed_or_dropped() {
    type End = fn(&Arc<Recorder>, Box<dyn Channel>) -> Option<Box<dyn Channel>>;
    let ends: [(&str, End); 4] = [
        ("cleared", |_, near| {
            near.set_aio_fd_handler(AioChange::Clear, AioChange::Clear).unwrap();
            Some(near)
        }),
        ("replaced", |recorder, near| {
            near.set_aio_fd_handler(set(recorder, || ()), set(recorder, || ())).unwrap();
            Some(near)
        }),
        ("closed", |_, near| {
            near.close().unwrap();
            Some(near)
        }),
        ("dropped", |_, _| None),
    ];
    for (how, end) in ends {
        let (near, far) = MemoryChannel::pair().unwrap();
        let near = adverse::would_block_every_other(Box::new(near));
        near.set_blocking(false);
        let recorder = Recorder::new();
        let (count, call) = counter();
        near.set_aio_fd_handler(set(&recorder, call.clone()), set(&recorder, call)).unwrap();
        far.write_all(b"x").unwrap();
        // Held up, so that a call is scheduled as well.
        assert!(near.read(&mut [0]).unwrap_err().is_would_block());
        let near = end(&recorder, near);
        while recorder.turn(Duration::ZERO).unwrap() > 0 && how != "replaced" {}
        assert_eq!(count.load(Ordering::SeqCst), 0, "{how}");
        drop(near);
        assert!(recorder.handlers().is_empty(), "{how}: the channel is gone");
    }
}

#[test]
fn a_callback_is_dropped_under_no_lock() {
    watchdog::run("a_callback_is_dropped_under_no_lock", || {
        struct CallsBack(Arc<Recorder>, Arc<Box<dyn Channel>>);
        impl Drop for CallsBack {
            fn drop(&mut self) {
                self.0.schedule(Box::new(|| ()));
                self.1.set_aio_fd_handler(AioChange::Clear, AioChange::Clear).unwrap();
            }
        }
        let (near, _far) = MemoryChannel::pair().unwrap();
        let near = Arc::new(adverse::one_byte(Box::new(near)));
        let recorder = Recorder::new();
        let guard = CallsBack(Arc::clone(&recorder), Arc::clone(&near));
        let handler = set(&recorder, move || drop(Arc::clone(&guard.1)));
        near.set_aio_fd_handler(handler, AioChange::Keep).unwrap();
        near.set_aio_fd_handler(AioChange::Clear, AioChange::Keep).unwrap();
        assert_eq!(Arc::strong_count(&near), 1);
    });
}
