//! Tasks on an event loop.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use async_task::FallibleTask;
use pin_project_lite::pin_project;

use super::inbox::{Inbox, Until, Work};
use super::{EventLoop, LAYER, LoopHandle};
use crate::{Error, ErrorKind, Result};

impl LoopHandle {
    /// Starts a task: the loop polls `future` on its thread, for the first time in its next turn. Any thread may call this; it
    /// never blocks.
    ///
    /// A task that is woken, by whatever thread and however often, is polled once in the next turn. The loop owns it: when that is
    /// dropped or shut down, the task is cancelled, detached or not, and with it goes what it holds. On a loop that has gone it is
    /// cancelled at once.
    ///
    /// ```
    /// use channel_core::EventLoop;
    ///
    /// let event_loop = EventLoop::new()?;
    /// let task = event_loop.spawn(async { 6 * 7 });
    /// assert_eq!(event_loop.block_on(task)??, 42);
    /// # Ok::<(), channel_core::Error>(())
    /// ```
    ///
    /// # Panics
    /// A future that panics unwinds out of the call that runs the loop, as a callback does; who awaits the task is told that
    /// nothing comes of it.
    pub fn spawn<F>(&self, future: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let id = self.inbox.next_task();
        let listed = Listed { inbox: Arc::clone(&self.inbox), id };
        let future = ListedFuture { future: Some(future), _listed: listed };
        let inbox = Arc::clone(&self.inbox);
        let (task, handle) = async_task::spawn(future, move |task| inbox.push(Work::Task(task)));
        if self.inbox.list_task(id, task.waker()) {
            task.schedule();
        } else {
            drop(task); // which cancels it
        }
        Task(handle.fallible())
    }
}

/// A task in the list of its loop.
struct Listed {
    inbox: Arc<Inbox>,
    id: u64,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.inbox.forget_task(self.id);
    }
}

pin_project! {
    /// A task's future.
    struct ListedFuture<F> {
        #[pin]
        future: Option<F>,
        // Dropped behind it.
        _listed: Listed,
    }

    impl<F> PinnedDrop for ListedFuture<F> {
        fn drop(this: Pin<&mut Self>) {
            this.end();
        }
    }
}

impl<F> ListedFuture<F> {
    /// A task that is cancelled may panic in what it drops: that ends the task, and must not end the program, which is what async-task does.
    fn end(self: Pin<&mut Self>) {
        let _ = catch_unwind(AssertUnwindSafe(|| self.project().future.set(None))); // the panic hook has told of it
    }
}

impl<F: Future> Future for ListedFuture<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        match self.project().future.as_pin_mut() {
            Some(future) => future.poll(context),
            None => Poll::Pending, // it is being dropped
        }
    }
}

impl EventLoop {
    /// As [`LoopHandle::spawn`].
    pub fn spawn<F>(&self, future: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.handle.spawn(future)
    }

    /// Runs the loop on this thread until `future` is done. The future is polled between turns, and only when it was woken; it
    /// may borrow, and need not be `Send`. It is dropped before this returns. [`stop`](LoopHandle::stop) does not end this; it waits for
    /// the next [`run`](Self::run).
    ///
    /// # Errors
    /// As [`run_once`](Self::run_once).
    ///
    /// # Panics
    /// If the future, a callback or a task does; the loop can be run again.
    pub fn block_on<F: Future>(&self, future: F) -> Result<F::Output> {
        let _running = self.handle.begin("block_on")?;
        let signal = Arc::new(Signal { woken: AtomicBool::new(true), inbox: Arc::clone(&self.handle.inbox) });
        let waker = Waker::from(Arc::clone(&signal));
        let mut future = pin!(future);
        loop {
            if signal.woken.swap(false, Ordering::SeqCst) {
                if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                    return Ok(output);
                }
            }
            self.handle.turn(&Until::Woken(&signal.woken), None)?;
        }
    }
}

/// A future that an [`EventLoop`] polls on its own, from [`LoopHandle::spawn`].
///
/// Dropping this cancels the task: the future is not polled any more, and is dropped on the thread of the loop, in its next
/// turn. [`detach`](Self::detach) lets it go on without this.
///
/// Awaiting it, from any executor, gives what the future gave.
///
/// # Errors
/// [`Closed`](ErrorKind::Closed) if nothing comes of it: the future panicked, or the loop was dropped.
#[must_use = "dropping it cancels the task; `detach` lets it go on"]
pub struct Task<T>(FallibleTask<T>);

impl<T> Task<T> {
    /// Lets the task go on by itself.
    pub fn detach(self) {
        self.0.detach();
    }

    /// Cancels the task, and waits until the future is dropped, which takes a turn of its loop; what it gave, if it was done.
    pub async fn cancel(self) -> Option<T> {
        self.0.cancel().await
    }

    /// Whether the future is done, or was dropped.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|output| {
            let detail = "the task panicked, or its loop was dropped";
            output.ok_or_else(|| Error::new(ErrorKind::Closed, LAYER, detail).of_part().during("await"))
        })
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("is_finished", &self.is_finished()).finish_non_exhaustive()
    }
}

/// The waker of the future that a thread blocks on.
struct Signal {
    woken: AtomicBool,
    inbox: Arc<Inbox>,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // The loop looks at `woken` with the lock of the inbox before it sleeps, and `interrupt` takes that lock.
        if !self.woken.swap(true, Ordering::SeqCst) {
            self.inbox.interrupt();
        }
    }
}
