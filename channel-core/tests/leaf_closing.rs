//! A leaf whose `close` has to wait, as that of a child process does which has yet to end.

mod support;

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use channel_core::leaf::{Leaf, LeafChannel};
use channel_core::{
    AioChange, AioChannel, AioHandler, Channel, ChannelExt, Direction, Error, ErrorKind, EventLoop, Features, Interest,
    Layered, Limits, ReadFlags, Result, WriteFlags,
};
use channel_testkit::asleep::asleep;
use channel_testkit::recording::Recorder;
use channel_testkit::watchdog;
use rustix::event::{EventfdFlags, eventfd};
use support::Plain;

/// It takes nothing, gives nothing, and ends when it is told to.
#[derive(Debug)]
struct Child {
    linger: Duration,
    silent: Arc<OwnedFd>,
    ended: Arc<OwnedFd>,
    closes: AtomicUsize,
    /// How many of its ends are not the last.
    steps: AtomicUsize,
}

fn event() -> Arc<OwnedFd> {
    Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap())
}

fn end(child: &LeafChannel<Child>) {
    rustix::io::write(&child.leaf().ended, &1_u64.to_ne_bytes()).unwrap();
}

fn child(linger: Duration) -> LeafChannel<Child> {
    let child =
        Child { linger, silent: event(), ended: event(), closes: AtomicUsize::new(0), steps: AtomicUsize::new(0) };
    LeafChannel::new(child)
}

const LONG: Duration = Duration::from_secs(1000);
const SHORT: Duration = Duration::from_millis(50);

impl Leaf for Child {
    fn layer(&self) -> &'static str {
        "child"
    }

    fn features(&self) -> Features {
        Features::empty()
    }

    fn why_not(&self, _: Features) -> &'static str {
        "it is a child"
    }

    fn try_read(&self, _: &mut [IoSliceMut<'_>], _: Option<&mut Vec<OwnedFd>>, _: ReadFlags) -> Result<usize> {
        Err(Error::WOULD_BLOCK)
    }

    fn try_write(&self, _: &[IoSlice<'_>], _: &[BorrowedFd<'_>], _: WriteFlags) -> Result<usize> {
        Err(Error::WOULD_BLOCK)
    }

    fn polled(&self, direction: Direction) -> Option<Interest> {
        let closes = self.closes.load(Ordering::SeqCst) > 0 && direction == Direction::Write;
        let fd = if closes { &self.ended } else { &self.silent };
        Some(Interest { fd: Arc::clone(fd), direction: Direction::Read })
    }

    fn linger(&self) -> Duration {
        self.linger
    }

    fn close(&self, deadline: Instant) -> Result<()> {
        self.closes.fetch_add(1, Ordering::SeqCst);
        match rustix::io::read(&self.ended, &mut [0; 8]) {
            Ok(_) if self.steps.swap(0, Ordering::SeqCst) > 0 => Err(Error::WOULD_BLOCK),
            Ok(_) => Ok(()),
            Err(_) if deadline <= Instant::now() => Err(Error::new(ErrorKind::TimedOut, "child", "it was killed")),
            Err(_) => Err(Error::WOULD_BLOCK),
        }
    }
}

#[test]
fn all_who_close_wait_for_it_and_who_reads_is_told_at_once() {
    watchdog::run("all_who_close_wait_for_it_and_who_reads_is_told_at_once", || {
        let child = child(LONG);
        thread::scope(|scope| {
            let reader = asleep(scope, || child.read(&mut [0; 8]));
            let closers = [(); 2].map(|()| asleep(scope, || child.close()));
            assert!(reader.join().unwrap().unwrap_err().is_closed());
            assert!(child.write(b"x").unwrap_err().is_closed());
            assert!(closers.iter().all(|closer| !closer.is_finished()));
            end(&child);
            closers.into_iter().for_each(|closer| closer.join().unwrap().unwrap());
        });
        child.close().unwrap();
        let more = child.leaf().closes.load(Ordering::SeqCst);
        child.close_by(Instant::now()).unwrap();
        assert_eq!(child.leaf().closes.load(Ordering::SeqCst), more, "it was closed again");
    });
}

#[test]
fn what_it_comes_to_when_the_time_has_passed_is_the_result_for_everybody() {
    for blocking in [true, false] {
        let child = child(if blocking { SHORT } else { LONG });
        child.set_blocking(blocking);
        if !blocking {
            assert!(child.close().unwrap_err().is_would_block());
            assert!(child.close_by(Instant::now() + SHORT).unwrap_err().is_would_block());
            assert!(child.wait(Direction::Write, Some(LONG)).unwrap(), "the earliest deadline counts");
        }
        for _ in 0..2 {
            let error = child.close().unwrap_err();
            assert!(error.is_timed_out() && error.to_string().contains("killed"), "{error}");
            assert_eq!(error.operation(), "close");
        }
    }
}

#[test]
fn handlers_are_called_when_closing_can_go_on() {
    watchdog::run("handlers_are_called_when_closing_can_go_on", || [false, true].into_iter().for_each(handlers_of));
}

fn handlers_of(passes: bool) {
    let child = child(if passes { SHORT } else { LONG });
    child.set_blocking(false);
    let recorder = Recorder::new();
    let counts = [(); 3].map(|()| Arc::new(AtomicUsize::new(0)));
    let [read, write, closer] = counts.each_ref().map(|count| {
        let count = Arc::clone(count);
        AioHandler::new(recorder.clone(), move || {
            count.fetch_add(1, Ordering::SeqCst);
        })
    });
    child.set_aio_fd_handler(AioChange::Set(read.clone()), AioChange::Set(write)).unwrap();
    assert_eq!(recorder.turn(Duration::ZERO).unwrap(), 0);
    assert!(child.close().unwrap_err().is_would_block());
    assert!(child.set_aio_fd_handler(AioChange::Set(read), AioChange::Keep).unwrap_err().is_closed());
    child.set_aio_fd_handler(AioChange::Keep, AioChange::Closer(closer)).unwrap();
    let calls = || counts.each_ref().map(|count| count.load(Ordering::SeqCst));
    assert!(recorder.turn_until(LONG, || calls().iter().all(|calls| *calls > 0)).unwrap(), "all are told at once");
    if !passes {
        end(&child);
    }
    let due = || calls()[1..].iter().all(|calls| *calls > 1);
    assert!(recorder.turn_until(LONG, due).unwrap(), "handlers that wait for the end of closing were not called");
    assert_eq!(calls()[0], 1, "calls of who reads, of a channel that is closed");
    assert_eq!(child.close().is_ok(), !passes);
    assert!(recorder.handlers().is_empty(), "what is closed lets go of its handlers");
    let refused = child.set_aio_fd_handler(AioChange::Keep, AioChange::Keep);
    assert!(refused.unwrap_err().is_closed());
}

/// Each step is an event of its own, and there are more than a handler that calls nothing would be called for.
#[test]
fn a_close_of_many_steps_is_told_of_each_and_whoever_is_left_hears_of_it() {
    watchdog::run("a_close_of_many_steps_is_told_of_each", || {
        let child = Arc::new(child(LONG));
        child.set_blocking(false);
        assert!(child.close().unwrap_err().is_would_block());
        let recorders = [Recorder::new(), Recorder::new()];
        let calls = [Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0))];
        let [first, second] = [0, 1].map(|at| {
            let (child, calls) = (Arc::downgrade(&child), Arc::clone(&calls[at]));
            AioHandler::new(recorders[at].clone(), move || {
                calls.fetch_add(1, Ordering::SeqCst);
                if let Some(child) = child.upgrade() {
                    let _ = child.close();
                }
            })
        });
        for closer in [&first, &second] {
            drop(child.set_aio_fd_handler(AioChange::Keep, AioChange::Closer(closer.clone())).unwrap());
        }
        drop(child.set_aio_fd_handler(AioChange::Keep, AioChange::Release(second)).unwrap());
        while recorders[0].turn(Duration::ZERO).unwrap() > 0 {}
        for step in 1..5 {
            child.leaf().steps.store(1, Ordering::SeqCst);
            let before = calls[0].load(Ordering::SeqCst);
            end(&child);
            let called = || calls[0].load(Ordering::SeqCst) > before;
            assert!(recorders[0].turn_until(LONG, called).unwrap(), "step {step}");
            while recorders[0].turn(Duration::ZERO).unwrap() > 0 {}
        }
        assert!(child.close().unwrap_err().is_would_block());
        end(&child);
        child.close().unwrap();
        assert_eq!(calls[1].load(Ordering::SeqCst), 0, "calls of one that was released");
    });
}

#[test]
fn tasks_wait_for_it() {
    watchdog::run("tasks_wait_for_it", || {
        let event_loop = EventLoop::new().unwrap();
        let child = Arc::new(child(LONG));
        let closing = Arc::new(AioChannel::from_arc(child.clone()));
        let tasks = [(); 2].map(|()| {
            let closing = Arc::clone(&closing);
            event_loop.handle().spawn(async move { closing.close().await })
        });
        while event_loop.run_once(Some(Duration::ZERO)).unwrap() > 0 {}
        assert!(child.leaf().closes.load(Ordering::SeqCst) >= 2 && !tasks.iter().any(|task| task.is_finished()));
        end(&child);
        for task in tasks {
            event_loop.block_on(task).unwrap().unwrap().unwrap();
        }
    });
}

#[test]
fn a_task_that_closes_a_layer_over_it_goes_on_when_it_can() {
    watchdog::run("a layer over a leaf that closes slowly", || {
        let child = Arc::new(child(LONG));
        let limits = Limits { linger: LONG, ..Limits::default() };
        let over = Layered::open("plain", Box::new(Arc::clone(&child)), Plain, Plain, limits).unwrap();
        let (over, event_loop) = (AioChannel::new(over), EventLoop::new().unwrap());
        let closing = event_loop.spawn(async move { over.close().await });
        while event_loop.run_once(Some(Duration::ZERO)).unwrap() > 0 {}
        end(&child);
        event_loop.block_on(closing).unwrap().unwrap().unwrap();
    });
}
