//! Our stacks with the certificates of this process, and sockets as leaves to put them over.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use channel_core::Channel;
use channel_socket::SocketChannel;
use channel_stack::{ClientOptions, ClientStack, ServerOptions, ServerStack, Stack};
use channel_tls::rustls_0_23::{client_credentials, server_credentials};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;

use crate::Failure;
use crate::certificates::{SERVER_NAME, authority, client_config};

/// A connected socket as our leaf.
///
/// # Errors
/// If the channel refuses the socket.
pub fn leaf(socket: impl Into<OwnedFd>) -> Result<Box<dyn Channel>, Failure> {
    Ok(Box::new(SocketChannel::from_fd(socket.into()).map_err(|refused| refused.to_string())?))
}

/// The client's side of `stack`; it verifies the server.
///
/// # Errors
/// If the certificates cannot be made, or `provider` has no cipher suite for TLS 1.2 or 1.3.
pub fn client(stack: Stack, provider: Arc<CryptoProvider>) -> Result<ClientStack, Failure> {
    client_that_trusts(authority()?.root(), stack, provider)
}

/// As [`client`], of servers in another process, whose authority is `root`.
///
/// # Errors
/// If `root` is no certificate, or `provider` has no cipher suite for TLS 1.2 or 1.3.
pub fn client_that_trusts(
    root: CertificateDer<'static>,
    stack: Stack,
    provider: Arc<CryptoProvider>,
) -> Result<ClientStack, Failure> {
    let credentials = client_credentials(client_config(root, provider)?);
    Ok(stack.client(&credentials, SERVER_NAME, ClientOptions::new(SERVER_NAME)))
}

/// The server's side of `stack`.
///
/// # Errors
/// As [`client`].
pub fn server(stack: Stack, provider: Arc<CryptoProvider>) -> Result<ServerStack, Failure> {
    let credentials = server_credentials(authority()?.server_config(provider)?)?;
    Ok(stack.server(&credentials, ServerOptions::default()))
}
