//! A flush during which a reply comes up: it is done when that has gone, too.

#[path = "support/odd.rs"]
mod odd;
mod support;

use std::io::IoSliceMut;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use channel_core::engine::{Decoded, Decoder, Encoder, Sink, Source, Stopped};
use channel_core::{Buffer, Channel, ChannelExt, Layered, Limits, MemoryChannel, ReadFlags, Result};
use channel_testkit::watchdog;
use odd::{Happens, interrupted};
use support::Plain;

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
    let inner = interrupted(Box::new(inner), &happens);
    let near = Arc::new(Layered::open("echo", Box::new(inner), echo.clone(), echo, Limits::default()).unwrap());
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
