//! The same calls, blocking and as tasks.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use channel_stack::{AioChannel, Channel, ChannelExt, Result};

/// The calls of a conversation.
pub(super) trait Calls: Clone + Send + 'static {
    fn handshake(&self) -> impl Future<Output = Result<()>> + Send;
    fn read(&self, buf: &mut [u8]) -> impl Future<Output = Result<usize>> + Send;
    fn write(&self, buf: &[u8]) -> impl Future<Output = Result<usize>> + Send;
    fn close_write(&self) -> impl Future<Output = Result<()>> + Send;
    fn close(&self) -> impl Future<Output = Result<()>> + Send;
    /// Lets other tasks run.
    fn pause(&self) -> impl Future<Output = ()> + Send;
}

/// Blocking calls: the futures never wait, the calls inside do.
#[derive(Clone)]
pub(super) struct Blocking(pub(super) Arc<dyn Channel>);

impl Calls for Blocking {
    async fn handshake(&self) -> Result<()> {
        self.0.handshake()
    }
    async fn read(&self, buf: &mut [u8]) -> Result<usize> {
        self.0.read(buf)
    }
    async fn write(&self, buf: &[u8]) -> Result<usize> {
        self.0.write(buf)
    }
    async fn close_write(&self) -> Result<()> {
        self.0.close_write()
    }
    async fn close(&self) -> Result<()> {
        self.0.close()
    }
    async fn pause(&self) {}
}

/// Calls of tasks.
#[derive(Clone)]
pub(super) struct Tasks(pub(super) Arc<AioChannel>);

impl Calls for Tasks {
    async fn handshake(&self) -> Result<()> {
        self.0.handshake().await
    }
    async fn read(&self, buf: &mut [u8]) -> Result<usize> {
        self.0.read(buf).await
    }
    async fn write(&self, buf: &[u8]) -> Result<usize> {
        self.0.write(buf).await
    }
    async fn close_write(&self) -> Result<()> {
        self.0.close_write().await
    }
    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
    async fn pause(&self) {
        let mut paused = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut paused, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

/// The output of a future made of [`Blocking`] calls.
///
/// # Panics
/// If it waits: a fault of the conversation.
pub(super) fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a conversation of blocking calls waited for something else"),
    }
}
