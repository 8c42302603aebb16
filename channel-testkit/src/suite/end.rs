//! One end of a pair, driven in a mode, and threads whose sleep can be seen.

use std::fmt;
use std::ops::Deref;
use std::panic::resume_unwind;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use channel_core::{Channel, ChannelExt, Direction, Features, ReadFlags, Readiness, Result, WriteFlags, layers};
use std::io::{IoSlice, IoSliceMut};

use super::drive;
use super::setup::{Mode, Run};
use crate::thread_state;

/// More than any stack may hold of output that its peer does not read: kernel buffers and the bounds of a few layers.
pub(super) const UNBOUNDED: usize = 16 << 20;

/// One end of a pair. It is the channel, plus the calls that wait as the mode wants it.
#[derive(Clone)]
pub(super) struct End {
    channel: Arc<dyn Channel>,
    mode: Mode,
    run: Arc<Run>,
}

impl Deref for End {
    type Target = dyn Channel;

    fn deref(&self) -> &Self::Target {
        &*self.channel
    }
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.channel.fmt(f)
    }
}

impl End {
    pub(super) fn new(channel: Arc<dyn Channel>, mode: Mode, run: Arc<Run>) -> Self {
        Self { channel, mode, run }
    }

    pub(super) fn channel(&self) -> &Arc<dyn Channel> {
        &self.channel
    }

    /// Puts a channel that is as its constructor left it into the mode it is driven in.
    pub(super) fn apply_mode(&self) {
        if self.mode != Mode::Blocking {
            self.channel.set_blocking(false);
        }
    }

    /// The same channel, which is in another mode than the one of the test.
    pub(super) fn driven_as(&self, mode: Mode) -> Self {
        Self { mode, ..self.clone() }
    }

    /// The same channel, put into another mode.
    pub(super) fn in_mode(&self, mode: Mode) -> Self {
        self.channel.set_blocking(mode == Mode::Blocking);
        self.driven_as(mode)
    }

    pub(super) fn step(&self, step: &'static str) {
        self.run.step(step);
    }

    /// Runs `attempt` to its end as the mode wants it. In blocking mode the call itself waits, and would-block is passed on
    /// as the failure it is.
    pub(super) fn drive<T>(
        &self,
        direction: Direction,
        mut attempt: impl FnMut(&dyn Channel) -> Result<T>,
    ) -> Result<T> {
        match self.mode {
            Mode::Blocking => {
                self.run.check();
                attempt(&*self.channel)
            }
            Mode::NonBlocking => self.poll(direction, attempt),
            Mode::EventLoop => drive::on_event_loop(&self.channel, direction, self.checked(attempt)),
            #[cfg(feature = "tokio")]
            Mode::Tokio => drive::under_tokio::drive(&self.channel, direction, self.checked(attempt)),
        }
    }

    fn checked<T>(&self, mut attempt: impl FnMut(&dyn Channel) -> Result<T>) -> impl FnMut(&dyn Channel) -> Result<T> {
        move |channel| {
            self.run.check();
            attempt(channel)
        }
    }

    /// The same channel, whose handlers a test sets itself: it is driven without any.
    pub(super) fn without_handlers(self) -> Self {
        match self.mode {
            Mode::Blocking => self,
            _ => Self { mode: Mode::NonBlocking, ..self },
        }
    }

    /// As [`drive`](Self::drive), for an attempt that never waits itself, whatever the mode.
    pub(super) fn poll<T>(
        &self,
        direction: Direction,
        mut attempt: impl FnMut(&dyn Channel) -> Result<T>,
    ) -> Result<T> {
        loop {
            self.run.check();
            match attempt(&*self.channel) {
                Err(error) if error.is_would_block() => self.channel.wait(direction, None)?,
                done => return done,
            };
        }
    }

    /// Ends the calling thread if the clause was given up meanwhile.
    pub(super) fn drive_on(&self) {
        self.run.check();
    }

    pub(super) fn open(&self) {
        let opened = self.drive(Direction::Read, Channel::handshake);
        opened.unwrap_or_else(|error| panic!("the handshake failed: {error:?}"));
    }

    /// One read that waits.
    pub(super) fn read_some(&self, buf: &mut [u8]) -> Result<usize> {
        #[cfg(feature = "tokio")]
        if self.mode == Mode::Tokio {
            return drive::under_tokio::read(&self.channel, buf);
        }
        self.drive(Direction::Read, |channel| channel.read(buf))
    }

    /// One write that waits.
    pub(super) fn write_some(&self, bytes: &[u8]) -> Result<usize> {
        #[cfg(feature = "tokio")]
        if self.mode == Mode::Tokio {
            return drive::under_tokio::write(&self.channel, bytes);
        }
        self.drive(Direction::Write, |channel| channel.write(bytes))
    }

    /// Writes that wait, until all is taken; no flush.
    pub(super) fn write_whole(&self, bytes: &[u8]) -> Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            let count = self.write_some(&bytes[done..])?;
            assert!(count > 0, "a write of {} bytes took none and was no error", bytes.len() - done);
            done += count;
        }
        Ok(())
    }

    /// One read that does not wait.
    pub(super) fn try_read(&self, buf: &mut [u8]) -> Result<usize> {
        self.channel.readv_full(&mut [IoSliceMut::new(buf)], None, ReadFlags::DONT_WAIT)
    }

    /// One write that does not wait.
    pub(super) fn try_write(&self, bytes: &[u8]) -> Result<usize> {
        self.channel.writev_full(&[IoSlice::new(bytes)], &[], WriteFlags::DONT_WAIT)
    }

    pub(super) fn flush_all(&self) -> Result<()> {
        self.drive(Direction::Write, Channel::flush)
    }

    /// Sends all of `bytes` on their way, or fails the clause.
    pub(super) fn put(&self, bytes: &[u8]) {
        self.write_whole(bytes).unwrap_or_else(|error| panic!("a write failed: {error:?}"));
        self.flush_all().unwrap_or_else(|error| panic!("a flush failed: {error:?}"));
    }

    /// Receives exactly `count` bytes, or fails the clause.
    pub(super) fn take(&self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let mut done = 0;
        while done < count {
            match self.read_some(&mut bytes[done..]) {
                Ok(0) => panic!("the stream ended after {done} of {count} bytes"),
                Ok(more) => done += more,
                Err(error) => panic!("a read failed after {done} of {count} bytes: {error:?}"),
            }
        }
        bytes
    }

    /// Receives until the stream ends in any way: the bytes, and how it ended.
    pub(super) fn take_to_end(&self) -> (Vec<u8>, Result<()>) {
        let mut bytes = Vec::new();
        let mut buf = [0; 4096];
        loop {
            match self.read_some(&mut buf) {
                Ok(0) => return (bytes, Ok(())),
                Ok(count) => bytes.extend_from_slice(&buf[..count]),
                Err(error) => return (bytes, Err(error)),
            }
            assert!(bytes.len() <= 4 * UNBOUNDED, "the stream goes on after {} bytes", bytes.len());
        }
    }

    /// Writes the test stream from position `from` on until the channel is full, and stays so, and returns how many bytes it
    /// took: all it can hold, or `most`.
    pub(super) fn fill(&self, from: usize, most: usize) -> usize {
        // One would-block may have no reason, and the system moves bytes on by itself for a while.
        const SETTLED: Duration = Duration::from_millis(10);
        let (mut taken, mut fruitless) = (0, 0);
        while taken < most && fruitless < 5 {
            let more = self.fill_once(from + taken, most - taken);
            taken += more;
            fruitless = if more > 0 { 0 } else { fruitless + 1 };
            if !self.channel.wait(Direction::Write, Some(SETTLED)).expect("a wait") {
                break;
            }
        }
        taken
    }

    /// As [`fill`](Self::fill), up to the first would-block.
    pub(super) fn fill_once(&self, from: usize, most: usize) -> usize {
        let mut taken = 0;
        while taken < most {
            let piece = stream(from + taken, 4096.min(most - taken));
            match self.try_write(&piece) {
                Ok(count) => taken += count,
                Err(error) if error.is_would_block() => break,
                Err(error) => panic!("a write failed after {taken} bytes: {error:?}"),
            }
        }
        taken
    }

    /// Ends our output so that the peer sees a clean end: `close_write`, or `close` where that is missing.
    pub(super) fn end_output(&self) {
        let ended = if self.has_feature(Features::CLOSE_WRITE) {
            self.drive(Direction::Write, Channel::close_write)
        } else {
            self.close()
        };
        ended.unwrap_or_else(|error| panic!("ending the output failed: {error:?}"));
    }

    /// Closes, and waits for it as the mode has it.
    pub(super) fn close(&self) -> Result<()> {
        match self.mode {
            Mode::Blocking => self.channel.close(),
            Mode::NonBlocking => self.poll(Direction::Write, Channel::close),
            Mode::EventLoop => drive::close_on_event_loop(&self.channel),
            #[cfg(feature = "tokio")]
            Mode::Tokio => drive::under_tokio::close(&self.channel),
        }
    }

    /// What a peer does in the background: reads to the end, then closes, too; what it read, and how that ended.
    pub(super) fn answer(&self) -> Task<(Vec<u8>, Result<()>)> {
        let end = self.clone();
        Task::spawn(move || {
            let read = end.take_to_end();
            // Of an end whose peer is gone by then it may say so; that is the other's clause.
            let _ = end.close();
            read
        })
    }

    /// Whether reading goes on after `close_write` in every layer, so that the end of the lowest channel follows at once.
    pub(super) fn half_closes(&self) -> bool {
        layers(&*self.channel).all(|layer| layer.features().contains(Features::HALF_CLOSE))
    }

    /// Reads without waiting, and fails the clause unless that would block.
    pub(super) fn expect_nothing(&self) {
        let mut buf = [0; 64];
        match self.try_read(&mut buf) {
            Err(error) if error.is_would_block() => {}
            Ok(count) => panic!("nothing was to be read, but a read returned {:?}", &buf[..count]),
            Err(error) => panic!("nothing was to be read, and a read failed: {error:?}"),
        }
    }
}

/// The test stream: `count` bytes from position `from` on. Each byte tells its position, so that one lost, repeated, or out of
/// order is noticed at once.
pub(super) fn stream(from: usize, count: usize) -> Vec<u8> {
    (from..from + count).map(byte_at).collect()
}

fn byte_at(position: usize) -> u8 {
    let mixed = (position as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as u8
}

/// Fails the clause unless `bytes` are the test stream from position `from` on.
#[track_caller]
pub(super) fn assert_stream(from: usize, bytes: &[u8]) {
    if let Some(at) = bytes.iter().enumerate().position(|(i, byte)| *byte != byte_at(from + i)) {
        let wrong = &bytes[at..bytes.len().min(at + 8)];
        panic!(
            "byte {} of the stream is wrong: {wrong:?} where {:?} was sent",
            from + at,
            stream(from + at, wrong.len())
        );
    }
}

/// Waits until one of the ends can go on in its direction; for a moment only, as the answer holds until somebody calls the channel.
pub(super) fn wait_for_any(ends: &[(&End, Direction)]) {
    const MOMENT: Duration = Duration::from_millis(20);
    let answers = ends.iter().map(|(end, direction)| {
        end.drive_on();
        end.readiness(*direction)
    });
    let any = answers.reduce(Readiness::or).unwrap_or(Readiness::Ready);
    any.block(Some(Instant::now() + MOMENT)).expect("a wait");
}

/// A thread of a clause. Dropping it leaves the thread alone.
pub(super) struct Task<T> {
    handle: JoinHandle<T>,
    /// Its number in `/proc/self/task`.
    number: String,
}

impl<T: Send + 'static> Task<T> {
    pub(super) fn spawn(body: impl FnOnce() -> T + Send + 'static) -> Self {
        let (tell, told) = mpsc::channel();
        let begin = move || {
            let _ = tell.send(thread_state::own());
            body()
        };
        let handle = thread::Builder::new().name("suite-task".to_owned()).spawn(begin).expect("a thread");
        let number = told.recv().expect("the thread runs");
        Self { handle, number }
    }

    /// Waits until the thread sleeps, in the call that it was started for. Not for ever: where that cannot be seen, and where it runs and
    /// runs instead, a clause must hold all the same.
    pub(super) fn until_asleep(&self) -> &Self {
        const LONG: Duration = Duration::from_millis(500);
        let (begun, before) = (Instant::now(), thread_state::scheduled(&self.number).0);
        let mut seen = 0;
        while seen < 3 && !self.handle.is_finished() {
            let sleeps = thread_state::sleeps(&self.number).unwrap_or_default();
            seen = if sleeps { seen + 1 } else { 0 };
            if begun.elapsed() > LONG {
                // A thread that waits for a processor has not come to its call yet, however long that takes.
                let (ran, waited) = thread_state::scheduled(&self.number);
                if waited.is_zero() || ran.saturating_sub(before) > LONG {
                    break;
                }
            }
            thread::sleep(Duration::from_micros(100));
        }
        self
    }

    pub(super) fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// Waits for the thread, and fails as it did.
    pub(super) fn join(self) -> T {
        self.handle.join().unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// As [`join`](Self::join), for a thread that waits until all it sent is gone, where `end` has all the plaintext of it: a layer may
    /// send more behind that, and `end` reads on, and fails the clause if it finds more plaintext.
    pub(super) fn join_while_reading(self, end: &End) -> T {
        while !self.is_finished() {
            end.drive_on();
            end.expect_nothing();
            end.wait(Direction::Read, Some(Duration::from_millis(1))).expect("a wait");
        }
        self.join()
    }
}

/// A small deterministic generator (splitmix64), for cuts that are random and the same each time.
#[derive(Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    /// A number below `bound`.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}
