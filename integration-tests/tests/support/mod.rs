//! The stacks of the conformance matrix: a leaf, layers over it, and an adverse channel anywhere in between.

#![allow(dead_code, reason = "each test binary uses a part")]

use channel_core::{Channel, Limits, MemoryChannel, Result};
use channel_file::PipeChannel;
use channel_socket::{SocketAddress, SocketChannel, SocketListener};
use channel_testkit::suite::Options;
use channel_tls::{ClientCredentials, Provider, ServerCredentials, TlsChannel};
use channel_websocket::{ClientOptions, ServerOptions, WebSocketChannel};
use integration_tests::certificates::{SERVER_NAME, authority};
use std::sync::OnceLock;

pub(crate) type Pair = Result<(Box<dyn Channel>, Box<dyn Channel>)>;

/// What lies at the bottom: where small, a few bytes, which cut every record and frame. One at a time is what the tests of the layers' own
/// crates do.
pub(crate) fn memory(options: &Options) -> Pair {
    let (near, far) = MemoryChannel::pair_with_capacity(if options.small_buffers { 13 } else { 64 * 1024 })?;
    leaves(near, far, options)
}

/// For adverse channels that make many frames and records of few bytes.
pub(crate) fn roomy_memory(options: &Options) -> Pair {
    let (near, far) = MemoryChannel::pair_with_capacity(if options.small_buffers { 64 } else { 1024 * 1024 })?;
    leaves(near, far, options)
}

pub(crate) fn socketpair(options: &Options) -> Pair {
    let (near, far) = SocketChannel::pair()?;
    shrink(&near, options);
    shrink(&far, options);
    leaves(near, far, options)
}

pub(crate) fn unix(options: &Options) -> Pair {
    let directory = tempfile::tempdir()?;
    connected(&SocketAddress::Unix(directory.path().join("socket")), options)
}

pub(crate) fn tcp(options: &Options) -> Pair {
    connected(&SocketAddress::Inet(([127, 0, 0, 1], 0).into()), options)
}

pub(crate) fn pipe(options: &Options) -> Pair {
    let (near, far) = PipeChannel::pair()?;
    if options.small_buffers {
        for end in [&near, &far] {
            if let Some(fd) = end.write_end() {
                // One page is the least; the system may refuse, and the clause is then weaker.
                let _ = rustix::pipe::fcntl_setpipe_size(&fd, 4096);
            }
        }
    }
    leaves(near, far, options)
}

/// The two leaves, with the gate that the suite asks for over the near one, under every layer.
fn leaves(near: impl Channel, far: impl Channel, options: &Options) -> Pair {
    Ok((options.behind_gate(near), Box::new(far)))
}

fn connected(address: &SocketAddress, options: &Options) -> Pair {
    let listener = SocketListener::bind(address)?;
    let near = SocketChannel::connect(listener.local_address())?;
    let far = listener.accept()?;
    shrink(&near, options);
    shrink(&far, options);
    leaves(near, far, options)
}

fn shrink(socket: &SocketChannel, options: &Options) {
    if let (true, Some(fd)) = (options.small_buffers, socket.socket()) {
        // The system rounds up to its least. A segment on loopback is up to 64 KiB; TCP drops one that finds no room, and waits seconds
        // before it sends it again.
        let is_tcp = matches!(socket.local_address(), Some(SocketAddress::Inet(_)));
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(&fd, 1);
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&fd, if is_tcp { 64 * 1024 } else { 1 });
    }
}

/// Which side the near end, the one under test, plays in every layer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Near {
    Client,
    Server,
}

/// TLS over a pair.
pub(crate) fn tls(pair: Pair, near: Near, limits: &Limits) -> Pair {
    over(pair, near, |inner, side| {
        let channel = match side {
            Near::Client => TlsChannel::client(inner, client_credentials(), SERVER_NAME, limits.clone()),
            Near::Server => TlsChannel::server(inner, server_credentials(), limits.clone()),
        };
        Ok(Box::new(channel?))
    })
}

/// WebSocket over a pair.
pub(crate) fn ws(pair: Pair, near: Near, limits: &Limits) -> Pair {
    over(pair, near, |inner, side| {
        let channel = match side {
            Near::Client => WebSocketChannel::client(inner, ClientOptions::new(SERVER_NAME), limits.clone()),
            Near::Server => WebSocketChannel::server(inner, ServerOptions::default(), limits.clone()),
        };
        Ok(Box::new(channel?))
    })
}

/// An adverse channel over the near end of a pair.
pub(crate) fn adverse(pair: Pair, wrap: impl FnOnce(Box<dyn Channel>) -> Box<dyn Channel>) -> Pair {
    let (near, far) = pair?;
    Ok((wrap(near), far))
}

fn over(pair: Pair, near: Near, layer: impl Fn(Box<dyn Channel>, Near) -> Result<Box<dyn Channel>>) -> Pair {
    let (inner_near, inner_far) = pair?;
    let far = if near == Near::Client { Near::Server } else { Near::Client };
    Ok((layer(inner_near, near)?, layer(inner_far, far)?))
}

fn client_credentials() -> &'static ClientCredentials {
    static CREDENTIALS: OnceLock<ClientCredentials> = OnceLock::new();
    CREDENTIALS.get_or_init(|| {
        let authority = authority().expect("an authority");
        ClientCredentials::builder(Provider::AwsLcRs).roots([authority.root()]).build().expect("client credentials")
    })
}

fn server_credentials() -> &'static ServerCredentials {
    static CREDENTIALS: OnceLock<ServerCredentials> = OnceLock::new();
    CREDENTIALS.get_or_init(|| {
        let authority = authority().expect("an authority");
        ServerCredentials::builder(Provider::AwsLcRs)
            .identity(authority.server_chain(), authority.server_key())
            .build()
            .expect("server credentials")
    })
}

/// The suite over `$stack` on every leaf: half of the matrix, `first` or `second`, in turns from stack to stack.
///
/// A stack is tested in every mode over memory, where a failure is easiest to understand, and in both roles. What another leaf adds is how
/// it says would-block, cuts bytes, wakes and ends; that hardly depends on what lies four layers above it. So each other leaf is under each
/// stack once, in one role and two modes, and the halves take the other role and the other modes: every two of stack, role, mode and leaf are
/// together somewhere. The leaves, and one layer over memory, are tested by their own crates.
#[macro_export]
macro_rules! on_every_leaf {
    (first: $stack:expr) => {
        $crate::on_leaves! { $stack;
            client_over_memory: memory, Client, [non_blocking, event_loop];
            server_over_memory: memory, Server, [blocking, tokio];
            client_over_socketpair: socketpair, Client, [blocking, event_loop];
            server_over_tcp: tcp, Server, [non_blocking, tokio];
            client_over_unix: unix, Client, [blocking, tokio];
            server_over_pipe: pipe, Server, [non_blocking, event_loop];
        }
    };
    (second: $stack:expr) => {
        $crate::on_leaves! { $stack;
            client_over_memory: memory, Client, [non_blocking, tokio];
            server_over_memory: memory, Server, [blocking, event_loop];
            server_over_socketpair: socketpair, Server, [non_blocking, tokio];
            client_over_tcp: tcp, Client, [blocking, event_loop];
            server_over_unix: unix, Server, [non_blocking, event_loop];
            client_over_pipe: pipe, Client, [blocking, tokio];
        }
    };
}

/// The suite over `$stack`, which shakes hands and has an end of its own, on some leaves.
#[macro_export]
macro_rules! on_leaves {
    ($stack:expr; $($name:ident: $leaf:ident, $near:ident, [$($mode:ident),+];)+) => {
        channel_testkit::conformance! {
            $(
                mod $name [handshake, gate, tells_a_cut] in [$($mode),+] =
                    |options: &Options| $stack($leaf(options), Near::$near, &options.limits);
            )+
        }
    };
}
