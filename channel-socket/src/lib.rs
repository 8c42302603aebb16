//! TCP and unix stream sockets as channels, with file descriptors passed along.
//!
//! * [`SocketChannel`] is a connected socket: [`connect`](SocketChannel::connect), [`pair`](SocketChannel::pair),
//!   [`from_fd`](SocketChannel::from_fd).
//! * [`SocketListener`] hands out connected channels; [`AioListener`] does so for tasks.
//! * [`SocketAddress`] names either end.
//!
//! No call ever changes `O_NONBLOCK` of a descriptor, which others may share: every system call carries `MSG_DONTWAIT`, and
//! blocking mode waits in poll(2).
//!
//! ```
//! use channel_core::ChannelExt;
//! use channel_socket::{SocketAddress, SocketChannel, SocketListener};
//!
//! let listener = SocketListener::bind(&SocketAddress::Inet("127.0.0.1:0".parse().unwrap()))?;
//! let client = SocketChannel::connect(listener.local_address())?;
//! let server = listener.accept()?;
//! client.write_all(b"hello")?;
//! let mut heard = [0; 5];
//! server.read_all(&mut heard)?;
//! assert_eq!(&heard, b"hello");
//! # Ok::<(), channel_core::Error>(())
//! ```
#![forbid(unsafe_code)]

mod address;
mod aio_listener;
mod channel;
mod connect;
mod descriptors;
mod failure;
mod listener;

pub use address::SocketAddress;
pub use aio_listener::AioListener;
pub use channel::SocketChannel;
pub use channel_core::FromFdError;
pub use listener::SocketListener;
