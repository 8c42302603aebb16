//! When callbacks run, on a runtime that runs freely.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use channel_core::{AioContext, Direction, TokioContext};
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::{Notify, oneshot};

use crate::{callback, on_each, pair, read_one};

#[test]
fn a_handler_is_called_until_its_descriptor_is_drained() {
    on_each(
        |runtime, context| {
            let (near, mut far) = pair();
            let (read, mut reads) = unbounded_channel();
            let fd = Arc::downgrade(&near);
            let one = callback(move || read.send(read_one(&fd.upgrade().unwrap())).unwrap());
            context.set_fd_handler(&near, Direction::Read, Some(one)).unwrap();
            for burst in 1..=20 {
                far.write_all(&vec![0; burst]).unwrap();
                for _ in 0..burst {
                    assert_eq!(runtime.block_on(reads.recv()).unwrap(), Ok(1));
                }
            }
            drop(far); // the end makes it ready, again and again
            for _ in 0..3 {
                assert_eq!(runtime.block_on(reads.recv()).unwrap(), Ok(0));
            }
            context.set_fd_handler(&near, Direction::Read, None).unwrap();
        },
        "a_handler_is_called_until_its_descriptor_is_drained",
    );
}

#[test]
fn callbacks_of_many_threads_never_overlap_and_keep_their_order() {
    const THREADS: usize = 4;
    const EACH: usize = 2000;
    on_each(
        |runtime, context| {
            let inside = Arc::new(AtomicBool::new(false));
            let (ran, mut order) = unbounded_channel();
            let enter = {
                let inside = Arc::clone(&inside);
                move || {
                    assert!(!inside.swap(true, Ordering::SeqCst));
                    thread::yield_now();
                    inside.store(false, Ordering::SeqCst);
                }
            };
            // Two handlers that are always ready compete with what is scheduled.
            let (near, _far) = pair();
            let overlaps = Arc::new(AtomicUsize::new(0));
            for direction in [Direction::Read, Direction::Write] {
                let (inside, overlaps) = (Arc::clone(&inside), Arc::clone(&overlaps));
                let call = callback(move || {
                    if inside.swap(true, Ordering::SeqCst) {
                        overlaps.fetch_add(1, Ordering::SeqCst);
                    }
                    thread::yield_now();
                    inside.store(false, Ordering::SeqCst);
                });
                context.set_fd_handler(&near, direction, Some(call)).unwrap();
            }
            let threads = (0..THREADS).map(|thread| {
                let (context, ran, enter) = (Arc::clone(context), ran.clone(), enter.clone());
                thread::spawn(move || {
                    for number in 0..EACH {
                        let (ran, enter) = (ran.clone(), enter.clone());
                        context.schedule(Box::new(move || {
                            enter();
                            ran.send((thread, number)).unwrap();
                        }));
                    }
                })
            });
            let threads: Vec<_> = threads.collect();
            drop(ran);
            let mut next = [0; THREADS];
            while let Some((thread, number)) = runtime.block_on(order.recv()) {
                assert_eq!(number, next[thread]);
                next[thread] += 1;
            }
            assert_eq!(next, [EACH; THREADS], "a callback that overlaps panics, and is not counted");
            assert_eq!(overlaps.load(Ordering::SeqCst), 0);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        },
        "callbacks_of_many_threads_never_overlap_and_keep_their_order",
    );
}

#[test]
fn a_callback_that_schedules_itself_for_ever_leaves_other_tasks_their_turn() {
    fn again(context: &Arc<TokioContext>) {
        let weak = Arc::downgrade(context);
        context.schedule(Box::new(move || {
            if let Some(context) = weak.upgrade() {
                again(&context);
            }
        }));
    }
    on_each(
        |runtime, context| {
            again(context);
            let (near, mut far) = pair();
            far.write_all(b"x").unwrap();
            let called = Arc::new(Notify::new());
            let notify = Arc::clone(&called);
            context.set_fd_handler(&near, Direction::Read, Some(callback(move || notify.notify_one()))).unwrap();
            runtime.block_on(async {
                called.notified().await;
                tokio::spawn(async {}).await.unwrap();
            });
        },
        "a_callback_that_schedules_itself_for_ever_leaves_other_tasks_their_turn",
    );
}

#[test]
fn timers_run_in_the_order_of_their_deadlines_and_never_early() {
    on_each(
        |runtime, context| {
            let (ran, mut timers) = unbounded_channel();
            let start = Instant::now();
            // The first one set is the last one due, so that the sleep is cut short again and again.
            for number in (0..10u32).rev() {
                let deadline = start + Duration::from_micros(1500) * number;
                let ran = ran.clone();
                context.set_timer(deadline, Box::new(move || ran.send((number, deadline, Instant::now())).unwrap()));
            }
            let cleared = context.set_timer(start, Box::new(|| unreachable!("a timer that was cleared")));
            context.clear_timer(cleared);
            drop(ran);
            for expected in 0..10 {
                let (number, deadline, at) = runtime.block_on(timers.recv()).unwrap();
                assert_eq!(number, expected);
                assert!(at >= deadline, "{:?} early", deadline - at);
            }
            assert!(runtime.block_on(timers.recv()).is_none());
        },
        "timers_run_in_the_order_of_their_deadlines_and_never_early",
    );
}

#[test]
fn a_sleeping_runtime_notices_what_other_threads_set() {
    on_each(
        |runtime, context| {
            let (near, far) = pair();
            for round in 0..200 {
                let called = Arc::new(Notify::new());
                let (notify, context, near) = (Arc::clone(&called), Arc::clone(context), Arc::clone(&near));
                let mut far = far.try_clone().unwrap();
                let other = thread::spawn(move || match round % 3 {
                    0 => context.schedule(Box::new(move || notify.notify_one())),
                    1 => {
                        context.set_timer(Instant::now(), Box::new(move || notify.notify_one()));
                    }
                    _ => {
                        let (fd, weak) = (Arc::clone(&near), Arc::downgrade(&context));
                        let once = callback(move || {
                            read_one(&fd).unwrap();
                            weak.upgrade().unwrap().set_fd_handler(&fd, Direction::Read, None).unwrap();
                            notify.notify_one();
                        });
                        context.set_fd_handler(&near, Direction::Read, Some(once)).unwrap();
                        far.write_all(b"x").unwrap();
                    }
                });
                runtime.block_on(called.notified());
                other.join().unwrap();
            }
        },
        "a_sleeping_runtime_notices_what_other_threads_set",
    );
}

#[test]
fn a_panic_ends_one_call_and_nothing_else() {
    on_each(
        |runtime, context| {
            let (bad, mut far_bad) = pair();
            let (good, mut far_good) = pair();
            let called = Arc::new(Notify::new());
            let panics = Arc::new(AtomicUsize::new(0));
            let (notify, count) = (Arc::clone(&called), Arc::clone(&panics));
            far_bad.write_all(b"x").unwrap();
            far_good.write_all(b"x").unwrap();
            let fd = Arc::clone(&bad);
            let panicking = callback(move || {
                if count.fetch_add(1, Ordering::SeqCst) == 3 {
                    read_one(&fd).unwrap();
                }
                panic::resume_unwind(Box::new("a handler")); // as a panic, but silent
            });
            context.set_fd_handler(&bad, Direction::Read, Some(panicking)).unwrap();
            context.schedule(Box::new(|| panic::resume_unwind(Box::new("scheduled"))));
            context.set_timer(Instant::now(), Box::new(|| panic::resume_unwind(Box::new("a timer"))));
            let fd = Arc::clone(&good);
            let good_handler = callback(move || {
                if panics.load(Ordering::SeqCst) > 3 && read_one(&fd).is_ok() {
                    notify.notify_one();
                }
            });
            context.set_fd_handler(&good, Direction::Read, Some(good_handler)).unwrap();
            runtime.block_on(called.notified());
            for direction in [Direction::Read, Direction::Write] {
                context.set_fd_handler(&bad, direction, None).unwrap();
                context.set_fd_handler(&good, direction, None).unwrap();
            }
            let (ran, scheduled) = oneshot::channel();
            let later = Arc::clone(context);
            context.schedule(Box::new(move || {
                later.set_timer(Instant::now(), Box::new(move || ran.send(()).unwrap()));
            }));
            runtime.block_on(scheduled).unwrap();
        },
        "a_panic_ends_one_call_and_nothing_else",
    );
}

#[test]
fn a_file_is_refused_at_once_and_leaves_everything_as_it_was() {
    on_each(
        |runtime, context| {
            let file = Arc::new(OwnedFd::from(File::open("/proc/self/exe").unwrap()));
            let kept = Arc::new(());
            let holder = Arc::clone(&kept);
            let call = callback(move || drop(Arc::clone(&holder)));
            context.set_fd_handler(&file, Direction::Read, Some(call)).unwrap_err();
            assert_eq!((Arc::strong_count(&kept), Arc::strong_count(&file)), (1, 1), "nothing of it is kept");
            let (ran, scheduled) = oneshot::channel();
            context.schedule(Box::new(|| ran.send(()).unwrap()));
            runtime.block_on(scheduled).unwrap();
        },
        "a_file_is_refused_at_once_and_leaves_everything_as_it_was",
    );
}

#[test]
fn a_descriptor_may_be_polled_by_the_runtime_itself_too() {
    on_each(
        |runtime, context| {
            let (near, mut far) = UnixStream::pair().unwrap();
            near.set_nonblocking(true).unwrap();
            let same = Arc::new(OwnedFd::from(near.try_clone().unwrap()));
            runtime.block_on(async {
                let stream = tokio::net::UnixStream::from_std(near).unwrap();
                let called = Arc::new(Notify::new());
                let notify = Arc::clone(&called);
                context.set_fd_handler(&same, Direction::Read, Some(callback(move || notify.notify_one()))).unwrap();
                far.write_all(b"x").unwrap();
                called.notified().await;
                stream.readable().await.unwrap();
                context.set_fd_handler(&same, Direction::Read, None).unwrap();
            });
        },
        "a_descriptor_may_be_polled_by_the_runtime_itself_too",
    );
}

#[test]
fn a_descriptor_is_let_go_with_its_last_handler() {
    on_each(
        |_, context| {
            let (near, mut far) = pair();
            for direction in [Direction::Read, Direction::Write] {
                context.set_fd_handler(&near, direction, Some(callback(|| ()))).unwrap();
            }
            context.set_fd_handler(&near, Direction::Write, None).unwrap();
            let weak = Arc::downgrade(&near);
            context.set_fd_handler(&near, Direction::Read, None).unwrap();
            drop(near);
            assert!(weak.upgrade().is_none());
            assert_eq!(far.read(&mut [0; 1]).unwrap(), 0);
        },
        "a_descriptor_is_let_go_with_its_last_handler",
    );
}
