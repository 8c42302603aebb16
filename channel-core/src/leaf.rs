//! What a leaf is made of: a channel with a descriptor, or a piece of memory, of its own, and no channel below.
//!
//! Who writes one says what it is and makes one attempt a direction, [`Leaf`]; [`LeafChannel`] makes a channel of that. Modes, waiting,
//! timeouts, the name, handlers, who wakes whom, what is refused and in which words, and what is said after an end and after `close` are the
//! kit's, and alike in every leaf. `docs/guide/own-leaf.md` of the project builds one step by step.
//!
//! ```
//! use channel_core::leaf::{Leaf, LeafChannel};
//! use channel_core::{ChannelExt, Direction, Features, Interest, ReadFlags, Result, WriteFlags};
//! use std::io::{IoSlice, IoSliceMut};
//! use std::os::fd::{BorrowedFd, OwnedFd};
//! use std::time::Instant;
//!
//! /// As many zeros as anybody wants.
//! #[derive(Debug)]
//! struct Zeros;
//!
//! impl Leaf for Zeros {
//!     fn layer(&self) -> &'static str {
//!         "zeros"
//!     }
//!     fn features(&self) -> Features {
//!         Features::empty()
//!     }
//!     fn why_not(&self, _missing: Features) -> &'static str {
//!         "there is nothing but zeros"
//!     }
//!     fn carries(&self, direction: Direction) -> bool {
//!         direction == Direction::Read
//!     }
//!     fn try_read(&self, bufs: &mut [IoSliceMut<'_>], _: Option<&mut Vec<OwnedFd>>, _: ReadFlags) -> Result<usize> {
//!         bufs.iter_mut().for_each(|buf| buf.fill(0));
//!         Ok(bufs.iter().map(|buf| buf.len()).sum())
//!     }
//!     fn try_write(&self, _: &[IoSlice<'_>], _: &[BorrowedFd<'_>], _: WriteFlags) -> Result<usize> {
//!         Ok(0) // never asked: see `carries`
//!     }
//!     fn polled(&self, _: Direction) -> Option<Interest> {
//!         None // it is always ready
//!     }
//!     fn close(&self, _: Instant) -> Result<()> {
//!         Ok(())
//!     }
//! }
//!
//! let zeros = LeafChannel::new(Zeros);
//! assert_eq!(zeros.read(&mut [1; 8])?, 8);
//! assert!(zeros.write(b"x").unwrap_err().is_unsupported());
//! # Ok::<(), channel_core::Error>(())
//! ```

mod channel;
mod counted;
mod vectored;

use std::fmt::Debug;
use std::io::{IoSlice, IoSliceMut, SeekFrom};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

pub use crate::aio::FdHandlers;
pub use crate::blocking::Mode;
pub use crate::name::Name;
pub use channel::LeafChannel;
pub use counted::CountedFd;

use crate::{Direction, Error, ErrorKind, Features, Interest, Limits, ReadFlags, Result, Shutdown, WriteFlags};

/// What [`LeafChannel`] makes a channel of.
///
/// No call waits: what cannot be done now is [`Error::WOULD_BLOCK`], and [`polled`](Self::polled) says what to wait for. The kit keeps what a
/// call refuses away from here: nothing is asked for that [`features`](Self::features) and [`carries`](Self::carries) deny, there are always
/// bytes, or room for some, and neither a direction that was ended nor a channel that was closed is tried again. It adds the operation and the
/// channel's name to errors.
///
/// # Threads
/// One reader and one writer may be inside at the same time, and any thread may end, close, set hints and ask. What an attempt comes to that was
/// under way while its direction was ended, or the channel closed, is the kit's to say: here it need not be a certain end or error, only not
/// would-block for ever.
pub trait Leaf: Debug + Send + Sync + 'static {
    /// See [`Channel::layer`](crate::Channel::layer).
    fn layer(&self) -> &'static str;

    /// What it can do, always the same; [`SHUTDOWN`](Features::SHUTDOWN) goes without saying, for the kit wakes who sleeps.
    fn features(&self) -> Features;

    /// Why `missing`, one feature, is none of [`features`](Self::features), in words for a person.
    fn why_not(&self, missing: Features) -> &'static str;

    /// See [`Channel::describe_layer`](crate::Channel::describe_layer).
    fn describe(&self) -> String {
        self.layer().to_owned()
    }

    /// Whether bytes go in `direction` at all, always the same: a pipe, and a file opened for reading, have one direction.
    fn carries(&self, _direction: Direction) -> bool {
        true
    }

    /// One attempt to read, see [`Channel::readv_full`](crate::Channel::readv_full). The first of `bufs` has room, and there are no more than
    /// the system takes at once. 0 is the clean end.
    ///
    /// # Errors
    /// [`Error::WOULD_BLOCK`]; what the stream ended with.
    fn try_read(&self, bufs: &mut [IoSliceMut<'_>], fds: Option<&mut Vec<OwnedFd>>, flags: ReadFlags) -> Result<usize>;

    /// One attempt to write, see [`Channel::writev_full`](crate::Channel::writev_full). The first of `bufs` has bytes, and there are no more
    /// than the system takes at once. What is taken has left: nothing is held here, a corked segment of the system's excepted. To take none is
    /// an error.
    ///
    /// # Errors
    /// [`Error::WOULD_BLOCK`]; [`BrokenPipe`](ErrorKind::BrokenPipe) where the peer is gone; what else the system fails with.
    fn try_write(&self, bufs: &[IoSlice<'_>], fds: &[BorrowedFd<'_>], flags: WriteFlags) -> Result<usize>;

    /// What to poll for an attempt in `direction` to come to something. `None` where none would block: it is always ready, or the direction is
    /// over for good.
    ///
    /// While [`close`](Self::close) says would-block this is asked once more, for writing: for what `close` waits then.
    fn polled(&self, direction: Direction) -> Option<Interest>;

    /// Whether that becomes ready by itself when [`end`](Self::end) or [`close`](Self::close) ends `direction`, as a socket does of which
    /// reading is shut down. Then nobody else has to wake who sleeps, which spares each a look at a queue.
    fn shows_end(&self, _direction: Direction) -> bool {
        false
    }

    /// Ends one direction or both, abruptly; see [`Channel::shutdown`](crate::Channel::shutdown). May be called again, and by any thread, so it
    /// takes no lock that an attempt holds for long. For whoever calls the channel the direction is over already: this is for the peer, and
    /// for a descriptor that [`shows_end`](Self::shows_end).
    ///
    /// # Errors
    /// What the system fails with.
    fn end(&self, _how: Shutdown) -> Result<()> {
        Ok(())
    }

    /// Ends our output politely, once; see [`Channel::close_write`](crate::Channel::close_write). Only with
    /// [`CLOSE_WRITE`](Features::CLOSE_WRITE), and in front of [`close`](Self::close) unless our output was ended before.
    ///
    /// # Errors
    /// What is known to be lost of the output. The direction is over all the same.
    fn end_output(&self) -> Result<()> {
        self.end(Shutdown::Write)
    }

    /// Releases everything, once, after the polite end of our output: from now on nothing else is called but [`end`](Self::end),
    /// [`describe`](Self::describe), hints, and what tells facts. Descriptors go with the last call that uses them, see [`CountedFd`].
    ///
    /// One that has to wait, as for a child process to end, says would-block, and is called again when what is [`polled`](Self::polled) for
    /// writing is ready, or `deadline` has passed; then it lets go of everything at once. Of several who close the earliest deadline counts.
    ///
    /// # Errors
    /// [`Error::WOULD_BLOCK`]; anything else is what closing came to, as is [`TimedOut`](ErrorKind::TimedOut) where this says would-block
    /// behind `deadline`.
    fn close(&self, deadline: Instant) -> Result<()>;

    /// How long [`close`](Self::close) may take where the caller gives no deadline; the default is that of
    /// [`Limits::default`](crate::Limits::default).
    fn linger(&self) -> Duration {
        Limits::default().linger
    }

    /// See [`Channel::flush`](crate::Channel::flush). Never would-block, for nothing is held.
    ///
    /// # Errors
    /// What the system fails with, or has failed with since bytes were taken.
    fn flush(&self) -> Result<()> {
        Ok(())
    }

    /// See [`Channel::set_delay`](crate::Channel::set_delay).
    fn set_delay(&self, _delay: bool) {}

    /// See [`Channel::set_cork`](crate::Channel::set_cork).
    fn set_cork(&self, _cork: bool) {}

    /// See [`Channel::seek`](crate::Channel::seek). Only with [`SEEKABLE`](Features::SEEKABLE).
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a position that cannot be.
    fn seek(&self, _position: SeekFrom) -> Result<u64> {
        Err(unwritten(self.layer()))
    }

    /// Lends what a read would give; see [`Channel::with_read_buf`](crate::Channel::with_read_buf). Only with
    /// [`READ_BUF`](Features::READ_BUF).
    ///
    /// # Errors
    /// As [`try_read`](Self::try_read).
    fn lend(&self, _take: &mut dyn FnMut(&[u8]) -> usize) -> Result<usize> {
        Err(unwritten(self.layer()))
    }

    /// See [`Channel::take_over`](crate::Channel::take_over).
    fn take_over(&self) {}
}

/// For a leaf that has a feature and not the method that does it.
fn unwritten(layer: &'static str) -> Error {
    Error::new(ErrorKind::Internal, layer, "it declares the feature, and has nothing that does it")
}
