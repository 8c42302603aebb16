//! A WebSocket channel over a memory pair keeps every promise, in either role.

use channel_core::{Channel, MemoryChannel, Result};
use channel_testkit::suite::Options;
use channel_websocket::{ClientOptions, ServerOptions, WebSocketChannel};

/// A memory pair, gated at the near end.
fn memory(options: &Options) -> Result<(Box<dyn Channel>, Box<dyn Channel>)> {
    let (near, far) = MemoryChannel::pair_with_capacity(if options.small_buffers { 1 } else { 64 * 1024 })?;
    Ok((options.behind_gate(near), Box::new(far)))
}

/// A client and a server over a memory pair, not open yet.
fn client(options: &Options) -> Result<(WebSocketChannel, WebSocketChannel)> {
    let (near, far) = memory(options)?;
    over(near, far, options)
}

/// A server and a client over a memory pair, not open yet.
fn server(options: &Options) -> Result<(WebSocketChannel, WebSocketChannel)> {
    let (near, far) = memory(options)?;
    over(far, near, options).map(swapped)
}

/// A client and a server that leave each other's direction open.
fn half_closing_client(options: &Options) -> Result<(WebSocketChannel, WebSocketChannel)> {
    let (near, far) = memory(options)?;
    let (client, server) =
        (ClientOptions::new("vm.example").half_close(true), ServerOptions::default().half_close(true));
    let client = WebSocketChannel::client(near, client, options.limits.clone())?;
    Ok((client, WebSocketChannel::server(far, server, options.limits.clone())?))
}

/// A server and a client that leave each other's direction open.
fn half_closing_server(options: &Options) -> Result<(WebSocketChannel, WebSocketChannel)> {
    let (near, far) = memory(options)?;
    let (client, server) =
        (ClientOptions::new("vm.example").half_close(true), ServerOptions::default().half_close(true));
    let server = WebSocketChannel::server(near, server, options.limits.clone())?;
    Ok((server, WebSocketChannel::client(far, client, options.limits.clone())?))
}

/// A client and a server over a client and a server.
fn client_over_client(options: &Options) -> Result<(WebSocketChannel, WebSocketChannel)> {
    let (near, far) = client(options)?;
    over(Box::new(near), Box::new(far), options)
}

/// A server and a client over a server and a client.
fn server_over_server(options: &Options) -> Result<(WebSocketChannel, WebSocketChannel)> {
    let (near, far) = server(options)?;
    over(Box::new(far), Box::new(near), options).map(swapped)
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

// Both roles in every mode. How the bytes of WebSocket in WebSocket are waited for does not differ from that: two modes for each.
channel_testkit::conformance! {
    mod client_over_memory [handshake, gate, tells_a_cut] = |options: &Options| client(options);
    mod server_over_memory [handshake, gate, tells_a_cut] = |options: &Options| server(options);
    mod half_closing_client_over_memory [handshake, gate, tells_a_cut] in [blocking, tokio] = |options: &Options| half_closing_client(options);
    mod half_closing_server_over_memory [handshake, gate, tells_a_cut] in [non_blocking, event_loop] =
        |options: &Options| half_closing_server(options);
    mod client_in_client [handshake, gate, tells_a_cut] in [blocking, event_loop] = |options: &Options| client_over_client(options);
    mod server_in_server [handshake, gate, tells_a_cut] in [non_blocking, tokio] = |options: &Options| server_over_server(options);
}
