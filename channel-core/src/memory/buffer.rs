//! A file in memory. (QEMU: `QIOChannelBuffer`, whose position and length can part; ours cannot.)

use std::any::Any;
use std::fmt;
use std::io::{IoSlice, IoSliceMut, SeekFrom};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::{
    AioChange, Channel, Direction, Error, ErrorKind, FdHandlers, Features, Mode, Name, ReadFlags, Readiness, Removed,
    Result, Shutdown, WriteFlags, check_read, check_write,
};

/// Bytes in memory with a position that reads, writes and seeks share, as with a file. Never waits.
///
/// A write past the end grows it; a seek past the end and a write fill the gap with zeros. Reading at the end gives 0.
#[derive(Debug, Default)]
pub struct BufferChannel {
    name: Name,
    mode: Mode,
    state: Mutex<State>,
    handlers: FdHandlers,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    position: usize,
    read_ended: bool,
    write_ended: bool,
    closed: bool,
}

/// Without the bytes: they are somebody's data.
impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, position, .. } = self;
        f.debug_struct("State").field("len", &bytes.len()).field("position", position).finish_non_exhaustive()
    }
}

impl BufferChannel {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A buffer that holds `bytes`, positioned at the first.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        let state = State { bytes, ..State::default() };
        Self { state: Mutex::new(state), ..Self::default() }
    }

    /// A copy of all it holds.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.lock().bytes.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, operation: &'static str) -> Result<MutexGuard<'_, State>> {
        let state = self.lock();
        if state.closed {
            return Err(Error::closed(self, operation));
        }
        Ok(state)
    }
}

/// Copies from the front of `bytes` into `bufs`, each filled before the next.
pub(super) fn scatter(bytes: &[u8], bufs: &mut [IoSliceMut<'_>]) -> usize {
    let mut done = 0;
    for buf in bufs {
        let count = buf.len().min(bytes.len() - done);
        buf[..count].copy_from_slice(&bytes[done..done + count]);
        done += count;
    }
    done
}

impl Channel for BufferChannel {
    fn layer(&self) -> &'static str {
        "buffer"
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
        let missing = feature - self.features();
        let why = if missing.is_empty() {
            return None;
        } else if missing.contains(Features::READ_BUF) {
            "bytes that a seek can reach again are not lent"
        } else {
            "a buffer is plain memory, like a file"
        };
        Some(why.to_owned())
    }

    fn describe_layer(&self) -> String {
        let state = self.lock();
        format!("buffer {} of {} bytes", state.position, state.bytes.len())
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
        let mut state = self.open("read")?;
        if state.read_ended {
            return Ok(0);
        }
        let from = state.position.min(state.bytes.len());
        let count = scatter(&state.bytes[from..], bufs);
        state.position += count;
        drop(state);
        if count > 0 {
            self.handlers.schedule(Direction::Read); // the end is told once: a loop would come back to it for ever
        }
        Ok(count)
    }

    fn writev_full(&self, bufs: &[IoSlice<'_>], fds: &[BorrowedFd<'_>], flags: WriteFlags) -> Result<usize> {
        check_write(self, !fds.is_empty(), flags)?;
        if bufs.iter().all(|buf| buf.is_empty()) {
            return Ok(0);
        }
        let mut state = self.open("write")?;
        if state.write_ended {
            return Err(Error::output_ended(self));
        }
        let State { bytes, position, .. } = &mut *state;
        if *position > bytes.len() {
            bytes.resize(*position, 0);
        }
        let from = *position;
        for buf in bufs {
            let over = buf.len().min(bytes.len() - *position);
            bytes[*position..*position + over].copy_from_slice(&buf[..over]);
            bytes.extend_from_slice(&buf[over..]);
            *position += buf.len();
        }
        let count = *position - from;
        drop(state);
        self.handlers.schedule(Direction::Write);
        Ok(count)
    }

    fn flush(&self) -> Result<()> {
        self.open("flush").map(drop)
    }

    crate::mode_methods!(mode, handlers);

    fn take_over(&self) {}

    fn set_delay(&self, _: bool) {}

    fn set_cork(&self, _: bool) {}

    fn close_write(&self) -> Result<()> {
        self.open("close_write")?.write_ended = true;
        Ok(())
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        let mut state = self.lock();
        state.read_ended |= how != Shutdown::Write;
        state.write_ended |= how != Shutdown::Read;
        Ok(())
    }

    fn close(&self) -> Result<()> {
        let mut state = self.lock();
        state.closed = true;
        state.bytes = Vec::new();
        state.position = 0;
        drop(state);
        self.handlers.clear();
        Ok(())
    }

    fn close_by(&self, _: Instant) -> Result<()> {
        self.close()
    }

    fn seek(&self, position: SeekFrom) -> Result<u64> {
        let mut state = self.open("seek")?;
        let base = |length: usize, offset: i64| u64::try_from(length).ok()?.checked_add_signed(offset);
        let target = match position {
            SeekFrom::Start(target) => Some(target),
            SeekFrom::End(offset) => base(state.bytes.len(), offset),
            SeekFrom::Current(offset) => base(state.position, offset),
        };
        let Some(target) = target.filter(|target| i64::try_from(*target).is_ok()) else {
            let error = Error::new(ErrorKind::InvalidInput, "buffer", "the position would be negative or too large");
            return Err(error.during("seek").on(self.name()));
        };
        state.position = usize::try_from(target).unwrap_or(usize::MAX);
        Ok(target)
    }

    fn readiness(&self, _: Direction) -> Readiness {
        Readiness::Ready
    }

    fn set_aio_fd_handler(&self, read: AioChange, write: AioChange) -> Result<Removed> {
        drop(self.open("set_aio_fd_handler")?);
        self.handlers.change(self.layer(), &self.mode, |_| None, read, write)
    }

    fn handshake(&self) -> Result<()> {
        self.open("handshake").map(drop)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ChannelExt;

    #[test]
    fn seeking_back_and_writing_overwrites_and_keeps_the_rest() {
        let buffer = BufferChannel::new();
        buffer.write_all(b"hello world").unwrap();
        assert_eq!(buffer.seek(SeekFrom::Start(0)).unwrap(), 0);
        buffer.write_all(b"J").unwrap();
        assert_eq!(buffer.to_bytes(), b"Jello world");
        let mut rest = [0; 10];
        buffer.read_all(&mut rest).unwrap();
        assert_eq!(&rest, b"ello world");
        assert_eq!(buffer.read(&mut rest).unwrap(), 0);
    }

    #[test]
    fn nothing_is_written_behind_the_end() {
        let buffer = BufferChannel::from_bytes(b"whole".to_vec());
        buffer.close_write().unwrap();
        assert_eq!(buffer.write(b"more").unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert_eq!(buffer.to_bytes(), b"whole");
    }

    #[test]
    fn a_gap_reads_as_zeros_and_a_negative_position_is_refused() {
        let buffer = BufferChannel::from_bytes(b"ab".to_vec());
        assert_eq!(buffer.seek(SeekFrom::End(2)).unwrap(), 4);
        buffer.write_all(b"c").unwrap();
        assert_eq!(buffer.to_bytes(), b"ab\0\0c");
        assert_eq!(buffer.seek(SeekFrom::Current(-9)).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
