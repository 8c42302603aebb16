//! TLS over a memory pair, with rustls' own stream as the peer, and with ourselves.
#![cfg(any(feature = "aws-lc-rs", feature = "ring"))]

mod common;

use std::io::{Read, Write};
use std::thread;

use channel_core::{Channel, ChannelExt, ErrorKind, Limits, MemoryChannel, Shutdown, describe};
use channel_tls::rustls_0_23::rustls::{ClientConnection, ConnectionCommon, ServerConnection, SideData, StreamOwned};
use channel_tls::rustls_0_23::{client_credentials, server_credentials};
use channel_tls::{ProtocolVersion, Role, TlsChannel};
use common::{Authority, NAME, VERSIONS, pattern};

/// As much as goes each way: a few MiB, and no multiple of anything.
const AMOUNT: usize = 3 * 1024 * 1024 + 77;

fn client(inner: MemoryChannel, authority: &Authority, version: ProtocolVersion) -> TlsChannel {
    let credentials = client_credentials(authority.client(version));
    TlsChannel::client(Box::new(inner), &credentials, NAME, Limits::default()).unwrap()
}

fn server(inner: MemoryChannel, authority: &Authority, version: ProtocolVersion) -> TlsChannel {
    let credentials = server_credentials(authority.server(version)).unwrap();
    TlsChannel::server(Box::new(inner), &credentials, Limits::default()).unwrap()
}

/// A memory pair's end as a std stream that rustls can own.
struct Std(MemoryChannel);

impl Read for Std {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.0.std_io().read(buf)
    }
}

impl Write for Std {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.0.std_io().write(buf)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.std_io().flush()
    }
}

/// What a rustls peer does: hears `AMOUNT` bytes and our clean end, says them again, ends cleanly too.
fn echo<C, D>(mut stream: StreamOwned<C, Std>)
where
    C: std::ops::DerefMut<Target = ConnectionCommon<D>>,
    D: SideData,
{
    let mut heard = vec![0; AMOUNT];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "our close_notify is the clean end");
    stream.write_all(&heard).unwrap();
    stream.conn.send_close_notify();
    stream.flush().unwrap();
}

/// What we do with such a peer: half-close after writing, and hear everything back.
fn speak(ours: &TlsChannel) {
    let data = pattern(AMOUNT);
    ours.handshake().unwrap();
    ours.write_all(&data).unwrap();
    ours.close_write().unwrap();
    assert!(ours.write(b"late").is_err(), "our output has ended");
    let mut heard = vec![0; AMOUNT];
    ours.read_all(&mut heard).unwrap();
    assert!(heard == data);
    assert_eq!(ours.read(&mut [0]).unwrap(), 0);
    ours.close().unwrap();
}

#[test]
fn a_client_exchanges_data_with_rustls_and_both_end_cleanly() {
    for version in VERSIONS {
        let authority = Authority::new();
        let (near, far) = MemoryChannel::pair().unwrap();
        let config = authority.server(version);
        let peer = thread::spawn(move || echo(StreamOwned::new(ServerConnection::new(config).unwrap(), Std(far))));
        speak(&client(near, &authority, version));
        peer.join().unwrap();
    }
}

#[test]
fn a_server_exchanges_data_with_rustls_and_both_end_cleanly() {
    for version in VERSIONS {
        let authority = Authority::new();
        let (near, far) = MemoryChannel::pair().unwrap();
        let connection = ClientConnection::new(authority.client(version), NAME.try_into().unwrap()).unwrap();
        let peer = thread::spawn(move || echo(StreamOwned::new(connection, Std(far))));
        speak(&server(near, &authority, version));
        peer.join().unwrap();
    }
}

#[test]
fn both_directions_at_once_finish_over_small_buffers() {
    for version in VERSIONS {
        let authority = Authority::new();
        let (near, far) = MemoryChannel::pair_with_capacity(1000).unwrap();
        let (near, far) = (client(near, &authority, version), server(far, &authority, version));
        let data = pattern(AMOUNT / 3);
        thread::scope(|scope| {
            scope.spawn(|| far.handshake().unwrap());
            near.handshake().unwrap();
        });
        thread::scope(|scope| {
            for end in [&near, &far] {
                scope.spawn(|| {
                    end.write_all(&data).unwrap();
                    end.close_write().unwrap();
                });
                scope.spawn(|| {
                    let mut heard = vec![0; data.len()];
                    end.read_all(&mut heard).unwrap();
                    assert!(heard == data);
                    assert_eq!(end.read(&mut [0]).unwrap(), 0);
                });
            }
        });
    }
}

#[test]
fn the_description_and_the_facts_are_there_once_it_is_open() {
    let authority = Authority::new();
    let (near, far) = MemoryChannel::pair().unwrap();
    let near = client(near, &authority, ProtocolVersion::Tls1_3);
    let far = server(far, &authority, ProtocolVersion::Tls1_3);
    assert_eq!(describe(&near), "tls client (not open) / memory");
    assert!(near.cipher_suite().is_none() && near.peer_certificates().is_none());
    assert!(near.read(&mut [0]).unwrap_err().is_not_open());
    thread::scope(|scope| {
        scope.spawn(|| far.handshake().unwrap());
        near.handshake().unwrap();
    });
    assert_eq!(describe(&near), "tls client TLSv1.3 TLS_AES_256_GCM_SHA384 / memory");
    assert_eq!(describe(&far), "tls server TLSv1.3 TLS_AES_256_GCM_SHA384 / memory");
    assert_eq!((near.role(), far.role()), (Role::Client, Role::Server));
    assert_eq!(far.server_name(), Some(NAME));
    assert_eq!(near.peer_certificates().unwrap().len(), 1);
    assert_eq!(near.protocol_version(), Some(ProtocolVersion::Tls1_3));
    assert_eq!(near.cipher_suite().as_deref(), Some("TLS_AES_256_GCM_SHA384"));
}

#[test]
fn the_application_protocol_is_the_one_that_both_offer() {
    let authority = Authority::new();
    for (offers, agreed) in [(&[][..], None), (&[&b"vnc"[..], b"nbd"][..], Some(&b"vnc"[..]))] {
        let ours = authority.client_builder().alpn(offers).build().unwrap();
        let theirs = authority.server_builder().alpn(offers).build().unwrap();
        let (near, far) = MemoryChannel::pair().unwrap();
        let near = TlsChannel::client(Box::new(near), &ours, NAME, Limits::default()).unwrap();
        let far = TlsChannel::server(Box::new(far), &theirs, Limits::default()).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| far.handshake().unwrap());
            near.handshake().unwrap();
        });
        assert_eq!((near.alpn_protocol(), far.alpn_protocol()), (agreed, agreed));
    }
}

#[test]
fn a_cut_stream_is_truncation_and_relaxed_callers_take_it_for_the_end() {
    let authority = Authority::new();
    let (near, far) = MemoryChannel::pair().unwrap();
    let near = client(near, &authority, ProtocolVersion::Tls1_3);
    let far = server(far, &authority, ProtocolVersion::Tls1_3);
    thread::scope(|scope| {
        scope.spawn(|| {
            far.handshake().unwrap();
            far.write_all(b"all").unwrap();
        });
        near.handshake().unwrap();
    });
    drop(far);
    let mut heard = [0; 3];
    near.read_all(&mut heard).unwrap();
    let error = near.read(&mut heard).unwrap_err();
    assert!(error.is_truncated(), "{error}");
    assert_eq!(error.layer(), "tls");
}

#[test]
fn keys_are_updated_while_data_flows_both_ways() {
    let authority = Authority::new();
    let (near, far) = MemoryChannel::pair().unwrap();
    let near = client(near, &authority, ProtocolVersion::Tls1_3);
    let far = server(far, &authority, ProtocolVersion::Tls1_3);
    assert!(near.request_key_update().unwrap_err().is_not_open());
    thread::scope(|scope| {
        scope.spawn(|| {
            far.handshake().unwrap();
            let mut heard = [0; 1];
            for _ in 0..50 {
                far.read_all(&mut heard).unwrap();
                far.write_all(&heard).unwrap();
            }
        });
        near.handshake().unwrap();
        for round in 0..50 {
            near.request_key_update().unwrap();
            let mut heard = [0; 1];
            near.write_all(&[round]).unwrap();
            near.read_all(&mut heard).unwrap();
            assert_eq!(heard, [round]);
        }
    });
}

#[test]
fn a_client_that_is_refused_tells_the_server_over_the_channel() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (near, far) = MemoryChannel::pair().unwrap();
    let near = client(near, &ours, ProtocolVersion::Tls1_3);
    let far = server(far, &theirs, ProtocolVersion::Tls1_3);
    let told = thread::spawn(move || far.handshake().unwrap_err());
    let error = near.handshake().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
    assert_eq!(near.handshake().unwrap_err().kind(), ErrorKind::Authentication, "latched");
    let told = told.join().unwrap();
    assert!(matches!(told.kind(), ErrorKind::Authentication | ErrorKind::Refused), "{told}");
}

#[test]
fn a_shutdown_wakes_a_blocked_reader() {
    let authority = Authority::new();
    let (near, far) = MemoryChannel::pair().unwrap();
    let near = client(near, &authority, ProtocolVersion::Tls1_3);
    let far = server(far, &authority, ProtocolVersion::Tls1_3);
    thread::scope(|scope| {
        scope.spawn(|| far.handshake().unwrap());
        near.handshake().unwrap();
    });
    thread::scope(|scope| {
        let reader = scope.spawn(|| near.read(&mut [0]));
        near.shutdown(Shutdown::Read).unwrap();
        assert_eq!(reader.join().unwrap().unwrap(), 0);
    });
}

#[test]
fn a_server_opens_though_its_tickets_find_no_room() {
    let authority = Authority::new();
    let (near, far) = MemoryChannel::pair_with_capacity(1).unwrap();
    let near = client(near, &authority, ProtocolVersion::Tls1_3);
    let far = server(far, &authority, ProtocolVersion::Tls1_3);
    thread::scope(|scope| {
        scope.spawn(|| far.handshake().unwrap());
        near.handshake().unwrap();
    });
}

#[test]
fn behind_the_peers_close_notify_both_go_on_in_the_clear() {
    for version in VERSIONS {
        let authority = Authority::new();
        let (near, far) = MemoryChannel::pair().unwrap();
        let config = authority.server(version);
        let peer = thread::spawn(move || {
            let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), Std(far));
            let mut heard = [0; 5];
            stream.read_exact(&mut heard).unwrap();
            stream.write_all(b"sealed").unwrap();
            stream.conn.send_close_notify();
            stream.flush().unwrap();
            let far = stream.sock.0;
            far.write_all(b"in the clear").unwrap();
            far.read_all(&mut heard).unwrap();
            heard
        });
        let near = client(near, &authority, version);
        near.handshake().unwrap();
        near.write_all(b"hello").unwrap();
        let mut sealed = Vec::new();
        near.std_io().read_to_end(&mut sealed).unwrap();
        assert_eq!(sealed, b"sealed");
        let parts = near.into_parts().unwrap();
        parts.inner.write_all(b"clear").unwrap();
        assert_eq!(&peer.join().unwrap(), b"clear");
        let mut clear = parts.undecoded;
        parts.inner.std_io().read_to_end(&mut clear).unwrap();
        assert_eq!(clear, b"in the clear");
        assert!(parts.unread.is_empty());
    }
}
