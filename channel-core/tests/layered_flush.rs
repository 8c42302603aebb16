//! A flush during which a reply comes up: it is done when that has gone, too.

mod support;

use std::any::Any;
use std::io::{IoSlice, IoSliceMut, SeekFrom};
use std::net::Shutdown;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Instant;

use channel_core::engine::{Decoded, Decoder, Encoder, Sink, Source, Stopped};
use channel_core::{
    AioChange, Buffer, Channel, ChannelExt, Direction, Features, Layered, Limits, MemoryChannel, ReadFlags, Readiness,
    Removed, Result, WriteFlags,
};
use channel_testkit::watchdog;
use support::Plain;

/// What happens in the middle of something, as another thread may make it happen.
type Happens = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

/// The channel inside, in whose next `flush` something happens.
struct Interrupted {
    inner: MemoryChannel,
    happens: Happens,
}

impl std::fmt::Debug for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Interrupted").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl Channel for Interrupted {
    fn flush(&self) -> Result<()> {
        let happens = self.happens.lock().unwrap().take();
        happens.into_iter().for_each(|happens| happens());
        self.inner.flush()
    }
    fn layer(&self) -> &'static str {
        "interrupted"
    }
    fn name(&self) -> Option<Arc<str>> {
        self.inner.name()
    }
    fn set_name(&self, name: &str) {
        self.inner.set_name(name);
    }
    fn features(&self) -> Features {
        self.inner.features()
    }
    fn why_not(&self, feature: Features) -> Option<String> {
        self.inner.why_not(feature)
    }
    fn describe_layer(&self) -> String {
        self.layer().to_owned()
    }
    fn readv_full(
        &self,
        bufs: &mut [IoSliceMut<'_>],
        fds: Option<&mut Vec<OwnedFd>>,
        flags: ReadFlags,
    ) -> Result<usize> {
        self.inner.readv_full(bufs, fds, flags)
    }
    fn writev_full(&self, bufs: &[IoSlice<'_>], fds: &[BorrowedFd<'_>], flags: WriteFlags) -> Result<usize> {
        self.inner.writev_full(bufs, fds, flags)
    }
    fn set_blocking(&self, blocking: bool) {
        self.inner.set_blocking(blocking);
    }

    fn take_over(&self) {
        self.inner.take_over();
    }
    fn set_delay(&self, delay: bool) {
        self.inner.set_delay(delay);
    }
    fn set_cork(&self, cork: bool) {
        self.inner.set_cork(cork);
    }
    fn close_write(&self) -> Result<()> {
        self.inner.close_write()
    }
    fn shutdown(&self, how: Shutdown) -> Result<()> {
        self.inner.shutdown(how)
    }
    fn close(&self) -> Result<()> {
        self.inner.close()
    }
    fn close_by(&self, deadline: Instant) -> Result<()> {
        self.inner.close_by(deadline)
    }
    fn seek(&self, position: SeekFrom) -> Result<u64> {
        self.inner.seek(position)
    }
    fn readiness(&self, direction: Direction) -> Readiness {
        self.inner.readiness(direction)
    }
    fn set_aio_fd_handler(&self, read: AioChange, write: AioChange) -> Result<Removed> {
        self.inner.set_aio_fd_handler(read, write)
    }
    fn handshake(&self) -> Result<()> {
        self.inner.handshake()
    }
    fn with_read_buf(&self, take: &mut dyn FnMut(&[u8]) -> usize) -> Result<usize> {
        self.inner.with_read_buf(take)
    }
    fn next_layer(&self) -> Option<&dyn Channel> {
        Some(&self.inner)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Sends back whatever comes.
#[derive(Clone, Default)]
struct Echo(Arc<Mutex<Vec<u8>>>);

impl Decoder for Echo {
    fn decode(&mut self, input: &mut [u8], _: &mut Sink<'_, '_>) -> Result<Decoded> {
        self.0.lock().unwrap().extend(&*input);
        Ok(Decoded { consumed: input.len(), stopped: Stopped::NeedInput, reply: !input.is_empty() })
    }

    fn end(&mut self, _: usize) -> Result<()> {
        Ok(())
    }
}

impl Encoder for Echo {
    fn pump(&mut self, out: &mut Buffer) -> Result<()> {
        out.extend(&std::mem::take(&mut *self.0.lock().unwrap()));
        Ok(())
    }

    fn encode(&mut self, source: &mut Source<'_, '_>, out: &mut Buffer) -> Result<()> {
        Plain.encode(source, out)
    }
}

/// A layer that has something to say back, over a pipe that holds four bytes; the far end of that; and the telling of when somebody has
/// read, in the middle of the next flush of the pipe, and left a reply.
fn replying() -> (Arc<Layered<Echo, Echo>>, MemoryChannel, mpsc::Receiver<()>) {
    let (inner, far) = MemoryChannel::pair_with_capacity(4).unwrap();
    let (happens, echo) = (Happens::default(), Echo::default());
    let inner = Interrupted { inner, happens: Arc::clone(&happens) };
    let near = Arc::new(Layered::open("echo", Box::new(inner), echo.clone(), echo, Limits::default()));
    far.write_all(b"ping").unwrap();
    let (reader, (tell, told)) = (Arc::downgrade(&near), mpsc::channel());
    *happens.lock().unwrap() = Some(Box::new(move || {
        let near = reader.upgrade().unwrap();
        let read = near.readv_full(&mut [IoSliceMut::new(&mut [0])], None, ReadFlags::DONT_WAIT);
        assert!(read.unwrap_err().is_would_block(), "a ping is no data");
        tell.send(()).unwrap();
    }));
    (near, far, told)
}

#[test]
fn a_flush_is_not_done_while_a_reply_that_came_up_meanwhile_waits() {
    let (near, far, told) = replying();
    near.set_blocking(false);
    assert_eq!(near.write(b"data").unwrap(), 4);
    assert!(near.flush().unwrap_err().is_would_block());
    told.try_recv().unwrap();
    let mut heard = [0; 4];
    far.read_all(&mut heard).unwrap();
    assert_eq!(&heard, b"data");
    near.flush().unwrap();
    far.read_all(&mut heard).unwrap();
    assert_eq!(&heard, b"ping");
}

#[test]
fn a_write_that_waits_leaves_no_reply_behind_that_came_up_meanwhile() {
    watchdog::run("a_write_that_waits_leaves_no_reply_behind", || {
        let (near, far, told) = replying();
        thread::scope(|scope| {
            let writing = scope.spawn(|| near.write_all(b"data").unwrap());
            told.recv().unwrap(); // there is no room for the reply yet
            let mut heard = [0; 8];
            far.read_all(&mut heard).unwrap();
            assert_eq!(&heard, b"dataping");
            writing.join().unwrap();
        });
    });
}
