//! The futures of a channel for tasks.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use super::channel::{AioChannel, Shared};
use super::waiter::{Event, Waiter, Waits};
use crate::blocking::{Within, limit_of};
use crate::{Channel, Direction, Error, Result};

/// A task that closes: it waits by itself, for others who close may be on other loops, and goes without a trace.
pub(super) struct Closer<'a> {
    shared: &'a Shared,
    waits: Arc<Waits>,
    deadline: Option<Instant>,
}

impl<'a> Closer<'a> {
    /// By `deadline`, or within the linger.
    pub(super) fn new(shared: &'a Shared, deadline: Option<Instant>) -> Self {
        let waits = Arc::new(Waits::new(Event::Close));
        shared.closers().push(Arc::clone(&waits));
        Self { shared, waits, deadline }
    }

    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let channel = &self.shared.channel;
        match self.deadline.map_or_else(|| channel.close(), |deadline| channel.close_by(deadline)) {
            Err(error) if error.is_would_block() => {}
            closed => return Poll::Ready(closed),
        }
        // The waker is left before the questions below are asked: what changes from now on wakes it.
        self.waits.enter(&mut Waiter::poll(), cx.waker());
        if self.shared.look(&self.waits, true)? {
            cx.waker().wake_by_ref(); // after others' turn: a peer that never stops sending gives closers something to do for ever
        }
        Poll::Pending
    }
}

impl Drop for Closer<'_> {
    fn drop(&mut self) {
        self.shared.closers().retain(|known| !Arc::ptr_eq(known, &self.waits));
        drop(self.waits.release());
    }
}

/// The future of [`AioChannel::ready`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Ready<'a> {
    channel: &'a AioChannel,
    direction: Direction,
    waiter: Waiter,
    /// It was not polled yet, and no attempt came before it.
    begins: bool,
    /// When the call that it is a part of has taken too long.
    limit: Option<Instant>,
}

impl<'a> Ready<'a> {
    /// As a part of what has to be done by `limit`, if there is one.
    pub(super) fn new(channel: &'a AioChannel, direction: Direction, limit: Option<Instant>) -> Self {
        Self { channel, direction, waiter: Waiter::future(), begins: true, limit }
    }
}

impl Future for Ready<'_> {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let Self { channel, direction, waiter, begins, limit } = &mut *self;
        if std::mem::take(begins) {
            ready!(channel.shared.waits(*direction).turn.poll(cx));
        }
        let _within = Within::begin(*direction, *limit);
        channel.shared.poll_ready(waiter, cx, *direction)
    }
}

/// The future of [`AioChannel::drive`]. Written out, because an async fn keeps what it was given beside what it hands on, and there is one
/// of these for each task that waits.
pub(super) struct Drive<'a, F> {
    ready: Ready<'a>,
    phase: Phase,
    attempt: F,
}

#[derive(Clone, Copy)]
enum Phase {
    /// It was not polled yet: its time begins when it is.
    Begins,
    Attempts,
    Waits,
}

impl<'a, F> Drive<'a, F> {
    /// A call of its own.
    pub(super) fn new(ready: Ready<'a>, attempt: F) -> Self {
        Self { ready, phase: Phase::Begins, attempt }
    }

    /// A part of one, which has the limit of `ready`.
    pub(super) fn part(ready: Ready<'a>, attempt: F) -> Self {
        Self { ready, phase: Phase::Attempts, attempt }
    }
}

/// Nothing in it is ever pinned.
impl<F> Unpin for Drive<'_, F> {}

impl<T, F: FnMut(&dyn Channel) -> Result<T>> Future for Drive<'_, F> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let Self { ready, phase, attempt } = &mut *self;
        let shared = &ready.channel.shared;
        let waits = shared.waits(ready.direction);
        loop {
            match phase {
                Phase::Begins => ready.limit = limit_of(&*shared.channel, ready.direction),
                Phase::Attempts => {}
                Phase::Waits => ready!(Pin::new(&mut *ready).poll(cx))?,
            }
            *phase = Phase::Attempts;
            ready!(waits.turn.poll(cx));
            let calls = waits.calls();
            let attempted = {
                // Who waits there already has a time, of which ours is none.
                let _within = Within::begin(ready.direction, ready.limit.filter(|_| !waits.is_taken()));
                attempt(&*shared.channel)
            };
            match attempted {
                // As `Mode::run_until`: an attempt that makes no call on the channel does not say so itself.
                Err(error) if error.is_would_block() && ready.limit.is_some_and(|limit| limit <= Instant::now()) => {
                    return Poll::Ready(Err(Error::timed_out(ready.direction, &*shared.channel)));
                }
                Err(error) if error.is_would_block() => {
                    (ready.waiter, ready.begins) = (Waiter::after_attempt(calls), false);
                    *phase = Phase::Waits;
                }
                done => return Poll::Ready(done),
            }
        }
    }
}

impl Drop for Ready<'_> {
    fn drop(&mut self) {
        self.channel.shared.waits(self.direction).leave(&mut self.waiter);
    }
}
