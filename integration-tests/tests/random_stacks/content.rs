//! What is written, and whether it is what arrives.
//!
//! Each thread of an end writes a stream of its own, told apart by the highest bit of every byte, so that two may write at once: nobody
//! can say in which order their pieces lie, but each stream must come whole and in order.

use integration_tests::content;

const BITS: u8 = 0x7f;

/// `len` bytes that thread `thread` writes from `offset` of its stream on.
pub(crate) fn of(thread: usize, offset: u64, len: usize) -> Vec<u8> {
    let tag = if thread == 0 { 0 } else { !BITS };
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        let piece = content::at(offset + bytes.len() as u64, (len - bytes.len()).min(content::LONGEST));
        bytes.extend(piece.iter().map(|byte| byte & BITS | tag));
    }
    bytes
}

/// Follows both streams of the peer.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    /// How many bytes of each have come.
    pub(crate) come: [u64; 2],
}

impl Checker {
    /// Takes what has arrived.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<(), String> {
        for &byte in bytes {
            let thread = usize::from(byte & !BITS != 0);
            let at = self.come[thread];
            let expected = content::at(at, 1)[0] & BITS;
            if byte & BITS != expected {
                return Err(format!(
                    "lost, repeated or out of order: byte {at} of what its thread {} wrote",
                    thread + 1
                ));
            }
            self.come[thread] += 1;
        }
        Ok(())
    }
}
