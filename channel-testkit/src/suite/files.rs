//! The descriptors of a channel, as its waiters see them.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Weak};

use channel_core::{Channel, Direction, Readiness};
use rustix::fs::OFlags;

/// The descriptors that waiters would poll now.
pub(crate) fn polled(channel: &dyn Channel) -> Vec<Arc<OwnedFd>> {
    let mut files: Vec<Arc<OwnedFd>> = Vec::new();
    for direction in [Direction::Read, Direction::Write] {
        if let Readiness::Wait(interests) = channel.readiness(direction) {
            for interest in interests.iter() {
                if !files.iter().any(|known| Arc::ptr_eq(known, &interest.fd)) {
                    files.push(Arc::clone(&interest.fd));
                }
            }
        }
    }
    files
}

/// What is open behind a descriptor, in the kernel's words, such as `socket:[4711]`.
pub(crate) fn file_behind(fd: &impl AsRawFd) -> String {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    link.map_or_else(|error| error.to_string(), |link| link.display().to_string())
}

pub(crate) fn status_flags(fd: &impl AsFd) -> OFlags {
    rustix::fs::fcntl_getfl(fd).expect("F_GETFL")
}

/// A descriptor that somebody should let go of, and what it is.
pub(crate) type Watched = (Weak<OwnedFd>, String);

/// Watches whether descriptors are let go of, without keeping them open.
pub(crate) fn watched(files: Vec<Arc<OwnedFd>>) -> Vec<Watched> {
    files.into_iter().map(|file| (Arc::downgrade(&file), file_behind(&file))).collect()
}

#[track_caller]
pub(crate) fn assert_released(files: &[Watched], when: &str) {
    for (file, what) in files {
        assert!(file.upgrade().is_none(), "{when}, but a descriptor is still open: {what}");
    }
}
