//! Pipes: one for each direction, or for one alone.

use std::any::Any;
use std::io::{IoSlice, IoSliceMut, SeekFrom};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use channel_core::{
    AioChange, Channel, Direction, Error, ErrorKind, FdHandlers, Features, FromFdError, Interest, Mode, Name,
    ReadFlags, Readiness, Removed, Result, Shutdown, WriteFlags, check_read, check_write, syscall_span,
};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::failure::{access, adopt, io_error, one_way, wrong_type};
use crate::pipe_end::PipeEnd;

/// The ends of pipes that make up a channel: the one to read from, and the one to write to.
pub type PipeFds = (Option<OwnedFd>, Option<OwnedFd>);

/// A channel over pipes or FIFOs: one to read from, one to write to, or only one of them.
///
/// # Blocking
/// It waits in poll(2), never in read(2) or write(2), so [`shutdown`](Channel::shutdown) wakes it. `O_NONBLOCK` stays as it is,
/// because whoever shares the pipe, such as a child at its standard input, would notice. Each attempt carries `RWF_NOWAIT`
/// instead, which pipes know since Linux 6.4. Where the kernel lacks it, and for FIFOs of the file system, poll(2) is asked first;
/// there another process that uses *the same end* at the same moment may take the bytes, or the room, in between, and the call
/// then waits in the kernel until there are others. Writes are at most 4096 bytes (`PIPE_BUF`) each there.
///
/// # SIGPIPE
/// A write to a pipe without readers is [`BrokenPipe`](ErrorKind::BrokenPipe). Since Linux 6.18 (`RWF_NOSIGNAL`) that is all. On older
/// kernels the signal is raised as well unless the process ignores it, as Rust's runtime sets it up; in a process
/// whose `main` is not Rust's, or that restored the signal, ignore `SIGPIPE` before writing to pipes.
#[derive(Debug)]
pub struct PipeChannel {
    name: Name,
    mode: Mode,
    read: Option<PipeEnd>,
    write: Option<PipeEnd>,
    closed: AtomicBool,
    handlers: FdHandlers,
}

impl PipeChannel {
    /// Two channels joined by two pipes.
    ///
    /// # Errors
    /// What pipe2(2) fails with, such as `EMFILE`.
    pub fn pair() -> Result<(Self, Self)> {
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|errno| io_error(errno, "pipe", "pair"));
        let (near_read, far_write) = pipe()?;
        let (far_read, near_write) = pipe()?;
        Ok((Self::over(Some(near_read), Some(near_write)), Self::over(Some(far_read), Some(far_write))))
    }

    /// Adopts pipes, whoever made them: one to read from, one to write to, at least one of the two. They are made
    /// close-on-exec.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for anything but pipes opened in the right direction, saying which channel
    /// is for it; the caller keeps both descriptors.
    pub fn from_fds(read: Option<OwnedFd>, write: Option<OwnedFd>) -> Result<Self, FromFdError<PipeFds>> {
        let examined = match (&read, &write) {
            (None, None) => Err(Error::new(ErrorKind::InvalidInput, "pipe", "neither a pipe to read nor one to write")),
            _ => examine(read.as_ref(), Direction::Read)
                .and_then(|()| examine(write.as_ref(), Direction::Write))
                .and_then(|()| {
                    read.iter().chain(&write).try_for_each(adopt).map_err(|errno| io_error(errno, "pipe", "from_fds"))
                }),
        };
        match examined {
            Ok(()) => Ok(Self::over(read, write)),
            Err(error) => Err(FromFdError::new((read, write), error.during("from_fds"))),
        }
    }

    fn over(read: Option<OwnedFd>, write: Option<OwnedFd>) -> Self {
        Self {
            name: Name::default(),
            mode: Mode::default(),
            read: read.map(|fd| PipeEnd::new(fd, Direction::Read)),
            write: write.map(|fd| PipeEnd::new(fd, Direction::Write)),
            closed: AtomicBool::new(false),
            handlers: FdHandlers::default(),
        }
    }

    /// The end read from, counted: to look at. `None` if there is none, or not any more.
    #[must_use]
    pub fn read_end(&self) -> Option<Arc<OwnedFd>> {
        self.read.as_ref()?.load()
    }

    /// The end written to, counted: to look at. `None` if there is none, or not any more.
    #[must_use]
    pub fn write_end(&self) -> Option<Arc<OwnedFd>> {
        self.write.as_ref()?.load()
    }

    fn open(&self, operation: &'static str) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::closed(self, operation));
        }
        Ok(())
    }

    fn failed(&self, errno: Errno, operation: &'static str) -> Error {
        io_error(errno, "pipe", operation).on(self.name())
    }

    fn try_read(&self, bufs: &mut [IoSliceMut<'_>]) -> Result<usize> {
        self.open("read")?;
        let end = self.read.as_ref().ok_or_else(|| one_way(self, "read"))?;
        let Some(fd) = end.load() else {
            self.open("read")?; // taken by close, not by shutdown
            return Ok(0);
        };
        end.read(&fd, bufs).map_err(|errno| self.failed(errno, "read"))
    }

    fn try_write(&self, bufs: &[IoSlice<'_>]) -> Result<usize> {
        self.open("write")?;
        let end = self.write.as_ref().ok_or_else(|| one_way(self, "write"))?;
        let Some(fd) = end.load() else {
            self.open("write")?;
            return Err(Error::output_ended(self));
        };
        end.write(&fd, bufs).map_err(|errno| self.failed(errno, "write"))
    }

    fn end(&self, direction: Direction) -> Option<&PipeEnd> {
        match direction {
            Direction::Read => self.read.as_ref(),
            Direction::Write => self.write.as_ref(),
        }
    }

    /// Gives one direction up. A handler set for it is due now, since a call says at once that it is over; but it must not
    /// keep the descriptor, or the peer would never see the end.
    fn give_up(&self, direction: Direction) {
        if let Some(end) = self.end(direction) {
            end.end();
            self.handlers.let_go(direction);
        }
    }
}

fn examine(fd: Option<&OwnedFd>, direction: Direction) -> Result<()> {
    let Some(fd) = fd else {
        return Ok(());
    };
    let about = |errno| io_error(errno, "pipe", "from_fds");
    match FileType::from_raw_mode(fstat(fd).map_err(about)?.st_mode) {
        FileType::Fifo => {}
        other => return Err(Error::new(ErrorKind::InvalidInput, "pipe", wrong_type(other))),
    }
    let (readable, writable) = access(fd).map_err(about)?;
    match direction {
        Direction::Read if !readable => Err("the pipe to read from was not opened for reading"),
        Direction::Write if !writable => Err("the pipe to write to was not opened for writing"),
        _ => Ok(()),
    }
    .map_err(|detail| Error::new(ErrorKind::InvalidInput, "pipe", detail))
}

impl Channel for PipeChannel {
    fn layer(&self) -> &'static str {
        "pipe"
    }

    fn name(&self) -> Option<Arc<str>> {
        self.name.load()
    }

    fn set_name(&self, name: &str) {
        self.name.store(name);
    }

    fn features(&self) -> Features {
        let mut features = Features::SHUTDOWN;
        features.set(Features::CLOSE_WRITE | Features::HALF_CLOSE, self.write.is_some());
        features
    }

    fn why_not(&self, feature: Features) -> Option<String> {
        let missing = feature - self.features();
        let why = if missing.is_empty() {
            return None;
        } else if missing.contains(Features::FD_PASS) {
            "a pipe carries bytes only; descriptors need a unix socket"
        } else if missing.intersects(Features::CLOSE_WRITE | Features::HALF_CLOSE) {
            "there is no pipe to write to"
        } else if missing.contains(Features::READ_MSG_PEEK) {
            "reads of a pipe consume"
        } else if missing.contains(Features::SEEKABLE) {
            "a pipe has no position"
        } else if missing.contains(Features::READ_BUF) {
            "a pipe holds its bytes in the kernel and has none to lend"
        } else {
            "a pipe is neither a listener nor a socket"
        };
        Some(why.to_owned())
    }

    fn describe_layer(&self) -> String {
        match (&self.read, &self.write) {
            (Some(_), Some(_)) => "pipe",
            (Some(_), None) => "pipe, read only",
            _ => "pipe, write only",
        }
        .to_owned()
    }

    fn readv_full(
        &self,
        bufs: &mut [IoSliceMut<'_>],
        fds: Option<&mut Vec<OwnedFd>>,
        flags: ReadFlags,
    ) -> Result<usize> {
        check_read(self, fds.is_some(), flags)?;
        let Some(span) = syscall_span(bufs) else {
            return Ok(0);
        };
        let bufs = &mut bufs[span];
        let dont_wait = flags.contains(ReadFlags::DONT_WAIT);
        let read = self.mode.run(self, Direction::Read, dont_wait, || self.try_read(bufs));
        let result = read.map_err(|error| error.during("read"));
        self.handlers.called(&self.mode, Direction::Read, &result);
        result
    }

    fn writev_full(&self, bufs: &[IoSlice<'_>], fds: &[BorrowedFd<'_>], flags: WriteFlags) -> Result<usize> {
        check_write(self, !fds.is_empty(), flags)?;
        let Some(span) = syscall_span(bufs) else {
            return Ok(0);
        };
        let bufs = &bufs[span];
        let dont_wait = flags.contains(WriteFlags::DONT_WAIT);
        let written = self.mode.run(self, Direction::Write, dont_wait, || self.try_write(bufs));
        let result = written.map_err(|error| error.during("write"));
        self.handlers.called(&self.mode, Direction::Write, &result);
        result
    }

    fn flush(&self) -> Result<()> {
        self.open("flush")
    }

    channel_core::mode_methods!(mode, handlers);

    fn take_over(&self) {}

    fn set_delay(&self, _: bool) {}

    fn set_cork(&self, _: bool) {}

    /// Gives the write end up: the peer sees the end when no call of ours uses it any more.
    fn close_write(&self) -> Result<()> {
        self.open("close_write")?;
        if self.write.is_none() {
            return Err(Error::unsupported(self, "close_write", Features::CLOSE_WRITE));
        }
        self.give_up(Direction::Write);
        Ok(())
    }

    /// Gives the ends of those directions up: a peer that writes gets a broken pipe, one that reads the end.
    fn shutdown(&self, how: Shutdown) -> Result<()> {
        if how != Shutdown::Write {
            self.give_up(Direction::Read);
        }
        if how != Shutdown::Read {
            self.give_up(Direction::Write);
        }
        Ok(())
    }

    fn close(&self) -> Result<()> {
        self.closed.store(true, Ordering::Release);
        self.handlers.clear();
        for end in [&self.read, &self.write].into_iter().flatten() {
            end.end();
        }
        Ok(())
    }

    fn close_by(&self, _: Instant) -> Result<()> {
        self.close()
    }

    fn seek(&self, _: SeekFrom) -> Result<u64> {
        Err(Error::unsupported(self, "seek", Features::SEEKABLE))
    }

    fn readiness(&self, direction: Direction) -> Readiness {
        let ready = || Readiness::Ready;
        self.end(direction).map_or_else(ready, |end| self.mode.limited(direction, end.readiness(direction)))
    }

    fn set_aio_fd_handler(&self, read: AioChange, write: AioChange) -> Result<Removed> {
        self.open("set_aio_fd_handler")?;
        let polled = |direction| {
            let fd = self.end(direction)?.load()?;
            Some(Interest { fd, direction })
        };
        self.handlers.change(self.layer(), &self.mode, polled, read, write)
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
