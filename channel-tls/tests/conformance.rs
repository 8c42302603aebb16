//! A TLS channel over a memory pair keeps every promise, in either role and version.

mod common;

use std::sync::LazyLock;

use channel_core::{Channel, MemoryChannel, Result};
use channel_testkit::suite::Options;
use channel_tls::TlsChannel;
use channel_tls::rustls::ProtocolVersion::{self, TLSv1_2, TLSv1_3};
use common::{Authority, NAME};

static AUTHORITY: LazyLock<Authority> = LazyLock::new(Authority::new);

/// A client and a server over a memory pair, not open yet.
fn pair(options: &Options, version: ProtocolVersion) -> Result<(TlsChannel, TlsChannel)> {
    let (near, far) = MemoryChannel::pair_with_capacity(if options.small_buffers { 1 } else { 64 * 1024 })?;
    over(Box::new(near), Box::new(far), options, version)
}

fn over(
    near: Box<dyn Channel>,
    far: Box<dyn Channel>,
    options: &Options,
    version: ProtocolVersion,
) -> Result<(TlsChannel, TlsChannel)> {
    let client = TlsChannel::client_with_config(near, AUTHORITY.client(version), NAME, options.limits.clone())?;
    // The suite begins with both ends flushed and nobody reading, which tickets in a pipe of one byte would keep from happening.
    let mut config = (*AUTHORITY.server(version)).clone();
    config.send_tls13_tickets = 0;
    let server = TlsChannel::server_with_config(far, config.into(), options.limits.clone())?;
    Ok((client, server))
}

/// A client and a server over a client and a server: TLS lends its plaintext to TLS.
fn twice(options: &Options) -> Result<(TlsChannel, TlsChannel)> {
    let (near, far) = pair(options, TLSv1_3)?;
    over(Box::new(near), Box::new(far), options, TLSv1_3)
}

fn swapped<A, B>((a, b): (A, B)) -> (B, A) {
    (b, a)
}

channel_testkit::conformance! {
    mod client = |options: &Options| pair(options, TLSv1_3);
    mod server = |options: &Options| pair(options, TLSv1_3).map(swapped);
    mod client_1_2 = |options: &Options| pair(options, TLSv1_2);
    mod server_1_2 = |options: &Options| pair(options, TLSv1_2).map(swapped);
    mod client_over_client = |options: &Options| twice(options);
}
