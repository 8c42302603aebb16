//! DEFLATE (RFC 1951), flushed behind each write: the peer has all the plaintext before it has the last bits of a flush. A last
//! block ends the stream.

use channel_core::engine::{Decoded, Decoder, Encoder, Sink, Source, Stopped};
use channel_core::{Buffer, Channel, Error, ErrorKind, Layered, Limits, Result};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// The protocol over any channel.
pub(crate) fn deflate(inner: Box<dyn Channel>, limits: Limits) -> Layered<Inflate, Deflate> {
    let compress = Compress::new(Compression::fast(), false);
    Layered::open("deflate", inner, Inflate(Decompress::new(false)), Deflate(compress), limits).unwrap()
}

/// What one step of the compressor, or of the decompressor, puts out at most.
const PIECE: usize = 4096;

pub(crate) struct Inflate(Decompress);

impl Decoder for Inflate {
    fn decode(&mut self, input: &mut [u8], sink: &mut Sink<'_, '_>) -> Result<Decoded> {
        let mut consumed = 0;
        let stopped = loop {
            if sink.is_full() {
                break Stopped::SinkFull; // there may be more inside
            }
            let into = sink.space(PIECE);
            let room = into.len();
            let before = (self.0.total_in(), self.0.total_out());
            let status = self.0.decompress(&input[consumed..], into, FlushDecompress::None);
            let status = status.map_err(|error| failed(ErrorKind::Protocol, error))?;
            let produced = count(before.1, self.0.total_out());
            sink.commit(produced);
            consumed += count(before.0, self.0.total_in());
            match status {
                Status::StreamEnd => break Stopped::End,
                _ if produced < room && consumed == input.len() => break Stopped::NeedInput,
                _ => {}
            }
        };
        Ok(Decoded { consumed, stopped, reply: false })
    }

    fn end(&mut self, _: usize) -> Result<()> {
        Err(Error::new(ErrorKind::UnexpectedEof, "deflate", "the stream ended before its last block"))
    }
}

pub(crate) struct Deflate(Compress);

impl Deflate {
    /// Compresses `bytes` until `flush` is done.
    fn compress(&mut self, mut bytes: &[u8], flush: FlushCompress, out: &mut Buffer) -> Result<()> {
        loop {
            let before = (self.0.total_in(), self.0.total_out());
            let into = out.space(PIECE);
            let room = into.len();
            let status = self.0.compress(bytes, into, flush);
            status.map_err(|error| failed(ErrorKind::Internal, error))?;
            let produced = count(before.1, self.0.total_out());
            out.commit(produced);
            bytes = &bytes[count(before.0, self.0.total_in())..];
            if bytes.is_empty() && produced < room {
                return Ok(());
            }
        }
    }
}

impl Encoder for Deflate {
    fn encode(&mut self, source: &mut Source<'_, '_>, out: &mut Buffer) -> Result<()> {
        if source.is_empty() {
            return Ok(());
        }
        while !source.is_empty() {
            let count = source.chunk().len();
            self.compress(source.chunk(), FlushCompress::None, out)?;
            source.consume(count);
        }
        self.compress(&[], FlushCompress::Sync, out)
    }

    fn finish(&mut self, out: &mut Buffer) -> Result<()> {
        self.compress(&[], FlushCompress::Finish, out)
    }
}

fn failed(kind: ErrorKind, cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(kind, "deflate", cause.to_string()).with_source(cause)
}

/// How far a count went on.
fn count(before: u64, after: u64) -> usize {
    usize::try_from(after - before).expect("a step within memory")
}
