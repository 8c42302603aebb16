//! A channel that is odd in one thing.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::any::Any;
use std::fmt;
use std::io::{IoSlice, IoSliceMut, SeekFrom};
use std::net::Shutdown;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use channel_core::{
    AioChange, Channel, Direction, Error, ErrorKind, Features, ReadFlags, Readiness, Removed, Result, WriteFlags,
};

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

impl Channel for Odd {
    fn layer(&self) -> &'static str {
        "odd"
    }
    fn name(&self) -> Option<Arc<str>> {
        self.inner.name()
    }
    fn set_name(&self, name: &str) {
        self.inner.set_name(name);
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
    fn writev_full(&self, bufs: &[IoSlice<'_>], fds: &[BorrowedFd<'_>], flags: WriteFlags) -> Result<usize> {
        self.inner.writev_full(bufs, fds, flags)
    }
    fn flush(&self) -> Result<()> {
        if let Oddity::BeforeFlush(happens) = &self.oddity {
            let happens = happens.lock().unwrap().take();
            happens.into_iter().for_each(|happens| happens());
        }
        self.inner.flush()
    }
    fn set_blocking(&self, blocking: bool) {
        self.inner.set_blocking(blocking);
    }

    fn set_read_timeout(&self, timeout: Option<Duration>) -> Result<()> {
        self.inner.set_read_timeout(timeout)
    }

    fn read_timeout(&self) -> Option<Duration> {
        self.inner.read_timeout()
    }

    fn set_write_timeout(&self, timeout: Option<Duration>) -> Result<()> {
        self.inner.set_write_timeout(timeout)
    }

    fn write_timeout(&self) -> Option<Duration> {
        self.inner.write_timeout()
    }

    fn take_over(&self) {
        self.inner.take_over();
    }
    fn set_delay(&self, delay: bool) {
        self.inner.set_delay(delay);
    }
    fn set_cork(&self, cork: bool) {
        self.inner.set_cork(cork);
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
    fn shutdown(&self, how: Shutdown) -> Result<()> {
        self.inner.shutdown(how)
    }
    fn close(&self) -> Result<()> {
        self.inner.close()
    }
    fn close_by(&self, deadline: Instant) -> Result<()> {
        match self.oddity {
            Oddity::NoClose => Err(Error::WOULD_BLOCK),
            _ => self.inner.close_by(deadline),
        }
    }
    fn seek(&self, position: SeekFrom) -> Result<u64> {
        self.inner.seek(position)
    }
    fn readiness(&self, direction: Direction) -> Readiness {
        match (&self.oddity, direction) {
            (Oddity::Endless, Direction::Read) => Readiness::Ready,
            _ => self.inner.readiness(direction),
        }
    }
    fn set_aio_fd_handler(&self, read: AioChange, write: AioChange) -> Result<Removed> {
        self.inner.set_aio_fd_handler(read, write)
    }
    fn handshake(&self) -> Result<()> {
        self.inner.handshake()
    }
    fn with_read_buf(&self, take: &mut dyn FnMut(&[u8]) -> usize) -> Result<usize> {
        self.inner.with_read_buf(take)
    }
    fn next_layer(&self) -> Option<&dyn Channel> {
        Some(&*self.inner)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
