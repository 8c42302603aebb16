//! A protocol of one's own in less than sixty lines: frames of a two-byte length and that many bytes, inverted.
//!
//! `tests/own_layer.rs` puts it through the conformance suite.
use channel_core::engine::{Decoded, Decoder, Encoder, Sink, Source, Stopped};
use channel_core::{Buffer, Channel, ChannelExt, Error, ErrorKind, Layered, Limits, MemoryChannel, Result};

/// How much of the frame at hand is still to come.
#[derive(Default)]
pub struct InvertDecoder {
    left: usize,
}

impl Decoder for InvertDecoder {
    fn decode(&mut self, input: &mut [u8], sink: &mut Sink<'_, '_>) -> Result<Decoded> {
        let mut consumed = 0;
        let stopped = loop {
            if self.left == 0 {
                let Some(header) = input[consumed..].first_chunk() else { break Stopped::NeedInput };
                self.left = usize::from(u16::from_be_bytes(*header));
                consumed += header.len();
            } else if consumed == input.len() {
                break Stopped::NeedInput;
            } else if sink.is_full() {
                break Stopped::SinkFull;
            } else {
                let into = sink.space(self.left.min(input.len() - consumed));
                into.iter_mut().zip(&input[consumed..]).for_each(|(to, from)| *to = !from);
                let count = into.len();
                sink.commit(count);
                consumed += count;
                self.left -= count;
            }
        };
        Ok(Decoded { consumed, stopped, reply: false })
    }

    fn end(&mut self, left: usize) -> Result<()> {
        if left + self.left == 0 {
            return Ok(());
        }
        Err(Error::new(ErrorKind::UnexpectedEof, "invert", "the stream ended inside a frame"))
    }
}

/// Frames what is written.
pub struct InvertEncoder;

impl Encoder for InvertEncoder {
    fn encode(&mut self, source: &mut Source<'_, '_>, out: &mut Buffer) -> Result<()> {
        while !source.is_empty() {
            let bytes = source.chunk();
            let bytes = &bytes[..bytes.len().min(self.unit())];
            out.extend(&(bytes.len() as u16).to_be_bytes());
            let into = &mut out.space(bytes.len())[..bytes.len()];
            into.iter_mut().zip(bytes).for_each(|(to, from)| *to = !from);
            out.commit(bytes.len());
            source.consume(bytes.len());
        }
        Ok(())
    }

    fn unit(&self) -> usize {
        32 * 1024
    }
}

/// The protocol over any channel.
pub fn invert(inner: Box<dyn Channel>) -> Layered<InvertDecoder, InvertEncoder> {
    Layered::open("invert", inner, InvertDecoder::default(), InvertEncoder, Limits::default())
}

fn main() -> Result<()> {
    let (near, far) = MemoryChannel::pair()?;
    let (near, far) = (invert(Box::new(near)), invert(Box::new(far)));
    near.write_all(b"a layer of one's own")?;
    near.close_write()?;
    let mut heard = String::new();
    std::io::Read::read_to_string(&mut far.std_io(), &mut heard)?;
    println!("{} carried: {heard}", channel_core::describe(&far));
    assert_eq!(heard, "a layer of one's own");
    Ok(())
}
