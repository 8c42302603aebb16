//! The writing side's lock, and how a reader that finds it taken leaves a note.

#[cfg(loom)]
use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering, fence},
};
use std::sync::PoisonError;
#[cfg(not(loom))]
use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering, fence},
};

/// State that one caller at a time works on, and a note that there is more to do. `work` is the same in every call: what has to
/// be done when there was a note.
///
/// Whoever wants something done *posts* it: leaves the note, and does the work if nobody holds the lock. Whoever holds the lock
/// looks for a note after letting go. Between them no note is left lying: either the poster gets the lock, or the holder sees the
/// note, because each writes its own flag before it reads the other's, with a fence in between. The loom test below tries every
/// interleaving.
#[derive(Debug)]
pub(super) struct Outbox<T> {
    state: Mutex<T>,
    note: AtomicBool,
}

/// State that a panic may have left half changed.
pub(super) trait AfterPanic {
    /// Makes every later operation fail, rather than go on with what may be wrong.
    fn after_panic(&mut self);
}

impl<T: AfterPanic> Outbox<T> {
    /// An outbox without a note.
    pub(super) fn new(state: T) -> Self {
        Self { state: Mutex::new(state), note: AtomicBool::new(false) }
    }

    /// Runs `operation` under the lock, then `work` for every note left meanwhile.
    ///
    /// After a panic under the lock the state is told so before anybody works on it again.
    pub(super) fn with<R>(&self, operation: impl FnOnce(&mut T) -> R, work: impl FnMut(&mut T)) -> R {
        let mut state = self.lock();
        let result = operation(&mut state);
        drop(state);
        self.settle(work);
        result
    }

    /// Has `work` done: now, or by whoever holds the lock, after it lets go. Never waits.
    pub(super) fn post(&self, work: impl FnMut(&mut T)) {
        // Release: whoever takes the note sees what it is about.
        self.note.store(true, Ordering::Release);
        self.settle(work);
    }

    fn settle(&self, mut work: impl FnMut(&mut T)) {
        loop {
            // Orders what came before, the note of a poster or the unlocking of a holder, before the look at the other's.
            fence(Ordering::SeqCst);
            if !self.note.load(Ordering::Relaxed) {
                return;
            }
            let Some(mut state) = self.try_lock() else {
                return; // its holder looks for the note after letting go
            };
            self.note.swap(false, Ordering::AcqRel);
            work(&mut state);
        }
    }

    fn lock(&self) -> MutexGuard<'_, T> {
        self.state.lock().unwrap_or_else(told)
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        use std::sync::TryLockError;
        match self.state.try_lock() {
            Ok(state) => Some(state),
            Err(TryLockError::Poisoned(state)) => Some(told(state)),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

fn told<T: AfterPanic>(poisoned: PoisonError<MutexGuard<'_, T>>) -> MutexGuard<'_, T> {
    let mut state = poisoned.into_inner();
    state.after_panic();
    state
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::{AfterPanic, Outbox};
    use loom::sync::{Arc, Mutex};
    use loom::thread;

    /// What a layer does: replies queue unframed, and the writing side frames them before anything new.
    struct Side {
        replies: Arc<Mutex<Vec<u32>>>,
        sent: Vec<u32>,
    }

    impl AfterPanic for Side {
        fn after_panic(&mut self) {}
    }

    fn tend(side: &mut Side) {
        let replies = std::mem::take(&mut *side.replies.lock().unwrap());
        side.sent.extend(replies);
    }

    fn model(writers: usize, replies_each: u32) {
        let mut builder = loom::model::Builder::new();
        // Every interleaving with up to three forced switches: enough for each pair of racing steps, and seconds rather than hours.
        builder.preemption_bound = Some(3);
        builder.check(move || {
            let replies = Arc::new(Mutex::new(Vec::new()));
            let outbox = Arc::new(Outbox::new(Side { replies: Arc::clone(&replies), sent: Vec::new() }));
            let writing: Vec<_> = (0..writers)
                .map(|writer| {
                    let outbox = Arc::clone(&outbox);
                    thread::spawn(move || {
                        let data = 100 + u32::try_from(writer).unwrap();
                        outbox.with(
                            |side| {
                                tend(side);
                                // loom does not take a failed try_lock and an unlock for a race: without this it never lets
                                // a reply meet a writer that is at it.
                                thread::yield_now();
                                side.sent.push(data);
                            },
                            tend,
                        );
                    })
                })
                .collect();
            for reply in 0..replies_each {
                replies.lock().unwrap().push(reply);
                outbox.post(tend);
            }
            for writer in writing {
                writer.join().unwrap();
            }
            // Nobody tends it any more: every reply must have been sent by now, in order.
            let sent = outbox.with(|side| side.sent.clone(), |_| panic!("a note was left lying"));
            let seen: Vec<u32> = sent.iter().copied().filter(|item| *item < 100).collect();
            assert_eq!(seen, (0..replies_each).collect::<Vec<_>>());
            assert_eq!(sent.len(), writers + seen.len());
        });
    }

    #[test]
    fn a_reply_that_meets_a_busy_writer_is_sent() {
        model(1, 1);
    }

    #[test]
    fn replies_that_meet_a_busy_writer_are_sent_in_order() {
        model(1, 2);
    }

    #[test]
    fn a_reply_that_meets_two_writers_is_sent() {
        model(2, 1);
    }
}
