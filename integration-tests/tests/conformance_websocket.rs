//! The suite over websocket on every leaf, in both roles.

mod support;

macro_rules! stack {
    ($module:ident, $near:expr) => {
        mod $module {
            use crate::support::*;
            use channel_testkit::suite::Options;

            crate::on_every_leaf!($near, ws);
        }
    };
}

stack!(websocket_client, Near::Client);
stack!(websocket_server, Near::Server);
