//! A layer may send bytes behind its last plaintext: what follows is sound, and each clause must find it so.

mod trailing;

use channel_core::{Channel, Limits, MemoryChannel, Result};
use channel_socket::SocketChannel;
use channel_testkit::suite::Options;
use trailing::checked::checked;
use trailing::deflate::deflate;

type Pair<C> = Result<(C, C)>;

fn memory(options: &Options) -> Pair<Box<dyn Channel>> {
    let (near, far) = MemoryChannel::pair_with_capacity(if options.small_buffers { 1 } else { 64 * 1024 })?;
    Ok((options.behind_gate(near), Box::new(far)))
}

fn sockets(options: &Options) -> Pair<Box<dyn Channel>> {
    let (near, far) = SocketChannel::pair()?;
    Ok((options.behind_gate(near), Box::new(far)))
}

/// A layer at both ends.
fn both<C>(options: &Options, below: Pair<Box<dyn Channel>>, layer: fn(Box<dyn Channel>, Limits) -> C) -> Pair<C> {
    let (near, far) = below?;
    Ok((layer(near, options.limits.clone()), layer(far, options.limits.clone())))
}

// Over sockets, whose buffers take all that a clause leaves behind, each mode once.
channel_testkit::conformance! {
    mod checked_over_memory [gate] = |options: &Options| both(options, memory(options), checked);
    mod checked_over_sockets [gate] in [blocking, event_loop] = |options: &Options| both(options, sockets(options), checked);
    mod deflate_over_memory [gate, tells_a_cut] = |options: &Options| both(options, memory(options), deflate);
    mod deflate_over_sockets [gate, tells_a_cut] in [non_blocking, tokio] = |options: &Options| both(options, sockets(options), deflate);
}
