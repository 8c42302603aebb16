//! Handlers on a whole stack: set at the top of WebSocket over TLS over a socket pair, they arrive on the socket, and are called for
//! what the layers hold above a silent one. In both roles.

use std::fs;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::Duration;

use channel_core::{
    AioChange, AioHandler, Channel, ChannelExt, Direction, EventLoop, ReadFlags, Readiness, WriteFlags, find_layer,
};
use channel_socket::SocketChannel;
use channel_stack::Stack;
use channel_testkit::recording::{Recorded, Recorder};
use channel_testkit::{child, watchdog};
use integration_tests::sockets::{self, Transport};
use integration_tests::stacks;
use rustls::crypto::aws_lc_rs::default_provider;

/// The size of the message a peer sends, and how much of it a handler reads each time.
const MESSAGE: usize = 16 * 1024;
const PIECE: usize = 100;

/// Long enough for any machine; only a failure takes it.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a loop is watched that has nothing to do.
const QUIET: Duration = Duration::from_millis(5);

/// Which side of the connection the handlers are on.
#[derive(Clone, Copy)]
enum Near {
    Client,
    Server,
}

type Stacked = Arc<Box<dyn Channel>>;

/// Two open ends, the one for handlers first, with nothing on the way between them.
fn pair(near: Near) -> (Stacked, Stacked) {
    let (client, server) = sockets::pair(Transport::Unix).unwrap();
    let provider = Arc::new(default_provider());
    let client =
        stacks::client(Stack::Wss, Arc::clone(&provider)).unwrap().over(stacks::leaf(client).unwrap()).unwrap();
    let server = stacks::server(Stack::Wss, provider).unwrap().over(stacks::leaf(server).unwrap()).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| client.handshake().unwrap());
        server.handshake().unwrap();
    });
    let (near, far) = match near {
        Near::Client => (client, server),
        Near::Server => (server, client),
    };
    assert!(!is_readable(&socket(&near)), "the handshake left something on the socket");
    (Arc::new(near), Arc::new(far))
}

fn socket(channel: &dyn Channel) -> Arc<OwnedFd> {
    find_layer::<SocketChannel>(channel).and_then(SocketChannel::socket).expect("an open socket at the bottom")
}

/// Whether poll(2) says so now.
fn is_readable(fd: &Arc<OwnedFd>) -> bool {
    Readiness::wait_for(fd, Direction::Read).block(Some(std::time::Instant::now())).unwrap()
}

fn message() -> Vec<u8> {
    (0..MESSAGE).map(|at| (at * 7 + at / 251) as u8).collect()
}

/// What a handler did, call by call.
#[derive(Default)]
struct Reads {
    bytes: Vec<u8>,
    /// Whether the socket had anything left after each read that gave something.
    socket_was_readable: Vec<bool>,
    calls: usize,
}

/// A read handler on `recorder` that reads one piece each time it is called.
fn reading(recorder: &Arc<Recorder>, channel: &Stacked) -> (AioHandler, Arc<Mutex<Reads>>) {
    let reads = Arc::<Mutex<Reads>>::default();
    let (channel, told) = (Arc::downgrade(channel), Arc::clone(&reads));
    let handler = AioHandler::new(Arc::clone(recorder) as _, move || read_piece(&channel, &told));
    (handler, reads)
}

fn read_piece(channel: &Weak<Box<dyn Channel>>, reads: &Mutex<Reads>) {
    let mut reads = reads.lock().unwrap();
    reads.calls += 1;
    let Some(channel) = channel.upgrade() else { return };
    let mut piece = [0; PIECE];
    match channel.readv_full(&mut [IoSliceMut::new(&mut piece)], None, ReadFlags::DONT_WAIT) {
        Ok(count) => {
            assert!(count > 0, "nobody ended the stream");
            reads.bytes.extend_from_slice(&piece[..count]);
            reads.socket_was_readable.push(is_readable(&socket(&**channel)));
        }
        Err(error) => assert!(error.is_would_block(), "{error}"),
    }
}

/// Takes turns until all of `expected` has been read, and then sees that nothing more is called.
fn assert_all_is_read(recorder: &Recorder, reads: &Mutex<Reads>, expected: &[u8]) {
    let count = || reads.lock().unwrap().bytes.len();
    let all = recorder.turn_until(PATIENCE, || count() >= expected.len()).unwrap();
    assert!(all, "the handler was called for {} of {} bytes", count(), expected.len());
    assert!(reads.lock().unwrap().bytes == expected, "not the bytes that were sent");
    // One call in vain is allowed: the handler may have been due already.
    recorder.turn(QUIET).unwrap();
    assert_eq!(recorder.turn(QUIET).unwrap(), 0, "calls though there is nothing to read");
}

#[track_caller]
fn assert_only_handler(recorder: &Recorder, fd: &Arc<OwnedFd>, direction: Direction) {
    match &recorder.handlers()[..] {
        [(on, towards)] => assert!(Arc::ptr_eq(on, fd) && *towards == direction, "on {on:?}, {towards:?}"),
        handlers => panic!("not one handler: {handlers:?}"),
    }
}

fn a_read_handler_arrives_on_the_socket_and_nowhere_else(near: Near) {
    let (near, _far) = pair(near);
    let recorder = Recorder::new();
    let (handler, _) = reading(&recorder, &near);
    near.set_aio_fd_handler(AioChange::Set(handler), AioChange::Keep).unwrap();
    let fd = socket(&**near);
    let calls = recorder.calls();
    assert!(matches!(&calls[..], [set] if set.is_set_on(&fd, Direction::Read)), "{calls:?}");
    assert_only_handler(&recorder, &fd, Direction::Read);
    assert_eq!(recorder.turn(QUIET).unwrap(), 0, "called though the peer was silent");
}

fn a_read_handler_is_called_again_for_plaintext_held_above_a_silent_socket(near: Near) {
    let (near, far) = pair(near);
    let recorder = Recorder::new();
    let (handler, reads) = reading(&recorder, &near);
    near.set_aio_fd_handler(AioChange::Set(handler), AioChange::Keep).unwrap();
    let sent = message();
    for round in 1..=2 {
        far.write_all(&sent).unwrap();
        assert!(is_readable(&socket(&**near)), "the message is on the socket");
        *reads.lock().unwrap() = Reads::default();
        assert_all_is_read(&recorder, &reads, &sent);
        let reads = reads.lock().unwrap();
        let readable = reads.socket_was_readable.iter().position(|readable| *readable);
        assert_eq!(readable, None, "round {round}: the socket was not drained by the first call");
        assert!(reads.calls >= MESSAGE.div_ceil(PIECE), "{} calls", reads.calls);
    }
}

fn a_read_handler_is_called_for_what_another_threads_read_left(near: Near) {
    let (near, far) = pair(near);
    let recorder = Recorder::new();
    let (handler, reads) = reading(&recorder, &near);
    near.set_aio_fd_handler(AioChange::Set(handler), AioChange::Keep).unwrap();
    let sent = message();
    far.write_all(&sent).unwrap();
    let mut first = [0; PIECE];
    thread::scope(|scope| scope.spawn(|| near.read_all(&mut first).unwrap()).join().unwrap());
    assert_eq!(first, sent[..PIECE]);
    assert!(!is_readable(&socket(&**near)), "the other thread's read drained the socket");
    assert_eq!(reads.lock().unwrap().calls, 0, "no handler runs outside a turn of its loop");
    assert_all_is_read(&recorder, &reads, &sent[PIECE..]);
}

fn the_loop_wakes_up_for_what_another_threads_read_left(near: Near) {
    let (near, far) = pair(near);
    let sent = message();
    // The message is held before there is a loop, which then sleeps over a silent socket until another thread reads once more.
    far.write_all(&sent).unwrap();
    near.read_all(&mut [0; PIECE]).unwrap();
    let recorder = Recorder::new();
    let calls = Arc::new(AtomicUsize::new(0));
    let handler = {
        let calls = Arc::clone(&calls);
        AioHandler::new(Arc::clone(&recorder) as _, move || {
            calls.fetch_add(1, Ordering::Relaxed);
        })
    };
    near.set_aio_fd_handler(AioChange::Set(handler), AioChange::Keep).unwrap();
    let called = || calls.load(Ordering::Relaxed);
    assert!(recorder.turn_until(PATIENCE, || called() > 0).unwrap(), "the message was held before the handler was set");
    // It did not call the channel: that is its own affair until somebody does.
    recorder.turn(QUIET).unwrap();
    assert_eq!(recorder.turn(QUIET).unwrap(), 0, "a handler that left the channel alone is called again and again");
    let before = called();
    thread::scope(|scope| {
        scope.spawn(|| near.read_all(&mut [0; PIECE]).unwrap());
        assert!(recorder.turn_until(PATIENCE, || called() > before).unwrap(), "nobody woke the loop");
    });
}

fn read_and_write_handlers_live_on_two_loops(near: Near) {
    const TOTAL: usize = 1 << 20;
    let (near, far) = pair(near);
    let (readers, writers) = (Recorder::new(), Recorder::new());
    let (read, reads) = reading(&readers, &near);
    let written = Arc::new(AtomicUsize::new(0));
    let write = {
        let (near, written) = (Arc::downgrade(&near), Arc::clone(&written));
        AioHandler::new(Arc::clone(&writers) as _, move || {
            let Some(near) = near.upgrade() else { return };
            let left = TOTAL - written.load(Ordering::Relaxed);
            let bytes = vec![0x5a; left.min(10_000)];
            match near.writev_full(&[IoSlice::new(&bytes)], &[], WriteFlags::DONT_WAIT) {
                Ok(count) => {
                    written.fetch_add(count, Ordering::Relaxed);
                }
                Err(error) => assert!(error.is_would_block(), "{error}"),
            }
        })
    };
    near.set_aio_fd_handler(AioChange::Set(read), AioChange::Set(write)).unwrap();
    let fd = socket(&**near);
    assert_only_handler(&readers, &fd, Direction::Read);
    assert_only_handler(&writers, &fd, Direction::Write);

    // Each loop calls its own handler and never the other's.
    assert_eq!(readers.turn(QUIET).unwrap(), 0);
    let sent = message();
    far.write_all(&sent).unwrap();
    while writers.turn(QUIET).unwrap() > 0 {}
    assert_eq!(reads.lock().unwrap().calls, 0, "the read handler ran on the writer's loop");
    let full = written.load(Ordering::Relaxed);
    assert!(0 < full && full < TOTAL, "{full} bytes went to a peer that does not read");
    assert_all_is_read(&readers, &reads, &sent);
    assert_eq!(written.load(Ordering::Relaxed), full, "the write handler ran on the reader's loop");
    assert!(
        !writers.calls().iter().any(|call| matches!(call, Recorded::Scheduled)),
        "held bytes went to the wrong loop"
    );

    // Room made by the peer brings the writer back, until all has arrived.
    let mut arrived = 0;
    let mut buffer = vec![0; 64 * 1024];
    let done = writers.turn_until(PATIENCE, || {
        loop {
            match far.readv_full(&mut [IoSliceMut::new(&mut buffer)], None, ReadFlags::DONT_WAIT) {
                Ok(count) => {
                    assert!(buffer[..count].iter().all(|byte| *byte == 0x5a));
                    arrived += count;
                }
                Err(error) if error.is_would_block() => break,
                Err(error) => panic!("{error}"),
            }
        }
        arrived == TOTAL
    });
    assert!(done.unwrap(), "{arrived} bytes arrived of {}", written.load(Ordering::Relaxed));
}

fn no_handler_is_called_after_it_was_cleared_or_its_channel_closed_or_dropped(near: Near) {
    for how in ["cleared", "closed", "dropped"] {
        let (channel, far) = pair(near);
        let (readers, writers) = (Recorder::new(), Recorder::new());
        let calls = Arc::new(AtomicUsize::new(0));
        let counting = |recorder: &Arc<Recorder>| {
            let calls = Arc::clone(&calls);
            let handler = AioHandler::new(Arc::clone(recorder) as _, move || {
                calls.fetch_add(1, Ordering::Relaxed);
            });
            AioChange::Set(handler)
        };
        channel.set_aio_fd_handler(counting(&readers), counting(&writers)).unwrap();
        // Due in every way: bytes held, and scheduled for that; the socket readable, and writable.
        far.write_all(&message()).unwrap();
        channel.read_all(&mut [0; PIECE]).unwrap();
        assert!(readers.calls().iter().any(|call| matches!(call, Recorded::Scheduled)));
        far.write_all(&message()).unwrap();
        let fd = Arc::downgrade(&socket(&**channel));
        match how {
            "cleared" => drop(channel.set_aio_fd_handler(AioChange::Clear, AioChange::Clear).unwrap()),
            // The peer does not answer; that close says so is none of this test's business.
            "closed" => drop(channel.close()),
            _ => drop(channel),
        }
        for recorder in [&readers, &writers] {
            // What was scheduled may still come to its turn, and finds nothing to call.
            recorder.turn(QUIET).unwrap();
            assert_eq!(recorder.turn(QUIET).unwrap(), 0, "{how}");
            assert!(recorder.handlers().is_empty(), "{how}: the loop still has {:?}", recorder.handlers());
        }
        assert_eq!(calls.load(Ordering::Relaxed), 0, "calls of a handler that was gone: {how}");
        assert_eq!(fd.upgrade().is_some(), how == "cleared", "{how}: who holds the socket?");
    }
}

/// Each test in both roles, watched.
macro_rules! in_both_roles {
    (@ $module:ident $near:ident $($name:ident)+) => {
        mod $module {
            $(
                #[test]
                fn $name() {
                    let name = concat!(stringify!($module), "::", stringify!($name));
                    super::watchdog::run(name, || super::$name(super::Near::$near));
                }
            )+
        }
    };
    ($($name:ident)+) => {
        in_both_roles! { @ client Client $($name)+ }
        in_both_roles! { @ server Server $($name)+ }
    };
}

in_both_roles! {
    a_read_handler_arrives_on_the_socket_and_nowhere_else
    a_read_handler_is_called_again_for_plaintext_held_above_a_silent_socket
    a_read_handler_is_called_for_what_another_threads_read_left
    the_loop_wakes_up_for_what_another_threads_read_left
    read_and_write_handlers_live_on_two_loops
    no_handler_is_called_after_it_was_cleared_or_its_channel_closed_or_dropped
}

/// Private writable memory of this process, in KiB, touched or not (proc_pid_status(5): `VmData`).
fn data_kib() -> i64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Opens pairs whose far ends say something large and then something small, which the near ends send back before they say
/// something of their own; both read once for one event. Memory for a pair that is idle then, both ends, in KiB: the median of a few
/// batches, as the allocator gives memory back, or takes more than it needs, when it likes.
fn memory_of_an_idle_pair(near: Near) -> i64 {
    const PAIRS: usize = 30;
    const BATCHES: usize = 5;
    let event_loop = EventLoop::new().unwrap();
    let told = Arc::new(AtomicUsize::new(0));
    let mut pairs = Vec::new();
    let mut taken = Vec::new();
    // The first batch makes what there is once for all, the pool among it.
    for pair_number in 1..=(BATCHES + 1) * PAIRS {
        let (near, far) = pair(near);
        for end in [&near, &far] {
            end.set_blocking(false);
        }
        let echoing = Arc::downgrade(&near);
        let echo = AioHandler::new(event_loop.handle(), move || {
            let (near, mut bytes) = (echoing.upgrade().unwrap(), [0; 1000]);
            match near.read(&mut bytes) {
                Ok(count) => assert_eq!(near.write(&bytes[..count]).unwrap(), count),
                Err(error) => assert!(error.is_would_block(), "{error}"),
            }
        });
        let (hearing, heard) = (Arc::downgrade(&far), Arc::clone(&told));
        let hear =
            AioHandler::new(event_loop.handle(), move || match hearing.upgrade().unwrap().read(&mut [0; 1000]) {
                Ok(count) => drop(heard.fetch_add(count, Ordering::SeqCst)),
                Err(error) => assert!(error.is_would_block(), "{error}"),
            });
        near.set_aio_fd_handler(AioChange::Set(echo), AioChange::Keep).unwrap();
        far.set_aio_fd_handler(AioChange::Set(hear), AioChange::Keep).unwrap();
        let until_heard = |length| {
            while told.load(Ordering::SeqCst) < length {
                event_loop.run_once(Some(PATIENCE)).unwrap();
            }
            told.store(0, Ordering::SeqCst);
        };
        for length in [MESSAGE, 1] {
            assert_eq!(far.write(&message()[..length]).unwrap(), length);
            until_heard(length);
        }
        // More than the socket takes at once: the loop sends the rest.
        until_heard(near.write(&[0; 1 << 20]).unwrap());
        pairs.push((near, far));
        if pair_number % PAIRS == 0 {
            taken.push(data_kib());
        }
    }
    let mut grown: Vec<i64> = taken.windows(2).map(|pair| pair[1] - pair[0]).collect();
    grown.sort_unstable();
    grown[BATCHES / 2] / PAIRS as i64
}

#[test]
fn idle_connections_hold_no_buffers_though_their_handlers_read_once_for_one_event() {
    child::run("idle_connections_hold_no_buffers_though_their_handlers_read_once_for_one_event", || {
        for near in [Near::Client, Near::Server] {
            let memory = memory_of_an_idle_pair(near);
            assert!(memory < 64, "an idle pair takes {memory} KiB");
        }
    });
}
