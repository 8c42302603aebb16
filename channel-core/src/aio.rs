//! What a channel asks of an event loop, and what a registration with one promises.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Direction, Interest, Result};

/// A handler that a loop calls, many times, one call at a time.
pub type Callback = Arc<dyn Fn() + Send + Sync>;

/// An event loop, seen from a channel. (QEMU: `AioContext`.)
///
/// Anyone's loop can implement it. What it owes:
///
/// * Handlers are level-triggered: called again and again while the descriptor is ready. An error or a hang-up on the descriptor
///   makes both directions ready.
/// * It holds no lock of its own while a handler runs or is dropped, and it may be called from inside a handler and from any
///   thread.
/// * It keeps the counted descriptor as long as a handler is set on it.
pub trait AioContext: fmt::Debug + Send + Sync + 'static {
    /// Sets the handler of one direction of `fd`, replacing the one that was there; `None` clears it. The other direction stays
    /// as it is.
    ///
    /// # Errors
    /// What the loop's poller fails with, such as `EPERM` for a regular file.
    fn set_fd_handler(&self, fd: &Arc<OwnedFd>, direction: Direction, callback: Option<Callback>) -> Result<()>;

    /// Runs `callback` once, soon, on the loop's thread, and never inside this call. Wakes the loop if it sleeps.
    fn schedule(&self, callback: Box<dyn FnOnce() + Send>);
}

/// A callback and the loop it runs on.
#[derive(Clone)]
pub struct AioHandler {
    /// The loop.
    pub context: Arc<dyn AioContext>,
    /// What to call.
    pub callback: Callback,
}

impl AioHandler {
    /// `callback`, to run on `context`.
    #[must_use]
    pub fn new(context: Arc<dyn AioContext>, callback: impl Fn() + Send + Sync + 'static) -> Self {
        Self { context, callback: Arc::new(callback) }
    }
}

impl fmt::Debug for AioHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AioHandler").field("context", &self.context).finish_non_exhaustive()
    }
}

/// What to do with the handler of one direction.
#[derive(Clone, Debug)]
pub enum AioChange {
    /// Leave it as it is.
    Keep,
    /// Remove it. No call starts after this; a call under way is not waited for.
    Clear,
    /// Set it, or replace the one that is there.
    Set(AioHandler),
}

/// One handler set on a channel: calls it one at a time, and never starts a call after [`remove`](Self::remove).
pub struct Registration {
    handler: AioHandler,
    state: Mutex<State>,
    scheduled: AtomicBool,
}

#[derive(Default)]
struct State {
    running: bool,
    run_again: bool,
    removed: bool,
}

impl Registration {
    /// A registration of `handler`, not yet known to any loop.
    #[must_use]
    pub fn new(handler: AioHandler) -> Arc<Self> {
        Arc::new(Self { handler, state: Mutex::default(), scheduled: AtomicBool::new(false) })
    }

    /// The loop it runs on.
    #[must_use]
    pub fn context(&self) -> &Arc<dyn AioContext> {
        &self.handler.context
    }

    /// A callback for a loop that runs this registration.
    #[must_use]
    pub fn callback(self: &Arc<Self>) -> Callback {
        let this = Arc::clone(self);
        Arc::new(move || this.run())
    }

    /// Calls the handler, unless it was removed. If it is running already, it runs once more afterwards instead.
    pub fn run(&self) {
        {
            let mut state = self.lock();
            if state.removed {
                return;
            }
            if state.running {
                state.run_again = true;
                return;
            }
            state.running = true;
        }
        loop {
            (self.handler.callback)();
            let mut state = self.lock();
            if state.removed || !std::mem::take(&mut state.run_again) {
                state.running = false;
                return;
            }
        }
    }

    /// Has the loop run this soon; many calls before it does make one run.
    pub fn schedule(self: &Arc<Self>) {
        if self.scheduled.swap(true, Ordering::AcqRel) {
            return;
        }
        let this = Arc::downgrade(self);
        self.handler.context.schedule(Box::new(move || {
            if let Some(this) = this.upgrade() {
                this.scheduled.store(false, Ordering::Release);
                this.run();
            }
        }));
    }

    /// No call of the handler starts after this returns. Does not wait for one that is running.
    pub fn remove(&self) {
        self.lock().removed = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panicking handler never holds this lock; a poisoned one is as good as new.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").field("handler", &self.handler).finish_non_exhaustive()
    }
}

/// The two handlers of a leaf channel, one per direction, kept so that they can be changed and cleared.
#[derive(Debug, Default)]
pub struct FdHandlers {
    read: Mutex<Option<OnFd>>,
    write: Mutex<Option<OnFd>>,
}

#[derive(Debug)]
struct OnFd {
    /// `None` where nothing needs polling: such a channel is always ready.
    polled: Option<Interest>,
    registration: Arc<Registration>,
}

impl OnFd {
    fn set(&self, callback: Option<Callback>) -> Result<()> {
        match &self.polled {
            Some(polled) => self.registration.context().set_fd_handler(&polled.fd, polled.direction, callback),
            None => Ok(()),
        }
    }
}

impl FdHandlers {
    /// Applies `change` to the handler of `direction`, to be called while `polled` is ready; `None` for a channel that is
    /// always ready, whose handler is due at once and again after each [`schedule`](Self::schedule).
    ///
    /// # Errors
    /// What the context fails with; the direction is then without a handler.
    pub fn change(&self, direction: Direction, polled: Option<Interest>, change: AioChange) -> Result<()> {
        let new = match change {
            AioChange::Keep => return Ok(()),
            AioChange::Clear => None,
            AioChange::Set(handler) => Some(OnFd { polled, registration: Registration::new(handler) }),
        };
        let mut slot = self.lock(direction);
        let old = slot.take();
        let mut done = Ok(());
        if let Some(old) = &old {
            old.registration.remove();
            done = old.set(None);
        }
        if let Some(new) = new {
            done = done.and_then(|()| new.set(Some(new.registration.callback())));
            if done.is_ok() {
                if new.polled.is_none() {
                    new.registration.schedule();
                }
                *slot = Some(new);
            }
        }
        drop(slot);
        drop(old); // the user's callback may do anything when it is dropped: not under the lock
        done
    }

    /// Has the handler of `direction` run soon, if there is one.
    pub fn schedule(&self, direction: Direction) {
        if let Some(on_fd) = &*self.lock(direction) {
            on_fd.registration.schedule();
        }
    }

    /// Removes both handlers.
    pub fn clear(&self) {
        for direction in [Direction::Read, Direction::Write] {
            let old = self.lock(direction).take();
            if let Some(old) = old {
                old.registration.remove();
                // The loop may have forgotten the descriptor already; there is nothing more to clear then.
                let _ = old.set(None);
            }
        }
    }

    fn lock(&self, direction: Direction) -> MutexGuard<'_, Option<OnFd>> {
        let slot = match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        };
        slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FdHandlers {
    fn drop(&mut self) {
        self.clear();
    }
}
