//! W9 to W11: bounded output, and no stall.

use channel_core::{ChannelExt, Direction};

use super::Setup;
use super::end::{Task, UNBOUNDED, assert_stream, stream};
use super::object::in_background;
use super::setup::Mode;

/// \[W9\] What a channel holds of unsent output is bounded: a writer whose peer does not read is told `WouldBlock`, soon.
pub fn w9_a_writer_whose_peer_does_not_read_is_told(setup: &Setup) {
    for piece in [64 * 1024, 500] {
        let (near, _far) = setup.endless_pair();
        let bytes = stream(0, piece);
        let mut taken = 0;
        // Refused for good, not once: no attempt may be let in through the back door.
        let mut refused = 0;
        while refused < 50 {
            match setup.promptly("a write with DONT_WAIT", || near.try_write(&bytes)) {
                Ok(count) => taken += count,
                Err(error) if error.is_would_block() => refused += 1,
                Err(error) => panic!("a write failed after {taken} bytes: {error:?}"),
            }
            assert!(taken < UNBOUNDED, "{taken} bytes were taken that the peer does not read, and none was refused");
        }
    }
}

/// \[W10\] No stall without flush: a program that writes, never flushes, and then only reads gets every byte out, through
/// whatever small buffers lie below, and whether its reader slept already or not.
pub fn w10_no_stall_without_flush(setup: &Setup) {
    let (near, far) = setup.small_pair();
    let mut taken = 0;
    while taken < 8 * 1024 {
        match near.try_write(&stream(taken, 512)) {
            Ok(count) => taken += count,
            Err(error) if error.is_would_block() => break,
            Err(error) => panic!("a write failed: {error:?}"),
        }
    }
    let reading = in_background(&near, |near| near.take(1));
    reading.until_asleep();
    setup.step("the peer waits for what was written but not flushed, while we only read");
    for at in 0..taken {
        assert_stream(at, &far.take(1));
    }
    let answering = in_background(&far, |far| far.put(b"!"));
    setup.step("reading the answer");
    assert_eq!(reading.join(), b"!");
    answering.join_while_reading(&near);

    // The same program on two threads: its reader was asleep before its writer wrote.
    let (near, far) = setup.small_pair();
    let near = near.in_mode(Mode::Blocking);
    let reading = in_background(&near, |near| near.take(1));
    reading.until_asleep();
    let writing = in_background(&near, |near| near.write_whole(&stream(0, 2000)));
    writing.until_asleep();
    setup.step("the peer waits for what a thread wrote in blocking mode, while another one was reading already");
    assert_stream(0, &far.take(2000));
    writing.join_while_reading(&far).expect("a blocking write");
    let answering = in_background(&far, |far| far.put(b"!"));
    assert_eq!(reading.join(), b"!");
    answering.join_while_reading(&near);

    // And where what was left leaves no trace in the reader's own calls.
    for corked in [false, true] {
        let (near, far) = setup.small_pair();
        let reading = in_background(&near, |near| near.take(1));
        reading.until_asleep();
        near.set_cork(corked);
        let taken = near.fill_once(0, 8 * 1024);
        near.set_cork(false);
        setup.step(match corked {
            true => "the peer waits for what another thread uncorked while one was asleep in a read",
            false => "the peer waits for what another thread wrote without waiting while one was asleep in a read",
        });
        assert_stream(0, &far.take(taken));
        let answering = in_background(&far, |far| far.put(b"!"));
        assert_eq!(reading.join(), b"!");
        answering.join_while_reading(&near);
    }
}

/// \[W11\] Reading never depends on writing being possible: a peer that makes us reply and never reads cannot freeze a reader.
pub fn w11_a_peer_that_does_not_read_cannot_freeze_a_reader(setup: &Setup) {
    const COUNT: usize = 32 * 1024;
    let (near, far) = setup.small_pair();
    near.fill(0, UNBOUNDED);
    let sending = Task::spawn(move || {
        far.put(&stream(0, COUNT));
        far
    });
    setup.step("reading while our own output is stuck");
    assert_stream(0, &near.take(COUNT));
    sending.join_while_reading(&near);

    // And with a writer that is blocked in it meanwhile.
    let (near, far) = setup.small_pair();
    let taken = near.fill(0, UNBOUNDED);
    let writing = {
        let near = near.clone();
        Task::spawn(move || near.drive(Direction::Write, |near| near.write(&stream(taken, 1))))
    };
    writing.until_asleep();
    let sending = Task::spawn(move || {
        far.put(&stream(0, 1000));
        far
    });
    setup.step("reading while a writer is stuck");
    assert_stream(0, &near.take(1000));
    sending.join_while_reading(&near);
}
