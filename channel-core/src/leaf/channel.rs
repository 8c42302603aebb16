//! [`Channel`] implemented once for every leaf.

use std::any::Any;
use std::io::{self, IoSlice, IoSliceMut, SeekFrom};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bitflags::bitflags;

use super::vectored::syscall_span;
use super::{FdHandlers, Leaf};
use crate::limits::deadline_in;
use crate::refusal::{check, needed_to_read, needed_to_write};
use crate::{
    AioChange, Channel, Direction, Error, ErrorKind, Features, Interests, Mode, Name, News, ReadFlags, Readiness,
    Removed, Result, Shutdown, WaitQueue, WriteFlags,
};

/// A channel made of a [`Leaf`].
///
/// A channel of its own name is a newtype around it, and [`forward_channel!`](crate::forward_channel); without one,
/// `find_layer::<LeafChannel<L>>` finds it, and [`leaf`](Self::leaf) shows what it is made of.
#[derive(Debug)]
pub struct LeafChannel<L> {
    leaf: L,
    name: Name,
    mode: Mode,
    over: AtomicU8,
    /// Who sleeps until a direction can go on, whose end no descriptor shows. Made for the first who asks.
    sleepers: OnceLock<WaitQueue>,
    handlers: FdHandlers,
    closing: OnceLock<Box<Closing>>, // once in a channel's life
}

bitflags! {
    /// What is over, and since when nothing is asked of the leaf any more.
    #[derive(Clone, Copy, PartialEq, Eq)]
    struct Over: u8 {
        const READ = 1 << 0;
        const WRITE = 1 << 1;
        /// `close` has begun.
        const CLOSING = 1 << 2;
        /// `close` has ended.
        const CLOSED = 1 << 3;
    }
}

impl Over {
    fn of(direction: Direction) -> Self {
        match direction {
            Direction::Read => Self::READ,
            Direction::Write => Self::WRITE,
        }
    }
}

/// A `close` that has begun.
#[derive(Debug)]
struct Closing {
    /// When it lets go of everything.
    by: Mutex<Instant>,
    /// Held during one attempt of one closer.
    progress: Mutex<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    /// What became of the polite end, once that was tried.
    polite: Option<Result<()>>,
    /// What closing came to, which everybody is told who closes.
    outcome: Option<Result<()>>,
}

impl<L: Leaf> LeafChannel<L> {
    /// A channel made of `leaf`.
    #[must_use]
    pub fn new(leaf: L) -> Self {
        Self {
            leaf,
            name: Name::default(),
            mode: Mode::default(),
            over: AtomicU8::new(0),
            sleepers: OnceLock::new(),
            handlers: FdHandlers::default(),
            closing: OnceLock::new(),
        }
    }

    /// What it is made of.
    #[must_use]
    pub fn leaf(&self) -> &L {
        &self.leaf
    }

    fn over(&self) -> Over {
        Over::from_bits_retain(self.over.load(Ordering::Acquire))
    }

    fn set_over(&self, over: Over) -> Over {
        Over::from_bits_retain(self.over.fetch_or(over.bits(), Ordering::AcqRel))
    }

    /// Refuses what comes after `close` \[S3\]; in front of all other refusals.
    fn open(&self, operation: &'static str) -> Result<()> {
        if self.over().contains(Over::CLOSING) { Err(Error::closed(self, operation)) } else { Ok(()) }
    }

    /// Refuses what it never does \[D5\], and everything once it is closed.
    fn may(&self, operation: &'static str, needed: Features) -> Result<()> {
        self.open(operation)?;
        check(self, operation, needed)
    }

    /// Refuses a direction that it does not have \[D5\].
    fn carries(&self, direction: Direction) -> Result<()> {
        if self.leaf.carries(direction) {
            return Ok(());
        }
        let detail = match direction {
            Direction::Read => "it was opened for writing only",
            Direction::Write => "it was opened for reading only",
        };
        Err(self.annotated(Error::new(ErrorKind::Unsupported, self.layer(), detail), operation(direction)))
    }

    fn annotated(&self, error: Error, operation: &'static str) -> Error {
        if error.is_would_block() { error } else { error.during(operation).on(self.name.load()) }
    }

    /// What calls in `direction` say without being tried.
    #[inline]
    fn told(&self, direction: Direction) -> Option<Result<usize>> {
        let over = self.over();
        if over.is_empty() { None } else { self.told_of(direction, over) }
    }

    #[cold]
    fn told_of(&self, direction: Direction, over: Over) -> Option<Result<usize>> {
        if over.contains(Over::CLOSING) {
            return Some(Err(Error::closed(self, operation(direction))));
        }
        over.contains(Over::of(direction)).then(|| match direction {
            Direction::Read => Ok(0),
            Direction::Write => Err(Error::output_ended(self)),
        })
    }

    /// One attempt. An end that we made meanwhile is told as what it is: the peer has made none, and the system may call it anything.
    #[inline]
    fn attempt(&self, direction: Direction, attempt: impl FnOnce() -> Result<usize>) -> Result<usize> {
        if let Some(told) = self.told(direction) {
            return told;
        }
        match attempt() {
            Ok(count @ 1..) => Ok(count),
            Err(error) if error.is_would_block() => Err(error),
            ended => self.told(direction).unwrap_or_else(|| self.ended(direction, ended)),
        }
    }

    /// 0 is the end of a stream, and no answer to a write.
    fn ended(&self, direction: Direction, ended: Result<usize>) -> Result<usize> {
        if direction == Direction::Read || ended.is_err() {
            return ended;
        }
        let detail = "it took no bytes and gave no reason";
        Err(Error::new(ErrorKind::Io(io::ErrorKind::WriteZero), self.layer(), detail))
    }

    /// What a read or a write came to, which its handlers hear of.
    #[inline]
    fn done(&self, direction: Direction, result: Result<usize>) -> Result<usize> {
        let result = match result {
            Ok(count) => Ok(count),
            Err(error) => Err(self.annotated(error, operation(direction))),
        };
        self.handlers.called(&self.mode, direction, &result);
        result
    }

    fn sleepers(&self) -> &WaitQueue {
        self.sleepers.get_or_init(WaitQueue::default)
    }

    /// Whoever waits in `direction`, which is over, has something to do now.
    fn wake(&self, direction: Direction) {
        if !self.leaf.shows_end(direction) {
            self.sleepers().wake(news(direction));
        }
        self.handlers.let_go(direction);
    }

    /// Closes by the earliest of all deadlines that were given.
    fn close_as_told(&self, deadline: Instant) -> Result<()> {
        let begun = || Box::new(Closing { by: Mutex::new(deadline), progress: Mutex::default() });
        let closing = self.closing.get_or_init(begun);
        let result = self.mode.run_close(self, || self.try_close(closing, deadline));
        if self.over().contains(Over::CLOSED) {
            self.handlers.clear(); // outside of the lock: what goes with them may call us
        }
        result
    }

    fn try_close(&self, closing: &Closing, deadline: Instant) -> Result<()> {
        let mut progress = lock(&closing.progress);
        if let Some(outcome) = &progress.outcome {
            return outcome.clone();
        }
        let by = {
            let mut by = lock(&closing.by);
            *by = deadline.min(*by);
            *by
        };
        let before = self.set_over(Over::CLOSING);
        let is_first = !before.contains(Over::CLOSING);
        let polite = progress.polite.get_or_insert_with(|| {
            let is_due = !before.contains(Over::WRITE) && self.leaf.features().contains(Features::CLOSE_WRITE);
            if is_due { self.leaf.end_output() } else { Ok(()) }
        });
        let result = match (self.leaf.close(by), &*polite) {
            (Err(error), _) if error.is_would_block() && Instant::now() < by => Err(error),
            (Err(error), _) if error.is_would_block() => {
                let detail = "it was not through with closing when the time for that had passed";
                Err(Error::new(ErrorKind::TimedOut, self.layer(), detail))
            }
            (closed, Ok(())) => closed,
            (_, Err(error)) => Err(error.clone()),
        };
        let result = result.map_err(|error| self.annotated(error, "close"));
        if !result.as_ref().is_err_and(Error::is_would_block) {
            progress.outcome = Some(result.clone());
            self.set_over(Over::CLOSED);
            self.sleepers().wake(News::all());
            return result;
        }
        if is_first {
            self.sleepers().wake(News::all()); // who reads or writes is told now
            self.handlers.begin_closing(self.leaf.polled(Direction::Write), by);
        } else {
            self.handlers.goes_on_closing();
        }
        result
    }

    /// What a closer waits for.
    fn closing_readiness(&self) -> Readiness {
        let ticket = self.sleepers().ticket().heeding(News::all());
        let Some(closing) = self.closing.get().filter(|_| !self.over().contains(Over::CLOSED)) else {
            return Readiness::Ready;
        };
        let mut interests = Interests::new();
        if let Some(polled) = self.leaf.polled(Direction::Write) {
            interests.add(&polled.fd, polled.direction);
        }
        interests.add_deadline(*lock(&closing.by));
        interests.add_ticket(ticket);
        Readiness::Wait(interests)
    }

    fn set_timeout(&self, direction: Direction, timeout: Option<Duration>) -> Result<()> {
        self.handlers.set_timeout(self, &self.mode, direction, timeout)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn operation(direction: Direction) -> &'static str {
    match direction {
        Direction::Read => "read",
        Direction::Write => "write",
    }
}

fn news(direction: Direction) -> News {
    match direction {
        Direction::Read => News::READ,
        Direction::Write => News::WRITE,
    }
}

fn directions(how: Shutdown) -> impl Iterator<Item = Direction> {
    let read = (how != Shutdown::Write).then_some(Direction::Read);
    let write = (how != Shutdown::Read).then_some(Direction::Write);
    read.into_iter().chain(write)
}

impl<L: Leaf> Channel for LeafChannel<L> {
    fn layer(&self) -> &'static str {
        self.leaf.layer()
    }

    fn name(&self) -> Option<Arc<str>> {
        self.name.load()
    }

    fn set_name(&self, name: &str) {
        self.name.store(name);
    }

    fn features(&self) -> Features {
        self.leaf.features() | Features::SHUTDOWN
    }

    fn why_not(&self, feature: Features) -> Option<String> {
        let missing = (feature - self.features()).iter().next()?;
        Some(self.leaf.why_not(missing).to_owned())
    }

    fn describe_layer(&self) -> String {
        self.leaf.describe()
    }

    fn readv_full(
        &self,
        bufs: &mut [IoSliceMut<'_>],
        mut fds: Option<&mut Vec<OwnedFd>>,
        flags: ReadFlags,
    ) -> Result<usize> {
        self.may("read", needed_to_read(fds.is_some(), flags))?;
        self.carries(Direction::Read)?;
        let Some(span) = syscall_span(bufs) else {
            return Ok(0);
        };
        let bufs = &mut bufs[span];
        let attempt = || self.attempt(Direction::Read, || self.leaf.try_read(bufs, fds.as_deref_mut(), flags));
        let read = self.mode.run(self, Direction::Read, flags.contains(ReadFlags::DONT_WAIT), attempt);
        self.done(Direction::Read, read)
    }

    fn writev_full(&self, bufs: &[IoSlice<'_>], fds: &[BorrowedFd<'_>], flags: WriteFlags) -> Result<usize> {
        self.may("write", needed_to_write(!fds.is_empty(), flags))?;
        self.carries(Direction::Write)?;
        let Some(span) = syscall_span(bufs) else {
            return Ok(0);
        };
        let bufs = &bufs[span];
        let attempt = || self.attempt(Direction::Write, || self.leaf.try_write(bufs, fds, flags));
        let written = self.mode.run(self, Direction::Write, flags.contains(WriteFlags::DONT_WAIT), attempt);
        self.done(Direction::Write, written)
    }

    fn flush(&self) -> Result<()> {
        self.open("flush")?;
        self.leaf.flush().map_err(|error| self.annotated(error, "flush"))
    }

    fn set_blocking(&self, blocking: bool) {
        self.handlers.set_blocking(&self.mode, blocking);
    }

    fn set_read_timeout(&self, timeout: Option<Duration>) -> Result<()> {
        self.set_timeout(Direction::Read, timeout)
    }

    fn read_timeout(&self) -> Option<Duration> {
        self.mode.timeout(Direction::Read)
    }

    fn set_write_timeout(&self, timeout: Option<Duration>) -> Result<()> {
        self.set_timeout(Direction::Write, timeout)
    }

    fn write_timeout(&self) -> Option<Duration> {
        self.mode.timeout(Direction::Write)
    }

    fn take_over(&self) {
        self.leaf.take_over();
    }

    fn set_delay(&self, delay: bool) {
        self.leaf.set_delay(delay);
    }

    fn set_cork(&self, cork: bool) {
        self.leaf.set_cork(cork);
    }

    fn close_write(&self) -> Result<()> {
        self.may("close_write", Features::CLOSE_WRITE)?;
        if self.set_over(Over::WRITE).contains(Over::WRITE) {
            return Ok(());
        }
        let ended = self.leaf.end_output();
        self.wake(Direction::Write);
        ended.map_err(|error| self.annotated(error, "close_write"))
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        for direction in directions(how) {
            self.set_over(Over::of(direction));
        }
        let ended = self.leaf.end(how);
        if !self.over().contains(Over::CLOSING) {
            directions(how).for_each(|direction| self.wake(direction));
        }
        ended.map_err(|error| self.annotated(error, "shutdown"))
    }

    fn close(&self) -> Result<()> {
        self.close_as_told(deadline_in(self.leaf.linger()))
    }

    fn close_by(&self, deadline: Instant) -> Result<()> {
        self.close_as_told(deadline)
    }

    fn seek(&self, position: SeekFrom) -> Result<u64> {
        self.may("seek", Features::SEEKABLE)?;
        let sought = self.leaf.seek(position).map_err(|error| self.annotated(error, "seek"))?;
        self.handlers.called(&self.mode, Direction::Read, &Ok(1)); // behind an end there may be bytes now
        Ok(sought)
    }

    fn readiness(&self, direction: Direction) -> Readiness {
        // Before the look at what is over.
        let ticket = (!self.leaf.shows_end(direction)).then(|| self.sleepers().ticket().heeding(news(direction)));
        let over = self.over();
        if over.contains(Over::CLOSING) && direction == Direction::Write {
            return self.closing_readiness();
        }
        if over.intersects(Over::CLOSING | Over::of(direction)) || !self.leaf.carries(direction) {
            return Readiness::Ready;
        }
        let Some(polled) = self.leaf.polled(direction) else {
            return Readiness::Ready;
        };
        let answer = self.mode.limited(direction, Readiness::wait_for(&polled.fd, polled.direction));
        if let Some(ticket) = ticket { answer.with_ticket(ticket) } else { answer }
    }

    fn set_aio_fd_handler(&self, read: AioChange, write: AioChange) -> Result<Removed> {
        let over = self.over();
        let sets = |change: &AioChange| matches!(change, AioChange::Set(_) | AioChange::Claim(_));
        if over.contains(Over::CLOSED) || over.contains(Over::CLOSING) && (sets(&read) || sets(&write)) {
            return Err(Error::closed(self, "set_aio_fd_handler"));
        }
        let polled = |direction| {
            let polls = self.leaf.carries(direction) && !self.over().contains(Over::of(direction));
            if polls { self.leaf.polled(direction) } else { None }
        };
        let closing = self.closing.get().map(|closing| (self.leaf.polled(Direction::Write), *lock(&closing.by)));
        let changed = self.handlers.change(self.layer(), &self.mode, polled, closing, read, write);
        changed.map_err(|error| self.annotated(error, "set_aio_fd_handler"))
    }

    fn handshake(&self) -> Result<()> {
        self.open("handshake")
    }

    fn with_read_buf(&self, take: &mut dyn FnMut(&[u8]) -> usize) -> Result<usize> {
        self.may("read", Features::READ_BUF)?;
        let mut lent = false;
        let mut taking = |bytes: &[u8]| {
            lent = true;
            take(bytes)
        };
        let result = self.attempt(Direction::Read, || self.leaf.lend(&mut taking));
        let result = self.mode.note(self, Direction::Read, result);
        let result = result.map_err(|error| self.annotated(error, "read"));
        // What was lent is progress, even if none of it was taken.
        self.handlers.called(&self.mode, Direction::Read, if lent { &Ok(1) } else { &result });
        result
    }

    fn next_layer(&self) -> Option<&dyn Channel> {
        None
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
