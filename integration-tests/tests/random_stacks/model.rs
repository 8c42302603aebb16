//! The model: two byte queues, and what each call may say of them.
//!
//! What is known of a call is written down before it is made and after it has returned, so that nothing is demanded that another thread may
//! just have changed.

use std::mem::{Discriminant, discriminant};
use std::time::{Duration, Instant};

use channel_core::{Direction, ErrorKind, Result, Shutdown};

use super::case::{Case, Layer, Leaf, Waits};

/// A linger below this runs out; one above never does, unless something hangs.
const RUNS_OUT: Duration = Duration::from_secs(1);

/// How often calls may say would-block while nothing happens.
const IN_VAIN: u32 = 500_000;

/// One call on the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Handshake,
    Read {
        waits: bool,
    },
    Lend,
    Write {
        len: usize,
        waits: bool,
    },
    Cork(bool),
    Flush,
    /// A ping, or a key update.
    Control,
    Blocking(bool),
    Move,
    CloseWrite,
    /// Within this, or the linger.
    Close(Option<Duration>),
    Shutdown(Shutdown),
}

impl Call {
    /// The direction it may wait in, as the reader or the writer; `close` is neither.
    fn turn(self) -> Option<Direction> {
        match self {
            Self::Handshake | Self::Read { waits: true } => Some(Direction::Read),
            Self::Write { waits: true, .. } | Self::Flush | Self::CloseWrite => Some(Direction::Write),
            _ => None,
        }
    }

    fn waits(self) -> bool {
        self.closes() || self.turn().is_some()
    }

    fn closes(self) -> bool {
        matches!(self, Self::Close(_))
    }

    fn reads(self) -> bool {
        matches!(self, Self::Read { .. } | Self::Lend)
    }

    fn writes(self) -> bool {
        matches!(self, Self::Write { .. } | Self::Flush | Self::CloseWrite)
    }
}

/// How much is still expected of the channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Everything; a thread may wait for another.
    Play,
    /// Everything; no thread waits for another any more, since all of them did.
    Hurry,
    /// Both ends were shut down by the test, since nobody would have gone on: only what is true of any stream.
    Over,
}

/// Both ends of a case.
pub(crate) struct Model {
    ends: [End; 2],
    /// Whether there is a protocol that tells an end from a cut.
    layered: bool,
    /// Whether a layer has a closing handshake, and whether the top one has.
    shakes: bool,
    top_shakes: bool,
    leaf: Leaf,
    linger: Duration,
    pub(crate) stage: Stage,
    /// Counts everything that happened.
    pub(crate) steps: u64,
    /// What is wrong, once something is.
    pub(crate) fault: Option<String>,
    /// Calls that said would-block since something happened, and when that was.
    in_vain: (u64, u32),
    log: Vec<Line>,
}

/// Calls of one kind by one thread, one after the other.
struct Line {
    by: Option<(usize, usize, Discriminant<Call>)>,
    last: String,
    times: u32,
}

/// One end: its output as the queue to the other, and what it was told.
#[derive(Default)]
struct End {
    /// By each of its threads: bytes that a call was or is being offered, bytes that were taken.
    offered: [u64; 2],
    taken: [u64; 2],
    /// What has come of each of the peer's threads.
    come: [u64; 2],
    last_come: Option<Instant>,
    corked: bool,
    /// Bytes may have been left that nobody was about to push.
    has_left: bool,
    close_write: Ended,
    close_write_began: Option<Instant>,
    close: Ended,
    close_by: Option<Instant>,
    /// A call of `close` has come back, perhaps with would-block.
    is_closing: bool,
    /// It had read to the peer's clean end when `close` began.
    closed_behind_the_end: bool,
    closes: Vec<Result<(), ErrorKind>>,
    shut_read: bool,
    shut_write: bool,
    /// How reading ended, and whether it was this end that ended it.
    end: Option<(Result<(), ErrorKind>, bool)>,
    blocking: bool,
    /// Counts changes of the mode.
    modes: u64,
    waits_in_calls: bool,
    pushes_by_itself: bool,
    threads: [Thread; 2],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Ended {
    #[default]
    No,
    Begun,
    Done,
}

#[derive(Default)]
struct Thread {
    now: Option<Now>,
    /// Calls that had a turn in a direction and have returned.
    turns: [u64; 2],
    meets: u64,
    /// It waits for the other thread, rather than for the channel.
    waits: bool,
    done: bool,
}

/// A call under way, and what was so when it began.
#[derive(Clone, Copy)]
struct Now {
    call: Call,
    began: Instant,
    is_closing: bool,
    closed_write: bool,
    blocking: bool,
    modes: u64,
    /// The turns that the other thread of this end had had.
    turns: [u64; 2],
    last_come: Option<Instant>,
}

/// What is to be made of it that nothing happens.
pub(crate) enum Stall {
    /// A promise is broken if it stays so.
    Broken(String),
    /// A limit will end it, or a thread that is between two calls.
    Until,
    /// Nobody is to blame: each waits for what no other is going to do.
    Legal,
}

impl Model {
    pub(crate) fn new(case: &Case) -> Self {
        let end = |index: usize| {
            let waits = case.ends[index].waits;
            End {
                blocking: waits == Waits::Blocking,
                waits_in_calls: matches!(waits, Waits::Blocking | Waits::NonBlocking),
                pushes_by_itself: waits == Waits::Handlers,
                ..End::default()
            }
        };
        Self {
            ends: [end(0), end(1)],
            layered: case.protocols().count() > 0,
            shakes: case.protocols().any(Layer::shakes_hands),
            top_shakes: case.protocols().last().is_some_and(Layer::shakes_hands),
            leaf: case.leaf,
            linger: case.bounds.linger,
            stage: Stage::Play,
            steps: 0,
            fault: None,
            in_vain: (0, 0),
            log: Vec::new(),
        }
    }

    pub(crate) fn wrong(&mut self, fault: String) {
        self.steps += 1;
        self.fault.get_or_insert(fault);
    }

    /// Nobody would go on.
    pub(crate) fn give_up(&mut self) {
        self.steps += 1;
        self.stage = if self.stage == Stage::Play { Stage::Hurry } else { Stage::Over };
        self.write_down(None, format!("nobody would go on: {:?}", self.stage));
    }

    pub(crate) fn is_closed(&self, end: usize) -> bool {
        self.ends[end].close != Ended::No
    }

    /// How much thread `thread` has had taken: where it goes on.
    pub(crate) fn taken(&self, end: usize, thread: usize) -> u64 {
        self.ends[end].taken[thread]
    }

    /// Whether reading is over, and whether that was the clean end.
    pub(crate) fn read_end(&self, end: usize) -> Option<bool> {
        self.ends[end].end.map(|(end, _)| end.is_ok())
    }

    /// Whether a thread waits for the other, rather than for the channel.
    pub(crate) fn set_waits(&mut self, end: usize, thread: usize, waits: bool) {
        self.steps += 1;
        self.ends[end].threads[thread].waits = waits;
    }

    /// A thread arrives where it meets the other: which meeting it is.
    pub(crate) fn arrive(&mut self, end: usize, thread: usize) -> u64 {
        self.steps += 1;
        let thread = &mut self.ends[end].threads[thread];
        thread.meets += 1;
        thread.meets
    }

    /// Whether it need not wait for the other.
    pub(crate) fn met(&self, end: usize, thread: usize, meeting: u64) -> bool {
        let other = &self.ends[end].threads[1 - thread];
        self.stage > Stage::Play || self.fault.is_some() || other.done || other.meets >= meeting
    }

    /// A thread has done its part; says whether it was the last of its end.
    pub(crate) fn leave(&mut self, end: usize, thread: usize) -> bool {
        self.steps += 1;
        self.ends[end].threads[thread].done = true;
        self.ends[end].threads[1 - thread].done
    }

    pub(crate) fn begin(&mut self, end: usize, thread: usize, call: Call) {
        self.steps += 1;
        let this = &mut self.ends[end];
        match call {
            Call::Write { len, .. } => this.offered[thread] = this.taken[thread] + len as u64,
            Call::CloseWrite => {
                this.close_write = this.close_write.max(Ended::Begun);
                this.close_write_began.get_or_insert_with(Instant::now);
            }
            Call::Shutdown(how) => {
                this.shut_read |= how != Shutdown::Write;
                this.shut_write |= how != Shutdown::Read;
            }
            Call::Cork(true) => this.corked = true,
            Call::Blocking(blocking) => {
                this.modes += 1;
                this.blocking = blocking;
            }
            _ => {}
        }
        if let Call::Close(within) = call {
            let by = Instant::now() + within.unwrap_or(self.linger);
            this.close_by = Some(this.close_by.map_or(by, |known| known.min(by)));
            if this.close == Ended::No {
                this.close = Ended::Begun;
                this.closed_behind_the_end = matches!(this.end, Some((Ok(()), false)));
            }
        }
        let now = Now {
            call,
            began: Instant::now(),
            is_closing: this.is_closing,
            closed_write: this.close_write == Ended::Done,
            blocking: this.blocking,
            modes: this.modes,
            turns: this.threads[1 - thread].turns,
            last_come: this.last_come,
        };
        this.threads[thread].now = Some(now);
    }

    /// A call that waits said would-block, and will be made again.
    pub(crate) fn would_block(&mut self, end: usize, thread: usize) {
        let this = &mut self.ends[end];
        let Some(now) = this.threads[thread].now else { return };
        this.is_closing |= now.call.closes();
        self.in_vain = if self.in_vain.0 == self.steps { (self.steps, self.in_vain.1 + 1) } else { (self.steps, 1) };
        if self.in_vain.1 > IN_VAIN {
            let state = self.state();
            self.wrong(format!(
                "Q3: {} is told to try again and again, and nothing happens\n{state}",
                name(end, thread)
            ));
            return;
        }
        let this = &self.ends[end];
        if this.waits_in_calls && now.blocking && now.modes == this.modes {
            self.wrong(format!("M1: {} in blocking mode: {:?} said would-block", name(end, thread), now.call));
        }
    }

    /// A call has returned; `come` is what has come by then of each of the peer's threads.
    pub(crate) fn finish(&mut self, end: usize, thread: usize, outcome: &Result<usize>, come: Option<[u64; 2]>) {
        self.steps += 1;
        let Some(now) = self.ends[end].threads[thread].now.take() else { return };
        let outcome = outcome.as_ref().map_err(channel_core::Error::kind).copied();
        let by = outcome.is_ok().then(|| (end, thread, discriminant(&now.call)));
        self.write_down(by, format!("{}: {:?} = {outcome:?}", name(end, thread), now.call));
        if let Some(turn) = now.call.turn() {
            self.ends[end].threads[thread].turns[turn as usize] += 1;
        }
        if let Some(fault) = self.judge(end, thread, &now, outcome, come) {
            let state = self.state();
            self.wrong(format!("{}: {:?} gave {outcome:?}: {fault}\n{state}", name(end, thread), now.call));
        }
        self.note(end, thread, &now, outcome, come);
    }

    /// What the call has changed.
    fn note(&mut self, end: usize, thread: usize, now: &Now, outcome: Outcome, come: Option<[u64; 2]>) {
        let stage = self.stage;
        let this = &mut self.ends[end];
        match (now.call, outcome) {
            (Call::Write { .. }, Ok(count)) => {
                this.taken[thread] += count as u64;
                let drained = this.waits_in_calls && now.blocking && now.modes == this.modes;
                let alone =
                    this.threads[1 - thread].now.is_none_or(|other| other.call.turn() != Some(Direction::Write));
                if !(drained && alone && matches!(now.call, Call::Write { waits: true, .. })) {
                    this.has_left = true;
                }
            }
            (Call::Cork(cork), _) => {
                this.corked = cork;
                this.has_left = true;
            }
            (Call::Flush, Ok(_)) => this.has_left = false,
            (Call::CloseWrite, Ok(_)) => {
                this.has_left = false;
                this.close_write = Ended::Done;
            }
            (Call::Close(_), outcome) => {
                this.is_closing = true;
                this.close = Ended::Done;
                this.closes.push(outcome.map(drop));
            }
            _ => {}
        }
        if matches!(now.call, Call::Write { .. }) {
            this.offered[thread] = this.taken[thread];
        }
        if let Some(come) = come {
            if come != this.come {
                this.last_come = Some(Instant::now());
            }
            this.come = come;
        }
        let over = match outcome {
            Ok(0) => Some(Ok(())),
            Err(kind) if !matches!(kind, ErrorKind::WouldBlock | ErrorKind::Busy) => Some(Err(kind)),
            _ => None,
        };
        if let (true, Some(over), None) = (now.call.reads(), over, this.end) {
            let ours = this.shut_read || this.close != Ended::No || stage == Stage::Over;
            this.end = Some((over, ours));
        }
    }

    /// Why a call may not say what it said.
    fn judge(&self, end: usize, thread: usize, now: &Now, outcome: Outcome, come: Option<[u64; 2]>) -> Option<String> {
        let (this, peer) = (&self.ends[end], &self.ends[1 - end]);
        if let Some(come) = come {
            if let Some(thread) = (0..2).find(|&thread| come[thread] > peer.offered[thread].max(peer.taken[thread])) {
                return Some(format!("more came than thread {} of the peer ever offered", thread + 1));
            }
            if come != this.come && matches!(this.end, Some((Ok(()), _))) {
                return Some("R2: bytes came behind the end".to_owned());
            }
        }
        let call = now.call;
        if now.is_closing && (call.reads() || call.writes()) && outcome != Err(ErrorKind::Closed) {
            return Some("S5: from the moment close began, it says `Closed`".to_owned());
        }
        match outcome {
            Err(ErrorKind::WouldBlock) if call.waits() || matches!(call, Call::Move | Call::Control) => {
                Some("it waits".to_owned())
            }
            Err(ErrorKind::Busy) => {
                let other = &this.threads[1 - thread];
                let overlaps = |direction: Direction| {
                    other.turns[direction as usize] != now.turns[direction as usize]
                        || other.now.is_some_and(|other| other.call.turn() == Some(direction))
                };
                let legal = call.turn().is_some_and(overlaps);
                (!legal).then(|| "O3: nobody else waits in this direction".to_owned())
            }
            _ => match call {
                Call::Read { .. } | Call::Lend => self.judge_read(end, now, outcome),
                Call::Write { len, .. } => match outcome {
                    Ok(count) if count == 0 || count > len => Some(format!("W1: of {len} bytes")),
                    Ok(_) if now.closed_write => Some("E3: a write after `close_write`".to_owned()),
                    _ => self.judge_write(end, outcome),
                },
                // What a close under way has made of the output.
                Call::Control if outcome == Err(ErrorKind::BrokenPipe) && this.close != Ended::No => None,
                Call::Flush | Call::CloseWrite | Call::Control => self.judge_write(end, outcome),
                Call::Close(_) => self.judge_close(end, outcome),
                Call::Handshake => outcome.is_err().then(|| "both ends want it".to_owned()),
                Call::Move => {
                    let legal = outcome.is_ok() || (outcome == Err(ErrorKind::Closed) && this.close != Ended::No);
                    (!legal).then(|| "H7, A5: a channel can be moved at any time".to_owned())
                }
                Call::Cork(_) | Call::Blocking(_) => None,
                Call::Shutdown(_) => outcome.is_err().then(|| "S2: every leaf can be shut down".to_owned()),
            },
        }
    }

    fn judge_read(&self, end: usize, now: &Now, outcome: Outcome) -> Option<String> {
        let (this, peer) = (&self.ends[end], &self.ends[1 - end]);
        let ours = this.shut_read || this.close != Ended::No || self.stage == Stage::Over;
        match outcome {
            // A lend is a call of another kind: `would_block_every_other` may hold it up once, whatever a read was told.
            Err(ErrorKind::WouldBlock) if now.call != Call::Lend && matches!(this.end, Some((Ok(()), false))) => {
                Some("R2: the end was read before".to_owned())
            }
            Ok(0) => {
                let ended = peer.close_write != Ended::No || peer.close != Ended::No;
                let legal = ours || ended || (!self.layered && peer.is_abrupt());
                (!legal).then(|| "an end that the peer did not make".to_owned())
            }
            Ok(_) | Err(ErrorKind::WouldBlock) => None,
            Err(ErrorKind::Closed) => (this.close == Ended::No).then(|| "it was not closed".to_owned()),
            Err(ErrorKind::TimedOut) => {
                let silent_since = now.last_come.max(this.last_come);
                let silent = silent_since.is_none_or(|since| since.elapsed() >= self.linger);
                let legal = self.shakes && this.close_write != Ended::No && silent;
                (!legal && self.is_strict()).then(|| "E5: no linger of silence after our own Close".to_owned())
            }
            Err(kind) => self.judge_kind(kind, ours || this.is_abrupt() || peer.is_gone()),
        }
    }

    fn judge_write(&self, end: usize, outcome: Outcome) -> Option<String> {
        let (this, peer) = (&self.ends[end], &self.ends[1 - end]);
        match outcome {
            Ok(_) | Err(ErrorKind::WouldBlock) => None,
            Err(ErrorKind::Closed) => (this.close == Ended::No).then(|| "it was not closed".to_owned()),
            Err(ErrorKind::Unsupported) => None, // a key update in TLS 1.2
            Err(ErrorKind::BrokenPipe) if this.close_write != Ended::No => None,
            Err(kind) => self.judge_kind(kind, this.is_abrupt() || peer.is_gone()),
        }
    }

    fn judge_close(&self, end: usize, outcome: Outcome) -> Option<String> {
        let (this, peer) = (&self.ends[end], &self.ends[1 - end]);
        if let Some(first) = this.closes.first().filter(|first| **first != outcome.map(drop)) {
            return Some(format!("S5: another closer was told {first:?}"));
        }
        match outcome {
            Ok(_) => {
                let ends = peer.close_write != Ended::No || peer.close != Ended::No;
                let legal = !self.shakes || ends || !self.is_strict();
                (!legal).then(|| "S7: the peer's Close has not come".to_owned())
            }
            Err(ErrorKind::TimedOut) => {
                // A layer whose own Close went out before waits no longer than that for the peer's.
                let silent = self.shakes && this.close_write_began.is_some_and(|began| began.elapsed() >= self.linger);
                let passed = silent || this.close_by.is_none_or(|by| by <= Instant::now());
                (!passed && self.is_strict()).then(|| "S7: the linger has not passed".to_owned())
            }
            Err(kind) => self.judge_kind(kind, this.is_abrupt() || peer.is_gone()),
        }
    }

    /// Errors that follow from an end of somebody's, and those that never do.
    fn judge_kind(&self, kind: ErrorKind, somebody_went: bool) -> Option<String> {
        match kind {
            ErrorKind::BrokenPipe | ErrorKind::Reset | ErrorKind::UnexpectedEof | ErrorKind::TimedOut => {
                (!somebody_went && self.is_strict()).then(|| "neither end went".to_owned())
            }
            ErrorKind::Io(_) if somebody_went || !self.is_strict() => None,
            _ => Some("no call of this case leads to that".to_owned()),
        }
    }

    /// Whether nothing was cut off.
    fn is_strict(&self) -> bool {
        self.stage != Stage::Over && !self.ends.iter().any(End::is_abrupt)
    }

    /// What must be so when all is over.
    pub(crate) fn conclude(&mut self) {
        for end in 0..2 {
            if let Some(fault) = self.conclude_queue(end) {
                self.wrong(format!("from {} to {}: {fault}", SIDES[end], SIDES[1 - end]));
            }
        }
    }

    fn conclude_queue(&self, end: usize) -> Option<String> {
        let (from, to) = (&self.ends[end], &self.ends[1 - end]);
        if let Some(thread) = (0..2).find(|&thread| to.come[thread] > from.taken[thread]) {
            return Some(format!("W2: more came than was taken of thread {}", thread + 1));
        }
        let lost = from.in_flight(to);
        let Some((how, false)) = to.end else { return None };
        if how.is_ok() && lost > 0 && (self.layered || !from.is_abrupt()) {
            return Some(format!("the clean end came, but {lost} bytes that were taken did not"));
        }
        let closed = from.closes.iter().all(Result::is_ok) && !from.closes.is_empty();
        // TCP itself throws away what is on its way when a socket is closed with input unread; only a closing handshake prevents that.
        let tcp_cuts = self.leaf == Leaf::Tcp && !self.shakes && !from.closed_behind_the_end;
        let gave_up = how == Err(ErrorKind::TimedOut); // judged when it was told
        if !self.is_strict() || !closed || tcp_cuts || gave_up {
            return None;
        }
        if lost > 0 {
            return Some(format!(
                "S7: close said Ok, and {lost} bytes that were taken did not arrive at a reader, who got {how:?}"
            ));
        }
        let kernel_says_reset = !self.layered && how == Err(ErrorKind::Reset);
        match how {
            Ok(()) => None,
            Err(_) if kernel_says_reset => None,
            Err(kind) => Some(format!("E1: close said Ok, and the reader got {kind:?} in place of the end")),
        }
    }

    /// What is to be made of it that nothing happens.
    pub(crate) fn stall(&self) -> Stall {
        let calls = |end: usize| self.ends[end].threads.iter().filter_map(|thread| thread.now);
        let any = |end: usize, is: fn(Call) -> bool| calls(end).any(|now| is(now.call));
        let broken = |why: &str| Stall::Broken(format!("{why}\n{}", self.state()));
        if let Some(now) = (0..2).flat_map(calls).find(|now| !now.call.waits()) {
            return broken(&format!("{:?} never waits", now.call));
        }
        if (0..2).any(|end| any(end, |call| call == Call::Handshake)) {
            return broken("N2: both ends want to open");
        }
        if self.stage == Stage::Over {
            let shut = (0..2).any(|end| calls(end).next().is_some());
            return if shut { broken("S1: both ends were shut down") } else { broken("the test itself") };
        }
        let mut limited = false;
        for end in 0..2 {
            let (this, peer) = (&self.ends[end], &self.ends[1 - end]);
            let reads = any(1 - end, |call| matches!(call, Call::Read { .. }));
            let writes = any(end, |call| call.writes());
            let closes = any(end, Call::closes);
            if closes {
                let left = this.close_by.map_or(Duration::ZERO, |by| by.saturating_duration_since(Instant::now()));
                if left.is_zero() {
                    return broken("S6: close goes on after the linger");
                }
                limited |= left < RUNS_OUT;
            }
            if reads && this.in_flight(peer) > 0 && !self.may_hold(end) {
                return broken("bytes that were taken do not arrive, and the other end reads");
            }
            if writes && reads {
                return broken("one end writes and the other reads");
            }
            if reads && (closes || this.close_write == Ended::Done || this.close == Ended::Done) {
                return broken("the end does not arrive, and the other end reads");
            }
            if writes && (peer.close == Ended::Done || (self.layered && peer.close == Ended::Begun)) {
                return broken("it writes to an end that was closed");
            }
            if self.layered && closes && peer.close == Ended::Begun {
                return broken("both ends close");
            }
            if this.close == Ended::Done && calls(end).next().is_some() {
                return broken("S3: the channel is closed and a call waits in it");
            }
            if this.shut_read && any(end, |call| matches!(call, Call::Read { .. })) {
                return broken("S1: reading was shut down and a reader waits");
            }
            if this.shut_write && writes {
                return broken("S1: writing was shut down and a writer waits");
            }
            let silent = self.top_shakes && peer.close_write == Ended::Done && self.linger < RUNS_OUT;
            if let (true, true, Some(now)) = (silent, reads, calls(1 - end).find(|now| now.call.reads())) {
                if peer.last_come.unwrap_or(now.began).max(now.began) + self.linger <= Instant::now() {
                    return broken("E5: a linger of silence after our own Close, and reading goes on");
                }
                limited = true;
            }
        }
        let between_calls = |thread: &Thread| thread.now.is_none() && !thread.waits && !thread.done;
        let goes_on = self.ends.iter().flat_map(|end| &end.threads).any(between_calls);
        if limited || goes_on { Stall::Until } else { Stall::Legal }
    }

    /// Whether an end may keep bytes that it took, because nobody is there to push them.
    fn may_hold(&self, end: usize) -> bool {
        let this = &self.ends[end];
        let waits = |thread: &Thread| thread.now.as_ref().is_some_and(|now| now.call.waits());
        this.corked || (this.has_left && !this.pushes_by_itself && !this.threads.iter().any(waits))
    }

    /// Who is where, and what has gone.
    pub(crate) fn state(&self) -> String {
        let mut lines = Vec::new();
        for (end, this) in self.ends.iter().enumerate() {
            for (number, thread) in this.threads.iter().enumerate() {
                let doing = match (&thread.now, thread.done) {
                    (Some(now), _) => format!("in {:?} for {:.1?}", now.call, now.began.elapsed()),
                    (None, true) => "done".to_owned(),
                    (None, false) => "waits for the other thread".to_owned(),
                };
                lines.push(format!("{}: {doing}", name(end, number)));
            }
            let lost = this.in_flight(&self.ends[1 - end]);
            lines.push(format!("{}: {:?} bytes taken, {lost} of them not yet read", SIDES[end], this.taken));
        }
        lines.join("\n")
    }

    fn write_down(&mut self, by: Option<(usize, usize, Discriminant<Call>)>, line: String) {
        let last = format!("{:5} {line}", self.steps);
        match self.log.last_mut() {
            Some(known) if by.is_some() && known.by == by => {
                known.times += 1;
                known.last = last;
            }
            _ => self.log.push(Line { by, last, times: 1 }),
        }
    }

    /// The last calls that returned.
    pub(crate) fn log(&self) -> String {
        const MOST: usize = 60;
        let lines = self.log[self.log.len().saturating_sub(MOST)..].iter().map(|line| match line.times {
            1 => line.last.clone(),
            times => format!("{}, the last of {times}", line.last),
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

type Outcome = Result<usize, ErrorKind>;

pub(crate) const SIDES: [&str; 2] = ["near", "far"];

fn name(end: usize, thread: usize) -> String {
    format!("{} {}", SIDES[end], thread + 1)
}

impl End {
    fn is_abrupt(&self) -> bool {
        self.shut_read || self.shut_write
    }

    fn is_gone(&self) -> bool {
        self.is_abrupt() || self.close != Ended::No
    }

    /// Bytes taken here that `peer` has not read.
    fn in_flight(&self, peer: &Self) -> u64 {
        self.taken.iter().sum::<u64>().saturating_sub(peer.come.iter().sum())
    }
}
