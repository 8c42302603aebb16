//! What a constructor that refuses it gives back.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;

use crate::{Channel, Error, Result};

/// What was given was refused, and is the caller's again, untouched.
///
/// It turns into an [`Error`], or an [`io::Error`], with `?`, which drops what was given. It reads as the error does.
#[derive(Debug)]
pub struct GivenBack<T> {
    /// What was given, untouched.
    pub given: T,
    /// Why it was refused.
    pub error: Error,
}

/// A constructor refused the descriptor, or the descriptors, that it was given.
pub type FromFdError<T = OwnedFd> = GivenBack<T>;

/// A layer refused the channel that it was to be put over.
pub type OverError = GivenBack<Box<dyn Channel>>;

impl<T> GivenBack<T> {
    /// `given` was refused for `error`.
    pub fn new(given: T, error: Error) -> Self {
        Self { given, error }
    }

    /// With what `with` makes of what is given back.
    pub fn map<U>(self, with: impl FnOnce(T) -> U) -> GivenBack<U> {
        GivenBack::new(with(self.given), self.error)
    }

    /// `given`, and what was `made` without it so far.
    ///
    /// # Errors
    /// That of `made`, with `given`.
    pub fn unless_made<U>(given: T, made: Result<U>) -> Result<(T, U), Self> {
        match made {
            Ok(made) => Ok((given, made)),
            Err(error) => Err(Self::new(given, error)),
        }
    }
}

impl<T> fmt::Display for GivenBack<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T: fmt::Debug> std::error::Error for GivenBack<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl<T> From<GivenBack<T>> for Error {
    fn from(refused: GivenBack<T>) -> Self {
        refused.error
    }
}

impl<T> From<GivenBack<T>> for io::Error {
    fn from(refused: GivenBack<T>) -> Self {
        refused.error.into()
    }
}
