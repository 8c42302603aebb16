//! The smallest protocol with a closing handshake there is, in either role: it keeps every promise, and so the suite knows what such a
//! protocol owes apart from what WebSocket does.

use channel_core::engine::{Decoded, Decoder, Encoder, Ending, Sink, Source, Stopped};
use channel_core::{Buffer, Channel, Error, ErrorKind, Layered, Limits, MemoryChannel, Result};
use channel_socket::SocketChannel;
use channel_testkit::suite::Options;

/// The name of the layer.
const LAYER: &str = "parting";
/// Pieces of up to so many bytes, with the count in front; a count of 0 is the end.
const MOST: usize = 255;

/// How many bytes of the piece at hand are still to come, and whether the end was.
#[derive(Default)]
struct PartingDecoder {
    left: usize,
    over: bool,
}

impl Decoder for PartingDecoder {
    fn decode(&mut self, input: &mut [u8], sink: &mut Sink<'_, '_>) -> Result<Decoded> {
        let mut rest = &*input;
        let stopped = loop {
            if self.over {
                break Stopped::End;
            }
            let Some((count, later)) = rest.split_first() else { break Stopped::NeedInput };
            if self.left == 0 {
                self.left = usize::from(*count);
                self.over = self.left == 0;
                rest = later;
                continue;
            }
            if sink.is_full() {
                break Stopped::SinkFull;
            }
            let (now, later) = rest.split_at(self.left.min(rest.len()));
            sink.put(now);
            self.left -= now.len();
            rest = later;
        };
        Ok(Decoded { consumed: input.len() - rest.len(), stopped, reply: false })
    }

    fn end(&mut self, _: usize) -> Result<()> {
        if self.over {
            return Ok(());
        }
        Err(Error::new(ErrorKind::UnexpectedEof, LAYER, "the peer left without its end"))
    }
}

struct PartingEncoder {
    ends_below: bool,
}

impl Encoder for PartingEncoder {
    fn encode(&mut self, source: &mut Source<'_, '_>, out: &mut Buffer) -> Result<()> {
        while !source.is_empty() {
            let piece = source.chunk();
            let piece = &piece[..piece.len().min(MOST)];
            out.extend(&[u8::try_from(piece.len()).unwrap_or(u8::MAX)]);
            out.extend(piece);
            source.consume(piece.len());
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Buffer) -> Result<()> {
        out.extend(&[0]);
        Ok(())
    }

    fn ending(&self) -> Ending {
        Ending::ClosingHandshake { ends_below: self.ends_below }
    }
}

fn parting(inner: impl Channel, ends_below: bool, limits: &Limits) -> Layered<PartingDecoder, PartingEncoder> {
    Layered::open(LAYER, Box::new(inner), PartingDecoder::default(), PartingEncoder { ends_below }, limits.clone())
        .unwrap()
}

type Pair = Result<(Layered<PartingDecoder, PartingEncoder>, Layered<PartingDecoder, PartingEncoder>)>;

fn over(leaves: Result<(impl Channel, impl Channel)>, near_ends_below: bool, options: &Options) -> Pair {
    let (near, far) = leaves?;
    let near = parting(options.behind_gate(near), near_ends_below, &options.limits);
    Ok((near, parting(far, !near_ends_below, &options.limits)))
}

fn memory(options: &Options) -> Result<(MemoryChannel, MemoryChannel)> {
    MemoryChannel::pair_with_capacity(if options.small_buffers { 1 } else { 64 * 1024 })
}

channel_testkit::conformance! {
    mod first_over_memory [gate, tells_a_cut] = |options: &Options| over(memory(options), true, options);
    mod second_over_memory [gate, tells_a_cut] = |options: &Options| over(memory(options), false, options);
    mod first_over_sockets [gate, tells_a_cut] in [blocking, tokio] = |options: &Options| over(SocketChannel::pair(), true, options);
    mod second_over_sockets [gate, tells_a_cut] in [non_blocking, event_loop] =
        |options: &Options| over(SocketChannel::pair(), false, options);
}
