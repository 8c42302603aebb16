//! Handlers on a loop learn what the descriptor alone would not show them: that this side was ended.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use channel_core::{AioChange, AioHandler, Channel, ChannelExt, Direction, ErrorKind, Shutdown, WriteFlags};
use channel_socket::{SocketAddress, SocketChannel, SocketListener};
use channel_testkit::recording::Recorder;

fn tcp_pair() -> (SocketChannel, SocketChannel) {
    let listener = SocketListener::bind(&SocketAddress::Inet("127.0.0.1:0".parse().unwrap())).unwrap();
    let near = SocketChannel::connect(listener.local_address()).unwrap();
    (near, listener.accept().unwrap())
}

/// A handler that counts how often it is called, and does nothing else.
fn counting(recorder: &Arc<Recorder>) -> (AioChange, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let handler = AioHandler::new(recorder.clone(), move || {
        count.fetch_add(1, Ordering::SeqCst);
    });
    (AioChange::Set(handler), calls)
}

/// Turns until nothing is left to do.
fn rest(recorder: &Recorder) {
    for _ in 0..100 {
        if recorder.turn(Duration::ZERO).unwrap() == 0 {
            return;
        }
    }
    panic!("no rest");
}

fn write(channel: &SocketChannel) -> channel_core::Result<usize> {
    channel.writev_full(&[IoSlice::new(&[7; 65536])], &[], WriteFlags::DONT_WAIT)
}

fn pairs() -> [(SocketChannel, SocketChannel); 2] {
    [SocketChannel::pair().unwrap(), tcp_pair()]
}

#[test]
fn a_write_handler_that_waits_for_room_is_told_that_our_output_ended() {
    for ends in [SocketChannel::close_write, |near: &SocketChannel| near.shutdown(Shutdown::Write)] {
        for (near, _far) in pairs() {
            let recorder = Recorder::new();
            let (set, calls) = counting(&recorder);
            while write(&near).is_ok() {}
            near.set_aio_fd_handler(AioChange::Keep, set).unwrap();
            rest(&recorder);
            let before = calls.load(Ordering::SeqCst);
            ends(&near).unwrap();
            rest(&recorder);
            assert!(calls.load(Ordering::SeqCst) > before);
            assert_eq!(write(&near).unwrap_err().kind(), ErrorKind::BrokenPipe);
        }
    }
}

#[test]
fn a_read_handler_that_was_taken_off_its_loop_is_told_that_reading_was_shut_down() {
    for (near, far) in pairs() {
        let recorder = Recorder::new();
        let (set, calls) = counting(&recorder);
        far.write_all(b"not read").unwrap();
        near.wait(Direction::Read, None).unwrap();
        near.set_aio_fd_handler(set, AioChange::Keep).unwrap();
        rest(&recorder); // it is called and calls nothing, until its loop calls it no more
        let before = calls.load(Ordering::SeqCst);
        near.shutdown(Shutdown::Read).unwrap();
        rest(&recorder);
        assert!(calls.load(Ordering::SeqCst) > before);
        assert_eq!(near.read(&mut [0; 8]).unwrap(), 0);
    }
}

#[test]
fn a_write_handler_set_after_our_output_ended_is_told_of_it() {
    for ends in [SocketChannel::close_write, |near: &SocketChannel| near.shutdown(Shutdown::Write)] {
        for (near, _far) in pairs() {
            let recorder = Recorder::new();
            let (set, calls) = counting(&recorder);
            while write(&near).is_ok() {}
            ends(&near).unwrap();
            near.set_aio_fd_handler(AioChange::Keep, set).unwrap();
            rest(&recorder);
            assert!(calls.load(Ordering::SeqCst) > 0);
        }
    }
}
