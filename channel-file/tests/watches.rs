//! Hang-ups, as pipes have them.

use std::ops::ControlFlow::Continue;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use channel_core::{Channel, Condition, Shutdown};
use channel_file::PipeChannel;
use channel_testkit::recording::Recorder;
use rustix::pipe::{PipeFlags, pipe_with};

/// How often a watch for hang-ups of `near` is called after `happens`.
fn told(near: PipeChannel, happens: impl FnOnce(&PipeChannel)) -> usize {
    let near = Arc::new(near);
    let channel: Arc<dyn Channel> = near.clone();
    let (recorder, calls) = (Recorder::new(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&calls);
    let guard = channel.add_watch(recorder.clone(), Condition::HUP, move |_, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        Continue(())
    });
    let _guard = guard.unwrap();
    happens(&near);
    for _ in 0..4 {
        recorder.turn(Duration::ZERO).unwrap();
    }
    calls.load(Ordering::SeqCst)
}

#[test]
fn a_hang_up_is_told_to_who_has_the_pipe_and_to_nobody_who_gave_it_up() {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let near = PipeChannel::from_fds(Some(read), None).unwrap();
    assert_eq!(told(near, |_| drop(write)), 1);

    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let (_other, other_write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let copy = read.try_clone().unwrap();
    let near = PipeChannel::from_fds(Some(read), Some(other_write)).unwrap();
    let calls = told(near, |near| {
        near.shutdown(Shutdown::Read).unwrap();
        drop(write); // a hang-up of the copy, which somebody else has open
    });
    assert_eq!(calls, 0);
    drop(copy);
}
