//! The two ends of a case's stack.

use std::sync::OnceLock;
use std::time::Duration;

use channel_core::{Channel, Limits, MemoryChannel, Result};
use channel_file::PipeChannel;
use channel_socket::{SocketAddress, SocketChannel, SocketListener};
use channel_testkit::adverse::HARMLESS;
use channel_tls::{ClientCredentials, Provider, ServerCredentials, TlsChannel};
use channel_websocket::{ClientOptions, ServerOptions, WebSocketChannel};
use integration_tests::certificates::{SERVER_NAME, authority};

use super::case::{Case, Layer, Leaf, Role, Room, Side};

type Pair = Result<[Box<dyn Channel>; 2]>;

/// Both ends, the near one first, not opened yet.
pub(crate) fn build(case: &Case) -> Pair {
    let [mut near, mut far] = leaves(case.leaf)?;
    let limits = Limits {
        handshake: Duration::from_secs(600), // whoever waits for it is seen to hang before
        linger: case.bounds.linger,
        queued_bytes: case.bounds.queued_bytes,
        input_bytes: case.bounds.input_bytes,
        ..Limits::default()
    };
    for &layer in &case.layers {
        near = over(near, layer, Side::Near, &limits)?;
        far = over(far, layer, Side::Far, &limits)?;
    }
    Ok([near, far])
}

fn over(inner: Box<dyn Channel>, layer: Layer, side: Side, limits: &Limits) -> Result<Box<dyn Channel>> {
    let is_client = |near: Role| (near == Role::Client) == (side == Side::Near);
    let limits = limits.clone();
    Ok(match layer {
        Layer::Tls(near) if is_client(near) => {
            Box::new(TlsChannel::client(inner, client_credentials(), SERVER_NAME, limits)?)
        }
        Layer::Tls(_) => Box::new(TlsChannel::server(inner, server_credentials(), limits)?),
        Layer::Ws(near, half_close) if is_client(near) => {
            let options = ClientOptions::new(SERVER_NAME).half_close(half_close);
            Box::new(WebSocketChannel::client(inner, options, limits)?)
        }
        Layer::Ws(_, half_close) => {
            Box::new(WebSocketChannel::server(inner, ServerOptions::default().half_close(half_close), limits)?)
        }
        Layer::Adverse(kind, at) if at == side => HARMLESS[kind].1(inner),
        Layer::Adverse(..) => inner,
    })
}

fn leaves(leaf: Leaf) -> Pair {
    match leaf {
        Leaf::Memory(capacity) => boxed(MemoryChannel::pair_with_capacity(capacity)?),
        Leaf::Socketpair(room) => sockets(SocketChannel::pair()?, room),
        Leaf::Unix(room) => {
            let directory = tempfile::tempdir()?;
            sockets(connected(&SocketAddress::Unix(directory.path().join("socket")))?, room)
        }
        // Its buffers stay as they are: a segment that finds no room is dropped, and sent again much later.
        Leaf::Tcp => boxed(connected(&SocketAddress::Inet(([127, 0, 0, 1], 0).into()))?),
        Leaf::Pipe(room) => {
            let pair = PipeChannel::pair()?;
            for end in [&pair.0, &pair.1] {
                if let (Room::Small, Some(fd)) = (room, end.write_end()) {
                    // Where the system refuses, the room is ample.
                    let _ = rustix::pipe::fcntl_setpipe_size(&fd, 4096);
                }
            }
            boxed(pair)
        }
    }
}

fn boxed(pair: (impl Channel, impl Channel)) -> Pair {
    Ok([Box::new(pair.0), Box::new(pair.1)])
}

fn connected(address: &SocketAddress) -> Result<(SocketChannel, SocketChannel)> {
    let listener = SocketListener::bind(address)?;
    let near = SocketChannel::connect(listener.local_address())?;
    Ok((near, listener.accept()?))
}

fn sockets(pair: (SocketChannel, SocketChannel), room: Room) -> Pair {
    for end in [&pair.0, &pair.1] {
        if let (Room::Small, Some(fd)) = (room, end.socket()) {
            // The system rounds up to its least.
            let _ = rustix::net::sockopt::set_socket_send_buffer_size(&fd, 1);
        }
    }
    boxed(pair)
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
