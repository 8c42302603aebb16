//! A channel as other people's `AsyncRead` and `AsyncWrite`: one function for each operation, and thin faces for each library.
//!
//! Nothing is kept between two polls, so a future that is dropped has lost nothing: a byte was read, or taken, by the poll that
//! said so, or not at all.

#[cfg(feature = "futures-io")]
mod futures_io;
#[cfg(feature = "tokio")]
mod tokio_io;

use std::io::{IoSlice, IoSliceMut};
use std::task::{Context, Poll};

use super::AioChannel;
use crate::{Channel, Direction, Features, ReadFlags, Result, WriteFlags};

impl AioChannel {
    fn poll_read(&self, cx: &mut Context<'_>, bufs: &mut [IoSliceMut<'_>]) -> Poll<Result<usize>> {
        self.poll_drive(cx, Direction::Read, |channel| channel.readv_full(bufs, None, ReadFlags::DONT_WAIT))
    }

    fn poll_write(&self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<Result<usize>> {
        self.poll_drive(cx, Direction::Write, |channel| channel.writev_full(bufs, &[], WriteFlags::DONT_WAIT))
    }

    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll_drive(cx, Direction::Write, Channel::flush)
    }

    /// The polite end of our output, which flushes first; or the flush alone, where there is no such end.
    fn poll_close_write(&self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.channel().features().contains(Features::CLOSE_WRITE) {
            self.poll_drive(cx, Direction::Write, Channel::close_write)
        } else {
            self.poll_flush(cx)
        }
    }
}
