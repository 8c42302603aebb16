//! A channel whose output has no polite end.

use std::any::Any;
use std::io::{IoSlice, IoSliceMut, SeekFrom};
use std::net::Shutdown;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use channel_core::{AioChange, Channel, Direction, Error, Features, ReadFlags, Readiness, Removed, Result, WriteFlags};

/// The channel inside, without `close_write`.
#[derive(Debug)]
pub(crate) struct Unending(pub(crate) Box<dyn Channel>);

impl Channel for Unending {
    fn layer(&self) -> &'static str {
        "unending"
    }
    fn name(&self) -> Option<Arc<str>> {
        self.0.name()
    }
    fn set_name(&self, name: &str) {
        self.0.set_name(name);
    }
    fn features(&self) -> Features {
        self.0.features() - Features::CLOSE_WRITE
    }
    fn why_not(&self, feature: Features) -> Option<String> {
        if feature == Features::CLOSE_WRITE { Some("it never ends".to_owned()) } else { self.0.why_not(feature) }
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
        self.0.readv_full(bufs, fds, flags)
    }
    fn writev_full(&self, bufs: &[IoSlice<'_>], fds: &[BorrowedFd<'_>], flags: WriteFlags) -> Result<usize> {
        self.0.writev_full(bufs, fds, flags)
    }
    fn flush(&self) -> Result<()> {
        self.0.flush()
    }
    fn set_blocking(&self, blocking: bool) {
        self.0.set_blocking(blocking);
    }
    fn set_delay(&self, delay: bool) {
        self.0.set_delay(delay);
    }
    fn set_cork(&self, cork: bool) {
        self.0.set_cork(cork);
    }
    fn close_write(&self) -> Result<()> {
        Err(Error::unsupported(self, "close_write", Features::CLOSE_WRITE))
    }
    fn shutdown(&self, how: Shutdown) -> Result<()> {
        self.0.shutdown(how)
    }
    fn close(&self) -> Result<()> {
        self.0.close()
    }
    fn close_by(&self, deadline: Instant) -> Result<()> {
        self.0.close_by(deadline)
    }
    fn seek(&self, position: SeekFrom) -> Result<u64> {
        self.0.seek(position)
    }
    fn readiness(&self, direction: Direction) -> Readiness {
        self.0.readiness(direction)
    }
    fn set_aio_fd_handler(&self, read: AioChange, write: AioChange) -> Result<Removed> {
        self.0.set_aio_fd_handler(read, write)
    }
    fn handshake(&self) -> Result<()> {
        self.0.handshake()
    }
    fn with_read_buf(&self, take: &mut dyn FnMut(&[u8]) -> usize) -> Result<usize> {
        self.0.with_read_buf(take)
    }
    fn next_layer(&self) -> Option<&dyn Channel> {
        Some(&*self.0)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
