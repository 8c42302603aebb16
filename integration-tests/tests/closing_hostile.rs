//! `close` beside everything else: peers that say nothing, loops that do not run, closers that change their minds.

use std::future::Future;
use std::io::IoSlice;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use channel_core::{AioChannel, Channel, ChannelExt, Direction, EventLoop, Limits, MemoryChannel, WriteFlags};
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
