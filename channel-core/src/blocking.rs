//! Blocking mode: try, and where that would block, wait for readiness and try again; and how long that may take. The only place that waits.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::time::{Duration, Instant};

use crate::{Channel, Direction, Error, ErrorKind, Readiness, Result};

/// Whether the channel a caller entered waits, for how long, and who waits in it now.
///
/// Each channel has one. Blocking is a flag of the channel that was entered, never of a descriptor, which others may
/// share; channels start out blocking, and without timeouts.
///
/// A [`LeafChannel`](crate::leaf::LeafChannel) and a layer have theirs. It is for who implements [`Channel`] by hand, a wrapper say that does
/// its own waiting, and for what is no channel and has handlers all the same, such as a listener:
///
/// * `readv_full` and `writev_full` refuse what [`features`](Channel::features) lacks, return 0 at once where there is nothing to move, and make
///   their attempt inside [`run`](Self::run); their errors say [`during("read")`](Error::during) or `"write"`;
/// * `with_read_buf`, if there is one, calls [`note`](Self::note) itself, for it never waits; `flush` and `close_write` need neither where they
///   never wait, and use `run` where they do;
/// * `readiness` passes its answer through [`limited`](Self::limited), unless it is [`Ready`](Readiness::Ready) anyway;
/// * one that has a handshake calls [`begin`](Self::begin) when that is over, and whoever sets a handler when that is set;
/// * `close` uses [`run_close`](Self::run_close) if it may have to wait.
///
/// A leaf is less work, see [`leaf`](crate::leaf), and so is a protocol over another channel, see [`engine`](crate::engine).
#[derive(Debug, Default)]
pub struct Mode {
    non_blocking: AtomicBool,
    reader_waits: AtomicBool,
    writer_waits: AtomicBool,
    /// How many of the next reads that wait do so before they try.
    sleeps_first: AtomicU8,
    /// Of a channel that was ever given a timeout.
    clocks: OnceLock<Box<[Clock; 2]>>,
}

/// The time that a call in one direction may take.
///
/// Where calls wait, each has the time to itself. Where they do not, it runs from the last one that was more than would-block.
#[derive(Debug, Default)]
struct Clock {
    /// In nanoseconds; 0 for none.
    timeout: AtomicI64,
    /// When it began, where calls do not wait: in nanoseconds since [`FIRST`]. Not when it ends: that would hold a timeout which another
    /// thread is about to change.
    began: AtomicI64,
}

/// When the first clock was asked.
static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Clock {
    fn timeout(&self) -> Option<Duration> {
        match self.timeout.load(Ordering::Acquire) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos.unsigned_abs())),
        }
    }

    /// When `timeout` has passed.
    fn passes(&self, timeout: Duration) -> Instant {
        let at = self.began.load(Ordering::Relaxed).saturating_add(nanos(timeout));
        *FIRST + Duration::from_nanos(at.max(0).unsigned_abs())
    }

    /// Has `timeout` pass at `at`.
    fn pass_at(&self, at: Instant, timeout: Duration) {
        let began = nanos(at.saturating_duration_since(*FIRST)) - nanos(timeout);
        self.began.store(began, Ordering::Relaxed);
    }

    fn begin_at(&self, now: Instant) {
        self.pass_at(now, Duration::ZERO);
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX) // three centuries
}

thread_local! {
    static WHOLE: Cell<Option<(Direction, Instant)>> = const { Cell::new(None) };
}

/// When a call has to be done that is a part of another one in its direction.
fn whole(direction: Direction) -> Option<Instant> {
    WHOLE.get().and_then(|(of, limit)| (of == direction).then_some(limit))
}

/// When a call that may take `timeout` from now on has taken too long, alone or as a part.
fn ends(direction: Direction, timeout: Duration, now: Instant) -> Instant {
    let alone = now + Duration::from_nanos(nanos(timeout).unsigned_abs());
    whole(direction).map_or(alone, |whole| whole.min(alone))
}

/// Until this is dropped, calls made on this thread in one direction are parts of one that has to be done by then: an `_all` form, or a task's.
pub(crate) struct Within {
    outer: Option<(Direction, Instant)>,
}

impl Within {
    pub(crate) fn begin(direction: Direction, limit: Option<Instant>) -> Self {
        let limit = limit.map(|limit| whole(direction).map_or(limit, |outer| outer.min(limit)));
        Self { outer: WHOLE.replace(limit.map(|limit| (direction, limit))) }
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        WHOLE.set(self.outer);
    }
}

/// When a call on `channel` in `direction` that begins now has taken too long.
pub(crate) fn limit_of<C: Channel + ?Sized>(channel: &C, direction: Direction) -> Option<Instant> {
    let timeout = match direction {
        Direction::Read => channel.read_timeout(),
        Direction::Write => channel.write_timeout(),
    }?;
    Instant::now().checked_add(timeout)
}

impl Mode {
    /// Sets the mode from the next call on.
    pub fn set_blocking(&self, blocking: bool) {
        self.non_blocking.store(!blocking, Ordering::Relaxed);
        self.begin(Direction::Read);
        self.begin(Direction::Write);
    }

    /// Whether calls wait.
    #[must_use]
    pub fn is_blocking(&self) -> bool {
        !self.non_blocking.load(Ordering::Relaxed)
    }

    /// What [`Channel::set_read_timeout`] and [`Channel::set_write_timeout`] of `channel` do.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for zero.
    pub fn set_timeout(&self, channel: &dyn Channel, direction: Direction, timeout: Option<Duration>) -> Result<()> {
        if timeout == Some(Duration::ZERO) {
            let operation = match direction {
                Direction::Read => "set_read_timeout",
                Direction::Write => "set_write_timeout",
            };
            let detail = "no time at all; `None` is for ever, and `set_blocking(false)` for calls that do not wait";
            let error = Error::new(ErrorKind::InvalidInput, channel.layer(), detail);
            return Err(error.during(operation).on(channel.name()));
        }
        if timeout.is_some() || self.clocks.get().is_some() {
            let clock = &self.clocks.get_or_init(Box::default)[direction as usize];
            if let Some(timeout) = timeout {
                // First: who sees the timeout sees when it began.
                clock.pass_at(ends(direction, timeout, Instant::now()), timeout);
            }
            clock.timeout.store(timeout.map_or(0, nanos), Ordering::Release);
        }
        Ok(())
    }

    /// What was set.
    #[must_use]
    pub fn timeout(&self, direction: Direction) -> Option<Duration> {
        self.clock(direction)?.timeout()
    }

    /// Whether there ever was a timeout: what [`limit`](Self::limit) says may have changed then.
    #[must_use]
    pub fn is_timed(&self) -> bool {
        self.clocks.get().is_some()
    }

    /// When a call that does not wait will have to say that the time has passed: what handlers are called for [[T2]]. `None` where there is no
    /// timeout, and where calls wait.
    #[doc = channel_core::promises!(T2)]
    #[must_use]
    pub fn limit(&self, direction: Direction) -> Option<Instant> {
        let clock = self.clock(direction)?;
        let timeout = clock.timeout()?;
        (!self.is_blocking()).then(|| clock.passes(timeout))
    }

    /// `answer`, with the [`limit`](Self::limit) of `direction` as a deadline, which may have passed: that is an event, too. For implementers of
    /// [`Channel::readiness`].
    #[must_use]
    pub fn limited(&self, direction: Direction, answer: Readiness) -> Readiness {
        answer.with_deadline(self.limit(direction))
    }

    /// The time of `direction` begins: a handler was set, or the channel has opened.
    pub fn begin(&self, direction: Direction) {
        let clock = self.clock(direction);
        if let Some((clock, timeout)) = clock.and_then(|clock| Some((clock, clock.timeout()?))) {
            clock.pass_at(ends(direction, timeout, Instant::now()), timeout);
        }
    }

    fn clock(&self, direction: Direction) -> Option<&Clock> {
        Some(&self.clocks.get()?[direction as usize])
    }

    /// When a call that waits, and begins now, has taken too long.
    #[must_use]
    pub fn deadline(&self, direction: Direction) -> Option<Instant> {
        let timeout = self.timeout(direction).filter(|_| self.is_blocking())?;
        Some(ends(direction, timeout, Instant::now()))
    }

    /// Notes what a call came to, and has one that would block say that the time has passed, once, if it has and calls do not wait. What
    /// [`run`](Self::run) does; for calls that are made without it.
    ///
    /// # Errors
    /// That of `result`, and [`ErrorKind::TimedOut`] in place of would-block.
    pub fn note<T>(&self, channel: &dyn Channel, direction: Direction, result: Result<T>) -> Result<T> {
        let Some(clock) = self.clock(direction) else { return result };
        let Some(timeout) = clock.timeout().filter(|_| !self.is_blocking()) else { return result };
        let now = Instant::now();
        match &result {
            Ok(_) => {
                clock.begin_at(now);
                return result;
            }
            Err(error) if !error.is_would_block() => return result, // behind what failed no time begins
            Err(_) => {}
        }
        let is_part = whole(direction).is_some();
        let passes = if is_part { ends(direction, timeout, now) } else { clock.passes(timeout) };
        let has_passed = passes <= now;
        if has_passed {
            clock.begin_at(now);
        } else if is_part {
            clock.pass_at(passes, timeout);
        }
        if has_passed { Err(Error::timed_out(direction, channel)) } else { result }
    }

    /// Runs `attempt` until it gives anything but would-block, waiting in between for `channel` to be ready in
    /// `direction`, as long as the timeout of that lets it. In non-blocking mode, or with `dont_wait`, it runs once. A read behind reads whose
    /// first attempt was in vain waits before its own: [`readiness`](Channel::readiness) has to be honest.
    ///
    /// # Errors
    /// What `attempt` fails with; [`ErrorKind::Busy`] where another thread already waits in this direction;
    /// [`ErrorKind::TimedOut`] when the time has passed. Which call that was is for the caller to add ([`Error::during`]).
    pub fn run<T>(
        &self,
        channel: &dyn Channel,
        direction: Direction,
        dont_wait: bool,
        mut attempt: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        if dont_wait || !self.is_blocking() {
            let result = attempt(); // a change of the mode applies from the next call
            return self.note(channel, direction, result);
        }
        let deadline = self.deadline(direction);
        let mut turn = if self.sleeps_first(direction) { self.begin_wait(direction) } else { None };
        if turn.is_none() {
            let first = attempt();
            let waits = first.as_ref().is_err_and(Error::is_would_block);
            self.note_first(direction, waits);
            if !waits {
                return self.note(channel, direction, first);
            }
            turn = self.begin_wait(direction);
        }
        let result = self.wait_and(channel, direction, turn, deadline, attempt);
        self.note(channel, direction, result) // by now calls may not wait any more
    }

    /// As [`run`](Self::run), by `deadline` instead, whatever the timeout is: for a call that has a limit of its own, or several parts.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_until<T>(
        &self,
        channel: &dyn Channel,
        direction: Direction,
        dont_wait: bool,
        deadline: Option<Instant>,
        mut attempt: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        let waits = !dont_wait && self.is_blocking(); // a change applies from the next call
        match attempt() {
            Err(error) if waits && error.is_would_block() => {}
            first => return first,
        }
        self.wait_and(channel, direction, self.begin_wait(direction), deadline, attempt)
    }

    /// Waits for its `turn`, and runs `attempt` until that gives anything but would-block.
    fn wait_and<T>(
        &self,
        channel: &dyn Channel,
        direction: Direction,
        turn: Option<impl Drop>,
        deadline: Option<Instant>,
        mut attempt: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        let Some(_turn) = turn else {
            let detail = "a channel has one reader and one writer at a time";
            return Err(Error::new(ErrorKind::Busy, channel.layer(), detail).on(channel.name()));
        };
        loop {
            if !channel.readiness(direction).block(deadline)? {
                return Err(Error::timed_out(direction, channel));
            }
            match attempt() {
                // What is ready for ever, such as a peer that sends what carries nothing, ends with the time, too.
                Err(error) if error.is_would_block() && deadline.is_some_and(|deadline| deadline <= Instant::now()) => {
                    return Err(Error::timed_out(direction, channel));
                }
                Err(error) if error.is_would_block() => {}
                done => return done,
            }
        }
    }

    /// Whether to wait before the first attempt, which would be in vain: the reader of answers, say, finds nothing each time. Every now and
    /// then it tries first, and stays with that if it finds something.
    fn sleeps_first(&self, direction: Direction) -> bool {
        let left = self.sleeps_first.load(Ordering::Relaxed);
        let sleeps = direction == Direction::Read && left > 0;
        if sleeps {
            self.sleeps_first.store(left - 1, Ordering::Relaxed);
        }
        sleeps
    }

    /// Notes whether a first attempt was in vain.
    fn note_first(&self, direction: Direction, waits: bool) {
        const SLEEPS: u8 = 3; // in a burst each of them is a poll(2) for nothing
        if direction == Direction::Read && waits {
            self.sleeps_first.store(SLEEPS, Ordering::Relaxed);
        }
    }

    /// As [`run`](Self::run) for `close`, which takes no turn with writers: any number of callers may wait for it, and what
    /// [`readiness`](Channel::readiness) says of writing is what they wait for.
    ///
    /// # Errors
    /// What `attempt` fails with.
    pub fn run_close(&self, channel: &dyn Channel, mut attempt: impl FnMut() -> Result<()>) -> Result<()> {
        let waits = self.is_blocking(); // a change applies from the next call
        loop {
            match attempt() {
                Err(error) if waits && error.is_would_block() => {
                    channel.readiness(Direction::Write).block(None)?;
                }
                done => return done,
            }
        }
    }

    /// Claims the right to wait in `direction`, unless somebody has it; dropping the claim ends it.
    fn begin_wait(&self, direction: Direction) -> Option<impl Drop + '_> {
        struct Turn<'a>(&'a AtomicBool);
        impl Drop for Turn<'_> {
            fn drop(&mut self) {
                self.0.store(false, Ordering::Release);
            }
        }
        let waits = match direction {
            Direction::Read => &self.reader_waits,
            Direction::Write => &self.writer_waits,
        };
        (!waits.swap(true, Ordering::Acquire)).then(|| Turn(waits))
    }
}
