//! The event loop that ships.
//!
//! * `poller`: descriptors, their handlers, and epoll.
//! * `inbox`: what any thread may leave for the loop, and how it is woken.
//! * `timers`: callbacks that wait for their time.
//! * `executor`: tasks.
//! * `guest`: the loop inside another one.

mod executor;
#[cfg(feature = "tokio")]
mod guest;
mod inbox;
mod poller;
mod timers;

use std::any::Any;
use std::fmt;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use rustix::event::epoll::Event;
use rustix::io::Errno;

pub use executor::Task;

use self::inbox::{Inbox, Until, Work};
use self::poller::Poller;
use super::{EnteredContext, enter_context};
use crate::{AioContext, Callback, Direction, Error, ErrorKind, Result, TimerId};

/// The event loop of this crate: descriptors, timers, callbacks from any thread, and tasks.
///
/// This is its owner: one thread at a time runs it, with [`run`](Self::run), [`run_once`](Self::run_once) or
/// [`block_on`](Self::block_on). What channels hold, and any thread may use meanwhile, is its [`handle`](Self::handle). It is
/// level-triggered epoll(7) with an eventfd(2) to wake it; a turn costs what is ready, and a loop with nothing to do sleeps in one
/// epoll_wait(2).
///
/// ```
/// use channel_core::{AioChange, AioHandler, Channel, ChannelExt, EventLoop, MemoryChannel};
/// use std::sync::Arc;
///
/// let event_loop = EventLoop::new()?;
/// let (near, far) = MemoryChannel::pair()?;
/// let near = Arc::new(near);
/// near.set_blocking(false);
///
/// let (channel, handle) = (near.clone(), event_loop.handle()); // a cycle, which `close` below ends; or see `Arc::downgrade`
/// let handler = AioHandler::new(event_loop.handle(), move || {
///     let mut heard = [0; 16];
///     match channel.read(&mut heard) {
///         Ok(count) => assert_eq!(&heard[..count], b"hello"),
///         Err(error) => assert!(error.is_would_block()),
///     }
///     handle.stop();
/// });
/// near.set_aio_fd_handler(AioChange::Set(handler), AioChange::Keep)?;
///
/// far.write_all(b"hello")?;
/// event_loop.run()?; // until a handler says stop
/// near.close()?; // lets go of the handler, which holds the channel
/// # Ok::<(), channel_core::Error>(())
/// ```
///
/// # A turn
/// 1. It sleeps in epoll_wait(2) until something is ready or due, unless something is scheduled already.
/// 2. The handlers of the descriptors that are ready are called.
/// 3. The timers that are due run, in the order of their deadlines.
/// 4. What was scheduled before this point runs, callbacks and woken tasks in the order they came; what these schedule, and a task
///    that wakes itself, wait for the next turn, which then does not sleep. So none of the four starves another.
///
/// While it runs, the loop is the [`current_context`](crate::current_context) of its thread.
///
/// # Panics of callbacks
/// A callback or a task that panics unwinds out of the call that runs the loop, at the end of the turn: the others get theirs first. Of
/// several that panic in a turn the first one does; the panic hook has told of each. The loop is as good as before.
///
/// # Who keeps whom
/// The owner keeps the tasks, detached ones too, and the callbacks that are set, scheduled or waiting for their time. Dropping it, or
/// [`shutdown`](Self::shutdown), cancels and drops them all, watches that were forgotten among them; a channel that goes with them goes abruptly
/// [[S4]]. From then on setting a handler fails with [`Closed`](ErrorKind::Closed), and what is scheduled, spawned or set on a timer is
/// dropped at once.
///
/// A handler set on a channel is the channel's, and holds the handle alone, which keeps nothing running. When the loop has gone it is called no
/// more, and is freed when it is cleared or its channel is closed or dropped; one that holds the very channel it is set on is for its owner to
/// clear.
#[doc = channel_core::promises!(S4)]
pub struct EventLoop {
    handle: Arc<LoopHandle>,
}

/// What channels and other threads hold of an [`EventLoop`]: the loop as an [`AioContext`].
///
/// It does not keep the loop going: once the owner has gone, or has shut it down, everything left here is dropped at once.
pub struct LoopHandle {
    poller: Poller,
    inbox: Arc<Inbox>,
    /// The thread that runs the loop now.
    runner: Mutex<Option<ThreadId>>,
}

impl EventLoop {
    /// A loop that nobody runs yet. It has two descriptors of its own, an epoll(7) instance and an eventfd(2).
    ///
    /// # Errors
    /// Where they cannot be had (`EMFILE`, `ENFILE`, `ENOMEM`).
    pub fn new() -> Result<Self> {
        Ok(Self { handle: LoopHandle::new()? })
    }

    /// The loop as channels and other threads hold it.
    #[must_use]
    pub fn handle(&self) -> Arc<LoopHandle> {
        Arc::clone(&self.handle)
    }

    /// Takes one turn: waits until there is something to do, does it, and says how many callbacks and tasks ran.
    ///
    /// `Some(Duration::ZERO)` does not wait, and `None` waits for ever. 0 means that the time has passed.
    ///
    /// # Errors
    /// [`Busy`](ErrorKind::Busy) while another thread runs the loop, [`WouldDeadlock`](ErrorKind::WouldDeadlock) inside one of its
    /// callbacks or tasks, and what epoll_wait(2) fails with; an interrupted one goes on.
    ///
    /// # Panics
    /// If a callback or a task does; the loop can be run again.
    pub fn run_once(&self, timeout: Option<Duration>) -> Result<usize> {
        let _running = self.handle.begin("run_once")?;
        self.handle.turn(&Until::Something, timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
    }

    /// Takes turns until [`stop`](LoopHandle::stop).
    ///
    /// # Errors
    /// As [`run_once`](Self::run_once).
    ///
    /// # Panics
    /// As [`run_once`](Self::run_once).
    pub fn run(&self) -> Result<()> {
        let _running = self.handle.begin("run")?;
        while !self.handle.inbox.take_stop() {
            self.handle.turn(&Until::Stopped, None)?;
        }
        Ok(())
    }

    /// Ends the loop, as dropping it does: cancels its tasks and drops all that is set on it, scheduled or waiting for its time. What that
    /// runs (destructors, and tasks that await cancelled ones) finds the loop closed.
    pub fn shutdown(self) {
        drop(self);
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        self.handle.close();
    }
}

impl fmt::Debug for EventLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt_as("EventLoop", f)
    }
}

impl LoopHandle {
    pub(super) fn new() -> Result<Arc<Self>> {
        let inbox = Arc::new(Inbox::new()?);
        let poller = Poller::new(inbox.wake_fd())?;
        Ok(Arc::new(Self { poller, inbox, runner: Mutex::default() }))
    }

    /// Makes [`EventLoop::run`] return, when the turn under way is over; if nobody runs the loop, the next `run` returns at once.
    /// Several calls before `run` returns count as one. Any thread may call this; it never blocks.
    pub fn stop(&self) {
        self.inbox.stop();
    }

    /// Makes the calling thread the one that runs the loop.
    fn begin(self: &Arc<Self>, operation: &'static str) -> Result<Running<'_>> {
        let us = thread::current().id();
        let mut runner = self.runner();
        match *runner {
            None => *runner = Some(us),
            Some(thread) if thread == us => {
                let detail = "this thread is inside the loop already";
                return Err(Error::new(ErrorKind::WouldDeadlock, LAYER, detail).of_part().during(operation));
            }
            Some(_) => {
                let detail = "another thread runs the loop";
                return Err(Error::new(ErrorKind::Busy, LAYER, detail).of_part().during(operation));
            }
        }
        drop(runner);
        Ok(Running { handle: self, _entered: enter_context(Arc::clone(self) as Arc<dyn AioContext>) })
    }

    /// Turns until something has run, the deadline has passed, or what `until` says has happened; how much ran.
    fn turn(&self, until: &Until<'_>, deadline: Option<Instant>) -> Result<usize> {
        loop {
            let timeout = self.inbox.fall_asleep(until, deadline);
            let mut space = poller::batch();
            let ready = self.poller.wait(&mut space, timeout);
            let over = self.inbox.wake_up(until);
            let mut panics = Panics::default();
            let ran =
                self.call_handlers(ready?, &mut panics) + self.run_timers(&mut panics) + self.run_work(&mut panics);
            panics.resume();
            if ran > 0 || over || deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Ok(ran);
            }
        }
    }

    fn call_handlers(&self, ready: &[Event], panics: &mut Panics) -> usize {
        let mut called = 0;
        self.poller.begin_batch();
        for event in ready {
            for direction in [Direction::Read, Direction::Write] {
                if let Some(callback) = self.poller.handler(event, direction) {
                    panics.catch(move || callback()); // and drops it, which may panic as well
                    called += 1;
                }
            }
        }
        called
    }

    fn run_timers(&self, panics: &mut Panics) -> usize {
        let mut ran = 0;
        self.inbox.expire_timers();
        while let Some(callback) = self.inbox.next_due() {
            panics.catch(callback);
            ran += 1;
        }
        ran
    }

    fn run_work(&self, panics: &mut Panics) -> usize {
        let count = self.inbox.waiting();
        for _ in 0..count {
            match self.inbox.next() {
                Some(Work::Callback(callback)) => panics.catch(callback),
                Some(Work::Task(task)) => panics.catch(|| {
                    task.run();
                }),
                None => {}
            }
        }
        count
    }

    /// Nobody runs the loop any more: drops all that is set, scheduled or waiting for its time, and what comes.
    pub(super) fn close(&self) {
        let mut panics = Panics::default();
        self.poller.close(&mut panics);
        self.inbox.close();
        panics.resume();
    }

    fn runner(&self) -> MutexGuard<'_, Option<ThreadId>> {
        // Nothing that can panic runs under this lock.
        self.runner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AioContext for LoopHandle {
    fn set_fd_handler(&self, fd: &Arc<OwnedFd>, direction: Direction, callback: Option<Callback>) -> Result<()> {
        self.poller.set(fd, direction, callback)
    }

    fn schedule(&self, callback: Box<dyn FnOnce() + Send>) {
        self.inbox.push(Work::Callback(callback));
    }

    /// Up to a millisecond late, which is what epoll_wait(2) can tell apart.
    fn set_timer(&self, deadline: Instant, callback: Box<dyn FnOnce() + Send>) -> TimerId {
        self.inbox.set_timer(deadline, callback)
    }

    fn clear_timer(&self, timer: TimerId) {
        self.inbox.clear_timer(timer);
    }
}

impl fmt::Debug for LoopHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_as("LoopHandle", f)
    }
}

impl LoopHandle {
    fn fmt_as(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheduled, timers) = self.inbox.counts();
        f.debug_struct(name)
            .field("descriptors", &self.poller.count())
            .field("scheduled", &scheduled)
            .field("timers", &timers)
            .finish_non_exhaustive()
    }
}

/// The first panic of a turn, which unwinds when the turn is over.
#[derive(Default)]
struct Panics(Option<Box<dyn Any + Send>>);

impl Panics {
    /// Whether what a callback left behind is whole is for the next one to see, as it is with threads.
    fn catch(&mut self, callback: impl FnOnce()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(callback)) {
            self.0.get_or_insert(panic);
        }
    }

    fn resume(self) {
        if let Some(panic) = self.0 {
            resume_unwind(panic);
        }
    }
}

/// The calling thread runs the loop, until this is dropped.
struct Running<'a> {
    handle: &'a LoopHandle,
    _entered: EnteredContext,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        *self.handle.runner() = None;
    }
}

/// What errors call the loop.
const LAYER: &str = "event loop";

fn failed(errno: Errno, operation: &'static str) -> Error {
    Error::from_io(errno.into(), LAYER).of_part().during(operation)
}
