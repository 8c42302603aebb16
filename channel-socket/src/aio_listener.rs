//! A listener for tasks.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use channel_core::{Claim, Claimant, Direction, Error, ErrorKind, Result, Timer, Turn, current_context};

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
    // Before the listener, so that it is released.
    claim: Mutex<Option<Arc<Claimed>>>,
    listener: Arc<SocketListener>,
    waiting: Arc<Waiting>,
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

/// Wakes those who wait: also when the listener is closed, or the loop ends.
#[derive(Debug)]
struct Alarm(Arc<Waiting>);

impl Claimant for Alarm {
    fn call(&self) {
        self.0.wake();
    }

    fn lost(&self) {
        self.0.wake();
    }
}

#[derive(Debug)]
struct Claimed {
    claim: Claim<Alarm, SocketListener>,
    ends: OnceLock<Timer>,
}

impl AioListener {
    /// `listener`, for tasks. It is put into non-blocking mode.
    #[must_use]
    pub fn new(listener: SocketListener) -> Self {
        listener.set_blocking(false);
        Self {
            claim: Mutex::default(),
            listener: Arc::new(listener),
            waiting: Arc::default(),
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
        if claim.as_ref().is_some_and(|there| there.claim.is_on(&context)) {
            return Ok(());
        }
        let moved = claim.take();
        let removed = moved.as_ref().map(|moved| moved.claim.release());
        let alarm = Alarm(Arc::clone(&self.waiting));
        let new = Claim::new(&self.listener, Direction::Read, context, alarm);
        let new = new.map(|new| Arc::new(Claimed { claim: new, ends: OnceLock::new() }));
        *claim = new.as_ref().ok().cloned();
        drop(claim);
        drop((moved, removed));
        match new {
            Ok(new) => {
                let _ = new.ends.set(new.claim.ends_with_loop()); // which wakes where it has ended by now: not under the lock
                Ok(())
            }
            // The next attempt says so.
            Err(error) if error.is_closed() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No user code runs under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
