//! Handlers set on a layer: forwarded down, and scheduled for what the layer itself holds.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::deciding::{closers_are_due, drains, is_due, pushes, rests};
use super::silence::Silence;
use super::state::{Facts, SharedFacts};
use crate::aio::is_same_context;
use crate::{
    AioChange, AioContext, AioHandler, Channel, Direction, Error, ErrorKind, Registration, Removed, Result, Timer,
};

/// The registrations of a layer.
#[derive(Debug, Default)]
pub(super) struct Handlers {
    slots: Mutex<Slots>,
    /// Whether either slot is taken; looked at before the lock.
    any: AtomicBool,
    /// Whether this layer was called since they were.
    silence: Silence,
}

#[derive(Debug, Default)]
struct Slots {
    read: Option<Arc<Registration>>,
    write: Option<Arc<Registration>>,
    /// Those of closers, beside the two.
    closers: Vec<Arc<Registration>>,
    /// The channel was closed, or dropped: nothing is set any more.
    over: bool,
    /// Whether the inner channel has our read handler, which calls `read`, or closers where `close` waits for the end below.
    reads: bool,
    /// Whether the inner channel has our write handler, which pushes what the layer holds and then calls `write`.
    pushes: bool,
    /// The limit that runs.
    limit: Option<Box<Limit>>, // seldom
}

/// A time at which somebody has to call, and who sees to it.
#[derive(Debug)]
struct Limit {
    deadline: Instant,
    /// One on each loop of a handler: none depends on a loop of others, which may have stopped.
    _timers: Vec<Timer>,
}

/// What the layer does when the inner channel can make progress.
pub(super) type Event = Arc<dyn Fn() + Send + Sync>;

impl Slots {
    fn of(&self, direction: Direction) -> Option<&Arc<Registration>> {
        match direction {
            Direction::Read => self.read.as_ref(),
            Direction::Write => self.write.as_ref(),
        }
    }

    /// The one on whose loop the layer waits for what it has to do itself. Of those who close it is the one who came last: that loop is
    /// known to turn.
    fn driver(&self) -> Option<&Arc<Registration>> {
        self.closers.last().or(self.write.as_ref()).or(self.read.as_ref())
    }

    fn contexts(&self) -> Vec<&Arc<dyn AioContext>> {
        let mut contexts: Vec<&Arc<dyn AioContext>> = Vec::new();
        for registration in self.read.iter().chain(&self.write).chain(&self.closers) {
            if !contexts.iter().any(|known| is_same_context(known, registration.context())) {
                contexts.push(registration.context());
            }
        }
        contexts
    }

    /// Adds the handler of a closer, or takes it away, if `change` is that: what is left of it to do.
    fn change_closer(&mut self, change: AioChange, removed: &mut Removed) -> AioChange {
        match change {
            AioChange::Closer(handler) => {
                self.closers.push(Registration::new(handler));
                AioChange::Keep
            }
            AioChange::Release(handler) => match self.closers.iter().position(|known| known.callee().is(&handler)) {
                Some(at) => {
                    removed.add(self.closers.remove(at));
                    AioChange::Keep
                }
                None => AioChange::Release(handler),
            },
            change => change,
        }
    }
}

impl Handlers {
    /// Applies the changes of the read and of the write handler. `event(direction)` makes the callback for the inner channel, which gets none for a direction that `rests`:
    /// the inner channel has nothing more to tell. While `closing`, it gets them from [`arm_push`](Self::arm_push) and
    /// [`arm_drain`](Self::arm_drain) alone.
    pub(super) fn change(
        &self,
        layer: &'static str,
        inner: &dyn Channel,
        changes: [AioChange; 2],
        event: impl Fn(Direction) -> Event,
        rests: impl Fn(Direction) -> bool,
        closing: bool,
    ) -> Result<Removed> {
        let [read, write] = changes;
        let kept = |change: &AioChange| matches!(change, AioChange::Keep | AioChange::Called);
        if kept(&read) && kept(&write) {
            return inner.set_aio_fd_handler(read, write);
        }
        // What is refused, or released, may do anything when it is dropped: after the lock.
        let _given = (read.clone(), write.clone());
        let mut slots = self.lock();
        let mut removed = Removed::nothing();
        if slots.over {
            let error = Error::new(ErrorKind::Closed, layer, "close was called on it before");
            return Err(error.during("set_aio_fd_handler"));
        }
        let closers = slots.closers.len();
        let (read, write) = (slots.change_closer(read, &mut removed), slots.change_closer(write, &mut removed));
        let other_closers = slots.closers.len() != closers;
        let resolve =
            |change: AioChange, there: Option<&Arc<Registration>>| change.resolve(there.map(|it| it.callee()), layer);
        let (read, write) = (resolve(read, slots.read.as_ref())?, resolve(write, slots.write.as_ref())?);
        let down = |change: &AioChange, direction| match change {
            AioChange::Keep | AioChange::Called | AioChange::Set(_) if closing => AioChange::Clear,
            AioChange::Set(_) if rests(direction) => AioChange::Clear,
            AioChange::Set(handler) => {
                AioChange::Set(AioHandler { context: Arc::clone(&handler.context), callback: event(direction) })
            }
            other => other.clone(),
        };
        let mut down_read = down(&read, Direction::Read);
        let mut down_write = down(&write, Direction::Write);
        if slots.pushes && slots.write.is_none() && (!kept(&read) || other_closers) && kept(&write) {
            // It was set for a handler that may go now, on its loop; what is still unsent sets it anew.
            down_write = AioChange::Clear;
        }
        if slots.reads && slots.read.is_none() && (!kept(&write) || other_closers) && kept(&read) {
            down_read = AioChange::Clear; // likewise, by a `close` that still waits
        }
        // On the loop of a handler that goes, perhaps; what still runs out sets them anew.
        let limit = slots.limit.take();
        let Slots { read: read_slot, write: write_slot, reads, pushes, .. } = &mut *slots;
        for (slot, change) in [(read_slot, read), (write_slot, write)] {
            let new = match change {
                AioChange::Set(handler) => Some(Registration::new(handler)),
                AioChange::Clear => None,
                _ => continue,
            };
            if let Some(old) = std::mem::replace(slot, new) {
                removed.add(old);
            }
        }
        for (ours, change) in [(reads, &down_read), (pushes, &down_write)] {
            match change {
                AioChange::Set(_) => *ours = true,
                AioChange::Clear => *ours = false,
                _ => {}
            }
        }
        let result = inner.set_aio_fd_handler(down_read, down_write);
        if result.is_err() {
            // Half of it may have been set below: without our registrations that calls nobody.
            for registration in [slots.read.take(), slots.write.take()].into_iter().flatten() {
                removed.add(registration);
            }
            (slots.reads, slots.pushes) = (false, false);
        }
        self.any.store(slots.driver().is_some(), Ordering::Release);
        // The caller looks at the facts next; who sets one looks here afterwards, with a fence in between, too.
        fence(Ordering::SeqCst);
        drop(slots);
        drop(limit);
        // What was removed may do anything when it is dropped: not under the lock.
        removed.extend(result?);
        Ok(removed)
    }

    /// Removes all, here and below, for good.
    pub(super) fn remove_all(&self, inner: &dyn Channel) -> Removed {
        let mut removed = Removed::nothing();
        let mut slots = self.lock();
        slots.over = true;
        let limit = slots.limit.take();
        let closers = std::mem::take(&mut slots.closers);
        for registration in [slots.read.take(), slots.write.take()].into_iter().flatten().chain(closers) {
            removed.add(registration);
        }
        (slots.reads, slots.pushes) = (false, false);
        self.any.store(false, Ordering::Release);
        // A loop, or a channel, that went first has nothing to clear.
        let below = inner.set_aio_fd_handler(AioChange::Clear, AioChange::Clear);
        drop(slots);
        drop(limit);
        removed.extend(below.unwrap_or_default());
        removed
    }

    /// Whether this is called inside a call of one of the handlers, one among them that was cleared or replaced since.
    pub(super) fn is_called_here(&self) -> bool {
        let us = std::ptr::from_ref(self).addr();
        let slots = self.lock();
        let mut registrations = slots.read.iter().chain(&slots.write).chain(&slots.closers);
        registrations.any(|registration| registration.is_running_here())
            || INSIDE.with_borrow(|inside| inside.contains(&us))
    }

    /// Whether anybody set a handler.
    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Runs the handler of `direction` now, on the thread of its loop.
    pub(super) fn run(&self, direction: Direction, inner: &dyn Channel) {
        let Some(registration) = self.registration(direction) else { return };
        let _inside = Inside::enter(self);
        if self.silence.run(direction, || registration.run()) {
            count_as_call(inner);
        }
    }

    /// Notes a call on this layer, at its end.
    fn note_call(&self, inner: &dyn Channel) {
        if self.silence.call() {
            count_as_call(inner);
        }
    }

    /// Has the handler of `direction` run soon.
    pub(super) fn schedule(&self, direction: Direction) {
        if let Some(registration) = self.registration(direction) {
            registration.schedule();
        }
    }

    /// Has the handler of `direction` run at that time, if nothing runs it before that moves the time on.
    pub(super) fn call_at(&self, direction: Direction, at: impl FnOnce() -> Option<Instant>) {
        if let Some(registration) = self.registration(direction) {
            registration.call_at(at);
        }
    }

    /// `close` begins: it waits where the driver is now, and no more where reads and writes waited.
    pub(super) fn begin_close(&self, inner: &dyn Channel) {
        let mut slots = self.lock();
        if slots.driver().is_some() {
            (slots.reads, slots.pushes) = (false, false);
            // A loop that forgot the descriptor has nothing to clear.
            let _ = inner.set_aio_fd_handler(AioChange::Clear, AioChange::Clear);
        }
    }

    /// At the end of a call: calls those for whom it left something, and has the inner channel tell us what we wait for and nothing else.
    pub(super) fn settle(&self, inner: &dyn Channel, facts: &SharedFacts, event: impl Fn(Direction) -> Event) {
        self.note_call(inner);
        let now = facts.load();
        if is_due(now, Direction::Read) {
            self.schedule(Direction::Read);
        }
        if closers_are_due(now) {
            self.schedule(Direction::Write);
            self.schedule_closers();
        }
        if is_due(now, Direction::Write) {
            facts.set(Facts::WRITE_TOLD, true);
            self.schedule(Direction::Write);
        }
        let rests = |direction| rests(facts.load(), direction);
        if rests(Direction::Read) {
            self.disarm_read(inner, || !rests(Direction::Read));
        }
        if rests(Direction::Write) {
            // Who waits for our end to leave need not be who sent the last of it.
            if self.disarm_push(inner, true, || !rests(Direction::Write)) {
                self.schedule(Direction::Write);
            }
        }
        if pushes(facts.load()) {
            self.arm_push(inner, &event);
        }
        if drains(facts.load()) {
            self.arm_drain(inner, &event);
        }
    }

    /// Has the handlers of closers run soon.
    pub(super) fn schedule_closers(&self) {
        let closers = self.lock().closers.clone();
        for closer in closers {
            closer.schedule();
        }
    }

    /// Makes the inner channel tell us when it takes more, so that what the layer holds leaves by itself.
    pub(super) fn arm_push(&self, inner: &dyn Channel, event: impl Fn(Direction) -> Event) {
        let mut slots = self.lock();
        if slots.pushes {
            return;
        }
        let Some(registration) = slots.driver() else { return };
        let context = Arc::clone(registration.context());
        let handler = AioHandler { context, callback: event(Direction::Write) };
        let set = inner.set_aio_fd_handler(AioChange::Keep, AioChange::Set(handler.clone()));
        // Where the inner channel is closing itself, whoever waits for that is one who closes. Without it the bytes leave with the next
        // call, as they do without any handler.
        slots.pushes = match set {
            Err(error) if error.is_closed() => {
                inner.set_aio_fd_handler(AioChange::Keep, AioChange::Closer(handler)).is_ok()
            }
            set => set.is_ok(),
        };
    }

    /// Makes the inner channel tell us when it can be read, for those who wait for the end below.
    fn arm_drain(&self, inner: &dyn Channel, event: impl Fn(Direction) -> Event) {
        let mut slots = self.lock();
        if slots.reads {
            return;
        }
        let Some(registration) = slots.driver() else { return };
        let context = Arc::clone(registration.context());
        let handler = AioHandler { context, callback: event(Direction::Read) };
        // Without it the limit of `close` is what calls the handler.
        slots.reads = inner.set_aio_fd_handler(AioChange::Set(handler), AioChange::Keep).is_ok();
    }

    /// The layer holds nothing more: unless somebody wants to know when it can take more, the inner channel need not tell us. Nobody
    /// does when writing is `over`. Says whether the inner channel would have told us.
    pub(super) fn disarm_push(&self, inner: &dyn Channel, over: bool, still_unsent: impl Fn() -> bool) -> bool {
        let mut slots = self.lock();
        if slots.pushes && (over || slots.write.is_none()) && !still_unsent() {
            slots.pushes = false;
            // A loop that forgot the descriptor has nothing to clear.
            let _ = inner.set_aio_fd_handler(AioChange::Keep, AioChange::Clear);
            return true;
        }
        false
    }

    /// Reading is over, as some call has told: what the inner channel still has, a hang-up for ever, say, is no concern of the reader's,
    /// who is called once more, for the call may have been somebody else's.
    fn disarm_read(&self, inner: &dyn Channel, still_wanted: impl Fn() -> bool) {
        let mut slots = self.lock();
        if slots.reads && !still_wanted() {
            slots.reads = false;
            let _ = inner.set_aio_fd_handler(AioChange::Clear, AioChange::Keep);
            let reader = slots.read.clone();
            drop(slots);
            if let Some(reader) = reader {
                reader.tell();
            }
        }
    }

    /// Has `expired` run at `deadline` on the loop of each handler, so that somebody makes the call which says that a limit has
    /// passed; `None` when no limit runs any more.
    pub(super) fn arm_deadline(&self, deadline: Option<Instant>, expired: impl Fn() + Clone + Send + 'static) {
        let mut slots = self.lock();
        if slots.limit.as_ref().map(|limit| limit.deadline) == deadline {
            return;
        }
        let limit = deadline.map(|deadline| {
            let set = |context| Timer::set(context, deadline, expired.clone());
            Box::new(Limit { deadline, _timers: slots.contexts().into_iter().map(set).collect() })
        });
        let old = std::mem::replace(&mut slots.limit, limit);
        drop(slots);
        drop(old);
    }

    fn registration(&self, direction: Direction) -> Option<Arc<Registration>> {
        self.lock().of(direction).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

thread_local! {
    /// The layers whose handlers this thread is inside of, by their handlers' place in memory.
    static INSIDE: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// This thread is inside a call of a handler of a layer, until this is dropped.
struct Inside;

impl Inside {
    fn enter(handlers: &Handlers) -> Self {
        INSIDE.with_borrow_mut(|inside| inside.push(std::ptr::from_ref(handlers).addr()));
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.with_borrow_mut(Vec::pop);
    }
}

/// Tells the channel below of a call that this layer served by itself.
fn count_as_call(inner: &dyn Channel) {
    // Nothing is set, so nothing can fail.
    let _ = inner.set_aio_fd_handler(AioChange::Called, AioChange::Called);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{EventLoop, MemoryChannel};

    fn event(_: Direction) -> Event {
        Arc::new(|| {})
    }

    /// A loop, and handlers over `inner` with one that reads on it.
    fn read_by_a_handler(inner: &MemoryChannel) -> (EventLoop, Handlers) {
        let (event_loop, handlers) = (EventLoop::new().unwrap(), Handlers::default());
        let read = AioChange::Set(AioHandler::new(event_loop.handle(), || ()));
        handlers.change("layer", inner, [read, AioChange::Keep], event, |_| false, false).unwrap();
        (event_loop, handlers)
    }

    #[test]
    fn what_became_wanted_meanwhile_keeps_what_will_call_for_it() {
        let (inner, _far) = MemoryChannel::pair().unwrap();
        let (event_loop, handlers) = read_by_a_handler(&inner);
        let polled = || format!("{event_loop:?}");
        // Whoever found that reading rests asks for this, and by now somebody closes.
        handlers.disarm_read(&inner, || true);
        assert!(polled().contains("descriptors: 1"), "{}", polled());
        handlers.disarm_read(&inner, || false);
        assert!(polled().contains("descriptors: 0"), "{}", polled());
    }

    #[test]
    fn what_became_unsent_meanwhile_keeps_what_will_push_it() {
        let (inner, _far) = MemoryChannel::pair().unwrap();
        let (event_loop, handlers) = read_by_a_handler(&inner);
        let polled = || format!("{event_loop:?}");
        handlers.arm_push(&inner, event);
        assert!(polled().contains("descriptors: 2"), "{}", polled());
        // Whoever found nothing unsent asks for this, and by now somebody has left something.
        handlers.disarm_push(&inner, false, || true);
        assert!(polled().contains("descriptors: 2"), "{}", polled());
        handlers.disarm_push(&inner, false, || false);
        assert!(polled().contains("descriptors: 1"), "{}", polled());
    }
}
