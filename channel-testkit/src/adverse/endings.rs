//! Policies that do damage, at a place the test chooses.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use channel_core::{Error, Result};

use super::policy::{Attempt, Call, Passed, Policy, Verdict};

/// Fails from one call on.
#[derive(Debug)]
pub(super) struct Fail {
    /// How many calls still pass.
    left: usize,
    error: Error,
}

impl Fail {
    pub(super) fn new(n_calls: usize, error: Error) -> Self {
        Self { left: n_calls.saturating_sub(1), error }
    }
}

impl Policy for Fail {
    fn judge(&mut self, _: &Attempt<'_>) -> Verdict {
        if self.left == 0 { Verdict::Instead(Err(self.error.clone())) } else { Verdict::PASS }
    }

    fn passed(&mut self, _: Call, outcome: &Result<Passed>, _: u64) {
        // How often a caller tries in vain depends on the scheduler; which call fails must not.
        if !matches!(outcome, Err(error) if error.is_would_block()) {
            self.left -= 1;
        }
    }

    fn is_due(&self, _: u64) -> bool {
        self.left == 0
    }
}

/// Ends the stream early.
#[derive(Debug)]
pub(super) struct Truncate {
    end: u64,
}

impl Truncate {
    pub(super) fn new(end: u64) -> Self {
        Self { end }
    }
}

impl Policy for Truncate {
    fn judge(&mut self, attempt: &Attempt<'_>) -> Verdict {
        match self.end.saturating_sub(attempt.at) {
            _ if !attempt.call.moves_bytes() => Verdict::PASS,
            0 => Verdict::Instead(Ok(0)),
            left => Verdict::at_most(left),
        }
    }

    fn passed(&mut self, _: Call, _: &Result<Passed>, _: u64) {}

    fn is_due(&self, at: u64) -> bool {
        at >= self.end
    }
}

/// What [`flip_bit_at`](super::flip_bit_at) has come to: whether the bit was flipped, and how far the stream has gone. Clones tell of
/// the same channel, also when that is closed or dropped.
#[derive(Clone, Debug)]
pub struct Flip {
    offset: u64,
    /// Bytes that have gone.
    gone: Arc<AtomicU64>,
}

impl Flip {
    pub(super) fn new(offset: u64) -> Self {
        Self { offset, gone: Arc::default() }
    }

    /// Whether the byte went, changed.
    #[must_use]
    pub fn happened(&self) -> bool {
        self.gone() > self.offset
    }

    /// How many bytes of the stream have gone so far: the inner channel took or gave them. A peek does not count.
    #[must_use]
    pub fn gone(&self) -> u64 {
        self.gone.load(Ordering::Acquire)
    }
}

impl Policy for Flip {
    fn judge(&mut self, attempt: &Attempt<'_>) -> Verdict {
        if !attempt.call.moves_bytes() {
            return Verdict::PASS;
        }
        // The stream is cut before and after the byte, so that it goes alone: a short read or write, as is always allowed.
        match self.offset.checked_sub(attempt.at) {
            None => Verdict::PASS,
            Some(0) => Verdict::Pass { most: 1, flip: 1 },
            Some(before) => Verdict::at_most(before),
        }
    }

    fn passed(&mut self, _: Call, _: &Result<Passed>, at: u64) {
        self.gone.store(at, Ordering::Release);
    }

    fn is_due(&self, _: u64) -> bool {
        false
    }
}
