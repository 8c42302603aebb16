//! The plainest engine there is, for tests of what [`Layered`] does around engines.

#![allow(dead_code, reason = "each test binary uses a part")]

use channel_core::engine::{Decoded, Decoder, Encoder, Ending, Sink, Source, Stopped};
use channel_core::{Buffer, Channel, Layered, Limits, Result};

/// Passes bytes on as they are, in both directions.
pub(crate) struct Plain;

impl Decoder for Plain {
    fn decode(&mut self, input: &mut [u8], sink: &mut Sink<'_, '_>) -> Result<Decoded> {
        sink.put(input);
        Ok(Decoded { consumed: input.len(), stopped: Stopped::NeedInput, reply: false })
    }

    fn end(&mut self, _: usize) -> Result<()> {
        Ok(())
    }
}

impl Encoder for Plain {
    fn encode(&mut self, source: &mut Source<'_, '_>, out: &mut Buffer) -> Result<()> {
        while !source.is_empty() {
            let chunk = source.chunk();
            out.extend(chunk);
            source.consume(chunk.len());
        }
        Ok(())
    }
}

/// Ends the stream with a full stop, whatever the channel below has still to say; as an encoder it asks for the other end's.
pub(crate) struct FullStop;

impl Decoder for FullStop {
    fn decode(&mut self, input: &mut [u8], sink: &mut Sink<'_, '_>) -> Result<Decoded> {
        let end = input.iter().position(|byte| *byte == b'.');
        sink.put(&input[..end.unwrap_or(input.len())]);
        let stopped = if end.is_some() { Stopped::End } else { Stopped::NeedInput };
        Ok(Decoded { consumed: input.len(), stopped, reply: false })
    }

    fn end(&mut self, _: usize) -> Result<()> {
        Ok(())
    }
}

impl Encoder for FullStop {
    fn encode(&mut self, source: &mut Source<'_, '_>, out: &mut Buffer) -> Result<()> {
        Plain.encode(source, out)
    }

    fn finish(&mut self, out: &mut Buffer) -> Result<()> {
        out.extend(b".");
        Ok(())
    }

    fn ending(&self) -> Ending {
        Ending::ClosingHandshake { ends_below: true }
    }
}

/// Units of one byte that carry nothing.
pub(crate) struct Empties;

impl Decoder for Empties {
    fn decode(&mut self, input: &mut [u8], sink: &mut Sink<'_, '_>) -> Result<Decoded> {
        let taken = input.iter().take_while(|_| sink.begin_unit()).count();
        let stopped = if taken < input.len() { Stopped::SinkFull } else { Stopped::NeedInput };
        Ok(Decoded { consumed: taken, stopped, reply: false })
    }

    fn end(&mut self, _: usize) -> Result<()> {
        Ok(())
    }
}

/// Waits for the rest of a unit that is longer than anything.
pub(crate) struct NeverDone;

impl Decoder for NeverDone {
    fn decode(&mut self, _: &mut [u8], _: &mut Sink<'_, '_>) -> Result<Decoded> {
        Ok(Decoded { consumed: 0, stopped: Stopped::NeedInput, reply: false })
    }

    fn end(&mut self, _: usize) -> Result<()> {
        Ok(())
    }
}

/// A plain layer named `layer` over `inner`.
pub(crate) fn plain(layer: &'static str, inner: impl Channel) -> Layered<Plain, Plain> {
    Layered::open(layer, Box::new(inner), Plain, Plain, Limits::default()).unwrap()
}
