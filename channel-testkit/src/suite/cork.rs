//! C: cork and delay.

use channel_core::Direction;

use super::Setup;
use super::end::{Task, UNBOUNDED, assert_stream, stream, wait_for_any};
use super::readiness::push;
use super::write::finish;
use channel_core::ChannelExt;
use std::time::Duration;

/// \[C1\] While corked, small writes gather, bounded; the peer need not see them until uncorked, flushed or ended.
pub fn c1_corked_writes_gather_and_are_bounded(setup: &Setup) {
    let (near, far) = setup.small_pair();
    near.set_cork(true);
    let mut taken = 0;
    loop {
        match near.try_write(&stream(taken, 100)) {
            Ok(count) => taken += count,
            Err(error) if error.is_would_block() => break,
            Err(error) => panic!("a corked write failed after {taken} bytes: {error:?}"),
        }
        assert!(taken < UNBOUNDED, "{taken} bytes were gathered while corked, and none was refused");
    }
    near.set_cork(false);
    finish(setup, &near, &far, 0, taken);

    let (near, far) = setup.pair();
    near.set_cork(true);
    for at in 0..20 {
        near.write_whole(&stream(at * 10, 10)).expect("a corked write");
    }
    near.flush_all().expect("a flush while corked");
    assert_stream(0, &far.take(200));
    near.write_whole(&stream(200, 100)).expect("a corked write after a flush");
    near.end_output();
    let (bytes, ended) = far.take_to_end();
    assert!(ended.is_ok() && bytes.len() == 100, "corked and ended, {} of 100 bytes arrived: {ended:?}", bytes.len());
    assert_stream(200, &bytes);
}

/// \[C2\] `set_cork(false)` pushes what was gathered, never blocks, and loses nothing when it cannot push all.
pub fn c2_uncorking_pushes_without_blocking(setup: &Setup) {
    let (near, far) = setup.pair();
    near.set_cork(true);
    near.write_whole(&stream(0, 300)).expect("a corked write");
    setup.promptly("set_cork(false)", || near.set_cork(false));
    setup.step("the peer waits for what set_cork(false) should have pushed, and no other call is made");
    let arrived = || far.wait(Direction::Read, Some(Duration::ZERO)).expect("a wait");
    while !arrived() {
        wait_for_any(&[(&far, Direction::Read)]);
        // A push that met a would-block without a reason left the rest to whoever waits.
        if setup.declared().hesitates && !arrived() {
            push(&near, Direction::Read);
        }
    }
    finish(setup, &near, &far, 0, 300);

    let (near, far) = setup.endless_pair();
    near.set_cork(true);
    let taken = near.fill(0, 16 * 1024);
    setup.promptly("set_cork(false) on a channel that is full", || near.set_cork(false));
    finish(setup, &near, &far, 0, taken);
}

/// \[C3\] `set_cork` and `set_delay` are hints: on a channel that knows neither they do nothing.
pub fn c3_cork_and_delay_change_no_byte(setup: &Setup) {
    let (near, far) = setup.unopened(&Default::default());
    // Legal at any time, before the handshake too.
    near.set_delay(false);
    near.set_cork(true);
    near.set_cork(false);
    near.apply_mode();
    super::setup::open(&near, &far);
    let reading = Task::spawn({
        let far = far.clone();
        move || far.take(6 * 500)
    });
    let mut at = 0;
    for (cork, delay) in [(true, true), (true, false), (false, false), (false, true), (true, true), (false, false)] {
        near.set_cork(cork);
        near.set_delay(delay);
        for _ in 0..5 {
            near.write_whole(&stream(at, 100)).expect("a write");
            at += 100;
        }
    }
    near.flush_all().expect("a flush");
    setup.step("the peer waits for bytes written while hints changed");
    assert_stream(0, &reading.join());
    // Uncorked, bytes need no flush to arrive; only waiting, which pushes [W10].
    for delay in [true, false] {
        near.set_delay(delay);
        near.write_whole(b"x").expect("a write");
        let answer = Task::spawn({
            let near = near.clone();
            move || near.take(1)
        });
        setup.step("the peer waits for a byte written with a delay hint, but uncorked");
        assert_eq!(far.take(1), b"x");
        far.put(b"y");
        assert_eq!(answer.join(), b"y");
    }
    let answering = far.answer();
    near.close().expect("close");
    drop(answering.join());
    near.set_cork(true);
    near.set_delay(true);
    near.set_cork(false);
}
