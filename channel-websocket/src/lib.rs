//! WebSocket (RFC 6455) over any channel, client and server, as a byte stream.
//!
//! A [`WebSocketChannel`] is a [`Channel`](channel_core::Channel) over another: what is written leaves in binary messages, and the
//! payload of the peer's binary messages is what is read, one byte stream without message boundaries, as VNC, NBD or a serial
//! console want it (the subprotocol `binary`). Pings are answered, and the peer's Close is the clean end of the stream.
//!
//! ```
//! use channel_core::{Channel, ChannelExt, MemoryChannel, Limits};
//! use channel_websocket::{ClientOptions, ServerOptions, WebSocketChannel};
//!
//! let (near, far) = MemoryChannel::pair()?;
//! let server = WebSocketChannel::server(Box::new(far), ServerOptions::default(), Limits::default())?;
//! let options = ClientOptions::new("vm.example").path("/console").subprotocols(["binary"]);
//! let client = WebSocketChannel::client(Box::new(near), options, Limits::default())?;
//!
//! let serving = std::thread::spawn(move || server.handshake().map(|()| server));
//! client.handshake()?;
//! let server = serving.join().expect("the server does not panic")?;
//! assert_eq!(server.path(), Some("/console"));
//!
//! client.write_all(b"hello")?;
//! let mut heard = [0; 5];
//! server.read_all(&mut heard)?;
//! assert_eq!(&heard, b"hello");
//! # Ok::<(), channel_core::Error>(())
//! ```
//!
//! Where what is: `options.rs` what a user chooses, `handshake.rs` the HTTP upgrade, `engine.rs` the frames, both over byte slices
//! without I/O, `channel.rs` the public face. [`channel_core::Layered`] moves the bytes.
#![forbid(unsafe_code)]

mod channel;
mod close;
mod engine;
mod handshake;
mod options;

pub use channel::{Role, WebSocketChannel};
pub use close::CloseFrame;
pub use options::{ClientOptions, ServerOptions};

use channel_core::{Error, ErrorKind};

/// What errors call this layer.
const LAYER: &str = "websocket";

fn error(kind: ErrorKind, detail: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(kind, LAYER, detail)
}
