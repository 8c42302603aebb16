//! The suite over tls on every leaf, in both roles.

mod support;

macro_rules! stack {
    ($module:ident, $near:expr) => {
        mod $module {
            use crate::support::*;
            use channel_testkit::suite::Options;

            crate::on_every_leaf!($near, tls);
        }
    };
}

stack!(tls_client, Near::Client);
stack!(tls_server, Near::Server);
