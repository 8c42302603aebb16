//! What an event loop takes and lets go of, and how it does with much and with nothing to do.

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use channel_core::{
    AioChange, AioChannel, AioContext, AioHandler, Callback, Channel, ChannelExt, Condition, Direction, ErrorKind,
    EventLoop, LoopHandle, MemoryChannel,
};
use channel_testkit::{child, fds, watchdog};
use rustix::event::{EventfdFlags, eventfd};

/// Runs `test` over a new loop, inside the watchdog.
fn with_loop(name: &str, test: impl FnOnce(&EventLoop)) {
    watchdog::run(name, || test(&EventLoop::new().unwrap()));
}

/// A descriptor that is ready in both directions.
fn ready() -> Arc<OwnedFd> {
    Arc::new(eventfd(1, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap())
}

#[test]
fn a_descriptor_that_cannot_be_polled_is_refused_and_changes_nothing() {
    let event_loop = EventLoop::new().unwrap();
    let file: Arc<OwnedFd> = Arc::new(File::open("/proc/self/exe").unwrap().into());
    let held = Arc::new(());
    for direction in [Direction::Read, Direction::Write] {
        let guard = held.clone();
        let callback: Callback = Arc::new(move || drop(guard.clone()));
        let error = event_loop.handle().set_fd_handler(&file, direction, Some(callback)).unwrap_err();
        assert_eq!((error.layer(), error.operation()), ("event loop", "set_fd_handler"));
        let io = std::io::Error::from(error);
        assert_eq!(io.kind(), std::io::ErrorKind::PermissionDenied);
        assert_eq!(Arc::strong_count(&held), 1, "the refused handler is dropped");
        assert_eq!(Arc::strong_count(&file), 1, "the descriptor is not kept");
        event_loop.handle().set_fd_handler(&file, direction, None).unwrap();
    }
}

/// A channel whose read handler holds `held`.
fn channel_with_handler<T: Send + Sync + 'static>(event_loop: &EventLoop, held: T) -> MemoryChannel {
    let (near, far) = MemoryChannel::pair().unwrap();
    let handler = AioHandler::new(event_loop.handle(), move || {
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
            let weak = Arc::downgrade(&event_loop.handle());
            let channel = Arc::new(channel_with_handler(&event_loop, ()));
            let own = channel.clone();
            // A cycle: the channel has a handler that holds the channel.
            let handler = AioHandler::new(event_loop.handle(), move || drop(own.clone()));
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
    event_loop.handle().set_fd_handler(&fd, Direction::Read, Some(Arc::new(move || drop(handler.clone())))).unwrap();
    event_loop.handle().set_timer(Instant::now(), Box::new(|| drop(timer)));
    let unpolled = event_loop.spawn(async move { drop(unpolled) });
    event_loop.handle().schedule(Box::new(|| drop(scheduled)));
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
fn a_loop_takes_its_detached_tasks_and_forgotten_watches_along() {
    child::run("a_loop_takes_its_detached_tasks_and_forgotten_watches_along", || {
        for shuts_down in [false, true] {
            fds::assert_no_fd_left(|| {
                let event_loop = EventLoop::new().unwrap();
                let (weak, held) = (Arc::downgrade(&event_loop.handle()), Arc::new(()));
                for _ in 0..10 {
                    let (near, far) = MemoryChannel::pair().unwrap();
                    let (near, guard) = (AioChannel::new(near), Arc::clone(&held));
                    let waiting = async move {
                        let _held = (guard, far);
                        near.read(&mut [0; 8]).await.unwrap_or_default()
                    };
                    event_loop.spawn(waiting).detach();
                }
                for condition in [Condition::IN, Condition::OUT, Condition::HUP] {
                    let (near, far) = MemoryChannel::pair().unwrap();
                    let (near, guard): (Arc<dyn Channel>, _) = (Arc::new(near), Arc::clone(&held));
                    let watch = near.add_watch(event_loop.handle(), condition, move |_, _| {
                        let _held = (&guard, &far);
                        ControlFlow::Continue(())
                    });
                    watch.unwrap().forget();
                }
                event_loop.run_once(Some(Duration::ZERO)).unwrap();
                assert_eq!(Arc::strong_count(&held), 14);
                if shuts_down {
                    event_loop.shutdown();
                } else {
                    drop(event_loop);
                }
                assert_eq!(Arc::strong_count(&held), 1, "what tasks and watches held");
                assert!(weak.upgrade().is_none());
            });
        }
    });
}

#[test]
fn whoever_still_holds_a_loop_that_has_gone_is_told_and_keeps_nothing() {
    let event_loop = EventLoop::new().unwrap();
    let (handle, held) = (event_loop.handle(), Arc::new(()));
    drop(event_loop);
    let guards = [(); 5].map(|()| held.clone());
    let [handler, timer, scheduled, spawned, watching] = guards;
    let refused = handle.set_fd_handler(&ready(), Direction::Read, Some(Arc::new(move || drop(handler.clone()))));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Closed);
    handle.set_timer(Instant::now(), Box::new(|| drop(timer)));
    handle.schedule(Box::new(|| drop(scheduled)));
    let spawned = handle.spawn(async move { drop(spawned) });
    assert!(spawned.is_finished());
    let (near, _far) = MemoryChannel::pair().unwrap();
    let near: Arc<dyn Channel> = Arc::new(near);
    let watch = near.add_watch(handle, Condition::IN, move |_, _| {
        let _held = &watching;
        ControlFlow::Continue(())
    });
    assert_eq!(watch.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(Arc::strong_count(&held), 1);
}

#[test]
fn a_watch_that_was_forgotten_is_let_go_of_at_its_end() {
    let event_loop = EventLoop::new().unwrap();
    let (near, far) = MemoryChannel::pair().unwrap();
    let (near, held): (Arc<dyn Channel>, _) = (Arc::new(near), Arc::new(()));
    let guard = held.clone();
    let watch = near.add_watch(event_loop.handle(), Condition::IN, move |_, _| {
        let _held = &guard;
        ControlFlow::Break(())
    });
    watch.unwrap().forget();
    assert!(format!("{event_loop:?}").contains("timers: 1"), "{event_loop:?}");
    far.write_all(b"x").unwrap();
    while Arc::strong_count(&held) > 1 {
        event_loop.run_once(None).unwrap();
    }
    assert!(format!("{event_loop:?}").contains("timers: 0"), "{event_loop:?}");
    assert_eq!(Arc::strong_count(&near), 1);
}

#[test]
fn a_handler_that_holds_the_last_of_another_channel_may_be_dropped_anywhere() {
    with_loop("a_handler_that_holds_the_last_of_another_channel_may_be_dropped_anywhere", |event_loop| {
        // Dropping the handler of the first drops the second, which clears its own handler on this loop.
        let first = channel_with_handler(event_loop, channel_with_handler(event_loop, ()));
        first.set_aio_fd_handler(AioChange::Clear, AioChange::Keep).unwrap();
        let second = Arc::new(channel_with_handler(event_loop, ()));
        event_loop.handle().schedule(Box::new(move || drop(second)));
        let third = channel_with_handler(event_loop, ());
        event_loop.handle().clear_timer(event_loop.handle().set_timer(Instant::now(), Box::new(move || drop(third))));
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
        let far = event_loop.handle().set_timer(Instant::now() + Duration::from_secs(3600), Box::new(|| ()));
        thread::scope(|scope| {
            let (said, link) = mpsc::channel();
            event_loop
                .handle()
                .schedule(Box::new(move || said.send(fs::read_link("/proc/thread-self").unwrap()).unwrap()));
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
            event_loop.handle().stop();
            running.join().unwrap();
        });
        event_loop.handle().clear_timer(far);
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
                (place, event_loop.handle().set_timer(now + Duration::from_micros(5 * place), callback))
            })
            .collect();
        for (_, timer) in timers.iter().filter(|(place, _)| place % 2 == 1) {
            event_loop.handle().clear_timer(*timer);
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
            event_loop.handle().set_fd_handler(&fd, Direction::Read, Some(callback)).unwrap();
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

#[test]
fn a_loop_ends_although_others_go_on_scheduling() {
    watchdog::run("others schedule", || {
        let event_loop = EventLoop::new().unwrap();
        let (over, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let others = [false, false, true].map(|spawns| {
            let (handle, over, count) = (event_loop.handle(), Arc::clone(&over), Arc::clone(&count));
            thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    if spawns {
                        handle.spawn(async {}).detach();
                    } else {
                        handle.schedule(Box::new(|| ()));
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        while count.load(Ordering::Relaxed) < 1000 {
            thread::yield_now();
        }
        drop(event_loop);
        over.store(true, Ordering::Relaxed);
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

#[test]
fn things_that_panic_when_they_are_dropped_do_not_end_the_program_with_their_loop() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("on purpose"));
        }
    }
    child::run("things_that_panic_when_they_are_dropped_do_not_end_the_program_with_their_loop", || {
        let event_loop = EventLoop::new().unwrap();
        let handle = event_loop.handle();
        let fds = [ready(), ready()];
        for fd in &fds {
            let (timer, work) = (Bomb, Bomb);
            handle.set_timer(Instant::now() + Duration::from_secs(1000), Box::new(move || drop(timer)));
            handle.schedule(Box::new(move || drop(work)));
            for direction in [Direction::Read, Direction::Write] {
                let handler = Bomb;
                let held = move || {
                    let _ = &handler;
                };
                handle.set_fd_handler(fd, direction, Some(Arc::new(held))).unwrap();
            }
        }
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| event_loop.shutdown()));
        assert!(ended.is_err(), "the first of the panics goes on");
        assert!(fds.iter().all(|fd| Arc::strong_count(fd) == 1));
    });
}

#[test]
fn timers_that_ran_leave_nothing() {
    let event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle();
    let idle = format!("{handle:?}");
    for _ in 0..10 {
        handle.set_timer(Instant::now(), Box::new(|| ()));
    }
    assert_ne!(format!("{handle:?}"), idle);
    while event_loop.run_once(Some(Duration::ZERO)).unwrap() > 0 {}
    assert_eq!(format!("{handle:?}"), idle);
}

#[test]
fn what_is_scheduled_while_a_loop_ends_is_dropped_at_once() {
    /// Schedules when it is dropped, and tells how many hold what that held when the call is over.
    struct Late(Arc<LoopHandle>, mpsc::Sender<usize>);
    impl Drop for Late {
        fn drop(&mut self) {
            let held = Arc::new(());
            let guard = Arc::clone(&held);
            self.0.schedule(Box::new(move || drop(guard)));
            self.1.send(Arc::strong_count(&held)).unwrap();
        }
    }
    let (tell, told) = mpsc::channel();
    let event_loop = EventLoop::new().unwrap();
    let late = Late(event_loop.handle(), tell);
    let waits = async move {
        let _late = late;
        std::future::pending::<()>().await;
    };
    event_loop.spawn(waits).detach();
    event_loop.run_once(Some(Duration::ZERO)).unwrap();
    drop(event_loop);
    assert_eq!(told.recv().unwrap(), 1);
}
