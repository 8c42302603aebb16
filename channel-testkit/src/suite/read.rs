//! R: what a read gives.

use std::io::IoSliceMut;

use channel_core::{ChannelExt, Direction, Features, ReadFlags, Result};

use super::Setup;
use super::end::{End, Random, Task, assert_stream, stream};

/// \[R1\] A read fills each buffer before the next.
pub fn r1_each_buffer_is_filled_before_the_next(setup: &Setup) {
    let (near, far) = setup.pair();
    let shapes: &[&[usize]] = &[&[1, 1, 600], &[3, 4, 500], &[0, 5, 0, 7, 400], &[512, 512], &[1000, 1]];
    let mut at = 0;
    for shape in shapes {
        far.put(&stream(at, 512));
        let mut left = 512;
        while left > 0 {
            let (count, bufs) = readv_some(&near, shape, ReadFlags::empty()).expect("a read of data that was sent");
            assert!(count > 0 && count <= left, "a read returned {count} while {left} bytes were under way");
            // Exactly the first `count` bytes of the room, in the order of the buffers.
            assert_stream(at, &bufs.concat()[..count]);
            at += count;
            left -= count;
        }
    }
    // More buffers than the system takes at once make a short read, not an error.
    far.put(&stream(at, 3000));
    let (mut left, shape) = (3000, [1; 3000]);
    while left > 0 {
        let (count, bufs) = readv_some(&near, &shape[..left], ReadFlags::empty()).expect("a read into 3000 buffers");
        assert!(count > 0, "a read into {left} buffers returned 0");
        assert_stream(at, &bufs.concat()[..count]);
        at += count;
        left -= count;
    }
}

/// \[R2\] 0 is returned for the clean end of the stream and for nothing else, and from then on by every read.
pub fn r2_zero_is_the_clean_end_and_nothing_else(setup: &Setup) {
    let (near, far) = setup.pair();
    let mut buf = [0; 16];
    near.expect_nothing();
    assert_eq!(far.write_some(&[]).expect("a write of no bytes"), 0);
    far.flush_all().expect("a flush with nothing to do");
    near.expect_nothing();
    far.put(b"data");
    assert_eq!(near.take(4), b"data");
    near.expect_nothing();
    far.put(b"last");
    far.end_output();
    setup.step("reading to the end");
    assert_eq!(near.take(4), b"last");
    for _ in 0..4 {
        match near.read_some(&mut buf) {
            Ok(0) => {}
            other => panic!("a read at the clean end gave {other:?}"),
        }
        match near.try_read(&mut buf) {
            Ok(0) => {}
            other => panic!("a read with DONT_WAIT at the clean end gave {other:?}"),
        }
    }
}

/// \[R3\] A request without room returns 0 and touches nothing, also at the end and after an error.
pub fn r3_a_read_without_room_touches_nothing(setup: &Setup) {
    let without_room = |near: &End, when: &str| {
        for shape in [&[][..], &[0], &[0, 0, 0]] {
            match readv_once(near, shape, ReadFlags::empty()) {
                Ok((0, _)) => {}
                other => panic!("a read without room {when} gave {other:?}"),
            }
            match readv_once(near, shape, ReadFlags::DONT_WAIT) {
                Ok((0, _)) => {}
                other => panic!("a read without room and with DONT_WAIT {when} gave {other:?}"),
            }
        }
    };
    let (near, far) = setup.pair();
    setup.step("a read without room on an idle channel");
    without_room(&near, "on an idle channel");
    far.put(b"kept");
    near.wait(Direction::Read, None).expect("a wait");
    without_room(&near, "with data pending");
    assert_eq!(near.take(4), b"kept", "a read without room consumed something");
    far.end_output();
    without_room(&near, "before the end was seen");
    assert_eq!(near.read_some(&mut [0; 8]).expect("the clean end"), 0);
    without_room(&near, "at the end");

    let (near, far) = setup.pair();
    drop(far);
    let (_, _) = near.take_to_end();
    without_room(&near, "after the peer was gone");
}

/// \[R4\] Data in hand is returned; it is never held back to fill a later buffer.
pub fn r4_data_in_hand_is_not_held_back(setup: &Setup) {
    let (near, far) = setup.pair();
    setup.step("reading 3 bytes into more room than that; no more were sent");
    for shape in [&[3, 1000][..], &[1, 8, 1000], &[1000], &[1; 100], &[2, 2]] {
        far.put(b"abc");
        let mut seen = Vec::new();
        while seen.len() < 3 {
            let (count, bufs) = readv_some(&near, shape, ReadFlags::empty()).expect("a read of data that was sent");
            assert!(count > 0, "a read returned 0 with {} bytes on their way", 3 - seen.len());
            seen.extend_from_slice(&bufs.concat()[..count]);
        }
        assert_eq!(seen, b"abc");
    }
}

/// \[R5\] Every byte arrives once, in order, unchanged, however the bytes are cut into reads, writes and buffers.
pub fn r5_every_byte_arrives_once_in_order(setup: &Setup) {
    const TOTAL: usize = 24 * 1024;
    for seed in [1, 2] {
        let (near, far) = setup.pair();
        for (from, to) in [(&far, &near), (&near, &far)] {
            let (from, total) = (from.clone(), TOTAL);
            let writer = Task::spawn(move || write_in_cuts(&from, total, &mut Random(seed)));
            read_in_cuts(to, TOTAL, &mut Random(seed + 100));
            writer.join();
            to.expect_nothing();
        }
    }
}

fn write_in_cuts(to: &End, total: usize, random: &mut Random) {
    let mut at = 0;
    while at < total {
        let most = if random.below(3) == 0 { 4000 } else { 40 };
        let bytes = stream(at, random.below(most).min(total - at));
        let mut rest = &bytes[..];
        let mut pieces = Vec::new();
        while !rest.is_empty() && pieces.len() < 20 {
            let (piece, later) = rest.split_at(random.below(rest.len() + 1));
            pieces.push(std::io::IoSlice::new(piece));
            rest = later;
        }
        let room: usize = pieces.iter().map(|piece| piece.len()).sum();
        let count = to.drive(Direction::Write, |to| to.writev(&pieces)).expect("a write in random cuts");
        assert!(count <= room && (count > 0 || room == 0), "a write of {room} bytes returned {count}");
        at += count;
    }
    to.flush_all().expect("a flush");
}

fn read_in_cuts(from: &End, total: usize, random: &mut Random) {
    let seed = random.0;
    let mut at = 0;
    while at < total {
        let most = if random.below(3) == 0 { 3000 } else { 30 };
        let bytes = match random.below(8) {
            0 if from.has_feature(Features::READ_BUF) => lend_some(from, most),
            1 if from.has_feature(Features::READ_MSG_PEEK) => {
                let (count, bufs) = readv_some(from, &[most + 1], ReadFlags::MSG_PEEK).expect("a peek");
                assert_stream(at, &bufs.concat()[..count]);
                continue;
            }
            _ => {
                let shape: Vec<usize> = (0..=random.below(4)).map(|_| random.below(most)).collect();
                if shape.iter().all(|room| *room == 0) {
                    continue;
                }
                let (count, bufs) = readv_some(from, &shape, ReadFlags::empty()).expect("a read in random cuts");
                assert!(count > 0, "the stream ended after {at} of {total} bytes (seed {seed})");
                bufs.concat()[..count].to_vec()
            }
        };
        assert_stream(at, &bytes);
        at += bytes.len();
    }
}

/// \[R6\] `MSG_PEEK` does not consume; without the feature it is refused.
pub fn r6_peek_does_not_consume(setup: &Setup) {
    let (near, far) = setup.pair();
    far.put(b"hello");
    if !near.has_feature(Features::READ_MSG_PEEK) {
        match readv_once(&near, &[3], ReadFlags::MSG_PEEK) {
            Err(error) if error.is_unsupported() => {}
            other => panic!("a peek without READ_MSG_PEEK gave {other:?}"),
        }
        assert_eq!(near.take(5), b"hello", "the refused peek consumed something");
        return;
    }
    for room in [1, 3, 100] {
        let (count, bufs) = readv_some(&near, &[1, room], ReadFlags::MSG_PEEK).expect("a peek");
        assert!(count > 0, "a peek returned 0 with data pending");
        assert_eq!(bufs.concat()[..count], b"hello"[..count], "what a peek into {room} bytes saw");
    }
    assert_eq!(near.take(2), b"he", "a peek consumed something");
    let (count, bufs) = readv_some(&near, &[2], ReadFlags::MSG_PEEK).expect("a peek in the middle");
    assert_eq!(bufs[0][..count], b"ll"[..count]);
    assert_eq!(near.take(3), b"llo", "a peek consumed something");
    match readv_once(&near, &[4], ReadFlags::MSG_PEEK | ReadFlags::DONT_WAIT) {
        Err(error) if error.is_would_block() => {}
        other => panic!("a peek with nothing to see gave {other:?}"),
    }
    far.end_output();
    for _ in 0..2 {
        let (count, _) = readv_some(&near, &[4], ReadFlags::MSG_PEEK).expect("a peek at the end");
        assert_eq!(count, 0, "a peek at the end");
    }
    assert_eq!(near.read_some(&mut [0; 4]).expect("a read at the end"), 0);
}

/// \[R7\] `with_read_buf` lends what a read would give; what is left comes first in the next read.
pub fn r7_what_a_lend_leaves_comes_next(setup: &Setup) {
    let (near, far) = setup.pair();
    if !near.has_feature(Features::READ_BUF) {
        far.put(b"hello");
        match near.with_read_buf(&mut |_| panic!("take was called without READ_BUF")) {
            Err(error) if error.is_unsupported() => {}
            other => panic!("a lend without READ_BUF gave {other:?}"),
        }
        assert_eq!(near.take(5), b"hello", "the refused lend consumed something");
        return;
    }
    match setup.promptly("a lend with nothing to give", || near.with_read_buf(&mut |bytes| bytes.len())) {
        Err(error) if error.is_would_block() => {}
        other => panic!("a lend with nothing to give returned {other:?}"),
    }
    far.put(&stream(0, 1000));
    // Nothing taken: nothing consumed.
    let seen = lend_some(&near, 0);
    assert!(seen.is_empty());
    let mut at = 0;
    while at < 1000 {
        let bytes = lend_some(&near, 7);
        assert_stream(at, &bytes);
        at += bytes.len();
        if at < 1000 {
            let mut buf = [0; 5];
            let count = near.read_some(&mut buf).expect("a read after a lend");
            assert_stream(at, &buf[..count]);
            at += count;
        }
    }
    near.expect_nothing();
    far.end_output();
    setup.step("a lend at the end");
    let ended = near.poll(Direction::Read, |near| {
        near.with_read_buf(&mut |bytes| panic!("take was called at the end, with {bytes:?}"))
    });
    assert!(matches!(ended, Ok(0)), "a lend at the clean end gave {ended:?}");
}

/// Borrows once there is something to borrow, and consumes at most `most` bytes of it.
fn lend_some(near: &End, most: usize) -> Vec<u8> {
    let mut taken = Vec::new();
    let (mut refused, mut called) = (false, false);
    let lent = near.poll(Direction::Read, |near| {
        let result = near.with_read_buf(&mut |bytes| {
            assert!(!bytes.is_empty(), "a lend of no bytes");
            assert!(!refused, "take was called again although it had left bytes");
            called = true;
            let count = bytes.len().min(most - taken.len());
            refused = count < bytes.len();
            taken.extend_from_slice(&bytes[..count]);
            count
        });
        assert!(result.is_ok() || !called, "a lend called take and then gave {result:?}");
        result
    });
    let count = lent.expect("a lend of data that was sent");
    assert!(called, "a lend returned {count} without a call of take before the end");
    assert_eq!(count, taken.len(), "what a lend says was consumed");
    taken
}

/// One read into buffers of the given sizes, as the mode of the channel has it.
fn readv_once(from: &End, shape: &[usize], flags: ReadFlags) -> Result<(usize, Vec<Vec<u8>>)> {
    let mut bufs: Vec<Vec<u8>> = shape.iter().map(|room| vec![0; *room]).collect();
    let mut slices: Vec<IoSliceMut<'_>> = bufs.iter_mut().map(|buf| IoSliceMut::new(buf)).collect();
    let count = from.readv_full(&mut slices, None, flags)?;
    let room: usize = shape.iter().sum();
    assert!(count <= room, "a read into {room} bytes returned {count}");
    Ok((count, bufs))
}

/// One read into buffers of the given sizes that waits.
fn readv_some(from: &End, shape: &[usize], flags: ReadFlags) -> Result<(usize, Vec<Vec<u8>>)> {
    from.drive(Direction::Read, |_| readv_once(from, shape, flags))
}
