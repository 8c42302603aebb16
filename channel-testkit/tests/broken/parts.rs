//! What several broken channels are made of.

use std::io::{IoSlice, IoSliceMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use channel_core::{
    AioChange, AioContext, AioHandler, Channel, Direction, Error, ErrorKind, Features, Limits, MemoryChannel,
    ReadFlags, Readiness, Removed, Result, Timer, WriteFlags,
};
use channel_testkit::suite::Options;

use super::Mutant;

/// What all broken channels but those with descriptors stand on.
pub(crate) fn memory(options: &Options) -> (MemoryChannel, MemoryChannel) {
    let capacity = if options.small_buffers { 1 } else { 64 * 1024 };
    MemoryChannel::pair_with_capacity(capacity).expect("a pair in memory")
}

/// As [`memory`], with the gate that the suite asks for over the near end.
pub(crate) fn gated_memory(options: &Options) -> (Box<dyn Channel>, MemoryChannel) {
    let (near, far) = memory(options);
    (options.behind_gate(near), far)
}

/// Locks, whatever became of the last holder.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many bytes fit into `bufs`.
pub(crate) fn room(bufs: &[IoSliceMut<'_>]) -> usize {
    bufs.iter().map(|buf| buf.len()).sum()
}

/// All bytes of `bufs`.
pub(crate) fn bytes_of(bufs: &[IoSlice<'_>]) -> Vec<u8> {
    bufs.iter().flat_map(|buf| buf.iter().copied()).collect()
}

/// A write of one piece that does not wait.
pub(crate) fn try_write(channel: &dyn Channel, bytes: &[u8]) -> Result<usize> {
    channel.writev_full(&[IoSlice::new(bytes)], &[], WriteFlags::DONT_WAIT)
}

/// Output a broken channel holds.
#[derive(Clone, Default)]
pub(crate) struct Held {
    bytes: Arc<Mutex<Vec<u8>>>,
    on: Arc<AtomicBool>,
}

impl Held {
    /// Holds `bufs` back, up to `bound` bytes in all.
    pub(crate) fn keep(&self, bufs: &[IoSlice<'_>], bound: usize) -> Result<usize> {
        let mut held = lock(&self.bytes);
        let bytes = bytes_of(bufs);
        let count = bytes.len().min(bound - held.len());
        held.extend_from_slice(&bytes[..count]);
        if count == 0 && !bytes.is_empty() { Err(Error::WOULD_BLOCK) } else { Ok(count) }
    }

    /// Sends what is held as far as it goes.
    pub(crate) fn push(&self, inner: &dyn Channel) -> Result<()> {
        let mut held = lock(&self.bytes);
        while !held.is_empty() {
            let count = try_write(inner, &held)?;
            held.drain(..count);
        }
        Ok(())
    }

    /// Sends all that is held, and waits for it.
    pub(crate) fn push_all(&self, inner: &dyn Channel) -> Result<()> {
        loop {
            match self.push(inner) {
                Err(error) if error.is_would_block() => inner.readiness(Direction::Write).block(None)?,
                done => return done,
            };
        }
    }

    /// Lets go of what is held.
    pub(crate) fn forget(&self) {
        lock(&self.bytes).clear();
    }

    /// Whether nothing is held.
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.bytes).is_empty()
    }

    /// A switch that goes with it: corked, delayed.
    pub(crate) fn turn(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
    }

    /// The switch.
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }
}

/// A channel whose handlers lie on the loop as they are: nobody counts their calls, or keeps them from overlapping.
pub(crate) fn bare_handlers(near: Mutant) -> Mutant {
    let contexts = Mutex::new([const { None::<Arc<dyn AioContext>> }; 2]);
    near.on_set_aio_fd_handler(move |inner, read, write| {
        for (direction, change) in [(Direction::Read, read), (Direction::Write, write)] {
            let Readiness::Wait(interests) = inner.readiness(direction) else { continue };
            let Some(interest) = interests.iter().next() else { continue };
            let known = &mut lock(&contexts)[direction as usize];
            let (context, callback) = match change {
                AioChange::Set(handler) | AioChange::Claim(handler) => (handler.context, Some(handler.callback)),
                AioChange::Clear => match known.take() {
                    Some(context) => (context, None),
                    None => continue,
                },
                _ => continue,
            };
            context.set_fd_handler(&interest.fd, interest.direction, callback)?;
            *known = Some(context);
        }
        Ok(Removed::nothing())
    })
}

/// Input read ahead: a read takes more from below than it was asked for, and keeps the rest.
#[derive(Clone, Default)]
pub(crate) struct Ahead(Arc<Mutex<Vec<u8>>>);

impl Ahead {
    /// A channel that reads ahead, and otherwise knows nothing of it.
    pub(crate) fn over(&self, inner: impl Channel) -> Mutant {
        let ahead = self.clone();
        Mutant::over(inner)
            .on_features(|inner| inner.features() - Features::READ_BUF - Features::READ_MSG_PEEK)
            .on_read(move |inner, bufs, fds, flags| {
                let mut held = lock(&ahead.0);
                if held.is_empty() && room(bufs) > 0 {
                    let mut more = vec![0; 1024];
                    let count = inner.readv_full(&mut [IoSliceMut::new(&mut more)], fds, flags)?;
                    held.extend_from_slice(&more[..count]);
                }
                let mut done = 0;
                for buf in bufs {
                    let count = buf.len().min(held.len());
                    buf[..count].copy_from_slice(&held[..count]);
                    held.drain(..count);
                    done += count;
                }
                Ok(done)
            })
    }

    /// Whether nothing is in hand.
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.0).is_empty()
    }
}

/// The smallest handshake there is: each end sends one byte and waits for that of the other.
#[derive(Clone)]
pub(crate) struct Hello(Arc<Mutex<Greeting>>);

struct Greeting {
    /// The read handler, to be called when the limit passes.
    handler: Option<AioHandler>,
    timer: Option<Timer>,
    limits: Limits,
    blocking: bool,
    begun: Option<Instant>,
    sent: bool,
    outcome: Option<Result<()>>,
}

const HELLO: u8 = b'h';

impl Hello {
    /// A handshake to come.
    pub(crate) fn new(options: &Options) -> Self {
        let limits = options.limits.clone();
        Self(Arc::new(Mutex::new(Greeting {
            handler: None,
            timer: None,
            limits,
            blocking: true,
            begun: None,
            sent: false,
            outcome: None,
        })))
    }

    /// A channel that opens with this handshake.
    pub(crate) fn over(&self, inner: impl Channel) -> Mutant {
        let [handshake, blocking, read, write, flush, lend, wait, handlers] = std::array::from_fn(|_| self.clone());
        Mutant::over(inner)
            .on_handshake(move |inner| handshake.run(inner, true))
            .on_set_blocking(move |inner, on| {
                lock(&blocking.0).blocking = on;
                inner.set_blocking(on);
            })
            .on_read(move |inner, bufs, fds, flags| {
                read.check("read")?;
                inner.readv_full(bufs, fds, flags)
            })
            .on_write(move |inner, bufs, fds, flags| {
                write.check("write")?;
                inner.writev_full(bufs, fds, flags)
            })
            .on_flush(move |inner| {
                flush.check("flush")?;
                inner.flush()
            })
            .on_with_read_buf(move |inner, take| {
                lend.check("read")?;
                inner.with_read_buf(take)
            })
            .on_set_aio_fd_handler(move |inner, read, write| {
                let mut greeting = lock(&handlers.0);
                match &read {
                    AioChange::Set(handler) | AioChange::Claim(handler) => greeting.handler = Some(handler.clone()),
                    AioChange::Clear => greeting.handler = None,
                    _ => {}
                }
                greeting.arm();
                inner.set_aio_fd_handler(read, write)
            })
            .on_readiness(move |inner, direction| match lock(&wait.0) {
                open if open.outcome.is_some() => inner.readiness(direction),
                greeting => {
                    let deadline = greeting.begun.and_then(|begun| begun.checked_add(greeting.limits.handshake));
                    inner.readiness(Direction::Read).with_deadline(deadline)
                }
            })
    }

    /// Goes on with the handshake, and waits for it in blocking mode; `limited` by its deadline.
    pub(crate) fn run(&self, inner: &dyn Channel, limited: bool) -> Result<()> {
        loop {
            let (stepped, deadline) = {
                let mut greeting = lock(&self.0);
                let begun = *greeting.begun.get_or_insert_with(Instant::now);
                let deadline = if limited { begun.checked_add(greeting.limits.handshake) } else { None };
                let stepped = greeting.step(inner, deadline);
                greeting.arm();
                match &stepped {
                    Ok(()) => return inner.handshake(),
                    Err(error) if error.is_would_block() && greeting.blocking => {}
                    _ => return stepped,
                }
                (stepped, deadline)
            };
            drop(stepped);
            inner.readiness(Direction::Read).block(deadline)?;
        }
    }

    /// Has the next step send the byte once more.
    pub(crate) fn forget(&self) {
        lock(&self.0).sent = false;
    }

    fn check(&self, operation: &'static str) -> Result<()> {
        match &lock(&self.0).outcome {
            Some(outcome) => outcome.clone(),
            None => Err(Error::new(ErrorKind::NotOpen, "memory", "").during(operation)),
        }
    }
}

impl Greeting {
    /// Has the handler called when the limit passes.
    fn arm(&mut self) {
        if self.outcome.is_some() {
            self.handler = None;
        }
        let deadline = self.begun.and_then(|begun| begun.checked_add(self.limits.handshake));
        self.timer = deadline.zip(self.handler.clone()).map(|(deadline, handler)| {
            let callback = handler.callback;
            Timer::set(&handler.context, deadline, move || callback())
        });
    }

    fn step(&mut self, inner: &dyn Channel, deadline: Option<Instant>) -> Result<()> {
        if let Some(outcome) = &self.outcome {
            return outcome.clone();
        }
        let outcome = self.greet(inner, deadline);
        if !outcome.as_ref().is_err_and(Error::is_would_block) {
            self.outcome = Some(outcome.clone());
        }
        outcome
    }

    fn greet(&mut self, inner: &dyn Channel, deadline: Option<Instant>) -> Result<()> {
        let failed = |kind, detail: &'static str| Err(Error::new(kind, "memory", detail).during("handshake"));
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return failed(ErrorKind::TimedOut, "no hello within the limit");
        }
        if !self.sent {
            self.sent = try_write(inner, &[HELLO])? == 1;
        }
        let mut answer = [0];
        match inner.readv_full(&mut [IoSliceMut::new(&mut answer)], None, ReadFlags::DONT_WAIT)? {
            1 if answer[0] == HELLO => Ok(()),
            0 => failed(ErrorKind::UnexpectedEof, "the peer went without a hello"),
            _ => failed(ErrorKind::Protocol, "the peer said something else"),
        }
    }
}
