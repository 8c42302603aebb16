//! A leaf of one's own: a unix stream socket that carries bytes alone.
#![forbid(unsafe_code)]

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use channel_core::leaf::{CountedFd, Leaf, LeafChannel};
use channel_core::{Direction, Error, Features, Interest, ReadFlags, Result, Shutdown, WriteFlags, forward_channel};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{self, AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags};
use rustix::net::{SocketFlags, SocketType};

/// One end of a connection.
#[derive(Debug)]
pub struct StreamChannel(LeafChannel<Stream>);

impl StreamChannel {
    /// A connected pair.
    ///
    /// # Errors
    /// What socketpair(2) fails with, such as `EMFILE`.
    pub fn pair() -> Result<(Self, Self)> {
        let (family, flags) = (AddressFamily::UNIX, SocketFlags::CLOEXEC);
        let (near, far) = net::socketpair(family, SocketType::STREAM, flags, None).map_err(failed)?;
        let over = |fd| Self(LeafChannel::new(Stream { fd: CountedFd::new(fd) }));
        Ok((over(near), over(far)))
    }

    /// The socket, to look at; `None` once closed.
    #[must_use]
    pub fn socket(&self) -> Option<Arc<OwnedFd>> {
        self.0.leaf().fd.load()
    }
}

forward_channel!(StreamChannel => |self| &self.0);

#[derive(Debug)]
struct Stream {
    fd: CountedFd,
}

fn failed(errno: Errno) -> Error {
    Error::from_io(errno.into(), "stream")
}

impl Stream {
    /// The socket, for one call; once it is closed, what that comes to is told by the kit.
    fn fd(&self) -> Result<Arc<OwnedFd>> {
        self.fd.load().ok_or_else(|| failed(Errno::BADF))
    }
}

impl Leaf for Stream {
    fn layer(&self) -> &'static str {
        "stream"
    }

    fn features(&self) -> Features {
        Features::CLOSE_WRITE | Features::HALF_CLOSE
    }

    fn why_not(&self, missing: Features) -> &'static str {
        match missing {
            Features::FD_PASS => "this one carries bytes alone",
            _ => "it is a plain stream of bytes",
        }
    }

    fn try_read(&self, bufs: &mut [IoSliceMut<'_>], _: Option<&mut Vec<OwnedFd>>, _: ReadFlags) -> Result<usize> {
        let (fd, mut control) = (self.fd()?, RecvAncillaryBuffer::default());
        let received = retry_on_intr(|| net::recvmsg(&fd, bufs, &mut control, RecvFlags::DONTWAIT));
        received.map(|message| message.bytes).map_err(failed)
    }

    fn try_write(&self, bufs: &[IoSlice<'_>], _: &[BorrowedFd<'_>], _: WriteFlags) -> Result<usize> {
        let (fd, mut control) = (self.fd()?, SendAncillaryBuffer::default());
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        retry_on_intr(|| net::sendmsg(&fd, bufs, &mut control, flags)).map_err(failed)
    }

    fn polled(&self, direction: Direction) -> Option<Interest> {
        self.fd.load().map(|fd| Interest { fd, direction })
    }

    fn end(&self, how: Shutdown) -> Result<()> {
        let Some(fd) = self.fd.load() else { return Ok(()) };
        let how = match how {
            Shutdown::Read => net::Shutdown::Read,
            Shutdown::Write => net::Shutdown::Write,
            Shutdown::Both => net::Shutdown::Both,
        };
        match net::shutdown(&*fd, how) {
            Ok(()) | Err(Errno::NOTCONN) => Ok(()), // the peer is gone, and all is over already
            Err(errno) => Err(failed(errno)),
        }
    }

    fn close(&self, _: Instant) -> Result<()> {
        let ended = self.end(Shutdown::Both);
        drop(self.fd.take());
        ended
    }
}
