//! Who waits for one direction of a channel, or for its end, and the handler that wakes them.

use std::num::NonZero;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::Waker;

use super::Turn;
use crate::{AioChange, AioContext, Channel, Claim, Claimant, Direction, Removed, Result};

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A direction can make progress. One waits for it at a time.
    Ready(Direction),
    /// `close` can go on. Any number wait for it, each with waits of its own, beside the others.
    Close,
}

/// The waits for one event: who waits, and the handler claimed for them.
///
/// No lock is held while a waker is woken or dropped.
#[derive(Debug)]
pub(super) struct Waits {
    event: Event,
    /// Made for the first who waits: many a channel is never waited for in one of its directions.
    place: OnceLock<Arc<Place>>,
    /// Of the one who calls.
    pub(super) turn: Turn,
}

/// Where one waits.
#[derive(Debug, Default)]
struct Place {
    state: Mutex<State>,
    /// Held while the channel is told of a change.
    claim: Mutex<Option<Claim<Wakes>>>,
}

#[derive(Debug, Default)]
struct State {
    /// Who waits: 0 for nobody.
    waiter: u64,
    /// Whether that is somebody who only polls, whose place others may take.
    polls: bool,
    waker: Option<Waker>,
    /// How often the handler was called.
    calls: Calls,
    /// How often it had been when the one who waits last knew that there was nothing to do.
    seen: Calls,
    /// The last number given to one who waits.
    last: u64,
}

/// How often a handler was called, round and round: nobody looks away for four thousand million calls. Never zero, so that to have none costs no
/// room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Calls(NonZero<u32>);

impl Default for Calls {
    fn default() -> Self {
        Self(NonZero::<u32>::MIN)
    }
}

impl Calls {
    fn count(&mut self) {
        self.0 = self.0.checked_add(1).unwrap_or(NonZero::<u32>::MIN);
    }
}

/// One who waits, or is about to.
#[derive(Debug)]
pub(super) struct Waiter {
    /// The place it has; 0 for none.
    place: u64,
    polls: bool,
    /// [`Waits::calls`] before the attempt that would have blocked; `None` where there was none.
    attempted: Option<Calls>,
}

impl Waiter {
    /// A future, which has its place until it is done or dropped.
    pub(super) fn future() -> Self {
        Self { place: 0, polls: false, attempted: None }
    }

    /// A future that follows an attempt, which began when `calls` were counted.
    pub(super) fn after_attempt(calls: Calls) -> Self {
        Self { attempted: Some(calls), ..Self::future() }
    }

    /// Somebody who polls and says no good-bye: whoever comes next may take its place.
    pub(super) fn poll() -> Self {
        Self { polls: true, ..Self::future() }
    }

    /// Somebody who polls, after an attempt, which began when `calls` were counted.
    #[cfg(any(feature = "tokio", feature = "futures-io"))]
    pub(super) fn poll_after_attempt(calls: Calls) -> Self {
        Self { attempted: Some(calls), ..Self::poll() }
    }
}

/// How far a waiter got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entered {
    /// Somebody else has the place.
    Busy,
    /// The handler was called since there was nothing to do.
    Called,
    /// It has just taken the place; what happened before, without an attempt, nobody knows.
    Unknowing,
    /// It has the place; from the last time there was nothing to do on, every call of the handler was counted.
    Waiting,
}

/// Wakes whoever waits when its handler is called, and when the channel lets go of that.
#[derive(Debug)]
struct Wakes(Weak<Place>);

impl Claimant for Wakes {
    fn call(&self) {
        if let Some(place) = self.0.upgrade() {
            let mut state = lock(&place.state);
            state.calls.count();
            wake(state);
        }
    }

    fn lost(&self) {
        if let Some(place) = self.0.upgrade() {
            wake(lock(&place.state));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wake(mut state: MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Waits {
    pub(super) fn new(event: Event) -> Self {
        Self { event, place: OnceLock::new(), turn: Turn::default() }
    }

    /// Whose readiness says that there is nothing to wait for.
    pub(super) fn direction(&self) -> Direction {
        match self.event {
            Event::Ready(direction) => direction,
            Event::Close => Direction::Write,
        }
    }

    fn place(&self) -> &Arc<Place> {
        self.place.get_or_init(Arc::default)
    }

    /// Takes the place of the one who waits, or keeps it, and leaves `waker`.
    pub(super) fn enter(&self, waiter: &mut Waiter, waker: &Waker) -> Entered {
        let mut state = lock(&self.place().state);
        if state.waiter != 0 && state.polls && waiter.polls {
            waiter.place = state.waiter;
            state.seen = waiter.attempted.unwrap_or(state.seen);
        }
        let mut entered = Entered::Waiting;
        if state.waiter == 0 || state.waiter != waiter.place {
            if state.waiter != 0 && !state.polls {
                return Entered::Busy;
            }
            if waiter.attempted.is_none() {
                entered = Entered::Unknowing;
            }
            state.last += 1;
            state.waiter = state.last;
            state.polls = waiter.polls;
            state.seen = waiter.attempted.unwrap_or(state.calls);
            waiter.place = state.waiter;
        }
        if state.seen != state.calls {
            entered = Entered::Called;
        }
        let known = state.waker.as_ref().is_some_and(|known| known.will_wake(waker));
        let old = if known { None } else { state.waker.replace(waker.clone()) };
        drop(state);
        drop(old);
        entered
    }

    /// Whether somebody waits who has the place until the wait is over.
    pub(super) fn is_taken(&self) -> bool {
        self.place.get().is_some_and(|place| {
            let state = lock(&place.state);
            state.waiter != 0 && !state.polls
        })
    }

    /// Whether somebody waits.
    #[cfg(any(feature = "tokio", feature = "futures-io"))]
    pub(super) fn is_awaited(&self) -> bool {
        self.place.get().is_some_and(|place| lock(&place.state).waiter != 0)
    }

    /// Gives the place up.
    pub(super) fn leave(&self, waiter: &mut Waiter) {
        if waiter.place == 0 {
            return;
        }
        let mut state = lock(&self.place().state);
        let mut old = None;
        if state.waiter == waiter.place {
            state.waiter = 0;
            old = state.waker.take();
        }
        drop(state);
        drop(old);
        waiter.place = 0;
    }

    /// Gives up the place of those who poll. Whoever waits there, another task or this one in another call, comes again.
    #[cfg(any(feature = "tokio", feature = "futures-io"))]
    pub(super) fn leave_polls(&self) {
        let Some(place) = self.place.get() else { return };
        let mut state = lock(&place.state);
        if state.polls {
            state.waiter = 0;
            wake(state);
        }
    }

    /// Wakes whoever waits, to look again.
    pub(super) fn wake(&self) {
        if let Some(place) = self.place.get() {
            wake(lock(&place.state));
        }
    }

    /// How often the handler was called so far.
    pub(super) fn calls(&self) -> Calls {
        self.place.get().map_or_else(Calls::default, |place| lock(&place.state).calls)
    }

    /// Sees to it that a handler on `context` wakes whoever waits, and says whether it was set just now: what happened before, it knows nothing
    /// of. `unknowing`: the channel is called, so that a handler which was taken off its loop is put back. What was released is to be
    /// dropped under no lock.
    pub(super) fn claim(
        &self,
        channel: &Arc<dyn Channel>,
        context: &Arc<dyn AioContext>,
        unknowing: bool,
    ) -> (Result<bool>, Removed) {
        let place = self.place();
        let mut claim = lock(&place.claim);
        if claim.as_ref().is_some_and(|there| there.is_on(context)) {
            if unknowing {
                let _ = channel.set_aio_fd_handler(AioChange::Called, AioChange::Called); // one that was closed is ready
            }
            return (Ok(false), Removed::nothing());
        }
        let removed = release(&mut claim);
        let (on, wakes) = (Arc::clone(context), Wakes(Arc::downgrade(place)));
        let claimed = match self.event {
            Event::Ready(direction) => Claim::new(channel, direction, on, wakes),
            Event::Close => Claim::closer(channel, on, wakes),
        };
        (claimed.map(|new| *claim = Some(new)).map(|()| true), removed)
    }

    /// Lets go of the handler, if one is claimed: no call of it starts any more. Whoever waits is not told.
    pub(super) fn release(&self) -> Removed {
        self.place.get().map(|place| release(&mut lock(&place.claim))).unwrap_or_default()
    }
}

fn release(claim: &mut Option<Claim<Wakes>>) -> Removed {
    claim.take().map(|claim| claim.release()).unwrap_or_default()
}
