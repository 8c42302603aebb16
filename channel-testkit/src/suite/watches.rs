//! G: watches, which call for conditions until they have seen enough.

use std::io::IoSliceMut;
use std::ops::ControlFlow::{self, Break, Continue};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::time::Duration;

use channel_core::{
    AioChange, AioChannel, AioContext, AioHandler, Channel, Condition, Direction, Error, ErrorKind, EventLoop,
    ReadFlags, Readiness, Result, WatchGuard, lowest_layer,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Setup;
use super::end::{End, Task, UNBOUNDED, assert_stream, stream};
use super::setup::{Mode, closing_soon, small_limits};
use super::tasks::{little, poll_once};
use super::write::drain;
use crate::recording::Recorder;

/// How many turns a loop takes to see that nothing is called.
const TURNS: usize = 4;

/// \[G1\] The callback of a watch gets those conditions asked for that are the case, one call at a time; when it says so, or the
/// channel is closed or dropped, the watch is over and the callback dropped: once, and never while it runs.
pub fn g1_a_watch_calls_until_it_has_seen_enough(setup: &Setup) {
    const COUNT: usize = 200;
    let recorder = Recorder::new();
    let (near, far) = pair(setup);
    near.set_name("watched");
    let log = Log::new();
    let got = Arc::new(Mutex::new(Vec::new()));
    let (again, bytes) = (Arc::clone(&recorder), Arc::clone(&got));
    let unattached = near.channel().create_watch(Condition::IN);
    assert_eq!(unattached.name().as_deref(), Some("watched"), "the name of a watch");
    let attached = unattached.attach(
        context(&recorder),
        log.callback(move |channel, _| {
            again.turn(Duration::ZERO).expect("a turn inside a call");
            let mut bytes = bytes.lock().unwrap_or_else(PoisonError::into_inner);
            bytes.extend(read_byte(channel));
            if bytes.len() < COUNT - 50 { Continue(()) } else { Break(()) }
        }),
    );
    let guard = attached.expect("a watch");
    assert_eq!(guard.name().as_deref(), Some("watched"), "the name of a watch");
    assert!(format!("{guard:?}").contains("watched"), "a watch does not show its channel's name: {guard:?}");
    turns(&recorder);
    assert_eq!(log.calls(), 0, "calls of a watch for input, and there is none");
    far.put(&stream(0, COUNT));
    setup.step("a watch that reads a byte in each call");
    until(setup, &recorder, "the watch was not called for all that was there", || log.drops() > 0);
    let calls = log.calls();
    turns(&recorder);
    let bytes = std::mem::take(&mut *got.lock().unwrap_or_else(PoisonError::into_inner));
    assert_stream(0, &bytes);
    assert_eq!(bytes.len(), COUNT - 50, "bytes read until the callback had seen enough");
    assert_eq!(log.calls(), calls, "calls after the callback had seen enough");
    assert_eq!(log.conditions(), Condition::IN, "what a watch for IN was told");
    assert!(guard.is_over());
    drop(guard);

    // One that calls nothing must not make its loop spin, and is called again after somebody called the channel.
    let log = Log::new();
    let guard = watch(&near, &recorder, Condition::IN, log.callback(|_, _| Continue(())));
    for _ in 0..20 {
        recorder.turn(Duration::ZERO).expect("a turn");
    }
    assert!(log.calls() > 0, "a watch was not called for bytes that were there before it");
    assert!(log.calls() <= 6, "{} calls of a watch that does not call its channel", log.calls());
    assert_eq!(recorder.turn(Duration::ZERO).expect("a turn"), 0, "a watch that does not call its channel spins");
    let before = log.calls();
    assert_stream(COUNT - 50, &near.take(1));
    until(setup, &recorder, "the watch was not called for what another read left", || log.calls() > before);
    assert_eq!(log.drops(), 0, "a callback was dropped that had not seen enough");
    drop(guard);
    assert_eq!(log.drops(), 1, "drops of a callback whose guard was dropped");

    for how in ["closed", "dropped"] {
        let (near, _far) = pair(setup);
        let logs = [Condition::IN, Condition::OUT, Condition::HUP | Condition::ERR].map(|condition| {
            let log = Log::new();
            let weak = near.channel().create_watch(condition).weak();
            (weak.attach(context(&recorder), log.callback(|_, _| Continue(()))).expect("a watch"), log)
        });
        let mut near = Some(near);
        match (how, &near) {
            // That the peer does not read is none of this clause's business.
            ("closed", Some(near)) => drop(near.drive(Direction::Write, Channel::close)),
            _ => near = None,
        }
        for (guard, log) in &logs {
            assert_eq!(log.drops(), 1, "drops of the callback when the channel was {how}: {guard:?}");
            assert!(guard.is_over(), "a watch is not over, and its channel was {how}: {guard:?}");
        }
        let before = logs.each_ref().map(|(_, log)| log.calls());
        turns(&recorder);
        assert_eq!(logs.each_ref().map(|(_, log)| log.calls()), before, "calls after the channel was {how}");
        assert_eq!(logs.each_ref().map(|(_, log)| log.drops()), [1; 3], "drops after the channel was {how}");
        drop(near);
    }

    let (near, far) = setup.pair_with(&little(small_limits().linger));
    let near = near.without_handlers();
    let taken = near.fill(0, UNBOUNDED);
    let log = Log::new();
    let guard = watch(
        &near,
        &recorder,
        Condition::IN | Condition::OUT,
        log.callback(|_, condition| if condition.contains(Condition::OUT) { Break(()) } else { Continue(()) }),
    );
    setup.step("a watch for room, while the peer makes it");
    let mut seen = 0;
    until(setup, &recorder, "the peer made room, and a watch for that was not called", || {
        seen += drain(&far, seen);
        log.drops() > 0
    });
    assert!(seen <= taken && guard.is_over());
    drop(guard);
    // The peer does not read; that close may say so is none of this clause's business.
    let _ = near.drive(Direction::Write, Channel::close);
    let late = near.channel().add_watch(context(&recorder), Condition::HUP, |_, _| Continue(()));
    assert!(late.as_ref().is_err_and(Error::is_closed), "a watch on a closed channel: {late:?}");
}

/// \[G2\] No call of a watch starts after its guard was dropped, wherever that was; who must know that none is running waits for that. A
/// watch keeps its channel alive, unless it was told not to.
pub fn g2_no_call_of_a_watch_starts_after_its_guard_was_dropped(setup: &Setup) {
    let recorder = Recorder::new();
    let (near, far) = pair(setup);
    let first = near.channel().add_watch(context(&recorder), Condition::IN, |_, _| Continue(()));
    let first = first.expect("a watch");
    far.put(&stream(0, 10));
    assert_stream(0, &near.take(1));
    drop(first);
    turns(&recorder);

    setup.step("a watch that drops its own guard");
    let own = Arc::new(Mutex::new(None));
    let (log, within) = (Log::new(), Arc::clone(&own));
    let dropping = log.clone();
    let guard = watch(
        &near,
        &recorder,
        Condition::IN,
        log.callback(move |_, _| {
            drop(within.lock().unwrap_or_else(PoisonError::into_inner).take());
            assert_eq!(dropping.drops(), 0, "a callback was dropped while it ran");
            Continue(())
        }),
    );
    *own.lock().unwrap_or_else(PoisonError::into_inner) = Some(guard);
    until(setup, &recorder, "the watch was not called", || log.calls() > 0);
    turns(&recorder);
    assert_eq!((log.calls(), log.drops()), (1, 1), "calls and drops of a watch that dropped its own guard");

    setup.step("two watches of which the first that is called drops the other");
    let (logs, guards) = ([Log::new(), Log::new()], Arc::new(Mutex::new(Vec::new())));
    for (condition, log) in [Condition::IN, Condition::OUT].into_iter().zip(&logs) {
        let all = Arc::clone(&guards);
        let drops_both = move |_: &dyn Channel, _| {
            let all: Vec<WatchGuard> = std::mem::take(&mut *all.lock().unwrap_or_else(PoisonError::into_inner));
            drop(all);
            Continue(())
        };
        let guard = watch(&near, &recorder, condition, log.callback(drops_both));
        guards.lock().unwrap_or_else(PoisonError::into_inner).push(guard);
    }
    let told = || logs.each_ref().map(Log::calls).iter().sum::<usize>();
    until(setup, &recorder, "neither watch was called", || told() > 0);
    turns(&recorder);
    assert_eq!(told(), 1, "calls of two watches that were dropped in the first");
    assert_eq!(logs.each_ref().map(Log::drops), [1, 1], "drops of two watches that were dropped in the first call");

    setup.step("dropping the guard of a watch that is running on another thread");
    let event_loop = Arc::new(EventLoop::new().expect("a loop"));
    let turning = {
        let event_loop = Arc::clone(&event_loop);
        Task::spawn(move || event_loop.run().expect("a loop that runs"))
    };
    for waits in [false, true] {
        let (inside, entered) = mpsc::channel();
        let (go, gone) = mpsc::channel::<()>();
        let log = Log::new();
        let call = log.callback(move |_, _| {
            let _ = inside.send(());
            let _ = gone.recv();
            Continue(())
        });
        let guard = near.channel().add_watch(event_loop.handle(), Condition::IN, call);
        let guard = guard.expect("a watch after the one before was dropped");
        setup.receive(&entered, "a call of the watch");
        if waits {
            let removing = Task::spawn(move || guard.remove_and_wait());
            removing.until_asleep();
            assert!(!removing.is_finished(), "remove_and_wait returned while the callback was running");
            go.send(()).expect("a callback that waits");
            removing.join().expect("remove_and_wait");
            assert_eq!(log.drops(), 1, "drops of a callback after remove_and_wait");
        } else {
            drop(guard);
            assert_eq!(log.drops(), 0, "a callback was dropped while it ran");
            go.send(()).expect("a callback that waits");
            assert!(setup.wait_until(|| log.drops() == 1), "the callback was not dropped after its last call");
        }
        assert_eq!(log.calls(), 1, "calls of a watch that was dropped in its first");
    }
    let (sent, inside) = mpsc::channel();
    let own = Arc::new(Mutex::new(None::<WatchGuard>));
    let within = Arc::clone(&own);
    {
        let mut own = own.lock().unwrap_or_else(PoisonError::into_inner); // the call waits for its guard
        let guard = near.channel().add_watch(event_loop.handle(), Condition::OUT, move |_, _| {
            let own = within.lock().unwrap_or_else(PoisonError::into_inner).take();
            let _ = own.map(|own| sent.send(own.remove_and_wait()));
            Continue(())
        });
        *own = Some(guard.expect("a watch"));
    }
    let waited = setup.receive(&inside, "a call of the watch");
    let deadlock = waited.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldDeadlock);
    assert!(deadlock, "waiting for itself, a callback got {waited:?}");
    event_loop.handle().stop();
    turning.join();

    setup.step("watches that keep their channel alive, and do not");
    let (near, far) = pair(setup);
    let (strong, weak) = (Log::new(), Log::new());
    let stays = watch(&near, &recorder, Condition::HUP, strong.callback(|_, _| Continue(())));
    let goes = near.channel().create_watch(Condition::IN).weak();
    let goes = goes.attach(context(&recorder), weak.callback(|_, _| Continue(()))).expect("a watch");
    let alive: Weak<dyn Channel> = Arc::downgrade(near.channel());
    drop(near);
    assert!(alive.upgrade().is_some(), "a watch should keep its channel alive");
    drop(stays);
    assert!(
        alive.upgrade().is_none(),
        "a channel is kept alive by a watch that was dropped, or by one that should not"
    );
    assert_eq!((strong.drops(), weak.drops()), (1, 1), "drops of callbacks");
    assert!(goes.is_over());
    drop((goes, far));

    let (near, far) = pair(setup);
    let log = Log::new();
    watch(
        &near,
        &recorder,
        Condition::IN,
        log.callback(|channel, _| match read_byte(channel) {
            Some(b'.') => Break(()),
            _ => Continue(()),
        }),
    )
    .forget();
    let alive = Arc::downgrade(near.channel());
    drop(near);
    far.put(b"forgotten.");
    until(setup, &recorder, "a watch that was left to its loop was not called", || log.drops() > 0);
    assert!(alive.upgrade().is_none(), "a watch that is over keeps its channel");
}

/// \[G3\] Watches for `IN` and `OUT` are the reader and the writer; those for `HUP` and `ERR` alone stand beside anything. A hang-up is told
/// once, to those who asked.
pub fn g3_a_direction_has_one_watch_and_a_hang_up_any_number(setup: &Setup) {
    let recorder = Recorder::new();
    let (near, far) = pair(setup);
    near.set_name("contended");
    let hang_ups = [Condition::HUP, Condition::ERR, Condition::HUP | Condition::ERR].map(|condition| {
        let log = Log::new();
        let added = near.channel().add_watch(context(&recorder), condition, log.callback(|_, _| Continue(())));
        (condition, log, added)
    });
    let log = Log::new();
    let added = near.channel().add_watch(context(&recorder), Condition::IN, log.callback(|_, _| Continue(())));
    let reader = added.expect("a watch");
    let writer = watch(&near, &recorder, Condition::OUT, |_, _| Continue(()));
    let turned_away = |result: Result<()>, what: &str| match result {
        Err(error) if error.is_busy() => {
            assert_eq!(error.channel(), Some("contended"), "{what}: the error does not name the channel: {error}");
        }
        other => panic!("{what} where a watch waits already: {other:?}"),
    };
    let add = |condition| near.channel().add_watch(context(&recorder), condition, |_, _| Continue(())).map(drop);
    turned_away(add(Condition::IN), "a second watch for IN");
    turned_away(add(Condition::OUT | Condition::HUP), "a second watch for OUT");
    let claim = || AioChange::Claim(AioHandler::new(context(&recorder), || ()));
    let claimed = near.set_aio_fd_handler(claim(), AioChange::Keep);
    assert!(claimed.as_ref().is_err_and(Error::is_busy), "a handler where a watch waits already: {claimed:?}");
    let task = AioChannel::from_arc(Arc::clone(near.channel()));
    for direction in [Direction::Read, Direction::Write] {
        if !near.readiness(direction).is_ready() {
            let waited = poll_once(&recorder, pin!(task.ready(direction)));
            turned_away(waited.expect("a task that is turned away"), "a task");
        }
    }
    drop(task);
    drop(writer);

    setup.step("bytes held above a silent descriptor");
    near.set_blocking(setup.mode() == Mode::Blocking); // which the task has changed
    far.put(&stream(0, 300));
    assert_stream(0, &near.take(1));
    until(setup, &recorder, "a watch was not called for bytes that another read left", || log.calls() > 0);
    drop(reader);
    let late = Log::new();
    let reader = watch(&near, &recorder, Condition::IN, late.callback(|_, _| Continue(())));
    until(setup, &recorder, "a watch was not called for bytes that are held", || late.calls() > 0);
    assert_stream(1, &near.take(299));
    drop(reader);
    for (condition, log, _) in &hang_ups {
        assert_eq!(log.calls(), 0, "calls of a watch for {condition:?} when there was data");
    }

    setup.step("a hang-up");
    let fds = descriptors(&near);
    drop(far);
    until(setup, &recorder, "a hang-up was not told to those who asked for it", || {
        let now = conditions_of(&fds);
        hang_ups.iter().all(|(condition, log, _)| log.conditions() == *condition & now)
    });
    turns(&recorder);
    // What we send to a peer that is gone is an event of the same descriptor; for TCP only that brings the hang-up.
    let _ = near.try_write(b"gone");
    turns(&recorder);
    for (condition, log, _) in &hang_ups {
        assert!((log.conditions() - *condition).is_empty(), "{condition:?} was told {:?}", log.conditions());
        let most = if *condition == Condition::HUP { 1 } else { 3 };
        assert!(log.calls() <= most, "{} calls of a watch for {condition:?} while the peer is gone", log.calls());
    }

    setup.step("closing while hang-ups are watched");
    let _ = near.drive(Direction::Write, Channel::close);
    drop(near);
    let counted: Vec<Weak<OwnedFd>> = fds.iter().map(Arc::downgrade).collect();
    drop(fds);
    let open = counted.iter().filter(|fd| fd.strong_count() > 0).count();
    assert_eq!(open, 0, "descriptors that only watches can keep open, and their channel was closed");
    assert!(hang_ups.iter().all(|(_, log, _)| log.drops() == 1), "a watch outlived its channel");
    let polled = recorder.handlers().len();
    assert_eq!(polled, 0, "descriptors that a loop polls for watches whose channel was closed");
}

/// What a watch did; clones tell of the same one.
#[derive(Clone, Default)]
struct Log(Arc<Told>);

#[derive(Default)]
struct Told {
    calls: AtomicUsize,
    drops: AtomicUsize,
    conditions: AtomicU8,
    running: AtomicBool,
    dropped_in_a_call: AtomicBool,
}

impl Log {
    fn new() -> Self {
        Self::default()
    }

    /// A callback that does `body`, and tells of it.
    fn callback<F>(
        &self,
        mut body: F,
    ) -> impl FnMut(&dyn Channel, Condition) -> ControlFlow<()> + Send + 'static + use<F>
    where
        F: FnMut(&dyn Channel, Condition) -> ControlFlow<()> + Send + 'static,
    {
        let told = Ends(Arc::clone(&self.0));
        move |channel, condition| {
            let told = &told.0;
            assert!(!told.running.swap(true, Ordering::SeqCst), "two calls of one watch at once");
            assert!(!condition.is_empty(), "a call of a watch without a condition");
            told.conditions.fetch_or(condition.bits(), Ordering::SeqCst);
            told.calls.fetch_add(1, Ordering::SeqCst);
            let flow = body(channel, condition);
            told.running.store(false, Ordering::SeqCst);
            flow
        }
    }

    fn calls(&self) -> usize {
        self.0.calls.load(Ordering::SeqCst)
    }

    /// How often the callback was dropped.
    fn drops(&self) -> usize {
        assert!(!self.0.dropped_in_a_call.load(Ordering::SeqCst), "a callback was dropped while it ran");
        self.0.drops.load(Ordering::SeqCst)
    }

    /// All it was ever told.
    fn conditions(&self) -> Condition {
        Condition::from_bits_truncate(self.0.conditions.load(Ordering::SeqCst))
    }
}

/// What a callback captured.
struct Ends(Arc<Told>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.drops.fetch_add(1, Ordering::SeqCst);
        self.0.dropped_in_a_call.fetch_or(self.0.running.load(Ordering::SeqCst), Ordering::SeqCst);
    }
}

/// The test sets handlers itself.
fn pair(setup: &Setup) -> (End, End) {
    let (near, far) = setup.pair_with(&closing_soon());
    (near.without_handlers(), far)
}

fn context(recorder: &Arc<Recorder>) -> Arc<dyn AioContext> {
    Arc::clone(recorder) as _
}

fn watch(
    near: &End,
    recorder: &Arc<Recorder>,
    condition: Condition,
    callback: impl FnMut(&dyn Channel, Condition) -> ControlFlow<()> + Send + 'static,
) -> WatchGuard {
    let added = near.channel().add_watch(context(recorder), condition, callback);
    added.expect("a watch after the one before was dropped")
}

/// A read of one byte that does not wait.
fn read_byte(channel: &dyn Channel) -> Option<u8> {
    let mut byte = [0];
    match channel.readv_full(&mut [IoSliceMut::new(&mut byte)], None, ReadFlags::DONT_WAIT) {
        Ok(1) => Some(byte[0]),
        Err(error) if error.is_would_block() => None,
        other => panic!("a read in a watch: {other:?}"),
    }
}

fn turns(recorder: &Recorder) {
    for _ in 0..TURNS {
        recorder.turn(Duration::from_millis(1)).expect("a turn");
    }
}

/// Takes turns until `done`; the peer may have something to do in between.
#[track_caller]
fn until(setup: &Setup, recorder: &Recorder, what: &str, mut done: impl FnMut() -> bool) {
    let mut patience = setup.waiting();
    while !done() {
        assert!(!patience.is_lost(), "{what}");
        recorder.turn(Duration::from_millis(1)).expect("a turn");
    }
}

/// What the lowest channel waits for in either direction.
fn descriptors(near: &End) -> Vec<Arc<OwnedFd>> {
    let leaf = lowest_layer(&**near);
    let of = |direction| match leaf.readiness(direction) {
        Readiness::Ready => Vec::new(),
        Readiness::Wait(interests) => interests.iter().map(|interest| Arc::clone(&interest.fd)).collect(),
    };
    [of(Direction::Read), of(Direction::Write)].concat()
}

/// What poll(2) says of them where nothing is asked for.
fn conditions_of(fds: &[Arc<OwnedFd>]) -> Condition {
    let entries = fds.iter().map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::empty()));
    let mut entries: Vec<PollFd<'_>> = entries.collect();
    poll(&mut entries, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).expect("poll");
    let mut seen = Condition::empty();
    for revents in entries.iter().map(PollFd::revents) {
        seen.set(Condition::HUP, seen.contains(Condition::HUP) || revents.contains(PollFlags::HUP));
        seen.set(Condition::ERR, seen.contains(Condition::ERR) || revents.contains(PollFlags::ERR));
    }
    seen
}
