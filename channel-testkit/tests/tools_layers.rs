//! Adverse channels over and under a layer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use channel_core::engine::{Decoded, Decoder, Encoder, Sink, Source, Stopped};
use channel_core::{
    AioChange, AioHandler, Buffer, Channel, ChannelExt, Layered, Limits, MemoryChannel, Result, describe, find_layer,
};
use channel_testkit::adverse::{self, HARMLESS};
use channel_testkit::recording::Recorder;
use channel_testkit::watchdog;

/// A protocol that inverts each byte, and decodes four at a time if it can, so that it holds some.
struct Invert;

impl Decoder for Invert {
    fn decode(&mut self, input: &mut [u8], sink: &mut Sink<'_, '_>) -> Result<Decoded> {
        Ok(invert(input, sink))
    }

    fn decodes_lent(&self) -> bool {
        true
    }

    fn decode_lent(&mut self, input: &[u8], sink: &mut Sink<'_, '_>) -> Result<Decoded> {
        Ok(invert(input, sink))
    }

    fn end(&mut self, _: usize) -> Result<()> {
        Ok(())
    }
}

fn invert(input: &[u8], sink: &mut Sink<'_, '_>) -> Decoded {
    let mut consumed = 0;
    for piece in input.chunks(4) {
        if sink.is_full() {
            return Decoded { consumed, stopped: Stopped::SinkFull, reply: false };
        }
        let inverted: Vec<u8> = piece.iter().map(|byte| !byte).collect();
        sink.put(&inverted);
        consumed += piece.len();
    }
    Decoded { consumed, stopped: Stopped::NeedInput, reply: false }
}

impl Encoder for Invert {
    fn pump(&mut self, _: &mut Buffer) -> Result<()> {
        Ok(())
    }

    fn encode(&mut self, source: &mut Source<'_, '_>, out: &mut Buffer) -> Result<()> {
        while !source.is_empty() {
            let chunk = source.chunk();
            let inverted: Vec<u8> = chunk.iter().map(|byte| !byte).collect();
            out.extend(&inverted);
            source.consume(chunk.len());
        }
        Ok(())
    }

    fn unit(&self) -> usize {
        4
    }

    fn finish(&mut self, _: &mut Buffer) -> Result<()> {
        Ok(())
    }
}

fn invert_layer(inner: Box<dyn Channel>) -> Box<dyn Channel> {
    Box::new(Layered::open("invert", inner, Invert, Invert, Limits::default()).unwrap())
}

fn content(count: usize) -> Vec<u8> {
    (0..count).map(|index| (index * 7 + index / 251) as u8).collect()
}

/// Each harmless wrapper over a layer over each harmless wrapper.
fn each_stack(capacity: usize, test: impl Fn(Box<dyn Channel>, Box<dyn Channel>, &str)) {
    for (outer_name, outer) in HARMLESS {
        for (inner_name, inner) in HARMLESS {
            let (near, far) = MemoryChannel::pair_with_capacity(capacity).unwrap();
            let near = outer(invert_layer(inner(Box::new(near))));
            test(near, invert_layer(Box::new(far)), &format!("{outer_name} / invert / {inner_name}"));
        }
    }
}

#[test]
fn a_layer_between_adverse_channels_carries_both_directions_at_once() {
    watchdog::run("a_layer_between_adverse_channels_carries_both_directions_at_once", || {
        let sent = content(5000);
        each_stack(100, |near, far, stack| {
            let read = |channel: &dyn Channel| {
                let mut received = vec![0; sent.len()];
                channel.read_all(&mut received).unwrap();
                assert_eq!(received, sent, "{stack}");
                assert_eq!(channel.read(&mut received).unwrap(), 0, "{stack}");
            };
            thread::scope(|scope| {
                scope.spawn(|| near.write_all(&sent).and_then(|()| near.close_write()).unwrap());
                scope.spawn(|| far.write_all(&sent).and_then(|()| far.close_write()).unwrap());
                scope.spawn(|| read(&near));
                scope.spawn(|| read(&far));
            });
        });
    });
}

#[test]
fn a_blocking_write_leaves_nothing_behind_in_the_layer_below() {
    watchdog::run("a_blocking_write_leaves_nothing_behind_in_the_layer_below", || {
        let sent = content(1000);
        each_stack(64 * 1024, |near, far, _| {
            // Not another call after this one.
            near.write_all(&sent).unwrap();
            let mut received = vec![0; sent.len()];
            far.read_all(&mut received).unwrap();
            assert_eq!(received, sent);
        });
    });
}

#[test]
fn corked_bytes_stay_until_uncorked() {
    watchdog::run("corked_bytes_stay_until_uncorked", || {
        each_stack(64 * 1024, |near, far, stack| {
            near.set_cork(true);
            near.write_all(b"held").unwrap();
            far.set_blocking(false);
            assert!(far.read(&mut [0; 8]).unwrap_err().is_would_block(), "{stack}");
            near.set_cork(false);
            near.flush().unwrap();
            let mut heard = [0; 4];
            far.read_all(&mut heard).unwrap();
            assert_eq!(&heard, b"held", "{stack}");
        });
    });
}

#[test]
fn a_handler_is_called_until_all_that_a_layer_holds_is_read() {
    watchdog::run("a_handler_is_called_until_all_that_a_layer_holds_is_read", || {
        let sent = content(300);
        each_stack(64 * 1024, |near, far, stack| {
            near.set_blocking(false);
            far.write_all(&sent).unwrap();
            let recorder = Recorder::new();
            let near = Arc::new(near);
            let (channel, received) = (Arc::clone(&near), Arc::new(Mutex::new(Vec::new())));
            let into = Arc::clone(&received);
            // One call for each call of the handler, and one byte at a time: the rest is held above a silent descriptor.
            let read = AioHandler::new(recorder.clone(), move || {
                let mut byte = [0];
                match channel.read(&mut byte) {
                    Ok(count) => into.lock().unwrap().extend_from_slice(&byte[..count]),
                    Err(error) => assert!(error.is_would_block(), "{error}"),
                }
            });
            near.set_aio_fd_handler(AioChange::Set(read), AioChange::Keep).unwrap();
            let done = recorder.turn_until(Duration::from_secs(20), || received.lock().unwrap().len() == sent.len());
            assert!(done.unwrap(), "{stack}: stopped after {} bytes", received.lock().unwrap().len());
            assert_eq!(*received.lock().unwrap(), sent);
            near.set_blocking(true);
            near.close().unwrap(); // the handler holds the channel
        });
    });
}

#[test]
fn output_that_a_layer_holds_leaves_by_handlers_alone() {
    watchdog::run("output_that_a_layer_holds_leaves_by_handlers_alone", || {
        let sent = content(2000);
        each_stack(50, |near, far, stack| {
            near.set_blocking(false);
            let recorder = Recorder::new();
            // Nobody wants to write any more, only to read.
            let read = AioHandler::new(recorder.clone(), || ());
            near.set_aio_fd_handler(AioChange::Set(read), AioChange::Keep).unwrap();
            let done = AtomicBool::new(false);
            thread::scope(|scope| {
                scope.spawn(|| {
                    let mut received = vec![0; sent.len()];
                    far.read_all(&mut received).unwrap();
                    assert_eq!(received, sent, "{stack}");
                    done.store(true, Ordering::SeqCst);
                });
                near.write_all(&sent).unwrap();
                while !done.load(Ordering::SeqCst) {
                    recorder.turn(Duration::from_millis(20)).unwrap();
                }
            });
        });
    });
}

#[test]
fn layers_below_are_found_and_described() {
    let (near, _far) = MemoryChannel::pair().unwrap();
    let near = adverse::one_byte(invert_layer(adverse::random_cuts(Box::new(near), 7)));
    assert!(find_layer::<MemoryChannel>(&near).is_some());
    assert!(find_layer::<Layered<Invert, Invert>>(&near).is_some());
    assert_eq!(describe(&near), "one-byte: one byte per call / invert / cuts: random cuts, seed 0x7 / memory");
}
