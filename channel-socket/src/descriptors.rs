//! Descriptors passed along with data (`SCM_RIGHTS`, unix(7)).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use channel_core::{Error, ErrorKind};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

pub(crate) use channel_sys::MOST_DESCRIPTORS as MOST;

const SEND_SPACE: usize = rustix::cmsg_space!(ScmRights(MOST));

/// Sends `bufs`, with `fds` (at most [`MOST`]) attached to the first byte.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    bufs: &[IoSlice<'_>],
    fds: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); SEND_SPACE];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(rustix::io::Errno::INVAL);
    }
    retry_on_intr(|| sendmsg(socket, bufs, &mut control, flags))
}

/// Descriptors that came when nobody asked, and whether any were lost.
#[derive(Debug)]
pub(crate) struct Received {
    kept: Mutex<Vec<OwnedFd>>,
    /// Whether `kept` is worth a look; spares the common read a lock.
    has_kept: AtomicBool,
    /// How many are kept for nobody in particular; 0 once a layer has the socket, or it is closed. Changed under the lock of `kept`.
    limit: AtomicU32,
    /// Messages that brought what nobody could take, which the kernel closed: an upper bound, for what it left out may have been
    /// credentials.
    refused: AtomicU64,
    /// Set once; the stream ends there, because the bytes the descriptors belonged to are gone as well.
    lost: OnceLock<Error>,
}

impl Received {
    /// Keeps up to `limit` descriptors for the next read that asks.
    pub(crate) fn keeping(limit: usize) -> Self {
        Self {
            kept: Mutex::default(),
            has_kept: AtomicBool::new(false),
            limit: AtomicU32::new(limit.try_into().unwrap_or(u32::MAX)),
            refused: AtomicU64::new(0),
            lost: OnceLock::new(),
        }
    }

    /// Closes what is kept, and keeps none from now on.
    pub(crate) fn take_none(&self) {
        if !self.end_keeping().is_empty() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many messages at most brought what nobody could take.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Reads into `bufs`. Descriptors that come along, and those that came before, go to `fds`; without `fds` they are kept as far as the
    /// limit goes, and where that is 0 the kernel closes them. Look at [`lost`](Self::lost) before believing the result.
    ///
    /// With an empty list it takes away an urgent byte (`MSG_OOB`) that stands in front of the next bytes, and no other.
    pub(crate) fn receive(
        &self,
        socket: BorrowedFd<'_>,
        bufs: &mut [IoSliceMut<'_>],
        fds: Option<&mut Vec<OwnedFd>>,
        preserve_blocking: bool,
    ) -> rustix::io::Result<usize> {
        if fds.is_none() && self.limit.load(Ordering::Acquire) == 0 {
            return self.receive_none(socket, bufs);
        }
        let mut arrived = Vec::new();
        let message = channel_sys::receive(socket, bufs, &mut arrived).map_err(errno)?;
        if message.truncated {
            self.lose(format!(
                "{} arrived and were closed; the kernel cut off the others, as it does when this process has no \
                 descriptors left (RLIMIT_NOFILE)",
                arrived.len()
            ));
            return Ok(message.bytes);
        }
        match fds {
            // The end brings none, and those that came before it are not handed out with it.
            _ if message.bytes == 0 && arrived.is_empty() => {}
            Some(fds) if !arrived.is_empty() || self.has_kept.load(Ordering::Acquire) => {
                self.deliver(arrived, fds, preserve_blocking);
            }
            None if !arrived.is_empty() => self.keep(arrived),
            _ => {}
        }
        Ok(message.bytes)
    }

    /// Without control buffer: the kernel closes descriptors that come along, and says so.
    fn receive_none(&self, socket: BorrowedFd<'_>, bufs: &mut [IoSliceMut<'_>]) -> rustix::io::Result<usize> {
        let mut none = RecvAncillaryBuffer::default();
        let message = retry_on_intr(|| recvmsg(socket, bufs, &mut none, RecvFlags::DONTWAIT))?;
        if message.flags.contains(ReturnFlags::CTRUNC) {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        Ok(message.bytes)
    }

    /// The error that ended the stream, if descriptors were lost.
    pub(crate) fn lost(&self) -> Option<&Error> {
        self.lost.get()
    }

    /// Closes what was kept, and keeps none from now on.
    pub(crate) fn clear(&self) {
        drop(self.end_keeping());
    }

    fn end_keeping(&self) -> Vec<OwnedFd> {
        let mut kept = self.lock();
        self.limit.store(0, Ordering::Release);
        std::mem::take(&mut *kept)
    }

    fn deliver(&self, arrived: Vec<OwnedFd>, fds: &mut Vec<OwnedFd>, preserve_blocking: bool) {
        let mut kept = self.lock();
        self.has_kept.store(false, Ordering::Release);
        let first = fds.len();
        fds.append(&mut kept);
        drop(kept);
        fds.extend(arrived);
        if preserve_blocking {
            return;
        }
        for fd in &fds[first..] {
            if let Err(errno) = make_blocking(fd) {
                self.lose(format!("one could not be made blocking: {errno}"));
                fds.truncate(first);
                return;
            }
        }
    }

    fn keep(&self, arrived: Vec<OwnedFd>) {
        let mut kept = self.lock();
        let limit = self.limit.load(Ordering::Acquire) as usize;
        if limit == 0 {
            // The socket was closed, or taken over, while they were received.
            drop(kept);
            self.refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if kept.len() + arrived.len() > limit {
            drop(kept);
            self.lose(format!(
                "{} arrived on a read that did not ask for any, and were closed: no more than {limit} are kept \
                 (Limits::kept_descriptors)",
                arrived.len()
            ));
            return;
        }
        kept.extend(arrived);
        self.has_kept.store(!kept.is_empty(), Ordering::Release);
    }

    fn lose(&self, detail: String) {
        let error = Error::new(ErrorKind::DescriptorsLost, "socket", detail).during("read");
        let _ = self.lost.set(error); // the first loss is the one that ended the stream
    }

    fn lock(&self) -> MutexGuard<'_, Vec<OwnedFd>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the system call failed with, as everything here has it.
fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

/// A descriptor opened with `O_PATH` refuses `F_SETFL`, and never has `O_NONBLOCK`: only what has it is touched.
fn make_blocking(fd: &OwnedFd) -> rustix::io::Result<()> {
    let flags = fcntl_getfl(fd)?;
    if flags.contains(OFlags::NONBLOCK) {
        fcntl_setfl(fd, flags - OFlags::NONBLOCK)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    /// As where another thread closes the socket, or puts a layer over it, while this one receives.
    #[test]
    fn what_arrives_when_nothing_is_kept_any_more_is_closed() {
        for ends in [Received::clear, Received::take_none] {
            let received = Received::keeping(10);
            let arrived = || vec![eventfd(0, EventfdFlags::CLOEXEC).unwrap()];
            received.keep(arrived());
            assert_eq!(received.lock().len(), 1);
            ends(&received);
            let told = received.refused();
            received.keep(arrived());
            assert_eq!((received.lock().len(), received.refused()), (0, told + 1));
            assert!(received.lost().is_none());
        }
    }
}
