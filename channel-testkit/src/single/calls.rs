//! What one call does: M, T, P, R, W, C, Q.

use std::io::{IoSlice, IoSliceMut, SeekFrom};
use std::thread;
use std::time::Duration;

use channel_core::{Channel, ChannelExt, Direction, Error, ErrorKind, Features, ReadFlags, WriteFlags};

use super::{ENOUGH, SHORT, Setup};
use crate::asleep::asleep;
use crate::suite::files::{polled, status_flags};
use crate::thread_state::Sleep;

/// \[M1\] \[M2\] In non-blocking mode, and with `DONT_WAIT`, no call waits: one that would says `WouldBlock`. Channels start out blocking.
pub fn m1_a_call_that_must_not_wait_does_not(setup: &Setup) {
    for flagged in [true, false] {
        let one = setup.make();
        one.set_blocking(flagged);
        for direction in one.directions() {
            let sleep = Sleep::begin();
            let (_, done) = one.exhaust(direction);
            let more = match direction {
                _ if flagged => one.attempt(direction, 1),
                Direction::Read => one.read(&mut [0; 8]),
                Direction::Write => one.write(b"more"),
            };
            let slept = sleep.so_far();
            assert!(
                slept < Duration::from_millis(500),
                "calls to {direction:?} that must not wait slept for {slept:?}: {more:?}"
            );
            let is_known = done >= ENOUGH || !more.as_ref().is_err_and(|error| error.is_busy() || error.is_not_open());
            assert!(is_known, "a call to {direction:?} behind {done} bytes gave {more:?}");
        }
    }
    let one = setup.make();
    let blocks = one.directions().find(|direction| one.exhaust(*direction).0);
    if let Some(direction) = blocks {
        thread::scope(|scope| {
            let waiter = asleep(scope, || match direction {
                Direction::Read => one.read(&mut [0; 8]),
                Direction::Write => one.write(b"more"),
            });
            assert!(
                !waiter.is_finished(),
                "a call to {direction:?} that would block did not wait, in the mode that channels start out in"
            );
            one.shutdown(std::net::Shutdown::Both).expect("shutdown");
        });
    }
}

/// \[M2\] A descriptor's own `O_NONBLOCK` is never changed.
pub fn m2_the_descriptor_stays_as_it_was(setup: &Setup) {
    let one = setup.make();
    let files: Vec<_> = polled(&*one).into_iter().map(|file| (status_flags(&file), file)).collect();
    for blocking in [false, true] {
        one.set_blocking(blocking);
        for direction in one.directions() {
            one.exhaust(direction);
        }
        for (flags, file) in &files {
            assert_eq!(*flags, status_flags(file), "the status flags of a descriptor after calls that must not wait");
        }
    }
}

/// \[T1\] \[T2\] Timeouts are kept; zero is refused; where calls wait one bounds a call, and where they do not it passes once.
pub fn t1_a_timeout_is_kept_and_passes(setup: &Setup) {
    let one = setup.make();
    assert_eq!((one.read_timeout(), one.write_timeout()), (None, None), "timeouts that nobody set");
    for refused in [one.set_read_timeout(Some(Duration::ZERO)), one.set_write_timeout(Some(Duration::ZERO))] {
        let kind = refused.map_err(|error| error.kind());
        assert_eq!(kind, Err(ErrorKind::InvalidInput), "a timeout of zero");
    }
    one.set_read_timeout(Some(SHORT)).expect("a timeout");
    assert_eq!((one.read_timeout(), one.write_timeout()), (Some(SHORT), None), "timeouts, of which one was set");
    one.set_write_timeout(Some(SHORT)).expect("a timeout");
    assert_eq!((one.read_timeout(), one.write_timeout()), (Some(SHORT), Some(SHORT)), "timeouts that were both set");
    for direction in one.directions() {
        if !one.exhaust(direction).0 {
            continue;
        }
        let call = || match direction {
            Direction::Read => one.read(&mut [0; 8]),
            Direction::Write => one.write(b"more"),
        };
        let kind = |result: Result<usize, Error>| result.map_err(|error| error.kind());
        assert_eq!(kind(call()), Err(ErrorKind::TimedOut), "a call to {direction:?} whose time passes");
        one.set_blocking(false);
        assert!(one.wait(direction, None).expect("a wait"));
        assert_eq!(kind(call()), Err(ErrorKind::TimedOut), "a call to {direction:?} whose time has passed");
        assert_eq!(kind(call()), Err(ErrorKind::WouldBlock), "a call to {direction:?} behind that");
        one.set_blocking(true);
    }
}

/// \[P1\] `seek` moves the one position of reads and writes.
pub fn p1_a_seek_moves_the_one_position(setup: &Setup) {
    let one = setup.make();
    if !one.features().contains(Features::SEEKABLE) {
        let refused = one.seek(SeekFrom::Start(0));
        assert!(refused.as_ref().is_err_and(Error::is_unsupported), "a seek without SEEKABLE gave {refused:?}");
        return;
    }
    let at = |position| one.seek(position).unwrap_or_else(|error| panic!("a seek to {position:?} gave {error:?}"));
    for direction in one.directions() {
        assert_eq!(at(SeekFrom::Start(0)), 0, "the start");
        let first = one.attempt(direction, 3).expect("a call at the start");
        let behind = at(SeekFrom::Current(0));
        // What has no end has no position, either, and says 0.
        assert!(behind == first as u64 || behind == 0, "{first} bytes on from the start is said to be {behind}");
        let end = at(SeekFrom::End(0));
        assert!(end >= behind, "the end is at {end}, and behind {behind} there were bytes");
        let negative = one.seek(SeekFrom::Current(i64::MIN));
        let kind = negative.map_err(|error| error.kind());
        assert!(matches!(kind, Ok(0) | Err(ErrorKind::InvalidInput)), "a position in front of the start gave {kind:?}");
    }
}

/// \[R2\] 0 is returned for the end and for nothing else, and from then on by every read.
pub fn r2_the_end_is_the_end(setup: &Setup) {
    let one = setup.make();
    if !one.carries(Direction::Read) {
        return;
    }
    let (blocks, done) = one.exhaust(Direction::Read);
    for _ in 0..3 {
        match one.attempt(Direction::Read, 8) {
            Ok(0) if !blocks => {}
            Err(error) if blocks && error.is_would_block() => {}
            Ok(8) if done >= ENOUGH => {}
            other => panic!(
                "behind {done} bytes, where a read {} gave {other:?}",
                if blocks { "would block" } else { "said the end" }
            ),
        }
    }
}

/// \[R3\] \[W3\] A read without room and a write without bytes return 0 and touch nothing.
pub fn r3_a_call_for_nothing_touches_nothing(setup: &Setup) {
    let nothing = |one: &dyn Channel, direction, when: &str| {
        let mut none = [IoSliceMut::new(&mut []), IoSliceMut::new(&mut [])];
        let calls = match direction {
            Direction::Read => {
                [one.readv_full(&mut [], None, ReadFlags::empty()), one.readv_full(&mut none, None, ReadFlags::empty())]
            }
            Direction::Write => [
                one.writev_full(&[], &[], WriteFlags::empty()),
                one.writev_full(&[IoSlice::new(&[]); 2], &[], WriteFlags::empty()),
            ],
        };
        for call in calls {
            assert!(matches!(call, Ok(0)), "a call to {direction:?} nothing {when} gave {call:?}");
        }
    };
    let one = setup.make();
    for direction in one.directions() {
        nothing(&*one, direction, "at the start");
        one.exhaust(direction);
        nothing(&*one, direction, "where there is nothing to do");
    }
    one.shutdown(std::net::Shutdown::Both).expect("shutdown");
    for direction in one.directions() {
        nothing(&*one, direction, "behind our own end");
    }
}

/// \[W1\] A write returns how many bytes were taken, and never that none were.
pub fn w1_a_write_says_what_it_took(setup: &Setup) {
    let one = setup.make();
    if one.carries(Direction::Write) {
        let parts = [IoSlice::new(b""), IoSlice::new(b"one"), IoSlice::new(b"two")];
        let written = one.writev_full(&parts, &[], WriteFlags::empty());
        assert!(matches!(written, Ok(1..=6)), "a write of 6 bytes gave {written:?}");
    }
}

/// \[W4\] \[R1\] A list with more buffers than the system takes at once is a short call, not an error.
pub fn w4_a_list_may_be_longer_than_the_system_takes(setup: &Setup) {
    const MANY: usize = 3000;
    let one = setup.make();
    if one.carries(Direction::Write) {
        let written = one.writev_full(&[IoSlice::new(b"x"); MANY], &[], WriteFlags::empty());
        assert!(matches!(written, Ok(1..=MANY)), "a write of {MANY} buffers gave {written:?}");
    }
    let one = setup.make();
    if one.carries(Direction::Read) {
        let mut bytes = [0; MANY];
        let mut bufs: Vec<IoSliceMut<'_>> = bytes.chunks_mut(1).map(IoSliceMut::new).collect();
        let read = one.readv_full(&mut bufs, None, ReadFlags::DONT_WAIT);
        let is_short = matches!(read, Ok(0..=MANY)) || read.as_ref().is_err_and(Error::is_would_block);
        assert!(is_short, "a read of {MANY} buffers gave {read:?}");
    }
}

/// \[C3\] Cork and delay are hints: on a channel that knows neither they do nothing.
pub fn c3_hints_change_nothing(setup: &Setup) {
    let one = setup.make();
    one.set_cork(true);
    one.set_delay(true);
    if one.carries(Direction::Write) {
        let written = one.write(b"more");
        assert!(matches!(written, Ok(1..=4)), "a corked write gave {written:?}");
    }
    one.set_cork(false);
    one.set_delay(false);
    one.flush().expect("a flush");
    one.close().expect("close");
    one.set_cork(true);
    one.set_delay(true);
}

/// \[Q1\] \[Q3\] Where `readiness` says ready a call comes to something, or would block once; where one would block it says what to wait for.
pub fn q1_what_is_ready_does_not_block(setup: &Setup) {
    let one = setup.make();
    for direction in one.directions() {
        for _ in 0..3 {
            let mut vain = 0;
            while one.readiness(direction).is_ready()
                && one.attempt(direction, 1).is_err_and(|error| error.is_would_block())
            {
                vain += 1;
                assert!(vain < 3, "{direction:?} is said to be ready again and again, and would block");
            }
        }
        if one.exhaust(direction).0 {
            assert!(!one.readiness(direction).is_ready(), "{direction:?} would block, and is said to be ready");
            let waited = one.wait(direction, Some(SHORT)).expect("a wait");
            assert!(!waited, "a wait where {direction:?} would block ended in no time");
        } else {
            assert!(one.wait(direction, None).expect("a wait"), "a wait where {direction:?} does not block");
        }
    }
}
