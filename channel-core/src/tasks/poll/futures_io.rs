//! The `AsyncRead` and `AsyncWrite` of futures-io.

use std::io::{self, IoSlice, IoSliceMut};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};

use crate::AioChannel;

macro_rules! implement {
    ($channel:ty) => {
        /// With the feature `futures-io`. Errors are [`Error`](crate::Error)s inside, found by downcast.
        ///
        /// # Cancel safety
        /// A future that is dropped has read nothing that it did not return. One task may read while another writes; of two that read,
        /// only the last is woken.
        impl AsyncRead for $channel {
            fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
                AioChannel::poll_read(&self, cx, &mut [IoSliceMut::new(buf)]).map_err(io::Error::from)
            }

            fn poll_read_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &mut [IoSliceMut<'_>],
            ) -> Poll<io::Result<usize>> {
                AioChannel::poll_read(&self, cx, bufs).map_err(io::Error::from)
            }
        }

        /// With the feature `futures-io`. A vectored write is one call of the channel with all buffers. Errors are
        /// [`Error`](crate::Error)s inside, found by downcast.
        ///
        /// `poll_close` ends our output politely ([`Channel::close_write`](crate::Channel::close_write)): the peer sees a Close frame, a
        /// close_notify or FIN, and can still be read from. A channel without [`CLOSE_WRITE`](crate::Features::CLOSE_WRITE) is flushed.
        ///
        /// # Cancel safety
        /// Of a write that is dropped before it is done, nothing was taken. Flush and close go on where a dropped one stopped.
        impl AsyncWrite for $channel {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                AioChannel::poll_write(&self, cx, &[IoSlice::new(buf)]).map_err(io::Error::from)
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                AioChannel::poll_write(&self, cx, bufs).map_err(io::Error::from)
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                AioChannel::poll_flush(&self, cx).map_err(io::Error::from)
            }

            fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_close_write(cx).map_err(io::Error::from)
            }
        }
    };
}

implement!(AioChannel);
implement!(&AioChannel);
