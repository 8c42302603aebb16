//! The handler of a direction, as one owns it: a watch, a task, a listener.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};

use super::{AioChange, AioContext, AioHandler, Callback, Callee, Registration, Removed, Timer, is_same_context};
use crate::{Channel, Direction, Error, ErrorKind, Result};

/// What has handlers that can be claimed: every channel, and what else sets handlers as one does, such as a listener.
pub trait Claimable: fmt::Debug + Send + Sync {
    /// As [`Channel::set_aio_fd_handler`], for one direction; where there is but one, `direction` does not matter.
    ///
    /// # Errors
    /// As that.
    fn change_handler(&self, direction: Direction, change: AioChange) -> Result<Removed>;
}

impl<T: Channel + ?Sized> Claimable for T {
    fn change_handler(&self, direction: Direction, change: AioChange) -> Result<Removed> {
        match direction {
            Direction::Read => self.set_aio_fd_handler(change, AioChange::Keep),
            Direction::Write => self.set_aio_fd_handler(AioChange::Keep, change),
        }
    }
}

/// Whose a [`Claim`] is: what it tells.
pub trait Claimant: fmt::Debug + Send + Sync + 'static {
    /// The direction can make progress: on the thread of the loop, one call at a time, as a handler is called; perhaps before the claim is
    /// returned to its owner.
    fn call(&self);

    /// The channel let go of the handler, and its owner did not. At most once, on whatever thread closed the channel or took the handler
    /// away, with no lock of the claim held; never inside a call, nor before the claim was returned.
    fn lost(&self);
}

/// The handler of one direction, owned: nobody else's can be claimed there until this is dropped, which releases it [[H8]].
///
/// What watches, tasks and listeners are made of, and what your own can be made of. Where the channel lets go of the handler first (it was closed
/// or dropped, or somebody cleared the handler or set another in its place), [`Claimant::lost`] is called, and [`lost`](Self::lost) says why.
/// The claimant lives as long as the claim; the channel is not kept alive. To move to another loop, [`release`](Self::release) it and make
/// another.
///
/// ```
/// use channel_core::{Channel, ChannelExt, Claim, Claimant, Direction, EventLoop, LoopHandle, MemoryChannel};
/// use std::sync::Arc;
///
/// #[derive(Debug)]
/// struct Stops(Arc<LoopHandle>);
///
/// impl Claimant for Stops {
///     fn call(&self) {
///         self.0.stop();
///     }
///
///     fn lost(&self) {
///         self.0.stop();
///     }
/// }
///
/// let (near, far) = MemoryChannel::pair()?;
/// let near = Arc::new(near);
/// let event_loop = EventLoop::new()?;
/// let claim = Claim::new(&near, Direction::Read, event_loop.handle(), Stops(event_loop.handle()))?;
/// far.write_all(b"hello")?;
/// event_loop.run()?;
/// assert!(claim.lost().is_none());
/// near.close()?;
/// assert!(claim.lost().is_some_and(|why| why.is_closed()));
/// # Ok::<(), channel_core::Error>(())
/// ```
#[doc = channel_core::promises!(H8)]
#[derive(Debug)]
#[must_use = "dropping a claim releases it"]
pub struct Claim<C: Claimant, T: Claimable + ?Sized = dyn Channel> {
    channel: Weak<T>,
    registration: Arc<Registration<Held<C>>>,
    /// The channel alone holds it.
    callback: Weak<dyn Fn() + Send + Sync>,
}

/// What the handler calls.
#[derive(Debug)]
struct Held<C> {
    fate: AtomicU8,
    direction: Direction, // here, where it costs no room
    context: Arc<dyn AioContext>,
    claimant: C,
}

/// It is being set.
const NEW: u8 = 0;
/// The channel has it.
const HELD: u8 = 1;
/// The channel let go of it, or its loop has ended.
const LOST: u8 = 2;
/// Its owner let go of it.
const RELEASED: u8 = 3;

impl<C: Claimant> Held<C> {
    fn becomes(&self, from: u8, to: u8) -> bool {
        self.fate.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The owner of one that is still being set is told by what comes of that.
    fn lose(&self) {
        if !self.becomes(NEW, LOST) && self.becomes(HELD, LOST) {
            self.claimant.lost();
        }
    }
}

impl<C: Claimant> Callee for Held<C> {
    fn context(&self) -> &Arc<dyn AioContext> {
        &self.context
    }

    fn call(&self) {
        self.claimant.call();
    }
}

/// What the callback holds, or the loop of a claim that ends with it.
struct Link<C: Claimant>(Arc<Registration<Held<C>>>);

impl<C: Claimant> Drop for Link<C> {
    fn drop(&mut self) {
        self.0.callee().lose();
    }
}

impl<C: Claimant, T: Claimable + ?Sized> Claim<C, T> {
    /// Claims the handler of `direction` for `claimant`, to be called on `context` ([`AioChange::Claim`]).
    ///
    /// # Errors
    /// [`Busy`](ErrorKind::Busy) where there is a handler already; [`Closed`](ErrorKind::Closed); what setting a handler fails with. `claimant`
    /// is dropped, and not told.
    pub fn new(channel: &Arc<T>, direction: Direction, context: Arc<dyn AioContext>, claimant: C) -> Result<Self> {
        let (claim, handler) = Self::begin(channel, direction, context, claimant);
        claim.end(channel.change_handler(direction, AioChange::Claim(handler)))
    }

    /// One of any number that are never called, beside the handlers of others: to know when the channel is closed
    /// ([`AioChange::Hold`]).
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed).
    pub fn hold(channel: &Arc<T>, context: Arc<dyn AioContext>, claimant: C) -> Result<Self> {
        let (claim, handler) = Self::begin(channel, Direction::Read, context, claimant);
        claim.end(channel.change_handler(Direction::Read, AioChange::Hold(handler)))
    }

    /// One of any number that are called when a `close` which said would-block can go on ([`AioChange::Closer`]).
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed); what setting a handler fails with.
    pub fn closer(channel: &Arc<T>, context: Arc<dyn AioContext>, claimant: C) -> Result<Self> {
        let (claim, handler) = Self::begin(channel, Direction::Write, context, claimant);
        claim.end(channel.change_handler(Direction::Write, AioChange::Closer(handler)))
    }

    fn begin(channel: &Arc<T>, direction: Direction, context: Arc<dyn AioContext>, claimant: C) -> (Self, AioHandler) {
        let registration =
            Registration::new(Held { fate: AtomicU8::new(NEW), direction, context: Arc::clone(&context), claimant });
        let link = Link(Arc::clone(&registration));
        let callback: Callback = Arc::new(move || link.0.run());
        let claim = Self { channel: Arc::downgrade(channel), registration, callback: Arc::downgrade(&callback) };
        (claim, AioHandler { context, callback })
    }

    fn end(self, set: Result<Removed>) -> Result<Self> {
        set?; // a claim replaces nothing
        if self.held().becomes(NEW, HELD) { Ok(self) } else { Err(self.why()) }
    }

    fn held(&self) -> &Held<C> {
        self.registration.callee()
    }

    /// The loop it is called on.
    #[must_use]
    pub fn context(&self) -> &Arc<dyn AioContext> {
        self.registration.context()
    }

    /// Whether it is called on `context`: the handler was not lost, and that is its loop.
    #[must_use]
    pub fn is_on(&self, context: &Arc<dyn AioContext>) -> bool {
        self.held().fate.load(Ordering::Acquire) == HELD && is_same_context(self.context(), context)
    }

    /// Why it was lost: [`Closed`](ErrorKind::Closed) with the reason of a channel that was closed or dropped, [`NotAttached`](ErrorKind::NotAttached) where its
    /// loop has ended ([`ends_with_loop`](Self::ends_with_loop)), or [`Busy`](ErrorKind::Busy) where somebody else cleared or replaced the
    /// handler. `None` if it was not, or released before.
    #[must_use]
    pub fn lost(&self) -> Option<Error> {
        let lost = self.held().fate.load(Ordering::Acquire) == LOST;
        lost.then(|| self.why())
    }

    fn why(&self) -> Error {
        if self.callback.strong_count() > 0 {
            return Error::new(ErrorKind::NotAttached, "handler", "its event loop has ended").of_part();
        }
        let asked =
            self.channel.upgrade().map(|channel| channel.change_handler(self.held().direction, AioChange::Keep));
        match asked {
            None => Error::new(ErrorKind::Closed, "channel", "it was dropped").of_part(),
            Some(Err(error)) => error,
            Some(Ok(_)) => {
                let detail = "somebody cleared it, set another in its place, or put a layer over the channel";
                Error::new(ErrorKind::Busy, "handler", detail).of_part()
            }
        }
    }

    /// Has it lost when its loop ends, too, which holds nothing of a claim otherwise. Where that has ended by now, [`Claimant::lost`] is called
    /// here. Dropping the timer is as good as the loop's end: release the claim first.
    #[must_use = "dropping the timer loses the claim"]
    pub fn ends_with_loop(&self) -> Timer {
        Timer::keep(self.context(), Link(Arc::clone(&self.registration)))
    }

    /// Lets go of the handler: no call of it starts any more, and `lost` is not told. What dropping the claim does, too; here
    /// [`Removed::wait`] waits for a call under way, and says [`WouldDeadlock`](ErrorKind::WouldDeadlock) inside it: also where the handler was
    /// lost or released before.
    ///
    /// No lock that a call of it waits for, or what it captured takes when dropped, is to be held when what this returns is dropped.
    pub fn release(&self) -> Removed {
        let released = self.held().fate.swap(RELEASED, Ordering::AcqRel) == RELEASED;
        let mut removed = Removed::nothing();
        removed.add(Arc::clone(&self.registration)); // it may be running, although the channel let go of it long ago
        if let (false, Some(callback), Some(channel)) = (released, self.callback.upgrade(), self.channel.upgrade()) {
            let handler = AioHandler { context: Arc::clone(self.context()), callback };
            // A channel that was closed has let go of it.
            removed
                .extend(channel.change_handler(self.held().direction, AioChange::Release(handler)).unwrap_or_default());
        }
        removed
    }
}

impl<C: Claimant, T: Channel + ?Sized> Claim<C, T> {
    /// Claims the handlers of both directions, or neither.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn both(channel: &Arc<T>, context: Arc<dyn AioContext>, read: C, write: C) -> Result<[Self; 2]> {
        let (read, reads) = Self::begin(channel, Direction::Read, Arc::clone(&context), read);
        let (write, writes) = Self::begin(channel, Direction::Write, context, write);
        let set = channel.set_aio_fd_handler(AioChange::Claim(reads), AioChange::Claim(writes));
        let read = read.end(set)?;
        Ok([read, write.end(Ok(Removed::nothing()))?])
    }
}

impl<C: Claimant, T: Claimable + ?Sized> Drop for Claim<C, T> {
    fn drop(&mut self) {
        drop(self.release());
    }
}
