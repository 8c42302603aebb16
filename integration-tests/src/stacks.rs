//! Our stacks over any leaf.

use std::sync::Arc;

use channel_core::{Channel, Limits};
use channel_socket::SocketChannel;
use channel_tls::TlsChannel;
use channel_websocket::{ClientOptions, ServerOptions, WebSocketChannel};
use rustls::crypto::CryptoProvider;

use crate::Failure;
use crate::certificates::{SERVER_NAME, authority};
use crate::sockets::Socket;
use crate::words::words;

words! {
    /// The layers.
    Stack {
        /// A socket alone.
        Plain = "plain",
        /// TLS over a socket.
        Tls = "tls",
        /// WebSocket over a socket.
        Ws = "ws",
        /// WebSocket over TLS over a socket.
        Wss = "wss",
    }
}

impl Stack {
    /// Whether TLS is one of the layers.
    #[must_use]
    pub fn has_tls(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    /// Whether WebSocket is one of the layers.
    #[must_use]
    pub fn has_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }
}

/// A connected socket as our leaf.
///
/// # Errors
/// If the channel refuses the socket.
pub fn leaf(socket: Socket) -> Result<Box<dyn Channel>, Failure> {
    Ok(Box::new(SocketChannel::from_fd(socket.into()).map_err(|refused| refused.to_string())?))
}

/// The client's side of `stack` over `leaf`, not yet opened; it verifies the server.
///
/// # Errors
/// If a layer refuses its configuration.
pub fn client(
    stack: Stack,
    leaf: Box<dyn Channel>,
    provider: Arc<CryptoProvider>,
) -> Result<Box<dyn Channel>, Failure> {
    let mut channel = leaf;
    if stack.has_tls() {
        let config = authority()?.client_config(provider)?;
        channel = Box::new(TlsChannel::client_with_config(channel, config, SERVER_NAME, Limits::default())?);
    }
    if stack.has_websocket() {
        let options = ClientOptions::new(SERVER_NAME);
        channel = Box::new(WebSocketChannel::client(channel, options, Limits::default())?);
    }
    Ok(channel)
}

/// The server's side of `stack` over `leaf`, not yet opened.
///
/// # Errors
/// If a layer refuses its configuration.
pub fn server(
    stack: Stack,
    leaf: Box<dyn Channel>,
    provider: Arc<CryptoProvider>,
) -> Result<Box<dyn Channel>, Failure> {
    let mut channel = leaf;
    if stack.has_tls() {
        let config = authority()?.server_config(provider)?;
        channel = Box::new(TlsChannel::server_with_config(channel, config, Limits::default())?);
    }
    if stack.has_websocket() {
        channel = Box::new(WebSocketChannel::server(channel, ServerOptions::default(), Limits::default())?);
    }
    Ok(channel)
}
