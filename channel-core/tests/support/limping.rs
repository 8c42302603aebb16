//! A channel that cannot do something that others can.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::any::Any;
use std::io::{IoSlice, IoSliceMut, SeekFrom};
use std::net::Shutdown;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use channel_core::{AioChange, Channel, Direction, Error, Features, ReadFlags, Readiness, Removed, Result, WriteFlags};

/// The channel inside, without something.
#[derive(Debug)]
pub(crate) struct Limping {
    inner: Box<dyn Channel>,
    without: Without,
}

#[derive(Debug, PartialEq, Eq)]
enum Without {
    CloseWrite,
    /// A close that comes to an end.
    Close,
}

/// A channel whose output has no polite end.
pub(crate) fn unending(inner: Box<dyn Channel>) -> Limping {
    Limping { inner, without: Without::CloseWrite }
}

/// A channel that takes longer to close than anybody wants to wait.
pub(crate) fn unclosing(inner: Box<dyn Channel>) -> Limping {
    Limping { inner, without: Without::Close }
}

impl Channel for Limping {
    fn layer(&self) -> &'static str {
        "limping"
    }
    fn name(&self) -> Option<Arc<str>> {
        self.inner.name()
    }
    fn set_name(&self, name: &str) {
        self.inner.set_name(name);
    }
    fn features(&self) -> Features {
        let lacks = self.without == Without::CloseWrite;
        self.inner.features() - if lacks { Features::CLOSE_WRITE } else { Features::empty() }
    }
    fn why_not(&self, feature: Features) -> Option<String> {
        let lacks = self.without == Without::CloseWrite && feature == Features::CLOSE_WRITE;
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
        self.inner.readv_full(bufs, fds, flags)
    }
    fn writev_full(&self, bufs: &[IoSlice<'_>], fds: &[BorrowedFd<'_>], flags: WriteFlags) -> Result<usize> {
        self.inner.writev_full(bufs, fds, flags)
    }
    fn flush(&self) -> Result<()> {
        self.inner.flush()
    }
    fn set_blocking(&self, blocking: bool) {
        self.inner.set_blocking(blocking);
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
        match self.without {
            Without::CloseWrite => Err(Error::unsupported(self, "close_write", Features::CLOSE_WRITE)),
            Without::Close => self.inner.close_write(),
        }
    }
    fn shutdown(&self, how: Shutdown) -> Result<()> {
        self.inner.shutdown(how)
    }
    fn close(&self) -> Result<()> {
        self.inner.close()
    }
    fn close_by(&self, deadline: Instant) -> Result<()> {
        if self.without == Without::Close { Err(Error::WOULD_BLOCK) } else { self.inner.close_by(deadline) }
    }
    fn seek(&self, position: SeekFrom) -> Result<u64> {
        self.inner.seek(position)
    }
    fn readiness(&self, direction: Direction) -> Readiness {
        self.inner.readiness(direction)
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
