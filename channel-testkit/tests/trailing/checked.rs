//! Frames with a trailer: a two-byte length, so many bytes, and then their checksum of four. The stream ends where the one below does.

use channel_core::engine::{Decoded, Decoder, Encoder, Sink, Source, Stopped};
use channel_core::{Buffer, Channel, Error, ErrorKind, Layered, Limits, Result};

/// The protocol over any channel.
pub(crate) fn checked(inner: Box<dyn Channel>, limits: Limits) -> Layered<CheckedDecoder, CheckedEncoder> {
    let decoder = CheckedDecoder { left: 0, sum: Sum::new(), in_frame: false };
    Layered::open("checked", inner, decoder, CheckedEncoder, limits).unwrap()
}

/// FNV-1a, 32 bits wide (draft-eastlake-fnv §2).
#[derive(Clone, Copy, PartialEq, Eq)]
struct Sum(u32);

impl Sum {
    fn new() -> Self {
        Self(0x811c_9dc5)
    }

    fn add(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    }
}

pub(crate) struct CheckedDecoder {
    /// Bytes of the frame that are still to come, without its checksum.
    left: usize,
    /// Of those that came.
    sum: Sum,
    /// Between the length of a frame and the last byte of its checksum.
    in_frame: bool,
}

impl CheckedDecoder {
    fn step(&mut self, input: &[u8], sink: &mut Sink<'_, '_>) -> Result<Decoded> {
        let mut consumed = 0;
        let stopped = loop {
            let ahead = &input[consumed..];
            if !self.in_frame {
                let Some(length) = ahead.first_chunk() else { break Stopped::NeedInput };
                consumed += length.len();
                *self = Self { left: usize::from(u16::from_be_bytes(*length)), sum: Sum::new(), in_frame: true };
            } else if self.left == 0 {
                let Some(sum) = ahead.first_chunk() else { break Stopped::NeedInput };
                if self.sum != Sum(u32::from_be_bytes(*sum)) {
                    return Err(Error::new(ErrorKind::Protocol, "checked", "a checksum is wrong"));
                }
                consumed += sum.len();
                self.in_frame = false;
            } else if ahead.is_empty() {
                break Stopped::NeedInput;
            } else if sink.is_full() {
                break Stopped::SinkFull;
            } else {
                let into = sink.space(self.left.min(ahead.len()));
                let count = into.len();
                into.copy_from_slice(&ahead[..count]);
                sink.commit(count);
                self.sum.add(&ahead[..count]);
                consumed += count;
                self.left -= count;
            }
        };
        Ok(Decoded { consumed, stopped, reply: false })
    }
}

impl Decoder for CheckedDecoder {
    fn decode(&mut self, input: &mut [u8], sink: &mut Sink<'_, '_>) -> Result<Decoded> {
        self.step(input, sink)
    }

    fn decodes_lent(&self) -> bool {
        true
    }

    fn decode_lent(&mut self, input: &[u8], sink: &mut Sink<'_, '_>) -> Result<Decoded> {
        self.step(input, sink)
    }

    fn end(&mut self, left: usize) -> Result<()> {
        if left == 0 && !self.in_frame {
            return Ok(());
        }
        Err(Error::new(ErrorKind::UnexpectedEof, "checked", "the stream ended inside a frame"))
    }
}

pub(crate) struct CheckedEncoder;

impl Encoder for CheckedEncoder {
    fn encode(&mut self, source: &mut Source<'_, '_>, out: &mut Buffer) -> Result<()> {
        while !source.is_empty() {
            let count = source.chunk().len().min(self.unit());
            let (bytes, mut sum) = (&source.chunk()[..count], Sum::new());
            sum.add(bytes);
            out.extend(&u16::try_from(count).expect("a unit's length").to_be_bytes());
            out.extend(bytes);
            out.extend(&sum.0.to_be_bytes());
            source.consume(count);
        }
        Ok(())
    }
}
