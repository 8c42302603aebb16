//! A layer that is dropped while its handler runs.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use channel_core::{AioChange, AioHandler, Channel, ChannelExt, Layered, MemoryChannel};
use channel_testkit::recording::Recorder;
use support::{Plain, plain};

#[test]
fn a_handler_that_was_to_run_again_does_not_once_its_layer_was_dropped() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let near = Arc::new(Mutex::new(Some(plain("plain", near))));
    let (recorder, calls) = (Recorder::new(), Arc::new(AtomicUsize::new(0)));
    let (own, counted, again) = (Arc::clone(&near), Arc::clone(&calls), Arc::clone(&recorder));
    let handler = AioHandler::new(recorder.clone(), move || {
        if counted.fetch_add(1, Ordering::SeqCst) > 0 {
            return;
        }
        let Some(near): Option<Layered<Plain, Plain>> = own.lock().unwrap().take() else { return };
        // What it leaves makes it due again, while it runs: it is to run once more afterwards.
        assert_eq!(near.read(&mut [0]).unwrap(), 1);
        assert!(again.turn(Duration::ZERO).unwrap() > 0);
        drop(near);
    });
    near.lock().unwrap().as_ref().unwrap().set_aio_fd_handler(AioChange::Set(handler), AioChange::Keep).unwrap();
    far.write_all(b"xy").unwrap();
    recorder.turn(Duration::ZERO).unwrap();
    assert!(near.lock().unwrap().is_none(), "it was dropped in the call");
    assert_eq!(calls.load(Ordering::SeqCst), 1, "calls of a handler whose channel was dropped in the first");
    assert!(recorder.handlers().is_empty());
}
