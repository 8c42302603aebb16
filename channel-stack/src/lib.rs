//! Layered I/O channels in one crate: everything of the layer crates, and one way to put whole stacks together.
//!
//! * All of `channel-core` is here at the root: [`Channel`], [`ChannelExt`], [`Error`], [`Limits`], [`describe`] and so on.
//! * The channels are here too: [`SocketChannel`], [`TlsChannel`], [`WebSocketChannel`], [`FileChannel`], [`PipeChannel`]; what belongs
//!   to one of them alone (its role, its crypto provider) is in the module of its crate: [`socket`], [`tls`], [`websocket`], [`file`](mod@file).
//! * Event loops: [`AioChannel`] and [`AioListener`] for tasks, [`Channel::set_aio_fd_handler`] and [`Watch`] for callbacks, on the
//!   [`EventLoop`] that ships or any other [`AioContext`].
//! * [`ClientStack`] and [`ServerStack`] say once which layers a connection gets, and put them over any channel.
//! * How conversations end, and who waits for whom: `docs/closing.md`.
//! * [`Stack`] names the four usual stacks, for programs whose user chooses one.
//!
//! The feature `tokio` makes a tokio runtime such a loop (`TokioContext`), and an [`AioChannel`] its `AsyncRead` and `AsyncWrite`; the
//! feature `futures-io` does the latter for that crate.
//!
//! WebSocket over TLS, here over a pair in memory, and just so over a socket:
//!
//! ```
//! use channel_stack::tls::Provider;
//! use channel_stack::tls::pki_types::PrivatePkcs8KeyDer;
//! use channel_stack::{Channel, ChannelExt, ClientCredentials, ClientOptions, ClientStack, MemoryChannel};
//! use channel_stack::{ServerCredentials, ServerOptions, ServerStack, describe};
//!
//! # let made = rcgen::generate_simple_self_signed(["vm.example".to_owned()]).unwrap();
//! # let (certificate, key) = (made.cert.der().clone(), PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
//! let trust = ClientCredentials::builder(Provider::AwsLcRs).roots([certificate.clone()]).build()?;
//! let identity = ServerCredentials::builder(Provider::AwsLcRs).identity(vec![certificate], key.into()).build()?;
//!
//! let console = ClientStack::new().tls(&trust, "vm.example").websocket(ClientOptions::new("vm.example").path("/console"));
//! let service = ServerStack::new().tls(&identity).websocket(ServerOptions::default().path("/console"));
//!
//! let (near, far) = MemoryChannel::pair()?;
//! let client = console.over(Box::new(near))?;
//! let server = service.over(Box::new(far))?;
//! let serving = std::thread::spawn(move || {
//!     server.handshake()?; // of the top layer: it opens all below first
//!     server.write_all(b"login: ")?;
//!     server.close() // waits for the client's end
//! });
//! client.handshake()?;
//! let mut prompt = [0; 7];
//! client.read_all(&mut prompt)?;
//! assert_eq!(&prompt, b"login: ");
//! assert_eq!(client.read(&mut prompt)?, 0); // the clean end: a Close frame came
//!
//! let layers = describe(&client);
//! assert!(layers.starts_with("websocket client / tls client TLSv1.3 "), "{layers}");
//!
//! client.close()?;
//! serving.join().expect("the server does not panic")?;
//! # Ok::<(), channel_stack::Error>(())
//! ```
#![forbid(unsafe_code)]

mod builder;
mod kind;

/// The example in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// So do those of the guide to event loops.
#[cfg(doctest)]
#[doc = include_str!("../docs/event-loops.md")]
struct EventLoops;

/// And those of the guide to endings.
#[cfg(doctest)]
#[doc = include_str!("../docs/closing.md")]
struct Closing;

pub use builder::{ClientStack, ServerStack};
pub use kind::{Stack, UnknownStack};

pub use channel_core::*;

/// Files and pipes.
pub use channel_file as file;
/// TCP and unix sockets.
pub use channel_socket as socket;
/// TLS.
pub use channel_tls as tls;
/// WebSocket.
pub use channel_websocket as websocket;

pub use channel_file::{FileChannel, PipeChannel};
pub use channel_socket::{AioListener, SocketAddress, SocketChannel, SocketListener};
pub use channel_tls::{ClientCredentials, ServerCredentials, TlsChannel};
pub use channel_websocket::{ClientOptions, ServerOptions, WebSocketChannel};
