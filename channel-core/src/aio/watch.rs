//! Watches: a callback for conditions of a channel, until it says that it has seen enough.

use std::fmt;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bitflags::bitflags;

use super::hangup::HangUps;
use super::{AioChange, AioContext, AioHandler, Callback, Registration, Timer};
use crate::limits::deadline_in;
use crate::{Channel, Direction, Error, ErrorKind, Result, lowest_layer};

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
        Watch { channel: Kept::Alive(Arc::clone(self)), condition }
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
/// the channel's handlers \[G3\]: with a handler, a task or another such watch in that direction it cannot be attached. Watches for
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
#[must_use = "a watch does nothing until it is attached to a loop"]
pub struct Watch {
    channel: Kept,
    condition: Condition,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("name", &self.name()).field("condition", &self.condition).finish_non_exhaustive()
    }
}

#[derive(Clone)]
enum Kept {
    Alive(Arc<dyn Channel>),
    Weakly(Weak<dyn Channel>),
}

impl Kept {
    fn channel(&self) -> Option<Arc<dyn Channel>> {
        match self {
            Self::Alive(channel) => Some(Arc::clone(channel)),
            Self::Weakly(channel) => channel.upgrade(),
        }
    }
}

impl Watch {
    /// The same watch, which does not keep its channel alive: it ends when the channel is dropped.
    pub fn weak(self) -> Self {
        let channel = match self.channel {
            Kept::Alive(channel) => Kept::Weakly(Arc::downgrade(&channel)),
            weak @ Kept::Weakly(_) => weak,
        };
        Self { channel, ..self }
    }

    /// What it waits for.
    #[must_use]
    pub fn condition(&self) -> Condition {
        self.condition
    }

    /// The name of its channel.
    #[must_use]
    pub fn name(&self) -> Option<Arc<str>> {
        self.channel.channel()?.name()
    }

    /// Attaches it to `context`, whose thread calls `callback` with those conditions asked for that are the case, one call at a
    /// time, until that says [`ControlFlow::Break`], the returned guard is dropped, or the channel is closed. Then `callback` is
    /// dropped, with what it captured. \[G1\] \[G2\]
    ///
    /// It is level-triggered for `IN` and `OUT`, as a handler is \[H1\]: one that returns without calling the channel does not make its
    /// loop spin. A callback that panics has ended its watch.
    ///
    /// # Errors
    /// [`Busy`](ErrorKind::Busy) for `IN` or `OUT` where there is a handler, a task or another watch in that direction;
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a watch without conditions; [`Closed`](ErrorKind::Closed) for a channel that was closed,
    /// or kept weakly and has gone; what setting a handler fails with. `callback` is dropped.
    pub fn attach(
        self,
        context: Arc<dyn AioContext>,
        callback: impl FnMut(&dyn Channel, Condition) -> ControlFlow<()> + Send + 'static,
    ) -> Result<WatchGuard> {
        let Some(channel) = self.channel.channel() else {
            return Err(Error::new(ErrorKind::Closed, "channel", "it was dropped").during("add_watch"));
        };
        let failed = |error: Error| error.during("add_watch").on(channel.name());
        if self.condition.is_empty() {
            let detail = "a watch needs at least one condition";
            return Err(failed(Error::new(ErrorKind::InvalidInput, channel.layer(), detail)));
        }
        let hang_ups = (self.condition & (Condition::HUP | Condition::ERR)).is_empty();
        let hang_ups = if hang_ups { None } else { HangUps::of(&*channel).map_err(failed)? };
        let active = Arc::new_cyclic(|active: &Weak<Active>| {
            let dispatched = active.clone();
            let dispatch = AioHandler::new(Arc::clone(&context), move || {
                if let Some(active) = dispatched.upgrade() {
                    active.dispatch();
                }
            });
            Active {
                channel: Mutex::new(self.channel),
                condition: self.condition,
                seen: AtomicU8::new(0),
                registration: Registration::new(dispatch),
                state: Mutex::new(State { call: Some(Box::new(callback)), ..State::default() }),
                hang_ups,
            }
        });
        let guard = WatchGuard(active);
        guard.0.set(&*channel, &context).map_err(failed)?;
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
        self.0.channel()?.name()
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
        self.0.finish();
        self.0.registration.wait_until_idle()
    }

    /// Leaves the watch to its loop: it stays until its callback says [`ControlFlow::Break`], the channel is closed, or the loop goes.
    pub fn forget(self) {
        let left = Left(Arc::clone(&self.0));
        // A timer that never comes: what any loop keeps until it goes.
        let timer = Timer::set(self.0.registration.context(), deadline_in(Duration::MAX), move || drop(left));
        self.0.state().left = Some(timer);
        // Over by now, or from now on whoever ends it lets go of it.
        if self.is_over() {
            let left = self.0.state().left.take();
            drop(left);
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
    /// Kept weakly once the watch is over.
    channel: Mutex<Kept>,
    condition: Condition,
    /// Conditions that came up and were not told yet.
    seen: AtomicU8,
    /// Makes the calls one at a time, and none after the end.
    registration: Arc<Registration>,
    state: Mutex<State>,
    hang_ups: Option<HangUps>,
}

#[derive(Default)]
struct State {
    /// The callback, while it is not running.
    call: Option<Call>,
    set: Set,
    /// What keeps the watch where its guard was forgotten.
    left: Option<Timer>,
    over: bool,
}

/// What has to be cleared at the end. The channel alone keeps the handlers, so that they are dropped when it lets go of them.
#[derive(Default)]
struct Set {
    read: Option<Weak<dyn Fn() + Send + Sync>>,
    write: Option<Weak<dyn Fn() + Send + Sync>>,
    /// Never called: set beside those of others, on the lowest channel.
    held: Option<Weak<dyn Fn() + Send + Sync>>,
    /// What the loop polls for hang-ups.
    polled: Option<Arc<OwnedFd>>,
}

/// What a handler of a watch holds: when the channel lets go of it, the watch is over.
struct Link(Weak<Active>);

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(active) = self.0.upgrade() {
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
    /// Sets what the conditions need.
    fn set(self: &Arc<Self>, channel: &dyn Channel, context: &Arc<dyn AioContext>) -> Result<()> {
        let handler = |condition: Condition| {
            if !self.condition.intersects(condition) {
                return None;
            }
            let link = Link(Arc::downgrade(self));
            Some(AioHandler::new(Arc::clone(context), move || {
                if let Some(active) = link.0.upgrade() {
                    active.see(condition);
                }
            }))
        };
        let (read, write) = (handler(Condition::IN), handler(Condition::OUT));
        let held = handler(Condition::HUP | Condition::ERR);
        let weak = |handler: &Option<AioHandler>| handler.as_ref().map(|handler| Arc::downgrade(&handler.callback));
        let set = || Set {
            read: weak(&read),
            write: weak(&write),
            held: weak(&held),
            polled: self.hang_ups.as_ref().map(HangUps::fd).cloned(),
        };
        self.state().set = set(); // first, so that whatever fails below can be undone
        let claim = |handler: &Option<AioHandler>| handler.clone().map_or(AioChange::Keep, AioChange::Claim);
        // Where there is nothing to claim, this says whether the channel was closed.
        drop(channel.set_aio_fd_handler(claim(&read), claim(&write))?);
        if let Some(held) = held.clone() {
            drop(lowest_layer(channel).set_aio_fd_handler(AioChange::Hold(held), AioChange::Keep)?);
        }
        if let Some(hang_ups) = &self.hang_ups {
            let active = Arc::downgrade(self);
            let callback: Callback = Arc::new(move || {
                if let Some(active) = active.upgrade() {
                    active.see_hang_ups();
                }
            });
            context.set_fd_handler(hang_ups.fd(), Direction::Read, Some(callback))?;
        }
        if self.state().over {
            self.clear(set()); // it ended while it was set, perhaps before all of it was
        }
        Ok(())
    }

    /// `condition` came up.
    fn see(&self, condition: Condition) {
        self.seen.fetch_or(condition.bits(), Ordering::AcqRel);
        self.registration.run();
    }

    fn see_hang_ups(&self) {
        let seen = self.hang_ups.as_ref().map(HangUps::take).unwrap_or_default() & self.condition;
        if !seen.is_empty() {
            self.see(seen);
        }
    }

    fn dispatch(&self) {
        let mut seen = Condition::from_bits_truncate(self.seen.swap(0, Ordering::AcqRel));
        seen |= self.hang_ups.as_ref().map(HangUps::take).unwrap_or_default() & self.condition;
        if seen.is_empty() {
            return;
        }
        let Some(channel) = self.channel() else {
            return self.finish();
        };
        let call = self.state().call.take();
        let mut running = Running { active: self, call, goes_on: false };
        if let Some(call) = &mut running.call {
            running.goes_on = call(&*channel, seen).is_continue();
        }
    }

    /// Removes it from everywhere and drops the callback, unless that is running: then it is dropped after.
    fn finish(&self) {
        self.registration.remove();
        let mut state = self.state();
        state.over = true;
        let (call, set, left) = (state.call.take(), std::mem::take(&mut state.set), state.left.take());
        drop(state);
        self.clear(set);
        let mut channel = self.kept();
        let weak = match &*channel {
            Kept::Alive(alive) => Arc::downgrade(alive),
            Kept::Weakly(weak) => Weak::clone(weak),
        };
        let alive = std::mem::replace(&mut *channel, Kept::Weakly(weak));
        drop(channel);
        drop((call, left, alive)); // the user's, all of them, in the end: not under a lock
    }

    fn clear(&self, set: Set) {
        if let Some(polled) = &set.polled {
            // The loop may have gone first.
            let _ = self.registration.context().set_fd_handler(polled, Direction::Read, None);
        }
        let Some(channel) = self.channel() else { return };
        let there = |callback: Option<Weak<dyn Fn() + Send + Sync>>| {
            let context = Arc::clone(self.registration.context());
            Some(AioHandler { context, callback: callback?.upgrade()? })
        };
        let (read, write, held) = (there(set.read), there(set.write), there(set.held));
        let release = |handler: &Option<AioHandler>| handler.clone().map_or(AioChange::Keep, AioChange::Release);
        // A channel that was closed has let go of them.
        if read.is_some() || write.is_some() {
            let _ = channel.set_aio_fd_handler(release(&read), release(&write));
        }
        if held.is_some() {
            let _ = lowest_layer(&*channel).set_aio_fd_handler(release(&held), AioChange::Keep);
        }
    }

    /// The channel, unless it is gone.
    fn channel(&self) -> Option<Arc<dyn Channel>> {
        self.kept().channel()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.channel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No user code runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call under way. The callback is dropped after it, also where it panics, unless the watch goes on.
struct Running<'a> {
    active: &'a Active,
    call: Option<Call>,
    goes_on: bool,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let call = self.call.take();
        if self.goes_on {
            let mut state = self.active.state();
            if !state.over {
                state.call = call;
                return;
            }
        }
        self.active.finish();
    }
}

impl fmt::Debug for Active {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("name", &self.channel().and_then(|channel| channel.name()))
            .field("condition", &self.condition)
            .field("over", &self.state().over)
            .finish_non_exhaustive()
    }
}
