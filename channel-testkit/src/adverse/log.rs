//! The record of the calls made to a channel.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use channel_core::{ErrorKind, Result};

/// What [`record`](super::record) writes down, oldest first. Clones are the same log.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Vec<Called>>>);

/// One call to a recorded channel: what was asked of it, and what it answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Called {
    /// The method of [`Channel`](channel_core::Channel).
    pub method: &'static str,
    /// Bytes it had room for, or was given; for `set_blocking`, `set_delay` and `set_cork`, 1 for `true`.
    pub asked: usize,
    /// Over how many buffers those were spread.
    pub buffers: usize,
    /// Descriptors it was given to send.
    pub descriptors: usize,
    /// Whether this call was told not to wait.
    pub dont_wait: bool,
    /// Bytes moved, or the position after a seek; 0 where there is nothing to count.
    pub result: Result<usize, ErrorKind>,
}

impl Called {
    /// A call of `method` that asked for nothing in particular.
    pub(super) fn new(method: &'static str) -> Self {
        Self { method, asked: 0, buffers: 0, descriptors: 0, dont_wait: false, result: Ok(0) }
    }
}

impl Log {
    /// All calls so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Called> {
        self.lock().clone()
    }

    /// The calls of one method so far.
    #[must_use]
    pub fn of(&self, method: &str) -> Vec<Called> {
        self.lock().iter().filter(|called| called.method == method).copied().collect()
    }

    /// Forgets what was written down, for the next part of a test.
    pub fn clear(&self) {
        self.lock().clear();
    }

    pub(super) fn add(&self, called: Called) {
        self.lock().push(called);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Called>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
