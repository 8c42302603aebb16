//! How the event loop takes its turns, beside what every context does.

use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use channel_core::{AioContext, Callback, Direction, ErrorKind, EventLoop, LoopHandle, current_context};
use channel_testkit::watchdog;
use rustix::event::{EventfdFlags, eventfd};

channel_testkit::aio_context_conformance! {
    mod conformance = || EventLoop::new().unwrap();
}

/// Runs `test` over a new loop, inside the watchdog.
fn with_loop(name: &str, test: impl FnOnce(&EventLoop)) {
    watchdog::run(name, || test(&EventLoop::new().unwrap()));
}

/// A descriptor that is ready in both directions.
fn ready() -> Arc<OwnedFd> {
    Arc::new(eventfd(1, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap())
}

/// What was noted, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<&'static str>>>);

impl Log {
    fn note(&self, what: &'static str) -> impl Fn() + Send + Sync + Clone + use<> {
        let log = self.0.clone();
        move || log.lock().unwrap().push(what)
    }

    fn take(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[test]
fn a_turn_calls_handlers_then_timers_then_what_is_scheduled() {
    with_loop("a_turn_calls_handlers_then_timers_then_what_is_scheduled", |event_loop| {
        let (log, fd) = (Log::default(), ready());
        event_loop.handle().schedule(Box::new(log.note("scheduled")));
        event_loop.handle().set_timer(Instant::now(), Box::new(log.note("timer")));
        let (inner, note, later) = (event_loop.handle(), log.note("handler"), log.note("scheduled by the handler"));
        let handler: Callback = Arc::new(move || {
            note();
            inner.schedule(Box::new(later.clone()));
        });
        event_loop.handle().set_fd_handler(&fd, Direction::Read, Some(handler)).unwrap();
        assert_eq!(event_loop.run_once(None).unwrap(), 4);
        assert_eq!(log.take(), ["handler", "timer", "scheduled", "scheduled by the handler"]);
        event_loop.handle().set_fd_handler(&fd, Direction::Read, None).unwrap();
    });
}

#[test]
fn what_a_scheduled_callback_schedules_runs_in_the_next_turn_which_does_not_sleep() {
    with_loop("what_a_scheduled_callback_schedules_runs_in_the_next_turn_which_does_not_sleep", |event_loop| {
        let (log, inner) = (Log::default(), event_loop.handle());
        let later = log.note("later");
        event_loop.handle().schedule(Box::new(move || inner.schedule(Box::new(later))));
        assert_eq!(event_loop.run_once(None).unwrap(), 1);
        assert_eq!(log.take(), [""; 0]);
        assert_eq!(event_loop.run_once(None).unwrap(), 1);
        assert_eq!(log.take(), ["later"]);
    });
}

#[test]
fn a_timer_that_sets_one_in_the_past_leaves_the_others_their_turn() {
    fn again(handle: &Arc<LoopHandle>, past: Instant) {
        let inner = Arc::clone(handle);
        handle.set_timer(past, Box::new(move || again(&inner, past)));
    }
    with_loop("a_timer_that_sets_one_in_the_past_leaves_the_others_their_turn", |event_loop| {
        again(&event_loop.handle(), Instant::now());
        assert_eq!(event_loop.run_once(None).unwrap(), 1);
        event_loop.handle().schedule(Box::new(|| ()));
        assert_eq!(event_loop.run_once(None).unwrap(), 2);
    });
}

#[test]
fn run_once_waits_no_longer_than_it_may() {
    with_loop("run_once_waits_no_longer_than_it_may", |event_loop| {
        assert_eq!(event_loop.run_once(Some(Duration::ZERO)).unwrap(), 0);
        let begun = Instant::now();
        assert_eq!(event_loop.run_once(Some(Duration::from_millis(20))).unwrap(), 0);
        assert!(begun.elapsed() >= Duration::from_millis(20), "{:?}", begun.elapsed());
        // Longer than a clock can count.
        event_loop.handle().schedule(Box::new(|| ()));
        assert_eq!(event_loop.run_once(Some(Duration::MAX)).unwrap(), 1);
    });
}

#[test]
fn stop_ends_run_from_another_thread_and_from_a_callback() {
    with_loop("stop_ends_run_from_another_thread_and_from_a_callback", |event_loop| {
        thread::scope(|scope| {
            let (running, started) = mpsc::channel();
            event_loop.handle().schedule(Box::new(move || running.send(()).unwrap()));
            let thread = scope.spawn(|| event_loop.run());
            started.recv().unwrap();
            event_loop.handle().stop();
            thread.join().unwrap().unwrap();
        });
        let inner = event_loop.handle();
        event_loop.handle().schedule(Box::new(move || inner.stop()));
        event_loop.run().unwrap();
    });
}

#[test]
fn a_stop_before_run_is_not_lost_and_counts_once() {
    with_loop("a_stop_before_run_is_not_lost_and_counts_once", |event_loop| {
        let (log, inner) = (Log::default(), event_loop.handle());
        event_loop.handle().stop();
        event_loop.handle().stop();
        assert_eq!(
            event_loop.run_once(Some(Duration::ZERO)).unwrap(),
            0,
            "run_once and block_on have nothing to do with it"
        );
        event_loop.block_on(async {}).unwrap();
        event_loop.run().unwrap();
        let note = log.note("ran");
        event_loop.handle().schedule(Box::new(move || {
            note();
            inner.stop();
        }));
        event_loop.run().unwrap();
        assert_eq!(log.take(), ["ran"], "the second run was not ended by what ended the first");
    });
}

#[test]
fn no_wake_up_is_lost() {
    with_loop("no_wake_up_is_lost", |event_loop| {
        thread::scope(|scope| {
            let running = scope.spawn(|| event_loop.run());
            thread::scope(|scope| {
                for kind in 0..3 {
                    scope.spawn(move || {
                        let (ran, done) = mpsc::channel();
                        let fd = ready();
                        // Each waits for its callback, so the loop falls asleep again and again.
                        for _ in 0..3_000 {
                            let ran = ran.clone();
                            match kind {
                                0 => event_loop.handle().schedule(Box::new(move || ran.send(()).unwrap())),
                                1 => event_loop.spawn(async move { ran.send(()).unwrap() }).detach(),
                                _ => {
                                    let inner = event_loop.handle();
                                    let own = fd.clone();
                                    let callback: Callback = Arc::new(move || {
                                        inner.set_fd_handler(&own, Direction::Write, None).unwrap();
                                        ran.send(()).unwrap();
                                    });
                                    event_loop.handle().set_fd_handler(&fd, Direction::Write, Some(callback)).unwrap();
                                }
                            }
                            done.recv().unwrap();
                        }
                    });
                }
            });
            event_loop.handle().stop();
            running.join().unwrap().unwrap();
        });
    });
}

#[test]
fn a_second_runner_is_told_busy_and_one_inside_that_it_would_deadlock() {
    with_loop("a_second_runner_is_told_busy_and_one_inside_that_it_would_deadlock", |_| {
        fn refused(event_loop: &EventLoop) -> [ErrorKind; 3] {
            let once = event_loop.run_once(Some(Duration::ZERO)).unwrap_err();
            assert_eq!((once.layer(), once.operation()), ("event loop", "run_once"));
            [once, event_loop.run().unwrap_err(), event_loop.block_on(async {}).unwrap_err()].map(|error| error.kind())
        }
        let shared = Arc::new(EventLoop::new().unwrap());
        let event_loop = &*shared;
        let (inner, task, (kinds, seen)) = (shared.clone(), shared.clone(), mpsc::channel());
        let from_task = kinds.clone();
        event_loop.handle().schedule(Box::new(move || {
            kinds.send(refused(&inner)).unwrap();
            let other = inner.clone();
            kinds.send(thread::spawn(move || refused(&other)).join().unwrap()).unwrap();
        }));
        event_loop.spawn(async move { from_task.send(refused(&task)).unwrap() }).detach();
        assert_eq!(event_loop.run_once(None).unwrap(), 2);
        let seen: Vec<_> = seen.iter().collect();
        assert_eq!(seen, [[ErrorKind::WouldDeadlock; 3], [ErrorKind::Busy; 3], [ErrorKind::WouldDeadlock; 3]]);
        assert_eq!(event_loop.run_once(Some(Duration::ZERO)).unwrap(), 0, "and is as good as before");
    });
}

#[test]
fn a_loop_is_the_current_context_while_it_runs() {
    with_loop("a_loop_is_the_current_context_while_it_runs", |event_loop| {
        fn is_current(handle: &LoopHandle) -> bool {
            current_context().is_some_and(|current| std::ptr::addr_eq(Arc::as_ptr(&current), handle))
        }
        let (first, second) = (event_loop.handle(), event_loop.handle());
        let task = event_loop.spawn(async move { is_current(&first) });
        assert!(event_loop.block_on(async { is_current(&second) && task.await.unwrap() }).unwrap());
        assert!(current_context().is_none());
        let inner = EventLoop::new().unwrap();
        let (outer, nested) = (event_loop.handle(), inner);
        event_loop.handle().schedule(Box::new(move || {
            let other = nested.handle();
            assert!(nested.block_on(async { is_current(&other) }).unwrap(), "the one entered last");
            assert!(is_current(&outer));
        }));
        assert_eq!(event_loop.run_once(None).unwrap(), 1);
    });
}

#[test]
fn a_panic_leaves_the_loop_as_good_as_before() {
    with_loop("a_panic_leaves_the_loop_as_good_as_before", |event_loop| {
        let log = Log::default();
        let panics = || {
            let run = catch_unwind(AssertUnwindSafe(|| event_loop.run()));
            assert_eq!(*run.unwrap_err().downcast::<&str>().unwrap(), "on purpose");
            assert!(current_context().is_none());
        };
        let fds = [ready(), ready()];
        for fd in &fds {
            let (inner, both, note) = (event_loop.handle(), fds.clone(), log.note("handler"));
            let handler: Callback = Arc::new(move || {
                note();
                for fd in &both {
                    inner.set_fd_handler(fd, Direction::Read, None).unwrap();
                }
                panic!("on purpose");
            });
            event_loop.handle().set_fd_handler(fd, Direction::Read, Some(handler)).unwrap();
        }
        panics();
        assert_eq!(log.take(), ["handler"]);
        let later = Instant::now();
        event_loop.handle().set_timer(later, Box::new(|| panic!("on purpose")));
        event_loop.handle().set_timer(later, Box::new(log.note("timer")));
        event_loop.handle().schedule(Box::new(|| panic!("on purpose")));
        event_loop.handle().schedule(Box::new(log.note("scheduled")));
        event_loop.spawn(async { panic!("on purpose") }).detach();
        let note = log.note("task");
        event_loop.spawn(async move { note() }).detach();
        panics();
        assert_eq!(log.take(), ["timer", "scheduled", "task"], "what else was due in that turn");
        thread::scope(|scope| scope.spawn(|| event_loop.run_once(Some(Duration::ZERO)).unwrap()).join().unwrap());
    });
}

#[test]
fn callbacks_that_panic_in_every_turn_starve_nobody() {
    with_loop("callbacks_that_panic_in_every_turn_starve_nobody", |event_loop| {
        let called = Arc::new(AtomicUsize::new(0));
        let count = || {
            let called = called.clone();
            move || {
                called.fetch_add(1, Ordering::SeqCst);
            }
        };
        // Level-triggered, and first in each batch: whatever comes behind it would never be called.
        event_loop.handle().set_fd_handler(&ready(), Direction::Read, Some(Arc::new(|| panic!("on purpose")))).unwrap();
        for _ in 0..3 {
            event_loop.handle().set_fd_handler(&ready(), Direction::Read, Some(Arc::new(count()))).unwrap();
        }
        for turn in 1..=5 {
            event_loop.handle().set_timer(Instant::now(), Box::new(count()));
            event_loop.handle().schedule(Box::new(count()));
            let count = count();
            event_loop.spawn(async move { count() }).detach();
            assert!(catch_unwind(AssertUnwindSafe(|| event_loop.run_once(None))).is_err());
            assert_eq!(called.load(Ordering::SeqCst), 6 * turn, "in turn {turn}");
        }
    });
}

#[test]
fn a_handler_set_inside_a_turn_is_not_called_for_what_came_before() {
    with_loop("a_handler_set_inside_a_turn_is_not_called_for_what_came_before", |event_loop| {
        let (fds, log) = ([ready(), ready()], Log::default());
        for own in 0..2 {
            let (inner, both, note, new) = (event_loop.handle(), fds.clone(), log.note("old"), log.note("new"));
            let handler: Callback = Arc::new(move || {
                note();
                for fd in &both {
                    rustix::io::read(fd, &mut [0; 8]).unwrap();
                    inner.set_fd_handler(fd, Direction::Read, Some(Arc::new(new.clone()))).unwrap();
                }
            });
            event_loop.handle().set_fd_handler(&fds[own], Direction::Read, Some(handler)).unwrap();
        }
        assert_eq!(event_loop.run_once(None).unwrap(), 1);
        assert_eq!(event_loop.run_once(Some(Duration::ZERO)).unwrap(), 0);
        assert_eq!(log.take(), ["old"]);
        rustix::io::write(&fds[1], &1u64.to_ne_bytes()).unwrap();
        assert_eq!(event_loop.run_once(None).unwrap(), 1);
        assert_eq!(log.take(), ["new"]);
    });
}
