//! Bytes, endings and modes over real sockets.

use std::io::{IoSlice, IoSliceMut, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use channel_core::{
    AioChange, AioHandler, Channel, ChannelExt, Direction, ErrorKind, Features, ReadFlags, Readiness, Shutdown,
    WriteFlags, describe,
};
use channel_socket::{SocketAddress, SocketChannel, SocketListener};
use channel_testkit::asleep::asleep;
use channel_testkit::recording::Recorder;
use channel_testkit::watchdog;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::net::sockopt;
use rustix::pipe::{PipeFlags, pipe_with};

fn tcp_pair() -> (SocketChannel, SocketChannel) {
    let listener = SocketListener::bind(&SocketAddress::Inet("127.0.0.1:0".parse().unwrap())).unwrap();
    let near = SocketChannel::connect(listener.local_address()).unwrap();
    let far = listener.accept().unwrap();
    (near, far)
}

/// Runs `test` over a unix pair and over TCP, watched.
fn over_both(name: &str, test: impl Fn(SocketChannel, SocketChannel)) {
    watchdog::run(name, || {
        let (near, far) = SocketChannel::pair().unwrap();
        test(near, far);
        let (near, far) = tcp_pair();
        test(near, far);
    });
}

/// Writes, to a peer that does not read, until that fails. The system may take some bytes after all, in its own time, but not for ever.
fn write_until_error(channel: &SocketChannel) -> channel_core::Error {
    loop {
        if let Err(error) = channel.write(&[0; 65536]) {
            return error;
        }
    }
}

/// Writes until the socket takes no more, and returns how much it took.
fn fill(channel: &SocketChannel) -> usize {
    let mut done = 0;
    loop {
        match channel.writev_full(&[IoSlice::new(&[7; 65536])], &[], WriteFlags::DONT_WAIT) {
            Ok(count) => done += count,
            Err(error) => {
                assert!(error.is_would_block(), "{error}");
                return done;
            }
        }
    }
}

#[test]
fn bytes_arrive_in_order_into_many_buffers() {
    over_both("bytes_arrive_in_order_into_many_buffers", |near, far| {
        near.writev_all(&mut [IoSlice::new(b"he"), IoSlice::new(b""), IoSlice::new(b"llo")]).unwrap();
        let (mut first, mut rest) = ([0; 1], [0; 4]);
        far.readv_all(&mut [IoSliceMut::new(&mut []), IoSliceMut::new(&mut first), IoSliceMut::new(&mut rest)])
            .unwrap();
        assert_eq!((&first, &rest), (b"h", b"ello"));
    });
}

#[test]
fn a_list_longer_than_the_kernel_takes_is_short_and_empty_buffers_in_front_are_no_end() {
    over_both("a_list_longer_than_the_kernel_takes", |near, far| {
        let byte = [1u8];
        let mut list = vec![IoSlice::new(&[]); 1500];
        list.extend(vec![IoSlice::new(&byte); 3000]);
        assert_eq!(near.writev(&list).unwrap(), 1024);
        let mut heard = vec![0u8; 2000];
        let mut bufs: Vec<_> = (0..1500).map(|_| IoSliceMut::new(&mut [])).collect();
        bufs.extend(heard.chunks_mut(1).map(IoSliceMut::new));
        let count = far.readv(&mut bufs).unwrap();
        assert!((1..=1024).contains(&count), "{count}");
    });
}

#[test]
fn a_request_without_room_touches_nothing_even_after_the_end() {
    over_both("a_request_without_room", |near, far| {
        assert_eq!(near.read(&mut []).unwrap(), 0);
        assert_eq!(near.write(&[]).unwrap(), 0);
        far.close().unwrap();
        assert_eq!(near.read(&mut [0]).unwrap(), 0);
        assert_eq!(near.read(&mut []).unwrap(), 0);
        assert_eq!(near.write(&[]).unwrap(), 0);
        near.close().unwrap();
        assert!(near.read(&mut []).unwrap_err().is_closed());
        assert!(near.write(&[]).unwrap_err().is_closed());
        assert!(near.read(&mut [0]).unwrap_err().is_closed());
    });
}

#[test]
fn nothing_ever_changes_o_nonblock() {
    over_both("nothing_ever_changes_o_nonblock", |near, far| {
        let flags = || fcntl_getfl(near.socket().unwrap()).unwrap().contains(OFlags::NONBLOCK);
        assert!(!flags());
        near.set_blocking(false);
        assert!(near.read(&mut [0]).unwrap_err().is_would_block());
        assert!(!flags());
        near.set_blocking(true);
        let nothing = near.readv_full(&mut [IoSliceMut::new(&mut [0])], None, ReadFlags::DONT_WAIT);
        assert!(nothing.unwrap_err().is_would_block());
        far.write_all(b"x").unwrap();
        near.read_all(&mut [0]).unwrap();
        assert!(!flags());
    });
}

#[test]
fn a_peek_does_not_consume() {
    over_both("a_peek_does_not_consume", |near, far| {
        near.write_all(b"peek").unwrap();
        let mut seen = [0; 4];
        assert_eq!(far.readv_full(&mut [IoSliceMut::new(&mut seen)], None, ReadFlags::MSG_PEEK).unwrap(), 4);
        far.read_all(&mut seen).unwrap();
        assert_eq!(&seen, b"peek");
    });
}

#[test]
fn close_write_ends_our_output_once_and_reading_goes_on() {
    over_both("close_write_ends_our_output_once", |near, far| {
        near.write_all(b"last").unwrap();
        near.close_write().unwrap();
        near.close_write().unwrap();
        assert_eq!(near.write(b"more").unwrap_err().kind(), ErrorKind::BrokenPipe);
        let mut heard = [0; 4];
        far.read_all(&mut heard).unwrap();
        assert_eq!(far.read(&mut heard).unwrap(), 0);
        assert_eq!(far.read(&mut heard).unwrap(), 0);
        far.write_all(b"back").unwrap();
        near.read_all(&mut heard).unwrap();
        assert_eq!(&heard, b"back");
    });
}

#[test]
fn shutdown_wakes_a_blocked_reader_with_the_end() {
    over_both("shutdown_wakes_a_blocked_reader", |near, _far| {
        thread::scope(|scope| {
            let reader = asleep(scope, || near.read(&mut [0]));
            near.shutdown(Shutdown::Read).unwrap();
            assert_eq!(reader.join().unwrap().unwrap(), 0);
        });
    });
}

#[test]
fn shutdown_of_writing_alone_wakes_a_blocked_writer() {
    over_both("shutdown_of_writing_alone_wakes_a_blocked_writer", |near, _far| {
        fill(&near);
        thread::scope(|scope| {
            let writer = asleep(scope, || write_until_error(&near));
            near.shutdown(Shutdown::Write).unwrap();
            assert_eq!(writer.join().unwrap().kind(), ErrorKind::BrokenPipe);
        });
    });
}

#[test]
fn close_write_from_another_thread_wakes_a_blocked_writer() {
    over_both("close_write_wakes_a_blocked_writer", |near, _far| {
        fill(&near);
        thread::scope(|scope| {
            let writer = asleep(scope, || write_until_error(&near));
            near.close_write().unwrap();
            assert_eq!(writer.join().unwrap().kind(), ErrorKind::BrokenPipe);
        });
    });
}

#[test]
fn close_wakes_both_and_releases_the_socket_when_the_last_reference_goes() {
    over_both("close_wakes_both", |near, far| {
        fill(&near);
        thread::scope(|scope| {
            let reader = asleep(scope, || near.read(&mut [0]));
            let writer = asleep(scope, || write_until_error(&near));
            let held = near.socket().unwrap();
            near.close().unwrap();
            near.close().unwrap();
            let read = reader.join().unwrap();
            assert!(
                read.as_ref().is_ok_and(|count| *count == 0) || read.as_ref().is_err_and(|e| e.is_closed()),
                "{read:?}"
            );
            let wrote = writer.join().unwrap();
            assert!(wrote.is_closed() || wrote.kind() == ErrorKind::BrokenPipe, "{wrote}");
            assert!(near.socket().is_none());
            assert_eq!(Arc::strong_count(&held), 1, "only the reference held here is left");
        });
        drop(far);
    });
}

#[test]
fn what_readiness_handed_out_stays_the_same_socket_after_close() {
    let (near, _far) = SocketChannel::pair().unwrap();
    let Readiness::Wait(interests) = near.readiness(Direction::Read) else { panic!("nothing to read yet") };
    let inode = |fd: &OwnedFd| rustix::fs::fstat(fd).unwrap().st_ino;
    let fd = Arc::clone(&interests.iter().next().unwrap().fd);
    let before = inode(&fd);
    near.close().unwrap();
    assert_eq!(inode(&fd), before);
    assert!(near.readiness(Direction::Read).is_ready());
}

#[test]
fn after_our_shutdown_of_reading_nothing_that_arrives_undoes_the_end() {
    over_both("after_our_shutdown_of_reading", |near, far| {
        near.shutdown(Shutdown::Read).unwrap();
        assert_eq!(near.read(&mut [0]).unwrap(), 0);
        let _ = far.write(b"late"); // TCP takes it, a unix socket refuses
        assert_eq!(near.read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn a_reset_is_never_a_clean_end_not_even_later_or_after_a_write_met_it() {
    over_both("a_reset_is_never_a_clean_end", |near, far| {
        near.write_all(b"unread").unwrap();
        // Input left unread makes closing a reset on both kinds of socket.
        drop(far);
        near.readiness(Direction::Read).block(None).unwrap();
        let first = near.write(b"x").unwrap_err();
        assert!(matches!(first.kind(), ErrorKind::Reset | ErrorKind::BrokenPipe), "{first}");
        for _ in 0..3 {
            let error = near.read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Reset, "{error}");
        }
    });
}

#[test]
fn close_write_tells_of_bytes_that_a_reset_lost_and_the_reader_still_learns_of_it() {
    let (near, far) = tcp_pair();
    near.write_all(b"unread").unwrap();
    drop(far);
    near.readiness(Direction::Read).block(None).unwrap();
    assert_eq!(near.close_write().unwrap_err().kind(), ErrorKind::Reset);
    assert_eq!(near.read(&mut [0]).unwrap_err().kind(), ErrorKind::Reset);
}

#[test]
fn everybody_who_closes_is_told_of_bytes_that_a_reset_lost() {
    let (near, far) = tcp_pair();
    near.write_all(b"unread").unwrap();
    drop(far);
    near.readiness(Direction::Read).block(None).unwrap();
    for _ in 0..2 {
        assert_eq!(near.close().unwrap_err().kind(), ErrorKind::Reset);
    }
}

#[test]
fn a_peer_that_ended_and_left_is_no_failure_of_our_close() {
    over_both("a_peer_that_ended_and_left", |near, far| {
        far.write_all(b"bye").unwrap();
        far.close().unwrap();
        near.read_all(&mut [0; 3]).unwrap();
        assert_eq!(near.read(&mut [0]).unwrap(), 0);
        let _ = near.write(b"too late"); // on TCP this is taken, and answered by a reset
        near.close().unwrap();
    });
}

#[test]
fn a_blocked_reader_does_not_stop_a_writer() {
    over_both("a_blocked_reader_does_not_stop_a_writer", |near, far| {
        thread::scope(|scope| {
            let reader = asleep(scope, || near.read(&mut [0; 8]));
            near.write_all(b"ping").unwrap();
            far.read_all(&mut [0; 4]).unwrap();
            far.write_all(b"pong").unwrap();
            assert_eq!(reader.join().unwrap().unwrap(), 4);
        });
    });
}

#[test]
fn both_directions_saturated_at_once_finish() {
    over_both("both_directions_saturated_at_once_finish", |near, far| {
        const TOTAL: usize = 4 << 20;
        thread::scope(|scope| {
            for (channel, seed) in [(&near, 1u8), (&far, 2u8)] {
                scope.spawn(move || channel.write_all(&vec![seed; TOTAL]).unwrap());
                scope.spawn(move || {
                    let mut heard = vec![0; TOTAL];
                    channel.read_all(&mut heard).unwrap();
                    assert!(heard.iter().all(|byte| *byte == 3 - seed));
                });
            }
        });
    });
}

#[test]
fn cork_gathers_flush_pushes_and_the_cork_stays() {
    let (near, far) = tcp_pair();
    near.set_cork(true);
    near.write_all(b"held").unwrap();
    let mut heard = [0; 4];
    let early = far.readv_full(&mut [IoSliceMut::new(&mut heard)], None, ReadFlags::DONT_WAIT);
    assert!(early.unwrap_err().is_would_block());
    near.flush().unwrap();
    far.read_all(&mut heard).unwrap();
    assert_eq!(&heard, b"held");
    assert!(sockopt::tcp_cork(near.socket().unwrap()).unwrap());
    near.write_all(b"more").unwrap();
    near.set_cork(false);
    far.read_all(&mut heard).unwrap();
    assert_eq!(&heard, b"more");
}

/// The kernel sends what a cork holds by itself after 200 ms (tcp(7)).
#[test]
fn flush_does_not_leave_it_to_the_kernel_to_push_what_a_cork_holds() {
    let (near, far) = tcp_pair();
    near.set_cork(true);
    let fastest = (0..20).map(|_| {
        let start = Instant::now();
        near.write_all(b"x").unwrap();
        near.flush().unwrap();
        far.read_all(&mut [0]).unwrap();
        start.elapsed()
    });
    let fastest = fastest.min().unwrap();
    assert!(fastest < Duration::from_millis(150), "none of twenty came sooner than {fastest:?}");
}

#[test]
fn delay_is_tcp_nodelay_and_starts_out_as_the_kernel_has_it() {
    let (near, _far) = tcp_pair();
    let nodelay = || sockopt::tcp_nodelay(near.socket().unwrap()).unwrap();
    assert!(!nodelay());
    near.set_delay(false);
    assert!(nodelay());
    near.set_delay(true);
    assert!(!nodelay());
}

#[test]
fn hints_do_nothing_on_a_unix_socket() {
    let (near, far) = SocketChannel::pair().unwrap();
    near.set_cork(true);
    near.set_delay(false);
    near.write_all(b"x").unwrap();
    far.read_all(&mut [0]).unwrap();
}

#[test]
fn addresses_and_description_name_both_ends() {
    let (near, far) = tcp_pair();
    assert_eq!(near.local_address(), far.peer_address());
    assert_eq!(far.local_address(), near.peer_address());
    let (local, peer) = (near.local_address().unwrap(), near.peer_address().unwrap());
    assert_eq!(describe(&near), format!("tcp {local} -> {peer}"));
    let (near, _far) = SocketChannel::pair().unwrap();
    assert_eq!(near.peer_address(), Some(&SocketAddress::UnixUnnamed));
    assert_eq!(describe(&near), "unix (unnamed)");
}

#[test]
fn features_and_refusals_agree() {
    over_both("features_and_refusals_agree", |near, _far| {
        for feature in Features::all().iter() {
            assert_eq!(near.has_feature(feature), near.why_not(feature).is_none(), "{feature:?}");
        }
        assert!(near.with_read_buf(&mut |bytes| bytes.len()).unwrap_err().is_unsupported());
        let zero_copy = near.writev_full(&[IoSlice::new(b"x")], &[], WriteFlags::ZERO_COPY);
        assert!(zero_copy.unwrap_err().is_unsupported());
        assert!(near.seek(std::io::SeekFrom::Start(0)).unwrap_err().is_unsupported());
    });
}

#[test]
fn errors_name_operation_layer_and_channel() {
    let (near, _far) = SocketChannel::pair().unwrap();
    near.set_name("monitor");
    near.close_write().unwrap();
    let error = near.write(b"x").unwrap_err();
    assert_eq!((error.operation(), error.layer(), error.channel()), ("write", "socket", Some("monitor")));
    let refused = SocketChannel::connect(&SocketAddress::UnixAbstract(b"nobody listens here".to_vec())).unwrap_err();
    assert!(refused.to_string().contains("unix:@nobody listens here"), "{refused}");
}

#[test]
fn connect_tcp_tries_each_address_and_names_all_that_failed() {
    let closed = |listener: SocketListener| match listener.local_address() {
        SocketAddress::Inet(address) => *address,
        other => panic!("{other}"),
    };
    let bind = || SocketListener::bind(&SocketAddress::Inet("127.0.0.1:0".parse().unwrap())).unwrap();
    let (first, second) = (closed(bind()), closed(bind()));
    let error = SocketChannel::connect_tcp(&[first, second][..]).unwrap_err().to_string();
    assert!(error.contains(&first.to_string()) && error.contains(&second.to_string()), "{error}");
    let listener = bind();
    let SocketAddress::Inet(open) = *listener.local_address() else { panic!("not tcp") };
    let channel = SocketChannel::connect_tcp(&[first, open][..]).unwrap();
    assert_eq!(channel.peer_address(), Some(listener.local_address()));
}

#[test]
fn what_is_no_connected_stream_socket_is_refused_and_given_back() {
    let (pipe, _write) = rustix::pipe::pipe().unwrap();
    let listening =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    let datagram = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None).unwrap();
    let unconnected =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::listen(&listening, 1).unwrap();
    for fd in [pipe, listening, datagram, unconnected] {
        let refused = SocketChannel::from_fd(fd).unwrap_err();
        assert_eq!(refused.error.kind(), ErrorKind::InvalidInput, "{refused}");
        fcntl_getfl(refused.given.as_fd()).unwrap();
    }
}

#[test]
fn an_adopted_socket_works_and_is_close_on_exec() {
    let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    far.set_nonblocking(true).unwrap();
    let near = SocketChannel::from_fd(near.into()).unwrap();
    let far = SocketChannel::from_fd(far.into()).unwrap();
    channel_testkit::fds::assert_cloexec(far.socket().unwrap());
    assert!(fcntl_getfl(far.socket().unwrap()).unwrap().contains(OFlags::NONBLOCK), "left as it was");
    thread::scope(|scope| {
        let reader = asleep(scope, || far.read(&mut [0; 4]));
        near.write_all(b"wait").unwrap();
        assert_eq!(reader.join().unwrap().unwrap(), 4, "blocking mode waits although O_NONBLOCK is set");
    });
}

/// How many bytes come before the clean end.
fn read_to_end(channel: &SocketChannel) -> channel_core::Result<usize> {
    let (mut total, mut piece) = (0, vec![0; 10_000]);
    loop {
        match channel.read(&mut piece)? {
            0 => return Ok(total),
            count => total += count,
        }
    }
}

#[test]
fn close_loses_nothing_of_ours_though_we_leave_what_the_peer_said_unread() {
    over_both("close_loses_nothing_of_ours", |near, far| {
        // A goodbye such as close_notify, which we have no use for.
        far.write_all(&[0; 24]).unwrap();
        near.wait(Direction::Read, None).unwrap();
        // The peer reads nothing before we have gone, so much of this is still ours to send.
        let taken = fill(&near);
        near.close().unwrap();
        assert_eq!(read_to_end(&far).unwrap(), taken);
    });
}

#[test]
fn close_does_not_wait_for_a_peer_that_never_stops_sending() {
    over_both("close_does_not_wait_for_a_peer_that_never_stops_sending", |near, far| {
        thread::scope(|scope| {
            let sending = scope.spawn(|| while far.write(&[0; 65536]).is_ok() {});
            near.wait(Direction::Read, None).unwrap();
            near.close().unwrap();
            sending.join().unwrap();
        });
    });
}

/// Sends a byte that is no part of the stream.
fn send_urgent(peer: &UnixStream) {
    assert_eq!(rustix::net::send(peer, b"!", rustix::net::SendFlags::OOB), Ok(1));
}

#[test]
fn a_handler_that_peeks_rests_in_front_of_an_urgent_byte() {
    let (peer, near) = UnixStream::pair().unwrap();
    let near = Arc::new(SocketChannel::from_fd(near.into()).unwrap());
    near.set_blocking(false);
    send_urgent(&peer);
    let recorder = Recorder::new();
    let weak = Arc::downgrade(&near);
    let handler = AioHandler::new(recorder.clone(), move || {
        let Some(near) = weak.upgrade() else { return };
        let peeked = near.readv_full(&mut [IoSliceMut::new(&mut [0; 8])], None, ReadFlags::MSG_PEEK);
        assert!(peeked.unwrap_err().is_would_block());
    });
    near.set_aio_fd_handler(AioChange::Set(handler), AioChange::Keep).unwrap();
    let calls: usize = (0..100).map(|_| recorder.turn(Duration::ZERO).unwrap()).sum();
    assert!((1..=2).contains(&calls), "{calls} calls for a byte that cannot be seen");
}

#[test]
fn a_peek_waits_behind_an_urgent_byte_and_what_follows_it_is_whole() {
    let (peer, near) = UnixStream::pair().unwrap();
    let near = SocketChannel::from_fd(near.into()).unwrap();
    let far = SocketChannel::from_fd(peer.try_clone().unwrap().into()).unwrap();
    let (out, _inn) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    send_urgent(&peer);
    thread::scope(|scope| {
        let peeking = asleep(scope, || {
            let mut seen = [0; 8];
            let count = near.readv_full(&mut [IoSliceMut::new(&mut seen)], None, ReadFlags::MSG_PEEK)?;
            Ok::<_, channel_core::Error>(seen[..count].to_vec())
        });
        far.writev_full(&[IoSlice::new(b"data")], &[out.as_fd()], WriteFlags::empty()).unwrap();
        assert_eq!(peeking.join().unwrap().unwrap(), b"data");
    });
    let (mut seen, mut fds) = ([0; 8], Vec::new());
    let count = near.readv_full(&mut [IoSliceMut::new(&mut seen)], Some(&mut fds), ReadFlags::empty()).unwrap();
    assert_eq!((&seen[..count], fds.len()), (&b"data"[..], 1), "what was only looked at, and its descriptor");
}

#[test]
fn what_has_arrived_at_an_adopted_socket_is_there_whatever_its_low_water_mark_was() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (near, _) = listener.accept().unwrap();
    far.write_all(b"few").unwrap();
    assert_eq!(near.peek(&mut [0; 8]).unwrap(), 3);
    channel_sys::set_receive_low_water(near.as_fd(), 100).unwrap();
    let mut polled = [PollFd::new(&near, PollFlags::IN)];
    assert_eq!(poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(0), "the mark holds them back");
    let near = SocketChannel::from_fd(near.into()).unwrap();
    assert!(near.wait(Direction::Read, Some(Duration::from_secs(60))).unwrap());
    assert_eq!(near.read(&mut [0; 8]).unwrap(), 3);
}
