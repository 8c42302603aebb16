//! A file with a position.

use std::any::Any;
use std::fs::{File, OpenOptions};
use std::io::{IoSlice, IoSliceMut, SeekFrom};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use channel_core::{
    AioChange, Channel, CountedFd, Direction, Error, ErrorKind, FdHandlers, Features, FromFdError, Mode, Name,
    ReadFlags, Readiness, Removed, Result, Shutdown, WriteFlags, check_read, check_write, syscall_span,
};
use rustix::fs::{Dev, FileType, fstat, major, minor, seek, tell};
use rustix::io::{Errno, readv, retry_on_intr, writev};

use crate::failure::{access, adopt, io_error, one_way, wrong_type};

/// A regular file, a block device, or a memory device such as `/dev/null`. (QEMU: `QIOChannelFile`.)
///
/// # Position
/// Reads and writes move one position, the open file's own, which duplicates of the descriptor share; a reader and a writer on the
/// same channel share it too. [`seek`](Channel::seek) moves it. With `append(true)` every write goes to the end.
///
/// # The end
/// A read at the end of the file is 0. It is the end of what there is now: after a seek, or when the file grew, reads give
/// bytes again.
///
/// # Blocking
/// A file is always ready; waiting for the disk does not count, and modes and `DONT_WAIT` make no difference.
///
/// # What a write promises
/// The kernel has the bytes, and other readers of the file see them. Use fdatasync(2) on [`file`](Self::file) where they must
/// survive a loss of power; that also tells of errors which a network file system would only report on closing.
#[derive(Debug)]
pub struct FileChannel {
    name: Name,
    mode: Mode,
    fd: CountedFd,
    path: Option<String>,
    readable: bool,
    writable: bool,
    seekable: bool,
    read_ended: AtomicBool,
    write_ended: AtomicBool,
    handlers: FdHandlers,
}

/// The major number of the memory devices (Linux' `Documentation/admin-guide/devices.txt`).
const MEMORY_DEVICES: u32 = 1;

/// Those of them that are a stream and never make their users wait: `null`, `zero`, `full` and `urandom`. Of the others,
/// `/dev/random` and `/dev/kmsg` wait, and `/dev/mem` and `/dev/port` are no stream.
const STREAMS: [u32; 4] = [3, 5, 7, 9];

impl FileChannel {
    /// Opens the file at `path`, close-on-exec.
    ///
    /// ```
    /// use std::fs::OpenOptions;
    /// use channel_file::FileChannel;
    ///
    /// let null = FileChannel::open("/dev/null", OpenOptions::new().read(true).write(true))?;
    /// # Ok::<(), channel_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// What open(2) fails with, naming the path; [`InvalidInput`](ErrorKind::InvalidInput) for a pipe, a socket, a terminal or
    /// a directory, saying which channel is for it.
    pub fn open(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self> {
        let path = path.as_ref();
        let about = |unfit: Unfit| unfit.into_error(Some(path)).during("open");
        // Before opening, because opening a FIFO waits for its other end (fifo(7)), and a socket cannot be opened (unix(7)).
        if let Ok(found) = std::fs::metadata(path) {
            let found = FileType::from_raw_mode(found.mode());
            if matches!(found, FileType::Fifo | FileType::Socket) {
                return Err(about(Unfit::Type(wrong_type(found))));
            }
        }
        let fd = options.open(path).map_err(|error| about(Unfit::Os(error)))?.into();
        let access = examine(&fd).map_err(about)?;
        Ok(Self { path: Some(path.display().to_string()), ..Self::over(fd, access) })
    }

    /// A channel over an open file.
    ///
    /// # Errors
    /// As [`from_fd`](Self::from_fd).
    pub fn from_file(file: File) -> Result<Self, FromFdError> {
        Self::from_fd(file.into())
    }

    /// Adopts a descriptor, and makes it close-on-exec. (QEMU: `qio_channel_file_new_fd`.)
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a pipe, a socket, a terminal or a directory, saying which channel is for it;
    /// the caller keeps the descriptor.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, FromFdError> {
        match examine(&fd) {
            Ok(access) => Ok(Self::over(fd, access)),
            Err(unfit) => Err(FromFdError::new(fd, unfit.into_error(None).during("from_fd"))),
        }
    }

    fn over(fd: OwnedFd, (readable, writable): (bool, bool)) -> Self {
        Self {
            name: Name::default(),
            mode: Mode::default(),
            path: None,
            readable,
            writable,
            seekable: tell(&fd).is_ok(),
            fd: CountedFd::new(fd),
            read_ended: AtomicBool::new(false),
            write_ended: AtomicBool::new(false),
            handlers: FdHandlers::default(),
        }
    }

    /// The file itself, counted: to look at, to lock or to sync. `None` once closed.
    #[must_use]
    pub fn file(&self) -> Option<Arc<OwnedFd>> {
        self.fd.load()
    }

    fn opened(&self, operation: &'static str) -> Result<Arc<OwnedFd>> {
        self.fd.load().ok_or_else(|| Error::closed(self, operation))
    }

    fn failed(&self, errno: Errno, operation: &'static str) -> Error {
        io_error(errno, "file", operation).on(self.name())
    }
}

fn is_stream(device: Dev) -> bool {
    major(device) == MEMORY_DEVICES && STREAMS.contains(&minor(device))
}

/// Why a file cannot be a channel.
enum Unfit {
    Type(&'static str),
    Os(std::io::Error),
}

impl Unfit {
    /// The error that says so once, with the path if there is one.
    fn into_error(self, path: Option<&Path>) -> Error {
        let path = path.map(|path| path.display().to_string());
        match self {
            Self::Type(why) => {
                let detail = path.map_or_else(|| why.to_owned(), |path| format!("{path}: {why}"));
                Error::new(ErrorKind::InvalidInput, "file", detail)
            }
            Self::Os(cause) => {
                let kind = Error::from_io(cause.kind().into(), "file").kind();
                Error::new(kind, "file", path.unwrap_or_default()).with_source(cause)
            }
        }
    }
}

/// Makes `fd` close-on-exec and tells whether it was opened for reading, and whether for writing, if it is for this channel.
fn examine(fd: &OwnedFd) -> Result<(bool, bool), Unfit> {
    let about = |errno: Errno| Unfit::Os(errno.into());
    let found = fstat(fd).map_err(about)?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile | FileType::BlockDevice => {}
        FileType::CharacterDevice if is_stream(found.st_rdev) => {}
        other => return Err(Unfit::Type(wrong_type(other))),
    }
    let access = access(fd).map_err(about)?;
    if access == (false, false) {
        return Err(Unfit::Type("it was opened neither for reading nor for writing"));
    }
    adopt(fd).map_err(about)?;
    Ok(access)
}

impl Channel for FileChannel {
    fn layer(&self) -> &'static str {
        "file"
    }

    fn name(&self) -> Option<Arc<str>> {
        self.name.load()
    }

    fn set_name(&self, name: &str) {
        self.name.store(name);
    }

    fn features(&self) -> Features {
        let mut features = Features::SHUTDOWN;
        features.set(Features::SEEKABLE, self.seekable);
        features.set(Features::CLOSE_WRITE | Features::HALF_CLOSE, self.writable);
        features
    }

    fn why_not(&self, feature: Features) -> Option<String> {
        let missing = feature - self.features();
        let why = if missing.is_empty() {
            return None;
        } else if missing.contains(Features::FD_PASS) {
            "a file holds bytes only; descriptors need a unix socket"
        } else if missing.intersects(Features::CLOSE_WRITE | Features::HALF_CLOSE) {
            "it was opened for reading only"
        } else if missing.contains(Features::READ_MSG_PEEK) {
            "reads of a file move its position; seek back instead"
        } else if missing.contains(Features::SEEKABLE) {
            "this device has no position"
        } else {
            "a file is not a connection"
        };
        Some(why.to_owned())
    }

    fn describe_layer(&self) -> String {
        self.path.as_ref().map_or_else(|| "file".to_owned(), |path| format!("file {path}"))
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
        let fd = self.opened("read")?;
        if !self.readable {
            return Err(one_way(self, "read"));
        }
        if self.read_ended.load(Ordering::Acquire) {
            return Ok(0);
        }
        let count =
            retry_on_intr(|| readv(&fd, &mut bufs[span.clone()])).map_err(|errno| self.failed(errno, "read"))?;
        if count > 0 {
            self.handlers.schedule(Direction::Read); // the end is told once: a loop would come back to it for ever
        }
        Ok(count)
    }

    fn writev_full(&self, bufs: &[IoSlice<'_>], fds: &[BorrowedFd<'_>], flags: WriteFlags) -> Result<usize> {
        check_write(self, !fds.is_empty(), flags)?;
        let Some(span) = syscall_span(bufs) else {
            return Ok(0);
        };
        let fd = self.opened("write")?;
        if !self.writable {
            return Err(one_way(self, "write"));
        }
        if self.write_ended.load(Ordering::Acquire) {
            return Err(Error::output_ended(self));
        }
        let count = retry_on_intr(|| writev(&fd, &bufs[span.clone()])).map_err(|errno| self.failed(errno, "write"))?;
        if count == 0 {
            let detail = "the file took no bytes and gave no reason";
            return Err(Error::new(ErrorKind::Io(std::io::ErrorKind::WriteZero), "file", detail).during("write"));
        }
        self.handlers.schedule(Direction::Write);
        Ok(count)
    }

    /// Nothing is held here; see the type for what reaches the disk.
    fn flush(&self) -> Result<()> {
        self.opened("flush").map(drop)
    }

    channel_core::mode_methods!(mode, handlers);

    fn take_over(&self) {}

    fn set_delay(&self, _: bool) {}

    fn set_cork(&self, _: bool) {}

    fn close_write(&self) -> Result<()> {
        self.opened("close_write")?;
        if !self.writable {
            return Err(Error::unsupported(self, "close_write", Features::CLOSE_WRITE));
        }
        self.write_ended.store(true, Ordering::Release);
        Ok(())
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        if how != Shutdown::Write {
            self.read_ended.store(true, Ordering::Release);
        }
        if how != Shutdown::Read {
            self.write_ended.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn close(&self) -> Result<()> {
        self.handlers.clear();
        drop(self.fd.take());
        Ok(())
    }

    fn close_by(&self, _: Instant) -> Result<()> {
        self.close()
    }

    fn seek(&self, position: SeekFrom) -> Result<u64> {
        let fd = self.opened("seek")?;
        if !self.seekable {
            return Err(Error::unsupported(self, "seek", Features::SEEKABLE));
        }
        let position = match position {
            SeekFrom::Start(target) => rustix::fs::SeekFrom::Start(target),
            SeekFrom::End(offset) => rustix::fs::SeekFrom::End(offset),
            SeekFrom::Current(offset) => rustix::fs::SeekFrom::Current(offset),
        };
        seek(&fd, position).map_err(|errno| self.failed(errno, "seek"))
    }

    fn readiness(&self, _: Direction) -> Readiness {
        Readiness::Ready
    }

    /// A regular file cannot be polled (epoll(7): `EPERM`): a handler is due at once, and again after each call.
    fn set_aio_fd_handler(&self, read: AioChange, write: AioChange) -> Result<Removed> {
        self.opened("set_aio_fd_handler")?;
        self.handlers.change(self.layer(), &self.mode, |_| None, read, write)
    }

    fn handshake(&self) -> Result<()> {
        self.opened("handshake").map(drop)
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
    use rustix::fs::makedev;

    use super::*;

    #[test]
    fn of_devices_only_those_of_memory_are_streams() {
        for minor in STREAMS {
            assert!(is_stream(makedev(MEMORY_DEVICES, minor)));
            assert!(!is_stream(makedev(4, minor)), "a terminal");
        }
        assert!(!is_stream(makedev(MEMORY_DEVICES, 1)), "/dev/mem");
    }
}
