//! What an adverse channel decides, one direction at a time; [`Adverse`](super::Adverse) does the rest.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Instant;

use channel_core::{Channel, Direction, Result};

use super::gate::Gate;

/// The operations a policy rules on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Read,
    Lend,
    Handshake,
    Write,
    Flush,
    CloseWrite,
}

impl Call {
    pub(super) fn direction(self) -> Direction {
        match self {
            Self::Read | Self::Lend | Self::Handshake => Direction::Read,
            Self::Write | Self::Flush | Self::CloseWrite => Direction::Write,
        }
    }

    /// Whether it moves bytes of the stream.
    pub(super) fn moves_bytes(self) -> bool {
        matches!(self, Self::Read | Self::Lend | Self::Write)
    }

    /// What errors call it.
    pub(super) fn operation(self) -> &'static str {
        match self {
            Self::Read | Self::Lend => "read",
            Self::Handshake => "handshake",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::CloseWrite => "close_write",
        }
    }
}

/// One attempt at a call, before it reaches the inner channel.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    pub(super) call: Call,
    /// How many bytes have gone this way before.
    pub(super) at: u64,
    /// The direction was shut down, or the channel is being closed.
    pub(super) ending: bool,
    pub(super) inner: &'a dyn Channel,
}

impl Attempt<'_> {
    /// Whether the inner channel could make progress now.
    pub(super) fn can_progress(&self) -> bool {
        // If poll itself fails, the inner channel is left to say so.
        self.inner.readiness(self.call.direction()).block(Some(Instant::now())).unwrap_or(false)
    }
}

/// What becomes of an attempt.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It goes to the inner channel, with at most `most` bytes, the first of them changed by `flip`.
    Pass { most: usize, flip: u8 },
    /// This comes back instead, and the inner channel hears nothing of it.
    Instead(Result<usize>),
}

impl Verdict {
    pub(super) const PASS: Self = Self::Pass { most: usize::MAX, flip: 0 };

    pub(super) fn at_most(most: u64) -> Self {
        Self::Pass { most: usize::try_from(most).unwrap_or(usize::MAX), flip: 0 }
    }
}

/// What came of an attempt that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passed {
    /// It did what it should; so many bytes moved.
    Did(usize),
    /// The end of the stream.
    End,
}

impl Passed {
    /// What the call returns.
    pub(super) fn count(self) -> usize {
        match self {
            Self::Did(count) => count,
            Self::End => 0,
        }
    }
}

/// The rule for one direction. It has no locks and does no I/O.
pub(super) trait Policy: Debug + Send + 'static {
    /// Decides about an attempt.
    fn judge(&mut self, attempt: &Attempt<'_>) -> Verdict;

    /// Learns what came of one that passed, and that `at` bytes have gone this way now.
    fn passed(&mut self, call: Call, outcome: &Result<Passed>, at: u64);

    /// Whether the next call, `at` bytes into the stream, will come back at once with no help from the inner channel: readiness
    /// says `Ready` then, and handlers are called.
    fn is_due(&self, at: u64) -> bool;

    /// What decides when the inner channel is to be waited for at all.
    fn gate(&self) -> Option<&Arc<Gate>> {
        None
    }
}

/// Lets everything pass.
#[derive(Debug)]
pub(super) struct Honest;

impl Policy for Honest {
    fn judge(&mut self, _: &Attempt<'_>) -> Verdict {
        Verdict::PASS
    }

    fn passed(&mut self, _: Call, _: &Result<Passed>, _: u64) {}

    fn is_due(&self, _: u64) -> bool {
        false
    }
}
