//! A layer may send bytes behind its last plaintext: what follows is sound, and each clause must find it so.

mod trailing;

use std::sync::Arc;

use channel_core::{Channel, Limits, MemoryChannel, Result};
use channel_socket::SocketChannel;
use channel_testkit::adverse::gated;
use channel_testkit::suite::Options;
use trailing::checked::checked;
use trailing::deflate::deflate;

type Pair<C> = Result<(C, C)>;

fn memory(options: &Options) -> Pair<Box<dyn Channel>> {
    let (near, far) = MemoryChannel::pair_with_capacity(if options.small_buffers { 1 } else { 64 * 1024 })?;
    Ok((behind_the_gate(options, Box::new(near)), Box::new(far)))
}

fn sockets(options: &Options) -> Pair<Box<dyn Channel>> {
    let (near, far) = SocketChannel::pair()?;
    Ok((behind_the_gate(options, Box::new(near)), Box::new(far)))
}

fn behind_the_gate(options: &Options, leaf: Box<dyn Channel>) -> Box<dyn Channel> {
    match &options.gate {
        Some(gate) => gated(leaf, Arc::clone(gate)),
        None => leaf,
    }
}

/// A layer at both ends.
fn both<C>(options: &Options, below: Pair<Box<dyn Channel>>, layer: fn(Box<dyn Channel>, Limits) -> C) -> Pair<C> {
    let (near, far) = below?;
    Ok((layer(near, options.limits.clone()), layer(far, options.limits.clone())))
}

channel_testkit::conformance! {
    mod checked_over_memory = |options: &Options| both(options, memory(options), checked);
    mod checked_over_sockets = |options: &Options| both(options, sockets(options), checked);
    mod deflate_over_memory [tells_a_cut] = |options: &Options| both(options, memory(options), deflate);
    mod deflate_over_sockets [tells_a_cut] = |options: &Options| both(options, sockets(options), deflate);
}
