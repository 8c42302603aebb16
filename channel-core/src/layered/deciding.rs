//! What a layer's facts, and the time, come to: whom a call waits for, what is due at its end, what rests, how a closer goes on.
//!
//! Nothing here takes a lock, asks the clock or calls anything; the table of each answer is its test.

use std::time::Instant;

use super::engine::Ending;
use super::state::Facts;
use crate::{Direction, Features, News};

/// What decisions depend on and nothing changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nature {
    /// What the layer can do.
    pub(super) features: Features,
    /// How its protocol ends.
    pub(super) ending: Ending,
    /// Whether a layer below has an end that asks for the peer's.
    pub(super) asks_below: bool,
}

/// The limits of a layer that may be running: when each has passed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Deadlines {
    pub(super) handshake: Option<Instant>,
    /// Of the peer's silence behind our end.
    pub(super) silence: Option<Instant>,
    /// Of politeness, once somebody closes.
    pub(super) close: Option<Instant>,
}

/// What a call waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    /// Nothing: the next one comes to something.
    No,
    /// The inner channel in a direction.
    Below(Direction),
    /// The inner channel in either direction.
    BelowEither,
}

/// What a call in `direction` waits for. Who closes waits as a writer does.
pub(super) fn waits(facts: Facts, direction: Direction) -> Waits {
    let (reads, writes) = if is_closer(facts, direction) {
        let reads = facts.contains(Facts::CLOSE_READS);
        if reads && holds(facts) {
            return Waits::No;
        }
        (reads, facts.intersects(Facts::CLOSE_WRITES | Facts::UNSENT))
    } else {
        let over = match direction {
            Direction::Read => facts.intersects(Facts::CLOSING | Facts::HELD | Facts::READ_DONE),
            Direction::Write => {
                facts.intersects(Facts::CLOSED | Facts::WRITE_DONE) && !facts.intersects(Facts::UNSENT | Facts::BELOW)
            }
        };
        if over {
            return Waits::No;
        }
        let reads = direction == Direction::Read && !facts.contains(Facts::LEAVING);
        (reads, !reads || facts.contains(Facts::UNSENT))
    };
    match (reads, writes) {
        (true, true) => Waits::BelowEither,
        (true, false) => Waits::Below(Direction::Read),
        (false, true) => Waits::Below(Direction::Write),
        (false, false) => Waits::No,
    }
}

/// The calls of others that end such a wait.
pub(super) fn heeds(facts: Facts, direction: Direction) -> News {
    match direction {
        Direction::Write if is_closer(facts, direction) => News::all(),
        Direction::Write => News::WRITE,
        Direction::Read if facts.intersects(Facts::UNSENT | Facts::LEAVING) => News::READ, // it waits for that to leave already
        Direction::Read => News::READ | News::UNSENT,
    }
}

/// When such a wait ends although nothing happened, but for the caller's own time.
pub(super) fn patience(facts: Facts, direction: Direction, deadlines: Deadlines) -> Option<Instant> {
    if is_closer(facts, direction) {
        return deadlines.close;
    }
    let silence = silence(facts, deadlines).filter(|_| direction == Direction::Read);
    silence.into_iter().chain(handshake(facts, deadlines)).min()
}

/// When the first limit passes that runs, whoever waits for what.
pub(super) fn next_limit(facts: Facts, deadlines: Deadlines) -> Option<Instant> {
    if facts.contains(Facts::CLOSED) {
        return None;
    }
    let close = deadlines.close.filter(|_| facts.contains(Facts::CLOSING));
    close.into_iter().chain(silence(facts, deadlines)).chain(handshake(facts, deadlines)).min()
}

/// Whether the peer has been silent for too long behind our end.
pub(super) fn is_silent(facts: Facts, deadlines: Deadlines, now: Instant) -> bool {
    silence(facts, deadlines).is_some_and(|until| until <= now)
}

fn handshake(facts: Facts, deadlines: Deadlines) -> Option<Instant> {
    deadlines.handshake.filter(|_| !facts.contains(Facts::OPEN))
}

fn silence(facts: Facts, deadlines: Deadlines) -> Option<Instant> {
    let runs = facts.contains(Facts::AWAITS_END) && !facts.intersects(Facts::READ_DONE | Facts::CLOSING);
    deadlines.silence.filter(|_| runs)
}

fn is_closer(facts: Facts, direction: Direction) -> bool {
    direction == Direction::Write && facts.contains(Facts::CLOSING) && !facts.contains(Facts::CLOSED)
}

/// Whether who closes finds something here to throw away.
fn holds(facts: Facts) -> bool {
    facts.contains(Facts::HELD) && !facts.contains(Facts::READ_DONE)
}

/// Whether the time that the caller set for calls in `direction` runs.
pub(super) fn is_timed(facts: Facts, direction: Direction) -> bool {
    let over = match direction {
        Direction::Read => facts.contains(Facts::READ_DONE),
        // Our end may have yet to leave: `close_write` waits for that.
        Direction::Write => facts.contains(Facts::WRITE_DONE) && !facts.intersects(Facts::UNSENT | Facts::BELOW),
    };
    facts.contains(Facts::OPEN) && !over && !facts.intersects(Facts::CLOSING | Facts::CLOSED)
}

/// Whether handlers are to be called for what a call left here.
pub(super) fn is_due(facts: Facts, direction: Direction) -> bool {
    match direction {
        Direction::Read => facts.contains(Facts::HELD),
        Direction::Write => facts.contains(Facts::WRITE_DONE) && !facts.contains(Facts::WRITE_TOLD),
    }
}

/// Whether those who close are.
pub(super) fn closers_are_due(facts: Facts) -> bool {
    facts.contains(Facts::CLOSE_READS) && holds(facts) && !facts.contains(Facts::CLOSED)
}

/// Whether nothing that happens below can concern `direction` any more: what is left of it is here.
pub(super) fn rests(facts: Facts, direction: Direction) -> bool {
    match direction {
        Direction::Read if facts.contains(Facts::CLOSING) => !facts.contains(Facts::CLOSE_READS),
        Direction::Read => facts.contains(Facts::READ_DONE) && !facts.contains(Facts::BELOW_OPEN),
        Direction::Write => {
            let waits = Facts::UNSENT | Facts::BELOW | Facts::LEAVING | Facts::CLOSE_WRITES;
            facts.intersects(Facts::WRITE_DONE | Facts::CLOSING) && !facts.intersects(waits)
        }
    }
}

/// Whether the inner channel has yet to take what is here, or to push what it took of an ending.
pub(super) fn pushes(facts: Facts) -> bool {
    facts.intersects(Facts::UNSENT | Facts::LEAVING | Facts::CLOSE_WRITES)
        || facts.contains(Facts::WRITE_DONE | Facts::BELOW)
}

/// Whether the inner channel is read although nobody reads here.
pub(super) fn drains(facts: Facts) -> bool {
    facts.contains(Facts::CLOSE_READS) || facts.contains(Facts::BELOW_OPEN | Facts::READ_DONE)
}

/// Whether the inner channel is to be ended behind both ends of ours, which a closer does itself.
pub(super) fn ends_below(facts: Facts) -> bool {
    facts.contains(Facts::BELOW_OPEN | Facts::READ_DONE) && !facts.contains(Facts::CLOSING)
}

impl Nature {
    /// Whether the peer ends the channel below first, and this side answers that.
    pub(super) fn leaves_the_end_below(&self) -> bool {
        self.ending == Ending::ClosingHandshake { ends_below: false }
    }

    /// Whether who closes ends the channel below before the peer has ended it.
    pub(super) fn ends_below_first(&self, facts: Facts) -> bool {
        let waits = facts.contains(Facts::SHAKES_HANDS) && self.leaves_the_end_below();
        self.features.contains(Features::CLOSE_WRITE) && !waits
    }

    /// Whether the peer is about to end the channel below, since its own stream has ended: what it still sends must not meet a socket
    /// that is gone, which answers with a reset and drops what we sent.
    pub(super) fn awaits_end_below(&self, facts: Facts) -> bool {
        // A peer that cannot end its output below ends there only when it closes, perhaps when we have; and what we shut down ourselves
        // has no end to come.
        let ends = self.features.contains(Features::CLOSE_WRITE | Features::SHUTDOWN);
        let ended = match self.ending {
            Ending::ClosingHandshake { .. } => facts.contains(Facts::READ_DONE | Facts::SHAKES_HANDS),
            Ending::Below | Ending::Own => facts.contains(Facts::ENDED),
        };
        ends && (ended || facts.contains(Facts::REFUSED)) && !facts.intersects(Facts::SHUT_READ | Facts::SILENT)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use super::*;
    use Direction::{Read, Write};

    const OPEN: Facts = Facts::OPEN;

    /// Facts that are true beside [`OPEN`].
    fn open(facts: Facts) -> Facts {
        OPEN | facts
    }

    #[test]
    fn what_a_call_waits_for() {
        let closing = |facts| open(Facts::CLOSING | facts);
        let table = [
            (OPEN, Read, Waits::Below(Read)),
            (OPEN, Write, Waits::Below(Write)),
            (Facts::empty(), Read, Waits::Below(Read)),
            (Facts::LEAVING, Read, Waits::Below(Write)),
            (Facts::LEAVING | Facts::UNSENT, Read, Waits::Below(Write)),
            (open(Facts::HELD), Read, Waits::No),
            (open(Facts::HELD), Write, Waits::Below(Write)),
            (open(Facts::READ_DONE), Read, Waits::No),
            (open(Facts::UNSENT), Read, Waits::BelowEither),
            (open(Facts::UNSENT), Write, Waits::Below(Write)),
            (open(Facts::WRITE_DONE), Write, Waits::No),
            (open(Facts::WRITE_DONE | Facts::UNSENT), Write, Waits::Below(Write)),
            (open(Facts::WRITE_DONE | Facts::BELOW), Write, Waits::Below(Write)),
            (open(Facts::BELOW), Read, Waits::Below(Read)),
            (closing(Facts::empty()), Read, Waits::No),
            (closing(Facts::empty()), Write, Waits::No),
            (closing(Facts::CLOSE_READS), Write, Waits::Below(Read)),
            (closing(Facts::CLOSE_READS | Facts::HELD), Write, Waits::No),
            (closing(Facts::CLOSE_READS | Facts::HELD | Facts::READ_DONE), Write, Waits::Below(Read)),
            (closing(Facts::CLOSE_WRITES), Write, Waits::Below(Write)),
            (closing(Facts::CLOSE_WRITES | Facts::HELD), Write, Waits::Below(Write)),
            (closing(Facts::UNSENT), Write, Waits::Below(Write)),
            (closing(Facts::CLOSE_READS | Facts::UNSENT), Write, Waits::BelowEither),
            (closing(Facts::CLOSED), Write, Waits::No),
            (closing(Facts::CLOSED), Read, Waits::No),
        ];
        for (facts, direction, waiting) in table {
            assert_eq!(waits(facts, direction), waiting, "{direction:?} of {facts:?}");
        }
    }

    #[test]
    fn which_calls_of_others_end_a_wait() {
        let table = [
            (OPEN, Read, News::READ | News::UNSENT),
            (open(Facts::UNSENT), Read, News::READ),
            (Facts::LEAVING, Read, News::READ),
            (OPEN, Write, News::WRITE),
            (open(Facts::CLOSING), Write, News::all()),
            (open(Facts::CLOSING | Facts::CLOSED), Write, News::WRITE),
        ];
        for (facts, direction, news) in table {
            assert_eq!(heeds(facts, direction), news, "{direction:?} of {facts:?}");
        }
    }

    #[test]
    fn which_limit_ends_a_wait() {
        let now = Instant::now();
        let [one, two, three] = [1, 2, 3].map(|seconds| Some(now + Duration::from_secs(seconds)));
        let deadlines = Deadlines { handshake: one, silence: two, close: three };
        let late = Deadlines { handshake: two, silence: one, close: three };
        // The facts, the limits, what a reader waits until, what a writer, and what comes first.
        let table = [
            (Facts::empty(), deadlines, one, one, one),
            (OPEN, deadlines, None, None, None),
            (open(Facts::AWAITS_END), deadlines, two, None, two),
            (Facts::AWAITS_END, late, one, two, one),
            (open(Facts::AWAITS_END | Facts::READ_DONE), deadlines, None, None, None),
            (open(Facts::AWAITS_END | Facts::CLOSING), deadlines, None, three, three),
            (Facts::CLOSING, deadlines, one, three, one),
            (Facts::CLOSING | Facts::CLOSED, deadlines, one, one, None),
            (Facts::empty(), Deadlines::default(), None, None, None),
        ];
        for (facts, deadlines, reader, writer, first) in table {
            let told =
                (patience(facts, Read, deadlines), patience(facts, Write, deadlines), next_limit(facts, deadlines));
            assert_eq!(told, (reader, writer, first), "{facts:?}");
        }
        let until = Deadlines { silence: Some(now), ..Deadlines::default() };
        assert!(is_silent(open(Facts::AWAITS_END), until, now));
        assert!(!is_silent(open(Facts::AWAITS_END), deadlines, now));
        assert!(!is_silent(OPEN, until, now));
    }

    #[test]
    fn what_is_due_after_a_call() {
        let (reads, closes) = (Facts::HELD | Facts::CLOSE_READS, Facts::CLOSING | Facts::CLOSE_READS | Facts::HELD);
        // The facts, and whether the reader, the writer, those who close are called; whether output is pushed, input thrown away.
        let table = [
            (OPEN, [false, false, false, false, false]),
            (open(Facts::HELD), [true, false, false, false, false]),
            (open(Facts::WRITE_DONE), [false, true, false, false, false]),
            (open(Facts::WRITE_DONE | Facts::WRITE_TOLD), [false, false, false, false, false]),
            (open(Facts::UNSENT), [false, false, false, true, false]),
            (Facts::LEAVING, [false, false, false, true, false]),
            (open(Facts::BELOW), [false, false, false, false, false]),
            (open(Facts::WRITE_DONE | Facts::WRITE_TOLD | Facts::BELOW), [false, false, false, true, false]),
            (open(closes), [true, false, true, false, true]),
            (open(closes | Facts::READ_DONE), [true, false, false, false, true]),
            (open(closes | Facts::CLOSED), [true, false, false, false, true]),
            (open(Facts::CLOSING | Facts::CLOSE_WRITES), [false, false, false, true, false]),
            (open(Facts::BELOW_OPEN), [false, false, false, false, false]),
            (open(Facts::BELOW_OPEN | Facts::READ_DONE), [false, false, false, false, true]),
            (open(reads), [true, false, true, false, true]),
        ];
        for (facts, expected) in table {
            let due = (is_due(facts, Read), is_due(facts, Write), closers_are_due(facts));
            let told = [due.0, due.1, due.2, pushes(facts), drains(facts)];
            assert_eq!(told, expected, "{facts:?}");
        }
    }

    #[test]
    fn which_direction_rests_and_which_is_timed() {
        // The facts, whether reading and writing rest, and whether the caller's time for them runs.
        let table = [
            (OPEN, [false, false], [true, true]),
            (Facts::empty(), [false, false], [false, false]),
            (open(Facts::READ_DONE), [true, false], [false, true]),
            (open(Facts::READ_DONE | Facts::BELOW_OPEN), [false, false], [false, true]),
            (open(Facts::WRITE_DONE), [false, true], [true, false]),
            (open(Facts::WRITE_DONE | Facts::UNSENT), [false, false], [true, true]),
            (open(Facts::WRITE_DONE | Facts::BELOW), [false, false], [true, true]),
            (Facts::WRITE_DONE | Facts::LEAVING, [false, false], [false, false]),
            (open(Facts::CLOSING), [true, true], [false, false]),
            (open(Facts::CLOSING | Facts::CLOSE_READS), [false, true], [false, false]),
            (open(Facts::CLOSING | Facts::CLOSE_WRITES), [true, false], [false, false]),
            (open(Facts::CLOSED), [false, false], [false, false]),
        ];
        for (facts, at_rest, timed) in table {
            assert_eq!([rests(facts, Read), rests(facts, Write)], at_rest, "{facts:?}");
            assert_eq!([is_timed(facts, Read), is_timed(facts, Write)], timed, "{facts:?}");
        }
    }

    #[test]
    fn how_both_ends_are_ended_below() {
        assert!(ends_below(open(Facts::BELOW_OPEN | Facts::READ_DONE)));
        assert!(!ends_below(open(Facts::BELOW_OPEN)));
        assert!(!ends_below(open(Facts::BELOW_OPEN | Facts::READ_DONE | Facts::CLOSING)), "who closes does it");

        let all = Features::CLOSE_WRITE | Features::SHUTDOWN;
        let (server, client) =
            (Ending::ClosingHandshake { ends_below: true }, Ending::ClosingHandshake { ends_below: false });
        let shaken = open(Facts::SHAKES_HANDS);
        // The features, the ending, the facts, whether who closes ends what is below first, and whether it waits for the end there.
        let table = [
            (all, Ending::Below, OPEN, true, false),
            (all, Ending::Below, open(Facts::ENDED), true, true),
            (all, Ending::Own, open(Facts::ENDED), true, true),
            (all, Ending::Own, open(Facts::READ_DONE), true, false),
            (all, server, shaken, true, false),
            (all, server, shaken | Facts::READ_DONE, true, true),
            (all, server, open(Facts::READ_DONE), true, false),
            (all, client, shaken, false, false),
            (all, client, shaken | Facts::READ_DONE, false, true),
            (all, client, open(Facts::REFUSED), true, true),
            (all, client, shaken | Facts::READ_DONE | Facts::SHUT_READ, false, false),
            (all, client, shaken | Facts::READ_DONE | Facts::SILENT, false, false),
            (Features::SHUTDOWN, Ending::Below, open(Facts::ENDED), false, false),
            (Features::CLOSE_WRITE, Ending::Below, open(Facts::ENDED), true, false),
        ];
        for (features, ending, facts, first, awaits) in table {
            let nature = Nature { features, ending, asks_below: false };
            let told = (nature.ends_below_first(facts), nature.awaits_end_below(facts));
            assert_eq!(told, (first, awaits), "{features:?}, {ending:?}, {facts:?}");
        }
    }
}
