//! E: how a stream ends.

use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use channel_core::{Channel, ChannelExt, Direction, Features, Limits, ReadFlags, Result, lowest_layer};

use super::end::{End, Task, assert_stream, stream};
use super::object::in_background;
use super::setup::endless;
use super::write::end_in_background;
use super::{Options, Setup};

/// \[E1\] A clean end by the peer is 0, after all data.
pub fn e1_a_clean_end_comes_after_all_data(setup: &Setup) {
    for count in [0, 1, 10_000] {
        let (near, far) = setup.pair();
        let sending = Task::spawn(move || {
            far.write_whole(&stream(0, count)).expect("a write");
            far.end_output();
            far
        });
        setup.step("reading to the clean end");
        let (bytes, ended) = near.take_to_end();
        assert!(ended.is_ok(), "the peer ended cleanly after {count} bytes, but a read gave {ended:?}");
        assert_eq!(bytes.len(), count, "bytes before the clean end");
        assert_stream(0, &bytes);
        sending.join();
        assert!(matches!(near.read_some(&mut [0; 8]), Ok(0)), "the clean end does not last");
    }
}

/// \[E2\] An end that the protocol does not allow is `UnexpectedEof`, after all data; `RELAXED_EOF`, or our own `shutdown` of
/// reading, makes it 0.
pub fn e2_a_truncated_end_is_told_from_a_clean_one(setup: &Setup) {
    let cut_off = || {
        let (near, far) = setup.pair();
        far.put(&stream(0, 2000));
        drop(far);
        near
    };
    let near = cut_off();
    setup.step("reading to the end that the peer's going made");
    let (bytes, ended) = near.take_to_end();
    assert_eq!(bytes.len(), 2000, "bytes before the end by a peer that went: {ended:?}");
    assert_stream(0, &bytes);
    match ended {
        // Where the protocol has no polite end, as a socket's, going is a clean end.
        Ok(()) => assert!(!setup.declared().tells_a_cut, "a peer that went without an end made a clean one"),
        Err(error) if error.is_truncated() => {
            assert!(
                setup.declared().tells_a_cut,
                "the maker does not declare that a cut can be told, and it gave {error:?}"
            );
            let again = near.read_some(&mut [0; 8]);
            assert!(again.as_ref().is_err_and(|e| e.is_truncated()), "after {error:?} the next read gave {again:?}");
        }
        Err(error) => panic!("a peer that went ended the stream as {error:?}"),
    }

    let near = cut_off();
    let relaxed = |near: &End| -> Result<usize> {
        near.drive(Direction::Read, |near| {
            near.readv_full(&mut [std::io::IoSliceMut::new(&mut [0; 8])], None, ReadFlags::RELAXED_EOF)
        })
    };
    near.take(2000);
    let end = relaxed(&near);
    assert!(matches!(end, Ok(0)), "a read with RELAXED_EOF at the end by a peer that went gave {end:?}");

    if near.has_feature(Features::SHUTDOWN) {
        let (near, far) = setup.pair();
        near.shutdown(Shutdown::Read).expect("shutdown of reading");
        drop(far);
        let end = near.read_some(&mut [0; 8]);
        assert!(matches!(end, Ok(0)), "a read after our own shutdown of reading gave {end:?}");
    }
}

/// \[E3\] `close_write` sends everything held and then our end, from the top down. A later write fails; a second `close_write` does
/// nothing.
pub fn e3_close_write_sends_everything_and_our_end(setup: &Setup) {
    let (near, far) = setup.pair();
    if !near.has_feature(Features::CLOSE_WRITE) {
        let refused = near.drive(Direction::Write, Channel::close_write);
        let unsupported = refused.as_ref().is_err_and(|error| error.is_unsupported());
        assert!(unsupported, "close_write without CLOSE_WRITE gave {refused:?}");
        near.put(b"goes on");
        assert_eq!(far.take(7), b"goes on");
        return;
    }
    near.set_cork(true);
    near.write_whole(&stream(0, 3000)).expect("a corked write");
    let ending = in_background(&near, End::end_output);
    setup.step("the peer reads to the end that close_write made");
    let (bytes, ended) = far.take_to_end();
    assert!(ended.is_ok(), "the peer saw close_write as {ended:?}");
    assert_eq!(bytes.len(), 3000, "bytes that arrived before the end that close_write made");
    assert_stream(0, &bytes);
    ending.join();
    let late = near.write_some(b"late");
    let refused = late.as_ref().is_err_and(|error| error.is_disconnected() || error.is_closed());
    assert!(refused, "a write after close_write gave {late:?}");
    let again = near.drive(Direction::Write, Channel::close_write);
    assert!(again.is_ok(), "a second close_write gave {again:?}");

    // What is held when there is no room for it is sent before the end, however long that takes.
    let (near, far) = setup.endless_pair();
    let taken = near.fill(0, 64 * 1024);
    end_in_background(&near).until_asleep();
    setup.step("the peer reads what close_write still has to send");
    let (bytes, ended) = far.take_to_end();
    assert_stream(0, &bytes);
    let seen = bytes.len();
    assert!(ended.is_ok() && seen == taken, "{seen} of {taken} bytes arrived before the end: {ended:?}");
}

/// \[E4\] After `close_write` what the peer sends in front of its own end is read; with `HALF_CLOSE` for as long as it likes.
pub fn e4_reading_goes_on_after_close_write(setup: &Setup) {
    const SHORT: Duration = Duration::from_millis(30);
    let limits = Limits { linger: SHORT, ..Limits::default() };
    let half_closes = {
        let (near, _far) = setup.pair();
        if !near.has_feature(Features::CLOSE_WRITE) {
            assert!(!near.has_feature(Features::HALF_CLOSE), "HALF_CLOSE without CLOSE_WRITE");
            return;
        }
        near.half_closes()
    };
    let limits = if half_closes { limits } else { endless(limits) };
    let (near, far) = setup.pair_with(&Options { limits, ..Options::default() });
    let ending = in_background(&near, End::end_output);
    setup.step("the peer reads the end");
    let (bytes, ended) = far.take_to_end();
    assert!(ended.is_ok() && bytes.is_empty(), "the peer saw close_write as {bytes:?}, {ended:?}");
    ending.join();
    if half_closes {
        setup.step("a peer that says nothing for longer than any limit, and goes on");
        let waited = near.wait(Direction::Read, Some(SHORT * 3)).expect("a wait");
        assert!(!waited, "there was nothing to read, and readiness said otherwise");
        near.expect_nothing();
    }
    let sending = in_background(&far, |far| {
        far.put(&stream(0, 1500));
        far.put(b"still");
        far.end_output();
    });
    setup.step("reading what the peer writes after our end");
    let (bytes, ended) = near.take_to_end();
    assert!(ended.is_ok() && bytes.len() == 1505, "{} of 1505 bytes came after close_write: {ended:?}", bytes.len());
    assert_stream(0, &bytes[..1500]);
    sending.join();
}

/// \[E5\] Without `HALF_CLOSE` the layers below stay open behind our end; the linger without a byte from the peer ends reading with
/// `TimedOut`, and any byte restarts it. When both ends are through, what is below is ended by the calls that follow.
pub fn e5_an_end_that_asks_for_the_other_keeps_what_is_below_open(setup: &Setup) {
    let (near, far) = setup.pair_with(&Options { limits: endless(Limits::default()), ..Options::default() });
    if !near.has_feature(Features::CLOSE_WRITE) {
        return;
    }
    let ends_at_once = near.half_closes();
    let ending = in_background(&near, End::end_output);
    let (_, ended) = far.take_to_end();
    ended.expect("a clean end");
    ending.join();
    // With layers over it: what they read of it is here; the end of the lowest channel alone can still come.
    let bottom = |end: &End, wait| lowest_layer(&**end).wait(Direction::Read, Some(wait)).expect("a wait");
    if !ends_at_once {
        setup.step("looking for an end below that follows ours");
        assert!(!bottom(&far, Duration::from_millis(60)), "the end of what is below followed right behind ours");
        setup.step("ending the other direction");
        far.end_output();
        let (bytes, ended) = near.take_to_end();
        assert!(ended.is_ok() && bytes.is_empty(), "the peer ended, too, and reading gave {bytes:?}, {ended:?}");
    } else {
        far.end_output();
        near.take_to_end().1.expect("a clean end");
    }
    setup.step("the ends below, once both directions have ended");
    let over = setup.wait_until(|| {
        let mut buf = [0; 8];
        assert!(matches!((near.try_read(&mut buf), far.try_read(&mut buf)), (Ok(0), Ok(0))), "the end does not last");
        bottom(&near, Duration::ZERO) && bottom(&far, Duration::ZERO)
    });
    assert!(over, "both directions have ended, and what is below stays open");

    if near.has_feature(Features::HALF_CLOSE) {
        return;
    }
    const LINGER: Duration = Duration::from_millis(200);
    let limits = Limits { linger: LINGER, ..Limits::default() };
    let (near, far) = setup.pair_with(&Options { limits, ..Options::default() });
    let ending = in_background(&near, End::end_output);
    far.take_to_end().1.expect("a clean end");
    ending.join();
    let (mut since_end, mut heard) = (Duration::ZERO, Instant::now());
    while since_end < LINGER * 2 {
        setup.step("a peer that sends a byte now and then after our end");
        thread::sleep(LINGER / 3);
        far.put(b"x");
        let read = near.read_some(&mut [0; 1]);
        let silent = heard.elapsed();
        heard = Instant::now();
        if silent < LINGER * 9 / 10 {
            assert!(matches!(read, Ok(1)), "{silent:?} after the last byte, of {LINGER:?}, a read gave {read:?}");
        } else if read.is_err() {
            return; // the machine was away for that long
        }
        since_end += silent;
    }
    setup.step("a peer that says nothing any more");
    let silence = setup.within(LINGER, "a read after our end, whose peer says nothing", || near.read_some(&mut [0; 1]));
    assert!(silence.as_ref().is_err_and(|error| error.is_timed_out()), "a silent peer behind our end: {silence:?}");
    let again = near.read_some(&mut [0; 1]);
    assert!(again.as_ref().is_err_and(|error| error.is_timed_out()), "after that a read gave {again:?}");
}
