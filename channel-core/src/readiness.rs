//! The one question every waiter asks: what must happen before this direction can make progress?

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::wait_queue::{Sleeper, Tickets};
use crate::{Error, Result, Ticket};

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
    /// Nothing can be done until one of these happens. Holds until the next call on the channel by anyone:
    /// [`block`](Readiness::block) hears of those, and who polls by other means asks again after each.
    ///
    /// Descriptors are meant as poll(2) means them: one may be ready by now, so an edge-triggered loop arms them anew for
    /// each answer, changed or not. A deadline that has passed is due now.
    Wait(Interests),
}

/// What to wait for: any one of a few descriptors, or a deadline.
#[derive(Clone, Debug, Default)]
pub struct Interests {
    inline: [Option<Interest>; 2],
    more: Vec<Interest>,
    tickets: Tickets,
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

    /// Adds a place in a channel's [`WaitQueue`](crate::WaitQueue), for what shows on none of the descriptors.
    pub fn add_ticket(&mut self, ticket: Ticket) {
        self.tickets.add(ticket);
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
        for ticket in other.tickets.iter() {
            self.tickets.add(ticket.clone());
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

    /// Adds a place in a channel's [`WaitQueue`](crate::WaitQueue) to a `Wait`.
    #[must_use]
    pub fn with_ticket(mut self, ticket: Ticket) -> Self {
        if let Self::Wait(interests) = &mut self {
            interests.add_ticket(ticket);
        }
        self
    }

    /// Adds a deadline to a `Wait`.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Option<Instant>) -> Self {
        if let (Self::Wait(interests), Some(deadline)) = (&mut self, deadline) {
            interests.add_deadline(deadline);
        }
        self
    }

    /// Sleeps in poll(2) until one of the descriptors is ready, a call of another thread left something that this answer
    /// depends on, or a deadline passes; says whether that was anything but the caller's own `deadline`. One inside the answer counts as an
    /// event, also where both have passed.
    ///
    /// # Errors
    /// Only what poll(2) itself fails with, such as `ENOMEM`; an interrupted poll goes on.
    pub fn block(&self, deadline: Option<Instant>) -> Result<bool> {
        match self {
            Self::Ready => Ok(true),
            Self::Wait(interests) => interests.block(deadline),
        }
    }
}

/// How long a thread sleeps that nobody can wake, because there is no descriptor to be had for that.
const UNWAKEABLE: Duration = Duration::from_millis(10);

impl Interests {
    fn block(&self, deadline: Option<Instant>) -> Result<bool> {
        if self.tickets.is_empty() {
            return self.poll_until(self.deadline, deadline, None);
        }
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            // A look, and no sleep that anybody would have to end.
            return if self.tickets.is_outdated() { Ok(true) } else { self.poll_until(self.deadline, deadline, None) };
        }
        let Some(sleeper) = Sleeper::enter(&self.tickets) else {
            return Ok(true); // something has changed since
        };
        let bell = sleeper.fd();
        let look_again = if bell.is_none() { Instant::now().checked_add(UNWAKEABLE) } else { None };
        self.poll_until(self.deadline.into_iter().chain(look_again).min(), deadline, bell)
    }

    /// Sleeps until something happens, the time `event` counting as that, or until `deadline`: whether something did.
    fn poll_until(
        &self,
        event: Option<Instant>,
        deadline: Option<Instant>,
        bell: Option<BorrowedFd<'_>>,
    ) -> Result<bool> {
        let until = event.into_iter().chain(deadline).min();
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if self.poll(left, bell)? {
                return Ok(true);
            }
            let now = Instant::now();
            // First: who made the call has more to tell than that it took too long.
            if event.is_some_and(|event| event <= now) {
                return Ok(true);
            }
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Ok(false);
            }
        }
    }

    /// Whether one of the descriptors, or `bell`, became ready; an interrupted poll is none.
    fn poll(&self, left: Option<Duration>, bell: Option<BorrowedFd<'_>>) -> Result<bool> {
        let timeout = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        let bell = bell.map(|bell| PollFd::from_borrowed_fd(bell, PollFlags::IN));
        let mut entries = self.iter().map(entry).chain(bell);
        let polled = match (entries.next(), entries.next(), entries.next(), entries.next()) {
            (None, ..) => poll(&mut [], timeout.as_ref()),
            (Some(a), None, ..) => poll(&mut [a], timeout.as_ref()),
            (Some(a), Some(b), None, _) => poll(&mut [a, b], timeout.as_ref()),
            (Some(a), Some(b), Some(c), None) => poll(&mut [a, b, c], timeout.as_ref()),
            (Some(a), Some(b), Some(c), Some(d)) => {
                let mut all: Vec<PollFd<'_>> = [a, b, c, d].into_iter().chain(entries).collect();
                poll(&mut all, timeout.as_ref())
            }
        };
        match polled {
            Ok(count) => Ok(count > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(errno) => Err(Error::from_io(errno.into(), "poll").during("wait")),
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

#[cfg(all(test, not(loom)))]
mod tests {
    use std::thread;

    use rustix::event::{EventfdFlags, eventfd};

    use super::*;
    use crate::{News, WaitQueue};

    fn event(count: u32) -> Arc<OwnedFd> {
        Arc::new(eventfd(count, EventfdFlags::CLOEXEC).unwrap())
    }

    #[test]
    fn a_look_sees_what_has_changed_since_the_answer_was_given() {
        let queue = WaitQueue::default();
        let answer = Readiness::wait_for(&event(0), Direction::Read).with_ticket(queue.ticket().heeding(News::READ));
        let look = || answer.block(Some(Instant::now())).unwrap();
        assert!(!look());
        queue.wake(News::READ);
        assert!(look());
    }

    #[test]
    fn of_many_descriptors_each_ends_the_wait() {
        for ready in 0..6 {
            let fds: Vec<Arc<OwnedFd>> = (0..6).map(|at| event((at == ready).into())).collect();
            let mut interests = Interests::new();
            fds.iter().for_each(|fd| interests.add(fd, Direction::Read));
            let now = Some(Instant::now());
            assert!(Readiness::Wait(interests).block(now).unwrap(), "descriptor {ready} of {}", fds.len());
        }
    }

    #[test]
    fn of_two_answers_that_were_joined_the_first_deadline_counts_as_an_event() {
        let (fd, begun) = (event(0), Instant::now());
        let wait =
            |after| Readiness::wait_for(&fd, Direction::Read).with_deadline(Some(begun + Duration::from_secs(after)));
        for joined in [wait(0).or(wait(1000)), wait(1000).or(wait(0))] {
            assert!(joined.block(Some(begun + Duration::from_secs(1000))).unwrap());
        }
    }

    #[test]
    fn of_two_answers_that_were_joined_the_queues_of_both_wake() {
        for waking in 0..2 {
            let (queues, fd) = ([WaitQueue::default(), WaitQueue::default()], event(0));
            let [one, other] = queues
                .each_ref()
                .map(|queue| Readiness::wait_for(&fd, Direction::Read).with_ticket(queue.ticket().heeding(News::READ)));
            let joined = one.or(other);
            thread::scope(|scope| {
                let sleeper = scope.spawn(|| joined.block(Some(Instant::now() + Duration::from_secs(20))));
                queues[waking].wake(News::READ);
                assert!(sleeper.join().unwrap().unwrap());
            });
        }
    }
}
