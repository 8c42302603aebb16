//! One end, and how its calls wait.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::case;
use channel_core::{AioChange, AioChannel, AioHandler, Attached, Channel, ChannelExt, Direction, LoopHandle, Result};

/// A channel, and how its calls wait.
pub(crate) struct Waiting {
    pub(crate) channel: Arc<dyn Channel>,
    way: Way,
}

enum Way {
    /// In the call, or for readiness.
    Calls,
    Handlers(Handlers),
    Tasks {
        task: AioChannel,
        attached: Mutex<(usize, Option<Attached>)>,
        loops: [Arc<LoopHandle>; 2],
    },
}

impl Waiting {
    /// `loops`, on threads of their own, are for those that wait on one.
    pub(crate) fn new(
        channel: Box<dyn Channel>,
        waits: case::Waits,
        loops: &[Arc<LoopHandle>; 2],
        fault: impl Fn(String) + Send + Sync + 'static,
    ) -> Result<Self> {
        let channel: Arc<dyn Channel> = Arc::from(channel);
        let way = match waits {
            case::Waits::Blocking | case::Waits::NonBlocking => Way::Calls,
            case::Waits::Handlers => Way::Handlers(Handlers::set(&*channel, loops.clone(), Arc::new(fault))?),
            case::Waits::Tasks => {
                let task = AioChannel::from_arc(Arc::clone(&channel));
                let attached = Mutex::new((0, Some(task.attach(loops[0].clone())?)));
                Way::Tasks { task, attached, loops: loops.clone() }
            }
        };
        channel.set_blocking(waits == case::Waits::Blocking);
        Ok(Self { channel, way })
    }

    /// Runs `attempt` until it gives anything but would-block, waiting in between.
    pub(crate) fn run<T>(&self, direction: Direction, mut attempt: impl FnMut(&dyn Channel) -> Result<T>) -> Result<T> {
        match &self.way {
            Way::Calls => loop {
                match attempt(&*self.channel) {
                    Err(error) if error.is_would_block() => self.channel.wait(direction, None)?,
                    done => return done,
                };
            },
            Way::Handlers(handlers) => loop {
                let seen = handlers.calls.count(direction);
                if direction == Direction::Read {
                    handlers.calls.before_read.store(seen, Ordering::SeqCst);
                }
                match attempt(&*self.channel) {
                    Err(error) if error.is_would_block() => handlers.calls.wait(direction, seen),
                    done => return done,
                }
            },
            Way::Tasks { task, .. } => block_on(task.drive(direction, attempt)),
        }
    }

    /// Waits until a read can make progress, after another one has; says nothing of the blocking mode, where the read waits itself.
    pub(crate) fn until_readable(&self) -> Result<()> {
        match &self.way {
            Way::Calls => self.channel.wait(Direction::Read, None).map(drop),
            Way::Handlers(handlers) => {
                handlers.calls.wait(Direction::Read, handlers.calls.before_read.load(Ordering::SeqCst));
                Ok(())
            }
            Way::Tasks { task, .. } => block_on(task.ready(Direction::Read)),
        }
    }

    /// [`Channel::close`], or `close_by`, however it waits; `began` is called where it had to.
    pub(crate) fn close(&self, within: Option<Duration>, began: impl Fn()) -> Result<()> {
        let deadline = within.map(|within| Instant::now() + within);
        let attempt = |channel: &dyn Channel| match deadline {
            Some(deadline) => channel.close_by(deadline),
            None => channel.close(),
        };
        if let Way::Tasks { task, .. } = &self.way {
            if deadline.is_some() {
                // Tasks have no `close_by`: the first attempt sets the deadline for all.
                match attempt(&*self.channel) {
                    Err(error) if error.is_would_block() => began(),
                    closed => return closed,
                }
            }
            return block_on(task.close());
        }
        self.run(Direction::Write, |channel| {
            let closed = attempt(channel);
            if matches!(&closed, Err(error) if error.is_would_block()) {
                began();
            }
            closed
        })
    }

    /// Moves the channel to the other loop, unless the other thread is at it.
    pub(crate) fn change_loop(&self) -> Result<()> {
        match &self.way {
            Way::Calls => Ok(()),
            Way::Handlers(handlers) => handlers.change_loop(&*self.channel),
            Way::Tasks { attached, loops, .. } => {
                let Some(mut attached) = try_lock(attached) else { return Ok(()) };
                let (at, guard) = &mut *attached;
                let Some(guard_now) = guard.take() else { return Ok(()) };
                match guard_now.detach() {
                    Ok(detached) => {
                        *at = 1 - *at;
                        *guard = Some(detached.attach(loops[*at].clone()));
                        Ok(())
                    }
                    Err(failed) => {
                        *guard = Some(failed.attached);
                        Err(failed.error)
                    }
                }
            }
        }
    }
}

/// The handlers of both directions.
struct Handlers {
    calls: Arc<Calls>,
    loops: [Arc<LoopHandle>; 2],
    /// The loop they are on, and whether they have been removed from it.
    at: Mutex<(usize, Arc<AtomicBool>)>,
    fault: Fault,
}

type Fault = Arc<dyn Fn(String) + Send + Sync>;

impl Handlers {
    fn set(channel: &dyn Channel, loops: [Arc<LoopHandle>; 2], fault: Fault) -> Result<Self> {
        let this = Self { calls: Arc::default(), loops, at: Mutex::default(), fault };
        let gone = Arc::clone(&lock(&this.at).1);
        this.put(channel, 0, &gone)?;
        Ok(this)
    }

    fn put(&self, channel: &dyn Channel, at: usize, gone: &Arc<AtomicBool>) -> Result<()> {
        let handler = |direction| {
            let told = Told { calls: Arc::clone(&self.calls), direction };
            let (gone, fault) = (Arc::clone(gone), Arc::clone(&self.fault));
            let callback = move || {
                if gone.load(Ordering::SeqCst) {
                    fault("H7: a handler of the old loop ran after `Removed::wait` had returned".to_owned());
                }
                told.calls.add(told.direction);
            };
            AioChange::Set(AioHandler::new(self.loops[at].clone(), callback))
        };
        drop(channel.set_aio_fd_handler(handler(Direction::Read), handler(Direction::Write))?);
        Ok(())
    }

    fn change_loop(&self, channel: &dyn Channel) -> Result<()> {
        let Some(mut at) = try_lock(&self.at) else { return Ok(()) };
        channel.set_aio_fd_handler(AioChange::Clear, AioChange::Clear)?.wait()?;
        at.1.store(true, Ordering::SeqCst);
        *at = (1 - at.0, Arc::default());
        self.put(channel, at.0, &at.1)
    }
}

/// What a handler holds: that it was let go of is news, too.
struct Told {
    calls: Arc<Calls>,
    direction: Direction,
}

impl Drop for Told {
    fn drop(&mut self) {
        self.calls.add(self.direction);
    }
}

/// How often the handler of each direction was called.
#[derive(Default)]
struct Calls {
    counts: Mutex<[u64; 2]>,
    /// What it was for reading, before the last attempt of a read.
    before_read: AtomicU64,
    changed: Condvar,
}

impl Calls {
    fn count(&self, direction: Direction) -> u64 {
        lock(&self.counts)[direction as usize]
    }

    fn add(&self, direction: Direction) {
        lock(&self.counts)[direction as usize] += 1;
        self.changed.notify_all();
    }

    fn wait(&self, direction: Direction, seen: u64) {
        let mut counts = lock(&self.counts);
        while counts[direction as usize] == seen {
            counts = self.changed.wait(counts).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Runs `future` on this thread.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(done) => return done,
            Poll::Pending => thread::park(),
        }
    }
}

/// A panic elsewhere is the fault that is reported, not the lock it left.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}
