//! A peer that plays a script.

use std::fmt;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use channel_core::{Channel, ChannelExt, Direction, Error, ReadFlags, WriteFlags};

/// What a scripted peer does, step by step, on a raw channel: what the peer of the channel under test sends may break its
/// protocol in any way.
///
/// ```
/// use channel_core::{ChannelExt, MemoryChannel};
/// use channel_testkit::script::Script;
///
/// let (near, far) = MemoryChannel::pair()?;
/// let peer = Script::new().expect(b"ping").send(b"pong").close_write().play(Box::new(far));
/// near.write_all(b"ping")?;
/// let mut answer = [0; 4];
/// near.read_all(&mut answer)?;
/// assert_eq!(&answer, b"pong");
/// peer.finish();
/// # Ok::<(), channel_core::Error>(())
/// ```
#[must_use = "a script does nothing until it is played"]
pub struct Script {
    steps: Vec<Step>,
    patience: Duration,
}

enum Step {
    Expect(Vec<u8>),
    ExpectUntil(Vec<u8>),
    Skip(usize),
    ExpectEnd,
    Send(Vec<u8>),
    SendByByte(Vec<u8>),
    CloseWrite,
    Close,
    Then(Own),
}

/// A step of the test's own.
type Own = Box<dyn FnOnce(&dyn Channel) -> Result<(), String> + Send>;

/// How long a peer waits within one step unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(10);

impl Script {
    /// A script without steps.
    pub fn new() -> Self {
        Self { steps: Vec::new(), patience: PATIENCE }
    }

    /// Reads exactly these bytes.
    pub fn expect(self, bytes: impl AsRef<[u8]>) -> Self {
        self.step(Step::Expect(bytes.as_ref().to_vec()))
    }

    /// Reads until `terminator` has come, such as the blank line after an HTTP head, and no byte more.
    pub fn expect_until(self, terminator: impl AsRef<[u8]>) -> Self {
        self.step(Step::ExpectUntil(terminator.as_ref().to_vec()))
    }

    /// Reads `count` bytes, whatever they are.
    pub fn skip(self, count: usize) -> Self {
        self.step(Step::Skip(count))
    }

    /// Reads the clean end of the stream.
    pub fn expect_end(self) -> Self {
        self.step(Step::ExpectEnd)
    }

    /// Sends these bytes.
    pub fn send(self, bytes: impl AsRef<[u8]>) -> Self {
        self.step(Step::Send(bytes.as_ref().to_vec()))
    }

    /// Sends these bytes, each in a write of its own.
    pub fn send_by_byte(self, bytes: impl AsRef<[u8]>) -> Self {
        self.step(Step::SendByByte(bytes.as_ref().to_vec()))
    }

    /// Ends the peer's output; its input stays open.
    pub fn close_write(self) -> Self {
        self.step(Step::CloseWrite)
    }

    /// Closes the peer's channel.
    pub fn close(self) -> Self {
        self.step(Step::Close)
    }

    /// Anything else, such as an answer that must be computed; an error it returns is reported as a mismatch. The channel is
    /// in non-blocking mode.
    pub fn then(self, step: impl FnOnce(&dyn Channel) -> Result<(), String> + Send + 'static) -> Self {
        self.step(Step::Then(Box::new(step)))
    }

    /// How long the peer waits within one step before it gives up; 10 seconds unless this says otherwise.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Plays the script on `channel`, on a thread of its own.
    ///
    /// # Panics
    /// If no thread can be had.
    pub fn play(self, channel: Box<dyn Channel>) -> Playing {
        let thread = thread::Builder::new().name("scripted peer".to_owned());
        Playing(thread.spawn(move || self.perform(channel)).expect("a thread for the scripted peer"))
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    fn perform(self, channel: Box<dyn Channel>) -> Result<Box<dyn Channel>, Mismatch> {
        channel.set_blocking(false);
        for (index, step) in self.steps.into_iter().enumerate() {
            let what = step.to_string();
            let mut turn = Turn { channel: &*channel, deadline: Instant::now() + self.patience, seen: Vec::new() };
            if let Err(why) = turn.perform(step) {
                return Err(Mismatch(format!("step {} ({what}): {why}", index + 1)));
            }
        }
        Ok(channel)
    }
}

impl Default for Script {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.steps.iter().map(ToString::to_string)).finish()
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expect(bytes) => write!(f, "expect {} bytes", bytes.len()),
            Self::ExpectUntil(terminator) => write!(f, "expect all until {:?}", terminator.escape_ascii().to_string()),
            Self::Skip(count) => write!(f, "skip {count} bytes"),
            Self::ExpectEnd => f.write_str("expect the end"),
            Self::Send(bytes) => write!(f, "send {} bytes", bytes.len()),
            Self::SendByByte(bytes) => write!(f, "send {} bytes one by one", bytes.len()),
            Self::CloseWrite => f.write_str("close_write"),
            Self::Close => f.write_str("close"),
            Self::Then(_) => f.write_str("a step of the test's own"),
        }
    }
}

/// A script being played.
#[derive(Debug)]
#[must_use = "only `finish` or `outcome` tells whether the script was kept to"]
pub struct Playing(JoinHandle<Result<Box<dyn Channel>, Mismatch>>);

impl Playing {
    /// Waits for the last step and gives the peer's channel back, in non-blocking mode.
    ///
    /// # Panics
    /// If the script was not kept to, with what was expected and what came, in hexadecimal.
    pub fn finish(self) -> Box<dyn Channel> {
        match self.outcome() {
            Ok(channel) => channel,
            Err(mismatch) => panic!("{mismatch}"),
        }
    }

    /// As [`finish`](Self::finish), with a mismatch as a value.
    ///
    /// # Errors
    /// What was not as the script has it.
    ///
    /// # Panics
    /// If a [`Script::then`] step did.
    pub fn outcome(self) -> Result<Box<dyn Channel>, Mismatch> {
        self.0.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Where what happened parted from the script.
#[derive(Clone, PartialEq, Eq)]
pub struct Mismatch(String);

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the scripted peer: {}", self.0)
    }
}

impl fmt::Debug for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Mismatch {}

/// One step under way.
struct Turn<'a> {
    channel: &'a dyn Channel,
    deadline: Instant,
    seen: Vec<u8>,
}

impl Turn<'_> {
    fn perform(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Expect(bytes) => self.expect(&bytes),
            Step::ExpectUntil(terminator) => self.read_until(|seen| seen.ends_with(&terminator)),
            Step::Skip(count) => self.read_until(|seen| seen.len() >= count),
            Step::ExpectEnd => match self.read_byte()? {
                None => Ok(()),
                Some(byte) => Err(format!("byte {byte:02x} came instead of the end")),
            },
            Step::Send(bytes) => self.send(&bytes),
            Step::SendByByte(bytes) => bytes.chunks(1).try_for_each(|byte| self.send(byte)),
            Step::CloseWrite => self.repeat(Direction::Write, "close_write", Channel::close_write),
            Step::Close => self.repeat(Direction::Write, "close", Channel::close),
            Step::Then(step) => step(self.channel),
        }
    }

    fn expect(&mut self, bytes: &[u8]) -> Result<(), String> {
        let read = self.read_until(|seen| seen.len() >= bytes.len() || !bytes.starts_with(seen));
        if self.seen == bytes {
            return Ok(());
        }
        let common = self.seen.iter().zip(bytes).take_while(|(seen, expected)| seen == expected).count();
        let why = read.err().unwrap_or_else(|| format!("byte {common} differs"));
        Err(format!("{why}\nexpected: {}\nreceived: {}", hex(bytes, common), hex(&self.seen, common)))
    }

    /// Reads byte by byte, so that the next step finds what follows.
    fn read_until(&mut self, done: impl Fn(&[u8]) -> bool) -> Result<(), String> {
        while !done(&self.seen) {
            let Some(byte) = self.read_byte()? else {
                return Err(format!("the stream ended after {} bytes", self.seen.len()));
            };
            self.seen.push(byte);
        }
        Ok(())
    }

    fn read_byte(&mut self) -> Result<Option<u8>, String> {
        let mut byte = [0];
        let mut count = 0;
        self.repeat(Direction::Read, "read", |channel| {
            let mut bufs = [std::io::IoSliceMut::new(&mut byte)];
            count = channel.readv_full(&mut bufs, None, ReadFlags::DONT_WAIT)?;
            Ok(())
        })?;
        Ok((count == 1).then_some(byte[0]))
    }

    fn send(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            let mut count = 0;
            self.repeat(Direction::Write, "write", |channel| {
                count = channel.writev_full(&[std::io::IoSlice::new(bytes)], &[], WriteFlags::DONT_WAIT)?;
                Ok(())
            })?;
            bytes = &bytes[count..];
        }
        self.repeat(Direction::Write, "flush", Channel::flush)
    }

    /// Calls `attempt` until it gives anything but would-block, or patience ends.
    fn repeat(
        &self,
        direction: Direction,
        operation: &str,
        mut attempt: impl FnMut(&dyn Channel) -> Result<(), Error>,
    ) -> Result<(), String> {
        loop {
            match attempt(self.channel) {
                Err(error) if error.is_would_block() => {}
                done => return done.map_err(|error| format!("{operation} failed: {error}")),
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            match self.channel.wait(direction, Some(left)) {
                Ok(true) => {}
                Ok(false) => return Err(format!("{operation}: waited in vain; {} bytes had come", self.seen.len())),
                Err(error) => return Err(format!("wait failed: {error}")),
            }
        }
    }
}

/// How many bytes a message shows on either side of the first that differs.
const SHOWN: usize = 32;

/// Bytes around `at` in hexadecimal, the one at `at` in brackets.
fn hex(bytes: &[u8], at: usize) -> String {
    let from = at.saturating_sub(SHOWN);
    let to = bytes.len().min(at.saturating_add(SHOWN));
    let mut text = if from > 0 { format!("({from} bytes) ") } else { String::new() };
    for (index, byte) in bytes.iter().enumerate().take(to).skip(from) {
        text.push_str(&if index == at { format!("[{byte:02x}] ") } else { format!("{byte:02x} ") });
    }
    if to < bytes.len() {
        text.push_str(&format!("({} bytes)", bytes.len() - to));
    }
    text.trim_end().to_owned()
}
