//! Which layers a connection gets, said once and put over as many channels as come.

use std::fmt;
use std::sync::Arc;

use channel_core::{Channel, Limits, OverError, downcast};
use channel_tls::{ClientCredentials, ServerCredentials, TlsChannel};
use channel_websocket::{ClientOptions, ServerOptions, WebSocketChannel};

/// The layers of a client's connections, the lowest first: each call adds one on top.
///
/// TLS below WebSocket is `ClientStack::new().tls(…).websocket(…)`, and any other order, or number, is as good. See
/// [`Stack::client`](crate::Stack::client) for the usual ones by name. Cheap to clone; one serves any number of connections, and
/// TLS sessions of the same credentials resume each other.
#[derive(Clone, Debug, Default)]
pub struct ClientStack(Layers);

/// The layers of a server's connections, the lowest first: each call adds one on top.
///
/// See [`Stack::server`](crate::Stack::server) for the usual ones by name. Cheap to clone; one serves any number of connections.
#[derive(Clone, Debug, Default)]
pub struct ServerStack(Layers);

/// What both have.
#[derive(Clone, Debug, Default)]
struct Layers {
    layers: Vec<Layer>,
    limits: Limits,
}

/// One layer: how it is put over a channel.
#[derive(Clone)]
struct Layer(Arc<Over>);

type Over = dyn Fn(Box<dyn Channel>, Limits) -> Result<Box<dyn Channel>, OverError> + Send + Sync;

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layer").finish_non_exhaustive()
    }
}

impl Layers {
    fn add<C: Channel>(
        &mut self,
        over: impl Fn(Box<dyn Channel>, Limits) -> Result<C, OverError> + Send + Sync + 'static,
    ) {
        let over = move |inner, limits| over(inner, limits).map(|layer| Box::new(layer) as Box<dyn Channel>);
        self.layers.push(Layer(Arc::new(over)));
    }

    fn over(&self, inner: Box<dyn Channel>) -> Result<Box<dyn Channel>, OverError> {
        let mut top = inner;
        for (below, Layer(over)) in self.layers.iter().enumerate() {
            top = over(top, self.limits.clone()).map_err(|refused| refused.map(|top| take_off(top, below)))?;
        }
        Ok(top)
    }
}

/// Takes the topmost `count` layers off again, as far as they are ours: nothing has passed through them.
fn take_off(top: Box<dyn Channel>, count: usize) -> Box<dyn Channel> {
    (0..count).fold(top, |top, _| {
        let parts = match downcast::<TlsChannel>(top) {
            Ok(tls) => tls.into_parts().map_err(|refused| Box::new(refused.given) as Box<dyn Channel>),
            Err(top) => match downcast::<WebSocketChannel>(top) {
                Ok(websocket) => websocket.into_parts().map_err(|refused| Box::new(refused.given) as Box<dyn Channel>),
                Err(top) => Err(top),
            },
        };
        parts.map_or_else(|top| top, |parts| parts.inner)
    })
}

/// The methods of both.
macro_rules! stack {
    ($stack:ident) => {
        impl $stack {
            /// No layers yet, and the default limits.
            #[must_use]
            pub fn new() -> Self {
                Self::default()
            }

            /// Adds a layer of your own: `over` puts it over the channel that it is given, once for each connection, with the
            /// [`limits`](Self::limits) of the stack, and gives that channel back where it refuses it.
            ///
            /// ```
            /// # use channel_stack::engine::{Decoded, Decoder, Encoder, Sink, Source, Stopped};
            /// # use channel_stack::{Buffer, Channel, Layered, MemoryChannel, Result, describe};
            #[doc = concat!("use channel_stack::", stringify!($stack), ";")]
            /// # #[derive(Clone)]
            /// # struct Plain;
            /// # impl Decoder for Plain {
            /// #     fn decode(&mut self, input: &mut [u8], sink: &mut Sink<'_, '_>) -> Result<Decoded> {
            /// #         sink.put(input);
            /// #         Ok(Decoded { consumed: input.len(), stopped: Stopped::NeedInput, reply: false })
            /// #     }
            /// #     fn end(&mut self, _: usize) -> Result<()> {
            /// #         Ok(())
            /// #     }
            /// # }
            /// # impl Encoder for Plain {
            /// #     fn encode(&mut self, source: &mut Source<'_, '_>, out: &mut Buffer) -> Result<()> {
            /// #         while !source.is_empty() {
            /// #             let chunk = source.chunk();
            /// #             out.extend(chunk);
            /// #             source.consume(chunk.len());
            /// #         }
            /// #         Ok(())
            /// #     }
            /// # }
            ///
            #[doc = concat!("let stack = ", stringify!($stack), "::new()")]
            ///     .layer(|inner, limits| Layered::open("plain", inner, Plain, Plain, limits));
            /// let top = stack.over(Box::new(MemoryChannel::pair()?.0))?;
            /// assert_eq!(describe(&*top), "plain / memory");
            /// # Ok::<(), channel_stack::Error>(())
            /// ```
            #[must_use]
            pub fn layer<C: Channel>(
                mut self,
                over: impl Fn(Box<dyn Channel>, Limits) -> Result<C, OverError> + Send + Sync + 'static,
            ) -> Self {
                self.0.add(over);
                self
            }

            /// Sets what a peer may make each of the layers spend. Default: [`Limits::default`]. Of a stack the linger of the top counts.
            #[must_use]
            pub fn limits(mut self, limits: Limits) -> Self {
                self.0.limits = limits;
                self
            }

            /// Puts the layers over `inner` and returns the top one, or `inner` itself if there are none.
            ///
            /// Does no I/O. [`Channel::handshake`] on what it returns opens every layer, the lowest first.
            ///
            /// # Errors
            /// What a layer has against its options or `inner`, which comes back; untouched where it is the lowest layer, and else as a
            /// layer's [`into_parts`](channel_core::Layered::into_parts) leaves it. Above a layer of your own it is the stack up to that which
            /// comes back: only you could take it off.
            pub fn over(&self, inner: Box<dyn Channel>) -> Result<Box<dyn Channel>, OverError> {
                self.0.over(inner)
            }
        }
    };
}

stack!(ClientStack);
stack!(ServerStack);

impl ClientStack {
    /// Adds TLS. The server must prove with a certificate that it is `server_name`, a DNS name or an IP address.
    #[must_use]
    pub fn tls(self, credentials: &ClientCredentials, server_name: &str) -> Self {
        let (credentials, server_name) = (credentials.clone(), server_name.to_owned());
        self.layer(move |inner, limits| TlsChannel::client(inner, &credentials, &server_name, limits))
    }

    /// Adds WebSocket.
    #[must_use]
    pub fn websocket(self, options: ClientOptions) -> Self {
        self.layer(move |inner, limits| WebSocketChannel::client(inner, options.clone(), limits))
    }
}

impl ServerStack {
    /// Adds TLS.
    #[must_use]
    pub fn tls(self, credentials: &ServerCredentials) -> Self {
        let credentials = credentials.clone();
        self.layer(move |inner, limits| TlsChannel::server(inner, &credentials, limits))
    }

    /// Adds WebSocket.
    #[must_use]
    pub fn websocket(self, options: ServerOptions) -> Self {
        self.layer(move |inner, limits| WebSocketChannel::server(inner, options.clone(), limits))
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
        let error = ClientStack::new().websocket(ClientOptions::new("no host")).over(end()).unwrap_err().error;
        assert_eq!((error.kind(), error.layer()), (ErrorKind::InvalidInput, "websocket"));
    }
}
