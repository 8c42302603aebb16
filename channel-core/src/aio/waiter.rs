//! Who waits for one direction of a channel, or for its end, and the handler that wakes them.

use std::fmt;
use std::num::NonZero;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::Waker;

use super::{AioChange, AioContext, AioHandler, Callback, Callee, Registration, Removed, Turn, is_same_context};
use crate::{Channel, Direction, Error, Result};

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A direction can make progress. One waits for it at a time.
    Ready(Direction),
    /// `close` can go on. Any number wait for it, each with waits of its own, beside the others.
    Close,
}

impl Event {
    /// Whose readiness says that there is nothing to wait for.
    pub(super) fn direction(self) -> Direction {
        match self {
            Self::Ready(direction) => direction,
            Self::Close => Direction::Write,
        }
    }
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
    claim: Mutex<Option<Claim>>,
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
    /// The claim that has not been released: 0 for none.
    claim: u64,
    /// The last number given to one who waits, or to a claim.
    last: u64,
}

/// How often a handler was called: one more than that, so that to have none costs no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Calls(NonZero<u64>);

impl Default for Calls {
    fn default() -> Self {
        Self(NonZero::<u64>::MIN)
    }
}

impl Calls {
    fn count(&mut self) {
        self.0 = self.0.saturating_add(1);
    }
}

impl State {
    /// A claim is made, and is not released yet.
    fn begin_claim(&mut self) -> u64 {
        self.last += 1;
        self.claim = self.last;
        self.claim
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

/// A handler that was set: the channel holds it, and drops it when it lets go of it.
struct Claim {
    /// What the handler runs: nothing of it starts after the claim was released, whatever the channel does.
    registration: Weak<Registration<Claimant>>,
    callback: Weak<dyn Fn() + Send + Sync>,
}

impl Claim {
    /// The handler, unless the channel let go of it.
    fn handler(&self) -> Option<AioHandler> {
        let callback = self.callback.upgrade()?; // first: it keeps the other one
        let registration = self.registration.upgrade()?;
        Some(AioHandler { context: Arc::clone(registration.context()), callback })
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim").finish_non_exhaustive() // what is upgraded might be dropped here, under the lock
    }
}

/// What came of a claim.
pub(super) struct Claimed {
    /// Whether the handler was set just now: what happened before, it knows nothing of.
    pub(super) result: Result<bool>,
    _released: Released,
    _handler: Option<AioHandler>,
}

impl Claimed {
    /// There is no loop to set it on.
    pub(super) fn failed(error: Error) -> Self {
        Self { result: Err(error), _released: Released::default(), _handler: None }
    }
}

/// A handler that was let go of. What it holds may do anything when it is dropped, so not under a lock.
#[derive(Default)]
pub(super) struct Released {
    removed: Removed,
    _handler: Option<AioHandler>,
}

impl Released {
    /// Waits until no call of the handler is running, nor what the channels below do around it.
    pub(super) fn wait(self) -> Result<()> {
        self.removed.wait()
    }
}

/// Wakes whoever waits when its handler is called; and when it is dropped, for then the channel let go of the handler.
#[derive(Debug)]
struct Claimant {
    context: Arc<dyn AioContext>,
    place: Weak<Place>,
    /// Once that was released, they know. A loop that was about to call the handler may be the last to hold it, and must not run
    /// anything then.
    claim: u64,
}

impl Callee for Claimant {
    fn context(&self) -> &Arc<dyn AioContext> {
        &self.context
    }

    fn call(&self) {
        if let Some(place) = self.place.upgrade() {
            let mut state = lock(&place.state);
            state.calls.count();
            wake(state);
        }
    }
}

impl Drop for Claimant {
    fn drop(&mut self) {
        let Some(place) = self.place.upgrade() else { return };
        let state = lock(&place.state);
        if state.claim == self.claim {
            wake(state);
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

    /// What is waited for.
    pub(super) fn event(&self) -> Event {
        self.event
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

    /// Sees to it that a handler on `context` wakes whoever waits. `unknowing`: the channel is called, so that a handler which
    /// was taken off its loop is put back.
    pub(super) fn claim(&self, channel: &dyn Channel, context: &Arc<dyn AioContext>, unknowing: bool) -> Claimed {
        let place = self.place();
        let mut claim = lock(&place.claim);
        let there = claim.as_ref().and_then(Claim::handler);
        if there.as_ref().is_some_and(|there| is_same_context(&there.context, context)) {
            let kept =
                if unknowing { channel.set_aio_fd_handler(AioChange::Keep, AioChange::Keep).map(drop) } else { Ok(()) };
            return Claimed { result: kept.map(|()| false), _released: Released::default(), _handler: there };
        }
        let released = place.release(&mut claim, there, channel, self.event);
        let claim_number = lock(&place.state).begin_claim();
        let claimant = Claimant { context: Arc::clone(context), place: Arc::downgrade(place), claim: claim_number };
        let running = Registration::new(claimant);
        let registration = Arc::downgrade(&running);
        let callback: Callback = Arc::new(move || running.run());
        let handler = AioHandler { context: Arc::clone(context), callback: Arc::clone(&callback) };
        let claiming = match self.event {
            Event::Ready(_) => AioChange::Claim(handler.clone()),
            Event::Close => AioChange::Closer(handler.clone()),
        };
        let result = set(channel, self.event, claiming);
        if result.is_err() {
            lock(&place.state).claim = 0; // who asked is told so by the result
        }
        *claim = result.is_ok().then(|| Claim { registration, callback: Arc::downgrade(&callback) });
        // A claim replaces nothing, so nothing was removed.
        Claimed { result: result.map(|_| true), _released: released, _handler: Some(handler) }
    }

    /// Lets go of the handler, if one is claimed: no call of it starts any more. Whoever waits is not told.
    pub(super) fn release(&self, channel: &dyn Channel) -> Released {
        let Some(place) = self.place.get() else { return Released::default() };
        let mut claim = lock(&place.claim);
        let there = claim.as_ref().and_then(Claim::handler);
        place.release(&mut claim, there, channel, self.event)
    }
}

impl Place {
    /// Empties `claim`, whose handler is `there` unless the channel let go of it.
    fn release(
        &self,
        claim: &mut Option<Claim>,
        there: Option<AioHandler>,
        channel: &dyn Channel,
        event: Event,
    ) -> Released {
        let Some(claim) = claim.take() else { return Released::default() };
        lock(&self.state).claim = 0;
        // A channel that was closed has let go of it.
        let set = |handler: &AioHandler| set(channel, event, AioChange::Release(handler.clone())).ok();
        let mut removed = there.as_ref().and_then(set).unwrap_or_default();
        if let Some(registration) = claim.registration.upgrade() {
            removed.add(registration); // it may be running, although the channel let go of it long ago
        }
        Released { removed, _handler: there }
    }
}

fn set(channel: &dyn Channel, event: Event, change: AioChange) -> Result<Removed> {
    match event.direction() {
        Direction::Read => channel.set_aio_fd_handler(change, AioChange::Keep),
        Direction::Write => channel.set_aio_fd_handler(AioChange::Keep, change),
    }
}
