//! Plays a case: two threads at each end, and one that watches them.

use std::io::{IoSlice, IoSliceMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use channel_core::{
    Channel, ChannelExt, Direction, EventLoop, Features, LoopHandle, ReadFlags, Result, Shutdown, WriteFlags,
    find_layer,
};
use channel_tls::TlsChannel;
use channel_websocket::WebSocketChannel;

use rustix::thread::{Pid, gettid};

use super::case::{Case, Op, Waits};
use super::content::{self, Checker};
use super::model::{Call, Model, SIDES, Stage, Stall};
use super::stack;
use super::waiting::{Waiting, lock, try_lock};

/// How long all threads sleep before the test looks whether anything can happen.
const QUIET: Duration = Duration::from_millis(30);

/// How much threads may work although nothing comes of it: no call returns.
const SPIN: Duration = Duration::from_secs(2);

/// The most that is read at once.
const PIECE: usize = 64 * 1024;

/// Plays `case` and says how far it went by itself; the error says what is wrong, and what happened.
pub(crate) fn play(case: &Case, patience: Duration) -> Result<Stage, String> {
    let played = set_up(case).map_err(|error| format!("it could not be built: {error}"))?;
    let table = Arc::clone(&played.table);
    phase(&played, patience, End::open);
    if !table.is_wrong() {
        phase(&played, patience, End::run);
    }
    let mut model = table.lock();
    if model.fault.is_none() {
        model.conclude();
    }
    let (fault, log, stage) = (model.fault.take(), model.log(), model.stage);
    drop(model);
    if let Some(fault) = fault {
        return Err(format!("{fault}\n\nthe last calls:\n{log}"));
    }
    let Played { ends, loops, .. } = played;
    within(patience, move || drop(ends)).ok_or("S4: dropping both ends did not return")?;
    within(patience, move || loops.stop()).ok_or("an event loop did not stop")??;
    Ok(stage)
}

struct Played {
    table: Arc<Table>,
    ends: [Arc<End>; 2],
    loops: Loops,
}

fn set_up(case: &Case) -> Result<Played> {
    let table = Arc::new(Table { model: Mutex::new(Model::new(case)), changed: Condvar::new() });
    let [near, far] = stack::build(case)?;
    let loops = Loops::new(case.ends.iter().any(|end| matches!(end.waits, Waits::Handlers | Waits::Tasks)))?;
    let end = |index: usize, channel| {
        let told = Arc::clone(&table);
        let fault = move |fault| told.lock().wrong(fault);
        let waiting = Waiting::new(channel, case.ends[index].waits, &loops.handles(), fault)?;
        let (table, reading, steps) = (Arc::clone(&table), Mutex::default(), case.ends[index].threads.clone());
        Ok::<_, channel_core::Error>(Arc::new(End { index, steps, waiting, table, reading }))
    };
    let ends = [end(0, near)?, end(1, far)?];
    Ok(Played { table, ends, loops })
}

/// The model, and who is told of changes.
struct Table {
    model: Mutex<Model>,
    changed: Condvar,
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, Model> {
        lock(&self.model)
    }

    fn is_wrong(&self) -> bool {
        self.lock().fault.is_some()
    }
}

/// One end of the stack under test.
struct End {
    index: usize,
    steps: [Vec<Op>; 2],
    waiting: Waiting,
    table: Arc<Table>,
    /// Held by the thread that reads: of bytes that two threads read nobody could say which came first.
    reading: Mutex<Checker>,
}

/// When a read is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    /// At once, and only once.
    Now,
    /// At once, and again when there is something.
    Tries,
    /// When there is something, as event-driven programs do: what a layer holds must be told of, too.
    WhenReady,
}

impl End {
    fn open(&self, number: usize) {
        if number == 0 {
            self.waiting_call(0, Call::Handshake, Direction::Read, Channel::handshake);
        }
    }

    /// All that thread `number` does.
    fn run(&self, number: usize) {
        for &step in &self.steps[number] {
            if self.is_over() {
                break;
            }
            self.step(number, step);
        }
        let closed = self.table.lock().is_closed(self.index);
        if !closed && !self.is_over() {
            match number {
                0 => self.step(0, Op::CloseWrite),
                _ => self.read_to_end(),
            }
        }
        let last = self.table.lock().leave(self.index, number);
        self.table.changed.notify_all();
        if last {
            self.step(number, Op::Close);
        }
    }

    /// Whether the test has given up on the rest.
    fn is_over(&self) -> bool {
        let model = self.table.lock();
        model.stage == Stage::Over || model.fault.is_some()
    }

    fn step(&self, number: usize, step: Op) {
        match step {
            Op::Write(size) => self.write(number, size),
            Op::WriteNow(size) => {
                let at = self.table.lock().taken(self.index, number);
                let _ = self.write_piece(number, &content::of(number, at, size), false); // judged by the model
            }
            Op::Read(size) => {
                if let Some(mut checker) = try_lock(&self.reading) {
                    self.read(number, size, &mut checker);
                }
            }
            Op::ReadNow(size) => {
                if let Some(mut checker) = try_lock(&self.reading) {
                    let _ = self.read_piece(number, size, Reads::Now, &mut checker); // judged by the model
                }
            }
            Op::Lend(size) => {
                if let Some(mut checker) = try_lock(&self.reading) {
                    self.lend(number, size, &mut checker);
                }
            }
            Op::Cork(cork) => self.simple(number, Call::Cork(cork), |channel| {
                channel.set_cork(cork);
                Ok(())
            }),
            Op::Flush => self.waiting_call(number, Call::Flush, Direction::Write, Channel::flush),
            Op::Ping => {
                if find_layer::<WebSocketChannel>(&*self.waiting.channel).is_some() {
                    self.simple(number, Call::Control, |channel| match find_layer::<WebSocketChannel>(channel) {
                        Some(layer) => layer.ping(b"random"),
                        None => Ok(()),
                    });
                }
            }
            Op::KeyUpdate => {
                if find_layer::<TlsChannel>(&*self.waiting.channel).is_some() {
                    self.simple(number, Call::Control, |channel| match find_layer::<TlsChannel>(channel) {
                        Some(layer) => layer.request_key_update(),
                        None => Ok(()),
                    });
                }
            }
            Op::Blocking(blocking) => self.simple(number, Call::Blocking(blocking), |channel| {
                channel.set_blocking(blocking);
                Ok(())
            }),
            Op::Move => {
                let _ = self.call(number, Call::Move, || self.waiting.change_loop().map(|()| 0)); // judged by the model
            }
            Op::CloseWrite => self.waiting_call(number, Call::CloseWrite, Direction::Write, Channel::close_write),
            Op::Close => self.close(number, None),
            Op::CloseBy(millis) => self.close(number, Some(Duration::from_millis(millis))),
            Op::Shutdown(how) => self.simple(number, Call::Shutdown(how), |channel| channel.shutdown(how)),
            Op::Pause(millis) => thread::sleep(Duration::from_millis(millis)),
            Op::Meet => self.meet(number),
        }
    }

    /// One call, as the model sees it.
    fn call(&self, number: usize, call: Call, make: impl FnOnce() -> Result<usize>) -> Result<usize> {
        self.call_reading(number, call, || (make(), None))
    }

    fn call_reading(
        &self,
        number: usize,
        call: Call,
        make: impl FnOnce() -> (Result<usize>, Option<[u64; 2]>),
    ) -> Result<usize> {
        self.table.lock().begin(self.index, number, call);
        let (outcome, come) = make();
        self.table.lock().finish(self.index, number, &outcome, come);
        self.table.changed.notify_all();
        outcome
    }

    /// A call that waits for `direction`.
    fn waiting_call(&self, number: usize, call: Call, direction: Direction, attempt: fn(&dyn Channel) -> Result<()>) {
        let _ = self.call(number, call, || self.wait(number, direction, attempt).map(|()| 0)); // judged by the model
    }

    /// A call that never waits.
    fn simple(&self, number: usize, call: Call, make: impl FnOnce(&dyn Channel) -> Result<()>) {
        let _ = self.call(number, call, || make(&*self.waiting.channel).map(|()| 0)); // judged by the model
    }

    fn wait<T>(
        &self,
        number: usize,
        direction: Direction,
        mut attempt: impl FnMut(&dyn Channel) -> Result<T>,
    ) -> Result<T> {
        self.waiting.run(direction, |channel| {
            let outcome = attempt(channel);
            if matches!(&outcome, Err(error) if error.is_would_block()) {
                self.would_block(number);
            }
            outcome
        })
    }

    fn would_block(&self, number: usize) {
        self.table.lock().would_block(self.index, number);
    }

    fn close(&self, number: usize, within: Option<Duration>) {
        let close = || self.waiting.close(within, || self.would_block(number)).map(|()| 0);
        let _ = self.call(number, Call::Close(within), close); // judged by the model
    }

    fn write(&self, number: usize, size: usize) {
        let at = self.table.lock().taken(self.index, number);
        let bytes = content::of(number, at, size);
        let mut rest = &bytes[..];
        while !rest.is_empty() && !self.is_over() {
            match self.write_piece(number, rest, true) {
                Ok(count) => rest = &rest[count.min(rest.len())..],
                Err(_) => return,
            }
        }
    }

    fn write_piece(&self, number: usize, bytes: &[u8], waits: bool) -> Result<usize> {
        let flags = if waits { WriteFlags::empty() } else { WriteFlags::DONT_WAIT };
        let (one, two) = bytes.split_at(bytes.len() / 3);
        let pieces = [IoSlice::new(one), IoSlice::new(two)];
        self.call(number, Call::Write { len: bytes.len(), waits }, || {
            if waits {
                self.wait(number, Direction::Write, |channel| channel.writev_full(&pieces, &[], flags))
            } else {
                self.waiting.channel.writev_full(&pieces, &[], flags)
            }
        })
    }

    /// Reads `size` bytes, or to the end.
    fn read(&self, number: usize, size: usize, checker: &mut Checker) {
        let (mut left, mut how) = (size, Reads::Tries);
        while left > 0 && !self.is_over() {
            match self.read_piece(number, left, how, checker) {
                Ok(0) | Err(_) => return,
                Ok(count) => left -= count.min(left),
            }
            how = Reads::WhenReady;
        }
    }

    fn read_to_end(&self) {
        self.table.lock().set_waits(self.index, 1, true);
        let mut checker = lock(&self.reading);
        self.table.lock().set_waits(self.index, 1, false);
        let mut how = Reads::Tries;
        while !self.is_over() && matches!(self.read_piece(1, PIECE, how, &mut checker), Ok(1..)) {
            how = Reads::WhenReady;
        }
    }

    fn read_piece(&self, number: usize, size: usize, how: Reads, checker: &mut Checker) -> Result<usize> {
        let ended = self.table.lock().read_end(self.index);
        if ended == Some(false) {
            return Ok(0); // it said so
        }
        let waits = how != Reads::Now && ended.is_none();
        let flags = if waits { ReadFlags::empty() } else { ReadFlags::DONT_WAIT };
        let mut memory = vec![0; size.min(PIECE)];
        self.call_reading(number, Call::Read { waits }, || {
            let mut attempt = |channel: &dyn Channel| {
                let (one, two) = memory.split_at_mut(size.min(PIECE) / 3);
                channel.readv_full(&mut [IoSliceMut::new(one), IoSliceMut::new(two)], None, flags)
            };
            let outcome = match how {
                _ if !waits => attempt(&*self.waiting.channel),
                Reads::WhenReady => match self.waiting.until_readable() {
                    Ok(()) => self.wait(number, Direction::Read, attempt),
                    Err(error) => Err(error),
                },
                _ => self.wait(number, Direction::Read, attempt),
            };
            let count = *outcome.as_ref().unwrap_or(&0);
            self.check(number, &memory[..count.min(memory.len())], checker);
            (outcome, Some(checker.come))
        })
    }

    fn lend(&self, number: usize, size: usize, checker: &mut Checker) {
        let ended = self.table.lock().read_end(self.index);
        if ended == Some(false) || !self.waiting.channel.has_feature(Features::READ_BUF) {
            return;
        }
        // What it says is judged by the model.
        let _ = self.call_reading(number, Call::Lend, || {
            let (mut seen, mut lent) = (Vec::new(), false);
            let outcome = self.waiting.channel.with_read_buf(&mut |bytes| {
                lent = true;
                let count = bytes.len().min(size - seen.len());
                seen.extend_from_slice(&bytes[..count]);
                count
            });
            self.check(number, &seen, checker);
            let outcome = match outcome {
                Ok(0) if lent => Ok(1), // it lent, and nothing was taken: not the end
                outcome => outcome,
            };
            (outcome, Some(checker.come))
        });
    }

    fn check(&self, number: usize, bytes: &[u8], checker: &mut Checker) {
        if let Err(fault) = checker.take(bytes) {
            self.table.lock().wrong(format!("R5: {} {}: {fault}", SIDES[self.index], number + 1));
        }
    }

    fn meet(&self, number: usize) {
        let mut model = self.table.lock();
        let meeting = model.arrive(self.index, number);
        model.set_waits(self.index, number, true);
        self.table.changed.notify_all();
        while !model.met(self.index, number, meeting) {
            model = self.table.changed.wait(model).unwrap_or_else(PoisonError::into_inner);
        }
        model.set_waits(self.index, number, false);
    }
}

/// Runs `body` on two threads at each end, and watches over them until all have returned or something is wrong.
fn phase(played: &Played, patience: Duration, body: fn(&End, usize)) {
    let (done, finished) = mpsc::channel();
    let numbers = Arc::new(Mutex::new(played.loops.threads()));
    for (end, number) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let (end, done, numbers) = (Arc::clone(&played.ends[end]), done.clone(), Arc::clone(&numbers));
        let name = format!("{} {}", SIDES[end.index], number + 1);
        let work = move || {
            lock(&numbers).push(gettid());
            if catch_unwind(AssertUnwindSafe(|| body(&end, number))).is_err() {
                end.table.lock().wrong(format!("{} {}: a panic", SIDES[end.index], number + 1));
            }
            drop(end);
            let _ = done.send(()); // nobody listens any more after a hang
        };
        thread::Builder::new().name(name).spawn(work).expect("a thread of the case");
    }
    drop(done);
    watch(played, patience, &finished, &numbers);
}

fn watch(played: &Played, patience: Duration, finished: &mpsc::Receiver<()>, numbers: &Mutex<Vec<Pid>>) {
    let table = &played.table;
    let mut seen = Seen::now(0, numbers);
    loop {
        match finished.recv_timeout(Duration::from_millis(2)) {
            Ok(()) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let mut model = table.lock();
        if model.fault.is_some() {
            drop(model);
            played.shut_down();
            // Those who do not come back stay behind, asleep: the fault is what counts.
            while let Ok(()) = finished.recv_timeout(patience) {}
            return;
        }
        if model.steps != seen.steps {
            seen = Seen::now(model.steps, numbers);
            continue;
        }
        if seen.at.elapsed() < QUIET {
            continue;
        }
        let worked = seen.look(numbers);
        if worked > SPIN {
            let state = model.state();
            model.wrong(format!("Q3: it spins: nothing comes of {worked:.1?} of work\n{state}"));
            continue;
        }
        let quiet = seen.asleep.elapsed();
        if quiet < QUIET {
            continue;
        }
        match model.stall() {
            Stall::Broken(why) if quiet >= patience => {
                model.wrong(format!("a hang: nothing has happened for {quiet:.1?}: {why}"));
            }
            Stall::Legal => {
                model.give_up();
                let over = model.stage == Stage::Over;
                seen = Seen::now(model.steps, numbers);
                drop(model);
                table.changed.notify_all();
                if over {
                    played.shut_down();
                }
            }
            Stall::Broken(_) | Stall::Until => {}
        }
    }
}

impl Played {
    /// Ends everything, abruptly. On a thread of its own, in case it does not return.
    fn shut_down(&self) {
        let channels = [0, 1].map(|end: usize| Arc::clone(&self.ends[end].waiting.channel));
        let shut = move || {
            for channel in channels {
                let _ = channel.shutdown(Shutdown::Both); // who hangs all the same is what the test says
            }
        };
        thread::Builder::new().name("shutdown".to_owned()).spawn(shut).expect("a thread to shut down");
    }
}

/// How things stood when something happened last.
struct Seen {
    steps: u64,
    at: Instant,
    /// What the threads had worked by then, in all.
    worked_at: Duration,
    /// What they had worked when one of them was seen awake last, and when that was.
    worked: Duration,
    asleep: Instant,
}

impl Seen {
    fn now(steps: u64, numbers: &Mutex<Vec<Pid>>) -> Self {
        let (worked, now) = (work(numbers).0, Instant::now());
        Self { steps, at: now, worked_at: worked, worked, asleep: now }
    }

    /// Looks whether all sleep; says how long they have worked since something happened.
    fn look(&mut self, numbers: &Mutex<Vec<Pid>>) -> Duration {
        let (worked, asleep) = work(numbers);
        if !asleep || worked != self.worked {
            (self.worked, self.asleep) = (worked, Instant::now());
        }
        worked.saturating_sub(self.worked_at)
    }
}

/// How long threads have had a processor, in all, and whether all of them sleep, rather than wait for a processor.
fn work(numbers: &Mutex<Vec<Pid>>) -> (Duration, bool) {
    let (mut worked, mut asleep) = (0, true);
    for number in &*lock(numbers) {
        let read = |file| {
            let path = format!("/proc/self/task/{}/{file}", number.as_raw_nonzero());
            std::fs::read_to_string(path).unwrap_or_default() // gone: it sleeps and works no more
        };
        worked += read("schedstat").split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0);
        asleep &= !read("stat").rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('R'));
    }
    (Duration::from_nanos(worked), asleep)
}

/// Two event loops, run by a thread each if anybody waits on them.
struct Loops {
    loops: [Arc<EventLoop>; 2],
    running: Vec<(Pid, JoinHandle<Result<()>>)>,
}

impl Loops {
    fn new(run: bool) -> Result<Self> {
        let loops = [Arc::new(EventLoop::new()?), Arc::new(EventLoop::new()?)];
        let mut running = Vec::new();
        for event_loop in &loops {
            if !run {
                break;
            }
            let event_loop = Arc::clone(event_loop);
            let (tell, told) = mpsc::channel();
            let work = move || {
                let _ = tell.send(gettid());
                event_loop.run()
            };
            let thread = thread::Builder::new().name("loop".to_owned()).spawn(work)?;
            running.push((told.recv().expect("a thread that runs"), thread));
        }
        Ok(Self { loops, running })
    }

    fn handles(&self) -> [Arc<LoopHandle>; 2] {
        self.loops.each_ref().map(|event_loop| event_loop.handle())
    }

    fn threads(&self) -> Vec<Pid> {
        self.running.iter().map(|(number, _)| *number).collect()
    }

    fn stop(self) -> Result<(), String> {
        for event_loop in &self.loops {
            event_loop.handle().stop();
        }
        for (_, thread) in self.running {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(format!("an event loop failed: {error}")),
                Err(_) => return Err("a panic in an event loop".to_owned()),
            }
        }
        Ok(())
    }
}

/// What `work` comes to on a thread of its own, if it returns in time.
fn within<T: Send + 'static>(patience: Duration, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, finished) = mpsc::channel();
    let work = move || {
        let _ = done.send(work()); // nobody listens any more where it took too long
    };
    thread::Builder::new().name("ending".to_owned()).spawn(work).expect("a thread");
    finished.recv_timeout(patience).ok()
}
