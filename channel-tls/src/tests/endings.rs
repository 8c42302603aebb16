//! Clean ends, cut streams, and what is said about them.

use channel_core::{Error, ErrorKind};

use super::common::{Authority, VERSIONS, buffered_client, buffered_server};
use super::end::{Ours, from_peer, heard_by, said_by, settle, to_peer};
use crate::ProtocolVersion;

fn open(version: ProtocolVersion) -> (Ours, rustls::Connection) {
    let authority = Authority::new();
    let mut ours = Ours::client(authority.client(version));
    let mut peer = buffered_server(authority.server(version));
    settle(&mut ours, &mut peer);
    (ours, peer)
}

#[test]
fn close_notify_is_the_clean_end_and_what_follows_it_is_ignored() {
    for version in VERSIONS {
        let (mut ours, mut peer) = open(version);
        let mut bytes = said_by(&mut peer, b"last words");
        peer.send_close_notify();
        bytes.extend(from_peer(&mut peer));
        bytes.extend_from_slice(b"not even TLS");
        ours.receives(&bytes).unwrap();
        assert_eq!(ours.heard, b"last words");
        assert!(ours.ended);
        ours.ended = false;
        ours.receives(b"nor this").unwrap();
        assert!(ours.ended, "the end stays the end");
        ours.inner_ends().unwrap();
    }
}

#[test]
fn we_may_write_after_the_peer_ended_its_output() {
    for version in VERSIONS {
        let (mut ours, mut peer) = open(version);
        peer.send_close_notify();
        let bytes = from_peer(&mut peer);
        ours.receives(&bytes).unwrap();
        assert!(ours.ended);
        ours.writes(b"half").unwrap();
        ours.writes(b" closed").unwrap();
        ours.finishes().unwrap();
        to_peer(&mut peer, &ours.sends()).unwrap();
        assert_eq!(heard_by(&mut peer), b"half closed");
        assert!(peer.process_new_packets().unwrap().peer_has_closed());
    }
}

#[test]
fn an_end_without_close_notify_is_truncation() {
    let (mut ours, mut peer) = open(ProtocolVersion::Tls1_3);
    let bytes = said_by(&mut peer, b"all of it");
    ours.receives(&bytes).unwrap();
    let error = ours.inner_ends().unwrap_err();
    assert!(error.is_truncated());
    assert!(error.to_string().contains("close_notify"), "{error}");
    let bytes = said_by(&mut peer, b"half of it");
    ours.receives(&bytes[..bytes.len() / 2]).unwrap();
    let error = ours.inner_ends().unwrap_err();
    assert!(error.is_truncated());
    assert!(error.to_string().contains("inside a record"), "{error}");
}

#[test]
fn an_end_amid_the_handshake_is_truncation() {
    let authority = Authority::new();
    let mut ours = Ours::client(authority.client(ProtocolVersion::Tls1_3));
    ours.receives(&[]).unwrap();
    let mut peer = buffered_server(authority.server(ProtocolVersion::Tls1_3));
    let flight = to_peer(&mut peer, &ours.sends()).unwrap();
    ours.receives(&flight[..flight.len() / 2]).unwrap();
    let error = ours.inner_ends().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert_eq!(error.layer(), "tls");
}

#[test]
fn a_fatal_alert_of_the_peer_is_a_refusal_that_names_it() {
    let (mut ours, mut peer) = open(ProtocolVersion::Tls1_3);
    // Our own bytes sent back to the peer are garbage to it.
    ours.writes(b"x").unwrap();
    let mut bad = ours.sends();
    *bad.last_mut().unwrap() ^= 1;
    to_peer(&mut peer, &bad).unwrap_err();
    let alert = from_peer(&mut peer);
    let error = ours.receives(&alert).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(format!("{error:#}").contains("BadRecordMac"), "{error}");
    assert_eq!(ours.writes(b"y").unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(ours.sends(), b"");
}

#[test]
fn a_close_notify_amid_the_handshake_is_an_unexpected_end_at_once() {
    const CLOSE_NOTIFY: [u8; 7] = [0x15, 3, 3, 0, 2, 1, 0];
    const USER_CANCELED: [u8; 7] = [0x15, 3, 3, 0, 2, 1, 90];
    let authority = Authority::new();
    for version in VERSIONS {
        for mut ours in [Ours::client(authority.client(version)), Ours::server(&authority.server(version))] {
            ours.receives(&[]).unwrap();
            ours.receives(&USER_CANCELED).unwrap();
            assert_ended_early(&ours.receives(&CLOSE_NOTIFY).unwrap_err());
        }
        // Half way, where the server has answered the client's hello.
        let mut ours = Ours::server(&authority.server(version));
        let mut peer = buffered_client(authority.client(version));
        ours.receives(&from_peer(&mut peer)).unwrap();
        assert_ended_early(&ours.receives(&CLOSE_NOTIFY).unwrap_err());
    }
}

fn assert_ended_early(error: &Error) {
    assert_eq!((error.kind(), error.layer()), (ErrorKind::UnexpectedEof, "tls"), "{error}");
    assert!(error.to_string().contains("before the handshake was complete"), "{error}");
}

#[test]
fn a_record_that_says_another_type_in_the_clear_ends_an_open_session() {
    for kind in [0x14, 0x15, 0x16, 0x18] {
        let (mut ours, mut peer) = open(ProtocolVersion::Tls1_3);
        let mut record = said_by(&mut peer, b"hello");
        record[0] = kind;
        let error = ours.receives(&record).unwrap_err();
        assert_eq!((error.kind(), error.layer()), (ErrorKind::Protocol, "tls"), "{error}");
        assert!(error.to_string().contains("RFC 8446 §5.2"), "{error}");
        assert_eq!(ours.heard, b"");
        let told = to_peer(&mut peer, &ours.sends()).unwrap_err();
        assert_eq!(told, rustls::Error::AlertReceived(rustls::AlertDescription::UnexpectedMessage));
        assert_eq!(ours.writes(b"more").unwrap_err().kind(), ErrorKind::Protocol, "the session stays ended");
    }
}

#[test]
fn a_mislabelled_record_after_our_close_notify_ends_the_session_in_silence() {
    let (mut ours, mut peer) = open(ProtocolVersion::Tls1_3);
    ours.finishes().unwrap();
    drop(ours.sends());
    let mut record = said_by(&mut peer, b"hello");
    record[0] = 0x16;
    assert_eq!(ours.receives(&record).unwrap_err().kind(), ErrorKind::Protocol);
    assert_eq!(ours.sends(), b"");
}
