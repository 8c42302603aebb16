//! `close` beside everything else: peers that say nothing, loops that do not run, closers that change their minds.

use std::future::{Future, poll_fn};
use std::io::IoSlice;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use channel_core::{
    AioChange, AioChannel, AioHandler, Channel, ChannelExt, Direction, ErrorKind, EventLoop, Limits, MemoryChannel,
    Result, WriteFlags,
};
use channel_testkit::watchdog;
use channel_websocket::{ClientOptions, ServerOptions, WebSocketChannel};

type Ws = Arc<WebSocketChannel>;

fn limits(linger: Duration) -> Limits {
    Limits { linger, ..Limits::default() }
}

/// A client and a server that are open, over `capacity` bytes each way; both without waiting.
fn pair(capacity: usize, linger: Duration) -> (Ws, Ws) {
    let (near, far) = MemoryChannel::pair_with_capacity(capacity).expect("a pair");
    let client =
        WebSocketChannel::client(Box::new(near), ClientOptions::new("host"), limits(linger)).expect("a client");
    let server = WebSocketChannel::server(Box::new(far), ServerOptions::default(), limits(linger)).expect("a server");
    client.set_blocking(false);
    server.set_blocking(false);
    let mut open = [false; 2];
    while open != [true; 2] {
        for (channel, open) in [&client, &server].into_iter().zip(&mut open) {
            match channel.handshake() {
                Ok(()) => *open = true,
                Err(error) => assert!(error.is_would_block(), "a handshake gave {error}"),
            }
        }
    }
    (Arc::new(client), Arc::new(server))
}

/// A future that counts how often it is polled.
struct Counted<'a, F>(Pin<&'a mut F>, Arc<AtomicUsize>);

impl<F: Future> Future for Counted<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.as_mut().poll(cx)
    }
}

const A_WHILE: Duration = Duration::from_millis(200);
const NEVER: Duration = Duration::from_secs(100_000);

/// Polls `future` once on `event_loop`, which then turns no more.
fn poll_once<F: Future>(event_loop: &EventLoop, mut future: Pin<&mut F>) {
    let polled = event_loop.block_on(poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())));
    assert!(polled.expect("a loop that runs"), "there was nothing to wait for");
}

/// Runs `event_loop` until `closing` is done, which the peer's close allows once `closing` sleeps.
fn closed_by_the_peer(event_loop: &EventLoop, far: Ws, closing: impl Future<Output = Result<()>>) {
    let closed = event_loop.block_on(async {
        let far = event_loop.spawn(async move { AioChannel::from_arc(far).close().await });
        let closed = closing.await;
        let _ = far.await;
        closed
    });
    closed.expect("a loop that runs").expect("a close that both ends made");
}

#[test]
fn a_task_that_closes_sleeps_while_the_peer_is_silent() {
    watchdog::run("a task that closes sleeps", || {
        let (near, _far) = pair(10_000, A_WHILE);
        let turning = EventLoop::new().expect("a loop");
        let task = AioChannel::from_arc(near);
        let polls = Arc::new(AtomicUsize::new(0));
        let closed = turning.block_on(Counted(pin!(task.close()), Arc::clone(&polls))).expect("a loop that runs");
        assert!(closed.is_err(), "nobody answered");
        let polls = polls.load(Ordering::Relaxed);
        assert!(polls <= 10, "{polls} polls of a close that had nothing to do");
    });
}

#[test]
fn a_blocking_close_stays_one_though_the_mode_changes() {
    watchdog::run("the mode of a close", || {
        let (near, far) = pair(10_000, Duration::from_secs(30));
        near.set_blocking(true);
        let closing = thread::spawn({
            let near = Arc::clone(&near);
            move || near.close()
        });
        // Until our Close is there, the closer has not begun.
        while far.read(&mut [0]).is_err_and(|error| error.is_would_block()) {
            thread::yield_now();
        }
        near.set_blocking(false);
        far.ping(b"it wakes").expect("a ping");
        thread::sleep(Duration::from_millis(50));
        let _ = far.close();
        let closed = closing.join().expect("no panic");
        assert!(closed.is_ok(), "{closed:?}");
    });
}

#[test]
fn a_pong_that_has_no_room_leaves_while_a_close_waits() {
    watchdog::run("a pong during close", || {
        let (near, far) = MemoryChannel::pair_with_capacity(300).expect("a pair");
        let server =
            WebSocketChannel::server(Box::new(near), ServerOptions::default(), limits(Duration::from_secs(1000)))
                .expect("a server");
        far.set_blocking(false);
        server.set_blocking(false);
        far.write_all(b"GET / HTTP/1.1\r\nHost: host\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n").expect("room");
        server.handshake().expect("a handshake");
        let mut buf = [0; 1000];
        assert!(far.read(&mut buf).expect("an answer") > 50);
        // What we send fills the channel to the last byte: data and our Close.
        server.writev_full(&[IoSlice::new(&[7; 300 - 4 - 4])], &[], WriteFlags::empty()).expect("room");
        assert!(server.close().is_err_and(|error| error.is_would_block()));
        // A ping, whose pong has no room.
        far.write_all(&[0x89, 0x82, 0, 0, 0, 0, b'h', b'i']).expect("room");
        assert!(server.close().is_err_and(|error| error.is_would_block()));
        assert_eq!(far.read(&mut buf).expect("what was sent"), 300);
        // The peer says Close only when it has its pong.
        let ready = server.wait(Direction::Write, Some(Duration::from_secs(2))).expect("a wait");
        assert!(ready, "nobody is woken to send the pong");
        assert!(server.close().is_err_and(|error| error.is_would_block()));
        assert_eq!(far.read(&mut buf).expect("a pong"), 4);
        let ready = server.wait(Direction::Write, Some(Duration::from_millis(20))).expect("a wait");
        assert!(!ready, "nothing is left to do");
    });
}

#[test]
fn a_task_that_closes_is_woken_whatever_loop_it_read_on() {
    watchdog::run("a close on another loop than a read", || {
        let (near, far) = pair(10_000, NEVER);
        let [stopped, turning] = [(); 2].map(|()| EventLoop::new().expect("a loop"));
        let near = AioChannel::from_arc(near);
        let mut buf = [0; 8];
        let mut reading = pin!(near.read(&mut buf));
        poll_once(&stopped, reading.as_mut());
        closed_by_the_peer(&turning, far, near.close());
    });
}

#[test]
fn a_close_does_not_depend_on_the_loop_of_one_that_came_before() {
    watchdog::run("closes on two loops", || {
        let (near, far) = pair(10_000, NEVER);
        let [stopped, turning] = [(); 2].map(|()| EventLoop::new().expect("a loop"));
        let near = AioChannel::from_arc(near);
        let mut earlier = pin!(near.close());
        poll_once(&stopped, earlier.as_mut());
        closed_by_the_peer(&turning, far, near.close());
    });
}

#[test]
fn a_close_that_is_given_up_leaves_the_others_awake() {
    watchdog::run("a close given up beside another", || {
        let (near, far) = pair(10_000, NEVER);
        let [turning, stopped] = [(); 2].map(|()| EventLoop::new().expect("a loop"));
        let near = AioChannel::from_arc(near);
        let mut earlier = Box::pin(near.close());
        poll_once(&turning, earlier.as_mut());
        let mut later = Box::pin(near.close());
        poll_once(&stopped, later.as_mut());
        drop(later);
        closed_by_the_peer(&turning, far, earlier);
    });
}

#[test]
fn a_close_that_is_given_up_leaves_nothing_on_its_loop() {
    watchdog::run("a close given up", || {
        let (near, _far) = pair(10_000, NEVER);
        let event_loop = EventLoop::new().expect("a loop");
        let near = AioChannel::from_arc(near);
        let mut closing = Box::pin(near.close());
        poll_once(&event_loop, closing.as_mut());
        drop(closing);
        assert_eq!(Arc::strong_count(&event_loop.handle()), 2, "{event_loop:?}");
    });
}

#[test]
fn every_closer_learns_on_its_own_loop_that_the_time_is_over() {
    watchdog::run("the limit, on two loops", || {
        let (near, _far) = pair(10_000, A_WHILE);
        let [turning, stopped] = [(); 2].map(|()| EventLoop::new().expect("a loop"));
        let near = AioChannel::from_arc(near);
        let mut earlier = pin!(near.close());
        poll_once(&turning, earlier.as_mut());
        let mut later = pin!(near.close());
        poll_once(&stopped, later.as_mut());
        let closed = turning.block_on(earlier).expect("a loop that runs");
        assert!(closed.is_err_and(|error| error.kind() == ErrorKind::TimedOut));
    });
}

#[test]
fn a_write_handler_that_closes_does_not_depend_on_the_loop_of_the_read_handler() {
    watchdog::run("handlers on two loops", || {
        let (near, far) = pair(10_000, NEVER);
        let [stopped, turning] = [(); 2].map(|()| EventLoop::new().expect("a loop"));
        let (done, closed) = std::sync::mpsc::channel();
        let (closes, runs) = (Arc::downgrade(&near), Arc::downgrade(&turning.handle()));
        let read = AioHandler::new(stopped.handle(), || ());
        let write = AioHandler::new(turning.handle(), move || {
            let (Some(near), Some(handle)) = (closes.upgrade(), runs.upgrade()) else { return };
            let result = near.close();
            if !matches!(&result, Err(error) if error.is_would_block()) {
                done.send(result).expect("a test that listens");
                handle.stop();
            }
        });
        near.set_aio_fd_handler(AioChange::Set(read), AioChange::Set(write)).expect("handlers");
        assert!(near.close().is_err_and(|error| error.is_would_block()));
        while turning.run_once(Some(Duration::ZERO)).expect("a turn") > 0 {} // what is due from now on the peer brings about
        let _closing = turning.spawn(async move { AioChannel::from_arc(far).close().await });
        turning.run().expect("a loop that runs");
        closed.recv().expect("a handler that closed").expect("a close that both ends made");
    });
}

#[test]
fn a_peer_that_was_too_silent_for_read_is_not_waited_for_again() {
    watchdog::run("silence, then close", || {
        let (near, _far) = pair(10_000, A_WHILE);
        near.set_blocking(true);
        near.close_write().expect("room for a Close");
        let read = near.read(&mut [0; 8]);
        assert!(read.is_err_and(|error| error.kind() == ErrorKind::TimedOut));
        near.set_blocking(false);
        let closed = near.close();
        assert!(closed.is_err_and(|error| error.kind() == ErrorKind::TimedOut));
    });
}
