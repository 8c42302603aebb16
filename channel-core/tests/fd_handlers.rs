//! The handlers of a leaf: when they are on their loop, and when the channel lets go of them.

use std::os::fd::OwnedFd;
use std::panic;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use channel_core::leaf::{FdHandlers, Mode};
use channel_core::{
    AioChange, AioContext, AioHandler, Callback, Channel, ChannelExt, Direction, Error, ErrorKind, Interest,
    MemoryChannel, Readiness, Registration, Result, TimerId,
};
use channel_testkit::recording::{Recorded, Recorder};
use channel_testkit::watchdog;

/// Counts how often it was called, or dropped.
#[derive(Default)]
struct Counts {
    calls: AtomicUsize,
    drops: AtomicUsize,
}

impl Counts {
    fn of(counts: &Arc<Self>) -> [usize; 2] {
        [counts.calls.load(Ordering::SeqCst), counts.drops.load(Ordering::SeqCst)]
    }
}

/// A handler that counts, and does `at_end` when it is dropped.
fn counting(recorder: &Arc<Recorder>, counts: &Arc<Counts>, at_end: impl Fn() + Send + Sync + 'static) -> AioHandler {
    struct Ends<F: Fn()>(Arc<Counts>, F);
    impl<F: Fn()> Drop for Ends<F> {
        fn drop(&mut self) {
            self.0.drops.fetch_add(1, Ordering::SeqCst);
            (self.1)();
        }
    }
    let ends = Ends(Arc::clone(counts), at_end);
    AioHandler::new(recorder.clone(), move || {
        ends.0.calls.fetch_add(1, Ordering::SeqCst);
    })
}

#[test]
fn a_handler_whose_direction_goes_on_after_an_error_is_put_back() {
    let (near, far) = MemoryChannel::pair().unwrap();
    far.write_all(b"x").unwrap();
    let Readiness::Wait(interests) = near.readiness(Direction::Read) else { panic!("a memory channel polls") };
    let polled: Option<Interest> = interests.iter().next().cloned();
    let (recorder, counts, handlers) = (Recorder::new(), Arc::<Counts>::default(), FdHandlers::default());
    let set = AioChange::Set(counting(&recorder, &counts, || ()));
    handlers.change("leaf", &Mode::default(), |_| polled.clone(), None, set, AioChange::Keep).unwrap();
    handlers.called(
        &Mode::default(),
        Direction::Read,
        &Err(Error::new(ErrorKind::Io(std::io::ErrorKind::OutOfMemory), "leaf", "")),
    );
    assert_eq!(recorder.turn(Duration::ZERO).unwrap(), 1, "calls of a handler to which somebody else's call says so");
    assert_eq!(recorder.turn(Duration::ZERO).unwrap(), 0, "calls in a direction that seems to be over");
    handlers.called(&Mode::default(), Direction::Write, &Ok(1));
    assert_eq!(recorder.turn(Duration::ZERO).unwrap(), 0, "calls because the other direction goes on");
    handlers.called(&Mode::default(), Direction::Read, &Err(Error::WOULD_BLOCK));
    assert_eq!(recorder.turn(Duration::ZERO).unwrap(), 1, "calls in a direction that goes on");
}

#[test]
fn a_handler_whose_task_makes_its_call_afterwards_stays_on_its_loop() {
    let (near, far) = MemoryChannel::pair().unwrap();
    near.set_blocking(false);
    let (recorder, counts) = (Recorder::new(), Arc::<Counts>::default());
    near.set_aio_fd_handler(AioChange::Set(counting(&recorder, &counts, || ())), AioChange::Keep).unwrap();
    for round in 1..=10 {
        far.write_all(b"x").unwrap();
        assert_eq!(recorder.turn(Duration::ZERO).unwrap(), 1);
        assert_eq!(Counts::of(&counts), [round, 0]);
        assert_eq!(near.read(&mut [0; 8]).unwrap(), 1);
    }
    assert!(
        !recorder.calls().iter().any(|call| matches!(call, Recorded::Cleared(..))),
        "it was taken off and put back"
    );
}

#[test]
fn a_handler_that_panics_again_and_again_is_taken_off_its_loop() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let recorder = Recorder::new();
    let handler = AioHandler::new(recorder.clone(), || panic::resume_unwind(Box::new("again")));
    near.set_aio_fd_handler(AioChange::Set(handler), AioChange::Keep).unwrap();
    far.write_all(b"x").unwrap();
    for _ in 0..2 {
        panic::catch_unwind(|| recorder.turn(Duration::ZERO)).unwrap_err();
    }
    assert_eq!(recorder.turn(Duration::ZERO).unwrap(), 0);
    near.set_aio_fd_handler(AioChange::Keep, AioChange::Keep).unwrap();
    assert_eq!(recorder.turn(Duration::ZERO).unwrap(), 0, "calls because both handlers are kept");
    near.set_aio_fd_handler(AioChange::Keep, AioChange::Called).unwrap();
    panic::catch_unwind(|| recorder.turn(Duration::ZERO)).unwrap_err();
}

#[test]
fn nothing_is_set_once_it_is_cleared_for_good() {
    let (recorder, counts, handlers) = (Recorder::new(), Arc::<Counts>::default(), FdHandlers::default());
    handlers.clear();
    for change in [AioChange::Set, AioChange::Claim, AioChange::Hold] {
        let change = change(counting(&recorder, &counts, || ()));
        let refused = handlers.change("leaf", &Mode::default(), |_| None, None, change, AioChange::Keep).unwrap_err();
        assert!(refused.is_closed(), "{refused:?}");
    }
    assert_eq!(Counts::of(&counts), [0, 3], "calls and drops of handlers that were refused");
    assert_eq!(recorder.turn(Duration::ZERO).unwrap(), 0);
}

#[test]
fn a_handler_that_is_held_is_never_called_and_let_go_of_at_the_end() {
    for how in ["released", "closed", "dropped"] {
        let (near, far) = MemoryChannel::pair().unwrap();
        let (recorder, held, set) = (Recorder::new(), Arc::<Counts>::default(), Arc::<Counts>::default());
        let handler = counting(&recorder, &held, || ());
        near.set_aio_fd_handler(AioChange::Hold(handler.clone()), AioChange::Keep).unwrap();
        near.set_aio_fd_handler(AioChange::Claim(counting(&recorder, &set, || ())), AioChange::Keep).unwrap();
        near.set_aio_fd_handler(AioChange::Clear, AioChange::Clear).unwrap();
        far.write_all(b"x").unwrap();
        recorder.turn(Duration::ZERO).unwrap();
        assert_eq!(Counts::of(&held), [0, 0], "calls and drops of a handler that is held");
        assert_eq!(Counts::of(&set), [0, 1], "calls and drops of a handler that was cleared beside it");
        match how {
            "released" => drop(near.set_aio_fd_handler(AioChange::Keep, AioChange::Release(handler.clone())).unwrap()),
            "closed" => near.close().unwrap(),
            _ => drop(near),
        }
        drop(handler);
        assert_eq!(Counts::of(&held), [0, 1], "calls and drops of a handler whose channel, or itself, was {how}");
    }
}

#[test]
fn a_handler_that_is_refused_is_dropped_where_it_may_call_the_channel() {
    watchdog::run("a_handler_that_is_refused_is_dropped_where_it_may_call_the_channel", || {
        let (recorder, counts) = (Recorder::new(), Arc::<Counts>::default());
        for change in [AioChange::Claim, AioChange::Release] {
            let near = Arc::new(MemoryChannel::pair().unwrap().0);
            near.set_aio_fd_handler(AioChange::Set(AioHandler::new(recorder.clone(), || ())), AioChange::Keep).unwrap();
            let channel = Arc::downgrade(&near);
            let calls_it = move || {
                let called =
                    Weak::upgrade(&channel).map(|near| near.set_aio_fd_handler(AioChange::Keep, AioChange::Keep));
                assert!(called.is_some_and(|called| called.is_ok()));
            };
            let refused = near.set_aio_fd_handler(change(counting(&recorder, &counts, calls_it)), AioChange::Keep);
            drop(refused);
        }
        assert_eq!(Counts::of(&counts), [0, 2]);
    });
}

/// The read handler of a memory channel that has something to read, on `context`; and what keeps the channel.
fn due(context: Arc<dyn AioContext>, counts: &Arc<Counts>) -> (FdHandlers, (MemoryChannel, MemoryChannel)) {
    let (near, far) = MemoryChannel::pair().unwrap();
    far.write_all(b"x").unwrap();
    let Readiness::Wait(interests) = near.readiness(Direction::Read) else { panic!("a memory channel polls") };
    let polled: Option<Interest> = interests.iter().next().cloned();
    let (handlers, calls) = (FdHandlers::default(), Arc::clone(counts));
    let handler = AioHandler::new(context, move || {
        calls.calls.fetch_add(1, Ordering::SeqCst);
    });
    handlers
        .change("leaf", &Mode::default(), |_| polled.clone(), None, AioChange::Set(handler), AioChange::Keep)
        .unwrap();
    (handlers, (near, far))
}

#[test]
fn a_handler_whose_call_met_a_shortage_is_off_its_loop_for_a_while() {
    let (recorder, counts) = (Recorder::new(), Arc::<Counts>::default());
    let (handlers, _channels) = due(recorder.clone(), &counts);
    let error = Error::from_io(std::io::Error::from_raw_os_error(105), "leaf"); // ENOBUFS
    assert!(error.is_shortage());
    let began = Instant::now();
    handlers.called(&Mode::default(), Direction::Read, &Err(error));
    assert!(recorder.turn_until(Duration::from_secs(20), || Counts::of(&counts)[0] > 0).unwrap());
    assert!(began.elapsed() >= Duration::from_millis(10));
}

/// A loop whose timers run before the call that sets them has returned, as they may where another thread runs the loop.
#[derive(Debug)]
struct Hasty(Arc<Recorder>);

impl AioContext for Hasty {
    fn set_fd_handler(&self, fd: &Arc<OwnedFd>, direction: Direction, callback: Option<Callback>) -> Result<()> {
        self.0.set_fd_handler(fd, direction, callback)
    }

    fn schedule(&self, callback: Box<dyn FnOnce() + Send>) {
        self.0.schedule(callback);
    }

    fn set_timer(&self, _: Instant, callback: Box<dyn FnOnce() + Send>) -> TimerId {
        callback();
        TimerId(0)
    }

    fn clear_timer(&self, _: TimerId) {}
}

#[test]
fn a_pause_that_is_over_before_it_is_noted_is_over() {
    let (recorder, counts) = (Recorder::new(), Arc::<Counts>::default());
    let (handlers, _channels) = due(Arc::new(Hasty(recorder.clone())), &counts);
    handlers.pause(Direction::Read, Instant::now());
    let shown = format!("{handlers:?}");
    assert!(shown.contains("OnLoop(Interest"), "{shown}");
    assert_eq!(recorder.turn(Duration::ZERO).unwrap(), 1, "calls of a handler whose pause is over");
}

/// A loop that refuses writers.
#[derive(Debug)]
struct Refusing(Arc<Recorder>);

impl AioContext for Refusing {
    fn set_fd_handler(&self, fd: &Arc<OwnedFd>, direction: Direction, callback: Option<Callback>) -> Result<()> {
        if direction == Direction::Write && callback.is_some() {
            return Err(Error::new(ErrorKind::Io(std::io::ErrorKind::OutOfMemory), "loop", "no writers"));
        }
        self.0.set_fd_handler(fd, direction, callback)
    }

    fn schedule(&self, callback: Box<dyn FnOnce() + Send>) {
        self.0.schedule(callback);
    }

    fn set_timer(&self, at: Instant, callback: Box<dyn FnOnce() + Send>) -> TimerId {
        self.0.set_timer(at, callback)
    }

    fn clear_timer(&self, timer: TimerId) {
        self.0.clear_timer(timer);
    }
}

#[test]
fn where_one_of_two_handlers_is_refused_neither_is_set() {
    let (near, _far) = MemoryChannel::pair().unwrap();
    let Readiness::Wait(interests) = near.readiness(Direction::Read) else { panic!("a memory channel polls") };
    let fd = Arc::clone(&interests.iter().next().unwrap().fd);
    let (recorder, counts, handlers) = (Recorder::new(), Arc::<Counts>::default(), FdHandlers::default());
    let polled = |direction| Some(Interest { fd: Arc::clone(&fd), direction });
    let context: Arc<dyn AioContext> = Arc::new(Refusing(recorder.clone()));
    let handler = || {
        let counts = Arc::clone(&counts);
        AioChange::Set(AioHandler::new(Arc::clone(&context), move || {
            counts.calls.fetch_add(1, Ordering::SeqCst);
        }))
    };
    handlers.change("leaf", &Mode::default(), polled, None, handler(), handler()).unwrap_err();
    assert!(recorder.handlers().is_empty(), "the one that was not refused is on its loop");
    handlers.change("leaf", &Mode::default(), polled, None, handler(), AioChange::Keep).unwrap();
    assert_eq!(recorder.handlers().len(), 1);
}

#[test]
fn a_shortage_in_one_direction_counts_as_a_call_for_the_other() {
    let (recorder, counts) = (Recorder::new(), Arc::<Counts>::default());
    let (handlers, _channels) = due(recorder.clone(), &counts);
    for _ in 0..2 {
        assert_eq!(recorder.turn(Duration::ZERO).unwrap(), 1);
    }
    assert_eq!(recorder.turn(Duration::ZERO).unwrap(), 0, "calls of a handler that calls nobody");
    let error = Error::from_io(std::io::Error::from_raw_os_error(12), "leaf"); // ENOMEM
    handlers.called(&Mode::default(), Direction::Write, &Err(error));
    assert_eq!(recorder.turn(Duration::ZERO).unwrap(), 1);
}

#[test]
fn a_handler_that_meets_the_end_itself_is_told_of_it_once() {
    let (recorder, counts) = (Recorder::new(), Arc::new(AtomicUsize::new(0)));
    let (near, far) = MemoryChannel::pair().unwrap();
    let near = Arc::new(near);
    near.set_blocking(false);
    let (reads, counted) = (Arc::downgrade(&near), Arc::clone(&counts));
    let handler = AioHandler::new(recorder.clone(), move || {
        counted.fetch_add(1, Ordering::Relaxed);
        assert_eq!(reads.upgrade().unwrap().read(&mut [0; 8]).unwrap(), 0);
    });
    near.set_aio_fd_handler(AioChange::Set(handler), AioChange::Keep).unwrap();
    far.close().unwrap();
    for _ in 0..5 {
        recorder.turn(Duration::ZERO).unwrap();
    }
    assert_eq!(counts.load(Ordering::Relaxed), 1);
}

#[test]
fn a_handler_is_called_at_its_time_though_the_timer_runs_before_it_is_noted_and_not_at_one_that_was_moved_on() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counting = |context: Arc<dyn AioContext>| {
        let calls = Arc::clone(&calls);
        Registration::new(AioHandler::new(context, move || {
            calls.fetch_add(1, Ordering::Relaxed);
        }))
    };
    let recorder = Recorder::new();
    let hasty = counting(Arc::new(Hasty(recorder.clone())));
    hasty.call_at(|| Some(Instant::now()));
    assert_eq!(calls.load(Ordering::Relaxed), 1);

    let registration = counting(recorder.clone());
    let soon = || Some(Instant::now() + Duration::from_millis(10));
    registration.call_at(soon);
    registration.call_at(|| Some(Instant::now() + Duration::from_secs(3600)));
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(30) {
        recorder.turn(Duration::from_millis(5)).unwrap();
    }
    assert_eq!(calls.load(Ordering::Relaxed), 1, "its time was moved on");
    let at = soon();
    registration.call_at(|| at);
    while calls.load(Ordering::Relaxed) < 2 {
        recorder.turn(Duration::from_millis(5)).unwrap();
    }
    registration.call_at(|| at);
    assert_eq!(recorder.turn(Duration::ZERO).unwrap(), 0, "it was called at that time");
    registration.call_at(soon);
    registration.call_at(|| None);
    registration.call_at(soon);
    registration.remove();
    while begun.elapsed() < Duration::from_millis(100) {
        recorder.turn(Duration::from_millis(5)).unwrap();
    }
    assert_eq!(calls.load(Ordering::Relaxed), 2, "it was removed");
}

#[test]
fn a_pause_that_is_begun_anew_goes_on() {
    let (recorder, counts) = (Recorder::new(), Arc::<Counts>::default());
    let (handlers, _channels) = due(recorder.clone(), &counts);
    for _ in 0..2 {
        handlers.pause(Direction::Read, Instant::now() + Duration::from_secs(3600));
    }
    assert_eq!(recorder.turn(Duration::ZERO).unwrap(), 0, "calls of a handler that is paused");
}
