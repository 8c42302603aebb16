//! What a task's calls give, and what wakes them.

use std::net::Shutdown;
use std::sync::Arc;
use std::thread;

use channel_core::{Channel, ChannelExt, Direction, Error, Features, Limits, Result};

use super::super::Setup;
use super::super::end::{UNBOUNDED, assert_stream, stream};
use super::super::late::Late;
use super::super::setup::{Mode, Options, closing_soon};
use super::{Polling, SOON, for_tasks, little};
use crate::recording::Recorder;

/// \[A3\] An async call does what the blocking one does: results, ends and errors. A task that waits is woken for bytes that a layer
/// holds above a silent descriptor, whoever left them there, for the end, for `shutdown` and `close` by another thread, and for a
/// limit that passes.
pub fn a3_an_async_call_does_what_the_blocking_one_does(setup: &Setup) {
    let recorder = Recorder::new();
    let tasks = Tasks { recorder: &recorder, setup };
    let (near, far) = setup.pair();
    let aio = for_tasks(&near);

    setup.step("a task for bytes that another call left");
    let mut buf = [0; 300];
    let mut reader = Polling::on(&recorder, aio.read_all(&mut buf[1..]));
    let polled = reader.settle();
    assert!(polled.is_none(), "a read of nothing gave {polled:?}");
    far.put(&stream(0, 300));
    let near = near.driven_as(Mode::NonBlocking);
    assert_stream(0, &near.take(1));
    reader.run(&recorder, setup, "a reader, for bytes that another call left,").expect("a read");
    drop(reader);
    assert_stream(1, &buf[1..]);
    drop((aio, near, far));

    assert_eq!(tasks.outcomes(), blocking_outcomes(setup), "results of async calls, and of blocking ones");
    tasks.are_woken_by_other_threads();
    tasks.are_woken_by_limits();
    tasks.give_others_their_turn();
}

impl Tasks<'_> {
    /// One poll of a task whose calls never wait comes to an end.
    fn give_others_their_turn(&self) {
        const MANY: usize = 10_000;
        let (near, _far) = self.setup.pair();
        let aio = for_tasks(&near);
        let mut calls = 0;
        let mut busy = Polling::on(self.recorder, async {
            while calls < MANY {
                aio.flush().await?;
                calls += 1;
            }
            Ok::<(), Error>(())
        });
        let polled = busy.poll();
        assert!(polled.is_none(), "a task that never waits made {MANY} calls in one turn: {polled:?}");
        busy.run(self.recorder, self.setup, "a task that never waits").expect("a flush of nothing");
    }
}

/// What became of a call, as far as it has to be the same whoever waits.
fn outcome<T: std::fmt::Debug>(result: Result<T>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("{:?} after {:?}", error.kind(), error.bytes_done()),
    }
}

/// One end after another, up to close, with the calls that block.
fn blocking_outcomes(setup: &Setup) -> Vec<String> {
    let (near, far) = setup.pair_with(&closing_soon());
    let near = near.in_mode(Mode::Blocking);
    far.put(b"0123456789");
    far.end_output();
    let mut buf = [0; 4];
    let mut outcomes = vec![
        outcome(near.handshake()),
        outcome(near.read_all(&mut [])),
        outcome(near.read_all(&mut buf)),
        outcome(near.read_all_eof(&mut buf)),
        outcome(near.read_all(&mut buf)),
        outcome(near.read_all_eof(&mut buf)),
        outcome(near.read_all(&mut buf)),
        outcome(near.read(&mut buf)),
    ];
    if !near.has_feature(Features::CLOSE_WRITE) || !far.has_feature(Features::CLOSE_WRITE) {
        return outcomes;
    }
    outcomes.extend([
        outcome(near.write_all(b"0123")),
        outcome(near.flush()),
        outcome(near.close_write()),
        outcome(near.close_write()),
        outcome(near.write_all(b"4567")),
        outcome(near.close()),
        outcome(near.close()),
        outcome(near.read_all(&mut buf)),
        outcome(near.write_all(b"")),
        outcome(near.write_all(b"8")),
        outcome(near.flush()),
        outcome(near.wait(Direction::Read, None).map(drop)),
    ]);
    outcomes
}

struct Tasks<'a> {
    recorder: &'a Arc<Recorder>,
    setup: &'a Setup,
}

impl Tasks<'_> {
    #[track_caller]
    fn run<T>(&self, what: &str, call: impl Future<Output = T>) -> T {
        Polling::on(self.recorder, call).run(self.recorder, self.setup, what)
    }

    /// As [`run`](Self::run), for a call that may take as long as [`SOON`].
    fn in_time<T: std::fmt::Debug>(&self, what: &str, call: impl Future<Output = T>) -> T {
        let mut call = Polling::on(self.recorder, call);
        if let Some(done) = call.poll() {
            return done;
        }
        let late = Late::after(self.recorder, SOON);
        let done = call.run(self.recorder, self.setup, what);
        assert!(!late.has_come(), "{what} was done when its limit had passed twice: {done:?}");
        done
    }

    /// As [`blocking_outcomes`], with the calls of tasks.
    fn outcomes(&self) -> Vec<String> {
        let setup = self.setup;
        let (near, far) = setup.pair_with(&closing_soon());
        let aio = for_tasks(&near);
        far.put(b"0123456789");
        far.end_output();
        let mut buf = [0; 4];
        let mut outcomes = vec![
            outcome(self.run("a handshake", aio.handshake())),
            outcome(self.run("a read", aio.read_all(&mut []))),
            outcome(self.run("a read", aio.read_all(&mut buf))),
            outcome(self.run("a read", aio.read_all_eof(&mut buf))),
            outcome(self.run("a read", aio.read_all(&mut buf))),
            outcome(self.run("a read", aio.read_all_eof(&mut buf))),
            outcome(self.run("a read", aio.read_all(&mut buf))),
            outcome(self.run("a read", aio.read(&mut buf))),
        ];
        if !near.has_feature(Features::CLOSE_WRITE) || !far.has_feature(Features::CLOSE_WRITE) {
            return outcomes;
        }
        outcomes.extend([
            outcome(self.run("a write", aio.write_all(b"0123"))),
            outcome(self.run("a flush", aio.flush())),
            outcome(self.run("an end", aio.close_write())),
            outcome(self.run("an end", aio.close_write())),
            outcome(self.run("a write", aio.write_all(b"4567"))),
            outcome(self.run("close", aio.close())),
            outcome(self.run("close", aio.close())),
            outcome(self.run("a read", aio.read_all(&mut buf))),
            outcome(self.run("a write", aio.write_all(b""))),
            outcome(self.run("a write", aio.write_all(b"8"))),
            outcome(self.run("a flush", aio.flush())),
            outcome(self.run("a task that waits for a closed channel", aio.ready(Direction::Read))),
        ]);
        outcomes
    }

    fn are_woken_by_other_threads(&self) {
        let setup = self.setup;
        for how in ["the end", "shutdown", "close", "a peer that went"] {
            let (near, far) = setup.pair_with(&little(SOON));
            if how == "shutdown" && !near.has_feature(Features::SHUTDOWN) {
                continue;
            }
            let aio = for_tasks(&near);
            let taken = if how == "the end" { 0 } else { near.fill(0, UNBOUNDED) };
            let mut buf = [0; 4];
            let mut reader = Polling::on(self.recorder, aio.read(&mut buf));
            assert!(reader.settle().is_none(), "a read of nothing");
            let piece = stream(taken, 64 * 1024);
            let mut writer = Polling::on(self.recorder, aio.write_all(&piece));
            assert!(how == "the end" || writer.settle().is_none(), "a write to a channel that is full");
            setup.step("a task that waits, while another thread ends that");
            let other = near.driven_as(Mode::NonBlocking);
            match how {
                "the end" => {
                    thread::spawn(move || far.end_output());
                }
                "shutdown" => elsewhere(move || other.shutdown(Shutdown::Both)).expect("shutdown"),
                // The peer does not read, so close may say that bytes were lost.
                "close" => drop(elsewhere(move || other.poll(Direction::Write, Channel::close))),
                _ => drop(far),
            }
            let read = reader.run(self.recorder, self.setup, "a reader");
            match (how, &read) {
                ("the end" | "shutdown", Ok(0)) => {}
                ("close", Err(error)) if error.is_closed() => {}
                ("a peer that went", Ok(0) | Err(_)) => {}
                _ => panic!("{how} gave a task that reads {read:?}"),
            }
            if how == "the end" {
                continue;
            }
            let written = writer.run(self.recorder, self.setup, "a writer");
            let told = written.as_ref().is_err_and(|error| error.bytes_done().is_some());
            assert!(told, "{how} gave a task that writes {written:?}");
        }
    }

    fn are_woken_by_limits(&self) {
        let setup = self.setup;
        let (near, _far) =
            setup.unopened(&Options { limits: Limits { handshake: SOON, ..Limits::default() }, ..Options::default() });
        setup.step("a task that waits for a handshake, whose limit passes");
        let opened = self.in_time("a handshake whose limit passes", for_tasks(&near).handshake());
        // A leaf is open from the start.
        assert!(opened.is_ok() || opened.as_ref().is_err_and(Error::is_timed_out), "it gave {opened:?}");

        let (near, _far) = setup.pair_with(&little(SOON));
        near.fill(0, UNBOUNDED);
        setup.step("a task that waits for close, whose limit passes");
        let closed = self.in_time("close, whose limit passes,", for_tasks(&near).close());
        // A leaf has pushed all it can, and the system may have moved bytes on just in time.
        assert!(closed.is_ok() || closed.as_ref().is_err_and(Error::is_timed_out), "close gave {closed:?}");
    }
}

fn elsewhere<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    thread::spawn(call).join().expect("a call on another thread")
}
