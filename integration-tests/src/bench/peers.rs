//! The two ends of a benchmark, whoever's code they are.

mod project;
mod raw;
mod tungstenite;

use std::sync::Arc;

use channel_core::Channel;
use rustls::crypto::CryptoProvider;

use super::options::{Cipher, Options, Peer, Provider, Sends};
use crate::content::Checker;
use crate::sockets::{self, Socket};
use crate::{Failure, peers, stacks};

/// The end that sends.
pub trait Sender: Send {
    /// Sends one message, or takes it to be sent soon ([`Mode::Write`](super::options::Mode::Write)).
    ///
    /// # Errors
    /// Whatever went wrong.
    fn send(&mut self, message: &[u8]) -> Result<(), Failure>;

    /// Sends what is held and ends the stream.
    ///
    /// # Errors
    /// Whatever went wrong.
    fn end(&mut self) -> Result<(), Failure>;
}

/// The end that receives.
pub trait Receiver: Send {
    /// Waits for bytes, hands them to `checker`, and says whether there were any before the stream ended.
    ///
    /// # Errors
    /// Whatever went wrong, wrong bytes included.
    fn receive(&mut self, checker: &mut Checker) -> Result<bool, Failure>;
}

/// An end that does both, in turn.
pub trait Talker: Sender + Receiver {}

impl<T: Sender + Receiver> Talker for T {}

/// Opens one end: runs its handshakes, on the thread that will use it.
pub type Opening<T> = Box<dyn FnOnce() -> Result<Box<T>, Failure> + Send>;

/// A connected pair, not yet opened.
pub struct Ends {
    /// Opens the end that sends.
    pub sender: Opening<dyn Sender>,
    /// Opens the end that receives.
    pub receiver: Opening<dyn Talker>,
}

/// A connected pair as `options` says, not yet opened.
///
/// # Errors
/// If the sockets cannot be had.
pub fn connect(options: &Options) -> Result<Ends, Failure> {
    let [client, server] = ends(options)?;
    let (sends, receives) = match options.dir {
        Sends::Client => (client, server),
        Sends::Server => (server, client),
    };
    Ok(Ends { sender: Box::new(|| sends.into_sender()), receiver: Box::new(|| receives.into_talker()) })
}

/// A connected pair of which both ends talk, client first, not yet opened.
///
/// # Errors
/// If the sockets cannot be had.
pub fn connect_talkers(options: &Options) -> Result<[Opening<dyn Talker>; 2], Failure> {
    Ok(ends(options)?.map(|end| -> Opening<dyn Talker> { Box::new(|| end.into_talker()) }))
}

/// The client's and the server's end.
fn ends(options: &Options) -> Result<[End; 2], Failure> {
    let (client, server) = sockets::pair(options.transport)?;
    let end = |is_client, socket| End { options: options.clone(), is_client, socket };
    Ok([end(true, client), end(false, server)])
}

/// One end before its handshakes.
struct End {
    options: Options,
    is_client: bool,
    socket: Socket,
}

impl End {
    fn into_sender(self) -> Result<Box<dyn Sender>, Failure> {
        let (mode, reader) = (self.options.mode, self.options.reader);
        Ok(match self.options.peer {
            Peer::Raw | Peer::Rustls => Box::new(raw::Bytes::sending(self.into_stream()?)),
            Peer::Tungstenite => Box::new(tungstenite::Messages::new(self.into_websocket()?, mode)),
            Peer::Project => Box::new(project::Stacked::sending(self.into_channel()?, mode, reader)?),
        })
    }

    fn into_talker(self) -> Result<Box<dyn Talker>, Failure> {
        let (mode, buffer) = (self.options.mode, self.options.receive_buffer);
        Ok(match self.options.peer {
            Peer::Raw | Peer::Rustls => Box::new(raw::Bytes::receiving(self.into_stream()?, buffer)),
            Peer::Tungstenite => Box::new(tungstenite::Messages::new(self.into_websocket()?, mode)),
            Peer::Project => Box::new(project::Stacked::receiving(self.into_channel()?, buffer)?),
        })
    }

    /// The bare socket, or rustls' `StreamOwned` over it.
    fn into_stream(self) -> Result<Box<dyn peers::Stream>, Failure> {
        if !self.options.stack.has_tls() {
            return Ok(Box::new(self.socket));
        }
        let provider = crypto(self.options.provider, self.options.cipher);
        if self.is_client {
            peers::rustls_client(self.socket, provider)
        } else {
            peers::rustls_server(self.socket, provider)
        }
    }

    fn into_channel(self) -> Result<Box<dyn Channel>, Failure> {
        let provider = crypto(self.options.provider, self.options.cipher);
        let leaf = stacks::leaf(self.socket)?;
        Ok(if self.is_client {
            stacks::client(self.options.stack, provider)?.over(leaf)?
        } else {
            stacks::server(self.options.stack, provider)?.over(leaf)?
        })
    }

    fn into_websocket(self) -> Result<peers::TungsteniteSocket, Failure> {
        let is_client = self.is_client;
        let stream = self.into_stream()?;
        if is_client { peers::tungstenite_client(stream) } else { peers::tungstenite_server(stream) }
    }
}

/// A provider that has one TLS 1.3 cipher suite, so that no negotiation chooses another.
pub(super) fn crypto(provider: Provider, cipher: Cipher) -> Arc<CryptoProvider> {
    let mut crypto = match provider {
        Provider::Aws => rustls::crypto::aws_lc_rs::default_provider(),
        Provider::Ring => rustls::crypto::ring::default_provider(),
    };
    let suite = match cipher {
        Cipher::Aes128 => rustls::CipherSuite::TLS13_AES_128_GCM_SHA256,
        Cipher::Aes256 => rustls::CipherSuite::TLS13_AES_256_GCM_SHA384,
    };
    crypto.cipher_suites.retain(|known| known.suite() == suite);
    Arc::new(crypto)
}
