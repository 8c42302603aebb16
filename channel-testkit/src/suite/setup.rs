//! What a clause is given: how to make a pair, and how to drive the near end of it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use channel_core::{Channel, Limits};

use super::end::{End, Task};
use super::observed::{Journal, Observed};
use super::write::flush_in_background;
use crate::adverse::{Gate, gated};
use crate::patience::{Patience, Progress, patience};
use crate::recording::Recorder;
use crate::thread_state::Sleep;

/// What a clause asks of the maker of a pair. A maker may ignore small buffers and the gate; the clause is then weaker, or slower, but not
/// wrong. So it may the limits, where there is no layer that has any.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Options {
    /// Make every buffer between the two ends as small as it can be, down to one byte. Otherwise a pair must hold at least 4 KiB
    /// in each direction before a write would block.
    pub small_buffers: bool,
    /// The limits of every layer, on both sides. The suite shortens `handshake` and `linger` where it waits for them, and makes them
    /// endless where a call must not.
    pub limits: Limits,
    /// Hold back with it what arrives at the near end, below its layers, if there is one: see [`behind_gate`](Self::behind_gate).
    pub gate: Option<Arc<Gate>>,
}

impl Options {
    /// The leaf of the near end, with the gate in its way if one is asked for: what a maker that declares a [`gate`](Setup::gate) puts its
    /// layers on.
    #[must_use]
    pub fn behind_gate(&self, leaf: impl Channel) -> Box<dyn Channel> {
        match &self.gate {
            Some(gate) => gated(Box::new(leaf), Arc::clone(gate)),
            None => Box::new(leaf),
        }
    }
}

/// How a test drives the near end; the far end is always blocking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// Calls wait.
    Blocking,
    /// Calls say would-block, and the test waits in between ([`ChannelExt::wait`](channel_core::ChannelExt::wait)).
    NonBlocking,
    /// Calls say would-block, and the test runs an [`EventLoop`](channel_core::EventLoop) until a handler set there is called.
    EventLoop,
    /// Calls are those of an [`AioChannel`](channel_core::AioChannel) in a task under tokio; reads and writes by tokio's own traits.
    #[cfg(feature = "tokio")]
    Tokio,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blocking => "blocking",
            Self::NonBlocking => "non-blocking",
            Self::EventLoop => "event-loop",
            #[cfg(feature = "tokio")]
            Self::Tokio => "tokio",
        })
    }
}

/// The two ends of a connection.
pub type Pair = (Box<dyn Channel>, Box<dyn Channel>);

/// What a maker may return: two channels, or a `Result` with two channels.
pub trait IntoPair {
    /// The pair.
    ///
    /// # Panics
    /// If there is none, with the reason.
    fn into_pair(self) -> Pair;
}

impl<A: Channel, B: Channel> IntoPair for (A, B) {
    fn into_pair(self) -> Pair {
        (Box::new(self.0), Box::new(self.1))
    }
}

impl<P: IntoPair, E: fmt::Display> IntoPair for Result<P, E> {
    fn into_pair(self) -> Pair {
        match self {
            Ok(pair) => pair.into_pair(),
            Err(error) => panic!("the maker made no pair: {error}"),
        }
    }
}

/// What a clause runs on: a maker of connected pairs, what it declares of them, and the mode the near end is driven in.
#[derive(Clone)]
pub struct Setup {
    maker: Arc<dyn Fn(&Options) -> Pair + Send + Sync>,
    mode: Mode,
    patience: Duration,
    declared: Declared,
    run: Arc<Run>,
}

/// What the maker says of its channels.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Declared {
    pub(super) handshake: bool,
    pub(super) descriptors: bool,
    pub(super) gate: bool,
    pub(super) tells_a_cut: bool,
    pub(super) hesitates: bool,
}

/// How long a call that must not wait may sleep all the same: for a lock that another thread holds for a moment.
const PROMPTLY: Duration = Duration::from_millis(500);

impl Setup {
    /// Runs clauses over the pairs that `maker` makes. They need not be open: the suite drives both handshakes.
    ///
    /// A maker leaves no thread behind; the clause of \[O4\] counts them.
    pub fn new<P: IntoPair>(mode: Mode, maker: impl Fn(&Options) -> P + Send + Sync + 'static) -> Self {
        let maker = Arc::new(move |options: &Options| maker(options).into_pair());
        Self { maker, mode, patience: patience(), declared: Declared::default(), run: Arc::default() }
    }

    /// Gives up on a clause when nothing has moved for so long: no step, no byte, no call that returned at either end. Without this it is
    /// what [`patience`](crate::patience::patience()) says.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Declares that the ends must shake hands: neither is open before both have done something for it.
    #[must_use]
    pub fn handshake(mut self) -> Self {
        self.declared.handshake = true;
        self
    }

    /// Declares that both ends have [`FD_PASS`](channel_core::Features::FD_PASS).
    #[must_use]
    pub fn descriptors(mut self) -> Self {
        self.declared.descriptors = true;
        self
    }

    /// Declares that the maker puts [`Options::gate`] in the way.
    #[must_use]
    pub fn gate(mut self) -> Self {
        self.declared.gate = true;
        self
    }

    /// Declares that an end which the peer did not make can be told from one that it made, as it can where a protocol has an end of its
    /// own. Where this is not declared, as for a socket, a peer that goes must have ended the stream cleanly.
    #[must_use]
    pub fn tells_a_cut(mut self) -> Self {
        self.declared.tells_a_cut = true;
        self
    }

    /// Declares that a call may say would-block once although it could go on: there is an adverse channel somewhere.
    #[must_use]
    pub fn hesitates(mut self) -> Self {
        self.declared.hesitates = true;
        self
    }

    pub(super) fn declared(&self) -> Declared {
        self.declared
    }

    /// The mode the near end is driven in.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// How long a clause may stand still.
    pub(super) fn patience_left(&self) -> Duration {
        self.patience
    }

    /// For what a clause waits for itself, so that it can say what that was before it is given up.
    pub(super) fn waiting(&self) -> Patience {
        Patience::new(self.patience / 2, self.run.progress())
    }

    /// Takes turns until `done`, or until nothing moves any more; which of them.
    pub(super) fn turn_until(&self, recorder: &Recorder, mut done: impl FnMut() -> bool) -> bool {
        let mut patience = self.waiting();
        while !done() {
            if patience.is_lost() {
                return false;
            }
            recorder.turn(patience.slice()).expect("a turn");
        }
        true
    }

    /// What another thread sends.
    #[track_caller]
    pub(super) fn receive<T>(&self, from: &Receiver<T>, what: &str) -> T {
        let mut patience = self.waiting();
        loop {
            match from.recv_timeout(patience.slice()) {
                Ok(received) => return received,
                Err(RecvTimeoutError::Timeout) if !patience.is_lost() => {}
                Err(_) => panic!("{what}"),
            }
        }
    }

    /// Ends the calling thread if the clause was given up meanwhile.
    pub(super) fn drive_on(&self) {
        self.run.check();
    }

    /// Waits until another thread has done something, or until nothing moves any more; which of them.
    pub(super) fn wait_until(&self, done: impl FnMut() -> bool) -> bool {
        self.waiting().until(done)
    }

    /// A pair that is open at both ends, with nothing under way between them.
    pub(super) fn pair(&self) -> (End, End) {
        self.pair_with(&Options::default())
    }

    /// As [`pair`](Self::pair), with buffers as small as the maker can.
    pub(super) fn small_pair(&self) -> (End, End) {
        self.pair_with(&Options { small_buffers: true, limits: small_limits(), ..Options::default() })
    }

    /// As [`small_pair`](Self::small_pair), with limits that never pass.
    pub(super) fn endless_pair(&self) -> (End, End) {
        self.pair_with(&Options { small_buffers: true, limits: endless(small_limits()), ..Options::default() })
    }

    pub(super) fn pair_with(&self, options: &Options) -> (End, End) {
        let (near, far) = self.unopened(options);
        near.apply_mode();
        open(&near, &far);
        (near, far)
    }

    /// A pair as the maker made it: no handshake yet, and both ends in the mode that channels start out in.
    pub(super) fn unopened(&self, options: &Options) -> (End, End) {
        self.step("making a pair");
        let (near, far) = (self.maker)(options);
        let [near_journal, far_journal] = ["near", "far"].map(|side| Arc::new(Journal::new(side)));
        *self.run.journals() = vec![Arc::clone(&near_journal), Arc::clone(&far_journal)];
        let end = |channel, journal, mode| {
            let observed = Observed::new(channel, journal, Arc::clone(&self.run));
            End::new(Arc::new(observed), mode, Arc::clone(&self.run))
        };
        (end(near, near_journal, self.mode), end(far, far_journal, Mode::Blocking))
    }

    /// Notes what the clause does next, for the message if it hangs.
    pub(super) fn step(&self, step: &'static str) {
        self.run.step(step);
    }

    /// Runs `call`, which must not wait for anybody or anything. A call that waits for the peer never returns, as the peer is the one who
    /// calls this; so does one that waits for a limit, if the clause has made that long ([`endless`]). Of what else it may wait for the
    /// thread's sleep tells: not the time that passes, of which a busy machine takes what it likes.
    pub(super) fn promptly<T>(&self, what: &'static str, call: impl FnOnce() -> T) -> T {
        self.step(what);
        let sleep = Sleep::begin();
        let done = call();
        let slept = sleep.so_far();
        assert!(slept < PROMPTLY, "{what} slept for {slept:?}, although it must not wait");
        done
    }

    /// Runs `call`, which may wait for `limit` and no longer, by the calling thread's sleep.
    pub(super) fn within<T>(&self, limit: Duration, what: &'static str, call: impl FnOnce() -> T) -> T {
        self.step(what);
        let sleep = Sleep::begin();
        let done = call();
        let slept = sleep.so_far();
        assert!(slept < limit + limit / 2 + PROMPTLY / 4, "{what} slept for {slept:?}, and its limit is {limit:?}");
        done
    }

    pub(super) fn started(&self) -> Self {
        Self { run: Arc::default(), ..self.clone() }
    }

    /// What moved in this run.
    pub(super) fn progress(&self) -> &Progress {
        self.run.progress()
    }

    /// What the clause is doing, and what each end did.
    pub(super) fn tell(&self) -> String {
        self.run.tell()
    }

    /// Tells as [`tell`](Self::tell) does, from elsewhere.
    pub(super) fn teller(&self) -> Box<dyn Fn() -> String + Send> {
        let run = Arc::clone(&self.run);
        Box::new(move || run.tell())
    }

    /// Ends what threads of this run still drive.
    pub(super) fn abandon(&self) {
        self.run.abandoned.store(true, Ordering::Relaxed);
    }
}

/// Limits that never pass: a call that waits for one of them is noticed.
pub(super) fn endless(limits: Limits) -> Limits {
    const HOUR: Duration = Duration::from_secs(3600);
    Limits { handshake: HOUR, linger: HOUR, ..limits }
}

/// For a close towards a peer that makes no more calls, which need not be waited for.
pub(super) fn closing_soon() -> Options {
    Options { limits: Limits { linger: Duration::from_millis(20), ..Limits::default() }, ..Options::default() }
}

/// So that a layer over small buffers is full soon, too, and a test need not push much through them; nor wait long for a close
/// that cannot push it.
pub(super) fn small_limits() -> Limits {
    Limits { queued_bytes: 8 * 1024, linger: Duration::from_millis(200), ..Limits::default() }
}

/// Drives both handshakes to their end, and everything they leave behind.
pub(super) fn open(near: &End, far: &End) {
    near.step("driving both handshakes");
    let opening = {
        let far = far.clone();
        Task::spawn(move || far.open())
    };
    near.open();
    opening.join();
    // What an engine sends after its handshake, such as session tickets, is read here, so that a clause finds a quiet pair.
    for (from, to) in [(near, far), (far, near)] {
        near.step("flushing what follows the handshake while the peer reads");
        flush_in_background(from).join_while_reading(to);
        to.expect_nothing();
    }
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup").field("mode", &self.mode).field("patience", &self.patience).finish_non_exhaustive()
    }
}

/// One clause under way.
#[derive(Debug)]
pub(super) struct Run {
    step: Mutex<&'static str>,
    /// Of the pair that was made last.
    journals: Mutex<Vec<Arc<Journal>>>,
    progress: Progress,
    abandoned: AtomicBool,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            step: Mutex::new("starting"),
            journals: Mutex::default(),
            progress: Progress::new(),
            abandoned: AtomicBool::new(false),
        }
    }
}

impl Run {
    pub(super) fn step(&self, step: &'static str) {
        *self.step.lock().unwrap_or_else(PoisonError::into_inner) = step;
        self.progress.made();
    }

    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }

    fn journals(&self) -> MutexGuard<'_, Vec<Arc<Journal>>> {
        self.journals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) -> String {
        let step = *self.step.lock().unwrap_or_else(PoisonError::into_inner);
        let ends = self.journals().iter().map(|journal| format!("\n    {}", journal.tell())).collect::<String>();
        format!("{step}{ends}")
    }

    /// Ends the calling thread if the clause was given up, so that a failed test leaves no thread spinning.
    pub(super) fn check(&self) {
        assert!(!self.abandoned.load(Ordering::Relaxed), "the clause was given up");
    }
}
