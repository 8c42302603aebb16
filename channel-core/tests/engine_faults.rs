//! An engine that panics ends its channel: later calls report it and never go on with a state nobody knows.

use std::panic::{AssertUnwindSafe, catch_unwind};

use channel_core::engine::{Decoded, Decoder, Encoder, Sink, Source, Stopped};
use channel_core::{Buffer, Channel, ChannelExt, ErrorKind, Layered, Limits, MemoryChannel, Result};

struct Fragile;

impl Decoder for Fragile {
    fn decode(&mut self, input: &mut [u8], sink: &mut Sink<'_, '_>) -> Result<Decoded> {
        assert_ne!(input, b"panic");
        sink.put(input);
        Ok(Decoded { consumed: input.len(), stopped: Stopped::NeedInput, reply: false })
    }

    fn end(&mut self, _: usize) -> Result<()> {
        Ok(())
    }
}

impl Encoder for Fragile {
    fn encode(&mut self, source: &mut Source<'_, '_>, out: &mut Buffer) -> Result<()> {
        out.extend(source.chunk());
        assert_ne!(source.chunk(), b"panic");
        source.consume(source.len());
        Ok(())
    }
}

fn pair() -> (Layered<Fragile, Fragile>, MemoryChannel) {
    let (near, far) = MemoryChannel::pair().unwrap();
    (Layered::open("fragile", Box::new(near), Fragile, Fragile, Limits::default()), far)
}

#[test]
fn a_panic_while_writing_is_reported_by_every_later_write_and_sends_nothing_half_done() {
    let (near, far) = pair();
    near.write_all(b"fine").unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| near.write(b"panic"))).is_err());
    for _ in 0..2 {
        assert_eq!(near.write(b"more").unwrap_err().kind(), ErrorKind::Internal);
        assert_eq!(near.flush().unwrap_err().kind(), ErrorKind::Internal);
    }
    far.write_all(b"back").unwrap();
    let mut heard = [0; 8];
    assert_eq!(near.read(&mut heard).unwrap(), 4, "reading goes on");
    near.shutdown(channel_core::Shutdown::Both).unwrap();
    assert_eq!(far.read(&mut heard).unwrap(), 4);
    assert_eq!(&heard[..4], b"fine");
    assert_eq!(far.read(&mut heard).unwrap(), 0);
}

#[test]
fn a_panic_while_reading_is_reported_by_every_later_read() {
    let (near, far) = pair();
    far.write_all(b"panic").unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| near.read(&mut [0; 8]))).is_err());
    assert_eq!(near.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::Internal);
    near.write_all(b"writing goes on").unwrap();
    near.close().unwrap();
}
