//! The channel that swallows everything. (QEMU: `QIOChannelNull`.)

use std::io::{IoSlice, IoSliceMut, SeekFrom};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Instant;

use crate::leaf::{Leaf, LeafChannel};
use crate::{Direction, Features, Interest, ReadFlags, Result, WriteFlags};

/// Reads end at once, writes vanish, seeks go nowhere; after `close` all of them fail. Never waits.
#[derive(Debug)]
pub struct NullChannel(LeafChannel<Null>);

impl NullChannel {
    /// A null channel.
    #[must_use]
    pub fn new() -> Self {
        Self(LeafChannel::new(Null))
    }
}

impl Default for NullChannel {
    fn default() -> Self {
        Self::new()
    }
}

crate::forward_channel!(NullChannel => |self| &self.0);

#[derive(Debug)]
struct Null;

impl Leaf for Null {
    fn layer(&self) -> &'static str {
        "null"
    }

    fn features(&self) -> Features {
        Features::SEEKABLE | Features::CLOSE_WRITE | Features::HALF_CLOSE
    }

    fn why_not(&self, _: Features) -> &'static str {
        "a null channel only swallows bytes"
    }

    fn try_read(&self, _: &mut [IoSliceMut<'_>], _: Option<&mut Vec<OwnedFd>>, _: ReadFlags) -> Result<usize> {
        Ok(0)
    }

    fn try_write(&self, bufs: &[IoSlice<'_>], _: &[BorrowedFd<'_>], _: WriteFlags) -> Result<usize> {
        Ok(bufs.iter().map(|buf| buf.len()).sum())
    }

    fn polled(&self, _: Direction) -> Option<Interest> {
        None
    }

    fn close(&self, _: Instant) -> Result<()> {
        Ok(())
    }

    fn seek(&self, _: SeekFrom) -> Result<u64> {
        Ok(0)
    }
}
