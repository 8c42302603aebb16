//! The error that ended a connection, remembered: the kernel tells it once.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use channel_core::{Error, Result};
use rustix::io::Errno;

/// What ended the connection, if anything but a clean end did.
///
/// The kernel hands `sk_err` to the first call that asks, reader or writer, and afterwards reads return 0 as if the stream had
/// ended cleanly. A reset must never pass for a clean end \[R2\], so whoever gets the error leaves it here.
#[derive(Debug, Default)]
pub(crate) struct Failure {
    error: OnceLock<Error>,
    sends_begun: AtomicU64,
    sends_done: AtomicU64,
}

impl Failure {
    /// Keeps `error` if `errno` is of the kind that ends a connection.
    pub(crate) fn note(&self, errno: Errno, error: &Error) {
        if ends_a_connection(errno) {
            // The first one is the cause; a later one only its echo.
            let _ = self.error.set(error.clone());
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.error.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Runs a send, which [`note`](Self::note)s its error before it returns.
    pub(crate) fn sending<T>(&self, send: impl FnOnce() -> T) -> T {
        self.sends_begun.fetch_add(1, Ordering::SeqCst);
        let done = send();
        self.sends_done.fetch_add(1, Ordering::SeqCst);
        done
    }

    /// Whether a read that got 0 may believe it. A send that was under way may have taken the error from the kernel and
    /// not have left it here yet: give it the moment it needs.
    pub(crate) fn check_end(&self) -> Result<()> {
        /// A send never sleeps in the kernel (`MSG_DONTWAIT`) unless its memory has to be fetched; no reader hangs on that.
        const PATIENCE: u32 = 10_000;
        let begun = self.sends_begun.load(Ordering::SeqCst);
        for _ in 0..PATIENCE {
            if self.sends_done.load(Ordering::SeqCst) >= begun {
                break;
            }
            thread::yield_now();
        }
        self.check()
    }
}

/// Not `EPIPE`, which only says that we, or the peer, ended this direction, and nothing that a later call may not meet.
fn ends_a_connection(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::CONNRESET
            | Errno::CONNABORTED
            | Errno::CONNREFUSED
            | Errno::TIMEDOUT
            | Errno::HOSTUNREACH
            | Errno::HOSTDOWN
            | Errno::NETUNREACH
            | Errno::NETDOWN
            | Errno::NETRESET
            | Errno::PROTO
    )
}
