//! The suite over WebSocket over TLS with an adverse channel at every depth: a layer over any conforming channel conforms.
//!
//! Each adversity is at each depth, in one role and two modes, so that every two of adversity, depth, role and mode are together somewhere.
//! More of them find what these find: a layer sees of what lies below only the channel right below it.
//!
//! Where bytes are cut small the leaf is memory: a unix socket charges each little piece as a whole buffer, so that a few hundred
//! bytes fill it, and TCP moves little pieces on when it sees fit.

mod support;

use channel_core::Limits;
use channel_testkit::adverse::{Wrap, no_lend, one_byte, random_cuts, would_block_every_other};
use channel_testkit::suite::Options;
use support::*;

fn under_tls(leaf: Pair, wrap: Wrap, near: Near, limits: &Limits) -> Pair {
    ws(tls(adverse(leaf, wrap), near, limits), near, limits)
}

fn under_websocket(leaf: Pair, wrap: Wrap, near: Near, limits: &Limits) -> Pair {
    ws(adverse(tls(leaf, near, limits), wrap), near, limits)
}

fn on_top(leaf: Pair, wrap: Wrap, near: Near, limits: &Limits) -> Pair {
    adverse(ws(tls(leaf, near, limits), near, limits), wrap)
}

fn some_cuts(inner: Box<dyn channel_core::Channel>) -> Box<dyn channel_core::Channel> {
    random_cuts(inner, 0x5eed)
}

macro_rules! at_depth {
    ($leaf:ident, $wrap:expr, [$($declared:ident),*]; $depth:ident, $near:ident, [$($mode:ident),+]) => {
        channel_testkit::conformance! {
            mod $depth [handshake, gate, tells_a_cut $(, $declared)*] in [$($mode),+] =
                |options: &Options| super::$depth($leaf(options), $wrap, Near::$near, &options.limits);
        }
    };
}

macro_rules! adversity {
    ($module:ident: $leaf:ident, $wrap:expr, $declared:tt; $($depth:ident, $near:ident, $modes:tt;)+) => {
        mod $module {
            use super::*;

            $(at_depth! { $leaf, $wrap, $declared; $depth, $near, $modes })+
        }
    };
}

adversity! { one_byte_at_a_time: roomy_memory, one_byte, [];
    under_tls, Client, [blocking, event_loop];
    under_websocket, Server, [non_blocking, tokio];
    on_top, Client, [blocking, tokio];
}
adversity! { would_block_every_other_call: socketpair, would_block_every_other, [hesitates];
    under_tls, Server, [non_blocking, tokio];
    under_websocket, Client, [blocking, event_loop];
    on_top, Server, [non_blocking, event_loop];
}
adversity! { cut_at_random: roomy_memory, some_cuts, [];
    under_tls, Client, [non_blocking, event_loop];
    under_websocket, Server, [blocking, tokio];
    on_top, Server, [blocking, event_loop];
}
adversity! { nothing_lent: socketpair, no_lend, [];
    under_tls, Server, [blocking, tokio];
    under_websocket, Client, [non_blocking, event_loop];
    on_top, Client, [non_blocking, tokio];
}
