//! A server's tickets, which wait for no one and yet are not kept back; and what a client loses to them: nothing.
#![cfg(any(feature = "aws-lc-rs", feature = "ring"))]

mod common;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use channel_core::{Channel, ChannelExt, Limits, MemoryChannel};
use channel_socket::{SocketAddress, SocketChannel};
use channel_testkit::asleep::asleep;
use channel_testkit::watchdog;
use channel_tls::ProtocolVersion;
use channel_tls::TlsChannel;
use channel_tls::rustls_0_23::rustls::{Connection, ServerConnection, Stream};
use channel_tls::rustls_0_23::{client_credentials, server_credentials};
use common::{Authority, NAME, buffered_client, pattern};

/// Gives the client what has come, and sends what it has to say.
fn turn(client: &mut Connection, raw: &MemoryChannel) {
    let mut bytes = [0; 16 * 1024];
    match raw.read(&mut bytes) {
        Ok(count) => {
            let mut bytes = &bytes[..count];
            while !bytes.is_empty() {
                client.read_tls(&mut bytes).unwrap();
                client.process_new_packets().unwrap();
            }
        }
        Err(error) => assert!(error.is_would_block(), "{error}"),
    }
    let mut answer = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut answer).unwrap();
    }
    raw.write_all(&answer).unwrap();
}

#[test]
fn a_server_that_opens_sends_its_tickets_with_that_call() {
    let authority = Authority::new();
    let (near, far) = MemoryChannel::pair().unwrap();
    let credentials = server_credentials(authority.server(ProtocolVersion::Tls1_3)).unwrap();
    let server = TlsChannel::server(Box::new(near), &credentials, Limits::default()).unwrap();
    let mut client = buffered_client(authority.client(ProtocolVersion::Tls1_3));
    server.set_blocking(false);
    far.set_blocking(false);
    while server.handshake().is_err_and(|error| error.is_would_block()) {
        turn(&mut client, &far);
    }
    let received = |client: &Connection| match client {
        Connection::Client(client) => client.tls13_tickets_received(),
        Connection::Server(_) => unreachable!("a client"),
    };
    assert_eq!(received(&client), 0);
    turn(&mut client, &far);
    assert!(received(&client) > 0);
}

/// The tickets of this server leave when the client has written all and closes, as they do where the way is long; and it reads late.
#[test]
fn a_client_that_writes_and_closes_loses_nothing_to_tickets_that_come_late() {
    watchdog::run("late tickets", || {
        let authority = Authority::new();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = SocketChannel::connect(&SocketAddress::Inet(listener.local_addr().unwrap())).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        let limits = Limits { linger: Duration::from_secs(1000), ..Limits::default() };
        let credentials = client_credentials(authority.client(ProtocolVersion::Tls1_3));
        let client = TlsChannel::client(Box::new(near), &credentials, NAME, limits).unwrap();
        let mut server = ServerConnection::new(authority.server(ProtocolVersion::Tls1_3)).unwrap();
        let data = pattern(512 * 1024);
        thread::scope(|scope| {
            let opening = scope.spawn(|| client.handshake());
            loop {
                server.read_tls(&mut far).unwrap();
                server.process_new_packets().unwrap();
                if !server.is_handshaking() {
                    break;
                }
                while server.wants_write() {
                    server.write_tls(&mut far).unwrap();
                }
            }
            opening.join().unwrap().unwrap();
            assert!(server.wants_write(), "the tickets");
            let closing = asleep(scope, || client.write_all(&data).and_then(|()| client.close()));
            let mut stream = Stream::new(&mut server, &mut far);
            stream.flush().unwrap();
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard).unwrap();
            assert!(heard == data, "{} bytes of {} arrived", heard.len(), data.len());
            closing.join().unwrap().unwrap();
        });
    });
}
