//! T: how long a call may take.

use std::cell::Cell;
use std::fmt::Debug;
use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use channel_core::{
    AioChange, AioChannel, AioHandler, Channel, ChannelExt, Direction, Error, ErrorKind, Features, ReadFlags, Result,
    Shutdown, WriteFlags,
};

use super::Setup;
use super::end::{End, Task, UNBOUNDED, assert_stream, stream};
use super::object::in_background;
use super::setup::Mode;
use super::tasks::Polling;
use super::write::drain;
use crate::recording::Recorder;

/// What a test can wait for.
const SHORT: Duration = Duration::from_millis(40);

/// Runs `call`, which has to take the time of a timeout, and no more.
#[track_caller]
fn times_out<T: Debug>(setup: &Setup, what: &'static str, call: impl FnOnce() -> Result<T>) -> Error {
    let mut call = Some(call);
    last_times_out(
        setup,
        what,
        || call.take().map_or(Err(Error::WOULD_BLOCK), |call| call()),
        |done| panic!("{what} gave {done:?}, and should have timed out"),
    )
}

/// As [`times_out`], for the last of several calls; those before it gave something.
#[track_caller]
fn last_times_out<T: Debug>(
    setup: &Setup,
    what: &'static str,
    mut call: impl FnMut() -> Result<T>,
    mut gave: impl FnMut(T),
) -> Error {
    let (error, took) = loop {
        let begun = Instant::now();
        match setup.within(SHORT, what, &mut call) {
            Ok(done) => gave(done),
            Err(error) => break (error, begun.elapsed()),
        }
    };
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{what} gave {error:?}, and should have timed out");
    assert!(error.is_passing(), "{what}: the channel is as good as before, but {error:?} says that it is not");
    // Where calls do not wait, the time may have begun long before this one \[T2\].
    let whole = setup.mode() != Mode::Blocking || took >= SHORT - SHORT / 4;
    assert!(whole, "{what} was given up after {took:?}, and has {SHORT:?}");
    error
}

/// \[T1\] A timeout bounds one call, an `_all` form as a whole: `TimedOut` where nothing was read or taken in that time, and the channel
/// is as usable as before. A write that has taken bytes returns their number.
pub fn t1_a_timeout_bounds_a_call(setup: &Setup) {
    let (near, far) = setup.pair();
    let zero = [near.set_read_timeout(Some(Duration::ZERO)), near.set_write_timeout(Some(Duration::ZERO))];
    for refused in zero {
        let kind = refused.map_err(|error| error.kind());
        assert_eq!(kind, Err(ErrorKind::InvalidInput), "a timeout of zero");
    }
    near.set_read_timeout(Some(SHORT)).expect("a timeout");
    let set = (near.read_timeout(), near.write_timeout());
    assert_eq!(set, (Some(SHORT), None), "the timeouts that were set");
    for _ in 0..2 {
        let error = times_out(setup, "a read of nothing", || near.read_some(&mut [0; 8]));
        assert_eq!(error.operation(), "read", "a read that timed out gave {error:?}");
    }
    if setup.mode() == Mode::Blocking {
        near.wait(Direction::Read, Some(SHORT + SHORT / 2)).expect("a wait");
        near.expect_nothing(); // a call that was told not to wait has no time that could pass
    }
    let writing = in_background(&far, |far| far.put(&stream(0, 100)));
    near.set_read_timeout(None).expect("no timeout");
    assert_stream(0, &near.take(100));
    writing.join_while_reading(&near);
    the_whole_of_a_long_read(setup, &near, &far);

    let (near, far) = setup.small_pair();
    let mut taken = near.fill(0, UNBOUNDED);
    near.set_write_timeout(Some(SHORT)).expect("a timeout");
    // The system says that it is full, and takes a little more.
    let more = Cell::new(0);
    let write = || near.write_some(&stream(taken + more.get(), 4096));
    last_times_out(setup, "a write to a channel that is full", write, |count| more.set(more.get() + count));
    taken += more.get();
    let error =
        times_out(setup, "a long write to a channel that is full", || near.write_all(&stream(taken, UNBOUNDED)));
    let done = error.bytes_done().unwrap_or_else(|| panic!("write_all timed out without a count: {error:?}"));
    taken += done;
    setup.step("a flush of a channel that is full");
    if let Err(error) = near.flush_all() {
        let said = (error.kind(), error.operation());
        assert_eq!(said, (ErrorKind::TimedOut, "flush"), "a flush of a channel that is full gave {error:?}");
    }
    near.set_write_timeout(None).expect("no timeout");
    let writing = in_background(&near, move |near| near.put(&stream(taken, 100)));
    assert_stream(0, &far.take(taken + 100));
    writing.join_while_reading(&far);

    let (near, far) = setup.small_pair();
    near.set_write_timeout(Some(SHORT)).expect("a timeout");
    let taken = setup.within(SHORT, "a write of which the peer reads nothing", || near.write_some(&stream(0, 6000)));
    let taken = taken.expect("a write to a channel that is empty");
    near.set_write_timeout(None).expect("no timeout");
    let pushing = in_background(&near, End::flush_all);
    assert_stream(0, &far.take(taken));
    pushing.join_while_reading(&far).expect("a flush of what a write took before its time had passed");
    an_end_without_room(setup);
}

/// It may take the time of writes, and goes on behind that.
fn an_end_without_room(setup: &Setup) {
    let (near, far) = setup.small_pair();
    if !near.has_feature(Features::CLOSE_WRITE | Features::SHUTDOWN) {
        return;
    }
    let taken = near.fill(0, UNBOUNDED);
    near.set_write_timeout(Some(SHORT)).expect("a timeout");
    setup.step("an end behind a channel that is full");
    if let Err(error) = near.drive(Direction::Write, Channel::close_write) {
        let said = (error.kind(), error.operation());
        assert_eq!(said, (ErrorKind::TimedOut, "close_write"), "an end without room gave {error:?}");
    }
    near.set_write_timeout(None).expect("no timeout");
    let ending = in_background(&near, |near| near.drive(Direction::Write, Channel::close_write));
    let (bytes, end) = far.take_to_end();
    end.unwrap_or_else(|error| panic!("an end that had no room at first came as {error:?}"));
    assert_eq!(bytes.len(), taken, "bytes in front of an end that had no room at first");
    assert_stream(0, &bytes);
    // That of a layer below may have no room yet, and whoever has read ours reads no further.
    near.channel().shutdown(Shutdown::Both).expect("a shutdown");
    let _ = ending.join();
}

/// However often a little of it comes.
fn the_whole_of_a_long_read(setup: &Setup, near: &End, far: &End) {
    const COUNT: usize = 200;
    near.set_read_timeout(Some(SHORT)).expect("a timeout");
    let stop = Arc::<AtomicBool>::default();
    let sending = {
        let stop = Arc::clone(&stop);
        in_background(far, move |far| {
            let mut sent = 0;
            while sent < COUNT && !stop.load(Ordering::Relaxed) {
                far.put(&stream(sent, 1));
                sent += 1;
                thread::sleep(SHORT / 8); // the pace of the peer
            }
            sent
        })
    };
    let error = times_out(setup, "a long read of what comes byte by byte", || near.read_all(&mut [0; COUNT]));
    stop.store(true, Ordering::Relaxed);
    let done = error.bytes_done().unwrap_or_else(|| panic!("read_all timed out without a count: {error:?}"));
    near.set_read_timeout(None).expect("no timeout");
    let sent = join_while_taking(sending, near, done);
    assert!(done <= sent, "{done} bytes were read of {sent} that were sent");
}

/// Reads on until all that was sent has come; how much that was.
fn join_while_taking(sending: Task<usize>, near: &End, done: usize) -> usize {
    let mut at = done;
    while !sending.is_finished() {
        near.drive_on();
        at += drain(near, at);
        near.wait(Direction::Read, Some(Duration::from_millis(1))).expect("a wait");
    }
    let sent = sending.join();
    assert_stream(at, &near.take(sent.saturating_sub(at)));
    sent
}

/// \[T2\] In non-blocking mode the time runs from the last call that was more than would-block: when it passes the direction is ready, a
/// handler is called, a task woken, and the next call that would block says `TimedOut`, once.
pub fn t2_a_direction_whose_time_passes_is_ready_and_says_so_once(setup: &Setup) {
    let recorder = Recorder::new();
    let (near, far) = setup.pair();
    let near = near.without_handlers();
    near.set_read_timeout(Some(SHORT)).expect("a timeout");
    times_out(setup, "a read that waits outside of it", || near.read_some(&mut [0; 8]));
    let told = Instant::now();
    let again = near.read(&mut [0; 8]);
    let once = again.as_ref().is_err_and(Error::is_would_block) || told.elapsed() >= SHORT;
    assert!(once, "a time that passed was told once, and the next read gave {again:?}");

    let (passed, bytes, ended) = <(Arc<AtomicUsize>, Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
    let handler = {
        let counts = [&passed, &bytes, &ended].map(Arc::clone);
        on_each_call(&recorder, &near, move |near| {
            let [passed, bytes, ended] = &counts;
            match near.readv_full(&mut [IoSliceMut::new(&mut [0])], None, ReadFlags::DONT_WAIT) {
                Err(error) if error.kind() == ErrorKind::TimedOut => passed.fetch_add(1, Ordering::Relaxed),
                Err(error) => usize::from(!error.is_would_block()),
                Ok(0) => ended.fetch_add(1, Ordering::Relaxed),
                Ok(count) => bytes.fetch_add(count, Ordering::Relaxed),
            };
        })
    };
    drop(near.set_aio_fd_handler(AioChange::Set(handler), AioChange::Keep).expect("setting a handler"));
    for time in 1..=2 {
        let called = setup.turn_until(&recorder, || passed.load(Ordering::Relaxed) >= time);
        assert!(called, "nothing came, and the read handler was not called when the time had passed");
    }
    far.put(&stream(0, 10));
    let read = setup.turn_until(&recorder, || bytes.load(Ordering::Relaxed) == 10);
    assert!(read, "{bytes:?} of 10 bytes were read after a time had passed");
    let before = passed.load(Ordering::Relaxed);
    let called = setup.turn_until(&recorder, || passed.load(Ordering::Relaxed) > before);
    assert!(
        called,
        "a handler that read all there was, and met no would-block, was not called when the time had passed"
    );
    far.end_output();
    let seen = setup.turn_until(&recorder, || ended.load(Ordering::Relaxed) > 0);
    assert!(seen, "the read handler was not called for the end");
    let (before, begun) = (ended.load(Ordering::Relaxed), Instant::now());
    while begun.elapsed() < 3 * SHORT {
        recorder.turn(SHORT / 4).expect("a turn");
    }
    let more = ended.load(Ordering::Relaxed) - before;
    assert!(more <= 2, "{more} calls of a handler behind the end, in the time of three timeouts");

    let (near, far) = setup.small_pair();
    let near = near.without_handlers();
    let filled = near.fill(0, UNBOUNDED);
    near.set_write_timeout(Some(SHORT)).expect("a timeout");
    let (passed, taken) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(filled)));
    let handler = {
        let (passed, taken) = (Arc::clone(&passed), Arc::clone(&taken));
        on_each_call(&recorder, &near, move |near| {
            // As long as it takes anything: the system says that it is full, and takes a little more.
            loop {
                let bytes = stream(taken.load(Ordering::Relaxed), 4096);
                match near.writev_full(&[IoSlice::new(&bytes)], &[], WriteFlags::DONT_WAIT) {
                    Ok(count) => taken.fetch_add(count, Ordering::Relaxed),
                    Err(error) => {
                        passed.fetch_add(usize::from(!error.is_would_block()), Ordering::Relaxed);
                        return;
                    }
                };
            }
        })
    };
    drop(near.set_aio_fd_handler(AioChange::Keep, AioChange::Set(handler)).expect("setting a handler"));
    let called = setup.turn_until(&recorder, || passed.load(Ordering::Relaxed) > 0);
    assert!(called, "the peer made no room, and the write handler was not called when the time had passed");
    drop(near.set_aio_fd_handler(AioChange::Keep, AioChange::Clear).expect("clearing a handler"));
    near.set_write_timeout(None).expect("no timeout");
    let pushing = in_background(&near, End::flush_all);
    assert_stream(0, &far.take(taken.load(Ordering::Relaxed)));
    pushing.join_while_reading(&far).expect("a flush");
    in_tasks(setup, &recorder);
}

fn in_tasks(setup: &Setup, recorder: &Arc<Recorder>) {
    let (near, far) = setup.pair();
    let aio = AioChannel::from_arc(Arc::clone(near.channel()));
    near.set_read_timeout(Some(SHORT)).expect("a timeout");
    for _ in 0..2 {
        // A task that was elsewhere for long has the time to itself when it comes back.
        thread::sleep(2 * SHORT);
        times_out(setup, "a task that reads nothing", || {
            Polling::on(recorder, aio.read(&mut [0; 8])).run(recorder, setup, "a task whose time passes")
        });
    }
    let mut sent = 0;
    let mut begun = Instant::now();
    let mut dribble = || {
        if begun.elapsed() > SHORT / 8 {
            far.put(&stream(sent, 1));
            (sent, begun) = (sent + 1, Instant::now());
        }
    };
    let error = times_out(setup, "a task that reads what comes byte by byte", || {
        let mut bytes = [0; 200];
        Polling::on(recorder, aio.read_all(&mut bytes)).run_while(recorder, setup, "a long read", &mut dribble)
    });
    let done = error.bytes_done().unwrap_or_else(|| panic!("read_all timed out without a count: {error:?}"));
    near.set_read_timeout(None).expect("no timeout");
    assert_stream(done, &near.take(sent - done));

    let (near, far) = setup.small_pair();
    let filled = near.fill(0, UNBOUNDED);
    near.set_write_timeout(Some(SHORT)).expect("a timeout");
    let aio = AioChannel::from_arc(Arc::clone(near.channel()));
    let bytes = stream(filled, 1 << 20);
    let error = times_out(setup, "a task that writes to a channel that is full", || {
        Polling::on(recorder, aio.write_all(&bytes)).run(recorder, setup, "a task whose time passes")
    });
    let taken = filled + error.bytes_done().unwrap_or_else(|| panic!("write_all timed out without a count: {error:?}"));
    near.set_write_timeout(None).expect("no timeout");
    let mut seen = 0;
    let mut draining = || seen += drain(&far, seen);
    Polling::on(recorder, aio.flush()).run_while(recorder, setup, "a flush", &mut draining).expect("a flush");
    assert_stream(seen, &far.take(taken - seen));
}

fn on_each_call(
    recorder: &Arc<Recorder>,
    near: &End,
    call: impl Fn(&dyn Channel) + Send + Sync + 'static,
) -> AioHandler {
    let near = Arc::downgrade(near.channel());
    AioHandler::new(Arc::clone(recorder) as _, move || {
        if let Some(near) = near.upgrade() {
            call(&*near);
        }
    })
}
