//! tokio's `AsyncRead` and `AsyncWrite`.

use std::io::{self, IoSlice, IoSliceMut};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::poll_proceed;

use crate::{AioChannel, Result};

/// Polls `operation` as tokio's own streams do: one that is always ready lets other tasks have their turn now and then.
fn cooperative<T>(
    cx: &mut Context<'_>,
    operation: impl FnOnce(&mut Context<'_>) -> Poll<Result<T>>,
) -> Poll<io::Result<T>> {
    let turn = ready!(poll_proceed(cx));
    let done = ready!(operation(cx));
    turn.made_progress();
    Poll::Ready(Ok(done?))
}

macro_rules! implement {
    ($channel:ty) => {
        /// With the feature `tokio`. Errors are [`Error`](crate::Error)s inside, found by downcast.
        ///
        /// # Cancel safety
        /// A future that is dropped has read nothing that it did not return. One task may read while another writes; of two that read,
        /// only the last is woken.
        impl AsyncRead for $channel {
            fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                let room = buf.initialize_unfilled();
                let count =
                    ready!(cooperative(cx, |cx| { AioChannel::poll_read(&self, cx, &mut [IoSliceMut::new(room)]) }))?;
                buf.advance(count);
                Poll::Ready(Ok(()))
            }
        }

        /// With the feature `tokio`. A vectored write is one call of the channel with all buffers. Errors are
        /// [`Error`](crate::Error)s inside, found by downcast.
        ///
        /// `poll_shutdown` ends our output politely ([`Channel::close_write`](crate::Channel::close_write)): the peer sees a Close frame, a
        /// close_notify or FIN, and can still be read from. A channel without [`CLOSE_WRITE`](crate::Features::CLOSE_WRITE) is flushed.
        ///
        /// # Cancel safety
        /// Of a write that is dropped before it is done, nothing was taken. Flush and shutdown go on where a dropped one stopped.
        impl AsyncWrite for $channel {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                cooperative(cx, |cx| AioChannel::poll_write(&self, cx, &[IoSlice::new(buf)]))
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                cooperative(cx, |cx| AioChannel::poll_write(&self, cx, bufs))
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                cooperative(cx, |cx| AioChannel::poll_flush(&self, cx))
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                cooperative(cx, |cx| self.poll_close_write(cx))
            }
        }
    };
}

implement!(AioChannel);
implement!(&AioChannel);
