//! Where rustls' unbuffered API bites those who step it carelessly, a test each.

use channel_core::engine::{Advance, Encoder, Handshake};
use channel_core::{Buffer, ErrorKind, Result};

use super::common::{Authority, buffered_client, buffered_server, pattern};
use super::end::{Ours, client_and_peer, from_peer, heard_by, records, said_by, settle, to_peer};
use crate::ProtocolVersion;
use crate::handshake::TlsHandshake;
use crate::session::contained;

/// Our client, open, and a peer whose handshake messages come in small pieces; its tickets are still on their way.
fn with_tickets_in_pieces() -> (Ours, rustls::Connection, Vec<u8>) {
    let authority = Authority::new();
    let mut config = (*authority.server(ProtocolVersion::Tls1_3)).clone();
    config.max_fragment_size = Some(32);
    let mut peer = buffered_server(config.into());
    let mut ours = Ours::client(authority.client(ProtocolVersion::Tls1_3));
    ours.receives(&[]).unwrap();
    let flight = to_peer(&mut peer, &ours.sends()).unwrap();
    ours.receives(&flight).unwrap();
    assert!(ours.is_open());
    let tickets = to_peer(&mut peer, &ours.sends()).unwrap();
    assert!(records(&tickets).len() > 3, "the tickets are in pieces");
    (ours, peer, tickets)
}

#[test]
fn we_write_while_a_ticket_in_pieces_has_stalled() {
    let (_, _, tickets) = with_tickets_in_pieces();
    for stall in 0..tickets.len() {
        let (mut ours, mut peer, tickets) = with_tickets_in_pieces();
        ours.receives(&tickets[..stall]).unwrap();
        if stall == records(&tickets)[0].len() {
            assert_eq!(ours.pending(), stall, "rustls keeps hold of the first piece");
        }
        ours.writes(b"while it stalls").unwrap();
        to_peer(&mut peer, &ours.sends()).unwrap();
        assert_eq!(heard_by(&mut peer), b"while it stalls");
        ours.receives(&tickets[stall..]).unwrap();
        assert_eq!(ours.pending(), 0, "the tickets are complete");
        let data = said_by(&mut peer, b"after it");
        ours.receives(&data).unwrap();
        assert_eq!(ours.heard, b"after it");
    }
}

#[test]
fn we_end_our_output_while_a_ticket_in_pieces_has_stalled() {
    let (mut ours, mut peer, tickets) = with_tickets_in_pieces();
    let first = records(&tickets)[0].len();
    ours.receives(&tickets[..first]).unwrap();
    ours.finishes().unwrap();
    to_peer(&mut peer, &ours.sends()).unwrap();
    assert!(peer.process_new_packets().unwrap().peer_has_closed());
    ours.receives(&tickets[first..]).unwrap();
    let data = said_by(&mut peer, b"still heard");
    ours.receives(&data).unwrap();
    assert_eq!(ours.heard, b"still heard");
}

#[test]
fn a_message_in_pieces_is_bounded_by_the_limits() {
    let authority = Authority::new();
    let mut config = (*authority.server(ProtocolVersion::Tls1_3)).clone();
    config.max_fragment_size = Some(32);
    let mut peer = buffered_server(config.into());
    let handshake = TlsHandshake::client(authority.client(ProtocolVersion::Tls1_3), super::common::NAME, 300);
    let mut ours = Ours::over(handshake.unwrap());
    ours.receives(&[]).unwrap();
    let flight = to_peer(&mut peer, &ours.sends()).unwrap();
    assert_eq!(ours.receives(&flight).unwrap_err().kind(), ErrorKind::LimitExceeded);
}

#[test]
fn the_bound_of_a_message_in_pieces_is_the_last_that_fits() {
    let authority = Authority::new();
    let mut config = (*authority.server(ProtocolVersion::Tls1_3)).clone();
    config.max_fragment_size = Some(64);
    let config = std::sync::Arc::new(config);
    let most_pending = |bound: usize| -> Result<usize> {
        let mut peer = buffered_server(config.clone());
        let client = authority.client(ProtocolVersion::Tls1_3);
        let mut ours = Ours::over(TlsHandshake::client(client, super::common::NAME, bound).unwrap());
        ours.receives(&[])?;
        let flight = to_peer(&mut peer, &ours.sends()).unwrap();
        let mut most = 0;
        for record in records(&flight) {
            ours.receives(record)?;
            most = most.max(ours.pending());
        }
        assert!(ours.is_open());
        Ok(most)
    };
    let needed = most_pending(1 << 20).unwrap();
    assert!(needed > 64, "nothing came in pieces: {needed}");
    // Signatures differ in length.
    let reached = |bound: usize| match most_pending(bound) {
        Ok(most) => {
            assert!(most <= bound, "{most} bytes were kept");
            most == bound
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::LimitExceeded);
            false
        }
    };
    assert!((0..50).any(|_| (needed - 4..needed + 4).any(reached)), "none kept as much as it may");
}

#[test]
fn open_means_both_directions() {
    // After its first flight a TLS 1.3 server may send, but the client has not proved anything yet.
    let authority = Authority::new();
    let mut server = TlsHandshake::server(&authority.server(ProtocolVersion::Tls1_3), 4096).unwrap();
    let mut peer = buffered_client(authority.client(ProtocolVersion::Tls1_3));
    let mut out = Buffer::new();
    let mut hello = from_peer(&mut peer);
    let advance = server.advance(&mut hello, false, &mut out).unwrap();
    assert!(matches!(advance, Advance::NeedInput { .. }));
    assert!(server.facts().get().is_none());
    let mut finished = to_peer(&mut peer, out.as_slice()).unwrap();
    assert!(!peer.is_handshaking());
    let advance = server.advance(&mut finished, false, &mut out).unwrap();
    assert!(matches!(advance, Advance::Open { .. }));
    assert!(server.facts().get().is_some());
}

#[test]
fn after_an_error_one_alert_is_sent_and_nothing_more_is_fed_or_sealed() {
    for version in super::common::VERSIONS {
        let authority = Authority::new();
        let mut ours = Ours::client(authority.client(version));
        let mut peer = buffered_server(authority.server(version));
        settle(&mut ours, &mut peer);
        let good = said_by(&mut peer, b"good");
        let mut bad = said_by(&mut peer, b"bad");
        *bad.last_mut().unwrap() ^= 1;
        let after = said_by(&mut peer, b"after");
        let error = ours.receives(&[good, bad, after.clone()].concat()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert_eq!(ours.heard, b"good", "what came before it is delivered");

        let alert = ours.sends();
        assert_eq!(records(&alert).len(), 1);
        let told = to_peer(&mut peer, &alert).unwrap_err();
        assert_eq!(told, rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac));

        assert_eq!(ours.receives(&after).unwrap_err().to_string(), error.to_string());
        assert_eq!(ours.writes(b"more").unwrap_err().to_string(), error.to_string());
        assert_eq!(ours.finishes().unwrap_err().to_string(), error.to_string());
        assert_eq!(ours.inner_ends().unwrap_err().to_string(), error.to_string());
        assert_eq!(ours.sends(), b"", "one alert, and silence");
    }
}

#[test]
fn no_send_after_close_notify() {
    for version in super::common::VERSIONS {
        let authority = Authority::new();
        let mut ours = Ours::server(&authority.server(version));
        let mut peer = buffered_client(authority.client(version));
        settle(&mut ours, &mut peer);
        ours.finishes().unwrap();
        to_peer(&mut peer, &ours.sends()).unwrap();
        assert_eq!(ours.writes(b"late").unwrap_err().kind(), ErrorKind::BrokenPipe);
        ours.finishes().unwrap();
        if version == ProtocolVersion::Tls1_3 {
            peer.refresh_traffic_keys().unwrap(); // asks for a reply that must not come
        }
        let data = said_by(&mut peer, b"still heard");
        ours.receives(&data).unwrap();
        assert_eq!(ours.heard, b"still heard");
        assert_eq!(ours.sends(), b"");
    }
}

#[test]
fn garbage_after_our_close_notify_is_an_error_without_alert_or_panic() {
    for version in super::common::VERSIONS {
        let authority = Authority::new();
        let mut ours = Ours::server(&authority.server(version));
        let mut peer = buffered_client(authority.client(version));
        settle(&mut ours, &mut peer);
        ours.finishes().unwrap();
        to_peer(&mut peer, &ours.sends()).unwrap();
        let mut bad = said_by(&mut peer, b"bad");
        *bad.last_mut().unwrap() ^= 1;
        assert_eq!(ours.receives(&bad).unwrap_err().kind(), ErrorKind::Protocol);
        assert_eq!(ours.sends(), b"");
        assert_eq!(ours.receives(b"more").unwrap_err().kind(), ErrorKind::Protocol);
    }
}

/// The builds of this workspace leave rustls' assertions out; a user's may have them.
#[test]
fn a_panic_of_rustls_after_our_close_notify_is_an_error() {
    let failing = || -> () { std::panic::resume_unwind(Box::new("an assertion")) };
    assert_eq!(contained(true, failing).unwrap_err().kind(), ErrorKind::Protocol);
    assert!(std::panic::catch_unwind(|| contained(false, failing)).is_err(), "before it nothing is hidden");
}

#[test]
fn a_key_update_is_answered_with_our_next_data() {
    let authority = Authority::new();
    let mut ours = Ours::server(&authority.server(ProtocolVersion::Tls1_3));
    let mut peer = buffered_client(authority.client(ProtocolVersion::Tls1_3));
    settle(&mut ours, &mut peer);
    peer.refresh_traffic_keys().unwrap();
    let update = from_peer(&mut peer);
    ours.receives(&update).unwrap();
    assert_eq!(ours.sends(), b"");
    ours.writes(b"with new keys").unwrap();
    let sent = ours.sends();
    assert_eq!(records(&sent).len(), 2, "our own key update, then the data");
    to_peer(&mut peer, &sent).unwrap();
    assert_eq!(heard_by(&mut peer), b"with new keys");
    let data = said_by(&mut peer, b"and theirs");
    ours.receives(&data).unwrap();
    assert_eq!(ours.heard, b"and theirs");
}

#[test]
fn key_updates_without_data_between_are_bounded() {
    let authority = Authority::new();
    let mut ours = Ours::server(&authority.server(ProtocolVersion::Tls1_3));
    let mut peer = buffered_client(authority.client(ProtocolVersion::Tls1_3));
    settle(&mut ours, &mut peer);
    let mut send = |ours: &mut Ours, data: &[u8]| {
        peer.refresh_traffic_keys().unwrap();
        let bytes = said_by(&mut peer, data);
        ours.receives(&bytes)
    };
    for _ in 0..100 {
        send(&mut ours, b"x").unwrap();
    }
    for _ in 0..32 {
        send(&mut ours, b"").unwrap();
    }
    assert_eq!(send(&mut ours, b"").unwrap_err().kind(), ErrorKind::Protocol);
}

#[test]
fn keys_are_updated_on_request_in_tls_1_3_only() {
    let (mut ours, mut peer) = client_and_peer();
    for _ in 0..3 {
        ours.open.as_mut().unwrap().1.request_key_update().unwrap();
        to_peer(&mut peer, &ours.sends()).unwrap();
        ours.writes(b"new").unwrap();
        to_peer(&mut peer, &ours.sends()).unwrap();
        assert_eq!(heard_by(&mut peer), b"new");
        let data = said_by(&mut peer, b"theirs");
        ours.receives(&data).unwrap();
    }
    assert_eq!(ours.heard, b"theirstheirstheirs");

    let authority = Authority::new();
    let mut ours = Ours::client(authority.client(ProtocolVersion::Tls1_2));
    let mut peer = buffered_server(authority.server(ProtocolVersion::Tls1_2));
    settle(&mut ours, &mut peer);
    let error = ours.open.as_mut().unwrap().1.request_key_update().unwrap_err();
    assert!(error.is_unsupported());
    ours.writes(b"goes on").unwrap();
}

#[test]
fn a_full_sink_stops_the_decoder_between_records() {
    let (mut ours, mut peer) = client_and_peer();
    ours.room = 1;
    let data = pattern(3 * 16_384);
    let bytes = said_by(&mut peer, &data);
    ours.receives(&bytes).unwrap();
    assert_eq!(ours.heard, data);
}

#[test]
fn what_the_reader_left_to_send_goes_before_what_is_sealed() {
    // The alert of a TLS 1.2 peer that asks to renegotiate would be such a thing; tickets of a server are the common one.
    let authority = Authority::new();
    let mut ours = Ours::server(&authority.server(ProtocolVersion::Tls1_3));
    let mut peer = buffered_client(authority.client(ProtocolVersion::Tls1_3));
    let hello = from_peer(&mut peer);
    ours.receives(&hello).unwrap();
    let finished = to_peer(&mut peer, &ours.sends()).unwrap();
    ours.receives(&finished).unwrap();
    ours.writes(b"data").unwrap();
    let sent = ours.sends();
    assert!(records(&sent).len() > 1, "tickets, then data");
    to_peer(&mut peer, &sent).unwrap();
    assert_eq!(heard_by(&mut peer), b"data");
    assert_eq!(ours.open.as_ref().unwrap().1.unit(), 16_384);
}

#[test]
fn key_updates_that_nobody_fetches_are_one() {
    let (mut ours, _peer) = client_and_peer();
    let asked = |ours: &mut Ours| {
        ours.open.as_mut().unwrap().1.request_key_update().unwrap();
    };
    asked(&mut ours);
    asked(&mut ours);
    assert_eq!(records(&ours.sends()).len(), 1);
    asked(&mut ours);
    assert_eq!(records(&ours.sends()).len(), 1, "that one has left: another one is asked for");
}

#[test]
fn a_record_of_a_version_that_does_not_exist_is_refused_before_it_is_whole() {
    let (mut ours, _peer) = client_and_peer();
    assert_eq!(ours.receives(&[23, 4, 3, 0, 100]).unwrap_err().kind(), ErrorKind::Protocol);
}
