//! Content whose every byte is known from its place in the stream, so that loss, repetition and disorder show.

use std::sync::OnceLock;

/// The content repeats after so many bytes: a prime just above 64 KiB, so that no buffer, record or frame size divides it
/// and a piece that is lost, sent twice or swapped never looks right.
const PERIOD: usize = 65_537;

/// The longest piece [`at`] gives: 1 MiB.
pub const LONGEST: usize = 1 << 20;

/// `len` bytes of the content from `offset` on, in one piece and without a copy.
///
/// # Panics
/// If `len` is more than [`LONGEST`].
#[must_use]
pub fn at(offset: u64, len: usize) -> &'static [u8] {
    static CONTENT: OnceLock<Vec<u8>> = OnceLock::new();
    let content = CONTENT.get_or_init(|| {
        let period: Vec<u8> = noise().take(PERIOD).collect();
        period.iter().copied().cycle().take(PERIOD + LONGEST).collect()
    });
    // The remainder is below PERIOD, so it fits any usize.
    let start = (offset % PERIOD as u64) as usize;
    &content[start..start + len]
}

/// Bytes without pattern, the same in every run: xorshift64 (Marsaglia, "Xorshift RNGs", 2003).
fn noise() -> impl Iterator<Item = u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    })
}

/// Follows a stream and compares it with the content.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checker {
    offset: u64,
}

/// The stream is not what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the received bytes are wrong between {from} and {to}")]
pub struct Mismatch {
    /// Where the wrong piece starts, in bytes from the start of the stream.
    pub from: u64,
    /// Where it ends.
    pub to: u64,
}

impl Checker {
    /// Expects the content from `offset` on.
    #[must_use]
    pub fn starting_at(offset: u64) -> Self {
        Self { offset }
    }

    /// The next bytes of the stream.
    ///
    /// # Errors
    /// If they are not the content.
    pub fn take(&mut self, received: &[u8]) -> Result<(), Mismatch> {
        for piece in received.chunks(LONGEST) {
            let to = self.offset + piece.len() as u64;
            if piece != at(self.offset, piece.len()) {
                return Err(Mismatch { from: self.offset, to });
            }
            self.offset = to;
        }
        Ok(())
    }

    /// The place in the content of the byte that is expected next.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_piece_a_repeated_piece_and_a_flipped_bit_all_show() {
        let mut whole = Checker::default();
        whole.take(at(0, 100_000)).unwrap();
        whole.take(at(100_000, LONGEST)).unwrap();
        assert_eq!(whole.offset(), 100_000 + LONGEST as u64);

        for wrong in [at(65_536, 16_384), at(0, 16_384)] {
            let mut checker = Checker::default();
            checker.take(at(0, 16_384)).unwrap();
            assert_eq!(checker.take(wrong), Err(Mismatch { from: 16_384, to: 32_768 }));
        }
        let mut flipped = at(0, 64).to_vec();
        flipped[63] ^= 1;
        assert!(Checker::default().take(&flipped).is_err());
    }
}
