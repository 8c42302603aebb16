//! What `close` leaves behind, and that it never outlasts the linger.

#[path = "support/buffers.rs"]
mod buffers;
#[path = "support/odd.rs"]
mod odd;
mod support;

use std::io::IoSlice;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use buffers::assert_none_holds_a_buffer;
use channel_core::engine::{Advance, Decoded, Decoder, Encoder, Ending, Handshake, Sink, Source, Stopped};
use channel_core::{
    AioChange, AioChannel, AioHandler, Buffer, Channel, ChannelExt, Condition, Direction, Error, ErrorKind, EventLoop,
    Layered, Limits, MemoryChannel, Readiness, Result, WriteFlags,
};
use channel_testkit::asleep::asleep;
use channel_testkit::{child, watchdog};
use odd::{counted, ending_when_read, endless, unclosing};
use support::{FullStop, NeverDone, Plain, plain};

fn lingering(linger: Duration) -> (Layered<FullStop, Plain>, MemoryChannel) {
    let (near, far) = MemoryChannel::pair_with_capacity(100).unwrap();
    let limits = Limits { linger, ..Limits::default() };
    (Layered::open("full stop", Box::new(near), FullStop, Plain, limits).unwrap(), far)
}

/// What a peer may leave undone that `close` waits for.
const LEAVES: [&str; 2] = ["an end below that does not come", "output that it does not take"];

fn leave(what: &str, near: &Layered<FullStop, Plain>, far: &MemoryChannel) {
    if what == LEAVES[0] {
        far.write_all(b"the end.").unwrap();
        near.read_all(&mut [0; 7]).unwrap();
        assert_eq!(near.read(&mut [0]).unwrap(), 0);
    } else {
        assert_eq!(near.writev_full(&[IoSlice::new(&[7; 1000])], &[], WriteFlags::DONT_WAIT).unwrap(), 1000);
    }
}

fn assert_closed(what: &str, closed: Result<()>, near: &Layered<FullStop, Plain>) {
    match closed {
        Ok(()) => assert_eq!(what, LEAVES[0]),
        Err(error) => assert_eq!((what, error.kind()), (LEAVES[1], ErrorKind::TimedOut), "{error}"),
    }
    assert!(near.read(&mut [0]).unwrap_err().is_closed());
}

#[test]
fn close_waits_while_the_linger_lasts_and_not_when_it_has_passed() {
    for what in LEAVES {
        let (near, far) = lingering(Duration::from_secs(1000));
        near.set_blocking(false);
        leave(what, &near, &far);
        assert!(near.close().unwrap_err().is_would_block(), "{what}");

        let (near, far) = lingering(Duration::ZERO);
        near.set_blocking(false);
        leave(what, &near, &far);
        assert_closed(what, near.close(), &near);
    }
}

#[test]
fn a_close_that_waits_comes_to_an_end_with_the_linger() {
    watchdog::run("a_close_that_waits_comes_to_an_end", || {
        for what in LEAVES {
            let (near, far) = lingering(Duration::from_millis(50));
            leave(what, &near, &far);
            assert_closed(what, near.close(), &near);
        }
    });
}

#[test]
fn a_layer_that_was_closed_holds_no_buffers_though_it_is_kept() {
    child::run("a_layer_that_was_closed_holds_no_buffers_though_it_is_kept", || {
        assert_none_holds_a_buffer(|| {
            let (near, far) = MemoryChannel::pair_with_capacity(1000).unwrap();
            let near = plain("plain", near);
            near.write_all(b"out").unwrap();
            far.write_all(b"what comes in").unwrap();
            near.read_all(&mut [0; 4]).unwrap(); // the layer holds the rest
            far.close().unwrap();
            near.close().unwrap();
            near
        });
        assert_none_holds_a_buffer(|| {
            let (near, far) = MemoryChannel::pair_with_capacity(64 << 10).unwrap();
            let near = Layered::open("unfinished", Box::new(near), NeverDone, Plain, Limits::default()).unwrap();
            near.set_blocking(false);
            far.write_all(&[7; 40 << 10]).unwrap();
            assert!(near.read(&mut [0]).unwrap_err().is_would_block());
            near.close().unwrap();
            near
        });
        assert_none_holds_a_buffer(|| {
            let (near, far) = lingering(Duration::ZERO);
            leave(LEAVES[1], &near, &far);
            assert_closed(LEAVES[1], near.close(), &near);
            near
        });
    });
}

/// Gives one byte at a time, and tells the end with the last.
struct ByByte;

impl Decoder for ByByte {
    fn decode(&mut self, input: &mut [u8], sink: &mut Sink<'_, '_>) -> Result<Decoded> {
        let (consumed, stopped) = match input {
            [] => (0, Stopped::NeedInput),
            [_, b'.', ..] => (2, Stopped::End),
            _ => (1, Stopped::SinkFull),
        };
        sink.put(&input[..consumed.min(1)]);
        Ok(Decoded { consumed, stopped, reply: false })
    }

    fn end(&mut self, _: usize) -> Result<()> {
        Ok(())
    }
}

#[test]
fn close_sees_the_end_that_came_with_the_last_of_what_it_throws_away_at_once() {
    for length in 1..40 {
        let (near, far) = MemoryChannel::pair().unwrap();
        let near = Layered::open("by byte", Box::new(near), ByByte, FullStop, Limits::default()).unwrap();
        far.write_all(&vec![b'x'; length]).unwrap();
        far.write_all(b".").unwrap();
        far.close_write().unwrap();
        near.set_blocking(false);
        // Many pieces take more than one attempt, each of which goes as far as it may.
        let attempts = (0..length).take_while(|_| near.close().is_err_and(|error| error.is_would_block())).count();
        assert!(attempts <= length / 16, "{attempts} for {length} pieces");
        near.close().unwrap();
    }
}

#[test]
fn a_channel_below_that_does_not_close_in_time_is_cut_off() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let limits = Limits { linger: Duration::ZERO, ..Limits::default() };
    let near = Layered::open("plain", Box::new(unclosing(Box::new(near))), Plain, Plain, limits).unwrap();
    let error = near.close().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    far.set_blocking(false);
    assert_eq!(far.read(&mut [0]).unwrap(), 0);
    assert_eq!(far.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe, "it is cut off, both ways");
}

#[test]
fn closing_inside_of_what_close_lets_go_of_is_refused_and_hangs_nobody() {
    struct Closes(Weak<dyn Channel>, mpsc::Sender<Result<()>>);
    impl Drop for Closes {
        fn drop(&mut self) {
            if let Some(channel) = self.0.upgrade() {
                self.1.send(channel.close()).unwrap();
            }
        }
    }
    watchdog::run("close inside close", || {
        let (near, _far) = MemoryChannel::pair().unwrap();
        let near: Arc<dyn Channel> = Arc::new(plain("plain", near));
        let event_loop = EventLoop::new().unwrap();
        let (told, closed) = mpsc::channel();
        let closes = Closes(Arc::downgrade(&near), told);
        let watch = near.create_watch(Condition::HUP).weak().attach(event_loop.handle(), move |_, _| {
            let _held = &closes;
            ControlFlow::Continue(())
        });
        near.close().unwrap();
        assert_eq!(closed.recv().unwrap().unwrap_err().kind(), ErrorKind::WouldDeadlock);
        assert!(watch.unwrap().is_over());
    });
}

#[test]
fn a_writer_in_an_event_loop_is_told_that_close_has_begun_though_its_peer_takes_nothing() {
    let (near, _far) = lingering(Duration::from_secs(1000));
    let near = Arc::new(near);
    near.set_blocking(false);
    leave(LEAVES[1], &near, &_far);
    let (event_loop, calls) = (EventLoop::new().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&calls);
    let handler = AioHandler::new(event_loop.handle(), move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    near.set_aio_fd_handler(AioChange::Keep, AioChange::Set(handler)).unwrap();
    while event_loop.run_once(Some(Duration::ZERO)).unwrap() > 0 {}
    let before = calls.load(Ordering::Relaxed);
    assert!(near.close().unwrap_err().is_would_block());
    event_loop.run_once(Some(Duration::ZERO)).unwrap();
    assert!(calls.load(Ordering::Relaxed) > before);
}

#[test]
fn a_peer_that_never_stops_sending_keeps_nobody_from_closing() {
    watchdog::run("an endless peer", || {
        let (near, _far) = MemoryChannel::pair().unwrap();
        let near = plain("plain", endless(Box::new(near)));
        near.set_blocking(false);
        near.close().unwrap();
    });
}

/// A handshake that the peer refuses.
struct Refused;

impl Handshake<Plain, Plain> for Refused {
    fn advance(&mut self, _: &mut [u8], _: bool, _: &mut Buffer) -> Result<Advance<Plain, Plain>> {
        Err(Error::new(ErrorKind::Refused, "refused", "on purpose"))
    }

    fn abort(&mut self, _: &Error, _: &mut Buffer) {}
}

#[test]
fn a_layer_over_one_that_was_refused_owes_its_peer_no_end() {
    let (near, _far) = MemoryChannel::pair().unwrap();
    let below: Layered<Plain, Plain> =
        Layered::with_handshake("refused", Box::new(near), Box::new(Refused), Limits::default()).unwrap();
    let near = Layered::open("full stop", Box::new(below), Plain, FullStop, Limits::default()).unwrap();
    near.set_blocking(false);
    assert_eq!(near.handshake().unwrap_err().kind(), ErrorKind::Refused);
    near.close().unwrap();
}

#[test]
fn an_end_that_nobody_hears_is_no_failure() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let near = Layered::open("full stop", Box::new(near), Plain, FullStop, Limits::default()).unwrap();
    far.close().unwrap();
    near.close_write().unwrap();
}

#[test]
fn close_takes_what_the_peer_sends_while_the_end_below_waits_for_that() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let limits = Limits { linger: Duration::from_secs(1000), ..Limits::default() };
    let near =
        Layered::open("full stop", Box::new(ending_when_read(Box::new(near))), FullStop, FullStop, limits).unwrap();
    near.set_blocking(false);
    far.write_all(b"the end.").unwrap();
    near.read_all(&mut [0; 7]).unwrap();
    assert_eq!(near.read(&mut [0]).unwrap(), 0);
    far.write_all(b"and more").unwrap();
    far.close_write().unwrap();
    assert!(near.close().unwrap_err().is_would_block());
    near.close().unwrap();
}

/// As [`FullStop`], and leaves it to the peer to end the channel below.
struct Leaves;

impl Encoder for Leaves {
    fn encode(&mut self, source: &mut Source<'_, '_>, out: &mut Buffer) -> Result<()> {
        Plain.encode(source, out)
    }

    fn finish(&mut self, out: &mut Buffer) -> Result<()> {
        FullStop.finish(out)
    }

    fn ending(&self) -> Ending {
        Ending::ClosingHandshake { ends_below: false }
    }
}

#[test]
fn on_a_loop_the_end_below_is_answered_though_nobody_reads_any_more() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let near = Layered::open("full stop", Box::new(near), FullStop, Leaves, Limits::default()).unwrap();
    near.set_blocking(false);
    let event_loop = EventLoop::new().unwrap();
    let handler = AioHandler::new(event_loop.handle(), || ());
    near.set_aio_fd_handler(AioChange::Keep, AioChange::Set(handler)).unwrap();
    near.close_write().unwrap();
    far.write_all(b".").unwrap();
    assert_eq!(near.read(&mut [0]).unwrap(), 0);
    while event_loop.run_once(Some(Duration::ZERO)).unwrap() > 0 {}
    far.close_write().unwrap();
    while event_loop.run_once(Some(Duration::ZERO)).unwrap() > 0 {}
    far.set_blocking(false);
    let mut heard = [0; 2];
    assert_eq!(far.read(&mut heard).unwrap(), 1);
    assert_eq!(far.read(&mut heard).unwrap(), 0, "the end below");
}

/// Says more than fits in a narrow pipe when it ends.
struct Farewell;

impl Encoder for Farewell {
    fn encode(&mut self, source: &mut Source<'_, '_>, out: &mut Buffer) -> Result<()> {
        Plain.encode(source, out)
    }

    fn finish(&mut self, out: &mut Buffer) -> Result<()> {
        out.extend(b"farewell");
        Ok(())
    }

    fn ending(&self) -> Ending {
        Ending::Own
    }
}

#[test]
fn on_a_loop_an_end_below_that_needs_room_again_and_again_goes_on() {
    for handler_of in [Direction::Read, Direction::Write] {
        let (near, far) = MemoryChannel::pair_with_capacity(3).unwrap();
        let below = Layered::open("below", Box::new(near), Plain, Farewell, Limits::default()).unwrap();
        let near = Layered::open("full stop", Box::new(below), FullStop, FullStop, Limits::default()).unwrap();
        near.set_blocking(false);
        far.set_blocking(false);
        near.write_all(b"no").unwrap();
        near.close_write().unwrap(); // and now the pipe is full
        let event_loop = EventLoop::new().unwrap();
        let handler = AioChange::Set(AioHandler::new(event_loop.handle(), || ()));
        let (read, write) = match handler_of {
            Direction::Read => (handler, AioChange::Keep),
            Direction::Write => (AioChange::Keep, handler),
        };
        near.set_aio_fd_handler(read, write).unwrap();
        far.write_all(b".").unwrap();
        assert_eq!(near.read(&mut [0]).unwrap(), 0);
        let mut heard = Vec::new();
        loop {
            let turns = (0..100).take_while(|_| event_loop.run_once(Some(Duration::ZERO)).unwrap() > 0).count();
            assert!(turns < 50, "{handler_of:?}: {turns} turns or more, and the pipe is full all the time");
            let mut piece = [0; 3];
            match far.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => heard.extend_from_slice(&piece[..count]),
                Err(error) => panic!("{handler_of:?}: after {:?}: {error}", heard.escape_ascii().to_string()),
            }
        }
        assert_eq!(heard, b"no.farewell");
        far.close_write().unwrap();
        let turns = (0..100).take_while(|_| event_loop.run_once(Some(Duration::ZERO)).unwrap() > 0).count();
        assert!(turns < 50, "{handler_of:?}: {turns} turns or more, and both have ended");
    }
}

#[test]
fn who_waits_for_an_end_that_a_layer_below_holds_is_left_alone_until_there_is_room() {
    let (near, far) = MemoryChannel::pair_with_capacity(4).unwrap();
    let near = Layered::open("full stop", Box::new(plain("below", near)), Plain, FullStop, Limits::default()).unwrap();
    let near = Arc::new(near);
    near.set_blocking(false);
    near.write_all(b"full").unwrap();
    assert!(near.close_write().unwrap_err().is_would_block());
    let event_loop = EventLoop::new().unwrap();
    let (channel, ended) = (Arc::downgrade(&near), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&ended);
    let handler = AioHandler::new(event_loop.handle(), move || {
        if channel.upgrade().unwrap().close_write().is_ok() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    near.set_aio_fd_handler(AioChange::Keep, AioChange::Set(handler)).unwrap();
    let turns = (0..100).take_while(|_| event_loop.run_once(Some(Duration::ZERO)).unwrap() > 0).count();
    assert!(turns < 10, "{turns} turns or more, and the pipe is full all the time");
    far.read_all(&mut [0; 4]).unwrap();
    while ended.load(Ordering::Relaxed) == 0 {
        assert!(event_loop.run_once(Some(Duration::from_secs(30))).unwrap() > 0, "nobody was told of the room");
    }
    far.read_all(&mut [0; 1]).unwrap();
}

#[test]
fn a_write_under_way_ends_with_the_linger_of_a_close_that_nobody_repeats() {
    watchdog::run("a close that is given up", || {
        let (near, _far) = lingering(Duration::from_millis(50));
        thread::scope(|scope| {
            let writing = asleep(scope, || near.write(&[7; 1000]));
            near.set_blocking(false);
            assert!(near.close().unwrap_err().is_would_block());
            assert_eq!(writing.join().unwrap().unwrap(), 1000, "they were taken before close began");
        });
    });
}

/// Ends its stream with a full stop, and does not ask for the other end's.
struct Stop;

impl Encoder for Stop {
    fn encode(&mut self, source: &mut Source<'_, '_>, out: &mut Buffer) -> Result<()> {
        Plain.encode(source, out)
    }

    fn finish(&mut self, out: &mut Buffer) -> Result<()> {
        FullStop.finish(out)
    }
}

#[test]
fn close_does_not_say_that_our_end_has_left_where_the_peer_made_no_room_for_it() {
    watchdog::run("an end without room", || {
        let (near, _far) = MemoryChannel::pair_with_capacity(4).unwrap();
        let limits = Limits { linger: Duration::from_millis(20), ..Limits::default() };
        let near = Layered::open("stop", Box::new(near), Plain, Stop, limits).unwrap();
        near.write_all(b"full").unwrap();
        assert_eq!(near.close().unwrap_err().kind(), ErrorKind::TimedOut);
    });
}

/// Cannot end any more once its peer said something, and has a last word for it.
#[derive(Clone, Default)]
struct Broken(Arc<AtomicUsize>);

impl Decoder for Broken {
    fn decode(&mut self, input: &mut [u8], _: &mut Sink<'_, '_>) -> Result<Decoded> {
        if input.is_empty() {
            return Ok(Decoded { consumed: 0, stopped: Stopped::NeedInput, reply: false });
        }
        self.0.store(1, Ordering::SeqCst);
        Err(Error::new(ErrorKind::Protocol, "broken", "on purpose"))
    }

    fn end(&mut self, _: usize) -> Result<()> {
        Ok(())
    }
}

impl Encoder for Broken {
    fn pump(&mut self, out: &mut Buffer) -> Result<()> {
        if self.0.swap(2, Ordering::SeqCst) == 1 {
            out.extend(b"!");
        }
        Ok(())
    }

    fn encode(&mut self, source: &mut Source<'_, '_>, out: &mut Buffer) -> Result<()> {
        Plain.encode(source, out)
    }

    fn finish(&mut self, _: &mut Buffer) -> Result<()> {
        Err(Error::new(ErrorKind::Protocol, "broken", "no end can be encoded"))
    }
}

#[test]
fn what_was_taken_and_the_last_word_leave_though_the_stream_cannot_be_ended_properly() {
    watchdog::run("a stream that breaks", || {
        let (near, far) = MemoryChannel::pair_with_capacity(4).unwrap();
        let limits = Limits { linger: Duration::from_secs(1000), ..Limits::default() };
        let engine = Broken::default();
        let near = Layered::open("broken", Box::new(near), engine.clone(), engine, limits).unwrap();
        near.set_blocking(false);
        assert_eq!(near.write(b"taken before").unwrap(), 12);
        far.write_all(b"?").unwrap();
        assert_eq!(near.read(&mut [0]).unwrap_err().kind(), ErrorKind::Protocol);
        near.set_blocking(true);
        thread::scope(|scope| {
            let closing = scope.spawn(|| near.close());
            let mut heard = [0; 13];
            far.read_all(&mut heard).unwrap();
            assert_eq!(&heard, b"taken before!");
            let _ = closing.join().unwrap(); // whatever it says, nothing was dropped
        });
    });
}

#[test]
fn who_closes_learns_of_an_earlier_deadline_though_whoever_set_that_has_gone() {
    watchdog::run("an earlier deadline", || {
        let (near, far) = lingering(Duration::from_secs(1000));
        near.set_blocking(false);
        leave(LEAVES[1], &near, &far);
        near.set_blocking(true);
        thread::scope(|scope| {
            let closing = asleep(scope, || near.close());
            near.set_blocking(false);
            let soon = Instant::now() + Duration::from_millis(50);
            assert!(near.close_by(soon).unwrap_err().is_would_block());
            assert_eq!(closing.join().unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
        });
    });
}

#[test]
fn the_end_of_the_linger_is_told_on_every_loop_that_has_a_handler() {
    watchdog::run("a loop that does not turn", || {
        let (near, far) = lingering(Duration::from_millis(50));
        let near = Arc::new(near);
        near.set_blocking(false);
        leave(LEAVES[1], &near, &far);
        let (idle, event_loop) = (EventLoop::new().unwrap(), EventLoop::new().unwrap());
        let (channel, closed) = (Arc::downgrade(&near), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&closed);
        let closes = AioHandler::new(event_loop.handle(), move || {
            if channel.upgrade().unwrap().close().is_err_and(|error| error.kind() == ErrorKind::TimedOut) {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        let reads = AioHandler::new(idle.handle(), || ());
        near.set_aio_fd_handler(AioChange::Set(reads), AioChange::Set(closes)).unwrap();
        assert!(near.close().unwrap_err().is_would_block());
        while closed.load(Ordering::Relaxed) == 0 {
            event_loop.run_once(None).unwrap();
        }
    });
}

#[test]
fn a_task_that_ends_its_output_learns_at_once_that_another_thread_closes() {
    watchdog::run("close beside close_write", || {
        let (near, _far) = MemoryChannel::pair_with_capacity(4).unwrap();
        let limits = Limits { linger: Duration::from_secs(1000), ..Limits::default() };
        let near = Arc::new(Layered::open("full stop", Box::new(near), Plain, FullStop, limits).unwrap());
        near.set_blocking(false);
        near.write_all(b"full").unwrap();
        let event_loop = EventLoop::new().unwrap();
        let channel = AioChannel::from_arc(near.clone());
        let task = event_loop.spawn(async move { channel.close_write().await });
        while event_loop.run_once(Some(Duration::ZERO)).unwrap() > 0 {}
        assert!(near.close().unwrap_err().is_would_block());
        assert!(event_loop.block_on(task).unwrap().unwrap().unwrap_err().is_closed());
    });
}

#[test]
fn what_is_known_of_a_peer_tells_more_than_that_it_took_nothing() {
    let (near, far) = MemoryChannel::pair_with_capacity(4).unwrap();
    let limits = Limits { linger: Duration::from_millis(20), ..Limits::default() };
    let near = Layered::open("full stop", Box::new(near), Refusing, FullStop, limits).unwrap();
    near.write_all(b"full").unwrap();
    far.write_all(b"bad").unwrap();
    assert_eq!(near.read(&mut [0]).unwrap_err().kind(), ErrorKind::Protocol);
    assert_eq!(near.close().unwrap_err().kind(), ErrorKind::Protocol);
}

/// Finds fault with everything.
struct Refusing;

impl Decoder for Refusing {
    fn decode(&mut self, input: &mut [u8], _: &mut Sink<'_, '_>) -> Result<Decoded> {
        if input.is_empty() {
            return Ok(Decoded { consumed: 0, stopped: Stopped::NeedInput, reply: false });
        }
        Err(Error::new(ErrorKind::Protocol, "full stop", "on purpose"))
    }

    fn end(&mut self, _: usize) -> Result<()> {
        Ok(())
    }
}

/// The peer says something by itself in front of all else.
struct Greeted {
    owed: bool,
}

impl Decoder for Greeted {
    fn decode(&mut self, input: &mut [u8], sink: &mut Sink<'_, '_>) -> Result<Decoded> {
        self.owed &= input.is_empty();
        Plain.decode(input, sink)
    }

    fn end(&mut self, _: usize) -> Result<()> {
        Ok(())
    }

    fn owed(&self) -> bool {
        self.owed
    }
}

#[test]
fn close_waits_for_what_the_peer_sends_by_itself_and_no_longer_than_the_linger() {
    for linger in [Duration::from_secs(1000), Duration::from_millis(20)] {
        for says in [&b"hello"[..], b""] {
            watchdog::run("what is owed", || {
                let (near, far) = MemoryChannel::pair().unwrap();
                let limits = Limits { linger, ..Limits::default() };
                let near = Layered::open("greeted", Box::new(near), Greeted { owed: true }, Plain, limits).unwrap();
                near.write_all(b"all").unwrap();
                if linger < Duration::from_secs(1) {
                    near.close().unwrap(); // nothing of ours was lost
                    return;
                }
                near.set_blocking(false);
                assert!(near.close().unwrap_err().is_would_block());
                far.read_all(&mut [0; 3]).unwrap();
                far.write_all(says).unwrap();
                if says.is_empty() {
                    far.close_write().unwrap();
                }
                near.set_blocking(true);
                near.close().unwrap();
            });
        }
    }
    let (near, far) = MemoryChannel::pair().unwrap();
    let near = Layered::open("greeted", Box::new(near), Greeted { owed: true }, Plain, Limits::default()).unwrap();
    near.set_blocking(false);
    far.write_all(b"hello").unwrap();
    near.close().unwrap(); // it has come
}

/// Waits for a peer that says nothing, and tells it so in the end.
struct Patient;

impl Handshake<Plain, FullStop> for Patient {
    fn advance(&mut self, _: &mut [u8], _: bool, _: &mut Buffer) -> Result<Advance<Plain, FullStop>> {
        Ok(Advance::NeedInput { consumed: 0 })
    }

    fn abort(&mut self, _: &Error, out: &mut Buffer) {
        out.extend(b"late");
    }

    fn ending(&self) -> Ending {
        FullStop.ending()
    }
}

#[test]
fn close_waits_for_no_peer_that_said_nothing_in_the_handshake() {
    watchdog::run("a silent peer", || {
        let (near, far) = MemoryChannel::pair().unwrap();
        let (handshake, linger) = (Duration::from_millis(1), Duration::from_secs(1000));
        let near = Layered::with_handshake(
            "patient",
            Box::new(near),
            Box::new(Patient),
            Limits { handshake, linger, ..Limits::default() },
        )
        .unwrap();
        assert_eq!(near.handshake().unwrap_err().kind(), ErrorKind::TimedOut);
        near.close().unwrap();
        far.read_all(&mut [0; 4]).unwrap();
        assert_eq!(far.read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn a_task_may_close_by_a_deadline_of_its_own() {
    let (near, _far) = MemoryChannel::pair_with_capacity(4).unwrap();
    let limits = Limits { linger: Duration::from_secs(1000), ..Limits::default() };
    let near = Layered::open("full stop", Box::new(near), Plain, FullStop, limits).unwrap();
    near.write_all(b"full").unwrap();
    let near = AioChannel::new(near);
    let closed = EventLoop::new().unwrap().block_on(near.close_by(Instant::now() + Duration::from_millis(5)));
    assert!(closed.unwrap().unwrap_err().is_timed_out());
}

#[test]
fn close_takes_what_comes_while_it_waits_for_room_also_behind_the_end() {
    for first in ["", "."] {
        watchdog::run("a peer that writes before it reads", || {
            let (near, far) = MemoryChannel::pair_with_capacity(4).unwrap();
            let limits = Limits { linger: Duration::from_secs(1000), ..Limits::default() };
            let near = Layered::open("full stop", Box::new(near), FullStop, FullStop, limits).unwrap();
            near.write_all(b"full").unwrap();
            let peer = thread::spawn(move || {
                far.write_all(first.as_bytes())?;
                far.write_all(&[b'x'; 100])?;
                far.write_all(b".")?;
                let mut heard = [0; 5];
                far.read_all(&mut heard)?;
                far.close().map(|()| heard)
            });
            near.close().unwrap();
            assert_eq!(&peer.join().unwrap().unwrap(), b"full.");
        });
    }
}

#[test]
fn who_closes_before_the_handshake_waits_for_the_channel_below_no_longer_than_the_linger() {
    let (near, _far) = MemoryChannel::pair().unwrap();
    let limits = Limits { linger: Duration::from_millis(20), ..Limits::default() };
    let near =
        Layered::with_handshake("patient", Box::new(unclosing(Box::new(near))), Box::new(Patient), limits).unwrap();
    near.set_blocking(false);
    assert!(near.close().unwrap_err().is_would_block(), "there is time left");
    near.set_blocking(true);
    assert_eq!(near.close().unwrap_err().kind(), ErrorKind::TimedOut);
}

#[test]
fn a_closer_that_meets_the_end_in_its_last_piece_waits_for_nothing_more() {
    let (inner, far) = MemoryChannel::pair_with_capacity(4 << 20).unwrap();
    let near = Layered::open("full stop", Box::new(inner), FullStop, FullStop, Limits::default()).unwrap();
    near.set_blocking(false);
    let mut last_words = vec![b'x'; 16 * 16 * 1024]; // as much as one attempt throws away
    *last_words.last_mut().unwrap() = b'.';
    far.write_all(&last_words).unwrap();
    far.close_write().unwrap();
    near.close().unwrap();
}

#[test]
fn who_closes_on_a_loop_is_called_for_what_the_layer_holds_though_nothing_more_comes() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let limits = Limits { linger: Duration::from_secs(1000), ..Limits::default() };
    let near = Arc::new(Layered::open("by byte", Box::new(near), ByByte, FullStop, limits).unwrap());
    near.set_blocking(false);
    far.set_blocking(false);
    let event_loop = EventLoop::new().unwrap();
    let channel = Arc::downgrade(&near);
    let closes = AioHandler::new(event_loop.handle(), move || drop(channel.upgrade().unwrap().close()));
    near.set_aio_fd_handler(AioChange::Keep, AioChange::Set(closes)).unwrap();
    far.write_all(&[b'x'; 40]).unwrap(); // more than one attempt throws away
    far.write_all(b".").unwrap();
    assert!(near.close().unwrap_err().is_would_block());
    while event_loop.run_once(Some(Duration::ZERO)).unwrap() > 0 {}
    let mut heard = [0; 2];
    assert_eq!(far.read(&mut heard).unwrap(), 1, "our end");
    assert_eq!(far.read(&mut heard).unwrap(), 0, "the end below, which waits for the peer's end");
}

#[test]
fn two_who_close_do_not_keep_each_other_awake() {
    watchdog::run("two who close", || {
        let (near, far) = MemoryChannel::pair().unwrap();
        let limits = Limits { linger: Duration::from_secs(1000), ..Limits::default() };
        let reads = Arc::new(AtomicUsize::new(0));
        let near =
            Layered::open("full stop", Box::new(counted(Box::new(near), &reads)), FullStop, FullStop, limits).unwrap();
        thread::scope(|scope| {
            let closing = asleep(scope, || near.close());
            near.set_blocking(false);
            let later = Instant::now() + Duration::from_secs(2000);
            assert!(near.close_by(later).unwrap_err().is_would_block());
            let before = reads.load(Ordering::SeqCst);
            for _ in 0..100 {
                assert!(near.close_by(later).unwrap_err().is_would_block());
                thread::yield_now(); // to the other, should that have been woken
            }
            assert_eq!(reads.load(Ordering::SeqCst) - before, 100, "the other one tried, too");
            far.write_all(b".").unwrap();
            far.close_write().unwrap();
            closing.join().unwrap().unwrap();
        });
    });
}

#[test]
fn a_reader_in_an_event_loop_is_told_that_close_has_begun_though_its_peer_takes_nothing() {
    let (near, far) = lingering(Duration::from_secs(1000));
    let near = Arc::new(near);
    near.set_blocking(false);
    let (event_loop, channel, told) = (EventLoop::new().unwrap(), Arc::downgrade(&near), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&told);
    let reads = AioHandler::new(event_loop.handle(), move || {
        if channel.upgrade().unwrap().read(&mut [0]).unwrap_err().is_closed() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    near.set_aio_fd_handler(AioChange::Set(reads), AioChange::Keep).unwrap();
    leave(LEAVES[1], &near, &far);
    while event_loop.run_once(Some(Duration::ZERO)).unwrap() > 0 {}
    assert!(near.close().unwrap_err().is_would_block());
    while event_loop.run_once(Some(Duration::ZERO)).unwrap() > 0 {}
    assert_eq!(told.load(Ordering::Relaxed), 1);
}

#[test]
fn who_closes_where_nothing_has_room_or_has_come_is_not_called_ready() {
    let (near, _far) = MemoryChannel::pair_with_capacity(4).unwrap();
    let limits = Limits { linger: Duration::from_secs(1000), ..Limits::default() };
    let near = Layered::open("full stop", Box::new(near), FullStop, FullStop, limits.clone()).unwrap();
    near.set_blocking(false);
    near.write_all(b"full").unwrap();
    assert!(near.close().unwrap_err().is_would_block());
    assert!(!matches!(near.readiness(Direction::Write), Readiness::Ready), "our end has no room");

    let (near, far) = MemoryChannel::pair_with_capacity(4).unwrap();
    let below = Layered::open("below", Box::new(near), Plain, Farewell, Limits::default()).unwrap();
    let near = Layered::open("full stop", Box::new(below), FullStop, FullStop, limits).unwrap();
    near.set_blocking(false);
    far.write_all(b".").unwrap();
    assert!(near.close().unwrap_err().is_would_block());
    assert!(!matches!(near.readiness(Direction::Write), Readiness::Ready), "the end below has no room");
}

#[test]
fn who_closes_on_a_loop_that_turns_does_not_need_one_that_does_not() {
    for what in ["an answer", "room"] {
        watchdog::run("a loop that does not turn", || {
            let (near, far) = MemoryChannel::pair_with_capacity(100).unwrap();
            let limits = Limits { linger: Duration::from_secs(1000), ..Limits::default() };
            let near: Arc<dyn Channel> = if what == "room" {
                Arc::new(Layered::open("plain", Box::new(near), Plain, Plain, limits).unwrap())
            } else {
                Arc::new(Layered::open("full stop", Box::new(near), FullStop, FullStop, limits).unwrap())
            };
            near.set_blocking(false);
            if what == "room" {
                assert_eq!(near.writev_full(&[IoSlice::new(&[7; 1000])], &[], WriteFlags::DONT_WAIT).unwrap(), 1000);
            }
            let (stands, turns) = (EventLoop::new().unwrap(), EventLoop::new().unwrap());
            let closers = [&stands, &turns].map(|event_loop| {
                let channel = AioChannel::from_arc(Arc::clone(&near));
                let task = event_loop.spawn(async move { channel.close().await });
                while event_loop.run_once(Some(Duration::ZERO)).unwrap() > 0 {}
                task
            });
            let peer = thread::spawn(move || {
                if what == "room" {
                    far.read_all(&mut [0; 1000]).unwrap();
                } else {
                    far.write_all(b".").unwrap();
                    far.close_write().unwrap();
                }
                far
            });
            let [first, second] = closers;
            turns.block_on(second).unwrap().unwrap().unwrap();
            stands.block_on(first).unwrap().unwrap().unwrap();
            peer.join().unwrap();
        });
    }
}

#[test]
fn who_closes_before_a_layer_opened_waits_for_no_end_of_the_peers() {
    let (near, _far) = MemoryChannel::pair().unwrap();
    let below: Layered<Plain, FullStop> =
        Layered::with_handshake("patient", Box::new(near), Box::new(Patient), Limits::default()).unwrap();
    let near = Layered::open("full stop", Box::new(below), Plain, FullStop, Limits::default()).unwrap();
    near.close().unwrap();
}
