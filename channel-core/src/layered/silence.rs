//! Whether a layer was called since its handlers were last called.

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crate::Direction;

/// The channel below takes a handler off its loop that is called again and again without calling it. A handler that calls the
/// layer above is none of those, although what that holds may have served it: so each call of the layer, during a call of a handler or
/// first after one, has to be counted as a call below. Whoever is told so here counts it.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// Whether the layer was called since the handler of a direction was last called.
    called: [AtomicBool; 2],
    /// Whether the channel below may have taken its handlers off their loop, because nobody called the layer.
    silent: AtomicBool,
}

impl Silence {
    /// Calls the handler of `direction`; says whether the layer was called meanwhile, as far as nobody else was told.
    pub(super) fn run(&self, direction: Direction, handler: impl FnOnce()) -> bool {
        let called = &self.called[direction as usize];
        called.store(false, Ordering::Release);
        handler();
        if called.load(Ordering::Acquire) {
            return true;
        }
        // First, so that a call which misses this store is seen below; `call` looks in the opposite order.
        self.silent.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        called.load(Ordering::Acquire)
    }

    /// Notes a call of the layer, at its end; says whether it is the first since a call of a handler was met by none.
    pub(super) fn call(&self) -> bool {
        for called in &self.called {
            called.store(true, Ordering::Release);
        }
        fence(Ordering::SeqCst); // where `run` misses what is above, the look below does not miss what it did
        self.silent.load(Ordering::Acquire) && self.silent.swap(false, Ordering::AcqRel)
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::Silence;
    use crate::Direction;
    use loom::sync::Arc;
    use loom::thread;

    #[test]
    fn the_call_of_a_task_that_a_handler_wakes_is_counted_however_late_it_comes() {
        loom::model(|| {
            let silence = Arc::new(Silence::default());
            let mut task = None;
            let during = silence.run(Direction::Read, || {
                let silence = Arc::clone(&silence);
                task = Some(thread::spawn(move || silence.call()));
            });
            let after = task.unwrap().join().unwrap();
            assert!(during || after, "nobody counts the call");
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_call_counts_during_a_handler_and_first_after_one_and_no_other() {
        let silence = Silence::default();
        assert!(!silence.call(), "before any handler was called");
        assert!(silence.run(Direction::Read, || assert!(!silence.call())), "during one");
        assert!(!silence.call(), "after one that was met by a call");
        assert!(!silence.run(Direction::Write, || ()), "one that is met by none");
        assert!(silence.call(), "first after one");
        assert!(!silence.call(), "second after one");
    }
}
