//! What becomes of output that does not arrive: somebody is told, once, and nothing half done is sent.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use channel_core::engine::{Encoder, Source};
use channel_core::{Buffer, Channel, ChannelExt, Direction, Error, ErrorKind, Layered, Limits, MemoryChannel, Result};
use channel_testkit::watchdog;
use support::{Plain, plain};

/// Two layers over a pipe that holds one byte, and the far end of that.
fn narrow() -> (Layered<Plain, Plain>, MemoryChannel) {
    let (near, far) = MemoryChannel::pair_with_capacity(1).unwrap();
    (plain("outer", plain("inner", near)), far)
}

/// What has arrived at `raw` by now.
fn arrived(raw: &MemoryChannel) -> Vec<u8> {
    raw.set_blocking(false);
    let mut bytes = [0; 64];
    match raw.read(&mut bytes) {
        Ok(count) => bytes[..count].to_vec(),
        Err(error) if error.is_would_block() => Vec::new(),
        Err(error) => panic!("{error}"),
    }
}

/// Fails in the middle of its work, at the step it is told to, and counts how often it was asked.
struct Broken {
    at: Step,
    asked: Arc<AtomicUsize>,
}

#[derive(PartialEq)]
enum Step {
    Never,
    Encode,
    Pump,
    Finish,
}

impl Broken {
    fn over(inner: impl Channel, at: Step, limits: Limits) -> (Layered<Plain, Self>, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let encoder = Self { at, asked: Arc::clone(&asked) };
        (Layered::open("broken", Box::new(inner), Plain, encoder, limits).unwrap(), asked)
    }

    fn fail(&self, out: &mut Buffer) -> Result<()> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        out.extend(b"HALF");
        Err(Error::new(ErrorKind::Protocol, "broken", "stopped half way"))
    }
}

impl Encoder for Broken {
    fn encode(&mut self, source: &mut Source<'_, '_>, out: &mut Buffer) -> Result<()> {
        if self.at == Step::Encode { self.fail(out) } else { Plain.encode(source, out) }
    }

    fn pump(&mut self, out: &mut Buffer) -> Result<()> {
        if self.at == Step::Pump { self.fail(out) } else { Ok(()) }
    }

    fn unit(&self) -> usize {
        8
    }

    fn finish(&mut self, out: &mut Buffer) -> Result<()> {
        if self.at == Step::Finish { self.fail(out) } else { Ok(()) }
    }
}

#[test]
fn close_tells_of_bytes_that_a_layer_below_lost() {
    let (near, far) = narrow();
    near.set_blocking(false);
    assert_eq!(near.write(b"precious").unwrap(), 8);
    drop(far);
    near.set_blocking(true);
    assert_eq!(near.close().unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn a_blocked_writer_whose_peer_goes_is_told_by_the_write_or_by_close() {
    watchdog::run("peer goes while a writer is blocked", || {
        let (near, far) = narrow();
        thread::scope(|scope| {
            let writer = scope.spawn(|| near.write_all(b"precious"));
            far.read_all(&mut [0]).unwrap();
            drop(far);
            let written = writer.join().unwrap();
            assert!(written.is_err() || near.close().is_err());
        });
    });
}

#[test]
fn close_is_fine_where_the_write_itself_said_that_nothing_was_taken() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let near = plain("plain", near);
    drop(far);
    assert_eq!(near.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    near.close().unwrap();
}

#[test]
fn an_encoder_that_fails_on_gathered_bytes_is_asked_once_and_sends_nothing_half_done() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let (near, asked) = Broken::over(near, Step::Encode, Limits::default());
    near.set_cork(true);
    near.write_all(b"data").unwrap();
    for _ in 0..3 {
        assert_eq!(near.flush().unwrap_err().kind(), ErrorKind::Protocol);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert_eq!(arrived(&far), b"");
}

#[test]
fn a_corked_write_that_fails_to_encode_is_not_encoded_later() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let (near, asked) = Broken::over(near, Step::Encode, Limits { queued_bytes: 8, ..Limits::default() });
    near.set_cork(true);
    assert_eq!(near.write(b"1234").unwrap(), 4);
    assert_eq!(near.write(b"5678").unwrap_err().kind(), ErrorKind::Protocol);
    assert_eq!(near.write(b"5678").unwrap_err().kind(), ErrorKind::Protocol);
    assert_eq!(near.flush().unwrap_err().kind(), ErrorKind::Protocol);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert_eq!(arrived(&far), b"");
}

#[test]
fn a_failed_goodbye_is_attempted_once_and_sends_nothing_half_done() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let (near, asked) = Broken::over(near, Step::Finish, Limits::default());
    for _ in 0..2 {
        assert_eq!(near.close_write().unwrap_err().kind(), ErrorKind::Protocol);
    }
    assert_eq!(near.write(b"x").unwrap_err().kind(), ErrorKind::Protocol);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert_eq!(arrived(&far), b"");
}

#[test]
fn a_reader_does_not_spin_over_output_that_cannot_be_encoded() {
    let (near, _far) = MemoryChannel::pair().unwrap();
    let (near, _asked) = Broken::over(near, Step::Encode, Limits::default());
    near.set_cork(true);
    near.write_all(b"data").unwrap();
    near.set_cork(false);
    assert!(!near.wait(Direction::Read, Some(Duration::ZERO)).unwrap());
}

#[test]
fn a_failure_below_names_the_channel_that_was_called() {
    let (near, far) = narrow();
    near.set_name("vm7");
    near.set_blocking(false);
    assert_eq!(near.write(b"precious").unwrap(), 8);
    drop(far);
    assert_eq!(near.flush().unwrap_err().channel(), Some("vm7"));
    assert_eq!(near.close_write().unwrap_err().channel(), Some("vm7"));
}

#[test]
fn closing_a_failed_layer_waits_for_room_below_and_does_not_spin() {
    let (near, far) = MemoryChannel::pair_with_capacity(1).unwrap();
    let (near, asked) = Broken::over(plain("inner", near), Step::Never, Limits::default());
    near.set_blocking(false);
    assert_eq!(near.write(b"12345678").unwrap(), 8);
    let fail = |encoder: &mut Broken| {
        encoder.at = Step::Pump;
        Ok(())
    };
    near.control("fail", fail).unwrap(); // what it left waits for room below
    assert_eq!(near.write(b"more").unwrap_err().kind(), ErrorKind::Protocol);

    assert!(near.close().unwrap_err().is_would_block());
    assert_eq!(asked.load(Ordering::SeqCst), 1, "a reply that failed is not asked for again");
    assert!(!near.wait(Direction::Write, Some(Duration::ZERO)).unwrap());
    far.read_all(&mut [0]).unwrap();
    assert!(near.wait(Direction::Write, Some(Duration::ZERO)).unwrap());
}

#[test]
fn a_second_end_does_nothing_below() {
    let (near, _far) = MemoryChannel::pair().unwrap();
    let (recorded, log) = channel_testkit::adverse::record(Box::new(near));
    let near = plain("plain", recorded);
    for _ in 0..3 {
        near.close_write().unwrap();
    }
    assert_eq!(log.of("close_write").len(), 1);
}

#[test]
fn of_two_failures_of_output_the_first_one_is_told_to_writers_for_ever() {
    let (inner, far) = MemoryChannel::pair().unwrap();
    let (near, _) = Broken::over(inner, Step::Pump, Limits::default());
    near.set_blocking(false);
    drop(far);
    let echo = near.control("ping", |_| Ok(())).unwrap_err();
    assert_eq!(echo.kind(), ErrorKind::BrokenPipe, "{echo}");
    for _ in 0..2 {
        let error = near.write(b"x").unwrap_err();
        assert!(error.to_string().contains("stopped half way"), "{error}");
    }
}

#[test]
fn what_a_cork_left_behind_is_not_overtaken_by_the_next_write() {
    let (inner, far) = MemoryChannel::pair_with_capacity(4).unwrap();
    let near = plain("plain", inner);
    near.set_blocking(false);
    for piece in [&b"1234"[..], b"56"] {
        assert_eq!(near.write(piece).unwrap(), piece.len());
    }
    near.set_cork(true);
    assert_eq!(near.write(b"78").unwrap(), 2);
    near.set_cork(false); // there is no room yet
    assert_eq!(arrived(&far), b"1234");
    near.control("nothing", |_| Ok(())).unwrap(); // sends what is encoded, and nothing else
    assert_eq!(near.write(b"9").unwrap(), 1);
    near.flush().unwrap_or_else(|error| assert!(error.is_would_block(), "{error}"));
    let mut all = arrived(&far);
    near.flush().unwrap();
    all.extend(arrived(&far));
    assert_eq!(all, b"56789");
}
