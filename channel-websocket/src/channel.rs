//! The public face.

use std::sync::Arc;

use channel_core::{Channel, ErrorKind, GivenBack, Layered, Limits, OverError, Parts, Result, forward_channel};

use crate::close::CloseFrame;
use crate::engine::{ControlPayload, Decoder, Encoder, Shared};
use crate::handshake::{ClientHandshake, Facts, FactsCell, ServerHandshake};
use crate::{ClientOptions, LAYER, ServerOptions, error};

/// Which end of a WebSocket connection a channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It asks for the upgrade and masks what it sends.
    Client,
    /// It answers the upgrade.
    Server,
}

/// One end of a WebSocket connection (RFC 6455), as a byte stream over binary messages.
///
/// Call [`handshake`](Channel::handshake) first. Each write becomes one message; while corked, up to 64 KiB gather for one. Message
/// boundaries of the peer do not show, and fragments are fine. Payload is delivered as it arrives, whatever the size of its
/// frame, so a channel holds neither messages nor frames.
///
/// # Endings
/// The peer's Close is the clean end [[E1]], unless its code says that something failed (1002 to 1014): then reads and writes
/// fail with [`Refused`](ErrorKind::Refused). Codes of applications (3000 to 4999) are theirs to interpret.
/// [`peer_close`](Self::peer_close) has the words. An end without a Close frame is
/// [`UnexpectedEof`](ErrorKind::UnexpectedEof) [[E2]], and so is a Close inside a fragmented message. Our own Close is sent by
/// [`close_write`](Channel::close_write) and [`close`](Channel::close), not by the peer's, for we may still have data to write.
///
/// The two Close frames are a handshake (RFC 6455 §5.5.1, §7.1.1): behind ours the layers below stay open and reading goes on until the peer's
/// has come, or nothing has for [`Limits::linger`] [[E5]]; then a server ends them, and a client waits for the server to do so. `close` waits for all of
/// that, within the linger, and says [`TimedOut`](ErrorKind::TimedOut) where the peer's Close did not come [[S7]]. With `half_close` in its options
/// an end asks for nothing: its Close ends its own direction ([`Features::HALF_CLOSE`](channel_core::Features::HALF_CLOSE)) [[E4]].
///
/// # Errors
/// A peer that breaks a rule of RFC 6455 §5 gets a Close frame with the proper code (1002, 1003, 1007, 1009), and reads and writes
/// fail with [`Protocol`](ErrorKind::Protocol), or [`LimitExceeded`](ErrorKind::LimitExceeded) for a frame over
/// [`Limits::frame_bytes`], naming the rule. Text messages are such a case: this is a stream of bytes.
#[doc = channel_core::promises!(E1 E2 E5 S7 E4)]
#[derive(Debug)]
pub struct WebSocketChannel {
    inner: Layered<Decoder, Encoder>,
    role: Role,
    shared: Shared,
    facts: FactsCell,
}

impl WebSocketChannel {
    /// A client over `inner`. Does no I/O yet.
    ///
    /// A server that does not answer 101 ends the handshake with [`Refused`](ErrorKind::Refused) and the status; one that answers it
    /// wrongly, with [`Protocol`](ErrorKind::Protocol).
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for options that cannot be sent, such as a header value with a line break; `inner` comes back.
    pub fn client(inner: Box<dyn Channel>, options: ClientOptions, limits: Limits) -> Result<Self, OverError> {
        let (shared, facts) = (Shared::default(), FactsCell::default());
        let handshake = ClientHandshake::new(options, &limits, shared.clone(), Arc::clone(&facts));
        let (inner, handshake) = OverError::unless_made(inner, handshake)?;
        let inner = Layered::with_handshake(LAYER, inner, Box::new(handshake), limits)?;
        Ok(Self { inner, role: Role::Client, shared, facts })
    }

    /// A server over `inner`. Does no I/O yet.
    ///
    /// A request that is not served gets a complete response (400, 403, 404, 405, 408, 426 or 431), and the handshake ends with an error that
    /// names it.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for options that no request could meet; `inner` comes back.
    pub fn server(inner: Box<dyn Channel>, options: ServerOptions, limits: Limits) -> Result<Self, OverError> {
        let (shared, facts) = (Shared::default(), FactsCell::default());
        let handshake = ServerHandshake::new(options, &limits, shared.clone(), Arc::clone(&facts));
        let (inner, handshake) = OverError::unless_made(inner, handshake)?;
        let inner = Layered::with_handshake(LAYER, inner, Box::new(handshake), limits)?;
        Ok(Self { inner, role: Role::Server, shared, facts })
    }

    /// Takes WebSocket off again: the channel below, open, and what was read ahead. Nothing is sent; see [`Layered::into_parts`].
    ///
    /// # Errors
    /// The channel comes back as it was: see [`Layered::into_parts`].
    pub fn into_parts(self) -> Result<Parts, GivenBack<Self>> {
        let Self { inner, role, shared, facts } = self;
        inner.into_parts().map_err(|refused| refused.map(|inner| Self { inner, role, shared, facts }))
    }

    /// Sends a ping with up to 125 bytes of payload, which the peer sends back; [`last_pong`](Self::last_pong) shows it once a read has
    /// met it. Keeps a connection alive through proxies.
    ///
    /// It goes ahead of data that waits for room. A ping that is still waiting itself is replaced.
    ///
    /// # Blocking
    /// Never waits: what cannot leave now leaves with the next call.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a longer payload; [`NotOpen`](ErrorKind::NotOpen) before the handshake has
    /// completed; [`BrokenPipe`](ErrorKind::BrokenPipe) after our Close frame; what ended our output.
    pub fn ping(&self, payload: &[u8]) -> Result<()> {
        let mut ping = ControlPayload::default();
        if ping.extend(payload) < payload.len() {
            let detail = format!("a ping of {} bytes; at most {} fit", payload.len(), ControlPayload::MOST);
            return Err(error(ErrorKind::InvalidInput, detail).during("ping").on(self.name()));
        }
        let shared = self.shared.clone();
        self.inner.control("ping", move |_| shared.lock().ask_for_ping(ping))
    }

    /// As [`close_write`](Channel::close_write), with a status code and a reason of ours in the Close frame instead of 1000, or the
    /// peer's if it closed first. Once a Close frame has been made, it stays as it is.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a code that may not be sent (RFC 6455 §7.4), or a reason of more than 123
    /// bytes. Otherwise as `close_write`; after [`WouldBlock`](ErrorKind::WouldBlock) call either again.
    pub fn close_with(&self, code: u16, reason: &str) -> Result<()> {
        let close = CloseFrame::checked(code, reason).map_err(|error| error.during("close_with").on(self.name()))?;
        self.shared.lock().our_close = Some(close);
        self.close_write()
    }

    /// Which end this is.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The subprotocol that was agreed on; `None` also before the handshake has completed.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.facts()?.subprotocol.as_deref()
    }

    /// The path that was asked for, with its query; `None` before the handshake has completed.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        Some(&self.facts()?.path)
    }

    /// The `Origin` of the request, if it had one; `None` also before the handshake has completed.
    #[must_use]
    pub fn origin(&self) -> Option<&str> {
        self.facts()?.origin.as_deref()
    }

    /// The host that was asked for; `None` before the handshake has completed.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        Some(&self.facts()?.host)
    }

    /// What the peer's Close frame said, once a read has met it.
    #[must_use]
    pub fn peer_close(&self) -> Option<CloseFrame> {
        self.shared.lock().peer_close.clone()
    }

    /// The payload of the latest pong that a read has met.
    #[must_use]
    pub fn last_pong(&self) -> Option<Vec<u8>> {
        self.shared.lock().pong_seen.as_ref().map(|pong| pong.as_slice().to_vec())
    }

    fn facts(&self) -> Option<&Facts> {
        self.facts.get()
    }
}

forward_channel!(WebSocketChannel => |self| &self.inner;
    fn describe_layer(&self) -> String {
        let role = match self.role {
            Role::Client => "websocket client",
            Role::Server => "websocket server",
        };
        self.subprotocol().map_or_else(|| role.to_owned(), |name| format!("{role} ({name})"))
    }
);
