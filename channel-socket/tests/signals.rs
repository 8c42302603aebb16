//! A peer that is gone is an error, never a signal \[W6\], also in a program that did not switch the signal off.

use std::fs;
use std::io::IoSlice;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::Command;

use channel_core::{Channel, ChannelExt, ErrorKind, WriteFlags};
use channel_socket::{SocketAddress, SocketChannel, SocketListener};
use channel_testkit::{child, watchdog};

/// The environment variable that tells the child which it is.
const CHILD_VARIABLE: &str = "CHANNEL_SOCKET_SIGNALS";

/// Runs `body` in a child that has `SIGPIPE` blocked: one that is raised stays pending, where it can be seen, although Rust's runtime
/// ignores it (the kernel keeps blocked signals whatever is to become of them: they may be wanted by the time they are unblocked).
fn with_the_signal_blocked(test: &str, body: impl FnOnce()) {
    if std::env::var_os(CHILD_VARIABLE).is_some() {
        return watchdog::run(test, body);
    }
    // std itself unblocks everything in its children; env(1) blocks it again, and nothing after that unblocks it.
    let output = Command::new("env")
        .arg("--block-signal=PIPE")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD_VARIABLE, "")
        .output()
        .expect("env(1)");
    let said = child::said(&output);
    assert!(output.status.success() && said.contains("1 passed"), "{}:\n{said}", output.status);
}

/// Whether `SIGPIPE` was raised in this thread, and is still pending.
fn is_pending() -> bool {
    const SIGPIPE: u32 = 13;
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let set = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap() & (1 << (SIGPIPE - 1)) != 0
    };
    assert!(set("SigBlk:"), "the signal is not blocked, and would not be seen");
    set("SigPnd:")
}

fn tcp_pair() -> (SocketChannel, SocketChannel) {
    let listener = SocketListener::bind(&SocketAddress::Inet("127.0.0.1:0".parse().unwrap())).unwrap();
    let near = SocketChannel::connect(listener.local_address()).unwrap();
    (near, listener.accept().unwrap())
}

/// Writes until the socket knows that its peer is gone.
fn write_in_vain(channel: &SocketChannel) {
    while channel.write(b"x").is_ok() {
        std::thread::yield_now(); // TCP learns it from the answer
    }
    // What it says first may be a reset; from then on every write is a broken pipe.
    assert_eq!(channel.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn a_write_to_a_peer_that_is_gone_raises_no_signal() {
    with_the_signal_blocked("a_write_to_a_peer_that_is_gone_raises_no_signal", || {
        for (near, far) in [SocketChannel::pair().unwrap(), tcp_pair()] {
            drop(far);
            write_in_vain(&near);
            assert!(!is_pending(), "by a write");
            assert!(near.writev(&[IoSlice::new(b"x"), IoSlice::new(b"y")]).is_err());
            assert!(!is_pending(), "by a write of two buffers");
        }
        let (near, far) = SocketChannel::pair().unwrap();
        drop(far);
        let null = fs::File::open("/dev/null").unwrap();
        near.writev_full(&[IoSlice::new(b"x")], &[null.as_fd()], WriteFlags::empty()).unwrap_err();
        assert!(!is_pending(), "by a write with a descriptor");

        // What would have been seen: std sends with MSG_NOSIGNAL, write(2) does not know it.
        let (near, far) = UnixStream::pair().unwrap();
        drop(far);
        rustix::io::write(&near, b"x").unwrap_err();
        assert!(is_pending(), "by write(2): this test sees nothing");
    });
}
