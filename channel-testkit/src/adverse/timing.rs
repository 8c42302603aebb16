//! Policies about how much and when: they hurt without doing damage.

use channel_core::{Error, Result};

use super::policy::{Attempt, Call, Passed, Policy, Verdict};

/// One byte per call.
#[derive(Debug)]
pub(super) struct OneByte;

impl Policy for OneByte {
    fn judge(&mut self, _: &Attempt<'_>) -> Verdict {
        Verdict::at_most(1)
    }

    fn passed(&mut self, _: Call, _: &Result<Passed>, _: u64) {}

    fn is_due(&self, _: u64) -> bool {
        false
    }
}

/// A random number of bytes per call.
#[derive(Debug)]
pub(super) struct RandomCuts(u64);

impl RandomCuts {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Policy for RandomCuts {
    fn judge(&mut self, _: &Attempt<'_>) -> Verdict {
        // Each order of magnitude up to 128 KiB is as likely as any other: headers are cut, and so are full buffers.
        let magnitude = self.next() % 18;
        Verdict::at_most(1 + self.next() % (1 << magnitude))
    }

    fn passed(&mut self, _: Call, _: &Result<Passed>, _: u64) {}

    fn is_due(&self, _: u64) -> bool {
        false
    }
}

/// Would-block for every other call.
#[derive(Debug)]
pub(super) struct EveryOther {
    /// The last attempt of this direction was held up: the next one passes, whatever it is.
    owed: bool,
    /// Which calls are held up next time, each on its own: of two calls made in turns, neither is held up for ever.
    due: [bool; 6],
}

impl EveryOther {
    /// `open`: calls are held up from the first on. Otherwise the first of each kind passes, because it may have to say
    /// `NotOpen`.
    pub(super) fn new(open: bool) -> Self {
        let mut due = [open; 6];
        due[Call::Handshake as usize] = true;
        due[Call::CloseWrite as usize] = true;
        Self { owed: false, due }
    }
}

impl Policy for EveryOther {
    fn judge(&mut self, attempt: &Attempt<'_>) -> Verdict {
        let due = &mut self.due[attempt.call as usize];
        // Where nothing can be done now, the inner channel says would-block itself; a second one would make readiness say
        // `Ready` again and again to a caller that polls an idle channel.
        if self.owed || attempt.ending || !*due || !attempt.can_progress() {
            self.owed = false;
            return Verdict::PASS;
        }
        *due = false;
        self.owed = true;
        Verdict::Instead(Err(Error::WOULD_BLOCK))
    }

    fn passed(&mut self, call: Call, outcome: &Result<Passed>, _: u64) {
        let repeats = call.moves_bytes() || call == Call::Flush;
        self.due[call as usize] = match outcome {
            // A handshake that is complete, and an output that is ended, say so at once from then on.
            Ok(Passed::Did(_)) => repeats,
            Ok(Passed::End) => false,
            Err(error) if error.is_would_block() => true,
            Err(error) if error.is_passing() => self.due[call as usize],
            Err(_) => false,
        };
    }

    fn is_due(&self, _: u64) -> bool {
        self.owed
    }
}
