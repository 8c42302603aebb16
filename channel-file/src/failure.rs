//! Descriptors that are refused, and what is said about them.

use std::fmt;
use std::os::fd::OwnedFd;

use channel_core::{Error, ErrorKind, Features, Result};
use rustix::fs::{FileType, OFlags, fcntl_getfl};
use rustix::io::{Errno, FdFlags, fcntl_setfd};

/// A constructor refused what it was given; the caller has it back.
///
/// It turns into a [`channel_core::Error`] with `?`, which closes the descriptors.
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

pub(crate) fn io_error(errno: Errno, layer: &'static str, operation: &'static str) -> Error {
    if errno == Errno::AGAIN {
        return Error::WOULD_BLOCK;
    }
    Error::from_io(errno.into(), layer).during(operation)
}

/// Refuses a file of a type that another channel is for, or none.
pub(crate) fn wrong_type(layer: &'static str, found: FileType) -> Error {
    let detail = match found {
        FileType::RegularFile | FileType::BlockDevice => "this is a file; use FileChannel",
        FileType::Fifo => "this is a pipe; use PipeChannel",
        FileType::Socket => "this is a socket; use SocketChannel of channel-socket",
        FileType::CharacterDevice => {
            "this is a terminal or another device that makes its users wait; no channel is for those yet"
        }
        FileType::Directory => "this is a directory",
        _ => "this is neither a file nor a pipe",
    };
    Error::new(ErrorKind::InvalidInput, layer, detail)
}

/// Whether `fd` was opened for reading, and whether for writing.
pub(crate) fn access(fd: &OwnedFd) -> rustix::io::Result<(bool, bool)> {
    let flags = fcntl_getfl(fd)?;
    if flags.contains(OFlags::PATH) {
        return Ok((false, false));
    }
    // O_ACCMODE is a number of two bits, not a set: O_RDONLY is 0.
    let mode = flags & OFlags::ACCMODE;
    Ok((mode != OFlags::WRONLY, mode != OFlags::RDONLY))
}

/// Makes an adopted descriptor close-on-exec: its number is the channel's from now on.
pub(crate) fn adopt(fd: &OwnedFd) -> rustix::io::Result<()> {
    fcntl_setfd(fd, FdFlags::CLOEXEC)
}

/// An error for a missing feature, from its `why_not`.
pub(crate) fn unsupported(channel: &dyn channel_core::Channel, operation: &'static str, feature: Features) -> Error {
    let why = channel.why_not(feature).unwrap_or_default();
    Error::new(ErrorKind::Unsupported, channel.layer(), why).during(operation).on(channel.name())
}

/// An error for a direction that a descriptor was not opened for.
pub(crate) fn one_way(channel: &dyn channel_core::Channel, operation: &'static str) -> Error {
    let detail = if operation == "read" { "it was opened for writing only" } else { "it was opened for reading only" };
    Error::new(ErrorKind::Unsupported, channel.layer(), detail).during(operation).on(channel.name())
}

/// An error for a call after `close`.
pub(crate) fn closed(channel: &dyn channel_core::Channel, operation: &'static str) -> Error {
    Error::new(ErrorKind::Closed, channel.layer(), "close was called on it before").during(operation).on(channel.name())
}

/// An error for a write after our output was ended.
pub(crate) fn ended(channel: &dyn channel_core::Channel) -> Error {
    let detail = "our output was ended before";
    Error::new(ErrorKind::BrokenPipe, channel.layer(), detail).during("write").on(channel.name())
}

/// What one system call is given of a list with `count` buffers, of which `empty` tells the empty ones: none of those at the
/// front, where a list of nothing else would look like the end, and no more than the kernel takes \[W4\].
pub(crate) fn span(count: usize, empty: impl Fn(usize) -> bool) -> Option<std::ops::Range<usize>> {
    /// `UIO_MAXIOV`, readv(2).
    const MOST_BUFFERS: usize = 1024;
    let first = (0..count).find(|&index| !empty(index))?;
    Some(first..count.min(first + MOST_BUFFERS))
}

/// Says who refused and gives back what was refused.
pub(crate) fn refuse<T, C>(fd: T, error: Error) -> Result<C, FromFdError<T>> {
    Err(FromFdError { fd, error: error.during("from_fd") })
}
