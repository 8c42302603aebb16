//! A descriptor that calls borrow and `close` takes away.

use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError, RwLock};

/// The counted descriptor of a leaf channel.
///
/// Each call works on a reference of its own, so that after [`take`](Self::take) the number lives until the last call, waiter
/// or registration has let go, and none of them meets a reused one [[D1]].
///
/// # Threads
/// Any thread may call anything. The lock is held for the clone alone, never inside a system call.
#[doc = channel_core::promises!(D1)]
#[derive(Debug)]
pub struct CountedFd(RwLock<Option<Arc<OwnedFd>>>);

impl CountedFd {
    /// Counts `fd`, with one reference: the channel's own.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        Self(RwLock::new(Some(Arc::new(fd))))
    }

    /// A reference; `None` once it was taken away.
    #[must_use]
    pub fn load(&self) -> Option<Arc<OwnedFd>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes the channel's own reference away: no call finds it from now on.
    pub fn take(&self) -> Option<Arc<OwnedFd>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).take()
    }
}
