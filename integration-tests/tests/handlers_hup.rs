//! A peer that sent a hundred thousand pieces and is gone: its hang-up makes the descriptor ready for ever, and a loop turns once for each
//! piece all the same.

use std::io::{IoSlice, IoSliceMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use channel_core::{AioChange, AioHandler, Channel, ChannelExt, EventLoop, ReadFlags, WriteFlags, find_layer};
use channel_socket::SocketChannel;
use channel_stack::Stack;
use channel_testkit::patience::{Patience, Progress, patience};
use channel_testkit::watchdog;
use integration_tests::sockets::{self, Transport};
use integration_tests::stacks;
use rustls::crypto::aws_lc_rs::default_provider;

/// A byte each.
const PIECES: usize = 100_000;

/// What a loop may do beyond one turn for each piece: it is told of the end, and looks in vain once or twice.
const SLACK: usize = 8;

/// How long a loop is watched that has nothing to do.
const QUIET: Duration = Duration::from_millis(5);

type Stacked = Arc<Box<dyn Channel>>;

/// The near end of a connection whose peer has sent all pieces and is gone; all of it has arrived.
fn after_the_peer(stack: Stack, transport: Transport) -> Stacked {
    let (client, server) = sockets::pair(transport).unwrap();
    let provider = Arc::new(default_provider());
    let near = stacks::client(stack, Arc::clone(&provider)).unwrap().over(stacks::leaf(client).unwrap()).unwrap();
    let far = stacks::server(stack, provider).unwrap().over(stacks::leaf(server).unwrap()).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| near.handshake().unwrap());
        far.handshake().unwrap();
    });
    let socket = find_layer::<SocketChannel>(&near).and_then(SocketChannel::socket).expect("an open socket");
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 4 * PIECES).unwrap();
    far.write_all(&vec![0x5a; PIECES]).unwrap();
    far.close_write().unwrap();
    drop(far);
    // The kernel moves bytes on by itself: until the last one is here, the hang-up is not.
    while rustix::io::ioctl_fionread(&socket).unwrap() < PIECES as u64 {
        thread::sleep(Duration::from_millis(1));
    }
    Arc::new(near)
}

/// How often handlers were called, and what came of it.
#[derive(Default)]
struct Counts {
    pieces: AtomicUsize,
    ends: AtomicUsize,
    reads: AtomicUsize,
    writes: AtomicUsize,
    refused: AtomicUsize,
}

fn count(counter: &AtomicUsize) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn read_piece(near: &Weak<Box<dyn Channel>>, counts: &Counts) {
    count(&counts.reads);
    let Some(near) = near.upgrade() else { return };
    match near.readv_full(&mut [IoSliceMut::new(&mut [0])], None, ReadFlags::DONT_WAIT) {
        Ok(0) => count(&counts.ends),
        Ok(_) => count(&counts.pieces),
        Err(error) => assert!(error.is_would_block(), "{error}"),
    }
}

fn write_piece(near: &Weak<Box<dyn Channel>>, counts: &Counts, writes: bool) {
    count(&counts.writes);
    let Some(near) = near.upgrade().filter(|_| writes) else { return };
    match near.writev_full(&[IoSlice::new(b"x")], &[], WriteFlags::DONT_WAIT) {
        Err(error) if !error.is_would_block() => count(&counts.refused),
        _ => {}
    }
}

/// With a write handler that writes until that fails for good, or wants nothing.
fn a_loop_turns_once_for_each_piece(stack: Stack, transport: Transport, writes: bool, progress: &Progress) {
    let near = after_the_peer(stack, transport);
    let (event_loop, counts) = (EventLoop::new().unwrap(), Arc::new(Counts::default()));
    let shared = || (Arc::downgrade(&near), Arc::clone(&counts));
    let (channel, told) = shared();
    let read = AioHandler::new(event_loop.handle(), move || read_piece(&channel, &told));
    let (channel, told) = shared();
    let write = AioHandler::new(event_loop.handle(), move || write_piece(&channel, &told, writes));
    near.set_aio_fd_handler(AioChange::Set(read), AioChange::Set(write)).unwrap();

    let get = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    // A turn is an epoll_wait(2) that gave something to do.
    let mut turns = 0;
    let mut patience = Patience::new(patience(), progress);
    while get(&counts.ends) == 0 && !patience.is_lost() {
        let (begun, pieces) = (Instant::now(), get(&counts.pieces));
        let ran = event_loop.run_once(Some(patience.slice())).unwrap();
        turns += usize::from(ran > 0 || begun.elapsed() < patience.slice());
        if get(&counts.pieces) > pieces {
            progress.made();
        }
    }
    assert!(get(&counts.ends) > 0, "{} of {PIECES} pieces were read in {turns} turns", get(&counts.pieces));
    let rests = (0..SLACK).any(|_| event_loop.run_once(Some(QUIET)).unwrap() == 0);
    assert!(rests, "no rest after the end was read");
    assert_eq!(get(&counts.pieces), PIECES);
    let most = PIECES + SLACK;
    assert!(turns <= most, "{turns} turns for {PIECES} pieces");
    assert!(get(&counts.reads) <= most, "{} calls of the read handler for {PIECES} pieces", get(&counts.reads));
    assert!(get(&counts.writes) <= most, "{} calls of the write handler over {PIECES} pieces", get(&counts.writes));
    let refused = get(&counts.refused);
    assert!(refused <= SLACK, "{refused} calls of the write handler that failed for good");
    assert_eq!(refused > 0, writes, "writes to a peer that is gone fail");
}

/// Each stack over each transport, watched.
macro_rules! each_stack {
    ($($name:ident: $stack:ident over $transport:ident;)+) => {
        $(
            #[test]
            fn $name() {
                watchdog::run_with_progress(stringify!($name), |progress| {
                    a_loop_turns_once_for_each_piece(Stack::$stack, Transport::$transport, false, progress);
                    a_loop_turns_once_for_each_piece(Stack::$stack, Transport::$transport, true, progress);
                });
            }
        )+
    };
}

each_stack! {
    a_loop_over_unix_turns_once_for_each_piece_of_a_peer_that_is_gone: Plain over Unix;
    a_loop_over_tcp_turns_once_for_each_piece_of_a_peer_that_is_gone: Plain over Tcp;
    a_loop_over_tls_over_unix_turns_once_for_each_piece_of_a_peer_that_is_gone: Tls over Unix;
    a_loop_over_tls_over_tcp_turns_once_for_each_piece_of_a_peer_that_is_gone: Tls over Tcp;
    a_loop_over_websocket_over_tls_turns_once_for_each_piece_of_a_peer_that_is_gone: Wss over Unix;
}
