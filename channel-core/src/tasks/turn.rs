//! Whose turn it is: a task whose calls never wait.

use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

/// Counts the calls that a task makes in a row without waiting, and has it give others their turn after many [[A3]].
///
/// For implementers of futures: one for whatever only one task does at a time, such as a direction of a channel. Two at once
/// lose count, and nothing else.
#[doc = channel_core::promises!(A3)]
#[derive(Debug, Default)]
pub struct Turn(AtomicU32);

/// Calls in a row before others have their turn.
const CALLS: u32 = 128;

impl Turn {
    /// A call begins, if this is ready. Otherwise it is put off: other tasks, and timers, have their turn, and the task is
    /// woken at once to call again.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let calls = self.0.load(Ordering::Relaxed);
        if calls < CALLS {
            self.0.store(calls + 1, Ordering::Relaxed);
            return Poll::Ready(());
        }
        self.waited();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The task waits, and gives others their turn by that.
    pub fn waited(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}
