//! The seam between a protocol and the machinery that moves its bytes.
//!
//! An engine is a protocol over byte slices, with no I/O, no locks and no waiting: a [`Decoder`] for what comes in, an
//! [`Encoder`] for what goes out, and, where the protocol has one, a [`Handshake`] that yields the two.
//! [`Layered`](super::Layered) does the rest. `examples/own_layer.rs` is a whole protocol in sixty lines.
//!
//! The decoder runs under the lock of the reading side, the encoder under that of the writing side, so one reader and one
//! writer never wait for each other. State that both need (a shared session, replies the decoder wants sent) is the engine's
//! own, behind a lock of its own that is held for memory work only. Hooks that an engine calls must not call the channel.

use std::fmt;
use std::io::{IoSlice, IoSliceMut};

use crate::{Buffer, Error, ErrorKind, Result};

/// How a protocol ends its streams, and so what [`Channel::close_write`](crate::Channel::close_write) does behind what the encoder's
/// [`finish`](Encoder::finish) gives, and what [`Channel::close`](crate::Channel::close) waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It has no end of its own: a stream ends where that of the channel below does, and `close_write` ends that at once, whatever
    /// [`finish`](Encoder::finish) sends.
    Below,
    /// Each direction has an end of its own, which says nothing of the other, as the close_notify of TLS (RFC 8446 §6.1). Over a channel
    /// without [`HALF_CLOSE`](crate::Features::HALF_CLOSE) that stays open until both directions have ended.
    Own,
    /// One end asks for the other, as the Close frames of WebSocket do (RFC 6455 §5.5.1, §7.1.1): the channel below is ended when both are
    /// through, and not right behind ours.
    ClosingHandshake {
        /// Whether this side then ends the channel below, rather than waiting for the peer to do so: the server, by custom. Where neither
        /// side does, every `close` costs a linger.
        ends_below: bool,
    },
}

/// The time before data.
///
/// When it returns an error the connection is over: what it put into `out` before that (an alert, an HTTP status) is still
/// sent, and every later call on the channel reports the error.
pub trait Handshake<D, E>: Send + 'static {
    /// Goes on with the bytes received so far and puts what is to be sent into `out`.
    ///
    /// Called first with no input. `ended` says that the peer sends nothing more. Bytes not consumed come again, with more
    /// behind them.
    ///
    /// # Errors
    /// Whatever ends the connection.
    fn advance(&mut self, input: &mut [u8], ended: bool, out: &mut Buffer) -> Result<Advance<D, E>>;

    /// Tells the handshake that `cause` ended it from outside (a deadline, a limit), and asks for a last word to the
    /// peer in its protocol.
    fn abort(&mut self, cause: &crate::Error, out: &mut Buffer);

    /// What [`ending`](Encoder::ending) of the encoder that it yields says; known from the start, for features are. A layer that has a
    /// handshake goes by this one, and builds with debug assertions panic where the two differ. The default is [`Ending::Below`].
    fn ending(&self) -> Ending {
        Ending::Below
    }
}

/// How far a handshake got.
#[derive(Debug)]
pub enum Advance<D, E> {
    /// It consumed so many bytes of input and needs more.
    NeedInput {
        /// Bytes consumed from the front of the input.
        consumed: usize,
    },
    /// It is complete; input that was not consumed is the decoder's.
    Open {
        /// Bytes consumed from the front of the input.
        consumed: usize,
        /// What decodes from now on.
        decoder: D,
        /// What encodes from now on.
        encoder: E,
    },
}

/// Turns received bytes into plaintext.
pub trait Decoder: Send + 'static {
    /// Decodes from the front of `input`, which it may overwrite, into `sink`, until the input is used up, the sink is full or
    /// the stream ends. Bytes not consumed come again, with more behind them. A protocol with units that may carry nothing asks
    /// [`Sink::begin_unit`] before each.
    ///
    /// # Errors
    /// Whatever ends the stream; plaintext already in the sink is delivered first, and replies are still sent.
    fn decode(&mut self, input: &mut [u8], sink: &mut Sink<'_, '_>) -> Result<Decoded>;

    /// Whether [`decode_lent`](Self::decode_lent) is there to be called; asked once, when the layer opens. The default is that it is not.
    fn decodes_lent(&self) -> bool {
        false
    }

    /// As [`decode`](Self::decode), from bytes the layer below lends and which must not be changed: saves a copy where the
    /// layer below holds them in memory. What it leaves although it needs more input is copied. It runs while the layers below hold the locks of
    /// their reading sides and of their engines, and calls nothing of theirs.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    fn decode_lent(&mut self, input: &[u8], sink: &mut Sink<'_, '_>) -> Result<Decoded> {
        let _ = (input, sink);
        Err(Error::new(ErrorKind::Internal, "engine", "decodes_lent is true, and decode_lent is missing").of_part())
    }

    /// The layer below ended, before the decoder said [`End`](Stopped::End). `left` is how many bytes were not consumed.
    ///
    /// # Errors
    /// [`UnexpectedEof`](crate::ErrorKind::UnexpectedEof) if the protocol does not allow its stream to end here.
    fn end(&mut self, left: usize) -> Result<()>;

    /// Whether the peer will send something by itself, whatever its program does, and none of that has come yet: session tickets, say.
    /// `close` waits for it within the linger, or for the peer's end: what reaches a socket that is gone makes the kernel reset
    /// the connection, and what the peer has yet to read is lost then. Asked between calls. The default is a protocol in which nothing is
    /// sent unasked.
    fn owed(&self) -> bool {
        false
    }
}

/// What one decoding step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes consumed from the front of the input.
    pub consumed: usize,
    /// Why it stopped.
    pub stopped: Stopped,
    /// Whether it left something for [`Encoder::pump`] to send: a pong, a key update, an alert.
    pub reply: bool,
}

/// Why a decoder stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It needs more input.
    NeedInput,
    /// The sink is full, or had no turn left for another unit ([`Sink::begin_unit`]); there may be more.
    SinkFull,
    /// The peer ended the stream cleanly; nothing more will come, and the decoder is not called any more.
    End,
}

/// Turns plaintext into bytes to send.
pub trait Encoder: Send + 'static {
    /// Puts replies the decoder left into `out`. Called after a decoder said [`reply`](Decoded::reply), after
    /// [`Layered::control`](crate::Layered::control), with the first write and before [`finish`](Self::finish); an engine whose
    /// replies have a place in the order of what it encodes puts them there itself. `out` holds whole results of earlier calls, so that no
    /// reply comes to lie inside a unit. While a peer takes nothing this is not called: what it can make us owe meanwhile is the engine's to
    /// bound, by a newer reply that replaces an older one, say, or [`LimitExceeded`](crate::ErrorKind::LimitExceeded). The default is a
    /// protocol without replies.
    ///
    /// # Errors
    /// Whatever ends our output.
    fn pump(&mut self, out: &mut Buffer) -> Result<()> {
        let _ = out;
        Ok(())
    }

    /// Encodes all of `source` into `out`; or a header into `out`, leaving the tail of `source` for the machinery to send
    /// behind it as it is, without a copy.
    ///
    /// # Errors
    /// Whatever ends our output; nothing of `source` counts as taken then.
    fn encode(&mut self, source: &mut Source<'_, '_>, out: &mut Buffer) -> Result<()>;

    /// Plaintext bytes that make a full unit of the protocol (a record, a frame). While corked, only full units are encoded.
    /// The default is 16 KiB.
    fn unit(&self) -> usize {
        16 * 1024
    }

    /// Puts the polite end of our output into `out`: close_notify, a Close frame. Called once. The default is a protocol that ends
    /// where the channel below does.
    ///
    /// # Errors
    /// Whatever ends our output.
    fn finish(&mut self, out: &mut Buffer) -> Result<()> {
        let _ = out;
        Ok(())
    }

    /// How the protocol ends; always the same answer. The default is [`Ending::Below`].
    fn ending(&self) -> Ending {
        Ending::Below
    }
}

/// Where a decoder puts plaintext: the caller's buffers, or the layer above that borrows it.
#[derive(Debug)]
pub struct Sink<'s, 'b> {
    target: Target<'s, 'b>,
    held: &'s mut Buffer,
    filled: usize,
    /// Units that may still be decoded in this call.
    units: u32,
}

/// Units of a protocol, frames or records, that one call decodes at most: a peer may send any number that carry nothing.
const UNITS: u32 = 1024;

enum Target<'s, 'b> {
    Slices { bufs: &'s mut [IoSliceMut<'b>], at: usize, room: usize },
    Lend { take: &'s mut dyn FnMut(&[u8]) -> usize, refused: bool },
}

impl fmt::Debug for Target<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slices { room, .. } => f.debug_struct("Slices").field("room", room).finish_non_exhaustive(),
            Self::Lend { refused, .. } => f.debug_struct("Lend").field("refused", refused).finish_non_exhaustive(),
        }
    }
}

impl<'s, 'b> Sink<'s, 'b> {
    /// A sink into `bufs`, each filled before the next; what does not fit goes to `held`.
    pub fn slices(bufs: &'s mut [IoSliceMut<'b>], held: &'s mut Buffer) -> Self {
        let room = bufs.iter().map(|buf| buf.len()).sum();
        let mut sink = Self { target: Target::Slices { bufs, at: 0, room }, held, filled: 0, units: UNITS };
        sink.skip_full();
        sink
    }

    /// A sink that hands bytes to `take`, which says how many it consumed; what it leaves goes to `held`.
    pub fn lend(take: &'s mut dyn FnMut(&[u8]) -> usize, held: &'s mut Buffer) -> Self {
        Self { target: Target::Lend { take, refused: false }, held, filled: 0, units: UNITS }
    }

    /// How many bytes reached the caller.
    #[must_use]
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// Whether anything reached the caller or waits for it: there is something to show for this call.
    #[must_use]
    pub fn has_some(&self) -> bool {
        self.filled > 0 || !self.held.is_empty()
    }

    /// Whether the caller wants no more for now. A decoder stops then; what it adds all the same is held.
    #[must_use]
    pub fn is_full(&self) -> bool {
        !self.held.is_empty()
            || match &self.target {
                Target::Slices { room, .. } => *room == 0,
                Target::Lend { refused, .. } => *refused,
            }
    }

    /// Counts a unit of the protocol, a frame or a record, that is about to be decoded. `false` where this call has decoded so many that
    /// others are to have their turn: the decoder then stops, with [`Stopped::SinkFull`], and goes on in the next call.
    pub fn begin_unit(&mut self) -> bool {
        let may = self.units > 0;
        self.units = self.units.saturating_sub(1);
        may
    }

    /// Whether the call is to end although nothing came of it.
    pub(crate) fn turn_is_over(&self) -> bool {
        self.units == 0
    }

    /// Adds plaintext; always all of it.
    pub fn put(&mut self, mut bytes: &[u8]) {
        if self.held.is_empty() {
            match &mut self.target {
                Target::Slices { .. } => {
                    while !bytes.is_empty() {
                        let into = self.space(bytes.len());
                        if into.is_empty() {
                            break;
                        }
                        let count = into.len();
                        let (now, later) = bytes.split_at(count);
                        into.copy_from_slice(now);
                        self.commit(count);
                        bytes = later;
                    }
                }
                Target::Lend { take, refused } => {
                    if !*refused && !bytes.is_empty() {
                        let count = take(bytes).min(bytes.len());
                        self.filled += count;
                        *refused = count < bytes.len();
                        bytes = &bytes[count..];
                    }
                }
            }
        }
        if !bytes.is_empty() {
            self.held.extend(bytes);
        }
    }

    /// The next piece of the caller's own memory, at most `most` bytes, to decode into without a copy; empty when full.
    /// [`commit`](Self::commit) what was filled in. A caller that borrows has no memory of its own and gets up to 64 KiB of the
    /// layer's.
    pub fn space(&mut self, most: usize) -> &mut [u8] {
        match &mut self.target {
            Target::Slices { bufs, at, .. } => match bufs.first_mut() {
                Some(buf) => {
                    let end = buf.len().min(at.saturating_add(most));
                    &mut buf[*at..end]
                }
                None => &mut [],
            },
            Target::Lend { refused, .. } => {
                let most = if *refused { 0 } else { most.min(64 * 1024) };
                &mut self.held.space(most)[..most]
            }
        }
    }

    /// Counts the first `count` bytes of the last [`space`](Self::space) as plaintext.
    pub fn commit(&mut self, count: usize) {
        match &mut self.target {
            Target::Slices { at, room, .. } => {
                *at += count;
                *room -= count;
                self.filled += count;
                self.skip_full();
            }
            Target::Lend { .. } => self.held.commit(count),
        }
    }

    /// Offers what is held to the caller, in front of anything newly decoded.
    pub(crate) fn drain_held(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let mut held = std::mem::take(self.held);
        let before = self.filled;
        self.put_part(held.as_slice());
        held.consume(self.filled - before);
        *self.held = held;
    }

    /// As `put`, but keeps nothing: what does not fit is the caller's still.
    fn put_part(&mut self, bytes: &[u8]) {
        match &mut self.target {
            Target::Slices { room, .. } => {
                let count = bytes.len().min(*room);
                self.put(&bytes[..count]);
            }
            Target::Lend { take, refused } => {
                if !*refused {
                    let count = take(bytes).min(bytes.len());
                    self.filled += count;
                    *refused = count < bytes.len();
                }
            }
        }
    }

    fn skip_full(&mut self) {
        if let Target::Slices { bufs, at, .. } = &mut self.target {
            while bufs.first().is_some_and(|buf| buf.len() == *at) {
                let rest = std::mem::take(bufs);
                *bufs = &mut rest[1..];
                *at = 0;
            }
        }
    }
}

/// Plaintext to encode, in the caller's own buffers.
#[derive(Clone)]
pub struct Source<'s, 'b> {
    bufs: &'s [IoSlice<'b>],
    at: usize,
    left: usize,
}

impl fmt::Debug for Source<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("len", &self.left).finish_non_exhaustive()
    }
}

impl<'s, 'b> Source<'s, 'b> {
    /// The first `most` bytes of `bufs`.
    #[must_use]
    pub fn new(bufs: &'s [IoSlice<'b>], most: usize) -> Self {
        let mut total = 0usize;
        for buf in bufs {
            total = total.saturating_add(buf.len());
        }
        let mut source = Self { bufs, at: 0, left: total.min(most) };
        source.skip_empty();
        source
    }

    /// How many bytes are left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.left
    }

    /// Whether none are left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// The next bytes that lie in one piece; empty only at the end.
    #[must_use]
    pub fn chunk(&self) -> &'s [u8] {
        match self.bufs.first() {
            Some(buf) if self.left > 0 => {
                // Through the slice itself, so that the bytes outlive this borrow of `self`.
                let bytes: &'s [u8] = buf;
                &bytes[self.at..bytes.len().min(self.at + self.left)]
            }
            _ => &[],
        }
    }

    /// Counts `count` bytes as taken.
    ///
    /// # Panics
    /// If fewer are left.
    pub fn consume(&mut self, mut count: usize) {
        assert!(count <= self.left, "consumed {count} of {} bytes", self.left);
        self.left -= count;
        while let Some(buf) = self.bufs.first() {
            let here = buf.len() - self.at;
            if count < here {
                self.at += count;
                break;
            }
            count -= here;
            self.bufs = &self.bufs[1..];
            self.at = 0;
        }
        self.skip_empty();
    }

    /// Takes the next `count` bytes, in one piece: where they lie, or gathered in `scratch`.
    ///
    /// # Panics
    /// If fewer are left.
    pub fn take<'t>(&mut self, count: usize, scratch: &'t mut Vec<u8>) -> &'t [u8]
    where
        's: 't,
    {
        let chunk = self.chunk();
        if chunk.len() >= count {
            self.consume(count);
            return &chunk[..count];
        }
        scratch.clear();
        while scratch.len() < count {
            let chunk = self.chunk();
            assert!(!chunk.is_empty(), "took more bytes than are left");
            let here = chunk.len().min(count - scratch.len());
            scratch.extend_from_slice(&chunk[..here]);
            self.consume(here);
        }
        scratch
    }

    fn skip_empty(&mut self) {
        while self.bufs.first().is_some_and(|buf| buf.len() == self.at) {
            self.bufs = &self.bufs[1..];
            self.at = 0;
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_behind_held_bytes_stays_behind_them() {
        let (mut taken, mut held) = (Vec::new(), Buffer::new());
        let mut take = |bytes: &[u8]| {
            taken.extend_from_slice(bytes);
            bytes.len()
        };
        let mut sink = Sink::lend(&mut take, &mut held);
        assert!(!sink.has_some());
        sink.space(3)[..3].copy_from_slice(b"abc");
        sink.commit(3); // into what is held: a borrower has no memory of its own
        assert!(sink.is_full() && sink.has_some());
        sink.put(b"de");
        sink.drain_held();
        assert!(!sink.is_full());
        sink.put(b"f");
        assert_eq!((sink.filled(), sink.has_some()), (6, true));
        assert_eq!((taken.as_slice(), held.len()), (&b"abcdef"[..], 0));
    }
}
