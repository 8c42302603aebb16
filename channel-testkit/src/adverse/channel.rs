//! The one channel behind all wrappers.

use std::any::Any;
use std::borrow::Cow;
use std::io::{IoSlice, IoSliceMut, SeekFrom};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use channel_core::leaf::{Mode, Name};
use channel_core::{
    AioChange, Channel, Direction, Error, ErrorKind, Features, ReadFlags, Readiness, Removed, Result, Shutdown,
    WriteFlags,
};

use super::lane::Lane;
use super::log::{Called, Log};
use super::policy::{Call, Passed, Policy};

/// An adverse channel over any channel; made by the functions of [this module](super).
#[derive(Debug)]
pub struct Adverse {
    kind: Kind,
    name: Name,
    mode: Mode,
    reading: Lane,
    writing: Lane,
    corked: AtomicBool,
    /// Why bytes that were taken did not leave the inner channel; what every later write says.
    lost: OnceLock<Error>,
    /// Nothing is ruled on any more: the inner channel says `Closed`.
    closed: AtomicBool,
    inner: Arc<dyn Channel>,
}

/// What tells the wrappers apart, besides their policies.
#[derive(Debug)]
pub(super) struct Kind {
    layer: &'static str,
    line: Cow<'static, str>,
    lacks: Features,
    why: &'static str,
    log: Option<Log>,
}

impl Kind {
    pub(super) fn new(layer: &'static str, line: impl Into<Cow<'static, str>>) -> Self {
        Self { layer, line: line.into(), lacks: Features::empty(), why: "", log: None }
    }

    /// Clears `features`, and says why.
    pub(super) fn without(self, features: Features, why: &'static str) -> Self {
        Self { lacks: features, why, ..self }
    }

    pub(super) fn logging(self, log: Log) -> Self {
        Self { log: Some(log), ..self }
    }
}

impl Adverse {
    pub(super) fn boxed(
        inner: Box<dyn Channel>,
        kind: Kind,
        reading: Box<dyn Policy>,
        writing: Box<dyn Policy>,
    ) -> Box<dyn Channel> {
        inner.set_blocking(false);
        let inner: Arc<dyn Channel> = Arc::from(inner);
        if let Some(gate) = reading.gate() {
            gate.attach(&inner);
        }
        Box::new(Self {
            kind,
            name: Name::default(),
            mode: Mode::default(),
            reading: Lane::new(reading),
            writing: Lane::new(writing),
            corked: AtomicBool::new(false),
            lost: OnceLock::new(),
            closed: AtomicBool::new(false),
            inner,
        })
    }

    fn lane(&self, direction: Direction) -> &Lane {
        match direction {
            Direction::Read => &self.reading,
            Direction::Write => &self.writing,
        }
    }

    /// One attempt at `call`, by the lane's policy.
    fn attempt(&self, call: Call, consumes: bool, pass: impl FnOnce(usize, u8) -> Result<Passed>) -> Result<usize> {
        if self.closed.load(Ordering::Acquire) {
            return pass(usize::MAX, 0).map(Passed::count);
        }
        if let (Direction::Write, Some(error)) = (call.direction(), self.lost.get()) {
            return Err(error.clone());
        }
        self.lane(call.direction()).attempt(call, &*self.inner, consumes, pass)
    }

    /// In blocking mode, has what the inner channel took leave it. A layer below, which was told not to wait, may hold it; nobody
    /// would push it until our next call.
    fn drain(&self) {
        if !self.mode.is_blocking() || self.corked.load(Ordering::Relaxed) || self.inner.next_layer().is_none() {
            return;
        }
        match self.mode.run(self, Direction::Write, false, || self.inner.flush()) {
            Err(error) if !error.is_passing() => {
                // The bytes are taken, so this call succeeds all the same; the first failure is the one to tell.
                let _ = self.lost.set(error);
            }
            _ => {}
        }
    }

    /// A call that moves no bytes, as often as the mode asks for.
    fn step(&self, call: Call, pass: impl Fn(&dyn Channel) -> Result<()>) -> Result<()> {
        let attempt = || self.attempt(call, false, |_, _| pass(&*self.inner).map(|()| Passed::Did(0)));
        let done = match call {
            Call::Handshake => self.mode.run_until(self, call.direction(), false, None, attempt),
            _ => self.mode.run(self, call.direction(), false, attempt),
        };
        self.timed(call.direction(), &done);
        self.told(call.operation(), done).map(|_| ())
    }

    fn read(&self, bufs: &mut [IoSliceMut<'_>], mut fds: Option<&mut Vec<OwnedFd>>, flags: ReadFlags) -> Result<usize> {
        let inner_flags = flags | ReadFlags::DONT_WAIT;
        let peeks = flags.contains(ReadFlags::MSG_PEEK);
        if bufs.iter().all(|buf| buf.is_empty())
            || (peeks && !self.inner.features().contains(Features::READ_MSG_PEEK))
            || (fds.is_some() && !self.inner.features().contains(Features::FD_PASS))
        {
            // Nothing to do, or something to refuse: the inner channel's business.
            return self.inner.readv_full(bufs, fds, inner_flags);
        }
        let read = self.mode.run(self, Direction::Read, flags.contains(ReadFlags::DONT_WAIT), || {
            self.attempt(Call::Read, !peeks, |most, flip| {
                let count = self.inner.readv_full(&mut cut_mut(bufs, most), fds.as_deref_mut(), inner_flags)?;
                if count == 0 {
                    return Ok(Passed::End);
                }
                if let Some(first) = bufs.iter_mut().find_map(|buf| buf.first_mut()) {
                    *first ^= flip;
                }
                Ok(Passed::Did(count))
            })
        });
        self.timed(Direction::Read, &read);
        read
    }

    fn write(&self, bufs: &[IoSlice<'_>], fds: &[BorrowedFd<'_>], flags: WriteFlags) -> Result<usize> {
        let inner_flags = flags | WriteFlags::DONT_WAIT;
        if flags.contains(WriteFlags::ZERO_COPY) && self.lacks(Features::WRITE_ZERO_COPY) {
            return Err(self.unsupported());
        }
        if bufs.iter().all(|buf| buf.is_empty())
            || (flags.contains(WriteFlags::ZERO_COPY) && !self.inner.features().contains(Features::WRITE_ZERO_COPY))
            || (!fds.is_empty() && !self.inner.features().contains(Features::FD_PASS))
        {
            return self.inner.writev_full(bufs, fds, inner_flags);
        }
        let dont_wait = flags.contains(WriteFlags::DONT_WAIT);
        let written = self.mode.run(self, Direction::Write, dont_wait, || {
            self.attempt(Call::Write, true, |most, flip| {
                let mut changed = [0];
                let mut cut = cut(bufs, most);
                if let (true, Some(first)) = (flip != 0, cut.iter_mut().find(|buf| !buf.is_empty())) {
                    changed[0] = first[0] ^ flip;
                    *first = IoSlice::new(&changed);
                }
                self.inner.writev_full(&cut, fds, inner_flags).map(Passed::Did)
            })
        });
        self.timed(Direction::Write, &written);
        let written = written?;
        // A flush of zero-copy writes waits until the pages are free again, which a write does not.
        if !dont_wait && !flags.contains(WriteFlags::ZERO_COPY) {
            self.drain();
        }
        Ok(written)
    }

    fn lend(&self, take: &mut dyn FnMut(&[u8]) -> usize) -> Result<usize> {
        if self.lacks(Features::READ_BUF) {
            return Err(self.unsupported());
        }
        self.attempt(Call::Lend, true, |most, flip| {
            let mut lent = false;
            let mut left = most;
            let count = self.inner.with_read_buf(&mut |bytes| {
                lent = true;
                let bytes = &bytes[..bytes.len().min(left)];
                let changed = [bytes.first().copied().unwrap_or(0) ^ flip];
                let taken = match bytes {
                    [] => 0,
                    [_, ..] if flip != 0 => take(&changed).min(1),
                    bytes => take(bytes).min(bytes.len()),
                };
                // What was left behind comes first in the next read; until then nothing more is lent.
                left = if taken < bytes.len() { 0 } else { left - taken };
                taken
            })?;
            Ok(if count == 0 && !lent { Passed::End } else { Passed::Did(count) })
        })
    }

    /// Closes the channel below: by `deadline`, or within its own linger.
    fn finish(&self, deadline: Option<Instant>) -> Result<()> {
        self.reading.end();
        self.writing.end();
        loop {
            match deadline.map_or_else(|| self.inner.close(), |deadline| self.inner.close_by(deadline)) {
                // Not by `Mode`, which takes turns with other callers: close waits for none of them.
                Err(error) if error.is_would_block() && self.mode.is_blocking() => {
                    self.inner.readiness(Direction::Write).block(None)?;
                }
                Err(error) if error.is_would_block() => return Err(error),
                done => {
                    self.closed.store(true, Ordering::Release);
                    self.reading.remove_handler();
                    self.writing.remove_handler();
                    return done;
                }
            }
        }
    }

    fn change_handlers(&self, read: AioChange, write: AioChange) -> Result<Removed> {
        // What went may do anything when it is dropped: not under the locks.
        let mut removed = Removed::nothing();
        let (mut reading, mut writing) = (self.reading.slot(), self.writing.slot());
        // Both, before anything is changed: one of them may be refused.
        let read = read.resolve(reading.as_ref().map(|there| there.callee()), self.kind.layer)?;
        let write = write.resolve(writing.as_ref().map(|there| there.callee()), self.kind.layer)?;
        let sets = |change: &AioChange| matches!(change, AioChange::Set(_));
        let set = [(Direction::Read, sets(&read)), (Direction::Write, sets(&write))];
        let mut change = |read, write| {
            let forward = |read| self.inner.set_aio_fd_handler(read, AioChange::Keep);
            self.reading.change(&mut reading, read, &mut removed, forward)?;
            let forward = |write| self.inner.set_aio_fd_handler(AioChange::Keep, write);
            self.writing.change(&mut writing, write, &mut removed, forward)
        };
        let result = change(read, write);
        if result.is_err() {
            // The one that was set goes, too; clearing what is not set is no error.
            let _ = change(AioChange::Clear, AioChange::Clear);
        }
        drop((reading, writing));
        for (direction, set) in set {
            if set {
                self.mode.begin(direction);
                self.lane(direction).call_at(self.mode.limit(direction));
            }
        }
        result.map(|()| removed)
    }

    fn set_timeout(&self, method: &'static str, direction: Direction, timeout: Option<Duration>) -> Result<()> {
        let result = self.mode.set_timeout(self, direction, timeout);
        self.lane(direction).call_at(self.mode.limit(direction));
        self.noted(Called::new(method), |()| 0, result)
    }

    /// What a handler that is set learns of a call: when the time of the next has passed. The end has no time.
    fn timed(&self, direction: Direction, result: &Result<usize>) {
        if self.mode.is_timed() {
            let over = matches!(result, Ok(0)) || result.as_ref().is_err_and(|error| !error.is_passing());
            self.lane(direction).call_at(self.mode.limit(direction).filter(|_| !over));
        }
    }

    /// Whether it refuses what needs `feature`, which the inner channel may have; one that is closed has something else to say.
    fn lacks(&self, feature: Features) -> bool {
        self.kind.lacks.contains(feature) && !self.closed.load(Ordering::Acquire)
    }

    fn unsupported(&self) -> Error {
        Error::new(ErrorKind::Unsupported, self.kind.layer, self.kind.why)
    }

    /// Adds what an error has to say about this channel.
    fn told<T>(&self, operation: &'static str, result: Result<T>) -> Result<T> {
        result.map_err(|error| error.during(operation).on(self.name()))
    }

    /// Writes a call down, if this is a recorder.
    fn noted<T>(&self, called: Called, count: impl FnOnce(&T) -> usize, result: Result<T>) -> Result<T> {
        if let Some(log) = &self.kind.log {
            let result = result.as_ref().map(count).map_err(Error::kind);
            log.add(Called { result, ..called });
        }
        result
    }

    fn noted_hint(&self, method: &'static str, on: bool) {
        let _ = self.noted(Called { asked: on.into(), ..Called::new(method) }, |_| 0, Ok(()));
    }
}

impl Channel for Adverse {
    fn layer(&self) -> &'static str {
        self.kind.layer
    }

    fn name(&self) -> Option<Arc<str>> {
        self.name.load()
    }

    fn set_name(&self, name: &str) {
        self.name.store(name);
    }

    fn features(&self) -> Features {
        self.inner.features() - self.kind.lacks
    }

    fn why_not(&self, feature: Features) -> Option<String> {
        if feature.intersects(self.kind.lacks) { Some(self.kind.why.to_owned()) } else { self.inner.why_not(feature) }
    }

    fn describe_layer(&self) -> String {
        format!("{}: {}", self.kind.layer, self.kind.line)
    }

    fn readv_full(
        &self,
        bufs: &mut [IoSliceMut<'_>],
        fds: Option<&mut Vec<OwnedFd>>,
        flags: ReadFlags,
    ) -> Result<usize> {
        let called = Called {
            asked: bufs.iter().map(|buf| buf.len()).sum(),
            buffers: bufs.len(),
            dont_wait: flags.contains(ReadFlags::DONT_WAIT),
            ..Called::new("readv_full")
        };
        let result = self.read(bufs, fds, flags);
        self.noted(called, |count| *count, self.told("read", result))
    }

    fn writev_full(&self, bufs: &[IoSlice<'_>], fds: &[BorrowedFd<'_>], flags: WriteFlags) -> Result<usize> {
        let called = Called {
            asked: bufs.iter().map(|buf| buf.len()).sum(),
            buffers: bufs.len(),
            descriptors: fds.len(),
            dont_wait: flags.contains(WriteFlags::DONT_WAIT),
            ..Called::new("writev_full")
        };
        let result = self.write(bufs, fds, flags);
        self.noted(called, |count| *count, self.told("write", result))
    }

    fn flush(&self) -> Result<()> {
        let result = self.step(Call::Flush, Channel::flush);
        self.noted(Called::new("flush"), |_| 0, result)
    }

    fn set_blocking(&self, blocking: bool) {
        self.noted_hint("set_blocking", blocking);
        self.mode.set_blocking(blocking);
    }

    fn set_read_timeout(&self, timeout: Option<Duration>) -> Result<()> {
        self.set_timeout("set_read_timeout", Direction::Read, timeout)
    }

    fn read_timeout(&self) -> Option<Duration> {
        self.mode.timeout(Direction::Read)
    }

    fn set_write_timeout(&self, timeout: Option<Duration>) -> Result<()> {
        self.set_timeout("set_write_timeout", Direction::Write, timeout)
    }

    fn write_timeout(&self) -> Option<Duration> {
        self.mode.timeout(Direction::Write)
    }

    fn take_over(&self) {
        self.inner.take_over();
    }

    fn set_delay(&self, delay: bool) {
        self.noted_hint("set_delay", delay);
        self.inner.set_delay(delay);
    }

    fn set_cork(&self, cork: bool) {
        self.noted_hint("set_cork", cork);
        self.corked.store(cork, Ordering::Relaxed);
        self.inner.set_cork(cork);
    }

    fn close_write(&self) -> Result<()> {
        let result = self.step(Call::CloseWrite, Channel::close_write);
        self.noted(Called::new("close_write"), |_| 0, result)
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        if how != Shutdown::Write {
            self.reading.end();
        }
        if how != Shutdown::Read {
            self.writing.end();
        }
        let result = self.inner.shutdown(how);
        self.noted(Called::new("shutdown"), |_| 0, self.told("shutdown", result))
    }

    fn close(&self) -> Result<()> {
        let result = self.finish(None);
        self.noted(Called::new("close"), |_| 0, self.told("close", result))
    }

    fn close_by(&self, deadline: Instant) -> Result<()> {
        let result = self.finish(Some(deadline));
        self.noted(Called::new("close_by"), |_| 0, self.told("close", result))
    }

    fn seek(&self, position: SeekFrom) -> Result<u64> {
        let result = if self.lacks(Features::SEEKABLE) { Err(self.unsupported()) } else { self.inner.seek(position) };
        let count = |position: &u64| usize::try_from(*position).unwrap_or(usize::MAX);
        self.noted(Called::new("seek"), count, self.told("seek", result))
    }

    fn readiness(&self, direction: Direction) -> Readiness {
        if self.lane(direction).is_due() && !self.closed.load(Ordering::Acquire) {
            return Readiness::Ready;
        }
        let answer = self.lane(direction).held_up().unwrap_or_else(|| self.inner.readiness(direction));
        if self.closed.load(Ordering::Acquire) { answer } else { self.mode.limited(direction, answer) }
    }

    fn set_aio_fd_handler(&self, read: AioChange, write: AioChange) -> Result<Removed> {
        let result = self.change_handlers(read, write);
        self.noted(Called::new("set_aio_fd_handler"), |_| 0, self.told("set_aio_fd_handler", result))
    }

    fn handshake(&self) -> Result<()> {
        // What a layer says behind its handshake, such as session tickets, waits for no one.
        let result = self.step(Call::Handshake, Channel::handshake);
        self.noted(Called::new("handshake"), |_| 0, result)
    }

    fn with_read_buf(&self, take: &mut dyn FnMut(&[u8]) -> usize) -> Result<usize> {
        let result = self.mode.note(self, Direction::Read, self.lend(take));
        self.timed(Direction::Read, &result);
        self.noted(Called::new("with_read_buf"), |count| *count, self.told("read", result))
    }

    fn next_layer(&self) -> Option<&dyn Channel> {
        Some(&*self.inner)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

impl Drop for Adverse {
    fn drop(&mut self) {
        self.reading.remove_handler();
        self.writing.remove_handler();
    }
}

/// The first `most` bytes of `bufs`.
fn cut<'a>(bufs: &'a [IoSlice<'_>], most: usize) -> Vec<IoSlice<'a>> {
    let mut left = most;
    let cut = bufs.iter().map(|buf| {
        let count = buf.len().min(left);
        left -= count;
        IoSlice::new(&buf[..count])
    });
    cut.collect()
}

/// As [`cut`], for input.
fn cut_mut<'a>(bufs: &'a mut [IoSliceMut<'_>], most: usize) -> Vec<IoSliceMut<'a>> {
    let mut left = most;
    let cut = bufs.iter_mut().map(|buf| {
        let count = buf.len().min(left);
        left -= count;
        IoSliceMut::new(&mut buf[..count])
    });
    cut.collect()
}
