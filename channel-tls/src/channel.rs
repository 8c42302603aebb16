//! The public face: a TLS session over another channel, as a channel.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};

#[cfg(doc)]
use channel_core::ErrorKind;
use channel_core::{Channel, GivenBack, Layered, Limits, OverError, Parts, Result};
use rustls_pki_types::CertificateDer;

use crate::credentials::{ClientCredentials, ServerCredentials};
use crate::engine::{TlsDecoder, TlsEncoder};
use crate::fault::LAYER;
use crate::handshake::{Facts, TlsHandshake};
use crate::parameters::{ProtocolVersion, suite_name};

/// A TLS session over another channel.
///
/// It opens with [`handshake`](Channel::handshake); until then reads and writes say `NotOpen` [[N1]]. What the handshake agreed
/// on can be asked for afterwards. A client whose certificate the server refuses learns that from its first read in TLS 1.3,
/// where the server answers last.
///
/// # Endings
/// [`close_write`](Channel::close_write) sends close_notify, and reading goes on; a peer that ends its stream without one gives
/// [`UnexpectedEof`](ErrorKind::UnexpectedEof) [[E2]] (RFC 8446 §6.1).
/// A TLS 1.3 client that has heard nothing since the handshake waits in [`close`](Channel::close), within [`Limits::linger`], for the server's
/// tickets or its end: tickets that meet a socket which is gone make the kernel reset the connection, and output that is on its way is lost [[S3]].
///
/// # Threads
/// As every [`Channel`]. Both directions share the session of rustls 0.23, so sealing and opening take turns; waiting never
/// holds it.
#[doc = channel_core::promises!(N1 E2 S3)]
#[derive(Debug)]
pub struct TlsChannel {
    layered: Layered<TlsDecoder, TlsEncoder>,
    role: Role,
    facts: Arc<OnceLock<Facts>>,
}

/// Which side of a session a channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It began the session.
    Client,
    /// It was asked for one.
    Server,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Server => "server",
        })
    }
}

impl TlsChannel {
    /// A client's side over `inner`. The server must show a certificate for `server_name`, a DNS name or an IP address. Does
    /// no I/O.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) if `server_name` is neither, and what rustls says against a ready-made
    /// configuration. `inner` comes back with every error.
    pub fn client(
        inner: Box<dyn Channel>,
        credentials: &ClientCredentials,
        server_name: &str,
        limits: Limits,
    ) -> Result<Self, OverError> {
        let handshake = TlsHandshake::client(Arc::clone(&credentials.0), server_name, limits.input_bytes);
        Self::over(inner, Role::Client, handshake, limits)
    }

    /// A server's side over `inner`. Does no I/O.
    ///
    /// # Errors
    /// What rustls says against a ready-made configuration. `inner` comes back with every error.
    pub fn server(inner: Box<dyn Channel>, credentials: &ServerCredentials, limits: Limits) -> Result<Self, OverError> {
        Self::over(inner, Role::Server, TlsHandshake::server(&credentials.0, limits.input_bytes), limits)
    }

    fn over(
        inner: Box<dyn Channel>,
        role: Role,
        handshake: Result<TlsHandshake>,
        limits: Limits,
    ) -> Result<Self, OverError> {
        let (inner, handshake) = OverError::unless_made(inner, handshake.map_err(|error| error.during("open")))?;
        let facts = handshake.facts();
        Ok(Self { layered: Layered::with_handshake(LAYER, inner, Box::new(handshake), limits)?, role, facts })
    }

    /// Takes TLS off again: the channel below, and what was read ahead. For protocols that go on in the clear behind the peer's close_notify
    /// (RFC 8446 §6.1): read up to that, then this. As [`Layered::into_parts`]: nothing is sent, and what
    /// [`close_write`](Channel::close_write) has ended below stays ended.
    ///
    /// # Errors
    /// The channel comes back as it was: see [`Layered::into_parts`].
    pub fn into_parts(self) -> Result<Parts, GivenBack<Self>> {
        let Self { layered, role, facts } = self;
        layered.into_parts().map_err(|refused| refused.map(|layered| Self { layered, role, facts }))
    }

    /// Makes new keys for what we send, and asks the peer to do the same (RFC 8446 §4.6.3). rustls does so by itself before
    /// keys wear out; this is for a session that will be idle for long. Peers may take many requests without data in between
    /// for an attack.
    ///
    /// # Errors
    /// [`NotOpen`](ErrorKind::NotOpen) before the handshake has completed; [`Unsupported`](ErrorKind::Unsupported) with TLS 1.2;
    /// [`BrokenPipe`](ErrorKind::BrokenPipe) after our close_notify; what ended the session.
    ///
    /// # Blocking
    /// Counts as the writer; pushes what it can.
    pub fn request_key_update(&self) -> Result<()> {
        self.layered.control("request_key_update", TlsEncoder::request_key_update)
    }

    /// Which side this is.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The protocol version; `None` before the handshake has completed.
    #[must_use]
    pub fn protocol_version(&self) -> Option<ProtocolVersion> {
        Some(self.facts.get()?.version)
    }

    /// The cipher suite, by its name in IANA's registry, such as `TLS_AES_128_GCM_SHA256` (RFC 8446 appendix B.4), or by
    /// its number there as `0x1301`, where a provider of your own has one that rustls cannot name; `None` before the
    /// handshake has completed.
    #[must_use]
    pub fn cipher_suite(&self) -> Option<Cow<'static, str>> {
        Some(suite_name(self.facts.get()?.suite))
    }

    /// The application protocol agreed on (ALPN, RFC 7301); `None` without one, and before the handshake has completed.
    #[must_use]
    pub fn alpn_protocol(&self) -> Option<&[u8]> {
        self.facts.get()?.alpn.as_deref()
    }

    /// The peer's certificate chain, its own certificate first; `None` before the handshake has completed, and empty for a
    /// client that was not asked for one. The first call copies it out of the session,
    /// whose lock it takes: not inside of [`with_read_buf`](Channel::with_read_buf).
    #[must_use]
    pub fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        Some(self.facts.get()?.peer_certificates())
    }

    /// On a server, the name the client asked for (SNI, RFC 6066 §3). It is the client's claim, not proof of anything.
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.facts.get()?.server_name.as_deref()
    }
}

channel_core::forward_channel!(TlsChannel => |self| &self.layered;
    fn describe_layer(&self) -> String {
        match self.facts.get() {
            None => format!("tls {} (not open)", self.role),
            Some(facts) => format!("tls {} {} {}", self.role, facts.version, suite_name(facts.suite)),
        }
    }
);
