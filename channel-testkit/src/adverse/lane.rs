//! One direction of an adverse channel: its policy, how far the stream has gone, and the handler registered for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use channel_core::{AioChange, AioHandler, Channel, Registration, Removed, Result};

use super::policy::{Attempt, Call, Passed, Policy, Verdict};

/// The two locks are never held together, and `due` and `ending` need none: `readiness` and `shutdown` wait for nobody.
#[derive(Debug)]
pub(super) struct Lane {
    /// Held during an attempt, which never waits: the inner channel is called in non-blocking mode.
    state: Mutex<State>,
    /// The next call will come back at once, whatever the inner channel waits for.
    due: AtomicBool,
    ending: AtomicBool,
    registration: Mutex<Option<Arc<Registration>>>,
}

#[derive(Debug)]
struct State {
    policy: Box<dyn Policy>,
    /// Bytes that have gone this way.
    at: u64,
}

impl Lane {
    pub(super) fn new(policy: Box<dyn Policy>) -> Self {
        let due = AtomicBool::new(policy.is_due(0));
        Self {
            state: Mutex::new(State { policy, at: 0 }),
            due,
            ending: AtomicBool::new(false),
            registration: Mutex::default(),
        }
    }

    /// One attempt at `call`: `pass` makes it, with at most so many bytes and the first of them changed by so much, if the policy
    /// lets it. `consumes` is false for a peek.
    pub(super) fn attempt(
        &self,
        call: Call,
        inner: &dyn Channel,
        consumes: bool,
        pass: impl FnOnce(usize, u8) -> Result<Passed>,
    ) -> Result<usize> {
        let mut state = lock(&self.state);
        let attempt = Attempt { call, at: state.at, ending: self.ending.load(Ordering::Acquire), inner };
        let outcome = match state.policy.judge(&attempt) {
            Verdict::Instead(outcome) => outcome,
            Verdict::Pass { most, flip } => {
                let outcome = pass(most, flip);
                let State { policy, at } = &mut *state;
                if let (Ok(passed), true, true) = (&outcome, call.moves_bytes(), consumes) {
                    *at += passed.count() as u64;
                }
                policy.passed(call, &outcome, *at);
                outcome.map(Passed::count)
            }
        };
        let due = state.policy.is_due(state.at);
        self.due.store(due, Ordering::Release);
        drop(state);
        if due {
            // The inner channel knows nothing of it, so its descriptor may stay silent.
            self.schedule();
        }
        outcome
    }

    pub(super) fn is_due(&self) -> bool {
        self.due.load(Ordering::Acquire)
    }

    /// The direction was shut down, or is about to be.
    pub(super) fn end(&self) {
        self.ending.store(true, Ordering::Release);
    }

    /// Applies `change` here and, by `forward`, to the inner channel, whose events then call the same registration.
    pub(super) fn change(
        &self,
        layer: &'static str,
        change: AioChange,
        forward: impl FnOnce(AioChange) -> Result<Removed>,
    ) -> Result<Removed> {
        let mut slot = lock(&self.registration);
        let (new, down) = match change.resolve(slot.as_ref().map(|there| there.handler()), layer)? {
            AioChange::Set(handler) => {
                let context = Arc::clone(&handler.context);
                let registration = Registration::new(handler);
                let callback = registration.callback();
                (Some(registration), AioChange::Set(AioHandler { context, callback }))
            }
            AioChange::Clear => (None, AioChange::Clear),
            keep => return forward(keep),
        };
        let mut removed = Removed::nothing();
        if let Some(old) = slot.take() {
            removed.add(old);
        }
        let done = forward(down);
        if done.is_ok() {
            *slot = new;
        }
        drop(slot);
        if self.is_due() {
            self.schedule();
        }
        removed.extend(done?);
        Ok(removed)
    }

    /// No call of the handler starts after this.
    pub(super) fn remove_handler(&self) {
        let old = lock(&self.registration).take();
        if let Some(old) = old {
            old.remove();
        }
    }

    fn schedule(&self) {
        let registration = lock(&self.registration).clone();
        if let Some(registration) = registration {
            registration.schedule();
        }
    }
}

/// A panic elsewhere, in a test's own closure perhaps, leaves nothing half done here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
