//! A layer that is taken off again.

mod support;

use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use channel_core::engine::{Advance, Decoded, Decoder, Handshake, Sink, Stopped};
use channel_core::{
    AioChange, AioHandler, Buffer, Channel, ChannelExt, Error, ErrorKind, EventLoop, Layered, Limits, MemoryChannel,
    Result,
};
use channel_testkit::watchdog;
use support::{FullStop, NeverDone, Plain, plain};

#[test]
fn what_is_behind_the_end_is_the_next_protocols_and_the_channel_below_goes_on() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let near = Layered::open("full stop", Box::new(near), FullStop, FullStop, Limits::default()).unwrap();
    far.write_all(b"to the end.").unwrap();
    near.read_all(&mut [0; 10]).unwrap();
    assert_eq!(near.read(&mut [0]).unwrap(), 0);
    let parts = near.into_parts().unwrap();
    assert_eq!((parts.unread, parts.undecoded), (Vec::new(), Vec::new()));
    far.write_all(b"in the clear").unwrap();
    let mut heard = [0; 12];
    parts.inner.read_all(&mut heard).unwrap();
    assert_eq!(&heard, b"in the clear");
    parts.inner.write_all(b"too").unwrap();
    far.read_all(&mut [0; 3]).unwrap();
}

#[test]
fn what_was_read_ahead_comes_back() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let near = plain("plain", near);
    far.write_all(b"read and unread").unwrap();
    near.read_all(&mut [0; 9]).unwrap();
    assert_eq!(near.into_parts().unwrap().unread, b"unread");

    let (near, far) = MemoryChannel::pair().unwrap();
    let near = Layered::open("unfinished", Box::new(near), NeverDone, Plain, Limits::default()).unwrap();
    near.set_blocking(false);
    far.write_all(b"half").unwrap();
    assert!(near.read(&mut [0]).unwrap_err().is_would_block());
    assert_eq!(near.into_parts().unwrap().undecoded, b"half");
}

#[test]
fn a_layer_with_output_that_has_not_gone_comes_back_and_is_as_usable() {
    let (near, far) = MemoryChannel::pair_with_capacity(4).unwrap();
    let near = plain("plain", near);
    near.set_cork(true);
    near.write_all(b"cork").unwrap();
    let refused = near.into_parts().unwrap_err();
    assert_eq!(refused.error.kind(), ErrorKind::InvalidInput, "{refused}");
    let near = refused.given;
    near.set_cork(false);
    near.set_blocking(false);
    assert_eq!(near.write(b"more").unwrap(), 4); // which have no room below
    let near = near.into_parts().unwrap_err().given;
    far.read_all(&mut [0; 4]).unwrap();
    near.flush().unwrap();
    far.read_all(&mut [0; 4]).unwrap();
    near.into_parts().unwrap();
}

#[test]
fn a_closed_layer_has_nothing_to_give_back() {
    let near = plain("plain", MemoryChannel::pair().unwrap().0);
    near.close().unwrap();
    assert!(near.into_parts().unwrap_err().error.is_closed());
}

/// Greets, and waits for a greeting.
struct Greets;

impl Handshake<Plain, Plain> for Greets {
    fn advance(&mut self, input: &mut [u8], _: bool, out: &mut Buffer) -> Result<Advance<Plain, Plain>> {
        if input.is_empty() {
            out.extend(b"hello");
            return Ok(Advance::NeedInput { consumed: 0 });
        }
        Ok(Advance::Open { consumed: input.len(), decoder: Plain, encoder: Plain })
    }

    fn abort(&mut self, _: &Error, _: &mut Buffer) {}
}

#[test]
fn in_the_middle_of_a_handshake_a_layer_stays_where_it_is() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let near = Layered::with_handshake("greets", Box::new(near), Box::new(Greets), Limits::default()).unwrap();
    let near = Layered::with_handshake("greets", near.into_parts().unwrap().inner, Box::new(Greets), Limits::default());
    let near = near.unwrap();
    near.set_blocking(false);
    assert!(near.handshake().unwrap_err().is_would_block());
    let refused = near.into_parts().unwrap_err();
    assert_eq!(refused.error.kind(), ErrorKind::InvalidInput);
    far.write_all(b"hello").unwrap();
    refused.given.handshake().unwrap();
    refused.given.into_parts().unwrap();
}

#[test]
fn a_handler_cannot_take_off_its_own_layer_though_it_cleared_itself_and_another_thread_can() {
    for clears in [false, true] {
        watchdog::run("taken off inside of a handler", || {
            let (near, far) = MemoryChannel::pair().unwrap();
            let event_loop = EventLoop::new().unwrap();
            let slot = Arc::new(Mutex::new(Some(plain("plain", near))));
            let (tell, told) = mpsc::channel();
            let inside = Arc::clone(&slot);
            let takes = AioHandler::new(event_loop.handle(), move || {
                let near = inside.lock().unwrap().take().unwrap();
                if clears {
                    near.set_aio_fd_handler(AioChange::Clear, AioChange::Keep).unwrap();
                }
                let refused = near.into_parts().unwrap_err();
                tell.send(refused.error.kind()).unwrap();
                *inside.lock().unwrap() = Some(refused.given);
            });
            let set = slot.lock().unwrap().as_ref().unwrap().set_aio_fd_handler(AioChange::Set(takes), AioChange::Keep);
            set.unwrap();
            far.write_all(b"x").unwrap();
            event_loop.run_once(None).unwrap();
            assert_eq!(told.recv().unwrap(), ErrorKind::WouldDeadlock);
            let parts = slot.lock().unwrap().take().unwrap().into_parts().unwrap();
            parts.inner.read_all(&mut [0; 1]).unwrap();
        });
    }
}

#[test]
fn limits_and_handlers_that_run_keep_no_layer() {
    watchdog::run("taken off beside a loop", || {
        let event_loop = EventLoop::new().unwrap();
        let stop = Instant::now() + Duration::from_millis(200);
        std::thread::scope(|scope| {
            let handle = event_loop.handle();
            let (begin, begun) = mpsc::channel::<()>();
            scope.spawn(move || {
                begun.recv().unwrap();
                while Instant::now() < stop {
                    let (near, far) = MemoryChannel::pair().unwrap();
                    let limits = Limits { linger: Duration::from_micros(50), ..Limits::default() };
                    let near = Layered::open("full stop", Box::new(near), Plain, FullStop, limits).unwrap();
                    let reads = AioHandler::new(handle.clone(), || ());
                    near.set_aio_fd_handler(AioChange::Set(reads), AioChange::Keep).unwrap();
                    near.close_write().unwrap(); // and now the silence of the peer is measured on the loop
                    far.write_all(b"x").unwrap();
                    near.into_parts().unwrap();
                }
            });
            begin.send(()).unwrap();
            while Instant::now() < stop {
                event_loop.run_once(Some(Duration::from_millis(1))).unwrap();
            }
        });
    });
}

/// Units of a length and as many bytes.
struct Units;

impl Decoder for Units {
    fn decode(&mut self, input: &mut [u8], sink: &mut Sink<'_, '_>) -> Result<Decoded> {
        let mut consumed = 0;
        let stopped = loop {
            let rest = &input[consumed..];
            let Some(unit) = rest.first().and_then(|len| rest.get(1..=usize::from(*len))) else {
                break Stopped::NeedInput;
            };
            if sink.is_full() {
                break Stopped::SinkFull;
            }
            sink.put(unit);
            consumed += 1 + unit.len();
        };
        Ok(Decoded { consumed, stopped, reply: false })
    }

    fn end(&mut self, _: usize) -> Result<()> {
        Ok(())
    }
}

#[test]
fn whole_units_that_have_come_are_decoded_before_the_decoder_goes() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let near = Layered::open("units", Box::new(near), Units, Plain, Limits::default()).unwrap();
    far.write_all(b"\x02ab\x03cde\x02fg\x05half").unwrap();
    near.read_all(&mut [0; 2]).unwrap();
    let parts = near.into_parts().unwrap();
    assert_eq!((&parts.unread[..], &parts.undecoded[..]), (&b"cdefg"[..], &b"\x05half"[..]));
}

#[test]
fn a_layer_that_lost_output_says_so_and_stays() {
    let (near, far) = MemoryChannel::pair_with_capacity(4).unwrap();
    let near = plain("plain", near);
    near.set_blocking(false);
    assert_eq!(near.write(b"12345678").unwrap(), 8);
    far.close().unwrap();
    let _ = near.read(&mut [0]); // which pushes, in vain
    assert_eq!(near.into_parts().unwrap_err().error.kind(), ErrorKind::BrokenPipe);
}

#[test]
fn the_channel_below_gets_the_mode_and_the_timeouts() {
    let (near, _far) = MemoryChannel::pair().unwrap();
    let near = plain("plain", near);
    near.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let inner = near.into_parts().unwrap().inner;
    assert_eq!((inner.read_timeout(), inner.write_timeout()), (Some(Duration::from_millis(1)), None));
    assert!(inner.read(&mut [0]).unwrap_err().is_timed_out(), "it waits");
}
