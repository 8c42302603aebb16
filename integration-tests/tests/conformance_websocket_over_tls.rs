//! The suite over WebSocket over TLS, and over WebSocket over TLS over WebSocket, on every leaf, in both roles.

mod support;

macro_rules! stack {
    ($module:ident, $near:expr, $stack:expr) => {
        mod $module {
            use crate::support::*;
            use channel_core::Limits;
            use channel_testkit::suite::Options;

            fn stack(pair: Pair, near: Near, limits: &Limits) -> Pair {
                let stack: fn(Pair, Near, &Limits) -> Pair = $stack;
                stack(pair, near, limits)
            }

            crate::on_every_leaf!($near, stack);
        }
    };
}

stack!(websocket_over_tls_client, Near::Client, |pair, near, limits| ws(tls(pair, near, limits), near, limits));
stack!(websocket_over_tls_server, Near::Server, |pair, near, limits| ws(tls(pair, near, limits), near, limits));
stack!(websocket_over_tls_over_websocket_client, Near::Client, |pair, near, limits| {
    ws(tls(ws(pair, near, limits), near, limits), near, limits)
});
stack!(websocket_over_tls_over_websocket_server, Near::Server, |pair, near, limits| {
    ws(tls(ws(pair, near, limits), near, limits), near, limits)
});
