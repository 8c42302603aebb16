//! Handlers over a stream that arrives in pieces.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use channel_core::{ChannelExt, Direction};

use super::super::end::{End, assert_stream, stream};
use super::super::{Options, Setup};
use super::{by_byte, lock, set_read};
use crate::adverse::Gate;
use crate::recording::Recorder;

/// What the peer sends at once: more than the shortest header of a WebSocket frame can tell (RFC 6455 §5.2).
const MESSAGE: usize = 130;

/// \[H10\] The stream below may be cut at any byte: a read handler is called for all that can be made of the part that has arrived,
/// and for the rest when that comes.
pub fn h10_a_handler_is_called_wherever_the_stream_is_cut(setup: &Setup) {
    let gate = Gate::new();
    let (near, far) = setup.pair_with(&Options { gate: Some(Arc::clone(&gate)), ..Options::default() });
    let before = gate.passed();
    far.put(&stream(0, MESSAGE));
    assert_stream(0, &near.take(MESSAGE));
    // How long a message is below the layers, about: a protocol that compresses has another length for each.
    let encoded = gate.passed() - before;
    assert!(encoded > 0, "the maker declares a gate, and puts none in the way");
    let recorder = Recorder::new();
    let got = Arc::new(Mutex::new(Vec::new()));
    set_read(&near, by_byte(&recorder, &near, &got));
    let mut cuts = Cuts { setup, near, far, gate, encoded, sent: MESSAGE, recorder, got };
    // To look whether there is more than the handler was called for makes it due: in a round of its own.
    for looks in [true, false] {
        let mut cut = 0;
        while cuts.arrive(cut, looks) {
            cut += 1;
        }
    }
}

/// Messages that are cut on their way to a read handler.
struct Cuts<'a> {
    setup: &'a Setup,
    near: End,
    far: End,
    gate: Arc<Gate>,
    encoded: u64,
    /// How far the test stream was sent: the same message again might be a short one.
    sent: usize,
    recorder: Arc<Recorder>,
    /// What the handler read.
    got: Arc<Mutex<Vec<u8>>>,
}

impl Cuts<'_> {
    /// Has a message sent of which `cut` bytes arrive, and then the rest; `looks` for more than the handler was called for in between.
    /// Whether there was a rest.
    fn arrive(&mut self, cut: u64, looks: bool) -> bool {
        let at = self.sent;
        self.sent += MESSAGE;
        let Self { gate, encoded, .. } = &*self;
        let received = || lock(&self.got).len();
        let before = gate.passed();
        gate.close();
        self.far.put(&stream(at, MESSAGE));
        gate.let_through(cut);
        self.setup.step("a handler and a message that was cut");
        let arrived = self.until(|| gate.passed() == before + cut || received() == MESSAGE);
        let passed = gate.passed() - before;
        assert!(arrived, "{cut} of {encoded} bytes arrived, and the handler was called for {passed} of them");
        assert!(self.rests(), "{cut} of {encoded} bytes arrived, and the loop finds no rest");
        if looks {
            let (read, missed) = (received(), take_what_is_there(&self.near).len());
            assert!(
                missed == 0,
                "{cut} of {encoded} bytes arrived, and the handler was called for {read} of {} bytes that can be read",
                read + missed
            );
        }
        gate.open();
        assert!(
            self.until(|| received() == MESSAGE),
            "{cut} of {encoded} bytes arrived and then the rest, and the handler was called for {} of {MESSAGE} bytes",
            received()
        );
        assert!(self.rests(), "{cut} of {encoded} bytes arrived and then the rest, and the loop finds no rest");
        assert_stream(at, &std::mem::take(&mut *lock(&self.got)));
        gate.passed() > before + cut
    }

    fn until(&self, done: impl FnMut() -> bool) -> bool {
        self.setup.turn_until(&self.recorder, done)
    }

    /// Takes turns until nothing is called; not more than a handler that reads by byte, and finds nothing every other time, needs.
    fn rests(&self) -> bool {
        (0..4 * MESSAGE).any(|_| self.recorder.turn(Duration::ZERO).expect("a turn") == 0)
    }
}

/// Reads without waiting until nothing more can be read.
fn take_what_is_there(near: &End) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut buf = [0; MESSAGE];
    loop {
        near.drive_on();
        match near.try_read(&mut buf) {
            Ok(count) => bytes.extend_from_slice(&buf[..count]),
            // One would-block may have no reason.
            Err(error) if error.is_would_block() => {
                if !near.wait(Direction::Read, Some(Duration::ZERO)).expect("a wait") {
                    return bytes;
                }
            }
            Err(error) => panic!("a read of a message that was cut failed: {error:?}"),
        }
    }
}
