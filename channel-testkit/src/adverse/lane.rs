//! One direction of an adverse channel: its policy, how far the stream has gone, and the handler registered for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use channel_core::{AioChange, AioHandler, Channel, Direction, Readiness, Registration, Removed, Result};

use super::gate::Gate;
use super::policy::{Attempt, Call, Passed, Policy, Verdict};

/// The two locks are never held together, and `due` and `ending` need none: `readiness` and `shutdown` wait for nobody.
#[derive(Debug)]
pub(super) struct Lane {
    /// Held during an attempt, which never waits: the inner channel is called in non-blocking mode.
    state: Mutex<State>,
    /// The next call will come back at once, whatever the inner channel waits for.
    due: AtomicBool,
    ending: AtomicBool,
    registration: Mutex<Slot>,
    gate: Option<Arc<Gate>>,
}

/// The handler that is set.
pub(super) type Slot = Option<Arc<Registration>>;

#[derive(Debug)]
struct State {
    policy: Box<dyn Policy>,
    /// Bytes that have gone this way.
    at: u64,
}

impl Lane {
    pub(super) fn new(policy: Box<dyn Policy>) -> Self {
        let due = AtomicBool::new(policy.is_due(0));
        let gate = policy.gate().cloned();
        Self {
            state: Mutex::new(State { policy, at: 0 }),
            due,
            ending: AtomicBool::new(false),
            registration: Mutex::default(),
            gate,
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
            Verdict::Instead(outcome) => {
                if self.gate.is_some() {
                    // Nothing is set, so nothing can fail: it is told of a call that does not reach it.
                    let _ = inner.set_aio_fd_handler(AioChange::Called, AioChange::Called);
                }
                outcome
            }
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
        if let Some(gate) = &self.gate {
            // A loop that refuses the descriptor now refused it when the handler was set, or forgot it.
            let _ = gate.settle();
        }
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
        if let Some(gate) = &self.gate {
            gate.open();
        }
    }

    /// What to wait for in place of the inner channel.
    pub(super) fn held_up(&self) -> Option<Readiness> {
        let opened = self.gate.as_ref()?.closed()?;
        Some(Readiness::wait_for(opened, Direction::Read))
    }

    /// The slot of the handler, to be changed.
    pub(super) fn slot(&self) -> MutexGuard<'_, Slot> {
        lock(&self.registration)
    }

    /// Applies `change`, which was resolved, to `slot` and, by `forward`, to the inner channel, whose events then call the same registration. What that removes is the caller's to drop when it holds no slot any more.
    pub(super) fn change(
        &self,
        slot: &mut Slot,
        change: AioChange,
        removed: &mut Removed,
        forward: impl FnOnce(AioChange) -> Result<Removed>,
    ) -> Result<()> {
        let new = match change {
            AioChange::Set(handler) => Some(Registration::new(handler)),
            AioChange::Clear => None,
            other => {
                removed.extend(forward(other)?);
                return Ok(());
            }
        };
        if let Some(old) = slot.take() {
            removed.add(old);
        }
        removed.extend(match (&self.gate, &new) {
            (Some(gate), new) => gate.change(new.clone())?,
            (None, Some(new)) => {
                let (context, callback) = (Arc::clone(new.context()), new.callback());
                forward(AioChange::Set(AioHandler { context, callback }))?
            }
            (None, None) => forward(AioChange::Clear)?,
        });
        *slot = new;
        if let (Some(new), true) = (slot, self.is_due()) {
            new.schedule();
        }
        Ok(())
    }

    /// Has the handler called at that time.
    pub(super) fn call_at(&self, at: Option<Instant>) {
        let registration = lock(&self.registration).clone();
        if let Some(registration) = registration {
            registration.call_at(|| at);
        }
    }

    /// No call of the handler starts after this.
    pub(super) fn remove_handler(&self) {
        let old = lock(&self.registration).take();
        if let Some(old) = old {
            old.remove();
        }
        if let Some(gate) = &self.gate {
            let _ = gate.change(None); // a loop that forgot the descriptor has nothing to clear
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
