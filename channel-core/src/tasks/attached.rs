//! A channel on its way from loop to loop.

use std::sync::Arc;

use super::channel::{Attachment, Shared};
use crate::{AioContext, Error, Result};

/// A channel that is attached to a loop; made by [`AioChannel::attach`](super::AioChannel::attach).
///
/// Dropping it detaches the channel without waiting for a handler that is running.
#[derive(Debug)]
pub struct Attached {
    shared: Arc<Shared>,
    context: Arc<dyn AioContext>,
}

impl Attached {
    pub(super) fn new(shared: Arc<Shared>, context: Arc<dyn AioContext>) -> Self {
        Self { shared, context }
    }

    /// The loop.
    #[must_use]
    pub fn context(&self) -> &Arc<dyn AioContext> {
        &self.context
    }

    /// Takes the channel, and the channels below it, off its loop. (QEMU: `qio_channel_detach_aio_context`, of old.)
    ///
    /// When this returns, no handler of the old loop runs, or ever will [[A5]]: the [`Detached`] says so. Tasks that wait go on
    /// waiting; they are woken on the loop it is attached to next.
    ///
    /// # Blocking
    /// For as long as a handler that is running takes to wake its task.
    ///
    /// # Errors
    /// [`WouldDeadlock`](crate::ErrorKind::WouldDeadlock) inside such a handler, in the `wake` of a task's waker: the channel stays
    /// attached.
    #[doc = channel_core::promises!(A5)]
    pub fn detach(self) -> Result<Detached, DetachError> {
        *self.shared.attachment() = Attachment::Between;
        match self.shared.release().wait() {
            Ok(()) => {
                let detached = Detached { shared: Arc::clone(&self.shared) };
                std::mem::drop(self); // which sees that the channel is on its way
                Ok(detached)
            }
            Err(error) => {
                self.shared.set_attachment(Attachment::To(Arc::clone(&self.context)));
                let error = error.during("detach").on(self.shared.channel.name());
                Err(DetachError { attached: self, error })
            }
        }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let old = {
            let mut attachment = self.shared.attachment();
            if matches!(*attachment, Attachment::Between) {
                return; // detached: that is the other one's now
            }
            std::mem::replace(&mut *attachment, Attachment::Between)
        };
        let released = self.shared.release();
        self.shared.set_attachment(Attachment::None);
        drop((old, released));
    }
}

/// A channel on its way from one loop to another: no handler of it runs anywhere, which only [`Attached::detach`] can say.
///
/// Tasks that wait for the channel wait on. Dropping this leaves the channel unattached.
#[derive(Debug)]
pub struct Detached {
    shared: Arc<Shared>,
}

impl Detached {
    /// Puts the channel on another loop, on whatever thread that runs; tasks that wait are woken there.
    #[must_use]
    pub fn attach(self, context: Arc<dyn AioContext>) -> Attached {
        let shared = Arc::clone(&self.shared);
        shared.set_attachment(Attachment::To(Arc::clone(&context)));
        Attached { shared, context }
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        let between = matches!(&*self.shared.attachment(), Attachment::Between);
        if between {
            self.shared.set_attachment(Attachment::None);
        }
    }
}

/// A channel that could not be detached, and why.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct DetachError {
    /// The channel, attached as before.
    pub attached: Attached,
    /// Why.
    #[source]
    pub error: Error,
}
