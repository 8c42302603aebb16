//! A WebSocket channel over a memory pair keeps every promise, in either role.

use channel_core::{Channel, MemoryChannel, Result};
use channel_testkit::suite::Options;
use channel_websocket::{ClientOptions, ServerOptions, WebSocketChannel};

/// A client and a server over a memory pair, not open yet.
fn pair(options: &Options) -> Result<(WebSocketChannel, WebSocketChannel)> {
    let (near, far) = MemoryChannel::pair_with_capacity(if options.small_buffers { 1 } else { 64 * 1024 })?;
    over(Box::new(near), Box::new(far), options)
}

/// A client and a server over a client and a server.
fn twice(options: &Options) -> Result<(WebSocketChannel, WebSocketChannel)> {
    let (near, far) = pair(options)?;
    over(Box::new(near), Box::new(far), options)
}

fn over(
    near: Box<dyn Channel>,
    far: Box<dyn Channel>,
    options: &Options,
) -> Result<(WebSocketChannel, WebSocketChannel)> {
    let client = WebSocketChannel::client(near, ClientOptions::new("vm.example"), options.limits.clone())?;
    let server = WebSocketChannel::server(far, ServerOptions::default(), options.limits.clone())?;
    Ok((client, server))
}

fn swapped<A, B>((a, b): (A, B)) -> (B, A) {
    (b, a)
}

channel_testkit::conformance! {
    mod client = |options: &Options| pair(options);
    mod server = |options: &Options| pair(options).map(swapped);
    mod client_over_client = |options: &Options| twice(options);
    mod server_over_server = |options: &Options| twice(options).map(swapped);
}
