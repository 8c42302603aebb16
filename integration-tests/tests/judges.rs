//! Outside judges: other people's TLS and WebSocket at the other end. Each test opens one of our stacks in one role and
//! exchanges 16 MiB each way, both ways at the same time, every byte checked at both ends, with a polite end.

#[path = "judges/exchange.rs"]
mod exchange;
#[path = "judges/openssl.rs"]
mod openssl;

use std::sync::Arc;

use channel_core::Channel;
use channel_stack::Stack;
use channel_testkit::watchdog;
use exchange::{exchange, return_bytes, return_messages};
use integration_tests::sockets::{self, Socket, Transport};
use integration_tests::{Failure, peers, stacks};
use rustls::crypto::{CryptoProvider, aws_lc_rs, ring};

/// Which side of the connection is ours; the judge has the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ours {
    Client,
    Server,
}

impl Ours {
    /// Our stack over `leaf`, opened.
    pub(crate) fn open(
        self,
        stack: Stack,
        leaf: Box<dyn Channel>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Box<dyn Channel>, Failure> {
        let channel = match self {
            Self::Client => stacks::client(stack, provider)?.over(leaf)?,
            Self::Server => stacks::server(stack, provider)?.over(leaf)?,
        };
        channel.handshake()?;
        Ok(channel)
    }
}

/// One provider with each transport, so that both meet every judge.
pub(crate) fn provider(transport: Transport) -> Arc<CryptoProvider> {
    Arc::new(match transport {
        Transport::Tcp => aws_lc_rs::default_provider(),
        Transport::Unix => ring::default_provider(),
    })
}

/// Against rustls, tungstenite, or the one over the other, whichever speaks `stack`.
fn judge(stack: Stack, ours: Ours, transport: Transport) -> Result<(), Failure> {
    let (client, server) = sockets::pair(transport)?;
    let (near, far) = match ours {
        Ours::Client => (client, server),
        Ours::Server => (server, client),
    };
    let theirs = move || -> Result<(), Failure> {
        let stream = their_stream(stack, ours, far, provider(transport))?;
        match (stack.has_websocket(), ours) {
            (false, _) => return_bytes(stream),
            (true, Ours::Client) => return_messages(peers::tungstenite_server(stream)?),
            (true, Ours::Server) => return_messages(peers::tungstenite_client(stream)?),
        }
    };
    exchange(|| ours.open(stack, stacks::leaf(near)?, provider(transport)), theirs)
}

fn their_stream(
    stack: Stack,
    ours: Ours,
    socket: Socket,
    provider: Arc<CryptoProvider>,
) -> Result<Box<dyn peers::Stream>, Failure> {
    match (stack.has_tls(), ours) {
        (false, _) => Ok(Box::new(socket)),
        (true, Ours::Client) => peers::rustls_server(socket, provider),
        (true, Ours::Server) => peers::rustls_client(socket, provider),
    }
}

macro_rules! judges {
    ($($name:ident: $judge:expr;)+) => {$(
        #[test]
        fn $name() {
            watchdog::run(stringify!($name), || $judge.unwrap());
        }
    )+};
}

judges! {
    tls_client_against_rustls_stream_owned_over_tcp: judge(Stack::Tls, Ours::Client, Transport::Tcp);
    tls_client_against_rustls_stream_owned_over_unix: judge(Stack::Tls, Ours::Client, Transport::Unix);
    tls_server_against_rustls_stream_owned_over_tcp: judge(Stack::Tls, Ours::Server, Transport::Tcp);
    tls_server_against_rustls_stream_owned_over_unix: judge(Stack::Tls, Ours::Server, Transport::Unix);

    ws_client_against_tungstenite_over_tcp: judge(Stack::Ws, Ours::Client, Transport::Tcp);
    ws_client_against_tungstenite_over_unix: judge(Stack::Ws, Ours::Client, Transport::Unix);
    ws_server_against_tungstenite_over_tcp: judge(Stack::Ws, Ours::Server, Transport::Tcp);
    ws_server_against_tungstenite_over_unix: judge(Stack::Ws, Ours::Server, Transport::Unix);

    wss_client_against_tungstenite_over_stream_owned_over_tcp: judge(Stack::Wss, Ours::Client, Transport::Tcp);
    wss_client_against_tungstenite_over_stream_owned_over_unix: judge(Stack::Wss, Ours::Client, Transport::Unix);
    wss_server_against_tungstenite_over_stream_owned_over_tcp: judge(Stack::Wss, Ours::Server, Transport::Tcp);
    wss_server_against_tungstenite_over_stream_owned_over_unix: judge(Stack::Wss, Ours::Server, Transport::Unix);

    tls_client_against_openssl_s_server_over_tcp: openssl::judge(Ours::Client, Transport::Tcp, "-tls1_3");
    tls_client_against_openssl_s_server_over_unix: openssl::judge(Ours::Client, Transport::Unix, "-tls1_3");
    tls_client_against_openssl_s_server_with_tls_1_2: openssl::judge(Ours::Client, Transport::Tcp, "-tls1_2");
    tls_server_against_openssl_s_client_over_tcp: openssl::judge(Ours::Server, Transport::Tcp, "-tls1_3");
    tls_server_against_openssl_s_client_over_unix: openssl::judge(Ours::Server, Transport::Unix, "-tls1_3");
    tls_server_against_openssl_s_client_with_tls_1_2: openssl::judge(Ours::Server, Transport::Tcp, "-tls1_2");
}
