//! The threads that move the bytes: one reader and one writer on each side, all four at once.
//!
//! Nobody waits for ever. Whoever fails shuts its channel down, which wakes the other thread on its side, and the peer's reader
//! by the end of the stream, which then does the same. A writer that is done ends its output, so a reader that still wants more
//! finds the end.

use std::panic::resume_unwind;
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use channel_stack::{Channel, ChannelExt, Shutdown, layers};

use crate::digest::{Digest, Tally};
use crate::input::{Input, Source};
use crate::progress::Progress;
use crate::verdict::{Act, Cause, Failure, Failures, Side};

/// Bytes per write, and the most per read.
const CHUNK: usize = 256 * 1024;

/// One side of the connection, and where it tells its failures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End<'a> {
    pub(crate) side: Side,
    pub(crate) channel: &'a dyn Channel,
    pub(crate) failures: &'a Failures,
}

/// One direction of the stream.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) label: &'static str,
    pub(crate) sent: Digest,
    pub(crate) received: Digest,
    /// From the first byte sent to the end of the stream.
    pub(crate) elapsed: Duration,
}

impl Flow {
    pub(crate) fn is_intact(&self) -> bool {
        self.sent == self.received
    }

    /// Millions of bytes that arrived per second.
    pub(crate) fn megabytes_per_second(&self) -> f64 {
        self.received.bytes as f64 / self.elapsed.max(Duration::from_micros(1)).as_secs_f64() / 1e6
    }
}

/// Opens both ends at once.
pub(crate) fn open(client: End<'_>, server: End<'_>) {
    thread::scope(|scope| {
        let threads = [client, server].map(|end| start(scope, end, Act::Opening, move || end.open()));
        threads.into_iter().for_each(join);
    });
}

/// Sends `bytes` bytes of `input` each way at once, from its start to the server and from its middle to the client, so that
/// bytes which went astray into the other direction would be seen.
pub(crate) fn stream(client: End<'_>, server: End<'_>, input: &Input, bytes: u64, progress: &Progress) -> [Flow; 2] {
    let started = Instant::now();
    thread::scope(|scope| {
        let up_sent = start(scope, client, Act::Sending, move || client.send(input.start(bytes)));
        let down_sent = start(scope, server, Act::Sending, move || server.send(input.middle(bytes)));
        let up_received = start(scope, server, Act::Receiving, move || server.receive(bytes, started, progress));
        let down_received = start(scope, client, Act::Receiving, move || client.receive(bytes, started, progress));
        let flow = |label, sent, received| {
            let (received, elapsed) = join(received);
            Flow { label, sent: join(sent), received, elapsed }
        };
        [flow("client -> server", up_sent, up_received), flow("server -> client", down_sent, down_received)]
    })
}

/// Closes both ends, once everything has arrived on both.
pub(crate) fn close(client: End<'_>, server: End<'_>) {
    for end in [client, server] {
        if let Err(error) = end.channel.close() {
            end.fail(Act::Closing, Cause::Channel(error));
        }
    }
}

impl End<'_> {
    fn open(self) {
        if let Err(error) = self.channel.handshake() {
            self.fail(Act::Opening, Cause::Channel(error));
        }
    }

    fn send(self, mut source: Source<'_>) -> Digest {
        let mut tally = Tally::default();
        loop {
            let part = match source.next(CHUNK) {
                Ok([]) => break,
                Ok(part) => part,
                Err(error) => {
                    self.fail(Act::Sending, Cause::System(error));
                    return tally.finish();
                }
            };
            if let Err(error) = self.channel.write_all(part) {
                self.fail(Act::Sending, Cause::Channel(error));
                return tally.finish();
            }
            tally.add(part); // after the write, so that the peer has something to do meanwhile
        }
        if let Err(error) = self.channel.close_write() {
            self.fail(Act::Sending, Cause::Channel(error));
        }
        tally.finish()
    }

    /// Reads to the end of the stream, however far it is: a damaged stream may well be longer than it should.
    fn receive(self, expected: u64, started: Instant, progress: &Progress) -> (Digest, Duration) {
        let mut tally = Tally::default();
        let mut buffer = vec![0; CHUNK];
        loop {
            match self.channel.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    tally.add(buffer.get(..count).unwrap_or_default());
                    progress.arrived(count);
                }
                Err(error) => {
                    self.fail(Act::Receiving, Cause::Channel(error));
                    return (tally.finish(), started.elapsed());
                }
            }
        }
        if tally.bytes() < expected {
            // A peer that believes we still read would wait for ever.
            self.fail(Act::Receiving, Cause::Short { got: tally.bytes(), expected });
        }
        (tally.finish(), started.elapsed())
    }

    /// Tells why this side cannot go on, and wakes everybody who waits for it.
    fn fail(self, act: Act, cause: Cause) {
        let depth = match &cause {
            Cause::Channel(error) => layers(self.channel).position(|layer| layer.layer() == error.layer()),
            _ => None,
        };
        self.failures.push(Failure { side: self.side, act, cause, depth: depth.unwrap_or(0) });
        self.shutdown();
    }

    fn shutdown(self) {
        // A channel that cannot be shut down any more is closed already, and nobody waits in it.
        let _ = self.channel.shutdown(Shutdown::Both);
    }
}

/// Shuts a channel down if the thread that uses it panics, so that nobody waits for what never comes.
struct ShutdownOnPanic<'a>(End<'a>);

impl Drop for ShutdownOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.shutdown();
        }
    }
}

/// Starts a thread of one side. Where the system has no thread left, that side fails.
fn start<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    end: End<'scope>,
    act: Act,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Option<ScopedJoinHandle<'scope, T>> {
    let name = format!("{} {act:?}", end.side).to_lowercase();
    let started = thread::Builder::new().name(name).spawn_scoped(scope, move || {
        let _guard = ShutdownOnPanic(end);
        work()
    });
    started.map_err(|error| end.fail(act, Cause::System(error))).ok()
}

/// What the thread returned; nothing, if there was none. A panic goes on here.
fn join<T: Default>(thread: Option<ScopedJoinHandle<'_, T>>) -> T {
    thread.map_or_else(T::default, |thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
}
