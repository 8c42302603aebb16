//! What a channel asks of an event loop.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Callback;
use crate::limits::deadline_in;
use crate::{Direction, Result};

/// An event loop, seen from a channel. (QEMU: `AioContext`.)
///
/// Anyone's loop can implement it; `channel_testkit::aio_context_conformance!` tests each of these obligations:
///
/// * **Level-triggered.** A handler is called again and again while its descriptor is ready. An error or a hang-up on the
///   descriptor makes both directions ready (`EPOLLERR`, `EPOLLHUP`); the end of the peer's output makes reading ready
///   (`EPOLLRDHUP`).
/// * **Any thread** may call every method, also from inside a handler, a timer or a scheduled callback, and the loop notices
///   although it sleeps.
/// * **No lock** of the loop's is held while a callback runs or is dropped.
/// * **One at a time.** The callbacks of one loop never overlap. After a handler was cleared or replaced on the loop's own
///   thread it is not called again, not even for an event that the poller has reported already; from another thread, a call
///   that is about to begin may still come, which is why channels put a [`Registration`](crate::Registration) in between.
/// * **No strangers.** The counted descriptor is kept as long as a handler is set on it, so that its number cannot be reused; and an
///   event of a descriptor that had the same number before reaches nobody.
/// * **O(ready).** A turn costs what is ready, not what is registered.
///
/// When the loop goes it drops every callback that is set, scheduled or waiting for its time: that is how a watch which was left to it
/// ([`WatchGuard::forget`](crate::WatchGuard::forget)) lets go of its channel.
pub trait AioContext: fmt::Debug + Send + Sync + 'static {
    /// Sets the handler of one direction of `fd`, replacing the one that was there; `None` clears it. The other direction stays
    /// as it is. Clearing what is not set is no error.
    ///
    /// # Errors
    /// What the loop's poller fails with, such as `EPERM` for a regular file.
    fn set_fd_handler(&self, fd: &Arc<OwnedFd>, direction: Direction, callback: Option<Callback>) -> Result<()>;

    /// Runs `callback` once, soon, on the loop's thread, and never inside this call. (QEMU: `aio_bh_schedule_oneshot`.)
    /// Callbacks run in the order they were scheduled; one that schedules another leaves descriptors and timers their turn in
    /// between.
    fn schedule(&self, callback: Box<dyn FnOnce() + Send>);

    /// Runs `callback` once, on the loop's thread, when `deadline` has passed: never before, and soon after. Timers run in the
    /// order of their deadlines.
    fn set_timer(&self, deadline: Instant, callback: Box<dyn FnOnce() + Send>) -> TimerId;

    /// Clears a timer and drops its callback, unless it has run, is running, or was cleared: nothing happens then. From the
    /// loop's own thread it never runs afterwards.
    fn clear_timer(&self, timer: TimerId);
}

/// A timer, as its loop knows it. The number is the loop's, and never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerId(pub u64);

/// A timer that is cleared when this is dropped.
#[derive(Debug)]
pub struct Timer {
    context: Arc<dyn AioContext>,
    id: TimerId,
}

impl Timer {
    /// Sets a timer on `context`, as [`AioContext::set_timer`] does.
    #[must_use]
    pub fn set(context: &Arc<dyn AioContext>, deadline: Instant, callback: impl FnOnce() + Send + 'static) -> Self {
        Self { context: Arc::clone(context), id: context.set_timer(deadline, Box::new(callback)) }
    }

    /// Has `context` keep `value` until this is dropped, or the loop goes, which drops it: a timer that never comes.
    #[must_use]
    pub fn keep(context: &Arc<dyn AioContext>, value: impl Send + 'static) -> Self {
        Self::set(context, deadline_in(Duration::MAX), move || drop(value))
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.context.clear_timer(self.id);
    }
}

/// Whether two handles are one loop.
pub(crate) fn is_same_context(one: &Arc<dyn AioContext>, other: &Arc<dyn AioContext>) -> bool {
    std::ptr::addr_eq(Arc::as_ptr(one), Arc::as_ptr(other))
}
