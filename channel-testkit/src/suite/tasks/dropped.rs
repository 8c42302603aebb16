//! Calls that are dropped before they are done.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use channel_core::{ChannelExt, Direction, Features, Result};

use super::super::Setup;
use super::super::end::{Random, Task, assert_stream, stream};
use super::super::write::drain;
use super::{Polling, for_tasks, little};
use crate::patience::Patience;
use crate::recording::Recorder;

/// \[A2\] A call of a task may be dropped wherever it waits, the `_all` forms excepted, and a later call goes on: nothing is lost,
/// duplicated or reordered.
pub fn a2_a_call_may_be_dropped_wherever_it_waits(setup: &Setup) {
    const COUNT: usize = 800;
    let recorder = Recorder::new();
    let dropping = Dropping { recorder: &recorder, patience: RefCell::new(setup.waiting()) };

    setup.step("a handshake that is dropped at each step");
    let (near, far) = setup.unopened(&little(Duration::from_secs(20)));
    let near = near.without_handlers();
    let aio = for_tasks(&near);
    let opening = {
        let far = far.clone();
        Task::spawn(move || far.open())
    };
    let opened = dropping.again_and_again(|| aio.handshake());
    opened.expect("a handshake that was dropped and resumed");
    // What follows a handshake, such as session tickets, may be waiting for a reader here.
    while !opening.is_finished() {
        let _ = dropping.once(aio.read(&mut [0; 1]), 0);
    }
    opening.join();

    setup.step("reads, writes and flushes that are dropped");
    let mut random = Random(0x5eed);
    let (mut sent, mut arrived, mut given, mut got) = (0, 0, 0, 0);
    while arrived < COUNT || got < COUNT {
        let keep = random.below(3);
        match random.below(7) {
            0 | 1 => {
                let mut buf = vec![0; 1 + random.below(40)];
                if let Some(read) = dropping.once(aio.read(&mut buf), keep) {
                    let count = read.expect("a read");
                    assert!(count > 0, "the end of a stream that goes on");
                    assert_stream(got, &buf[..count]);
                    got += count;
                }
            }
            2 | 3 if sent < COUNT => {
                let bytes = stream(sent, (1 + random.below(200)).min(COUNT - sent));
                if let Some(written) = dropping.once(aio.write(&bytes), keep) {
                    sent += written.expect("a write");
                }
            }
            4 => {
                let direction = [Direction::Read, Direction::Write][random.below(2)];
                let ready = dropping.once(aio.ready(direction), keep);
                ready.unwrap_or(Ok(())).expect("waiting to be ready");
            }
            5 => dropping.once(aio.flush(), keep).unwrap_or(Ok(())).expect("a flush"),
            _ => {
                arrived += drain(&far, arrived);
                assert!(arrived <= sent, "{} bytes arrived that no call took", arrived - sent);
                let bytes = stream(given, (1 + random.below(300)).min(COUNT - given));
                match far.try_write(&bytes) {
                    Ok(count) => given += count,
                    Err(error) => assert!(error.is_would_block(), "the peer's write failed: {error:?}"),
                }
            }
        }
        dropping.check(|| {
            format!("calls that were dropped do not go on: {arrived} of {sent} bytes there, {got} of {given} back")
        });
    }
    assert_eq!((arrived, got), (COUNT, COUNT), "bytes that arrived");

    if !near.has_feature(Features::CLOSE_WRITE) {
        return;
    }
    setup.step("ends that are dropped");
    let reading = {
        let far = far.clone();
        Task::spawn(move || far.take_to_end())
    };
    // Not until it is done: a peer that has seen the end of the top layer reads no more, and those below may not fit.
    while !reading.is_finished() {
        dropping.once(aio.close_write(), 0).unwrap_or(Ok(())).expect("close_write");
        dropping.check(|| "an end that is dropped again and again does not arrive".to_owned());
    }
    let (rest, ended) = reading.join();
    ended.expect("a clean end");
    assert_eq!(rest.len(), 0, "bytes after the last");
    let ending = Task::spawn(move || {
        far.end_output();
        far.close()
    });
    let mut buf = [0; 16];
    let end = loop {
        if let Some(end) = dropping.once(aio.read(&mut buf), 0) {
            break end;
        }
        dropping.check(|| "reads that were dropped do not see the end".to_owned());
    };
    assert_eq!(end.expect("a clean end"), 0, "bytes after the last");
    // Whether the ends of the layers below fitted is none of this clause's business.
    let _ = dropping.again_and_again(|| aio.close());
    drop(ending);
    let closed = dropping.once(aio.read(&mut buf), 0);
    assert!(matches!(&closed, Some(Err(error)) if error.is_closed()), "a read after close gave {closed:?}");
}

struct Dropping<'a> {
    recorder: &'a Arc<Recorder>,
    patience: RefCell<Patience>,
}

impl Dropping<'_> {
    /// Polls a call, and once more after each of so many turns; then it is dropped.
    fn once<T>(&self, call: impl Future<Output = Result<T>>, keep: usize) -> Option<Result<T>> {
        let mut call = Polling::on(self.recorder, call);
        let mut polled = call.poll();
        for _ in 0..keep {
            if polled.is_none() {
                self.recorder.turn(Duration::from_micros(200)).expect("a turn");
                polled = call.poll();
            }
        }
        if polled.is_none() {
            self.recorder.turn(Duration::from_micros(200)).expect("a turn");
        }
        polled
    }

    #[track_caller]
    fn check(&self, late: impl FnOnce() -> String) {
        assert!(!self.patience.borrow_mut().is_lost(), "{}", late());
    }

    /// Makes a call, drops it at once where it waits, and makes it anew.
    fn again_and_again<F: Future<Output = Result<()>>>(&self, mut call: impl FnMut() -> F) -> Result<()> {
        loop {
            if let Some(done) = self.once(call(), 0) {
                return done;
            }
            self.check(|| "a call that was dropped again and again does not go on".to_owned());
        }
    }
}
