//! One connection of the echo server: it is given turns, and says after each what it waits for. It knows no event loop.

use std::time::{Duration, Instant};

use channel_stack::{
    Buffer, Channel, ChannelExt, Direction, Error, Interests, Readiness, Result, SocketChannel, find_layer,
};

use super::Summary;

/// A peer whose every byte is sent back.
#[derive(Debug)]
pub(crate) struct Connection {
    channel: Box<dyn Channel>,
    phase: Phase,
    /// Read, and not yet sent back.
    held: Buffer,
    peer_ended: bool,
    failure: Option<Error>,
    /// Whether this peer ever let us wait for room to write.
    stuck: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Opening,
    Echoing,
    /// All was sent back; our own end is on its way.
    Ending,
    /// Both have ended; the peer has yet to hang up, and a little time for that.
    Leaving {
        until: Instant,
    },
    /// Also after a failure: closing is what lets the last words out, which tell the peer why.
    Closing,
    Closed,
}

/// What to do with a connection after its turn.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Nothing can be done until one of these happens.
    Wait(Interests),
    /// There is more to do; it is the others' turn first.
    Again,
    /// It is closed.
    Over,
}

/// Most bytes held for one peer: one that does not read is not read from either.
const HELD: usize = 64 * 1024;
/// Steps in one turn: a peer that always has more for us cannot keep the others waiting.
const STEPS: usize = 16;
/// How long a peer may take to hang up.
const PATIENCE: Duration = Duration::from_secs(2);

impl Connection {
    pub(crate) fn new(channel: Box<dyn Channel>) -> Self {
        channel.set_blocking(false);
        Self { channel, phase: Phase::Opening, held: Buffer::new(), peer_ended: false, failure: None, stuck: false }
    }

    /// Does what can be done now. Without cause it does nothing, so an event too many is harmless.
    ///
    /// Which event it was does not matter: through TLS, a read may wait for room to write. So each turn goes on until every
    /// call it would like to make has said would-block, and only then asks what to wait for: the answer holds until the next
    /// call.
    pub(crate) fn turn(&mut self, summary: &mut Summary) -> Turn {
        summary.turns += 1;
        for step in 0..STEPS {
            match self.step(summary) {
                Ok(()) if self.phase == Phase::Closed => {
                    self.count(summary);
                    return Turn::Over;
                }
                Ok(()) => {}
                Err(error) if error.is_would_block() => {
                    summary.idle_turns += u64::from(step == 0);
                    return match self.wanted() {
                        Readiness::Wait(interests) => Turn::Wait(interests),
                        // The layers have more to do and think that it is the others' turn, as we do with STEPS.
                        Readiness::Ready => Turn::Again,
                    };
                }
                Err(error) => {
                    self.failure.get_or_insert(error);
                    // An error of `close` itself leaves nothing to close.
                    self.phase = if self.phase == Phase::Closing { Phase::Closed } else { Phase::Closing };
                }
            }
        }
        Turn::Again
    }

    /// Gets anywhere, or says would-block.
    fn step(&mut self, summary: &mut Summary) -> Result<()> {
        match self.phase {
            Phase::Opening => {
                self.channel.handshake()?;
                self.phase = Phase::Echoing;
            }
            Phase::Echoing => return self.echo(summary),
            Phase::Ending => {
                self.channel.close_write()?;
                self.phase = Phase::Leaving { until: Instant::now() + PATIENCE };
            }
            Phase::Leaving { until } => {
                if self.has_hung_up(until)? {
                    self.phase = Phase::Closing;
                }
            }
            Phase::Closing => {
                self.channel.close()?;
                self.phase = Phase::Closed;
            }
            Phase::Closed => {}
        }
        Ok(())
    }

    /// Writes and reads once each, as far as there are bytes and room for them.
    fn echo(&mut self, summary: &mut Summary) -> Result<()> {
        let mut moved = false;
        if !self.held.is_empty() {
            match self.channel.write(self.held.as_slice()) {
                Ok(count) => {
                    self.held.consume(count);
                    summary.bytes += count as u64;
                    moved = true;
                }
                Err(error) if error.is_would_block() => self.stuck = true,
                Err(error) => return Err(error),
            }
        }
        if self.has_room() {
            match self.channel.read(self.held.space(HELD / 4)) {
                Ok(count) => {
                    self.held.commit(count);
                    self.peer_ended = count == 0;
                    moved = true;
                }
                Err(error) if error.is_would_block() => {}
                Err(error) => return Err(error),
            }
        }
        if self.peer_ended && self.held.is_empty() {
            self.phase = Phase::Ending; // theirs was a half-close: they still read, up to our own end
            moved = true;
        }
        if moved { Ok(()) } else { Err(Error::WOULD_BLOCK) }
    }

    /// Whether the peer has hung up, below all layers, or has had its time.
    ///
    /// Its Close frame has come, but close_notify and FIN, which follow, need not have. TCP answers what comes after `close`
    /// with a reset, and that takes our last bytes from a peer that has yet to read them (RFC 2525 §2.17).
    fn has_hung_up(&self, until: Instant) -> Result<bool> {
        let Some(socket) = self.socket() else { return Ok(true) };
        let in_time = Instant::now() < until;
        match socket.read(&mut [0; 256]) {
            Ok(count) => Ok(count == 0 || !in_time),
            Err(error) if error.is_would_block() && in_time => Err(error),
            Err(_) => Ok(true),
        }
    }

    fn socket(&self) -> Option<&SocketChannel> {
        find_layer(&*self.channel)
    }

    fn has_room(&self) -> bool {
        !self.peer_ended && self.held.len() < HELD
    }

    /// What must happen before the next step gets anywhere.
    fn wanted(&self) -> Readiness {
        let (read, write) = match self.phase {
            Phase::Opening => (true, false), // opening counts as reading, whichever way its bytes go
            Phase::Echoing => (self.has_room(), !self.held.is_empty()),
            // A deadline of our own goes where those of the layers are.
            Phase::Leaving { until } => {
                let hangs_up = self.socket().map(|socket| socket.readiness(Direction::Read));
                return hangs_up.unwrap_or(Readiness::Ready).with_deadline(Some(until));
            }
            Phase::Ending | Phase::Closing | Phase::Closed => (false, true),
        };
        match (read, write) {
            (true, true) => self.channel.readiness(Direction::Read).or(self.channel.readiness(Direction::Write)),
            (true, false) => self.channel.readiness(Direction::Read),
            (false, _) => self.channel.readiness(Direction::Write),
        }
    }

    fn count(&self, summary: &mut Summary) {
        summary.stuck += usize::from(self.stuck);
        match &self.failure {
            None => summary.echoed += 1,
            Some(error) if error.is_timed_out() => summary.timed_out += 1,
            Some(error) => {
                summary.failed += 1;
                eprintln!("a connection failed: {error}");
            }
        }
    }
}
