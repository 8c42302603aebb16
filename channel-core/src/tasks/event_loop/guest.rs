//! The loop as the guest of another one, which sleeps in its place.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use super::LoopHandle;
use super::inbox::Until;
use crate::Result;

impl LoopHandle {
    /// What the host polls while the loop sleeps: readable when it is time for a turn, deadlines aside.
    pub(in crate::tasks) fn polled(&self) -> BorrowedFd<'_> {
        self.poller.epoll()
    }

    /// Has `fd` end the sleep of the loop at each edge to readable.
    ///
    /// # Errors
    /// What epoll_ctl(2) fails with.
    pub(in crate::tasks) fn wake_by(&self, fd: &OwnedFd) -> Result<()> {
        self.poller.wake_by(fd.as_fd())
    }

    /// The loop falls asleep: whatever is left for it from here on makes it readable. `false` if it must not, as there is something
    /// to do.
    pub(in crate::tasks) fn fall_asleep(&self) -> bool {
        let longest = self.inbox.fall_asleep(&Until::Something, None);
        longest.is_none_or(|longest| longest.tv_sec > 0 || longest.tv_nsec > 0)
    }

    /// When the first timer is due. A change of that ends the sleep of the loop.
    pub(in crate::tasks) fn first_deadline(&self) -> Option<Instant> {
        self.inbox.first_deadline()
    }

    /// Takes a turn that does not wait; how much ran. The host calls this from one thread at a time.
    ///
    /// # Errors
    /// What epoll_wait(2) fails with.
    pub(in crate::tasks) fn turn_now(&self) -> Result<usize> {
        self.turn(&Until::Something, Some(Instant::now()))
    }

    /// Whether the host has gone.
    pub(in crate::tasks) fn is_closed(&self) -> bool {
        self.inbox.is_closed()
    }
}
