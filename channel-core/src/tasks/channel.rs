//! A channel for tasks: waiting that takes no thread.

use std::future::{Future, poll_fn};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use super::drive::{Closer, Drive, Ready};
use super::waiter::{Entered, Event, Waiter, Waits};
use super::{Attached, current_context};
#[cfg(any(feature = "tokio", feature = "futures-io"))]
use crate::blocking::Within;
use crate::blocking::limit_of;
use crate::{
    AioChange, AioContext, Channel, Direction, Error, ErrorKind, ReadFlags, Readiness, Removed, Result, WriteFlags,
};

/// A channel for tasks: its calls are futures that wait on an event loop, and do what the blocking ones do [[A3]].
///
/// # Which loop
/// [`attach`](Self::attach) ties the channel to one. A channel that is attached to none uses the loop of the thread that polls
/// the future ([`current_context`]): the loop of the task, in other words. Where there is none, the future fails with
/// [`NotAttached`](ErrorKind::NotAttached) [[A4]]. An attached channel moves from loop to loop while its tasks wait [[A5]].
///
/// # Threads
/// One task may read and another write at the same time, on whatever threads. A second waiter in one direction gets
/// [`Busy`](ErrorKind::Busy) [[A1]]. A handshake counts as reading; `flush` and `close_write` as writing; `close` as neither.
///
/// # Turns
/// A task whose calls never have to wait gives others their turn all the same, after 128 of them in one direction [[A3]].
///
/// # Cancel safety
/// [`ready`](Self::ready), [`read`](Self::read), [`readv_full`](Self::readv_full), [`write`](Self::write),
/// [`writev_full`](Self::writev_full), [`flush`](Self::flush), [`handshake`](Self::handshake), [`close_write`](Self::close_write) and
/// [`close`](Self::close) may be dropped at any time: nothing was done that was not returned, and a later call goes on where
/// the dropped one stopped [[A2]]. The `_all` forms are not cancel safe, as a part may have been done.
///
/// # Other people's traits
/// With the feature `tokio` it is tokio's `AsyncRead` and `AsyncWrite`, with `futures-io` those of futures-io; so is a reference to it.
/// Its own methods of the same names come first where both are in sight. `shutdown` of the one and `close` of the other are
/// [`close_write`](Self::close_write): [`close`](Self::close) comes behind them. A poll that is given up, and not polled again, leaves its
/// time running ([`Channel::set_read_timeout`]): nobody says that it was.
///
/// ```
/// # #[cfg(feature = "tokio")] {
/// use channel_core::{AioChannel, MemoryChannel};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, split};
///
/// # tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
/// let (near, far) = MemoryChannel::pair()?;
/// let (mut reader, mut writer) = split(AioChannel::new(near));
/// let echo = tokio::spawn(async move {
///     let (mut reader, mut writer) = split(AioChannel::new(far));
///     copy(&mut reader, &mut writer).await?;
///     writer.shutdown().await // the end, as the protocol has it; it may still read
/// });
/// writer.write_all(b"hello").await?;
/// writer.shutdown().await?;
/// let mut heard = String::new();
/// reader.read_to_string(&mut heard).await?;
/// assert_eq!(heard, "hello");
/// echo.await??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?; }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Handlers
/// It claims the channel's handlers ([`AioChange::Claim`](crate::AioChange::Claim)) when a task first waits, and keeps them until it is
/// detached or dropped. The channel is put into non-blocking mode.
///
/// ```
/// use channel_core::{AioChannel, EventLoop, MemoryChannel};
///
/// let (near, far) = MemoryChannel::pair()?;
/// let (near, far) = (AioChannel::new(near), AioChannel::new(far));
/// let event_loop = EventLoop::new()?;
/// let heard = event_loop.spawn(async move {
///     let mut heard = [0; 5];
///     far.read_all(&mut heard).await.map(|()| heard)
/// });
/// let heard = event_loop.block_on(async {
///     near.write_all(b"hello").await?;
///     heard.await?
/// })??;
/// assert_eq!(&heard, b"hello");
/// # Ok::<(), channel_core::Error>(())
/// ```
#[doc = channel_core::promises!(A3 A4 A5 A1 A2)]
#[derive(Debug)]
pub struct AioChannel {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    // Those who wait let go of their handlers first.
    read: Waits,
    write: Waits,
    /// Those of tasks that close.
    closers: OnceLock<Box<Mutex<Vec<Arc<Waits>>>>>, // once in a channel's life
    attachment: Mutex<Attachment>,
    pub(super) channel: Arc<dyn Channel>,
}

/// Where tasks wait.
#[derive(Clone, Debug)]
pub(super) enum Attachment {
    /// On the loop of the thread that polls.
    None,
    To(Arc<dyn AioContext>),
    /// Nowhere: the channel is on its way from one loop to another.
    Between,
}

impl Shared {
    pub(super) fn waits(&self, direction: Direction) -> &Waits {
        match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        }
    }

    pub(super) fn attachment(&self) -> MutexGuard<'_, Attachment> {
        self.attachment.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets tasks look again where they wait now.
    pub(super) fn set_attachment(&self, attachment: Attachment) {
        let old = std::mem::replace(&mut *self.attachment(), attachment);
        drop(old);
        self.wake();
    }

    /// Lets all tasks that wait look again.
    fn wake(&self) {
        self.read.wake();
        self.write.wake();
        self.each_closer(|closer| closer.wake());
    }

    pub(super) fn closers(&self) -> MutexGuard<'_, Vec<Arc<Waits>>> {
        self.closers.get_or_init(Box::default).lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn each_closer(&self, mut call: impl FnMut(&Waits)) {
        let closers = self.closers.get().map(|_| self.closers().clone());
        closers.iter().flatten().for_each(|closer| call(closer));
    }

    /// Lets go of all handlers. Tasks that wait are not told.
    pub(super) fn release(&self) -> Removed {
        let mut removed = self.read.release();
        removed.extend(self.write.release());
        self.each_closer(|closer| removed.extend(closer.release()));
        removed
    }

    pub(super) fn poll_ready(
        &self,
        waiter: &mut Waiter,
        cx: &mut Context<'_>,
        direction: Direction,
    ) -> Poll<Result<()>> {
        let waits = self.waits(direction);
        let entered = waits.enter(waiter, cx.waker());
        // The waker was left before the questions below are asked: what changes from now on wakes it.
        let result = match entered {
            Entered::Busy => {
                let detail = "a channel has one reader and one writer at a time, and another task waits already";
                Err(self.failed(ErrorKind::Busy, detail, "ready"))
            }
            Entered::Called => Ok(()),
            Entered::Unknowing | Entered::Waiting => match self.look(waits, entered == Entered::Unknowing) {
                Ok(false) => {
                    waits.turn.waited();
                    return Poll::Pending;
                }
                looked => looked.map(drop),
            },
        };
        waits.leave(waiter);
        Poll::Ready(result)
    }

    /// Sees to it that a change wakes who waits, and says whether there is nothing to wait for.
    pub(super) fn look(&self, waits: &Waits, unknowing: bool) -> Result<bool> {
        let attachment = self.attachment();
        let claim = |context| waits.claim(&self.channel, context, unknowing);
        let (claimed, removed) = match &*attachment {
            Attachment::Between => return Ok(false),
            Attachment::To(context) => claim(context),
            Attachment::None => match current_context() {
                Some(context) => claim(&context),
                None => {
                    let detail =
                        "no event loop runs on this thread; attach the channel to one, or run the task on a loop";
                    (Err(self.failed(ErrorKind::NotAttached, detail, "ready")), Removed::nothing())
                }
            },
        };
        drop(attachment);
        drop(removed);
        let readiness = self.channel.readiness(waits.direction());
        let now = Instant::now();
        let is_due = match &readiness {
            Readiness::Ready => true,
            Readiness::Wait(interests) => interests.deadline().is_some_and(|deadline| deadline <= now),
        };
        match claimed {
            _ if is_due => Ok(true),
            // The next call says so.
            Err(error) if error.is_closed() && self.is_closed() => Ok(true),
            Err(error) => Err(error.during("ready").on(self.channel.name())),
            // A handler is told of some things once, such as a shutdown: perhaps just before it was set.
            Ok(set_now) if set_now || unknowing => readiness.block(Some(now)),
            Ok(_) => Ok(false),
        }
    }

    /// Whether the channel was closed, rather than a loop.
    fn is_closed(&self) -> bool {
        let asked = self.channel.set_aio_fd_handler(AioChange::Keep, AioChange::Keep);
        asked.is_err_and(|error| error.is_closed())
    }

    fn failed(&self, kind: ErrorKind, detail: &'static str, operation: &'static str) -> Error {
        Error::new(kind, self.channel.layer(), detail).during(operation).on(self.channel.name())
    }
}

impl AioChannel {
    /// `channel`, for tasks; attached to no loop.
    #[must_use]
    pub fn new(channel: impl Channel) -> Self {
        Self::from_arc(Arc::new(channel))
    }

    /// A channel that others know, too.
    #[must_use]
    pub fn from_arc(channel: Arc<dyn Channel>) -> Self {
        channel.set_blocking(false);
        let attachment = Mutex::new(Attachment::None);
        let ready = |direction| Waits::new(Event::Ready(direction));
        let (read, write) = (ready(Direction::Read), ready(Direction::Write));
        Self { shared: Arc::new(Shared { read, write, closers: OnceLock::new(), attachment, channel }) }
    }

    /// The channel itself: for what does not wait, such as its name, cork and `shutdown`.
    #[must_use]
    pub fn channel(&self) -> &Arc<dyn Channel> {
        &self.shared.channel
    }

    /// Ties the channel to `context`: from now on tasks wait there, whatever thread they run on, until the returned guard is
    /// detached or dropped. A task that waits already moves along.
    ///
    /// Detach it before that loop ends: a task of another loop that waits there then is not woken, and calls say
    /// [`Closed`](ErrorKind::Closed).
    ///
    /// # Errors
    /// [`Busy`](ErrorKind::Busy) if it is attached already, or on its way to another loop.
    pub fn attach(&self, context: Arc<dyn AioContext>) -> Result<Attached> {
        let mut attachment = self.shared.attachment();
        if !matches!(*attachment, Attachment::None) {
            let detail = "it is attached to a loop already, or on its way to another; detach it there first";
            return Err(self.shared.failed(ErrorKind::Busy, detail, "attach"));
        }
        *attachment = Attachment::To(Arc::clone(&context));
        drop(attachment);
        self.shared.wake();
        Ok(Attached::new(Arc::clone(&self.shared), context))
    }

    /// Waits until `direction` can make progress; the call that follows may still say would-block once. (QEMU:
    /// `qio_channel_yield`.)
    ///
    /// # Errors
    /// [`Busy`](ErrorKind::Busy) for a second waiter in one direction; [`NotAttached`](ErrorKind::NotAttached) without a loop; what setting
    /// a handler fails with.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub fn ready(&self, direction: Direction) -> Ready<'_> {
        Ready::new(self, direction, None)
    }

    /// As [`ready`](Self::ready), for those who implement futures by hand. Of two who poll one direction in this way only the
    /// last is woken.
    ///
    /// # Errors
    /// As [`ready`](Self::ready).
    pub fn poll_ready(&self, cx: &mut Context<'_>, direction: Direction) -> Poll<Result<()>> {
        ready!(self.shared.waits(direction).turn.poll(cx));
        self.shared.poll_ready(&mut Waiter::poll(), cx, direction)
    }

    /// Makes `attempt` until it gives anything but would-block, waiting in between for `direction`: what every call here is made
    /// of, and what a call with other arguments can be made of.
    ///
    /// # Errors
    /// What `attempt` fails with, and as [`ready`](Self::ready).
    ///
    /// # Cancel safety
    /// As `attempt`: it waits outside of it.
    pub fn drive<T>(
        &self,
        direction: Direction,
        attempt: impl FnMut(&dyn Channel) -> Result<T>,
    ) -> impl Future<Output = Result<T>> {
        Drive::new(self.ready(direction), attempt)
    }

    /// As [`drive`](Self::drive), for a part of what has to be done by `limit` \[T1\].
    fn drive_until<T>(
        &self,
        limit: Option<Instant>,
        direction: Direction,
        attempt: impl FnMut(&dyn Channel) -> Result<T>,
    ) -> impl Future<Output = Result<T>> {
        Drive::part(Ready::new(self, direction, limit), attempt)
    }

    /// [`drive`](Self::drive) for those who implement futures by hand.
    #[cfg(any(feature = "tokio", feature = "futures-io"))]
    pub(super) fn poll_drive<T>(
        &self,
        cx: &mut Context<'_>,
        direction: Direction,
        mut attempt: impl FnMut(&dyn Channel) -> Result<T>,
    ) -> Poll<Result<T>> {
        let waits = self.shared.waits(direction);
        // A call that begins now has the time to itself; one that waits already knows when that passes.
        let mut limit = if waits.is_awaited() { None } else { limit_of(&*self.shared.channel, direction) };
        loop {
            ready!(waits.turn.poll(cx));
            let _within = Within::begin(direction, limit.take());
            let calls = waits.calls();
            match attempt(&*self.shared.channel) {
                Err(error) if error.is_would_block() => {
                    ready!(self.shared.poll_ready(&mut Waiter::poll_after_attempt(calls), cx, direction))?;
                }
                done => {
                    waits.leave_polls();
                    return Poll::Ready(done);
                }
            }
        }
    }

    /// Reads into `buf`, at least one byte; 0 is the clean end.
    ///
    /// # Errors
    /// As [`Channel::readv_full`] and [`ready`](Self::ready), never would-block.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is read unless it is returned.
    pub async fn read(&self, buf: &mut [u8]) -> Result<usize> {
        let attempt =
            |channel: &dyn Channel| channel.readv_full(&mut [IoSliceMut::new(buf)], None, ReadFlags::DONT_WAIT);
        self.drive(Direction::Read, attempt).await
    }

    /// [`Channel::readv_full`] that waits.
    ///
    /// # Errors
    /// As [`Channel::readv_full`] and [`ready`](Self::ready); would-block only with [`ReadFlags::DONT_WAIT`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn readv_full(
        &self,
        bufs: &mut [IoSliceMut<'_>],
        mut fds: Option<&mut Vec<OwnedFd>>,
        flags: ReadFlags,
    ) -> Result<usize> {
        if flags.contains(ReadFlags::DONT_WAIT) {
            return self.shared.channel.readv_full(bufs, fds, flags);
        }
        let flags = flags | ReadFlags::DONT_WAIT;
        self.drive(Direction::Read, |channel| channel.readv_full(bufs, fds.as_deref_mut(), flags)).await
    }

    /// Fills `buf`.
    ///
    /// # Errors
    /// [`UnexpectedEof`](ErrorKind::UnexpectedEof) if the stream ends first; an error says how many bytes were read.
    ///
    /// # Cancel safety
    /// Not cancel safe: what was read is in `buf`, and nobody says how much.
    pub async fn read_all(&self, buf: &mut [u8]) -> Result<()> {
        if self.read_all_eof(buf).await? || buf.is_empty() {
            return Ok(());
        }
        Err(self.ended_early(0))
    }

    /// Fills `buf` and returns `true`, or returns `false` if the stream ended before the first byte.
    ///
    /// # Errors
    /// [`UnexpectedEof`](ErrorKind::UnexpectedEof) if it ends in the middle.
    ///
    /// # Cancel safety
    /// Not cancel safe.
    pub async fn read_all_eof(&self, buf: &mut [u8]) -> Result<bool> {
        let limit = limit_of(&*self.shared.channel, Direction::Read);
        let mut done = 0;
        while let rest @ [_, ..] = &mut buf[done..] {
            let read = self.drive_until(limit, Direction::Read, |channel| {
                channel.readv_full(&mut [IoSliceMut::new(rest)], None, ReadFlags::DONT_WAIT)
            });
            match read.await.map_err(|error| error.with_bytes_done(done))? {
                0 if done == 0 => return Ok(false),
                0 => return Err(self.ended_early(done)),
                count => done += count,
            }
        }
        Ok(true)
    }

    fn ended_early(&self, done: usize) -> Error {
        let channel = &self.shared.channel;
        let detail = "the stream ended before all data was read";
        let error = Error::new(ErrorKind::UnexpectedEof, channel.layer(), detail).during("read");
        error.on(channel.name()).with_bytes_done(done)
    }

    /// Writes from `buf`; returns how many bytes were taken.
    ///
    /// # Errors
    /// As [`Channel::writev_full`] and [`ready`](Self::ready), never would-block.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is taken unless it is returned.
    pub async fn write(&self, buf: &[u8]) -> Result<usize> {
        let attempt = |channel: &dyn Channel| channel.writev_full(&[IoSlice::new(buf)], &[], WriteFlags::DONT_WAIT);
        self.drive(Direction::Write, attempt).await
    }

    /// [`Channel::writev_full`] that waits until something is taken. It does not wait until that has left: what a layer holds
    /// leaves by itself while tasks wait here, and [`flush`](Self::flush) tells when.
    ///
    /// # Errors
    /// As [`Channel::writev_full`] and [`ready`](Self::ready); would-block only with [`WriteFlags::DONT_WAIT`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn writev_full(&self, bufs: &[IoSlice<'_>], fds: &[BorrowedFd<'_>], flags: WriteFlags) -> Result<usize> {
        if flags.contains(WriteFlags::DONT_WAIT) {
            return self.shared.channel.writev_full(bufs, fds, flags);
        }
        let flags = flags | WriteFlags::DONT_WAIT;
        self.drive(Direction::Write, |channel| channel.writev_full(bufs, fds, flags)).await
    }

    /// Writes all of `buf`.
    ///
    /// # Errors
    /// As [`write`](Self::write); an error says how many bytes were taken.
    ///
    /// # Cancel safety
    /// Not cancel safe: nobody says how much was taken.
    pub async fn write_all(&self, buf: &[u8]) -> Result<()> {
        let limit = limit_of(&*self.shared.channel, Direction::Write);
        let mut done = 0;
        while let rest @ [_, ..] = &buf[done..] {
            let written = self.drive_until(limit, Direction::Write, |channel| {
                channel.writev_full(&[IoSlice::new(rest)], &[], WriteFlags::DONT_WAIT)
            });
            match written.await.map_err(|error| error.with_bytes_done(done))? {
                0 => {
                    let detail = "a write of a non-empty buffer took nothing";
                    let error = Error::new(ErrorKind::Internal, self.shared.channel.layer(), detail);
                    return Err(error.with_bytes_done(done));
                }
                count => done += count,
            }
        }
        Ok(())
    }

    /// Pushes everything held, through every layer; see [`Channel::flush`].
    ///
    /// # Errors
    /// As [`Channel::flush`] and [`ready`](Self::ready), never would-block.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn flush(&self) -> Result<()> {
        self.drive(Direction::Write, Channel::flush).await
    }

    /// Drives this layer and all below it to open; see [`Channel::handshake`]. A loop is never stalled: each step takes what
    /// has arrived, and the limit runs on the loop's timer.
    ///
    /// # Errors
    /// As [`Channel::handshake`] and [`ready`](Self::ready), never would-block.
    ///
    /// # Cancel safety
    /// Cancel safe: another call goes on where this one stopped. Dropping the channel instead frees everything, and nothing is
    /// called later [[N4]].
    #[doc = channel_core::promises!(N4)]
    pub async fn handshake(&self) -> Result<()> {
        self.drive_until(None, Direction::Read, Channel::handshake).await // it has a limit of its own
    }

    /// Ends our output politely; see [`Channel::close_write`].
    ///
    /// # Errors
    /// As [`Channel::close_write`] and [`ready`](Self::ready), never would-block.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn close_write(&self) -> Result<()> {
        self.drive(Direction::Write, Channel::close_write).await
    }

    /// Ends our output politely within [`Limits::linger`](crate::Limits::linger), then releases everything; see
    /// [`Channel::close`]. It stands beside tasks, handlers and watches that read or write: those are woken, and get
    /// [`Closed`](ErrorKind::Closed). Any number of tasks may close; all get the one result.
    ///
    /// # Errors
    /// As [`Channel::close`], never would-block; [`NotAttached`](ErrorKind::NotAttached) without a loop; what setting a handler fails with.
    ///
    /// # Cancel safety
    /// Cancel safe. One that was dropped has begun to close all the same; another call, or dropping the channel, ends it.
    pub async fn close(&self) -> Result<()> {
        let closer = Closer::new(&self.shared, None);
        poll_fn(|cx| closer.poll(cx)).await
    }

    /// As [`close`](Self::close), by `deadline` instead of the linger; see [`Channel::close_by`].
    ///
    /// # Errors
    /// As [`close`](Self::close).
    ///
    /// # Cancel safety
    /// As [`close`](Self::close).
    pub async fn close_by(&self, deadline: Instant) -> Result<()> {
        let closer = Closer::new(&self.shared, Some(deadline));
        poll_fn(|cx| closer.poll(cx)).await
    }
}
