//! Watches: a callback for conditions of a channel, until it says that it has seen enough.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use bitflags::bitflags;

use super::hangup::HangUps;
use crate::{AioContext, Channel, Claim, Claimant, Direction, Error, ErrorKind, Removed, Result, Timer};

bitflags! {
    /// What a watch waits for, and what its callback is told. (QEMU: `GIOCondition`.)
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Condition: u8 {
        /// A read can make progress: data, the end, or an error; so a hang-up is this, too.
        const IN = 1 << 0;
        /// A write can make progress, or fail at once.
        const OUT = 1 << 1;
        /// The descriptor below the layers hung up (`POLLHUP`): the peer is gone in both directions. Data may still be there to
        /// read.
        const HUP = 1 << 2;
        /// The descriptor below the layers has an error (`POLLERR`): the connection was reset, or nobody reads the pipe any more.
        const ERR = 1 << 3;
    }
}

/// The callback of a watch: what is the case, and whether to go on.
type Call = Box<dyn FnMut(&dyn Channel, Condition) -> ControlFlow<()> + Send>;

impl dyn Channel {
    /// A watch for `condition`, attached to no loop yet. It keeps the channel alive; [`Watch::weak`] does not. (QEMU:
    /// `qio_channel_create_watch`.)
    pub fn create_watch(self: &Arc<Self>, condition: Condition) -> Watch {
        Watch { channel: Arc::downgrade(self), alive: Some(Arc::clone(self)), condition }
    }

    /// `create_watch` and [`Watch::attach`] in one. (QEMU: `qio_channel_add_watch`.)
    ///
    /// # Errors
    /// As [`Watch::attach`].
    pub fn add_watch(
        self: &Arc<Self>,
        context: Arc<dyn AioContext>,
        condition: Condition,
        callback: impl FnMut(&dyn Channel, Condition) -> ControlFlow<()> + Send + 'static,
    ) -> Result<WatchGuard> {
        self.create_watch(condition).attach(context, callback)
    }
}

/// A watch that no loop has yet.
///
/// # Conditions
/// `IN` and `OUT` are those of [`Channel::readiness`]: bytes held in any layer count. A watch for them is *the* reader or *the* writer of
/// the channel's handlers [[G3]]: with a handler, a task or another such watch in that direction it cannot be attached. Watches for
/// `HUP` and `ERR` alone stand beside anything, and any number of them. Those two are what poll(2) says of the descriptors of
/// the lowest channel, told each time they appear, and only to those who asked; channels without such descriptors (memory,
/// files) have none.
///
/// ```
/// use channel_core::{Channel, ChannelExt, Condition, EventLoop, MemoryChannel};
/// use std::ops::ControlFlow;
/// use std::sync::Arc;
///
/// let (near, far) = MemoryChannel::pair()?;
/// let near: Arc<dyn Channel> = Arc::new(near);
/// let event_loop = EventLoop::new()?;
/// let handle = event_loop.handle();
/// let guard = near.add_watch(event_loop.handle(), Condition::IN, move |channel, _| {
///     let mut heard = [0; 16];
///     assert_eq!(channel.read(&mut heard).unwrap(), 5);
///     handle.stop();
///     ControlFlow::Break(())
/// })?;
/// far.write_all(b"hello")?;
/// event_loop.run()?;
/// drop(guard);
/// # Ok::<(), channel_core::Error>(())
/// ```
#[doc = channel_core::promises!(G3)]
#[must_use = "a watch does nothing until it is attached to a loop"]
pub struct Watch {
    channel: Weak<dyn Channel>,
    alive: Option<Arc<dyn Channel>>,
    condition: Condition,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("name", &self.name()).field("condition", &self.condition).finish_non_exhaustive()
    }
}

impl Watch {
    /// The same watch, which does not keep its channel alive: it ends when the channel is dropped.
    pub fn weak(self) -> Self {
        Self { alive: None, ..self }
    }

    /// What it waits for.
    #[must_use]
    pub fn condition(&self) -> Condition {
        self.condition
    }

    /// The name of its channel.
    #[must_use]
    pub fn name(&self) -> Option<Arc<str>> {
        self.channel.upgrade()?.name()
    }

    /// Attaches it to `context`, whose thread calls `callback` with those conditions asked for that are the case, one call at a
    /// time, until that says [`ControlFlow::Break`], the returned guard is dropped, or the channel is closed. Then `callback` is
    /// dropped, with what it captured. [[G1]] [[G2]]
    ///
    /// It is level-triggered for `IN` and `OUT`, as a handler is [[H1]]: one that returns without calling the channel does not make its
    /// loop spin. A callback that panics has ended its watch.
    ///
    /// # Errors
    /// [`Busy`](ErrorKind::Busy) for `IN` or `OUT` where there is a handler, a task or another watch in that direction;
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a watch without conditions; [`Closed`](ErrorKind::Closed) for a channel that was closed,
    /// or kept weakly and has gone; what setting a handler fails with. `callback` is dropped.
    #[doc = channel_core::promises!(G1 G2 H1)]
    pub fn attach(
        self,
        context: Arc<dyn AioContext>,
        callback: impl FnMut(&dyn Channel, Condition) -> ControlFlow<()> + Send + 'static,
    ) -> Result<WatchGuard> {
        let Some(channel) = self.channel.upgrade() else {
            return Err(Error::new(ErrorKind::Closed, "channel", "it was dropped").of_part().during("add_watch"));
        };
        let failed = |error: Error| error.during("add_watch").on(channel.name());
        if self.condition.is_empty() {
            let detail = "a watch needs at least one condition";
            return Err(failed(Error::new(ErrorKind::InvalidInput, channel.layer(), detail)));
        }
        let hang_ups = self.condition.intersects(Condition::HUP | Condition::ERR);
        let hang_ups = if hang_ups { HangUps::of(&*channel).map_err(failed)? } else { None };
        let guard = WatchGuard(Arc::new(Active {
            channel: self.channel,
            context,
            condition: self.condition,
            hang_ups: hang_ups.map(Arc::new),
            state: Mutex::new(State {
                alive: self.alive,
                call: Some(Box::new(callback)),
                seen: Condition::empty(),
                left: None,
                over: false,
            }),
            claims: OnceLock::new(),
        }));
        guard.0.claim(&channel).map_err(failed)?;
        Ok(guard)
    }
}

/// A watch on its loop; dropping it removes the watch.
///
/// No call starts after the drop; one that runs on another thread is not waited for.
#[derive(Debug)]
#[must_use = "dropping the guard removes the watch"]
pub struct WatchGuard(Arc<Active>);

impl WatchGuard {
    /// The name of its channel.
    #[must_use]
    pub fn name(&self) -> Option<Arc<str>> {
        self.0.channel.upgrade()?.name()
    }

    /// Whether the watch is over: its callback said so, or the channel has let go of it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.state().over
    }

    /// Removes the watch and waits until no call of it is running.
    ///
    /// # Errors
    /// [`WouldDeadlock`](ErrorKind::WouldDeadlock) inside its callback: there will be no other call.
    pub fn remove_and_wait(self) -> Result<()> {
        self.0.finish().wait()
    }

    /// Leaves the watch to its loop: it stays until its callback says [`ControlFlow::Break`], the channel is closed, or the loop goes.
    pub fn forget(self) {
        let timer = Timer::keep(&self.0.context, Left(Arc::clone(&self.0)));
        let mut state = self.0.state();
        if !state.over {
            state.left = Some(timer); // from now on whoever ends it lets go of it
        }
    }
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        if self.0.state().left.is_none() {
            self.0.finish();
        }
    }
}

/// A watch on its loop.
struct Active {
    channel: Weak<dyn Channel>,
    context: Arc<dyn AioContext>,
    condition: Condition,
    hang_ups: Option<Arc<HangUps>>,
    state: Mutex<State>,
    claims: OnceLock<Claims>,
}

struct State {
    /// What keeps the channel alive, while the watch is not over.
    alive: Option<Arc<dyn Channel>>,
    /// The callback, while it is not running.
    call: Option<Call>,
    /// Conditions that came up and were not told yet.
    seen: Condition,
    /// What keeps the watch where its guard was forgotten.
    left: Option<Timer>,
    over: bool,
}

/// What it has of its channel, and what its loop polls for hang-ups.
#[derive(Debug)]
struct Claims {
    channel: Vec<Claim<Link>>,
    hang_ups: Option<Claim<Link, HangUps>>,
}

/// What a claim of a watch calls.
#[derive(Debug)]
struct Link {
    active: Weak<Active>,
    /// What a call says to be the case.
    condition: Condition,
}

impl Claimant for Link {
    fn call(&self) {
        if let Some(active) = self.active.upgrade() {
            active.see(self.condition);
        }
    }

    fn lost(&self) {
        if let Some(active) = self.active.upgrade() {
            active.finish();
        }
    }
}

/// A watch that is left to its loop: over when that lets go of it.
struct Left(Arc<Active>);

impl Drop for Left {
    fn drop(&mut self) {
        self.0.finish();
    }
}

impl Active {
    /// Claims what the conditions need.
    fn claim(self: &Arc<Self>, channel: &Arc<dyn Channel>) -> Result<()> {
        let on = || Arc::clone(&self.context);
        let link = |condition| Link { active: Arc::downgrade(self), condition };
        let (input, output) = (link(Condition::IN), link(Condition::OUT));
        let channel = match (self.condition.contains(Condition::IN), self.condition.contains(Condition::OUT)) {
            (true, true) => Claim::both(channel, on(), input, output)?.into(),
            (true, false) => vec![Claim::new(channel, Direction::Read, on(), input)?],
            (false, true) => vec![Claim::new(channel, Direction::Write, on(), output)?],
            (false, false) => vec![Claim::hold(channel, on(), link(Condition::empty()))?],
        };
        // What came up, `see` asks itself.
        let hung_up = |hang_ups| Claim::new(hang_ups, Direction::Read, on(), link(Condition::empty()));
        let hang_ups = self.hang_ups.as_ref().map(hung_up).transpose()?;
        let _ = self.claims.set(Claims { channel, hang_ups }); // which nobody else does
        if self.state().over {
            self.finish(); // it ended while it was set
        }
        Ok(())
    }

    /// `condition` came up: tells the callback, which finds it after the call under way if there is one.
    fn see(&self, condition: Condition) {
        let hang_ups = self.hang_ups.as_deref().map(HangUps::take).unwrap_or_default();
        let mut state = self.state();
        state.seen |= (condition | hang_ups) & self.condition;
        let Some(call) = state.call.take() else { return };
        let mut running = Running { active: self, call: Some(call) };
        while !state.over && !state.seen.is_empty() {
            let seen = std::mem::take(&mut state.seen);
            drop(state);
            let (Some(call), Some(channel)) = (&mut running.call, self.channel.upgrade()) else { return };
            if call(&*channel, seen).is_break() {
                return;
            }
            drop(channel);
            state = self.state();
        }
        if !state.over {
            state.call = running.call.take();
        }
        drop(state);
    }

    /// Removes it from everywhere and drops the callback, unless that is running: then it is dropped after.
    fn finish(&self) -> Removed {
        let mut state = self.state();
        state.over = true;
        let (call, alive, left) = (state.call.take(), state.alive.take(), state.left.take());
        drop(state);
        let mut removed = Removed::nothing();
        if let Some(Claims { channel, hang_ups }) = self.claims.get() {
            channel.iter().for_each(|claim| removed.extend(claim.release()));
            hang_ups.iter().for_each(|claim| removed.extend(claim.release()));
        }
        drop((call, alive, left)); // the user's, all of them, in the end: not under a lock
        removed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No user code runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call under way, and the end of its watch unless the callback is put back: where it has seen enough, or panics.
struct Running<'a> {
    active: &'a Active,
    call: Option<Call>,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            drop(self.active.finish());
            drop(call);
        }
    }
}

impl fmt::Debug for Active {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("name", &self.channel.upgrade().and_then(|channel| channel.name()))
            .field("condition", &self.condition)
            .field("over", &self.state().over)
            .finish_non_exhaustive()
    }
}
