//! What went wrong, on which side, and who caught it.

use std::cmp::Reverse;
use std::fmt;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use channel_stack::{Error, ErrorKind};

use crate::exchange::Flow;

/// An end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

impl Side {
    fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Server => "server",
        })
    }
}

/// What a side was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Opening,
    Sending,
    Receiving,
    Closing,
}

/// Why a side could not go on.
#[derive(Debug)]
pub(crate) enum Cause {
    /// A layer of the stack said so.
    Channel(Error),
    /// The data to send could not be read, or a thread not be started.
    System(io::Error),
    /// The stream ended, cleanly, before all had come.
    Short { got: u64, expected: u64 },
}

/// What stopped one side.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) side: Side,
    pub(crate) act: Act,
    pub(crate) cause: Cause,
    /// How many layers lie above the one it arose in.
    pub(crate) depth: usize,
}

/// How much a side that failed knows of the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    /// It noticed something wrong. Each side tells its failure before it shuts its channel down, so the first is the cause.
    Noticed,
    /// It waited for the rest of a handshake, as the other side does that waits for its answer; whichever loses patience first,
    /// it is the lowest layer of the two that did not get what it needs.
    Waited,
    /// The other side gave up, and knows better why. Its protocol's last word (an alert, a Close frame) may be faster than
    /// its own account.
    GaveWay,
}

impl Failure {
    /// How well it explains all the others: the least is the cause, and of equals the first.
    fn rank(&self) -> (Told, Reverse<usize>) {
        let Cause::Channel(error) = &self.cause else {
            return (Told::Noticed, Reverse(0));
        };
        match error.kind() {
            ErrorKind::Refused | ErrorKind::BrokenPipe | ErrorKind::Reset | ErrorKind::Closed => {
                (Told::GaveWay, Reverse(0))
            }
            ErrorKind::TimedOut => (Told::Waited, Reverse(self.depth)),
            ErrorKind::UnexpectedEof if self.act == Act::Opening => (Told::Waited, Reverse(self.depth)),
            _ => (Told::Noticed, Reverse(0)),
        }
    }

    /// The one who noticed, such as `the tls layer`.
    fn catcher(&self) -> String {
        match &self.cause {
            Cause::Channel(error) => format!("the {} layer", error.layer()),
            Cause::System(_) => "the system".to_owned(),
            Cause::Short { .. } => "the digest".to_owned(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = self.side;
        match self.act {
            Act::Opening => write!(f, "{side}, opening: ")?,
            Act::Sending => write!(f, "{side}, sending {side} -> {}: ", side.peer())?,
            Act::Receiving => write!(f, "{side}, receiving {} -> {side}: ", side.peer())?,
            Act::Closing => write!(f, "{side}, closing: ")?,
        }
        match &self.cause {
            Cause::Channel(error) => write!(f, "{error:#}"),
            Cause::System(error) => write!(f, "{error:#}"),
            Cause::Short { got, expected } => write!(f, "the stream ended after {got} of {expected} bytes"),
        }
    }
}

/// What stopped either side, in the order it happened.
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<Vec<Failure>>);

impl Failures {
    pub(crate) fn push(&self, failure: Failure) {
        self.lock().push(failure);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// The failure that all others follow from.
    fn into_cause(self) -> Option<Failure> {
        let all = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        all.into_iter().min_by_key(Failure::rank) // of equals the first
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Failure>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a run came to. Only [`Intact`](Self::Intact) is a success.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// Every byte arrived unchanged, both ways.
    Intact,
    /// Something went wrong on its own.
    Failed {
        /// Who noticed: `the tls layer`, `the digest`, ….
        by: String,
        /// Where it was noticed, and how.
        how: String,
    },
    /// The bit that was flipped on purpose was noticed.
    Caught {
        /// Which byte it was in.
        at: u64,
        /// Who noticed: `the tls layer`, `the digest`, ….
        by: String,
        /// Where it was noticed, and how.
        how: String,
    },
    /// A bit was flipped on purpose, and yet everything arrived unchanged: nothing depends on that bit.
    Unnoticed {
        /// Which byte it was in.
        at: u64,
    },
    /// A bit was to be flipped, but its byte never came.
    NotReached {
        /// Which byte it would have been in.
        at: u64,
        /// How many went over the wire from client to server.
        wire_bytes: u64,
    },
}

/// What was to be done to the wire, and how far it got.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Corruption {
    pub(crate) at: u64,
    pub(crate) happened: bool,
    /// How many went over the wire from client to server.
    pub(crate) wire_bytes: u64,
}

impl Verdict {
    pub(crate) fn of(failures: Failures, flows: &[Flow], corruption: Option<Corruption>) -> Self {
        let cause = failures.into_cause().map(|failure| (failure.catcher(), failure.to_string()));
        let differs = || {
            let flow = flows.iter().find(|flow| !flow.is_intact())?;
            Some(("the digest".to_owned(), format!("{}: not what was sent has arrived", flow.label)))
        };
        match (cause.or_else(differs), corruption) {
            (Some((by, how)), Some(Corruption { at, happened: true, .. })) => Self::Caught { at, by, how },
            (Some((by, how)), _) => Self::Failed { by, how },
            (None, None) => Self::Intact,
            (None, Some(Corruption { at, happened: true, .. })) => Self::Unnoticed { at },
            (None, Some(Corruption { at, wire_bytes, .. })) => Self::NotReached { at, wire_bytes },
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Intact => f.write_str("all digests match"),
            Self::Failed { by, how } => write!(f, "the run failed in {by}: {how}"),
            Self::Caught { at, by, how } => write!(f, "the bit flipped in byte {at} was caught by {by}: {how}"),
            Self::Unnoticed { at } => write!(
                f,
                "the bit flipped in byte {at} was caught by nobody: everything arrived unchanged, so nothing depends on that \
                 bit (in a record header or an HTTP header, of a field that its reader ignores)"
            ),
            Self::NotReached { at, wire_bytes } => write!(
                f,
                "nothing was corrupted: only {wire_bytes} bytes went from client to server on the wire, and --corrupt-at {at} \
                 (counted from 0) lies behind them"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(side: Side, kind: ErrorKind, layer: &'static str) -> Failure {
        Failure { side, act: Act::Receiving, cause: Cause::Channel(Error::new(kind, layer, "")), depth: 0 }
    }

    fn verdict(failures: impl IntoIterator<Item = Failure>) -> Verdict {
        let all = Failures::default();
        failures.into_iter().for_each(|failure| all.push(failure));
        Verdict::of(all, &[], Some(Corruption { at: 1, happened: true, wire_bytes: 2 }))
    }

    fn caught_by(verdict: &Verdict) -> &str {
        match verdict {
            Verdict::Caught { by, .. } => by,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_alert_that_overtakes_the_failure_is_not_the_cause() {
        let alert = failure(Side::Client, ErrorKind::Refused, "websocket");
        let found = failure(Side::Server, ErrorKind::Protocol, "tls");
        let torn = failure(Side::Client, ErrorKind::UnexpectedEof, "websocket");
        assert_eq!(caught_by(&verdict([alert, found, torn])), "the tls layer");
    }

    #[test]
    fn the_first_to_notice_has_caught_it() {
        let short =
            Failure { side: Side::Server, act: Act::Receiving, cause: Cause::Short { got: 1, expected: 2 }, depth: 0 };
        let torn = failure(Side::Client, ErrorKind::UnexpectedEof, "websocket");
        let verdict = verdict([short, torn]);
        assert_eq!(caught_by(&verdict), "the digest");
        assert!(verdict.to_string().contains("server, receiving client -> server: the stream ended after 1 of 2"));
    }

    #[test]
    fn of_two_that_wait_for_each_other_the_lower_layer_is_the_cause() {
        let waits = |side, kind, layer, depth| Failure { act: Act::Opening, depth, ..failure(side, kind, layer) };
        let above = || waits(Side::Client, ErrorKind::TimedOut, "websocket", 0);
        let below = |kind| waits(Side::Server, kind, "tls", 1);
        assert_eq!(caught_by(&verdict([above(), below(ErrorKind::TimedOut)])), "the tls layer");
        assert_eq!(caught_by(&verdict([above(), below(ErrorKind::UnexpectedEof)])), "the tls layer");
        assert_eq!(
            caught_by(&verdict([above(), failure(Side::Server, ErrorKind::Reset, "tls")])),
            "the websocket layer"
        );
    }

    #[test]
    fn a_consequence_is_told_if_nothing_else_is_known() {
        assert_eq!(caught_by(&verdict([failure(Side::Client, ErrorKind::Reset, "socket")])), "the socket layer");
    }

    #[test]
    fn a_bit_that_never_came_was_not_caught() {
        let behind = Some(Corruption { at: 2, happened: false, wire_bytes: 2 });
        assert_eq!(Verdict::of(Failures::default(), &[], behind), Verdict::NotReached { at: 2, wire_bytes: 2 });
        let last = Some(Corruption { at: 1, happened: true, wire_bytes: 2 });
        assert_eq!(Verdict::of(Failures::default(), &[], last), Verdict::Unnoticed { at: 1 });
    }
}
