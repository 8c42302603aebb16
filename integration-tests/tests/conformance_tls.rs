//! The suite over TLS.

mod support;

use channel_testkit::suite::Options;
use support::*;

on_every_leaf!(first: tls);
