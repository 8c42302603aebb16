//! The suite over TLS over WebSocket: a layer with an end of its own over one whose end asks for the peer's.

mod support;

use channel_core::Limits;
use support::*;

use channel_testkit::suite::Options;

fn stack(pair: Pair, near: Near, limits: &Limits) -> Pair {
    tls(ws(pair, near, limits), near, limits)
}

on_leaves! { stack;
    client_over_memory: memory, Client, [blocking, event_loop];
    server_over_memory: memory, Server, [non_blocking, tokio];
    client_over_tcp: tcp, Client, [non_blocking, tokio];
    server_over_socketpair: socketpair, Server, [blocking, event_loop];
}
