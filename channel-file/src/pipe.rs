//! Pipes: one for each direction, or for one alone.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use channel_core::leaf::{Leaf, LeafChannel};
use channel_core::{
    Direction, Error, ErrorKind, Features, FromFdError, Interest, ReadFlags, Result, Shutdown, WriteFlags,
    forward_channel,
};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::failure::{access, adopt, io_error, wrong_type};
use crate::pipe_end::PipeEnd;

/// The ends of pipes that make up a channel: the one to read from, and the one to write to.
pub type PipeFds = (Option<OwnedFd>, Option<OwnedFd>);

/// A channel over pipes or FIFOs: one to read from, one to write to, or only one of them.
///
/// # Blocking
/// It waits in poll(2), never in read(2) or write(2), so [`shutdown`](channel_core::Channel::shutdown) wakes it. `O_NONBLOCK` stays as it is,
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
pub struct PipeChannel(LeafChannel<Pipes>);

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
        Self(LeafChannel::new(Pipes {
            read: read.map(|fd| PipeEnd::new(fd, Direction::Read)),
            write: write.map(|fd| PipeEnd::new(fd, Direction::Write)),
        }))
    }

    /// The end read from, counted: to look at. `None` if there is none, or not any more.
    #[must_use]
    pub fn read_end(&self) -> Option<Arc<OwnedFd>> {
        self.0.leaf().read.as_ref()?.load()
    }

    /// The end written to, counted: to look at. `None` if there is none, or not any more.
    #[must_use]
    pub fn write_end(&self) -> Option<Arc<OwnedFd>> {
        self.0.leaf().write.as_ref()?.load()
    }
}

forward_channel!(PipeChannel => |self| &self.0);

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

/// An end that was given up keeps nothing open: a peer that writes gets a broken pipe, one that reads the end, once no call of ours uses it.
#[derive(Debug)]
struct Pipes {
    read: Option<PipeEnd>,
    write: Option<PipeEnd>,
}

impl Pipes {
    fn end_of(&self, direction: Direction) -> Option<&PipeEnd> {
        match direction {
            Direction::Read => self.read.as_ref(),
            Direction::Write => self.write.as_ref(),
        }
    }
}

impl Leaf for Pipes {
    fn layer(&self) -> &'static str {
        "pipe"
    }

    fn features(&self) -> Features {
        if self.write.is_some() { Features::CLOSE_WRITE | Features::HALF_CLOSE } else { Features::empty() }
    }

    fn why_not(&self, missing: Features) -> &'static str {
        match missing {
            Features::FD_PASS => "a pipe carries bytes only; descriptors need a unix socket",
            Features::CLOSE_WRITE | Features::HALF_CLOSE => "there is no pipe to write to",
            Features::READ_MSG_PEEK => "reads of a pipe consume",
            Features::SEEKABLE => "a pipe has no position",
            Features::READ_BUF => "a pipe holds its bytes in the kernel and has none to lend",
            _ => "a pipe is neither a listener nor a socket",
        }
    }

    fn describe(&self) -> String {
        match (&self.read, &self.write) {
            (Some(_), Some(_)) => "pipe",
            (Some(_), None) => "pipe, read only",
            _ => "pipe, write only",
        }
        .to_owned()
    }

    fn carries(&self, direction: Direction) -> bool {
        self.end_of(direction).is_some()
    }

    fn try_read(&self, bufs: &mut [IoSliceMut<'_>], _: Option<&mut Vec<OwnedFd>>, _: ReadFlags) -> Result<usize> {
        let given_up = Ok(0);
        let Some(end) = &self.read else { return given_up };
        let Some(fd) = end.load() else { return given_up };
        end.read(&fd, bufs).map_err(|errno| io_error(errno, "pipe", "read"))
    }

    fn try_write(&self, bufs: &[IoSlice<'_>], _: &[BorrowedFd<'_>], _: WriteFlags) -> Result<usize> {
        let given_up = || io_error(Errno::PIPE, "pipe", "write");
        let end = self.write.as_ref().ok_or_else(given_up)?;
        let fd = end.load().ok_or_else(given_up)?;
        end.write(&fd, bufs).map_err(|errno| io_error(errno, "pipe", "write"))
    }

    fn polled(&self, direction: Direction) -> Option<Interest> {
        let fd = self.end_of(direction)?.load()?;
        Some(Interest { fd, direction })
    }

    fn end(&self, how: Shutdown) -> Result<()> {
        if how != Shutdown::Write {
            self.read.iter().for_each(PipeEnd::end);
        }
        if how != Shutdown::Read {
            self.write.iter().for_each(PipeEnd::end);
        }
        Ok(())
    }

    fn close(&self, _: Instant) -> Result<()> {
        self.end(Shutdown::Both)
    }
}
