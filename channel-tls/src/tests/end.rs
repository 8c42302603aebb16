//! The two kinds of ends that the tests join by hand: our engine, and rustls' own buffered connection.

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::sync::{Arc, OnceLock};

use channel_core::engine::{Advance, Decoder, Encoder, Handshake, Sink, Source, Stopped};
use channel_core::{Buffer, Error, Limits};
use rustls::{ClientConfig, ServerConfig};

use super::common::{Authority, NAME, buffered_server};
use crate::ProtocolVersion;
use crate::engine::{TlsDecoder, TlsEncoder};
use crate::handshake::{Facts, TlsHandshake};

/// Our engine with the buffers that a layer would keep for it.
pub(super) struct Ours {
    handshake: Option<TlsHandshake>,
    pub(super) open: Option<(TlsDecoder, TlsEncoder)>,
    pub(super) facts: Arc<OnceLock<Facts>>,
    incoming: Vec<u8>,
    outgoing: Buffer,
    /// How many bytes of room a read has.
    pub(super) room: usize,
    pub(super) heard: Vec<u8>,
    pub(super) ended: bool,
}

impl Ours {
    pub(super) fn client(config: Arc<ClientConfig>) -> Self {
        Self::over(TlsHandshake::client(config, NAME, Limits::default().input_bytes).unwrap())
    }

    pub(super) fn server(config: &ServerConfig) -> Self {
        Self::over(TlsHandshake::server(config, Limits::default().input_bytes).unwrap())
    }

    pub(super) fn over(handshake: TlsHandshake) -> Self {
        Self {
            facts: handshake.facts(),
            handshake: Some(handshake),
            open: None,
            incoming: Vec::new(),
            outgoing: Buffer::new(),
            room: 64 * 1024,
            heard: Vec::new(),
            ended: false,
        }
    }

    /// What it wants sent, pumped first.
    pub(super) fn sends(&mut self) -> Vec<u8> {
        if let Some((_, encoder)) = &mut self.open {
            encoder.pump(&mut self.outgoing).unwrap();
        }
        let sent = self.outgoing.as_slice().to_vec();
        self.outgoing.clear();
        sent
    }

    /// Lets it work on `bytes` and whatever it did not consume before.
    pub(super) fn receives(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.incoming.extend_from_slice(bytes);
        if let Some(handshake) = &mut self.handshake {
            match handshake.advance(&mut self.incoming, false, &mut self.outgoing)? {
                Advance::NeedInput { consumed } => drop(self.incoming.drain(..consumed)),
                Advance::Open { consumed, decoder, encoder } => {
                    self.incoming.drain(..consumed);
                    self.handshake = None;
                    self.open = Some((decoder, encoder));
                }
            }
        }
        let Some((decoder, _)) = &mut self.open else { return Ok(()) };
        loop {
            let mut caller = vec![0; self.room];
            let mut held = Buffer::new();
            let mut bufs = [IoSliceMut::new(&mut caller)];
            let mut sink = Sink::slices(&mut bufs, &mut held);
            let result = decoder.decode(&mut self.incoming, &mut sink);
            let filled = sink.filled();
            self.heard.extend_from_slice(&caller[..filled]);
            self.heard.extend_from_slice(held.as_slice());
            let decoded = result?;
            self.incoming.drain(..decoded.consumed);
            match decoded.stopped {
                Stopped::SinkFull => {}
                Stopped::NeedInput => return Ok(()),
                Stopped::End => {
                    self.ended = true;
                    return Ok(());
                }
            }
        }
    }

    /// The inner channel ended.
    pub(super) fn inner_ends(&mut self) -> Result<(), Error> {
        if let Some(handshake) = &mut self.handshake {
            return handshake.advance(&mut self.incoming, true, &mut self.outgoing).map(drop);
        }
        self.open.as_mut().unwrap().0.end(self.incoming.len())
    }

    pub(super) fn writes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.writes_pieces(&[bytes])
    }

    pub(super) fn writes_pieces(&mut self, pieces: &[&[u8]]) -> Result<(), Error> {
        let slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let (_, encoder) = self.open.as_mut().unwrap();
        encoder.encode(&mut Source::new(&slices, usize::MAX), &mut self.outgoing)
    }

    pub(super) fn finishes(&mut self) -> Result<(), Error> {
        self.open.as_mut().unwrap().1.finish(&mut self.outgoing)
    }

    /// How many bytes rustls keeps hold of.
    pub(super) fn pending(&self) -> usize {
        let handshake = self.handshake.as_ref().map(TlsHandshake::pending);
        let open = self.open.as_ref().map(|(decoder, _)| decoder.pending());
        handshake.or(open).unwrap_or(0)
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }
}

/// Our client and rustls' own server, open with TLS 1.3.
pub(super) fn client_and_peer() -> (Ours, rustls::Connection) {
    let authority = Authority::new();
    let mut ours = Ours::client(authority.client(ProtocolVersion::Tls1_3));
    let mut peer = buffered_server(authority.server(ProtocolVersion::Tls1_3));
    settle(&mut ours, &mut peer);
    (ours, peer)
}

/// Joins our end and a buffered one until neither has more to say; every byte alone is shown to ours.
pub(super) fn settle(ours: &mut Ours, peer: &mut rustls::Connection) {
    ours.receives(&[]).unwrap();
    loop {
        let sent = ours.sends();
        let answer = to_peer(peer, &sent).unwrap();
        for byte in &answer {
            ours.receives(std::slice::from_ref(byte)).unwrap();
        }
        if sent.is_empty() && answer.is_empty() {
            return;
        }
    }
}

/// Gives `bytes` to a buffered end and returns what it wants sent; after an error that is left for [`from_peer`].
pub(super) fn to_peer(peer: &mut rustls::Connection, mut bytes: &[u8]) -> Result<Vec<u8>, rustls::Error> {
    let mut result = Ok(());
    while !bytes.is_empty() && result.is_ok() && peer.read_tls(&mut bytes).unwrap() > 0 {
        result = peer.process_new_packets().map(drop);
    }
    result.map(|()| from_peer(peer))
}

/// What a buffered end wants sent.
pub(super) fn from_peer(peer: &mut rustls::Connection) -> Vec<u8> {
    let mut sent = Vec::new();
    while peer.wants_write() {
        peer.write_tls(&mut sent).unwrap();
    }
    sent
}

/// Plaintext that reached a buffered end.
pub(super) fn heard_by(peer: &mut rustls::Connection) -> Vec<u8> {
    let mut heard = Vec::new();
    // The end of what is there is an error to rustls unless close_notify came.
    let _ = peer.reader().read_to_end(&mut heard);
    heard
}

/// What a buffered end sends for `plaintext`.
pub(super) fn said_by(peer: &mut rustls::Connection, plaintext: &[u8]) -> Vec<u8> {
    peer.writer().write_all(plaintext).unwrap();
    from_peer(peer)
}

/// `bytes` record by record, by their headers.
pub(super) fn records(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while bytes.len() >= 5 {
        let (record, rest) = bytes.split_at(5 + usize::from(u16::from_be_bytes([bytes[3], bytes[4]])));
        found.push(record);
        bytes = rest;
    }
    assert!(bytes.is_empty(), "half a record");
    found
}
