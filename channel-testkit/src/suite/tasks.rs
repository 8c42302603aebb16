//! A: tasks that wait for a channel, and its way from loop to loop.

mod alike;
mod dropped;
mod loops;
mod moving;

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use channel_core::{AioChannel, AioContext, Direction, EventLoop, Limits, Result, enter_context};

pub use alike::a3_an_async_call_does_what_the_blocking_one_does;
pub use dropped::a2_a_call_may_be_dropped_wherever_it_waits;
pub use loops::a4_a_task_waits_on_the_loop_it_is_polled_on;
pub use moving::a5_a_channel_moves_between_loops_under_load;

use super::Setup;
use super::end::{End, Task, UNBOUNDED, assert_stream, stream};
use super::object::in_background;
use super::setup::{Options, small_limits};
use super::write::drain;
use crate::recording::Recorder;

/// \[A1\] One task may read and one may write at a time, on different threads, too. A second that waits in one direction gets
/// `Busy` and disturbs nobody.
pub fn a1_a_channel_has_one_reader_and_one_writer_task(setup: &Setup) {
    const COUNT: usize = 800;
    let recorder = Recorder::new();
    let (near, far) = setup.pair();
    let (aio, other) = (for_tasks(&near), for_tasks(&near));
    let mut mine = [0; 4];
    let mut first = Polling::on(&recorder, aio.read_all(&mut mine));
    let polled = first.poll();
    assert!(polled.is_none(), "a read of nothing gave {polled:?}");
    for _ in 0..3 {
        turned_away(&recorder, aio.ready(Direction::Read), "a second reader that waits");
        turned_away(&recorder, aio.read(&mut [0; 4]), "a second reader");
        turned_away(&recorder, poll_fn(|task| aio.poll_ready(task, Direction::Read)), "a second reader that polls");
        turned_away(&recorder, other.read(&mut [0; 4]), "a second reader by another way");
    }
    far.put(b"mine");
    setup.step("the first reader after others were turned away");
    first.run(&recorder, setup, "the first reader").expect("a read");
    drop(first);
    assert_eq!(&mine, b"mine", "what the first reader got");
    for _ in 0..2 {
        let mut next = [0; 4];
        let polled = Polling::on(&recorder, aio.read(&mut next)).poll();
        assert!(polled.is_none(), "a reader after the one before was done, or dropped, got {polled:?}");
    }
    drop((aio, other));

    let (near, far) = setup.pair_with(&little(small_limits().linger));
    let taken = near.fill(0, UNBOUNDED);
    let aio = for_tasks(&near);
    let rest = stream(taken, 100);
    let mut writer = Polling::on(&recorder, aio.write_all(&rest));
    assert!(writer.poll().is_none(), "a write to a channel that is full did not wait");
    for _ in 0..3 {
        turned_away(&recorder, aio.write(b"second"), "a second writer");
        turned_away(&recorder, aio.ready(Direction::Write), "a second writer that waits");
    }
    let mut read = [0; 4];
    let mut reader = Polling::on(&recorder, aio.read_all(&mut read));
    let answer = in_background(&far, |far| far.put(b"read"));
    setup.step("a reader while a writer waits");
    reader.run(&recorder, setup, "a reader while a writer waits").expect("a read");
    drop(reader);
    answer.join_while_reading(&near);
    assert_eq!(&read, b"read");
    setup.step("the first writer after others were turned away");
    let mut seen = 0;
    let mut draining = || seen += drain(&far, seen);
    writer.run_while(&recorder, setup, "the first writer", &mut draining).expect("a write");
    drop(writer);
    Polling::on(&recorder, aio.flush()).run_while(&recorder, setup, "a flush", &mut draining).expect("a flush");
    assert_stream(seen, &far.take(taken + 100 - seen));
    far.expect_nothing();

    setup.step("a reader and a writer on threads and loops of their own");
    let (near, far) = setup.pair_with(&little(small_limits().linger));
    let aio = Arc::new(for_tasks(&near));
    let reader = on_a_loop(&aio, async |aio| {
        let mut bytes = vec![0; COUNT];
        aio.read_all(&mut bytes).await.map(|()| assert_stream(0, &bytes))
    });
    let writer = on_a_loop(&aio, async |aio| {
        aio.write_all(&stream(0, COUNT)).await?;
        aio.flush().await
    });
    let put = in_background(&far, |far| far.put(&stream(0, COUNT)));
    assert_stream(0, &far.take(COUNT));
    writer.join_while_reading(&far).expect("writes");
    reader.join().expect("reads");
    put.join_while_reading(&near);
}

/// A limit that a test can wait for.
const SOON: Duration = Duration::from_millis(20);

/// Buffers so small that a loop which moves a byte in a turn is done soon.
pub(super) fn little(linger: Duration) -> Options {
    let limits = Limits { queued_bytes: 1024, linger, ..small_limits() };
    Options { small_buffers: true, limits, ..Options::default() }
}

fn turned_away<T: std::fmt::Debug>(home: &Arc<Recorder>, second: impl Future<Output = Result<T>>, what: &str) {
    match poll_once(home, pin!(second)) {
        Some(Err(error)) if error.is_busy() => {}
        other => panic!("{what} got {other:?}, where another waits"),
    }
}

/// Runs a task on an event loop of its own thread.
fn on_a_loop(
    aio: &Arc<AioChannel>,
    body: impl AsyncFnOnce(&AioChannel) -> Result<()> + Send + 'static,
) -> Task<Result<()>> {
    let aio = Arc::clone(aio);
    Task::spawn(move || EventLoop::new()?.block_on(body(&aio))?)
}

fn for_tasks(near: &End) -> AioChannel {
    AioChannel::from_arc(Arc::clone(near.channel()))
}

fn context(recorder: &Arc<Recorder>) -> Arc<dyn AioContext> {
    Arc::clone(recorder) as _
}

/// Polls a future that nobody wakes, on a loop.
pub(super) fn poll_once<F: Future>(home: &Arc<Recorder>, future: Pin<&mut F>) -> Option<F::Output> {
    let _entered = enter_context(context(home));
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// A future that the test polls by hand.
pub(super) struct Polling<'a, T> {
    future: Pin<Box<dyn Future<Output = T> + 'a>>,
    /// The loop of the thread, while the future is polled. Not longer: the suite may have tasks of its own.
    home: Option<Arc<Recorder>>,
    woken: Arc<Woken>,
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl<'a, T> Polling<'a, T> {
    /// On no loop.
    fn new(future: impl Future<Output = T> + 'a) -> Self {
        Self { future: Box::pin(future), home: None, woken: Arc::default() }
    }

    pub(super) fn on(home: &Arc<Recorder>, future: impl Future<Output = T> + 'a) -> Self {
        Self { home: Some(Arc::clone(home)), ..Self::new(future) }
    }

    fn poll(&mut self) -> Option<T> {
        self.woken.0.store(false, Ordering::SeqCst);
        let _entered = self.home.as_ref().map(|home| enter_context(context(home)));
        let waker = Waker::from(Arc::clone(&self.woken));
        match self.future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    /// Polls it until it waits in earnest: a task may be woken once for nothing.
    fn settle(&mut self) -> Option<T> {
        loop {
            let polled = self.poll();
            if polled.is_some() || !self.is_woken() {
                return polled;
            }
        }
    }

    fn is_woken(&self) -> bool {
        self.woken.0.load(Ordering::SeqCst)
    }

    /// Polls it each time it is woken, until it is done.
    #[track_caller]
    pub(super) fn run(&mut self, recorder: &Recorder, setup: &Setup, what: &str) -> T {
        self.run_while(recorder, setup, what, &mut || ())
    }

    /// As [`run`](Self::run), and does something after each turn.
    #[track_caller]
    pub(super) fn run_while(&mut self, recorder: &Recorder, setup: &Setup, what: &str, also: &mut dyn FnMut()) -> T {
        let mut patience = setup.waiting();
        loop {
            if let Some(done) = self.poll() {
                return done;
            }
            while !self.is_woken() {
                assert!(!patience.is_lost(), "{what} waits, and is not woken");
                recorder.turn(Duration::from_millis(1)).expect("a turn");
                also();
            }
        }
    }
}
