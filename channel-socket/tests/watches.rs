//! Hang-ups, as sockets have them.

use std::ops::ControlFlow::Continue;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use channel_core::{Channel, Condition, Shutdown};
use channel_socket::SocketChannel;
use channel_testkit::recording::Recorder;

#[test]
fn a_hang_up_that_was_told_is_not_told_again_for_what_we_do_afterwards() {
    let (near, far) = SocketChannel::pair().unwrap();
    let near: Arc<dyn Channel> = Arc::new(near);
    let (recorder, calls) = (Recorder::new(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&calls);
    let guard = near.add_watch(recorder.clone(), Condition::HUP, move |_, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        Continue(())
    });
    let _guard = guard.unwrap();
    let turns = || {
        for _ in 0..4 {
            recorder.turn(Duration::ZERO).unwrap();
        }
    };
    drop(far);
    turns();
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    for how in [Shutdown::Read, Shutdown::Write, Shutdown::Both] {
        near.shutdown(how).unwrap(); // which is news of a socket that has hung up
        turns();
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[test]
fn a_hang_up_is_told_though_the_times_of_calls_have_passed() {
    let (near, far) = SocketChannel::pair().unwrap();
    let near: Arc<dyn Channel> = Arc::new(near);
    near.set_blocking(false);
    near.set_read_timeout(Some(Duration::from_nanos(1))).unwrap();
    near.set_write_timeout(Some(Duration::from_nanos(1))).unwrap();
    let (recorder, calls) = (Recorder::new(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&calls);
    let guard = near.add_watch(recorder.clone(), Condition::HUP, move |_, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        Continue(())
    });
    let _guard = guard.unwrap();
    drop(far);
    for _ in 0..4 {
        recorder.turn(Duration::ZERO).unwrap();
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}
