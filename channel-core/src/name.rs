//! A channel's name.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};

/// The name of a channel, set at any time from any thread. It shows in errors, watches and traces.
#[derive(Debug, Default)]
pub struct Name(OnceLock<Box<RwLock<Arc<str>>>>); // many a channel never has one

impl Name {
    /// The name, if one was set.
    #[must_use]
    pub fn load(&self) -> Option<Arc<str>> {
        self.0.get().map(|name| Arc::clone(&name.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Sets the name.
    pub fn store(&self, name: &str) {
        let name: Arc<str> = name.into();
        let lock = self.0.get_or_init(|| Box::new(RwLock::new(Arc::clone(&name))));
        *lock.write().unwrap_or_else(PoisonError::into_inner) = name;
    }
}
