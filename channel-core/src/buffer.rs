//! The byte buffer that layers hold bytes in, and the pool its storage comes from.

#![expect(clippy::vec_box, reason = "a piece stays where it is when it changes hands")]

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
    /// Behind a pointer: most channels are idle most of the time, and each layer has several of these.
    piece: Option<Box<Piece>>,
}

/// Storage, and where in it the bytes are.
struct Piece {
    storage: Vec<u8>,
    start: usize,
    end: usize,
}

impl Piece {
    fn new(storage: Vec<u8>) -> Box<Self> {
        Box::new(Self { storage, start: 0, end: 0 })
    }

    fn held(&self) -> &[u8] {
        &self.storage[self.start..self.end]
    }

    /// What is behind the bytes.
    fn room(&mut self) -> &mut [u8] {
        &mut self.storage[self.end..]
    }

    fn add(&mut self, bytes: &[u8]) {
        self.room()[..bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }
}

impl Buffer {
    /// An empty buffer without storage.
    #[must_use]
    pub const fn new() -> Self {
        Self { piece: None }
    }

    /// How many bytes it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.piece.as_ref().map_or(&[], |piece| piece.held())
    }

    /// The bytes, to change in place.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.piece.as_mut().map_or(&mut [], |piece| &mut piece.storage[piece.start..piece.end])
    }

    /// Drops `count` bytes at the front.
    ///
    /// # Panics
    /// If it holds fewer.
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.len(), "consumed {count} of {} bytes", self.len());
        if let Some(piece) = &mut self.piece {
            piece.start += count;
            if piece.start == piece.end {
                piece.clear();
            }
        }
    }

    /// Drops `count` bytes at the back.
    ///
    /// # Panics
    /// If it holds fewer.
    pub fn truncate_by(&mut self, count: usize) {
        assert!(count <= self.len(), "truncated by {count} of {} bytes", self.len());
        if let Some(piece) = &mut self.piece {
            piece.end -= count;
        }
    }

    /// Drops all bytes and keeps the storage.
    pub fn clear(&mut self) {
        if let Some(piece) = &mut self.piece {
            piece.clear();
        }
    }

    /// Room for at least `least` more bytes, with whatever was in it before; [`commit`](Self::commit) what is filled in.
    pub fn space(&mut self, least: usize) -> &mut [u8] {
        self.reserve(least);
        self.piece.as_mut().map_or(&mut [], |piece| piece.room())
    }

    /// Adds the first `count` bytes of the last [`space`](Self::space).
    ///
    /// # Panics
    /// If there was not so much.
    pub fn commit(&mut self, count: usize) {
        let room = self.piece.as_mut().map_or(0, |piece| piece.room().len());
        assert!(count <= room, "committed {count} bytes without room");
        if let Some(piece) = &mut self.piece {
            piece.end += count;
        }
    }

    /// Adds bytes.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        if let Some(piece) = &mut self.piece {
            piece.add(bytes);
        }
    }

    /// Gives the storage back to the pool, if nothing is held in it.
    pub fn release(&mut self) {
        if self.piece.as_ref().is_some_and(|piece| piece.held().is_empty()) {
            self.replace(None);
        }
    }

    /// As [`release`](Self::release); and what is held, if that is no more than `most` bytes and less than half of what it lies in, moves to
    /// storage of its own size: a peer that sends one byte of a record and then nothing does not pin a whole piece.
    pub fn shrink(&mut self, most: usize) {
        let held = self.as_slice();
        if held.is_empty() {
            self.release();
        } else if held.len() <= most && self.capacity() >= STORAGE && self.capacity() > 2 * held.len() {
            let mut own = Piece::new(held.to_vec());
            own.end = held.len();
            self.replace(Some(own));
        }
    }

    /// How long the storage is.
    fn capacity(&self) -> usize {
        self.piece.as_ref().map_or(0, |piece| piece.storage.len())
    }

    /// Goes on in `piece`, which has what is held.
    fn replace(&mut self, piece: Option<Box<Piece>>) {
        if let Some(old) = std::mem::replace(&mut self.piece, piece) {
            pool_give(old);
        }
    }

    fn reserve(&mut self, least: usize) {
        let has = self.capacity();
        if let Some(piece) = &mut self.piece {
            if piece.room().len() >= least {
                return;
            }
            let held = piece.held().len();
            // What is moved is little, or no more than what was taken out since: a large one that is nearly full grows rather than being moved
            // for every few bytes.
            let moves = has == STORAGE || (has > STORAGE && piece.start >= held);
            if moves && held + least <= has {
                piece.storage.copy_within(piece.start..piece.end, 0);
                (piece.start, piece.end) = (0, held);
                return;
            }
        }
        let needed = self.len() + least;
        if needed > 0 {
            let mut piece = pool_take(if has < STORAGE { needed } else { needed.max(2 * has) });
            piece.add(self.as_slice());
            self.replace(Some(piece));
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
        self.replace(None);
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

static POOL: Mutex<Vec<Box<Piece>>> = Mutex::new(Vec::new());
static KEEPING: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static OWN: RefCell<Own> = const { RefCell::new(Own { state: Keeping::Unknown, pieces: Vec::new() }) };
}

/// The pieces that a thread keeps.
struct Own {
    state: Keeping,
    pieces: Vec<Box<Piece>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keeping {
    Unknown,
    Yes,
    /// There are enough others that do.
    No,
}

impl Own {
    /// Keeps `piece`, or gives it back to the caller.
    fn keep(&mut self, piece: Box<Piece>) -> Option<Box<Piece>> {
        if self.state == Keeping::Unknown {
            let others = KEEPING.fetch_add(1, Ordering::Relaxed);
            self.state = Keeping::Yes;
            if others >= KEEPING_THREADS {
                KEEPING.fetch_sub(1, Ordering::Relaxed);
                self.state = Keeping::No;
            }
        }
        let keeps = self.state == Keeping::Yes && self.pieces.len() < KEPT_BY_THREAD && piece.storage.len() == STORAGE;
        if !keeps {
            return Some(piece);
        }
        self.pieces.push(piece);
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

fn pool() -> MutexGuard<'static, Vec<Box<Piece>>> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

fn share(piece: Box<Piece>) {
    let mut pool = pool();
    if pool.len() < KEPT {
        pool.push(piece);
    }
}

fn pool_take(least: usize) -> Box<Piece> {
    if least <= STORAGE {
        // A thread that is ending has none of its own any more.
        let own = OWN.try_with(|own| own.borrow_mut().pieces.pop()).unwrap_or_default();
        if let Some(piece) = own {
            return piece;
        }
    }
    let mut pool = pool();
    if let Some(at) = pool.iter().position(|piece| piece.storage.len() >= least) {
        return pool.swap_remove(at);
    }
    drop(pool);
    Piece::new(vec![0; least.max(STORAGE)])
}

fn pool_give(mut piece: Box<Piece>) {
    if !(STORAGE..=LARGEST_KEPT).contains(&piece.storage.len()) {
        return;
    }
    piece.clear();
    let mut piece = Some(piece);
    let _ = OWN.try_with(|own| piece = piece.take().and_then(|piece| own.borrow_mut().keep(piece)));
    piece.into_iter().for_each(share);
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
        assert_eq!(buffer.capacity(), 0);
    }

    #[test]
    fn what_fills_more_than_half_of_its_storage_stays_there() {
        let mut buffer = Buffer::new();
        let capacity = buffer.space(1).len(); // a piece, or a larger one that another test gave back
        buffer.commit(capacity.div_ceil(2));
        buffer.shrink(usize::MAX);
        assert_eq!(buffer.capacity(), capacity, "a copy for little, again and again while it grows");
        buffer.consume(1);
        buffer.shrink(usize::MAX);
        assert_eq!(buffer.capacity(), capacity.div_ceil(2) - 1);
    }

    #[test]
    fn few_bytes_that_stay_take_no_more_than_they_need_and_go_on_in_front_of_others() {
        let mut buffer = Buffer::new();
        buffer.extend(b"dropped, kept");
        buffer.consume(9);
        buffer.shrink(3);
        assert!(buffer.capacity() >= STORAGE, "more than few");
        buffer.shrink(4);
        assert_eq!((buffer.as_slice(), buffer.capacity()), (&b"kept"[..], 4));
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
        let start = |buffer: &Buffer| buffer.piece.as_ref().unwrap().start;
        let mut moves = 0;
        for _ in 0..1000 {
            buffer.consume(16);
            let before = start(&buffer);
            buffer.extend(&[b'x'; 16]);
            moves += usize::from(start(&buffer) < before);
        }
        assert!(moves <= 1, "{moves}");
        assert!((buffer.len(), buffer.capacity() <= 20 * STORAGE) == (10 * STORAGE, true));
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
