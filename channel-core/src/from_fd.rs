//! A descriptor that a constructor gives back.

use std::fmt;
use std::os::fd::OwnedFd;

use crate::Error;

/// A constructor refused the descriptor, or the descriptors, it was given; the caller has them back.
///
/// It turns into an [`Error`] with `?`, which closes them.
#[derive(Debug)]
pub struct FromFdError<T = OwnedFd> {
    /// What was given, untouched.
    pub fd: T,
    /// Why it was refused.
    pub error: Error,
}

impl<T> fmt::Display for FromFdError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T: fmt::Debug> std::error::Error for FromFdError<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl<T> From<FromFdError<T>> for Error {
    fn from(refused: FromFdError<T>) -> Self {
        refused.error
    }
}
