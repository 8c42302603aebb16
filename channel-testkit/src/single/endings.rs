//! How it ends: E, S, D.

use std::io::{IoSlice, IoSliceMut, SeekFrom};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;

use channel_core::{AioChange, ChannelExt, Direction, Error, Features, ReadFlags, WriteFlags};

use super::object::refusals;
use super::{Setup, assert_closed, assert_ended};
use crate::asleep::asleep;
use crate::suite::files::{assert_released, file_behind, polled, watched};

/// \[E3\] `close_write` ends our output. A later write fails; a second `close_write` does nothing; reading goes on.
pub fn e3_our_output_ends_once(setup: &Setup) {
    let one = setup.make();
    let features = one.features();
    let both = features.contains(Features::CLOSE_WRITE | Features::HALF_CLOSE);
    assert_eq!(
        both,
        features.intersects(Features::CLOSE_WRITE | Features::HALF_CLOSE),
        "{features:?} of a channel without layers"
    );
    if !both {
        let refused = one.close_write();
        assert!(refused.as_ref().is_err_and(Error::is_unsupported), "close_write without CLOSE_WRITE gave {refused:?}");
        return;
    }
    for time in ["a first", "a second"] {
        one.close_write().unwrap_or_else(|error| panic!("{time} close_write gave {error:?}"));
        assert_ended(Direction::Write, &one.write(b"more"), "after close_write");
        assert!(one.readiness(Direction::Write).is_ready(), "a write after close_write fails at once");
    }
    if one.carries(Direction::Read) {
        let read = one.attempt(Direction::Read, 8);
        let goes_on = read.is_ok() || read.as_ref().is_err_and(Error::is_would_block);
        assert!(goes_on, "a read after close_write gave {read:?}");
    }
}

/// \[S1\] \[S2\] `shutdown` ends the directions it is for, and wakes calls that are blocked in them.
pub fn s1_shutdown_ends_and_wakes(setup: &Setup) {
    for (how, ends) in [
        (Shutdown::Read, &[Direction::Read][..]),
        (Shutdown::Write, &[Direction::Write]),
        (Shutdown::Both, &[Direction::Read, Direction::Write]),
    ] {
        let one = setup.make();
        assert!(one.features().contains(Features::SHUTDOWN), "a channel without layers wakes whoever waits");
        let ends = || ends.iter().copied().filter(|direction| one.carries(*direction));
        let blocks: Vec<Direction> = ends().filter(|direction| one.exhaust(*direction).0).collect();
        thread::scope(|scope| {
            let one = &one;
            let waiters = blocks.into_iter().map(|direction| {
                let call = move || match direction {
                    Direction::Read => one.read(&mut [0; 8]),
                    Direction::Write => one.write(b"more"),
                };
                (direction, asleep(scope, call))
            });
            let waiters: Vec<_> = waiters.collect();
            for _ in 0..2 {
                one.shutdown(how).unwrap_or_else(|error| panic!("shutdown of {how:?} gave {error:?}"));
            }
            for (direction, waiter) in waiters {
                let woken = waiter.join().expect("a call that returns");
                assert_ended(direction, &woken, "that shutdown woke");
            }
        });
        for direction in ends() {
            assert!(one.readiness(direction).is_ready(), "{direction:?} is over, and a call says so at once");
            let call = match direction {
                Direction::Read => one.read(&mut [0; 8]),
                Direction::Write => one.write(b"more"),
            };
            assert_ended(direction, &call, "after shutdown");
        }
        one.close().expect("close after shutdown");
    }
}

/// \[S3\] `close` is idempotent, and later calls get `Closed`, before anything else that they would be refused for.
pub fn s3_closed_is_said_before_anything_else(setup: &Setup) {
    let one = setup.make();
    let blocks: Vec<Direction> = one.directions().filter(|direction| one.exhaust(*direction).0).collect();
    // The eventfds that wake its waiters a channel may keep as long as it lives.
    let files = watched(polled(&*one).into_iter().filter(|file| !file_behind(file).contains("eventfd")).collect());
    thread::scope(|scope| {
        let one = &one;
        let waiters = blocks.into_iter().map(|direction| {
            asleep(scope, move || match direction {
                Direction::Read => one.read(&mut [0; 8]),
                Direction::Write => one.write(b"more"),
            })
        });
        let waiters: Vec<_> = waiters.collect();
        for time in ["a first", "a second"] {
            one.close().unwrap_or_else(|error| panic!("{time} close gave {error:?}"));
        }
        for waiter in waiters {
            let woken = waiter.join().expect("a call that returns");
            assert_closed(&woken, "a call that was blocked");
        }
    });
    assert_released(&files, "closed, with nobody inside");
    let (mut byte, mut fds, stdin) = ([0], Vec::new(), std::io::stdin());
    assert_closed(&one.read(&mut [0; 8]), "a read");
    assert_closed(&one.read(&mut []), "a read of nothing");
    assert_closed(
        &one.readv_full(&mut [IoSliceMut::new(&mut byte)], Some(&mut fds), ReadFlags::all()),
        "a read with every flag",
    );
    assert_closed(&one.write(b"x"), "a write");
    assert_closed(&one.write(b""), "a write of nothing");
    assert_closed(
        &one.writev_full(&[IoSlice::new(b"x")], &[stdin.as_fd()], WriteFlags::all()),
        "a write with every flag",
    );
    assert_closed(&one.flush(), "a flush");
    assert_closed(&one.close_write(), "close_write");
    assert_closed(&one.seek(SeekFrom::Start(0)), "a seek");
    assert_closed(&one.with_read_buf(&mut |_| 0), "a lend");
    assert_closed(&one.handshake(), "a handshake");
    assert_closed(&one.set_aio_fd_handler(AioChange::Keep, AioChange::Keep), "a change of handlers");
    for direction in [Direction::Read, Direction::Write] {
        assert!(one.readiness(direction).is_ready(), "calls to {direction:?} after close fail at once");
    }
    one.shutdown(Shutdown::Both).expect("shutdown after close");
}

/// \[S4\] Dropping a channel leaks nothing.
pub fn s4_drop_lets_go(setup: &Setup) {
    let one = setup.make();
    let files = watched(polled(&*one));
    drop(one);
    assert_released(&files, "dropped");
}

/// \[S5\] Any number may close, and get the one result; in no mode does a channel without layers make them wait.
pub fn s5_all_who_close_get_the_one_result(setup: &Setup) {
    for blocking in [true, false] {
        let one = setup.make();
        one.set_blocking(blocking);
        let closers: Vec<_> = thread::scope(|scope| {
            let closers: Vec<_> =
                (0..3).map(|_| scope.spawn(|| one.close().map_err(|error| error.to_string()))).collect();
            closers.into_iter().map(|closer| closer.join().expect("a closer")).collect()
        });
        assert!(closers.iter().all(Result::is_ok), "three who closed got {closers:?}");
    }
}

/// \[D1\] What `readiness` handed out stays the same file until it is let go.
pub fn d1_a_descriptor_that_was_handed_out_stays(setup: &Setup) {
    let one = setup.make();
    let files: Vec<_> = polled(&*one).into_iter().map(|file| (file_behind(&file), file)).collect();
    one.close().expect("close");
    drop(one);
    for (was, file) in &files {
        assert_eq!(*was, file_behind(file), "what a descriptor refers to that was handed out");
        assert_eq!(Arc::strong_count(file), 1, "who keeps {was} open, of a channel that is gone");
    }
}

/// \[D5\] What it cannot do is refused before any byte, and so is a call in a direction that it does not have.
pub fn d5_what_it_cannot_do_is_refused(setup: &Setup) {
    let one = setup.make();
    for (error, missing) in refusals(&one) {
        if let Some(missing) = missing {
            let why = one.why_not(missing).unwrap_or_default();
            assert!(error.to_string().contains(&why), "{error}, and why_not({missing:?}) says `{why}`");
        }
    }
}
