//! The context and its runtime.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use channel_core::{AioContext, Direction, ErrorKind, EventLoop, TokioContext, current_context, enter_context};
use channel_testkit::watchdog;
use tokio::runtime::Builder;
use tokio::sync::oneshot;

use crate::{callback, current_thread_runtime, on_each, pair, read_one, two_workers_runtime};

#[test]
fn a_runtime_has_one_context_that_its_tasks_find() {
    on_each(
        |runtime, context| {
            let ours: Arc<dyn AioContext> = context.clone();
            assert!(current_context().is_none());
            assert!(Arc::ptr_eq(&TokioContext::of(runtime.handle()).unwrap(), context));
            runtime.block_on(async {
                let found = tokio::spawn(async { current_context().unwrap() }).await.unwrap();
                assert!(Arc::ptr_eq(&found, &ours), "in a task");
                assert!(Arc::ptr_eq(&current_context().unwrap(), &ours), "in block_on");
                let (found, called) = oneshot::channel();
                context.schedule(Box::new(|| _ = found.send(current_context())));
                assert!(Arc::ptr_eq(&called.await.unwrap().unwrap(), &ours), "in a callback");
            });
            let event_loop = enter_context(EventLoop::new().unwrap().handle());
            let (found, called) = oneshot::channel();
            context.schedule(Box::new(|| _ = found.send(current_context())));
            let found = runtime.block_on(called).unwrap().unwrap();
            assert!(Arc::ptr_eq(&found, &ours), "in a callback, although this thread is in another loop");
            drop(event_loop);
            let other = current_thread_runtime();
            assert!(!Arc::ptr_eq(&TokioContext::of(other.handle()).unwrap(), context), "of another runtime");
        },
        "a_runtime_has_one_context_that_its_tasks_find",
    );
}

#[test]
fn a_runtime_without_io_driver_is_refused() {
    let runtime = Builder::new_current_thread().build().unwrap();
    let error = TokioContext::of(runtime.handle()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("enable_io"), "{error}");
    assert!(runtime.block_on(async { current_context() }).is_none());
}

/// Says when it is dropped.
struct Held(Arc<AtomicUsize>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_runtime_that_shuts_down_drops_every_callback_and_takes_no_more() {
    watchdog::run("a_runtime_that_shuts_down_drops_every_callback_and_takes_no_more", || {
        for runtime in [current_thread_runtime(), two_workers_runtime()] {
            let handle = runtime.handle().clone();
            let context = TokioContext::of(&handle).unwrap();
            let dropped = Arc::new(AtomicUsize::new(0));
            let held = || Held(Arc::clone(&dropped));
            let (near, _far) = pair();
            let in_handler = held();
            let handler = callback(move || _ = &in_handler);
            context.set_fd_handler(&near, Direction::Read, Some(handler)).unwrap();
            let in_timer = held();
            let next_hour = Instant::now() + Duration::from_secs(3600);
            context.set_timer(next_hour, Box::new(move || drop(in_timer)));
            assert_eq!(dropped.load(Ordering::SeqCst), 0);
            drop(runtime);
            assert_eq!(dropped.load(Ordering::SeqCst), 2);
            assert_eq!(Arc::strong_count(&near), 1, "the descriptor is let go");

            let error = context.set_fd_handler(&near, Direction::Read, Some(callback(|| ()))).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Closed);
            context.set_fd_handler(&near, Direction::Read, None).unwrap();
            let (late, later) = (held(), held());
            context.schedule(Box::new(move || drop(late)));
            let timer = context.set_timer(next_hour, Box::new(move || drop(later)));
            context.clear_timer(timer);
            assert_eq!(dropped.load(Ordering::SeqCst), 4);
            assert_eq!(TokioContext::of(&handle).unwrap_err().kind(), ErrorKind::Closed);
        }
    });
}

#[test]
fn shutting_down_while_other_threads_use_the_context_disturbs_nobody() {
    watchdog::run("shutting_down_while_other_threads_use_the_context_disturbs_nobody", || {
        for round in 0..20 {
            let runtime = if round % 2 == 0 { current_thread_runtime() } else { two_workers_runtime() };
            let context = TokioContext::of(runtime.handle()).unwrap();
            let dropped = Arc::new(AtomicUsize::new(0));
            let over = Arc::new(AtomicBool::new(false));
            let made = Arc::new(Mutex::new(0));
            let threads = (0..3).map(|_| {
                let (context, over) = (Arc::clone(&context), Arc::clone(&over));
                let (dropped, made) = (Arc::clone(&dropped), Arc::clone(&made));
                thread::spawn(move || {
                    let (near, _far) = pair();
                    while !over.load(Ordering::SeqCst) {
                        let held = || Held(Arc::clone(&dropped));
                        let (a, b, c) = (held(), held(), held());
                        let handler = callback(move || _ = &a);
                        let _ = context.set_fd_handler(&near, Direction::Write, Some(handler));
                        context.schedule(Box::new(move || drop(b)));
                        let _ = context.set_timer(Instant::now() + Duration::from_secs(9), Box::new(move || drop(c)));
                        *made.lock().unwrap() += 3;
                    }
                })
            });
            let threads: Vec<_> = threads.collect();
            runtime.block_on(async {
                for _ in 0..50 {
                    tokio::task::yield_now().await;
                }
            });
            drop(runtime);
            over.store(true, Ordering::SeqCst);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!(dropped.load(Ordering::SeqCst), *made.lock().unwrap(), "nothing is kept");
        }
    });
}

#[test]
fn an_idle_context_takes_no_turns() {
    watchdog::run("an_idle_context_takes_no_turns", || {
        let runtime = current_thread_runtime();
        let context = TokioContext::of(runtime.handle()).unwrap();
        let (near, mut far) = pair();
        let fd = Arc::clone(&near);
        let drain = callback(move || _ = read_one(&fd));
        context.set_fd_handler(&near, Direction::Read, Some(drain)).unwrap();
        far.write_all(b"xyz").unwrap();
        let (passed, second) = oneshot::channel();
        let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        context.set_timer(Instant::now() + Duration::from_millis(500), Box::new(|| passed.send(()).unwrap()));
        runtime.block_on(second).unwrap();
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let spent = Duration::try_from(now).unwrap() - Duration::try_from(spent).unwrap();
        assert!(spent < Duration::from_millis(100), "{spent:?} of CPU time in half a second of idleness");
    });
}
