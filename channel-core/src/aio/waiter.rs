//! Who waits for one direction of a channel, and the handler that wakes them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;

use super::{AioChange, AioContext, AioHandler, Callback, Removed};
use crate::{Channel, Direction, Result};

/// The waits of one direction: at most one waiter, and the handler claimed for it.
///
/// No lock is held while a waker is woken or dropped, or a handler is set or released.
#[derive(Debug, Default)]
pub(super) struct Waits {
    state: Arc<Mutex<State>>,
    claim: Mutex<Option<Claim>>,
}

#[derive(Debug, Default)]
struct State {
    /// Who waits: 0 for nobody.
    waiter: u64,
    /// Whether that is somebody who only polls, whose place others may take.
    polls: bool,
    last_waiter: u64,
    waker: Option<Waker>,
}

/// A handler that was set: the channel holds it, and drops it when it lets go of it.
struct Claim {
    context: Arc<dyn AioContext>,
    callback: Weak<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claim").field("context", &self.context).finish_non_exhaustive()
    }
}

impl Claim {
    /// The handler, unless the channel let go of it.
    fn handler(&self) -> Option<AioHandler> {
        Some(AioHandler { context: Arc::clone(&self.context), callback: self.callback.upgrade()? })
    }
}

/// One who waits, or is about to.
#[derive(Debug)]
pub(super) struct Waiter {
    /// The place it has; 0 for none.
    place: u64,
    polls: bool,
}

impl Waiter {
    /// A future, which has its place until it is done or dropped.
    pub(super) fn future() -> Self {
        Self { place: 0, polls: false }
    }

    /// Somebody who polls and says no good-bye: whoever comes next may take its place.
    pub(super) fn poll() -> Self {
        Self { place: 0, polls: true }
    }
}

/// Wakes whoever waits when it is called, and when it is dropped: the channel let go of it.
struct Alarm(Weak<Mutex<State>>);

impl Alarm {
    fn ring(&self) {
        if let Some(state) = self.0.upgrade() {
            wake(&state);
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.ring();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wake(state: &Mutex<State>) {
    let waker = lock(state).waker.take();
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Waits {
    /// Takes the place of the one who waits, or keeps it, and leaves `waker`. `false` if somebody else has it.
    pub(super) fn enter(&self, waiter: &mut Waiter, waker: &Waker) -> bool {
        let mut state = lock(&self.state);
        if state.waiter == 0 || state.waiter == waiter.place || state.polls {
            if state.waiter == 0 || state.waiter != waiter.place {
                state.last_waiter += 1;
                state.waiter = state.last_waiter;
                state.polls = waiter.polls;
                waiter.place = state.waiter;
            }
        } else {
            return false;
        }
        let known = state.waker.as_ref().is_some_and(|known| known.will_wake(waker));
        let old = if known { None } else { state.waker.replace(waker.clone()) };
        drop(state);
        drop(old);
        true
    }

    /// Gives the place up.
    pub(super) fn leave(&self, waiter: &mut Waiter) {
        if waiter.place == 0 {
            return;
        }
        let mut state = lock(&self.state);
        let mut old = None;
        if state.waiter == waiter.place {
            state.waiter = 0;
            old = state.waker.take();
        }
        drop(state);
        drop(old);
        waiter.place = 0;
    }

    /// Wakes whoever waits.
    pub(super) fn wake(&self) {
        wake(&self.state);
    }

    /// Sees to it that a handler on `context` wakes whoever waits; and what that replaced, which wakes them when it is dropped.
    pub(super) fn claim(
        &self,
        channel: &dyn Channel,
        direction: Direction,
        context: &Arc<dyn AioContext>,
    ) -> (Result<()>, Removed) {
        let mut claim = lock(&self.claim);
        let there = claim.as_ref().and_then(Claim::handler);
        match &there {
            Some(there) if same(&there.context, context) => return (Ok(()), Removed::nothing()),
            _ => {}
        }
        // A channel that was closed has nothing to let go of; the claim says so.
        let moved = there.map_or_else(Removed::nothing, |there| {
            set(channel, direction, AioChange::Release(there)).unwrap_or_default()
        });
        let alarm = Alarm(Arc::downgrade(&self.state));
        let callback: Callback = Arc::new(move || alarm.ring());
        let weak = Arc::downgrade(&callback);
        let handler = AioHandler { context: Arc::clone(context), callback };
        let claimed = set(channel, direction, AioChange::Claim(handler));
        *claim = claimed.is_ok().then(|| Claim { context: Arc::clone(context), callback: weak });
        (claimed.map(drop), moved)
    }

    /// Lets go of the handler, if one is claimed.
    pub(super) fn release(&self, channel: &dyn Channel, direction: Direction) -> Removed {
        let claim = lock(&self.claim).take();
        let Some(handler) = claim.and_then(|claim| claim.handler()) else {
            return Removed::nothing();
        };
        // A channel that was closed has nothing to let go of.
        set(channel, direction, AioChange::Release(handler)).unwrap_or_default()
    }
}

/// Whether two handles are one loop.
fn same(one: &Arc<dyn AioContext>, other: &Arc<dyn AioContext>) -> bool {
    Arc::as_ptr(one).cast::<()>() == Arc::as_ptr(other).cast::<()>()
}

fn set(channel: &dyn Channel, direction: Direction, change: AioChange) -> Result<Removed> {
    match direction {
        Direction::Read => channel.set_aio_fd_handler(change, AioChange::Keep),
        Direction::Write => channel.set_aio_fd_handler(AioChange::Keep, change),
    }
}
