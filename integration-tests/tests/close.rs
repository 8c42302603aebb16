//! `close` at the end of a conversation: the peer's end of the top layer is here, that of the layers below is still on its way.

use std::future::Future;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use channel_core::{
    AioChange, AioChannel, AioHandler, Channel, ChannelExt, Direction, EventLoop, MemoryChannel, Result,
};
use channel_stack::Stack;
use channel_testkit::watchdog;
use integration_tests::stacks;
use rustls::crypto::aws_lc_rs::default_provider;

/// More than the peer's kernel holds for a reader that does not read: some of it is unsent until the peer reads.
const MUCH: usize = 400_000;

/// Long enough for a close that does not wait to return.
const A_WHILE: Duration = Duration::from_millis(500);

type Near = Arc<dyn Channel>;

/// A peer whose bytes we carry to TCP ourselves, to choose when.
struct Far {
    top: Box<dyn Channel>,
    leaf: MemoryChannel,
    tcp: TcpStream,
}

impl Far {
    /// What the stack has for the connection.
    fn output(&self) -> Vec<u8> {
        let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = self.leaf.read(&mut piece) {
            bytes.extend_from_slice(&piece[..count]);
        }
        bytes
    }

    fn carry_out(&self) {
        (&self.tcp).write_all(&self.output()).expect("a connection that takes a handshake");
    }

    /// Carries what has arrived; says whether the connection has ended.
    fn carry_in(&self) -> bool {
        let mut piece = [0; 4096];
        match (&self.tcp).read(&mut piece) {
            Ok(0) => return true,
            Ok(count) => self.leaf.write_all(&piece[..count]).expect("a stack that reads"),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "the connection gave {error}"),
        }
        false
    }

    /// Reads to the end: how many bytes came.
    fn read_to_end(&self) -> usize {
        let (mut total, mut over, mut bytes) = (0, false, vec![0; 65536]);
        loop {
            if !over && self.carry_in() {
                self.leaf.close_write().expect("the end");
                over = true;
            }
            loop {
                match self.top.read(&mut bytes) {
                    Ok(0) => return total,
                    Ok(count) => total += count,
                    Err(error) if error.is_would_block() => break,
                    Err(error) => panic!("{total} bytes came, and then {error}"),
                }
            }
        }
    }
}

fn drive<T>(near: &Near, direction: Direction, mut attempt: impl FnMut(&Near) -> Result<T>) -> Result<T> {
    loop {
        match attempt(near) {
            Err(error) if error.is_would_block() => drop(near.wait(direction, None)?),
            done => return done,
        }
    }
}

/// An open connection.
fn connected(stack: Stack, near_serves: bool) -> (Near, Far) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a listener");
    let tcp = TcpStream::connect(listener.local_addr().expect("its address")).expect("a connection");
    let near_leaf = stacks::leaf(listener.accept().expect("its other end").0).expect("a leaf");
    tcp.set_nonblocking(true).expect("a mode");
    let (far_leaf, leaf) = MemoryChannel::pair().expect("a pair");
    leaf.set_blocking(false);
    let provider = Arc::new(default_provider());
    let client = stacks::client(stack, Arc::clone(&provider)).expect("a stack");
    let server = stacks::server(stack, provider).expect("a stack");
    let (near, top) = if near_serves {
        let top = client.over(Box::new(far_leaf));
        (server.over(near_leaf), top)
    } else {
        let top = server.over(Box::new(far_leaf));
        (client.over(near_leaf), top)
    };
    let near: Near = Arc::from(near.expect("a stack"));
    let far = Far { top: top.expect("a stack"), leaf, tcp };
    near.set_blocking(false);
    far.top.set_blocking(false);
    let (mut near_open, mut far_open) = (false, false);
    while !(near_open && far_open) {
        for (channel, open) in [(&*near, &mut near_open), (&*far.top, &mut far_open)] {
            match channel.handshake() {
                Ok(()) => *open = true,
                Err(error) => assert!(error.is_would_block(), "a handshake gave {error}"),
            }
            far.carry_out();
            far.carry_in();
        }
    }
    (near, far)
}

/// Both have ended the top layer, and we have read to that end; the peer has yet to read. `close` is called, `while_waiting` is what the peer
/// does meanwhile, and all that we sent arrives.
fn nothing_is_lost(name: &str, close: impl Fn(&Near, &dyn Fn())) {
    for stack in [Stack::Tls, Stack::Ws, Stack::Wss] {
        for near_serves in [true, false] {
            watchdog::run(name, || {
                let (near, far) = connected(stack, near_serves);
                near.write_all(&vec![7; MUCH]).expect("a connection that takes it");
                drive(&near, Direction::Write, |near| near.flush()).expect("a flush");
                far.top.close_write().expect("an end");
                far.carry_out(); // the end of the top layer
                let read = drive(&near, Direction::Read, |near| near.read(&mut [0; 10]));
                assert_eq!(read.expect("the end"), 0);
                drive(&near, Direction::Write, |near| near.close_write()).expect("our end");
                let began = Instant::now();
                close(&near, &|| {
                    far.tcp.shutdown(Shutdown::Write).expect("the end of the layers below");
                });
                assert!(began.elapsed() < Duration::from_secs(2), "close waited for its limit, not for the peer");
                assert_eq!(far.read_to_end(), MUCH, "{stack:?}, server: {near_serves}");
            });
        }
    }
}

#[test]
fn a_close_without_waiting_goes_on_until_the_peer_has_ended_every_layer() {
    nothing_is_lost("close without waiting", |near, release| {
        let first = near.close();
        assert!(first.as_ref().is_err_and(|error| error.is_would_block()), "close did not wait: {first:?}");
        let ready = near.wait(Direction::Write, Some(Duration::from_millis(20))).expect("a wait");
        assert!(!ready, "there was nothing to do, and readiness said otherwise");
        release();
        drive(near, Direction::Write, |near| near.close()).expect("close");
    });
}

#[test]
fn a_blocking_close_waits_until_the_peer_has_ended_every_layer() {
    nothing_is_lost("blocking close", |near, release| {
        near.set_blocking(true);
        let closing = thread::spawn({
            let near = Arc::clone(near);
            move || near.close()
        });
        let until = Instant::now() + A_WHILE;
        while !closing.is_finished() && Instant::now() < until {
            thread::yield_now();
        }
        assert!(!closing.is_finished(), "close did not wait");
        release();
        closing.join().expect("no panic").expect("close");
    });
}

#[test]
fn a_handler_that_closes_is_called_when_the_peer_ends_the_layers_below() {
    nothing_is_lost("close in a handler", |near, release| {
        let turning = EventLoop::new().expect("a loop");
        let calls = Arc::new(AtomicUsize::new(0));
        let outcome = Arc::new(Mutex::new(None));
        let callback = {
            let (near, calls, outcome) = (Arc::downgrade(near), Arc::clone(&calls), Arc::clone(&outcome));
            Arc::new(move || {
                calls.fetch_add(1, Ordering::Relaxed);
                if let Some(near) = near.upgrade() {
                    *outcome.lock().expect("no panic") = Some(near.close());
                }
            })
        };
        let handler = AioHandler { context: turning.handle(), callback };
        near.set_aio_fd_handler(AioChange::Keep, AioChange::Set(handler)).expect("a handler");
        let waits = || {
            let outcome = outcome.lock().expect("no panic");
            let first = outcome.as_ref().expect("a handler that is due is called");
            first.as_ref().is_err_and(|error| error.is_would_block())
        };
        for _ in 0..20 {
            turning.run_once(Some(Duration::from_millis(2))).expect("a turn");
        }
        assert!(waits(), "close did not wait: {outcome:?}");
        assert!(calls.load(Ordering::Relaxed) <= 6, "{calls:?} calls while there was nothing to do");
        release();
        while waits() {
            turning.run_once(None).expect("a turn");
        }
        assert!(matches!(*outcome.lock().expect("no panic"), Some(Ok(()))), "close gave {outcome:?}");
    });
}

#[test]
fn a_task_that_closes_is_woken_when_the_peer_ends_the_layers_below() {
    nothing_is_lost("close in a task", |near, release| {
        let turning = EventLoop::new().expect("a loop");
        let task = AioChannel::from_arc(Arc::clone(near));
        let _attached = task.attach(turning.handle()).expect("a loop takes it");
        let mut closing = pin!(task.close());
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..20 {
            let state = closing.as_mut().poll(&mut cx);
            assert!(state.is_pending(), "close did not wait: {state:?}");
            turning.run_once(Some(Duration::from_millis(2))).expect("a turn");
        }
        release();
        loop {
            turning.run_once(None).expect("a turn");
            if let Poll::Ready(closed) = closing.as_mut().poll(&mut cx) {
                break closed.expect("close");
            }
        }
    });
}
