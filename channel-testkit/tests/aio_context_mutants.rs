//! For each obligation of an event loop a loop that neglects it, and nothing else on purpose: the clause must notice, and say what it
//! saw.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use channel_core::{AioContext, Callback, Direction, Error, ErrorKind, EventLoop, LoopHandle, Result, TimerId};
use channel_testkit::aio_context::{CLAUSES, DrivenContext, Setup};
use channel_testkit::watchdog;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

type Once = Box<dyn FnOnce() + Send>;
type OnSet = dyn Fn(&LoopHandle, &Arc<OwnedFd>, Direction, Option<Callback>) -> Result<()> + Send + Sync;
type OnSchedule = dyn Fn(&LoopHandle, Once) + Send + Sync;
type OnSetTimer = dyn Fn(&LoopHandle, Instant, Once) -> TimerId + Send + Sync;
type OnClearTimer = dyn Fn(&LoopHandle, TimerId) + Send + Sync;
type OnTurn = dyn Fn(&EventLoop, Duration) + Send + Sync;

/// A sound loop with some of its methods replaced.
struct Mutant {
    inner: EventLoop,
    set: Box<OnSet>,
    schedule: Box<OnSchedule>,
    set_timer: Box<OnSetTimer>,
    clear_timer: Box<OnClearTimer>,
    turn: Box<OnTurn>,
}

impl Mutant {
    fn new() -> Self {
        Self {
            inner: EventLoop::new().unwrap(),
            set: Box::new(|inner, fd, direction, callback| inner.set_fd_handler(fd, direction, callback)),
            schedule: Box::new(|inner, callback| inner.schedule(callback)),
            set_timer: Box::new(|inner, deadline, callback| inner.set_timer(deadline, callback)),
            clear_timer: Box::new(|inner, timer| inner.clear_timer(timer)),
            turn: Box::new(|inner, timeout| assert!(inner.run_once(Some(timeout)).is_ok())),
        }
    }

    fn on_set<F>(mut self, set: F) -> Self
    where
        F: Fn(&LoopHandle, &Arc<OwnedFd>, Direction, Option<Callback>) -> Result<()> + Send + Sync + 'static,
    {
        self.set = Box::new(set);
        self
    }

    fn on_schedule(mut self, schedule: impl Fn(&LoopHandle, Once) + Send + Sync + 'static) -> Self {
        self.schedule = Box::new(schedule);
        self
    }

    fn on_set_timer(mut self, set: impl Fn(&LoopHandle, Instant, Once) -> TimerId + Send + Sync + 'static) -> Self {
        self.set_timer = Box::new(set);
        self
    }

    fn on_clear_timer(mut self, clear: impl Fn(&LoopHandle, TimerId) + Send + Sync + 'static) -> Self {
        self.clear_timer = Box::new(clear);
        self
    }

    fn on_turn(mut self, turn: impl Fn(&EventLoop, Duration) + Send + Sync + 'static) -> Self {
        self.turn = Box::new(turn);
        self
    }

    /// Every callback that is set goes through `change` first.
    fn on_callback(
        self,
        change: impl Fn(&Arc<OwnedFd>, Direction, Callback) -> Callback + Send + Sync + 'static,
    ) -> Self {
        self.on_set(move |inner, fd, direction, callback| {
            inner.set_fd_handler(fd, direction, callback.map(|callback| change(fd, direction, callback)))
        })
    }

    /// Every method takes a lock.
    fn locked<G: 'static>(self, lock: impl Fn() -> G + Clone + Send + Sync + 'static) -> Self {
        let (first, second, third, fourth) = (lock.clone(), lock.clone(), lock.clone(), lock);
        self.on_set(move |inner, fd, direction, callback| {
            let _guard = first();
            inner.set_fd_handler(fd, direction, callback)
        })
        .on_schedule(move |inner, callback| {
            let _guard = second();
            inner.schedule(callback);
        })
        .on_set_timer(move |inner, deadline, callback| {
            let _guard = third();
            inner.set_timer(deadline, callback)
        })
        .on_clear_timer(move |inner, timer| {
            let _guard = fourth();
            inner.clear_timer(timer);
        })
    }
}

impl AioContext for Mutant {
    fn set_fd_handler(&self, fd: &Arc<OwnedFd>, direction: Direction, callback: Option<Callback>) -> Result<()> {
        (self.set)(&self.inner.handle(), fd, direction, callback)
    }

    fn schedule(&self, callback: Once) {
        (self.schedule)(&self.inner.handle(), callback);
    }

    fn set_timer(&self, deadline: Instant, callback: Once) -> TimerId {
        (self.set_timer)(&self.inner.handle(), deadline, callback)
    }

    fn clear_timer(&self, timer: TimerId) {
        (self.clear_timer)(&self.inner.handle(), timer);
    }
}

impl fmt::Debug for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutant").finish_non_exhaustive()
    }
}

struct Driven(Arc<Mutant>);

impl DrivenContext for Driven {
    fn context(&self) -> Arc<dyn AioContext> {
        self.0.clone()
    }

    fn turn(&mut self, timeout: Duration) {
        (self.0.turn)(&self.0.inner, timeout);
    }
}

// What the broken loops are made of is itself sound.
channel_testkit::aio_context_conformance! {
    mod nothing_broken = || Driven(Arc::new(Mutant::new()));
}

/// Runs the clause over a loop that it must find wanting, and say so in these words.
fn caught(name: &str, says: &str, maker: fn() -> Mutant) {
    let clause = CLAUSES.iter().find(|clause| clause.name() == name).expect("a clause of that name");
    watchdog::run(&format!("aio_context_mutants::{name}"), || {
        let setup = Setup::new(move || Driven(Arc::new(maker()))).patience(Duration::from_secs(1));
        let run = catch_unwind(AssertUnwindSafe(|| clause.run(&setup)));
        let Err(panic) = run else { panic!("{clause:?} did not notice") };
        let words = panic.downcast_ref::<String>().expect("words");
        assert!(words.starts_with(name), "the clause is not named: {words}");
        assert!(words.contains(says), "{clause:?} should have said `{says}`, but said: {words}");
    });
}

/// Declares the mutants: a test for each, named as the clause that must catch it, and the list of them.
macro_rules! mutants {
    ($($(#[$doc:meta])* $name:ident says $says:literal: $maker:expr;)+) => {
        $(
            $(#[$doc])*
            #[test]
            fn $name() {
                caught(stringify!($name), $says, $maker);
            }
        )+

        const MUTANTS: &[&str] = &[$(stringify!($name)),+];
    };
}

mutants! {
    /// Edge-triggered.
    a_handler_is_called_again_while_its_descriptor_is_ready says "waited in vain for: a handler whose descriptor stays ready": || {
        Mutant::new().on_callback(|_, _, callback| {
            let called = AtomicBool::new(false);
            Arc::new(move || {
                if !called.swap(true, Ordering::SeqCst) {
                    callback();
                }
            })
        })
    };
    /// Calls a handler only for what it is set for.
    an_error_makes_both_directions_ready says "Read, set alone, being ready by an error": only_what_was_asked;
    /// The same.
    a_hang_up_makes_both_directions_ready says "set alone, being ready by a hang-up": only_what_was_asked;
    /// Waits for data, and takes no notice of the end.
    the_end_of_the_peers_output_makes_reading_ready says "waited in vain for: reading being ready at the end": || {
        Mutant::new().on_callback(|fd, _, callback| {
            let fd = Arc::clone(fd);
            Arc::new(move || {
                if !polled(&fd, PollFlags::RDHUP).contains(PollFlags::RDHUP) {
                    callback();
                }
            })
        })
    };
    /// A new handler waits for the end of the turn.
    a_handler_set_while_the_loop_sleeps_is_noticed says "a handler from another thread": || {
        let gate = Arc::new(Gate::default());
        Mutant::new().on_turn(gate.turn()).on_set(move |inner, fd, direction, callback| {
            let _held = gate.hold_unless_mine();
            inner.set_fd_handler(fd, direction, callback)
        })
    };
    /// Takes what is scheduled once a turn, and does not wake for it.
    a_callback_scheduled_while_the_loop_sleeps_is_noticed says "a callback from another thread": || {
        let left = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&left);
        Mutant::new().on_schedule(move |_, callback| lock(&left).push(callback)).on_turn(move |inner, timeout| {
            for callback in std::mem::take(&mut *lock(&taken)) {
                inner.handle().schedule(callback);
            }
            inner.run_once(Some(timeout)).unwrap();
        })
    };
    /// Goes on sleeping towards the timer it knew.
    a_timer_set_while_the_loop_sleeps_is_noticed says "a timer from another thread": || {
        let gate = Arc::new(Gate::default());
        Mutant::new().on_turn(gate.turn()).on_set_timer(move |inner, deadline, callback| {
            let _held = gate.hold_unless_mine();
            inner.set_timer(deadline, callback)
        })
    };
    /// Puts off until the end of the turn what another thread clears.
    a_handler_cleared_while_the_loop_sleeps_is_not_called says "called after another thread had cleared it": || {
        let (gate, left) = (Arc::new(Gate::default()), Arc::new(Mutex::new(Vec::new())));
        let (turn, put_off, running) = (gate.turn(), Arc::clone(&left), gate);
        Mutant::new()
            .on_set(move |inner, fd, direction, callback| {
                let is_elsewhere = lock(&running.holder).is_some_and(|holder| holder != thread::current().id());
                if callback.is_some() || !is_elsewhere {
                    return inner.set_fd_handler(fd, direction, callback);
                }
                lock(&put_off).push((Arc::clone(fd), direction));
                Ok(())
            })
            .on_turn(move |inner, timeout| {
                turn(inner, timeout);
                for (fd, direction) in std::mem::take(&mut *lock(&left)) {
                    inner.handle().set_fd_handler(&fd, direction, None).unwrap();
                }
            })
    };
    /// One lock for everything, held while callbacks run.
    every_method_may_be_called_inside_callbacks says "the loop hangs": || {
        let gate = Arc::new(Gate::default());
        Mutant::new().on_turn(gate.turn()).locked(move || gate.hold())
    };
    /// One lock for everything, which the thread that has it may take again.
    no_lock_is_held_while_a_callback_runs says "could not call the loop while a handler ran": || {
        let gate = Arc::new(Gate::default());
        Mutant::new().on_turn(gate.turn()).locked(move || gate.hold_unless_mine())
    };
    /// Drops a handler where it is taken out of the table.
    no_lock_is_held_while_a_callback_is_dropped says "while a cleared handler was dropped": || {
        let gate = Arc::new(Gate::default());
        Mutant::new().locked(move || gate.hold())
    };
    /// Runs what is scheduled on a thread of its own.
    callbacks_never_overlap says "callbacks of one loop overlapped": || {
        Mutant::new().on_schedule(|inner, callback| inner.schedule(Box::new(|| drop(thread::spawn(callback)))))
    };
    /// A handler that is cleared is called once more.
    a_handler_cleared_by_an_earlier_callback_is_not_called says "after an earlier callback had cleared it": || {
        once_more(|callback| callback.is_none())
    };
    /// A handler that is replaced is called once more.
    a_handler_replaced_by_an_earlier_callback_is_not_called says "after an earlier callback had replaced it": || {
        once_more(|callback| callback.is_some())
    };
    /// Polls a duplicate, and lets go of the original.
    a_descriptor_is_kept_while_a_handler_is_set says "let go of a descriptor that had two handlers": || {
        Mutant::new().on_set(|inner, fd, direction, callback| {
            inner.set_fd_handler(&Arc::new(fd.try_clone().unwrap()), direction, callback)
        })
    };
    /// Knows descriptors by their numbers alone, and leaves them with the poller.
    a_reused_number_gets_no_stale_event says "for an event of the one that had its number before": || {
        type Seats = HashMap<(i32, Direction), Arc<Mutex<Option<Callback>>>>;
        let seats = Mutex::new(Seats::new());
        Mutant::new().on_set(move |inner, fd, direction, callback| {
            let mut seats = lock(&seats);
            let known = seats.contains_key(&(fd.as_raw_fd(), direction));
            let seat = Arc::clone(seats.entry((fd.as_raw_fd(), direction)).or_default());
            *lock(&seat) = callback;
            if known {
                return Ok(());
            }
            let call = move || {
                let callback = lock(&seat).clone();
                if let Some(callback) = callback {
                    callback();
                }
            };
            inner.set_fd_handler(&Arc::new(fd.try_clone().unwrap()), direction, Some(Arc::new(call)))
        })
    };
    /// Asks everybody when anybody is ready.
    only_what_is_ready_is_called says "whose descriptors were idle": || {
        let all = Arc::new(Mutex::new(Vec::<Callback>::new()));
        Mutant::new().on_callback(move |_, _, callback| {
            lock(&all).push(callback);
            let all = Arc::clone(&all);
            Arc::new(move || {
                let all = lock(&all).clone();
                for callback in all {
                    callback();
                }
            })
        })
    };
    /// Clears a descriptor, not a direction.
    directions_are_set_and_cleared_apart says "waited in vain for: the direction that was not cleared": || {
        Mutant::new().on_set(|inner, fd, direction, callback| {
            if callback.is_none() {
                inner.set_fd_handler(fd, Direction::Read, None)?;
                return inner.set_fd_handler(fd, Direction::Write, None);
            }
            inner.set_fd_handler(fd, direction, callback)
        })
    };
    /// Says that there is nothing to clear.
    clearing_what_is_not_set_is_no_error says "before any handler": || {
        let set = Mutex::new(HashSet::new());
        Mutant::new().on_set(move |inner, fd, direction, callback| {
            let key = (fd.as_raw_fd(), direction);
            if callback.is_some() {
                lock(&set).insert(key);
            } else if !lock(&set).remove(&key) {
                return Err(Error::new(ErrorKind::InvalidInput, "mutant", "nothing is set"));
            }
            inner.set_fd_handler(fd, direction, callback)
        })
    };
    /// The last one first.
    scheduled_callbacks_run_in_order says "did not run in the order they were scheduled": || {
        let stack = Arc::new(Mutex::new(Vec::<Once>::new()));
        Mutant::new().on_schedule(move |inner, callback| {
            lock(&stack).push(callback);
            let stack = Arc::clone(&stack);
            inner.schedule(Box::new(move || {
                let last = lock(&stack).pop();
                if let Some(last) = last {
                    last();
                }
            }));
        })
    };
    /// Runs it at once.
    a_callback_never_runs_inside_schedule says "inside the call that scheduled it": || {
        Mutant::new().on_schedule(|_, callback| callback())
    };
    /// Loses one now and then.
    what_any_thread_schedules_runs_once says "waited in vain for: all that four threads scheduled": || {
        let count = AtomicUsize::new(0);
        Mutant::new().on_schedule(move |inner, callback| {
            if count.fetch_add(1, Ordering::SeqCst) % 100 != 99 {
                inner.schedule(callback);
            }
        })
    };
    /// Runs what is scheduled until nothing is left.
    a_callback_that_schedules_another_starves_nobody says "only when a chain of callbacks had come to its end": || {
        let left = Arc::new(Mutex::new(Vec::<Once>::new()));
        Mutant::new().on_schedule(move |inner, callback| {
            lock(&left).push(callback);
            let left = Arc::clone(&left);
            inner.schedule(Box::new(move || {
                loop {
                    let Some(next) = lock(&left).pop() else { return };
                    next();
                }
            }));
        })
    };
    /// Runs it much too late.
    a_timer_runs_once_and_soon says "waited in vain for: five timers": || {
        Mutant::new().on_set_timer(|inner, deadline, callback| {
            inner.set_timer(deadline + Duration::from_secs(3600), callback)
        })
    };
    /// Rounds down to what the poller can tell apart.
    a_timer_never_runs_early says "a timer ran before its deadline": || {
        Mutant::new().on_set_timer(|inner, deadline, callback| {
            inner.set_timer(deadline - Duration::from_millis(1), callback)
        })
    };
    /// Schedules what is due already.
    timers_run_in_the_order_of_their_deadlines says "did not run in the order of their deadlines": || {
        Mutant::new().on_set_timer(|inner, deadline, callback| {
            if deadline > Instant::now() {
                return inner.set_timer(deadline, callback);
            }
            inner.schedule(callback);
            TimerId(0)
        })
    };
    /// Forgets the number, and keeps the callback until it is due.
    a_cleared_timer_is_dropped_and_never_runs says "was not dropped": || Mutant::new().on_clear_timer(|_, _| ());
    /// Clears another one instead.
    clearing_a_timer_that_is_not_set_is_nothing says "waited in vain for: a timer beside those that were cleared": || {
        let known = Arc::new(Mutex::new(BTreeSet::new()));
        let set = Arc::clone(&known);
        Mutant::new()
            .on_set_timer(move |inner, deadline, callback| {
                let timer = inner.set_timer(deadline, callback);
                lock(&set).insert(timer);
                timer
            })
            .on_clear_timer(move |inner, timer| {
                let mut known = lock(&known);
                let hit = if known.remove(&timer) { Some(timer) } else { known.pop_first() };
                drop(known);
                if let Some(hit) = hit {
                    inner.clear_timer(hit);
                }
            })
    };
    /// Numbers the places of a table.
    the_number_of_a_timer_is_never_given_twice says "was given twice": || {
        Mutant::new().on_set_timer(|inner, deadline, callback| TimerId(inner.set_timer(deadline, callback).0 % 16))
    };
}

#[test]
fn every_clause_has_a_mutant() {
    let clauses: Vec<_> = CLAUSES.iter().map(|clause| clause.name()).collect();
    assert_eq!(clauses, MUTANTS);
}

/// A second mutant of the same clause: it drops in time where nobody looks, and runs what an earlier timer cleared.
#[test]
fn a_timer_that_another_cleared_is_noticed() {
    caught("a_cleared_timer_is_dropped_and_never_runs", "ran after it had been cleared", || {
        let gate = Arc::new(Gate::default());
        Mutant::new().on_turn(gate.turn()).on_clear_timer(move |inner, timer| {
            if !gate.is_mine() {
                inner.clear_timer(timer);
            }
        })
    });
}

/// A second mutant of the same clause: a number changes hands between the events of one turn.
#[test]
fn a_number_reused_within_a_turn_is_noticed() {
    caught("a_reused_number_gets_no_stale_event", "for an event that another had in the same turn", || {
        let seats = Arc::new(Mutex::new(HashMap::<i32, Callback>::new()));
        let gate = Arc::new(Gate::default());
        // What is set inside a turn sits down where another sat, and is called for it.
        Mutant::new().on_turn(gate.turn()).on_set(move |inner, fd, direction, callback| {
            let mut seats = lock(&seats);
            match &callback {
                Some(callback) if gate.is_mine() && seats.contains_key(&fd.as_raw_fd()) => {
                    inner.schedule(Box::new({
                        let callback = Arc::clone(callback);
                        move || callback()
                    }));
                }
                Some(callback) => drop(seats.insert(fd.as_raw_fd(), Arc::clone(callback))),
                None if !gate.is_mine() => drop(seats.remove(&fd.as_raw_fd())),
                None => {}
            }
            drop(seats);
            inner.set_fd_handler(fd, direction, callback)
        })
    });
}

/// Calls a handler only where its own direction is ready.
fn only_what_was_asked() -> Mutant {
    Mutant::new().on_callback(|fd, direction, callback| {
        let (fd, own) = match direction {
            Direction::Read => (Arc::clone(fd), PollFlags::IN),
            Direction::Write => (Arc::clone(fd), PollFlags::OUT),
        };
        Arc::new(move || {
            if polled(&fd, own).contains(own) {
                callback();
            }
        })
    })
}

/// Calls a handler once more after a change that takes it away.
fn once_more(when: fn(&Option<Callback>) -> bool) -> Mutant {
    let known = Mutex::new(HashMap::<(i32, Direction), Callback>::new());
    Mutant::new().on_set(move |inner, fd, direction, callback| {
        let key = (fd.as_raw_fd(), direction);
        let old = match &callback {
            Some(new) => lock(&known).insert(key, Arc::clone(new)),
            None => lock(&known).remove(&key),
        };
        if let Some(old) = old.filter(|_| when(&callback)) {
            inner.schedule(Box::new(move || old()));
        }
        inner.set_fd_handler(fd, direction, callback)
    })
}

fn polled(fd: &Arc<OwnedFd>, events: PollFlags) -> PollFlags {
    let mut entries = [PollFd::new(fd, events)];
    poll(&mut entries, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap();
    entries[0].revents()
}

/// A lock whose guard is not tied to a scope. Taking it twice on one thread hangs.
#[derive(Default)]
struct Gate {
    holder: Mutex<Option<ThreadId>>,
    free: Condvar,
}

impl Gate {
    fn hold(self: &Arc<Self>) -> Held {
        let mut holder = lock(&self.holder);
        while holder.is_some() {
            holder = self.free.wait(holder).unwrap();
        }
        *holder = Some(thread::current().id());
        Held(Arc::clone(self))
    }

    fn is_mine(&self) -> bool {
        *lock(&self.holder) == Some(thread::current().id())
    }

    fn hold_unless_mine(self: &Arc<Self>) -> Option<Held> {
        (!self.is_mine()).then(|| self.hold())
    }

    /// A turn that holds it.
    fn turn(self: &Arc<Self>) -> impl Fn(&EventLoop, Duration) + Send + Sync + use<> {
        let this = Arc::clone(self);
        move |inner, timeout| {
            let _held = this.hold();
            inner.run_once(Some(timeout)).unwrap();
        }
    }
}

struct Held(Arc<Gate>);

impl Drop for Held {
    fn drop(&mut self) {
        *lock(&self.0.holder) = None;
        self.0.free.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
