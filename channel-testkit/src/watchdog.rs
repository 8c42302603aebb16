//! A hang is a failure with a name.
//!
//! `cargo test` alone waits for ever for a test that hangs. [`run`] watches over a test; when nothing of it has moved for too long, the
//! process says which test it was and what every thread was doing, and aborts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use crate::patience::{Patience, Progress, seconds};
use crate::thread_state;

/// The environment variable with the time a test may take without progress, in whole seconds; `0` switches the watchdog off, for a
/// debugger.
pub const TIMEOUT_VARIABLE: &str = "CHANNEL_TESTKIT_TIMEOUT";

/// What a test may take without progress unless the environment says otherwise.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How often the watchdog looks.
const TICK: Duration = Duration::from_millis(100);

/// Runs `body` on the calling thread, and aborts the process with `name` and the state of all threads if it is not done within 60
/// seconds, or what [`TIMEOUT_VARIABLE`] says.
///
/// They are seconds of a machine that is not busy, see [`patience`](crate::patience). A test that takes long for other reasons says that
/// it goes on, see [`run_with_progress`].
///
/// May be nested. One thread per process watches over all tests.
///
/// # Panics
/// As `body` does, which ends the watch; and if [`TIMEOUT_VARIABLE`] is not a number.
pub fn run(name: &str, body: impl FnOnce()) {
    run_with_progress(name, |_| body());
}

/// As [`run`], for a test that tells of its progress: the time counts from the last of it.
///
/// # Panics
/// As [`run`] does.
pub fn run_with_progress(name: &str, body: impl FnOnce(&Progress)) {
    let progress = Progress::new();
    let _watch = timeout().map(|timeout| Watch::begin(name, timeout, &progress, Box::new(String::new)));
    body(&progress);
}

/// As [`run_with_progress`], for a test that gives up by itself after `patience` and can say where it is.
pub(crate) fn run_telling(
    name: &str,
    patience: Duration,
    progress: &Progress,
    tell: Box<dyn Fn() -> String + Send>,
    body: impl FnOnce(),
) {
    let _watch = timeout().map(|timeout| Watch::begin(name, timeout.max(2 * patience), progress, tell));
    body();
}

fn timeout() -> Option<Duration> {
    Some(seconds(TIMEOUT_VARIABLE).unwrap_or(TIMEOUT)).filter(|timeout| !timeout.is_zero())
}

/// The tests under way, and the thread that watches them.
#[derive(Default)]
struct Kennel {
    watched: Mutex<Watched>,
    changed: Condvar,
}

#[derive(Default)]
struct Watched {
    tests: BTreeMap<u64, Test>,
    next: u64,
    has_dog: bool,
}

struct Test {
    name: String,
    thread: String,
    timeout: Duration,
    patience: Patience,
    tell: Box<dyn Fn() -> String + Send>,
}

fn kennel() -> &'static Kennel {
    static KENNEL: OnceLock<Kennel> = OnceLock::new();
    KENNEL.get_or_init(Kennel::default)
}

impl Kennel {
    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One test being watched; dropping it ends the watch.
struct Watch(u64);

impl Watch {
    fn begin(name: &str, timeout: Duration, progress: &Progress, tell: Box<dyn Fn() -> String + Send>) -> Self {
        let kennel = kennel();
        let mut watched = kennel.lock();
        let id = watched.next;
        watched.next += 1;
        let patience = Patience::new(timeout, progress);
        watched.tests.insert(id, Test { name: name.to_owned(), thread: thread_state::own(), timeout, patience, tell });
        if !std::mem::replace(&mut watched.has_dog, true) {
            thread::Builder::new().name("watchdog".to_owned()).spawn(guard).expect("a thread for the watchdog");
        }
        kennel.changed.notify_one();
        Self(id)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        kennel().lock().tests.remove(&self.0);
    }
}

/// The watchdog's thread: looks after each test again and again.
fn guard() {
    let kennel = kennel();
    let mut watched = kennel.lock();
    loop {
        if watched.tests.is_empty() {
            watched = kennel.changed.wait(watched).unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        drop(watched);
        thread::sleep(TICK);
        watched = kennel.lock();
        // What moves in a test moves in those it is nested in.
        let moving = watched.tests.values().filter(|test| test.patience.has_moved());
        let moving: Vec<String> = moving.map(|test| test.thread.clone()).collect();
        for test in watched.tests.values_mut().filter(|test| moving.contains(&test.thread)) {
            test.patience.regain();
        }
        let late = watched.tests.iter_mut().find_map(|(id, test)| test.patience.look(TICK).then_some(*id));
        if let Some(late) = late {
            bark(&watched, &watched.tests[&late]);
        }
    }
}

/// Says what hangs and ends the process. Not by `eprintln!`: the test harness would catch that and never show it.
fn bark(watched: &Watched, late: &Test) -> ! {
    let mut report = format!(
        "\nwatchdog: test `{}` did nothing for {:?} and is not finished; {TIMEOUT_VARIABLE} changes that\n",
        late.name, late.timeout
    );
    for test in watched.tests.values() {
        let _ = writeln!(report, "  under way: `{}` on thread {}", test.name, test.thread);
        let told = (test.tell)();
        if !told.is_empty() {
            let _ = writeln!(report, "    {told}");
        }
    }
    report.push_str(&thread_state::all_but_own());
    let _ = std::io::stderr().write_all(report.as_bytes());
    std::process::abort()
}
