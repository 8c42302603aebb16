//! What clients say, and how they tell that it came back.

use super::Failure;

/// The lengths of what a client says, piece by piece: one byte, as much as a frame's shortest header can tell and one more, a TLS
/// record and more.
pub(crate) const PIECES: [usize; 6] = [1, 126, 20_000, 65_536, 4_096, 33_333];

/// Bytes anybody can tell who knows the number: xorshift64 (Marsaglia, "Xorshift RNGs", 2003).
#[derive(Debug)]
pub(crate) struct Pattern(u64);

impl Pattern {
    pub(crate) fn new(number: u64) -> Self {
        Self((number ^ 0x9e37_79b9_7f4a_7c15).max(1))
    }

    fn next(&mut self) -> u8 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 56) as u8
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill_with(|| self.next());
    }

    pub(crate) fn check(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if bytes.iter().all(|byte| *byte == self.next()) {
            Ok(())
        } else {
            Err("other bytes came back than were said".into())
        }
    }
}
