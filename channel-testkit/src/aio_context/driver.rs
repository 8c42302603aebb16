//! What clauses are written with.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use channel_core::{AioContext, Callback, Direction};
use rustix::event::{EventfdFlags, eventfd};

use super::DrivenContext;
use crate::patience::{Patience, Progress};

/// A loop and how long to wait for it.
pub struct Driver {
    driven: Box<dyn DrivenContext>,
    patience: Duration,
    progress: Progress,
}

/// How long one turn may wait where a clause waits for a condition that something else brings about.
const SLICE: Duration = Duration::from_millis(20);

impl Driver {
    /// Drives `driven`, and waits no longer than `patience` for one thing.
    #[must_use]
    pub fn new(driven: Box<dyn DrivenContext>, patience: Duration) -> Self {
        Self { driven, patience, progress: Progress::new() }
    }

    /// Tells of each thing that came as it was waited for.
    pub(super) fn telling(self, progress: &Progress) -> Self {
        Self { progress: progress.clone(), ..self }
    }

    /// For what a clause waits for itself.
    pub(super) fn waiting(&self) -> Patience {
        Patience::new(self.patience, &self.progress)
    }

    pub(super) fn context(&self) -> Arc<dyn AioContext> {
        self.driven.context()
    }

    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    pub(super) fn turn(&mut self, timeout: Duration) {
        self.driven.turn(timeout);
    }

    /// Takes turns until `done` says so.
    pub(super) fn until(&mut self, what: &str, mut done: impl FnMut() -> bool) {
        let mut patience = self.waiting();
        while !done() {
            assert!(!patience.is_lost(), "waited in vain for: {what}");
            self.turn(SLICE);
        }
        self.progress.made();
    }

    /// Takes turns until everything had its chance: descriptors, timers that are due, and what is scheduled.
    pub(super) fn settle(&mut self) {
        let context = self.context();
        let (fd, passes) = (flag(true), Count::new());
        context.set_fd_handler(&fd, Direction::Read, Some(passes.callback())).expect("a handler on an eventfd");
        for _ in 0..3 {
            let (before, ran) = (passes.now(), Count::new());
            context.schedule(ran.once());
            context.set_timer(Instant::now(), ran.once());
            self.until("a ready descriptor, a timer and a callback", || ran.now() == 2 && passes.now() > before + 1);
        }
        context.set_fd_handler(&fd, Direction::Read, None).expect("clearing a handler");
    }

    /// Sets a handler that counts its calls.
    pub(super) fn count(&self, fd: &Arc<OwnedFd>, direction: Direction) -> Count {
        let count = Count::new();
        self.set(fd, direction, count.callback());
        count
    }

    pub(super) fn set(&self, fd: &Arc<OwnedFd>, direction: Direction, callback: Callback) {
        self.context().set_fd_handler(fd, direction, Some(callback)).expect("setting a handler");
    }

    pub(super) fn clear(&self, fd: &Arc<OwnedFd>, direction: Direction) {
        self.context().set_fd_handler(fd, direction, None).expect("clearing a handler");
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("context", &self.context()).finish_non_exhaustive()
    }
}

/// Counts calls.
#[derive(Clone, Default)]
pub(super) struct Count(Arc<AtomicUsize>);

impl Count {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn now(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    pub(super) fn callback(&self) -> Callback {
        let count = self.clone();
        Arc::new(move || count.add())
    }

    pub(super) fn once(&self) -> Box<dyn FnOnce() + Send> {
        let count = self.clone();
        Box::new(move || count.add())
    }
}

/// What callbacks saw, in the order they ran. They must not panic themselves: what a loop does with that is its own affair.
#[derive(Clone)]
pub(super) struct Log<T>(Arc<Mutex<Vec<T>>>);

impl<T: Clone> Log<T> {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    pub(super) fn push(&self, entry: T) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }

    pub(super) fn now(&self) -> Vec<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// An eventfd, readable if `raised`; always writable.
pub(super) fn flag(raised: bool) -> Arc<OwnedFd> {
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    Arc::new(eventfd(raised.into(), flags).expect("an eventfd"))
}

/// Makes a [`flag`] readable.
pub(super) fn raise(flag: impl AsFd) {
    rustix::io::write(flag, &1u64.to_ne_bytes()).expect("a write to an eventfd");
}

/// Makes a [`flag`] unreadable.
pub(super) fn lower(flag: impl AsFd) {
    let _ = rustix::io::read(flag, &mut [0; 8]); // it may be so already
}
