//! A channel as std's `Read` and `Write`.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};

use crate::{Channel, ReadFlags, WriteFlags};

/// `io::Read` and `io::Write` over a channel, for code that knows nothing of channels.
///
/// Blocks as the channel does; in non-blocking mode would-block comes through as `io::ErrorKind::WouldBlock`. Dropping the
/// adapter does nothing.
///
/// ```
/// use channel_core::{ChannelExt, MemoryChannel};
/// use std::io::{BufRead, BufReader, Write};
///
/// let (near, far) = MemoryChannel::pair()?;
/// writeln!(near.std_io(), "QMP {}", 1)?;
/// let mut line = String::new();
/// BufReader::new(far.std_io()).read_line(&mut line)?;
/// assert_eq!(line, "QMP 1\n");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct StdIo<'a, C: ?Sized = dyn Channel> {
    channel: &'a C,
}

impl<'a, C: Channel + ?Sized> StdIo<'a, C> {
    /// Adapts `channel`.
    #[must_use]
    pub fn new(channel: &'a C) -> Self {
        Self { channel }
    }
}

impl<C: Channel + ?Sized> Read for StdIo<'_, C> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_vectored(&mut [IoSliceMut::new(buf)])
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        Ok(self.channel.readv_full(bufs, None, ReadFlags::empty())?)
    }
}

impl<C: Channel + ?Sized> Write for StdIo<'_, C> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(buf)])
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(self.channel.writev_full(bufs, &[], WriteFlags::empty())?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(self.channel.flush()?)
    }
}
