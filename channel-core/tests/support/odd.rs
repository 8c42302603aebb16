//! A channel that is odd in one thing.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::fmt;
use std::io::IoSliceMut;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use channel_core::{Channel, Direction, Error, ErrorKind, Features, ReadFlags, Readiness, Result, forward_channel};

/// What happens once, in the middle of something, as another thread may make it happen.
pub(crate) type Happens = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

/// The channel inside, but for one thing.
pub(crate) struct Odd {
    inner: Box<dyn Channel>,
    oddity: Oddity,
}

enum Oddity {
    NoCloseWrite,
    NoClose,
    /// Not before something was read of it since that was asked for.
    NoEndYet {
        asked: AtomicBool,
        read: AtomicBool,
    },
    BeforeFlush(Happens),
    Endless,
    Counted(Arc<AtomicUsize>),
    ReadFails(ErrorKind),
}

/// A channel whose output has no polite end.
pub(crate) fn unending(inner: Box<dyn Channel>) -> Odd {
    Odd { inner, oddity: Oddity::NoCloseWrite }
}

/// A channel that takes longer to close than anybody wants to wait.
pub(crate) fn unclosing(inner: Box<dyn Channel>) -> Odd {
    Odd { inner, oddity: Oddity::NoClose }
}

/// A channel whose output does not end before its peer's was read: neither of the two has room for the end, say.
pub(crate) fn ending_when_read(inner: Box<dyn Channel>) -> Odd {
    Odd { inner, oddity: Oddity::NoEndYet { asked: AtomicBool::default(), read: AtomicBool::default() } }
}

/// A channel in whose next `flush` something happens.
pub(crate) fn interrupted(inner: Box<dyn Channel>, happens: &Happens) -> Odd {
    Odd { inner, oddity: Oddity::BeforeFlush(Arc::clone(happens)) }
}

/// A channel whose peer never stops sending.
pub(crate) fn endless(inner: Box<dyn Channel>) -> Odd {
    Odd { inner, oddity: Oddity::Endless }
}

/// A channel of which every read is counted.
pub(crate) fn counted(inner: Box<dyn Channel>, reads: &Arc<AtomicUsize>) -> Odd {
    Odd { inner, oddity: Oddity::Counted(Arc::clone(reads)) }
}

/// A channel whose reads fail.
pub(crate) fn unreadable(inner: Box<dyn Channel>, kind: ErrorKind) -> Odd {
    Odd { inner, oddity: Oddity::ReadFails(kind) }
}

impl fmt::Debug for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Odd").field("inner", &self.inner).finish_non_exhaustive()
    }
}

forward_channel!(Odd => |self| &*self.inner;
    fn layer(&self) -> &'static str {
        "odd"
    }

    fn features(&self) -> Features {
        let lacks = match self.oddity {
            Oddity::NoCloseWrite => Features::CLOSE_WRITE,
            Oddity::Endless | Oddity::ReadFails(_) | Oddity::Counted(_) => Features::READ_BUF,
            _ => Features::empty(),
        };
        self.inner.features() - lacks
    }

    fn why_not(&self, feature: Features) -> Option<String> {
        let lacks = matches!(self.oddity, Oddity::NoCloseWrite) && feature == Features::CLOSE_WRITE;
        if lacks { Some("it never ends".to_owned()) } else { self.inner.why_not(feature) }
    }

    fn describe_layer(&self) -> String {
        self.layer().to_owned()
    }

    fn readv_full(
        &self,
        bufs: &mut [IoSliceMut<'_>],
        fds: Option<&mut Vec<OwnedFd>>,
        flags: ReadFlags,
    ) -> Result<usize> {
        match self.oddity {
            Oddity::Endless => Ok(bufs.iter().map(|buf| buf.len()).sum()),
            Oddity::ReadFails(kind) => Err(Error::new(kind, "odd", "on purpose").during("read")),
            _ => {
                if let Oddity::Counted(reads) = &self.oddity {
                    reads.fetch_add(1, Ordering::SeqCst);
                }
                let read = self.inner.readv_full(bufs, fds, flags);
                if let (Oddity::NoEndYet { asked, read: was_read }, Ok(1..)) = (&self.oddity, &read) {
                    was_read.store(asked.load(Ordering::SeqCst), Ordering::SeqCst);
                }
                read
            }
        }
    }

    fn flush(&self) -> Result<()> {
        if let Oddity::BeforeFlush(happens) = &self.oddity {
            let happens = happens.lock().unwrap().take();
            happens.into_iter().for_each(|happens| happens());
        }
        self.inner.flush()
    }

    fn close_write(&self) -> Result<()> {
        match &self.oddity {
            Oddity::NoCloseWrite => Err(Error::unsupported(self, "close_write", Features::CLOSE_WRITE)),
            Oddity::NoEndYet { asked, read } if !read.load(Ordering::SeqCst) => {
                asked.store(true, Ordering::SeqCst);
                Err(Error::WOULD_BLOCK)
            }
            _ => self.inner.close_write(),
        }
    }

    fn close_by(&self, deadline: Instant) -> Result<()> {
        match self.oddity {
            Oddity::NoClose => Err(Error::WOULD_BLOCK),
            _ => self.inner.close_by(deadline),
        }
    }

    fn readiness(&self, direction: Direction) -> Readiness {
        match (&self.oddity, direction) {
            (Oddity::Endless, Direction::Read) => Readiness::Ready,
            _ => self.inner.readiness(direction),
        }
    }

    fn next_layer(&self) -> Option<&dyn Channel> {
        Some(&*self.inner)
    }
);
