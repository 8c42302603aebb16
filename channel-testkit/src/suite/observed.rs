//! What the two ends of a pair do, seen from outside: so that a hang can tell, and progress counts whoever makes it.

use std::any::Any;
use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use channel_core::{Channel, ErrorKind, ReadFlags, Result, Shutdown, WriteFlags, forward_channel};

use super::setup::Run;
use crate::thread_state;

/// Everything that an end did so far.
#[derive(Debug)]
pub(super) struct Journal {
    side: &'static str,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    read: usize,
    written: usize,
    last: Option<(Call, Outcome)>,
    /// What each call gave when it last gave something new.
    known: Vec<(Call, Outcome)>,
    /// Calls that have not returned, and the threads inside.
    under_way: Vec<(Call, String)>,
}

/// A call as it is told of.
type Call = &'static str;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Moved(usize),
    Done,
    Failed(ErrorKind),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Moved(count) => write!(f, "gave {count}"),
            Self::Done => f.write_str("is done"),
            Self::Failed(kind) => write!(f, "failed with {kind:?}"),
        }
    }
}

impl Journal {
    pub(super) fn new(side: &'static str) -> Self {
        Self { side, entries: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What there is to tell of this end.
    pub(super) fn tell(&self) -> String {
        let entries = self.lock();
        let mut told = format!("the {} end: {} bytes read, {} written", self.side, entries.read, entries.written);
        match &entries.last {
            Some((call, outcome)) => told.push_str(&format!(", last {call}, which {outcome}")),
            None => told.push_str(", no call returned yet"),
        }
        for (call, thread) in &entries.under_way {
            told.push_str(&format!("; in {call} on thread {thread} ({})", thread_state::of(thread)));
        }
        told
    }
}

impl Entries {
    /// Notes what a call gave; whether that is progress: bytes that moved, or an outcome that the call did not have before.
    fn note(&mut self, call: Call, outcome: &Outcome) -> bool {
        self.last = Some((call, outcome.clone()));
        if matches!(outcome, Outcome::Failed(ErrorKind::WouldBlock)) {
            return false;
        }
        match outcome {
            Outcome::Moved(count @ 1..) if call == "read" => self.read += count,
            Outcome::Moved(count @ 1..) if call == "write" => self.written += count,
            _ => match self.known.iter_mut().find(|(known, _)| *known == call) {
                Some((_, known)) => return std::mem::replace(known, outcome.clone()) != *outcome,
                None => self.known.push((call, outcome.clone())),
            },
        }
        true
    }
}

/// A channel of a pair as the maker made it: in everything the very channel, but that a journal is kept.
pub(super) struct Observed {
    inner: Box<dyn Channel>,
    journal: Arc<Journal>,
    run: Arc<Run>,
}

impl Observed {
    pub(super) fn new(inner: Box<dyn Channel>, journal: Arc<Journal>, run: Arc<Run>) -> Self {
        Self { inner, journal, run }
    }

    fn call<T>(&self, call: Call, body: impl FnOnce() -> Result<T>, outcome: impl FnOnce(&T) -> Outcome) -> Result<T> {
        let inside = Inside::enter(&self.journal, call);
        let result = body();
        let outcome = result.as_ref().map_or_else(|error| Outcome::Failed(error.kind()), outcome);
        let moved = self.journal.lock().note(call, &outcome);
        drop(inside);
        if moved {
            self.run.progress().made();
        }
        result
    }

    fn step(&self, call: Call, body: impl FnOnce() -> Result<()>) -> Result<()> {
        self.run.check();
        self.call(call, body, |()| Outcome::Done)
    }
}

/// A call under way, until it is dropped: a call may panic.
struct Inside<'a> {
    journal: &'a Journal,
    call: Call,
    thread: String,
}

impl<'a> Inside<'a> {
    fn enter(journal: &'a Journal, call: Call) -> Self {
        let thread = thread_state::own();
        journal.lock().under_way.push((call, thread.clone()));
        Self { journal, call, thread }
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let mut entries = self.journal.lock();
        let own = |(call, thread): &(Call, String)| *call == self.call && *thread == self.thread;
        if let Some(at) = entries.under_way.iter().rposition(own) {
            entries.under_way.swap_remove(at);
        }
    }
}

impl fmt::Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

forward_channel!(Observed => |self| &*self.inner;
    fn readv_full(
        &self,
        bufs: &mut [IoSliceMut<'_>],
        fds: Option<&mut Vec<OwnedFd>>,
        flags: ReadFlags,
    ) -> Result<usize> {
        self.run.check();
        let call = if flags.contains(ReadFlags::MSG_PEEK) { "peek" } else { "read" };
        // What is seen again and again by peeking is no progress.
        let outcome = |count: &usize| if call == "peek" { Outcome::Done } else { Outcome::Moved(*count) };
        self.call(call, || self.inner.readv_full(bufs, fds, flags), outcome)
    }

    fn writev_full(&self, bufs: &[IoSlice<'_>], fds: &[BorrowedFd<'_>], flags: WriteFlags) -> Result<usize> {
        self.run.check();
        self.call("write", || self.inner.writev_full(bufs, fds, flags), |count| Outcome::Moved(*count))
    }

    fn flush(&self) -> Result<()> {
        self.step("flush", || self.inner.flush())
    }

    fn set_delay(&self, delay: bool) {
        let _inside = Inside::enter(&self.journal, "set_delay");
        self.inner.set_delay(delay);
    }

    fn set_cork(&self, cork: bool) {
        let _inside = Inside::enter(&self.journal, "set_cork");
        self.inner.set_cork(cork);
    }

    fn close_write(&self) -> Result<()> {
        self.step("close_write", || self.inner.close_write())
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        self.call("shutdown", || self.inner.shutdown(how), |()| Outcome::Done)
    }

    fn close(&self) -> Result<()> {
        self.step("close", || self.inner.close())
    }

    fn close_by(&self, deadline: Instant) -> Result<()> {
        self.step("close_by", || self.inner.close_by(deadline))
    }

    fn handshake(&self) -> Result<()> {
        self.step("handshake", || self.inner.handshake())
    }

    fn with_read_buf(&self, take: &mut dyn FnMut(&[u8]) -> usize) -> Result<usize> {
        self.run.check();
        self.call("read", || self.inner.with_read_buf(take), |count| Outcome::Moved(*count))
    }

    fn next_layer(&self) -> Option<&dyn Channel> {
        self.inner.next_layer()
    }

    fn as_any(&self) -> &dyn Any {
        self.inner.as_any()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
);
