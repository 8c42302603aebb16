//! The time before data: from the first hello to an open session, and what is known then.

use std::sync::{Arc, OnceLock};

use channel_core::engine::{Advance, Ending, Handshake};
use channel_core::{Buffer, Error, ErrorKind, Result};
use rustls::client::UnbufferedClientConnection;
use rustls::server::{ClientHello, ResolvesServerCert, UnbufferedServerConnection};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, ClientConfig, ServerConfig};
use rustls_pki_types::{CertificateDer, ServerName};

use crate::engine::{ENDING, Shared, TlsDecoder, TlsEncoder, split};
use crate::fault;
use crate::parameters::ProtocolVersion;
use crate::session::{Connection, Session, is_close_notify, record_len};

/// What the handshake agreed on; published once, when it is complete.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) version: ProtocolVersion,
    /// Its name.
    pub(crate) suite: CipherSuite,
    pub(crate) alpn: Option<Box<[u8]>>,
    pub(crate) server_name: Option<Box<str>>,
    session: Shared,
    /// Once somebody has asked: the session keeps them anyway, and many a connection is not asked.
    peer_certificates: OnceLock<Vec<CertificateDer<'static>>>,
}

impl Facts {
    pub(crate) fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        self.peer_certificates.get_or_init(|| self.session.peer_certificates())
    }
}

/// A session on its way to open.
pub(crate) struct TlsHandshake {
    /// Gone once it is open.
    session: Option<Session>,
    facts: Arc<OnceLock<Facts>>,
    /// What a [`NameWitness`] saw.
    server_name: Arc<OnceLock<String>>,
}

impl TlsHandshake {
    /// A client's handshake with the server called `server_name`; at most `most_pending` bytes of a message in pieces are kept.
    pub(crate) fn client(config: Arc<ClientConfig>, server_name: &str, most_pending: usize) -> Result<Self> {
        let name = ServerName::try_from(server_name.to_owned())
            .map_err(|cause| fault::of_credentials("the server's name must be a DNS name or an IP address", cause))?;
        let connection = UnbufferedClientConnection::new(config, name).map_err(unusable)?;
        Ok(Self::new(Connection::Client(connection), Arc::default(), most_pending))
    }

    /// A server's handshake.
    pub(crate) fn server(config: &ServerConfig, most_pending: usize) -> Result<Self> {
        let asked = Arc::new(OnceLock::new());
        let mut config = ServerConfig::clone(config);
        config.cert_resolver = Arc::new(NameWitness { inner: config.cert_resolver, name: Arc::clone(&asked) });
        let connection = UnbufferedServerConnection::new(Arc::new(config)).map_err(unusable)?;
        Ok(Self::new(Connection::Server(connection), asked, most_pending))
    }

    fn new(connection: Connection, server_name: Arc<OnceLock<String>>, most_pending: usize) -> Self {
        Self { session: Some(Session::new(connection, most_pending)), facts: Arc::default(), server_name }
    }

    /// Where the facts will be.
    pub(crate) fn facts(&self) -> Arc<OnceLock<Facts>> {
        Arc::clone(&self.facts)
    }

    fn publish(&self, session: Session) -> Result<(TlsDecoder, TlsEncoder)> {
        let known = session.common();
        let version = known.protocol_version().and_then(ProtocolVersion::of);
        let (Some(version), Some(suite)) = (version, known.negotiated_cipher_suite()) else {
            return Err(fault::error(ErrorKind::Internal, "the session is open without a version or a cipher suite"));
        };
        let alpn = known.alpn_protocol().map(Box::from);
        let owed = session.expects_tickets();
        let session = Shared::new(session);
        let halves = split(&session, owed);
        // Only this handshake publishes, and it completes once.
        let _ = self.facts.set(Facts {
            version,
            suite: suite.suite(),
            alpn,
            server_name: self.server_name.get().map(|name| Box::from(&**name)),
            session,
            peer_certificates: OnceLock::new(),
        });
        Ok(halves)
    }

    #[cfg(test)]
    pub(crate) fn pending(&self) -> usize {
        self.session.as_ref().map_or(0, Session::pending)
    }
}

impl Handshake<TlsDecoder, TlsEncoder> for TlsHandshake {
    fn advance(&mut self, input: &mut [u8], ended: bool, out: &mut Buffer) -> Result<Advance<TlsDecoder, TlsEncoder>> {
        let Some(mut session) = self.session.take() else {
            return Err(fault::error(ErrorKind::Internal, "the handshake is over"));
        };
        let result = go_on(&mut session, input, ended);
        session.shrink();
        if !(matches!(result, Ok((_, true))) && session.has_only_tickets_to_send()) {
            session.pump(out);
        }
        let (consumed, open) = result?;
        if !open {
            self.session = Some(session);
            return Ok(Advance::NeedInput { consumed });
        }
        let (decoder, encoder) = self.publish(session)?;
        Ok(Advance::Open { consumed, decoder, encoder })
    }

    /// rustls has no alert for a handshake that is given up, so the peer learns it from the end of the stream.
    fn abort(&mut self, _: &Error, _: &mut Buffer) {
        self.session = None;
    }

    fn ending(&self) -> Ending {
        ENDING
    }
}

/// Takes the session as far as `input` allows: how much of it was used, and whether the session is open.
fn go_on(session: &mut Session, input: &mut [u8], ended: bool) -> Result<(usize, bool)> {
    session.begin()?;
    let mut consumed = 0;
    // A client may send before rustls lets it receive, and the other way round: open is when both are true.
    while session.common().is_handshaking() {
        let rest = &mut input[consumed..];
        let Some(len) = record_len(rest) else {
            if ended {
                let detail = "the peer's stream ended before the handshake was complete";
                return Err(fault::error(ErrorKind::UnexpectedEof, detail));
            }
            return Ok((consumed, false));
        };
        // Records are shown one at a time, so application data is not met before the session is open.
        let mut early = Vec::new();
        let goodbye = is_close_notify(&rest[..len]);
        session.receive(&mut rest[..len], &mut |plaintext| early.extend_from_slice(plaintext))?;
        session.keep_early(&early);
        consumed += len;
        // rustls takes an early close_notify for a warning like any other, and would wait for a peer that says no more.
        if goodbye || (session.peer_closed() && session.common().is_handshaking()) {
            return Err(fault::error(ErrorKind::UnexpectedEof, fault::ENDED_EARLY));
        }
    }
    Ok((consumed, true))
}

/// Passes on to another resolver and remembers the name the client asked for (RFC 6066 §3): rustls' unbuffered server does
/// not tell it afterwards.
#[derive(Debug)]
struct NameWitness {
    inner: Arc<dyn ResolvesServerCert>,
    name: Arc<OnceLock<String>>,
}

impl ResolvesServerCert for NameWitness {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Some(name) = client_hello.server_name() {
            // After a HelloRetryRequest the same name comes again.
            let _ = self.name.set(name.to_owned());
        }
        self.inner.resolve(client_hello)
    }

    fn only_raw_public_keys(&self) -> bool {
        self.inner.only_raw_public_keys()
    }
}

fn unusable(cause: rustls::Error) -> Error {
    fault::of_credentials("rustls cannot use this configuration", cause)
}
