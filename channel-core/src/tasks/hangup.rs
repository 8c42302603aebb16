//! Hang-ups and errors of descriptors, apart from their readiness.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use rustix::event::{Timespec, epoll};

use super::watch::Condition;
use crate::{AioChange, Channel, Claimable, Direction, Error, Readiness, Removed, Result, lowest_layer};

/// An epoll(7) descriptor that becomes readable when descriptors of a channel hang up or fail, and for nothing else: epoll
/// reports those two where nothing is asked for. Edge-triggered, so that a hang-up, which stays, is told once.
///
/// It holds the descriptors weakly: who watches for hang-ups does not keep a file open.
#[derive(Debug)]
pub(super) struct HangUps {
    epoll: Arc<OwnedFd>,
    watched: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    fd: Weak<OwnedFd>,
    /// An edge of something else, such as our own shutdown, reports a hang-up again that is known.
    hung_up: AtomicBool,
}

impl Claimable for HangUps {
    fn change_handler(&self, direction: Direction, change: AioChange) -> Result<Removed> {
        match change {
            AioChange::Claim(handler) => {
                handler.context.set_fd_handler(&self.epoll, direction, Some(handler.callback))?;
            }
            AioChange::Release(handler) => handler.context.set_fd_handler(&self.epoll, direction, None)?,
            _ => {}
        }
        Ok(Removed::nothing())
    }
}

impl HangUps {
    /// Those of the lowest channel below `channel`; `None` where that has no descriptors.
    pub(super) fn of(channel: &dyn Channel) -> Result<Option<Self>> {
        let leaf = lowest_layer(channel);
        let mut fds: Vec<Arc<OwnedFd>> = Vec::new();
        for direction in [Direction::Read, Direction::Write] {
            if let Readiness::Wait(interests) = leaf.readiness(direction) {
                for interest in interests.iter() {
                    if !fds.iter().any(|known| Arc::ptr_eq(known, &interest.fd)) {
                        fds.push(Arc::clone(&interest.fd));
                    }
                }
            }
        }
        if fds.is_empty() {
            return Ok(None);
        }
        let failed = |errno: rustix::io::Errno| Error::from_io(errno.into(), leaf.layer());
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed)?;
        for (index, fd) in (0..).zip(&fds) {
            epoll::add(&epoll, fd, epoll::EventData::new_u64(index), epoll::EventFlags::ET).map_err(failed)?;
        }
        let watched = fds.iter().map(|fd| Watched { fd: Arc::downgrade(fd), hung_up: AtomicBool::new(false) });
        Ok(Some(Self { epoll: Arc::new(epoll), watched: watched.collect() }))
    }

    /// What came up since this was last asked.
    pub(super) fn take(&self) -> Condition {
        let mut seen = Condition::empty();
        let mut events = [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 4];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        while let Ok(count @ 1..) = epoll::wait(&self.epoll, &mut events[..], Some(&now)) {
            for event in events.iter().take(count) {
                let index = usize::try_from(event.data.u64()).ok();
                let Some(watched) = index.and_then(|index| self.watched.get(index)) else { continue };
                if watched.fd.strong_count() == 0 {
                    continue; // the channel let go of it; what is reported is a copy that somebody else has open
                }
                let flags = event.flags;
                let hung_up = flags.contains(epoll::EventFlags::HUP);
                if !watched.hung_up.swap(hung_up, Ordering::AcqRel) && hung_up {
                    seen |= Condition::HUP;
                }
                if flags.contains(epoll::EventFlags::ERR) {
                    seen |= Condition::ERR;
                }
            }
        }
        seen
    }
}
