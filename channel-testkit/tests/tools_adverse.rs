//! The adverse channels are conforming channels, and do the damage they say and no other.

use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use channel_core::{
    AioChange, AioHandler, Channel, ChannelExt, Direction, Error, ErrorKind, Features, MemoryChannel, ReadFlags,
    Shutdown, WriteFlags, describe, find_layer,
};
use channel_testkit::adverse::{self, Gate, HARMLESS, Wrap};
use channel_testkit::recording::Recorder;
use channel_testkit::watchdog;

fn content(count: usize) -> Vec<u8> {
    (0..count).map(|index| (index * 7 + index / 251) as u8).collect()
}

/// A connected pair, one end wrapped.
fn pair(capacity: usize, wrap: impl Fn(Box<dyn Channel>) -> Box<dyn Channel>) -> (Box<dyn Channel>, MemoryChannel) {
    let (near, far) = MemoryChannel::pair_with_capacity(capacity).unwrap();
    (wrap(Box::new(near)), far)
}

fn read_to_end(channel: &dyn Channel) -> Vec<u8> {
    let mut all = Vec::new();
    let mut piece = [0; 100];
    loop {
        match channel.read(&mut piece) {
            Ok(0) => return all,
            Ok(count) => all.extend_from_slice(&piece[..count]),
            Err(error) if error.is_would_block() => {
                channel.wait(Direction::Read, None).unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// By lending alone, taking less than is lent now and then.
fn lend_to_end(channel: &dyn Channel) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let mut lent = false;
        let result = channel.with_read_buf(&mut |bytes| {
            lent = true;
            let count = bytes.len().min(1 + all.len() % 5);
            all.extend_from_slice(&bytes[..count]);
            count
        });
        match result {
            Ok(0) if !lent => return all,
            Ok(_) => {}
            Err(error) if error.is_would_block() => {
                channel.wait(Direction::Read, None).unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Which bits differ, as (byte, mask).
fn differences(sent: &[u8], received: &[u8]) -> Vec<(usize, u8)> {
    assert_eq!(sent.len(), received.len());
    let pairs = sent.iter().zip(received).enumerate();
    pairs.filter(|(_, (a, b))| a != b).map(|(at, (a, b))| (at, a ^ b)).collect()
}

#[test]
fn one_bit_is_flipped_whatever_the_cuts() {
    watchdog::run("one_bit_is_flipped_whatever_the_cuts", || {
        let sent = content(2000);
        let cuts: [Wrap; 4] = [
            |inner| inner,
            adverse::one_byte,
            adverse::would_block_every_other,
            |inner| adverse::random_cuts(inner, 3),
        ];
        for offset in [0, 1, 63, 64, 999, 1999] {
            for over in cuts {
                for under in cuts {
                    for lend in [false, true] {
                        let flip = |inner| over(adverse::flip_bit_at(under(inner), Direction::Read, offset).0);
                        let (near, far) = pair(64, flip);
                        let received = thread::scope(|scope| {
                            scope.spawn(|| {
                                far.write_all(&sent).unwrap();
                                far.close_write().unwrap();
                            });
                            if lend { lend_to_end(&near) } else { read_to_end(&near) }
                        });
                        assert_eq!(differences(&sent, &received), [(offset as usize, 1)], "lend {lend}");
                    }
                    let flip = |inner| over(adverse::flip_bit_at(under(inner), Direction::Write, offset).0);
                    let (near, far) = pair(64, flip);
                    let received = thread::scope(|scope| {
                        scope.spawn(|| {
                            near.write_all(&sent).unwrap();
                            near.close_write().unwrap();
                        });
                        read_to_end(&far)
                    });
                    assert_eq!(differences(&sent, &received), [(offset as usize, 1)]);
                }
            }
        }
    });
}

#[test]
fn a_flipped_byte_looks_the_same_to_a_peek() {
    let (near, far) = pair(64, |inner| adverse::flip_bit_at(inner, Direction::Read, 1).0);
    far.write_all(b"aaa").unwrap();
    let mut seen = [0; 3];
    assert_eq!(near.read(&mut seen[..1]).unwrap(), 1);
    for _ in 0..2 {
        let mut peeked = [0; 3];
        assert_eq!(near.readv_full(&mut [IoSliceMut::new(&mut peeked)], None, ReadFlags::MSG_PEEK).unwrap(), 1);
        assert_eq!(peeked[0], b'a' ^ 1);
    }
    near.read_all(&mut seen[1..]).unwrap();
    assert_eq!(seen, [b'a', b'a' ^ 1, b'a']);
}

#[test]
fn a_flip_tells_whether_it_happened_and_how_far_the_stream_went() {
    for direction in [Direction::Read, Direction::Write] {
        let (near, far) = MemoryChannel::pair_with_capacity(4).unwrap();
        let (near, flip) = adverse::flip_bit_at(Box::new(near), direction, 3);
        let go = |count: usize| {
            let (from, to): (&dyn Channel, &dyn Channel) =
                if direction == Direction::Read { (&far, &near) } else { (&near, &far) };
            from.write_all(&vec![0; count]).unwrap();
            let mut came = vec![0; count];
            to.read_all(&mut came).unwrap();
            came
        };
        assert_eq!(go(3), [0; 3]);
        assert_eq!((flip.happened(), flip.gone()), (false, 3));
        // One end without bytes to give, the other without room: a call in vain moves nothing.
        near.set_blocking(false);
        if direction == Direction::Read {
            assert!(near.read(&mut [0]).unwrap_err().is_would_block());
            far.write_all(&[0]).unwrap();
            assert_eq!(near.readv_full(&mut [IoSliceMut::new(&mut [0])], None, ReadFlags::MSG_PEEK).unwrap(), 1);
            assert!(!flip.happened(), "a peek took nothing");
            near.read_all(&mut [0]).unwrap();
        } else {
            assert_eq!(go(1), [1]);
        }
        let kept = flip.clone();
        drop(near);
        assert_eq!((kept.happened(), kept.gone()), (true, 4));
    }
}

#[test]
fn a_corrupting_layer_says_what_it_does() {
    let (near, _far) = pair(64, |inner| adverse::flip_bit_at(inner, Direction::Write, 100_000).0);
    assert_eq!(describe(&near), "corrupt: flips one bit at byte 100000 of the outgoing stream / memory");
    assert_eq!(near.layer(), "corrupt");
}

#[test]
fn harmless_wrappers_change_nothing_in_blocking_mode() {
    watchdog::run("harmless_wrappers_change_nothing_in_blocking_mode", || {
        let sent = content(20_000);
        for (outer_name, outer) in HARMLESS {
            for (inner_name, inner) in HARMLESS {
                let (near, far) = pair(500, |channel| outer(inner(channel)));
                // Both directions at once, through buffers far too small.
                let heard = thread::scope(|scope| {
                    scope.spawn(|| near.write_all(&sent).and_then(|()| near.close_write()).unwrap());
                    scope.spawn(|| far.write_all(&sent).and_then(|()| far.close_write()).unwrap());
                    let far = scope.spawn(|| read_to_end(&far));
                    [read_to_end(&near), far.join().unwrap()]
                });
                assert!(heard.iter().all(|heard| *heard == sent), "{outer_name} over {inner_name}");
                assert_eq!(near.read(&mut [0; 4]).unwrap(), 0, "the end stays the end");
                near.close_write().unwrap();
                near.close().unwrap();
                near.close().unwrap();
                assert!(near.read(&mut [0; 4]).unwrap_err().is_closed());
                assert!(near.write(b"x").unwrap_err().is_closed());
            }
        }
    });
}

#[test]
fn harmless_wrappers_change_nothing_in_non_blocking_mode() {
    watchdog::run("harmless_wrappers_change_nothing_in_non_blocking_mode", || {
        let sent = content(5000);
        for (outer_name, outer) in HARMLESS {
            for (inner_name, inner) in HARMLESS {
                let (near, far) = pair(100, |channel| outer(inner(channel)));
                near.set_blocking(false);
                let heard = thread::scope(|scope| {
                    scope.spawn(|| far.write_all(&sent).and_then(|()| far.close_write()).unwrap());
                    let echo = scope.spawn(|| read_to_end(&far));
                    let heard = read_to_end(&near);
                    near.write_all(&heard).unwrap();
                    while near.close_write().is_err_and(|error| error.is_would_block()) {
                        near.wait(Direction::Write, None).unwrap();
                    }
                    assert_eq!(echo.join().unwrap(), sent, "{outer_name} over {inner_name}");
                    heard
                });
                assert_eq!(heard, sent, "{outer_name} over {inner_name}");
            }
        }
    });
}

#[test]
fn one_byte_goes_per_call() {
    let (near, far) = pair(64, adverse::one_byte);
    assert_eq!(near.writev(&[IoSlice::new(b""), IoSlice::new(b"ab")]).unwrap(), 1);
    far.write_all(b"xyz").unwrap();
    let (mut first, mut second) = ([0; 1], [0; 8]);
    assert_eq!(near.readv(&mut [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)]).unwrap(), 1);
    let mut lent = Vec::new();
    assert_eq!(
        near.with_read_buf(&mut |bytes| {
            lent.push(bytes.to_vec());
            bytes.len()
        })
        .unwrap(),
        1
    );
    assert_eq!(lent, [b"y".to_vec()]);
    assert_eq!(near.read(&mut second).unwrap(), 1);
    assert_eq!((first[0], second[0]), (b'x', b'z'));
}

#[test]
fn the_same_seed_cuts_the_same_way() {
    let cuts = |seed| {
        let (near, _far) = pair(64 * 1024, |inner| adverse::random_cuts(inner, seed));
        let data = content(600);
        (0..40).map(|_| near.write(&data).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(cuts(1), cuts(1));
    assert_ne!(cuts(1), cuts(2));
    assert!(cuts(1).contains(&600) && cuts(1).iter().any(|&cut| cut < 600), "{:?}", cuts(1));
}

#[test]
fn every_other_call_would_block_and_is_ready_at_once() {
    let (near, far) = pair(64, adverse::would_block_every_other);
    near.set_blocking(false);
    far.write_all(b"abcd").unwrap();
    let mut byte = [0];
    for expected in b"abcd" {
        assert!(near.read(&mut byte).unwrap_err().is_would_block());
        assert!(near.readiness(Direction::Read).is_ready());
        assert_eq!(near.read(&mut byte).unwrap(), 1);
        assert_eq!(byte[0], *expected);
    }
    for _ in 0..3 {
        // Each direction has its own turn.
        assert!(near.write(b"x").unwrap_err().is_would_block());
        assert!(near.readiness(Direction::Write).is_ready());
        assert!(!near.readiness(Direction::Read).is_ready());
        assert_eq!(near.write(b"x").unwrap(), 1);
    }
    assert_eq!(far.read(&mut [0; 8]).unwrap(), 3);
}

#[test]
fn an_idle_channel_is_not_ready_again_and_again() {
    let (near, far) = pair(64, adverse::would_block_every_other);
    near.set_blocking(false);
    far.write_all(b"x").unwrap();
    near.read_all(&mut [0]).unwrap();
    for _ in 0..10 {
        assert!(near.read(&mut [0]).unwrap_err().is_would_block());
        assert!(!near.readiness(Direction::Read).is_ready());
    }
}

#[test]
fn calls_made_in_turns_are_not_held_up_for_ever() {
    let (near, far) = pair(64, adverse::would_block_every_other);
    near.set_blocking(false);
    let mut flushed = 0;
    let mut written = 0;
    for _ in 0..20 {
        flushed += u32::from(near.flush().is_ok());
        written += u32::from(near.write(b"x").is_ok());
    }
    assert!(flushed >= 5 && written >= 5, "{flushed} flushes and {written} writes of 20 went through");
    far.write_all(&[0; 40]).unwrap();
    let mut read = 0;
    let mut lent = 0;
    for _ in 0..20 {
        read += u32::from(near.read(&mut [0]).is_ok());
        lent += u32::from(near.with_read_buf(&mut |_| 1).is_ok());
    }
    assert!(read >= 5 && lent >= 5, "{read} reads and {lent} lends of 20 went through");
}

#[test]
fn no_two_calls_of_a_direction_are_held_up_in_a_row() {
    let (near, far) = pair(64, adverse::would_block_every_other);
    near.set_blocking(false);
    far.write_all(b"ab").unwrap();
    assert!(near.read(&mut [0]).unwrap_err().is_would_block());
    assert_eq!(near.with_read_buf(&mut |_| 1).unwrap(), 1);
    assert!(near.write(b"x").unwrap_err().is_would_block());
    near.flush().unwrap();
}

#[test]
fn a_peek_is_held_up_but_consumes_nothing() {
    let (near, far) = pair(64, adverse::would_block_every_other);
    far.write_all(b"xy").unwrap();
    let mut seen = [0; 2];
    assert_eq!(near.readv_full(&mut [IoSliceMut::new(&mut seen)], None, ReadFlags::MSG_PEEK).unwrap(), 2);
    near.read_all(&mut seen).unwrap();
    assert_eq!(&seen, b"xy");
}

#[test]
fn dont_wait_holds_for_one_call() {
    let (near, _far) = pair(1, adverse::one_byte);
    let full = [IoSlice::new(b"x")];
    near.writev_full(&full, &[], WriteFlags::DONT_WAIT).unwrap();
    assert!(near.writev_full(&full, &[], WriteFlags::DONT_WAIT).unwrap_err().is_would_block());
    let mut byte = [0];
    let read = near.readv_full(&mut [IoSliceMut::new(&mut byte)], None, ReadFlags::DONT_WAIT);
    assert!(read.unwrap_err().is_would_block());
}

#[test]
fn the_chosen_call_fails_and_every_later_one() {
    let error = || Error::new(ErrorKind::Reset, "test", "on purpose");
    for calls in 1..4 {
        let (near, far) = pair(64, |inner| adverse::fail_after(inner, Direction::Write, calls, error()));
        near.set_name("victim");
        for _ in 1..calls {
            near.write(b"x").unwrap();
        }
        for _ in 0..2 {
            let failed = near.write(b"x").unwrap_err();
            assert_eq!(
                (failed.kind(), failed.channel(), failed.operation()),
                (ErrorKind::Reset, Some("victim"), "write")
            );
        }
        assert_eq!(near.flush().unwrap_err().kind(), ErrorKind::Reset);
        assert!(near.readiness(Direction::Write).is_ready(), "an error is there at once");
        assert_eq!(near.write(b"").unwrap(), 0, "a write of nothing touches nothing");
        far.write_all(b"y").unwrap();
        near.read_all(&mut [0]).unwrap();
        near.close().unwrap();
        assert!(near.write(b"x").unwrap_err().is_closed());
        assert_eq!(read_to_end(&far).len(), calls - 1);
    }
}

#[test]
fn calls_in_vain_are_not_counted() {
    let error = Error::new(ErrorKind::Reset, "test", "on purpose");
    let (near, far) = pair(64, |inner| adverse::fail_after(inner, Direction::Read, 2, error.clone()));
    near.set_blocking(false);
    for _ in 0..5 {
        assert!(near.read(&mut [0]).unwrap_err().is_would_block());
    }
    far.write_all(b"xy").unwrap();
    assert_eq!(near.read(&mut [0]).unwrap(), 1);
    assert_eq!(near.read(&mut [0]).unwrap_err().kind(), ErrorKind::Reset);
}

#[test]
fn the_stream_ends_after_so_many_bytes() {
    watchdog::run("the_stream_ends_after_so_many_bytes", || {
        for (_, wrap) in HARMLESS {
            let (near, far) = pair(64, |inner| wrap(adverse::truncate_after(inner, 5)));
            far.write_all(b"123456789").unwrap();
            assert_eq!(read_to_end(&near), b"12345");
            assert!(near.wait(Direction::Read, Some(Duration::ZERO)).unwrap(), "the end counts as ready");
            near.write_all(b"still").unwrap();
            assert!(far.with_read_buf(&mut |bytes| bytes.len()).unwrap() > 0);
        }
        let (near, far) = pair(64, |inner| adverse::truncate_after(inner, 0));
        assert_eq!(lend_to_end(&near), b"");
        drop(far);
    });
}

#[test]
fn what_is_taken_away_is_refused_with_a_reason() {
    let (near, far) = pair(64, adverse::no_lend);
    far.write_all(b"x").unwrap();
    assert!(!near.has_feature(Features::READ_BUF));
    assert!(near.why_not(Features::READ_BUF).is_some());
    assert!(near.with_read_buf(&mut |_| panic!("nothing is lent")).unwrap_err().is_unsupported());
    near.read_all(&mut [0]).unwrap();
    assert!(near.has_feature(Features::READ_MSG_PEEK | Features::CLOSE_WRITE | Features::SHUTDOWN));
}

#[test]
fn features_reasons_and_layers_show_through() {
    for (_, wrap) in HARMLESS {
        let (near, _far) = pair(64, wrap);
        assert!(find_layer::<MemoryChannel>(&near).is_some());
        for feature in Features::all() {
            assert_eq!(near.has_feature(feature), near.why_not(feature).is_none(), "{feature:?}");
        }
    }
}

#[test]
fn shutdown_wakes_a_reader_and_a_writer_blocked_in_any_wrapper() {
    watchdog::run("shutdown_wakes_a_reader_and_a_writer_blocked_in_any_wrapper", || {
        for (name, wrap) in HARMLESS {
            let (near, _far) = pair(1, wrap);
            near.write_all(b"x").unwrap();
            thread::scope(|scope| {
                let reader = scope.spawn(|| near.read(&mut [0; 4]));
                let writer = scope.spawn(|| near.write(b"y"));
                near.shutdown(Shutdown::Both).unwrap();
                assert_eq!(reader.join().unwrap().unwrap(), 0, "{name}");
                assert!(writer.join().unwrap().unwrap_err().is_disconnected(), "{name}");
            });
        }
    });
}

#[test]
fn a_recorder_writes_down_what_was_asked_and_answered() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let (near, log) = adverse::record(Box::new(near));
    near.set_cork(true);
    near.writev(&[IoSlice::new(b"ab"), IoSlice::new(b"c")]).unwrap();
    let mut seen = [0; 8];
    let peek = near.readv_full(&mut [IoSliceMut::new(&mut seen)], None, ReadFlags::DONT_WAIT);
    assert!(peek.unwrap_err().is_would_block());
    drop(far);
    near.write(b"x").unwrap_err();
    let calls = log.calls();
    let methods: Vec<_> = calls.iter().map(|called| called.method).collect();
    assert_eq!(methods, ["set_cork", "writev_full", "readv_full", "writev_full"]);
    assert_eq!((calls[0].asked, calls[0].result), (1, Ok(0)));
    assert_eq!((calls[1].asked, calls[1].buffers, calls[1].result), (3, 2, Ok(3)));
    assert_eq!((calls[2].asked, calls[2].dont_wait, calls[2].result), (8, true, Err(ErrorKind::WouldBlock)));
    assert_eq!(log.of("writev_full")[1].result, Err(ErrorKind::BrokenPipe));
    log.clear();
    assert!(log.calls().is_empty());
}

/// A pair whose near end stands behind a gate that is closed, with bytes waiting in front of it.
fn gated_pair() -> (Box<dyn Channel>, MemoryChannel, Arc<Gate>) {
    let gate = Gate::new();
    let (near, far) = pair(64, |inner| adverse::gated(inner, Arc::clone(&gate)));
    gate.close();
    far.write_all(b"0123456789").unwrap();
    (near, far, gate)
}

#[test]
fn a_gate_lets_pass_what_it_is_told_to() {
    let (near, far, gate) = gated_pair();
    near.set_blocking(false);
    let mut buf = [0; 16];
    assert!(near.read(&mut buf).unwrap_err().is_would_block());
    assert!(!near.wait(Direction::Read, Some(Duration::ZERO)).unwrap(), "ready behind a closed gate");
    gate.let_through(3);
    gate.let_through(1);
    assert!(near.wait(Direction::Read, Some(Duration::ZERO)).unwrap());
    assert_eq!(near.read(&mut buf[..3]).unwrap(), 3);
    assert_eq!(near.with_read_buf(&mut |bytes| bytes.len()).unwrap(), 1);
    assert!(near.read(&mut buf).unwrap_err().is_would_block());
    assert!(!near.wait(Direction::Read, Some(Duration::ZERO)).unwrap());
    assert_eq!(gate.passed(), 4);
    drop(far);
    assert!(near.read(&mut buf).unwrap_err().is_would_block(), "the end is held back as well");
    gate.open();
    assert_eq!(near.read(&mut buf).unwrap(), 6);
    assert_eq!(&buf[..6], b"456789");
    assert_eq!(near.read(&mut buf).unwrap(), 0);
}

#[test]
fn a_reader_asleep_behind_a_gate_wakes_when_it_opens_or_reading_is_shut_down() {
    watchdog::run("a_reader_asleep_behind_a_gate_wakes_when_it_opens_or_reading_is_shut_down", || {
        for ended in [false, true] {
            let (near, _far, gate) = gated_pair();
            thread::scope(|scope| {
                let reader = scope.spawn(|| near.read(&mut [0; 16]).unwrap());
                if ended {
                    near.shutdown(Shutdown::Read).unwrap();
                } else {
                    gate.let_through(2);
                }
                let count = reader.join().unwrap();
                assert!(if ended { count == 0 || count == 10 } else { count == 2 }, "{count} bytes, ended: {ended}");
            });
        }
    });
}

#[test]
fn a_handler_behind_a_gate_is_called_while_it_is_open() {
    let (near, _far, gate) = gated_pair();
    let recorder = Recorder::new();
    let calls = Arc::new(AtomicUsize::new(0));
    let called = Arc::clone(&calls);
    let count = AioHandler::new(recorder.clone(), move || {
        called.fetch_add(1, Ordering::SeqCst);
    });
    near.set_aio_fd_handler(AioChange::Set(count), AioChange::Keep).unwrap();
    assert_eq!(recorder.turn(Duration::ZERO).unwrap(), 0, "called behind a closed gate");
    gate.let_through(2);
    assert_eq!(recorder.turn(Duration::ZERO).unwrap(), 1);
    assert_eq!(near.read(&mut [0; 1]).unwrap(), 1);
    assert_eq!(recorder.turn(Duration::ZERO).unwrap(), 1);
    assert_eq!(near.read(&mut [0; 1]).unwrap(), 1);
    assert_eq!(recorder.turn(Duration::ZERO).unwrap(), 0, "called though nothing more may pass");
    gate.open();
    assert_eq!(recorder.turn(Duration::ZERO).unwrap(), 1);
    near.set_aio_fd_handler(AioChange::Clear, AioChange::Keep).unwrap();
    gate.close();
    gate.open();
    assert!(recorder.handlers().is_empty(), "a gate that opens sets a handler that was cleared");
    assert_eq!(calls.load(Ordering::SeqCst), 3);
}
