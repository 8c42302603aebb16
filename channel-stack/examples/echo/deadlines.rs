//! Which of many deadlines is next.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Instant;

/// At most one deadline for each of many keys: a loop asks before each sleep, so asking must not look at every connection.
#[derive(Debug)]
pub(crate) struct Deadlines<K> {
    in_order: BTreeSet<(Instant, K)>,
    of_key: HashMap<K, Instant>,
}

impl<K: Copy + Ord + Hash> Deadlines<K> {
    pub(crate) fn new() -> Self {
        Self { in_order: BTreeSet::new(), of_key: HashMap::new() }
    }

    /// Replaces the deadline of `key`.
    pub(crate) fn set(&mut self, key: K, deadline: Option<Instant>) {
        let before = match deadline {
            Some(deadline) => self.of_key.insert(key, deadline),
            None => self.of_key.remove(&key),
        };
        if let Some(before) = before {
            self.in_order.remove(&(before, key));
        }
        if let Some(deadline) = deadline {
            self.in_order.insert((deadline, key));
        }
    }

    /// The earliest.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.in_order.first().map(|(deadline, _)| *deadline)
    }

    /// Takes out the keys whose deadline has passed.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<K> {
        let mut due = Vec::new();
        while let Some((_, key)) = self.in_order.first().copied().filter(|(deadline, _)| *deadline <= now) {
            self.set(key, None);
            due.push(key);
        }
        due
    }
}
