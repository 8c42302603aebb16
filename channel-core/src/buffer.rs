//! The byte buffer that layers hold bytes in, and the pool its storage comes from.

use std::fmt;
use std::sync::{Mutex, PoisonError};

/// A queue of bytes in one piece: filled at the back, consumed at the front.
///
/// Storage comes from a shared pool when the first byte is put in and goes back with [`release`](Self::release), so that an
/// idle connection holds none. It is written with zeros once, when it is made, not each time it is used.
#[derive(Default)]
pub struct Buffer {
    storage: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// An empty buffer without storage.
    #[must_use]
    pub const fn new() -> Self {
        Self { storage: Vec::new(), start: 0, end: 0 }
    }

    /// How many bytes it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.storage[self.start..self.end]
    }

    /// The bytes, to change in place.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..self.end]
    }

    /// Drops `count` bytes at the front.
    ///
    /// # Panics
    /// If it holds fewer.
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.len(), "consumed {count} of {} bytes", self.len());
        self.start += count;
        if self.start == self.end {
            self.clear();
        }
    }

    /// Drops `count` bytes at the back.
    ///
    /// # Panics
    /// If it holds fewer.
    pub fn truncate_by(&mut self, count: usize) {
        assert!(count <= self.len(), "truncated by {count} of {} bytes", self.len());
        self.end -= count;
    }

    /// Drops all bytes and keeps the storage.
    pub fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    /// Room for at least `least` more bytes, with whatever was in it before; [`commit`](Self::commit) what is filled in.
    pub fn space(&mut self, least: usize) -> &mut [u8] {
        self.reserve(least);
        &mut self.storage[self.end..]
    }

    /// Adds the first `count` bytes of the last [`space`](Self::space).
    ///
    /// # Panics
    /// If there was not so much.
    pub fn commit(&mut self, count: usize) {
        assert!(count <= self.storage.len() - self.end, "committed {count} bytes without room");
        self.end += count;
    }

    /// Adds bytes.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.storage[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// Gives the storage back to the pool, if nothing is held in it.
    pub fn release(&mut self) {
        if self.is_empty() && !self.storage.is_empty() {
            pool_give(std::mem::take(&mut self.storage));
            self.clear();
        }
    }

    fn reserve(&mut self, least: usize) {
        if self.storage.len() - self.end >= least {
            return;
        }
        if self.storage.is_empty() {
            self.storage = pool_take(least);
            return;
        }
        if self.start > 0 {
            self.storage.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let needed = self.end + least;
        if needed > self.storage.len() {
            self.storage.resize(needed.max(self.storage.len() * 2), 0);
        }
    }
}

/// Says how much it holds and never what: that is somebody's data, and storage may still show another connection's.
impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.clear();
        self.release();
    }
}

/// What one piece of storage holds at the least: 64 KiB of payload and what protocols put around it.
const STORAGE: usize = 68 * 1024;
/// Larger pieces are freed rather than kept.
const LARGEST_KEPT: usize = 5 * STORAGE;
/// How many idle pieces are kept: at most 10 MiB.
const KEPT: usize = 32;

static POOL: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

fn pool_take(least: usize) -> Vec<u8> {
    if least <= STORAGE {
        if let Some(storage) = POOL.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return storage;
        }
    }
    vec![0; least.max(STORAGE)]
}

fn pool_give(storage: Vec<u8>) {
    if (STORAGE..=LARGEST_KEPT).contains(&storage.len()) {
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() < KEPT {
            pool.push(storage);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_the_order_they_went_in() {
        let mut buffer = Buffer::new();
        let mut sent = 0u8;
        let mut seen = 0u8;
        for round in 0..5000usize {
            let count = round % 97;
            let bytes: Vec<u8> = (0..count).map(|i| sent.wrapping_add(u8::try_from(i).unwrap())).collect();
            buffer.extend(&bytes);
            sent = sent.wrapping_add(u8::try_from(count).unwrap());
            let take = buffer.len().min(round % 89);
            for byte in &buffer.as_slice()[..take] {
                assert_eq!(*byte, seen);
                seen = seen.wrapping_add(1);
            }
            buffer.consume(take);
        }
    }

    #[test]
    fn debug_output_shows_no_data() {
        let mut buffer = Buffer::new();
        buffer.extend(b"secret");
        assert_eq!(format!("{buffer:?}"), "Buffer { len: 6, .. }");
    }

    #[test]
    fn an_empty_buffer_gives_its_storage_back() {
        let mut buffer = Buffer::new();
        buffer.extend(b"x");
        buffer.release();
        assert_eq!(buffer.as_slice(), b"x", "what is held is never given away");
        buffer.consume(1);
        buffer.release();
        assert!(buffer.storage.is_empty());
    }
}
