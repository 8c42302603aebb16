//! Taking a layer off again: the channel below comes back, and with it what the layer had read ahead.

use std::sync::Arc;
use std::thread;

use super::Layered;
use super::core::Core;
use super::engine::{Decoder, Encoder};
use super::state::Facts;
use crate::{Channel, Direction, ErrorKind, GivenBack, Result};

/// What a layer was made of; made by [`Layered::into_parts`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Parts {
    /// The channel that the layer was put over.
    pub inner: Box<dyn Channel>,
    /// Plaintext that nobody has read.
    pub unread: Vec<u8>,
    /// Bytes of the channel below behind that, which the decoder did not take: those behind the end of the stream are the next protocol's, others
    /// are a part of a unit. What had come was decoded as far as it goes.
    pub undecoded: Vec<u8>,
}

impl<D: Decoder, E: Encoder> Layered<D, E> {
    /// Takes the layer off: gives back the channel below, and what the layer had read ahead of its callers. Nothing is sent, and what
    /// [`close_write`](Channel::close_write) has ended below stays ended. The channel below has the mode and the timeouts of the layer from now
    /// on; a socket takes no descriptors on reads that do not ask, as since it was taken over ([`Channel::take_over`]).
    ///
    /// Handlers, watches and tasks of the layer go; a call of a handler that is under way on another thread is waited for.
    ///
    /// # Errors
    /// The layer comes back as it was. [`InvalidInput`](ErrorKind::InvalidInput) while output has not gone or is gathered by a cork (call
    /// [`flush`](Channel::flush) first), and in the middle of the handshake, which has sent or taken bytes by then;
    /// [`WouldDeadlock`](ErrorKind::WouldDeadlock) inside a call of one of its handlers; [`Closed`](ErrorKind::Closed); what output that was
    /// taken was lost to.
    pub fn into_parts(self) -> Result<Parts, GivenBack<Self>> {
        if let Err(error) = self.core.change(|| self.core.check_parting()) {
            return Err(GivenBack::new(self, error));
        }
        let mut core = Arc::clone(&self.core);
        let removed = core.remove_handlers();
        drop(self);
        // None of them runs here, as was seen above.
        let _ = removed.wait();
        let core = loop {
            match Arc::try_unwrap(core) {
                Ok(core) => break core,
                Err(shared) => core = shared, // a timer of a limit that is calling us now, for a moment
            }
            thread::yield_now();
        };
        let Core { base, reader, .. } = core;
        base.inner.set_blocking(base.mode.is_blocking());
        for direction in [Direction::Read, Direction::Write] {
            let timeout = base.mode.timeout(direction);
            // One that was set here is none that anybody refuses.
            let _ = match direction {
                Direction::Read => base.inner.set_read_timeout(timeout),
                Direction::Write => base.inner.set_write_timeout(timeout),
            };
        }
        let (unread, undecoded) = match reader.into_inner() {
            Ok(reader) => reader.into_left(),
            Err(_) => Default::default(), // what a panic left is of no use
        };
        Ok(Parts { inner: base.inner, unread, undecoded })
    }
}

impl<D: Decoder, E: Encoder> Core<D, E> {
    /// Whether the layer can go without anything being lost.
    fn check_parting(&self) -> Result<()> {
        const OPERATION: &str = "into_parts";
        let facts = self.facts.load();
        if facts.contains(Facts::CLOSING) {
            return self.check_open(OPERATION);
        }
        if self.handlers.is_called_here() {
            let detail = "this is a handler of the layer, which cannot wait for its own end";
            return Err(self.error(ErrorKind::WouldDeadlock, OPERATION, detail));
        }
        if !facts.contains(Facts::OPEN) {
            let untouched =
                self.reading().is_ok_and(|reader| !reader.has_heard()) && self.writing(|it| it.sent_nothing());
            let detail = "its handshake is under way: let it complete, or close the channel";
            return if untouched { Ok(()) } else { Err(self.error(ErrorKind::InvalidInput, OPERATION, detail)) };
        }
        self.reading()?.decode_all(self); // which may leave replies
        self.writing(|writer| writer.check_lost()).map_err(|error| self.annotate(error, OPERATION))?;
        if self.writing(|writer| writer.holds()) {
            let detail = "output has not gone, or is gathered by a cork: flush first";
            return Err(self.error(ErrorKind::InvalidInput, OPERATION, detail));
        }
        Ok(())
    }
}
