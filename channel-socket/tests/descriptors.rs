//! Descriptors passed along.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use channel_core::{Channel, ChannelExt, Direction, ErrorKind, Limits, ReadFlags, Result, WriteFlags};
use channel_socket::{SocketAddress, SocketChannel, SocketListener};
use channel_sys::{Passing, set_passing};
use channel_testkit::{child, fds, watchdog};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::net::sockopt;

/// A file that can be told from any other.
fn some_file() -> File {
    File::open(std::env::current_exe().unwrap()).unwrap()
}

fn send(channel: &SocketChannel, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<usize> {
    channel.writev_full(&[IoSlice::new(bytes)], fds, WriteFlags::empty())
}

fn receive(channel: &SocketChannel, room: usize, flags: ReadFlags) -> Result<(usize, Vec<OwnedFd>)> {
    let mut fds = Vec::new();
    let count = channel.readv_full(&mut [IoSliceMut::new(&mut vec![0; room])], Some(&mut fds), flags)?;
    Ok((count, fds))
}

#[test]
fn a_descriptor_arrives_with_the_first_byte_close_on_exec_and_blocking() {
    let (near, far) = SocketChannel::pair().unwrap();
    let (pipe, _write) = rustix::pipe::pipe().unwrap();
    fcntl_setfl(&pipe, OFlags::NONBLOCK).unwrap();
    send(&near, b"ab", &[pipe.as_fd()]).unwrap();
    let (count, fds) = receive(&far, 1, ReadFlags::PRESERVE_BLOCKING).unwrap();
    assert_eq!((count, fds.len()), (1, 1));
    assert!(fcntl_getfl(&fds[0]).unwrap().contains(OFlags::NONBLOCK), "preserved");
    let (count, fds) = receive(&far, 1, ReadFlags::empty()).unwrap();
    assert_eq!((count, fds.len()), (1, 0), "only with the first byte");
    send(&near, b"c", &[pipe.as_fd()]).unwrap();
    let (_, fds) = receive(&far, 1, ReadFlags::empty()).unwrap();
    fds::assert_cloexec(&fds[0]);
    fds::assert_same_file(&fds[0], &pipe);
    assert!(!fcntl_getfl(&fds[0]).unwrap().contains(OFlags::NONBLOCK));
}

#[test]
fn as_many_as_the_kernel_sends_arrive_and_one_more_is_refused_before_any_byte() {
    child::run("as_many_as_the_kernel_sends_arrive_and_one_more_is_refused_before_any_byte", || {
        let (near, far) = SocketChannel::pair().unwrap();
        let file = some_file();
        fds::assert_no_fd_left(|| {
            let refused = send(&near, b"x", &[file.as_fd(); 254]).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{refused}");
            send(&near, b"y", &[file.as_fd(); 253]).unwrap();
            let mut byte = [0];
            let mut fds = Vec::new();
            far.readv_full(&mut [IoSliceMut::new(&mut byte)], Some(&mut fds), ReadFlags::empty()).unwrap();
            assert_eq!((byte, fds.len()), (*b"y", 253));
            for fd in &fds {
                fds::assert_same_file(fd, &file);
            }
        });
    });
}

#[test]
fn those_nobody_asked_for_are_kept_for_the_next_read_that_does_and_never_come_without_a_byte() {
    child::run("those_nobody_asked_for_are_kept_for_the_next_read_that_does_and_never_come_without_a_byte", || {
        let (near, far) = SocketChannel::pair().unwrap();
        let (file, (pipe, _write)) = (some_file(), rustix::pipe::pipe().unwrap());
        fds::assert_no_fd_left(|| {
            send(&near, b"a", &[file.as_fd()]).unwrap();
            assert_eq!(far.read(&mut [0; 8]).unwrap(), 1);
            let nothing = receive(&far, 1, ReadFlags::DONT_WAIT).unwrap_err();
            assert!(nothing.is_would_block(), "{nothing}");
            send(&near, b"b", &[pipe.as_fd()]).unwrap();
            let (count, fds) = receive(&far, 8, ReadFlags::empty()).unwrap();
            assert_eq!((count, fds.len()), (1, 2));
            fds::assert_same_file(&fds[0], &file);
            fds::assert_same_file(&fds[1], &pipe);
            assert_eq!(receive(&far, 8, ReadFlags::DONT_WAIT).unwrap_err().kind(), ErrorKind::WouldBlock);
        });
    });
}

#[test]
fn kept_ones_are_closed_with_the_channel_and_not_handed_out_at_the_end() {
    child::run("kept_ones_are_closed_with_the_channel_and_not_handed_out_at_the_end", || {
        let file = some_file();
        for drop_only in [false, true] {
            fds::assert_no_fd_left(|| {
                let (near, far) = SocketChannel::pair().unwrap();
                send(&near, b"a", &[file.as_fd(); 3]).unwrap();
                far.read(&mut [0]).unwrap();
                drop(near);
                let (count, fds) = receive(&far, 1, ReadFlags::empty()).unwrap();
                assert_eq!((count, fds.len()), (0, 0));
                if !drop_only {
                    far.close().unwrap();
                }
            });
        }
    });
}

#[test]
fn a_peek_takes_no_descriptors() {
    let (near, far) = SocketChannel::pair().unwrap();
    let file = some_file();
    send(&near, b"a", &[file.as_fd()]).unwrap();
    let (count, fds) = receive(&far, 1, ReadFlags::MSG_PEEK).unwrap();
    assert_eq!((count, fds.len()), (1, 0));
    let (count, fds) = receive(&far, 1, ReadFlags::empty()).unwrap();
    assert_eq!((count, fds.len()), (1, 1));
}

#[test]
fn more_than_may_be_kept_is_a_latched_error_that_says_how_many_came() {
    child::run("more_than_may_be_kept_is_a_latched_error_that_says_how_many_came", || {
        let (near, far) = UnixStream::pair().unwrap();
        let near = SocketChannel::from_fd(near.into()).unwrap();
        let limits = Limits { kept_descriptors: 2, ..Limits::default() };
        let far = SocketChannel::from_fd_with_limits(far.into(), &limits).unwrap();
        let file = some_file();
        fds::assert_no_fd_left(|| {
            send(&near, b"a", &[file.as_fd(); 3]).unwrap();
            let error = far.read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DescriptorsLost);
            assert!(error.to_string().contains("3 arrived"), "{error}");
        });
        send(&near, b"b", &[]).unwrap();
        assert!(far.readiness(Direction::Read).is_ready());
        assert_eq!(far.read(&mut [0]).unwrap_err().kind(), ErrorKind::DescriptorsLost);
        assert_eq!(far.read(&mut []).unwrap(), 0, "no room: nothing is touched, after an error either");
    });
}

#[test]
fn a_message_cut_off_for_want_of_numbers_is_a_latched_error_and_leaks_nothing() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    child::run("a_message_cut_off_for_want_of_numbers_is_a_latched_error_and_leaks_nothing", || {
        let (near, far) = SocketChannel::pair().unwrap();
        let file = some_file();
        far.set_name("short");
        fds::assert_no_fd_left(|| {
            send(&near, b"a", &[file.as_fd(); 50]).unwrap();
            let before = getrlimit(Resource::Nofile);
            let open = fds::open_fds();
            let eleventh_free = (0..).filter(|number| !open.contains_key(number)).nth(10).unwrap();
            let limit = Rlimit { current: Some(u64::try_from(eleventh_free).unwrap()), ..before };
            setrlimit(Resource::Nofile, limit).unwrap();
            let error = receive(&far, 1, ReadFlags::empty()).unwrap_err();
            setrlimit(Resource::Nofile, before).unwrap();
            assert_eq!((error.kind(), error.channel()), (ErrorKind::DescriptorsLost, Some("short")), "{error}");
            assert!(error.to_string().contains("arrived") && !error.to_string().contains(" 0 arrived"), "{error}");
        });
        send(&near, b"b", &[]).unwrap();
        assert_eq!(receive(&far, 1, ReadFlags::empty()).unwrap_err().kind(), ErrorKind::DescriptorsLost);
    });
}

#[test]
fn on_would_block_no_descriptor_is_sent() {
    child::run("on_would_block_no_descriptor_is_sent", || {
        let (near, far) = SocketChannel::pair().unwrap();
        let file = some_file();
        near.set_blocking(false);
        let mut sent = 0;
        while let Ok(count) = near.write(&[0; 65536]) {
            sent += count;
        }
        fds::assert_no_fd_left(|| {
            assert!(send(&near, b"x", &[file.as_fd()]).unwrap_err().is_would_block());
            let mut left = sent;
            while left > 0 {
                let (count, fds) = receive(&far, 65536, ReadFlags::empty()).unwrap();
                assert!(fds.is_empty());
                left -= count;
            }
            send(&near, b"x", &[file.as_fd()]).unwrap();
            assert_eq!(receive(&far, 8, ReadFlags::empty()).unwrap().1.len(), 1);
        });
    });
}

#[test]
fn a_write_of_no_bytes_sends_no_descriptors() {
    let (near, far) = SocketChannel::pair().unwrap();
    assert_eq!(send(&near, b"", &[some_file().as_fd()]).unwrap(), 0);
    assert!(receive(&far, 1, ReadFlags::DONT_WAIT).unwrap_err().is_would_block());
}

#[test]
fn tcp_refuses_descriptors_before_any_byte() {
    let listener = SocketListener::bind(&SocketAddress::Inet("127.0.0.1:0".parse().unwrap())).unwrap();
    let near = SocketChannel::connect(listener.local_address()).unwrap();
    let far = listener.accept().unwrap();
    assert!(send(&near, b"x", &[some_file().as_fd()]).unwrap_err().is_unsupported());
    assert!(receive(&far, 1, ReadFlags::empty()).unwrap_err().is_unsupported());
    assert!(far.readv_full(&mut [IoSliceMut::new(&mut [0])], None, ReadFlags::DONT_WAIT).unwrap_err().is_would_block());
}

#[test]
fn a_socket_that_also_gets_credentials_loses_no_descriptors() {
    let (near, far) = SocketChannel::pair().unwrap();
    rustix::net::sockopt::set_socket_passcred(far.socket().unwrap(), true).unwrap();
    let file = some_file();
    send(&near, b"x", &vec![file.as_fd(); 253]).unwrap();
    assert_eq!(receive(&far, 1, ReadFlags::empty()).unwrap().1.len(), 253);
}

/// Has the kernel put all that it knows into each message that `far` gets; says whether a pidfd is among that.
fn ask_for_everything(far: &SocketChannel) -> bool {
    let socket = far.socket().unwrap();
    set_passing(socket.as_fd(), Passing::Credentials, true).unwrap();
    for what in [Passing::Label, Passing::Pidfd] {
        if let Err(error) = set_passing(socket.as_fd(), what, true) {
            println!("without {what:?}: this system does not know it: {error}");
            return false;
        }
    }
    true
}

#[test]
fn a_socket_that_also_gets_credentials_a_label_and_a_pidfd_loses_no_descriptors() {
    let (near, far) = SocketChannel::pair().unwrap();
    ask_for_everything(&far);
    let file = some_file();
    send(&near, b"x", &vec![file.as_fd(); 253]).unwrap();
    assert_eq!(receive(&far, 1, ReadFlags::empty()).unwrap().1.len(), 253);
}

#[test]
fn pidfds_that_an_adopted_socket_brings_are_neither_kept_nor_handed_out() {
    child::run("pidfds_that_an_adopted_socket_brings_are_neither_kept_nor_handed_out", || {
        let (near, far) = UnixStream::pair().unwrap();
        let (near, far) = (SocketChannel::from_fd(near.into()).unwrap(), SocketChannel::from_fd(far.into()).unwrap());
        if !ask_for_everything(&far) {
            return;
        }
        fds::assert_no_fd_left(|| {
            for _ in 0..50 {
                send(&near, b"xy", &[]).unwrap();
                far.read_all(&mut [0; 1]).unwrap();
                assert_eq!(receive(&far, 1, ReadFlags::empty()).unwrap().1.len(), 0);
            }
        });
    });
}

#[test]
fn one_descriptor_too_many_is_refused_in_our_own_words() {
    let (near, _far) = SocketChannel::pair().unwrap();
    let file = some_file();
    let error = send(&near, b"x", &vec![file.as_fd(); 254]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("254 descriptors in one write"), "{error}");
}

#[test]
fn descriptors_go_once_however_many_writes_the_bytes_take() {
    watchdog::run("descriptors_go_once", || {
        let (near, far) = SocketChannel::pair().unwrap();
        sockopt::set_socket_send_buffer_size(near.socket().unwrap(), 4096).unwrap();
        let null = File::open("/dev/null").unwrap();
        let bytes = vec![7; 500_000];
        thread::scope(|scope| {
            scope.spawn(|| {
                near.writev_full_all(&mut [IoSlice::new(&bytes)], &[null.as_fd()], WriteFlags::empty()).unwrap()
            });
            let (mut heard, mut fds) = (vec![0; bytes.len()], Vec::new());
            far.readv_full_all(&mut [IoSliceMut::new(&mut heard)], Some(&mut fds), ReadFlags::empty()).unwrap();
            assert_eq!(fds.len(), 1, "descriptors that came of one that was sent");
        });
    });
}

#[test]
fn descriptors_of_what_was_read_before_the_time_had_passed_stay_with_who_reads_on() {
    let (near, far) = SocketChannel::pair().unwrap();
    let file = some_file();
    send(&near, b"half", &[file.as_fd()]).unwrap();
    far.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let (mut heard, mut fds) = ([0; 8], Vec::new());
    let read = |heard: &mut [u8], fds: &mut Vec<OwnedFd>| {
        far.readv_full_all(&mut [IoSliceMut::new(heard)], Some(fds), ReadFlags::empty())
    };
    let late = read(&mut heard, &mut fds).unwrap_err();
    assert!(late.is_timed_out() && late.is_passing(), "{late}");
    assert_eq!((late.bytes_done(), fds.len()), (Some(4), 1));
    send(&near, b"rest", &[]).unwrap();
    read(&mut heard[4..], &mut fds).unwrap();
    assert_eq!((&heard, fds.len()), (b"halfrest", 1));
    fds::assert_same_file(&fds[0], &file);
}

#[test]
fn an_adopted_socket_is_kept_from_the_children_of_the_program() {
    let (near, _far) = UnixStream::pair().unwrap();
    rustix::io::fcntl_setfd(&near, rustix::io::FdFlags::empty()).unwrap();
    let near = SocketChannel::from_fd(near.into()).unwrap();
    fds::assert_cloexec(near.socket().unwrap());
}
