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
    // How long a message is below the layers.
    let encoded = gate.passed() - before;
    assert!(encoded > 0, "the maker declares a gate, and puts none in the way");

    setup.step("reading what arrived of a message that was cut");
    let readable: Vec<usize> = (0..encoded)
        .map(|cut| {
            let passed = cut_message(&gate, &far, cut);
            let part = take_until(&near, || gate.passed() == passed);
            gate.open();
            assert_stream(0, &[part.clone(), near.take(MESSAGE - part.len())].concat());
            part.len()
        })
        .collect();

    let recorder = Recorder::new();
    let got = Arc::new(Mutex::new(Vec::new()));
    set_read(&near, by_byte(&recorder, &near, &got));
    setup.step("a handler and a message that was cut");
    let received = || lock(&got).len();
    for (cut, readable) in (0..encoded).zip(readable) {
        let passed = cut_message(&gate, &far, cut);
        let arrived = setup.turn_until(&recorder, || gate.passed() == passed && received() == readable);
        assert!(
            arrived,
            "{cut} of {encoded} bytes arrived, {} of them were read, and the handler was called for {} of {readable} bytes",
            cut - (passed - gate.passed()),
            received()
        );
        let rests = (0..4).any(|_| recorder.turn(Duration::ZERO).expect("a turn") == 0);
        assert!(rests, "{cut} of {encoded} bytes arrived, all were read, and the loop finds no rest");
        gate.open();
        let all = setup.turn_until(&recorder, || received() == MESSAGE);
        assert!(
            all,
            "{cut} of {encoded} bytes arrived and then the rest, and the handler was called for {} of {MESSAGE} bytes",
            received()
        );
        assert_stream(0, &std::mem::take(&mut *lock(&got)));
    }
}

/// Has a message sent of which `cut` bytes arrive; how many will have passed the gate then.
fn cut_message(gate: &Gate, far: &End, cut: u64) -> u64 {
    gate.close();
    far.put(&stream(0, MESSAGE));
    gate.let_through(cut);
    gate.passed() + cut
}

/// Reads without waiting until `done` and nothing more can be read.
fn take_until(near: &End, done: impl Fn() -> bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut buf = [0; MESSAGE];
    loop {
        near.drive_on();
        match near.try_read(&mut buf) {
            Ok(count) => bytes.extend_from_slice(&buf[..count]),
            // One would-block may have no reason.
            Err(error) if error.is_would_block() => {
                if !near.wait(Direction::Read, Some(Duration::ZERO)).expect("a wait") && done() {
                    return bytes;
                }
            }
            Err(error) => panic!("a read of a message that was cut failed: {error:?}"),
        }
    }
}
