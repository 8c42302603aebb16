//! W1 to W8: what a write takes, and what becomes of it.

use std::io::IoSlice;

use channel_core::{Channel, ChannelExt, Direction, Error, Features, WriteFlags};

use super::Setup;
use super::end::{End, Random, Task, UNBOUNDED, assert_stream, stream, wait_for_any};
use super::object::waits_for;
use super::setup::Mode;

/// \[W1\] A write returns exactly how many bytes were taken; an error means that none were.
pub fn w1_the_count_of_a_write_is_exact(setup: &Setup) {
    let (near, far) = setup.small_pair();
    let mut random = Random(11);
    let (mut sent, mut seen) = (0, 0);
    setup.step("writing until told would-block, and draining, in turns");
    while sent < 6000 {
        let bytes = stream(sent, 1 + random.below(600));
        match near.try_write(&bytes) {
            Ok(count) => {
                assert!(count > 0 && count <= bytes.len(), "a write of {} bytes returned {count}", bytes.len());
                sent += count;
            }
            Err(error) if error.is_would_block() => seen += drain_or_wait(&near, &far, seen),
            Err(error) => panic!("a write failed: {error:?}"),
        }
    }
    finish(setup, &near, &far, seen, sent);
    end_in_background(&near);
    setup.step("the peer reads to the end");
    let (extra, _) = far.take_to_end();
    assert!(extra.is_empty(), "writes said that {sent} bytes were taken, but {} more arrived", extra.len());
}

/// \[W2\] `WouldBlock` means that nothing was taken: a retry with other data is legal, and the peer sees only the other data.
pub fn w2_would_block_takes_nothing(setup: &Setup) {
    let (near, far) = setup.small_pair();
    let (mut taken, mut seen) = (Vec::new(), Vec::new());
    let (mut attempt, mut retried, mut refused) = (0, 0, false);
    setup.step("retrying refused writes with other data");
    while retried < 8 {
        attempt += 1;
        let other = stream(attempt * 7919, 700);
        match near.try_write(&other) {
            Ok(count) => {
                taken.extend_from_slice(&other[..count]);
                retried += usize::from(std::mem::take(&mut refused));
            }
            Err(error) if error.is_would_block() => {
                refused = true;
                // A little, so that the channel is soon full again.
                if !read_once(&far, &mut seen) {
                    wait_for_any(&[(&near, Direction::Write), (&far, Direction::Read)]);
                }
            }
            Err(error) => panic!("a write failed: {error:?}"),
        }
        assert!(taken.len() < UNBOUNDED, "no write was ever refused, [W9]");
    }
    let flushing = flush_in_background(&near);
    let rest = taken.len().saturating_sub(seen.len());
    seen.extend_from_slice(&far.take(rest));
    flushing.join_while_reading(&far);
    let wrong = seen.iter().zip(&taken).position(|(seen, taken)| seen != taken);
    assert_eq!(wrong, None, "the peer sees other bytes than the {} that writes took, from this one on", taken.len());
    far.expect_nothing();
}

/// \[W3\] A write of no bytes returns 0 and touches nothing, also after the end.
pub fn w3_a_write_of_nothing_touches_nothing(setup: &Setup) {
    let nothing = |near: &End, when: &str| {
        let empty = IoSlice::new(&[]);
        for list in [&[][..], &[empty], &[empty, empty, empty]] {
            for flags in [WriteFlags::empty(), WriteFlags::DONT_WAIT] {
                let written = near.writev_full(list, &[], flags);
                assert!(matches!(written, Ok(0)), "a write of no bytes {when} gave {written:?}");
            }
        }
    };
    let (near, far) = setup.pair();
    nothing(&near, "on an idle channel");
    near.flush_all().expect("a flush with nothing to do");
    far.expect_nothing();
    near.put(b"x");
    assert_eq!(far.take(1), b"x");
    if near.has_feature(Features::CLOSE_WRITE) {
        near.end_output();
        nothing(&near, "after close_write");
        let (bytes, _) = far.take_to_end();
        assert!(bytes.is_empty(), "writes of no bytes sent {bytes:?}");
    }
    drop(far);
    nothing(&near, "after the peer was gone");

    let (near, _far) = setup.small_pair();
    near.fill(0, UNBOUNDED);
    setup.step("a write of no bytes while the channel is full");
    nothing(&near, "while the channel is full");
}

/// \[W4\] A list with more buffers than the system takes at once is a short write, not an error.
pub fn w4_a_long_list_is_a_short_write(setup: &Setup) {
    const BUFFERS: usize = 5000; // IOV_MAX is 1024
    let (near, far) = setup.pair();
    let bytes = stream(0, BUFFERS);
    let list: Vec<IoSlice<'_>> = bytes.chunks(1).map(IoSlice::new).collect();
    let reading = Task::spawn(move || far.take(BUFFERS));
    let mut done = 0;
    while done < BUFFERS {
        let written = near.drive(Direction::Write, |near| near.writev(&list[done..]));
        let count = written.unwrap_or_else(|error| panic!("a write of {} buffers failed: {error:?}", BUFFERS - done));
        assert!(count > 0 && count <= BUFFERS - done, "a write of {} buffers returned {count}", BUFFERS - done);
        done += count;
    }
    near.flush_all().expect("a flush");
    assert_stream(0, &reading.join());
}

/// \[W5\] In blocking mode the bytes taken have left for the inner channel when the call returns, unless corked.
pub fn w5_a_blocking_write_leaves_nothing_behind(setup: &Setup) {
    let (near, far) = setup.pair();
    let near = near.in_mode(Mode::Blocking);
    let mut at = 0;
    for count in [1, 700, 2300] {
        near.write_whole(&stream(at, count)).expect("a blocking write");
        setup.step("the peer waits for bytes that a blocking write took, and no other call is made");
        assert_stream(at, &far.take(count));
        at += count;
    }
    let reading = Task::spawn(move || far.take(100_000));
    near.write_whole(&stream(at, 100_000)).expect("a blocking write");
    setup.step("the peer waits for bytes that large blocking writes took, and no other call is made");
    assert_stream(at, &reading.join());
}

/// \[W6\] A write to a peer that is gone is an error, never a signal.
///
/// A Rust program ignores `SIGPIPE` from the start and cannot undo that without unsafe code, so only the error is seen here.
pub fn w6_a_write_to_a_peer_that_is_gone_is_an_error(setup: &Setup) {
    let (near, far) = setup.pair();
    drop(far);
    setup.step("writing to a peer that is gone");
    let error = write_until_error(&near);
    assert!(error.is_disconnected(), "a write to a peer that is gone failed as {error:?}");
    let again = near.write_some(b"more");
    assert!(again.is_err(), "after {error:?} the next write gave {again:?}");

    let (near, far) = setup.small_pair();
    let taken = near.fill(0, UNBOUNDED);
    let writing = {
        let near = near.clone();
        Task::spawn(move || write_until_error_from(&near, taken))
    };
    writing.until_asleep();
    drop(far);
    setup.step("waiting for a blocked writer whose peer went");
    let error = writing.join();
    assert!(error.is_disconnected(), "a blocked write to a peer that went failed as {error:?}");
}

/// \[W7\] A failure after bytes were taken is reported by the next write, `flush`, `close_write` or `close`.
pub fn w7_a_failure_after_taking_is_reported(setup: &Setup) {
    for call in ["write", "flush", "close_write", "close"] {
        let (near, far) = setup.endless_pair();
        if call == "close_write" && !near.has_feature(Features::CLOSE_WRITE) {
            continue;
        }
        let idle = waits_for(&near);
        let taken = near.fill(0, UNBOUNDED);
        // The reader waits to push it: what was taken has not all gone.
        let holds = waits_for(&near).into_iter().any(|one| !idle.contains(&one));
        drop(far);
        setup.step("looking for the failure of bytes that were taken");
        let told = match call {
            "write" => near.write_some(&stream(taken, 1)).map(drop),
            "flush" => near.flush_all(),
            "close_write" => near.drive(Direction::Write, Channel::close_write),
            _ => near.drive(Direction::Write, Channel::close),
        };
        match told {
            Err(error) => assert!(error.is_disconnected(), "{call} reported lost bytes as {error:?}"),
            // What the system took is the system's.
            Ok(()) => assert!(!holds, "{call} says that all is well, and bytes were taken that can never go"),
        }
    }

    let (near, far) = setup.small_pair();
    near.set_cork(true);
    let taken = near.fill(0, 600);
    drop(far);
    near.set_cork(false);
    setup.step("looking for the failure of bytes that were corked");
    let error = match near.flush_all() {
        Ok(()) => write_until_error_from(&near, taken),
        Err(error) => error,
    };
    assert!(error.is_disconnected(), "lost bytes were reported as {error:?}");
}

/// \[W8\] `flush` pushes everything held, through every layer, corked or not; in non-blocking mode it returns `WouldBlock`
/// until all is gone.
pub fn w8_flush_pushes_everything(setup: &Setup) {
    let (near, far) = setup.pair();
    near.set_cork(true);
    near.write_whole(&stream(0, 100)).expect("a corked write");
    near.flush_all().expect("a flush while corked");
    setup.step("the peer waits for corked bytes that were flushed");
    assert_stream(0, &far.take(100));

    for corked in [false, true] {
        let (near, far) = setup.small_pair();
        near.set_cork(corked);
        let taken = near.fill(0, 8 * 1024);
        let mut seen = 0;
        if setup.mode() == Mode::Blocking {
            let flushing = flush_in_background(&near);
            setup.step("flushing in blocking mode while the peer reads");
            assert_stream(0, &far.take(taken));
            flushing.join_while_reading(&far);
            continue;
        }
        setup.step("flushing in non-blocking mode while the peer reads");
        loop {
            match setup.promptly("a non-blocking flush", || near.flush()) {
                Ok(()) => break,
                Err(error) if error.is_would_block() => seen += drain_or_wait(&near, &far, seen),
                Err(error) => panic!("a flush failed: {error:?}"),
            }
        }
        setup.step("the peer waits for bytes that a flush said were gone, and no other call is made");
        assert_stream(seen, &far.take(taken - seen));
        far.expect_nothing();
    }
}

/// Reads what is there without waiting, at position `from` of the stream, and returns how much that was.
pub(super) fn drain(far: &End, from: usize) -> usize {
    let mut seen = Vec::new();
    read_what_is_there(far, &mut seen);
    assert_stream(from, &seen);
    seen.len()
}

/// As [`drain`]; if there was nothing, waits until there is, or `near` can go on.
pub(super) fn drain_or_wait(near: &End, far: &End, from: usize) -> usize {
    let seen = drain(far, from);
    if seen == 0 {
        wait_for_any(&[(near, Direction::Write), (far, Direction::Read)]);
    }
    seen
}

fn read_what_is_there(far: &End, seen: &mut Vec<u8>) {
    while read_once(far, seen) {}
}

/// One read that does not wait; whether it found anything.
fn read_once(far: &End, seen: &mut Vec<u8>) -> bool {
    let mut buf = [0; 4096];
    match far.try_read(&mut buf) {
        Ok(0) => panic!("the stream ended early"),
        Ok(count) => seen.extend_from_slice(&buf[..count]),
        Err(error) if error.is_would_block() => return false,
        Err(error) => panic!("a read failed: {error:?}"),
    }
    true
}

pub(super) fn flush_in_background(near: &End) -> Task<()> {
    let near = near.clone();
    Task::spawn(move || near.flush_all().unwrap_or_else(|error| panic!("a flush failed: {error:?}")))
}

/// Ends the output of `near` while the peer reads. Whether that ever returns is open: a peer that has seen the end of the top
/// layer reads no more, and through small buffers the ends of the layers below may not fit.
pub(super) fn end_in_background(near: &End) -> Task<()> {
    let near = near.clone();
    Task::spawn(move || {
        let close = if near.has_feature(Features::CLOSE_WRITE) { Channel::close_write } else { Channel::close };
        let _ = near.drive(Direction::Write, close);
    })
}

/// Flushes `near` while `far` reads the stream from position `seen` up to `sent`, where it must end.
pub(super) fn finish(setup: &Setup, near: &End, far: &End, seen: usize, sent: usize) {
    let flushing = flush_in_background(near);
    setup.step("flushing while the peer reads");
    assert_stream(seen, &far.take(sent - seen));
    flushing.join_while_reading(far);
    far.expect_nothing();
}

fn write_until_error(near: &End) -> Error {
    write_until_error_from(near, 0)
}

fn write_until_error_from(near: &End, from: usize) -> Error {
    let mut at = from;
    while at < from + UNBOUNDED {
        match near.write_some(&stream(at, 1024)) {
            Ok(count) => at += count,
            Err(error) => return error,
        }
    }
    panic!("writes took {} bytes and never failed, although the peer is gone", at - from);
}
