//! A listener for tasks.

use std::fmt;
use std::future::poll_fn;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use channel_core::{
    AioChange, AioContext, AioHandler, Callback, Error, ErrorKind, Result, Timer, Turn, current_context,
};

use crate::{SocketChannel, SocketListener};

/// A listener for tasks: [`accept`](Self::accept) is a future that waits on the event loop of the thread that polls it
/// ([`current_context`]).
///
/// # Threads
/// Any number of tasks may accept, on one loop at a time: the handler goes to the loop of the task that began to wait last.
///
/// ```
/// use channel_core::{AioChannel, EventLoop};
/// use channel_socket::{AioListener, SocketAddress, SocketChannel, SocketListener};
///
/// let listener = SocketListener::bind(&SocketAddress::Inet("127.0.0.1:0".parse().unwrap()))?;
/// let client = AioChannel::new(SocketChannel::connect(listener.local_address())?);
/// let listener = AioListener::new(listener);
/// let event_loop = EventLoop::new()?;
/// let heard = event_loop.block_on(async {
///     let server = AioChannel::new(listener.accept().await?);
///     client.write_all(b"hello").await?;
///     let mut heard = [0; 5];
///     server.read_all(&mut heard).await.map(|()| heard)
/// })??;
/// assert_eq!(&heard, b"hello");
/// # Ok::<(), channel_core::Error>(())
/// ```
#[derive(Debug)]
pub struct AioListener {
    listener: SocketListener,
    waiting: Arc<Waiting>,
    claim: Mutex<Option<Claim>>,
    turn: Turn,
    last_place: AtomicU64,
}

/// The tasks that wait for a connection, each with its place; 0 is that of those who poll by hand.
#[derive(Debug, Default)]
struct Waiting(Mutex<Vec<(u64, Waker)>>);

impl Waiting {
    fn add(&self, place: u64, waker: &Waker) {
        let mut wakers = lock(&self.0);
        let old = match wakers.iter_mut().find(|(known, _)| *known == place) {
            Some((_, known)) if known.will_wake(waker) => None,
            Some((_, known)) => Some(std::mem::replace(known, waker.clone())),
            None => {
                wakers.push((place, waker.clone()));
                None
            }
        };
        drop(wakers);
        drop(old); // a task's own, which may do anything: not under the lock
    }

    fn remove(&self, place: u64) {
        let mut wakers = lock(&self.0);
        let at = wakers.iter().position(|(known, _)| *known == place);
        let old = at.map(|at| wakers.swap_remove(at));
        // The handler may be on the loop of the task that leaves: the others claim it for theirs.
        let others = std::mem::take(&mut *wakers);
        drop(wakers);
        drop(old);
        others.into_iter().for_each(|(_, waker)| waker.wake());
    }

    fn wake(&self) {
        let wakers = std::mem::take(&mut *lock(&self.0));
        wakers.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

/// A task that accepts, from its first poll on; it leaves nothing behind.
struct Accepting<'a> {
    listener: &'a AioListener,
    place: u64,
}

impl Drop for Accepting<'_> {
    fn drop(&mut self) {
        self.listener.waiting.remove(self.place);
    }
}

/// What the handler and its loop hold: a listener that is closed lets go of the one, a loop that ends of the other, and either wakes, too.
struct Alarm {
    waiting: Arc<Waiting>,
    /// It moved to another loop, whose handler wakes everybody.
    moved: Arc<AtomicBool>,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if !self.moved.load(Ordering::Acquire) {
            self.waiting.wake();
        }
    }
}

/// The handler that was set; the listener holds it.
struct Claim {
    context: Arc<dyn AioContext>,
    callback: Weak<dyn Fn() + Send + Sync>,
    moved: Arc<AtomicBool>,
    /// One that never comes: what any loop keeps until it ends.
    ends: Option<Timer>,
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim").field("context", &self.context).finish_non_exhaustive()
    }
}

const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

impl AioListener {
    /// `listener`, for tasks. It is put into non-blocking mode.
    #[must_use]
    pub fn new(listener: SocketListener) -> Self {
        listener.set_blocking(false);
        Self {
            listener,
            waiting: Arc::default(),
            claim: Mutex::default(),
            turn: Turn::default(),
            last_place: AtomicU64::new(0),
        }
    }

    /// The listener itself: where it listens, and [`close`](SocketListener::close), which ends every
    /// [`accept`](Self::accept).
    #[must_use]
    pub fn listener(&self) -> &SocketListener {
        &self.listener
    }

    /// The next connection.
    ///
    /// # Errors
    /// As [`SocketListener::accept`], never would-block; [`NotAttached`](ErrorKind::NotAttached) where no event loop runs on the
    /// thread; [`Busy`](ErrorKind::Busy) where a handler was set on the listener by somebody else.
    ///
    /// # Cancel safety
    /// Cancel safe: a connection that is not returned stays in the queue.
    pub async fn accept(&self) -> Result<SocketChannel> {
        let place = self.last_place.fetch_add(1, Ordering::Relaxed) + 1;
        let accepting = Accepting { listener: self, place };
        poll_fn(|cx| self.poll_at(accepting.place, cx)).await
    }

    /// As [`accept`](Self::accept), for those who implement futures by hand. Of two who poll in this way only the last is woken.
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Result<SocketChannel>> {
        self.poll_at(0, cx)
    }

    fn poll_at(&self, place: u64, cx: &mut Context<'_>) -> Poll<Result<SocketChannel>> {
        ready!(self.turn.poll(cx));
        let first = self.listener.accept();
        if !first.as_ref().is_err_and(Error::is_would_block) {
            return Poll::Ready(first);
        }
        self.waiting.add(place, cx.waker());
        self.claim()?;
        // Once more: what came before the waker was left has called nobody.
        match self.listener.accept() {
            Err(error) if error.is_would_block() => {
                self.turn.waited();
                Poll::Pending
            }
            done => Poll::Ready(done),
        }
    }

    /// Sees to it that a handler on the loop of this thread wakes those who wait.
    fn claim(&self) -> Result<()> {
        let Some(context) = current_context() else {
            let detail = "no event loop runs on this thread; run the task on a loop";
            return Err(Error::new(ErrorKind::NotAttached, "socket", detail).during("accept"));
        };
        let mut claim = lock(&self.claim);
        let there = claim.as_ref().and_then(|claim| Some((claim, claim.callback.upgrade()?)));
        let mut moved = None;
        match there {
            Some((there, _)) if ptr::addr_eq(Arc::as_ptr(&there.context), Arc::as_ptr(&context)) => return Ok(()),
            Some((there, callback)) => {
                there.moved.store(true, Ordering::Release);
                let handler = AioHandler { context: Arc::clone(&there.context), callback };
                moved = Some(
                    self.listener.set_aio_fd_handler(AioChange::Release(handler.clone())).map(|gone| (gone, handler)),
                );
            }
            None => {}
        }
        let moving = Arc::new(AtomicBool::new(false));
        let alarm = || Alarm { waiting: Arc::clone(&self.waiting), moved: Arc::clone(&moving) };
        let (alarm, farewell) = (alarm(), alarm());
        let callback: Callback = Arc::new(move || alarm.waiting.wake());
        let weak = Arc::downgrade(&callback);
        let handler = AioHandler { context: Arc::clone(&context), callback };
        let claimed = self.listener.set_aio_fd_handler(AioChange::Claim(handler.clone()));
        let new = Claim { context: Arc::clone(&context), callback: weak, moved: Arc::clone(&moving), ends: None };
        let old = std::mem::replace(&mut *claim, claimed.is_ok().then_some(new));
        drop(claim);
        drop((moved, handler, old)); // which wakes: not under the lock
        if claimed.is_ok() {
            let ends = Timer::set(&context, Instant::now() + CENTURY, move || drop(farewell)); // on a loop that has ended by now it wakes
            let mut claim = lock(&self.claim);
            let unused = match claim.as_mut().filter(|claim| Arc::ptr_eq(&claim.moved, &moving)) {
                Some(claim) => claim.ends.replace(ends),
                None => Some(ends),
            };
            drop(claim);
            drop(unused);
        }
        match claimed {
            // The next attempt says so.
            Err(error) if error.is_closed() => Ok(()),
            claimed => claimed.map(drop),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No user code runs under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
