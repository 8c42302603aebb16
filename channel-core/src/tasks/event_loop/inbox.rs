//! What any thread may leave for the loop, and how the loop is woken.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use async_task::Runnable;
use rustix::event::Timespec;

use super::timers::Timers;
use super::{Panics, TimerId, failed};
use crate::{Result, event_fd};

/// What is left for the loop. Tasks and their wakers hold it, and not the loop itself.
pub(super) struct Inbox {
    /// Never held while a callback runs or is dropped.
    state: Mutex<State>,
    /// Written to end the sleep of the loop.
    wake: OwnedFd,
}

#[derive(Default)]
struct State {
    work: VecDeque<Work>,
    timers: Timers,
    /// Those that are not done, by number, so that they can be cancelled.
    tasks: HashMap<u64, Waker>,
    last_task: u64,
    /// The loop sleeps, or is about to, without knowing of anything that came since. Who leaves something that it should
    /// know of unsets this and writes to the eventfd: once per sleep, and never while the loop is awake.
    asleep: bool,
    stopped: bool,
    /// The loop is gone, or nobody will run it any more.
    closed: bool,
    /// Whoever ends it still drops what comes.
    draining: bool,
}

/// Something to run.
pub(super) enum Work {
    Callback(Box<dyn FnOnce() + Send>),
    Task(Runnable),
}

/// What ends the sleep of a loop beside something to run.
pub(super) enum Until<'a> {
    Something,
    Stopped,
    /// Whoever sets it calls [`Inbox::interrupt`] then.
    Woken(&'a AtomicBool),
}

/// No sleep is longer: epoll_wait(2) counts milliseconds in 31 bits.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

impl Inbox {
    pub(super) fn new() -> Result<Self> {
        let wake = event_fd::new(false).map_err(|errno| failed(errno, "new"))?;
        Ok(Self { state: Mutex::default(), wake })
    }

    pub(super) fn wake_fd(&self) -> &OwnedFd {
        &self.wake
    }

    /// Leaves `work` for the loop; it is dropped if the loop is gone.
    pub(super) fn push(&self, work: Work) {
        let mut state = self.lock();
        // A task that is cancelled comes once more. Of those there are only so many.
        if state.closed && !(state.draining && matches!(work, Work::Task(_))) {
            drop(state);
            return;
        }
        state.work.push_back(work);
        self.rouse(state);
    }

    pub(super) fn set_timer(&self, deadline: Instant, callback: Box<dyn FnOnce() + Send>) -> TimerId {
        let mut state = self.lock();
        let is_first = state.timers.first().is_none_or(|first| deadline < first);
        let id = state.timers.set(deadline, callback);
        if state.closed {
            let refused = state.timers.clear(id);
            drop(state);
            drop(refused); // without the lock
            return id;
        }
        if is_first {
            self.rouse(state);
        }
        id
    }

    /// When the first timer is due.
    #[cfg(feature = "tokio")]
    pub(super) fn first_deadline(&self) -> Option<Instant> {
        self.lock().timers.first()
    }

    pub(super) fn clear_timer(&self, timer: TimerId) {
        let cleared = self.lock().timers.clear(timer);
        drop(cleared); // without the lock
    }

    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.stopped = true;
        self.rouse(state);
    }

    /// Whether the loop was stopped since this was last asked.
    pub(super) fn take_stop(&self) -> bool {
        mem::take(&mut self.lock().stopped)
    }

    /// Ends the sleep of the loop.
    pub(super) fn interrupt(&self) {
        self.rouse(self.lock());
    }

    fn rouse(&self, mut state: MutexGuard<'_, State>) {
        if mem::take(&mut state.asleep) {
            drop(state);
            event_fd::raise(&self.wake);
        }
    }

    /// How long the loop may sleep now; it has to.
    pub(super) fn fall_asleep(&self, until: &Until<'_>, deadline: Option<Instant>) -> Option<Timespec> {
        let mut state = self.lock();
        let end = [state.timers.first(), deadline].into_iter().flatten().min();
        let sleep = if !state.work.is_empty() || until.has_come(&state) {
            Some(Duration::ZERO)
        } else {
            end.map(|end| end.saturating_duration_since(Instant::now()).min(LONGEST))
        };
        state.asleep = sleep != Some(Duration::ZERO);
        sleep.map(|sleep| Timespec {
            tv_sec: i64::try_from(sleep.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: sleep.subsec_nanos().into(),
        })
    }

    /// The loop is awake; whether what ends its sleep has come.
    pub(super) fn wake_up(&self, until: &Until<'_>) -> bool {
        let mut state = self.lock();
        state.asleep = false;
        until.has_come(&state)
    }

    pub(super) fn expire_timers(&self) {
        self.lock().timers.expire();
    }

    pub(super) fn next_due(&self) -> Option<Box<dyn FnOnce() + Send>> {
        self.lock().timers.next_due()
    }

    /// How much work there is.
    pub(super) fn waiting(&self) -> usize {
        self.lock().work.len()
    }

    pub(super) fn next(&self) -> Option<Work> {
        self.lock().work.pop_front()
    }

    /// How much is scheduled, and how many timers are set.
    pub(super) fn counts(&self) -> (usize, usize) {
        let state = self.lock();
        (state.work.len(), state.timers.len())
    }

    /// A number for a task.
    pub(super) fn next_task(&self) -> u64 {
        let mut state = self.lock();
        state.last_task += 1;
        state.last_task
    }

    /// Lists a task, unless the loop is gone; says whether it did.
    pub(super) fn list_task(&self, id: u64, waker: Waker) -> bool {
        let mut state = self.lock();
        if state.closed {
            return false;
        }
        state.tasks.insert(id, waker);
        true
    }

    pub(super) fn forget_task(&self, id: u64) {
        let forgotten = self.lock().tasks.remove(&id);
        drop(forgotten); // without the lock
    }

    /// Drops what is here, and what comes, and cancels the tasks.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        if mem::replace(&mut state.closed, true) {
            return;
        }
        state.draining = true;
        let (mut timers, tasks) = (mem::take(&mut state.timers), mem::take(&mut state.tasks));
        drop(state);
        // What is woken comes here to be run. It is dropped below and not in the call that wakes it, which may hold locks of others.
        tasks.into_values().for_each(Waker::wake);
        let mut panics = Panics::default();
        // One by one: a panic while another one unwinds would end the program.
        while let Some(timer) = timers.pop() {
            panics.catch(|| drop(timer));
        }
        while let Some(work) = self.next_or_end() {
            panics.catch(|| drop(work));
        }
        panics.resume();
    }

    /// What is to be dropped yet; nothing more is kept for that once there is nothing.
    fn next_or_end(&self) -> Option<Work> {
        let mut state = self.lock();
        let next = state.work.pop_front();
        state.draining = next.is_some();
        next
    }

    #[cfg(feature = "tokio")]
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Until<'_> {
    fn has_come(&self, state: &State) -> bool {
        match self {
            Self::Something => false,
            Self::Stopped => state.stopped,
            Self::Woken(woken) => woken.load(Ordering::SeqCst),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Inbox {
        /// How often the eventfd was written since this was last asked.
        fn written(&self) -> u64 {
            let mut count = [0; 8];
            match rustix::io::read(&self.wake, &mut count) {
                Ok(_) => u64::from_ne_bytes(count),
                Err(errno) => {
                    assert_eq!(errno, rustix::io::Errno::AGAIN);
                    0
                }
            }
        }

        fn push_one(&self) {
            self.push(Work::Callback(Box::new(|| ())));
        }
    }

    fn in_an_hour() -> Instant {
        Instant::now() + Duration::from_secs(3600)
    }

    #[test]
    fn a_sleep_is_ended_by_one_write_whatever_comes() {
        let inbox = Inbox::new().unwrap();
        assert!(inbox.fall_asleep(&Until::Something, None).is_none());
        for _ in 0..3 {
            inbox.push_one();
            inbox.set_timer(in_an_hour(), Box::new(|| ()));
            inbox.stop();
            inbox.interrupt();
        }
        assert_eq!(inbox.written(), 1);
    }

    #[test]
    fn a_loop_that_is_awake_is_not_written_to() {
        let inbox = Inbox::new().unwrap();
        inbox.fall_asleep(&Until::Something, None);
        inbox.wake_up(&Until::Something);
        inbox.push_one();
        inbox.set_timer(in_an_hour(), Box::new(|| ()));
        inbox.stop();
        // Nor one that does not sleep, because there is something to do.
        let timeout = inbox.fall_asleep(&Until::Something, None).unwrap();
        assert_eq!((timeout.tv_sec, timeout.tv_nsec), (0, 0));
        inbox.push_one();
        assert_eq!(inbox.written(), 0);
    }

    #[test]
    fn a_task_that_is_done_is_not_listed_any_more_nor_one_of_a_loop_that_has_gone() {
        let inbox = Inbox::new().unwrap();
        let done = inbox.next_task();
        inbox.list_task(done, Waker::noop().clone());
        inbox.forget_task(done);
        assert!(inbox.lock().tasks.is_empty());
        inbox.close();
        inbox.list_task(inbox.next_task(), Waker::noop().clone());
        assert!(inbox.lock().tasks.is_empty());
    }

    #[test]
    fn a_later_timer_ends_no_sleep() {
        let inbox = Inbox::new().unwrap();
        inbox.set_timer(Instant::now() + Duration::from_secs(60), Box::new(|| ()));
        let timeout = inbox.fall_asleep(&Until::Something, None).unwrap();
        assert!((59..=60).contains(&timeout.tv_sec), "{timeout:?}");
        let later = inbox.set_timer(in_an_hour(), Box::new(|| ()));
        inbox.clear_timer(later);
        assert_eq!(inbox.written(), 0);
        inbox.set_timer(Instant::now() + Duration::from_secs(1), Box::new(|| ()));
        assert_eq!(inbox.written(), 1);
    }

    #[test]
    fn what_ends_a_sleep_before_it_begins_makes_it_none() {
        let (inbox, woken) = (Inbox::new().unwrap(), AtomicBool::new(false));
        assert!(inbox.fall_asleep(&Until::Woken(&woken), None).is_none());
        woken.store(true, Ordering::SeqCst);
        for until in [Until::Woken(&woken), Until::Stopped] {
            inbox.stop();
            assert_eq!(inbox.fall_asleep(&until, None).map(|timeout| timeout.tv_sec), Some(0));
            assert!(inbox.wake_up(&until));
        }
        assert!(inbox.take_stop());
        assert!(!inbox.take_stop());
    }
}
