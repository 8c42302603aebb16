//! S5 to S7: `close` beside whoever is inside, how long it takes, and what it comes to.

use std::time::{Duration, Instant};

use channel_core::{ChannelExt, Direction, Error, Features, Limits, Result, layers};

use super::end::{End, UNBOUNDED, assert_stream, stream};
use super::object::in_background;
use super::setup::{endless, small_limits};
use super::shutdown::assert_closed;
use super::{Options, Setup};

/// \[S5\] `close` is an operation of its own: it stands beside a reader, a writer and other closers, and all who close get the one
/// result. From the moment it began reads and writes say `Closed`; what was taken before goes out within the linger.
pub fn s5_close_is_an_operation_of_its_own(setup: &Setup) {
    // Several closers, and a peer that reads only later.
    let (near, far) = setup.endless_pair();
    let taken = near.fill(0, UNBOUNDED);
    let closers = [in_background(&near, End::close), in_background(&near, End::close)];
    for closer in &closers {
        closer.until_asleep();
    }
    // A leaf has nothing to wait for.
    if near.next_layer().is_some() && !closers.iter().any(|closer| closer.is_finished()) {
        setup.step("calls after close has begun");
        for (call, result) in [("read", near.try_read(&mut [0; 8])), ("write", near.try_write(b"x"))] {
            assert!(result.as_ref().is_err_and(Error::is_closed), "{call} while close waits gave {result:?}");
        }
    }
    let answering = far.answer();
    setup.step("two who close while the peer reads");
    for closer in closers {
        let closed = closer.join();
        assert!(closed.is_ok(), "one of two who closed got {closed:?}");
    }
    let (bytes, ended) = answering.join();
    assert!(ended.is_ok() && bytes.len() == taken, "{} of {taken} bytes arrived at the peer: {ended:?}", bytes.len());
    assert_stream(0, &bytes);
    let late = near.close();
    assert!(late.is_ok(), "one who closed later got {late:?}");
    assert_closed(&near);

    // A writer and a reader that sleep, and a peer that reads only then.
    let (near, far) = setup.endless_pair();
    let taken = near.fill(0, UNBOUNDED);
    let reader = in_background(&near, |near| near.read_some(&mut [0; 8]));
    let writer = in_background(&near, move |near| near.write_some(&stream(taken, 100)));
    reader.until_asleep();
    writer.until_asleep();
    let closer = in_background(&near, End::close);
    closer.until_asleep();
    let answering = far.answer();
    setup.step("closing beside a reader and a writer");
    let closed = closer.join();
    let (read, written) = (reader.join(), writer.join());
    let (bytes, ended) = answering.join();
    assert!(matches!(read, Ok(0)) || read.as_ref().is_err_and(Error::is_closed), "the reader beside it got {read:?}");
    let more = match &written {
        Ok(count) => *count,
        Err(error) if error.is_closed() => 0,
        Err(error) if error.is_disconnected() && near.next_layer().is_none() => 0, // a leaf is closed at once
        Err(error) => panic!("a writer beside close got {error:?}"),
    };
    assert_stream(0, &bytes);
    let seen = bytes.len();
    assert!(closed.is_ok() && seen == taken + more, "{seen} of {taken} + {more} bytes: {closed:?}, {ended:?}");
}

/// \[S6\] A closing takes one linger, that of the channel that was called, whatever lies below.
pub fn s6_a_whole_stack_has_one_linger(setup: &Setup) {
    const LINGER: Duration = Duration::from_millis(100);
    for held in [true, false] {
        let limits = Limits { linger: LINGER, ..small_limits() };
        let (near, _far) = setup.pair_with(&Options { small_buffers: true, limits, ..Options::default() });
        near.fill(0, if held { UNBOUNDED } else { 0 });
        let closed = setup.within(LINGER, "close with a peer that neither reads nor says anything", || near.close());
        assert!(closed.is_ok() || closed.as_ref().is_err_and(Error::is_timed_out), "close gave {closed:?}");
        assert_closed(&near);
    }

    // Every limit below is longer than anybody waits.
    let (near, _far) = setup.endless_pair();
    near.fill(0, UNBOUNDED);
    setup.step("closing by a deadline of the caller's");
    let deadline = Instant::now() + LINGER;
    let closed = near.drive(Direction::Write, |near| near.close_by(deadline));
    assert!(closed.is_ok() || closed.as_ref().is_err_and(Error::is_timed_out), "close_by gave {closed:?}");
    assert_closed(&near);

    let (near, _far) = setup.endless_pair();
    near.fill(0, UNBOUNDED);
    let closed = setup.promptly("close by a deadline that has passed", || near.close_by(Instant::now()));
    assert!(closed.is_ok() || closed.as_ref().is_err_and(Error::is_timed_out), "close_by gave {closed:?}");
    assert_closed(&near);
}

/// \[S7\] `close` is never `Ok` when bytes that a channel of the stack held were dropped, nor when the other end of a closing handshake
/// had not come.
pub fn s7_the_result_of_close_is_the_truth(setup: &Setup) {
    const LINGER: Duration = Duration::from_millis(50);
    let limits = || Limits { linger: LINGER, ..small_limits() };
    let (near, far) = setup.pair_with(&Options { small_buffers: true, limits: limits(), ..Options::default() });
    let taken = near.fill(0, UNBOUNDED);
    setup.step("closing with output that the peer does not read");
    let closed = near.close();
    assert!(closed.is_ok() || closed.as_ref().is_err_and(Error::is_timed_out), "it gave {closed:?}");
    let again = near.close();
    assert_eq!(kind(&again), kind(&closed), "a second close gave {again:?} after {closed:?}");
    setup.step("the peer reads what is left");
    let (bytes, _) = far.take_to_end();
    assert_stream(0, &bytes);
    assert!(closed.is_err() || bytes.len() == taken, "close gave Ok, and {} of {taken} bytes arrived", bytes.len());

    // Nothing is held, and the peer does not answer.
    let asks = |near: &End| layers(&**near).any(|layer| !layer.features().contains(Features::HALF_CLOSE));
    let (near, far) = setup.pair_with(&Options { limits: limits(), ..Options::default() });
    near.put(&stream(0, 100));
    assert_stream(0, &far.take(100));
    setup.step("closing beside a peer that does not answer");
    let closed = near.close();
    if near.has_feature(Features::CLOSE_WRITE) && asks(&near) {
        assert!(closed.as_ref().is_err_and(Error::is_timed_out), "the other end never came, and close gave {closed:?}");
    } else {
        assert!(closed.is_ok(), "nothing was lost or asked for, and close gave {closed:?}");
    }

    // The peer answers, and sends until it does.
    let (near, far) = setup.pair_with(&Options { limits: endless(Limits::default()), ..Options::default() });
    let sending = in_background(&far, |far| {
        while far.write_some(&stream(0, 512)).is_ok() {
            if far.try_read(&mut [0; 8]).is_ok() {
                break;
            }
        }
        far.close()
    });
    setup.step("closing beside a peer that sends, and then answers");
    let closed = near.close();
    if near.next_layer().is_some() {
        assert!(closed.is_ok(), "the peer answered, and close gave {closed:?}");
    }
    drop(near);
    // A leaf does not wait for it.
    let _ = sending.join();
}

fn kind(result: &Result<()>) -> Option<channel_core::ErrorKind> {
    result.as_ref().err().map(Error::kind)
}
