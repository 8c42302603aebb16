//! The few system calls that no maintained crate offers safely, behind safe functions: the one crate of the project with unsafe code.
//!
//! * [`receive`] takes whatever control messages a unix socket brings, and owns every descriptor among them.
//! * [`set_passing`] asks the kernel for such messages.
//!
//! What rustix has is used from there.
#![cfg(target_os = "linux")] // elsewhere there is nothing here, and channel-core says why
#![deny(unsafe_op_in_unsafe_fn)]

mod control;

use std::io::{self, IoSliceMut};
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// How many descriptors the kernel puts into one message (`SCM_MAX_FD`, unix(7)).
pub const MOST_DESCRIPTORS: usize = 253;

/// The longest security label there is room for: that of SELinux is a few hundred bytes, and no file system stores a longer one than a page.
const LABEL: usize = 4096;

/// Room for all that one message may bring: credentials, a label, descriptors, a pidfd (unix(7)).
const SPACE: usize = control::space(mem::size_of::<libc::ucred>())
    + control::space(LABEL)
    + control::space(MOST_DESCRIPTORS * mem::size_of::<libc::c_int>())
    + control::space(mem::size_of::<libc::c_int>());

/// `SCM_PIDFD` of linux/socket.h: the peer's process, as a descriptor.
const SCM_PIDFD: libc::c_int = 0x04;
/// `SO_PASSPIDFD` of asm-generic/socket.h, which the architectures with a table of their own (parisc, sparc) number differently.
const SO_PASSPIDFD: libc::c_int = 76;

/// Where the kernel puts control messages: as aligned as it wants their headers.
#[repr(C, align(8))]
struct Space([MaybeUninit<u8>; SPACE]);

/// What one recvmsg(2) came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// How many bytes were read; 0 is the end of the stream, if there was room.
    pub bytes: usize,
    /// The kernel left control messages out, for want of descriptors, say (`MSG_CTRUNC`).
    pub truncated: bool,
}

/// Reads from `socket` into `bufs` without waiting, and puts descriptors that come along (`SCM_RIGHTS`) behind those in `fds`, close-on-exec.
///
/// Everything else that comes along is dropped: credentials, labels, and pidfds, which are closed. So nothing leaks, whatever the socket's
/// owner has asked the kernel for. There is room for all of it beside [`MOST_DESCRIPTORS`] descriptors.
///
/// Any thread may call it; of two at once each gets a part of the stream.
///
/// # Errors
/// What recvmsg(2) fails with, would-block among that; an interrupted call is made again.
pub fn receive(socket: BorrowedFd<'_>, bufs: &mut [IoSliceMut<'_>], fds: &mut Vec<OwnedFd>) -> io::Result<Received> {
    let mut space = Space([MaybeUninit::uninit(); SPACE]);
    // SAFETY: null pointers and lengths of 0 are a valid `msghdr`; some systems have padding in it, which has no name.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = bufs.as_mut_ptr().cast(); // `IoSliceMut` is an iovec: std promises that on Unix
    message.msg_iovlen = bufs.len() as _;
    message.msg_control = space.0.as_mut_ptr().cast();
    message.msg_controllen = SPACE as _;
    let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
    let bytes = loop {
        // SAFETY: the lists that `message` names are borrowed or owned by this function, for longer than the call lasts, and as long as it says.
        let count = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
        match usize::try_from(count) {
            Ok(count) => break count,
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    };
    let filled = (message.msg_controllen as usize).min(SPACE);
    // SAFETY: the kernel has put so many bytes of messages there.
    for part in unsafe { control::parts(&space.0[..filled]) } {
        let rights = (part.level, part.kind) == (libc::SOL_SOCKET, libc::SCM_RIGHTS);
        if !rights && (part.level, part.kind) != (libc::SOL_SOCKET, SCM_PIDFD) {
            continue;
        }
        for number in part.numbers() {
            if number < 0 {
                continue; // an error in the place of a pidfd
            }
            // SAFETY: the kernel has just put this descriptor into our table for us, and nobody else knows of it.
            let fd = unsafe { OwnedFd::from_raw_fd(number) };
            if rights {
                fds.push(fd);
            }
        }
    }
    Ok(Received { bytes, truncated: message.msg_flags & libc::MSG_CTRUNC != 0 })
}

/// What a unix socket may bring along with each message, beside what its peer attaches (unix(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passing {
    /// The sender's process, user and group (`SO_PASSCRED`).
    Credentials,
    /// The sender's security label, where the system has one (`SO_PASSSEC`).
    Label,
    /// The sender's process, as a descriptor (`SO_PASSPIDFD`); since Linux 6.5.
    Pidfd,
}

/// Has `socket` bring `what` along from now on, or no more; for all who hold the socket. Never blocks. (systemd: `PassCredentials=`, `PassSecurity=`, `PassPIDFD=`.)
///
/// # Errors
/// What setsockopt(2) fails with, `ENOPROTOOPT` on a system that does not know of it among that.
pub fn set_passing(socket: BorrowedFd<'_>, what: Passing, on: bool) -> io::Result<()> {
    let option = match what {
        Passing::Credentials => libc::SO_PASSCRED,
        Passing::Label => libc::SO_PASSSEC,
        Passing::Pidfd => SO_PASSPIDFD,
    };
    set_option(socket, option, on.into())
}

/// Has poll(2) call `socket` readable from so many bytes on (`SO_RCVLOWAT`, socket(7)); for all who hold the socket. Never blocks.
///
/// # Errors
/// What setsockopt(2) fails with.
pub fn set_receive_low_water(socket: BorrowedFd<'_>, bytes: i32) -> io::Result<()> {
    set_option(socket, libc::SO_RCVLOWAT, bytes)
}

fn set_option(socket: BorrowedFd<'_>, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let length = mem::size_of_val(&value) as libc::socklen_t;
    // SAFETY: the options above take an int, which `value` is for as long as the call lasts.
    let done =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const value).cast(), length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
