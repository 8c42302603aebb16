//! One connection of the echo server: it is given turns, and says after each what it waits for. It knows no event loop.

use std::sync::Arc;
use std::time::Instant;

use channel_stack::{Buffer, Channel, ChannelExt, Direction, Error, Interests, Limits, Readiness, Result};

use super::Summary;

/// A peer whose every byte is sent back.
#[derive(Debug)]
pub(crate) struct Connection {
    channel: Arc<dyn Channel>,
    phase: Phase,
    /// Read, and not yet sent back.
    held: Buffer,
    peer_ended: bool,
    failure: Option<Error>,
    /// Whether this peer ever let us wait for room to write.
    stuck: bool,
    /// Whether its handshake was completed.
    opened: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Opening,
    Echoing,
    /// All was sent back: our own end goes out, and then the ends below come. Also after a failure: closing is what lets the last words
    /// out, which tell the peer why.
    Closing {
        since: Instant,
    },
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
impl Connection {
    pub(crate) fn new(channel: Box<dyn Channel>) -> Self {
        let (channel, phase): (Arc<dyn Channel>, _) = (channel.into(), Phase::Opening);
        channel.set_blocking(false);
        Self { channel, phase, held: Buffer::new(), peer_ended: false, failure: None, stuck: false, opened: false }
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
                    let closed = matches!(self.phase, Phase::Closing { .. });
                    self.phase = if closed { Phase::Closed } else { Phase::Closing { since: Instant::now() } };
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
                self.opened = true;
                summary.open += 1;
                summary.most_open = summary.most_open.max(summary.open);
            }
            Phase::Echoing => return self.echo(summary),
            Phase::Closing { since } => {
                self.channel.close()?;
                summary.late += usize::from(since.elapsed() >= Limits::default().linger);
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
            self.phase = Phase::Closing { since: Instant::now() }; // they still read, up to our own end
            moved = true;
        }
        if moved { Ok(()) } else { Err(Error::WOULD_BLOCK) }
    }

    fn has_room(&self) -> bool {
        !self.peer_ended && self.held.len() < HELD
    }

    /// What must happen before the next step gets anywhere, for a loop that asks.
    fn wanted(&self) -> Readiness {
        match self.waits_for() {
            (true, true) => self.channel.readiness(Direction::Read).or(self.channel.readiness(Direction::Write)),
            (true, false) => self.channel.readiness(Direction::Read),
            (false, _) => self.channel.readiness(Direction::Write),
        }
    }

    /// What a loop sets handlers for: whether the next step is a read of some sort, and whether it is a write.
    ///
    /// That is all it has to know. Through TLS a read may wait for room to write, and limits run: the handlers of a layer are
    /// called for that, too.
    pub(crate) fn waits_for(&self) -> (bool, bool) {
        match self.phase {
            Phase::Opening => (true, false), // counts as reading, whichever way its bytes go
            Phase::Echoing => (self.has_room(), !self.held.is_empty()),
            Phase::Closing { .. } | Phase::Closed => (false, true), // who closes waits as a writer, whatever for
        }
    }

    /// To set handlers on.
    pub(crate) fn channel(&self) -> &Arc<dyn Channel> {
        &self.channel
    }

    fn count(&self, summary: &mut Summary) {
        summary.open -= usize::from(self.opened);
        summary.stuck += usize::from(self.stuck);
        match &self.failure {
            None => summary.echoed += 1,
            Some(error) if error.is_timed_out() => summary.timed_out += 1,
            Some(error) => {
                summary.failed += 1;
                eprintln!("a connection failed: {error:#}");
            }
        }
    }
}
