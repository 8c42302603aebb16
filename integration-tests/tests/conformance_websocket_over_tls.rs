//! The suite over WebSocket over TLS, and over WebSocket over TLS over WebSocket.

mod support;

mod websocket_over_tls {
    use crate::support::*;
    use channel_core::Limits;
    use channel_testkit::suite::Options;

    fn stack(pair: Pair, near: Near, limits: &Limits) -> Pair {
        ws(tls(pair, near, limits), near, limits)
    }

    crate::on_every_leaf!(first: stack);
}

mod websocket_over_tls_over_websocket {
    use crate::support::*;
    use channel_core::Limits;
    use channel_testkit::suite::Options;

    fn stack(pair: Pair, near: Near, limits: &Limits) -> Pair {
        ws(tls(ws(pair, near, limits), near, limits), near, limits)
    }

    crate::on_every_leaf!(second: stack);
}
