//! Threads that sleep in a call, and what other threads leave for them \[W10\].

mod support;

use std::fs::{self, File};
use std::io::{IoSlice, IoSliceMut, Read, Seek};
use std::os::fd::AsRawFd;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use channel_core::engine::{Encoder, Source};
use channel_core::{
    AioChange, AioHandler, Buffer, Channel, ChannelExt, Direction, ErrorKind, Layered, Limits, MemoryChannel,
    ReadFlags, Readiness, Result, WriteFlags,
};
use channel_testkit::asleep::asleep;
use channel_testkit::recording::Recorder;
use channel_testkit::{child, watchdog};
use support::{FullStop, Plain, plain};

fn try_write(channel: &dyn Channel, bytes: &[u8]) -> Result<usize> {
    channel.writev_full(&[IoSlice::new(bytes)], &[], WriteFlags::DONT_WAIT)
}

/// Two layers over a memory that holds little, and the far end of that.
fn stack() -> (Layered<Plain, Plain>, MemoryChannel) {
    let (near, far) = MemoryChannel::pair_with_capacity(100).unwrap();
    (plain("upper", plain("lower", near)), far)
}

/// Has `leave` called while a reader of the upper layer sleeps: the peer gets what that left, 1000 bytes, and the reader its answer.
fn is_sent(what: &str, leave: fn(&dyn Channel)) {
    watchdog::run(what, || {
        let (near, far) = stack();
        thread::scope(|scope| {
            let reader = asleep(scope, || near.read_all(&mut [0; 5]));
            leave(&near);
            far.read_all(&mut [0; 1000]).unwrap();
            far.write_all(b"reply").unwrap();
            reader.join().unwrap().unwrap();
        });
    });
}

#[test]
fn a_sleeping_reader_sends_what_another_thread_left_when_it_uncorked() {
    is_sent("uncorked", |near| {
        near.set_cork(true);
        near.write_all(&[7; 1000]).unwrap();
        near.set_cork(false);
    });
}

#[test]
fn a_sleeping_reader_sends_what_another_thread_left_without_waiting() {
    is_sent("without waiting", |near| assert_eq!(try_write(near, &[7; 1000]).unwrap(), 1000));
}

#[test]
fn a_sleeping_reader_sends_what_was_left_in_a_layer_below() {
    is_sent("below", |near| assert_eq!(try_write(near.next_layer().unwrap(), &[7; 1000]).unwrap(), 1000));
}

#[test]
fn a_wait_hears_of_what_another_thread_left() {
    watchdog::run("wait", || {
        let (near, far) = stack();
        near.set_blocking(false);
        thread::scope(|scope| {
            // `wait` and the `_all` forms sleep outside of the channel.
            let reader = asleep(scope, || near.read_all(&mut [0; 5]));
            assert_eq!(near.write(&[7; 1000]).unwrap(), 1000);
            far.read_all(&mut [0; 1000]).unwrap();
            far.write_all(b"reply").unwrap();
            reader.join().unwrap().unwrap();
        });
    });
}

#[test]
fn a_sleeping_reader_hears_of_bytes_that_another_threads_call_took_into_the_layer() {
    watchdog::run("held", || {
        let (near, far) = stack();
        thread::scope(|scope| {
            let reader = asleep(scope, || near.wait(Direction::Read, None));
            // As a peek would: what it sees stays in the layer, and the descriptor below becomes silent.
            far.write_all(b"x").unwrap();
            let mut seen = 0;
            while seen == 0 {
                let lent = near.with_read_buf(&mut |bytes| {
                    seen = bytes.len();
                    0
                });
                assert!(lent.map_or_else(|error| error.is_would_block(), |count| count == 0));
            }
            assert!(reader.join().unwrap().unwrap());
            assert_eq!(near.readv_full(&mut [IoSliceMut::new(&mut [0])], None, ReadFlags::DONT_WAIT).unwrap(), 1);
        });
    });
}

#[test]
fn an_answer_that_something_has_changed_since_lets_nobody_sleep() {
    watchdog::run("since", || {
        let (near, _far) = stack();
        let before = near.readiness(Direction::Read);
        assert_eq!(try_write(&near, &[7; 1000]).unwrap(), 1000);
        assert!(before.block(None).unwrap());
        // Now it waits for room, too, and there is nothing new.
        let Readiness::Wait(_) = near.readiness(Direction::Read) else { panic!("there is nothing to read") };
    });
}

#[test]
fn a_sleeping_reader_hears_that_our_end_began_to_ask_for_the_peers() {
    watchdog::run("asks", || {
        let (near, _far) = MemoryChannel::pair().unwrap();
        let limits = Limits { linger: Duration::from_millis(50), ..Limits::default() };
        let near = Layered::open("asks", Box::new(near), FullStop, FullStop, limits).unwrap();
        thread::scope(|scope| {
            let reader = asleep(scope, || near.read(&mut [0]));
            near.close_write().unwrap();
            let error = reader.join().unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        });
    });
}

#[test]
fn sleepers_in_both_directions_hear_that_the_channel_is_closed() {
    watchdog::run("closed", || {
        let (near, _far) = stack();
        while try_write(&near, &[7; 1000]).is_ok() {}
        thread::scope(|scope| {
            let reader = asleep(scope, || near.read(&mut [0]));
            let writer = asleep(scope, || near.write(&[7]));
            near.set_blocking(false);
            assert!(near.close().unwrap_err().is_would_block(), "the peer takes nothing");
            assert!(reader.join().unwrap().unwrap_err().is_closed());
            assert!(writer.join().unwrap().unwrap_err().is_closed());
        });
    });
}

#[test]
fn who_sleeps_without_a_descriptor_to_be_woken_by_looks_again_by_and_by() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    child::run("who_sleeps_without_a_descriptor_to_be_woken_by_looks_again_by_and_by", || {
        let (near, far) = stack();
        let before = getrlimit(Resource::Nofile);
        let next = File::open("/dev/null").unwrap().as_raw_fd();
        let (begins, (tell, told)) = (AtomicBool::new(false), mpsc::channel());
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                tell.send(fs::read_link("/proc/thread-self").unwrap()).unwrap();
                while !begins.load(Ordering::Acquire) {
                    std::hint::spin_loop(); // awake, so that it sleeps only where it reads
                }
                near.read_all(&mut [0; 5])
            });
            let mut stat = File::open(Path::new("/proc").join(told.recv().unwrap()).join("stat")).unwrap();
            // No number above those in use.
            setrlimit(Resource::Nofile, Rlimit { current: u64::try_from(next + 1).ok(), ..before }).unwrap();
            begins.store(true, Ordering::Release);
            let mut sleeps = || {
                let mut line = String::new();
                stat.rewind().unwrap();
                stat.read_to_string(&mut line).unwrap();
                line.rsplit(')').next().is_some_and(|state| state.trim_start().starts_with('S'))
            };
            while !(0..3).all(|_| sleeps()) {
                thread::yield_now();
            }
            assert_eq!(try_write(&near, &[7; 1000]).unwrap(), 1000);
            far.read_all(&mut [0; 1000]).unwrap();
            far.write_all(b"reply").unwrap();
            reader.join().unwrap().unwrap();
            setrlimit(Resource::Nofile, before).unwrap();
        });
    });
}

/// Counts how often it is asked for replies: with each attempt to push.
struct Counting(Arc<AtomicUsize>);

impl Encoder for Counting {
    fn pump(&mut self, _: &mut Buffer) -> Result<()> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn encode(&mut self, source: &mut Source<'_, '_>, out: &mut Buffer) -> Result<()> {
        Plain.encode(source, out)
    }
}

#[test]
fn two_who_close_do_not_keep_each_other_awake_and_hear_of_an_earlier_deadline() {
    watchdog::run("two_who_close", || {
        let (near, _far) = MemoryChannel::pair_with_capacity(100).unwrap();
        let pushed = Arc::new(AtomicUsize::new(0));
        let limits = Limits { linger: Duration::from_secs(1000), ..Limits::default() };
        let near = Layered::open("counting", Box::new(near), Plain, Counting(Arc::clone(&pushed)), limits).unwrap();
        assert_eq!(try_write(&near, &[7; 1000]).unwrap(), 1000);
        thread::scope(|scope| {
            let closers: Vec<_> = (0..2).map(|_| asleep(scope, || near.close())).collect();
            near.set_blocking(false);
            let pushes = |attempts: &dyn Fn()| {
                let before = pushed.load(Ordering::Relaxed);
                attempts();
                pushed.load(Ordering::Relaxed) - before
            };
            let attempt = || assert!(near.close().unwrap_err().is_would_block());
            // Of a third, who tries again and again: the two have no reason to wake.
            let one = pushes(&attempt);
            let many = pushes(&|| (0..1000).for_each(|_| attempt()));
            let error = near.close_by(Instant::now()).unwrap_err();
            closers.into_iter().for_each(|closer| assert!(closer.join().unwrap().is_err()));
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
            assert!(many <= 1010 * one, "{many} pushes in 1000 attempts of {one} each");
        });
    });
}

#[test]
fn a_panic_of_who_borrows_leaves_no_handler_waiting_for_what_is_held() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let near = Arc::new(plain("plain", near));
    near.set_blocking(false);
    let (recorder, calls) = (Recorder::new(), Arc::new(AtomicUsize::new(0)));
    let (weak, counts) = (Arc::downgrade(&near), Arc::clone(&calls));
    let handler = AioHandler::new(recorder.clone(), move || {
        let Some(near) = weak.upgrade() else { return };
        if counts.fetch_add(1, Ordering::Relaxed) == 0 {
            let _ = near.with_read_buf(&mut |_| panic::resume_unwind(Box::new("mine")));
        }
    });
    near.set_aio_fd_handler(AioChange::Set(handler), AioChange::Keep).unwrap();
    far.write_all(b"held").unwrap();
    let turn = panic::catch_unwind(AssertUnwindSafe(|| recorder.turn_until(Duration::from_secs(20), || false)));
    assert!(turn.is_err(), "the panic of a handler is its loop's");
    assert!(recorder.turn_until(Duration::from_secs(20), || calls.load(Ordering::Relaxed) > 1).unwrap());
}
