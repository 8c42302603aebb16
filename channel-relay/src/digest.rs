//! What went by: how many bytes, and their SHA-256.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// Counts and hashes bytes as they go by.
#[derive(Clone, Default)]
pub(crate) struct Tally {
    bytes: u64,
    hash: Sha256,
}

/// What went by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digest {
    /// How many bytes.
    pub(crate) bytes: u64,
    sha256: [u8; 32],
}

impl Tally {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn finish(self) -> Digest {
        Digest { bytes: self.bytes, sha256: self.hash.finalize().into() }
    }
}

/// In lower-case hexadecimal, as sha256sum(1) prints it.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sha256.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_that_of_sha256sum_however_the_bytes_are_cut() {
        let mut tally = Tally::default();
        for part in [b"a".as_slice(), b"", b"bc"] {
            tally.add(part);
        }
        let digest = tally.finish();
        assert_eq!(digest.bytes, 3);
        // FIPS 180-4, the example of one block.
        assert_eq!(digest.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
