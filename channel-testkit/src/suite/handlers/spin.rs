//! Loops that come to rest, and handlers that are due again afterwards.

use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use channel_core::{
    AioChange, Channel, Direction, Error, ErrorKind, Features, ReadFlags, Result, Shutdown, WriteFlags,
};

use super::super::end::stream;
use super::super::{Options, Setup};
use super::{TURN, counting, handler, set, set_read};
use crate::adverse::Gate;
use crate::recording::Recorder;

/// What a loop may do beyond what there is to do: a few looks in vain before it knows that a handler wants nothing, or that its
/// direction is over.
const SLACK: usize = 8;

/// \[H5\] No spin: what is ready for ever, such as a peer that is gone, costs no more calls and turns than there is to do. A handler
/// that returns without calling the channel is called at most twice more, until somebody calls the channel; then it is due again.
/// After the end was read, or a write has failed for good, the loop comes to rest although handlers stay set.
pub fn h5_a_loop_comes_to_rest(setup: &Setup) {
    for polite in [true, false] {
        a_peer_that_is_gone(setup, polite);
    }
    a_handler_that_calls_nothing(setup);
    what_a_layer_held_and_the_descriptor_has(setup);
    for how in ["the peer was gone", "close_write", "shutdown"] {
        writes_that_fail_for_good(setup, how);
    }
}

/// What the peer sends that is gone then.
const EVENTS: usize = 300;

fn a_peer_that_is_gone(setup: &Setup, polite: bool) {
    let others = bytes_that_are_no_plaintext(setup);
    setup.step("reading what a peer left that is gone");
    let recorder = Recorder::new();
    let (near, far) = setup.pair();
    far.put(&stream(0, EVENTS));
    if polite {
        far.end_output();
    }
    drop(far);
    let reads = Arc::new(Calls::default());
    let by_byte = {
        let (near, reads) = (Arc::downgrade(near.channel()), Arc::clone(&reads));
        handler(&recorder, move || {
            let Some(near) = near.upgrade() else { return };
            let read = near.readv_full(&mut [IoSliceMut::new(&mut [0])], None, ReadFlags::DONT_WAIT);
            reads.note(&read.and_then(|count| if count == 0 { Err(over()) } else { Ok(count) }));
        })
    };
    let writes = Arc::new(AtomicUsize::new(0));
    set(&near, AioChange::Set(by_byte), AioChange::Set(counting(&recorder, &writes)));
    let ended = setup.turn_until(&recorder, || reads.over() > 0);
    assert!(ended, "a peer sent {EVENTS} bytes and went; the handler was called for {} of them", reads.done());
    settle(&recorder, "after the end was read");
    // A call may find nothing without a reason, once for each that does, and where what arrived is none of the plaintext.
    let vain = reads.vain();
    assert!(
        vain <= EVENTS + others + SLACK,
        "{vain} calls of a read handler found nothing, over {EVENTS} bytes of a peer that is gone"
    );
    let most = EVENTS + vain + SLACK;
    let (reads, writes, polls) = (reads.all(), writes.load(Ordering::Relaxed), recorder.polls());
    assert!(reads <= most, "{reads} calls of a read handler for {EVENTS} bytes of a peer that is gone");
    assert!(writes <= most, "{writes} calls of an idle write handler over {EVENTS} bytes of a peer that is gone");
    assert!(polls <= most as u64, "{polls} turns for {EVENTS} bytes of a peer that is gone");
}

/// How many bytes below the layers carry none of the plaintext, of what the peer sends that is gone then; 0 where no gate can tell.
fn bytes_that_are_no_plaintext(setup: &Setup) -> usize {
    let gate = Gate::new();
    let (near, far) = setup.pair_with(&Options { gate: Some(Arc::clone(&gate)), ..Options::default() });
    let before = gate.passed();
    far.put(&stream(0, EVENTS));
    far.end_output();
    let (bytes, _) = near.take_to_end();
    usize::try_from(gate.passed() - before).expect("a few bytes").saturating_sub(bytes.len())
}

fn a_handler_that_calls_nothing(setup: &Setup) {
    let recorder = Recorder::new();
    let (near, far) = setup.pair();
    let calls = [Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0))];
    let [read, write] = [counting(&recorder, &calls[0]), counting(&recorder, &calls[1])];
    far.put(&stream(0, 10));
    set(&near, AioChange::Set(read), AioChange::Set(write));
    let due = |when: &str| {
        let before = calls.each_ref().map(|calls| calls.load(Ordering::Relaxed));
        let called = || calls.each_ref().map(|calls| calls.load(Ordering::Relaxed));
        let both = || called().iter().zip(before).all(|(now, before)| *now > before);
        let became_due = setup.turn_until(&recorder, both);
        assert!(
            became_due,
            "handlers that call nothing are due again {when}, and were called {before:?} and then {:?} times",
            called()
        );
        settle(&recorder, "where handlers call nothing");
        let more = called().iter().zip(before).map(|(now, before)| now - before).max().unwrap_or_default();
        assert!(more <= 3, "a handler that calls nothing was called {more} times {when}");
    };
    setup.step("handlers that call nothing");
    due("after they were set");
    for _ in 0..3 {
        near.take(1);
        due("after a read");
        near.put(&stream(0, 1));
        due("after a write");
        near.set_aio_fd_handler(AioChange::Called, AioChange::Called).map(drop).expect("keeping handlers");
        due("after a change that counts as a call");
    }
}

/// The call that makes a handler due again is served from what a layer holds: the channel below hears nothing of it.
fn what_a_layer_held_and_the_descriptor_has(setup: &Setup) {
    const MESSAGE: usize = 100;
    let recorder = Recorder::new();
    let (near, far) = setup.pair();
    let (calls, reading) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let got = Arc::new(AtomicUsize::new(0));
    let one_byte_if_told = {
        let (near, calls, reading) = (Arc::downgrade(near.channel()), Arc::clone(&calls), Arc::clone(&reading));
        let got = Arc::clone(&got);
        handler(&recorder, move || {
            calls.fetch_add(1, Ordering::Relaxed);
            let Some(near) = near.upgrade().filter(|_| reading.load(Ordering::Relaxed)) else { return };
            let read = near.readv_full(&mut [IoSliceMut::new(&mut [0])], None, ReadFlags::DONT_WAIT);
            got.fetch_add(read.unwrap_or_default(), Ordering::Relaxed);
        })
    };
    set_read(&near, one_byte_if_told);
    for by_handler in [false, true] {
        setup.step("a handler that is due for what lies behind what a layer held");
        reading.store(false, Ordering::Relaxed);
        far.put(&stream(0, MESSAGE));
        near.take(1);
        far.put(&stream(MESSAGE, MESSAGE));
        settle(&recorder, "where the handler calls nothing");
        let before = calls.load(Ordering::Relaxed);
        if by_handler {
            reading.store(true, Ordering::Relaxed);
            near.take(1);
            got.store(2, Ordering::Relaxed);
            let all = setup.turn_until(&recorder, || got.load(Ordering::Relaxed) == 2 * MESSAGE);
            let got = got.load(Ordering::Relaxed);
            assert!(all, "a handler began to read what layers held, and was called for {got} of {} bytes", 2 * MESSAGE);
        } else {
            near.take(MESSAGE - 1);
            let again = setup.turn_until(&recorder, || calls.load(Ordering::Relaxed) > before);
            assert!(again, "somebody read what layers held, more has arrived, and the handler is not called");
            settle(&recorder, "where the handler calls nothing");
            near.take(MESSAGE);
        }
    }
}

fn writes_that_fail_for_good(setup: &Setup, how: &str) {
    let recorder = Recorder::new();
    let (near, far) = setup.pair();
    let needs = match how {
        "close_write" => Features::CLOSE_WRITE,
        "shutdown" => Features::SHUTDOWN,
        _ => Features::empty(),
    };
    if !near.features().contains(needs) {
        return;
    }
    let mut far = Some(far);
    let writes = Arc::new(Calls::default());
    let writing = {
        let (near, writes) = (Arc::downgrade(near.channel()), Arc::clone(&writes));
        handler(&recorder, move || {
            let Some(near) = near.upgrade() else { return };
            writes.note(&near.writev_full(&[IoSlice::new(b"x")], &[], WriteFlags::DONT_WAIT));
        })
    };
    set(&near, AioChange::Keep, AioChange::Set(writing));
    recorder.turn(TURN).expect("a turn");
    match how {
        "close_write" => near.drive(Direction::Write, Channel::close_write).expect("close_write"),
        "shutdown" => near.shutdown(Shutdown::Write).expect("shutdown of writing"),
        _ => far = None,
    }
    setup.step("a write handler whose writes fail for good");
    let failed = setup.turn_until(&recorder, || writes.over() > 0);
    assert!(failed, "a write handler was not called to be told that writes fail: {how}");
    settle(&recorder, "after a write has failed for good");
    let over = writes.over();
    assert!(over <= SLACK, "{over} calls of a write handler after a write has failed for good: {how}");
    drop(far);
}

/// What the calls of a handler came to.
#[derive(Default)]
struct Calls {
    done: AtomicUsize,
    vain: AtomicUsize,
    over: AtomicUsize,
}

impl Calls {
    fn note(&self, result: &Result<usize>) {
        let count = match result {
            Ok(_) => &self.done,
            Err(error) if error.is_would_block() => &self.vain,
            Err(_) => &self.over,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    fn vain(&self) -> usize {
        self.vain.load(Ordering::Relaxed)
    }

    fn over(&self) -> usize {
        self.over.load(Ordering::Relaxed)
    }

    fn all(&self) -> usize {
        self.done() + self.vain() + self.over()
    }
}

/// The end of the stream, as [`Calls`] counts it.
fn over() -> Error {
    Error::new(ErrorKind::UnexpectedEof, "suite", "the end")
}

/// Turns until nothing is called any more.
fn settle(recorder: &Recorder, when: &str) {
    let rests = (0..5 * SLACK).any(|_| recorder.turn(TURN).expect("a turn") == 0);
    assert!(rests, "the loop finds no rest {when}");
}
