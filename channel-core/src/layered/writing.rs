//! The writing side of a layer: one ordered, bounded buffer of output, cork, and how our output ends.

use std::io::IoSlice;

use super::bounds::Bounds;
use super::engine::{Encoder, Source};
use super::outbox::AfterPanic;
use super::state::{Facts, SharedFacts};
use crate::{Buffer, Channel, Error, ErrorKind, Result, WriteFlags};

/// What the writing side's lock guards.
pub(super) struct Writer<E> {
    encoder: Option<E>,
    /// Encoded bytes on their way to the inner channel, in the order they were encoded.
    pub(super) out: Buffer,
    /// Plaintext gathered while corked.
    plain: Buffer,
    corked: bool,
    /// Whether what is gathered was to be flushed and had no room: it goes as if there were no cork.
    flushing: bool,
    end: End,
    /// Why writes fail, once they do.
    refusal: Option<Error>,
    /// Whether [`Encoder::pump`] may have something by now.
    replies_wait: bool,
    /// Whether [`Encoder::pump`] failed: it is not asked again, for its last word is in `out` already.
    pump_failed: bool,
    /// Whether `out` holds plaintext of the caller's, rather than replies and endings alone.
    out_has_data: bool,
    /// Whether bytes that were taken are known to be lost.
    lost: bool,
    /// Whether a panic of the engine left it in an unknown state.
    panicked: bool,
    /// Bytes that went to the inner channel so far.
    sent: u64,
}

/// How far our end is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    No,
    /// It is in `out`, or gone.
    Encoded,
    /// It has left through the channels below, which stay open.
    Sent,
    /// The inner channel's write side is ended too.
    Done,
}

/// Trying again would go on for ever.
fn took_nothing(inner: &dyn Channel) -> Error {
    Error::new(ErrorKind::Internal, inner.layer(), "a write of a non-empty buffer took nothing and was no error")
}

impl<E> AfterPanic for Writer<E> {
    fn after_panic(&mut self) {
        self.lost |= self.out_has_data || !self.plain.is_empty();
        self.encoder = None;
        self.out.clear();
        self.plain.clear();
        self.panicked = true;
    }
}

/// Where a writer's bytes go and what it publishes.
#[derive(Clone, Copy)]
pub(super) struct Outlet<'a> {
    pub(super) layer: &'static str,
    pub(super) inner: &'a dyn Channel,
    pub(super) facts: &'a SharedFacts,
    pub(super) limits: &'a Bounds,
}

/// Replies are put into `out` only while less than this waits there: a peer that does not read gets none.
const REPLIES_BELOW: usize = 4 * 1024;
/// Roughly what a corked layer gathers.
const CORK_BYTES: usize = 64 * 1024;
/// How many pieces of the caller's go to the inner channel in one call, behind a header.
const PIECES: usize = 32;

impl<E: Encoder> Writer<E> {
    pub(super) fn new(encoder: Option<E>) -> Self {
        Self {
            encoder,
            out: Buffer::new(),
            plain: Buffer::new(),
            corked: false,
            flushing: false,
            end: End::No,
            refusal: None,
            replies_wait: true, // an engine may have something to say at first
            pump_failed: false,
            out_has_data: false,
            lost: false,
            panicked: false,
            sent: 0,
        }
    }

    pub(super) fn install(&mut self, encoder: E) {
        self.encoder = Some(encoder);
    }

    pub(super) fn encoder(&mut self) -> Option<&mut E> {
        self.encoder.as_mut()
    }

    /// Whether bytes that were taken never reached the inner channel.
    pub(super) fn has_lost(&self) -> bool {
        self.lost || self.out_has_data || !self.plain.is_empty()
    }

    /// Whether anything has yet to leave: what is encoded, and what a cork gathers.
    pub(super) fn holds(&self) -> bool {
        !self.out.is_empty() || !self.plain.is_empty()
    }

    /// What is known to be lost of output that was taken, which no call may have told yet.
    pub(super) fn check_lost(&self) -> Result<()> {
        match &self.refusal {
            Some(error) if self.lost => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Whether the inner channel got nothing of us.
    pub(super) fn sent_nothing(&self) -> bool {
        self.sent == 0
    }

    /// Whether anything encoded has yet to reach the inner channel: data, replies or our end.
    pub(super) fn has_unsent(&self) -> bool {
        !self.out.is_empty()
    }

    /// From now on writes fail with `error`; what is encoded already (an alert, say) is still sent.
    pub(super) fn refuse(&mut self, error: &Error, facts: &SharedFacts) {
        if !self.plain.is_empty() {
            self.lost = true;
            self.plain.clear();
        }
        if self.refusal.is_none() {
            self.refusal = Some(error.clone());
        }
        facts.set(Facts::WRITE_DONE, true);
    }

    /// Has writes fail after a panic, which cannot do that itself.
    pub(super) fn heed_panic(&mut self, layer: &'static str, facts: &SharedFacts) {
        if self.panicked && self.refusal.is_none() {
            let detail = "a panic inside the engine left its writing side in an unknown state";
            self.refuse(&Error::new(ErrorKind::Internal, layer, detail), facts);
        }
    }

    /// Publishes what the last operation left, and gives storage back that holds nothing.
    fn publish(&mut self, facts: &SharedFacts) {
        if self.out.is_empty() {
            self.out_has_data = false;
        }
        self.out.release();
        self.plain.release();
        self.flushing &= !self.plain.is_empty();
        let unsent = !self.out.is_empty() || ((!self.corked || self.flushing) && !self.plain.is_empty());
        facts.set(Facts::UNSENT, unsent);
    }

    /// Sends what is encoded, and replies, as far as the inner channel takes them.
    ///
    /// `WouldBlock` where it does not take all.
    pub(super) fn push(&mut self, to: Outlet<'_>) -> Result<()> {
        self.replies_wait = true;
        let result = self.push_out(to);
        self.publish(to.facts);
        result
    }

    fn push_out(&mut self, to: Outlet<'_>) -> Result<()> {
        self.push_encoded(to)?;
        match &self.refusal {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    fn push_encoded(&mut self, to: Outlet<'_>) -> Result<()> {
        loop {
            if self.replies_wait && self.out.len() < REPLIES_BELOW && !self.pump_failed && self.end != End::Done {
                if let Some(encoder) = &mut self.encoder {
                    self.replies_wait = false;
                    if let Err(error) = encoder.pump(&mut self.out) {
                        self.pump_failed = true;
                        self.refuse(&error, to.facts);
                    }
                }
            }
            if self.out.is_empty() {
                return Ok(());
            }
            match to.inner.writev_full(&[IoSlice::new(self.out.as_slice())], &[], WriteFlags::DONT_WAIT) {
                Ok(0) => return Err(self.output_failed(took_nothing(to.inner), to)),
                Ok(count) => {
                    self.out.consume(count.min(self.out.len()));
                    self.sent += count as u64;
                }
                Err(error) if error.is_passing() => return Err(error),
                Err(error) => return Err(self.output_failed(error, to)),
            }
        }
    }

    /// The inner channel takes no more, ever.
    fn output_failed(&mut self, error: Error, to: Outlet<'_>) -> Error {
        let error = error.during("write");
        self.lost |= self.out_has_data;
        self.out.clear();
        self.out_has_data = false;
        self.refuse(&error, to.facts);
        error
    }

    /// As [`push_gathered`](Self::push_gathered), after somebody noted that there are replies.
    pub(super) fn tend(&mut self, to: Outlet<'_>) -> Result<()> {
        self.replies_wait = true;
        self.push_gathered(to, false)
    }

    /// Sends what is encoded and, unless corked or `all`, what cork gathered.
    pub(super) fn push_gathered(&mut self, to: Outlet<'_>, all: bool) -> Result<()> {
        let result = self.push_out(to).and_then(|()| {
            if self.plain.is_empty() || (self.corked && !all && !self.flushing) {
                return Ok(());
            }
            self.encode_gathered(to)?;
            self.push_out(to)
        });
        self.publish(to.facts);
        result
    }

    fn encode_gathered(&mut self, to: Outlet<'_>) -> Result<()> {
        let Some(encoder) = &mut self.encoder else { return Ok(()) };
        let pieces = [IoSlice::new(self.plain.as_slice())];
        let mut source = Source::new(&pieces, usize::MAX);
        let before = self.out.len();
        if let Err(error) = encoder.encode(&mut source, &mut self.out) {
            return Err(self.encoding_failed(error, before, to));
        }
        while !source.is_empty() {
            let chunk = source.chunk();
            self.out.extend(chunk);
            source.consume(chunk.len());
        }
        self.out_has_data = true;
        self.plain.clear();
        Ok(())
    }

    /// The encoder is in no state to go on: what it left half done is dropped, and writes fail from now on.
    fn encoding_failed(&mut self, error: Error, before: usize, to: Outlet<'_>) -> Error {
        self.out.truncate_by(self.out.len() - before);
        let error = error.during("write");
        self.refuse(&error, to.facts);
        error
    }

    fn writable(&self, layer: &'static str) -> Result<()> {
        if let Some(error) = &self.refusal {
            return Err(error.clone());
        }
        if self.encoder.is_none() {
            return Err(Error::new(ErrorKind::NotOpen, layer, "its handshake has not completed: call handshake"));
        }
        if self.end != End::No {
            return Err(Error::new(ErrorKind::BrokenPipe, layer, "our output was ended with close_write"));
        }
        Ok(())
    }

    /// One attempt to take bytes from `bufs`: how many were taken.
    pub(super) fn write(&mut self, to: Outlet<'_>, bufs: &[IoSlice<'_>]) -> Result<usize> {
        self.writable(to.layer)?;
        let result = if self.corked { self.gather(to, bufs) } else { self.send(to, bufs) };
        self.publish(to.facts);
        result
    }

    fn send(&mut self, to: Outlet<'_>, bufs: &[IoSlice<'_>]) -> Result<usize> {
        if !self.out.is_empty() || !self.plain.is_empty() {
            self.push_gathered(to, true)?;
        }
        self.encode_and_send(to, Source::new(bufs, to.limits.queued_bytes.max(1)))
    }

    fn gather(&mut self, to: Outlet<'_>, bufs: &[IoSlice<'_>]) -> Result<usize> {
        // Replies are the reader's to post; nothing is encoded here that they would have to precede.
        let pushed = if self.out.is_empty() { Ok(()) } else { self.push_out(to) };
        if let Err(error) = &pushed {
            if !error.is_passing() {
                return Err(error.clone());
            }
        }
        let room = CORK_BYTES.min(to.limits.queued_bytes).max(1);
        let unit = self.encoder.as_ref().map_or(1, |encoder| encoder.unit().clamp(1, room));
        let room = room / unit * unit;
        let mut source = Source::new(bufs, to.limits.queued_bytes.max(1));
        if self.plain.len() + source.len() < room {
            let count = source.len();
            self.copy_to_plain(&mut source, count);
            return Ok(count);
        }
        pushed?;
        if self.plain.is_empty() {
            let whole = source.len() / unit * unit;
            return self.encode_and_send(to, Source::new(bufs, whole));
        }
        let count = room - self.plain.len();
        self.copy_to_plain(&mut source, count);
        self.encode_gathered(to)?;
        // A failure is latched by now, and `count` bytes are taken.
        let _ = self.push_out(to);
        Ok(count)
    }

    fn copy_to_plain(&mut self, source: &mut Source<'_, '_>, count: usize) {
        let mut left = count;
        while left > 0 {
            let chunk = source.chunk();
            let here = chunk.len().min(left);
            self.plain.extend(&chunk[..here]);
            source.consume(here);
            left -= here;
        }
    }

    /// Encodes all of `source` and sends it; with nothing encoded in front of it.
    fn encode_and_send(&mut self, to: Outlet<'_>, mut source: Source<'_, '_>) -> Result<usize> {
        let Some(encoder) = &mut self.encoder else { return Ok(0) };
        let count = source.len();
        let before = self.out.len();
        if let Err(error) = encoder.encode(&mut source, &mut self.out) {
            return Err(self.encoding_failed(error, before, to));
        }
        let (sent, lost) = (self.sent, self.lost);
        self.out_has_data = true;
        match self.send_behind(to, source).and_then(|()| self.push_out(to)) {
            Err(error) if self.sent == sent && !error.is_passing() => {
                self.lost = lost; // the caller is told that nothing was taken
                Err(error)
            }
            _ => Ok(count),
        }
    }

    /// Sends `out` and then `source` as it is; a rest is copied to `out`, for its header has left.
    fn send_behind(&mut self, to: Outlet<'_>, mut source: Source<'_, '_>) -> Result<()> {
        while !source.is_empty() {
            let mut pieces = [IoSlice::new(&[]); PIECES];
            pieces[0] = IoSlice::new(self.out.as_slice());
            let mut ahead = source.clone();
            for piece in &mut pieces[1..] {
                let chunk = ahead.chunk();
                *piece = IoSlice::new(chunk);
                ahead.consume(chunk.len());
            }
            match to.inner.writev_full(&pieces, &[], WriteFlags::DONT_WAIT) {
                Ok(0) => return Err(self.output_failed(took_nothing(to.inner), to)),
                Ok(sent) => {
                    let header = self.out.len();
                    self.sent += sent as u64;
                    self.out.consume(sent.min(header));
                    source.consume(sent.saturating_sub(header).min(source.len()));
                }
                Err(error) if error.is_passing() => {
                    while !source.is_empty() {
                        let chunk = source.chunk();
                        self.out.extend(chunk);
                        source.consume(chunk.len());
                    }
                    return Ok(());
                }
                Err(error) => return Err(self.output_failed(error, to)),
            }
        }
        Ok(())
    }

    pub(super) fn flush(&mut self, to: Outlet<'_>) -> Result<()> {
        if self.end == End::No {
            self.writable(to.layer)?;
        }
        self.flushing = true;
        self.push_gathered(to, true)
    }

    pub(super) fn set_cork(&mut self, to: Outlet<'_>, cork: bool) {
        self.corked = cork;
        to.facts.set(Facts::CORKED, cork);
        if !cork && self.encoder.is_some() {
            // What does not go now goes with a later call; a failure is latched.
            let _ = self.push_gathered(to, true);
        }
        self.publish(to.facts);
    }

    /// Encodes our end, once, and pushes it; the inner channel's write side is the caller's to end.
    pub(super) fn finish(&mut self, to: Outlet<'_>) -> Result<()> {
        // What is encoded already leaves, and so do last words, where our end cannot be encoded any more.
        let encoded = self.encode_end(to);
        let result = self.push_out(to).and(encoded);
        self.publish(to.facts);
        match result {
            // The peer was gone before our goodbye (RFC 6455 §7.1.1 lets a server go once both have closed); none of the caller's
            // bytes were lost.
            Err(error) if error.is_disconnected() && !self.lost => Ok(()),
            result => result,
        }
    }

    fn encode_end(&mut self, to: Outlet<'_>) -> Result<()> {
        if self.end != End::No || self.refusal.is_some() {
            return Ok(());
        }
        if !self.plain.is_empty() {
            self.encode_gathered(to)?;
        }
        if let Some(encoder) = &mut self.encoder {
            if let Err(error) = encoder.pump(&mut self.out) {
                self.pump_failed = true;
                self.refuse(&error, to.facts);
                return Err(error);
            }
            let before = self.out.len();
            if let Err(error) = encoder.finish(&mut self.out) {
                return Err(self.encoding_failed(error, before, to));
            }
        }
        self.end = End::Encoded;
        to.facts.set(Facts::WRITE_DONE, true);
        Ok(())
    }

    /// Whether our end has left.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.end, End::Sent | End::Done)
    }

    /// Our end has left; the inner channel stays open.
    pub(super) fn set_sent(&mut self) {
        if self.end != End::Done {
            self.end = End::Sent;
        }
    }

    /// The inner channel is ended, too: nothing can follow.
    pub(super) fn set_done(&mut self) {
        self.end = End::Done;
    }

    /// Frees what is held.
    pub(super) fn clear(&mut self, facts: &SharedFacts) {
        self.out.clear();
        self.plain.clear();
        self.publish(facts);
    }
}
