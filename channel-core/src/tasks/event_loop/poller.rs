//! Descriptors, their handlers, and epoll.

use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

use super::{Callback, LAYER, Panics, failed};
use crate::{Direction, Error, ErrorKind, Result};

/// The handlers of descriptors, and the epoll instance that watches them.
pub(super) struct Poller {
    epoll: OwnedFd,
    /// Held while the kernel is told of a change, so that both always agree; never while a callback runs or is dropped.
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// By the number of the descriptor, which stays its own because the entry keeps it open. The kernel hands out the lowest, so that
    /// this is no longer than its own table.
    watched: Vec<Option<Box<Watched>>>,
    /// How many of them there are.
    count: usize,
    /// How many descriptors were ever added: tells those apart that had the same number one after the other.
    added: u32,
    /// How many batches of events were begun.
    batch: u64,
    /// Nobody polls any more.
    closed: bool,
}

/// A descriptor with at least one handler.
struct Watched {
    fd: Arc<OwnedFd>,
    /// What the kernel puts into its events.
    mark: u64,
    read: Option<Handler>,
    write: Option<Handler>,
}

struct Handler {
    callback: Callback,
    /// The batch it was set in: the events of that batch are none of its own.
    batch: u64,
}

/// What a change took out of the table.
type Gone = (Option<Handler>, Option<Box<Watched>>);

/// How many events a turn takes from the kernel at most; those beyond come first in the next.
const BATCH: usize = 256;

/// Room for the events of a turn.
pub(super) fn batch() -> [MaybeUninit<Event>; BATCH] {
    [const { MaybeUninit::uninit() }; BATCH]
}

/// The mark of the eventfd. No descriptor has the number in its lower half.
const WAKE: u64 = u64::MAX;

impl Poller {
    /// A poller whose sleep every write to `wake` ends: an eventfd(2) whose count would be full after 2⁶⁴ writes.
    pub(super) fn new(wake: &OwnedFd) -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(|errno| failed(errno, "new"))?;
        let poller = Self { epoll, table: Mutex::default() };
        poller.wake_by(wake.as_fd())?;
        Ok(poller)
    }

    /// Has every edge of `wake` to readable end a sleep; nobody needs to read it.
    pub(super) fn wake_by(&self, wake: BorrowedFd<'_>) -> Result<()> {
        epoll::add(&self.epoll, wake, EventData::new_u64(WAKE), EventFlags::IN | EventFlags::ET)
            .map_err(|errno| failed(errno, "new"))
    }

    /// The epoll instance, for whoever polls it.
    #[cfg(feature = "tokio")]
    pub(super) fn epoll(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Sleeps until a descriptor is ready or `timeout` has passed. An interrupted sleep has no events.
    pub(super) fn wait<'a>(
        &self,
        space: &'a mut [MaybeUninit<Event>],
        timeout: Option<Timespec>,
    ) -> Result<&'a [Event]> {
        match epoll::wait(&self.epoll, space, timeout.as_ref()) {
            Ok((ready, _)) => Ok(ready),
            Err(Errno::INTR) => Ok(&[]),
            Err(errno) => Err(failed(errno, "epoll_wait")),
        }
    }

    /// Begins with the events that have just come: handlers set from here on are not called for them.
    pub(super) fn begin_batch(&self) {
        self.lock().batch += 1;
    }

    /// Whom to call for `event` in `direction`, if that is ready and the handler was there when the batch began.
    pub(super) fn handler(&self, event: &Event, direction: Direction) -> Option<Callback> {
        let (flags, mark) = (event.flags, event.data.u64());
        if mark == WAKE || !flags.intersects(ready(direction)) {
            return None;
        }
        let table = self.lock();
        let watched = table.watched.get(number(mark))?.as_ref()?;
        let handler = watched.handler(direction).as_ref()?;
        let is_meant = watched.mark == mark && handler.batch != table.batch;
        is_meant.then(|| Arc::clone(&handler.callback))
    }

    /// Sets, replaces or clears a handler. When it fails, everything is as before.
    pub(super) fn set(&self, fd: &Arc<OwnedFd>, direction: Direction, callback: Option<Callback>) -> Result<()> {
        let mut table = self.lock();
        if table.closed && callback.is_some() {
            drop(table);
            return Err(Error::new(ErrorKind::Closed, LAYER, "the loop has ended").of_part().during("set_fd_handler"));
        }
        let gone = table.set(&self.epoll, fd, direction, callback.as_ref());
        drop(table);
        // What went, and `callback` if it was refused, may do anything when it is dropped: not under the lock.
        gone.map(drop).map_err(|errno| failed(errno, "set_fd_handler"))
    }

    /// Clears all handlers, and takes no more.
    pub(super) fn close(&self, panics: &mut Panics) {
        let mut table = self.lock();
        table.closed = true;
        let gone = mem::take(&mut table.watched);
        table.count = 0;
        drop(table);
        for watched in gone.into_iter().flatten() {
            // As where one is cleared; and nobody listens any more.
            let _ = epoll::delete(&self.epoll, &watched.fd);
            let Watched { read, write, fd, .. } = *watched;
            // One by one: a panic while another one unwinds would end the program.
            panics.catch(|| drop(read));
            panics.catch(|| drop(write));
            drop(fd);
        }
    }

    /// How many descriptors have a handler.
    pub(super) fn count(&self) -> usize {
        self.lock().count
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing that can panic runs under this lock.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn set(
        &mut self,
        epoll: &OwnedFd,
        fd: &Arc<OwnedFd>,
        direction: Direction,
        callback: Option<&Callback>,
    ) -> Result<Gone, Errno> {
        let handler = callback.map(|callback| Handler { callback: Arc::clone(callback), batch: self.batch });
        let number = fd.as_raw_fd() as usize;
        if number >= self.watched.len() {
            if handler.is_none() {
                return Ok((None, None));
            }
            self.watched.resize_with(number + 1, || None);
        }
        let place = &mut self.watched[number];
        match place {
            None => {
                if handler.is_some() {
                    let added = self.added.wrapping_add(1);
                    let mut new = Watched { fd: Arc::clone(fd), mark: mark(fd, added), read: None, write: None };
                    *new.handler_mut(direction) = handler;
                    epoll::add(epoll, fd, EventData::new_u64(new.mark), new.interest())?;
                    self.added = added;
                    self.count += 1;
                    *place = Some(Box::new(new));
                }
                Ok((None, None))
            }
            Some(watched) => {
                let before = watched.interest();
                let old = mem::replace(watched.handler_mut(direction), handler);
                let after = watched.interest();
                if after.is_empty() {
                    // This fails only where the kernel does not know the descriptor, which is what is wanted.
                    let _ = epoll::delete(epoll, &watched.fd);
                    self.count -= 1;
                    return Ok((old, place.take()));
                }
                if after != before {
                    if let Err(errno) = epoll::modify(epoll, &watched.fd, EventData::new_u64(watched.mark), after) {
                        *watched.handler_mut(direction) = old;
                        return Err(errno);
                    }
                }
                Ok((old, None))
            }
        }
    }
}

impl Watched {
    fn handler(&self, direction: Direction) -> &Option<Handler> {
        match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        }
    }

    fn handler_mut(&mut self, direction: Direction) -> &mut Option<Handler> {
        match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        }
    }

    /// What the kernel is asked to report; errors and hang-ups it reports anyway.
    fn interest(&self) -> EventFlags {
        let mut interest = EventFlags::empty();
        if self.read.is_some() {
            interest |= EventFlags::IN | EventFlags::RDHUP;
        }
        if self.write.is_some() {
            interest |= EventFlags::OUT;
        }
        interest
    }
}

/// The events that make `direction` ready.
fn ready(direction: Direction) -> EventFlags {
    let own = match direction {
        Direction::Read => EventFlags::IN | EventFlags::RDHUP,
        Direction::Write => EventFlags::OUT,
    };
    own | EventFlags::ERR | EventFlags::HUP
}

/// The number of the descriptor in the lower half, and in the upper one which of its bearers is meant.
fn mark(fd: &Arc<OwnedFd>, added: u32) -> u64 {
    u64::from(added) << 32 | u64::from(fd.as_raw_fd() as u32)
}

fn number(mark: u64) -> usize {
    mark as u32 as usize
}

#[cfg(test)]
mod tests {
    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    fn poller() -> (Poller, OwnedFd) {
        let wake = flag(0);
        (Poller::new(&wake).unwrap(), wake)
    }

    fn flag(count: u32) -> OwnedFd {
        eventfd(count, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
    }

    fn nothing() -> Option<Callback> {
        Some(Arc::new(|| ()))
    }

    const NOW: Option<Timespec> = Some(Timespec { tv_sec: 0, tv_nsec: 0 });

    #[test]
    fn an_event_reaches_nobody_if_its_number_changed_hands_before_the_batch_began() {
        let (poller, _wake) = poller();
        let (ready, idle) = (flag(1), flag(0));
        // Far above what others in this process want.
        let first = Arc::new(rustix::io::fcntl_dupfd_cloexec(&ready, 500).unwrap());
        let number = first.as_raw_fd();
        poller.set(&first, Direction::Read, nothing()).unwrap();
        let mut space = batch();
        let [event] = poller.wait(&mut space, NOW).unwrap() else { panic!("one event") };
        poller.set(&first, Direction::Read, None).unwrap();
        drop(first);
        let second = Arc::new(rustix::io::fcntl_dupfd_cloexec(&idle, number).unwrap());
        assert_eq!(second.as_raw_fd(), number);
        poller.set(&second, Direction::Read, nothing()).unwrap();
        poller.begin_batch();
        assert!(poller.handler(event, Direction::Read).is_none());
    }

    #[test]
    fn a_change_that_fails_leaves_what_was_there() {
        let (poller, _wake) = poller();
        let fd = Arc::new(flag(1));
        poller.set(&fd, Direction::Read, nothing()).unwrap();
        // So that the kernel refuses to change it.
        epoll::delete(&poller.epoll, &fd).unwrap();
        let error = poller.set(&fd, Direction::Write, nothing()).unwrap_err();
        assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::NotFound);
        let table = poller.lock();
        let watched = table.watched[fd.as_raw_fd() as usize].as_ref().unwrap();
        assert!(watched.read.is_some() && watched.write.is_none());
    }

    /// What the kernel was asked to report of `fd`, as proc(5) has it.
    fn asked(poller: &Poller, fd: &OwnedFd) -> EventFlags {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", poller.epoll.as_raw_fd())).unwrap();
        let number = fd.as_raw_fd().to_string();
        let words = info.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let flags = words.into_iter().find_map(|words| match &words[..] {
            ["tfd:", target, "events:", flags, ..] if *target == number => u32::from_str_radix(flags, 16).ok(),
            _ => None,
        });
        EventFlags::from_bits_retain(flags.expect("the kernel knows the descriptor"))
    }

    #[test]
    fn the_end_of_the_peers_output_alone_concerns_the_reader_and_nobody_else() {
        let (poller, _wake) = poller();
        let fd = Arc::new(flag(0));
        poller.set(&fd, Direction::Write, nothing()).unwrap();
        assert!(!asked(&poller, &fd).contains(EventFlags::RDHUP));
        poller.set(&fd, Direction::Read, nothing()).unwrap();
        assert!(asked(&poller, &fd).contains(EventFlags::RDHUP));

        // Sockets of today report readable along with it; epoll_ctl(2) does not promise that.
        poller.begin_batch();
        let mark = poller.lock().watched[fd.as_raw_fd() as usize].as_ref().unwrap().mark;
        let ended = Event { flags: EventFlags::RDHUP, data: EventData::new_u64(mark) };
        assert!(poller.handler(&ended, Direction::Read).is_some());
        assert!(poller.handler(&ended, Direction::Write).is_none());
    }
}
