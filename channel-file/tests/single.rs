//! Files, and pipes of one direction, keep every promise that one can who stands alone.

use std::fs::{File, OpenOptions};
use std::io::{SeekFrom, Write};
use std::os::fd::OwnedFd;

use channel_core::{Channel, Result};
use channel_file::{FileChannel, PipeChannel};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::pipe::{PipeFlags, pipe_with};

/// A file without a name, at its start.
fn file() -> Result<(FileChannel, ())> {
    let mut file = File::from(memfd_create("file", MemfdFlags::CLOEXEC).map_err(std::io::Error::from)?);
    file.write_all(b"some bytes")?;
    let file = FileChannel::from_file(file)?;
    file.seek(SeekFrom::Start(0))?;
    Ok((file, ()))
}

fn device(path: &str, options: &OpenOptions) -> Result<(FileChannel, ())> {
    Ok((FileChannel::open(path, options)?, ()))
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    Ok(pipe_with(PipeFlags::CLOEXEC).map_err(std::io::Error::from)?)
}

fn read_end() -> Result<(PipeChannel, File)> {
    let (read, write) = pipe()?;
    let mut peer = File::from(write);
    peer.write_all(b"some bytes")?;
    Ok((PipeChannel::from_fds(Some(read), None)?, peer))
}

fn write_end() -> Result<(PipeChannel, OwnedFd)> {
    let (read, write) = pipe()?;
    Ok((PipeChannel::from_fds(None, Some(write))?, read))
}

channel_testkit::conformance_of_one! {
    mod memory_file = file;
    mod read_only_file = || device(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), OpenOptions::new().read(true));
    mod null_device = || device("/dev/null", OpenOptions::new().read(true).write(true));
    mod zeros = || device("/dev/zero", OpenOptions::new().read(true).write(true));
    mod pipe_to_read = read_end;
    mod pipe_to_write = write_end;
    mod pipes = PipeChannel::pair;
}
