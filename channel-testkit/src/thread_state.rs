//! What the kernel says of the threads of this process.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

thread_local! {
    static OWN: String = number();
}

/// The number of the calling thread.
pub(crate) fn own() -> String {
    OWN.with(Clone::clone)
}

/// The number of the calling thread, from the link `<process>/task/<thread>`.
fn number() -> String {
    let link = fs::read_link("/proc/thread-self").ok();
    let number = link.as_deref().and_then(|path| path.file_name());
    number.map_or_else(|| "?".to_owned(), |number| number.to_string_lossy().into_owned())
}

fn folder(thread: &str) -> PathBuf {
    Path::new("/proc/self/task").join(thread)
}

/// A thread: state, where it sleeps in the kernel, and in which system call. Where the kernel does not tell, a `?`.
pub(crate) fn of(thread: &str) -> String {
    let read = |file: &str| fs::read_to_string(folder(thread).join(file)).unwrap_or_default();
    let status = read("status");
    let state = status.lines().find_map(|line| line.strip_prefix("State:")).unwrap_or("?").trim();
    let word = |text: String| text.split_whitespace().next().unwrap_or("?").to_owned();
    format!("{state}, in {}, system call {}", word(read("wchan")), word(read("syscall")))
}

/// Whether a thread sleeps; `None` if that cannot be seen.
pub(crate) fn sleeps(thread: &str) -> Option<bool> {
    let stat = fs::read_to_string(folder(thread).join("stat")).ok()?;
    stat.rsplit(") ").next().map(|state| state.starts_with('S'))
}

/// A line for each thread but the calling one.
pub(crate) fn all_but_own() -> String {
    let mut lines = String::new();
    let own = own();
    for number in threads().filter(|number| *number != own) {
        let name = fs::read_to_string(folder(&number).join("comm")).unwrap_or_default();
        let _ = writeln!(lines, "  thread {number} `{}`: {}", name.trim(), of(&number));
    }
    lines
}

fn threads() -> impl Iterator<Item = String> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    tasks.map(|task| task.file_name().to_string_lossy().into_owned())
}

/// How long a thread ran, and how long it waited for a processor although it could have run: the first two numbers of
/// `/proc/<process>/task/<thread>/schedstat`. Zeros where the kernel does not tell.
pub(crate) fn scheduled(thread: &str) -> (Duration, Duration) {
    let text = fs::read_to_string(folder(thread).join("schedstat")).unwrap_or_default();
    let mut numbers = text.split_whitespace().map(|number| Duration::from_nanos(number.parse().unwrap_or(0)));
    (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default())
}

/// The part that the threads of this process got lately of the time they could have run in, from 0 to 1; it is 1 where they wanted nothing.
/// On a busy machine a test moves as slowly as this says, byte by byte perhaps, far below what can be seen of it.
pub(crate) fn share() -> f64 {
    const LATELY: Duration = Duration::from_millis(100);
    static LAST: Mutex<Option<(Instant, ProcessorTime, f64)>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    match &*last {
        Some((at, _, share)) if at.elapsed() < LATELY => *share,
        known => {
            let now = processor_time();
            let share = known.as_ref().map_or(1.0, |(_, before, _)| now.share_since(before));
            *last = Some((Instant::now(), now, share));
            share
        }
    }
}

/// What each thread of the process got of the processors, and what it did not get.
struct ProcessorTime(HashMap<String, (Duration, Duration)>);

fn processor_time() -> ProcessorTime {
    ProcessorTime(threads().map(|thread| (scheduled(&thread), thread)).map(|(time, thread)| (thread, time)).collect())
}

impl ProcessorTime {
    fn share_since(&self, before: &Self) -> f64 {
        let (mut ran, mut waited) = (Duration::ZERO, Duration::ZERO);
        for (thread, now) in &self.0 {
            let then = before.0.get(thread).copied().unwrap_or_default();
            ran += now.0.saturating_sub(then.0);
            waited += now.1.saturating_sub(then.1);
        }
        if waited.is_zero() { 1.0 } else { ran.as_secs_f64() / (ran + waited).as_secs_f64() }
    }
}

/// How long the calling thread has slept since this was made. Neither the time in which it ran counts, nor that in which it waited for a
/// processor: whether a call waits for something can be seen on a busy machine, too.
pub(crate) struct Sleep {
    begun: Instant,
    then: (Duration, Duration),
}

impl Sleep {
    pub(crate) fn begin() -> Self {
        Self { then: scheduled(&own()), begun: Instant::now() }
    }

    pub(crate) fn so_far(&self) -> Duration {
        let passed = self.begun.elapsed();
        let (ran, waited) = scheduled(&own());
        passed.saturating_sub(ran.saturating_sub(self.then.0)).saturating_sub(waited.saturating_sub(self.then.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeping_counts_and_running_does_not() {
        let sleep = Sleep::begin();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(50) {}
        let ran = sleep.so_far();
        std::thread::sleep(Duration::from_millis(50));
        let slept = sleep.so_far() - ran;
        assert!(ran < Duration::from_millis(25), "50 ms of running count as {ran:?} asleep");
        assert!(slept >= Duration::from_millis(45), "50 ms asleep count as {slept:?}");
    }
}
