//! Patience that counts time without progress, never total time.
//!
//! A test may take as long as a busy machine makes it take. It hangs when nothing moves any more: no byte, no call that returned, no
//! step. [`Progress`] counts what moves; [`Patience`] is lost when it has stood still for too long. Time in which threads of this process
//! wait for a processor counts for less, so that on a busy machine patience lasts longer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::thread_state;

/// The environment variable with the patience of a test, in whole seconds: how long it waits without any progress before it fails and
/// says what it waited for. For machines that are very slow, and for debuggers.
pub const PATIENCE_VARIABLE: &str = "CHANNEL_TESTKIT_PATIENCE";

/// What [`patience`] is unless the environment says otherwise.
const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks at most so much counts: where the looker was not woken for longer, the one it looks at was not either.
const SLICE: Duration = Duration::from_millis(50);

/// How long a test waits without progress: 20 seconds, or what [`PATIENCE_VARIABLE`] says.
///
/// # Panics
/// If the variable is not a number.
#[must_use]
pub fn patience() -> Duration {
    seconds(PATIENCE_VARIABLE).unwrap_or(PATIENCE)
}

/// A variable with whole seconds, if it is set.
pub(crate) fn seconds(variable: &str) -> Option<Duration> {
    let text = std::env::var(variable).ok()?;
    let Ok(seconds) = text.trim().parse() else {
        panic!("{variable} must be a whole number of seconds, not `{text}`");
    };
    Some(Duration::from_secs(seconds))
}

/// How often something moved; clones count together.
///
/// ```
/// use channel_testkit::patience::{Patience, Progress};
/// use std::time::Duration;
///
/// let progress = Progress::new();
/// let mut patience = Patience::new(Duration::from_secs(1), &progress);
/// for _ in 0..3 {
///     progress.made(); // by any thread
///     assert!(!patience.is_lost());
/// }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<AtomicU64>);

impl Progress {
    /// Nothing has moved yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Something has moved.
    pub fn made(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How often something has moved so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long something has stood still, as the one who waits for it finds by looking again and again.
#[derive(Debug)]
pub struct Patience {
    progress: Progress,
    seen: u64,
    limit: Duration,
    idle: Duration,
    looked: Instant,
}

impl Patience {
    /// Lost once `progress` has stood still for `limit`.
    #[must_use]
    pub fn new(limit: Duration, progress: &Progress) -> Self {
        Self { progress: progress.clone(), seen: progress.count(), limit, idle: Duration::ZERO, looked: Instant::now() }
    }

    /// Whether it is lost, now that one looks. Looks should be at most 50 ms apart, as no more counts between two of them.
    pub fn is_lost(&mut self) -> bool {
        self.look(SLICE)
    }

    /// As [`is_lost`](Self::is_lost), where since the last look at most `most` counts.
    pub(crate) fn look(&mut self, most: Duration) -> bool {
        let now = Instant::now();
        let passed = now.saturating_duration_since(std::mem::replace(&mut self.looked, now));
        let count = self.progress.count();
        // Where threads wait for a processor they do not stand still: what moves below all that is counted moves as slowly as they run.
        let counted = passed.min(most).mul_f64(thread_state::share());
        self.idle = if count == self.seen { self.idle + counted } else { Duration::ZERO };
        self.seen = count;
        self.idle >= self.limit
    }

    /// Whether something has moved since the last look.
    pub(crate) fn has_moved(&self) -> bool {
        self.progress.count() != self.seen
    }

    /// Begins anew.
    pub(crate) fn regain(&mut self) {
        self.idle = Duration::ZERO;
    }

    /// How long to sleep until the next look.
    #[must_use]
    pub fn slice(&self) -> Duration {
        SLICE.min(self.limit / 4).max(Duration::from_millis(1))
    }

    /// Sleeps until `done`, looking every millisecond; `false` if the patience was lost first.
    pub fn until(&mut self, mut done: impl FnMut() -> bool) -> bool {
        while !done() {
            if self.is_lost() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }
}
