//! The byte buffer that layers hold bytes in, and the pool its storage comes from.

use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A queue of bytes in one piece: filled at the back, consumed at the front.
///
/// Storage comes from a shared pool when the first byte is put in and goes back with [`release`](Self::release), so that an
/// idle connection holds none; each of the first 64 threads that give some back keeps two pieces at hand. It is written with zeros once,
/// when it is made, not each time it is used.
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

    /// As [`release`](Self::release); and what is held, if that is no more than `most` bytes, moves to storage of its own size: a peer
    /// that sends one byte of a record and then nothing does not pin a whole piece.
    pub fn shrink(&mut self, most: usize) {
        if self.is_empty() {
            self.release();
        } else if self.len() <= most && self.storage.len() >= STORAGE {
            let own = self.as_slice().to_vec();
            self.replace(own);
        }
    }

    /// Goes on in `storage`, which has what is held in front.
    fn replace(&mut self, storage: Vec<u8>) {
        (self.start, self.end) = (0, self.len());
        pool_give(std::mem::replace(&mut self.storage, storage));
    }

    fn reserve(&mut self, least: usize) {
        if self.storage.len() - self.end >= least {
            return;
        }
        let (has, needed) = (self.storage.len(), self.len() + least);
        // What is moved is little, or no more than what was taken out since: a large one that is nearly full grows rather than being moved
        // for every few bytes.
        let moves = has == STORAGE || (has > STORAGE && self.start >= self.len());
        if moves && needed <= has {
            self.storage.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.len());
            return;
        }
        let mut storage = pool_take(if has < STORAGE { needed } else { needed.max(2 * has) });
        storage[..self.len()].copy_from_slice(self.as_slice());
        self.replace(storage);
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
/// How many idle pieces are kept for all: at most 10 MiB.
const KEPT: usize = 32;
/// How many a thread keeps for itself: a call through two layers finds them without a lock.
const KEPT_BY_THREAD: usize = 2;
/// How many threads do: at most 8.5 MiB. Programs with more of them, of which most are asleep, share what is kept for all.
const KEEPING_THREADS: usize = 64;

static POOL: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
static KEEPING: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static OWN: RefCell<Own> = const { RefCell::new(Own { state: Keeping::Unknown, pieces: Vec::new() }) };
}

/// The pieces that a thread keeps.
struct Own {
    state: Keeping,
    pieces: Vec<Vec<u8>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keeping {
    Unknown,
    Yes,
    /// There are enough others that do.
    No,
}

impl Own {
    /// Keeps `storage`, or gives it back to the caller.
    fn keep(&mut self, storage: Vec<u8>) -> Option<Vec<u8>> {
        if self.state == Keeping::Unknown {
            let others = KEEPING.fetch_add(1, Ordering::Relaxed);
            self.state = Keeping::Yes;
            if others >= KEEPING_THREADS {
                KEEPING.fetch_sub(1, Ordering::Relaxed);
                self.state = Keeping::No;
            }
        }
        let keeps = self.state == Keeping::Yes && self.pieces.len() < KEPT_BY_THREAD && storage.len() == STORAGE;
        if !keeps {
            return Some(storage);
        }
        self.pieces.push(storage);
        None
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if self.state == Keeping::Yes {
            KEEPING.fetch_sub(1, Ordering::Relaxed);
        }
        std::mem::take(&mut self.pieces).into_iter().for_each(share);
    }
}

fn pool() -> MutexGuard<'static, Vec<Vec<u8>>> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

fn share(storage: Vec<u8>) {
    let mut pool = pool();
    if pool.len() < KEPT {
        pool.push(storage);
    }
}

fn pool_take(least: usize) -> Vec<u8> {
    if least <= STORAGE {
        // A thread that is ending has none of its own any more.
        let own = OWN.try_with(|own| own.borrow_mut().pieces.pop()).unwrap_or_default();
        if let Some(storage) = own {
            return storage;
        }
    }
    let mut pool = pool();
    if let Some(at) = pool.iter().position(|storage| storage.len() >= least) {
        return pool.swap_remove(at);
    }
    drop(pool);
    vec![0; least.max(STORAGE)]
}

fn pool_give(storage: Vec<u8>) {
    if !(STORAGE..=LARGEST_KEPT).contains(&storage.len()) {
        return;
    }
    let mut storage = Some(storage);
    let _ = OWN.try_with(|own| storage = storage.take().and_then(|storage| own.borrow_mut().keep(storage)));
    storage.into_iter().for_each(share);
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

    #[test]
    fn few_bytes_that_stay_take_no_more_than_they_need_and_go_on_in_front_of_others() {
        let mut buffer = Buffer::new();
        buffer.extend(b"dropped, kept");
        buffer.consume(9);
        buffer.shrink(3);
        assert!(buffer.storage.len() >= STORAGE, "more than few");
        buffer.shrink(4);
        assert_eq!((buffer.as_slice(), buffer.storage.len()), (&b"kept"[..], 4));
        buffer.space(1)[0] = b'!';
        buffer.commit(1);
        assert_eq!(buffer.as_slice(), b"kept!");
        buffer.consume(4);
        buffer.extend(&vec![b'x'; STORAGE]);
        assert_eq!((buffer.len(), buffer.as_slice()[..2].to_vec()), (STORAGE + 1, b"!x".to_vec()));
    }

    #[test]
    fn a_large_one_that_is_nearly_full_is_not_moved_for_every_few_bytes() {
        let mut buffer = Buffer::new();
        buffer.extend(&vec![b'x'; 10 * STORAGE]);
        let mut moves = 0;
        for _ in 0..1000 {
            buffer.consume(16);
            let before = buffer.start;
            buffer.extend(&[b'x'; 16]);
            moves += usize::from(buffer.start < before);
        }
        assert!(moves <= 1, "{moves}");
        assert!((buffer.len(), buffer.storage.len() <= 20 * STORAGE) == (10 * STORAGE, true));
    }

    #[test]
    fn few_threads_keep_few_pieces_and_leave_them_to_all_when_they_end() {
        let kept = || OWN.with_borrow(|own| own.pieces.len());
        let use_pieces = move || {
            let mut buffers: [Buffer; KEPT_BY_THREAD + 1] = Default::default();
            buffers.iter_mut().for_each(|buffer| buffer.extend(b"x"));
            drop(buffers);
            kept()
        };
        assert_eq!(use_pieces(), KEPT_BY_THREAD);
        let (ready, all) = (std::sync::Barrier::new(KEEPING_THREADS + 1), std::sync::Mutex::new(0));
        std::thread::scope(|scope| {
            for _ in 0..=KEEPING_THREADS {
                scope.spawn(|| {
                    let kept = use_pieces();
                    *all.lock().unwrap() += kept;
                    ready.wait();
                });
            }
        });
        let all = all.into_inner().unwrap();
        assert!(all < KEPT_BY_THREAD * (KEEPING_THREADS + 1), "{all}: too many threads keep pieces");
        assert!(all >= KEPT_BY_THREAD * KEEPING_THREADS / 2, "{all}: few threads keep pieces");
        assert!((1..=KEPT).contains(&pool().len()));
        // Threads that come later keep theirs: those before have ended.
        assert_eq!(std::thread::spawn(use_pieces).join().unwrap(), KEPT_BY_THREAD);
    }
}
