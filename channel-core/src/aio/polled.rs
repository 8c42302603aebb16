//! Whether a handler's loop polls for it: one word that is changed by pure transitions, and one place that tells the loop.

use std::sync::PoisonError;
#[cfg(not(loom))]
use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU8, Ordering},
};

use bitflags::bitflags;
#[cfg(loom)]
use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU8, Ordering},
};

use crate::Result;

bitflags! {
    /// How a handler is.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Status: u8 {
        /// The channel was called since the handler was last called.
        const CALLED = 1 << 0;
        /// The last call of the handler went without one.
        const IDLE = 1 << 1;
        /// Two in a row did: off the loop until the channel is called.
        const QUIET = 1 << 2;
        /// Off the loop for a while.
        const PAUSED = 1 << 3;
        /// The direction has ended, as far as the last call knew.
        const OVER = 1 << 4;
        /// The direction has ended for good, and the descriptor is not to be kept.
        const LET_GO = 1 << 5;
        /// The channel let go of the handler.
        const REMOVED = 1 << 6;
        /// The loop would not have it; the next call on the channel tries again.
        const REFUSED = 1 << 7;
    }
}

impl Status {
    /// Whether the loop is to poll.
    fn is_polled(self) -> bool {
        (self - (Self::CALLED | Self::IDLE)).is_empty()
    }

    /// The channel was called.
    pub(super) fn called(self) -> Self {
        (self | Self::CALLED) - (Self::QUIET | Self::REFUSED)
    }

    /// The channel was called in the handler's own direction, and that goes on.
    pub(super) fn called_and_goes_on(self) -> Self {
        self.called() - Self::OVER
    }

    /// A call of the handler begins.
    pub(super) fn begins(self) -> Self {
        // What it woke the last time made its call since.
        if self.contains(Self::CALLED) { self - (Self::CALLED | Self::IDLE) } else { self }
    }

    /// A call of the handler ends.
    pub(super) fn ends(self) -> Self {
        if self.contains(Self::CALLED) {
            self - Self::IDLE
        } else if self.contains(Self::IDLE) {
            self | Self::QUIET
        } else {
            self | Self::IDLE
        }
    }
}

/// What is polled for, or not any more.
pub(super) trait Poll {
    fn poll(&self, polls: bool) -> Result<()>;
}

/// A status, and what is polled in accordance with it; nothing where a channel is always ready.
#[derive(Debug)]
pub(super) struct Polled<P> {
    status: AtomicU8,
    place: Mutex<Place<P>>,
}

/// The lock is held while the loop is told, and never while a handler runs.
#[derive(Debug)]
struct Place<P> {
    what: Option<P>,
    /// Whether the loop polls.
    is_on: bool,
}

impl<P: Poll> Polled<P> {
    /// Not on its loop yet: see [`settle`](Self::settle).
    pub(super) fn new(what: Option<P>) -> Self {
        Self { status: AtomicU8::new(0), place: Mutex::new(Place { what, is_on: false }) }
    }

    /// Makes a transition, and tells the loop where that changes something; what the status was before.
    pub(super) fn change(&self, transition: impl Fn(Status) -> Status) -> Status {
        let changed = |bits| {
            let after = transition(Status::from_bits_retain(bits)).bits();
            (after != bits).then_some(after)
        };
        // A transition that changes nothing costs a load.
        let before = self.status.fetch_update(Ordering::AcqRel, Ordering::Acquire, changed);
        let before = Status::from_bits_retain(before.unwrap_or_else(|same| same));
        let after = transition(before);
        if before.is_polled() != after.is_polled() || (after - before).contains(Status::LET_GO) {
            let _ = self.settle(); // what refuses it now is asked again by the next call
        }
        before
    }

    /// Brings the loop in line with the status.
    ///
    /// Whoever changes the status comes here afterwards, so that the last to do so finds what it has become.
    pub(super) fn settle(&self) -> Result<()> {
        let mut place = self.lock();
        let status = Status::from_bits_retain(self.status.load(Ordering::Acquire));
        let polls = status.is_polled();
        let mut told = Ok(());
        if let Some(what) = place.what.as_ref().filter(|_| polls != place.is_on) {
            told = what.poll(polls);
            if polls && told.is_err() {
                self.status.fetch_or(Status::REFUSED.bits(), Ordering::AcqRel);
            }
            place.is_on = polls && told.is_ok();
        }
        let gone = if status.contains(Status::LET_GO) { place.what.take() } else { None };
        drop(place);
        drop(gone);
        // A loop that went first has nothing to clear.
        if polls { told } else { Ok(()) }
    }

    /// Whether there is nothing to poll.
    pub(super) fn is_always_due(&self) -> bool {
        self.lock().what.is_none()
    }

    fn lock(&self) -> MutexGuard<'_, Place<P>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::{Poll, Polled, Status};
    use crate::Result;
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicBool, Ordering};
    use loom::thread;

    struct Loop(Arc<AtomicBool>);

    impl Poll for Loop {
        fn poll(&self, polls: bool) -> Result<()> {
            self.0.store(polls, Ordering::Relaxed);
            Ok(())
        }
    }

    /// Makes the two changes at once on a handler that is on its loop after `before`, and says whether it is polled in the end.
    fn at_once(before: fn(Status) -> Status, changes: [fn(Status) -> Status; 2], is_polled: fn(Status) -> bool) {
        loom::model(move || {
            let polls = Arc::new(AtomicBool::new(false));
            let polled = Arc::new(Polled::new(Some(Loop(Arc::clone(&polls)))));
            polled.settle().unwrap();
            polled.change(before);
            let other = {
                let polled = Arc::clone(&polled);
                thread::spawn(move || polled.change(changes[1]))
            };
            polled.change(changes[0]);
            other.join().unwrap();
            let status = polled.change(|status| status);
            assert_eq!(polls.load(Ordering::Relaxed), status.is_polled(), "{status:?}");
            assert!(is_polled(status) == status.is_polled(), "{status:?}");
            assert_eq!(polled.is_always_due(), status.contains(Status::LET_GO));
        });
    }

    #[test]
    fn a_call_made_while_the_handler_is_taken_off_its_loop_keeps_it_there() {
        at_once(|status| status.begins().ends(), [Status::ends, Status::called], |_| true);
    }

    #[test]
    fn a_direction_that_is_let_go_stays_so_whatever_a_call_says_meanwhile() {
        let let_go = |status| status | Status::OVER | Status::LET_GO;
        at_once(|status| status, [let_go, Status::called_and_goes_on], |_| false);
    }

    #[test]
    fn a_pause_that_ends_while_a_call_is_made_is_over() {
        let resume = |status: Status| (status - Status::PAUSED).called();
        at_once(|status| status | Status::PAUSED, [resume, Status::called], |_| true);
        at_once(|status| status | Status::PAUSED, [resume, Status::ends], |_| true);
    }

    #[test]
    fn a_handler_that_was_removed_is_polled_no_more() {
        at_once(|status| status.ends().ends(), [|status| status | Status::REMOVED, Status::called], |_| false);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::{Error, ErrorKind};

    /// A loop that refuses the next so many.
    struct Refusing<'a>(&'a Cell<(u32, bool)>);

    impl Poll for Refusing<'_> {
        fn poll(&self, polls: bool) -> Result<()> {
            let (refusals, _) = self.0.get();
            if polls && refusals > 0 {
                self.0.set((refusals - 1, false));
                return Err(Error::new(ErrorKind::Io(std::io::ErrorKind::OutOfMemory), "loop", ""));
            }
            self.0.set((refusals, polls));
            Ok(())
        }
    }

    #[test]
    fn a_loop_that_refuses_a_handler_is_asked_again_by_the_next_call() {
        let state = Cell::new((0, false));
        let polled = Polled::new(Some(Refusing(&state)));
        polled.settle().unwrap();
        polled.change(Status::ends);
        polled.change(Status::ends);
        assert_eq!(state.get(), (0, false), "two calls that called nobody");
        state.set((2, false));
        for left in [1, 0] {
            polled.change(Status::called);
            assert_eq!(state.get(), (left, false));
        }
        polled.change(Status::called);
        assert_eq!(state.get(), (0, true));
        polled.change(|status| status | Status::REMOVED);
        assert_eq!(state.get(), (0, false));
    }
}
