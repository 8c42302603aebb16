//! Where a socket is.

use std::ffi::OsStr;
use std::fmt;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix};

/// The address of a stream socket.
///
/// ```
/// use channel_socket::SocketAddress;
///
/// assert_eq!(SocketAddress::Inet("127.0.0.1:80".parse().unwrap()).to_string(), "127.0.0.1:80");
/// assert_eq!(SocketAddress::Unix("/run/qmp".into()).to_string(), "unix:/run/qmp");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SocketAddress {
    /// An IPv4 or IPv6 address and a TCP port; port 0 lets the kernel choose one when listening.
    Inet(SocketAddr),
    /// A path in the file system, at most 108 bytes (unix(7)).
    Unix(PathBuf),
    /// A name in Linux' abstract namespace, without its leading NUL, at most 107 bytes (unix(7)). It goes when its last
    /// socket does, and file permissions do not guard it.
    UnixAbstract(Vec<u8>),
    /// A unix socket without a name, as both ends of a pair are, and most clients.
    UnixUnnamed,
}

impl SocketAddress {
    /// What the kernel told; `None` for a family that is not one of ours.
    pub(crate) fn of_kernel(any: SocketAddrAny) -> Option<Self> {
        match any.address_family() {
            AddressFamily::INET | AddressFamily::INET6 => SocketAddr::try_from(any).ok().map(Self::Inet),
            // No path at all (unix(7)). rustix reads it as an abstract name without a letter, which is another address.
            AddressFamily::UNIX if any.addr_len() as usize <= size_of::<u16>() => Some(Self::UnixUnnamed),
            AddressFamily::UNIX => {
                let unix = SocketAddrUnix::try_from(any).ok()?;
                Some(if let Some(path) = unix.path_bytes() {
                    Self::Unix(OsStr::from_bytes(path).into())
                } else if let Some(name) = unix.abstract_name() {
                    Self::UnixAbstract(name.to_vec())
                } else {
                    Self::UnixUnnamed
                })
            }
            _ => None,
        }
    }

    pub(crate) fn family(&self) -> AddressFamily {
        match self {
            Self::Inet(SocketAddr::V4(_)) => AddressFamily::INET,
            Self::Inet(SocketAddr::V6(_)) => AddressFamily::INET6,
            Self::Unix(_) | Self::UnixAbstract(_) | Self::UnixUnnamed => AddressFamily::UNIX,
        }
    }

    pub(crate) fn to_kernel(&self) -> rustix::io::Result<SocketAddrAny> {
        match self {
            Self::Inet(address) => Ok((*address).into()),
            // An empty path would be taken for "no name" (unix(7), autobind).
            Self::Unix(path) if path.as_os_str().is_empty() => Err(rustix::io::Errno::INVAL),
            Self::Unix(path) => SocketAddrUnix::new(path.as_path()).map(Into::into),
            Self::UnixAbstract(name) => SocketAddrUnix::new_abstract_name(name).map(Into::into),
            Self::UnixUnnamed => Err(rustix::io::Errno::INVAL),
        }
    }
}

impl fmt::Display for SocketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::UnixAbstract(name) => write!(f, "unix:@{}", name.escape_ascii()),
            Self::UnixUnnamed => f.write_str("unix:(unnamed)"),
        }
    }
}

impl From<SocketAddr> for SocketAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Inet(address)
    }
}
