//! How a connected socket comes to be.

use std::net::ToSocketAddrs;
use std::os::fd::{AsFd, OwnedFd};

use channel_core::{Direction, Error, ErrorKind, FromFdError, Limits, Readiness, Result};
use rustix::io::{Errno, FdFlags, fcntl_setfd, retry_on_intr};
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, connect, getpeername, getsockname, socket_with, socketpair, sockopt,
};
use std::sync::Arc;

use crate::{SocketAddress, SocketChannel};

impl SocketChannel {
    /// Connects to a TCP or unix address. (QEMU: `qio_channel_socket_connect_sync`, without its name lookup.)
    ///
    /// # Blocking
    /// Until the kernel has decided: for TCP up to its own retry limit, about two minutes (tcp(7), `tcp_syn_retries`).
    ///
    /// # Errors
    /// What connect(2) fails with, such as refusal, naming the address;
    /// [`InvalidInput`](ErrorKind::InvalidInput) for an unnamed address.
    pub fn connect(address: &SocketAddress) -> Result<Self> {
        let failed = |errno: Errno| io_error(errno, "connect", &format!("to {address}"));
        let kernel = address.to_kernel().map_err(failed)?;
        let family = address.family();
        let fd = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).map_err(failed)?;
        let fd = if family == AddressFamily::UNIX {
            // Interrupted, it has not begun: unix sockets connect at once or not at all.
            retry_on_intr(|| connect(&fd, &kernel)).map_err(failed)?;
            fd
        } else {
            let fd = Arc::new(fd);
            match connect(&*fd, &kernel) {
                // Interrupted, it goes on by itself, and calling again would say EALREADY (connect(2)).
                Err(Errno::INTR) => {
                    Readiness::wait_for(&fd, Direction::Write).block(None)?;
                    sockopt::socket_error(&fd).and_then(|done| done).map_err(failed)?;
                }
                done => done.map_err(failed)?,
            }
            Arc::try_unwrap(fd).map_err(|_| internal("the new socket is shared"))?
        };
        let peer = getpeername(&fd).ok().flatten().and_then(SocketAddress::of_kernel);
        Ok(Self::over(fd, family, local_of, Some(peer.unwrap_or_else(|| address.clone())), &Limits::default()))
    }

    /// Looks `address` up and connects to the first of its addresses that answers, tried one after another.
    ///
    /// # Blocking
    /// In the resolver, and as [`connect`](Self::connect) for each address.
    ///
    /// # Errors
    /// The resolver's; that of the last address tried, with a list of all that were.
    pub fn connect_tcp(address: impl ToSocketAddrs) -> Result<Self> {
        let failed = |detail: String| Error::new(ErrorKind::Io(std::io::ErrorKind::NotFound), "socket", detail);
        let resolved = address
            .to_socket_addrs()
            .map_err(|error| failed("the address was not found".to_owned()).during("resolve").with_source(error))?;
        let mut tried = Vec::new();
        let mut last = None;
        for address in resolved {
            match Self::connect(&SocketAddress::Inet(address)) {
                Ok(channel) => return Ok(channel),
                Err(error) => last = Some(error),
            }
            tried.push(address.to_string());
        }
        match last {
            Some(error) if tried.len() == 1 => Err(error),
            Some(error) => {
                let detail = format!("none of {} answered; the last", tried.join(", "));
                Err(Error::new(error.kind(), "socket", detail).during("connect").with_source(error))
            }
            None => Err(failed("the name has no addresses".to_owned()).during("resolve")),
        }
    }

    /// A connected pair of unix sockets. (socketpair(2))
    ///
    /// # Errors
    /// What socketpair(2) fails with, such as `EMFILE`.
    pub fn pair() -> Result<(Self, Self)> {
        let (near, far) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(|errno| io_error(errno, "pair", ""))?;
        let end = |fd| {
            let unnamed = Some(SocketAddress::UnixUnnamed);
            Self::over(fd, AddressFamily::UNIX, |_| Some(SocketAddress::UnixUnnamed), unnamed, &Limits::default())
        };
        Ok((end(near), end(far)))
    }

    /// Adopts a connected TCP or unix stream socket. (QEMU: `qio_channel_socket_new_fd`.)
    ///
    /// `O_NONBLOCK` stays as it is; the descriptor is made close-on-exec, since its number is the channel's from now on, and `SO_RCVLOWAT`
    /// is set to 1: data in hand is never held back.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for anything but a connected stream socket of these families; the caller keeps
    /// the descriptor.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, FromFdError> {
        Self::from_fd_with_limits(fd, &Limits::default())
    }

    /// [`from_fd`](Self::from_fd), keeping up to [`Limits::kept_descriptors`] descriptors that nobody asked for.
    ///
    /// # Errors
    /// As [`from_fd`](Self::from_fd).
    pub fn from_fd_with_limits(fd: OwnedFd, limits: &Limits) -> Result<Self, FromFdError> {
        match examine(&fd) {
            Ok((family, peer)) => {
                // A mark that poll(2) heeds and recvmsg(2) does not would hold data back \[R4\] \[Q1\].
                let _ = channel_sys::set_receive_low_water(fd.as_fd(), 1);
                Ok(Self::over(fd, family, local_of, peer, limits))
            }
            Err(error) => Err(FromFdError::new(fd, error.during("from_fd"))),
        }
    }
}

fn examine(fd: &OwnedFd) -> Result<(AddressFamily, Option<SocketAddress>)> {
    let refuse = |detail: &'static str| Err(Error::new(ErrorKind::InvalidInput, "socket", detail));
    match sockopt::socket_type(fd) {
        Ok(SocketType::STREAM) => {}
        Ok(_) => return refuse("not a stream socket"),
        Err(Errno::NOTSOCK) => return refuse("not a socket; files and pipes have channels of their own"),
        Err(errno) => return Err(io_error(errno, "from_fd", "")),
    }
    if sockopt::socket_acceptconn(fd).unwrap_or(false) {
        return refuse("a listening socket carries no data");
    }
    let family = sockopt::socket_domain(fd).map_err(|errno| io_error(errno, "from_fd", ""))?;
    if ![AddressFamily::INET, AddressFamily::INET6, AddressFamily::UNIX].contains(&family) {
        return refuse("neither a TCP nor a unix socket");
    }
    let peer = match getpeername(fd) {
        Ok(peer) => peer.and_then(SocketAddress::of_kernel),
        Err(Errno::NOTCONN) => return refuse("the socket is not connected, or not any more"),
        Err(errno) => return Err(io_error(errno, "from_fd", "")),
    };
    fcntl_setfd(fd, FdFlags::CLOEXEC).map_err(|errno| io_error(errno, "from_fd", ""))?;
    let peer = peer.or_else(|| (family == AddressFamily::UNIX).then_some(SocketAddress::UnixUnnamed));
    Ok((family, peer))
}

pub(crate) fn local_of(fd: &OwnedFd) -> Option<SocketAddress> {
    getsockname(fd.as_fd()).ok().and_then(SocketAddress::of_kernel)
}

pub(crate) fn io_error(errno: Errno, operation: &'static str, detail: &str) -> Error {
    let cause: std::io::Error = errno.into();
    if detail.is_empty() {
        return Error::from_io(cause, "socket").during(operation);
    }
    let kind = Error::from_io(errno.into(), "socket").kind();
    Error::new(kind, "socket", detail.to_owned()).during(operation).with_source(cause)
}

fn internal(detail: &'static str) -> Error {
    Error::new(ErrorKind::Internal, "socket", detail)
}
