//! A channel's name.

use std::sync::{Arc, PoisonError, RwLock};

/// The name of a channel, set at any time from any thread. It shows in errors, watches and traces.
#[derive(Debug, Default)]
pub struct Name(RwLock<Option<Arc<str>>>);

impl Name {
    /// The name, if one was set.
    #[must_use]
    pub fn load(&self) -> Option<Arc<str>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets the name.
    pub fn store(&self, name: &str) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(name.into());
    }
}
