//! Handlers that are removed, busy, claimed, and let go of.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use channel_core::{AioChange, AioHandler, Channel, Direction, Error, ErrorKind, Removed, Result};

use super::super::Setup;
use super::super::end::{End, Task, stream};
use super::super::setup::closing_soon;
use super::{TURN, TURNS, counting, handler, lock, set, set_read};
use crate::recording::Recorder;

/// Where a read handler is due: for what the descriptor has, or for what somebody's read left in the layers.
const DUE: [&str; 2] = ["for what arrived", "for what a read left"];

/// Makes a read handler due, once it is set.
fn make_due(near: &End, far: &End, due: &str) {
    far.put(&stream(0, 10));
    if due == DUE[1] {
        near.take(1);
    }
}

/// \[H3\] A handler can be removed anywhere, and removing waits for nothing: inside itself, inside the other handler, on another thread,
/// and between its loop's look at it and its call, which then does not happen. `Removed::wait` returns when no call of what was
/// removed is running; inside such a call it says `WouldDeadlock`.
pub fn h3_a_handler_can_be_removed_anywhere(setup: &Setup) {
    for due in DUE {
        removed_inside_itself(setup, due);
        removed_while_it_runs(setup, due);
        removed_when_about_to_be_called(setup, due);
    }
    removed_inside_the_other(setup);
}

fn removed_inside_itself(setup: &Setup, due: &str) {
    setup.step("removing a handler inside itself");
    let recorder = Recorder::new();
    let (near, far) = setup.pair();
    let waits: Arc<Mutex<Vec<Result<()>>>> = Arc::default();
    let removing = {
        let (near, waits) = (Arc::downgrade(near.channel()), Arc::clone(&waits));
        handler(&recorder, move || {
            let Some(near) = near.upgrade() else { return };
            let removed = near.set_aio_fd_handler(AioChange::Clear, AioChange::Keep);
            lock(&waits).push(removed.and_then(Removed::wait));
        })
    };
    set_read(&near, removing);
    make_due(&near, &far, due);
    let called = setup.turn_until(&recorder, || !lock(&waits).is_empty());
    assert!(called, "the handler was not called {due}");
    near.take(1);
    rest(&recorder);
    let waits = lock(&waits);
    assert_eq!(waits.len(), 1, "calls of a handler that removed itself, due {due}");
    let told = waits.iter().all(|wait| wait.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldDeadlock));
    assert!(told, "Removed::wait inside the handler that was removed, called {due}, gave {waits:?}");
}

fn removed_inside_the_other(setup: &Setup) {
    setup.step("removing a handler inside the other one");
    for remover in [Direction::Read, Direction::Write] {
        let recorder = Recorder::new();
        let (near, far) = setup.pair();
        let (removed, late) = (Arc::new(Mutex::new(None)), Arc::new(AtomicUsize::new(0)));
        let removing = {
            let (near, removed) = (Arc::downgrade(near.channel()), Arc::clone(&removed));
            handler(&recorder, move || {
                let Some(near) = near.upgrade() else { return };
                let (read, write) = match remover {
                    Direction::Read => (AioChange::Keep, AioChange::Clear),
                    Direction::Write => (AioChange::Clear, AioChange::Keep),
                };
                let waited = near.set_aio_fd_handler(read, write).and_then(Removed::wait);
                lock(&removed).get_or_insert(waited);
            })
        };
        let other = {
            let (removed, late) = (Arc::clone(&removed), Arc::clone(&late));
            handler(&recorder, move || {
                late.fetch_add(usize::from(lock(&removed).is_some()), Ordering::Relaxed);
            })
        };
        let (read, write) = if remover == Direction::Read { (removing, other) } else { (other, removing) };
        set(&near, AioChange::Set(read), AioChange::Set(write));
        make_due(&near, &far, DUE[1]);
        let done = setup.turn_until(&recorder, || lock(&removed).is_some());
        assert!(done, "a handler that is due was not called");
        near.take(1);
        rest(&recorder);
        let waited = lock(&removed);
        assert!(matches!(*waited, Some(Ok(()))), "Removed::wait inside the other handler gave {waited:?}");
        assert_eq!(late.load(Ordering::Relaxed), 0, "calls of a handler that the other one had removed");
    }
}

fn removed_while_it_runs(setup: &Setup, due: &'static str) {
    let running = Running::begin(setup, due);
    let Running { near, recorder, busy, .. } = &running;
    // Due once more, on its way to be called: it is not, neither now nor when the call under way has ended.
    near.take(1);
    for callback in recorder.due().expect("a poll") {
        callback();
    }
    let removed = setup.promptly("removing a handler that is running", || {
        near.set_aio_fd_handler(AioChange::Clear, AioChange::Keep).expect("clearing a handler")
    });
    let waiter = {
        let busy = Arc::clone(busy);
        Task::spawn(move || {
            let waited = removed.wait();
            (waited, busy.runs())
        })
    };
    waiter.until_asleep();
    assert!(!waiter.is_finished(), "Removed::wait returned while a handler that was called {due} was running");
    busy.release();
    setup.step("Removed::wait, after the handler returned");
    let (waited, runs) = waiter.join();
    assert!(waited.is_ok(), "Removed::wait on another thread gave {waited:?}");
    assert!(!runs, "Removed::wait returned before the handler that was called {due}");
    running.end();
    near.take(1);
    rest(recorder);
    assert_eq!(busy.calls(), 1, "calls of a handler that was removed while it was running, {due}");
}

fn removed_when_about_to_be_called(setup: &Setup, due: &str) {
    setup.step("removing a handler that its loop is about to call");
    for how in ["cleared", "replaced", "closed", "dropped"] {
        let recorder = Recorder::new();
        let (near, far) = setup.pair_with(&closing_soon());
        let (old, new) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let change = |calls| AioChange::Set(counting(&recorder, calls));
        set(&near, change(&old), change(&old));
        make_due(&near, &far, due);
        let copied = recorder.due().expect("a poll");
        let removed = match how {
            "cleared" => Some(near.set_aio_fd_handler(AioChange::Clear, AioChange::Clear).expect("clearing handlers")),
            "replaced" => Some(near.set_aio_fd_handler(change(&new), change(&new)).expect("replacing handlers")),
            "closed" => {
                // The peer does not read to the end; that close says so is none of this clause's business.
                let _ = near.drive(Direction::Write, Channel::close);
                None
            }
            _ => None,
        };
        let near = (how != "dropped").then_some(near);
        for callback in copied {
            callback();
        }
        assert_eq!(old.load(Ordering::Relaxed), 0, "its loop was about to call it {due}, it was {how}, and was called");
        drop((near, removed));
    }
}

/// \[H4\] Calls of a handler never overlap: one that is running is not started on another thread, and what becomes due meanwhile makes
/// one more call afterwards.
pub fn h4_a_handler_never_runs_twice_at_once(setup: &Setup) {
    for due in DUE {
        let running = Running::begin(setup, due);
        let Running { near, recorder, busy, .. } = &running;
        for _ in 0..TURNS {
            // Somebody else's call makes it due, and somebody else's turn comes to it.
            near.take(1);
            for callback in recorder.due().expect("a poll") {
                callback();
            }
        }
        assert_eq!(busy.calls(), 1, "calls of a handler that was running already, due {due}");
        busy.release();
        running.end();
        let again = setup.turn_until(recorder, || busy.calls() > 1);
        assert!(again, "a handler became due while it was running, called {due}, and was not called again");
    }
}

/// \[H8\] A claim where there is a handler is `Busy` and changes nothing; releasing removes only the very handler. A callback is dropped,
/// and what it captured, when its handler is cleared or replaced, or its channel closed or dropped; at the latest when its last
/// call returns.
pub fn h8_a_handler_is_claimed_released_and_let_go_of(setup: &Setup) {
    let recorder = Recorder::new();
    let (near, far) = setup.pair();
    let calls: [Arc<AtomicUsize>; 2] = Default::default();
    let [first, second] = std::array::from_fn(|at| counting(&recorder, &calls[at]));
    let claim = |handler: &AioHandler| AioChange::Claim(handler.clone());
    let change = |read, write| drop(near.set_aio_fd_handler(read, write).expect("a change of handlers"));
    set(&near, claim(&first), AioChange::Keep);
    let busy = |read, write| {
        let claimed = near.set_aio_fd_handler(read, write);
        assert!(claimed.as_ref().is_err_and(Error::is_busy), "a claim where there is a handler gave {claimed:?}");
    };
    busy(claim(&second), AioChange::Keep);
    busy(claim(&second), claim(&second));
    change(AioChange::Release(second.clone()), claim(&second));
    busy(AioChange::Clear, claim(&first));
    change(AioChange::Keep, AioChange::Clear);
    make_due(&near, &far, DUE[1]);
    let called = |of: &AtomicUsize| {
        let before = of.load(Ordering::Relaxed);
        near.take(1);
        rest(&recorder);
        of.load(Ordering::Relaxed) > before
    };
    assert!(called(&calls[0]), "a claimed handler is gone, although others were refused and released");
    assert!(!called(&calls[1]), "a handler whose claim was refused is called");
    change(AioChange::Release(first.clone()), AioChange::Keep);
    assert!(!called(&calls[0]), "a handler that was released is called");
    change(claim(&second), AioChange::Keep);
    change(AioChange::Release(first), AioChange::Keep);
    assert!(called(&calls[1]), "a handler is gone, although another one was released");

    for how in ["cleared", "replaced", "closed", "dropped"] {
        setup.step("letting go of a handler");
        let (near, far) = setup.pair_with(&closing_soon());
        let (captured, watched) = captured();
        let holding = |captured: &Arc<()>| {
            let captured = Arc::clone(captured);
            AioChange::Set(handler(&recorder, move || drop(Arc::clone(&captured))))
        };
        set(&near, holding(&captured), holding(&captured));
        drop(captured);
        make_due(&near, &far, DUE[1]);
        rest(&recorder);
        near.take(1); // scheduled once more, perhaps
        assert!(watched.upgrade().is_some(), "a handler that is set was let go of");
        let mut near = Some(near);
        match (how, &near) {
            ("cleared", Some(near)) => {
                near.set_aio_fd_handler(AioChange::Clear, AioChange::Clear).map(drop).expect("clearing handlers");
            }
            ("replaced", Some(near)) => {
                let other = || AioChange::Set(handler(&recorder, || ()));
                near.set_aio_fd_handler(other(), other()).map(drop).expect("replacing handlers");
            }
            // The peer does not read to the end; that close says so is none of this clause's business.
            ("closed", Some(near)) => drop(near.drive(Direction::Write, Channel::close)),
            _ => near = None,
        }
        assert!(watched.upgrade().is_none(), "what a handler captured is still alive after it was {how}");
        drop(near);
    }
    setup.step("letting go of a handler that is running");
    let running = Running::begin(setup, DUE[0]);
    let cleared = running.near.set_aio_fd_handler(AioChange::Clear, AioChange::Keep).map(drop);
    cleared.expect("clearing a handler");
    let watched = Arc::downgrade(&running.busy);
    running.busy.release();
    running.end();
    assert_eq!(watched.strong_count(), 1, "owners of what a handler captured that was cleared while it ran");
}

fn captured() -> (Arc<()>, Weak<()>) {
    let captured = Arc::new(());
    let watched = Arc::downgrade(&captured);
    (captured, watched)
}

/// Gives the loop the time to call what it should not.
fn rest(recorder: &Recorder) {
    for _ in 0..TURNS {
        recorder.turn(TURN).expect("a turn");
    }
}

/// A read handler in the middle of a call, on the thread of its loop.
struct Running {
    near: End,
    _far: End,
    recorder: Arc<Recorder>,
    busy: Arc<Busy>,
    turn: Mutex<Option<Task<bool>>>,
}

impl Running {
    fn begin(setup: &Setup, due: &'static str) -> Self {
        setup.step("a handler that begins to run");
        let recorder = Recorder::new();
        let (near, far) = setup.pair();
        let busy = Arc::new(Busy::new(setup));
        let body = Arc::clone(&busy);
        set_read(&near, handler(&recorder, move || body.run()));
        make_due(&near, &far, due);
        let (turning, seen, turns) = (Arc::clone(&recorder), Arc::clone(&busy), setup.clone());
        let turn = Task::spawn(move || turns.turn_until(&turning, || seen.calls() > 0));
        busy.until_running();
        setup.step("a handler that is running");
        Self { near, _far: far, recorder, busy, turn: Mutex::new(Some(turn)) }
    }

    /// Waits for the turn that called it.
    fn end(&self) {
        if let Some(turn) = lock(&self.turn).take() {
            turn.join();
        }
    }
}

/// A handler that runs until it is released, once.
struct Busy {
    state: Mutex<State>,
    changed: Condvar,
    setup: Setup,
}

#[derive(Default)]
struct State {
    calls: usize,
    runs: bool,
    released: bool,
}

impl Busy {
    fn new(setup: &Setup) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), setup: setup.clone() }
    }

    fn run(&self) {
        let mut state = lock(&self.state);
        state.calls += 1;
        if state.runs || state.released {
            return;
        }
        state.runs = true;
        self.changed.notify_all();
        self.wait_while(state, |state| !state.released).runs = false;
    }

    fn until_running(&self) {
        let state = self.wait_while(lock(&self.state), |state| !state.runs);
        assert!(state.runs, "a handler that is due was not called");
    }

    /// Waits while `what` is so, or until nothing moves any more.
    fn wait_while<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        what: impl Fn(&mut State) -> bool,
    ) -> MutexGuard<'a, State> {
        let mut patience = self.setup.waiting();
        while what(&mut state) && !patience.is_lost() {
            let waited = self.changed.wait_timeout(state, patience.slice());
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state
    }

    fn release(&self) {
        lock(&self.state).released = true;
        self.changed.notify_all();
    }

    fn calls(&self) -> usize {
        lock(&self.state).calls
    }

    fn runs(&self) -> bool {
        lock(&self.state).runs
    }
}
