//! The handlers of a leaf channel, which lie on its descriptor.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::{AioChange, AioHandler, Callback, Registration, Removed, Timer};
use crate::{Direction, Error, ErrorKind, Interest, Result};

/// The two handlers of a leaf channel, one per direction, kept so that they can be changed and cleared.
///
/// A leaf calls [`change`](Self::change) in its `set_aio_fd_handler`, [`called`](Self::called) at the end of each read and write, and
/// [`clear`](Self::clear) when it closes; dropping this clears, too.
///
/// # No spin
/// A level-triggered loop calls a handler as long as its descriptor is ready, and a hang-up makes that for ever. So a handler
/// that was called twice although nobody called the channel in between is taken off the loop until somebody does (twice,
/// because a handler may wake a task whose call comes a moment later), and one whose direction is over is taken off until a
/// call shows that it goes on.
#[derive(Debug, Default)]
pub struct FdHandlers {
    read: Mutex<Option<Arc<OnFd>>>,
    write: Mutex<Option<Arc<OnFd>>>,
    /// Those that are never called.
    held: Mutex<Vec<AioHandler>>,
    /// Whether either is set; looked at before the locks.
    any: AtomicBool,
    /// The channel was closed: nothing is set any more. Looked at under the lock of what is to be changed.
    closed: AtomicBool,
}

/// One handler on its descriptor.
#[derive(Debug)]
struct OnFd {
    registration: Arc<Registration>,
    /// What is polled; `None` where nothing needs polling. The lock is held while the loop is told of a change, and never while a
    /// handler runs.
    polled: Mutex<Option<Interest>>,
    /// Whether the loop polls.
    armed: AtomicBool,
    /// Whether the channel was called since the handler was last called.
    called: AtomicBool,
    /// Whether the last call of the handler went without one.
    idle: AtomicBool,
    /// The direction has ended, as far as the last call knew.
    over: AtomicBool,
    /// The channel let go of it.
    removed: AtomicBool,
    /// Off the loop until this timer runs.
    pause: Mutex<Option<Timer>>,
}

impl OnFd {
    fn new(registration: Arc<Registration>, polled: Option<Interest>) -> Arc<Self> {
        Arc::new(Self {
            registration,
            polled: Mutex::new(polled),
            armed: AtomicBool::new(false),
            called: AtomicBool::new(false),
            idle: AtomicBool::new(false),
            over: AtomicBool::new(false),
            removed: AtomicBool::new(false),
            pause: Mutex::default(),
        })
    }

    fn arm(self: &Arc<Self>) -> Result<()> {
        let polled = self.polled();
        let Some(interest) = &*polled else { return Ok(()) };
        if !self.armed.load(Ordering::Relaxed) && !self.is_off() {
            self.set(interest, Some(self.callback()))?;
            self.armed.store(true, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Takes the handler off the loop, unless the channel was called meanwhile and goes on.
    fn disarm(&self) {
        let polled = self.polled();
        let Some(interest) = &*polled else { return };
        // First, so that a call which misses this store is seen below; `called` looks in the opposite order.
        if !self.armed.swap(false, Ordering::SeqCst) {
            return;
        }
        if self.called.load(Ordering::SeqCst) && !self.is_off() {
            self.armed.store(true, Ordering::SeqCst);
            return;
        }
        // The loop may have gone first; there is nothing to clear then.
        let _ = self.set(interest, None);
    }

    /// Whether its loop is not to poll, whoever calls the channel.
    fn is_off(&self) -> bool {
        self.over.load(Ordering::SeqCst) || self.removed.load(Ordering::SeqCst) || self.pause().is_some()
    }

    fn set(&self, interest: &Interest, callback: Option<Callback>) -> Result<()> {
        self.registration.context().set_fd_handler(&interest.fd, interest.direction, callback)
    }

    fn callback(self: &Arc<Self>) -> Callback {
        let this = Arc::downgrade(self);
        Arc::new(move || {
            if let Some(this) = this.upgrade() {
                this.fire();
            }
        })
    }

    fn fire(&self) {
        if self.called.swap(false, Ordering::SeqCst) {
            self.idle.store(false, Ordering::Relaxed); // the task that it woke the last time made its call since
        }
        let _counted = Counted(self);
        self.registration.run();
    }

    fn called(self: &Arc<Self>) {
        self.called.store(true, Ordering::SeqCst);
        if !self.armed.load(Ordering::SeqCst) {
            // It was on this loop before; should that refuse it now, the next call tries again.
            let _ = self.arm();
        }
    }

    /// The direction has ended, which a call has told: perhaps one of somebody else than the handler waits for.
    fn end(&self) {
        if !self.over.swap(true, Ordering::SeqCst) {
            self.disarm();
            self.registration.tell();
        }
    }

    fn remove(&self) {
        self.removed.store(true, Ordering::SeqCst);
        self.disarm();
    }

    fn pause_until(self: &Arc<Self>, until: Instant) {
        let this = Arc::downgrade(self);
        let timer = Timer::set(self.registration.context(), until, move || {
            let Some(this) = this.upgrade() else { return };
            let over = this.pause().take();
            drop(over);
            this.called();
        });
        let old = self.pause().replace(timer);
        drop(old);
        self.disarm();
    }

    fn pause(&self) -> MutexGuard<'_, Option<Timer>> {
        self.pause.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn polled(&self) -> MutexGuard<'_, Option<Interest>> {
        self.polled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a call of the handler when it ends, by a panic too: that may come again and again.
struct Counted<'a>(&'a OnFd);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let Self(there) = self;
        if there.called.load(Ordering::SeqCst) {
            there.idle.store(false, Ordering::Relaxed);
        } else if there.idle.swap(true, Ordering::Relaxed) {
            there.disarm();
        }
    }
}

impl FdHandlers {
    /// Applies `read` and `write`. `polled` says what to poll for a direction; `None` where a channel is always ready: such a
    /// handler is due at once, and again after each [`schedule`](Self::schedule).
    ///
    /// `Keep` counts as a call on the channel: a handler that was taken off the loop is put back.
    ///
    /// # Errors
    /// What the context fails with: both directions are without a handler then. [`Busy`](ErrorKind::Busy), before anything is
    /// changed, for a claim where there is a handler, and [`Closed`](ErrorKind::Closed) after [`clear`](Self::clear); `layer` is
    /// what these call the channel.
    pub fn change(
        &self,
        layer: &'static str,
        polled: impl Fn(Direction) -> Option<Interest>,
        read: AioChange,
        write: AioChange,
    ) -> Result<Removed> {
        let mut removed = Removed::nothing();
        // What is refused, or released, may do anything when it is dropped: after the locks.
        let _given = (read.clone(), write.clone());
        let (mut reading, mut writing) = (self.lock(Direction::Read), self.lock(Direction::Write));
        if self.closed.load(Ordering::SeqCst) {
            let error = Error::new(ErrorKind::Closed, layer, "close was called on it before");
            return Err(error.during("set_aio_fd_handler"));
        }
        for change in [&read, &write] {
            if let AioChange::Release(handler) = change {
                self.held().retain(|held| !held.is(handler));
            }
        }
        let resolve = |change: AioChange, slot: &Option<Arc<OnFd>>| {
            change.resolve(slot.as_ref().map(|there| there.registration.handler()), layer)
        };
        let (read, write) = (resolve(read, &reading)?, resolve(write, &writing)?);
        // Before its loop calls it: what it does is noted from the first call on.
        self.any.store(true, Ordering::Release);
        let mut done = Ok(());
        for (slot, direction, change) in
            [(&mut *reading, Direction::Read, read), (&mut *writing, Direction::Write, write)]
        {
            let new = match change {
                AioChange::Set(handler) => Some(OnFd::new(Registration::new(handler), polled(direction))),
                AioChange::Clear => None,
                kept => {
                    // Closing a leaf never waits, so that a closer has nothing to be called for, and learns of the end.
                    if let AioChange::Hold(handler) | AioChange::Closer(handler) = kept {
                        self.held().push(handler);
                    }
                    if let Some(there) = slot {
                        there.called();
                    }
                    continue;
                }
            };
            take(slot, &mut removed);
            if let (Some(new), Ok(())) = (new, &done) {
                done = new.arm();
                if new.polled().is_none() {
                    new.registration.schedule();
                }
                *slot = Some(new);
            }
        }
        if done.is_err() {
            take(&mut reading, &mut removed);
            take(&mut writing, &mut removed);
        }
        self.any.store(reading.is_some() || writing.is_some(), Ordering::Release);
        drop((reading, writing));
        // What went may do anything when it is dropped: not under the locks.
        done.map(|()| removed)
    }

    /// Notes a read or a write, at its end: a handler that was taken off its loop is put back. A `result` that is the end of
    /// the direction, 0 or an error that stays, takes its handler off, until another result shows that the direction goes on.
    pub fn called(&self, direction: Direction, result: &Result<usize>) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let over = match result {
            Ok(count) => *count == 0,
            Err(error) => !error.is_passing(),
        };
        for towards in [Direction::Read, Direction::Write] {
            let there = self.lock(towards).clone();
            if let Some(there) = there {
                if over && towards == direction {
                    there.end();
                    continue;
                }
                if towards == direction {
                    there.over.store(false, Ordering::SeqCst);
                }
                there.called();
            }
        }
    }

    /// Has the handler of `direction` run soon, if there is one.
    pub fn schedule(&self, direction: Direction) {
        if let Some(there) = &*self.lock(direction) {
            there.registration.schedule();
        }
    }

    /// Takes the handler of `direction` off its loop until then, although its descriptor is ready: what it waits for is something
    /// else, such as descriptors that others must close first.
    pub fn pause(&self, direction: Direction, until: Instant) {
        let there = self.lock(direction).clone();
        if let Some(there) = there {
            there.pause_until(until);
        }
    }

    /// Lets go of the descriptor of `direction`, which is over, and keeps its handler, which is due now.
    pub fn let_go(&self, direction: Direction) {
        let there = self.lock(direction).clone();
        if let Some(there) = there {
            there.end();
            *there.polled() = None;
            there.registration.schedule(); // whoever knew of an end before
        }
    }

    /// Removes all handlers, for good: the channel is closed.
    pub fn clear(&self) {
        let mut removed = Removed::nothing();
        self.closed.store(true, Ordering::SeqCst);
        for direction in [Direction::Read, Direction::Write] {
            take(&mut self.lock(direction), &mut removed);
        }
        self.any.store(false, Ordering::Release);
        let held = std::mem::take(&mut *self.held());
        drop(held); // not under the lock
    }

    fn held(&self) -> MutexGuard<'_, Vec<AioHandler>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self, direction: Direction) -> MutexGuard<'_, Option<Arc<OnFd>>> {
        let slot = match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        };
        slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Empties `slot`, off the loop and into `removed`.
fn take(slot: &mut Option<Arc<OnFd>>, removed: &mut Removed) {
    if let Some(old) = slot.take() {
        removed.add(Arc::clone(&old.registration));
        old.remove();
    }
}

impl Drop for FdHandlers {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use rustix::event::{EventfdFlags, eventfd};

    use super::*;
    use crate::EventLoop;

    /// Runs `body` on a thread of its own and returns once that sleeps, as /proc sees it; the tests hold all the same if it does
    /// not sleep yet.
    fn asleep<'scope>(
        scope: &'scope thread::Scope<'scope, '_>,
        body: impl FnOnce() + Send + 'scope,
    ) -> thread::ScopedJoinHandle<'scope, ()> {
        let (tell, told) = mpsc::channel();
        let handle = scope.spawn(move || {
            tell.send(fs::read_link("/proc/thread-self").unwrap()).unwrap();
            drop(tell);
            body();
        });
        let stat = Path::new("/proc").join(told.recv().unwrap()).join("stat");
        let mut seen = 0;
        while seen < 3 && !handle.is_finished() {
            let stat = fs::read_to_string(&stat).unwrap_or_default();
            seen = if stat.rsplit(") ").next().is_some_and(|state| state.starts_with('S')) { seen + 1 } else { 0 };
            thread::yield_now();
        }
        handle
    }

    #[test]
    fn a_call_made_while_the_handler_is_taken_off_its_loop_keeps_it_there() {
        let event_loop = EventLoop::new().unwrap();
        let fd = Arc::new(eventfd(1, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap());
        let registration = Registration::new(AioHandler::new(event_loop.clone(), || ()));
        let there = OnFd::new(registration, Some(Interest { fd, direction: Direction::Read }));
        there.arm().unwrap();
        there.fire(); // the first call of the handler in which nobody calls the channel
        let change = there.polled(); // held by whoever tells the loop of a change
        thread::scope(|scope| {
            // The second: it finds that nobody called, and waits to take the handler off.
            let calling = asleep(scope, || there.fire());
            there.called();
            drop(change);
            calling.join().unwrap();
        });
        assert!(there.armed.load(Ordering::SeqCst));
        assert_eq!(event_loop.run_once(Some(Duration::ZERO)).unwrap(), 1, "calls of a handler that is due");
        there.fire();
        there.fire();
        assert_eq!(event_loop.run_once(Some(Duration::ZERO)).unwrap(), 0, "calls of one that nobody needs");
    }
}
