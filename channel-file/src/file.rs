//! A file with a position.

use std::fs::{File, OpenOptions};
use std::io::{IoSlice, IoSliceMut, SeekFrom};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use channel_core::leaf::{CountedFd, Leaf, LeafChannel};
use channel_core::{
    Direction, Error, ErrorKind, Features, FromFdError, Interest, ReadFlags, Result, WriteFlags, forward_channel,
};
use rustix::fs::{Dev, FileType, fstat, major, minor, seek, tell};
use rustix::io::{Errno, readv, retry_on_intr, writev};

use crate::failure::{access, adopt, io_error, wrong_type};

/// A regular file, a block device, or a memory device such as `/dev/null`. (QEMU: `QIOChannelFile`.)
///
/// # Position
/// Reads and writes move one position, the open file's own, which duplicates of the descriptor share; a reader and a writer on the
/// same channel share it too. [`seek`](channel_core::Channel::seek) moves it. With `append(true)` every write goes to the end.
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
pub struct FileChannel(LeafChannel<OpenFile>);

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
        Ok(Self::over(fd, access, Some(path)))
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
            Ok(access) => Ok(Self::over(fd, access, None)),
            Err(unfit) => Err(FromFdError::new(fd, unfit.into_error(None).during("from_fd"))),
        }
    }

    fn over(fd: OwnedFd, (readable, writable): (bool, bool), path: Option<&Path>) -> Self {
        Self(LeafChannel::new(OpenFile {
            path: path.map(|path| path.display().to_string()),
            readable,
            writable,
            seekable: tell(&fd).is_ok(),
            fd: CountedFd::new(fd),
        }))
    }

    /// The file itself, counted: to look at, to lock or to sync. `None` once closed.
    #[must_use]
    pub fn file(&self) -> Option<Arc<OwnedFd>> {
        self.0.leaf().fd.load()
    }
}

forward_channel!(FileChannel => |self| &self.0);

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

#[derive(Debug)]
struct OpenFile {
    fd: CountedFd,
    path: Option<String>,
    readable: bool,
    writable: bool,
    seekable: bool,
}

impl OpenFile {
    /// Makes a system call on the file.
    fn call<T>(&self, operation: &'static str, mut call: impl FnMut(&OwnedFd) -> rustix::io::Result<T>) -> Result<T> {
        let fd = self.fd.load().ok_or(Errno::BADF); // closed meanwhile
        fd.and_then(|fd| retry_on_intr(|| call(&fd))).map_err(|errno| io_error(errno, "file", operation))
    }
}

impl Leaf for OpenFile {
    fn layer(&self) -> &'static str {
        "file"
    }

    fn features(&self) -> Features {
        let mut features = Features::empty();
        features.set(Features::SEEKABLE, self.seekable);
        features.set(Features::CLOSE_WRITE | Features::HALF_CLOSE, self.writable);
        features
    }

    fn why_not(&self, missing: Features) -> &'static str {
        match missing {
            Features::FD_PASS => "a file holds bytes only; descriptors need a unix socket",
            Features::CLOSE_WRITE | Features::HALF_CLOSE => "it was opened for reading only",
            Features::READ_MSG_PEEK => "reads of a file move its position; seek back instead",
            Features::SEEKABLE => "this device has no position",
            _ => "a file is not a connection",
        }
    }

    fn describe(&self) -> String {
        self.path.as_ref().map_or_else(|| "file".to_owned(), |path| format!("file {path}"))
    }

    fn carries(&self, direction: Direction) -> bool {
        match direction {
            Direction::Read => self.readable,
            Direction::Write => self.writable,
        }
    }

    fn try_read(&self, bufs: &mut [IoSliceMut<'_>], _: Option<&mut Vec<OwnedFd>>, _: ReadFlags) -> Result<usize> {
        self.call("read", |fd| readv(fd, bufs))
    }

    fn try_write(&self, bufs: &[IoSlice<'_>], _: &[BorrowedFd<'_>], _: WriteFlags) -> Result<usize> {
        self.call("write", |fd| writev(fd, bufs))
    }

    /// A regular file cannot be polled (epoll(7): `EPERM`), and need not be.
    fn polled(&self, _: Direction) -> Option<Interest> {
        None
    }

    fn close(&self, _: Instant) -> Result<()> {
        drop(self.fd.take());
        Ok(())
    }

    fn seek(&self, position: SeekFrom) -> Result<u64> {
        let position = match position {
            SeekFrom::Start(target) => rustix::fs::SeekFrom::Start(target),
            SeekFrom::End(offset) => rustix::fs::SeekFrom::End(offset),
            SeekFrom::Current(offset) => rustix::fs::SeekFrom::Current(offset),
        };
        self.call("seek", |fd| seek(fd, position))
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
