//! An event loop that a test drives by hand.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use channel_core::{AioContext, Callback, Direction, Error, Result, TimerId};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

/// An [`AioContext`] whose turns are taken by the test, on the thread it likes, and that remembers what was asked of it.
///
/// It is level-triggered; an error or a hang-up makes both directions ready. No lock is held while a callback runs or is
/// dropped. Callbacks may call it, and take turns of their own.
///
/// ```
/// use channel_core::{AioChange, AioHandler, Channel, ChannelExt, MemoryChannel};
/// use channel_testkit::recording::Recorder;
/// use std::time::Duration;
///
/// let (near, far) = MemoryChannel::pair()?;
/// let recorder = Recorder::new();
/// near.set_aio_fd_handler(AioChange::Set(AioHandler::new(recorder.clone(), || ())), AioChange::Keep)?;
/// assert_eq!(recorder.turn(Duration::ZERO)?, 0);
/// far.write_all(b"x")?;
/// assert_eq!(recorder.turn(Duration::ZERO)?, 1);
/// # Ok::<(), channel_core::Error>(())
/// ```
pub struct Recorder {
    state: Mutex<State>,
    /// Readable while something is scheduled, so that a turn under way on another thread notices.
    wake: OwnedFd,
}

#[derive(Default)]
struct State {
    handlers: Vec<Handler>,
    scheduled: VecDeque<Box<dyn FnOnce() + Send>>,
    timers: BTreeMap<(Instant, TimerId), Box<dyn FnOnce() + Send>>,
    timers_set: u64,
    calls: Vec<Recorded>,
    polls: u64,
}

#[derive(Clone)]
struct Handler {
    fd: Arc<OwnedFd>,
    direction: Direction,
    callback: Callback,
}

impl Handler {
    /// Whether `other` is this very registration, and not one that replaced it.
    fn is(&self, other: &Self) -> bool {
        self.direction == other.direction
            && Arc::ptr_eq(&self.fd, &other.fd)
            && Arc::ptr_eq(&self.callback, &other.callback)
    }
}

/// One call made to a [`Recorder`].
#[derive(Clone, Debug)]
pub enum Recorded {
    /// [`AioContext::set_fd_handler`] with a callback.
    Set(Weak<OwnedFd>, Direction),
    /// [`AioContext::set_fd_handler`] without one.
    Cleared(Weak<OwnedFd>, Direction),
    /// [`AioContext::schedule`].
    Scheduled,
    /// [`AioContext::set_timer`].
    TimerSet(Instant),
    /// [`AioContext::clear_timer`].
    TimerCleared,
}

impl Recorded {
    /// Whether the call set a handler for `direction` on exactly this descriptor.
    #[must_use]
    pub fn is_set_on(&self, fd: &Arc<OwnedFd>, direction: Direction) -> bool {
        matches!(self, Self::Set(on, towards) if *towards == direction && on.as_ptr() == Arc::as_ptr(fd))
    }

    /// The descriptor of a set or cleared handler, if its channel has not let go of it yet: the record alone keeps none open.
    #[must_use]
    pub fn fd(&self) -> Option<Arc<OwnedFd>> {
        match self {
            Self::Set(fd, _) | Self::Cleared(fd, _) => fd.upgrade(),
            Self::Scheduled | Self::TimerSet(_) | Self::TimerCleared => None,
        }
    }
}

impl Recorder {
    /// A loop that knows nothing yet.
    ///
    /// # Panics
    /// If no eventfd can be had.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).expect("an eventfd for the recorder");
        Arc::new(Self { state: Mutex::default(), wake })
    }

    /// One turn: waits up to `timeout` for something to do, does it, and says how many callbacks ran.
    ///
    /// Runs what was scheduled before the turn began or while it waited, then the timers that are due, then the handlers of the
    /// descriptors that are ready; a handler that an earlier one of the same turn cleared or replaced is not called.
    ///
    /// # Errors
    /// What poll(2) fails with.
    pub fn turn(&self, timeout: Duration) -> Result<usize> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            let ran = self.poll_once(deadline)?;
            if ran > 0 || deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Ok(ran);
            }
            // Woken by a change of the handlers alone: wait on with the new ones.
        }
    }

    fn poll_once(&self, deadline: Option<Instant>) -> Result<usize> {
        let (handlers, timer) = {
            let mut state = self.lock();
            state.polls += 1;
            (state.handlers.clone(), state.timers.keys().next().map(|(at, _)| *at))
        };
        let ready = self.poll(&handlers, [deadline, timer].into_iter().flatten().min())?;
        let scheduled = {
            let mut state = self.lock();
            let _ = rustix::io::read(&self.wake, &mut [0; 8]); // empty is fine: nothing was scheduled
            std::mem::take(&mut state.scheduled)
        };
        let mut ran = 0;
        for callback in scheduled {
            callback();
            ran += 1;
        }
        while let Some(callback) = self.due_timer() {
            callback();
            ran += 1;
        }
        for handler in handlers.iter().zip(ready).filter_map(|(handler, ready)| ready.then_some(handler)) {
            if self.lock().handlers.iter().any(|known| known.is(handler)) {
                (handler.callback)();
                ran += 1;
            }
        }
        Ok(ran)
    }

    fn due_timer(&self) -> Option<Box<dyn FnOnce() + Send>> {
        let mut state = self.lock();
        let first = state.timers.first_entry()?;
        (first.key().0 <= Instant::now()).then(|| first.remove())
    }

    /// Takes turns until `done` says so; `false` if `timeout` passed first.
    ///
    /// # Errors
    /// What poll(2) fails with.
    pub fn turn_until(&self, timeout: Duration, mut done: impl FnMut() -> bool) -> Result<bool> {
        let deadline = Instant::now() + timeout;
        while !done() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            self.turn(left)?;
        }
        Ok(true)
    }

    /// What a turn would call now, for the test to call when it likes: what was scheduled and the timers that are due, which are
    /// taken out, and the callbacks of the descriptors that are ready, which stay where they are. So does a loop on another thread
    /// that was interrupted before it got to call them: it does not look again whether they are still set.
    ///
    /// # Errors
    /// What poll(2) fails with.
    pub fn due(&self) -> Result<Vec<Box<dyn FnOnce() + Send>>> {
        let handlers = self.lock().handlers.clone();
        let ready = self.poll(&handlers, Some(Instant::now()))?;
        let mut due: Vec<Box<dyn FnOnce() + Send>> = std::mem::take(&mut self.lock().scheduled).into();
        due.extend(std::iter::from_fn(|| self.due_timer()));
        for (handler, _) in handlers.into_iter().zip(ready).filter(|(_, ready)| *ready) {
            due.push(Box::new(move || (handler.callback)()));
        }
        Ok(due)
    }

    /// How often it polled so far: what a loop that finds no rest does too often.
    #[must_use]
    pub fn polls(&self) -> u64 {
        self.lock().polls
    }

    /// How many callbacks are scheduled and have not run.
    #[must_use]
    pub fn scheduled(&self) -> usize {
        self.lock().scheduled.len()
    }

    /// How many timers are set.
    #[must_use]
    pub fn timers(&self) -> usize {
        self.lock().timers.len()
    }

    /// Every call made so far, oldest first.
    #[must_use]
    pub fn calls(&self) -> Vec<Recorded> {
        self.lock().calls.clone()
    }

    /// The descriptors that have a handler now, and for which direction.
    #[must_use]
    pub fn handlers(&self) -> Vec<(Arc<OwnedFd>, Direction)> {
        let state = self.lock();
        state.handlers.iter().map(|handler| (Arc::clone(&handler.fd), handler.direction)).collect()
    }

    /// Which of `handlers` are ready.
    fn poll(&self, handlers: &[Handler], deadline: Option<Instant>) -> Result<Vec<bool>> {
        let mut entries: Vec<PollFd<'_>> = handlers.iter().map(entry).collect();
        entries.push(PollFd::new(&self.wake, PollFlags::IN));
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let timeout = left.map(|left| Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            });
            match poll(&mut entries, timeout.as_ref()) {
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(Error::from_io(errno.into(), "recorder").during("poll")),
            }
        }
        entries.pop();
        Ok(entries.iter().map(|entry| !entry.revents().is_empty()).collect())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// poll(2) reports errors and hang-ups whatever is asked for.
fn entry(handler: &Handler) -> PollFd<'_> {
    let events = match handler.direction {
        Direction::Read => PollFlags::IN | PollFlags::RDHUP,
        Direction::Write => PollFlags::OUT,
    };
    PollFd::from_borrowed_fd(handler.fd.as_fd(), events)
}

impl AioContext for Recorder {
    fn set_fd_handler(&self, fd: &Arc<OwnedFd>, direction: Direction, callback: Option<Callback>) -> Result<()> {
        let mut state = self.lock();
        let weak = Arc::downgrade(fd);
        state.calls.push(if callback.is_some() {
            Recorded::Set(weak, direction)
        } else {
            Recorded::Cleared(weak, direction)
        });
        let known = state.handlers.iter().position(|known| known.direction == direction && Arc::ptr_eq(&known.fd, fd));
        let replaced = known.map(|at| state.handlers.swap_remove(at));
        if let Some(callback) = callback {
            state.handlers.push(Handler { fd: Arc::clone(fd), direction, callback });
        }
        // A turn that sleeps on another thread does not know of the change yet.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        drop(state);
        drop(replaced); // what a callback holds may do anything when it is dropped: not under the lock
        Ok(())
    }

    fn schedule(&self, callback: Box<dyn FnOnce() + Send>) {
        let mut state = self.lock();
        state.calls.push(Recorded::Scheduled);
        state.scheduled.push_back(callback);
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    fn set_timer(&self, deadline: Instant, callback: Box<dyn FnOnce() + Send>) -> TimerId {
        let mut state = self.lock();
        state.calls.push(Recorded::TimerSet(deadline));
        state.timers_set += 1;
        let id = TimerId(state.timers_set);
        state.timers.insert((deadline, id), callback);
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        id
    }

    fn clear_timer(&self, timer: TimerId) {
        let mut state = self.lock();
        state.calls.push(Recorded::TimerCleared);
        let known = state.timers.keys().find(|(_, id)| *id == timer).copied();
        let cleared = known.and_then(|key| state.timers.remove(&key));
        drop(state);
        drop(cleared); // what a callback holds may do anything when it is dropped: not under the lock
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Recorder")
            .field("handlers", &state.handlers.len())
            .field("scheduled", &state.scheduled.len())
            .field("timers", &state.timers.len())
            .finish_non_exhaustive()
    }
}
