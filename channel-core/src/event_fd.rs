//! Descriptors that are readable when somebody says so.

use std::os::fd::OwnedFd;

use rustix::event::{EventfdFlags, eventfd};

/// An eventfd(2), readable if it starts out raised.
pub(crate) fn new(raised: bool) -> rustix::io::Result<OwnedFd> {
    eventfd(raised.into(), EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
}

/// Makes it readable.
pub(crate) fn raise(fd: &OwnedFd) {
    // It never waits, and a counter that is full is readable; nothing else can fail on an eventfd of our own.
    let _ = rustix::io::write(fd, &1u64.to_ne_bytes());
}

/// Makes it readable, or not.
pub(crate) fn set(fd: &OwnedFd, raised: bool) {
    if raised { raise(fd) } else { lower(fd) }
}

/// Makes it unreadable, however often it was raised.
pub(crate) fn lower(fd: &OwnedFd) {
    let _ = rustix::io::read(fd, &mut [0; 8]); // it never waits, and one that was not raised is unreadable already
}
