//! A hang is a failure with a name.
//!
//! `cargo test` alone waits for ever for a test that hangs. [`run`] gives each test a deadline; when it passes, the process says
//! which test it was and what every thread was doing, and aborts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The environment variable with the time a test may take, in whole seconds; `0` switches the watchdog off, for a debugger.
pub const TIMEOUT_VARIABLE: &str = "CHANNEL_TESTKIT_TIMEOUT";

/// What a test may take unless the environment says otherwise.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Runs `body` on the calling thread, and aborts the process with `name` and the state of all threads if it takes longer
/// than 60 seconds, or than [`TIMEOUT_VARIABLE`] says.
///
/// May be nested; the earliest deadline counts. One thread per process watches over all tests.
///
/// # Panics
/// As `body` does, which ends the watch; and if [`TIMEOUT_VARIABLE`] is not a number.
pub fn run(name: &str, body: impl FnOnce()) {
    let _watch = timeout().and_then(|timeout| Watch::begin(name, timeout));
    body();
}

fn timeout() -> Option<Duration> {
    let Ok(text) = std::env::var(TIMEOUT_VARIABLE) else {
        return Some(TIMEOUT);
    };
    let Ok(seconds) = text.trim().parse() else {
        panic!("{TIMEOUT_VARIABLE} must be a whole number of seconds, not `{text}`");
    };
    (seconds > 0).then(|| Duration::from_secs(seconds))
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
    deadline: Instant,
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
    fn begin(name: &str, timeout: Duration) -> Option<Self> {
        let deadline = Instant::now().checked_add(timeout)?;
        let kennel = kennel();
        let mut watched = kennel.lock();
        let id = watched.next;
        watched.next += 1;
        watched.tests.insert(id, Test { name: name.to_owned(), thread: this_thread(), timeout, deadline });
        if !std::mem::replace(&mut watched.has_dog, true) {
            thread::Builder::new().name("watchdog".to_owned()).spawn(guard).expect("a thread for the watchdog");
        }
        kennel.changed.notify_one();
        Some(Self(id))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        kennel().lock().tests.remove(&self.0);
    }
}

/// The watchdog's thread: sleeps until the earliest deadline.
fn guard() {
    let kennel = kennel();
    let mut watched = kennel.lock();
    loop {
        let Some(first) = watched.tests.values().min_by_key(|test| test.deadline) else {
            watched = kennel.changed.wait(watched).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        let left = first.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            bark(&watched, first);
        }
        let woken = kennel.changed.wait_timeout(watched, left).unwrap_or_else(PoisonError::into_inner);
        watched = woken.0;
    }
}

/// Says what hangs and ends the process. Not by `eprintln!`: the test harness would catch that and never show it.
fn bark(watched: &Watched, late: &Test) -> ! {
    let mut report = format!(
        "\nwatchdog: test `{}` did not finish within {:?}; {TIMEOUT_VARIABLE} changes that\n",
        late.name, late.timeout
    );
    for test in watched.tests.values() {
        let _ = writeln!(report, "  under way: `{}` on thread {}", test.name, test.thread);
    }
    report.push_str(&threads());
    let _ = std::io::stderr().write_all(report.as_bytes());
    std::process::abort()
}

/// The number of the calling thread, from the link `<process>/task/<thread>`.
fn this_thread() -> String {
    let link = fs::read_link("/proc/thread-self").ok();
    let number = link.as_deref().and_then(|path| path.file_name());
    number.map_or_else(|| "?".to_owned(), |number| number.to_string_lossy().into_owned())
}

/// One line for each thread of this process but the watchdog: number, name, state, where it sleeps in the kernel, and in which system call.
/// Where the kernel does not tell, a `?`.
fn threads() -> String {
    let mut lines = String::new();
    let own = this_thread();
    for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let number = task.file_name().to_string_lossy().into_owned();
        if number == own {
            continue;
        }
        let path = task.path();
        let read = |file: &str| fs::read_to_string(path.join(file)).unwrap_or_default();
        let status = read("status");
        let state = status.lines().find_map(|line| line.strip_prefix("State:")).unwrap_or("?").trim();
        let word = |text: String| text.split_whitespace().next().unwrap_or("?").to_owned();
        let _ = writeln!(
            lines,
            "  thread {number} `{}`: {state}, in {}, system call {}",
            read("comm").trim(),
            word(read("wchan")),
            word(read("syscall")),
        );
    }
    lines
}
