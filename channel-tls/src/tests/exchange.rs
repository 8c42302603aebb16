//! Two of our engines, and one of ours with rustls' own, exchange data however the bytes are cut.

use std::io::IoSliceMut;

use channel_core::Buffer;
use channel_core::engine::{Decoder, Sink, Stopped};

use super::common::{Authority, VERSIONS, buffered_client, buffered_server, pattern};
use super::end::{Ours, client_and_peer, heard_by, records, said_by, settle, to_peer};
use crate::ProtocolVersion;

/// Moves what one end sends to the other in pieces of `cut` bytes; whether there was any.
fn carry(from: &mut Ours, to: &mut Ours, cut: usize) -> bool {
    let sent = from.sends();
    for piece in sent.chunks(cut) {
        to.receives(piece).unwrap();
    }
    !sent.is_empty()
}

fn joined(version: ProtocolVersion, cut: usize) -> (Ours, Ours) {
    let authority = Authority::new();
    let mut client = Ours::client(authority.client(version));
    let mut server = Ours::server(&authority.server(version));
    client.receives(&[]).unwrap();
    while carry(&mut client, &mut server, cut) | carry(&mut server, &mut client, cut) {}
    assert!(client.is_open() && server.is_open());
    (client, server)
}

#[test]
fn two_engines_agree_and_exchange_data_at_every_cut() {
    let long = pattern(40_000);
    for version in VERSIONS {
        for cut in [1, 2, 3, 5, 7, 11, 64, 1000, 16_384, 65_536] {
            let (mut client, mut server) = joined(version, cut);
            server.room = 7; // a reader with little room gets everything all the same
            client.writes(b"hello").unwrap();
            client.writes(&long).unwrap();
            server.writes(&long).unwrap();
            carry(&mut client, &mut server, cut);
            carry(&mut server, &mut client, cut);
            client.finishes().unwrap();
            server.finishes().unwrap();
            carry(&mut client, &mut server, cut);
            carry(&mut server, &mut client, cut);
            assert_eq!(server.heard, [b"hello", &long[..]].concat());
            assert_eq!(client.heard, long);
            assert!(client.ended && server.ended);
        }
    }
}

#[test]
fn both_roles_exchange_data_with_a_buffered_peer() {
    for version in VERSIONS {
        let authority = Authority::new();
        let client = (Ours::client(authority.client(version)), buffered_server(authority.server(version)));
        let server = (Ours::server(&authority.server(version)), buffered_client(authority.client(version)));
        for (mut ours, mut peer) in [client, server] {
            settle(&mut ours, &mut peer);
            assert!(ours.is_open() && !peer.is_handshaking());
            ours.writes(b"to the peer").unwrap();
            to_peer(&mut peer, &ours.sends()).unwrap();
            assert_eq!(heard_by(&mut peer), b"to the peer");
            let back = said_by(&mut peer, b"and back");
            ours.receives(&back).unwrap();
            assert_eq!(ours.heard, b"and back");
        }
    }
}

#[test]
fn data_glued_to_the_last_handshake_record_is_not_lost() {
    let authority = Authority::new();
    let mut server = Ours::server(&authority.server(ProtocolVersion::Tls1_3));
    let mut peer = buffered_client(authority.client(ProtocolVersion::Tls1_3));
    let hello = super::end::from_peer(&mut peer);
    server.receives(&hello).unwrap();
    let mut finished = to_peer(&mut peer, &server.sends()).unwrap();
    finished.extend(said_by(&mut peer, b"glued"));
    server.receives(&finished).unwrap();
    assert_eq!(server.heard, b"glued");
}

#[test]
fn plaintext_is_sealed_in_full_records() {
    let (mut client, mut server) = joined(ProtocolVersion::Tls1_3, 65_536);
    let data = pattern(40_000);
    // In three pieces that do not meet where records do.
    client.writes_pieces(&[&data[..10_000], &data[10_000..10_001], &data[10_001..]]).unwrap();
    let sent = client.sends();
    let lengths: Vec<usize> = records(&sent).iter().map(|record| record.len()).collect();
    assert_eq!(lengths, [16_384 + 22, 16_384 + 22, 40_000 - 2 * 16_384 + 22]);
    server.receives(&sent).unwrap();
    assert_eq!(server.heard, data);
}

#[test]
fn small_records_of_our_own_configuration_fit() {
    // 600 headers and tags are more than is reserved for one record: rustls asks for the room it needs, and gets it.
    let authority = Authority::new();
    let mut config = (*authority.client(ProtocolVersion::Tls1_3)).clone();
    config.max_fragment_size = Some(32);
    let mut client = Ours::client(config.into());
    let mut peer = buffered_server(authority.server(ProtocolVersion::Tls1_3));
    settle(&mut client, &mut peer);
    let data = pattern(16_384);
    client.writes(&data).unwrap();
    let sent = client.sends();
    assert!(records(&sent).len() > 600);
    to_peer(&mut peer, &sent[..sent.len() / 2]).unwrap();
    let mut heard = heard_by(&mut peer);
    to_peer(&mut peer, &sent[sent.len() / 2..]).unwrap();
    heard.extend(heard_by(&mut peer));
    assert_eq!(heard, data);
}

#[test]
fn the_facts_are_those_both_sides_agreed_on() {
    let authority = Authority::new();
    let client = authority.client_builder().alpn(["nbd", "vnc"]).cipher_suites(["TLS_AES_128_GCM_SHA256"]);
    let server = authority.server_builder().alpn(["vnc", "smtp"]);
    let mut client = Ours::client(client.build().unwrap().0);
    let mut server = Ours::server(&server.build().unwrap().0);
    client.receives(&[]).unwrap();
    while carry(&mut client, &mut server, 4096) | carry(&mut server, &mut client, 4096) {}
    for facts in [client.facts.get().unwrap(), server.facts.get().unwrap()] {
        assert_eq!(facts.version, ProtocolVersion::Tls1_3);
        assert_eq!(facts.suite, rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
        assert_eq!(facts.alpn.as_deref(), Some(&b"vnc"[..]));
    }
    assert_eq!(client.facts.get().unwrap().peer_certificates().len(), 1);
    assert_eq!(client.facts.get().unwrap().server_name, None);
    assert_eq!(server.facts.get().unwrap().peer_certificates().len(), 0);
    assert_eq!(server.facts.get().unwrap().server_name.as_deref(), Some(super::common::NAME));
}

#[test]
fn a_session_keeps_no_record_of_memory_to_gather_the_next_in() {
    let (mut ours, _peer) = client_and_peer();
    let kept = |ours: &Ours| ours.open.as_ref().unwrap().1.scratch();
    ours.writes_pieces(&[&[1; 9000], &[2; 9000]]).unwrap();
    assert_eq!(kept(&ours), 0);
    ours.writes_pieces(&[b"small", b"pieces"]).unwrap();
    let small = kept(&ours);
    assert!((11..=4096).contains(&small), "kept for the next: {small}");
    ours.writes_pieces(&[b"small", b"pieces"]).unwrap();
    assert_eq!(kept(&ours), small);
}

#[test]
fn one_call_opens_so_many_records_and_no_more_whatever_room_it_has() {
    let (mut from, mut to) = joined(ProtocolVersion::Tls1_3, usize::MAX);
    let mut sent = Vec::new();
    for _ in 0..3000 {
        from.writes(b"x").unwrap();
        sent.extend(from.sends());
    }
    let (decoder, _) = to.open.as_mut().unwrap();
    let (mut room, mut held, mut calls) = ([0; 4096], Buffer::new(), Vec::new());
    while !sent.is_empty() {
        let mut bufs = [IoSliceMut::new(&mut room)];
        let mut sink = Sink::slices(&mut bufs, &mut held);
        let decoded = decoder.decode(&mut sent, &mut sink).unwrap();
        calls.push((sink.filled(), decoded.stopped));
        sent.drain(..decoded.consumed);
    }
    assert_eq!(calls, [(1024, Stopped::SinkFull), (1024, Stopped::SinkFull), (952, Stopped::NeedInput)]);
}
