//! A descriptor that calls borrow and `close` takes away.

use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError, RwLock};

/// The counted descriptor of a channel. Each call works on a reference of its own, so that after
/// [`take`](Self::take) the number lives until the last call has let go, and no call meets a reused one \[D1\].
///
/// The lock is held for the clone alone, never inside a system call.
#[derive(Debug)]
pub(crate) struct Counted(RwLock<Option<Arc<OwnedFd>>>);

impl Counted {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self(RwLock::new(Some(Arc::new(fd))))
    }

    /// A reference; `None` once it was taken away.
    pub(crate) fn load(&self) -> Option<Arc<OwnedFd>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes the channel's own reference away: no call finds it from now on.
    pub(crate) fn take(&self) -> Option<Arc<OwnedFd>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).take()
    }
}
