//! One end of a pipe, used without waiting in the kernel and without `O_NONBLOCK`.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use channel_core::Direction;
use channel_core::leaf::CountedFd;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ReadWriteFlags, preadv2, pwritev2, read, readv, retry_on_intr, write};

/// What a pipe takes or gives for certain once poll(2) said so (`PIPE_BUF`, pipe(7)).
const CERTAIN: usize = 4096;

/// The position that stands for "none" in preadv2(2): as read(2).
const NO_POSITION: u64 = u64::MAX;

/// `RWF_NOSIGNAL` of Linux 6.18, which rustix does not name yet: a write to a pipe without readers is `EPIPE` alone.
const NOSIGNAL: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x100);

/// The end of a pipe for one direction.
#[derive(Debug)]
pub(crate) struct PipeEnd {
    fd: CountedFd,
    /// Index into [`WAYS`]: the best one not known to fail.
    way: AtomicU8,
}

/// What to ask of the kernel, best first. Pipes know `RWF_NOWAIT` since Linux 6.4, FIFOs of the file system do not; an unknown or
/// unsupported flag is `EOPNOTSUPP` before anything was done. Without it, poll(2) is asked first.
const WAYS: [ReadWriteFlags; 4] =
    [ReadWriteFlags::NOWAIT.union(NOSIGNAL), ReadWriteFlags::NOWAIT, NOSIGNAL, ReadWriteFlags::empty()];

impl PipeEnd {
    pub(crate) fn new(fd: OwnedFd, direction: Direction) -> Self {
        // Reading sends no signals.
        let way = if direction == Direction::Read { 1 } else { 0 };
        Self { fd: CountedFd::new(fd), way: AtomicU8::new(way) }
    }

    /// The descriptor; `None` once ended.
    pub(crate) fn load(&self) -> Option<Arc<OwnedFd>> {
        self.fd.load()
    }

    /// Gives it up. The descriptor goes with the last call that uses it.
    pub(crate) fn end(&self) {
        drop(self.fd.take());
    }

    /// One attempt; [`Errno::AGAIN`] where it would have to wait.
    pub(crate) fn read(&self, fd: &OwnedFd, bufs: &mut [IoSliceMut<'_>]) -> rustix::io::Result<usize> {
        self.in_the_best_way(|flags| {
            if flags.contains(ReadWriteFlags::NOWAIT) {
                return preadv2(fd, bufs, NO_POSITION, flags);
            }
            ask(fd.as_fd(), PollFlags::IN)?;
            match bufs {
                [buf] => read(fd, &mut **buf),
                _ => readv(fd, bufs),
            }
        })
    }

    /// One attempt; [`Errno::AGAIN`] where it would have to wait.
    pub(crate) fn write(&self, fd: &OwnedFd, bufs: &[IoSlice<'_>]) -> rustix::io::Result<usize> {
        self.in_the_best_way(|flags| {
            if flags.contains(ReadWriteFlags::NOWAIT) {
                return pwritev2(fd, bufs, NO_POSITION, flags);
            }
            ask(fd.as_fd(), PollFlags::OUT)?;
            let first: &[u8] = bufs.first().map_or(&[], |buf| buf);
            let first = &first[..first.len().min(CERTAIN)];
            if flags.is_empty() {
                return write(fd, first);
            }
            pwritev2(fd, &[IoSlice::new(first)], NO_POSITION, flags)
        })
    }

    fn in_the_best_way(
        &self,
        mut attempt: impl FnMut(ReadWriteFlags) -> rustix::io::Result<usize>,
    ) -> rustix::io::Result<usize> {
        loop {
            let way = self.way.load(Ordering::Relaxed);
            let flags = WAYS.get(usize::from(way)).copied().unwrap_or(ReadWriteFlags::empty());
            match retry_on_intr(|| attempt(flags)) {
                Err(Errno::OPNOTSUPP) if !flags.is_empty() => self.way.store(way + 1, Ordering::Relaxed),
                done => return done,
            }
        }
    }
}

/// Whether a read or a small write would go through at once. An end or an error counts: the call then tells it.
fn ask(fd: BorrowedFd<'_>, events: PollFlags) -> rustix::io::Result<()> {
    let mut entry = [PollFd::from_borrowed_fd(fd, events)];
    match poll(&mut entry, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? {
        0 => Err(Errno::AGAIN),
        // No reader is left: say so here, before a write would send SIGPIPE.
        _ if events == PollFlags::OUT && entry[0].revents().contains(PollFlags::ERR) => Err(Errno::PIPE),
        _ => Ok(()),
    }
}
