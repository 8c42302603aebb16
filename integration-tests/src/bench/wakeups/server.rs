//! The measured side: connections on one loop, each with its stack, that send back what they get.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use channel_core::{AioChange, AioChannel, AioHandler, Channel, ChannelExt, EventLoop, Task};

use super::{MESSAGE, Serving};
use crate::Failure;

/// A loop and its connections. One thread runs it.
pub(super) struct Server {
    event_loop: EventLoop,
    tally: Arc<Tally>,
    handled: Vec<Arc<Connection>>,
    tasks: Vec<Task<()>>,
}

/// What the connections of a loop did.
#[derive(Default)]
struct Tally {
    /// Messages read, each by one call of a handler, or one wake-up of a task.
    events: AtomicU64,
    /// Connections that have answered their first message.
    greeted: AtomicUsize,
    failure: OnceLock<String>,
}

impl Server {
    pub(super) fn new() -> Result<Self, Failure> {
        Ok(Self { event_loop: EventLoop::new()?, tally: Arc::default(), handled: Vec::new(), tasks: Vec::new() })
    }

    pub(super) fn event_loop(&self) -> &EventLoop {
        &self.event_loop
    }

    /// Adds a connection, whose handshake and echoes happen when the loop runs.
    pub(super) fn add(&mut self, channel: Box<dyn Channel>, mode: Serving) -> Result<(), Failure> {
        let tally = Arc::clone(&self.tally);
        match mode {
            Serving::Handlers => {
                channel.set_blocking(false);
                let connection = Arc::new(Connection { channel, tally, is_open: false.into(), greeted: false.into() });
                let called = Arc::clone(&connection);
                let handler = AioHandler::new(self.event_loop.handle(), move || {
                    called.tally.note(called.progress());
                });
                drop(connection.channel.set_aio_fd_handler(AioChange::Set(handler), AioChange::Keep)?);
                connection.progress()?;
                self.handled.push(connection);
            }
            Serving::Tasks => {
                let channel = AioChannel::new(channel);
                self.tasks.push(self.event_loop.spawn(async move { tally.note(echo(&channel, &tally).await) }));
            }
        }
        Ok(())
    }

    /// How many connections have answered their first message.
    pub(super) fn greeted(&self) -> usize {
        self.tally.greeted.load(Ordering::Relaxed)
    }

    /// How many messages were read so far.
    pub(super) fn events(&self) -> u64 {
        self.tally.events.load(Ordering::Relaxed)
    }

    /// Runs the loop until `time` has passed or `done`; how many turns had something to do. Each is one return of
    /// epoll_wait(2).
    pub(super) fn run(&self, time: Duration, done: impl Fn() -> bool) -> Result<u64, Failure> {
        let deadline = Instant::now() + time;
        let mut turns = 0;
        while !done() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            turns += u64::from(self.event_loop.run_once(Some(left))? > 0);
            if let Some(failure) = self.tally.failure.get() {
                return Err(format!("server: {failure}").into());
            }
        }
        Ok(turns)
    }

    /// Ends the run with `failure`.
    pub(super) fn failing(&self) -> impl Fn(Failure) + Send + Sync + use<> {
        let tally = Arc::clone(&self.tally);
        move |failure| tally.note(Err(failure))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Handlers hold their connections, which hold the handlers; a task that is cancelled goes in the loop's next turns.
        for connection in &self.handled {
            let _ = connection.channel.set_aio_fd_handler(AioChange::Clear, AioChange::Clear);
        }
        self.tasks.clear();
        while self.event_loop.run_once(Some(Duration::ZERO)).is_ok_and(|ran| ran > 0) {}
    }
}

impl Tally {
    fn note(&self, result: Result<(), Failure>) {
        if let Err(failure) = result {
            // What went wrong first is what is told.
            let _ = self.failure.set(failure.to_string());
        }
    }
}

/// A connection served by a handler.
struct Connection {
    channel: Box<dyn Channel>,
    tally: Arc<Tally>,
    is_open: AtomicBool,
    greeted: AtomicBool,
}

impl Connection {
    /// One call of the handler: one step of the handshake, or one message.
    fn progress(&self) -> Result<(), Failure> {
        if !self.is_open.load(Ordering::Relaxed) {
            match self.channel.handshake() {
                Ok(()) => self.is_open.store(true, Ordering::Relaxed),
                Err(error) if error.is_would_block() => {}
                Err(error) => return Err(error.into()),
            }
            return Ok(());
        }
        let mut message = [0; MESSAGE];
        match self.channel.read(&mut message) {
            Ok(0) => return Err("a client ended its connection".into()),
            Ok(count) => {
                self.tally.events.fetch_add(1, Ordering::Relaxed);
                // There is room: a client waits for this before it says more.
                self.channel.write_all(&message[..count])?;
            }
            Err(error) if error.is_would_block() => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        if !self.greeted.load(Ordering::Relaxed) {
            self.greeted.store(true, Ordering::Relaxed);
            self.tally.greeted.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// A connection served by a task.
async fn echo(channel: &AioChannel, tally: &Tally) -> Result<(), Failure> {
    channel.handshake().await?;
    let mut message = [0; MESSAGE];
    let mut is_first = true;
    loop {
        let count = channel.read(&mut message).await?;
        if count == 0 {
            return Err("a client ended its connection".into());
        }
        tally.events.fetch_add(1, Ordering::Relaxed);
        channel.write_all(&message[..count]).await?;
        if std::mem::take(&mut is_first) {
            tally.greeted.fetch_add(1, Ordering::Relaxed);
        }
    }
}
