//! From loop to loop.

use std::cell::Cell;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use channel_core::{AioChannel, AioContext, Attached, ChannelExt, Direction, ErrorKind, EventLoop, Features};

use super::super::Setup;
use super::super::end::{Task, assert_stream, stream};
use super::{Polling, context, for_tasks};
use crate::recording::Recorder;

/// \[A5\] A channel whose tasks wait is moved between loops on two threads, under load in both directions: nothing is lost. Once
/// `detach` has returned, no handler of the old loop runs.
pub fn a5_a_channel_moves_between_loops_under_load(setup: &Setup) {
    detach_waits_for_the_handler_that_runs(setup);
    detach_in_its_own_handler_is_refused(setup);
    guards_that_are_dropped_lose_no_task(setup);
    nothing_is_lost_on_the_way(setup);
}

/// A waker that does something in its handler.
struct Calls<F>(F);

impl<F: Fn() + Send + Sync> Wake for Calls<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

fn poll_with<F: Future + ?Sized>(future: Pin<&mut F>, waker: impl Fn() + Send + Sync + 'static) -> Option<F::Output> {
    match future.poll(&mut Context::from_waker(&Waker::from(Arc::new(Calls(waker))))) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// How long a turn waits.
const TURN: Duration = Duration::from_millis(50);

fn detach_waits_for_the_handler_that_runs(setup: &Setup) {
    let (old, new) = (Recorder::new(), Recorder::new());
    let (near, far) = setup.pair();
    let aio = Arc::new(for_tasks(&near));
    let attached = aio.attach(context(&old)).expect("a channel that is attached to no loop");
    let (inside, entered) = mpsc::channel();
    let (go, gone) = mpsc::channel::<()>();
    let gone = Mutex::new(gone);
    let mut buf = [0; 8];
    let mut reader = Polling::new(aio.read_all(&mut buf));
    assert!(reader.settle().is_none(), "a read of nothing");
    let polled = poll_with(reader.future.as_mut(), move || {
        let _ = inside.send(());
        let _ = gone.lock().unwrap_or_else(PoisonError::into_inner).recv();
    });
    assert!(polled.is_none(), "a read of nothing");
    far.put(b"on their");
    let turning = {
        let (old, setup) = (Arc::clone(&old), setup.clone());
        Task::spawn(move || {
            while old.turn(TURN).expect("a turn") == 0 {
                setup.drive_on();
            }
        })
    };
    setup.step("a task that is being woken");
    setup.receive(&entered, "the waker is not called");
    let detaching = Task::spawn(move || attached.detach());
    detaching.until_asleep();
    assert!(!detaching.is_finished(), "detach returned while a handler of the old loop was running");
    let busy = aio.attach(context(&new));
    assert!(busy.as_ref().is_err_and(|error| error.is_busy()), "attach while it is on its way gave {busy:?}");
    go.send(()).expect("a waker that waits");
    setup.step("detach, while a handler ends");
    let detached = detaching.join().expect("a channel that was attached");
    turning.join();
    assert_eq!(old.handlers().len(), 0, "descriptors polled by the old loop after detach");
    let _attached = detached.attach(context(&new));
    let busy = aio.attach(context(&old));
    assert!(busy.as_ref().is_err_and(|error| error.is_busy()), "a second attach gave {busy:?}");
    reader.run(&new, setup, "a task on the next loop").expect("a read");
    drop(reader);
    assert_eq!(&buf, b"on their", "what a task read that was moved while it was woken");
}

fn detach_in_its_own_handler_is_refused(setup: &Setup) {
    let recorder = Recorder::new();
    let (near, far) = setup.pair();
    let aio = for_tasks(&near);
    let attached = aio.attach(context(&recorder)).expect("a channel that is attached to no loop");
    let slot = Arc::new(Mutex::new(Some(attached)));
    let refused = Arc::new(Mutex::new(None));
    let mut reader = Polling::new(aio.ready(Direction::Read));
    let (within, told) = (Arc::clone(&slot), Arc::clone(&refused));
    let polled = poll_with(reader.future.as_mut(), move || {
        let attached: Option<Attached> = within.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Err(failed)) = attached.map(Attached::detach) {
            *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(failed.error.kind());
            *within.lock().unwrap_or_else(PoisonError::into_inner) = Some(failed.attached);
        }
    });
    assert!(polled.is_none(), "nothing is there to read");
    far.put(b"x");
    setup.step("detach in a handler of the loop");
    let seen = || *refused.lock().unwrap_or_else(PoisonError::into_inner);
    setup.turn_until(&recorder, || seen().is_some());
    assert_eq!(seen(), Some(ErrorKind::WouldDeadlock), "detach in the handler that it would wait for");
    drop(reader);
    let mut buf = [0; 1];
    let mut reader = Polling::new(aio.read(&mut buf));
    reader.run(&recorder, setup, "a reader that is still attached").expect("a read");
    drop(reader);
    drop(slot.lock().unwrap_or_else(PoisonError::into_inner).take().expect("the channel, still attached"));
    assert_eq!(recorder.handlers().len(), 0, "descriptors polled for a channel that is attached no more");
}

fn guards_that_are_dropped_lose_no_task(setup: &Setup) {
    let (old, new) = (Recorder::new(), Recorder::new());
    for detaches in [false, true] {
        let (near, far) = setup.pair();
        let aio = for_tasks(&near);
        let attached = aio.attach(context(&old)).expect("a channel that is attached to no loop");
        let mut buf = [0; 8];
        let mut reader = Polling::new(aio.read_all(&mut buf));
        assert!(reader.settle().is_none(), "a read of nothing");
        if detaches {
            drop(attached.detach().expect("a channel that was attached"));
        } else {
            drop(attached);
        }
        assert!(reader.is_woken(), "a task was not told that its channel is attached no more");
        assert_eq!(old.handlers().len(), 0, "descriptors polled by the loop that it was attached to");
        reader.home = Some(Arc::clone(&new));
        assert!(reader.settle().is_none(), "a read of nothing");
        far.put(b"unguided");
        reader.run(&new, setup, "a task whose channel is attached no more").expect("a read");
        drop(reader);
        assert_eq!(&buf, b"unguided");
        drop(aio.attach(context(&old)).expect("a channel that is attached no more"));
    }
}

thread_local! {
    /// Which of the two loops this thread runs, from 1 on.
    static LOOP: Cell<usize> = const { Cell::new(0) };
}

/// Wakes a task's thread, and notes where a handler does so that should not run any more.
struct Observed {
    task: Thread,
    /// The loop the channel is attached to; 0 for none.
    home: Arc<AtomicUsize>,
    strays: Arc<AtomicUsize>,
}

impl Observed {
    fn look(&self) {
        let here = LOOP.get();
        if here != 0 && here != self.home.load(Ordering::SeqCst) {
            self.strays.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Wake for Observed {
    fn wake(self: Arc<Self>) {
        self.look();
        thread::yield_now();
        self.task.unpark();
        self.look();
    }
}

/// Runs a task on a thread that runs no loop.
fn parked<T: Send + 'static>(
    aio: &Arc<AioChannel>,
    home: &Arc<AtomicUsize>,
    strays: &Arc<AtomicUsize>,
    body: impl AsyncFnOnce(&AioChannel) -> T + Send + 'static,
) -> Task<T> {
    let (aio, home, strays) = (Arc::clone(aio), Arc::clone(home), Arc::clone(strays));
    Task::spawn(move || {
        let waker = Waker::from(Arc::new(Observed { task: thread::current(), home, strays }));
        let mut task = pin!(body(&aio));
        loop {
            if let Poll::Ready(done) = task.as_mut().poll(&mut Context::from_waker(&waker)) {
                return done;
            }
            thread::park();
        }
    })
}

fn nothing_is_lost_on_the_way(setup: &Setup) {
    const MOVES: usize = 16;
    let (near, far) = setup.pair();
    if !near.has_feature(Features::CLOSE_WRITE) || !far.has_feature(Features::CLOSE_WRITE) {
        return;
    }
    let loops = [1, 2].map(|number| {
        let event_loop = EventLoop::new().expect("a loop");
        event_loop.handle().schedule(Box::new(move || LOOP.set(number)));
        Arc::new(event_loop)
    });
    let turning = loops.each_ref().map(|event_loop| {
        let event_loop = Arc::clone(event_loop);
        Task::spawn(move || event_loop.run().expect("a loop that runs"))
    });
    let aio = Arc::new(for_tasks(&near));
    let (home, strays) = (Arc::new(AtomicUsize::new(1)), Arc::<AtomicUsize>::default());
    let over = Arc::<AtomicBool>::default();
    let mut attached = aio.attach(loops[0].handle()).expect("a channel that is attached to no loop");

    let reader = parked(&aio, &home, &strays, async |aio| {
        let (mut at, mut buf) = (0, [0; 700]);
        loop {
            match aio.read(&mut buf).await.expect("a read while it moves") {
                0 => return at,
                count => {
                    assert_stream(at, &buf[..count]);
                    at += count;
                }
            }
        }
    });
    let stop = Arc::clone(&over);
    let writer = parked(&aio, &home, &strays, async move |aio| {
        let mut at = 0;
        while !stop.load(Ordering::Relaxed) {
            aio.write_all(&stream(at, 500)).await.expect("a write while it moves");
            at += 500;
        }
        aio.flush().await.expect("a flush");
        aio.close_write().await.expect("close_write");
        at
    });
    let back = {
        let far = far.clone();
        Task::spawn(move || far.take_to_end())
    };
    let stop = Arc::clone(&over);
    let feeding = {
        let far = far.clone();
        Task::spawn(move || {
            let mut at = 0;
            while !stop.load(Ordering::Relaxed) {
                far.write_whole(&stream(at, 500)).expect("a write of the peer's");
                at += 500;
            }
            far.end_output();
            at
        })
    };
    setup.step("moving a channel under load");
    for next in (0..MOVES).map(|moved| (moved + 1) % 2) {
        thread::sleep(Duration::from_millis(1)); // under way for a while
        let detached = attached.detach().expect("a channel that was attached");
        home.store(0, Ordering::SeqCst);
        thread::yield_now();
        home.store(next + 1, Ordering::SeqCst);
        attached = detached.attach(loops[next].handle());
    }
    over.store(true, Ordering::Relaxed);
    setup.step("the end of the load");
    let (sent, given) = (writer.join(), feeding.join());
    let (arrived, ended) = back.join();
    ended.expect("a clean end");
    assert_stream(0, &arrived);
    assert_eq!(arrived.len(), sent, "bytes that a task wrote while its channel was moved");
    assert_eq!(reader.join(), given, "bytes that a task read while its channel was moved");
    assert_eq!(strays.load(Ordering::SeqCst), 0, "handlers that ran on a loop after its channel was detached");
    drop(attached);
    loops.iter().for_each(|event_loop| event_loop.handle().stop());
    turning.into_iter().for_each(Task::join);
}
