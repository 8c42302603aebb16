//! Q: what to wait for.

use std::time::{Duration, Instant};

use channel_core::{ChannelExt, Direction, Features, Result};

use super::Setup;
use super::end::{End, UNBOUNDED, assert_stream, stream};
use super::object::in_background;
use super::setup::Mode;
use super::write::drain;

/// How long a wait that should find nothing is given to find something.
const QUIET: Duration = Duration::from_millis(20);

/// \[Q1\] `readiness` answers what must happen before a direction can make progress: when a wait on the answer returns, a call
/// makes progress, or says `WouldBlock` once. Bytes held in any layer count, and so do ends and errors.
pub fn q1_a_wait_ends_when_progress_can_be_made(setup: &Setup) {
    const COUNT: usize = 600;
    let (near, far) = setup.pair();
    let begun = Instant::now();
    let woken = near.wait(Direction::Read, Some(QUIET)).expect("a wait");
    assert!(woken || begun.elapsed() >= QUIET, "a wait of {QUIET:?} gave up after {:?}", begun.elapsed());

    let waiter = in_background(&near, |near| after_wait(near, Direction::Read, || near.try_read(&mut [0; 1])));
    waiter.until_asleep();
    far.put(b"x");
    setup.step("a waiter for data that arrives");
    assert_eq!(waiter.join().expect("a read"), 1);

    // What one read leaves behind, in whatever layer, another wait must find.
    far.put(&stream(0, COUNT));
    setup.step("waiting for bytes that were sent");
    let mut at = 0;
    while at < COUNT {
        let mut byte = [0];
        if at % 3 == 0 && near.has_feature(Features::READ_BUF) {
            byte[0] = lend_one(&near, at);
        } else {
            let read = after_wait(&near, Direction::Read, || near.try_read(&mut byte));
            assert!(matches!(read, Ok(1)), "a read after a wait gave {read:?}, {at} of {COUNT} bytes were read");
        }
        assert_stream(at, &byte);
        at += 1;
    }
    far.end_output();
    setup.step("waiting for the clean end");
    for _ in 0..3 {
        let read = after_wait(&near, Direction::Read, || near.try_read(&mut [0; 1]));
        assert!(matches!(read, Ok(0)), "a wait at the clean end, and a read, gave {read:?}");
    }

    let (near, far) = setup.small_pair();
    let taken = near.fill(0, UNBOUNDED);
    let writer = in_background(&near, move |near| {
        after_wait(near, Direction::Write, || near.try_write(&stream(taken, 1)))?;
        near.flush_all()
    });
    writer.until_asleep();
    setup.step("a waiter for room, which the peer makes");
    assert_stream(0, &far.take(taken + 1));
    writer.join_while_reading(&far).expect("a write after a wait");

    let waiter = in_background(&near, |near| after_wait(near, Direction::Read, || near.try_read(&mut [0; 1])));
    waiter.until_asleep();
    near.fill(0, UNBOUNDED);
    let writer = in_background(&near, move |near| {
        loop {
            if let Err(error) = after_wait(near, Direction::Write, || near.try_write(&[0; 1000])) {
                return error;
            }
        }
    });
    writer.until_asleep();
    drop(far);
    setup.step("a waiter for room, whose peer goes");
    let error = writer.join();
    assert!(error.is_disconnected(), "a write after the peer went gave {error:?}");
    setup.step("a waiter for data, whose peer goes");
    let read = waiter.join();
    assert!(!matches!(read, Ok(1..)), "a read after the peer went gave {read:?}");
}

/// Waits first, whatever may be in hand already, and then calls, until that gives something.
fn after_wait<T>(near: &End, direction: Direction, mut call: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        near.drive_on();
        near.wait(direction, None)?;
        match call() {
            Err(error) if error.is_would_block() => {}
            done => return done,
        }
    }
}

fn lend_one(near: &End, at: usize) -> u8 {
    let mut seen = None;
    let lent = after_wait(near, Direction::Read, || {
        near.with_read_buf(&mut |bytes| {
            let first = seen.is_none();
            seen = seen.or_else(|| bytes.first().copied());
            usize::from(first)
        })
    });
    assert!(matches!(lent, Ok(1)), "a lend of one byte after a wait gave {lent:?} at byte {at}");
    seen.unwrap_or_default()
}

/// \[Q2\] While a layer holds output that is not corked, waiting in either direction also waits for the descriptor to become
/// writable.
pub fn q2_a_waiter_also_waits_to_push_what_is_held(setup: &Setup) {
    for direction in [Direction::Read, Direction::Write] {
        let (near, far) = setup.small_pair();
        let near = near.in_mode(Mode::NonBlocking); // both ends are on one thread
        let taken = near.fill(0, 8 * 1024);
        let mut seen = 0;
        setup.step("one wait at a time for output that is held");
        // Nobody but this waiter can push, and only when its wait ends.
        while seen < taken {
            let before = seen;
            seen += drain(&far, seen);
            if seen < taken && seen == before {
                let mut patience = setup.waiting();
                while !near.wait(direction, Some(Duration::from_millis(2))).expect("a wait")
                    && !far.wait(Direction::Read, Some(Duration::ZERO)).expect("a wait")
                {
                    assert!(
                        !patience.is_lost(),
                        "the peer has room and {seen} of {taken} bytes, but a wait for {direction:?} sees nothing to do"
                    );
                }
                push(&near, direction);
            }
        }
    }
}

/// The call that a waiter in `direction` makes next; what it gives is of no interest, that it pushes is.
pub(super) fn push(near: &End, direction: Direction) {
    let result = match direction {
        Direction::Read => near.try_read(&mut [0; 1]).map(drop),
        Direction::Write => near.flush(),
    };
    if let Err(error) = result {
        assert!(error.is_would_block(), "a call after a wait failed: {error:?}");
    }
}

/// \[Q3\] Nothing spins: after a call said `WouldBlock`, `readiness` is not `Ready` again and again without progress.
pub fn q3_nothing_spins(setup: &Setup) {
    let (near, _far) = setup.small_pair();
    settles(&near, Direction::Read, || near.try_read(&mut [0; 1]));
    let mut taken = near.fill(0, UNBOUNDED);
    settles(&near, Direction::Write, || {
        let written = near.try_write(&stream(taken, 100));
        taken += written.as_ref().copied().unwrap_or(0);
        assert!(taken < UNBOUNDED, "{taken} bytes were taken that the peer does not read");
        written
    });
    // Output that is stuck must not make a reader spin either.
    settles(&near, Direction::Read, || near.try_read(&mut [0; 1]));
}

/// Nothing happens at the other end: after a few false alarms a wait must find that nothing can be done, and stay with it.
fn settles(near: &End, direction: Direction, mut call: impl FnMut() -> Result<usize>) {
    let mut alarms = 0;
    let mut quiet = 0;
    while quiet < 3 {
        match call() {
            Ok(0) => panic!("a call returned 0 on an open channel"),
            Ok(_) => alarms = 0,
            Err(error) => assert!(error.is_would_block(), "a call failed: {error:?}"),
        }
        if near.wait(direction, Some(QUIET)).expect("a wait") {
            alarms += 1;
            quiet = 0;
            assert!(
                alarms < 50,
                "{direction:?}: {alarms} waits in a row said that something can be done, and nothing could"
            );
        } else {
            quiet += 1;
        }
    }
}
