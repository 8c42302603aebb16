//! The reading side of a layer: decoding, what is held, and how the stream ended.

use std::cell::Cell;
use std::io::IoSliceMut;

use super::base::Base;
use super::engine::{Decoded, Decoder, Encoder, Handshake, Sink, Stopped};
use super::state::Facts;
use crate::{Buffer, Channel, Error, ErrorKind, Features, ReadFlags, Result};

/// What the reading side's lock guards.
pub(super) struct Reader<D, E> {
    pub(super) phase: Phase<D, E>,
    /// Bytes of the inner channel, not yet decoded.
    pub(super) input: Buffer,
    /// Plaintext nobody has taken yet.
    held: Buffer,
    /// Whether the decoder has not yet asked for more input than there is.
    pub(super) more: bool,
    /// How the stream ended, once it has; reported behind everything held.
    pub(super) end: Option<End>,
    /// Whether a handshake has had anything of the peer's.
    pub(super) heard: bool,
    /// Whether the inner channel lends what it has and the decoder, once there is one, takes that.
    pub(super) lends: bool,
}

pub(super) enum Phase<D, E> {
    Opening(Box<dyn Handshake<D, E>>),
    /// The handshake is complete; its last bytes have yet to leave.
    Leaving(Box<(D, E)>),
    Open(D),
    /// The handshake failed; `end` says why.
    Failed,
}

pub(super) enum End {
    Clean,
    /// By an error; a truncation among them can be taken as clean.
    Failed(Error),
}

/// Reads of the inner channel in one call that gave no plaintext, before the call gives other work a turn.
const FRUITLESS_READS: u32 = 64;
/// What is left of an unfinished unit between two calls, if it is no more than this, is kept in storage of its own size.
pub(super) const FEW: usize = 2 * 1024;
/// Least room for one read of the inner channel: more than a TLS record.
pub(super) const LEAST_READ: usize = 32 * 1024;

impl<D: Decoder, E: Encoder> Reader<D, E> {
    pub(super) fn opening(handshake: Box<dyn Handshake<D, E>>, inner: &dyn Channel) -> Self {
        Self::new(Phase::Opening(handshake), inner)
    }

    pub(super) fn open(decoder: D, inner: &dyn Channel) -> Self {
        let takes = decoder.decodes_lent();
        let reader = Self::new(Phase::Open(decoder), inner);
        Self { lends: reader.lends && takes, ..reader }
    }

    fn new(phase: Phase<D, E>, inner: &dyn Channel) -> Self {
        let lends = inner.features().contains(Features::READ_BUF);
        Self { phase, input: Buffer::new(), held: Buffer::new(), more: false, end: None, heard: false, lends }
    }

    /// One attempt to read into `bufs`.
    pub(super) fn read(&mut self, base: &Base<E>, bufs: &mut [IoSliceMut<'_>], relaxed: bool) -> Result<usize> {
        let mut held = std::mem::take(&mut self.held);
        let mut sink = Sink::slices(bufs, &mut held);
        let result = self.decode_into(base, &mut sink);
        self.held = held;
        self.conclude(base, result, relaxed)
    }

    /// One attempt to lend to `take`.
    pub(super) fn lend(&mut self, base: &Base<E>, take: &mut dyn FnMut(&[u8]) -> usize) -> Result<usize> {
        let mut held = std::mem::take(&mut self.held);
        let mut sink = Sink::lend(take, &mut held);
        let result = self.decode_into(base, &mut sink);
        self.held = held;
        self.conclude(base, result, false)
    }

    /// Publishes where this left the reading side, and turns the end into what the caller is told.
    fn conclude(&mut self, base: &Base<E>, result: Result<Step>, relaxed: bool) -> Result<usize> {
        let result = match result {
            Ok(Step::Gave(count)) => Ok(count),
            Ok(Step::Ended) => self.end_result(base, relaxed),
            Err(error) => {
                let error = if error.is_would_block() && base.is_silent_too_long() {
                    let detail = "nothing came from the peer for Limits::linger after our end, and its own is missing";
                    let error = base.annotate(Error::new(ErrorKind::TimedOut, base.layer, detail), "read");
                    self.fail(error.clone());
                    base.facts.set(Facts::SILENT, true);
                    error
                } else {
                    error
                };
                Err(error)
            }
        };
        // Nobody knows when the next call comes: an idle connection holds no memory.
        self.input.shrink(if self.end.is_some() { usize::MAX } else { FEW });
        self.held.release();
        let untold_end = self.end.is_some() && matches!(result, Ok(count) if count > 0);
        let more = !self.held.is_empty() || (self.more && self.end.is_none()) || untold_end;
        base.facts.set(Facts::HELD, more);
        base.facts.set(Facts::ENDED, matches!(self.end, Some(End::Clean)));
        base.facts.set(Facts::READ_DONE, self.end.is_some());
        result
    }

    fn end_result(&self, base: &Base<E>, relaxed: bool) -> Result<usize> {
        match &self.end {
            Some(End::Failed(error)) if !(error.is_truncated() && (relaxed || base.facts.has(Facts::SHUT_READ))) => {
                Err(error.clone())
            }
            _ => Ok(0),
        }
    }

    /// Decodes until the caller has something, the stream ends, or the inner channel has no more.
    fn decode_into(&mut self, base: &Base<E>, sink: &mut Sink<'_, '_>) -> Result<Step> {
        sink.drain_held();
        let mut fruitless = 0;
        loop {
            if self.more && self.end.is_none() && !sink.is_full() {
                self.decode(base, sink);
            }
            sink.drain_held(); // where decoding went there because the caller has no memory of its own: a lend
            if sink.filled() > 0 || sink.is_full() {
                return Ok(Step::Gave(sink.filled()));
            }
            if self.end.is_some() {
                return Ok(Step::Ended);
            }
            let is_full = self.input.len() >= base.limits.input_bytes; // which ends the stream, below
            if !is_full && (fruitless == FRUITLESS_READS || sink.turn_is_over()) {
                return Err(Error::WOULD_BLOCK); // what is left, here or below, says that it is there
            }
            fruitless += 1;
            if self.lends {
                self.fill_by_lending(base, sink)?;
            } else {
                self.fill(base)?;
            }
        }
    }

    /// One decoding step over the layer's own input.
    fn decode(&mut self, base: &Base<E>, sink: &mut Sink<'_, '_>) {
        let Phase::Open(decoder) = &mut self.phase else {
            self.more = false;
            return;
        };
        let result = decoder.decode(self.input.as_mut_slice(), sink);
        if let Ok(decoded) = &result {
            self.input.consume(decoded.consumed.min(self.input.len()));
        }
        self.note(base, result);
    }

    fn note(&mut self, base: &Base<E>, result: Result<Decoded>) {
        let reply = match result {
            Ok(decoded) => {
                self.more = decoded.stopped == Stopped::SinkFull;
                if decoded.stopped == Stopped::End {
                    self.end = Some(End::Clean); // what is behind it is nobody's, unless the layer is taken off
                }
                decoded.reply
            }
            Err(error) => {
                self.fail(base.annotate(error, "read"));
                true
            }
        };
        if reply {
            base.post_replies();
        }
    }

    pub(super) fn fail(&mut self, error: Error) {
        self.end = Some(End::Failed(error));
        self.more = false;
        self.input.clear();
    }

    /// Has the decoder look at what the inner channel holds, where it lies.
    fn fill_by_lending(&mut self, base: &Base<E>, sink: &mut Sink<'_, '_>) -> Result<()> {
        let Phase::Open(decoder) = &mut self.phase else {
            return Err(Error::WOULD_BLOCK);
        };
        if !self.input.is_empty() {
            return self.fill(base); // bytes in front of those; first come, first decoded
        }
        let input = &mut self.input;
        let mut seen = false;
        let mut all = false;
        let mut outcome: Option<Result<Decoded>> = None;
        let before = arrivals();
        let lent = base.inner.with_read_buf(&mut |bytes| {
            seen = true;
            let goes_on = match &outcome {
                None => true,
                Some(Ok(decoded)) => decoded.stopped == Stopped::NeedInput && input.is_empty(),
                Some(Err(_)) => false,
            };
            if !goes_on {
                return 0;
            }
            let replied = matches!(&outcome, Some(Ok(decoded)) if decoded.reply);
            match decoder.decode_lent(bytes, sink) {
                Err(error) => {
                    outcome = Some(Err(error));
                    bytes.len()
                }
                Ok(mut decoded) => {
                    decoded.reply |= replied;
                    let consumed = decoded.consumed.min(bytes.len());
                    outcome = Some(Ok(decoded));
                    if decoded.stopped == Stopped::NeedInput && consumed < bytes.len() {
                        input.extend(&bytes[consumed..]);
                        return bytes.len();
                    }
                    all = consumed == bytes.len();
                    consumed
                }
            }
        });
        if seen || arrivals() != before {
            ARRIVALS.set(before.wrapping_add(1));
            base.heard();
        }
        match lent {
            Ok(0) if !seen => self.inner_ended(base),
            Ok(_) => {}
            Err(error) => self.inner_failed(base, error)?,
        }
        if let Some(result) = outcome {
            self.note(base, result);
            // What the inner channel still holds is its to announce; ours is only what we copied.
            // A decoder that took all it saw and stopped for want of room has more inside.
            self.more &= all || !self.input.is_empty();
        }
        Ok(())
    }

    /// Reads from the inner channel into the layer's own input.
    fn fill(&mut self, base: &Base<E>) -> Result<()> {
        if self.input.len() >= base.limits.input_bytes {
            let detail = format!(
                "a unit of its protocol is longer than {} bytes; raise Limits::input_bytes if that is right",
                base.limits.input_bytes
            );
            self.fail(base.annotate(Error::new(ErrorKind::LimitExceeded, base.layer, detail), "read"));
            base.post_replies();
            return Ok(());
        }
        let space = self.input.space(LEAST_READ);
        let mut into = [IoSliceMut::new(space)];
        let before = arrivals();
        let read = base.inner.readv_full(&mut into, None, ReadFlags::DONT_WAIT);
        if matches!(read, Ok(1..)) || arrivals() != before {
            ARRIVALS.set(before.wrapping_add(1));
            base.heard();
        }
        match read {
            Ok(0) => self.inner_ended(base),
            Ok(count) => {
                self.input.commit(count);
                self.more = true;
            }
            Err(error) => self.inner_failed(base, error)?,
        }
        Ok(())
    }

    fn inner_ended(&mut self, base: &Base<E>) {
        let left = self.input.len();
        let Phase::Open(decoder) = &mut self.phase else { return };
        match decoder.end(left) {
            Ok(()) => self.end = Some(End::Clean),
            Err(error) => self.fail(base.annotate(error, "read")),
        }
    }

    fn inner_failed(&mut self, base: &Base<E>, error: Error) -> Result<()> {
        if error.is_passing() {
            return Err(error);
        }
        self.fail(base.annotate(error, "read"));
        Ok(())
    }

    /// Whether this layer has a handshake of its own to complete.
    pub(super) fn has_handshake(&self) -> bool {
        !matches!(self.phase, Phase::Open(_))
    }

    /// Whether the peer has ended its stream, if not as we would have it: would-block where it has not, and what kept it from that.
    pub(super) fn peer_ended(&self) -> Result<()> {
        match &self.end {
            None => Err(Error::WOULD_BLOCK),
            Some(End::Failed(error)) if error.kind() != ErrorKind::Refused => Err(error.clone()),
            Some(_) => Ok(()),
        }
    }

    /// Whether the peer is about to send something although its program says nothing.
    pub(super) fn is_owed(&self) -> bool {
        match &self.phase {
            Phase::Open(decoder) => self.end.is_none() && decoder.owed(),
            _ => false,
        }
    }

    /// Whether the handshake has had anything of the peer's.
    pub(super) fn has_heard(&self) -> bool {
        self.heard
    }

    /// Decodes all that has come, as far as it goes, into what is held.
    pub(super) fn decode_all(&mut self, base: &Base<E>) {
        let mut held = std::mem::take(&mut self.held);
        loop {
            let before = (self.input.len(), held.len());
            if !self.more || self.end.is_some() {
                break;
            }
            let mut take = |bytes: &[u8]| {
                held.extend(bytes);
                bytes.len()
            };
            let mut space = Buffer::new();
            let mut sink = Sink::lend(&mut take, &mut space);
            self.decode(base, &mut sink);
            sink.drain_held();
            if before == (self.input.len(), held.len()) {
                break; // a decoder that goes nowhere
            }
        }
        self.held = held;
        base.facts.set(Facts::HELD, !self.held.is_empty() || self.more || self.end.is_some());
        base.facts.set(Facts::ENDED, matches!(self.end, Some(End::Clean)));
        base.facts.set(Facts::READ_DONE, self.end.is_some());
    }

    /// What is left: plaintext, and what was not decoded.
    pub(super) fn into_left(self) -> (Vec<u8>, Vec<u8>) {
        (self.held.as_slice().to_vec(), self.input.as_slice().to_vec())
    }

    /// Frees what is held.
    pub(super) fn clear(&mut self) {
        for buffer in [&mut self.input, &mut self.held] {
            buffer.clear();
            buffer.release();
        }
        self.more = false;
    }
}

thread_local! {
    /// Counts reads of this thread that brought anything into a layer. What a layer below has read and cannot give yet, half a record, shows
    /// in nothing else; and a peer that sends that is not silent.
    static ARRIVALS: Cell<u64> = const { Cell::new(0) };
}

fn arrivals() -> u64 {
    ARRIVALS.get()
}

/// What one attempt came to.
enum Step {
    Gave(usize),
    Ended,
}
