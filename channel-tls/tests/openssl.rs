//! OpenSSL's command-line client and server as the other end, over TCP on loopback. Skipped, and said so, where `openssl` is
//! not installed.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use channel_core::{Channel, ChannelExt, Limits};
use channel_tls::TlsChannel;
use common::{Authority, NAME, pattern};
