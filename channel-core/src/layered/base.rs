//! What a layer is made of, but for its reading side and its handlers: what both sides share, and the writing side, which sends what
//! either of them leaves.

use std::io::{IoSlice, IoSliceMut};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use super::bounds::Bounds;
use super::closers::Closing;
use super::deciding::{Deadlines, Nature, is_silent};
use super::engine::Encoder;
use super::outbox::Outbox;
use super::state::{Facts, SharedFacts};
use super::writing::{Outlet, Writer};
use crate::limits::deadline_in;
use crate::{Buffer, Channel, Error, ErrorKind, Mode, Name, ReadFlags, Result, WaitQueue};

/// Pieces of 16 KiB that one attempt throws away: a peer that never stops sending gives other work a turn.
pub(super) const MOST_PIECES: usize = 16;

pub(super) struct Base<E> {
    pub(super) layer: &'static str,
    pub(super) inner: Box<dyn Channel>,
    pub(super) limits: Bounds,
    pub(super) nature: Nature,
    pub(super) name: Name,
    pub(super) mode: Mode,
    pub(super) facts: SharedFacts,
    pub(super) writer: Outbox<Writer<E>>,
    /// When the peer's silence behind our end has lasted too long.
    pub(super) silence: Mutex<Option<Instant>>,
    /// Threads that sleep until calls of others, or the inner channel, give them something to do.
    pub(super) sleepers: WaitQueue,
    /// Of a channel that somebody closes.
    pub(super) closing: OnceLock<Box<Closing>>,
}

impl<E: Encoder> Base<E> {
    pub(super) fn outlet(&self) -> Outlet<'_> {
        Outlet { layer: self.layer, inner: &*self.inner, facts: &self.facts, limits: &self.limits }
    }

    /// Runs `operation` on the writing side; replies that a reader left meanwhile follow.
    pub(super) fn writing<R>(&self, operation: impl FnOnce(&mut Writer<E>) -> R) -> R {
        let operation = |writer: &mut Writer<E>| {
            writer.heed_panic(self.layer, &self.facts);
            operation(writer)
        };
        self.writer.with(operation, |writer| self.tend(writer))
    }

    /// Pushes replies, and output left from earlier calls, as far as the inner channel takes them.
    fn tend(&self, writer: &mut Writer<E>) {
        writer.heed_panic(self.layer, &self.facts);
        // A failure is latched in the writing side, and reading goes on.
        let _ = writer.tend(self.outlet());
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

    pub(super) fn annotate(&self, error: Error, operation: &'static str) -> Error {
        if error.is_would_block() {
            return error;
        }
        error.during(operation).on(self.name.load())
    }

    /// An error of the kind `kind`, of this layer and `operation`.
    pub(super) fn error(&self, kind: ErrorKind, operation: &'static str, detail: &'static str) -> Error {
        self.annotate(Error::new(kind, self.layer, detail), operation)
    }

    pub(super) fn not_open(&self, operation: &'static str) -> Error {
        self.error(ErrorKind::NotOpen, operation, "its handshake has not completed: call handshake")
    }

    pub(super) fn check_open(&self, operation: &'static str) -> Result<()> {
        let facts = self.facts.load();
        if facts.intersects(Facts::CLOSING | Facts::CLOSED) {
            return Err(self.error(ErrorKind::Closed, operation, "close was called on it before"));
        }
        if !facts.contains(Facts::OPEN) {
            return Err(self.not_open(operation));
        }
        Ok(())
    }

    /// One attempt to write.
    pub(super) fn write(&self, bufs: &[IoSlice<'_>]) -> Result<usize> {
        self.check_open("write")?;
        let result = self.writing(|writer| writer.write(self.outlet(), bufs));
        result.map_err(|error| self.closed_meanwhile(error, "write"))
    }

    /// An error of output that was ended by `close` while the call was under way.
    pub(super) fn closed_meanwhile(&self, error: Error, operation: &'static str) -> Error {
        match self.check_open(operation) {
            Err(closed) if !error.is_would_block() => closed,
            _ => self.annotate(error, operation),
        }
    }

    /// Replies may have been left while we were at it: they count, for a reader may sleep by now who did not know of them.
    pub(super) fn all_sent(&self) -> Result<()> {
        if self.facts.has(Facts::UNSENT) { Err(Error::WOULD_BLOCK) } else { Ok(()) }
    }

    /// Throws away what the inner channel has; says whether that ended, well or badly.
    pub(super) fn discard_below(&self) -> bool {
        let mut piece = [0; 16 * 1024];
        for _ in 0..MOST_PIECES {
            match self.inner.readv_full(&mut [IoSliceMut::new(&mut piece)], None, ReadFlags::DONT_WAIT) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return !error.is_passing(),
            }
        }
        false
    }

    /// Notes whether the layer below has yet to push what we gave it: then that is what a writer waits for.
    pub(super) fn below(&self, result: Result<()>) -> Result<()> {
        self.facts.set(Facts::BELOW, matches!(&result, Err(error) if error.is_would_block()));
        result
    }

    /// Something came from the peer.
    pub(super) fn heard(&self) {
        if self.facts.has(Facts::AWAITS_END) {
            self.start_silence();
        }
    }

    pub(super) fn start_silence(&self) {
        *self.silence.lock().unwrap_or_else(PoisonError::into_inner) = Some(deadline_in(self.limits.linger));
    }

    /// When the peer's silence has lasted too long, where it is measured.
    pub(super) fn silence(&self, facts: Facts) -> Option<Instant> {
        let measured = facts.contains(Facts::AWAITS_END);
        if measured { *self.silence.lock().unwrap_or_else(PoisonError::into_inner) } else { None }
    }

    pub(super) fn is_silent_too_long(&self) -> bool {
        let facts = self.facts.load();
        let silence = self.silence(facts);
        silence.is_some() && is_silent(facts, Deadlines { silence, ..Deadlines::default() }, Instant::now())
    }

    /// Tells who sleeps what was left for them.
    pub(super) fn tell_sleepers(&self) {
        let news = self.facts.take_news();
        if !news.is_empty() {
            self.sleepers.wake(news);
        }
    }
}
