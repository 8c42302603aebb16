//! Handlers set on a layer: forwarded down, and scheduled for what the layer itself holds.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{AioChange, AioHandler, Channel, Direction, Registration, Result};

/// The registrations of a layer.
#[derive(Debug, Default)]
pub(super) struct Handlers {
    slots: Mutex<Slots>,
    /// Whether either slot is taken; looked at before the lock.
    any: AtomicBool,
}

#[derive(Debug, Default)]
struct Slots {
    read: Option<Arc<Registration>>,
    write: Option<Arc<Registration>>,
    /// Whether the inner channel has our write handler, which pushes what the layer holds and then calls `write`.
    pushes: bool,
}

/// What the layer does when the inner channel can make progress.
pub(super) type Event = Arc<dyn Fn() + Send + Sync>;

impl Handlers {
    /// Applies the changes. `event(direction)` makes the callback for the inner channel.
    pub(super) fn change(
        &self,
        inner: &dyn Channel,
        read: AioChange,
        write: AioChange,
        event: impl Fn(Direction) -> Event,
    ) -> Result<()> {
        let mut slots = self.lock();
        let mut dropped = Vec::new();
        let down = |change: &AioChange, direction| match change {
            AioChange::Keep => AioChange::Keep,
            AioChange::Clear => AioChange::Clear,
            AioChange::Set(handler) => {
                AioChange::Set(AioHandler { context: Arc::clone(&handler.context), callback: event(direction) })
            }
        };
        let down_read = down(&read, Direction::Read);
        let mut down_write = down(&write, Direction::Write);
        if slots.pushes && slots.write.is_none() && !matches!(read, AioChange::Keep) && matches!(write, AioChange::Keep)
        {
            // It was set for the handler that goes now, on its loop; what is still unsent sets it anew.
            down_write = AioChange::Clear;
        }
        let Slots { read: read_slot, write: write_slot, .. } = &mut *slots;
        for (slot, change) in [(read_slot, read), (write_slot, write)] {
            let new = match change {
                AioChange::Keep => continue,
                AioChange::Clear => None,
                AioChange::Set(handler) => Some(Registration::new(handler)),
            };
            if let Some(old) = std::mem::replace(slot, new) {
                old.remove();
                dropped.push(old);
            }
        }
        match &down_write {
            AioChange::Keep => {}
            AioChange::Clear => slots.pushes = false,
            AioChange::Set(_) => slots.pushes = true,
        }
        let result = inner.set_aio_fd_handler(down_read, down_write);
        if result.is_err() {
            // Half of it may have been set below: without our registrations that calls nobody.
            for registration in [slots.read.take(), slots.write.take()].into_iter().flatten() {
                registration.remove();
                dropped.push(registration);
            }
            slots.pushes = false;
        }
        self.any.store(slots.read.is_some() || slots.write.is_some(), Ordering::Release);
        drop(slots);
        drop(dropped); // the user's callbacks may do anything when they are dropped: not under the lock
        result
    }

    /// Whether anybody set a handler.
    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Runs the handler of `direction` now, on the thread of its loop.
    pub(super) fn run(&self, direction: Direction) {
        if let Some(registration) = self.registration(direction) {
            registration.run();
        }
    }

    /// Has the handler of `direction` run soon.
    pub(super) fn schedule(&self, direction: Direction) {
        if let Some(registration) = self.registration(direction) {
            registration.schedule();
        }
    }

    /// Makes the inner channel tell us when it takes more, so that what the layer holds leaves by itself.
    pub(super) fn arm_push(&self, inner: &dyn Channel, event: impl Fn(Direction) -> Event) {
        let mut slots = self.lock();
        if slots.pushes {
            return;
        }
        let Some(registration) = slots.write.as_ref().or(slots.read.as_ref()) else {
            return;
        };
        let context = Arc::clone(registration.context());
        let handler = AioHandler { context, callback: event(Direction::Write) };
        // Without it the bytes leave with the next call, as they do without any handler.
        slots.pushes = inner.set_aio_fd_handler(AioChange::Keep, AioChange::Set(handler)).is_ok();
    }

    /// The layer holds nothing more: unless somebody wants to know when it can take more, the inner channel need not tell us.
    pub(super) fn disarm_push(&self, inner: &dyn Channel, still_unsent: impl Fn() -> bool) {
        let mut slots = self.lock();
        if slots.pushes && slots.write.is_none() && !still_unsent() {
            slots.pushes = false;
            // A loop that forgot the descriptor has nothing to clear.
            let _ = inner.set_aio_fd_handler(AioChange::Keep, AioChange::Clear);
        }
    }

    fn registration(&self, direction: Direction) -> Option<Arc<Registration>> {
        let slots = self.lock();
        match direction {
            Direction::Read => slots.read.clone(),
            Direction::Write => slots.write.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
