//! Tasks of the event loop.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::IoSliceMut;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use channel_core::{
    AioChannel, AioContext, Callback, ChannelExt, Direction, ErrorKind, EventLoop, LoopHandle, MemoryChannel,
    ReadFlags, Task,
};
use channel_testkit::{child, watchdog};
use rustix::event::{EventfdFlags, eventfd};

/// Runs `test` over a new loop, inside the watchdog.
fn with_loop(name: &str, test: impl FnOnce(&EventLoop)) {
    watchdog::run(name, || test(&EventLoop::new().unwrap()));
}

/// Lets everybody else have a turn.
async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Something to wait for, given by another thread.
#[derive(Clone, Default)]
struct Gift(Arc<Mutex<(bool, Option<Waker>)>>);

impl Gift {
    fn give(&self) {
        let mut gift = self.0.lock().unwrap();
        gift.0 = true;
        let waker = gift.1.take();
        drop(gift);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn is_awaited(&self) -> bool {
        self.0.lock().unwrap().1.is_some()
    }
}

impl Future for Gift {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut gift = self.0.lock().unwrap();
        if gift.0 {
            return Poll::Ready(());
        }
        gift.1 = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// Says on which thread it was dropped.
struct DroppedOn(mpsc::Sender<ThreadId>);

impl Drop for DroppedOn {
    fn drop(&mut self) {
        let _ = self.0.send(thread::current().id());
    }
}

#[test]
fn tasks_are_spawned_from_any_thread_and_awaited_anywhere() {
    with_loop("tasks_are_spawned_from_any_thread_and_awaited_anywhere", |event_loop| {
        thread::scope(|scope| {
            let runner = scope.spawn(|| event_loop.run());
            thread::scope(|scope| {
                for number in 0..4 {
                    scope.spawn(move || {
                        let add = |index| async move {
                            yield_now().await;
                            number * 100 + index
                        };
                        let tasks: Vec<_> = (0..100).map(|index| event_loop.spawn(add(index))).collect();
                        let own = EventLoop::new().unwrap();
                        for (index, task) in (0..).zip(tasks) {
                            assert_eq!(own.block_on(task).unwrap().unwrap(), number * 100 + index);
                        }
                    });
                }
            });
            event_loop.handle().stop();
            runner.join().unwrap().unwrap();
        });
        // One task awaits another of the same loop.
        let inner = event_loop.handle();
        let pair = event_loop.spawn(async move { inner.spawn(async { 1 }).await.unwrap() + 1 });
        assert_eq!(event_loop.block_on(pair).unwrap().unwrap(), 2);
    });
}

#[test]
fn a_task_that_is_woken_often_is_polled_once() {
    with_loop("a_task_that_is_woken_often_is_polled_once", |event_loop| {
        let (polls, wakers) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(None::<Waker>)));
        let (count, own) = (polls.clone(), wakers.clone());
        let task = event_loop.spawn(poll_fn(move |cx| {
            count.fetch_add(1, Ordering::SeqCst);
            *own.lock().unwrap() = Some(cx.waker().clone());
            Poll::<()>::Pending
        }));
        assert_eq!(event_loop.run_once(None).unwrap(), 1);
        assert_eq!(event_loop.run_once(Some(Duration::ZERO)).unwrap(), 0);
        let waker = wakers.lock().unwrap().clone().unwrap();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10).for_each(|_| waker.wake_by_ref()));
            }
        });
        assert_eq!(event_loop.run_once(None).unwrap(), 1);
        assert_eq!(event_loop.run_once(Some(Duration::ZERO)).unwrap(), 0);
        assert_eq!(polls.load(Ordering::SeqCst), 2);
        drop(task);
    });
}

#[test]
fn a_task_that_wakes_itself_for_ever_starves_nobody() {
    with_loop("a_task_that_wakes_itself_for_ever_starves_nobody", |event_loop| {
        async fn for_ever() {
            loop {
                yield_now().await;
            }
        }
        let busy = event_loop.spawn(for_ever());
        let fd: Arc<OwnedFd> = Arc::new(eventfd(1, EventfdFlags::CLOEXEC).unwrap());
        let calls = Arc::new(AtomicUsize::new(0));
        let count = calls.clone();
        let callback: Callback = Arc::new(move || {
            let _ = count.fetch_add(1, Ordering::SeqCst);
        });
        event_loop.handle().set_fd_handler(&fd, Direction::Read, Some(callback)).unwrap();
        for turn in 1..=10 {
            assert_eq!(event_loop.run_once(None).unwrap(), 2);
            assert_eq!(calls.load(Ordering::SeqCst), turn);
        }
        // Nor does the future that is blocked on, though it is polled after every turn.
        let mut main = pin!(for_ever());
        let calls = &calls;
        let until = poll_fn(|cx| {
            assert!(main.as_mut().poll(cx).is_pending());
            if calls.load(Ordering::SeqCst) < 20 { Poll::Pending } else { Poll::Ready(()) }
        });
        event_loop.block_on(until).unwrap();
        drop(busy);
    });
}

#[test]
fn block_on_takes_a_future_that_borrows_and_stays_on_its_thread() {
    with_loop("block_on_takes_a_future_that_borrows_and_stays_on_its_thread", |event_loop| {
        let (text, count) = (String::from("borrowed"), Rc::new(Cell::new(0)));
        let task = event_loop.spawn(async { 1 });
        let own = Rc::clone(&count);
        let length = event_loop.block_on(async {
            own.set(task.await.unwrap());
            text.len()
        });
        assert_eq!((length.unwrap(), count.get()), (8, 1));
    });
}

#[test]
fn block_on_is_woken_by_another_thread_and_asks_only_when_woken() {
    with_loop("block_on_is_woken_by_another_thread_and_asks_only_when_woken", |event_loop| {
        let (gift, polls) = (Gift::default(), AtomicUsize::new(0));
        let giver = gift.clone();
        thread::scope(|scope| {
            scope.spawn(move || {
                while !giver.is_awaited() {
                    thread::yield_now();
                }
                // Nothing that the loop does on the way is a reason to poll.
                event_loop.handle().schedule(Box::new(move || drop(thread::spawn(move || giver.give()))));
            });
            let mut gift = gift.clone();
            let counted = poll_fn(|cx| {
                polls.fetch_add(1, Ordering::SeqCst);
                Pin::new(&mut gift).poll(cx)
            });
            event_loop.block_on(counted).unwrap();
        });
        assert_eq!(polls.load(Ordering::SeqCst), 2);
    });
}

#[test]
fn a_dropped_task_is_cancelled_on_the_thread_of_its_loop() {
    with_loop("a_dropped_task_is_cancelled_on_the_thread_of_its_loop", |event_loop| {
        let (noted, dropped) = mpsc::channel();
        let polled = Arc::new(AtomicBool::new(false));
        let task = |gift: Gift| {
            let (guard, polled) = (DroppedOn(noted.clone()), polled.clone());
            event_loop.spawn(async move {
                gift.await;
                polled.store(true, Ordering::SeqCst);
                drop(guard);
            })
        };
        // Waiting, and never polled at all.
        let gift = Gift::default();
        let (waiting, unpolled) = (task(gift.clone()), || task(Gift::default()));
        event_loop.run_once(None).unwrap();
        let unpolled = unpolled();
        thread::spawn(move || drop((waiting, unpolled))).join().unwrap();
        assert!(dropped.try_recv().is_err(), "not on the thread that dropped the handle");
        gift.give();
        assert_eq!(event_loop.run_once(None).unwrap(), 2);
        assert_eq!(dropped.try_iter().collect::<Vec<_>>(), [thread::current().id(); 2]);
        assert!(!polled.load(Ordering::SeqCst), "a cancelled task was polled");
    });
}

#[test]
fn cancel_waits_until_the_future_is_gone_and_gives_what_it_gave() {
    with_loop("cancel_waits_until_the_future_is_gone_and_gives_what_it_gave", |event_loop| {
        let (noted, dropped) = mpsc::channel();
        let guard = DroppedOn(noted);
        let waiting = event_loop.spawn(async move {
            let _guard = guard;
            std::future::pending::<u8>().await
        });
        event_loop.run_once(None).unwrap();
        assert!(!waiting.is_finished());
        assert_eq!(event_loop.block_on(waiting.cancel()).unwrap(), None);
        assert!(dropped.try_recv().is_ok());
        let done = event_loop.spawn(async { 5 });
        event_loop.run_once(None).unwrap();
        assert!(done.is_finished());
        assert_eq!(event_loop.block_on(done.cancel()).unwrap(), Some(5));
    });
}

#[test]
fn a_detached_task_goes_on() {
    with_loop("a_detached_task_goes_on", |event_loop| {
        let (gift, done) = (Gift::default(), Gift::default());
        let (given, said) = (gift.clone(), done.clone());
        event_loop
            .spawn(async move {
                given.await;
                said.give();
            })
            .detach();
        event_loop.run_once(None).unwrap();
        gift.give();
        event_loop.block_on(done).unwrap();
    });
}

#[test]
fn who_awaits_a_task_that_panicked_or_lost_its_loop_is_told() {
    fn closed(task: Task<()>) {
        let error = EventLoop::new().unwrap().block_on(task).unwrap().unwrap_err();
        assert_eq!((error.kind(), error.layer()), (ErrorKind::Closed, "event loop"));
    }
    with_loop("who_awaits_a_task_that_panicked_or_lost_its_loop_is_told", |event_loop| {
        let panics = event_loop.spawn(async { panic!("on purpose") });
        assert!(catch_unwind(AssertUnwindSafe(|| event_loop.run_once(None))).is_err());
        closed(panics);
        let lost = EventLoop::new().unwrap();
        let (gift, unpolled) = (Gift::default(), lost.spawn(async {}));
        lost.run_once(None).unwrap();
        let (waiting, scheduled) = (lost.spawn(gift.clone()), lost.spawn(async {}));
        drop(lost);
        EventLoop::new().unwrap().block_on(unpolled).unwrap().unwrap();
        closed(scheduled);
        closed(waiting);
    });
}

#[test]
fn a_task_that_waits_when_its_loop_goes_is_cancelled_with_it() {
    with_loop("a_task_that_waits_when_its_loop_goes_is_cancelled_with_it", |_| {
        let event_loop = EventLoop::new().unwrap();
        let gift = Gift::default();
        let waiting = event_loop.spawn(gift.clone());
        event_loop.run_once(None).unwrap();
        drop(event_loop);
        assert!(waiting.is_finished());
        gift.give(); // nobody is there any more
    });
}

#[test]
fn a_loop_is_freed_when_the_tasks_that_wait_for_channels_are_cancelled() {
    with_loop("a_loop_is_freed_when_the_tasks_that_wait_for_channels_are_cancelled", |_| {
        let event_loop = EventLoop::new().unwrap();
        let (near, _far) = MemoryChannel::pair().unwrap();
        let waiting = event_loop.spawn(async move { AioChannel::new(near).read(&mut [0]).await });
        event_loop.run_once(None).unwrap();
        assert!(event_loop.block_on(waiting.cancel()).unwrap().is_none());
        let weak = Arc::downgrade(&event_loop.handle());
        drop(event_loop);
        assert!(weak.upgrade().is_none());
    });
}

#[test]
fn a_future_may_spawn_and_set_timers_while_it_is_dropped() {
    struct Spawns(Arc<LoopHandle>);
    impl Drop for Spawns {
        fn drop(&mut self) {
            self.0.spawn(async {}).detach();
            self.0.set_timer(Instant::now(), Box::new(|| ()));
        }
    }
    with_loop("a_future_may_spawn_and_set_timers_while_it_is_dropped", |event_loop| {
        let guard = Spawns(event_loop.handle());
        drop(event_loop.spawn(async move { drop(guard) }));
        assert_eq!(event_loop.run_once(None).unwrap(), 1, "the future is dropped");
        assert_eq!(event_loop.run_once(None).unwrap(), 2, "what it left runs");
    });
}

/// Who lets go of it wakes those who wait under its lock, and who waits takes itself off the list when dropped: as async mutexes do.
#[derive(Default)]
struct Gate(Mutex<Vec<(usize, Waker)>>);

struct Open(Arc<Gate>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().iter().for_each(|(_, waker)| waker.wake_by_ref());
    }
}

struct Waits(Arc<Gate>, usize);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().retain(|(number, _)| *number != self.1);
    }
}

#[test]
fn a_loop_that_ends_drops_no_task_inside_of_what_wakes_it() {
    watchdog::run("a lock that tasks wait for", || {
        let (event_loop, gate) = (EventLoop::new().unwrap(), Arc::new(Gate::default()));
        for number in 1..100 {
            let waits = Waits(Arc::clone(&gate), number);
            let waiting = async move {
                let Waits(gate, number) = &waits;
                poll_fn::<(), _>(|cx| {
                    gate.0.lock().unwrap().push((*number, cx.waker().clone()));
                    Poll::Pending
                })
                .await;
            };
            event_loop.spawn(waiting).detach();
        }
        let open = Open(Arc::clone(&gate));
        let holding = async move {
            let _open = open;
            std::future::pending::<()>().await;
        };
        event_loop.spawn(holding).detach();
        event_loop.run_once(Some(Duration::ZERO)).unwrap();
        drop(event_loop);
        assert_eq!(gate.0.lock().unwrap().len(), 0);
    });
}

#[test]
fn a_loop_that_ends_has_room_for_a_long_chain_of_tasks() {
    child::run("a_loop_that_ends_has_room_for_a_long_chain_of_tasks", || {
        let event_loop = EventLoop::new().unwrap();
        let mut last = event_loop.spawn(std::future::pending::<()>());
        for _ in 0..50_000 {
            let before = last;
            last = event_loop.spawn(async move {
                let _ = before.await;
            });
        }
        last.detach();
        event_loop.run_once(Some(Duration::ZERO)).unwrap();
        drop(event_loop);
    });
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        std::panic::resume_unwind(Box::new("on purpose"));
    }
}

#[test]
fn what_panics_when_it_is_dropped_leaves_nothing_else_of_a_loop_that_ends() {
    for bomb_in in ["a timer", "a handler", "a callback"] {
        let (event_loop, held) = (EventLoop::new().unwrap(), Arc::new(()));
        for _ in 0..10 {
            let held = Arc::clone(&held);
            let holding = async move {
                let _held = held;
                std::future::pending::<()>().await;
            };
            event_loop.spawn(holding).detach();
        }
        event_loop.run_once(Some(Duration::ZERO)).unwrap();
        let (handle, bomb) = (event_loop.handle(), Bomb);
        let fd: Arc<OwnedFd> = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).unwrap());
        let callback = move || {
            let _bomb = &bomb;
        };
        match bomb_in {
            "a timer" => drop(handle.set_timer(Instant::now() + Duration::from_secs(1000), Box::new(callback))),
            "a handler" => handle.set_fd_handler(&fd, Direction::Read, Some(Arc::new(callback))).unwrap(),
            _ => handle.schedule(Box::new(callback)),
        }
        let ended = catch_unwind(AssertUnwindSafe(|| event_loop.shutdown()));
        assert_eq!(ended.unwrap_err().downcast_ref(), Some(&"on purpose"), "{bomb_in}");
        assert_eq!(Arc::strong_count(&held), 1, "{bomb_in}: the tasks are dropped all the same");
        let late = handle.spawn(async {});
        assert!(late.is_finished(), "{bomb_in}");
        late.detach();
    }
}

#[test]
fn a_task_that_panics_when_it_is_cancelled_ends_alone() {
    child::run("a_task_that_panics_when_it_is_cancelled_ends_alone", || {
        let event_loop = EventLoop::new().unwrap();
        let bomb = Bomb;
        let task = event_loop.spawn(async move {
            let _bomb = bomb;
            std::future::pending::<()>().await;
        });
        event_loop.run_once(Some(Duration::ZERO)).unwrap();
        drop(task);
        event_loop.run_once(Some(Duration::ZERO)).unwrap();
        assert_eq!(event_loop.block_on(async { 7 }).unwrap(), 7);
    });
}

#[test]
fn a_handler_whose_last_hold_panics_when_it_is_dropped_takes_no_turn_from_others() {
    let event_loop = EventLoop::new().unwrap();
    let fd: Arc<OwnedFd> = Arc::new(eventfd(1, EventfdFlags::CLOEXEC).unwrap());
    let (handle, bomb, of) = (event_loop.handle(), Bomb, Arc::clone(&fd));
    let callback: Callback = Arc::new(move || {
        let _bomb = &bomb;
        handle.set_fd_handler(&of, Direction::Read, None).unwrap(); // the loop alone holds it now
    });
    event_loop.handle().set_fd_handler(&fd, Direction::Read, Some(callback)).unwrap();
    let ran = Arc::new(AtomicBool::new(false));
    let runs = Arc::clone(&ran);
    event_loop.handle().set_timer(Instant::now(), Box::new(move || runs.store(true, Ordering::SeqCst)));
    catch_unwind(AssertUnwindSafe(|| event_loop.run_once(None))).unwrap_err();
    assert!(ran.load(Ordering::SeqCst), "the timer had its turn");
}

#[test]
fn a_task_reads_into_several_buffers_and_waits_only_if_it_may() {
    with_loop("readv_full", |event_loop| {
        let (near, far) = MemoryChannel::pair().unwrap();
        let near = AioChannel::new(near);
        let (mut first, mut second) = ([0; 2], [0; 8]);
        let mut bufs = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
        let at_once = event_loop.block_on(near.readv_full(&mut bufs, None, ReadFlags::DONT_WAIT)).unwrap();
        assert!(at_once.unwrap_err().is_would_block());
        let read = event_loop.block_on(async {
            let says = event_loop.spawn(async move { far.write_all(b"hello").map(|()| far) });
            let count = near.readv_full(&mut bufs, None, ReadFlags::empty()).await;
            says.await.and_then(|said| said).and(count)
        });
        assert_eq!(read.unwrap().unwrap(), 5);
        assert_eq!((&first, &second[..3]), (b"he", &b"llo"[..]));
    });
}
