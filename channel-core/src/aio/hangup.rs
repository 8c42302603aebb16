//! Hang-ups and errors of descriptors, apart from their readiness.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use rustix::event::{Timespec, epoll};

use super::watch::Condition;
use crate::{Channel, Direction, Error, Readiness, Result, lowest_layer};

/// An epoll(7) descriptor that becomes readable when descriptors of a channel hang up or fail, and for nothing else: epoll
/// reports those two where nothing is asked for. Edge-triggered, so that a hang-up, which stays, is told once.
///
/// It holds the descriptors weakly: who watches for hang-ups does not keep a file open.
#[derive(Debug)]
pub(super) struct HangUps {
    epoll: Arc<OwnedFd>,
    watched: Vec<Weak<OwnedFd>>,
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
        for fd in &fds {
            epoll::add(&epoll, fd, epoll::EventData::new_u64(0), epoll::EventFlags::ET).map_err(failed)?;
        }
        Ok(Some(Self { epoll: Arc::new(epoll), watched: fds.iter().map(Arc::downgrade).collect() }))
    }

    /// What to poll for reading.
    pub(super) fn fd(&self) -> &Arc<OwnedFd> {
        &self.epoll
    }

    /// What came up since this was last asked; `None` if the channel has let go of the descriptors.
    pub(super) fn take(&self) -> Option<Condition> {
        let mut seen = Condition::empty();
        let mut events = [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 4];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        while let Ok(count @ 1..) = epoll::wait(&self.epoll, &mut events[..], Some(&now)) {
            for event in events.iter().take(count) {
                let flags = event.flags;
                seen.set(Condition::HUP, seen.contains(Condition::HUP) || flags.contains(epoll::EventFlags::HUP));
                seen.set(Condition::ERR, seen.contains(Condition::ERR) || flags.contains(epoll::EventFlags::ERR));
            }
        }
        self.watched.iter().any(|fd| fd.strong_count() > 0).then_some(seen)
    }
}
