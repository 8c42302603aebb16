//! A watch and a task of one's own, made of claims.
#![forbid(unsafe_code)]

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use channel_core::{
    AioContext, Channel, ChannelExt, Claim, Claimant, Direction, Error, ErrorKind, Result, current_context,
};

/// What a [`Listening`] hears.
#[derive(Debug)]
pub enum Heard<'a> {
    /// Bytes, in order.
    Bytes(&'a [u8]),
    /// The stream ended: cleanly, or not. Nothing comes after it.
    End(Result<()>),
}

/// A watch that reads by itself, and hands over what it has read, until this is dropped.
#[derive(Debug)]
#[must_use = "dropping it ends it"]
pub struct Listening {
    claim: Claim<Reading>,
}

impl Listening {
    /// Calls `hear` on the thread of `context`.
    ///
    /// # Errors
    /// `Busy` where somebody else reads; what setting a handler fails with.
    pub fn to(
        channel: &Arc<dyn Channel>,
        context: Arc<dyn AioContext>,
        hear: impl FnMut(Heard<'_>) + Send + 'static,
    ) -> Result<Self> {
        let hear = Mutex::new(Some(Hear(Box::new(hear))));
        let reading = Reading { channel: Arc::downgrade(channel), hear };
        Ok(Self { claim: Claim::new(channel, Direction::Read, context, reading)? })
    }

    /// Why nothing will be heard any more, if somebody has closed the channel or taken the handler away.
    #[must_use]
    pub fn lost(&self) -> Option<Error> {
        self.claim.lost()
    }

    /// Ends it, and waits for the call under way.
    ///
    /// # Errors
    /// `WouldDeadlock` inside that.
    pub fn stop(&self) -> Result<()> {
        self.claim.release().wait()
    }
}

struct Hear(Box<dyn FnMut(Heard<'_>) + Send>);

impl fmt::Debug for Hear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hear")
    }
}

#[derive(Debug)]
struct Reading {
    channel: Weak<dyn Channel>,
    /// `None` behind the end.
    hear: Mutex<Option<Hear>>,
}

impl Claimant for Reading {
    fn call(&self) {
        let Some(channel) = self.channel.upgrade() else { return };
        let mut hear = lock(&self.hear);
        let Some(Hear(call)) = &mut *hear else { return };
        let mut bytes = [0; 1024];
        let end = match channel.read(&mut bytes) {
            Ok(count @ 1..) => return call(Heard::Bytes(&bytes[..count])), // and it is called again
            Err(error) if error.is_would_block() => return,
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        call(Heard::End(end));
        *hear = None;
    }

    fn lost(&self) {
        // A call under way has ended: it holds the handler, too. Perhaps it has heard the end.
        if let Some(Hear(mut call)) = lock(&self.hear).take() {
            let why = "the channel was closed, or its handler taken away";
            call(Heard::End(Err(Error::new(ErrorKind::Closed, "own-watch", why))));
        }
    }
}

/// A future that is ready when the channel can make progress, on the loop of whatever thread polls it.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Progress {
    channel: Arc<dyn Channel>,
    direction: Direction,
    waker: Arc<Mutex<Option<Waker>>>,
    claim: Option<Claim<Wakes>>,
}

impl Progress {
    /// In `direction`.
    pub fn of(channel: &Arc<dyn Channel>, direction: Direction) -> Self {
        Self { channel: Arc::clone(channel), direction, waker: Arc::default(), claim: None }
    }
}

impl Future for Progress {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let old = lock(&self.waker).replace(cx.waker().clone());
        drop(old);
        let Some(context) = current_context() else {
            return Poll::Ready(Err(Error::new(ErrorKind::NotAttached, "own-watch", "no loop runs on this thread")));
        };
        if !self.claim.as_ref().is_some_and(|claim| claim.is_on(&context)) {
            self.claim = None; // first, for there is room for one
            let wakes = Wakes(Arc::clone(&self.waker));
            self.claim = Some(Claim::new(&self.channel, self.direction, context, wakes)?);
        }
        // The waker was left before: what changes from now on wakes it.
        match self.channel.readiness(self.direction).block(Some(Instant::now()))? {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }
}

#[derive(Debug)]
struct Wakes(Arc<Mutex<Option<Waker>>>);

impl Claimant for Wakes {
    fn call(&self) {
        let waker = lock(&self.0).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn lost(&self) {
        self.call();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
