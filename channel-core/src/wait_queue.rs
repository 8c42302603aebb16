//! Threads that sleep in poll(2), and the calls of others that wake them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering as StdOrdering};
use std::sync::{Arc, OnceLock, PoisonError};

use bitflags::bitflags;
#[cfg(loom)]
use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, Ordering, fence},
};
#[cfg(not(loom))]
use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, Ordering, fence},
};

use crate::event_fd;

bitflags! {
    /// What a call left that a thread may sleep through, for it shows on no descriptor.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct News: u8 {
        /// A read has something to say by now: bytes that are held, an end, an error.
        const READ = 1;
        /// A write has something to say by now: that our output has ended, or failed.
        const WRITE = 2;
        /// Output waits for the descriptor to become writable.
        const UNSENT = 4;
    }
}

/// Who sleeps until one of the channel's descriptors is ready, and what other threads' calls leave that no descriptor shows.
///
/// For implementers of [`Channel`](crate::Channel). A channel puts a [`Ticket`] of its queue into each answer of
/// [`readiness`](crate::Channel::readiness) that says to wait, and calls [`wake`](Self::wake) at the end of each call that left something
/// new. A channel all of whose changes show on its descriptors needs none.
///
/// No news is lost: the ticket is taken *before* looking at what the answer depends on, and news are told *after* that was
/// changed. A thread that fell asleep in between finds that something changed, and looks again.
#[derive(Debug, Default)]
pub struct WaitQueue(Arc<Queue<Arc<Bell>>>);

impl WaitQueue {
    /// A place in the queue that heeds nothing yet: say what with [`Ticket::heeding`], or nobody is woken. Take it before looking at what
    /// the answer depends on.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        Ticket { queue: Arc::clone(&self.0), seen: self.0.seen(), heeds: News::empty() }
    }

    /// Wakes who sleeps on an answer that heeds any of `news`, each once, and has those look again who are about to sleep. A
    /// system call only where somebody sleeps; never waits.
    pub fn wake(&self, news: News) {
        self.0.wake(news);
    }
}

/// A place in a [`WaitQueue`], taken before an answer was given.
#[derive(Clone, Debug)]
pub struct Ticket {
    queue: Arc<Queue<Arc<Bell>>>,
    seen: u32,
    heeds: News,
}

impl Ticket {
    /// The place of one who wants to hear of `news`: a leaf's reader of [`READ`](News::READ), its writer of [`WRITE`](News::WRITE), and a
    /// reader of a layer that holds output of [`UNSENT`](News::UNSENT), too, unless the answer waits for room already [[Q2]].
    #[doc = channel_core::promises!(Q2)]
    #[must_use]
    pub fn heeding(self, news: News) -> Self {
        Self { heeds: news, ..self }
    }

    /// Makes this the place of `other`, too, if that is in the same queue, and says so.
    fn absorb(&mut self, other: &Self) -> bool {
        let same = Arc::ptr_eq(&self.queue, &other.queue);
        if same {
            self.heeds |= other.heeds;
            let is_older = self.seen.wrapping_sub(other.seen) < u32::MAX / 2;
            self.seen = if is_older { other.seen } else { self.seen };
        }
        same
    }
}

/// The tickets of an answer: one for each queue.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tickets {
    inline: [Option<Ticket>; 3],
    more: Vec<Ticket>,
}

impl Tickets {
    pub(crate) fn add(&mut self, ticket: Ticket) {
        for known in self.inline.iter_mut().flatten().chain(&mut self.more) {
            if known.absorb(&ticket) {
                return;
            }
        }
        match self.inline.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => *slot = Some(ticket),
            None => self.more.push(ticket),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Ticket> {
        self.inline.iter().flatten().chain(&self.more)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Whether something has changed since the answer was given.
    pub(crate) fn is_outdated(&self) -> bool {
        self.iter().any(|ticket| ticket.queue.seen() != ticket.seen)
    }
}

/// The calling thread, in the queues of an answer for as long as it sleeps on that.
#[derive(Debug)]
pub(crate) struct Sleeper<'a> {
    tickets: &'a Tickets,
    bell: Arc<Bell>,
}

impl<'a> Sleeper<'a> {
    /// Enters the queues; `None` if something has changed since the answer was given.
    pub(crate) fn enter(tickets: &'a Tickets) -> Option<Self> {
        let sleeper = Self { tickets, bell: Bell::of_this_thread() };
        let entered = |ticket: &Ticket| ticket.queue.enter(ticket.seen, ticket.heeds, &sleeper.bell);
        let unchanged = tickets.iter().all(entered);
        unchanged.then_some(sleeper)
    }

    /// What becomes readable when somebody wakes it; `None` where no descriptor is to be had.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.bell.fd.get().map(AsFd::as_fd)
    }
}

impl Drop for Sleeper<'_> {
    fn drop(&mut self) {
        for ticket in self.tickets.iter() {
            ticket.queue.leave(&self.bell);
        }
        self.bell.quiet(); // nobody can ring any more
    }
}

/// What wakes a thread: an eventfd(2) of its own, made when it first sleeps where it may have to be woken.
#[derive(Debug, Default)]
struct Bell {
    rung: AtomicBool,
    /// Where none is to be had (`EMFILE`) the next sleep tries again.
    fd: OnceLock<OwnedFd>,
}

impl Bell {
    fn of_this_thread() -> Arc<Self> {
        thread_local! {
            static BELL: Arc<Bell> = Arc::default();
        }
        // A thread that is ending has none of its own any more.
        let bell = BELL.try_with(Arc::clone).unwrap_or_default();
        if bell.fd.get().is_none() {
            if let Ok(fd) = event_fd::new(false) {
                let _ = bell.fd.set(fd); // nobody else sets it
            }
        }
        bell
    }

    fn quiet(&self) {
        if self.rung.swap(false, StdOrdering::AcqRel) {
            if let Some(fd) = self.fd.get() {
                event_fd::lower(fd);
            }
        }
    }
}

/// What a queue has for each sleeper.
trait Rings: Clone {
    fn ring(&self);

    fn is(&self, other: &Self) -> bool;
}

impl Rings for Arc<Bell> {
    fn is(&self, other: &Self) -> bool {
        Self::ptr_eq(self, other)
    }

    fn ring(&self) {
        if self.rung.swap(true, StdOrdering::AcqRel) {
            return;
        }
        if let Some(fd) = self.fd.get() {
            event_fd::raise(fd);
        }
    }
}

/// The queue itself; the loom test below tries every interleaving.
///
/// Who sleeps enters, then looks whether anything changed; who changes something counts that, then looks whether anybody has
/// entered. With a fence in between on both sides one of the two sees the other.
#[derive(Debug)]
struct Queue<B> {
    changes: AtomicU32,
    /// How many are in `list`.
    count: AtomicU32,
    list: Mutex<Vec<(News, B)>>,
}

impl<B> Default for Queue<B> {
    fn default() -> Self {
        Self { changes: AtomicU32::new(0), count: AtomicU32::new(0), list: Mutex::new(Vec::new()) }
    }
}

impl<B> Queue<B> {
    fn seen(&self) -> u32 {
        self.changes.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(News, B)>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: Rings> Queue<B> {
    /// Enters `bell`; says whether nothing has changed since `seen`.
    fn enter(&self, seen: u32, heeds: News, bell: &B) -> bool {
        let mut list = self.lock();
        list.reserve_exact(1); // most queues have one sleeper at a time
        list.push((heeds, bell.clone()));
        self.count(&list);
        drop(list);
        fence(Ordering::SeqCst);
        self.changes.load(Ordering::Relaxed) == seen
    }

    /// Takes `bell` out: it is not rung any more when this returns.
    fn leave(&self, bell: &B) {
        let mut list = self.lock();
        list.retain(|(_, known)| !known.is(bell));
        self.count(&list);
    }

    fn count(&self, list: &[(News, B)]) {
        // One a thread, of which a process cannot have so many.
        self.count.store(u32::try_from(list.len()).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    fn wake(&self, news: News) {
        // Release: who sees the change sees what it is about.
        self.changes.fetch_add(1, Ordering::Release);
        fence(Ordering::SeqCst);
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        for (heeds, bell) in &*self.lock() {
            if heeds.intersects(news) {
                bell.ring();
            }
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::{News, Queue, Rings};
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use loom::thread;

    #[derive(Clone)]
    struct Flag(Arc<AtomicUsize>);

    impl Rings for Flag {
        fn ring(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }

        fn is(&self, other: &Self) -> bool {
            Arc::ptr_eq(&self.0, &other.0)
        }
    }

    /// What a channel and a sleeper do, while `callers` leave something.
    fn model(callers: usize) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3); // as for the outbox: each pair of racing steps, in seconds
        builder.check(move || {
            let queue = Arc::new(Queue::default());
            let held = Arc::new(AtomicBool::new(false));
            let calling: Vec<_> = (0..callers)
                .map(|_| {
                    let (queue, held) = (Arc::clone(&queue), Arc::clone(&held));
                    thread::spawn(move || {
                        held.store(true, Ordering::Relaxed);
                        queue.wake(News::READ);
                    })
                })
                .collect();
            let bell = Flag(Arc::new(AtomicUsize::new(0)));
            let seen = queue.seen();
            let asleep = !held.load(Ordering::Relaxed) && queue.enter(seen, News::READ, &bell);
            for caller in calling {
                caller.join().unwrap();
            }
            if asleep {
                assert!(bell.0.load(Ordering::SeqCst) > 0, "it sleeps for ever");
            }
            queue.leave(&bell);
            let rung = bell.0.load(Ordering::SeqCst);
            queue.wake(News::READ);
            assert_eq!(bell.0.load(Ordering::SeqCst), rung, "it was rung after it had left");
        });
    }

    #[test]
    fn who_falls_asleep_while_something_is_left_is_woken() {
        model(1);
    }

    #[test]
    fn who_falls_asleep_while_two_leave_something_is_woken() {
        model(2);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::io::{FdFlags, fcntl_getfd};

    use super::*;

    fn is_readable(fd: BorrowedFd<'_>) -> bool {
        let mut entry = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        poll(&mut entry, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() > 0
    }

    fn tickets(all: impl IntoIterator<Item = Ticket>) -> Tickets {
        let mut tickets = Tickets::default();
        all.into_iter().for_each(|ticket| tickets.add(ticket));
        tickets
    }

    #[test]
    fn a_sleeper_is_rung_for_what_it_heeds_alone_and_the_next_sleep_begins_in_silence() {
        let queue = WaitQueue::default();
        for _ in 0..2 {
            let tickets = tickets([queue.ticket().heeding(News::READ), queue.ticket().heeding(News::UNSENT)]);
            let sleeper = Sleeper::enter(&tickets).unwrap();
            assert_eq!(fcntl_getfd(sleeper.fd().unwrap()), Ok(FdFlags::CLOEXEC));
            queue.wake(News::WRITE);
            assert!(!is_readable(sleeper.fd().unwrap()));
            queue.wake(News::UNSENT);
            queue.wake(News::READ);
            assert!(is_readable(sleeper.fd().unwrap()));
        }
    }

    #[test]
    fn who_knows_less_than_there_is_does_not_sleep() {
        let (queue, other) = (WaitQueue::default(), WaitQueue::default());
        let old = queue.ticket();
        queue.wake(News::READ);
        let new = queue.ticket();
        assert!(Sleeper::enter(&tickets([old.clone()])).is_none());
        assert!(Sleeper::enter(&tickets([old.clone(), new.clone()])).is_none());
        assert!(Sleeper::enter(&tickets([new.clone(), old, other.ticket()])).is_none());
        assert!(Sleeper::enter(&tickets([other.ticket(), new.clone(), new])).is_some());
    }

    #[test]
    fn a_sleeper_in_many_queues_is_rung_by_each() {
        let queues: Vec<WaitQueue> = (0..10).map(|_| WaitQueue::default()).collect();
        for queue in &queues {
            let tickets = tickets(queues.iter().map(|queue| queue.ticket().heeding(News::READ)));
            let sleeper = Sleeper::enter(&tickets).unwrap();
            queue.wake(News::READ);
            assert!(is_readable(sleeper.fd().unwrap()));
        }
        assert!(queues.iter().all(|queue| queue.0.lock().is_empty()));
    }
}
