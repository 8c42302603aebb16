//! N: the time before data.

use std::io::IoSlice;
use std::time::Duration;

use channel_core::{
    Channel, ChannelExt, Direction, Error, ErrorKind, Features, Limits, WriteFlags, layers, lowest_layer,
};

use super::end::{End, stream};
use super::setup::{Mode, open, small_limits};
use super::{Options, Setup};

/// Whether there is a handshake at all: one that is done at once, without the peer, is none.
fn has_handshake(setup: &Setup) -> bool {
    let (near, _far) = setup.unopened(&Options::default());
    near.set_blocking(false);
    match setup.promptly("a non-blocking handshake", || near.handshake()) {
        Ok(()) => false,
        Err(error) => {
            assert!(error.is_would_block(), "a non-blocking handshake whose peer is silent gave {error:?}");
            true
        }
    }
}

/// \[N1\] Before `handshake` has completed, reads, writes and flushes say `NotOpen`; afterwards `handshake` is `Ok` at once.
pub fn n1_nothing_but_the_handshake_before_it_is_complete(setup: &Setup) {
    let (near, far) = setup.unopened(&Options::default());
    if has_handshake(setup) {
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
        };
        setup.step("a blocking call before the handshake");
        not_open("before the handshake");
        near.set_blocking(false);
        let begun = near.handshake();
        assert!(begun.as_ref().is_err_and(Error::is_would_block), "a handshake whose peer is silent gave {begun:?}");
        not_open("during the handshake");
    }
    let near = near.in_mode(setup.mode());
    open(&near, &far);
    for _ in 0..3 {
        let again = setup.promptly("a handshake that is complete", || near.handshake());
        assert!(again.is_ok(), "a handshake that is complete gave {again:?}");
    }
    near.put(b"first");
    assert_eq!(far.take(5), b"first", "the first bytes after the handshake");
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
        sending.join();
    }
}

/// \[N3\] A handshake that does not finish within its limit fails with `TimedOut`; a peer that sends garbage, or goes, ends it with
/// an error that names the layer.
pub fn n3_a_handshake_ends_whatever_the_peer_does(setup: &Setup) {
    if !has_handshake(setup) {
        return;
    }
    let limits = Limits { handshake: Duration::from_millis(150), ..Limits::default() };
    let options = Options { limits, ..Options::default() };
    let handshake = |near: &End| near.drive(Direction::Read, Channel::handshake);

    let (near, _far) = setup.unopened(&options);
    near.apply_mode();
    setup.step("a handshake whose peer is silent");
    let error = handshake(&near).expect_err("a handshake whose peer is silent");
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

fn assert_names_a_layer(near: &End, error: &Error) {
    let known: Vec<&str> = layers(&**near).map(Channel::layer).collect();
    assert!(known.contains(&error.layer()), "the layer of {error:?} is `{}`, none of {known:?}", error.layer());
}
