//! One attempt of everything a layer does: no waiting here, and no lock held beyond a call.

use std::any::Any;
use std::io::{IoSlice, IoSliceMut};
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::closing::Closing;
use super::engine::{Decoder, Encoder, Ending};
use super::handlers::{Event, Handlers};
use super::outbox::Outbox;
use super::reading::Reader;
use super::state::{Facts, SharedFacts};
use super::writing::{Outlet, Writer};
use crate::limits::deadline_in;
use crate::{
    Buffer, Channel, Direction, Error, ErrorKind, Features, Limits, Mode, Name, News, Readiness, Removed, Result,
    WaitQueue,
};

/// The limits that concern every layer; the others are its engine's.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) handshake: Duration,
    pub(super) linger: Duration,
    pub(super) queued_bytes: usize,
    pub(super) input_bytes: usize,
}

impl Bounds {
    pub(super) fn of(limits: &Limits) -> Self {
        let &Limits { handshake, linger, queued_bytes, input_bytes, .. } = limits;
        Self { handshake, linger, queued_bytes, input_bytes }
    }
}

/// What a layer is made of, shared with the callbacks it gives to event loops.
pub(super) struct Core<D, E> {
    pub(super) layer: &'static str,
    pub(super) inner: Box<dyn Channel>,
    pub(super) limits: Bounds,
    pub(super) features: Features,
    pub(super) ending: Ending,
    /// Whether a layer below has an end that asks for the peer's.
    pub(super) asks_below: bool,
    pub(super) name: Name,
    pub(super) mode: Mode,
    pub(super) facts: SharedFacts,
    pub(super) reader: Mutex<Reader<D, E>>,
    pub(super) writer: Outbox<Writer<E>>,
    pub(super) handlers: Handlers,
    pub(super) handshake_deadline: OnceLock<Instant>,
    /// When the peer's silence behind our end has lasted too long.
    pub(super) silence: Mutex<Option<Instant>>,
    /// Threads that sleep until calls of others, or the inner channel, give them something to do.
    pub(super) sleepers: WaitQueue,
    /// Of a channel that somebody closes.
    pub(super) closing: OnceLock<Box<Closing>>,
}

/// The reading side, locked.
pub(super) struct Reading<'a, D: Decoder, E: Encoder> {
    core: &'a Core<D, E>,
    reader: MutexGuard<'a, Reader<D, E>>,
    /// Whether the thread was unwinding before.
    panicking: bool,
}

impl<D: Decoder, E: Encoder> Deref for Reading<'_, D, E> {
    type Target = Reader<D, E>;

    fn deref(&self) -> &Reader<D, E> {
        &self.reader
    }
}

impl<D: Decoder, E: Encoder> DerefMut for Reading<'_, D, E> {
    fn deref_mut(&mut self) -> &mut Reader<D, E> {
        &mut self.reader
    }
}

impl<D: Decoder, E: Encoder> Drop for Reading<'_, D, E> {
    fn drop(&mut self) {
        if thread::panicking() && !self.panicking {
            self.core.lose_reader();
        }
    }
}

impl<D: Decoder, E: Encoder> Core<D, E> {
    pub(super) fn outlet(&self) -> Outlet<'_> {
        Outlet { layer: self.layer, inner: &*self.inner, facts: &self.facts, limits: &self.limits }
    }

    pub(super) fn reading(&self) -> Result<Reading<'_, D, E>> {
        let reader = self.reader.lock().map_err(|_| {
            let detail = "a panic inside the engine left its reading side in an unknown state";
            self.annotate(Error::new(ErrorKind::Internal, self.layer, detail), "read")
        })?;
        Ok(Reading { core: self, reader, panicking: thread::panicking() })
    }

    /// The reading side is of no use any more: whoever waits learns that from the next call.
    fn lose_reader(&self) {
        self.facts.set(Facts::HELD, false);
        self.facts.set(Facts::READ_DONE, true);
        self.tell_sleepers();
        self.handlers.schedule(Direction::Read);
    }

    /// Runs `operation` on the writing side; replies that a reader left meanwhile follow.
    pub(super) fn writing<R>(&self, operation: impl FnOnce(&mut Writer<E>) -> R) -> R {
        let operation = |writer: &mut Writer<E>| {
            let result = operation(writer);
            writer.tell_refusal(&self.facts);
            result
        };
        self.writer.with(operation, |writer| self.tend(writer))
    }

    /// Pushes replies, and output left from earlier calls, as far as the inner channel takes them.
    fn tend(&self, writer: &mut Writer<E>) {
        // A failure is latched in the writing side, and reading goes on.
        let _ = writer.tend(self.outlet());
        writer.tell_refusal(&self.facts);
        self.flush_below_a_cork();
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
    pub(super) fn push_unsent(&self) {
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

    pub(super) fn annotate(&self, error: Error, operation: &'static str) -> Error {
        if error.is_would_block() {
            return error;
        }
        error.during(operation).on(self.name.load())
    }

    pub(super) fn not_open(&self, operation: &'static str) -> Error {
        let detail = "call handshake first";
        self.annotate(Error::new(ErrorKind::NotOpen, self.layer, detail), operation)
    }

    pub(super) fn check_open(&self, operation: &'static str) -> Result<()> {
        let facts = self.facts.load();
        if facts.intersects(Facts::CLOSING | Facts::CLOSED) {
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
        let mut reader = self.reading()?;
        self.check_open("read")?; // what arrives from now on is the closers' to throw away
        reader.read(self, bufs, relaxed)
    }

    /// A panic of the caller's own is the caller's, to be resumed when the call has ended: nothing is taken, and the engine has no part in
    /// it.
    pub(super) fn try_lend(
        &self,
        take: &mut dyn FnMut(&[u8]) -> usize,
    ) -> (Result<usize>, Option<Box<dyn Any + Send>>) {
        let mut panicked = None;
        let mut guarded = |bytes: &[u8]| match panicked {
            Some(_) => 0,
            None => catch_unwind(AssertUnwindSafe(|| take(bytes))).unwrap_or_else(|panic| {
                panicked = Some(panic);
                0
            }),
        };
        let mut lend = || {
            self.check_open("read")?;
            self.push_unsent();
            let mut reader = self.reading()?;
            self.check_open("read")?;
            reader.lend(self, &mut guarded)
        };
        let lent = lend();
        (lent, panicked)
    }

    pub(super) fn try_write(&self, bufs: &[IoSlice<'_>]) -> Result<usize> {
        self.check_open("write")?;
        let result = self.writing(|writer| writer.write(self.outlet(), bufs));
        result.map_err(|error| self.closed_meanwhile(error, "write"))
    }

    /// An error of output that was ended by `close` while the call was under way.
    fn closed_meanwhile(&self, error: Error, operation: &'static str) -> Error {
        match self.check_open(operation) {
            Err(closed) if !error.is_would_block() => closed,
            _ => self.annotate(error, operation),
        }
    }

    /// Pushes what a write left here and in the layers below, which take it without waiting; blocking mode waits for this.
    pub(super) fn try_drain(&self) -> Result<()> {
        if self.closing.get().is_some_and(|closing| closing.is_late()) {
            return Ok(()); // what is left is the next attempt's to drop
        }
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
    pub(super) fn below(&self, result: Result<()>) -> Result<()> {
        self.facts.set(Facts::BELOW, matches!(&result, Err(error) if error.is_would_block()));
        result
    }

    pub(super) fn try_flush(&self) -> Result<()> {
        self.check_open("flush")?;
        self.writing(|writer| writer.flush(self.outlet())).map_err(|error| self.closed_meanwhile(error, "flush"))?;
        self.below(self.inner.flush()).map_err(|error| self.annotate(error, "flush"))?;
        self.all_sent()
    }

    pub(super) fn try_close_write(&self) -> Result<()> {
        self.check_open("close_write")?;
        self.end_output()
    }

    /// Sends what is held and our end, and ends the inner channel where that is due by now.
    pub(super) fn end_output(&self) -> Result<()> {
        let ended = self.writing(|writer| {
            if writer.has_ended() {
                return Ok(true);
            }
            writer.finish(self.outlet()).map(|()| false)
        });
        let told = |error| self.annotate(error, "close_write");
        if ended.map_err(told)? {
            return Ok(());
        }
        let at_once = match self.ending {
            Ending::Below => true,
            Ending::Own => self.inner.features().contains(Features::HALF_CLOSE),
            Ending::ClosingHandshake { .. } => false,
        };
        if at_once {
            self.below(self.inner.close_write()).map_err(told)?;
            self.writing(Writer::set_done);
            return Ok(());
        }
        self.below(self.inner.flush()).map_err(told)?;
        self.writing(Writer::set_sent);
        if matches!(self.ending, Ending::ClosingHandshake { .. }) {
            self.start_silence();
            self.facts.set(Facts::AWAITS_END, true);
        }
        self.facts.set(Facts::BELOW_OPEN, self.features.contains(Features::CLOSE_WRITE));
        Ok(())
    }

    /// Ends the inner channel behind our end, where both directions have ended; what cannot be done now is a later call's.
    fn end_below(&self) {
        let facts = self.facts.load();
        if !facts.contains(Facts::BELOW_OPEN | Facts::READ_DONE) || facts.contains(Facts::CLOSING) {
            return;
        }
        let waits = self.ending == Ending::ClosingHandshake { ends_below: false };
        if waits && !self.discard_below() {
            return;
        }
        if self.below(self.inner.close_write()).is_err_and(|error| error.is_would_block()) {
            return;
        }
        self.writing(Writer::set_done);
        // Read on: further down, too, there may be an end that asks for the other, and only calls from here bring it about.
        if (waits || self.discard_below()) && !self.asks_below {
            self.facts.set(Facts::BELOW_OPEN, false);
        }
    }

    /// Something came from the peer.
    pub(super) fn heard(&self) {
        if self.facts.has(Facts::AWAITS_END) {
            self.start_silence();
        }
    }

    fn start_silence(&self) {
        *self.silence.lock().unwrap_or_else(PoisonError::into_inner) = Some(deadline_in(self.limits.linger));
    }

    /// Until when the peer may be silent, where our end asks for its own.
    fn silence(&self, facts: Facts) -> Option<Instant> {
        if !facts.contains(Facts::AWAITS_END) || facts.intersects(Facts::READ_DONE | Facts::CLOSING) {
            return None;
        }
        *self.silence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_silent_too_long(&self) -> bool {
        self.silence(self.facts.load()).is_some_and(|until| until <= Instant::now())
    }

    pub(super) fn try_handshake(&self) -> Result<()> {
        if self.facts.has(Facts::CLOSING) {
            return self.check_open("handshake");
        }
        self.push_unsent();
        let mut reader = self.reading()?;
        let limit = if reader.has_handshake() { self.limits.handshake } else { Duration::MAX }; // the one below has its own
        let deadline = *self.handshake_deadline.get_or_init(|| deadline_in(limit));
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

    pub(super) fn readiness(&self, direction: Direction) -> Readiness {
        let ticket = self.sleepers.ticket(); // before the look at what the answer depends on
        let facts = self.facts.load();
        if facts.contains(Facts::CLOSING) && direction == Direction::Write && !facts.contains(Facts::CLOSED) {
            return self.closing_readiness(facts).with_ticket(ticket.heeding(News::all()));
        }
        let done = match direction {
            Direction::Read => Facts::CLOSING | Facts::HELD | Facts::READ_DONE,
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
        // In place: an answer is not small.
        let Readiness::Wait(interests) = &mut answer else { return answer };
        let (heeds, silence) = match direction {
            Direction::Write => (News::WRITE, None),
            Direction::Read if facts.intersects(Facts::UNSENT | Facts::LEAVING) => (News::READ, self.silence(facts)),
            Direction::Read => (News::READ | News::UNSENT, self.silence(facts)),
        };
        interests.add_ticket(ticket.heeding(heeds));
        let open = facts.contains(Facts::OPEN);
        let limit = if open { self.mode.limit(direction) } else { self.handshake_deadline.get().copied() };
        for deadline in silence.into_iter().chain(limit) {
            interests.add_deadline(deadline);
        }
        answer
    }

    /// Tells who sleeps what was left for them. Each call that may leave something ends with this, and so does a handler's push.
    fn tell_sleepers(&self) {
        let news = self.facts.take_news();
        if !news.is_empty() {
            self.sleepers.wake(news);
        }
    }
}

/// Handlers: what happens when the inner channel can make progress, and what every call does at its end.
impl<D: Decoder, E: Encoder> Core<D, E> {
    /// As [`after_call`](Self::after_call), unless the call was refused because the channel is not open: that is none, and a handler whose
    /// calls are all refused comes to rest.
    pub(super) fn after<T>(self: &Arc<Self>, result: &Result<T>) {
        let refused = result.as_ref().is_err_and(Error::is_not_open) && !self.facts.has(Facts::OPEN);
        if !refused {
            self.after_call();
        }
    }

    /// Has handlers called for what this call left: bytes held, an end not yet reported, output to push.
    pub(super) fn after_call(self: &Arc<Self>) {
        if self.facts.has(Facts::BELOW_OPEN) {
            self.end_below();
        }
        self.tell_sleepers(); // with a fence, where there are news: the look for handlers comes behind what they look at
        if !self.handlers.any() {
            return;
        }
        self.handlers.note_call(&*self.inner);
        let facts = self.facts.load();
        if facts.contains(Facts::HELD) {
            self.handlers.schedule(Direction::Read);
            if facts.contains(Facts::CLOSE_READS) && !facts.intersects(Facts::READ_DONE | Facts::CLOSED) {
                self.handlers.schedule(Direction::Write);
                self.handlers.schedule_closers();
            }
        }
        if facts.contains(Facts::WRITE_DONE) && !facts.contains(Facts::WRITE_TOLD) {
            self.facts.set(Facts::WRITE_TOLD, true);
            self.handlers.schedule(Direction::Write);
        }
        if self.rests(Direction::Read) {
            self.handlers.disarm_read(&*self.inner);
        }
        if self.rests(Direction::Write) {
            // Who waits for our end to leave need not be who sent the last of it.
            if self.handlers.disarm_push(&*self.inner, true, || !self.rests(Direction::Write)) {
                self.handlers.schedule(Direction::Write);
            }
        }
        if self.pushes() {
            self.handlers.arm_push(&*self.inner, |direction| self.event(direction));
        }
        let facts = self.facts.load();
        if facts.contains(Facts::CLOSE_READS) || facts.contains(Facts::BELOW_OPEN | Facts::READ_DONE) {
            self.handlers.arm_drain(&*self.inner, |direction| self.event(direction));
        }
        if self.mode.is_timed() {
            for direction in [Direction::Read, Direction::Write] {
                self.handlers.call_at(direction, || self.limit(self.facts.load(), direction));
            }
        }
        let deadline = self.deadline(facts);
        if deadline.is_some() || facts.contains(Facts::TIMED) {
            self.facts.set(Facts::TIMED, deadline.is_some());
            let core = Arc::downgrade(self);
            self.handlers.arm_deadline(deadline, move || {
                let Some(core) = core.upgrade() else { return };
                core.handlers.schedule(Direction::Read);
                core.handlers.schedule(Direction::Write);
                core.handlers.schedule_closers();
            });
        }
    }

    /// Whether the inner channel has yet to take what is here, or to push what it took of an ending.
    fn pushes(&self) -> bool {
        let facts = self.facts.load();
        facts.intersects(Facts::UNSENT | Facts::LEAVING | Facts::CLOSE_WRITES)
            || facts.contains(Facts::WRITE_DONE | Facts::BELOW)
    }

    /// Whether nothing that happens below can concern `direction` any more: what is left of it is here.
    pub(super) fn rests(&self, direction: Direction) -> bool {
        let facts = self.facts.load();
        match direction {
            Direction::Read if facts.contains(Facts::CLOSING) => !facts.contains(Facts::CLOSE_READS),
            Direction::Read => facts.contains(Facts::READ_DONE) && !facts.contains(Facts::BELOW_OPEN),
            Direction::Write => {
                let waits = Facts::UNSENT | Facts::BELOW | Facts::LEAVING | Facts::CLOSE_WRITES;
                facts.intersects(Facts::WRITE_DONE | Facts::CLOSING) && !facts.intersects(waits)
            }
        }
    }

    /// Removes all handlers, here and below, for good. Dropping what is returned may run anything.
    pub(super) fn remove_handlers(&self) -> Removed {
        self.handlers.remove_all(&*self.inner)
    }

    /// When the handler of `direction` is to be called because the time of a call has passed.
    fn limit(&self, facts: Facts, direction: Direction) -> Option<Instant> {
        let over = match direction {
            Direction::Read => facts.contains(Facts::READ_DONE),
            // Our end may have yet to leave: `close_write` waits for that.
            Direction::Write => facts.contains(Facts::WRITE_DONE) && !facts.intersects(Facts::UNSENT | Facts::BELOW),
        };
        let runs = facts.contains(Facts::OPEN) && !over && !facts.intersects(Facts::CLOSING | Facts::CLOSED);
        if runs { self.mode.limit(direction) } else { None }
    }

    /// When the limit runs out that is running now.
    fn deadline(&self, facts: Facts) -> Option<Instant> {
        if facts.contains(Facts::CLOSED) {
            return None;
        }
        let handshake = if facts.contains(Facts::OPEN) { None } else { self.handshake_deadline.get().copied() };
        let close = if facts.contains(Facts::CLOSING) { self.closing_deadline() } else { None };
        handshake.into_iter().chain(close).chain(self.silence(facts)).min()
    }

    pub(super) fn event(self: &Arc<Self>, direction: Direction) -> Event {
        let core = Arc::downgrade(self);
        Arc::new(move || {
            let Some(core) = core.upgrade() else { return };
            if direction == Direction::Write {
                core.push_unsent(); // for as long as there is something, this event is set, and tells who waits for it to be gone
                core.tell_sleepers();
            }
            if core.facts.has(Facts::CLOSING) {
                // Who closes waits for this, and may use the write handler for it; who reads or writes was told of the end.
                core.handlers.schedule(Direction::Write);
                core.handlers.schedule_closers();
                return;
            }
            let ends_below = core.facts.has(Facts::BELOW_OPEN | Facts::READ_DONE);
            if ends_below && direction == Direction::Read {
                core.after_call(); // goes on with the end below, and comes to rest when that is met
                return;
            }
            if direction == Direction::Write {
                if core.facts.has(Facts::WRITE_DONE) {
                    core.facts.set(Facts::BELOW, false); // an ending that still waits says so again
                }
                if ends_below {
                    core.end_below();
                }
                if !core.pushes() {
                    core.handlers.disarm_push(&*core.inner, false, || core.pushes());
                } else if core.facts.has(Facts::LEAVING) {
                    core.handlers.schedule(Direction::Read); // the handshake may have waited for nothing else
                }
            }
            core.handlers.run(direction, &*core.inner);
        })
    }
}
