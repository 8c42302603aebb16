//! The suite over WebSocket.

mod support;

use channel_testkit::suite::Options;
use support::*;

on_every_leaf!(second: ws);
