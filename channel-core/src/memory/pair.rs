//! A connected pair in memory: two bounded pipes, with eventfds so that anything can wait on them.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::buffer::scatter;
use crate::leaf::{Leaf, LeafChannel};
use crate::{
    Buffer, Direction, Error, ErrorKind, Features, Interest, ReadFlags, Result, Shutdown, WriteFlags, event_fd,
};

/// One end of a connected pair in memory. Behaves as a stream socket does, needs no file system and no network, and waits in
/// poll(2) like any other leaf.
#[derive(Debug)]
pub struct MemoryChannel(LeafChannel<Pipes>);

/// Both pipes, as one end uses them.
#[derive(Debug)]
struct Pipes {
    incoming: Arc<Pipe>,
    outgoing: Arc<Pipe>,
}

/// Bytes on their way from one end to the other.
#[derive(Debug)]
struct Pipe {
    state: Mutex<Flow>,
    readable: Arc<OwnedFd>,
    writable: Arc<OwnedFd>,
}

#[derive(Debug)]
struct Flow {
    bytes: Buffer,
    capacity: usize,
    /// The writer ended it: what is in it is the last.
    ended: bool,
    /// The reader wants no more: writes fail.
    refused: bool,
    /// What the eventfds show, so that they are touched only when it changes.
    shows_readable: bool,
    shows_writable: bool,
}

/// What a pair holds in each direction unless told otherwise.
const CAPACITY: usize = 64 * 1024;

impl MemoryChannel {
    /// A connected pair that holds up to 64 KiB in each direction.
    ///
    /// # Errors
    /// If no eventfd can be had (`EMFILE`).
    pub fn pair() -> Result<(Self, Self)> {
        Self::pair_with_capacity(CAPACITY)
    }

    /// A connected pair that holds up to `capacity` bytes in each direction, at least one.
    ///
    /// # Errors
    /// If no eventfd can be had (`EMFILE`).
    pub fn pair_with_capacity(capacity: usize) -> Result<(Self, Self)> {
        let there = Pipe::new(capacity.max(1))?;
        let back = Pipe::new(capacity.max(1))?;
        let over = |incoming: &Arc<Pipe>, outgoing: &Arc<Pipe>| {
            Self(LeafChannel::new(Pipes { incoming: Arc::clone(incoming), outgoing: Arc::clone(outgoing) }))
        };
        Ok((over(&back, &there), over(&there, &back)))
    }
}

crate::forward_channel!(MemoryChannel => |self| &self.0);

impl Pipe {
    fn new(capacity: usize) -> Result<Arc<Self>> {
        let make = |raised| {
            event_fd::new(raised).map(Arc::new).map_err(|errno| Error::from_io(errno.into(), "memory").during("pair"))
        };
        Ok(Arc::new(Self {
            state: Mutex::new(Flow {
                bytes: Buffer::new(),
                capacity,
                ended: false,
                refused: false,
                shows_readable: false,
                shows_writable: true,
            }),
            readable: make(false)?,
            writable: make(true)?,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Flow> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the eventfds in line with the state.
    fn show(&self, flow: &mut Flow) {
        let over = flow.ended || flow.refused;
        let readable = over || !flow.bytes.is_empty();
        let writable = over || flow.bytes.len() < flow.capacity;
        if readable != flow.shows_readable {
            event_fd::set(&self.readable, readable);
            flow.shows_readable = readable;
        }
        if writable != flow.shows_writable {
            event_fd::set(&self.writable, writable);
            flow.shows_writable = writable;
        }
        flow.bytes.release();
    }
}

impl Drop for Pipes {
    fn drop(&mut self) {
        self.give_up(Shutdown::Both);
    }
}

impl Pipes {
    fn give_up(&self, how: Shutdown) {
        if how != Shutdown::Write {
            let mut flow = self.incoming.lock();
            flow.refused = true;
            flow.bytes.clear();
            self.incoming.show(&mut flow);
        }
        if how != Shutdown::Read {
            let mut flow = self.outgoing.lock();
            flow.ended = true;
            self.outgoing.show(&mut flow);
        }
    }
}

impl Leaf for Pipes {
    fn layer(&self) -> &'static str {
        "memory"
    }

    fn features(&self) -> Features {
        Features::CLOSE_WRITE | Features::HALF_CLOSE | Features::READ_MSG_PEEK | Features::READ_BUF
    }

    fn why_not(&self, missing: Features) -> &'static str {
        match missing {
            Features::FD_PASS => "a memory pair carries bytes only; descriptors need a unix socket",
            _ => "a memory pair is a plain byte stream between two ends of one process",
        }
    }

    fn try_read(&self, bufs: &mut [IoSliceMut<'_>], _: Option<&mut Vec<OwnedFd>>, flags: ReadFlags) -> Result<usize> {
        let mut count = 0;
        self.lend(&mut |bytes| {
            count = scatter(bytes, bufs);
            if flags.contains(ReadFlags::MSG_PEEK) { 0 } else { count }
        })?;
        Ok(count)
    }

    fn try_write(&self, bufs: &[IoSlice<'_>], _: &[BorrowedFd<'_>], _: WriteFlags) -> Result<usize> {
        let mut flow = self.outgoing.lock();
        if flow.refused || flow.ended {
            return Err(Error::new(ErrorKind::BrokenPipe, "memory", "the peer is gone"));
        }
        let mut room = flow.capacity - flow.bytes.len();
        if room == 0 {
            return Err(Error::WOULD_BLOCK);
        }
        let mut done = 0;
        for buf in bufs {
            let count = buf.len().min(room);
            flow.bytes.extend(&buf[..count]);
            done += count;
            room -= count;
        }
        self.outgoing.show(&mut flow);
        Ok(done)
    }

    fn polled(&self, direction: Direction) -> Option<Interest> {
        let event = match direction {
            Direction::Read => &self.incoming.readable,
            Direction::Write => &self.outgoing.writable,
        };
        Some(Interest { fd: Arc::clone(event), direction: Direction::Read })
    }

    fn shows_end(&self, _: Direction) -> bool {
        true
    }

    fn end(&self, how: Shutdown) -> Result<()> {
        self.give_up(how);
        Ok(())
    }

    fn close(&self, _: Instant) -> Result<()> {
        self.end(Shutdown::Both)
    }

    fn lend(&self, take: &mut dyn FnMut(&[u8]) -> usize) -> Result<usize> {
        let mut flow = self.incoming.lock();
        if flow.bytes.is_empty() {
            return if flow.ended || flow.refused { Ok(0) } else { Err(Error::WOULD_BLOCK) };
        }
        let count = take(flow.bytes.as_slice()).min(flow.bytes.len());
        flow.bytes.consume(count);
        self.incoming.show(&mut flow);
        Ok(count)
    }
}
