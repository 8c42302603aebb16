//! Our stacks over any leaf.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use channel_core::{Channel, Limits};
use channel_socket::SocketChannel;
use channel_tls::TlsChannel;
use channel_websocket::{ClientOptions, ServerOptions, WebSocketChannel};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, ServerConfig};

use crate::Failure;
use crate::certificates::{SERVER_NAME, authority};
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
pub fn leaf(socket: impl Into<OwnedFd>) -> Result<Box<dyn Channel>, Failure> {
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
    client_with(stack, leaf, || authority()?.client_config(provider))
}

/// As [`client`]; `config` is asked for where there is TLS.
///
/// # Errors
/// What `config` fails with, or if a layer refuses its configuration.
pub fn client_with(
    stack: Stack,
    leaf: Box<dyn Channel>,
    config: impl FnOnce() -> Result<Arc<ClientConfig>, Failure>,
) -> Result<Box<dyn Channel>, Failure> {
    let mut channel = leaf;
    if stack.has_tls() {
        channel = Box::new(TlsChannel::client_with_config(channel, config()?, SERVER_NAME, Limits::default())?);
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
    server_with(stack, leaf, || authority()?.server_config(provider))
}

/// As [`server`]; `config` is asked for where there is TLS.
///
/// # Errors
/// What `config` fails with, or if a layer refuses its configuration.
pub fn server_with(
    stack: Stack,
    leaf: Box<dyn Channel>,
    config: impl FnOnce() -> Result<Arc<ServerConfig>, Failure>,
) -> Result<Box<dyn Channel>, Failure> {
    let mut channel = leaf;
    if stack.has_tls() {
        channel = Box::new(TlsChannel::server_with_config(channel, config()?, Limits::default())?);
    }
    if stack.has_websocket() {
        channel = Box::new(WebSocketChannel::server(channel, ServerOptions::default(), Limits::default())?);
    }
    Ok(channel)
}
