//! One place that moves bytes: every layer is an engine and this.
//!
//! * `reading` and `writing` are the two sides, each behind a lock of its own that is held for memory work and for calls to the
//!   inner channel that cannot sleep. Nothing is locked while a caller waits: waiting is [`Mode::run`]'s.
//! * `outbox` is the writing side's lock and the note a reader leaves when it finds it taken.
//! * `state` is what `readiness` and `shutdown` look at without a lock.
//! * `handlers` forwards event-loop handlers.
//!
//! Locks are taken from the top layer down, and in a layer the reading side's before the writing side's, never the other way
//! round.

pub mod engine;
mod handlers;
mod outbox;
mod reading;
mod state;
mod writing;

use std::any::Any;
use std::fmt;
use std::io::{IoSlice, IoSliceMut, SeekFrom};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use engine::{Decoder, Encoder, Handshake};
use handlers::{Event, Handlers};
use outbox::Outbox;
use reading::Reader;
use state::{Facts, SharedFacts};
use writing::{Outlet, Writer};

use crate::{
    AioChange, Buffer, Channel, Direction, Error, ErrorKind, Features, Limits, Mode, Name, ReadFlags, Readiness,
    Result, Shutdown, WriteFlags, check_read, check_write,
};

/// A protocol over another channel: [`Channel`] implemented once for every [`engine`].
///
/// It owns the channel below, puts that into non-blocking mode, and does all waiting itself. It adds no thread.
pub struct Layered<D: Decoder, E: Encoder> {
    core: Arc<Core<D, E>>,
}

struct Core<D, E> {
    layer: &'static str,
    inner: Box<dyn Channel>,
    limits: Limits,
    features: Features,
    name: Name,
    mode: Mode,
    facts: SharedFacts,
    reader: Mutex<Reader<D, E>>,
    writer: Outbox<Writer<E>>,
    handlers: Handlers,
    handshake_deadline: OnceLock<Instant>,
    close_deadline: OnceLock<Instant>,
}

impl<D: Decoder, E: Encoder> Layered<D, E> {
    /// A layer of the kind `layer` (a lower-case noun) that is open from the start.
    ///
    /// `inner` is open, or opened by [`Channel::handshake`] on this layer.
    #[must_use]
    pub fn open(layer: &'static str, inner: Box<dyn Channel>, decoder: D, encoder: E, limits: Limits) -> Self {
        let reader = Reader::open(decoder, &*inner);
        Self::new(layer, inner, reader, Some(encoder), Facts::OPEN, limits)
    }

    /// A layer of the kind `layer` that opens with a handshake.
    #[must_use]
    pub fn with_handshake(
        layer: &'static str,
        inner: Box<dyn Channel>,
        handshake: Box<dyn Handshake<D, E>>,
        limits: Limits,
    ) -> Self {
        let reader = Reader::opening(handshake, &*inner);
        // Somebody has to begin: until the handshake is first called, a reader has something to do.
        Self::new(layer, inner, reader, None, Facts::HELD, limits)
    }

    fn new(
        layer: &'static str,
        inner: Box<dyn Channel>,
        reader: Reader<D, E>,
        encoder: Option<E>,
        facts: Facts,
        limits: Limits,
    ) -> Self {
        inner.set_blocking(false);
        let carried = Features::SHUTDOWN | Features::CLOSE_WRITE;
        let features = (inner.features() & carried) | Features::READ_BUF;
        Self {
            core: Arc::new(Core {
                layer,
                inner,
                limits,
                features,
                name: Name::default(),
                mode: Mode::default(),
                facts: SharedFacts::new(facts),
                reader: Mutex::new(reader),
                writer: Outbox::new(Writer::new(encoder)),
                handlers: Handlers::default(),
                handshake_deadline: OnceLock::new(),
                close_deadline: OnceLock::new(),
            }),
        }
    }

    /// The limits it was made with.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.core.limits
    }

    /// Runs `with` on the encoder, under the lock of the writing side, then sends what that left for
    /// [`Encoder::pump`]: a ping, a key update. Never waits; what does not go now goes with a later call.
    ///
    /// # Errors
    /// [`NotOpen`](ErrorKind::NotOpen) before the handshake has completed; [`Closed`](ErrorKind::Closed); the error that ended
    /// our output.
    pub fn control<R>(&self, with: impl FnOnce(&mut E) -> R) -> Result<R> {
        let core = &self.core;
        core.check_open("control")?;
        let result = core.writing(|writer| {
            let Some(encoder) = writer.encoder() else {
                return Err(core.not_open("control"));
            };
            let result = with(encoder);
            match writer.push(core.outlet()) {
                Err(error) if !error.is_would_block() => Err(error),
                _ => Ok(result),
            }
        });
        core.flush_below_a_cork();
        core.after_call();
        result
    }
}

/// When a limit that starts now runs out; a limit beyond what the clock can tell is a century.
fn deadline_in(limit: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    let now = Instant::now();
    now.checked_add(limit).or_else(|| now.checked_add(CENTURY)).unwrap_or(now)
}

impl<D: Decoder, E: Encoder> Core<D, E> {
    fn outlet(&self) -> Outlet<'_> {
        Outlet { layer: self.layer, inner: &*self.inner, facts: &self.facts, limits: &self.limits }
    }

    fn reading(&self) -> Result<MutexGuard<'_, Reader<D, E>>> {
        self.reader.lock().map_err(|_| {
            let detail = "a panic inside the engine left its reading side in an unknown state";
            self.annotate(Error::new(ErrorKind::Internal, self.layer, detail), "read")
        })
    }

    /// Runs `operation` on the writing side; replies that a reader left meanwhile follow.
    fn writing<R>(&self, operation: impl FnOnce(&mut Writer<E>) -> R) -> R {
        self.writer.with(operation, |writer| self.tend(writer))
    }

    /// Pushes replies, and output left from earlier calls, as far as the inner channel takes them.
    fn tend(&self, writer: &mut Writer<E>) {
        // A failure is latched in the writing side, and reading goes on.
        let _ = writer.push_gathered(self.outlet(), false);
        self.flush_below_a_cork();
    }

    /// Replies are not kept in the cork of the layer below.
    fn flush_below_a_cork(&self) {
        if self.facts.has(Facts::CORKED) {
            // What does not go now goes with a later call; a failure is latched there.
            let _ = self.inner.flush();
        }
    }

    /// Has the replies a decoder left sent: now, or by whoever is writing.
    fn post_replies(&self) {
        self.writer.post(|writer| self.tend(writer));
    }

    /// Pushes what is left from earlier calls, without waiting for a writer that is at it.
    fn push_unsent(&self) {
        if self.facts.has(Facts::UNSENT) {
            self.post_replies();
        }
    }

    /// Lets a handshake fill the outgoing buffer, and pushes it: what `fill` gave, and whether all of the buffer has left.
    fn with_out<R>(&self, fill: impl FnOnce(&mut Buffer) -> R) -> (R, Result<()>) {
        self.writing(|writer| {
            let result = fill(&mut writer.out);
            (result, writer.push(self.outlet()))
        })
    }

    fn install(&self, encoder: E) {
        self.writing(|writer| writer.install(encoder));
    }

    fn refuse_output(&self, error: &Error) {
        self.writing(|writer| writer.refuse(error, &self.facts));
    }

    fn release_idle_output(&self) {
        self.writer.try_with(Writer::release, |writer| self.tend(writer));
    }

    fn annotate(&self, error: Error, operation: &'static str) -> Error {
        if error.is_would_block() {
            return error;
        }
        error.during(operation).on(self.name.load())
    }

    fn not_open(&self, operation: &'static str) -> Error {
        let detail = "its handshake has not completed; call handshake first";
        self.annotate(Error::new(ErrorKind::NotOpen, self.layer, detail), operation)
    }

    fn check_open(&self, operation: &'static str) -> Result<()> {
        let facts = self.facts.load();
        if facts.contains(Facts::CLOSED) {
            let error = Error::new(ErrorKind::Closed, self.layer, "close was called on it before");
            return Err(self.annotate(error, operation));
        }
        if !facts.contains(Facts::OPEN) {
            return Err(self.not_open(operation));
        }
        Ok(())
    }

    fn try_read(&self, bufs: &mut [IoSliceMut<'_>], relaxed: bool) -> Result<usize> {
        self.check_open("read")?;
        self.push_unsent();
        self.reading()?.read(self, bufs, relaxed)
    }

    fn try_lend(&self, take: &mut dyn FnMut(&[u8]) -> usize) -> Result<usize> {
        self.check_open("read")?;
        self.push_unsent();
        self.reading()?.lend(self, take)
    }

    fn try_write(&self, bufs: &[IoSlice<'_>]) -> Result<usize> {
        self.check_open("write")?;
        let result = self.writing(|writer| writer.write(self.outlet(), bufs));
        result.map_err(|error| self.annotate(error, "write"))
    }

    /// Pushes what a write left here and in the layers below, which take it without waiting; blocking mode waits for this.
    fn try_drain(&self) -> Result<()> {
        if self.facts.has(Facts::UNSENT) {
            self.writing(|writer| writer.push_gathered(self.outlet(), false))?;
        }
        self.below(self.inner.flush())?;
        self.all_sent()
    }

    /// Replies may have been left while we were at it: they count, for a reader may sleep by now who did not know of them.
    fn all_sent(&self) -> Result<()> {
        if self.facts.has(Facts::UNSENT) { Err(Error::WOULD_BLOCK) } else { Ok(()) }
    }

    /// Notes whether the layer below has yet to push what we gave it: then that is what a writer waits for.
    fn below(&self, result: Result<()>) -> Result<()> {
        self.facts.set(Facts::BELOW, matches!(&result, Err(error) if error.is_would_block()));
        result
    }

    fn try_flush(&self) -> Result<()> {
        self.check_open("flush")?;
        self.writing(|writer| writer.flush(self.outlet())).map_err(|error| self.annotate(error, "flush"))?;
        self.below(self.inner.flush()).map_err(|error| self.annotate(error, "flush"))?;
        self.all_sent()
    }

    fn try_close_write(&self) -> Result<()> {
        self.check_open("close_write")?;
        let done = self.writing(|writer| {
            if writer.is_done() {
                return Ok(true);
            }
            writer.finish(self.outlet()).map(|()| false)
        });
        if done.map_err(|error| self.annotate(error, "close_write"))? {
            return Ok(());
        }
        self.below(self.inner.close_write()).map_err(|error| self.annotate(error, "close_write"))?;
        self.writing(Writer::set_done);
        Ok(())
    }

    fn try_handshake(&self) -> Result<()> {
        if self.facts.has(Facts::CLOSED) {
            return self.check_open("handshake");
        }
        let deadline = *self.handshake_deadline.get_or_init(|| deadline_in(self.limits.handshake));
        self.push_unsent();
        let mut reader = self.reading()?;
        if !self.facts.has(Facts::OPEN) {
            self.facts.set(Facts::HELD, false);
        }
        match self.inner.handshake() {
            Ok(()) => reader.handshake(self, deadline),
            Err(error) if error.is_would_block() && (self.facts.has(Facts::OPEN) || Instant::now() < deadline) => {
                Err(error)
            }
            Err(error) if error.is_would_block() => {
                let detail = "the handshake did not finish within Limits::handshake";
                Err(reader.fail_handshake(self, Error::new(ErrorKind::TimedOut, self.layer, detail)))
            }
            Err(error) => Err(reader.fail_handshake(self, error)),
        }
    }

    fn try_close(&self) -> Result<()> {
        if self.facts.has(Facts::CLOSED) {
            return self.inner.close();
        }
        let deadline = *self.close_deadline.get_or_init(|| deadline_in(self.limits.linger));
        let in_time = Instant::now() < deadline;
        let ended = if self.facts.has(Facts::OPEN) { self.try_close_write() } else { self.inner.close_write() };
        match ended {
            Err(error) if error.is_would_block() && in_time => Err(error),
            Err(error) if !error.is_would_block() => {
                // Our own stream ended badly; the layers below can still end theirs as they should.
                match self.inner.close_write() {
                    Err(below) if below.is_would_block() && in_time => Err(below),
                    _ => self.release(Err(error)),
                }
            }
            ended => self.release(ended),
        }
    }

    /// Lets go of everything, abruptly; `ended` is how far politeness got.
    fn release(&self, ended: Result<()>) -> Result<()> {
        self.facts.set(Facts::CLOSED, true);
        // Without SHUTDOWN below, closing is what wakes its callers.
        let _ = self.inner.shutdown(Shutdown::Both);
        let _ = self.handlers.change(&*self.inner, AioChange::Clear, AioChange::Clear, |_| Arc::new(|| {}));
        let inner = self.inner.close();
        if let Ok(mut reader) = self.reader.lock() {
            reader.clear();
        }
        let lost = self.writing(|writer| {
            let lost = writer.has_lost();
            writer.clear();
            lost
        });
        match ended {
            Err(error) if error.is_would_block() => {
                let detail = "the peer did not take our output within Limits::linger, or a writer was still waiting";
                Err(self.annotate(Error::new(ErrorKind::TimedOut, self.layer, detail), "close"))
            }
            Err(error) if lost => Err(error),
            // Nothing of the caller's was lost: the peer was gone before our goodbye.
            Err(_) | Ok(()) => inner,
        }
    }

    fn readiness(&self, direction: Direction) -> Readiness {
        let facts = self.facts.load();
        let done = match direction {
            Direction::Read => Facts::CLOSED | Facts::HELD | Facts::READ_DONE,
            Direction::Write => Facts::CLOSED | Facts::WRITE_DONE,
        };
        if facts.intersects(done) && !(direction == Direction::Write && facts.intersects(Facts::UNSENT | Facts::BELOW))
        {
            return Readiness::Ready;
        }
        let below = if facts.contains(Facts::LEAVING) { Direction::Write } else { direction };
        let mut answer = self.inner.readiness(below);
        if direction == Direction::Read && facts.contains(Facts::UNSENT) {
            answer = answer.or(self.inner.readiness(Direction::Write));
        }
        let handshake = if facts.contains(Facts::OPEN) { None } else { self.handshake_deadline.get() };
        let close = if direction == Direction::Write { self.close_deadline.get() } else { None };
        answer.with_deadline(handshake.copied()).with_deadline(close.copied())
    }
}

/// Handlers: what happens when the inner channel can make progress, and what every call does at its end.
impl<D: Decoder, E: Encoder> Core<D, E> {
    /// Has handlers called for what this call left: bytes held, an end not yet reported, output to push.
    fn after_call(self: &Arc<Self>) {
        if !self.handlers.any() {
            return;
        }
        let facts = self.facts.load();
        if facts.contains(Facts::HELD) {
            self.handlers.schedule(Direction::Read);
        }
        if facts.contains(Facts::UNSENT) {
            self.handlers.arm_push(&*self.inner, |direction| self.event(direction));
        }
    }

    fn event(self: &Arc<Self>, direction: Direction) -> Event {
        let core = Arc::downgrade(self);
        Arc::new(move || {
            let Some(core) = core.upgrade() else { return };
            core.push_unsent();
            if direction == Direction::Write && !core.facts.has(Facts::UNSENT) {
                core.handlers.disarm_push(&*core.inner, || core.facts.has(Facts::UNSENT));
            }
            core.handlers.run(direction);
        })
    }
}

impl<D: Decoder, E: Encoder> Drop for Layered<D, E> {
    fn drop(&mut self) {
        if self.core.handlers.any() {
            let core = &self.core;
            // The loop may have gone first.
            let _ = core.handlers.change(&*core.inner, AioChange::Clear, AioChange::Clear, |_| Arc::new(|| {}));
        }
    }
}

impl<D: Decoder, E: Encoder> fmt::Debug for Layered<D, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layered")
            .field("layer", &self.core.layer)
            .field("name", &self.core.name.load())
            .field("facts", &self.core.facts.load())
            .field("inner", &self.core.inner)
            .finish_non_exhaustive()
    }
}

impl<D: Decoder, E: Encoder> Channel for Layered<D, E> {
    fn layer(&self) -> &'static str {
        self.core.layer
    }

    fn name(&self) -> Option<Arc<str>> {
        self.core.name.load()
    }

    fn set_name(&self, name: &str) {
        self.core.name.store(name);
    }

    fn features(&self) -> Features {
        self.core.features
    }

    fn why_not(&self, feature: Features) -> Option<String> {
        let missing = feature - self.core.features;
        if missing.is_empty() {
            return None;
        }
        let carried = Features::SHUTDOWN | Features::CLOSE_WRITE;
        if missing.intersects(carried) {
            let below = self.core.inner.why_not(missing & carried).unwrap_or_default();
            return Some(format!("the {} channel below cannot: {below}", self.core.inner.layer()));
        }
        Some(format!(
            "a {} layer carries encoded bytes of one stream, and nothing beside or behind them",
            self.core.layer
        ))
    }

    fn describe_layer(&self) -> String {
        self.core.layer.to_owned()
    }

    fn readv_full(
        &self,
        bufs: &mut [IoSliceMut<'_>],
        fds: Option<&mut Vec<OwnedFd>>,
        flags: ReadFlags,
    ) -> Result<usize> {
        let core = &self.core;
        check_read(self, fds.is_some(), flags)?;
        if bufs.iter().all(|buf| buf.is_empty()) {
            return Ok(0);
        }
        let relaxed = flags.contains(ReadFlags::RELAXED_EOF);
        let dont_wait = flags.contains(ReadFlags::DONT_WAIT);
        let result = core.mode.run(self, Direction::Read, dont_wait, None, || core.try_read(bufs, relaxed));
        core.after_call();
        result
    }

    fn writev_full(&self, bufs: &[IoSlice<'_>], fds: &[BorrowedFd<'_>], flags: WriteFlags) -> Result<usize> {
        let core = &self.core;
        check_write(self, !fds.is_empty(), flags)?;
        if bufs.iter().all(|buf| buf.is_empty()) {
            return Ok(0);
        }
        let waits = core.mode.is_blocking() && !flags.contains(WriteFlags::DONT_WAIT);
        let result = core.mode.run(self, Direction::Write, !waits, None, || core.try_write(bufs));
        if result.is_ok() && waits && !core.facts.has(Facts::CORKED) {
            // The bytes are taken: a failure to send them is latched, and the next call reports it.
            let _ = core.mode.run(self, Direction::Write, false, None, || core.try_drain());
        }
        core.after_call();
        result
    }

    fn flush(&self) -> Result<()> {
        let result = self.core.mode.run(self, Direction::Write, false, None, || self.core.try_flush());
        self.core.after_call();
        result
    }

    fn set_blocking(&self, blocking: bool) {
        self.core.mode.set_blocking(blocking);
    }

    fn set_delay(&self, delay: bool) {
        self.core.inner.set_delay(delay);
    }

    fn set_cork(&self, cork: bool) {
        if cork {
            self.core.inner.set_cork(true);
        }
        self.core.writing(|writer| writer.set_cork(self.core.outlet(), cork));
        if !cork {
            self.core.inner.set_cork(false);
        }
        self.core.after_call();
    }

    fn close_write(&self) -> Result<()> {
        let result = self.core.mode.run(self, Direction::Write, false, None, || self.core.try_close_write());
        self.core.after_call();
        result
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        let core = &self.core;
        let before = core.facts.has(Facts::SHUT_READ);
        // First, so that a reader whom this wakes knows.
        core.facts.set(Facts::SHUT_READ, before || how != Shutdown::Write);
        let result = core.inner.shutdown(how);
        if result.is_err() {
            core.facts.set(Facts::SHUT_READ, before);
        }
        result
    }

    fn close(&self) -> Result<()> {
        let core = &self.core;
        match core.mode.run(self, Direction::Write, false, None, || core.try_close()) {
            // Somebody waits to write and the peer does not read: being polite is not possible.
            Err(error) if error.is_busy() => core.release(Err(Error::WOULD_BLOCK)),
            done => done,
        }
    }

    fn seek(&self, _: SeekFrom) -> Result<u64> {
        Err(Error::unsupported(self, "seek", Features::SEEKABLE))
    }

    fn readiness(&self, direction: Direction) -> Readiness {
        self.core.readiness(direction)
    }

    fn set_aio_fd_handler(&self, read: AioChange, write: AioChange) -> Result<()> {
        let core = &self.core;
        let set = [(Direction::Read, &read, Facts::READ_DONE), (Direction::Write, &write, Facts::WRITE_DONE)]
            .map(|(direction, change, over)| (direction, matches!(change, AioChange::Set(_)), over));
        let result = core.handlers.change(&*core.inner, read, write, |direction| core.event(direction));
        for (direction, set, over) in set {
            if set && core.facts.has(over) {
                core.handlers.schedule(direction);
            }
        }
        core.after_call();
        result
    }

    fn handshake(&self) -> Result<()> {
        let core = &self.core;
        let result = core.mode.run(self, Direction::Read, false, None, || core.try_handshake());
        core.after_call();
        result
    }

    fn with_read_buf(&self, take: &mut dyn FnMut(&[u8]) -> usize) -> Result<usize> {
        let result = self.core.try_lend(take);
        self.core.after_call();
        result
    }

    fn next_layer(&self) -> Option<&dyn Channel> {
        Some(&*self.core.inner)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
