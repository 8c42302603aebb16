//! A channel on two loops: one for each direction, or one after the other.

use std::io::{IoSlice, IoSliceMut};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use channel_core::{AioChange, AioHandler, Channel, ChannelExt, Direction, ReadFlags, Removed, Result, WriteFlags};

use super::super::Setup;
use super::super::end::{End, Task, stream};
use super::{TURN, handler, lock, set};
use crate::recording::Recorder;

/// What one call of a handler moves at most.
const PIECE: usize = 4096;
/// What the peer sends ahead of the handlers at most.
const WINDOW: usize = 128 * 1024;

/// \[H6\] The read and the write handler may be on two contexts: each is called on its own alone, at the same time as the other, and
/// nothing is lost.
pub fn h6_each_handler_is_called_on_its_own_context(setup: &Setup) {
    const AMOUNT: usize = 1 << 20;
    /// Where every byte takes long, fewer of them will do.
    const LONG: Duration = Duration::from_millis(300);
    let (near, far) = setup.pair();
    let [reading, writing] = [Loop::run(setup), Loop::run(setup)];
    let near_end = Arc::new(Traffic::new(&near, AMOUNT, LONG));
    let far_end = Peer::run(&far, AMOUNT, LONG, &near_end);
    set(&near, near_end.reading(&reading), near_end.writing(&writing));
    setup.step("full duplex with a loop for each direction");
    near_end.until_over(setup, &far_end, || "a loop for each direction".to_owned());
    drop((reading, writing));
    let strays = near_end.strays.load(Ordering::Relaxed);
    assert_eq!(strays, 0, "calls of a handler on the thread of the other one's loop");
}

/// \[H7\] A channel can be handed from loop to loop under load: its handlers are cleared, `Removed::wait` returns, and they are set on
/// the other loop. Nothing is lost, repeated, or out of order, and no handler of the old loop runs after `wait` has returned.
pub fn h7_a_channel_moves_from_loop_to_loop_under_load(setup: &Setup) {
    const MOVES: usize = 60;
    /// What happens between two moves, or how long it may take.
    const EVENTS: usize = 50;
    const SOON: Duration = Duration::from_millis(5);
    const ENDLESS: Duration = Duration::from_secs(3600);
    let (near, far) = setup.pair();
    let loops = [Loop::run(setup), Loop::run(setup)];
    let near_end = Arc::new(Traffic::new(&near, usize::MAX, ENDLESS));
    let far_end = Peer::run(&far, usize::MAX, ENDLESS, &near_end);
    setup.step("handing a channel from loop to loop");
    for moves in 0..MOVES {
        let [old, new] = if moves % 2 == 0 { [&loops[1], &loops[0]] } else { [&loops[0], &loops[1]] };
        // On a thread that is neither loop's, and on that of the loop it leaves.
        let waited = if moves % 4 < 2 { clear(&**near.channel()) } else { old.ask(near.channel(), clear) };
        waited.unwrap_or_else(|error| panic!("clearing handlers, and waiting for their calls, failed: {error:?}"));
        near_end.owner.store(new.id, Ordering::SeqCst);
        let (before, begun) = (near_end.events(), Instant::now());
        set(&near, near_end.reading(new), near_end.writing(new));
        while near_end.events() < before + EVENTS && begun.elapsed() < SOON {
            thread::sleep(Duration::from_micros(100));
        }
    }
    near_end.stop.store(true, Ordering::SeqCst);
    near_end.until_over(setup, &far_end, || format!("{MOVES} moves from loop to loop"));
    let strays = near_end.strays.load(Ordering::Relaxed);
    assert_eq!(strays, 0, "calls of handlers that ran after Removed::wait, or on a thread that is not their loop's");
    drop(loops);
}

fn clear(near: &dyn Channel) -> Result<()> {
    near.set_aio_fd_handler(AioChange::Clear, AioChange::Clear).and_then(Removed::wait)
}

/// A loop with a thread of its own, until this is dropped.
struct Loop {
    recorder: Arc<Recorder>,
    id: usize,
    stop: Arc<AtomicBool>,
    thread: Option<Task<()>>,
}

thread_local! {
    /// Which loop this thread runs.
    static RUNS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

impl Loop {
    fn run(setup: &Setup) -> Self {
        static IDS: AtomicUsize = AtomicUsize::new(1);
        let (recorder, stop) = (Recorder::new(), Arc::new(AtomicBool::new(false)));
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        let thread = {
            let (recorder, stop, setup) = (Arc::clone(&recorder), Arc::clone(&stop), setup.clone());
            Task::spawn(move || {
                RUNS.set(id);
                while !stop.load(Ordering::Relaxed) {
                    setup.drive_on();
                    recorder.turn(TURN).expect("a turn");
                }
            })
        };
        Self { recorder, id, stop, thread: Some(thread) }
    }

    /// Runs `call` on the thread of the loop.
    fn ask<T: Send + 'static>(&self, near: &Arc<dyn Channel>, call: fn(&dyn Channel) -> T) -> T {
        let (tell, told) = mpsc::channel();
        let near = Arc::clone(near);
        channel_core::AioContext::schedule(&*self.recorder, Box::new(move || drop(tell.send(call(&*near)))));
        told.recv().expect("the loop runs")
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        channel_core::AioContext::schedule(&*self.recorder, Box::new(|| ()));
        if let Some(thread) = self.thread.take().filter(|_| !thread::panicking()) {
            thread.join();
        }
    }
}

/// What the handlers of the near end do: read what comes, and write the test stream.
struct Traffic {
    near: Weak<dyn Channel>,
    /// What the handlers may write, and until when.
    most: usize,
    until: Instant,
    stop: AtomicBool,
    /// The loop whose handlers may run; 0 where each direction has its own.
    owner: AtomicUsize,
    strays: AtomicUsize,
    read: AtomicUsize,
    written: AtomicUsize,
    /// Handlers write no more.
    all_written: AtomicBool,
    failure: Mutex<Option<String>>,
}

impl Traffic {
    fn new(near: &End, most: usize, for_so_long: Duration) -> Self {
        Self {
            near: Arc::downgrade(near.channel()),
            most,
            until: Instant::now() + for_so_long,
            stop: AtomicBool::new(false),
            owner: AtomicUsize::new(0),
            strays: AtomicUsize::new(0),
            read: AtomicUsize::new(0),
            written: AtomicUsize::new(0),
            all_written: AtomicBool::new(false),
            failure: Mutex::default(),
        }
    }

    fn reading(self: &Arc<Self>, on: &Loop) -> AioChange {
        self.on(on, |traffic, near| {
            let mut buf = [0; PIECE];
            let count = near.readv_full(&mut [IoSliceMut::new(&mut buf)], None, ReadFlags::DONT_WAIT)?;
            let at = traffic.read.load(Ordering::Relaxed);
            if stream(at, count) != buf[..count] {
                traffic.fail(format!("the bytes from {at} on are not those that were sent"));
            }
            traffic.read.store(at + count, Ordering::SeqCst);
            Ok(())
        })
    }

    fn writing(self: &Arc<Self>, on: &Loop) -> AioChange {
        self.on(on, |traffic, near| {
            let at = traffic.written.load(Ordering::Relaxed);
            if at >= traffic.most || traffic.stop.load(Ordering::SeqCst) || traffic.until < Instant::now() {
                traffic.all_written.store(true, Ordering::SeqCst);
                return Ok(());
            }
            let bytes = stream(at, PIECE.min(traffic.most - at));
            let count = near.writev_full(&[IoSlice::new(&bytes)], &[], WriteFlags::DONT_WAIT)?;
            traffic.written.store(at + count, Ordering::SeqCst);
            Ok(())
        })
    }

    fn on(self: &Arc<Self>, on: &Loop, call: fn(&Self, &dyn Channel) -> Result<()>) -> AioChange {
        let (traffic, id) = (Arc::clone(self), on.id);
        let handler: AioHandler = handler(&on.recorder, move || {
            let Some(near) = traffic.near.upgrade() else { return };
            traffic.look_for_strays(id);
            match call(&traffic, &*near) {
                Err(error) if !error.is_would_block() => traffic.fail(format!("a call in a handler failed: {error:?}")),
                _ => {}
            }
            traffic.look_for_strays(id);
        });
        AioChange::Set(handler)
    }

    fn look_for_strays(&self, id: usize) {
        let owner = self.owner.load(Ordering::SeqCst);
        let stray = RUNS.get() != id || (owner != 0 && owner != id);
        self.strays.fetch_add(usize::from(stray), Ordering::Relaxed);
    }

    fn fail(&self, what: String) {
        lock(&self.failure).get_or_insert(what);
    }

    /// What has moved so far, in pieces.
    fn events(&self) -> usize {
        (self.read.load(Ordering::Relaxed) + self.written.load(Ordering::Relaxed)) / PIECE
    }

    /// Waits until all that was written on either side has arrived on the other.
    fn until_over(&self, setup: &Setup, peer: &Peer, after: impl Fn() -> String) {
        let mut patience = setup.waiting();
        loop {
            let (sent, read) = (peer.sent(), self.read.load(Ordering::SeqCst));
            let written = self.all_written.load(Ordering::SeqCst).then(|| self.written.load(Ordering::SeqCst));
            let seen = peer.seen.load(Ordering::SeqCst);
            if let Some(what) = lock(&self.failure).take() {
                panic!("{}: {what}", after());
            }
            if self.strays.load(Ordering::Relaxed) > 0 || (Some(read) == sent && Some(seen) == written) {
                break;
            }
            assert!(
                !patience.is_lost(),
                "after {}, handlers got {read} bytes, of {sent:?} sent, and the peer got {seen}, of {written:?} written",
                after()
            );
            thread::sleep(Duration::from_millis(1));
        }
        peer.stop.store(true, Ordering::Relaxed);
    }
}

/// The far end: a thread that writes the test stream, and one that reads it.
struct Peer {
    sent: Arc<Mutex<Option<usize>>>,
    seen: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Peer {
    fn run(far: &End, most: usize, for_so_long: Duration, traffic: &Arc<Traffic>) -> Self {
        let peer = Self { sent: Arc::default(), seen: Arc::default(), stop: Arc::default() };
        let (writer, told, sent) = (far.clone(), Arc::clone(traffic), Arc::clone(&peer.sent));
        let begun = Instant::now();
        Task::spawn(move || {
            let mut at = 0;
            while at < most && !told.stop.load(Ordering::SeqCst) && begun.elapsed() < for_so_long {
                if at >= told.read.load(Ordering::Relaxed) + WINDOW {
                    thread::sleep(Duration::from_micros(100)); // where every byte takes long, not more than can be read soon
                    continue;
                }
                writer.put(&stream(at, PIECE.min(most - at)));
                at += PIECE.min(most - at);
            }
            *lock(&sent) = Some(at);
        });
        let (reader, told, seen, stop) =
            (far.clone(), Arc::clone(traffic), Arc::clone(&peer.seen), Arc::clone(&peer.stop));
        Task::spawn(move || {
            let mut buf = [0; 4 * PIECE];
            while !stop.load(Ordering::Relaxed) {
                match reader.try_read(&mut buf) {
                    Ok(count) => {
                        let at = seen.load(Ordering::Relaxed);
                        if stream(at, count) != buf[..count] {
                            told.fail(format!("the peer got bytes from {at} on that are not those that were written"));
                        }
                        seen.store(at + count, Ordering::SeqCst);
                    }
                    Err(error) if error.is_would_block() => {
                        reader.drive_on();
                        drop(reader.wait(Direction::Read, Some(Duration::from_millis(1))));
                    }
                    Err(error) => return told.fail(format!("the peer's read failed: {error:?}")),
                }
            }
        });
        peer
    }

    /// How much was sent in all, once that is known.
    fn sent(&self) -> Option<usize> {
        *lock(&self.sent)
    }
}
