//! What those who close a layer share: the deadline, who makes an attempt, and what it came to.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Instant;

use crate::Result;

/// A `close` that may be under way.
#[derive(Debug, Default)]
pub(super) struct Closing {
    /// What it came to; locked during an attempt.
    outcome: Mutex<Option<Result<()>>>,
    /// Who makes the attempt: what that lets go of may call us again.
    attempting: Mutex<Option<ThreadId>>,
    deadline: Mutex<Option<Instant>>,
}

/// The right to make an attempt, one at a time.
pub(super) struct Attempt<'a> {
    closing: &'a Closing,
    outcome: MutexGuard<'a, Option<Result<()>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Closing {
    /// When politeness ends.
    pub(super) fn deadline(&self) -> Option<Instant> {
        *lock(&self.deadline)
    }

    /// Whether politeness has ended, although nobody may have said so since.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now)
    }

    /// Sets the deadline, unless there is an earlier one: which it is, and whether it was a later one before.
    pub(super) fn end_by(&self, deadline: Instant) -> (Instant, bool) {
        let mut known = lock(&self.deadline);
        let is_earlier = known.is_some_and(|known| deadline < known);
        let earliest = known.map_or(deadline, |known| known.min(deadline));
        *known = Some(earliest);
        (earliest, is_earlier)
    }

    /// Whether this thread is at an attempt already.
    pub(super) fn is_attempted_here(&self) -> bool {
        *lock(&self.attempting) == Some(thread::current().id())
    }

    /// The right to make an attempt, behind whoever has it; or what `close` came to.
    pub(super) fn attempt(&self) -> std::result::Result<Attempt<'_>, Result<()>> {
        let outcome = lock(&self.outcome);
        if let Some(outcome) = &*outcome {
            return Err(outcome.clone());
        }
        *lock(&self.attempting) = Some(thread::current().id());
        Ok(Attempt { closing: self, outcome })
    }
}

impl Attempt<'_> {
    /// That was the last: everybody gets this result.
    pub(super) fn ends_with(mut self, result: &Result<()>) {
        *self.outcome = Some(result.clone());
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        *lock(&self.closing.attempting) = None;
    }
}
