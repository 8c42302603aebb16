//! M: calls that wait, calls that do not, and the forms that always do.

use std::io::{IoSlice, IoSliceMut};

use channel_core::{ChannelExt, Error, ErrorKind, Features, ReadFlags, WriteFlags};

use super::end::{End, UNBOUNDED, assert_stream, stream};
use super::files::{polled, status_flags};
use super::object::in_background;
use super::setup::{Mode, endless, open, small_limits};
use super::{Options, Setup};

/// A pair whose near end was never told a mode, so that it must be blocking.
fn fresh_pair(setup: &Setup) -> (End, End) {
    let limits = endless(small_limits());
    let (near, far) = setup.unopened(&Options { small_buffers: true, limits, ..Options::default() });
    let near = near.driven_as(Mode::Blocking);
    open(&near, &far);
    (near, far)
}

/// \[M1\] `set_blocking` is a flag of the channel that is called. Channels start out blocking; a change applies from the next
/// call on. In non-blocking mode no call waits: one that would says `WouldBlock`.
pub fn m1_blocking_is_a_flag_of_the_channel(setup: &Setup) {
    let (near, far) = fresh_pair(setup);
    let reader = in_background(&near, |near| near.read_some(&mut [0; 8]));
    reader.until_asleep();
    near.set_blocking(false);
    let putting = in_background(&far, |far| far.put(b"1"));
    let read = reader.join();
    assert!(matches!(read, Ok(1)), "a blocking read, begun before set_blocking(false), gave {read:?}");
    putting.join_while_reading(&near);

    let would_block = |what: &'static str, result: &Result<(), Error>| {
        let blocked = result.as_ref().is_err_and(Error::is_would_block);
        assert!(blocked, "{what} in non-blocking mode gave {result:?}");
    };
    let read = setup.promptly("a non-blocking read", || near.read(&mut [0; 8]).map(drop));
    would_block("a read with nothing to read", &read);
    let lent = setup.promptly("a lend", || near.with_read_buf(&mut |_| 0).map(drop));
    if near.has_feature(Features::READ_BUF) {
        would_block("a lend with nothing to lend", &lent);
    }
    let mut taken = 0;
    let refused = loop {
        match setup.promptly("a non-blocking write", || near.write(&stream(taken, 4096))) {
            Ok(count) => taken += count,
            Err(error) => break Err(error),
        }
        assert!(taken < UNBOUNDED, "{taken} bytes were taken that the peer does not read, and none was refused");
    };
    would_block("a write to a full channel", &refused);
    let flushed = setup.promptly("a non-blocking flush", || near.flush());
    assert!(flushed.is_ok() || flushed.as_ref().is_err_and(Error::is_would_block), "a flush gave {flushed:?}");
    setup.promptly("a handshake that is complete", || near.handshake()).expect("a handshake that is complete");

    // The other end was told nothing and waits still.
    assert_stream(0, &{
        let pushing = in_background(&near.driven_as(Mode::NonBlocking), End::flush_all);
        let seen = far.take(taken);
        pushing.join_while_reading(&far).expect("a flush");
        seen
    });
    let reader = in_background(&far, |far| far.read_some(&mut [0; 8]));
    reader.until_asleep();
    let putting = in_background(&near.driven_as(Mode::NonBlocking), |near| near.put(b"2"));
    let read = reader.join();
    assert!(matches!(read, Ok(1)), "a read at the far end, which is blocking, gave {read:?}");
    putting.join_while_reading(&far);

    near.set_blocking(true);
    let reader = in_background(&near, |near| near.read_some(&mut [0; 8]));
    reader.until_asleep();
    let putting = in_background(&far, |far| far.put(b"3"));
    let read = reader.join();
    assert!(matches!(read, Ok(1)), "a read after set_blocking(true) gave {read:?}");
    putting.join_while_reading(&near);

    near.set_blocking(false);
    near.fill(0, UNBOUNDED);
    let closed = setup.promptly("a non-blocking close", || near.close());
    assert!(!matches!(&closed, Err(error) if error.is_busy()), "a non-blocking close gave {closed:?}");
}

/// \[M2\] `DONT_WAIT` makes one call non-blocking and leaves the mode as it was; a descriptor's own `O_NONBLOCK` is never changed.
pub fn m2_dont_wait_is_for_one_call(setup: &Setup) {
    let (near, far) = fresh_pair(setup);
    let taken = near.fill(0, UNBOUNDED);
    let files: Vec<_> = polled(&*near).into_iter().map(|file| (status_flags(&file), file)).collect();
    let unchanged = |when: &str| {
        for (flags, file) in &files {
            assert_eq!(*flags, status_flags(file), "the status flags of a descriptor {when}");
        }
    };
    for blocking in [true, false, true] {
        near.set_blocking(blocking);
        unchanged("after set_blocking");
        let read = setup.promptly("a read with DONT_WAIT", || near.try_read(&mut [0; 8]));
        assert!(read.as_ref().is_err_and(Error::is_would_block), "a read with DONT_WAIT gave {read:?}");
        let written = setup.promptly("a write with DONT_WAIT", || near.try_write(b"x"));
        assert!(written.as_ref().is_err_and(Error::is_would_block), "a write with DONT_WAIT gave {written:?}");
        unchanged("after calls with DONT_WAIT");
        if !blocking {
            let read = setup.promptly("a non-blocking read", || near.read(&mut [0; 8]));
            assert!(read.as_ref().is_err_and(Error::is_would_block), "DONT_WAIT changed the mode: {read:?}");
        }
    }
    let reader = in_background(&near, |near| near.read_some(&mut [0; 8]));
    let writer = in_background(&near, move |near| near.write_whole(&stream(taken, 1)).and_then(|()| near.flush_all()));
    reader.until_asleep();
    writer.until_asleep();
    unchanged("while calls are blocked");
    let putting = in_background(&far, |far| far.put(b"1"));
    let read = reader.join();
    assert!(matches!(read, Ok(1)), "after DONT_WAIT, a blocking read gave {read:?}");
    putting.join_while_reading(&near);
    assert_stream(0, &far.take(taken + 1));
    let written = writer.join_while_reading(&far);
    assert!(written.is_ok(), "after DONT_WAIT, a blocking write gave {written:?}");
    unchanged("after blocking calls");
}

/// \[M3\] The `_all` forms wait when they must, in every mode, and never return `WouldBlock`.
pub fn m3_the_all_forms_wait_in_every_mode(setup: &Setup) {
    let (near, far) = setup.pair();
    for flags in [ReadFlags::empty(), ReadFlags::DONT_WAIT] {
        let reader = in_background(&near, move |near| {
            let (mut one, mut two) = ([0; 40], [0; 60]);
            let mut bufs = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
            near.readv_full_all(&mut bufs, None, flags).map(|()| [&one[..], &two].concat())
        });
        reader.until_asleep();
        far.put(&stream(0, 30));
        reader.until_asleep();
        far.put(&stream(30, 70));
        setup.step("read_all of bytes that come in two parts");
        let read = reader.join();
        assert_stream(0, &read.unwrap_or_else(|error| panic!("read_all with {flags:?} gave {error:?}")));
    }
    let reader = in_background(&near, |near| near.read_all_eof(&mut [0; 8]));
    reader.until_asleep();
    far.end_output();
    setup.step("read_all_eof at the clean end");
    let read = reader.join();
    assert!(matches!(read, Ok(false)), "read_all_eof at the clean end gave {read:?}");

    let (near, far) = setup.small_pair();
    let mut sent = near.fill(0, UNBOUNDED);
    for flags in [WriteFlags::empty(), WriteFlags::DONT_WAIT] {
        let writer = in_background(&near, move |near| {
            let (one, two) = (stream(sent, 300), stream(sent + 300, 3000));
            let mut bufs = [IoSlice::new(&one), IoSlice::new(&two)];
            let written = near.writev_full_all(&mut bufs, &[], flags);
            written.unwrap_or_else(|error| panic!("write_all with {flags:?} gave {error:?}"));
            near.flush_all().expect("a flush");
        });
        writer.until_asleep();
        setup.step("write_all to a channel that is full, while the peer reads");
        let from = if flags.is_empty() { 0 } else { sent };
        sent += 3300;
        assert_stream(from, &far.take(sent - from));
        writer.join_while_reading(&far);
    }
}

/// \[M4\] The error of an `_all` form says how many bytes were done.
pub fn m4_the_all_forms_say_how_much_was_done(setup: &Setup) {
    let (near, far) = setup.pair();
    far.put(b"abc");
    far.end_output();
    let error = near.read_all(&mut [0; 8]).expect_err("a read of 8 bytes where 3 were sent");
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "read_all cut short gave {error:?}");
    assert_eq!(error.bytes_done(), Some(3), "read_all cut short after 3 bytes gave {error:?}");

    let (near, far) = setup.small_pair();
    let writer = in_background(&near, |near| near.write_all(&stream(0, UNBOUNDED)));
    setup.step("reading a part of a long write");
    assert_stream(0, &far.take(500));
    drop(far);
    setup.step("waiting for the failure of a long write");
    let error = writer.join().expect_err("a write of 16 MiB to a peer that went");
    let done = error.bytes_done().unwrap_or_else(|| panic!("write_all failed without a count: {error:?}"));
    assert!((500..UNBOUNDED).contains(&done), "500 bytes arrived of a write that says {done} were done");
}
