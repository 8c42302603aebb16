//! `close`: an operation of its own, which ends what is left of both directions, politely as long as there is time.
//!
//! Whoever comes first begins it; from then on reads and writes say `Closed`. An attempt waits for nothing and is made under a lock
//! of its own, so that closers take turns; between attempts none of them holds anything. The one result is everybody's.

use std::io::IoSliceMut;
use std::time::Instant;

use super::base::MOST_PIECES;
use super::core::{Core, Entered};
use super::engine::{Decoder, Encoder};
use super::state::Facts;
use crate::limits::deadline_in;
use crate::{Channel, Direction, Error, ErrorKind, News, Removed, Result, Shutdown};

/// How far politeness got.
enum Politeness {
    /// There is more to wait for.
    Waits,
    /// There is nothing more to wait for: what our own end came to, and closing the channel below.
    Done { ended: Result<()>, below: Result<()> },
}

impl<D: Decoder, E: Encoder> Core<D, E> {
    /// One attempt to close by `deadline`, or within the linger.
    pub(super) fn try_close(&self, _: Entered, deadline: Option<Instant>) -> Result<()> {
        let closing = &**self.closing.get_or_init(Box::default);
        if closing.is_attempted_here() {
            let detail = "this thread is inside close already, in what that lets go of";
            return Err(self.error(ErrorKind::WouldDeadlock, "close", detail));
        }
        let (deadline, is_earlier) = closing.end_by(deadline.unwrap_or_else(|| deadline_in(self.limits.linger)));
        if is_earlier {
            self.sleepers.wake(News::all()); // other closers, who sleep until the later one
        }
        let attempt = match closing.attempt() {
            Ok(attempt) => attempt,
            Err(outcome) => return outcome,
        };
        if !self.facts.has(Facts::CLOSING) {
            self.facts.set(Facts::CLOSING, true);
            self.facts.set(Facts::WRITE_TOLD, false); // of our own end, perhaps, which somebody still waits for
            self.handlers.begin_close(&*self.inner);
            // Reading is over: who waits for that is told. So is writing, of which ending our output tells.
            self.handlers.schedule(Direction::Read);
        }
        let politeness = self.be_polite(deadline);
        let late = Instant::now() >= deadline;
        let (ended, below) = match politeness {
            Politeness::Waits if !late => return Err(Error::WOULD_BLOCK),
            Politeness::Waits => (Err(Error::WOULD_BLOCK), None),
            Politeness::Done { ended, below } => (ended, Some(below)),
        };
        let (result, removed) = self.release(ended, below);
        attempt.ends_with(&result);
        drop(removed); // the user's, who may do anything in it
        result
    }

    /// Does what can be done now: sends what is left and our end, throws away what has come, ends and closes what is below.
    fn be_polite(&self, deadline: Instant) -> Politeness {
        if !self.facts.has(Facts::OPEN) {
            // A handshake that is given up: its last word is on its way, and nothing more is said.
            return match self.below(self.inner.close_by(deadline)) {
                Err(error) if error.is_would_block() => self.waits(Facts::CLOSE_WRITES),
                below => Politeness::Done { ended: Ok(()), below },
            };
        }
        self.push_unsent(); // a pong, perhaps, that had no room
        // Before our own end: a peer may take nothing before we have taken what it sends.
        let reads = self.discard();
        let ended = match self.end_output() {
            Err(error) if error.is_would_block() => {
                // Behind the peer's end the ends of the layers below are on their way, and two who both wait for room would wait for ever.
                let reads = reads || !self.discard_below();
                let reads = if reads { Facts::CLOSE_READS } else { Facts::empty() };
                return self.waits(Facts::CLOSE_WRITES | reads);
            }
            ended => ended,
        };
        if reads && (self.facts.has(Facts::SHAKES_HANDS) || self.is_owed()) {
            return self.waits(Facts::CLOSE_READS);
        }
        if self.nature.ends_below_first(self.facts.load()) {
            // Any other failure it tells when it is closed.
            if self.below(self.inner.close_write()).is_err_and(|error| error.is_would_block()) {
                let reads = if self.discard_below() { Facts::empty() } else { Facts::CLOSE_READS };
                return self.waits(Facts::CLOSE_WRITES | reads);
            }
        }
        if self.nature.awaits_end_below(self.facts.load()) && !self.discard_below() {
            return self.waits(Facts::CLOSE_READS);
        }
        match self.below(self.inner.close_by(deadline)) {
            Err(error) if error.is_would_block() => self.waits(Facts::CLOSE_WRITES),
            below => Politeness::Done { ended, below },
        }
    }

    /// Notes what is waited for. Where that is what it was, it is no news for the others who close.
    fn waits(&self, facts: Facts) -> Politeness {
        self.facts.set((Facts::CLOSE_READS | Facts::CLOSE_WRITES) - facts, false);
        self.facts.set(facts, true);
        Politeness::Waits
    }

    /// Decodes what has come and throws it away; says whether the peer's end is still to come.
    fn discard(&self) -> bool {
        let mut piece = [0; 16 * 1024];
        for _ in 0..MOST_PIECES {
            if self.facts.has(Facts::READ_DONE) {
                return false;
            }
            self.push_unsent();
            let read =
                self.reading().and_then(|mut reader| reader.read(self, &mut [IoSliceMut::new(&mut piece)], false));
            match read {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => return error.is_passing(),
            }
        }
        !self.facts.has(Facts::READ_DONE) // the last piece may have been the one in front of the end
    }

    /// Whether something of the peer's comes by itself. Who is at reading has yet to say.
    fn is_owed(&self) -> bool {
        self.reading().map_or_else(|error| error.is_passing(), |reader| reader.is_owed())
    }

    /// Lets go of everything, abruptly where politeness did not come to its end. What the handlers were is the caller's to drop.
    fn release(&self, ended: Result<()>, below: Option<Result<()>>) -> (Result<()>, Removed) {
        let late = matches!(&ended, Err(error) if error.is_would_block());
        let below = below.unwrap_or_else(|| self.close_below_now());
        self.facts.set(Facts::CLOSE_READS | Facts::CLOSE_WRITES, false);
        self.facts.set(Facts::CLOSED, true);
        let removed = self.remove_handlers();
        let peer_ended = match self.reader.lock() {
            Ok(mut reader) => {
                let ended = reader.peer_ended();
                reader.clear();
                ended
            }
            Err(_) => Ok(()), // what a panic left is told by calls that need it
        };
        let (lost, unsent) = self.writing(|writer| {
            let left = (writer.has_lost(), writer.has_unsent() && self.facts.has(Facts::OPEN));
            writer.clear(&self.facts);
            left
        });
        let timed_out = |detail| Err(self.annotate(Error::new(ErrorKind::TimedOut, self.layer, detail), "close"));
        let asked = self.facts.has(Facts::SHAKES_HANDS) && !self.facts.has(Facts::SHUT_READ);
        // What is known of how the peer ended is worse than that it did not take our own end, or a reply.
        let known = asked && matches!(&peer_ended, Err(error) if !error.is_would_block());
        let result = match ended {
            _ if late && (lost || (unsent && !known)) => timed_out(
                "the peer did not take our output in the time that close has (Limits::linger, or the deadline of close_by)",
            ),
            Err(error) if lost => Err(error),
            Ok(()) if lost => {
                let detail = "output that was taken could not be sent";
                Err(self.annotate(Error::new(ErrorKind::BrokenPipe, self.layer, detail), "close"))
            }
            _ if asked && matches!(&peer_ended, Err(error) if error.is_would_block()) => timed_out(
                "the peer did not answer our end in the time that close has (Limits::linger, or the deadline of close_by)",
            ),
            _ if asked => peer_ended.and(below),
            // Nothing of the caller's was lost: the peer was gone before our goodbye.
            _ => below,
        };
        (result, removed)
    }

    /// Closes the inner channel without waiting any more.
    fn close_below_now(&self) -> Result<()> {
        match self.inner.close_by(Instant::now()) {
            Err(error) if error.is_would_block() => {
                // A channel of somebody else's that takes its time all the same: it is cut off, and goes when it is dropped.
                let _ = self.inner.shutdown(Shutdown::Both);
                let detail = "the channel below was not closed in the time that close has (Limits::linger, or the deadline of close_by)";
                Err(self.annotate(Error::new(ErrorKind::TimedOut, self.layer, detail), "close"))
            }
            closed => closed,
        }
    }
}
