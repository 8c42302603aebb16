//! Handshakes that do not go smoothly: failures last, limits hold, corks hold nothing back.

#[path = "support/odd.rs"]
mod odd;
mod support;

use std::thread;
use std::time::Duration;

use channel_core::engine::{Advance, Handshake};
use channel_core::{Buffer, Channel, ChannelExt, Error, ErrorKind, Layered, Limits, MemoryChannel, Result, Shutdown};
use channel_testkit::watchdog;
use odd::unreadable;
use support::{Plain, plain};

/// Short enough to wait for, where a test wants it to pass.
const SOON: Duration = Duration::from_millis(50);

/// Both sides say something and hear `hello`; one of them hears it first.
struct Greeting {
    says: &'static [u8],
    first: bool,
}

impl Handshake<Plain, Plain> for Greeting {
    fn advance(&mut self, input: &mut [u8], _ended: bool, out: &mut Buffer) -> Result<Advance<Plain, Plain>> {
        let heard = input.starts_with(b"hello");
        if self.first || heard {
            out.extend(std::mem::take(&mut self.says));
        }
        if heard {
            return Ok(Advance::Open { consumed: 5, decoder: Plain, encoder: Plain });
        }
        Ok(Advance::NeedInput { consumed: 0 })
    }

    fn abort(&mut self, _: &Error, _: &mut Buffer) {}
}

fn limit(handshake: Duration) -> Limits {
    Limits { handshake, ..Limits::default() }
}

fn greeting(layer: &'static str, inner: impl Channel, limits: Limits) -> Layered<Plain, Plain> {
    Layered::with_handshake(layer, Box::new(inner), Box::new(Greeting { says: b"hello", first: true }), limits).unwrap()
}

fn replying(layer: &'static str, inner: impl Channel, says: &'static [u8], limits: Limits) -> Layered<Plain, Plain> {
    Layered::with_handshake(layer, Box::new(inner), Box::new(Greeting { says, first: false }), limits).unwrap()
}

fn open_both(near: &impl Channel, far: &impl Channel) {
    thread::scope(|scope| {
        scope.spawn(|| far.handshake().unwrap());
        near.handshake().unwrap();
    });
}

#[test]
fn a_handshake_that_failed_never_says_that_it_is_done() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let near = greeting("greeting", near, Limits::default());
    near.set_blocking(false);
    assert!(near.handshake().unwrap_err().is_would_block());
    drop(far);
    near.shutdown(Shutdown::Read).unwrap();
    for _ in 0..3 {
        assert!(!near.handshake().unwrap_err().is_would_block());
    }
}

#[test]
fn a_slow_layer_below_does_not_outlast_the_limit_of_the_one_above() {
    watchdog::run("the limit above", || {
        let (near, _far) = MemoryChannel::pair().unwrap();
        let below = greeting("below", near, limit(Duration::MAX));
        let error = greeting("above", below, limit(SOON)).handshake().unwrap_err();
        assert_eq!((error.kind(), error.layer()), (ErrorKind::TimedOut, "above"));
    });
}

#[test]
fn a_peer_that_does_not_take_the_end_of_the_handshake_runs_into_the_limit() {
    watchdog::run("the end of the handshake", || {
        let (near, far) = MemoryChannel::pair_with_capacity(5).unwrap();
        far.write_all(b"hello").unwrap();
        let near = replying("replying", near, b"hello to you", limit(SOON));
        assert_eq!(near.handshake().unwrap_err().kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn a_handshake_in_which_both_greet_passes_a_corked_layer() {
    watchdog::run("both greet", || {
        let (near, far) = MemoryChannel::pair().unwrap();
        let near = greeting("outer", plain("inner", near), Limits::default());
        let far = greeting("outer", plain("inner", far), Limits::default());
        near.set_cork(true);
        open_both(&near, &far);
    });
}

#[test]
fn a_handshake_of_question_and_answer_passes_corked_layers_on_both_sides() {
    watchdog::run("question and answer", || {
        let (near, far) = MemoryChannel::pair().unwrap();
        let near = greeting("outer", plain("inner", near), Limits::default());
        let far = replying("outer", plain("inner", far), b"hello", Limits::default());
        near.set_cork(true);
        far.set_cork(true);
        open_both(&near, &far);
    });
}

#[test]
fn a_layer_that_is_open_takes_nothing_while_the_one_below_is_not() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let near = plain("open", greeting("greeting", near, Limits::default()));
    assert!(near.write(b"too early").unwrap_err().is_not_open());
    assert!(near.read(&mut [0]).unwrap_err().is_not_open());
    assert!(near.flush().unwrap_err().is_not_open());

    far.write_all(b"hello").unwrap();
    near.handshake().unwrap();
    near.write_all(b"in time").unwrap();
    let mut heard = [0; 12];
    far.read_all(&mut heard).unwrap();
    assert_eq!(&heard, b"helloin time");
}

#[test]
fn a_handshake_whose_channel_fails_is_over_and_every_later_call_says_why() {
    let (near, _far) = MemoryChannel::pair().unwrap();
    let near = greeting("greeting", unreadable(Box::new(near), ErrorKind::Reset), Limits::default());
    for _ in 0..2 {
        assert_eq!(near.handshake().unwrap_err().kind(), ErrorKind::Reset);
    }
    assert_eq!(near.read(&mut [0]).unwrap_err().kind(), ErrorKind::Reset);
    assert_eq!(near.write(b"x").unwrap_err().kind(), ErrorKind::Reset);
    assert_eq!(near.flush().unwrap_err().kind(), ErrorKind::Reset);
}
