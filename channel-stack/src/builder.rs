//! Which layers a connection gets, said once and put over as many channels as come.

use channel_core::{Channel, Limits, Result};
use channel_tls::{ClientCredentials, ServerCredentials, TlsChannel};
use channel_websocket::{ClientOptions, ServerOptions, WebSocketChannel};

/// The layers of a client's connections, the lowest first: each call adds one on top.
///
/// TLS below WebSocket is `ClientStack::new().tls(…).websocket(…)`, and any other order, or number, is as good. See
/// [`Stack::client`](crate::Stack::client) for the usual ones by name. Cheap to clone; one serves any number of connections, and
/// TLS sessions of the same credentials resume each other.
#[derive(Clone, Debug, Default)]
pub struct ClientStack {
    layers: Vec<ClientLayer>,
    limits: Limits,
}

#[derive(Clone, Debug)]
enum ClientLayer {
    Tls { credentials: ClientCredentials, server_name: String },
    WebSocket(ClientOptions),
}

impl ClientStack {
    /// No layers yet, and the default limits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds TLS. The server must prove with a certificate that it is `server_name`, a DNS name or an IP address.
    #[must_use]
    pub fn tls(mut self, credentials: &ClientCredentials, server_name: &str) -> Self {
        self.layers.push(ClientLayer::Tls { credentials: credentials.clone(), server_name: server_name.to_owned() });
        self
    }

    /// Adds WebSocket.
    #[must_use]
    pub fn websocket(mut self, options: ClientOptions) -> Self {
        self.layers.push(ClientLayer::WebSocket(options));
        self
    }

    /// Sets what a server may make each of the layers spend. Default: [`Limits::default`].
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Puts the layers over `inner` and returns the top one, or `inner` itself if there are none.
    ///
    /// Does no I/O. [`Channel::handshake`] on what it returns opens every layer, the lowest first.
    ///
    /// A layer of your own ([`engine`](channel_core::engine)) goes on top by hand, over what this returns, and under the others as `inner`. Of a
    /// stack the linger of the top counts: give it the same limits.
    ///
    /// # Errors
    /// [`InvalidInput`](channel_core::ErrorKind::InvalidInput) for a server name or options that could not be sent; `inner` is
    /// dropped then.
    pub fn over(&self, inner: Box<dyn Channel>) -> Result<Box<dyn Channel>> {
        let mut top = inner;
        for layer in &self.layers {
            let limits = self.limits.clone();
            top = match layer {
                ClientLayer::Tls { credentials, server_name } => {
                    Box::new(TlsChannel::client(top, credentials, server_name, limits)?)
                }
                ClientLayer::WebSocket(options) => Box::new(WebSocketChannel::client(top, options.clone(), limits)?),
            };
        }
        Ok(top)
    }
}

/// The layers of a server's connections, the lowest first: each call adds one on top.
///
/// See [`Stack::server`](crate::Stack::server) for the usual ones by name. Cheap to clone; one serves any number of connections.
#[derive(Clone, Debug, Default)]
pub struct ServerStack {
    layers: Vec<ServerLayer>,
    limits: Limits,
}

#[derive(Clone, Debug)]
enum ServerLayer {
    Tls(ServerCredentials),
    WebSocket(ServerOptions),
}

impl ServerStack {
    /// No layers yet, and the default limits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds TLS.
    #[must_use]
    pub fn tls(mut self, credentials: &ServerCredentials) -> Self {
        self.layers.push(ServerLayer::Tls(credentials.clone()));
        self
    }

    /// Adds WebSocket.
    #[must_use]
    pub fn websocket(mut self, options: ServerOptions) -> Self {
        self.layers.push(ServerLayer::WebSocket(options));
        self
    }

    /// Sets what a client may make each of the layers spend. Default: [`Limits::default`].
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Puts the layers over `inner` and returns the top one, or `inner` itself if there are none.
    ///
    /// Does no I/O. [`Channel::handshake`] on what it returns opens every layer, the lowest first.
    ///
    /// A layer of your own ([`engine`](channel_core::engine)) goes on top by hand, over what this returns, and under the others as `inner`. Of a
    /// stack the linger of the top counts: give it the same limits.
    ///
    /// # Errors
    /// What the TLS library says against the credentials, and [`InvalidInput`](channel_core::ErrorKind::InvalidInput) for options
    /// that no request could meet; `inner` is dropped then.
    pub fn over(&self, inner: Box<dyn Channel>) -> Result<Box<dyn Channel>> {
        let mut top = inner;
        for layer in &self.layers {
            let limits = self.limits.clone();
            top = match layer {
                ServerLayer::Tls(credentials) => Box::new(TlsChannel::server(top, credentials, limits)?),
                ServerLayer::WebSocket(options) => Box::new(WebSocketChannel::server(top, options.clone(), limits)?),
            };
        }
        Ok(top)
    }
}

#[cfg(test)]
mod tests {
    use channel_core::{ErrorKind, MemoryChannel, describe};

    use super::*;

    fn end() -> Box<dyn Channel> {
        Box::new(MemoryChannel::pair().unwrap().0)
    }

    #[test]
    fn a_stack_without_layers_is_the_channel_itself() {
        assert_eq!(describe(&*ClientStack::new().over(end()).unwrap()), "memory");
        assert_eq!(describe(&*ServerStack::new().over(end()).unwrap()), "memory");
    }

    #[test]
    fn layers_lie_in_the_order_they_were_added() {
        let twice = ServerStack::new().websocket(ServerOptions::default()).websocket(ServerOptions::default());
        assert_eq!(describe(&*twice.over(end()).unwrap()), "websocket server / websocket server / memory");
    }

    #[test]
    fn options_that_cannot_be_sent_are_refused_before_any_byte() {
        let error = ClientStack::new().websocket(ClientOptions::new("no host")).over(end()).unwrap_err();
        assert_eq!((error.kind(), error.layer()), (ErrorKind::InvalidInput, "websocket"));
    }
}
