//! Descriptors that nobody asked for: how many are kept, and for how long.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use channel_core::{Channel, ChannelExt, ErrorKind, Limits, ReadFlags, WriteFlags, describe};
use channel_socket::SocketChannel;
use channel_testkit::watchdog;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};

/// A pair whose second end keeps at most `kept` descriptors.
fn keeping(kept: usize) -> (SocketChannel, SocketChannel) {
    let (near, far) = UnixStream::pair().unwrap();
    let limits = Limits { kept_descriptors: kept, ..Limits::default() };
    (SocketChannel::from_fd(near.into()).unwrap(), SocketChannel::from_fd_with_limits(far.into(), &limits).unwrap())
}

fn send(channel: &SocketChannel, fds: &[BorrowedFd<'_>]) {
    assert_eq!(channel.writev_full(&[IoSlice::new(b"x")], fds, WriteFlags::empty()).unwrap(), 1);
}

/// Reads a byte and asks for what comes with it.
fn ask(channel: &SocketChannel) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    channel.readv_full(&mut [IoSliceMut::new(&mut [0])], Some(&mut fds), ReadFlags::empty()).unwrap();
    fds
}

#[test]
fn as_many_are_kept_as_the_limit_says_and_one_more_is_too_many() {
    let (file, mut byte) = (File::open("/dev/null").unwrap(), [0]);
    let (near, far) = keeping(2);
    send(&near, &[file.as_fd(); 2]);
    send(&near, &[]);
    far.read_all(&mut byte).unwrap();
    assert_eq!(ask(&far).len(), 2, "two came together, and two may be kept");

    for _ in 0..2 {
        send(&near, &[file.as_fd()]);
        far.read_all(&mut byte).unwrap();
    }
    send(&near, &[file.as_fd()]);
    assert_eq!(far.read(&mut byte).unwrap_err().kind(), ErrorKind::DescriptorsLost, "one came, and two were kept");
}

#[test]
fn close_closes_what_was_kept_though_the_channel_lives_on() {
    let (near, far) = SocketChannel::pair().unwrap();
    let (pipe, write) = rustix::pipe::pipe().unwrap();
    send(&near, &[write.as_fd()]);
    far.read_all(&mut [0]).unwrap();
    drop(write);
    assert!(!is_closed(&pipe));
    far.close().unwrap();
    assert!(is_closed(&pipe));
    assert!(far.read(&mut [0]).unwrap_err().is_closed());
}

#[test]
fn a_read_of_all_that_fails_leaves_no_descriptor_behind() {
    watchdog::run("a_read_of_all_that_fails", || {
        for (resets, kind) in [(false, ErrorKind::UnexpectedEof), (true, ErrorKind::Reset)] {
            let (near, far) = SocketChannel::pair().unwrap();
            let (pipe, write) = rustix::pipe::pipe().unwrap();
            send(&near, &[write.as_fd()]);
            drop(write);
            if resets {
                far.write_all(b"never read").unwrap(); // so that the end of the peer is a reset
            }
            drop(near);
            let mut fds: Vec<OwnedFd> = vec![File::open("/dev/null").unwrap().into()];
            let mut room = [0; 2];
            let read = far.readv_full_all(&mut [IoSliceMut::new(&mut room)], Some(&mut fds), ReadFlags::empty());
            let error = read.unwrap_err();
            assert_eq!((error.kind(), error.bytes_done()), (kind, Some(1)), "{error}");
            assert_eq!(fds.len(), 1, "only what was there before is left after {kind:?}");
            assert!(is_closed(&pipe), "what came was not closed after {kind:?}");
        }
    });
}

/// Whether nobody has the other end of a pipe open any more.
fn is_closed(pipe: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(pipe, PollFlags::IN)];
    poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap();
    polled[0].revents().contains(PollFlags::HUP)
}

#[test]
fn with_a_limit_of_none_a_read_that_does_not_ask_takes_none_and_the_stream_goes_on() {
    let (out, inn) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
    let limits = Limits { kept_descriptors: 0, ..Limits::default() };
    let (near, far) = UnixStream::pair().unwrap();
    let near = SocketChannel::from_fd_with_limits(near.into(), &limits).unwrap();
    let far = SocketChannel::from_fd(far.into()).unwrap();
    far.writev_full(&[IoSlice::new(b"a")], &[inn.as_fd()], WriteFlags::empty()).unwrap();
    near.read_all(&mut [0]).unwrap();
    assert!(describe(&near).contains("1 message brought"), "{}", describe(&near));
    far.writev_full(&[IoSlice::new(b"b")], &[out.as_fd()], WriteFlags::empty()).unwrap();
    let mut fds = Vec::new();
    let read = near.readv_full(&mut [IoSliceMut::new(&mut [0])], Some(&mut fds), ReadFlags::empty());
    assert_eq!((read.unwrap(), fds.len()), (1, 1));
}
