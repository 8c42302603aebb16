//! The handlers of a leaf channel, which lie on its descriptor.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::polled::{Poll, Polled, Status};
use super::{AioChange, AioContext, AioHandler, Callback, Callee, Registration, Removed, Timer};
use crate::{Channel, Direction, Error, ErrorKind, Interest, Mode, Result};

/// The two handlers of a leaf channel, one per direction, kept so that they can be changed and cleared.
///
/// Those of a [`LeafChannel`](crate::leaf::LeafChannel) are the kit's business. What is no channel and has handlers all the same, such as a
/// listener, calls [`change`](Self::change) to set them, [`called`](Self::called) at the end of each call that they are for, and
/// [`clear`](Self::clear) when it closes; dropping this clears, too.
///
/// # No spin
/// A level-triggered loop calls a handler as long as its descriptor is ready, and a hang-up makes that for ever. So a handler
/// that was called twice although nobody called the channel in between is taken off the loop until somebody does (twice,
/// because a handler may wake a task whose call comes a moment later), and one whose direction is over is taken off until a
/// call shows that it goes on.
#[derive(Debug, Default)]
pub struct FdHandlers {
    read: Mutex<Slot>,
    write: Mutex<Slot>,
    /// Those that are never called, and those of closers.
    held: OnceLock<Box<Mutex<Held>>>, // seldom
    /// Whether either is set; looked at before the locks.
    any: AtomicBool,
    /// The channel was closed: nothing is set any more. Looked at under the lock of what is to be changed.
    closed: AtomicBool,
}

type Slot = Option<Arc<Registration<OnFd>>>;

/// Those that lie beside the two, and those who wait for `close` to go on.
#[derive(Debug, Default)]
struct Held {
    /// Those that are never called, and those of closers.
    beside: Vec<Arc<Registration<OnFd>>>,
    /// Who is called when closing can go on: the writer's handler, and those of closers.
    closers: Vec<Weak<Registration<OnFd>>>,
    /// What `close` waits for.
    polled: Option<Interest>,
    /// It is polled once for all of them, for a loop takes one handler for a descriptor: on that of the one added last.
    bell: Slot,
}

impl Held {
    fn hang_bell(&mut self) -> Result<()> {
        take(&mut self.bell, &mut Removed::nothing());
        let Some(last) = self.closers.iter().rev().find_map(Weak::upgrade) else { return Ok(()) };
        let Some(polled) = self.polled.clone() else { return Ok(()) };
        let closers = self.closers.clone();
        let ring = move || closers.iter().filter_map(Weak::upgrade).for_each(|closer| closer.schedule());
        let bell = Registration::on_fd(AioHandler::new(Arc::clone(last.context()), ring), Some(polled));
        let hung = bell.callee().polled.settle();
        self.bell = Some(bell);
        hung
    }
}

/// How long a handler is off its loop when its call met a shortage of the system's.
const SHORTAGE: Duration = Duration::from_millis(10);

/// One handler on its descriptor.
#[derive(Debug)]
struct OnFd {
    handler: AioHandler,
    polled: Polled<OnLoop>,
    /// Off the loop until this runs.
    pause: Mutex<Option<Box<Timer>>>, // seldom
}

impl Callee for OnFd {
    fn context(&self) -> &Arc<dyn AioContext> {
        &self.handler.context
    }

    fn call(&self) {
        (self.handler.callback)();
    }
}

/// What its loop polls.
struct OnLoop {
    registration: Weak<Registration<OnFd>>,
    interest: Interest,
}

impl Poll for OnLoop {
    fn poll(&self, polls: bool) -> Result<()> {
        let Some(registration) = self.registration.upgrade() else { return Ok(()) };
        let callback = polls.then(|| -> Callback {
            let registration = Weak::clone(&self.registration);
            Arc::new(move || {
                if let Some(registration) = registration.upgrade() {
                    registration.fire();
                }
            })
        });
        registration.context().set_fd_handler(&self.interest.fd, self.interest.direction, callback)
    }
}

impl fmt::Debug for OnLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnLoop").field(&self.interest).finish()
    }
}

impl Registration<OnFd> {
    fn on_fd(handler: AioHandler, interest: Option<Interest>) -> Arc<Self> {
        Arc::new_cyclic(|this| {
            let on_loop = |interest| OnLoop { registration: Weak::clone(this), interest };
            Self::of(OnFd { handler, polled: Polled::new(interest.map(on_loop)), pause: Mutex::default() })
        })
    }

    fn fire(&self) {
        self.change(Status::begins);
        let _ends = Ends(self);
        self.run();
    }

    fn change(&self, transition: impl Fn(Status) -> Status) -> Status {
        self.callee().polled.change(transition)
    }

    fn is_always_due(&self) -> bool {
        self.callee().polled.is_always_due()
    }

    /// The direction has ended, which a call has told: perhaps one of somebody else than the handler waits for.
    fn end_direction(self: &Arc<Self>) {
        if !self.change(|status| status | Status::OVER).contains(Status::OVER) {
            self.tell();
        }
    }

    fn pause_until(self: &Arc<Self>, until: Instant) {
        let before = self.pause().take();
        drop(before); // which would end this one
        // First: the timer may run before it is known here.
        self.change(|status| status | Status::PAUSED);
        let this = Arc::downgrade(self);
        let timer = Timer::set(self.context(), until, move || {
            if let Some(this) = this.upgrade() {
                this.change(|status| (status - Status::PAUSED).called());
            }
        });
        *self.pause() = Some(Box::new(timer));
    }

    /// Has the handler called at `limit`, unless the direction is over: whoever waits learns that the time has passed.
    fn call_by(self: &Arc<Self>, limit: impl FnOnce() -> Option<Instant>) {
        let over = || self.is_always_due() || self.change(|status| status).contains(Status::OVER);
        self.call_at(|| limit().filter(|_| !over()));
    }

    /// Is due now, and when the time for closing has passed.
    fn close_by(self: &Arc<Self>, deadline: Instant) {
        self.call_at(|| Some(deadline));
        self.schedule();
    }

    fn pause(&self) -> MutexGuard<'_, Option<Box<Timer>>> {
        self.callee().pause.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes a call of the handler when it ends, by a panic too: that may come again and again.
struct Ends<'a>(&'a Registration<OnFd>);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.change(Status::ends);
    }
}

impl FdHandlers {
    /// Applies `read` and `write`. `polled` says what to poll for a direction; `None` where a channel is always ready: such a
    /// handler is due at once, and again after each call that is [noted](Self::called) and goes on. `closing` says what a `close` that waits
    /// polls, and when its time has passed: what the handlers of closers are called for, which are held only as long as none waits.
    ///
    /// Anything but `Keep` twice counts as a call on the channel, [`Called`](AioChange::Called) as nothing else: a handler that was taken off
    /// the loop, and stays set, is put back.
    ///
    /// # Errors
    /// What the context fails with: both directions are without a handler then. [`Busy`](ErrorKind::Busy), before anything is
    /// changed, for a claim where there is a handler, and [`Closed`](ErrorKind::Closed) after [`clear`](Self::clear); `layer` is
    /// what these call the channel.
    pub fn change(
        &self,
        layer: &'static str,
        mode: &Mode,
        polled: impl Fn(Direction) -> Option<Interest>,
        closing: Option<(Option<Interest>, Instant)>,
        read: AioChange,
        write: AioChange,
    ) -> Result<Removed> {
        let mut removed = Removed::nothing();
        // What is refused, or released, may do anything when it is dropped: after the locks.
        let _given = (read.clone(), write.clone());
        let (mut reading, mut writing) = (self.lock(Direction::Read), self.lock(Direction::Write));
        if self.closed.load(Ordering::SeqCst) {
            let error = Error::new(ErrorKind::Closed, layer, "close was called on it before");
            return Err(error.during("set_aio_fd_handler"));
        }
        for change in [&read, &write] {
            if let AioChange::Release(handler) = change {
                self.let_go_of_held(|known| known.callee().handler.is(handler), &mut removed);
            }
        }
        let is_called = [&read, &write].iter().any(|change| !matches!(change, AioChange::Keep));
        let resolve =
            |change: AioChange, slot: &Slot| change.resolve(slot.as_ref().map(|there| &there.callee().handler), layer);
        let (read, write) = (resolve(read, &reading)?, resolve(write, &writing)?);
        // Before its loop calls it: what it does is noted from the first call on.
        self.any.store(true, Ordering::Release);
        let mut done = Ok(());
        for (slot, direction, change) in
            [(&mut *reading, Direction::Read, read), (&mut *writing, Direction::Write, write)]
        {
            let new = match change {
                AioChange::Set(handler) => Some(Registration::on_fd(handler, polled(direction))),
                AioChange::Clear => None,
                kept => {
                    match (kept, &closing) {
                        (AioChange::Closer(handler), Some((polled, by))) => {
                            let new = Registration::on_fd(handler, None);
                            let mut held = self.held();
                            held.beside.push(Arc::clone(&new));
                            held.closers.push(Arc::downgrade(&new));
                            held.polled.clone_from(polled);
                            let hung = held.hang_bell();
                            done = done.and(hung);
                            drop(held);
                            new.close_by(*by);
                        }
                        // It learns of the end by that alone.
                        (AioChange::Hold(handler) | AioChange::Closer(handler), _) => {
                            self.held().beside.push(Registration::on_fd(handler, None));
                        }
                        _ => {}
                    }
                    if let Some(there) = slot.as_ref().filter(|_| is_called) {
                        there.change(Status::called);
                    }
                    continue;
                }
            };
            take(slot, &mut removed);
            if let (Some(new), Ok(())) = (new, &done) {
                mode.begin(direction); // before its loop can call it
                done = new.callee().polled.settle();
                if new.is_always_due() {
                    new.schedule(); // no call on it ever says would-block
                } else {
                    new.call_by(|| mode.limit(direction));
                }
                *slot = Some(new);
            }
        }
        if done.is_err() {
            take(&mut reading, &mut removed);
            take(&mut writing, &mut removed);
        }
        self.any.store(reading.is_some() || writing.is_some(), Ordering::Release);
        drop((reading, writing));
        // What went may do anything when it is dropped: not under the locks.
        done.map(|()| removed)
    }

    /// Notes a read or a write, at its end: a handler that was taken off its loop is put back. A `result` that is the end of
    /// the direction, 0 or an error that stays, takes its handler off, until another result shows that the direction goes on. One that is
    /// a shortage of the system's takes it off for a moment. `mode` says when the handler is to be called although nothing happens.
    ///
    /// For calls that tried something: a read or write without room or bytes is none, and neither is one that was refused. What has no count to
    /// give, such as the loan of a buffer of which nothing was taken, gives `Ok(1)`.
    pub fn called(&self, mode: &Mode, direction: Direction, result: &Result<usize>) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let over = match result {
            Ok(count) => *count == 0,
            Err(error) => !error.is_passing(),
        };
        if result.as_ref().is_err_and(Error::is_shortage) {
            self.pause(direction, Instant::now() + SHORTAGE); // of what is short, readiness says nothing
        }
        for towards in [Direction::Read, Direction::Write] {
            let there = self.lock(towards).clone();
            if let Some(there) = there {
                if over && towards == direction {
                    there.end_direction();
                } else if towards == direction {
                    there.change(Status::called_and_goes_on);
                    if result.is_ok() && there.is_always_due() {
                        there.schedule(); // nothing else would call it again
                    }
                } else {
                    there.change(Status::called);
                }
                if towards == direction && mode.is_timed() {
                    there.call_by(|| mode.limit(direction));
                }
            }
        }
    }

    /// What [`Channel::set_read_timeout`] and [`Channel::set_write_timeout`] of a leaf do: [`Mode::set_timeout`], and a handler that is set
    /// already knows of it.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for zero.
    pub(crate) fn set_timeout(
        &self,
        channel: &dyn Channel,
        mode: &Mode,
        direction: Direction,
        timeout: Option<Duration>,
    ) -> Result<()> {
        mode.set_timeout(channel, direction, timeout)?;
        self.time(mode, direction);
        Ok(())
    }

    /// What [`Channel::set_blocking`] of a leaf does: [`Mode::set_blocking`], and a handler that is set already knows of the time that begins,
    /// or is over.
    pub(crate) fn set_blocking(&self, mode: &Mode, blocking: bool) {
        mode.set_blocking(blocking);
        self.time(mode, Direction::Read);
        self.time(mode, Direction::Write);
    }

    fn time(&self, mode: &Mode, direction: Direction) {
        let there = self.lock(direction).clone();
        if let Some(there) = there.filter(|_| mode.is_timed()) {
            there.call_by(|| mode.limit(direction));
        }
    }

    /// Takes the handler of `direction` off its loop until then, although its descriptor is ready: what it waits for is something
    /// else, such as descriptors that others must close first.
    pub fn pause(&self, direction: Direction, until: Instant) {
        let there = self.lock(direction).clone();
        if let Some(there) = there {
            there.pause_until(until);
        }
    }

    /// Lets go of the descriptor of `direction`, which is over, and keeps its handler, which is due now.
    pub(crate) fn let_go(&self, direction: Direction) {
        let there = self.lock(direction).clone();
        if let Some(there) = there {
            there.change(|status| status | Status::OVER | Status::LET_GO);
            there.schedule(); // whoever knew of an end before
        }
    }

    /// `close` waits, until `deadline` and for `polled`: who reads is told that it is over, and who writes called when closing can go on.
    pub(crate) fn begin_closing(&self, polled: Option<Interest>, deadline: Instant) {
        self.let_go(Direction::Read);
        self.let_go(Direction::Write);
        let writer = self.lock(Direction::Write).clone();
        if let Some(writer) = writer {
            let mut held = self.held();
            held.closers.insert(0, Arc::downgrade(&writer));
            held.polled = polled;
            let _ = held.hang_bell(); // where its loop will not have it, the deadline is left
            drop(held);
            writer.close_by(deadline);
        }
    }

    /// `close` was called, and waits still.
    pub(crate) fn goes_on_closing(&self) {
        let bell = self.held.get().and_then(|_| self.held().bell.clone());
        if let Some(bell) = bell {
            bell.change(Status::called);
        }
    }

    /// Removes all handlers, for good: the channel is closed.
    pub fn clear(&self) {
        let mut removed = Removed::nothing();
        self.closed.store(true, Ordering::SeqCst);
        for direction in [Direction::Read, Direction::Write] {
            take(&mut self.lock(direction), &mut removed);
        }
        self.any.store(false, Ordering::Release);
        if self.held.get().is_some() {
            let held = std::mem::take(&mut *self.held()); // and let go of outside of the lock
            let all = held.bell.into_iter().chain(held.beside);
            all.for_each(|known| take(&mut Some(known), &mut removed));
        }
    }

    /// Lets go of those beside the two for which `goes`, outside of the lock.
    fn let_go_of_held(&self, goes: impl Fn(&Arc<Registration<OnFd>>) -> bool, removed: &mut Removed) {
        if self.held.get().is_none() {
            return;
        }
        let mut held = self.held();
        let (gone, kept) = std::mem::take(&mut held.beside).into_iter().partition::<Vec<_>, _>(&goes);
        held.beside = kept;
        let goes = |closer: &Weak<_>| gone.iter().any(|gone| Weak::ptr_eq(closer, &Arc::downgrade(gone)));
        if held.closers.iter().any(goes) {
            held.closers.retain(|closer| !goes(closer));
            let _ = held.hang_bell(); // on the loop of another
        }
        drop(held);
        gone.into_iter().for_each(|known| take(&mut Some(known), removed));
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.get_or_init(Box::default).lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self, direction: Direction) -> MutexGuard<'_, Slot> {
        let slot = match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        };
        slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Empties `slot`, off the loop and into `removed`.
fn take(slot: &mut Slot, removed: &mut Removed) {
    if let Some(old) = slot.take() {
        removed.add(Arc::clone(&old));
        old.change(|status| status | Status::REMOVED);
    }
}

impl Drop for FdHandlers {
    fn drop(&mut self) {
        self.clear();
    }
}
