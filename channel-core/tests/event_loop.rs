//! What the event loop promises beside what every context does.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use channel_core::{
    AioChange, AioContext, AioHandler, Callback, Channel, Direction, ErrorKind, EventLoop, MemoryChannel,
    current_context,
};
use channel_testkit::{child, fds, watchdog};
use rustix::event::{EventfdFlags, eventfd};

channel_testkit::aio_context_conformance! {
    mod conformance = || EventLoop::new().unwrap();
}

/// Runs `test` over a new loop, inside the watchdog.
fn with_loop(name: &str, test: impl FnOnce(&Arc<EventLoop>)) {
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
        event_loop.schedule(Box::new(log.note("scheduled")));
        event_loop.set_timer(Instant::now(), Box::new(log.note("timer")));
        let (inner, note, later) = (event_loop.clone(), log.note("handler"), log.note("scheduled by the handler"));
        let handler: Callback = Arc::new(move || {
            note();
            inner.schedule(Box::new(later.clone()));
        });
        event_loop.set_fd_handler(&fd, Direction::Read, Some(handler)).unwrap();
        assert_eq!(event_loop.run_once(None).unwrap(), 4);
        assert_eq!(log.take(), ["handler", "timer", "scheduled", "scheduled by the handler"]);
        event_loop.set_fd_handler(&fd, Direction::Read, None).unwrap();
    });
}

#[test]
fn what_a_scheduled_callback_schedules_runs_in_the_next_turn_which_does_not_sleep() {
    with_loop("what_a_scheduled_callback_schedules_runs_in_the_next_turn_which_does_not_sleep", |event_loop| {
        let (log, inner) = (Log::default(), event_loop.clone());
        let later = log.note("later");
        event_loop.schedule(Box::new(move || inner.schedule(Box::new(later))));
        assert_eq!(event_loop.run_once(None).unwrap(), 1);
        assert_eq!(log.take(), [""; 0]);
        assert_eq!(event_loop.run_once(None).unwrap(), 1);
        assert_eq!(log.take(), ["later"]);
    });
}

#[test]
fn a_timer_that_sets_one_in_the_past_leaves_the_others_their_turn() {
    fn again(event_loop: &Arc<EventLoop>, past: Instant) {
        let inner = event_loop.clone();
        event_loop.set_timer(past, Box::new(move || again(&inner, past)));
    }
    with_loop("a_timer_that_sets_one_in_the_past_leaves_the_others_their_turn", |event_loop| {
        again(event_loop, Instant::now());
        assert_eq!(event_loop.run_once(None).unwrap(), 1);
        event_loop.schedule(Box::new(|| ()));
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
        event_loop.schedule(Box::new(|| ()));
        assert_eq!(event_loop.run_once(Some(Duration::MAX)).unwrap(), 1);
    });
}

#[test]
fn stop_ends_run_from_another_thread_and_from_a_callback() {
    with_loop("stop_ends_run_from_another_thread_and_from_a_callback", |event_loop| {
        thread::scope(|scope| {
            let (running, started) = mpsc::channel();
            event_loop.schedule(Box::new(move || running.send(()).unwrap()));
            let thread = scope.spawn(|| event_loop.run());
            started.recv().unwrap();
            event_loop.stop();
            thread.join().unwrap().unwrap();
        });
        let inner = event_loop.clone();
        event_loop.schedule(Box::new(move || inner.stop()));
        event_loop.run().unwrap();
    });
}

#[test]
fn a_stop_before_run_is_not_lost_and_counts_once() {
    with_loop("a_stop_before_run_is_not_lost_and_counts_once", |event_loop| {
        let (log, inner) = (Log::default(), event_loop.clone());
        event_loop.stop();
        event_loop.stop();
        assert_eq!(
            event_loop.run_once(Some(Duration::ZERO)).unwrap(),
            0,
            "run_once and block_on have nothing to do with it"
        );
        event_loop.block_on(async {}).unwrap();
        event_loop.run().unwrap();
        let note = log.note("ran");
        event_loop.schedule(Box::new(move || {
            note();
            inner.stop();
        }));
        event_loop.run().unwrap();
        assert_eq!(log.take(), ["ran"], "the second run was not ended by what ended the first");
    });
}

#[test]
fn a_second_runner_is_told_busy_and_one_inside_that_it_would_deadlock() {
    with_loop("a_second_runner_is_told_busy_and_one_inside_that_it_would_deadlock", |event_loop| {
        fn refused(event_loop: &Arc<EventLoop>) -> [ErrorKind; 3] {
            let once = event_loop.run_once(Some(Duration::ZERO)).unwrap_err();
            assert_eq!((once.layer(), once.operation()), ("event loop", "run_once"));
            [once, event_loop.run().unwrap_err(), event_loop.block_on(async {}).unwrap_err()].map(|error| error.kind())
        }
        let (inner, task, (kinds, seen)) = (event_loop.clone(), event_loop.clone(), mpsc::channel());
        let from_task = kinds.clone();
        event_loop.schedule(Box::new(move || {
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
        fn is_current(event_loop: &EventLoop) -> bool {
            current_context().is_some_and(|current| std::ptr::addr_eq(Arc::as_ptr(&current), event_loop))
        }
        let (first, second) = (event_loop.clone(), event_loop.clone());
        let task = event_loop.spawn(async move { is_current(&first) });
        assert!(event_loop.block_on(async { is_current(&second) && task.await.unwrap() }).unwrap());
        assert!(current_context().is_none());
        let inner = EventLoop::new().unwrap();
        let (outer, nested) = (event_loop.clone(), inner.clone());
        event_loop.schedule(Box::new(move || {
            let other = nested.clone();
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
            let (inner, both, note) = (event_loop.clone(), fds.clone(), log.note("handler"));
            let handler: Callback = Arc::new(move || {
                note();
                for fd in &both {
                    inner.set_fd_handler(fd, Direction::Read, None).unwrap();
                }
                panic!("on purpose");
            });
            event_loop.set_fd_handler(fd, Direction::Read, Some(handler)).unwrap();
        }
        panics();
        assert_eq!(log.take(), ["handler"]);
        let later = Instant::now();
        event_loop.set_timer(later, Box::new(|| panic!("on purpose")));
        event_loop.set_timer(later, Box::new(log.note("timer")));
        event_loop.schedule(Box::new(|| panic!("on purpose")));
        event_loop.schedule(Box::new(log.note("scheduled")));
        event_loop.spawn(async { panic!("on purpose") }).detach();
        let note = log.note("task");
        event_loop.spawn(async move { note() }).detach();
        panics();
        panics();
        assert_eq!(log.take(), ["timer"]);
        panics();
        assert_eq!(log.take(), ["scheduled"]);
        thread::scope(|scope| scope.spawn(|| event_loop.run_once(None).unwrap()).join().unwrap());
        assert_eq!(log.take(), ["task"]);
    });
}

#[test]
fn handlers_that_a_panic_cut_off_are_called_in_the_next_turn() {
    with_loop("handlers_that_a_panic_cut_off_are_called_in_the_next_turn", |event_loop| {
        let (called, fds) = (Arc::new(AtomicUsize::new(0)), [ready(), ready()]);
        for fd in &fds {
            let (called, inner, fd) = (called.clone(), event_loop.clone(), fd.clone());
            let own = fd.clone();
            let handler: Callback = Arc::new(move || {
                inner.set_fd_handler(&own, Direction::Read, None).unwrap();
                assert!(called.fetch_add(1, Ordering::SeqCst) > 0, "on purpose");
            });
            event_loop.set_fd_handler(&fd, Direction::Read, Some(handler)).unwrap();
        }
        assert!(catch_unwind(AssertUnwindSafe(|| event_loop.run_once(None))).is_err());
        assert_eq!(event_loop.run_once(None).unwrap(), 1);
        assert_eq!(called.load(Ordering::SeqCst), 2);
    });
}

#[test]
fn a_descriptor_that_cannot_be_polled_is_refused_and_changes_nothing() {
    let event_loop = EventLoop::new().unwrap();
    let file: Arc<OwnedFd> = Arc::new(File::open("/proc/self/exe").unwrap().into());
    let held = Arc::new(());
    for direction in [Direction::Read, Direction::Write] {
        let guard = held.clone();
        let callback: Callback = Arc::new(move || drop(guard.clone()));
        let error = event_loop.set_fd_handler(&file, direction, Some(callback)).unwrap_err();
        assert_eq!((error.layer(), error.operation()), ("event loop", "set_fd_handler"));
        let io = std::io::Error::from(error);
        assert_eq!(io.kind(), std::io::ErrorKind::PermissionDenied);
        assert_eq!(Arc::strong_count(&held), 1, "the refused handler is dropped");
        assert_eq!(Arc::strong_count(&file), 1, "the descriptor is not kept");
        event_loop.set_fd_handler(&file, direction, None).unwrap();
    }
}

/// A channel whose read handler holds `held`.
fn channel_with_handler<T: Send + Sync + 'static>(event_loop: &Arc<EventLoop>, held: T) -> MemoryChannel {
    let (near, far) = MemoryChannel::pair().unwrap();
    let handler = AioHandler::new(event_loop.clone(), move || {
        let _ = (&held, &far);
    });
    near.set_aio_fd_handler(AioChange::Set(handler), AioChange::Keep).unwrap();
    near
}

#[test]
fn a_loop_and_a_channel_are_freed_when_the_handlers_are_cleared_and_the_handles_dropped() {
    child::run("a_loop_and_a_channel_are_freed_when_the_handlers_are_cleared_and_the_handles_dropped", || {
        fds::assert_no_fd_left(|| {
            let event_loop = EventLoop::new().unwrap();
            let weak = Arc::downgrade(&event_loop);
            let channel = Arc::new(channel_with_handler(&event_loop, ()));
            let own = channel.clone();
            // A cycle: the channel has a handler that holds the channel.
            let handler = AioHandler::new(event_loop.clone(), move || drop(own.clone()));
            channel.set_aio_fd_handler(AioChange::Set(handler), AioChange::Clear).unwrap();
            event_loop.run_once(Some(Duration::ZERO)).unwrap();
            channel.set_aio_fd_handler(AioChange::Clear, AioChange::Clear).unwrap();
            drop((channel, event_loop));
            assert!(weak.upgrade().is_none());
        });
    });
}

#[test]
fn a_dropped_loop_drops_what_is_left() {
    let event_loop = EventLoop::new().unwrap();
    let (held, fd) = (Arc::new(()), ready());
    let guards = [(); 5].map(|()| held.clone());
    let [handler, timer, scheduled, unpolled, woken] = guards;
    event_loop.set_fd_handler(&fd, Direction::Read, Some(Arc::new(move || drop(handler.clone())))).unwrap();
    event_loop.set_timer(Instant::now(), Box::new(|| drop(timer)));
    let unpolled = event_loop.spawn(async move { drop(unpolled) });
    event_loop.schedule(Box::new(|| drop(scheduled)));
    event_loop
        .spawn(async move {
            let _woken = woken;
            std::future::pending::<()>().await;
        })
        .detach();
    drop(event_loop);
    assert_eq!(Arc::strong_count(&held), 1);
    assert_eq!(Arc::strong_count(&fd), 1);
    assert!(unpolled.is_finished());
    let other = EventLoop::new().unwrap();
    assert_eq!(other.block_on(unpolled).unwrap().unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn a_handler_that_holds_the_last_of_another_channel_may_be_dropped_anywhere() {
    with_loop("a_handler_that_holds_the_last_of_another_channel_may_be_dropped_anywhere", |event_loop| {
        // Dropping the handler of the first drops the second, which clears its own handler on this loop.
        let first = channel_with_handler(event_loop, channel_with_handler(event_loop, ()));
        first.set_aio_fd_handler(AioChange::Clear, AioChange::Keep).unwrap();
        let second = Arc::new(channel_with_handler(event_loop, ()));
        event_loop.schedule(Box::new(move || drop(second)));
        let third = channel_with_handler(event_loop, ());
        event_loop.clear_timer(event_loop.set_timer(Instant::now(), Box::new(move || drop(third))));
        event_loop.spawn(std::future::ready(channel_with_handler(event_loop, ()))).detach();
        assert_eq!(event_loop.run_once(Some(Duration::ZERO)).unwrap(), 2);
        assert!(format!("{event_loop:?}").contains("descriptors: 0"), "{event_loop:?}");
    });
}

#[test]
fn the_descriptors_of_a_loop_are_closed_on_exec() {
    child::run("the_descriptors_of_a_loop_are_closed_on_exec", || {
        let before = fds::open_fds();
        let event_loop = EventLoop::new().unwrap();
        let new: Vec<_> = fds::open_fds().into_keys().filter(|fd| !before.contains_key(fd)).collect();
        assert_eq!(new.len(), 2);
        for fd in new {
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
            assert_ne!(u32::from_str_radix(flags, 8).unwrap() & 0o2_000_000, 0, "O_CLOEXEC");
        }
        drop(event_loop);
    });
}

#[test]
fn an_idle_loop_sleeps_on() {
    with_loop("an_idle_loop_sleeps_on", |event_loop| {
        let idle: Vec<_> = (0..200).map(|_| channel_with_handler(event_loop, ())).collect();
        let far = event_loop.set_timer(Instant::now() + Duration::from_secs(3600), Box::new(|| ()));
        thread::scope(|scope| {
            let (said, link) = mpsc::channel();
            event_loop.schedule(Box::new(move || said.send(fs::read_link("/proc/thread-self").unwrap()).unwrap()));
            let running = scope.spawn(|| event_loop.run().unwrap());
            let status = std::path::Path::new("/proc").join(link.recv().unwrap()).join("status");
            let field = |name: &str| {
                let status = fs::read_to_string(&status).unwrap();
                let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
                line.trim().to_owned()
            };
            while !field("State:").starts_with('S') {
                thread::yield_now();
            }
            let before = field("voluntary_ctxt_switches:");
            thread::sleep(Duration::from_millis(100)); // the time it is watched for
            assert_eq!(field("voluntary_ctxt_switches:"), before, "the loop woke though nothing had happened");
            event_loop.stop();
            running.join().unwrap();
        });
        event_loop.clear_timer(far);
        drop(idle);
    });
}

#[test]
fn ten_thousand_timers_run_in_order_but_for_those_that_were_cleared() {
    with_loop("ten_thousand_timers_run_in_order_but_for_those_that_were_cleared", |event_loop| {
        const COUNT: u64 = 10_000;
        let (now, ran) = (Instant::now(), Arc::new(Mutex::new(Vec::new())));
        // Every place once, in no order: the step and the count have no divisor in common.
        let timers: Vec<_> = (0..COUNT)
            .map(|index| index * 7919 % COUNT)
            .map(|place| {
                let ran = ran.clone();
                let callback = Box::new(move || ran.lock().unwrap().push(place));
                (place, event_loop.set_timer(now + Duration::from_micros(5 * place), callback))
            })
            .collect();
        for (_, timer) in timers.iter().filter(|(place, _)| place % 2 == 1) {
            event_loop.clear_timer(*timer);
        }
        while ran.lock().unwrap().len() < 5_000 {
            event_loop.run_once(None).unwrap();
        }
        assert_eq!(event_loop.run_once(Some(Duration::ZERO)).unwrap(), 0);
        assert_eq!(*ran.lock().unwrap(), (0..COUNT).step_by(2).collect::<Vec<_>>());
    });
}

#[test]
fn more_descriptors_than_a_turn_takes_are_all_called() {
    with_loop("more_descriptors_than_a_turn_takes_are_all_called", |event_loop| {
        let file = ready();
        let mut calls = Vec::new();
        for _ in 0..600 {
            let (fd, count) = (Arc::new(file.try_clone().unwrap()), Arc::new(AtomicUsize::new(0)));
            let own = count.clone();
            let callback: Callback = Arc::new(move || {
                let _ = own.fetch_add(1, Ordering::Relaxed);
            });
            event_loop.set_fd_handler(&fd, Direction::Read, Some(callback)).unwrap();
            calls.push(count);
        }
        for _ in 0..6 {
            event_loop.run_once(None).unwrap();
        }
        let calls: Vec<_> = calls.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let (least, most) = (calls.iter().min().unwrap(), calls.iter().max().unwrap());
        assert!(*least >= 1 && most - least <= 2, "{least} to {most} calls each");
    });
}
