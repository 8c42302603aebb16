//! A connected socket.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use channel_core::leaf::{CountedFd, Leaf, LeafChannel};
use channel_core::{
    Direction, Error, ErrorKind, Features, Interest, Limits, ReadFlags, Result, Shutdown, WriteFlags, forward_channel,
};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, sockopt};
use rustix::net::{recv, recvmsg, send, sendmsg};

use crate::SocketAddress;
use crate::connect::io_error;
use crate::descriptors::{self, Received};
use crate::failure::Failure;

/// A connected TCP or unix stream socket. (QEMU: `QIOChannelSocket`.)
///
/// Unix sockets pass descriptors ([`Features::FD_PASS`]).
///
/// # Blocking
/// System calls carry `MSG_DONTWAIT` and `MSG_NOSIGNAL`; in blocking mode the channel waits in poll(2). A read or write tries
/// first, so one that need not wait is one system call; but a read behind reads that found nothing polls first, as that of a client does
/// which waits for answers.
///
/// # Close and drop
/// [`close`](channel_core::Channel::close) shuts the connection down, which other holders of the same open socket notice; dropping closes
/// our descriptor alone. What the kernel has taken it still sends, unless the connection is reset. That is what the kernel
/// does to a TCP socket that is let go with input unread, and then our unsent bytes are gone (RFC 2525 §2.17); the peer of a
/// unix socket gets them, but an error in place of the end.
///
/// So `close` throws away what has arrived by then, up to 1 MiB, and a peer that has already said goodbye costs nothing.
/// Bytes that arrive later still reset a TCP connection (RFC 1122 §4.2.2.13), and dropping throws nothing away. Where the peer
/// must get everything, call [`close_write`](channel_core::Channel::close_write) and read to the end before `close`. Through layers the end of the
/// top one will do: closing that waits for the ends below [[S3]].
#[doc = channel_core::promises!(S3)]
#[derive(Debug)]
pub struct SocketChannel(LeafChannel<Socket>);

impl SocketChannel {
    /// The socket `fd`, known to be connected, of `family`.
    pub(crate) fn over(
        fd: OwnedFd,
        family: AddressFamily,
        local_of: impl FnOnce(&OwnedFd) -> Option<SocketAddress>,
        peer: Option<SocketAddress>,
        limits: &Limits,
    ) -> Self {
        let socket = Socket {
            local: local_of(&fd),
            peer,
            fd: CountedFd::new(fd),
            unix: family == AddressFamily::UNIX,
            corked: Mutex::new(false),
            received: Received::keeping(limits.kept_descriptors),
            failure: Failure::default(),
        };
        Self(LeafChannel::new(socket))
    }

    /// Our address, as it was when the channel was made.
    #[must_use]
    pub fn local_address(&self) -> Option<&SocketAddress> {
        self.0.leaf().local.as_ref()
    }

    /// The peer's address, as it was when the channel was made.
    #[must_use]
    pub fn peer_address(&self) -> Option<&SocketAddress> {
        self.0.leaf().peer.as_ref()
    }

    /// The socket itself, counted: to set options or to look, not to read or write. `None` once closed.
    #[must_use]
    pub fn socket(&self) -> Option<Arc<OwnedFd>> {
        self.0.leaf().fd.load()
    }
}

forward_channel!(SocketChannel => |self| &self.0);

#[derive(Debug)]
struct Socket {
    fd: CountedFd,
    unix: bool,
    local: Option<SocketAddress>,
    peer: Option<SocketAddress>,
    /// Whether `TCP_CORK` is set; held while it is changed, so that a flush cannot cork again what was just uncorked.
    corked: Mutex<bool>,
    received: Received,
    failure: Failure,
}

impl Socket {
    fn failed(&self, errno: Errno, operation: &'static str) -> Error {
        if errno == Errno::AGAIN {
            return Error::WOULD_BLOCK;
        }
        let error = io_error(errno, operation, "");
        self.failure.note(errno, &error);
        error
    }

    /// Peeks at a unix socket. An urgent byte in front of the next ones makes poll(2) say readable, and a peek would-block, for ever; a
    /// read throws it away (`manage_oob` in the kernel's `af_unix.c`), for it is no part of the stream, and so does this.
    fn peek(&self, fd: BorrowedFd<'_>, bufs: &mut [IoSliceMut<'_>]) -> rustix::io::Result<usize> {
        match receive(fd, bufs, true) {
            Err(Errno::AGAIN) => {
                self.received.receive(fd, &mut [], None, false)?; // where nothing is there at all, this says so
                receive(fd, bufs, true)
            }
            done => done,
        }
    }

    fn check_lost(&self) -> Result<()> {
        self.received.lost().map_or(Ok(()), |lost| Err(lost.clone()))
    }
}

impl Leaf for Socket {
    fn layer(&self) -> &'static str {
        "socket"
    }

    fn features(&self) -> Features {
        let every = Features::CLOSE_WRITE | Features::HALF_CLOSE | Features::READ_MSG_PEEK;
        if self.unix { every | Features::FD_PASS } else { every }
    }

    fn why_not(&self, missing: Features) -> &'static str {
        match missing {
            Features::FD_PASS => "TCP carries bytes only; descriptors need a unix socket",
            Features::SEEKABLE => "a stream has no position",
            Features::READ_BUF => "a socket holds its bytes in the kernel and has none to lend",
            Features::LISTEN => "a connected socket does not listen; SocketListener does",
            _ => "zero-copy sends (MSG_ZEROCOPY) are not built yet",
        }
    }

    fn describe(&self) -> String {
        let line = |address: &Option<SocketAddress>| match address {
            Some(address) => address.to_string().trim_start_matches("unix:").to_owned(),
            None => "?".to_owned(),
        };
        let (local, peer) = (line(&self.local), line(&self.peer));
        let mut line = match &self.peer {
            _ if !self.unix => format!("tcp {local} -> {peer}"),
            Some(SocketAddress::Unix(_) | SocketAddress::UnixAbstract(_)) => format!("unix -> {peer}"),
            _ => format!("unix {local}"),
        };
        match self.received.refused() {
            0 => {}
            1 => line += ", 1 message brought descriptors or credentials that nobody takes",
            many => line += &format!(", {many} messages brought descriptors or credentials that nobody takes"),
        }
        line
    }

    fn try_read(&self, bufs: &mut [IoSliceMut<'_>], fds: Option<&mut Vec<OwnedFd>>, flags: ReadFlags) -> Result<usize> {
        let Some(fd) = self.fd.load() else { return Ok(0) };
        self.check_lost()?;
        let peek = flags.contains(ReadFlags::MSG_PEEK);
        let count = if self.unix && !peek {
            let preserve = flags.contains(ReadFlags::PRESERVE_BLOCKING);
            self.received.receive(fd.as_fd(), bufs, fds, preserve)
        } else if self.unix {
            self.peek(fd.as_fd(), bufs)
        } else {
            receive(fd.as_fd(), bufs, peek)
        };
        self.check_lost()?;
        match count {
            Ok(0) => self.failure.check_end().map(|()| 0),
            Ok(count) => Ok(count),
            Err(errno) => Err(self.failed(errno, "read")),
        }
    }

    fn try_write(&self, bufs: &[IoSlice<'_>], fds: &[BorrowedFd<'_>], _: WriteFlags) -> Result<usize> {
        if fds.len() > descriptors::MOST {
            let detail = format!("{} descriptors in one write; the kernel takes {}", fds.len(), descriptors::MOST);
            return Err(Error::new(ErrorKind::InvalidInput, "socket", detail));
        }
        let Some(fd) = self.fd.load() else { return Err(self.failed(Errno::BADF, "write")) };
        self.failure.sending(|| {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let sent = match bufs {
                _ if !fds.is_empty() => descriptors::send(fd.as_fd(), bufs, fds, flags),
                [buf] => retry_on_intr(|| send(&fd, buf, flags)),
                _ => retry_on_intr(|| sendmsg(&fd, bufs, &mut SendAncillaryBuffer::default(), flags)),
            };
            sent.map_err(|errno| self.failed(errno, "write"))
        })
    }

    fn polled(&self, direction: Direction) -> Option<Interest> {
        if direction == Direction::Read && self.received.lost().is_some() {
            return None;
        }
        self.fd.load().map(|fd| Interest { fd, direction })
    }

    /// poll(2) does not tell the writers of a unix socket that their own side was shut down: `unix_poll` looks at the receiving side only.
    fn shows_end(&self, direction: Direction) -> bool {
        !self.unix || direction == Direction::Read
    }

    fn end(&self, how: Shutdown) -> Result<()> {
        let Some(fd) = self.fd.load() else { return Ok(()) };
        let how = match how {
            Shutdown::Read => rustix::net::Shutdown::Read,
            Shutdown::Write => rustix::net::Shutdown::Write,
            Shutdown::Both => rustix::net::Shutdown::Both,
        };
        match rustix::net::shutdown(&*fd, how) {
            // A connection that is gone has ended both directions and woken everybody.
            Ok(()) | Err(Errno::NOTCONN) => Ok(()),
            Err(errno) => Err(self.failed(errno, "shutdown")),
        }
    }

    /// Tells what the kernel knows to be lost.
    fn end_output(&self) -> Result<()> {
        let Some(fd) = self.fd.load() else { return Ok(()) };
        match rustix::net::shutdown(&*fd, rustix::net::Shutdown::Write) {
            // The connection is gone; why is in the error the socket holds, and what that is told here is told nowhere else.
            Err(Errno::NOTCONN) => match sockopt::socket_error(&*fd) {
                // `EPIPE`: the peer had ended its output and left, as conversations end.
                Ok(Err(errno)) if errno != Errno::PIPE => Err(self.failed(errno, "close_write")),
                _ => self.failure.check(),
            },
            Err(errno) => Err(self.failed(errno, "close_write")),
            Ok(()) => Ok(()),
        }
    }

    fn close(&self, _: Instant) -> Result<()> {
        if let Some(fd) = self.fd.take() {
            discard_input(&fd);
            // Wakes a blocked reader; a connection that is gone has woken it.
            let _ = rustix::net::shutdown(&*fd, rustix::net::Shutdown::Both);
        }
        self.received.clear();
        Ok(())
    }

    /// Only a corked TCP socket holds anything back, at most a segment; it is sent and the cork stays.
    fn flush(&self) -> Result<()> {
        self.failure.check()?;
        if let (false, Some(fd)) = (self.unix, self.fd.load()) {
            let corked = self.corked.lock().unwrap_or_else(PoisonError::into_inner);
            if *corked {
                let push = sockopt::set_tcp_cork(&fd, false).and_then(|()| sockopt::set_tcp_cork(&fd, true));
                push.map_err(|errno| self.failed(errno, "flush"))?;
            }
        }
        Ok(())
    }

    fn set_delay(&self, delay: bool) {
        if let (false, Some(fd)) = (self.unix, self.fd.load()) {
            let _ = sockopt::set_tcp_nodelay(&fd, !delay); // a hint \[C3\]
        }
    }

    fn set_cork(&self, cork: bool) {
        if let (false, Some(fd)) = (self.unix, self.fd.load()) {
            let mut corked = self.corked.lock().unwrap_or_else(PoisonError::into_inner);
            if sockopt::set_tcp_cork(&fd, cork).is_ok() {
                *corked = cork;
            }
        }
    }

    fn take_over(&self) {
        self.received.take_none();
    }
}

/// Without control buffer: for TCP, and for peeking, which must not take descriptors.
fn receive(fd: BorrowedFd<'_>, bufs: &mut [IoSliceMut<'_>], peek: bool) -> rustix::io::Result<usize> {
    let flags = if peek { RecvFlags::DONTWAIT | RecvFlags::PEEK } else { RecvFlags::DONTWAIT };
    match bufs {
        [buf] => retry_on_intr(|| recv(fd, &mut **buf, flags)).map(|(count, _)| count),
        _ => {
            retry_on_intr(|| recvmsg(fd, bufs, &mut RecvAncillaryBuffer::default(), flags)).map(|message| message.bytes)
        }
    }
}

/// Throws away what has arrived, without waiting, so that the kernel has no unread input to reset the connection for.
fn discard_input(fd: &OwnedFd) {
    /// Pieces of 16 KiB, 1 MiB in all: a peer that never stops sending cannot hold us.
    const MOST_PIECES: usize = 64;
    let mut piece = [0; 16 * 1024];
    for _ in 0..MOST_PIECES {
        // TCP does not even copy with MSG_TRUNC (tcp(7)); unix sockets do not know it. Descriptors that came along the kernel closes.
        match retry_on_intr(|| recv(fd, &mut piece[..], RecvFlags::DONTWAIT | RecvFlags::TRUNC)) {
            Ok((_, count)) if count > 0 => {}
            // The end, nothing more for now, or a connection that is gone.
            _ => break,
        }
    }
}
