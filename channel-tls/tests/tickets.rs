//! A server's tickets, which wait for no one and yet are not kept back.

mod common;

use channel_core::{Channel, ChannelExt, Limits, MemoryChannel};
use channel_tls::TlsChannel;
use channel_tls::rustls::{Connection, ProtocolVersion};
use common::{Authority, buffered_client};

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
fn a_server_that_only_reads_sends_its_tickets() {
    let authority = Authority::new();
    let (near, far) = MemoryChannel::pair().unwrap();
    let server =
        TlsChannel::server_with_config(Box::new(near), authority.server(ProtocolVersion::TLSv1_3), Limits::default());
    let server = server.unwrap();
    let mut client = buffered_client(authority.client(ProtocolVersion::TLSv1_3));
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
    assert!(server.read(&mut [0]).unwrap_err().is_would_block());
    turn(&mut client, &far);
    assert!(received(&client) > 0);
}
