//! Hang-ups, as sockets have them.

use std::ops::ControlFlow::Continue;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use channel_core::{Channel, Condition, Shutdown, WatchGuard};
use channel_socket::SocketChannel;
use channel_testkit::recording::Recorder;

/// A watch for hang-ups, which counts them.
struct Watched {
    recorder: Arc<Recorder>,
    calls: Arc<AtomicUsize>,
    _guard: WatchGuard,
}

impl Watched {
    fn new(near: &Arc<dyn Channel>) -> Self {
        let (recorder, calls) = (Recorder::new(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&calls);
        let guard = near.add_watch(recorder.clone(), Condition::HUP, move |_, _| {
            counted.fetch_add(1, Ordering::SeqCst);
            Continue(())
        });
        Self { recorder, calls, _guard: guard.unwrap() }
    }

    /// How many were told, after a few turns of the loop.
    fn told(&self) -> usize {
        for _ in 0..4 {
            self.recorder.turn(Duration::ZERO).unwrap();
        }
        self.calls.load(Ordering::SeqCst)
    }
}

#[test]
fn a_hang_up_that_was_told_is_not_told_again_for_what_we_do_afterwards() {
    let (near, far) = SocketChannel::pair().unwrap();
    let near: Arc<dyn Channel> = Arc::new(near);
    let watched = Watched::new(&near);
    drop(far);
    assert_eq!(watched.told(), 1);
    for how in [Shutdown::Read, Shutdown::Write, Shutdown::Both] {
        near.shutdown(how).unwrap(); // which is news of a socket that has hung up
        assert_eq!(watched.told(), 1);
    }
}

#[test]
fn a_hang_up_is_told_though_the_times_of_calls_have_passed() {
    let (near, far) = SocketChannel::pair().unwrap();
    let near: Arc<dyn Channel> = Arc::new(near);
    near.set_blocking(false);
    near.set_read_timeout(Some(Duration::from_nanos(1))).unwrap();
    near.set_write_timeout(Some(Duration::from_nanos(1))).unwrap();
    let watched = Watched::new(&near);
    drop(far);
    assert_eq!(watched.told(), 1);
}
