//! The one question every waiter asks: what must happen before this direction can make progress?

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::{Error, Result};

/// Which way bytes go, seen from the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the peer to us.
    Read,
    /// From us to the peer.
    Write,
}

/// One thing to wait for: a descriptor and how it must become ready.
///
/// The descriptor is counted: as long as an `Interest` lives its number cannot be reused, so no waiter ever polls a
/// stranger's file.
#[derive(Clone, Debug)]
pub struct Interest {
    /// The descriptor to poll.
    pub fd: Arc<OwnedFd>,
    /// Whether it must become readable or writable. An error or a hang-up counts as either.
    pub direction: Direction,
}

/// The answer to [`Channel::readiness`](crate::Channel::readiness).
#[derive(Clone, Debug)]
pub enum Readiness {
    /// A call in this direction can make progress now. It may be wrong once; the call then says would-block and the next
    /// answer is `Wait`.
    Ready,
    /// Nothing can be done until one of these happens. Holds until the next call on the channel by anyone.
    ///
    /// Descriptors are meant as poll(2) means them: one may be ready by now, so an edge-triggered loop arms them anew for
    /// each answer, changed or not.
    Wait(Interests),
}

/// What to wait for: any one of a few descriptors, or a deadline.
#[derive(Clone, Debug, Default)]
pub struct Interests {
    inline: [Option<Interest>; 4],
    more: Vec<Interest>,
    deadline: Option<Instant>,
}

impl Interests {
    /// Nothing to wait for yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a descriptor, once.
    pub fn add(&mut self, fd: &Arc<OwnedFd>, direction: Direction) {
        if self.iter().any(|known| known.direction == direction && Arc::ptr_eq(&known.fd, fd)) {
            return;
        }
        let interest = Interest { fd: Arc::clone(fd), direction };
        match self.inline.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => *slot = Some(interest),
            None => self.more.push(interest),
        }
    }

    /// Adds a deadline; the earliest one counts.
    pub fn add_deadline(&mut self, deadline: Instant) {
        self.deadline = Some(self.deadline.map_or(deadline, |known| known.min(deadline)));
    }

    /// The descriptors, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Interest> {
        self.inline.iter().flatten().chain(&self.more)
    }

    /// When to stop waiting and call the channel even if nothing happened.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn absorb(&mut self, other: &Self) {
        for interest in other.iter() {
            self.add(&interest.fd, interest.direction);
        }
        if let Some(deadline) = other.deadline {
            self.add_deadline(deadline);
        }
    }
}

impl Readiness {
    /// Wait for one descriptor.
    #[must_use]
    pub fn wait_for(fd: &Arc<OwnedFd>, direction: Direction) -> Self {
        let mut interests = Interests::new();
        interests.add(fd, direction);
        Self::Wait(interests)
    }

    /// Whether a call can make progress now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready)
    }

    /// Either of two answers will do.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Wait(mut ours), Self::Wait(theirs)) => {
                ours.absorb(&theirs);
                Self::Wait(ours)
            }
            _ => Self::Ready,
        }
    }

    /// Adds a deadline to a `Wait`.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Option<Instant>) -> Self {
        if let (Self::Wait(interests), Some(deadline)) = (&mut self, deadline) {
            interests.add_deadline(deadline);
        }
        self
    }

    /// Sleeps in poll(2) until one of the descriptors is ready or a deadline passes, and says whether the caller's own
    /// `deadline` had not passed yet. A deadline inside the answer ends the wait and counts as an event.
    ///
    /// # Errors
    /// Only what poll(2) itself fails with, such as `ENOMEM`; an interrupted poll goes on.
    pub fn block(&self, deadline: Option<Instant>) -> Result<bool> {
        let Self::Wait(interests) = self else {
            return Ok(true);
        };
        let until = match (interests.deadline, deadline) {
            (Some(inner), Some(outer)) => Some(inner.min(outer)),
            (inner, outer) => inner.or(outer),
        };
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let woken = poll_any(interests, left)?;
            if woken {
                return Ok(true);
            }
            let now = Instant::now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Ok(false);
            }
            if interests.deadline.is_some_and(|inner| inner <= now) {
                return Ok(true);
            }
        }
    }
}

/// A poll(2) entry. `RDHUP` too, so that a half-closed peer wakes a reader everywhere.
fn entry(interest: &Interest) -> PollFd<'_> {
    let events = match interest.direction {
        Direction::Read => PollFlags::IN | PollFlags::RDHUP,
        Direction::Write => PollFlags::OUT,
    };
    PollFd::from_borrowed_fd(interest.fd.as_fd(), events)
}

fn poll_any(interests: &Interests, left: Option<Duration>) -> Result<bool> {
    let timeout = left.map(|left| Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    });
    let polled = if interests.more.is_empty() {
        let mut inline = interests.inline.iter().flatten().map(entry);
        match (inline.next(), inline.next(), inline.next(), inline.next()) {
            (None, ..) => poll(&mut [], timeout.as_ref()),
            (Some(a), None, ..) => poll(&mut [a], timeout.as_ref()),
            (Some(a), Some(b), None, _) => poll(&mut [a, b], timeout.as_ref()),
            (Some(a), Some(b), Some(c), None) => poll(&mut [a, b, c], timeout.as_ref()),
            (Some(a), Some(b), Some(c), Some(d)) => poll(&mut [a, b, c, d], timeout.as_ref()),
        }
    } else {
        let mut all: Vec<PollFd<'_>> = interests.iter().map(entry).collect();
        poll(&mut all, timeout.as_ref())
    };
    match polled {
        Ok(count) => Ok(count > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(errno) => Err(Error::from_io(errno.into(), "poll").during("wait")),
    }
}

/// An eventfd(2) that, once woken, stays readable: what makes a sleeper in poll notice `shutdown` or `close` where the
/// descriptor itself would not (pipes, ttys, the write side of a unix socket).
///
/// It is made when the first waiter asks for it; a channel nobody waits on costs no descriptor.
#[derive(Debug, Default)]
pub struct WakeFd(OnceLock<Option<Arc<OwnedFd>>>);

impl WakeFd {
    /// Adds this wake-up to what a waiter waits for. A channel asks *before* it looks whether it was shut down, so that a
    /// wake-up in between is not missed. Where no eventfd can be had (`EMFILE`) nothing is added.
    pub fn add_to(&self, interests: &mut Interests) {
        let made = self.0.get_or_init(|| eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok().map(Arc::new));
        if let Some(fd) = made {
            interests.add(fd, Direction::Read);
        }
        fence(Ordering::SeqCst); // we made the eventfd, then look; whoever wakes sets, then looks for an eventfd
    }

    /// Wakes all present and future waiters. Call it *after* setting what they look at.
    pub fn wake(&self) {
        fence(Ordering::SeqCst);
        if let Some(Some(fd)) = self.0.get() {
            // A full counter is woken already; nothing else can fail on an eventfd we own.
            let _ = rustix::io::write(fd, &1u64.to_ne_bytes());
        }
    }
}
