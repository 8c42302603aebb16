//! The suite over WebSocket over TLS with an adverse channel at every depth: a layer over any conforming channel conforms.

mod support;

macro_rules! adversity {
    ($module:ident, $near:expr, $wrap:expr) => {
        mod $module {
            use crate::support::*;
            use channel_testkit::adverse::{no_lend, one_byte, random_cuts, would_block_every_other};
            use channel_testkit::suite::Options;

            #[allow(dead_code, reason = "one of them each time")]
            fn unused() {
                let _ = (no_lend, one_byte, random_cuts, would_block_every_other);
            }

            channel_testkit::conformance! {
                mod under_tls = |options: &Options| {
                    let limits = &options.limits;
                    ws(tls(adverse(socketpair(options), $wrap), $near, limits), $near, limits)
                };
                mod under_websocket = |options: &Options| {
                    let limits = &options.limits;
                    ws(adverse(tls(socketpair(options), $near, limits), $wrap), $near, limits)
                };
                mod on_top = |options: &Options| {
                    let limits = &options.limits;
                    adverse(ws(tls(socketpair(options), $near, limits), $near, limits), $wrap)
                };
            }
        }
    };
}

adversity!(one_byte_at_a_time_client, Near::Client, one_byte);
adversity!(one_byte_at_a_time_server, Near::Server, one_byte);
adversity!(would_block_every_other_call_client, Near::Client, would_block_every_other);
adversity!(would_block_every_other_call_server, Near::Server, would_block_every_other);
adversity!(random_cuts_client, Near::Client, |inner| random_cuts(inner, 0x5eed));
adversity!(random_cuts_server, Near::Server, |inner| random_cuts(inner, 0x5eed));
adversity!(nothing_lent_client, Near::Client, no_lend);
