//! WebSocket over a layer that gathers when corked: here another WebSocket, as it would be TLS.

use std::thread;

use channel_core::{Channel, ChannelExt, Limits, MemoryChannel};
use channel_testkit::watchdog;
use channel_websocket::{ClientOptions, ServerOptions, WebSocketChannel};

fn client(inner: impl Channel) -> WebSocketChannel {
    WebSocketChannel::client(Box::new(inner), ClientOptions::new("localhost"), Limits::default()).unwrap()
}

fn server(inner: impl Channel) -> WebSocketChannel {
    WebSocketChannel::server(Box::new(inner), ServerOptions::default(), Limits::default()).unwrap()
}

/// A client and a server, each over another, above a pipe of `capacity` bytes.
fn pair(capacity: usize) -> (WebSocketChannel, WebSocketChannel) {
    let (near, far) = MemoryChannel::pair_with_capacity(capacity).unwrap();
    (client(client(near)), server(server(far)))
}

fn open((client, server): &(WebSocketChannel, WebSocketChannel)) {
    thread::scope(|scope| {
        scope.spawn(|| server.handshake().unwrap());
        client.handshake().unwrap();
    });
}

#[test]
fn the_handshake_leaves_though_both_ends_are_corked_already() {
    watchdog::run("handshake while corked", || {
        let pair = pair(64 * 1024);
        pair.0.set_cork(true);
        pair.1.set_cork(true);
        open(&pair);
    });
}

#[test]
fn a_ping_is_answered_though_both_ends_are_corked() {
    watchdog::run("ping while corked", || {
        let pair = pair(64 * 1024);
        open(&pair);
        let (client, server) = &pair;
        for end in [client, server] {
            end.set_cork(true);
            end.set_blocking(false);
        }
        client.ping(b"alive?").unwrap();
        assert!(server.read(&mut [0]).unwrap_err().is_would_block());
        assert!(client.read(&mut [0]).unwrap_err().is_would_block());
        assert_eq!(client.last_pong().as_deref(), Some(&b"alive?"[..]));
    });
}

#[test]
fn close_tells_of_data_that_was_taken_and_never_reached_the_peer() {
    watchdog::run("lost data", || {
        let pair = pair(1);
        open(&pair);
        let (client, server) = pair;
        server.set_blocking(false);
        assert_eq!(server.write(b"precious data").unwrap(), 13);
        drop(client);
        server.set_blocking(true);
        assert!(server.close().is_err());
    });
}
