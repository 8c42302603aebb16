//! Callbacks that wait for their time.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use super::TimerId;

type Callback = Box<dyn FnOnce() + Send>;

/// The timers of a loop.
#[derive(Default)]
pub(super) struct Timers {
    /// In the order in which they run.
    waiting: BTreeMap<(Instant, TimerId), Callback>,
    /// Those whose time has come. Apart, so that a timer which sets one with a deadline in the past does not run for ever.
    due: BTreeMap<(Instant, TimerId), Callback>,
    /// Of all timers, for who knows no more than the number.
    deadlines: HashMap<TimerId, Instant>,
    last: u64,
}

impl Timers {
    pub(super) fn set(&mut self, deadline: Instant, callback: Callback) -> TimerId {
        self.last += 1;
        let id = TimerId(self.last);
        self.waiting.insert((deadline, id), callback);
        self.deadlines.insert(id, deadline);
        id
    }

    /// Takes out a timer that has not run.
    pub(super) fn clear(&mut self, id: TimerId) -> Option<Callback> {
        let key = (self.deadlines.remove(&id)?, id);
        self.waiting.remove(&key).or_else(|| self.due.remove(&key))
    }

    /// When the first of those is due that [`expire`](Self::expire) has not found; the others run before the loop sleeps.
    pub(super) fn first(&self) -> Option<Instant> {
        self.waiting.keys().next().map(|(deadline, _)| *deadline)
    }

    /// Finds the timers whose time has come.
    pub(super) fn expire(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some(first) = self.waiting.first_entry().filter(|first| first.key().0 <= now) {
            let (key, callback) = first.remove_entry();
            self.due.insert(key, callback);
        }
    }

    /// Takes out the first of those that [`expire`](Self::expire) found.
    pub(super) fn next_due(&mut self) -> Option<Callback> {
        let ((_, id), callback) = self.due.pop_first()?;
        self.deadlines.remove(&id);
        Some(callback)
    }

    /// Takes out any.
    pub(super) fn pop(&mut self) -> Option<Callback> {
        let ((_, id), callback) = self.waiting.pop_first().or_else(|| self.due.pop_first())?;
        self.deadlines.remove(&id);
        Some(callback)
    }

    pub(super) fn len(&self) -> usize {
        self.deadlines.len()
    }
}
