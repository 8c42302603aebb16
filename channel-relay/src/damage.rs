//! A layer that flips one bit of what goes through it, to see who above notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use channel_stack::engine::{Decoded, Decoder, Encoder, Sink, Source, Stopped};
use channel_stack::{Buffer, Channel, Layered, Limits, Result};

/// Whether the bit was flipped, and how far the stream has gone. Clones tell of the same channel, also when that is closed or dropped.
#[derive(Clone, Debug)]
pub(crate) struct Flip {
    at: u64,
    /// Bytes that have gone.
    gone: Arc<AtomicU64>,
}

impl Flip {
    /// Whether the byte went, changed.
    pub(crate) fn happened(&self) -> bool {
        self.gone() > self.at
    }

    /// How many bytes have gone so far.
    pub(crate) fn gone(&self) -> u64 {
        self.gone.load(Ordering::Acquire)
    }
}

/// Flips the lowest bit of the byte `at`, counted from 0, of what is written.
///
/// # Errors
/// What `inner` says against a layer over it.
pub(crate) fn flip_bit_at(inner: Box<dyn Channel>, at: u64, limits: Limits) -> Result<(Box<dyn Channel>, Flip)> {
    let flip = Flip { at, gone: Arc::default() };
    Ok((Box::new(Layered::open("damage", inner, Untouched, flip.clone(), limits)?), flip))
}

/// What is read.
struct Untouched;

impl Decoder for Untouched {
    fn decode(&mut self, input: &mut [u8], sink: &mut Sink<'_, '_>) -> Result<Decoded> {
        sink.put(input);
        Ok(Decoded { consumed: input.len(), stopped: Stopped::NeedInput, reply: false })
    }

    fn end(&mut self, _: usize) -> Result<()> {
        Ok(())
    }
}

impl Encoder for Flip {
    fn encode(&mut self, source: &mut Source<'_, '_>, out: &mut Buffer) -> Result<()> {
        let (start, gone) = (out.len(), self.gone());
        while !source.is_empty() {
            let chunk = source.chunk();
            out.extend(chunk);
            source.consume(chunk.len());
        }
        let new = &mut out.as_mut_slice()[start..];
        let ahead = self.at.checked_sub(gone).and_then(|ahead| usize::try_from(ahead).ok());
        if let Some(byte) = ahead.and_then(|ahead| new.get_mut(ahead)) {
            *byte ^= 1;
        }
        self.gone.store(gone + new.len() as u64, Ordering::Release);
        Ok(())
    }
}
