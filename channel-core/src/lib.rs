//! Layered I/O channels: one object-safe [`Channel`], composed at run time.
//!
//! A *channel* is one end of a byte stream that may also carry file descriptors: a socket, a file, a pipe, or a protocol
//! layered over another channel. Every layer owns the channel below it as a `Box<dyn Channel>`, so a stack is put
//! together while the program runs:
//!
//! ```text
//! WebSocketChannel ── TlsChannel ── SocketChannel ── fd
//!   frames            records        sendmsg/recvmsg
//! ```
//!
//! * [`Channel`] is the trait, and [`contract`] numbers what every channel promises.
//! * [`ChannelExt`] adds the conveniences: `read`, `write_all`, `wait`, descriptors, and so on.
//! * [`Layered`] implements `Channel` once for every protocol: write an [`engine`] over byte slices and it supplies
//!   locks, back-pressure, flush, cork, endings, readiness and handler forwarding.
//! * [`leaf`] is what a channel with nothing below it is made of: say what it is, try once, and the kit makes a channel of it.
//! * [`MemoryChannel`], [`BufferChannel`] and [`NullChannel`] need no file system and no network.
//!
//! ```
//! use channel_core::{Channel, ChannelExt, MemoryChannel};
//!
//! let (near, far) = MemoryChannel::pair()?;
//! near.write_all(b"hello")?;
//! near.close_write()?;
//! let mut heard = [0; 5];
//! far.read_all(&mut heard)?;
//! assert_eq!(&heard, b"hello");
//! assert_eq!(far.read(&mut heard)?, 0); // the clean end
//! # Ok::<(), channel_core::Error>(())
//! ```
#![forbid(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!("these channels are made of Linux's epoll(7), eventfd(2) and MSG_DONTWAIT: they run on Linux alone");

// `promises!` links to the contract by the crate's name.
extern crate self as channel_core;

mod adapter;
mod aio;
mod blocking;
mod buffer;
mod channel;
pub mod contract;
mod error;
mod event_fd;
mod ext;
mod flags;
mod given_back;
mod layered;
pub mod leaf;
mod limits;
mod memory;
mod name;
mod readiness;
mod refusal;
mod stack;
mod tasks;
mod wait_queue;

pub use adapter::StdIo;
pub use aio::{
    AioChange, AioContext, AioHandler, Callback, Callee, Claim, Claimable, Claimant, Registration, Removed, Timer,
    TimerId,
};
pub(crate) use blocking::Mode;
pub use buffer::Buffer;
pub use channel::Channel;
pub use error::{Error, ErrorKind, Result};
pub use ext::ChannelExt;
pub use flags::{Features, ReadFlags, WriteFlags};
pub use given_back::{FromFdError, GivenBack, OverError};
pub use layered::{Layered, Parts, engine};
pub use limits::Limits;
pub use memory::{BufferChannel, MemoryChannel, NullChannel};
pub(crate) use name::Name;
pub use readiness::{Direction, Interest, Interests, Readiness};
pub use stack::{Layers, describe, downcast, find_layer, layers, lowest_layer};
pub use std::net::Shutdown;
#[cfg(feature = "tokio")]
pub use tasks::TokioContext;
pub use tasks::{
    AioChannel, Attached, Condition, DetachError, Detached, EnteredContext, EventLoop, LoopHandle, Ready, Task, Turn,
    Watch, WatchGuard, current_context, enter_context,
};
pub use wait_queue::{News, Ticket, WaitQueue};
