//! Pipes that nobody made non-blocking.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use channel_core::{
    AioChange, AioHandler, Channel, ChannelExt, ErrorKind, Features, ReadFlags, Shutdown, WriteFlags, describe,
};
use channel_file::{FileChannel, PipeChannel};
use channel_testkit::asleep::asleep;
use channel_testkit::{child, fds, recording::Recorder, watchdog};
use rustix::fs::{CWD, Mode, OFlags, fcntl_getfl, fcntl_setfl, mknodat, open};
use rustix::io::{FdFlags, fcntl_getfd};
use rustix::pipe::{PipeFlags, pipe_with};

/// A pair over FIFOs of the file system, where the kernel refuses `RWF_NOWAIT`.
fn fifo_pair() -> (PipeChannel, PipeChannel) {
    let fifo = |number: u32| {
        let path = std::env::temp_dir().join(format!(
            "channel-file-{}-{:?}-{number}",
            std::process::id(),
            thread::current().id()
        ));
        let mode = Mode::RUSR | Mode::WUSR;
        mknodat(CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        // Non-blocking for the opening alone, which would wait for the other end (fifo(7)).
        let read = open(&path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap();
        let write = open(&path, OFlags::WRONLY, Mode::empty()).unwrap();
        fcntl_setfl(&read, OFlags::empty()).unwrap();
        std::fs::remove_file(&path).unwrap();
        (read, write)
    };
    let ((near_read, far_write), (far_read, near_write)) = (fifo(1), fifo(2));
    let join = |read, write| PipeChannel::from_fds(Some(read), Some(write)).unwrap();
    (join(near_read, near_write), join(far_read, far_write))
}

/// Runs `test` over pipes and over FIFOs, watched.
fn over_both(name: &str, test: impl Fn(PipeChannel, PipeChannel)) {
    watchdog::run(name, || {
        let (near, far) = PipeChannel::pair().unwrap();
        test(near, far);
        let (near, far) = fifo_pair();
        test(near, far);
    });
}

/// Writes until the pipe takes no more, and returns how much it took.
fn fill(channel: &PipeChannel) -> usize {
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
fn bytes_go_both_ways_and_o_nonblock_is_never_set() {
    over_both("bytes_go_both_ways", |near, far| {
        let nonblock = |end: Option<Arc<OwnedFd>>| fcntl_getfl(end.unwrap()).unwrap().contains(OFlags::NONBLOCK);
        near.set_blocking(false);
        assert!(near.read(&mut [0]).unwrap_err().is_would_block());
        let taken = fill(&near);
        assert!(!nonblock(near.read_end()) && !nonblock(near.write_end()));
        let mut heard = vec![0; taken];
        far.read_all(&mut heard).unwrap();
        assert!(heard.iter().all(|byte| *byte == 7));
        far.writev_all(&mut [IoSlice::new(b""), IoSlice::new(b"ba"), IoSlice::new(b"ck")]).unwrap();
        let (mut first, mut rest) = ([0; 1], [0; 3]);
        near.readv_all(&mut [IoSliceMut::new(&mut first), IoSliceMut::new(&mut rest)]).unwrap();
        assert_eq!((&first, &rest), (b"b", b"ack"));
    });
}

#[test]
fn shutdown_wakes_a_blocked_reader_and_a_blocked_writer() {
    over_both("shutdown_wakes_both", |near, _far| {
        fill(&near);
        thread::scope(|scope| {
            let reader = asleep(scope, || near.read(&mut [0]));
            let writer = asleep(scope, || near.write(&[0; 65536]));
            near.shutdown(Shutdown::Both).unwrap();
            assert_eq!(reader.join().unwrap().unwrap(), 0);
            assert_eq!(writer.join().unwrap().unwrap_err().kind(), ErrorKind::BrokenPipe);
        });
    });
}

#[test]
fn close_wakes_both_and_releases_the_descriptors() {
    child::run("close_wakes_both_and_releases_the_descriptors", || {
        fds::assert_no_fd_left(|| {
            let (near, _far) = PipeChannel::pair().unwrap();
            fill(&near);
            thread::scope(|scope| {
                let reader = asleep(scope, || near.read(&mut [0]));
                let writer = asleep(scope, || near.write(&[0; 65536]));
                near.close().unwrap();
                near.close().unwrap();
                assert!(reader.join().unwrap().unwrap_err().is_closed());
                assert!(writer.join().unwrap().unwrap_err().is_closed());
            });
            assert!(near.read_end().is_none() && near.write_end().is_none());
        });
    });
}

#[test]
fn close_write_is_seen_as_the_end_once_and_reading_goes_on() {
    over_both("close_write_is_seen_as_the_end", |near, far| {
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
    });
}

#[test]
fn a_write_handler_does_not_keep_the_end_from_the_peer_and_is_called() {
    watchdog::run("a_write_handler_does_not_keep_the_end", || {
        let (near, far) = PipeChannel::pair().unwrap();
        let context = Recorder::new();
        let (called, calls) = std::sync::mpsc::channel();
        let handler = AioHandler::new(context.clone(), move || called.send(()).unwrap());
        fill(&near);
        near.set_aio_fd_handler(AioChange::Keep, AioChange::Set(handler)).unwrap();
        near.close_write().unwrap();
        std::io::copy(&mut far.std_io(), &mut std::io::sink()).unwrap(); // to the end
        context.turn(Duration::from_secs(10)).unwrap();
        calls.try_recv().unwrap();
        near.close().unwrap();
        assert!(context.handlers().is_empty());
    });
}

#[test]
fn a_write_without_a_reader_is_an_error() {
    over_both("a_write_without_a_reader", |near, far| {
        far.close().unwrap();
        for _ in 0..3 {
            assert_eq!(near.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
        }
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
fn a_list_longer_than_the_kernel_takes_is_a_short_write() {
    let (near, _far) = PipeChannel::pair().unwrap();
    let list = vec![IoSlice::new(b"x"); 3000];
    let taken = near.writev(&list).unwrap();
    assert!((1..=1024).contains(&taken), "{taken}"); // one buffer where the kernel lacks RWF_NOWAIT for pipes
    let mut list = vec![IoSlice::new(&[]); 3000];
    assert_eq!(near.writev(&list).unwrap(), 0);
    list.push(IoSlice::new(b"y"));
    assert_eq!(near.writev(&list).unwrap(), 1);
}

#[test]
fn one_pipe_alone_refuses_the_other_direction() {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let reader = PipeChannel::from_fds(Some(read), None).unwrap();
    let writer = PipeChannel::from_fds(None, Some(write)).unwrap();
    assert!(reader.write(b"x").unwrap_err().is_unsupported());
    assert!(writer.read(&mut [0]).unwrap_err().is_unsupported());
    assert!(reader.close_write().unwrap_err().is_unsupported());
    assert!(!reader.has_feature(Features::CLOSE_WRITE) && writer.has_feature(Features::CLOSE_WRITE));
    assert_eq!((describe(&reader), describe(&writer)), ("pipe, read only".to_owned(), "pipe, write only".to_owned()));
    writer.write_all(b"x").unwrap();
    writer.close().unwrap();
    assert_eq!(reader.read(&mut [0; 4]).unwrap(), 1);
    assert_eq!(reader.read(&mut [0; 4]).unwrap(), 0);
    reader.close().unwrap();
}

#[test]
fn what_is_no_pipe_in_the_right_direction_is_refused_and_given_back() {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let refused = PipeChannel::from_fds(Some(write), Some(read)).unwrap_err();
    assert_eq!(refused.error.kind(), ErrorKind::InvalidInput, "{refused}");
    let (Some(write), Some(read)) = refused.given else { panic!("both come back") };
    PipeChannel::from_fds(Some(read), Some(write)).unwrap();
    let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
    let refused = PipeChannel::from_fds(Some(socket.into()), None).unwrap_err();
    assert!(refused.to_string().contains("SocketChannel"), "{refused}");
    assert!(PipeChannel::from_fds(None, None).is_err());
}

#[test]
fn descriptors_that_are_refused_are_left_as_they_were() {
    let ((read, _write), (wrong, _other)) =
        (pipe_with(PipeFlags::empty()).unwrap(), pipe_with(PipeFlags::empty()).unwrap());
    let (read, wrong) = PipeChannel::from_fds(Some(read), Some(wrong)).unwrap_err().given;
    for fd in [read.unwrap(), wrong.unwrap()] {
        assert!(!fcntl_getfd(&fd).unwrap().contains(FdFlags::CLOEXEC));
    }
}

#[test]
fn features_and_refusals_agree() {
    let (near, _far) = PipeChannel::pair().unwrap();
    for feature in Features::all().iter() {
        assert_eq!(near.has_feature(feature), near.why_not(feature).is_none(), "{feature:?}");
    }
    let (peeked, mut fds) = ([0; 1], Vec::new());
    assert!(
        near.readv_full(&mut [IoSliceMut::new(&mut peeked.clone())], None, ReadFlags::MSG_PEEK)
            .unwrap_err()
            .is_unsupported()
    );
    assert!(
        near.readv_full(&mut [IoSliceMut::new(&mut peeked.clone())], Some(&mut fds), ReadFlags::empty())
            .unwrap_err()
            .is_unsupported()
    );
    assert!(
        near.writev_full(&[IoSlice::new(b"x")], &[near.read_end().unwrap().as_fd()], WriteFlags::empty())
            .unwrap_err()
            .is_unsupported()
    );
}

#[test]
fn a_pipe_is_not_a_file() {
    let (read, _write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    assert!(FileChannel::from_fd(read).unwrap_err().to_string().contains("PipeChannel"));
}

#[test]
fn a_handler_set_after_the_end_is_told_of_it_and_keeps_nothing_open() {
    for how in [Shutdown::Read, Shutdown::Write] {
        let (near, far) = PipeChannel::pair().unwrap();
        near.shutdown(how).unwrap();
        let context = Recorder::new();
        let (called, calls) = std::sync::mpsc::channel();
        let set = AioChange::Set(AioHandler::new(context.clone(), move || called.send(()).unwrap()));
        let (read, write) = if how == Shutdown::Read { (set, AioChange::Keep) } else { (AioChange::Keep, set) };
        near.set_aio_fd_handler(read, write).unwrap();
        assert!(context.handlers().is_empty(), "a loop polls what was given up");
        context.turn(Duration::ZERO).unwrap();
        calls.try_recv().unwrap();
        far.set_blocking(false);
        let seen = if how == Shutdown::Read { far.write(b"x").map(drop) } else { far.read(&mut [0]).map(drop) };
        assert_eq!(
            seen.map_err(|error| error.kind()),
            if how == Shutdown::Read { Err(ErrorKind::BrokenPipe) } else { Ok(()) }
        );
    }
}

#[test]
fn an_end_that_is_given_up_while_another_thread_writes_is_seen_by_the_peer() {
    watchdog::run("an_end_that_is_given_up_while_another_thread_writes", || {
        let recorder = Recorder::new();
        for round in 0..500_u32 {
            let (near, far) = PipeChannel::pair().unwrap();
            near.set_blocking(false);
            far.set_blocking(false);
            let handler = AioHandler::new(recorder.clone(), || ());
            near.set_aio_fd_handler(AioChange::Keep, AioChange::Set(handler)).unwrap();
            thread::scope(|scope| {
                let writer = scope.spawn(|| {
                    loop {
                        match near.write(b"x") {
                            Ok(_) => {}
                            Err(error) if error.is_would_block() => drop(far.read(&mut [0; 4096])),
                            Err(_) => break,
                        }
                    }
                });
                (0..round % 50 * 100).for_each(|_| std::hint::spin_loop());
                near.close_write().unwrap();
                writer.join().unwrap();
            });
            // And then the end, not at once where another test is starting a process: that has all descriptors until it is another program.
            far.set_blocking(true);
            while far.read(&mut [0; 65536]).unwrap() > 0 {}
        }
    });
}

#[test]
fn a_pipe_that_is_only_read_says_why_its_output_has_no_end() {
    let (read, _write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let pipe = PipeChannel::from_fds(Some(read), None).unwrap();
    for feature in [Features::CLOSE_WRITE, Features::HALF_CLOSE] {
        assert_eq!(pipe.why_not(feature).as_deref(), Some("there is no pipe to write to"));
    }
}

#[test]
fn adopted_ends_are_closed_on_exec() {
    let (read, write) = pipe_with(PipeFlags::empty()).unwrap();
    let channel = PipeChannel::from_fds(Some(read), Some(write)).unwrap();
    for end in [channel.read_end(), channel.write_end()] {
        assert!(fcntl_getfd(end.unwrap()).unwrap().contains(FdFlags::CLOEXEC));
    }
}
