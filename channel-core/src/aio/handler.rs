//! What is set on a channel, and what was removed from it.

use std::fmt;
use std::sync::Arc;

use super::{AioContext, Callee, Registration};
use crate::{Error, ErrorKind, Result};

/// A handler that a loop calls, many times, one call at a time.
pub type Callback = Arc<dyn Fn() + Send + Sync>;

/// A callback and the loop it runs on.
///
/// When the channel lets go of it (it was cleared or replaced, or the channel closed or dropped), the callback is dropped with
/// whatever it captured: that is how its owner can learn of it [[H8]]. (QEMU: `GDestroyNotify`.)
#[doc = channel_core::promises!(H8)]
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

    /// Whether `other` is this very handler, or a clone of it.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.callback, &other.callback)
    }
}

impl fmt::Debug for AioHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AioHandler").field("context", &self.context).finish_non_exhaustive()
    }
}

/// What to do with the handler of one direction [[H2]] [[H8]].
///
/// A channel that passes handlers on passes on what it does not know, too: there may be more of these one day.
#[doc = channel_core::promises!(H2 H8)]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AioChange {
    /// Leave it as it is.
    Keep,
    /// Leave it as it is, and count this as a call on the channel, as a read or a write is: a handler that was taken off its loop
    /// because it called nothing is put back, in either direction [[H5]]. For who has room again and nothing to write; and what a layer
    /// tells the channel below of calls that it served by itself.
    #[doc = channel_core::promises!(H5)]
    Called,
    /// Remove it, whoever set it. No call starts after this; a call under way is not waited for.
    Clear,
    /// Set it, or replace the one that is there.
    Set(AioHandler),
    /// Set it, if there is none; [`Busy`](ErrorKind::Busy) otherwise. What watches and tasks do, which must not push each other
    /// out.
    Claim(AioHandler),
    /// Remove this very handler, and none that has taken its place.
    Release(AioHandler),
    /// Hold this handler beside whatever is set, and never call it; let go of it when it is released, or the channel closed or
    /// dropped. For those who set no handler and have to know of the end: any number of them. A layer passes it on to the
    /// lowest channel, and its release, too.
    Hold(AioHandler),
    /// Add this handler for one who closes: called, beside whatever is set, each time a `close` that said would-block can go on, and let
    /// go of when the channel is closed. Any number of them; each goes by [`Release`](Self::Release), and is due once it was added, so
    /// one that adds another in each call spins. They may be on several loops: what all of them wait for is watched on the loop of the
    /// one added last, and when the time for closing runs out each is called on its own. What the tasks do that wait in
    /// [`AioChannel::close`](crate::AioChannel::close). A channel whose `close` never waits holds it, as with `Hold`.
    Closer(AioHandler),
}

impl AioChange {
    /// For implementers of [`Channel`](crate::Channel): what is to be done where `there` is set. A `Claim` becomes `Set`, and `Release` of
    /// that very handler `Clear`; `Release` of another may be of one held or added.
    ///
    /// # Errors
    /// [`Busy`](ErrorKind::Busy) for a `Claim` where there is a handler already; `layer` is what the error calls the channel.
    pub fn resolve(self, there: Option<&AioHandler>, layer: &'static str) -> Result<Self> {
        Ok(match (self, there) {
            (Self::Claim(handler), None) => Self::Set(handler),
            (Self::Claim(_), Some(_)) => {
                let detail = "a handler, a watch or a task waits in this direction already";
                return Err(Error::new(ErrorKind::Busy, layer, detail).during("set_aio_fd_handler"));
            }
            (Self::Release(handler), Some(there)) if handler.is(there) => Self::Clear,
            (change, _) => change,
        })
    }
}

/// What a change of handlers removed, in this channel and those below it.
///
/// No call of them *starts* any more [[H2]]. Dropping this is all there is to do, unless the caller must know that none is still
/// running: then [`wait`](Self::wait).
#[doc = channel_core::promises!(H2)]
#[derive(Debug, Default)]
pub struct Removed(Vec<Arc<Registration<dyn Callee>>>);

impl Removed {
    /// Nothing was removed.
    #[must_use]
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Adds one that was removed. The [`Registration::remove`] is done here.
    pub fn add<C: Callee + 'static>(&mut self, registration: Arc<Registration<C>>) {
        registration.remove();
        self.0.push(registration);
    }

    /// Adds what was removed elsewhere: in the channel below.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Waits until none of what was removed is running any more. Afterwards nothing of it runs, or ever will: the channel may be
    /// used on another thread without meeting its old loop [[H3]] [[H7]].
    ///
    /// # Blocking
    /// For as long as a call of a removed handler takes, on the thread of its loop. The caller must hold no lock that such a call
    /// waits for.
    ///
    /// # Errors
    /// [`WouldDeadlock`](ErrorKind::WouldDeadlock) inside a call of one of them: it will not be called again, but is running
    /// now.
    #[doc = channel_core::promises!(H3 H7)]
    pub fn wait(self) -> Result<()> {
        let mut inside = false;
        for registration in self.0 {
            inside |= registration.wait_until_idle().is_err();
        }
        if inside {
            let detail = "this is one of the handlers that were removed; it ends when it returns";
            return Err(Error::new(ErrorKind::WouldDeadlock, "handler", detail).of_part().during("wait"));
        }
        Ok(())
    }
}
