//! One attempt of everything a layer does: no waiting here, and no lock held beyond a call.

use std::io::{IoSlice, IoSliceMut};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use super::engine::{Decoder, Encoder};
use super::handlers::{Event, Handlers};
use super::outbox::Outbox;
use super::reading::Reader;
use super::state::{Facts, SharedFacts};
use super::writing::{Outlet, Writer};
use crate::{
    AioChange, Buffer, Channel, Direction, Error, ErrorKind, Features, Limits, Mode, Name, ReadFlags, Readiness,
    Result, Shutdown,
};

/// What a layer is made of, shared with the callbacks it gives to event loops.
pub(super) struct Core<D, E> {
    pub(super) layer: &'static str,
    pub(super) inner: Box<dyn Channel>,
    pub(super) limits: Limits,
    pub(super) features: Features,
    pub(super) name: Name,
    pub(super) mode: Mode,
    pub(super) facts: SharedFacts,
    pub(super) reader: Mutex<Reader<D, E>>,
    pub(super) writer: Outbox<Writer<E>>,
    pub(super) handlers: Handlers,
    pub(super) handshake_deadline: OnceLock<Instant>,
    pub(super) close_deadline: OnceLock<Instant>,
}

/// When a limit that starts now runs out; a limit beyond what the clock can tell is a century.
fn deadline_in(limit: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    let now = Instant::now();
    now.checked_add(limit).or_else(|| now.checked_add(CENTURY)).unwrap_or(now)
}

impl<D: Decoder, E: Encoder> Core<D, E> {
    pub(super) fn outlet(&self) -> Outlet<'_> {
        Outlet { layer: self.layer, inner: &*self.inner, facts: &self.facts, limits: &self.limits }
    }

    fn reading(&self) -> Result<MutexGuard<'_, Reader<D, E>>> {
        self.reader.lock().map_err(|_| {
            let detail = "a panic inside the engine left its reading side in an unknown state";
            self.annotate(Error::new(ErrorKind::Internal, self.layer, detail), "read")
        })
    }

    /// Runs `operation` on the writing side; replies that a reader left meanwhile follow.
    pub(super) fn writing<R>(&self, operation: impl FnOnce(&mut Writer<E>) -> R) -> R {
        self.writer.with(operation, |writer| self.tend(writer))
    }

    /// Pushes replies, and output left from earlier calls, as far as the inner channel takes them.
    fn tend(&self, writer: &mut Writer<E>) {
        // A failure is latched in the writing side, and reading goes on.
        let _ = writer.push_gathered(self.outlet(), false);
        self.release_under_handlers(writer);
        self.flush_below_a_cork();
    }

    /// Gives idle storage back where handlers are set: one that reads once for one event never meets would-block, which does
    /// this otherwise, and nobody may come for a long time.
    fn release_under_handlers(&self, writer: &mut Writer<E>) {
        if self.handlers.any() {
            writer.release();
        }
    }

    /// Replies are not kept in the cork of the layer below.
    pub(super) fn flush_below_a_cork(&self) {
        if self.facts.has(Facts::CORKED) {
            // What does not go now goes with a later call; a failure is latched there.
            let _ = self.inner.flush();
        }
    }

    /// Has the replies a decoder left sent: now, or by whoever is writing.
    pub(super) fn post_replies(&self) {
        self.writer.post(|writer| self.tend(writer));
    }

    /// Pushes what is left from earlier calls, without waiting for a writer that is at it.
    fn push_unsent(&self) {
        if self.facts.has(Facts::UNSENT) {
            self.post_replies();
        }
    }

    /// Lets a handshake fill the outgoing buffer, and pushes it: what `fill` gave, and whether all of the buffer has left.
    pub(super) fn with_out<R>(&self, fill: impl FnOnce(&mut Buffer) -> R) -> (R, Result<()>) {
        self.writing(|writer| {
            let result = fill(&mut writer.out);
            (result, writer.push(self.outlet()))
        })
    }

    pub(super) fn install(&self, encoder: E) {
        self.writing(|writer| writer.install(encoder));
    }

    pub(super) fn refuse_output(&self, error: &Error) {
        self.writing(|writer| writer.refuse(error, &self.facts));
    }

    pub(super) fn release_idle_output(&self) {
        self.writer.try_with(Writer::release, |writer| self.tend(writer));
    }

    pub(super) fn annotate(&self, error: Error, operation: &'static str) -> Error {
        if error.is_would_block() {
            return error;
        }
        error.during(operation).on(self.name.load())
    }

    pub(super) fn not_open(&self, operation: &'static str) -> Error {
        let detail = "its handshake has not completed; call handshake first";
        self.annotate(Error::new(ErrorKind::NotOpen, self.layer, detail), operation)
    }

    pub(super) fn check_open(&self, operation: &'static str) -> Result<()> {
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

    pub(super) fn try_read(&self, bufs: &mut [IoSliceMut<'_>], relaxed: bool) -> Result<usize> {
        self.check_open("read")?;
        self.push_unsent();
        self.reading()?.read(self, bufs, relaxed)
    }

    pub(super) fn try_lend(&self, take: &mut dyn FnMut(&[u8]) -> usize) -> Result<usize> {
        self.check_open("read")?;
        self.push_unsent();
        self.reading()?.lend(self, take)
    }

    pub(super) fn try_write(&self, bufs: &[IoSlice<'_>]) -> Result<usize> {
        self.check_open("write")?;
        let result = self.writing(|writer| {
            let result = writer.write(self.outlet(), bufs);
            self.release_under_handlers(writer);
            result
        });
        result.map_err(|error| self.annotate(error, "write"))
    }

    /// Pushes what a write left here and in the layers below, which take it without waiting; blocking mode waits for this.
    pub(super) fn try_drain(&self) -> Result<()> {
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

    pub(super) fn try_flush(&self) -> Result<()> {
        self.check_open("flush")?;
        self.writing(|writer| writer.flush(self.outlet())).map_err(|error| self.annotate(error, "flush"))?;
        self.below(self.inner.flush()).map_err(|error| self.annotate(error, "flush"))?;
        self.all_sent()
    }

    pub(super) fn try_close_write(&self) -> Result<()> {
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

    pub(super) fn try_handshake(&self) -> Result<()> {
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

    pub(super) fn try_close(&self) -> Result<()> {
        if self.facts.has(Facts::CLOSED) {
            return self.inner.close();
        }
        let deadline = *self.close_deadline.get_or_init(|| deadline_in(self.limits.linger));
        let in_time = Instant::now() < deadline;
        let ended =
            if self.facts.has(Facts::OPEN) { self.try_close_write() } else { self.below(self.inner.close_write()) };
        match ended {
            Err(error) if error.is_would_block() && in_time => Err(error),
            Err(error) if !error.is_would_block() => {
                // Our own stream ended badly; the layers below can still end theirs as they should.
                match self.below(self.inner.close_write()) {
                    Err(below) if below.is_would_block() && in_time => Err(below),
                    _ => self.release(Err(error)),
                }
            }
            Ok(()) if in_time => match self.try_close_below() {
                Err(error) if error.is_would_block() => Err(error),
                // It is told what closing below came to only once.
                closed => self.release(Ok(())).and(closed),
            },
            ended => self.release(ended),
        }
    }

    /// Closes the inner channel politely, where the peer has ended its stream: then it is about to end the layers below as well, and
    /// what it sends for that must not meet a socket that is gone, which answers with a reset and drops what we sent.
    fn try_close_below(&self) -> Result<()> {
        // Pieces of 16 KiB, 256 KiB in one attempt: a peer that never stops sending gives other work a turn.
        const MOST_PIECES: usize = 16;
        let facts = self.facts.load();
        // A peer that cannot end its output below ends there only when it closes, perhaps when we have. What `shutdown` cannot
        // end, `release` could not either.
        let ends = self.features.contains(Features::CLOSE_WRITE | Features::SHUTDOWN);
        if !ends || !facts.contains(Facts::ENDED) || facts.contains(Facts::SHUT_READ) {
            return Ok(());
        }
        // Our reader has no more business there.
        let drained = self.discard_below(MOST_PIECES);
        self.facts.set(Facts::DRAINING, !drained);
        if drained { self.below(self.inner.close()) } else { Err(Error::WOULD_BLOCK) }
    }

    /// Throws away what the inner channel has; says whether that ended, well or badly.
    fn discard_below(&self, most_pieces: usize) -> bool {
        let mut piece = [0; 16 * 1024];
        for _ in 0..most_pieces {
            match self.inner.readv_full(&mut [IoSliceMut::new(&mut piece)], None, ReadFlags::DONT_WAIT) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return !error.is_passing(),
            }
        }
        false
    }

    /// Lets go of everything, abruptly; `ended` is how far politeness got.
    pub(super) fn release(&self, ended: Result<()>) -> Result<()> {
        self.facts.set(Facts::CLOSED, true);
        // Without SHUTDOWN below, closing is what wakes its callers.
        let _ = self.inner.shutdown(Shutdown::Both);
        self.clear_handlers();
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

    pub(super) fn readiness(&self, direction: Direction) -> Readiness {
        let facts = self.facts.load();
        if direction == Direction::Write && facts.contains(Facts::DRAINING) && !facts.contains(Facts::CLOSED) {
            return self.inner.readiness(Direction::Read).with_deadline(self.close_deadline.get().copied());
        }
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
    pub(super) fn after_call(self: &Arc<Self>) {
        if !self.handlers.any() {
            return;
        }
        self.handlers.note_call(&*self.inner);
        let facts = self.facts.load();
        if facts.contains(Facts::HELD) {
            self.handlers.schedule(Direction::Read);
        }
        if facts.contains(Facts::WRITE_DONE) && !facts.contains(Facts::WRITE_TOLD) {
            self.facts.set(Facts::WRITE_TOLD, true);
            self.handlers.schedule(Direction::Write);
        }
        if self.rests(Direction::Read) {
            self.handlers.disarm_read(&*self.inner);
        }
        if self.rests(Direction::Write) {
            self.handlers.disarm_push(&*self.inner, true, || !self.rests(Direction::Write));
        }
        let facts = self.facts.load();
        if facts.intersects(Facts::UNSENT | Facts::LEAVING) || facts.contains(Facts::WRITE_DONE | Facts::BELOW) {
            self.handlers.arm_push(&*self.inner, |direction| self.event(direction));
        }
        if facts.contains(Facts::DRAINING) {
            self.handlers.arm_drain(&*self.inner, |direction| self.event(direction));
        }
        let deadline = self.deadline(facts);
        if deadline.is_some() || facts.contains(Facts::TIMED) {
            self.facts.set(Facts::TIMED, deadline.is_some());
            let core = Arc::downgrade(self);
            self.handlers.arm_deadline(deadline, move || {
                let Some(core) = core.upgrade() else { return };
                core.handlers.schedule(Direction::Read);
                core.handlers.schedule(Direction::Write);
            });
        }
    }

    /// Whether nothing that happens below can concern `direction` any more: what is left of it is here.
    pub(super) fn rests(&self, direction: Direction) -> bool {
        let facts = self.facts.load();
        match direction {
            Direction::Read => facts.contains(Facts::READ_DONE) && !facts.contains(Facts::DRAINING),
            Direction::Write => {
                let waits = Facts::UNSENT | Facts::BELOW | Facts::LEAVING;
                facts.contains(Facts::WRITE_DONE) && !facts.intersects(waits)
            }
        }
    }

    /// Removes both handlers, here and below.
    pub(super) fn clear_handlers(&self) {
        let nothing = |_| -> Event { Arc::new(|| {}) };
        // A loop that went first has nothing to clear.
        let _ = self.handlers.change(self.layer, &*self.inner, AioChange::Clear, AioChange::Clear, nothing, |_| false);
    }

    /// When the limit runs out that is running now.
    fn deadline(&self, facts: Facts) -> Option<Instant> {
        if facts.contains(Facts::CLOSED) {
            return None;
        }
        let handshake = if facts.contains(Facts::OPEN) { None } else { self.handshake_deadline.get().copied() };
        let close = self.close_deadline.get().copied();
        handshake.into_iter().chain(close).min()
    }

    pub(super) fn event(self: &Arc<Self>, direction: Direction) -> Event {
        let core = Arc::downgrade(self);
        Arc::new(move || {
            let Some(core) = core.upgrade() else { return };
            core.push_unsent();
            if direction == Direction::Read && core.facts.has(Facts::DRAINING) {
                core.handlers.schedule(Direction::Write); // who closes waits for that; who reads was told of the end
                return;
            }
            if direction == Direction::Write {
                let waits = || core.facts.load().intersects(Facts::UNSENT | Facts::LEAVING);
                if !waits() {
                    if core.facts.has(Facts::WRITE_DONE) {
                        core.facts.set(Facts::BELOW, false); // an ending that still waits says so again
                    }
                    core.handlers.disarm_push(&*core.inner, false, waits);
                } else if core.facts.has(Facts::LEAVING) {
                    core.handlers.schedule(Direction::Read); // the handshake may have waited for nothing else
                }
            }
            core.handlers.run(direction, &*core.inner);
        })
    }
}
