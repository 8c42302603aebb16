//! The channel that swallows everything. (QEMU: `QIOChannelNull`.)

use std::any::Any;
use std::io::{IoSlice, IoSliceMut, SeekFrom};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::{
    AioChange, Channel, Direction, Error, FdHandlers, Features, Mode, Name, ReadFlags, Readiness, Removed, Result,
    Shutdown, WriteFlags, check_read, check_write,
};

/// Reads end at once, writes vanish, seeks go nowhere; after `close` both fail. Never waits.
#[derive(Debug, Default)]
pub struct NullChannel {
    name: Name,
    mode: Mode,
    closed: AtomicBool,
    ended: AtomicBool,
    handlers: FdHandlers,
}

impl NullChannel {
    /// A null channel.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn open(&self, operation: &'static str) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::closed(self, operation));
        }
        Ok(())
    }
}

impl Channel for NullChannel {
    fn layer(&self) -> &'static str {
        "null"
    }

    fn name(&self) -> Option<Arc<str>> {
        self.name.load()
    }

    fn set_name(&self, name: &str) {
        self.name.store(name);
    }

    fn features(&self) -> Features {
        Features::SHUTDOWN | Features::SEEKABLE | Features::CLOSE_WRITE | Features::HALF_CLOSE
    }

    fn why_not(&self, feature: Features) -> Option<String> {
        (!self.features().contains(feature)).then(|| "a null channel only swallows bytes".to_owned())
    }

    fn describe_layer(&self) -> String {
        "null".to_owned()
    }

    fn readv_full(
        &self,
        bufs: &mut [IoSliceMut<'_>],
        fds: Option<&mut Vec<OwnedFd>>,
        flags: ReadFlags,
    ) -> Result<usize> {
        check_read(self, fds.is_some(), flags)?;
        if bufs.iter().all(|buf| buf.is_empty()) {
            return Ok(0);
        }
        self.open("read")?;
        Ok(0)
    }

    fn writev_full(&self, bufs: &[IoSlice<'_>], fds: &[BorrowedFd<'_>], flags: WriteFlags) -> Result<usize> {
        check_write(self, !fds.is_empty(), flags)?;
        let count = bufs.iter().map(|buf| buf.len()).sum();
        if count == 0 {
            return Ok(0);
        }
        self.open("write")?;
        if self.ended.load(Ordering::Acquire) {
            return Err(Error::output_ended(self));
        }
        self.handlers.schedule(Direction::Write);
        Ok(count)
    }

    fn flush(&self) -> Result<()> {
        self.open("flush")
    }

    crate::mode_methods!(mode, handlers);

    fn take_over(&self) {}

    fn set_delay(&self, _: bool) {}

    fn set_cork(&self, _: bool) {}

    fn close_write(&self) -> Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        if how != Shutdown::Read {
            self.ended.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn close(&self) -> Result<()> {
        self.closed.store(true, Ordering::Release);
        self.handlers.clear();
        Ok(())
    }

    fn close_by(&self, _: Instant) -> Result<()> {
        self.close()
    }

    fn seek(&self, _: SeekFrom) -> Result<u64> {
        self.open("seek").map(|()| 0)
    }

    fn readiness(&self, _: Direction) -> Readiness {
        Readiness::Ready
    }

    fn set_aio_fd_handler(&self, read: AioChange, write: AioChange) -> Result<Removed> {
        self.open("set_aio_fd_handler")?;
        self.handlers.change(self.layer(), &self.mode, |_| None, read, write)
    }

    fn handshake(&self) -> Result<()> {
        self.open("handshake")
    }

    fn with_read_buf(&self, _: &mut dyn FnMut(&[u8]) -> usize) -> Result<usize> {
        Err(Error::unsupported(self, "read", Features::READ_BUF))
    }

    fn next_layer(&self) -> Option<&dyn Channel> {
        None
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
