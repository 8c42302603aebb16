//! Waiting for connections.

use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use channel_core::leaf::{CountedFd, FdHandlers, Mode};
use channel_core::{
    AioChange, Claimable, Direction, Error, ErrorKind, Interest, Interests, Limits, Readiness, Removed, Result,
};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, acceptfrom_with, bind, connect, listen, socket_with, sockopt,
};

use crate::connect::{io_error, local_of};
use crate::{SocketAddress, SocketChannel};

/// A socket that listens, and hands out a [`SocketChannel`] for each connection. (QEMU: a `QIOChannelSocket` with the feature
/// `LISTEN`.)
///
/// # Unix paths
/// Binding replaces a socket at the path only if it refuses connections, as one does that was left behind; anything
/// else there is an error. Closing, or dropping, removes the path only while it is still the socket this listener made. Two
/// programs that bind the same stale path at the same moment may still take it from each other: the file system has
/// no call for that.
///
/// # Threads
/// Any number may accept; [`close`](Self::close) wakes them.
#[derive(Debug)]
pub struct SocketListener {
    fd: CountedFd,
    family: AddressFamily,
    local: SocketAddress,
    bound: Option<BoundPath>,
    limits: Limits,
    mode: Mode,
    /// No accept is tried before this, because the last one met a shortage.
    pause_until: Mutex<Option<Instant>>,
    handlers: FdHandlers,
}

/// Connections the kernel queues; it caps this at `net.core.somaxconn` (listen(2)).
const BACKLOG: i32 = 4096;

/// How long accepting pauses when descriptors or memory ran out.
const PAUSE: Duration = Duration::from_millis(100);

impl SocketListener {
    /// Listens at `address`; port 0 takes a free port, which [`local_address`](Self::local_address) tells. TCP sockets get
    /// `SO_REUSEADDR`.
    ///
    /// # Errors
    /// What bind(2) and listen(2) fail with, naming the address.
    pub fn bind(address: &SocketAddress) -> Result<Self> {
        Self::bind_with_limits(address, &Limits::default())
    }

    /// [`bind`](Self::bind), with `limits` for the channels it accepts.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub fn bind_with_limits(address: &SocketAddress, limits: &Limits) -> Result<Self> {
        let failed = |errno: Errno| io_error(errno, "bind", &format!("at {address}"));
        let family = address.family();
        let kernel = address.to_kernel().map_err(failed)?;
        // Non-blocking is right here: nobody shares this description, and accept has no flag for one call.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(family, SocketType::STREAM, flags, None).map_err(failed)?;
        if family != AddressFamily::UNIX {
            sockopt::set_socket_reuseaddr(&fd, true).map_err(failed)?;
        }
        match (bind(&fd, &kernel), address) {
            (Err(Errno::ADDRINUSE), SocketAddress::Unix(path)) => {
                remove_stale(path, address)?;
                bind(&fd, &kernel).map_err(failed)?;
            }
            (done, _) => done.map_err(failed)?,
        }
        let bound = match address {
            SocketAddress::Unix(path) => BoundPath::new(path),
            _ => None,
        };
        listen(&fd, BACKLOG).map_err(failed)?;
        Ok(Self {
            local: local_of(&fd).unwrap_or_else(|| address.clone()),
            fd: CountedFd::new(fd),
            family,
            bound,
            limits: limits.clone(),
            mode: Mode::default(),
            pause_until: Mutex::new(None),
            handlers: FdHandlers::default(),
        })
    }

    /// The next connection.
    ///
    /// # Blocking
    /// In blocking mode, which it starts in, until there is one. Connections that were aborted while they waited are passed
    /// over.
    ///
    /// # Errors
    /// [`WouldBlock`](ErrorKind::WouldBlock) in non-blocking mode; [`Closed`](ErrorKind::Closed) after [`close`](Self::close), also
    /// when it was waiting. A shortage of descriptors or memory (`EMFILE`) is told once, and then not tried again for a tenth of
    /// a second, so that a loop around this call does not spin.
    pub fn accept(&self) -> Result<SocketChannel> {
        loop {
            let accepted = self.try_accept();
            // Whatever came of it, there is no end: others will connect.
            self.handlers.called(&self.mode, Direction::Read, &Ok(1));
            match accepted {
                Err(error) if error.is_would_block() && self.mode.is_blocking() => {
                    self.readiness().block(None)?;
                }
                done => return done,
            }
        }
    }

    /// What must happen before [`accept`](Self::accept) can make progress; as
    /// [`Channel::readiness`](channel_core::Channel::readiness).
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let mut interests = Interests::new();
        let Some(fd) = self.fd.load() else {
            return Readiness::Ready;
        };
        match self.pause() {
            Some(until) => interests.add_deadline(until),
            None => interests.add(&fd, Direction::Read),
        }
        Readiness::Wait(interests)
    }

    /// Sets, changes or clears the handler that an event loop calls while connections wait; as
    /// [`Channel::set_aio_fd_handler`](channel_core::Channel::set_aio_fd_handler) for reading. (QEMU: `qio_net_listener_set_client_func`,
    /// which accepts by itself.)
    ///
    /// A handler accepts in non-blocking mode until that would block. While a shortage of descriptors or memory lasts, it is taken
    /// off its loop for a tenth of a second at a time.
    ///
    /// # Errors
    /// What the context fails with; [`Busy`](ErrorKind::Busy) for a claim where there is a handler; [`Closed`](ErrorKind::Closed) after
    /// [`close`](Self::close).
    pub fn set_aio_fd_handler(&self, accept: AioChange) -> Result<Removed> {
        let fd = self.fd.load().ok_or_else(|| closed("set_aio_fd_handler"))?;
        let polled = |direction| Some(Interest { fd: Arc::clone(&fd), direction });
        let removed = self.handlers.change("socket", &self.mode, polled, None, accept, AioChange::Keep)?;
        if let Some(until) = self.pause() {
            self.handlers.pause(Direction::Read, until); // a handler that is new waits, too
        }
        if self.fd.load().is_none() {
            self.handlers.clear(); // closed in between, by a call that did not see the handler yet
        }
        Ok(removed)
    }

    /// Sets whether [`accept`](Self::accept) waits; from the next call on.
    pub fn set_blocking(&self, blocking: bool) {
        self.mode.set_blocking(blocking);
    }

    /// Where it listens.
    #[must_use]
    pub fn local_address(&self) -> &SocketAddress {
        &self.local
    }

    /// Stops listening, wakes whoever is in [`accept`](Self::accept), lets go of the handler, and removes the unix path if it is still ours.
    /// Idempotent.
    pub fn close(&self) {
        if let Some(fd) = self.fd.take() {
            self.handlers.clear();
            if let Some(bound) = &self.bound {
                bound.remove();
            }
            // Wakes everybody in poll, and refuses whoever is still in the queue. It cannot fail on a socket that listens.
            let _ = rustix::net::shutdown(&*fd, rustix::net::Shutdown::Both);
        }
    }

    fn try_accept(&self) -> Result<SocketChannel> {
        let listener = self.fd.load().ok_or_else(|| closed("accept"))?;
        if self.pause().is_some() {
            return Err(Error::WOULD_BLOCK);
        }
        loop {
            match acceptfrom_with(&listener, SocketFlags::CLOEXEC) {
                Ok((fd, peer)) => {
                    let peer = peer.and_then(SocketAddress::of_kernel);
                    return Ok(SocketChannel::over(fd, self.family, local_of, peer, &self.limits));
                }
                Err(errno) if of_one_connection(errno) => {}
                Err(Errno::AGAIN) => return Err(Error::WOULD_BLOCK),
                Err(_) if self.fd.load().is_none() => return Err(closed("accept")),
                Err(errno) => {
                    if matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) {
                        let until = Instant::now() + PAUSE;
                        *self.pause_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
                        self.handlers.pause(Direction::Read, until);
                    }
                    return Err(io_error(errno, "accept", &format!("at {}", self.local)));
                }
            }
        }
    }

    /// How long accepting still pauses, if it does.
    fn pause(&self) -> Option<Instant> {
        let mut until = self.pause_until.lock().unwrap_or_else(PoisonError::into_inner);
        *until = until.filter(|until| *until > Instant::now());
        *until
    }
}

fn closed(operation: &'static str) -> Error {
    Error::new(ErrorKind::Closed, "socket", "close was called on the listener").during(operation)
}

impl Claimable for SocketListener {
    fn change_handler(&self, _: Direction, change: AioChange) -> Result<Removed> {
        self.set_aio_fd_handler(change)
    }
}

impl Drop for SocketListener {
    fn drop(&mut self) {
        self.close();
    }
}

/// Errors of the connection that was to be accepted, not of the listener: accept(2), "Error handling".
fn of_one_connection(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::INTR
            | Errno::CONNABORTED
            | Errno::PROTO
            | Errno::NETDOWN
            | Errno::NOPROTOOPT
            | Errno::HOSTDOWN
            | Errno::NONET
            | Errno::HOSTUNREACH
            | Errno::NETUNREACH
    )
}

/// The path a listener made, with the inode it had then.
#[derive(Debug)]
struct BoundPath {
    /// Absolute, so that a later chdir(2) does not make it another.
    path: PathBuf,
    inode: (u64, u64),
}

impl BoundPath {
    /// `None` if somebody took the path away already: then there is nothing of ours to remove.
    fn new(path: &Path) -> Option<Self> {
        let path = std::path::absolute(path).ok()?;
        let inode = inode(&path)?;
        Some(Self { path, inode })
    }

    fn remove(&self) {
        if inode(&self.path) == Some(self.inode) {
            // Gone in between, or in a directory that became read-only: nobody can be told, and the next bind replaces it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Removes the socket at `path` if nobody listens on it; an error says why it must stay.
fn remove_stale(path: &Path, address: &SocketAddress) -> Result<()> {
    let in_use =
        |detail: String| Error::new(ErrorKind::Io(std::io::ErrorKind::AddrInUse), "socket", detail).during("bind");
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return Ok(()); // gone meanwhile; binding again will tell
    };
    if !metadata.file_type().is_socket() {
        return Err(in_use(format!("{} exists and is not a socket; remove it or choose another path", path.display())));
    }
    let before = inode(path);
    match probe(address) {
        Err(Errno::CONNREFUSED) if inode(path) == before => std::fs::remove_file(path)
            .map_err(|error| in_use(format!("{} is stale", path.display())).with_source(error)),
        Err(Errno::NOENT) => Ok(()),
        _ => Err(in_use(format!("somebody listens at {}", path.display()))),
    }
}

/// Tries to connect without waiting for room in a full queue, which only a live listener has.
fn probe(address: &SocketAddress) -> rustix::io::Result<()> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd: OwnedFd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let kernel = address.to_kernel()?;
    retry_on_intr(|| connect(&fd, &kernel))
}
