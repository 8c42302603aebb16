//! The time before data: a layer's handshake, on the reading side.

use std::io::IoSliceMut;
use std::time::{Duration, Instant};

use super::base::Base;
use super::core::{Core, Entered};
use super::engine::{Advance, Decoder, Encoder, Ending};
use super::reading::{End, FEW, LEAST_READ, Phase, Reader};
use super::state::Facts;
use crate::limits::deadline_in;
use crate::{Channel, Direction, Error, ErrorKind, ReadFlags, Result};

/// What is left of an unfinished message between two calls is kept in storage of its own size if it is no more than this: what begins a
/// handshake is no longer, and moving it for each byte that comes costs little.
const A_HELLO: usize = 16 * 1024;

impl<D: Decoder, E: Encoder> Core<D, E> {
    /// One attempt to open this layer and all below it.
    pub(super) fn try_handshake(&self, _: Entered) -> Result<()> {
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
                Err(reader.fail_handshake(self, self.error(ErrorKind::TimedOut, "handshake", detail)))
            }
            Err(error) => Err(reader.fail_handshake(self, error)),
        }
    }
}

impl<D: Decoder, E: Encoder> Reader<D, E> {
    /// One attempt to get the handshake done.
    pub(super) fn handshake(&mut self, base: &Base<E>, deadline: Instant) -> Result<()> {
        let mut ended = false;
        loop {
            let handshake = match &mut self.phase {
                Phase::Opening(handshake) => handshake,
                Phase::Leaving(..) => return self.leave(base, deadline),
                Phase::Open(_) => {
                    if !base.facts.has(Facts::OPEN) {
                        opens(base); // the channel below had to be opened
                    }
                    return Ok(());
                }
                Phase::Failed => {
                    return match &self.end {
                        Some(End::Failed(error)) => Err(error.clone()),
                        _ => Ok(()),
                    };
                }
            };
            let step = if Instant::now() >= deadline {
                let detail = "the handshake did not finish within Limits::handshake";
                let error = Error::new(ErrorKind::TimedOut, base.layer, detail);
                // The last word goes as far as it goes at once.
                let ((), _) = base.with_out(|out| handshake.abort(&error, out));
                Err(error)
            } else {
                let input = self.input.as_mut_slice();
                // Where the peer takes nothing, it may have said why: that is read before anything is made of it.
                let (step, _) = base.with_out(|out| {
                    let step = handshake.advance(input, ended, out);
                    base.facts.set(Facts::REFUSED, step.is_err() && !ended && !out.is_empty());
                    step
                });
                // A corked layer below keeps nothing of a handshake; what does not go now goes with the next attempt.
                let _ = base.inner.flush();
                step
            };
            match step {
                Ok(Advance::NeedInput { consumed }) => self.input.consume(consumed.min(self.input.len())),
                Ok(Advance::Open { consumed, decoder, encoder }) => {
                    self.input.consume(consumed.min(self.input.len()));
                    self.phase = Phase::Leaving(Box::new((decoder, encoder)));
                    base.facts.set(Facts::LEAVING, true);
                    return self.leave(base, deadline);
                }
                Err(error) => return Err(self.fail_handshake(base, error)),
            }
            if ended {
                let error = Error::new(ErrorKind::UnexpectedEof, base.layer, "the peer left during the handshake");
                return Err(self.fail_handshake(base, error));
            }
            ended = self.fill_handshake(base)?;
        }
    }

    /// Opens, once the last bytes of the handshake have left: the peer needs them, and nobody need call us again before it
    /// answers. What the engine sends after that (session tickets) waits for no one.
    fn leave(&mut self, base: &Base<E>, deadline: Instant) -> Result<()> {
        let ((), sent) = base.with_out(|_| ());
        let left = sent.and_then(|()| base.inner.flush());
        match left {
            Err(error) if error.is_passing() && Instant::now() < deadline => return Err(error),
            Err(error) if error.is_passing() => {
                let detail = "the peer did not take the end of the handshake within Limits::handshake";
                return Err(self.fail_handshake(base, Error::new(ErrorKind::TimedOut, base.layer, detail)));
            }
            Err(error) => return Err(self.fail_handshake(base, error)),
            Ok(()) => {}
        }
        base.facts.set(Facts::LEAVING, false);
        if let Phase::Leaving(halves) = std::mem::replace(&mut self.phase, Phase::Failed) {
            let (decoder, encoder) = *halves;
            debug_assert_eq!(encoder.ending(), base.nature.ending, "the ending of the handshake and of its encoder");
            self.lends &= decoder.decodes_lent();
            self.phase = Phase::Open(decoder);
            self.more = true;
            base.writing(|writer| writer.install(encoder));
            base.facts.set(Facts::HELD, !self.input.is_empty());
            self.input.shrink(FEW);
            opens(base);
            base.post_replies(); // as far as they go now
        }
        Ok(())
    }

    /// Reads more input for the handshake; says whether the inner channel ended.
    fn fill_handshake(&mut self, base: &Base<E>) -> Result<bool> {
        if self.input.len() >= base.limits.input_bytes {
            let detail = "a handshake message is longer than Limits::input_bytes";
            let error = Error::new(ErrorKind::LimitExceeded, base.layer, detail);
            if let Phase::Opening(handshake) = &mut self.phase {
                let ((), _) = base.with_out(|out| {
                    handshake.abort(&error, out);
                    base.facts.set(Facts::REFUSED, !out.is_empty());
                });
            }
            return Err(self.fail_handshake(base, error));
        }
        let mut into = [IoSliceMut::new(self.input.space(LEAST_READ))];
        match base.inner.readv_full(&mut into, None, ReadFlags::DONT_WAIT) {
            Ok(count) => {
                self.input.commit(count);
                self.heard |= count > 0;
                Ok(count == 0)
            }
            Err(error) if error.is_passing() => {
                self.input.shrink(A_HELLO); // there may be very many who have yet to say more
                Err(error)
            }
            Err(error) => Err(self.fail_handshake(base, error)),
        }
    }

    /// Ends the handshake, once, and everything with it; the error is what every later call reports.
    pub(super) fn fail_handshake(&mut self, base: &Base<E>, error: Error) -> Error {
        let error = base.annotate(error, "handshake");
        self.phase = Phase::Failed;
        self.fail(error.clone());
        self.input.release();
        base.writing(|writer| writer.refuse(&error, &base.facts));
        base.facts.set(Facts::HELD | Facts::LEAVING, false);
        base.facts.set(Facts::READ_DONE | Facts::OPEN, true);
        error
    }
}

/// The time before data is over, and that of calls begins.
fn opens<E: Encoder>(base: &Base<E>) {
    base.mode.begin(Direction::Read);
    base.mode.begin(Direction::Write);
    base.facts.set(Facts::SHAKES_HANDS, matches!(base.nature.ending, Ending::ClosingHandshake { .. }));
    base.facts.set(Facts::OPEN, true);
}
