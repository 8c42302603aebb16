//! What the stack stands on: a connection within this machine.

use std::fs::DirBuilder;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use channel_stack::{Error, Result, SocketAddress, SocketChannel, SocketListener};

/// The kind of connection below the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Transport {
    /// TCP on the loopback interface, at a port the kernel chooses.
    Tcp,
    /// A unix socket in a new directory that only this user can enter, removed again once connected.
    Unix,
}

impl Transport {
    /// Listens, connects, accepts, and stops listening: a client's end and a server's.
    ///
    /// # Errors
    /// What the system refuses.
    pub(crate) fn connect(self) -> Result<(SocketChannel, SocketChannel)> {
        match self {
            Self::Tcp => {
                let listener = SocketListener::bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
                let client = SocketChannel::connect(listener.local_address())?;
                loop {
                    // Anybody on this machine can connect to the port: take our own client and nobody else.
                    let server = listener.accept()?;
                    if server.peer_address() == client.local_address() {
                        return Ok((client, server));
                    }
                }
            }
            Self::Unix => {
                let directory = PrivateDirectory::new().map_err(|error| Error::from_io(error, "socket"))?;
                let listener = SocketListener::bind(&SocketAddress::Unix(directory.0.join("socket")))?;
                let client = SocketChannel::connect(listener.local_address())?;
                let server = listener.accept()?;
                drop(listener); // removes the socket, so that the directory is empty
                Ok((client, server))
            }
        }
    }
}

/// A new directory that only this user can enter; removed on drop, for which it has to be empty.
struct PrivateDirectory(PathBuf);

impl PrivateDirectory {
    fn new() -> io::Result<Self> {
        // Every `RandomState` has keys of its own. A name that is taken, or was guessed, fails: mkdir(2) follows no link.
        let random = RandomState::new().build_hasher().finish();
        let path = std::env::temp_dir().join(format!("relay-{random:016x}"));
        DirBuilder::new().mode(0o700).create(&path).map_err(|error| {
            io::Error::new(error.kind(), format!("the directory {} cannot be made: {error}", path.display()))
        })?;
        Ok(Self(path))
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        // If it cannot be removed there is an empty directory too many, and nothing else to be done.
        let _ = std::fs::remove_dir(&self.0);
    }
}
