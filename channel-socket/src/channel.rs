//! A connected socket.

use std::any::Any;
use std::io::{IoSlice, IoSliceMut, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use channel_core::{
    AioChange, Channel, CountedFd, Direction, Error, ErrorKind, FdHandlers, Features, Interest, Limits, Mode, Name,
    News, ReadFlags, Readiness, Removed, Result, Shutdown, WaitQueue, WriteFlags, check_read, check_write,
    syscall_span,
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
/// [`close`](Channel::close) shuts the connection down, which other holders of the same open socket notice; dropping closes
/// our descriptor alone. What the kernel has taken it still sends, unless the connection is reset. That is what the kernel
/// does to a TCP socket that is let go with input unread, and then our unsent bytes are gone (RFC 2525 §2.17); the peer of a
/// unix socket gets them, but an error in place of the end.
///
/// So `close` throws away what has arrived by then, up to 1 MiB, and a peer that has already said goodbye costs nothing.
/// Bytes that arrive later still reset a TCP connection (RFC 1122 §4.2.2.13), and dropping throws nothing away. Where the peer
/// must get everything, call [`close_write`](Channel::close_write) and read to the end before `close`. Through layers the end of the
/// top one will do: closing that waits for the ends below [[S3]].
#[doc = channel_core::promises!(S3)]
#[derive(Debug)]
pub struct SocketChannel {
    name: Name,
    mode: Mode,
    fd: CountedFd,
    unix: bool,
    local: Option<SocketAddress>,
    peer: Option<SocketAddress>,
    read_ended: AtomicBool,
    write_ended: AtomicBool,
    /// Whether `TCP_CORK` is set; held while it is changed, so that a flush cannot cork again what was just uncorked.
    corked: Mutex<bool>,
    /// Writers of a unix socket that sleep: poll(2) does not tell them that their own side was shut down (`unix_poll` looks at the
    /// receiving side only). Made for the first who asks.
    sleepers: OnceLock<WaitQueue>,
    received: Received,
    failure: Failure,
    handlers: FdHandlers,
    /// What closing came to, which everybody is told who closes.
    outcome: Mutex<Option<Result<()>>>,
}

impl SocketChannel {
    /// The socket `fd`, known to be connected, of `family`.
    pub(crate) fn over(
        fd: OwnedFd,
        family: AddressFamily,
        local_of: impl FnOnce(&OwnedFd) -> Option<SocketAddress>,
        peer: Option<SocketAddress>,
        limits: &Limits,
    ) -> Self {
        Self {
            name: Name::default(),
            mode: Mode::default(),
            local: local_of(&fd),
            peer,
            fd: CountedFd::new(fd),
            unix: family == AddressFamily::UNIX,
            read_ended: AtomicBool::new(false),
            write_ended: AtomicBool::new(false),
            corked: Mutex::new(false),
            sleepers: OnceLock::new(),
            received: Received::keeping(limits.kept_descriptors),
            failure: Failure::default(),
            handlers: FdHandlers::default(),
            outcome: Mutex::default(),
        }
    }

    /// Our address, as it was when the channel was made.
    #[must_use]
    pub fn local_address(&self) -> Option<&SocketAddress> {
        self.local.as_ref()
    }

    /// The peer's address, as it was when the channel was made.
    #[must_use]
    pub fn peer_address(&self) -> Option<&SocketAddress> {
        self.peer.as_ref()
    }

    /// The socket itself, counted: to set options or to look, not to read or write. `None` once closed.
    #[must_use]
    pub fn socket(&self) -> Option<Arc<OwnedFd>> {
        self.fd.load()
    }

    fn sleepers(&self) -> &WaitQueue {
        self.sleepers.get_or_init(WaitQueue::default)
    }

    fn open(&self, operation: &'static str) -> Result<Arc<OwnedFd>> {
        self.fd.load().ok_or_else(|| Error::closed(self, operation))
    }

    fn failed(&self, errno: Errno, operation: &'static str) -> Error {
        if errno == Errno::AGAIN {
            return Error::WOULD_BLOCK;
        }
        let error = io_error(errno, operation, "").on(self.name());
        self.failure.note(errno, &error);
        error
    }

    /// `result`, unless that is an end, good or bad, which `close` made while the call was under way.
    fn unless_closed(&self, result: Result<usize>, operation: &'static str) -> Result<usize> {
        match &result {
            Err(error) if error.is_would_block() => result,
            Ok(0) | Err(_) => self.open(operation).and(result),
            Ok(_) => result,
        }
    }

    fn try_read(&self, bufs: &mut [IoSliceMut<'_>], fds: Option<&mut Vec<OwnedFd>>, flags: ReadFlags) -> Result<usize> {
        let fd = self.open("read")?;
        // Linux still delivers what comes after SHUT_RD on TCP; an end that was reported has to stay the end.
        if self.read_ended.load(Ordering::Acquire) {
            return Ok(0);
        }
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
            Ok(0) if self.read_ended.load(Ordering::Acquire) => Ok(0),
            Ok(0) => self.failure.check_end().map(|()| 0),
            Ok(count) => Ok(count),
            Err(errno) => Err(self.failed(errno, "read")),
        }
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
        self.received.lost().map_or(Ok(()), |lost| Err(lost.clone().on(self.name())))
    }

    fn try_write(&self, bufs: &[IoSlice<'_>], fds: &[BorrowedFd<'_>]) -> Result<usize> {
        let fd = self.open("write")?;
        if self.write_ended.load(Ordering::Acquire) {
            return Err(Error::output_ended(self));
        }
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

    /// What closing does, but for the handlers.
    fn release(&self) -> Result<()> {
        let Some(fd) = self.fd.take() else { return Ok(()) };
        let polite = self.end_output(&fd);
        discard_input(&fd);
        // Wakes a blocked reader; a connection that is gone has woken it.
        let _ = rustix::net::shutdown(&*fd, rustix::net::Shutdown::Both);
        self.received.clear();
        polite.map_err(|error| error.on(self.name()))
    }

    /// Ends our output, once; tells what the kernel knows to be lost.
    fn end_output(&self, fd: &OwnedFd) -> Result<()> {
        if self.write_ended.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let ended = rustix::net::shutdown(fd, rustix::net::Shutdown::Write);
        self.sleepers().wake(News::WRITE);
        self.handlers.schedule(Direction::Write);
        match ended {
            // The connection is gone; why is in the error the socket holds, and what that is told here is told nowhere else.
            Err(Errno::NOTCONN) => match sockopt::socket_error(fd) {
                // `EPIPE`: the peer had ended its output and left, as conversations end.
                Ok(Err(errno)) if errno != Errno::PIPE => Err(self.failed(errno, "close_write")),
                _ => self.failure.check(),
            },
            Err(errno) => Err(self.failed(errno, "close_write")),
            Ok(()) => Ok(()),
        }
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

impl Channel for SocketChannel {
    fn layer(&self) -> &'static str {
        "socket"
    }

    fn name(&self) -> Option<Arc<str>> {
        self.name.load()
    }

    fn set_name(&self, name: &str) {
        self.name.store(name);
    }

    fn features(&self) -> Features {
        let every = Features::SHUTDOWN | Features::CLOSE_WRITE | Features::HALF_CLOSE | Features::READ_MSG_PEEK;
        if self.unix { every | Features::FD_PASS } else { every }
    }

    fn why_not(&self, feature: Features) -> Option<String> {
        let missing = feature - self.features();
        let why = if missing.is_empty() {
            return None;
        } else if missing.contains(Features::FD_PASS) {
            "TCP carries bytes only; descriptors need a unix socket"
        } else if missing.contains(Features::SEEKABLE) {
            "a stream has no position"
        } else if missing.contains(Features::READ_BUF) {
            "a socket holds its bytes in the kernel and has none to lend"
        } else if missing.contains(Features::LISTEN) {
            "a connected socket does not listen; SocketListener does"
        } else {
            "zero-copy sends (MSG_ZEROCOPY) are not built yet"
        };
        Some(why.to_owned())
    }

    fn describe_layer(&self) -> String {
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

    fn readv_full(
        &self,
        bufs: &mut [IoSliceMut<'_>],
        mut fds: Option<&mut Vec<OwnedFd>>,
        flags: ReadFlags,
    ) -> Result<usize> {
        check_read(self, fds.is_some(), flags)?;
        let Some(span) = syscall_span(bufs) else {
            return Ok(0);
        };
        let bufs = &mut bufs[span];
        let read = self.mode.run(self, Direction::Read, flags.contains(ReadFlags::DONT_WAIT), || {
            self.unless_closed(self.try_read(bufs, fds.as_deref_mut(), flags), "read")
        });
        let result = read.map_err(|error| error.during("read"));
        self.handlers.called(&self.mode, Direction::Read, &result);
        result
    }

    fn writev_full(&self, bufs: &[IoSlice<'_>], fds: &[BorrowedFd<'_>], flags: WriteFlags) -> Result<usize> {
        check_write(self, !fds.is_empty(), flags)?;
        if fds.len() > descriptors::MOST {
            let detail = format!("{} descriptors in one write; the kernel takes {}", fds.len(), descriptors::MOST);
            return Err(Error::new(ErrorKind::InvalidInput, "socket", detail).during("write").on(self.name()));
        }
        let Some(span) = syscall_span(bufs) else {
            return Ok(0);
        };
        let bufs = &bufs[span];
        let dont_wait = flags.contains(WriteFlags::DONT_WAIT);
        let attempt = || self.unless_closed(self.try_write(bufs, fds), "write");
        let written = self.mode.run(self, Direction::Write, dont_wait, attempt);
        let result = written.map_err(|error| error.during("write"));
        self.handlers.called(&self.mode, Direction::Write, &result);
        result
    }

    /// Only a corked TCP socket holds anything back, at most a segment; it is sent and the cork stays.
    fn flush(&self) -> Result<()> {
        let fd = self.open("flush")?;
        self.failure.check()?;
        if !self.unix {
            let corked = self.corked.lock().unwrap_or_else(PoisonError::into_inner);
            if *corked {
                let push = sockopt::set_tcp_cork(&fd, false).and_then(|()| sockopt::set_tcp_cork(&fd, true));
                push.map_err(|errno| self.failed(errno, "flush"))?;
            }
        }
        Ok(())
    }

    channel_core::mode_methods!(mode, handlers);

    fn take_over(&self) {
        self.received.take_none();
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

    fn close_write(&self) -> Result<()> {
        self.end_output(&*self.open("close_write")?)
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        let Some(fd) = self.fd.load() else {
            return Ok(());
        };
        let (read, write) = (how != Shutdown::Write, how != Shutdown::Read);
        self.read_ended.fetch_or(read, Ordering::AcqRel);
        self.write_ended.fetch_or(write, Ordering::AcqRel);
        let how = match how {
            Shutdown::Read => rustix::net::Shutdown::Read,
            Shutdown::Write => rustix::net::Shutdown::Write,
            Shutdown::Both => rustix::net::Shutdown::Both,
        };
        let done = rustix::net::shutdown(&*fd, how);
        if read {
            self.handlers.schedule(Direction::Read);
        }
        if write {
            self.sleepers().wake(News::WRITE);
            self.handlers.schedule(Direction::Write);
        }
        match done {
            // A connection that is gone has ended both directions and woken everybody.
            Ok(()) | Err(Errno::NOTCONN) => Ok(()),
            Err(errno) => Err(self.failed(errno, "shutdown")),
        }
    }

    fn close(&self) -> Result<()> {
        let result = {
            let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
            outcome.get_or_insert_with(|| self.release()).clone()
        };
        self.handlers.clear(); // what goes with them may call us
        result
    }

    fn close_by(&self, _: Instant) -> Result<()> {
        self.close()
    }

    fn seek(&self, _: SeekFrom) -> Result<u64> {
        Err(Error::unsupported(self, "seek", Features::SEEKABLE))
    }

    fn readiness(&self, direction: Direction) -> Readiness {
        let writes_unix = self.unix && direction == Direction::Write;
        let ticket = writes_unix.then(|| self.sleepers().ticket().heeding(News::WRITE));
        let ended = match direction {
            Direction::Read => self.read_ended.load(Ordering::Acquire) || self.received.lost().is_some(),
            Direction::Write => self.write_ended.load(Ordering::Acquire),
        };
        match self.fd.load() {
            Some(fd) if !ended => {
                let answer = self.mode.limited(direction, Readiness::wait_for(&fd, direction));
                if let Some(ticket) = ticket { answer.with_ticket(ticket) } else { answer }
            }
            _ => Readiness::Ready,
        }
    }

    fn set_aio_fd_handler(&self, read: AioChange, write: AioChange) -> Result<Removed> {
        let fd = self.open("set_aio_fd_handler")?;
        let polled = |direction| {
            // Its end poll(2) does not show to the writer of a unix socket (see `readiness`): the handler is due, whatever is polled.
            let ended = direction == Direction::Write && self.write_ended.load(Ordering::Acquire);
            (!ended).then(|| Interest { fd: Arc::clone(&fd), direction })
        };
        self.handlers.change(self.layer(), &self.mode, polled, read, write)
    }

    fn handshake(&self) -> Result<()> {
        self.open("handshake").map(|_| ())
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
