//! The conversation, once for both modes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use channel_stack::{AioChannel, Channel, EventLoop};

use super::calls::{Blocking, Calls, Tasks, now};
use super::report::{Journal, error_words, words};
use super::script::{Flood, Mode, Script, Turn, Way};
use crate::Failure;
use crate::content::{self, Checker, LONGEST};

/// How much a flood writes at once.
const PIECE: usize = 64 * 1024;

/// What the reading side has come to.
#[derive(Default)]
pub(super) struct Reading {
    checker: Checker,
    pub(super) received: u64,
    /// Where what came is not what the peer sends.
    pub(super) wrong: Option<String>,
    /// How it ended: `end`, or an error.
    pub(super) how: Option<String>,
    /// What `--echo` sent back.
    echoed: u64,
}

/// What the writing side has come to.
#[derive(Default)]
pub(super) struct Writing {
    pub(super) sent: u64,
    /// The first error of a write.
    pub(super) error: Option<String>,
    pub(super) close_write: Option<String>,
    pub(super) close: Option<String>,
    closing_began: Option<Instant>,
    /// From our first ending call to the return of `close`.
    pub(super) closing_ms: Option<u128>,
}

/// What came of both.
pub(super) struct Outcome {
    pub(super) opening: String,
    pub(super) reading: Reading,
    pub(super) writing: Writing,
}

/// Holds the conversation on `channel`.
pub(super) fn hold(channel: &Arc<dyn Channel>, script: Script, journal: &Arc<Journal>) -> Result<Outcome, Failure> {
    match script.mode {
        Mode::Blocking => {
            let talk = Talk::new(Blocking(Arc::clone(channel)), script, journal);
            blocking(&talk)
        }
        Mode::Tasks => {
            let turning = EventLoop::new()?;
            let talk = Talk::new(Tasks(Arc::new(AioChannel::from_arc(Arc::clone(channel)))), script, journal);
            turning.block_on(tasks(talk, &turning))?
        }
    }
}

fn blocking(talk: &Talk<Blocking>) -> Result<Outcome, Failure> {
    let reading = match now(talk.open()) {
        Ok(reading) => reading,
        Err(failed) => return Ok(*failed),
    };
    if !talk.script.reads() {
        return Ok(now(talk.write_and_end(reading)));
    }
    let reader = talk.clone();
    let reading = thread::spawn(move || now(reader.read(reading)));
    let writing = now(talk.write());
    let reading = reading.join().map_err(|_| "the reading thread panicked")?;
    Ok(now(talk.end(reading, writing)))
}

async fn tasks(talk: Talk<Tasks>, turning: &EventLoop) -> Result<Outcome, Failure> {
    let reading = match talk.open().await {
        Ok(reading) => reading,
        Err(failed) => return Ok(*failed),
    };
    if !talk.script.reads() {
        return Ok(talk.write_and_end(reading).await);
    }
    let reader = talk.clone();
    let reading = turning.spawn(async move { reader.read(reading).await });
    let writing = talk.write().await;
    let reading = reading.await?;
    Ok(talk.end(reading, writing).await)
}

/// What both sides know.
#[derive(Clone)]
struct Talk<C> {
    calls: C,
    script: Script,
    journal: Arc<Journal>,
    /// Something has come from the peer.
    heard: Arc<AtomicBool>,
    /// Reading is over.
    ended: Arc<AtomicBool>,
}

impl<C: Calls> Talk<C> {
    fn new(calls: C, script: Script, journal: &Arc<Journal>) -> Self {
        Self { calls, script, journal: Arc::clone(journal), heard: Arc::default(), ended: Arc::default() }
    }

    /// The handshake, and the first bytes if they are to be waited for.
    async fn open(&self) -> Result<Reading, Box<Outcome>> {
        let mut reading = Reading::default();
        let opened = self.calls.handshake().await;
        let opening = words(&opened);
        self.journal.event(&format!("handshake: {opening}"));
        if opened.is_err() {
            let mut writing = Writing::default();
            self.close(&mut writing).await;
            return Err(Box::new(Outcome { opening, reading, writing }));
        }
        if self.script.hear {
            self.read_once(&mut reading, &mut vec![0; PIECE]).await;
        }
        Ok(reading)
    }

    /// Reads to the end.
    async fn read(self, mut reading: Reading) -> Reading {
        let mut buf = vec![0; PIECE];
        while reading.how.is_none() {
            let count = self.read_once(&mut reading, &mut buf).await;
            if self.script.echo {
                let mut rest = &buf[..count];
                while !rest.is_empty() {
                    match self.calls.write(rest).await {
                        Ok(taken) => {
                            self.journal.moved(taken as u64);
                            reading.echoed += taken as u64;
                            rest = &rest[taken..];
                        }
                        Err(error) => {
                            reading.how = Some(format!("the echo failed: {}", error_words(&error)));
                            break;
                        }
                    }
                }
            }
        }
        self.ended.store(true, Ordering::Release);
        reading
    }

    async fn read_once(&self, reading: &mut Reading, buf: &mut [u8]) -> usize {
        let how = match self.calls.read(buf).await {
            Ok(0) => "end".to_owned(),
            Ok(count) => {
                if !self.heard.swap(true, Ordering::Release) {
                    self.journal.event("first bytes read");
                }
                reading.received += count as u64;
                if reading.wrong.is_none() {
                    reading.wrong = reading.checker.take(&buf[..count]).err().map(|wrong| wrong.to_string());
                }
                self.journal.moved(count as u64);
                return count;
            }
            Err(error) => error_words(&error),
        };
        self.journal.event(&format!("read {} bytes, then: {how}", reading.received));
        reading.how = Some(how);
        0
    }

    /// Writes what is to be written, and ends our output if it is not for the peer to do so first.
    async fn write(&self) -> Writing {
        let mut writing = Writing::default();
        let over = match self.script.flood {
            None => None,
            Some(Flood::UntilHeard) => Some(&self.heard),
            Some(Flood::UntilEnd) => Some(&self.ended),
        };
        if let Some(over) = over {
            while writing.error.is_none() && !over.load(Ordering::Acquire) && !self.ended.load(Ordering::Acquire) {
                self.write_once(&mut writing, PIECE).await;
                self.calls.pause().await;
            }
            self.journal.event(&format!("flood over after {} bytes", writing.sent));
        }
        let mut left = self.script.send;
        while left > 0 && writing.error.is_none() {
            left -= self.write_once(&mut writing, usize::try_from(left).unwrap_or(LONGEST).min(LONGEST)).await;
        }
        self.journal.event(&format!("wrote {} bytes", writing.sent));
        if self.script.turn != Turn::Second {
            self.end_output(&mut writing).await;
        }
        writing
    }

    async fn write_once(&self, writing: &mut Writing, most: usize) -> u64 {
        match self.calls.write(content::at(writing.sent, most)).await {
            Ok(taken) => {
                writing.sent += taken as u64;
                self.journal.moved(taken as u64);
                taken as u64
            }
            Err(error) => {
                let error = error_words(&error);
                self.journal.event(&format!("write failed: {error}"));
                writing.error = Some(error);
                0
            }
        }
    }

    async fn end_output(&self, writing: &mut Writing) {
        writing.closing_began = Some(Instant::now());
        if self.script.way == Way::Close {
            return self.close(writing).await;
        }
        self.journal.event("close_write called");
        let done = words(&self.calls.close_write().await);
        self.journal.event(&format!("close_write: {done}"));
        writing.close_write = Some(done);
    }

    async fn close(&self, writing: &mut Writing) {
        let began = *writing.closing_began.get_or_insert_with(Instant::now);
        self.journal.event("close called");
        let done = words(&self.calls.close().await);
        self.journal.event(&format!("close: {done}"));
        writing.close = Some(done);
        writing.closing_ms = Some(began.elapsed().as_millis());
    }

    /// What is left to do when both directions are through.
    async fn end(&self, reading: Reading, mut writing: Writing) -> Outcome {
        writing.sent += reading.echoed;
        if self.script.turn == Turn::Second {
            self.end_output(&mut writing).await;
        }
        if writing.close.is_none() {
            self.close(&mut writing).await;
        }
        Outcome { opening: "ok".to_owned(), reading, writing }
    }

    async fn write_and_end(&self, reading: Reading) -> Outcome {
        let writing = self.write().await;
        self.end(reading, writing).await
    }
}
