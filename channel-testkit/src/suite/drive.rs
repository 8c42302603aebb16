//! Waiting on an event loop: with handlers on the shipped one, and as a task under tokio.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use channel_core::{AioChange, AioContext, AioHandler, Channel, Direction, EventLoop, Removed, Result};

thread_local! {
    static EVENT_LOOP: EventLoop = EventLoop::new().expect("an event loop");
}

fn set(channel: &dyn Channel, direction: Direction, change: AioChange) -> Result<Removed> {
    match direction {
        Direction::Read => channel.set_aio_fd_handler(change, AioChange::Keep),
        Direction::Write => channel.set_aio_fd_handler(AioChange::Keep, change),
    }
}

/// Runs `attempt` until it gives anything but would-block, each time a handler on an event loop of this thread was called.
pub(super) fn on_event_loop<T>(
    channel: &Arc<dyn Channel>,
    direction: Direction,
    attempt: impl FnMut(&dyn Channel) -> Result<T>,
) -> Result<T> {
    on_event_loop_as(AioChange::Claim, channel, direction, attempt)
}

/// Closes, each time a closer's handler on an event loop of this thread was called.
pub(super) fn close_on_event_loop(channel: &Arc<dyn Channel>) -> Result<()> {
    on_event_loop_as(AioChange::Closer, channel, Direction::Write, Channel::close)
}

fn on_event_loop_as<T>(
    as_what: fn(AioHandler) -> AioChange,
    channel: &Arc<dyn Channel>,
    direction: Direction,
    mut attempt: impl FnMut(&dyn Channel) -> Result<T>,
) -> Result<T> {
    let first = attempt(&**channel);
    if !first.as_ref().is_err_and(channel_core::Error::is_would_block) {
        return first;
    }
    let context: Arc<dyn AioContext> = EVENT_LOOP.with(EventLoop::handle);
    let due = Arc::new(AtomicBool::new(false));
    let told = Told { due: Arc::clone(&due), context: Arc::clone(&context) };
    let handler = AioHandler::new(Arc::clone(&context), move || told.due.store(true, Ordering::Relaxed));
    let callback = Arc::downgrade(&handler.callback);
    match set(&**channel, direction, as_what(handler)) {
        Err(error) if error.is_closed() => return attempt(&**channel), // meanwhile
        set => drop(set?),
    }
    let done = loop {
        while !due.swap(false, Ordering::Relaxed) {
            EVENT_LOOP.with(|event_loop| event_loop.run_once(None))?;
        }
        match attempt(&**channel) {
            Err(error) if error.is_would_block() => {}
            done => break done,
        }
    };
    if let Some(callback) = callback.upgrade() {
        // A channel that was closed has let go of it.
        let _ = set(&**channel, direction, AioChange::Release(AioHandler { context, callback }));
    }
    done
}

/// What the handler holds: a channel that is closed calls nobody, but lets go of its handlers.
struct Told {
    due: Arc<AtomicBool>,
    context: Arc<dyn AioContext>,
}

impl Drop for Told {
    fn drop(&mut self) {
        self.due.store(true, Ordering::Relaxed);
        self.context.schedule(Box::new(|| {})); // so that its turn ends
    }
}

#[cfg(feature = "tokio")]
pub(super) mod under_tokio {
    use std::io::IoSlice;
    use std::pin::pin;
    use std::sync::Arc;

    use channel_core::{AioChannel, Channel, Direction, Error, Result};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::runtime::{Builder, Runtime};

    thread_local! {
        static RUNTIME: Runtime = Builder::new_current_thread().enable_all().build().expect("a tokio runtime");
    }

    fn block_on<T>(channel: &Arc<dyn Channel>, with: impl AsyncFnOnce(AioChannel) -> T) -> T {
        let channel = AioChannel::from_arc(Arc::clone(channel));
        RUNTIME.with(|runtime| runtime.block_on(with(channel)))
    }

    /// Runs `attempt` until it gives anything but would-block, as a task.
    pub(in super::super) fn drive<T>(
        channel: &Arc<dyn Channel>,
        direction: Direction,
        attempt: impl FnMut(&dyn Channel) -> Result<T>,
    ) -> Result<T> {
        block_on(channel, async |channel| channel.drive(direction, attempt).await)
    }

    pub(in super::super) fn close(channel: &Arc<dyn Channel>) -> Result<()> {
        block_on(channel, async |channel| channel.close().await)
    }

    /// One read, by tokio's own trait.
    pub(in super::super) fn read(channel: &Arc<dyn Channel>, buf: &mut [u8]) -> Result<usize> {
        let read = block_on(channel, async |channel| pin!(&channel).read(buf).await);
        read.map_err(|error| Error::from_io(error, "tokio"))
    }

    /// One write, by tokio's own trait.
    pub(in super::super) fn write(channel: &Arc<dyn Channel>, bytes: &[u8]) -> Result<usize> {
        let (one, two) = bytes.split_at(bytes.len() / 2);
        let bufs = [IoSlice::new(one), IoSlice::new(two)];
        let written = block_on(channel, async |channel| pin!(&channel).write_vectored(&bufs).await);
        written.map_err(|error| Error::from_io(error, "tokio"))
    }
}
