//! A connected pair in memory: two bounded pipes, with eventfds so that anything can wait on them.

use std::any::Any;
use std::io::{IoSlice, IoSliceMut, SeekFrom};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};

use super::buffer::scatter;
use crate::{
    AioChange, Buffer, Channel, Direction, Error, ErrorKind, FdHandlers, Features, Interest, Mode, Name, ReadFlags,
    Readiness, Removed, Result, Shutdown, WriteFlags, check_read, check_write,
};

/// One end of a connected pair in memory. Behaves as a stream socket does, needs no file system and no network, and waits in
/// poll(2) like any other leaf.
#[derive(Debug)]
pub struct MemoryChannel {
    name: Name,
    mode: Mode,
    incoming: Arc<Pipe>,
    outgoing: Arc<Pipe>,
    handlers: FdHandlers,
    closed: AtomicBool,
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
        let near = Self::over(Arc::clone(&back), Arc::clone(&there));
        Ok((near, Self::over(there, back)))
    }

    fn over(incoming: Arc<Pipe>, outgoing: Arc<Pipe>) -> Self {
        Self {
            name: Name::default(),
            mode: Mode::default(),
            incoming,
            outgoing,
            handlers: FdHandlers::default(),
            closed: AtomicBool::new(false),
        }
    }

    fn open(&self, operation: &'static str) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::closed(self, operation));
        }
        Ok(())
    }

    /// The eventfd that is readable while `direction` can make progress.
    fn event(&self, direction: Direction) -> &Arc<OwnedFd> {
        match direction {
            Direction::Read => &self.incoming.readable,
            Direction::Write => &self.outgoing.writable,
        }
    }

    /// One attempt to read: `with` sees what is there and says how much of it to consume.
    fn try_read(&self, with: &mut dyn FnMut(&[u8]) -> usize) -> Result<usize> {
        let mut flow = self.incoming.lock();
        self.open("read")?; // under the lock: an end that `close` made is none of the peer's
        if flow.refused {
            return Ok(0);
        }
        if flow.bytes.is_empty() {
            return if flow.ended { Ok(0) } else { Err(Error::WOULD_BLOCK) };
        }
        let count = with(flow.bytes.as_slice()).min(flow.bytes.len());
        flow.bytes.consume(count);
        self.incoming.show(&mut flow);
        Ok(count)
    }

    fn try_write(&self, bufs: &[IoSlice<'_>]) -> Result<usize> {
        let mut flow = self.outgoing.lock();
        self.open("write")?; // likewise
        if flow.refused {
            let error = Error::new(ErrorKind::BrokenPipe, "memory", "the peer is gone");
            return Err(error.during("write").on(self.name()));
        }
        if flow.ended {
            return Err(Error::output_ended(self));
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

    fn end(&self, how: Shutdown) {
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

impl Pipe {
    fn new(capacity: usize) -> Result<Arc<Self>> {
        let make = |count| {
            eventfd(count, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                .map(Arc::new)
                .map_err(|errno| Error::from_io(errno.into(), "memory").during("pair"))
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
            readable: make(0)?,
            writable: make(1)?,
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
            raise(&self.readable, readable);
            flow.shows_readable = readable;
        }
        if writable != flow.shows_writable {
            raise(&self.writable, writable);
            flow.shows_writable = writable;
        }
        flow.bytes.release();
    }
}

/// Makes an eventfd readable, or not. It only ever counts 0 or 1, so neither call can block or fail.
fn raise(fd: &OwnedFd, up: bool) {
    let _ = if up { rustix::io::write(fd, &1u64.to_ne_bytes()) } else { rustix::io::read(fd, &mut [0; 8]) };
}

impl Drop for MemoryChannel {
    fn drop(&mut self) {
        self.end(Shutdown::Both);
    }
}

impl Channel for MemoryChannel {
    fn layer(&self) -> &'static str {
        "memory"
    }

    fn name(&self) -> Option<Arc<str>> {
        self.name.load()
    }

    fn set_name(&self, name: &str) {
        self.name.store(name);
    }

    fn features(&self) -> Features {
        Features::SHUTDOWN | Features::CLOSE_WRITE | Features::HALF_CLOSE | Features::READ_MSG_PEEK | Features::READ_BUF
    }

    fn why_not(&self, feature: Features) -> Option<String> {
        let missing = feature - self.features();
        if missing.is_empty() {
            None
        } else if missing.contains(Features::FD_PASS) {
            Some("a memory pair carries bytes only; descriptors need a unix socket".to_owned())
        } else {
            Some("a memory pair is a plain byte stream between two ends of one process".to_owned())
        }
    }

    fn describe_layer(&self) -> String {
        "memory".to_owned()
    }

    fn readv_full(
        &self,
        bufs: &mut [IoSliceMut<'_>],
        fds: Option<&mut Vec<OwnedFd>>,
        flags: ReadFlags,
    ) -> Result<usize> {
        check_read(self, fds.is_some(), flags)?;
        if bufs.iter().all(|buf| buf.is_empty()) {
            return Ok(0);
        }
        let peek = flags.contains(ReadFlags::MSG_PEEK);
        let mut peeked = 0;
        let count = self.mode.run(self, Direction::Read, flags.contains(ReadFlags::DONT_WAIT), || {
            self.try_read(&mut |bytes| {
                peeked = scatter(bytes, bufs);
                if peek { 0 } else { peeked }
            })
        });
        let result = count.map(|count| if peek { peeked } else { count }).map_err(|error| error.during("read"));
        self.handlers.called(&self.mode, Direction::Read, &result);
        result
    }

    fn writev_full(&self, bufs: &[IoSlice<'_>], fds: &[BorrowedFd<'_>], flags: WriteFlags) -> Result<usize> {
        check_write(self, !fds.is_empty(), flags)?;
        if bufs.iter().all(|buf| buf.is_empty()) {
            return Ok(0);
        }
        let dont_wait = flags.contains(WriteFlags::DONT_WAIT);
        let written = self.mode.run(self, Direction::Write, dont_wait, || self.try_write(bufs));
        let result = written.map_err(|error| error.during("write"));
        self.handlers.called(&self.mode, Direction::Write, &result);
        result
    }

    fn flush(&self) -> Result<()> {
        self.open("flush")
    }

    crate::mode_methods!(mode, handlers);

    fn take_over(&self) {}

    fn set_delay(&self, _: bool) {}

    fn set_cork(&self, _: bool) {}

    fn close_write(&self) -> Result<()> {
        self.open("close_write")?;
        self.end(Shutdown::Write);
        Ok(())
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        self.end(how);
        Ok(())
    }

    fn close(&self) -> Result<()> {
        self.closed.store(true, Ordering::Release);
        self.end(Shutdown::Both);
        self.handlers.clear();
        Ok(())
    }

    fn close_by(&self, _: Instant) -> Result<()> {
        self.close()
    }

    fn seek(&self, _: SeekFrom) -> Result<u64> {
        Err(Error::unsupported(self, "seek", Features::SEEKABLE))
    }

    fn readiness(&self, direction: Direction) -> Readiness {
        self.mode.limited(direction, Readiness::wait_for(self.event(direction), Direction::Read))
    }

    fn set_aio_fd_handler(&self, read: AioChange, write: AioChange) -> Result<Removed> {
        self.open("set_aio_fd_handler")?;
        let polled = |direction| Some(Interest { fd: Arc::clone(self.event(direction)), direction: Direction::Read });
        self.handlers.change(self.layer(), &self.mode, polled, read, write)
    }

    fn handshake(&self) -> Result<()> {
        self.open("handshake")
    }

    fn with_read_buf(&self, take: &mut dyn FnMut(&[u8]) -> usize) -> Result<usize> {
        let mut asked = false;
        let result = self.try_read(&mut |bytes| {
            asked = true;
            take(bytes)
        });
        let result = self.mode.note(self, Direction::Read, result).map_err(|error| error.during("read"));
        // What was lent is progress, even if none of it was taken.
        self.handlers.called(&self.mode, Direction::Read, if asked { &Ok(1) } else { &result });
        result
    }

    fn next_layer(&self) -> Option<&dyn Channel> {
        None
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
