//! A protocol of one's own in less than sixty lines: frames of a two-byte length and that many bytes, inverted.
//!
//! `tests/own_layer.rs` puts it through the conformance suite.
use channel_core::engine::{Decoded, Decoder, Encoder, Sink, Source, Stopped};
use channel_core::{Buffer, Channel, ChannelExt, Error, ErrorKind, Layered, Limits, MemoryChannel, Result};

/// How many bytes of the frame at hand are still to come.
pub struct InvertDecoder(usize);

impl Decoder for InvertDecoder {
    fn decode(&mut self, input: &mut [u8], sink: &mut Sink<'_, '_>) -> Result<Decoded> {
        let mut consumed = 0;
        let stopped = loop {
            if self.0 == 0 {
                let Some(header) = input[consumed..].first_chunk() else { break Stopped::NeedInput };
                self.0 = usize::from(u16::from_be_bytes(*header));
                consumed += header.len();
            } else if consumed == input.len() {
                break Stopped::NeedInput;
            } else if sink.is_full() {
                break Stopped::SinkFull;
            } else {
                let into = sink.space(self.0.min(input.len() - consumed));
                into.iter_mut().zip(&input[consumed..]).for_each(|(to, from)| *to = !from);
                let count = into.len();
                sink.commit(count);
                consumed += count;
                self.0 -= count;
            }
        };
        Ok(Decoded { consumed, stopped, reply: false })
    }

    fn end(&mut self, left: usize) -> Result<()> {
        match left + self.0 {
            0 => Ok(()),
            _ => Err(Error::new(ErrorKind::UnexpectedEof, "invert", "the stream ended inside a frame")),
        }
    }
}

/// Frames what is written.
pub struct InvertEncoder;

impl Encoder for InvertEncoder {
    fn encode(&mut self, source: &mut Source<'_, '_>, out: &mut Buffer) -> Result<()> {
        while !source.is_empty() {
            let count = source.chunk().len().min(self.unit());
            out.extend(&(count as u16).to_be_bytes());
            out.space(count).iter_mut().zip(source.chunk()).for_each(|(to, from)| *to = !from);
            out.commit(count);
            source.consume(count);
        }
        Ok(())
    }
}

/// The protocol over any channel.
pub fn invert(inner: Box<dyn Channel>, limits: Limits) -> Layered<InvertDecoder, InvertEncoder> {
    Layered::open("invert", inner, InvertDecoder(0), InvertEncoder, limits).unwrap()
}

fn main() -> Result<()> {
    let (near, far) = MemoryChannel::pair()?;
    let [near, far] = [near, far].map(|end| invert(Box::new(end), Limits::default()));
    near.write_all(b"a layer of one's own")?;
    near.close_write()?;
    let heard = std::io::read_to_string(far.std_io())?;
    println!("{} carried: {heard}", channel_core::describe(&far));
    Ok(())
}
