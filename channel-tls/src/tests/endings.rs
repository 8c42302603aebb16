//! Clean ends, cut streams, and what is said about them.

use channel_core::ErrorKind;

use super::common::{Authority, VERSIONS, buffered_server};
use super::end::{Ours, from_peer, heard_by, said_by, settle, to_peer};
use rustls::ProtocolVersion;

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
    let (mut ours, mut peer) = open(ProtocolVersion::TLSv1_3);
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
    let mut ours = Ours::client(authority.client(ProtocolVersion::TLSv1_3));
    ours.receives(&[]).unwrap();
    let mut peer = buffered_server(authority.server(ProtocolVersion::TLSv1_3));
    let flight = to_peer(&mut peer, &ours.sends()).unwrap();
    ours.receives(&flight[..flight.len() / 2]).unwrap();
    let error = ours.inner_ends().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert_eq!(error.layer(), "tls");
}

#[test]
fn a_fatal_alert_of_the_peer_is_a_refusal_that_names_it() {
    let (mut ours, mut peer) = open(ProtocolVersion::TLSv1_3);
    // Our own bytes sent back to the peer are garbage to it.
    ours.writes(b"x").unwrap();
    let mut bad = ours.sends();
    *bad.last_mut().unwrap() ^= 1;
    to_peer(&mut peer, &bad).unwrap_err();
    let alert = from_peer(&mut peer);
    let error = ours.receives(&alert).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("BadRecordMac"), "{error}");
    assert_eq!(ours.writes(b"y").unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(ours.sends(), b"");
}
