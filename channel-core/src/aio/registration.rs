//! One handler set on a channel.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Instant;

use super::{AioContext, AioHandler, Callback, Timer};
use crate::{Error, ErrorKind, Result};

/// One handler set on a channel: calls it one at a time, and never starts a call after [`remove`](Self::remove).
///
/// For implementers of [`Channel`](crate::Channel), and of what sets handlers on channels: a `C` of their own keeps what belongs to the
/// handler beside it.
pub struct Registration<C: ?Sized = AioHandler> {
    state: Mutex<State>,
    idle: Condvar,
    scheduled: AtomicBool,
    callee: C,
}

/// What a [`Registration`] calls, and where.
pub trait Callee: fmt::Debug + Send + Sync {
    /// The loop it runs on: always the same.
    fn context(&self) -> &Arc<dyn AioContext>;

    /// One call, on the thread that runs the loop, never two at a time, and with no lock of the registration held: it may set, clear and close.
    /// A panic unwinds out of [`Registration::run`], which can be called again.
    fn call(&self);
}

impl Callee for AioHandler {
    fn context(&self) -> &Arc<dyn AioContext> {
        &self.context
    }

    fn call(&self) {
        (self.callback)();
    }
}

#[derive(Default)]
struct State {
    running: Option<ThreadId>,
    run_again: bool,
    removed: bool,
    /// How many threads wait for the end of a call.
    waiting: u32,
    /// A call to come although nothing happens.
    alarm: Option<Box<Alarm>>,
}

/// When to call. The timer may be an earlier one, and looks again then: most calls come long before it, and move the time on.
struct Alarm {
    at: Instant,
    set_to: Instant,
    /// None as long as it is being set.
    timer: Option<Timer>,
    /// It has rung, and does not ring again for the same time.
    rung: bool,
}

impl<C: Callee> Registration<C> {
    /// A registration of `callee`, not yet known to any loop.
    #[must_use]
    pub fn new(callee: C) -> Arc<Self> {
        Arc::new(Self::of(callee))
    }

    /// One for a callee that knows it.
    pub(super) fn of(callee: C) -> Self {
        Self { state: Mutex::default(), idle: Condvar::new(), scheduled: AtomicBool::new(false), callee }
    }
}

impl<C: Callee + ?Sized + 'static> Registration<C> {
    /// What it calls, and where.
    #[must_use]
    pub fn callee(&self) -> &C {
        &self.callee
    }

    /// The loop it runs on.
    #[must_use]
    pub fn context(&self) -> &Arc<dyn AioContext> {
        self.callee.context()
    }

    /// A callback for a loop that runs this registration.
    #[must_use]
    pub fn callback(self: &Arc<Self>) -> Callback {
        let this = Arc::downgrade(self);
        Arc::new(move || {
            if let Some(this) = this.upgrade() {
                this.run();
            }
        })
    }

    /// Calls the handler, unless it was removed. If it is running already, it runs once more afterwards instead.
    ///
    /// # Panics
    /// If the handler does. It may be called again afterwards.
    pub fn run(&self) {
        {
            let mut state = self.lock();
            if state.removed {
                return;
            }
            if state.running.is_some() {
                state.run_again = true;
                return;
            }
            state.running = Some(thread::current().id());
        }
        let unwinding = Unwinding(self);
        loop {
            self.callee.call();
            let mut state = self.lock();
            if state.removed || !std::mem::take(&mut state.run_again) {
                self.end(state);
                break;
            }
        }
        std::mem::forget(unwinding);
    }

    /// The call has ended.
    fn end(&self, mut state: MutexGuard<'_, State>) {
        state.running = None;
        if state.waiting > 0 {
            self.idle.notify_all(); // a system call, whoever listens
        }
    }

    /// Has the loop run this soon; many calls before it does make one run.
    pub fn schedule(self: &Arc<Self>) {
        if self.scheduled.swap(true, Ordering::AcqRel) {
            return;
        }
        let this = Arc::downgrade(self);
        self.context().schedule(Box::new(move || {
            if let Some(this) = this.upgrade() {
                this.scheduled.store(false, Ordering::Release);
                this.run();
            }
        }));
    }

    /// Has the loop run this at that time, once, and at no other that was given before; `None` for never. `at` is asked under a lock, so
    /// that of two who call this the last one has its way; it must not call this.
    pub fn call_at(self: &Arc<Self>, at: impl FnOnce() -> Option<Instant>) {
        let mut state = self.lock();
        let at = at();
        match (at, &mut state.alarm) {
            (None, None) => return,
            (Some(at), Some(alarm)) if alarm.rung && alarm.at == at => return,
            (Some(at), Some(alarm)) if !alarm.rung && alarm.set_to <= at => {
                alarm.at = at;
                return;
            }
            _ => {}
        }
        let alarm =
            at.filter(|_| !state.removed).map(|at| Box::new(Alarm { at, set_to: at, timer: None, rung: false }));
        let old = std::mem::replace(&mut state.alarm, alarm);
        drop(state);
        drop(old); // not under the lock, and neither is the next one set so: loops have locks of their own
        if let Some(at) = at {
            self.set_timer(at);
        }
    }

    fn set_timer(self: &Arc<Self>, at: Instant) {
        let this = Arc::downgrade(self);
        let timer = Timer::set(self.context(), at, move || {
            if let Some(this) = this.upgrade() {
                this.ring();
            }
        });
        let mut state = self.lock();
        // It may have rung by now, or been set anew.
        match &mut state.alarm {
            Some(alarm) if alarm.set_to == at && alarm.timer.is_none() && !alarm.rung => alarm.timer = Some(timer),
            _ => {
                drop(state);
                drop(timer);
            }
        }
    }

    /// The time of the alarm has come, or it was moved on.
    fn ring(self: &Arc<Self>) {
        let mut state = self.lock();
        let Some(alarm) = state.alarm.as_mut().filter(|alarm| !alarm.rung) else { return };
        alarm.rung = alarm.at <= Instant::now();
        alarm.set_to = alarm.at;
        let (rung, at, old) = (alarm.rung, alarm.at, alarm.timer.take());
        drop(state);
        drop(old);
        if rung {
            self.run();
        } else {
            self.set_timer(at);
        }
    }

    /// As [`schedule`](Self::schedule), unless this is called inside a call of the handler, which then knows already.
    pub(crate) fn tell(self: &Arc<Self>) {
        if !self.is_running_here() {
            self.schedule();
        }
    }

    /// Whether this is called inside a call of the handler.
    pub(crate) fn is_running_here(&self) -> bool {
        self.lock().running == Some(thread::current().id())
    }

    /// No call of the handler starts after this returns. Does not wait for one that is running.
    pub fn remove(&self) {
        let mut state = self.lock();
        state.removed = true;
        let alarm = state.alarm.take();
        drop(state);
        drop(alarm);
    }

    /// Waits until no call is running; after [`remove`](Self::remove) none ever will be.
    ///
    /// # Errors
    /// [`WouldDeadlock`](ErrorKind::WouldDeadlock) inside a call of this handler.
    pub fn wait_until_idle(&self) -> Result<()> {
        let mut state = self.lock();
        let us = thread::current().id();
        while let Some(thread) = state.running {
            if thread == us {
                let detail = "a handler cannot wait for its own end";
                return Err(Error::new(ErrorKind::WouldDeadlock, "handler", detail).of_part().during("wait"));
            }
            state.waiting += 1;
            state = self.idle.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No user code runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A handler that panics has ended, too.
struct Unwinding<'a, C: Callee + ?Sized + 'static>(&'a Registration<C>);

impl<C: Callee + ?Sized> Drop for Unwinding<'_, C> {
    fn drop(&mut self) {
        self.0.end(self.0.lock());
    }
}

impl<C: Callee + ?Sized> fmt::Debug for Registration<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").field("callee", &&self.callee).finish_non_exhaustive()
    }
}
