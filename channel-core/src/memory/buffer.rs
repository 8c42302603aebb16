//! A file in memory. (QEMU: `QIOChannelBuffer`, whose position and length can part; ours cannot.)

use std::fmt;
use std::io::{IoSlice, IoSliceMut, SeekFrom};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::leaf::{Leaf, LeafChannel};
use crate::{Direction, Error, ErrorKind, Features, Interest, ReadFlags, Result, WriteFlags};

/// Bytes in memory with a position that reads, writes and seeks share, as with a file. Never waits.
///
/// A write past the end grows it; a seek past the end and a write fill the gap with zeros. Reading at the end gives 0.
#[derive(Debug)]
pub struct BufferChannel(LeafChannel<Memory>);

impl BufferChannel {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self::from_bytes(Vec::new())
    }

    /// A buffer that holds `bytes`, positioned at the first.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(LeafChannel::new(Memory(Mutex::new(State { bytes, position: 0 }))))
    }

    /// A copy of all it holds.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.leaf().lock().bytes.clone()
    }
}

impl Default for BufferChannel {
    fn default() -> Self {
        Self::new()
    }
}

crate::forward_channel!(BufferChannel => |self| &self.0);

#[derive(Debug)]
struct Memory(Mutex<State>);

struct State {
    bytes: Vec<u8>,
    position: usize,
}

/// Without the bytes: they are somebody's data.
impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, position } = self;
        f.debug_struct("State").field("len", &bytes.len()).field("position", position).finish()
    }
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

impl Leaf for Memory {
    fn layer(&self) -> &'static str {
        "buffer"
    }

    fn features(&self) -> Features {
        Features::SEEKABLE | Features::CLOSE_WRITE | Features::HALF_CLOSE
    }

    fn why_not(&self, missing: Features) -> &'static str {
        match missing {
            Features::READ_BUF => "bytes that a seek can reach again are not lent",
            _ => "a buffer is plain memory, like a file",
        }
    }

    fn describe(&self) -> String {
        let state = self.lock();
        format!("buffer {} of {} bytes", state.position, state.bytes.len())
    }

    fn try_read(&self, bufs: &mut [IoSliceMut<'_>], _: Option<&mut Vec<OwnedFd>>, _: ReadFlags) -> Result<usize> {
        let mut state = self.lock();
        let from = state.position.min(state.bytes.len());
        let count = scatter(&state.bytes[from..], bufs);
        state.position += count;
        Ok(count)
    }

    fn try_write(&self, bufs: &[IoSlice<'_>], _: &[BorrowedFd<'_>], _: WriteFlags) -> Result<usize> {
        let mut state = self.lock();
        let State { bytes, position } = &mut *state;
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
        Ok(*position - from)
    }

    fn polled(&self, _: Direction) -> Option<Interest> {
        None
    }

    fn close(&self, _: Instant) -> Result<()> {
        *self.lock() = State { bytes: Vec::new(), position: 0 };
        Ok(())
    }

    fn seek(&self, position: SeekFrom) -> Result<u64> {
        let mut state = self.lock();
        let base = |length: usize, offset: i64| u64::try_from(length).ok()?.checked_add_signed(offset);
        let target = match position {
            SeekFrom::Start(target) => Some(target),
            SeekFrom::End(offset) => base(state.bytes.len(), offset),
            SeekFrom::Current(offset) => base(state.position, offset),
        };
        let Some(target) = target.filter(|target| i64::try_from(*target).is_ok()) else {
            return Err(Error::new(ErrorKind::InvalidInput, "buffer", "the position would be negative or too large"));
        };
        state.position = usize::try_from(target).unwrap_or(usize::MAX);
        Ok(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Channel, ChannelExt};

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
