//! Which loop a task waits on.

use std::sync::Arc;
use std::time::Duration;

use channel_core::ErrorKind;

use super::super::Setup;
use super::super::end::{assert_stream, stream};
use super::{Polling, context, for_tasks};
use crate::recording::Recorder;

/// \[A4\] A channel that is attached to no loop uses that of the thread which polls the task, or says that there is none; a task that
/// moves to another thread is woken by the loop there.
pub fn a4_a_task_waits_on_the_loop_it_is_polled_on(setup: &Setup) {
    let (here, there) = (Recorder::new(), Recorder::new());
    let (near, far) = setup.pair();
    near.set_name("homeless");
    let aio = for_tasks(&near);
    let mut buf = [0; 64];
    match Polling::new(aio.read(&mut buf)).poll() {
        Some(Err(error)) if error.kind() == ErrorKind::NotAttached => {
            assert_eq!(error.channel(), Some("homeless"), "the error does not name the channel: {error}");
        }
        other => panic!("a task without a loop got {other:?}"),
    }

    setup.step("a task that moves from loop to loop");
    let mut at = 0;
    for (old, new) in [(&here, &there), (&there, &here), (&here, &there)] {
        let mut reader = Polling::on(old, aio.read_all(&mut buf));
        let polled = reader.settle();
        assert!(polled.is_none(), "a read of nothing gave {polled:?}");
        reader.home = Some(Arc::clone(new));
        let polled = reader.settle();
        assert!(polled.is_none(), "a read of nothing, on its new loop, gave {polled:?}");
        let left = old.handlers().len();
        assert_eq!(left, 0, "descriptors polled by the loop that a task has left");
        far.put(&stream(at, 64));
        for _ in 0..3 {
            old.turn(Duration::from_millis(1)).expect("a turn");
            assert!(!reader.is_woken(), "a task was woken by the loop that it has left");
        }
        reader.run(new, setup, "a task on its new loop").expect("a read");
        drop(reader);
        assert_stream(at, &buf);
        at += 64;
    }

    setup.step("a task of a channel that is attached");
    let attached = aio.attach(context(&here)).expect("a channel that is attached to no loop");
    assert!(format!("{:?}", attached.context()).contains("Recorder"), "the loop it is attached to");
    let mut reader = Polling::new(aio.read_all(&mut buf));
    assert!(reader.settle().is_none(), "a read of nothing");
    reader.home = Some(Arc::clone(&there));
    assert!(reader.settle().is_none(), "a read of nothing");
    assert_eq!(there.handlers().len(), 0, "descriptors polled by a loop that the channel is not attached to");
    far.put(&stream(at, 64));
    reader.run(&here, setup, "a task of a channel that is attached").expect("a read");
    drop(reader);
    assert_stream(at, &buf);
}
