//! Descriptors that are refused, and what is said about them.

use std::os::fd::OwnedFd;

use channel_core::Error;
use rustix::fs::{FileType, OFlags, fcntl_getfl};
use rustix::io::{Errno, FdFlags, fcntl_setfd};

pub(crate) fn io_error(errno: Errno, layer: &'static str, operation: &'static str) -> Error {
    if errno == Errno::AGAIN {
        return Error::WOULD_BLOCK;
    }
    Error::from_io(errno.into(), layer).during(operation)
}

/// What is said of a file of a type that another channel is for, or none.
pub(crate) fn wrong_type(found: FileType) -> &'static str {
    match found {
        FileType::RegularFile | FileType::BlockDevice => "this is a file; use FileChannel",
        FileType::Fifo => "this is a pipe; use PipeChannel",
        FileType::Socket => "this is a socket; use SocketChannel of channel-socket",
        FileType::CharacterDevice => {
            "this is a terminal or another device that makes its users wait; no channel is for those yet"
        }
        FileType::Directory => "this is a directory",
        _ => "this is neither a file nor a pipe",
    }
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
