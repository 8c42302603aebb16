//! N: the time before data.

use std::io::IoSlice;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use channel_core::{
    AioChange, AioHandler, Channel, ChannelExt, Direction, Error, ErrorKind, Features, Limits, WriteFlags, layers,
    lowest_layer,
};

use super::end::{End, stream};
use super::files::{assert_released, polled, watched};
use super::late::Late;
use super::setup::{Mode, endless, open, small_limits};
use super::{Options, Setup};
use crate::adverse::Gate;
use crate::recording::Recorder;

/// \[N1\] Before `handshake` has completed, reads, writes and flushes say `NotOpen`; afterwards `handshake` is `Ok` at once.
pub fn n1_nothing_but_the_handshake_before_it_is_complete(setup: &Setup) {
    let (near, far) = setup.unopened(&Options { limits: endless(Limits::default()), ..Options::default() });
    let begin = || {
        near.set_blocking(false);
        setup.promptly("a non-blocking handshake whose peer is silent", || near.handshake())
    };
    if setup.declared().handshake {
        let not_open = |when: &str| {
            let lent = near.has_feature(Features::READ_BUF).then(|| near.with_read_buf(&mut |bytes| bytes.len()));
            let results = [
                ("read", Some(near.read(&mut [0; 8]).map(drop))),
                ("write", Some(near.write(b"too early").map(drop))),
                ("flush", Some(near.flush())),
                ("with_read_buf", lent.map(|lent| lent.map(drop))),
            ];
            for (call, result) in results {
                let Some(result) = result else { continue };
                assert!(result.as_ref().is_err_and(Error::is_not_open), "{call} {when} gave {result:?}");
            }
            near.set_cork(true);
            let corked = near.write(b"too early");
            near.set_cork(false);
            assert!(corked.as_ref().is_err_and(Error::is_not_open), "a corked write {when} gave {corked:?}");
        };
        setup.step("a blocking call before the handshake");
        not_open("before the handshake");
        let begun = begin();
        assert!(begun.as_ref().is_err_and(Error::is_would_block), "a handshake whose peer is silent gave {begun:?}");
        not_open("during the handshake");
    } else {
        let opened = begin();
        assert!(opened.is_ok(), "the maker declares no handshake, and one whose peer is silent gave {opened:?}");
    }
    let near = near.in_mode(setup.mode());
    open(&near, &far);
    for _ in 0..3 {
        let again = setup.promptly("a handshake that is complete", || near.handshake());
        assert!(again.is_ok(), "a handshake that is complete gave {again:?}");
    }
    // What a write refused has left nothing behind that this could refer to.
    near.put(b"too early");
    assert_eq!(far.take(9), b"too early", "the first bytes after the handshake");
    far.put(b"second");
    assert_eq!(near.take(6), b"second");
}

/// \[N2\] A handshake works in every mode and however the bytes are cut; in non-blocking mode it says `WouldBlock` and can be
/// resumed.
pub fn n2_a_handshake_can_be_resumed(setup: &Setup) {
    // Both ends on one thread, so that each can only go on when the other was left.
    let (near, far) = setup.unopened(&Options { small_buffers: true, limits: small_limits(), ..Options::default() });
    near.set_blocking(false);
    far.set_blocking(false);
    setup.step("two non-blocking handshakes, a step each in turns");
    let mut pending = vec![&near, &far];
    while !pending.is_empty() {
        pending.retain(|end| match end.handshake() {
            Ok(()) => false,
            Err(error) => {
                assert!(error.is_would_block(), "a non-blocking handshake gave {error:?}");
                true
            }
        });
        if let [last] = pending[..] {
            last.wait(Direction::Read, Some(Duration::from_millis(1))).expect("a wait");
        }
    }
    let (near, far) = (near.in_mode(setup.mode()), far.in_mode(Mode::Blocking));
    exchange(setup, &near, &far);
    let (near, far) = setup.small_pair();
    exchange(setup, &near, &far);
}

fn exchange(setup: &Setup, near: &End, far: &End) {
    for (from, to) in [(near, far), (far, near)] {
        let sending = {
            let from = from.clone();
            super::end::Task::spawn(move || from.put(&stream(0, 100)))
        };
        setup.step("exchanging data after the handshake");
        super::end::assert_stream(0, &to.take(100));
        sending.join_while_reading(to);
    }
}

/// \[N3\] A handshake that does not finish within its limit fails with `TimedOut`; a peer that sends garbage, or goes, ends it with
/// an error that names the layer.
pub fn n3_a_handshake_ends_whatever_the_peer_does(setup: &Setup) {
    let limits = Limits { handshake: Duration::from_millis(150), ..Limits::default() };
    let options = Options { limits, ..Options::default() };
    let handshake = |near: &End| near.drive(Direction::Read, Channel::handshake);

    let (near, _far) = setup.unopened(&options);
    near.apply_mode();
    let silent = setup.within(options.limits.handshake, "a handshake whose peer is silent", || handshake(&near));
    let error = silent.expect_err("a handshake whose peer is silent");
    assert_eq!(error.kind(), ErrorKind::TimedOut, "a handshake whose peer is silent gave {error:?}");
    assert_names_a_layer(&near, &error);
    setup.step("a second attempt after the handshake failed");
    assert!(handshake(&near).is_err(), "a handshake that failed can be completed");
    assert!(near.write(b"x").is_err(), "a write after the handshake failed");

    let (near, far) = setup.unopened(&Options::default());
    near.apply_mode();
    drop(far);
    setup.step("a handshake whose peer is gone");
    let error = handshake(&near).expect_err("a handshake whose peer is gone");
    assert_ne!(error.kind(), ErrorKind::TimedOut, "a handshake whose peer is gone gave {error:?}");
    assert_names_a_layer(&near, &error);

    let (near, far) = setup.unopened(&options);
    near.apply_mode();
    // Below all layers of the far end, which plays no other part. No protocol begins so, and each line of one is over.
    let garbage = [vec![0x7f; 64], b"\r\n\r\n".repeat(8)].concat();
    let wire = lowest_layer(&*far);
    let sent = wire.writev_full(&[IoSlice::new(&garbage)], &[], WriteFlags::DONT_WAIT);
    sent.expect("garbage below the layers of the far end");
    setup.step("a handshake whose peer sends garbage");
    let error = handshake(&near).expect_err("a handshake whose peer sends garbage");
    assert_names_a_layer(&near, &error);
}

/// \[N4\] A handshake may be dropped at any step: that frees everything, and nothing of it is called afterwards.
pub fn n4_a_handshake_can_be_dropped_at_any_step(setup: &Setup) {
    /// At most so many places are tried, evenly spread over what the peer says.
    const PLACES: u64 = 60;
    setup.step("two non-blocking handshakes, a step each in turns");
    let said = Attempt::begin(setup, u64::MAX).proceed();
    // Each mode takes those between the other's.
    let between = if setup.mode() == Mode::Blocking { 0 } else { said / PLACES / 2 };
    for place in 0..said.clamp(1, PLACES) {
        let heard = between + place * said / said.clamp(1, PLACES);
        setup.step("a handshake that is dropped");
        let mut attempt = Attempt::begin(setup, heard);
        attempt.proceed();
        attempt.abandon();
    }
}

/// A handshake of which the near end gets to hear only a part, with handlers on the near end.
struct Attempt {
    near: End,
    far: End,
    gate: Arc<Gate>,
    /// So many bytes it gets to hear.
    heard: u64,
    recorder: Arc<Recorder>,
    /// The handlers, and how often they were called.
    calls: Arc<AtomicUsize>,
}

impl Attempt {
    fn begin(setup: &Setup, heard: u64) -> Self {
        let (gate, recorder, calls) = (Gate::new(), Recorder::new(), Arc::new(AtomicUsize::new(0)));
        gate.close();
        gate.let_through(heard);
        let (near, far) = setup.unopened(&Options { gate: Some(Arc::clone(&gate)), ..Options::default() });
        near.set_blocking(false);
        far.set_blocking(false);
        let handler = || {
            let calls = Arc::clone(&calls);
            AioChange::Set(AioHandler::new(recorder.clone() as _, move || {
                calls.fetch_add(1, Ordering::Relaxed);
            }))
        };
        drop(near.set_aio_fd_handler(handler(), handler()).expect("setting handlers"));
        Self { near, far, gate, heard, recorder, calls }
    }

    /// Takes a step each in turns until both ends are open, or the near one has heard what it gets to hear. How much it heard.
    fn proceed(&mut self) -> u64 {
        let mut done = false;
        while !done {
            self.near.drive_on();
            // Before the step that makes something of it.
            done = self.gate.passed() == self.heard;
            let opened = [&self.near, &self.far].map(|end| match end.handshake() {
                Ok(()) => true,
                Err(error) => {
                    assert!(error.is_would_block(), "a non-blocking handshake gave {error:?}");
                    false
                }
            });
            done |= opened == [true, true];
            self.recorder.turn(Duration::ZERO).expect("a turn");
        }
        self.gate.passed()
    }

    /// Drops the near end.
    fn abandon(self) {
        let Self { near, far, gate, heard, recorder, calls } = self;
        let files = watched([polled(lowest_layer(&*near)), polled(lowest_layer(&*far))].concat());
        drop(near);
        let before = calls.load(Ordering::Relaxed);
        assert!(
            recorder.handlers().is_empty(),
            "dropped after {heard} bytes, and a loop still has {:?}",
            recorder.handlers()
        );
        assert_eq!(recorder.timers(), 0, "timers of a handshake that was dropped after {heard} bytes");
        gate.open();
        while recorder.turn(Duration::ZERO).expect("a turn") > 0 {}
        let late = calls.load(Ordering::Relaxed) - before;
        assert_eq!(late, 0, "calls of the handlers of a handshake that was dropped after {heard} bytes");
        assert_eq!(Arc::strong_count(&calls), 1, "owners of what the handlers captured, dropped after {heard} bytes");
        drop(far);
        assert_released(&files, "a handshake was dropped");
    }
}

/// \[H9\] A handler is called when the limit of a handshake passes, although its descriptor is silent: the call it makes says
/// `TimedOut`.
pub fn h9_a_handler_is_called_when_a_limit_passes(setup: &Setup) {
    let limits = Limits { handshake: Duration::from_millis(50), ..Limits::default() };
    for set_before in [true, false] {
        setup.step("a handler on a handshake whose peer is silent");
        let (near, _far) = setup.unopened(&Options { limits: limits.clone(), ..Options::default() });
        near.set_blocking(false);
        let begin = || {
            let begun = near.handshake();
            assert!(
                begun.as_ref().is_err_and(Error::is_would_block),
                "a handshake whose peer is silent gave {begun:?}"
            );
        };
        if !set_before {
            begin();
        }
        let (recorder, ended) = (Recorder::new(), Arc::new(Mutex::new(None)));
        let opening = {
            let (near, ended) = (Arc::downgrade(near.channel()), Arc::clone(&ended));
            AioHandler::new(recorder.clone() as _, move || match near.upgrade().map(|near| near.handshake()) {
                Some(Err(error)) if error.is_would_block() => {}
                outcome => *ended.lock().unwrap_or_else(PoisonError::into_inner) = outcome,
            })
        };
        drop(near.set_aio_fd_handler(AioChange::Set(opening), AioChange::Keep).expect("setting a handler"));
        if set_before {
            begin();
        }
        let late = Late::after(&recorder, limits.handshake);
        let outcome = || ended.lock().unwrap_or_else(PoisonError::into_inner).clone();
        setup.turn_until(&recorder, || outcome().is_some());
        let outcome = outcome();
        let timed_out = matches!(&outcome, Some(Err(error)) if error.kind() == ErrorKind::TimedOut);
        assert!(timed_out, "the limit of a handshake passed, and its read handler was told {outcome:?}");
        assert!(!late.has_come(), "the limit of a handshake had passed twice before its read handler was called");
    }
}

fn assert_names_a_layer(near: &End, error: &Error) {
    let known: Vec<&str> = layers(&**near).map(Channel::layer).collect();
    assert!(known.contains(&error.layer()), "the layer of {error:?} is `{}`, none of {known:?}", error.layer());
}
