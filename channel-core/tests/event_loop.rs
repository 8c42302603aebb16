//! What the event loop promises beside what every context does.

use std::sync::Arc;
use std::time::Duration;

use channel_core::EventLoop;
use channel_testkit::watchdog;

channel_testkit::aio_context_conformance! {
    mod conformance = || EventLoop::new().unwrap();
}

#[test]
fn a_task_gives_what_its_future_gave() {
    watchdog::run("a_task_gives_what_its_future_gave", || {
        let event_loop = EventLoop::new().unwrap();
        let task = event_loop.spawn(async { 6 * 7 });
        assert_eq!(event_loop.block_on(task).unwrap().unwrap(), 42);
        assert_eq!(event_loop.run_once(Some(Duration::ZERO)).unwrap(), 0);
    });
}

#[test]
fn a_stop_before_run_is_not_lost() {
    watchdog::run("a_stop_before_run_is_not_lost", || {
        let event_loop = EventLoop::new().unwrap();
        event_loop.stop();
        event_loop.run().unwrap();
        assert_eq!(event_loop.run_once(Some(Duration::ZERO)).unwrap(), 0);
    });
}

#[test]
fn a_loop_is_freed_with_its_last_handle() {
    let event_loop = EventLoop::new().unwrap();
    let weak = Arc::downgrade(&event_loop);
    event_loop.spawn(std::future::pending::<()>()).detach();
    event_loop.run_once(None).unwrap();
    drop(event_loop);
    assert!(weak.upgrade().is_none());
}
