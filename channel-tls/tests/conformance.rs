//! A TLS channel over a memory pair keeps every promise, in either role and version.
#![cfg(any(feature = "aws-lc-rs", feature = "ring"))]

mod common;

use std::sync::LazyLock;

use channel_core::{Channel, MemoryChannel, Result};
use channel_testkit::suite::Options;
use channel_tls::ProtocolVersion::{self, Tls1_2, Tls1_3};
use channel_tls::TlsChannel;
use channel_tls::rustls_0_23::{client_credentials, server_credentials};
use common::{Authority, NAME};

static AUTHORITY: LazyLock<Authority> = LazyLock::new(Authority::new);

/// A memory pair, gated at the near end.
fn memory(options: &Options) -> Result<(Box<dyn Channel>, Box<dyn Channel>)> {
    let (near, far) = MemoryChannel::pair_with_capacity(if options.small_buffers { 1 } else { 64 * 1024 })?;
    Ok((options.behind_gate(near), Box::new(far)))
}

/// A client and a server over a memory pair, not open yet.
fn client(options: &Options, version: ProtocolVersion) -> Result<(TlsChannel, TlsChannel)> {
    let (near, far) = memory(options)?;
    over(near, far, options, version)
}

/// A server and a client over a memory pair, not open yet.
fn server(options: &Options, version: ProtocolVersion) -> Result<(TlsChannel, TlsChannel)> {
    let (near, far) = memory(options)?;
    over(far, near, options, version).map(|(client, server)| (server, client))
}

fn over(
    near: Box<dyn Channel>,
    far: Box<dyn Channel>,
    options: &Options,
    version: ProtocolVersion,
) -> Result<(TlsChannel, TlsChannel)> {
    let credentials = client_credentials(AUTHORITY.client(version));
    let client = TlsChannel::client(near, &credentials, NAME, options.limits.clone())?;
    // The suite begins with both ends flushed and nobody reading, which tickets in a pipe of one byte would keep from happening.
    let mut config = (*AUTHORITY.server(version)).clone();
    config.send_tls13_tickets = 0;
    let server = TlsChannel::server(far, &server_credentials(config.into())?, options.limits.clone())?;
    Ok((client, server))
}

/// A client and a server over a client and a server: TLS lends its plaintext to TLS.
fn twice(options: &Options) -> Result<(TlsChannel, TlsChannel)> {
    let (near, far) = client(options, Tls1_3)?;
    over(Box::new(near), Box::new(far), options, Tls1_3)
}

// Both roles in every mode. How the bytes of TLS 1.2 and of TLS in TLS are waited for does not differ from that: two modes for each.
channel_testkit::conformance! {
    mod client_1_3 [handshake, gate, tells_a_cut] = |options: &Options| client(options, Tls1_3);
    mod server_1_3 [handshake, gate, tells_a_cut] = |options: &Options| server(options, Tls1_3);
    mod client_1_2 [handshake, gate, tells_a_cut] in [blocking, tokio] = |options: &Options| client(options, Tls1_2);
    mod server_1_2 [handshake, gate, tells_a_cut] in [non_blocking, event_loop] = |options: &Options| server(options, Tls1_2);
    mod client_over_client [handshake, gate, tells_a_cut] in [non_blocking, event_loop] = |options: &Options| twice(options);
}
