//! The suite over WebSocket over TLS with an adverse channel at every depth: a layer over any conforming channel conforms.
//!
//! Where bytes are cut small the leaf is memory: a unix socket charges each little piece as a whole buffer, so that a few hundred
//! bytes fill it, and TCP moves little pieces on when it sees fit.

mod support;

use channel_testkit::adverse::{no_lend, one_byte, random_cuts, would_block_every_other};

macro_rules! adversity {
    ($module:ident, $near:expr, $leaf:ident, $wrap:expr) => {
        mod $module {
            use super::*;
            use crate::support::*;
            use channel_testkit::suite::Options;

            channel_testkit::conformance! {
                mod under_tls = |options: &Options| {
                    let limits = &options.limits;
                    ws(tls(adverse($leaf(options), $wrap), $near, limits), $near, limits)
                };
                mod under_websocket = |options: &Options| {
                    let limits = &options.limits;
                    ws(adverse(tls($leaf(options), $near, limits), $wrap), $near, limits)
                };
                mod on_top = |options: &Options| {
                    let limits = &options.limits;
                    adverse(ws(tls($leaf(options), $near, limits), $near, limits), $wrap)
                };
            }
        }
    };
}

adversity!(one_byte_at_a_time_client, Near::Client, roomy_memory, one_byte);
adversity!(one_byte_at_a_time_server, Near::Server, roomy_memory, one_byte);
adversity!(would_block_every_other_call_client, Near::Client, socketpair, would_block_every_other);
adversity!(would_block_every_other_call_server, Near::Server, socketpair, would_block_every_other);
adversity!(random_cuts_client, Near::Client, roomy_memory, |inner| random_cuts(inner, 0x5eed));
adversity!(random_cuts_server, Near::Server, roomy_memory, |inner| random_cuts(inner, 0x5eed));
adversity!(nothing_lent_client, Near::Client, socketpair, no_lend);
