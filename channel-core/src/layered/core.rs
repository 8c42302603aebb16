//! One attempt of everything a layer does: no waiting here, and no lock held beyond a call.

use std::any::Any;
use std::io::{IoSlice, IoSliceMut};
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread;
use std::time::Instant;

use super::base::Base;
use super::deciding::{Deadlines, Waits, ends_below, heeds, is_timed, next_limit, patience, pushes, waits};
use super::engine::{Decoder, Encoder, Ending};
use super::handlers::{Event, Handlers};
use super::reading::Reader;
use super::state::Facts;
use super::writing::Writer;
use crate::{Direction, Error, ErrorKind, Features, Readiness, Removed, Result};

/// A layer, shared with the callbacks it gives to event loops.
pub(super) struct Core<D, E> {
    pub(super) base: Base<E>,
    pub(super) reader: Mutex<Reader<D, E>>,
    pub(super) handlers: Handlers,
    pub(super) handshake_deadline: OnceLock<Instant>,
}

impl<D, E> Deref for Core<D, E> {
    type Target = Base<E>;

    fn deref(&self) -> &Base<E> {
        &self.base
    }
}

/// Shows that a call is under way which will do at its end what each of them owes: only [`Core::enter`] makes it.
#[derive(Clone, Copy)]
pub(super) struct Entered(());

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
    /// Makes a call on the layer, and does what every call owes at its end, whatever it came to. One that was refused because the channel is
    /// not open is none, and a handler whose calls are all refused comes to rest.
    pub(super) fn enter<T>(
        self: &Arc<Self>,
        operation: &'static str,
        call: impl FnOnce(Entered) -> Result<T>,
    ) -> Result<T> {
        let result = call(Entered(()));
        let refused = result.as_ref().is_err_and(Error::is_not_open) && !self.facts.has(Facts::OPEN);
        if !refused {
            self.after_call();
        }
        result.map_err(|error| error.during(operation))
    }

    /// Changes what calls on the layer do, of which sleepers and handlers learn at its end.
    pub(super) fn change<R>(self: &Arc<Self>, change: impl FnOnce() -> R) -> R {
        let result = change();
        self.after_call();
        result
    }

    pub(super) fn reading(&self) -> Result<Reading<'_, D, E>> {
        let reader = self.reader.lock().map_err(|_| {
            let detail = "a panic inside the engine left its reading side in an unknown state";
            self.error(ErrorKind::Internal, "read", detail)
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

    pub(super) fn try_read(&self, _: Entered, bufs: &mut [IoSliceMut<'_>], relaxed: bool) -> Result<usize> {
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
        _: Entered,
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

    pub(super) fn try_write(&self, _: Entered, bufs: &[IoSlice<'_>]) -> Result<usize> {
        self.write(bufs)
    }

    /// Pushes what a write left here and in the layers below, which take it without waiting; blocking mode waits for this.
    pub(super) fn try_drain(&self, _: Entered) -> Result<()> {
        if self.closing.get().is_some_and(|closing| closing.is_late(Instant::now())) {
            return Ok(()); // what is left is the next attempt's to drop
        }
        if self.facts.has(Facts::UNSENT) {
            self.writing(|writer| writer.push_gathered(self.outlet(), false))?;
        }
        self.below(self.inner.flush())?;
        self.all_sent()
    }

    pub(super) fn try_flush(&self, _: Entered) -> Result<()> {
        self.check_open("flush")?;
        self.writing(|writer| writer.flush(self.outlet())).map_err(|error| self.closed_meanwhile(error, "flush"))?;
        self.below(self.inner.flush()).map_err(|error| self.annotate(error, "flush"))?;
        self.all_sent()
    }

    pub(super) fn try_close_write(&self, _: Entered) -> Result<()> {
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
        let at_once = match self.nature.ending {
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
        if matches!(self.nature.ending, Ending::ClosingHandshake { .. }) {
            self.start_silence();
            self.facts.set(Facts::AWAITS_END, true);
        }
        self.facts.set(Facts::BELOW_OPEN, self.nature.features.contains(Features::CLOSE_WRITE));
        Ok(())
    }

    /// Ends the inner channel behind our end, where both directions have ended; what cannot be done now is a later call's.
    fn end_below(&self) {
        if !ends_below(self.facts.load()) {
            return;
        }
        let waits = self.nature.leaves_the_end_below();
        if waits && !self.discard_below() {
            return;
        }
        if self.below(self.inner.close_write()).is_err_and(|error| error.is_would_block()) {
            return;
        }
        self.writing(Writer::set_done);
        // Read on: further down, too, there may be an end that asks for the other, and only calls from here bring it about.
        if (waits || self.discard_below()) && !self.nature.asks_below {
            self.facts.set(Facts::BELOW_OPEN, false);
        }
    }

    pub(super) fn readiness(&self, direction: Direction) -> Readiness {
        let ticket = self.sleepers.ticket(); // before the look at what the answer depends on
        let facts = self.facts.load();
        let mut answer = match waits(facts, direction) {
            Waits::No => return Readiness::Ready,
            Waits::Below(direction) => self.inner.readiness(direction),
            Waits::BelowEither => self.inner.readiness(Direction::Read).or(self.inner.readiness(Direction::Write)),
        };
        // In place: an answer is not small.
        let Readiness::Wait(interests) = &mut answer else { return answer };
        interests.add_ticket(ticket.heeding(heeds(facts, direction)));
        let own = self.limit(facts, direction);
        for deadline in patience(facts, direction, self.deadlines(facts)).into_iter().chain(own) {
            interests.add_deadline(deadline);
        }
        answer
    }

    /// When the time passes that the caller set for calls in `direction`.
    fn limit(&self, facts: Facts, direction: Direction) -> Option<Instant> {
        if is_timed(facts, direction) { self.mode.limit(direction) } else { None }
    }

    fn deadlines(&self, facts: Facts) -> Deadlines {
        Deadlines {
            handshake: self.handshake_deadline.get().copied(),
            silence: self.silence(facts),
            close: self.closing.get().and_then(|closing| closing.deadline()),
        }
    }

    /// What every call owes at its end: the end below, where it is due; word to who sleeps; and handlers called for what the call left.
    fn after_call(self: &Arc<Self>) {
        if self.facts.has(Facts::BELOW_OPEN) {
            self.end_below();
        }
        self.tell_sleepers(); // with a fence, where there are news: the look for handlers comes behind what they look at
        if !self.handlers.any() {
            return;
        }
        self.handlers.settle(&*self.inner, &self.facts, |direction| self.event(direction));
        let facts = self.facts.load();
        if self.mode.is_timed() {
            for direction in [Direction::Read, Direction::Write] {
                self.handlers.call_at(direction, || self.limit(self.facts.load(), direction));
            }
        }
        let deadline = next_limit(facts, self.deadlines(facts));
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

    /// Removes all handlers, here and below, for good. Dropping what is returned may run anything.
    pub(super) fn remove_handlers(&self) -> Removed {
        self.handlers.remove_all(&*self.inner)
    }

    /// What happens when the inner channel can make progress.
    pub(super) fn event(self: &Arc<Self>, direction: Direction) -> Event {
        let core = Arc::downgrade(self);
        Arc::new(move || {
            let Some(core) = core.upgrade() else { return };
            if direction == Direction::Write {
                core.push_unsent(); // for as long as there is something, this event is set, and tells who waits for it to be gone
                core.tell_sleepers();
            }
            let facts = core.facts.load();
            if facts.contains(Facts::CLOSING) {
                // Who closes waits for this, and may use the write handler for it; who reads or writes was told of the end.
                core.handlers.schedule(Direction::Write);
                core.handlers.schedule_closers();
                return;
            }
            if ends_below(facts) && direction == Direction::Read {
                core.after_call(); // goes on with the end below, and comes to rest when that is met
                return;
            }
            if direction == Direction::Write {
                if facts.contains(Facts::WRITE_DONE) {
                    core.facts.set(Facts::BELOW, false); // an ending that still waits says so again
                }
                core.end_below();
                let facts = core.facts.load();
                if !pushes(facts) {
                    core.handlers.disarm_push(&*core.inner, false, || pushes(core.facts.load()));
                } else if facts.contains(Facts::LEAVING) {
                    core.handlers.schedule(Direction::Read); // the handshake may have waited for nothing else
                }
            }
            core.handlers.run(direction, &*core.inner);
        })
    }
}
