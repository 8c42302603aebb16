//! The conveniences every channel has.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::blocking::{Within, limit_of};
use crate::{Channel, Direction, Error, ErrorKind, Features, ReadFlags, Result, StdIo, WriteFlags};

/// What every [`Channel`] can do besides: one blanket implementation, so no wrapper can lose any of it.
///
/// The `_all` forms wait when they must, in every mode, and never return would-block [[M3]]; their errors say how many bytes
/// were done ([`Error::bytes_done`]) [[M4]]; a timeout bounds each as a whole [[T1]]. None of them allocates. They are not cancel safe in the sense that bytes done before
/// an error are gone.
#[doc = channel_core::promises!(M3 M4 T1)]
pub trait ChannelExt: Channel {
    /// Whether the channel can do all of `feature`.
    fn has_feature(&self, feature: Features) -> bool {
        self.features().contains(feature)
    }

    /// Reads into `buf`; see [`Channel::readv_full`] for blocking and errors.
    ///
    /// # Errors
    /// As [`Channel::readv_full`].
    fn read(&self, buf: &mut [u8]) -> Result<usize> {
        self.readv(&mut [IoSliceMut::new(buf)])
    }

    /// Reads into several buffers, each filled before the next.
    ///
    /// # Errors
    /// As [`Channel::readv_full`].
    fn readv(&self, bufs: &mut [IoSliceMut<'_>]) -> Result<usize> {
        self.readv_full(bufs, None, ReadFlags::empty())
    }

    /// Writes from `buf`; see [`Channel::writev_full`] for blocking and errors.
    ///
    /// # Errors
    /// As [`Channel::writev_full`].
    fn write(&self, buf: &[u8]) -> Result<usize> {
        self.writev(&[IoSlice::new(buf)])
    }

    /// Writes from several buffers.
    ///
    /// # Errors
    /// As [`Channel::writev_full`].
    fn writev(&self, bufs: &[IoSlice<'_>]) -> Result<usize> {
        self.writev_full(bufs, &[], WriteFlags::empty())
    }

    /// Fills `buf`.
    ///
    /// # Errors
    /// [`UnexpectedEof`](ErrorKind::UnexpectedEof) if the stream ends first.
    fn read_all(&self, buf: &mut [u8]) -> Result<()> {
        self.readv_all(&mut [IoSliceMut::new(buf)])
    }

    /// Fills `buf` and returns `true`, or returns `false` if the stream ended before the first byte.
    ///
    /// # Errors
    /// [`UnexpectedEof`](ErrorKind::UnexpectedEof) if it ends in the middle.
    fn read_all_eof(&self, buf: &mut [u8]) -> Result<bool> {
        self.readv_all_eof(&mut [IoSliceMut::new(buf)])
    }

    /// Fills all of `bufs`, which it uses up.
    ///
    /// # Errors
    /// [`UnexpectedEof`](ErrorKind::UnexpectedEof) if the stream ends first.
    fn readv_all(&self, bufs: &mut [IoSliceMut<'_>]) -> Result<()> {
        self.readv_full_all(bufs, None, ReadFlags::empty())
    }

    /// Fills all of `bufs` and returns `true`, or returns `false` if the stream ended before the first byte.
    ///
    /// # Errors
    /// [`UnexpectedEof`](ErrorKind::UnexpectedEof) if it ends in the middle.
    fn readv_all_eof(&self, bufs: &mut [IoSliceMut<'_>]) -> Result<bool> {
        self.readv_full_all_eof(bufs, None, ReadFlags::empty())
    }

    /// [`readv_all`](Self::readv_all) with descriptors, which are appended to `fds`, and flags.
    ///
    /// # Errors
    /// [`UnexpectedEof`](ErrorKind::UnexpectedEof) if the stream ends first; descriptors received by then are closed.
    fn readv_full_all(
        &self,
        bufs: &mut [IoSliceMut<'_>],
        fds: Option<&mut Vec<OwnedFd>>,
        flags: ReadFlags,
    ) -> Result<()> {
        if self.readv_full_all_eof(bufs, fds, flags)? {
            Ok(())
        } else {
            Err(ended_early(self.layer(), 0).on(self.name()))
        }
    }

    /// [`readv_all_eof`](Self::readv_all_eof) with descriptors, which are appended to `fds`, and flags.
    ///
    /// # Errors
    /// [`UnexpectedEof`](ErrorKind::UnexpectedEof) if the stream ends in the middle; descriptors received by then are closed. Where the error
    /// passes ([`Error::is_passing`]), as that of a time that has passed, they are in `fds`: they belong to the bytes done.
    /// [`InvalidInput`](ErrorKind::InvalidInput) for [`ReadFlags::MSG_PEEK`].
    fn readv_full_all_eof(
        &self,
        bufs: &mut [IoSliceMut<'_>],
        fds: Option<&mut Vec<OwnedFd>>,
        flags: ReadFlags,
    ) -> Result<bool> {
        if flags.contains(ReadFlags::MSG_PEEK) {
            let detail = "a peek consumes nothing, so it cannot go on where it stopped";
            return Err(Error::new(ErrorKind::InvalidInput, self.layer(), detail).during("read").on(self.name()));
        }
        let limit = limit_of(self, Direction::Read);
        let _within = Within::begin(Direction::Read, limit);
        let mut unused = Vec::new();
        let wants_fds = fds.is_some();
        let fds = fds.unwrap_or(&mut unused);
        let had = fds.len();
        let mut done = 0;
        let mut rest = bufs;
        skip_mut(&mut rest, 0);
        while !rest.is_empty() {
            let mut read = self.readv_full(rest, wants_fds.then_some(&mut *fds), flags);
            if matches!(&read, Err(error) if error.is_would_block()) {
                match self.readiness(Direction::Read).block(limit) {
                    Ok(true) => continue,
                    Ok(false) => read = Err(Error::timed_out(Direction::Read, self).during("read")),
                    Err(error) => read = Err(error),
                }
            }
            match read {
                Ok(0) if done == 0 => return Ok(false),
                Ok(0) => {
                    fds.truncate(had);
                    return Err(ended_early(self.layer(), done).on(self.name()));
                }
                Ok(count) if matches!(rest, [last] if last.len() == count) => return Ok(true), // nearly always
                Ok(count) => {
                    done += count;
                    skip_mut(&mut rest, count);
                }
                Err(error) => {
                    if !error.is_passing() {
                        fds.truncate(had); // else the caller goes on behind `done`, and has those that came with it
                    }
                    return Err(error.with_bytes_done(done));
                }
            }
        }
        Ok(true)
    }

    /// Writes all of `buf`. Corked output may still be held when it returns; `flush` promises that it has gone.
    ///
    /// # Errors
    /// As [`Channel::writev_full`], never would-block.
    fn write_all(&self, buf: &[u8]) -> Result<()> {
        self.writev_all(&mut [IoSlice::new(buf)])
    }

    /// Writes all of `bufs`, which it uses up.
    ///
    /// # Errors
    /// As [`Channel::writev_full`], never would-block.
    fn writev_all(&self, bufs: &mut [IoSlice<'_>]) -> Result<()> {
        self.writev_full_all(bufs, &[], WriteFlags::empty())
    }

    /// [`writev_all`](Self::writev_all) with descriptors, which go with the first byte, and flags.
    ///
    /// # Errors
    /// As [`Channel::writev_full`], never would-block; [`InvalidInput`](ErrorKind::InvalidInput) for descriptors without a byte
    /// to carry them.
    fn writev_full_all(&self, bufs: &mut [IoSlice<'_>], fds: &[BorrowedFd<'_>], flags: WriteFlags) -> Result<()> {
        let mut rest = bufs;
        skip(&mut rest, 0);
        if rest.is_empty() && !fds.is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                self.layer(),
                "descriptors travel with data; send at least one byte with them",
            )
            .during("write")
            .on(self.name()));
        }
        let limit = limit_of(self, Direction::Write);
        let _within = Within::begin(Direction::Write, limit);
        let mut fds = fds;
        let mut done = 0;
        while !rest.is_empty() {
            match self.writev_full(rest, fds, flags) {
                Ok(0) => {
                    let detail = "a write of a non-empty buffer took nothing";
                    return Err(Error::new(ErrorKind::Internal, self.layer(), detail).with_bytes_done(done));
                }
                Ok(count) if matches!(rest, [last] if last.len() == count) => return Ok(()), // nearly always
                Ok(count) => {
                    done += count;
                    fds = &[];
                    skip(&mut rest, count);
                }
                Err(error) if error.is_would_block() => match self.readiness(Direction::Write).block(limit) {
                    Ok(true) => {}
                    Ok(false) => {
                        let error = Error::timed_out(Direction::Write, self).during("write");
                        return Err(error.with_bytes_done(done));
                    }
                    Err(error) => return Err(error.with_bytes_done(done)),
                },
                Err(error) => return Err(error.with_bytes_done(done)),
            }
        }
        Ok(())
    }

    /// Waits until `direction` can make progress, or `timeout` passes; with `None`, as long as it takes. Says whether it can: a limit of the
    /// channel's own that passes counts, for the next call says so; in non-blocking mode its read or write timeout is one.
    ///
    /// Blocks this thread alone and needs no event loop; honest about bytes held in layers. It may return early: the call that
    /// follows then says would-block and the next wait is longer. So it is no limit for a call in blocking mode, which may sleep on half a
    /// record for example: [`set_read_timeout`](Channel::set_read_timeout) is. (QEMU: `qio_channel_wait`, which has no timeout.)
    ///
    /// # Errors
    /// Only what poll(2) fails with.
    fn wait(&self, direction: Direction, timeout: Option<Duration>) -> Result<bool> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        self.readiness(direction).block(deadline)
    }

    /// This channel as `io::Read` and `io::Write`.
    fn std_io(&self) -> StdIo<'_, Self> {
        StdIo::new(self)
    }
}

impl<C: Channel + ?Sized> ChannelExt for C {}

fn ended_early(layer: &'static str, done: usize) -> Error {
    Error::new(ErrorKind::UnexpectedEof, layer, "the stream ended before all data was read")
        .during("read")
        .with_bytes_done(done)
}

/// Skips `count` bytes and all buffers without room, so that an empty list means that nothing is left to do.
fn skip_mut<'a, 'b>(bufs: &mut &'a mut [IoSliceMut<'b>], count: usize) {
    if count > 0 {
        IoSliceMut::advance_slices(bufs, count);
    }
    while bufs.first().is_some_and(|buf| buf.is_empty()) {
        let rest = std::mem::take(bufs);
        *bufs = &mut rest[1..];
    }
}

/// As [`skip_mut`], for output.
fn skip<'a, 'b>(bufs: &mut &'a mut [IoSlice<'b>], count: usize) {
    if count > 0 {
        IoSlice::advance_slices(bufs, count);
    }
    while bufs.first().is_some_and(|buf| buf.is_empty()) {
        let rest = std::mem::take(bufs);
        *bufs = &mut rest[1..];
    }
}
