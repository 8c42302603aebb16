//! What reading leaves to be sent is told, so that whoever moves the bytes sends it.

use std::io::IoSliceMut;

use channel_core::Buffer;
use channel_core::engine::{Decoder, Sink};

use super::common::{Authority, buffered_client};
use super::end::{Ours, from_peer, to_peer};
use crate::ProtocolVersion;

/// Whether a decoding step without input says that there is something to send.
fn told(ours: &mut Ours) -> bool {
    let (mut room, mut held) = ([0; 8], Buffer::new());
    let mut bufs = [IoSliceMut::new(&mut room)];
    let mut sink = Sink::slices(&mut bufs, &mut held);
    ours.open.as_mut().unwrap().0.decode(&mut [], &mut sink).unwrap().reply
}

/// Our server, open, and its client.
fn with_tickets_to_send() -> (Ours, rustls::Connection) {
    let authority = Authority::new();
    let mut ours = Ours::server(&authority.server(ProtocolVersion::Tls1_3));
    let mut peer = buffered_client(authority.client(ProtocolVersion::Tls1_3));
    ours.receives(&from_peer(&mut peer)).unwrap();
    let finished = to_peer(&mut peer, &ours.sends()).unwrap();
    ours.receives(&finished).unwrap();
    (ours, peer)
}

#[test]
fn tickets_that_wait_to_be_sent_are_told_until_they_are_sent() {
    let (mut ours, _peer) = with_tickets_to_send();
    assert!(told(&mut ours), "the tickets wait");
    assert_ne!(ours.sends(), b"");
    assert!(!told(&mut ours), "nothing waits any more");
}

#[test]
fn our_end_goes_behind_the_replies_that_wait() {
    let (mut ours, mut peer) = with_tickets_to_send();
    ours.finishes().unwrap(); // and the tickets wait
    to_peer(&mut peer, &ours.sends()).unwrap();
    assert!(peer.process_new_packets().unwrap().peer_has_closed());
}
