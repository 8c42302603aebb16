//! The frames of RFC 6455 §5 over byte slices: no I/O, no waiting.
//!
//! `header.rs` reads a frame's header and knows the rules, `mask.rs` masks, `decoder.rs` and `encoder.rs` are the two
//! directions. This file holds what they share.

mod decoder;
mod encoder;
mod header;
mod mask;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use channel_core::engine::Ending;
use channel_core::{Error, ErrorKind, Result};

pub(crate) use decoder::Decoder;
pub(crate) use encoder::Encoder;

use crate::close::CloseFrame;
use crate::{Role, error};

/// The two directions of a connection that is open, with `shared` between them. Incoming frames may carry up to
/// `frame_bytes`.
pub(crate) fn open(role: Role, half_close: bool, frame_bytes: u64, shared: &Shared) -> (Decoder, Encoder) {
    (Decoder::new(role, frame_bytes, shared.clone()), Encoder::new(role, ending(role, half_close), shared.clone()))
}

/// How the streams of a connection end: each for itself where both ends agreed on that, otherwise as RFC 6455 §7.1.1 has it: when both have
/// sent a Close frame, the server ends TCP, and the client waits for it.
pub(crate) fn ending(role: Role, half_close: bool) -> Ending {
    if half_close { Ending::Own } else { Ending::ClosingHandshake { ends_below: role == Role::Server } }
}

/// What the reading and the writing side tell each other; the lock is held for memory work only.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared(Arc<Mutex<Notes>>);

#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// The latest ping that awaits its pong. One is enough: RFC 6455 §5.5.3 lets an endpoint answer only the latest.
    pub(crate) pong_due: Option<ControlPayload>,
    /// A ping of our own that is to be sent.
    pub(crate) ping_due: Option<ControlPayload>,
    /// The latest pong of the peer.
    pub(crate) pong_seen: Option<ControlPayload>,
    /// What the peer's Close frame said.
    pub(crate) peer_close: Option<CloseFrame>,
    /// What ours is to say, if the user chose.
    pub(crate) our_close: Option<CloseFrame>,
    /// Why the connection failed, and the Close frame that tells the peer. No data is sent any more.
    pub(crate) failure: Option<(Error, CloseFrame)>,
    /// Our Close frame has been made: nothing follows it.
    pub(crate) close_made: bool,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Notes> {
        // Nothing in here can be left half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notes {
    /// Fails if no data frame may be sent any more: the connection failed, or our Close frame has been made.
    pub(crate) fn may_send(&self) -> Result<()> {
        if let Some((failure, _)) = &self.failure {
            return Err(failure.clone());
        }
        if self.close_made {
            return Err(error(ErrorKind::BrokenPipe, "our Close frame has been sent"));
        }
        Ok(())
    }

    /// Has `payload` sent as a ping, instead of one that still waits.
    pub(crate) fn ask_for_ping(&mut self, payload: ControlPayload) -> Result<()> {
        self.may_send()?;
        self.ping_due = Some(payload);
        Ok(())
    }
}

/// The payload of a control frame: at most 125 bytes (RFC 6455 §5.5). On the heap, for most connections have none most of the time.
#[derive(Clone, Default)]
pub(crate) struct ControlPayload(Vec<u8>);

impl ControlPayload {
    pub(crate) const MOST: usize = 125;

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// Adds what fits and says how much that was.
    pub(crate) fn extend(&mut self, more: &[u8]) -> usize {
        let count = more.len().min(Self::MOST - self.0.len());
        self.0.extend_from_slice(&more[..count]);
        count
    }
}

/// What it holds is the user's or the peer's, and not for logs.
impl std::fmt::Debug for ControlPayload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlPayload").field("len", &self.0.len()).finish_non_exhaustive()
    }
}

/// A rule the peer broke, and the close code that tells it so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    kind: ErrorKind,
    code: u16,
    rule: &'static str,
}

impl Violation {
    /// 1002: the peer broke the protocol.
    pub(crate) fn protocol(rule: &'static str) -> Self {
        Self { kind: ErrorKind::Protocol, code: 1002, rule }
    }

    /// 1003: data of a kind we do not take.
    fn unsupported(rule: &'static str) -> Self {
        Self { kind: ErrorKind::Protocol, code: 1003, rule }
    }

    /// 1007: text that is none.
    pub(crate) fn not_utf8(rule: &'static str) -> Self {
        Self { kind: ErrorKind::Protocol, code: 1007, rule }
    }

    /// 1009: too big.
    fn too_big(rule: &'static str) -> Self {
        Self { kind: ErrorKind::LimitExceeded, code: 1009, rule }
    }

    fn into_parts(self) -> (Error, CloseFrame) {
        (error(self.kind, self.rule), CloseFrame::new(self.code, self.rule))
    }
}
