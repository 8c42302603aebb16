//! A tokio runtime as an event loop.
//!
//! * `driver`: the task that runs it.
//!
//! tokio reports edges, runs tasks on several threads, and takes a descriptor once; a channel wants levels, one callback at a time,
//! and descriptors that others may poll, too. So this is an [`EventLoop`](super::EventLoop) whose epoll(7) instance
//! tokio polls: readable when it is time for a turn.

mod driver;

use std::collections::HashMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use ::tokio::runtime::{Handle, Id};

use self::driver::Driver;
use super::LoopHandle;
use crate::{AioContext, Callback, Direction, Error, ErrorKind, Result, TimerId};

/// A tokio runtime as an [`AioContext`]: the channels of its tasks, handlers and watches live on it.
///
/// There is one for each runtime. [`current_context`](crate::current_context) finds it wherever the runtime is current and no other loop
/// was entered, so that most programs never name it.
///
/// # Where callbacks run
/// In one task, which is spawned when the context is first asked for and lives as long as its runtime: one callback at a time, on
/// whichever worker runs the task. On a `current_thread` runtime they run while somebody is inside its `block_on`. A callback must not
/// block, as nothing in a task may; it may spawn tasks. After each turn, which is what is ready and no more than 256 descriptors, other
/// tasks get theirs.
///
/// # What it takes
/// The runtime's I/O driver (`enable_io`) and three descriptors. Timers do not need `enable_time`: they are the system's, precise to
/// the microseconds a thread takes to wake, and `tokio::time::pause` does not stop them.
///
/// # Panics of callbacks
/// As in a task, the panic hook reports it, and nothing ends but that call. A handler stays set, and may be called again.
///
/// # When the runtime shuts down
/// All callbacks are dropped, and none is called any more. From then on, setting a handler fails with [`Closed`](ErrorKind::Closed), and
/// what is scheduled, or set on a timer, is dropped at once.
///
/// ```
/// use channel_core::{AioChange, AioHandler, Channel, ChannelExt, MemoryChannel, TokioContext};
/// use std::sync::{Arc, Mutex};
///
/// let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
/// let (near, far) = MemoryChannel::pair()?;
/// let near = Arc::new(near);
/// near.set_blocking(false);
///
/// let (said, heard) = tokio::sync::oneshot::channel();
/// let (channel, said) = (Arc::downgrade(&near), Mutex::new(Some(said)));
/// let handler = AioHandler::new(TokioContext::of(runtime.handle())?, move || {
///     let mut hello = [0; 5];
///     let read = channel.upgrade().map(|channel| channel.read(&mut hello));
///     if let (Some(Ok(5)), Some(said)) = (read, said.lock().unwrap().take()) {
///         said.send(hello).unwrap();
///     }
/// });
/// near.set_aio_fd_handler(AioChange::Set(handler), AioChange::Keep)?;
///
/// far.write_all(b"hello")?;
/// assert_eq!(&runtime.block_on(heard)?, b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TokioContext {
    runtime: Id,
    event_loop: Arc<LoopHandle>,
}

/// The contexts of all runtimes. Each is kept by its driver, so that it stays the same one as long as its runtime lives.
static CONTEXTS: LazyLock<Mutex<HashMap<Id, Weak<TokioContext>>>> = LazyLock::new(Mutex::default);

impl TokioContext {
    /// The context of the runtime this thread is in: in one of its tasks, in its `block_on`, or behind its [`Handle::enter`].
    ///
    /// `None` outside of any runtime, and where [`of`](Self::of) fails.
    #[must_use]
    pub fn current() -> Option<Arc<Self>> {
        Self::of(&Handle::try_current().ok()?).ok()
    }

    /// The context of a runtime: always the same one.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) for a runtime without I/O driver. As tokio cannot be asked for one, it is tried: the panic
    /// hook hears of it, and a program that is built to abort on panics does. [`Closed`](ErrorKind::Closed) for a runtime that has shut
    /// down. Where no descriptors can be had (`EMFILE`, `ENFILE`, `ENOMEM`).
    pub fn of(runtime: &Handle) -> Result<Arc<Self>> {
        let id = runtime.id();
        if let Some(known) = known(&contexts(), id) {
            return Ok(known);
        }
        // Not under the lock: this may panic, and the hook may ask for the current context.
        let event_loop = LoopHandle::new()?;
        let new = Arc::new(Self { runtime: id, event_loop });
        let driver = Driver::new(Arc::clone(&new), runtime)?;
        let mut contexts = contexts();
        if let Some(faster) = known(&contexts, id) {
            return Ok(faster);
        }
        contexts.retain(|_, context| context.strong_count() > 0);
        contexts.insert(id, Arc::downgrade(&new));
        drop(contexts);
        runtime.spawn(driver.run());
        // A runtime that has shut down drops what is spawned.
        if new.event_loop.is_closed() { Err(failed(ErrorKind::Closed, "it has shut down")) } else { Ok(new) }
    }
}

fn contexts() -> MutexGuard<'static, HashMap<Id, Weak<TokioContext>>> {
    // Nothing that can panic runs under this lock.
    CONTEXTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The context of the runtime `id`, which somebody may have had before whose context is still held.
fn known(contexts: &HashMap<Id, Weak<TokioContext>>, id: Id) -> Option<Arc<TokioContext>> {
    contexts.get(&id)?.upgrade().filter(|context| !context.event_loop.is_closed())
}

fn failed(kind: ErrorKind, detail: &'static str) -> Error {
    Error::new(kind, LAYER, detail).of_part().during("of")
}

/// What errors call the loop.
const LAYER: &str = "tokio runtime";

impl AioContext for TokioContext {
    fn set_fd_handler(&self, fd: &Arc<OwnedFd>, direction: Direction, callback: Option<Callback>) -> Result<()> {
        let contained = callback.map(|callback| -> Callback { Arc::new(move || contain(&*callback)) });
        self.event_loop.set_fd_handler(fd, direction, contained)
    }

    fn schedule(&self, callback: Box<dyn FnOnce() + Send>) {
        self.event_loop.schedule(Box::new(|| contain(callback)));
    }

    fn set_timer(&self, deadline: Instant, callback: Box<dyn FnOnce() + Send>) -> TimerId {
        self.event_loop.set_timer(deadline, Box::new(|| contain(callback)))
    }

    fn clear_timer(&self, timer: TimerId) {
        self.event_loop.clear_timer(timer);
    }
}

/// Lets no panic out: it would end the driver, and with it everything else.
fn contain(callback: impl FnOnce()) {
    // The hook has told of it. Whether what it left behind is whole is for the next callback to see, as it is with tasks.
    let _ = catch_unwind(AssertUnwindSafe(callback));
}

impl fmt::Debug for TokioContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokioContext").field("runtime", &self.runtime).field("event_loop", &self.event_loop).finish()
    }
}
