//! Descriptors: which are open, which were left behind, and what they refer to.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, RawFd};
use std::path::Path;

use rustix::fs::fstat;
use rustix::io::{FdFlags, fcntl_getfd};

/// The open descriptors of this process, and what each refers to (`socket:[1234]`, `/tmp/x`), as /proc/self/fd has them.
///
/// # Panics
/// Without /proc.
#[must_use]
pub fn open_fds() -> BTreeMap<RawFd, String> {
    let directory = Path::new("/proc/self/fd");
    // An entry keeps the listing open; a name does not.
    let listed: Vec<_> =
        fs::read_dir(directory).expect("/proc is mounted").flatten().map(|entry| entry.file_name()).collect();
    // The listing had a descriptor of its own, which is closed by now: its link cannot be read.
    let open = listed.iter().filter_map(|name| {
        let target = fs::read_link(directory.join(name)).ok()?;
        Some((name.to_string_lossy().parse().ok()?, target.to_string_lossy().into_owned()))
    });
    open.collect()
}

/// Runs `body` and asserts that the same descriptors are open afterwards as before.
///
/// The whole process is counted, so this belongs into a [child](crate::child).
///
/// # Panics
/// If a descriptor was left behind, or one that was there is gone.
pub fn assert_no_fd_left(body: impl FnOnce()) {
    let before = open_fds();
    body();
    let after = open_fds();
    let left: Vec<_> = after.iter().filter(|&(fd, target)| before.get(fd) != Some(target)).collect();
    let gone: Vec<_> = before.iter().filter(|&(fd, target)| after.get(fd) != Some(target)).collect();
    assert!(left.is_empty() && gone.is_empty(), "descriptors left behind: {left:?}; gone: {gone:?}");
}

/// Asserts that `fd` is closed when this process executes another program.
///
/// # Panics
/// If it is not.
pub fn assert_cloexec(fd: impl AsFd) {
    let flags = fcntl_getfd(fd.as_fd()).expect("an open descriptor has flags");
    assert!(flags.contains(FdFlags::CLOEXEC), "{:?} would be inherited by an executed program", fd.as_fd());
}

/// Asserts that `a` and `b` refer to the same file, pipe or socket.
///
/// Anonymous inodes (eventfd, epoll) all look the same to fstat(2); test with something else.
///
/// # Panics
/// If they do not.
pub fn assert_same_file(a: impl AsFd, b: impl AsFd) {
    let identity = |fd: &dyn AsFd| fstat(fd.as_fd()).map(|stat| (stat.st_dev, stat.st_ino)).expect("fstat works");
    let (first, second) = (identity(&a), identity(&b));
    assert_eq!(first, second, "{:?} and {:?} are different files (device, inode)", a.as_fd(), b.as_fd());
}
