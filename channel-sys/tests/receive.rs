//! Control messages of real sockets: each descriptor has an owner.

use std::fs::{self, File};
use std::io::{ErrorKind, IoSliceMut, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use channel_sys::{Passing, Received, receive, set_passing};

/// The pidfds that this process has open; other tests open other files meanwhile.
fn pidfds() -> usize {
    let names = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    names.filter(|name| name.to_string_lossy().contains("pidfd")).count()
}

#[test]
fn what_is_read_is_told_and_so_are_the_end_and_that_there_is_nothing() {
    let (near, mut far) = UnixStream::pair().unwrap();
    let mut fds: Vec<OwnedFd> = vec![File::open("/dev/null").unwrap().into()];
    let (mut first, mut second) = ([0; 2], [0; 8]);
    let mut bufs = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
    assert_eq!(receive(near.as_fd(), &mut bufs, &mut fds).unwrap_err().kind(), ErrorKind::WouldBlock);
    far.write_all(b"abcde").unwrap();
    let received = receive(near.as_fd(), &mut bufs, &mut fds).unwrap();
    assert_eq!(received, Received { bytes: 5, truncated: false });
    drop(far);
    assert_eq!(receive(near.as_fd(), &mut bufs, &mut fds).unwrap().bytes, 0);
    assert_eq!((&first, &second[..3], fds.len()), (b"ab", &b"cde"[..], 1));
}

#[test]
fn nothing_stays_open_of_what_a_socket_brings_that_nobody_asked_for() {
    let (near, mut far) = UnixStream::pair().unwrap();
    for what in [Passing::Credentials, Passing::Label, Passing::Pidfd] {
        if let Err(error) = set_passing(near.as_fd(), what, true) {
            println!("skipped {what:?}: this system does not know it: {error}");
        }
    }
    let mut fds = Vec::new();
    for _ in 0..50 {
        far.write_all(b"x").unwrap();
        let received = receive(near.as_fd(), &mut [IoSliceMut::new(&mut [0])], &mut fds).unwrap();
        assert_eq!(received, Received { bytes: 1, truncated: false });
    }
    assert_eq!((fds.len(), pidfds()), (0, 0));
}
