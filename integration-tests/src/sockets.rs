//! Connected sockets of the standard library, over TCP on loopback or unix, as one type.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use crate::words::words;

words! {
    /// What a connection runs over.
    Transport {
        /// A unix socket pair.
        Unix = "unix",
        /// TCP on 127.0.0.1, port chosen by the system, `TCP_NODELAY` set.
        Tcp = "tcp",
    }
}

/// One end of a connection: a bare socket, blocking.
#[derive(Debug)]
pub enum Socket {
    /// A unix stream socket.
    Unix(UnixStream),
    /// A TCP socket.
    Tcp(TcpStream),
}

/// A connected pair: for TCP, the end that connected and the end that was accepted.
///
/// # Errors
/// What the system refuses.
pub fn pair(transport: Transport) -> io::Result<(Socket, Socket)> {
    Pairs::new(transport)?.connect()
}

/// Makes many connected pairs. Those of TCP have one port in common, so that each takes no more than one other.
#[derive(Debug)]
pub struct Pairs {
    /// Of TCP.
    listener: Option<TcpListener>,
}

impl Pairs {
    /// Made of what `transport` needs.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn new(transport: Transport) -> io::Result<Self> {
        let listener = match transport {
            Transport::Unix => None,
            Transport::Tcp => Some(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?),
        };
        Ok(Self { listener })
    }

    /// One pair, as [`pair`] makes them.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn connect(&self) -> io::Result<(Socket, Socket)> {
        let Some(listener) = &self.listener else {
            let (near, far) = UnixStream::pair()?;
            return Ok((Socket::Unix(near), Socket::Unix(far)));
        };
        let near = TcpStream::connect(listener.local_addr()?)?;
        let (far, from) = listener.accept()?;
        if from != near.local_addr()? {
            return Err(io::Error::other(format!("a stranger connected from {from}")));
        }
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        Ok((Socket::Tcp(near), Socket::Tcp(far)))
    }
}

impl Socket {
    /// Ends one or both directions.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Self::Unix(socket) => socket.shutdown(how),
            Self::Tcp(socket) => socket.shutdown(how),
        }
    }
}

impl From<Socket> for OwnedFd {
    fn from(socket: Socket) -> Self {
        match socket {
            Socket::Unix(socket) => socket.into(),
            Socket::Tcp(socket) => socket.into(),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(socket) => socket.read(buf),
            Self::Tcp(socket) => socket.read(buf),
        }
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match self {
            Self::Unix(socket) => socket.read_vectored(bufs),
            Self::Tcp(socket) => socket.read_vectored(bufs),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(socket) => socket.write(buf),
            Self::Tcp(socket) => socket.write(buf),
        }
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Unix(socket) => socket.write_vectored(bufs),
            Self::Tcp(socket) => socket.write_vectored(bufs),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
