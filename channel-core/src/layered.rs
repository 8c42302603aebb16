//! One place that moves bytes: every layer is an engine and this.
//!
//! * `reading` and `writing` are the two sides, each behind a lock of its own that is held for memory work and for calls to the
//!   inner channel that cannot sleep. Nothing is locked while a caller waits: waiting is [`Mode::run`]'s.
//! * `base` is what both share, and the writing side; `outbox` is that side's lock and the note a reader leaves when it finds it taken.
//! * `state` is what `readiness` and `shutdown` look at without a lock, `deciding` what it comes to: pure functions, a table each.
//! * `core` makes one attempt of everything, `opening` of the handshake, `closing` of the end; this file has the public face, which
//!   waits and tries again.
//! * `handlers` forwards event-loop handlers; `silence` is what they note of calls, apart from their locks.
//!
//! Locks are taken from the top layer down, and in a layer the reading side's before the writing side's, never the other way
//! round.

mod base;
mod bounds;
mod closers;
mod closing;
mod core;
mod deciding;
pub mod engine;
mod handlers;
mod opening;
mod outbox;
mod parts;
mod reading;
mod silence;
mod state;
mod writing;

use std::any::Any;
use std::fmt;
use std::io::{IoSlice, IoSliceMut, SeekFrom};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use self::core::Core;
use base::Base;
use bounds::Bounds;
use deciding::{Nature, rests};
use engine::{Decoder, Encoder, Ending, Handshake};
use handlers::Handlers;
use outbox::Outbox;
use reading::Reader;
use state::{Facts, SharedFacts};
use writing::Writer;

pub use parts::Parts;

use crate::refusal::{check, needed_to_read, needed_to_write};
use crate::{
    AioChange, Channel, Direction, Error, Features, Limits, Mode, Name, OverError, ReadFlags, Readiness, Removed,
    Result, Shutdown, WaitQueue, WriteFlags, layers,
};

/// A protocol over another channel: [`Channel`] implemented once for every [`engine`].
///
/// It owns the channel below, takes that over ([`Channel::take_over`]), puts it into non-blocking mode, and does all waiting itself. It adds
/// no thread.
pub struct Layered<D: Decoder, E: Encoder> {
    core: Arc<Core<D, E>>,
}

impl<D: Decoder, E: Encoder> Layered<D, E> {
    /// A layer of the kind `layer` (a lower-case noun) that is open from the start.
    ///
    /// `inner` is open, or opened by [`Channel::handshake`] on this layer.
    ///
    /// # Errors
    /// What [`Channel::take_over`] says against that; `inner` comes back.
    pub fn open(
        layer: &'static str,
        inner: Box<dyn Channel>,
        decoder: D,
        encoder: E,
        limits: Limits,
    ) -> Result<Self, OverError> {
        let reader = Reader::open(decoder, &*inner);
        let ending = encoder.ending();
        // Nothing is encoded that the channel below would refuse: the encoder could not take it back.
        let is_open = !inner.flush().is_err_and(|error| error.is_not_open());
        let mut facts = if is_open { Facts::OPEN } else { Facts::HELD };
        facts.set(Facts::SHAKES_HANDS, is_open && matches!(ending, Ending::ClosingHandshake { .. }));
        Self::new(layer, inner, reader, Some(encoder), ending, facts, limits)
    }

    /// A layer of the kind `layer` that opens with a handshake.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn with_handshake(
        layer: &'static str,
        inner: Box<dyn Channel>,
        handshake: Box<dyn Handshake<D, E>>,
        limits: Limits,
    ) -> Result<Self, OverError> {
        let ending = handshake.ending();
        let reader = Reader::opening(handshake, &*inner);
        // Somebody has to begin: until the handshake is first called, a reader has something to do.
        Self::new(layer, inner, reader, None, ending, Facts::HELD, limits)
    }

    fn new(
        layer: &'static str,
        inner: Box<dyn Channel>,
        reader: Reader<D, E>,
        encoder: Option<E>,
        ending: Ending,
        facts: Facts,
        limits: Limits,
    ) -> Result<Self, OverError> {
        inner.set_blocking(false);
        inner.take_over();
        // Whose time passes is this layer's to say; clearing them cannot fail.
        let _ = (inner.set_read_timeout(None), inner.set_write_timeout(None));
        let asks = |layer: &dyn Channel| {
            layer.features() & (Features::CLOSE_WRITE | Features::HALF_CLOSE) == Features::CLOSE_WRITE
        };
        let asks_below = layers(&*inner).any(asks);
        let mut features = (inner.features() & carried(ending)) | Features::READ_BUF;
        if ending == Ending::Own {
            features.set(Features::HALF_CLOSE, features.contains(Features::CLOSE_WRITE));
        }
        Ok(Self {
            core: Arc::new(Core {
                base: Base {
                    layer,
                    inner,
                    limits: Bounds::of(&limits),
                    nature: Nature { features, ending, asks_below },
                    name: Name::default(),
                    mode: Mode::default(),
                    facts: SharedFacts::new(facts),
                    writer: Outbox::new(Writer::new(encoder)),
                    silence: Mutex::default(),
                    sleepers: WaitQueue::default(),
                    closing: OnceLock::new(),
                },
                reader: Mutex::new(reader),
                handlers: Handlers::default(),
                handshake_deadline: OnceLock::new(),
            }),
        })
    }

    /// Runs `with` on the encoder for `operation`, which is what errors call it, under the lock of the writing side, then sends what that left for
    /// [`Encoder::pump`]: a ping, a key update. Never waits; what does not go now goes with a later call.
    ///
    /// # Errors
    /// [`NotOpen`](crate::ErrorKind::NotOpen) before the handshake has completed; [`Closed`](crate::ErrorKind::Closed); the error that ended
    /// our output.
    pub fn control<R>(&self, operation: &'static str, with: impl FnOnce(&mut E) -> Result<R>) -> Result<R> {
        let core = &self.core;
        core.enter(operation, |_| {
            core.check_open(operation)?;
            let result = core.writing(|writer| {
                let Some(encoder) = writer.encoder() else {
                    return Err(core.not_open(operation));
                };
                let result = with(encoder);
                let sent = writer.push(core.outlet());
                match (result, sent) {
                    (Ok(_), Err(error)) if !error.is_would_block() => Err(core.annotate(error, operation)),
                    (result, _) => result.map_err(|error| core.annotate(error, operation)),
                }
            });
            core.flush_below_a_cork();
            result
        })
    }

    /// Refuses what it never does \[D5\], and everything once it is closed \[S3\].
    fn may(&self, operation: &'static str, needed: Features) -> Result<()> {
        if self.core.facts.load().intersects(Facts::CLOSING | Facts::CLOSED) {
            return Err(Error::closed(self, operation));
        }
        check(self, operation, needed)
    }

    fn close_as_told(&self, deadline: Option<Instant>) -> Result<()> {
        let core = &self.core;
        core.mode.run_close(self, || core.enter("close", |call| core.try_close(call, deadline)))
    }
}

/// What a layer whose protocol ends so can do if the channel below can.
fn carried(ending: Ending) -> Features {
    let carried = Features::SHUTDOWN | Features::CLOSE_WRITE;
    if ending == Ending::Below { carried | Features::HALF_CLOSE } else { carried }
}

impl<D: Decoder, E: Encoder> Drop for Layered<D, E> {
    fn drop(&mut self) {
        if self.core.handlers.any() {
            drop(self.core.remove_handlers());
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
        self.core.nature.features
    }

    fn why_not(&self, feature: Features) -> Option<String> {
        let missing = feature - self.core.nature.features;
        if missing.is_empty() {
            return None;
        }
        if let Some(below) = self.core.inner.why_not(missing & carried(self.core.nature.ending)) {
            return Some(format!("the {} channel below cannot: {below}", self.core.inner.layer()));
        }
        if missing.contains(Features::HALF_CLOSE) {
            return Some(format!(
                "an end of a {} stream asks the peer for its own, unless options of the layer say otherwise",
                self.core.layer
            ));
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
        self.may("read", needed_to_read(fds.is_some(), flags))?;
        if bufs.iter().all(|buf| buf.is_empty()) {
            return Ok(0);
        }
        let relaxed = flags.contains(ReadFlags::RELAXED_EOF);
        let dont_wait = flags.contains(ReadFlags::DONT_WAIT);
        core.enter("read", |call| {
            core.mode.run(self, Direction::Read, dont_wait, || core.try_read(call, bufs, relaxed))
        })
    }

    fn writev_full(&self, bufs: &[IoSlice<'_>], fds: &[BorrowedFd<'_>], flags: WriteFlags) -> Result<usize> {
        let core = &self.core;
        self.may("write", needed_to_write(!fds.is_empty(), flags))?;
        if bufs.iter().all(|buf| buf.is_empty()) {
            return Ok(0);
        }
        let waits = core.mode.is_blocking() && !flags.contains(WriteFlags::DONT_WAIT);
        let deadline = if waits { core.mode.deadline(Direction::Write) } else { None };
        core.enter("write", |call| {
            let result = core.mode.run_until(self, Direction::Write, !waits, deadline, || core.try_write(call, bufs));
            if result.is_ok() && waits && !core.facts.has(Facts::CORKED) {
                // The bytes are taken: a failure to send them is latched, and the next call reports it. If it is the time that passes, they
                // leave later.
                let _ = core.mode.run_until(self, Direction::Write, false, deadline, || core.try_drain(call));
            }
            core.mode.note(self, Direction::Write, result)
        })
    }

    fn flush(&self) -> Result<()> {
        let core = &self.core;
        core.enter("flush", |call| core.mode.run(self, Direction::Write, false, || core.try_flush(call)))
    }

    fn set_blocking(&self, blocking: bool) {
        self.core.change(|| self.core.mode.set_blocking(blocking));
    }

    fn set_read_timeout(&self, timeout: Option<Duration>) -> Result<()> {
        self.core.change(|| self.core.mode.set_timeout(self, Direction::Read, timeout))
    }

    fn read_timeout(&self) -> Option<Duration> {
        self.core.mode.timeout(Direction::Read)
    }

    fn set_write_timeout(&self, timeout: Option<Duration>) -> Result<()> {
        self.core.change(|| self.core.mode.set_timeout(self, Direction::Write, timeout))
    }

    fn write_timeout(&self) -> Option<Duration> {
        self.core.mode.timeout(Direction::Write)
    }

    fn take_over(&self) {}

    fn set_delay(&self, delay: bool) {
        self.core.inner.set_delay(delay);
    }

    fn set_cork(&self, cork: bool) {
        let core = &self.core;
        core.change(|| {
            if cork {
                core.inner.set_cork(true);
            }
            core.writing(|writer| writer.set_cork(core.outlet(), cork));
            if !cork {
                core.inner.set_cork(false);
            }
        });
    }

    fn close_write(&self) -> Result<()> {
        let core = &self.core;
        core.enter("close_write", |call| core.mode.run(self, Direction::Write, false, || core.try_close_write(call)))
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
        self.close_as_told(None)
    }

    fn close_by(&self, deadline: Instant) -> Result<()> {
        self.close_as_told(Some(deadline))
    }

    fn seek(&self, _: SeekFrom) -> Result<u64> {
        self.may("seek", Features::SEEKABLE).map(|()| 0) // no layer has a position
    }

    fn readiness(&self, direction: Direction) -> Readiness {
        self.core.readiness(direction)
    }

    fn set_aio_fd_handler(&self, read: AioChange, write: AioChange) -> Result<Removed> {
        let core = &self.core;
        if matches!((&read, &write), (AioChange::Keep, AioChange::Keep)) {
            return core.inner.set_aio_fd_handler(read, write); // which changes nothing, and is no call
        }
        let sets = |change: &AioChange| matches!(change, AioChange::Set(_) | AioChange::Claim(_));
        let set =
            [(Direction::Read, sets(&read), Facts::READ_DONE), (Direction::Write, sets(&write), Facts::WRITE_DONE)];
        let closer = [&read, &write].iter().any(|change| matches!(change, AioChange::Closer(_)));
        let (event, rests) = (|direction| core.event(direction), |direction| rests(core.facts.load(), direction));
        core.change(|| {
            let closing = core.facts.has(Facts::CLOSING);
            let result = core.handlers.change(core.layer, &*core.inner, [read, write], event, rests, closing);
            for (direction, set, over) in set {
                if set && result.is_ok() {
                    core.mode.begin(direction);
                }
                if set && core.facts.load().intersects(over | Facts::CLOSING) {
                    core.handlers.schedule(direction);
                }
            }
            if closer && core.facts.has(Facts::CLOSING) {
                core.handlers.schedule_closers(); // what a new one missed
            }
            result
        })
    }

    fn handshake(&self) -> Result<()> {
        let core = &self.core;
        core.enter("handshake", |call| {
            core.mode.run_until(self, Direction::Read, false, None, || core.try_handshake(call))
        })
    }

    fn with_read_buf(&self, take: &mut dyn FnMut(&[u8]) -> usize) -> Result<usize> {
        let core = &self.core;
        let mut panicked = None;
        let result = core.enter("read", |call| {
            let result;
            (result, panicked) = core.try_lend(call, take);
            core.mode.note(self, Direction::Read, result)
        });
        match panicked {
            Some(panic) => resume_unwind(panic),
            None => result,
        }
    }

    fn next_layer(&self) -> Option<&dyn Channel> {
        Some(&*self.core.inner)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
