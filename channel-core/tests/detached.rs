//! What a channel that leaves a loop takes along.

mod support;

use std::io::IoSlice;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use channel_core::{AioChannel, Channel, EventLoop, Layered, Limits, MemoryChannel, WriteFlags};
use support::Plain;

#[derive(Default)]
struct Woken(AtomicBool);

impl Woken {
    fn take(&self) -> bool {
        self.0.swap(false, Ordering::SeqCst)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_task_is_woken_where_its_channel_goes_and_not_when_it_leaves() {
    let (near, _far) = MemoryChannel::pair().unwrap();
    let (aio, event_loop) = (AioChannel::new(near), EventLoop::new().unwrap());
    let attached = aio.attach(event_loop.handle()).unwrap();
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let mut buf = [0];
    let mut reading = pin!(aio.read(&mut buf));
    loop {
        assert!(reading.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        event_loop.run_once(Some(Duration::ZERO)).unwrap();
        if !woken.take() {
            break;
        }
    }
    let detached = attached.detach().unwrap();
    assert!(!woken.take(), "woken on no loop");
    let _attached = detached.attach(event_loop.handle());
    assert!(woken.take(), "not woken on its new loop");
}

#[test]
fn tasks_that_close_leave_a_loop_along_with_their_channel() {
    let (near, _far) = MemoryChannel::pair_with_capacity(10).unwrap();
    let limits = Limits { linger: Duration::from_secs(1000), ..Limits::default() };
    let near = Layered::open("plain", Box::new(near), Plain, Plain, limits).unwrap();
    assert_eq!(near.writev_full(&[IoSlice::new(&[7; 100])], &[], WriteFlags::DONT_WAIT).unwrap(), 100);
    let (aio, event_loop) = (AioChannel::new(near), EventLoop::new().unwrap());
    let attached = aio.attach(event_loop.handle()).unwrap();
    let mut closing = pin!(aio.close());
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let mut cx = Context::from_waker(&waker);
    let none = || format!("{event_loop:?}").contains("descriptors: 0");
    assert!(closing.as_mut().poll(&mut cx).is_pending());
    assert!(!none(), "{event_loop:?}");
    let detached = attached.detach().unwrap();
    assert!(none(), "{event_loop:?}");
    woken.take();
    let _attached = detached.attach(event_loop.handle());
    assert!(woken.take(), "not woken on its new loop");
    assert!(closing.as_mut().poll(&mut cx).is_pending());
    assert!(!none(), "{event_loop:?}");
}
