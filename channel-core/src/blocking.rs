//! Blocking mode: try, and where that would block, wait for readiness and try again. The only place that does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::{Channel, Direction, Error, ErrorKind, Result};

/// Whether the channel a caller entered waits, and who waits in it now.
///
/// Each channel has one. Blocking is a flag of the channel that was entered, never of a descriptor, which others may
/// share; channels start out blocking.
#[derive(Debug, Default)]
pub struct Mode {
    non_blocking: AtomicBool,
    reader_waits: AtomicBool,
    writer_waits: AtomicBool,
}

impl Mode {
    /// Sets the mode from the next call on.
    pub fn set_blocking(&self, blocking: bool) {
        self.non_blocking.store(!blocking, Ordering::Relaxed);
    }

    /// Whether calls wait.
    #[must_use]
    pub fn is_blocking(&self) -> bool {
        !self.non_blocking.load(Ordering::Relaxed)
    }

    /// Runs `attempt` until it gives anything but would-block, waiting in between for `channel` to be ready in
    /// `direction`. In non-blocking mode, or with `dont_wait`, it runs once.
    ///
    /// # Errors
    /// What `attempt` fails with; [`ErrorKind::Busy`] where another thread already waits in this direction;
    /// [`ErrorKind::TimedOut`] once `deadline` has passed.
    pub fn run<T>(
        &self,
        channel: &dyn Channel,
        direction: Direction,
        dont_wait: bool,
        deadline: Option<Instant>,
        mut attempt: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        let waits = !dont_wait && self.is_blocking(); // a change applies from the next call
        let first = attempt();
        match &first {
            Err(error) if waits && error.is_would_block() => {}
            _ => return first,
        }
        let failed = |kind, detail| {
            let operation = match direction {
                Direction::Read => "read",
                Direction::Write => "write",
            };
            Error::new(kind, channel.layer(), detail).during(operation).on(channel.name())
        };
        let Some(_turn) = self.begin_wait(direction) else {
            return Err(failed(ErrorKind::Busy, "a channel has one reader and one writer at a time"));
        };
        loop {
            if !channel.readiness(direction).block(deadline)? {
                return Err(failed(ErrorKind::TimedOut, "the deadline passed"));
            }
            match attempt() {
                Err(error) if error.is_would_block() => {}
                done => return done,
            }
        }
    }

    /// As [`run`](Self::run) for `close`, which takes no turn with writers: any number of callers may wait for it, and what
    /// [`readiness`](Channel::readiness) says of writing is what they wait for.
    ///
    /// # Errors
    /// What `attempt` fails with.
    pub fn run_close(&self, channel: &dyn Channel, mut attempt: impl FnMut() -> Result<()>) -> Result<()> {
        let waits = self.is_blocking(); // a change applies from the next call
        loop {
            match attempt() {
                Err(error) if waits && error.is_would_block() => {
                    channel.readiness(Direction::Write).block(None)?;
                }
                done => return done,
            }
        }
    }

    /// Claims the right to wait in `direction`, unless somebody has it; dropping the claim ends it.
    fn begin_wait(&self, direction: Direction) -> Option<impl Drop + '_> {
        struct Turn<'a>(&'a AtomicBool);
        impl Drop for Turn<'_> {
            fn drop(&mut self) {
                self.0.store(false, Ordering::Release);
            }
        }
        let waits = match direction {
            Direction::Read => &self.reader_waits,
            Direction::Write => &self.writer_waits,
        };
        (!waits.swap(true, Ordering::Acquire)).then(|| Turn(waits))
    }
}
