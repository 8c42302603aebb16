//! How long calls may take, where that meets something else: other callers, other loops, a peer that is never done.

#[path = "support/odd.rs"]
mod odd;
mod support;

use std::future::poll_fn;
use std::io::{IoSliceMut, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use channel_core::engine::{Decoded, Decoder, Sink, Stopped};
use channel_core::leaf::Mode;
use channel_core::{
    AioChange, AioChannel, AioHandler, BufferChannel, Channel, ChannelExt, Direction, Error, ErrorKind, EventLoop,
    Layered, Limits, MemoryChannel, ReadFlags, Readiness, Result,
};
use channel_testkit::watchdog;
use odd::endless;
use support::{Empties, FullStop, Plain, plain};

/// What a test can wait for.
const SHORT: Duration = Duration::from_millis(30);
/// What none waits for.
const LONG: Duration = Duration::from_secs(1000);

/// An end of each kind, in non-blocking mode, whose peer takes nothing more and says nothing.
fn full() -> [(Arc<dyn Channel>, MemoryChannel); 2] {
    let pair = || MemoryChannel::pair_with_capacity(4).unwrap();
    let ((leaf, far), (below, far_below)) = (pair(), pair());
    let layer = Layered::open("full stop", Box::new(below), Plain, FullStop, Limits::default()).unwrap();
    let ends: [(Arc<dyn Channel>, _); 2] = [(Arc::new(leaf), far), (Arc::new(layer), far_below)];
    for (near, _) in &ends {
        near.set_blocking(false);
        while near.write(b"full").is_ok() {}
    }
    ends
}

/// Sets a read or a write handler that makes `call`, and counts how often what comes of it is what `counts` asks for.
fn counting(
    near: &Arc<dyn Channel>,
    event_loop: &EventLoop,
    direction: Direction,
    call: fn(&dyn Channel) -> Result<usize>,
    counts: fn(&Result<usize>) -> bool,
) -> Arc<AtomicUsize> {
    let (channel, count) = (Arc::downgrade(near), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    let handler = AioHandler::new(event_loop.handle(), move || {
        let Some(channel) = channel.upgrade() else { return };
        if counts(&call(&*channel)) {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let (read, write) = match direction {
        Direction::Read => (AioChange::Set(handler), AioChange::Keep),
        Direction::Write => (AioChange::Keep, AioChange::Set(handler)),
    };
    near.set_aio_fd_handler(read, write).unwrap();
    count
}

/// As [`counting`], for calls that say that their time has passed.
fn told(
    near: &Arc<dyn Channel>,
    event_loop: &EventLoop,
    direction: Direction,
    call: fn(&dyn Channel) -> Result<usize>,
) -> Arc<AtomicUsize> {
    counting(near, event_loop, direction, call, |went| went.as_ref().is_err_and(Error::is_timed_out))
}

fn run_until(event_loop: &EventLoop, done: impl Fn() -> bool) {
    while !done() {
        event_loop.run_once(Some(SHORT)).unwrap();
    }
}

fn run_for(event_loop: &EventLoop, time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        event_loop.run_once(Some(left)).unwrap();
    }
}

fn close_write(channel: &dyn Channel) -> Result<usize> {
    channel.close_write().map(|()| 0)
}

fn read(channel: &dyn Channel) -> Result<usize> {
    channel.read(&mut [0; 8])
}

#[test]
fn an_end_that_has_no_room_has_the_time_of_writes_in_tasks_and_handlers() {
    watchdog::run("an end without room", || {
        let [_, (near, _far)] = full();
        near.set_write_timeout(Some(SHORT)).unwrap();
        let event_loop = EventLoop::new().unwrap();
        let channel = AioChannel::from_arc(Arc::clone(&near));
        let ended = event_loop.block_on(channel.close_write()).unwrap();
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::TimedOut);
        drop(channel);
        let told = told(&near, &event_loop, Direction::Write, close_write);
        run_until(&event_loop, || told.load(Ordering::SeqCst) == 2);
    });
}

#[test]
fn a_peer_that_sends_what_carries_nothing_without_end_does_not_hold_a_reader_longer() {
    watchdog::run("an endless peer", || {
        let (near, _far) = MemoryChannel::pair().unwrap();
        let near =
            Layered::open("empties", Box::new(endless(Box::new(near))), Empties, Plain, Limits::default()).unwrap();
        near.set_read_timeout(Some(SHORT)).unwrap();
        assert!(near.read(&mut [0]).unwrap_err().is_timed_out());
        assert!(near.read_all(&mut [0; 8]).unwrap_err().is_timed_out());
    });
}

#[test]
fn who_is_told_that_another_one_waits_does_not_move_the_time_of_that_one_on() {
    watchdog::run("one that is busy", || {
        let (near, _far) = MemoryChannel::pair().unwrap();
        near.set_read_timeout(Some(SHORT)).unwrap();
        let channel = Arc::new(AioChannel::new(near));
        let (event_loop, done) = (EventLoop::new().unwrap(), Arc::new(AtomicBool::new(false)));
        let (waiting, finished) = (Arc::clone(&channel), Arc::clone(&done));
        let waits = event_loop.spawn(async move {
            let read = waiting.read(&mut [0; 8]).await;
            finished.store(true, Ordering::SeqCst);
            read
        });
        let disturbs = event_loop.spawn(async move {
            let mut busy = 0;
            while !done.load(Ordering::SeqCst) {
                busy +=
                    usize::from(channel.read(&mut [0; 8]).await.is_err_and(|error| error.kind() == ErrorKind::Busy));
                let mut yielded = false;
                poll_fn(|cx| {
                    cx.waker().wake_by_ref();
                    if std::mem::replace(&mut yielded, true) { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
            }
            busy
        });
        let read = event_loop.block_on(waits).unwrap().unwrap();
        assert!(read.unwrap_err().is_timed_out());
        assert!(event_loop.block_on(disturbs).unwrap().unwrap() > 0);
    });
}

#[test]
fn a_handler_that_is_refused_does_not_move_the_time_of_the_one_that_is_set_on() {
    watchdog::run("a handler that is refused", || {
        for (near, _far) in full() {
            near.set_read_timeout(Some(SHORT)).unwrap();
            let event_loop = EventLoop::new().unwrap();
            let told = told(&near, &event_loop, Direction::Read, read);
            while told.load(Ordering::SeqCst) < 2 {
                event_loop.run_once(Some(SHORT / 10)).unwrap();
                let claim = AioChange::Claim(AioHandler::new(event_loop.handle(), || ()));
                let refused = near.set_aio_fd_handler(claim, AioChange::Keep).unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::Busy);
            }
        }
    });
}

#[test]
fn a_handler_learns_of_the_time_that_begins_with_non_blocking_mode() {
    watchdog::run("a mode that is set behind the handler", || {
        for (near, _far) in full() {
            near.set_blocking(true);
            near.set_read_timeout(Some(SHORT)).unwrap();
            let event_loop = EventLoop::new().unwrap();
            let told = told(&near, &event_loop, Direction::Read, read);
            near.set_blocking(false);
            run_until(&event_loop, || told.load(Ordering::SeqCst) > 0);
        }
    });
}

#[test]
fn a_time_that_has_passed_calls_a_handler_once_though_that_makes_another_call() {
    for (near, _far) in full() {
        near.set_read_timeout(Some(SHORT)).unwrap();
        let event_loop = EventLoop::new().unwrap();
        // What was asked before has no answer yet: nothing more is read.
        let answer = |near: &dyn Channel| near.write(b"answer");
        let calls = counting(&near, &event_loop, Direction::Read, answer, |_| true);
        run_for(&event_loop, SHORT * 3);
        let calls = calls.load(Ordering::SeqCst);
        assert!((1..5).contains(&calls), "{calls} calls");
    }
}

#[test]
fn an_all_form_that_was_late_leaves_the_next_call_its_time() {
    for (near, _far) in full() {
        near.set_read_timeout(Some(SHORT)).unwrap();
        near.set_write_timeout(Some(SHORT)).unwrap();
        assert!(near.read_all(&mut [0; 8]).unwrap_err().is_timed_out());
        let next = near.read(&mut [0; 8]).unwrap_err();
        assert!(next.is_would_block(), "{next}");
        assert!(near.write_all(b"more").unwrap_err().is_timed_out());
        let next = near.write(b"more").unwrap_err();
        assert!(next.is_would_block(), "{next}");
    }
}

#[test]
fn the_time_of_a_task_that_reads_is_none_of_what_it_writes_meanwhile() {
    watchdog::run("a write inside of a read", || {
        for (near, _far) in full() {
            near.set_read_timeout(Some(SHORT)).unwrap();
            near.set_write_timeout(Some(LONG)).unwrap();
            let channel = AioChannel::from_arc(near);
            let read = channel.drive(Direction::Read, |near| match near.write(b"more") {
                Err(error) if !error.is_would_block() => Err(error),
                _ => near.read(&mut [0; 8]),
            });
            let late = EventLoop::new().unwrap().block_on(read).unwrap().unwrap_err();
            assert_eq!((late.kind(), late.operation()), (ErrorKind::TimedOut, "read"), "{late}");
        }
    });
}

#[test]
fn a_channel_that_never_waits_has_no_time_that_could_pass() {
    let near: Arc<dyn Channel> = Arc::new(BufferChannel::new());
    near.set_blocking(false);
    near.set_read_timeout(Some(SHORT)).unwrap();
    let event_loop = EventLoop::new().unwrap();
    let calls = counting(&near, &event_loop, Direction::Read, read, |_| true);
    run_for(&event_loop, SHORT * 2);
    assert_eq!(calls.load(Ordering::SeqCst), 1);

    near.write_all(b"more").unwrap();
    near.seek(SeekFrom::Start(0)).unwrap();
    let calls = counting(&near, &event_loop, Direction::Read, |_| Ok(0), |_| true);
    near.read_all(&mut [0]).unwrap(); // which does not meet the end
    near.set_read_timeout(Some(SHORT)).unwrap(); // of which the handler learns
    run_for(&event_loop, SHORT / 10);
    let before = calls.load(Ordering::SeqCst);
    run_for(&event_loop, SHORT * 2);
    assert_eq!(calls.load(Ordering::SeqCst), before);
}

#[test]
fn a_channel_that_is_tied_to_a_loop_that_has_gone_says_so() {
    watchdog::run("a loop that has gone", || {
        let (near, _far) = MemoryChannel::pair().unwrap();
        let channel = AioChannel::new(near);
        let gone = EventLoop::new().unwrap();
        let _attached = channel.attach(gone.handle()).unwrap();
        drop(gone);
        let read = EventLoop::new().unwrap().block_on(async { channel.read(&mut [0; 8]).await }).unwrap();
        assert!(read.unwrap_err().is_closed());
    });
}

/// Gives nothing before a hundred bytes have come.
struct Hundreds;

impl Decoder for Hundreds {
    fn decode(&mut self, input: &mut [u8], sink: &mut Sink<'_, '_>) -> Result<Decoded> {
        let whole = input.len() / 100 * 100;
        sink.put(&input[..whole]);
        Ok(Decoded { consumed: whole, stopped: Stopped::NeedInput, reply: false })
    }

    fn end(&mut self, _: usize) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_peer_of_which_a_layer_below_holds_half_a_record_is_not_silent() {
    half_a_record_is_heard(b"");
    half_a_record_is_heard(&[b'x'; 100]); // from then on bytes are copied rather than lent
}

fn half_a_record_is_heard(first: &[u8]) {
    let (near, far) = MemoryChannel::pair().unwrap();
    let limits = Limits { linger: LONG, ..Limits::default() };
    let below = Layered::open("hundreds", Box::new(near), Hundreds, Plain, Limits::default()).unwrap();
    let near = Layered::open("full stop", Box::new(plain("between", below)), FullStop, FullStop, limits).unwrap();
    near.set_blocking(false);
    far.write_all(first).unwrap();
    near.read_all(&mut vec![0; first.len()]).unwrap();
    near.close_write().unwrap();
    let until = || match near.readiness(Direction::Read) {
        Readiness::Wait(interests) => interests.deadline().unwrap(),
        Readiness::Ready => panic!("there is nothing to read"),
    };
    let at_first = until();
    thread::sleep(Duration::from_millis(2)); // so that the clock moves on
    assert!(near.read(&mut [0]).unwrap_err().is_would_block());
    assert_eq!(until(), at_first, "nothing came");
    far.write_all(b"x").unwrap();
    assert!(near.read(&mut [0]).unwrap_err().is_would_block());
    assert!(until() > at_first, "a byte came");
}

#[test]
fn a_loop_rests_behind_an_end_that_has_no_room_though_there_is_a_time() {
    let [_, (near, _far)] = full();
    assert!(near.close_write().unwrap_err().is_would_block());
    near.set_write_timeout(Some(SHORT)).unwrap();
    let event_loop = EventLoop::new().unwrap();
    let write = |channel: &dyn Channel| channel.write(b"x");
    let fails = |went: &Result<usize>| went.as_ref().is_err_and(|error| error.kind() == ErrorKind::BrokenPipe);
    let failed = counting(&near, &event_loop, Direction::Write, write, fails);
    run_for(&event_loop, 20 * SHORT);
    assert!((1..10).contains(&failed.load(Ordering::SeqCst)), "{failed:?} calls of what fails for good");
}

#[test]
fn a_task_whose_attempt_makes_no_call_is_told_of_its_time() {
    watchdog::run("an attempt that makes no call", || {
        let (near, _far) = MemoryChannel::pair().unwrap();
        near.set_read_timeout(Some(SHORT)).unwrap();
        let near = AioChannel::new(near);
        let event_loop = EventLoop::new().unwrap();
        let mut attempts = 0;
        let waits = near.drive(Direction::Read, |_| {
            attempts += 1;
            Err::<(), Error>(Error::WOULD_BLOCK)
        });
        assert!(event_loop.block_on(waits).unwrap().unwrap_err().is_timed_out());
        assert!(attempts < 10, "{attempts} attempts");
    });
}

#[test]
fn a_time_that_is_set_while_a_call_ends_holds() {
    let (near, far) = MemoryChannel::pair().unwrap();
    near.set_blocking(false);
    let turn = AtomicUsize::new(0);
    thread::scope(|scope| {
        let (near, turn) = (&near, &turn);
        let wait_for = |count: usize| {
            while turn.load(Ordering::Acquire) < count {
                std::hint::spin_loop();
            }
        };
        scope.spawn(move || {
            for count in 0..20_000 {
                wait_for(2 * count + 1);
                near.read(&mut [0]).unwrap();
                turn.store(2 * count + 2, Ordering::Release);
            }
        });
        for count in 0..20_000 {
            near.set_read_timeout(Some(LONG)).unwrap();
            far.write_all(b"x").unwrap();
            turn.store(2 * count + 1, Ordering::Release);
            (0..count % 64).for_each(|_| std::hint::spin_loop());
            near.set_read_timeout(Some(SHORT)).unwrap();
            wait_for(2 * count + 2);
            let Readiness::Wait(interests) = near.readiness(Direction::Read) else { continue };
            let left = interests.deadline().unwrap().saturating_duration_since(Instant::now());
            assert!(left < LONG / 2, "in round {count} the time that was set before holds: {left:?}");
        }
    });
}

/// What a read came to with nothing there, and how often it was attempted.
fn reads_nothing(mode: &Mode, near: &MemoryChannel) -> (ErrorKind, u32) {
    mode.set_timeout(near, Direction::Read, Some(Duration::from_millis(20))).unwrap();
    let mut attempts = 0;
    let read = mode.run(near, Direction::Read, false, || {
        attempts += 1;
        near.readv_full(&mut [IoSliceMut::new(&mut [0])], None, ReadFlags::DONT_WAIT)
    });
    mode.set_timeout(near, Direction::Read, None).unwrap();
    (read.unwrap_err().kind(), attempts)
}

#[test]
fn who_read_in_vain_sleeps_first_the_next_times_and_tries_again_after_some() {
    let ((near, far), mode) = (MemoryChannel::pair().unwrap(), Mode::default());
    assert_eq!(reads_nothing(&mode, &near), (ErrorKind::TimedOut, 1));
    assert_eq!(reads_nothing(&mode, &near), (ErrorKind::TimedOut, 0));
    let done = mode.run_until(&near, Direction::Read, false, None, || Ok(1));
    assert_eq!(done.unwrap(), 1, "a handshake that is over has nothing to wait for");
    near.set_blocking(false);
    while near.write(&[0; 4096]).is_ok() {}
    mode.set_timeout(&near, Direction::Write, Some(Duration::from_millis(20))).unwrap();
    assert_eq!(mode.run(&near, Direction::Write, false, || Ok(1)).unwrap(), 1, "a writer tries");
    far.write_all(&[0; 64]).unwrap();
    for _ in 0..64 {
        mode.run(&near, Direction::Read, false, || near.read(&mut [0])).unwrap();
    }
    assert_eq!(reads_nothing(&mode, &near), (ErrorKind::TimedOut, 1), "there was always something");
}

#[test]
fn a_call_that_was_under_way_when_the_mode_changed_did_something() {
    let ((near, _far), mode) = (MemoryChannel::pair().unwrap(), Mode::default());
    for vain in [false, true] {
        let mut done = None;
        mode.set_blocking(true);
        mode.set_timeout(&near, Direction::Write, Some(LONG)).unwrap();
        let mut attempts = 0;
        let written = mode.run(&near, Direction::Write, false, || {
            attempts += 1;
            if vain && attempts == 1 {
                return Err(Error::WOULD_BLOCK);
            }
            mode.set_blocking(false);
            let began = Instant::now();
            done = std::iter::repeat_with(Instant::now).find(|now| *now > began); // the clock goes on
            Ok(1)
        });
        assert_eq!(written.unwrap(), 1);
        assert!(mode.limit(Direction::Write) >= done.map(|done| done + LONG), "the time begins with the call's end");
    }
}
