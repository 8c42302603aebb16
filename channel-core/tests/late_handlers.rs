//! Handlers that are set when what they are to be told of is over: they are due once they are set.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use channel_core::{AioChange, AioHandler, Channel, ChannelExt, ErrorKind, MemoryChannel};
use channel_testkit::recording::Recorder;
use support::plain;

/// Sets a handler with `set` and says how often it is called until its loop rests.
fn calls(set: impl FnOnce(AioChange)) -> usize {
    let (recorder, calls) = (Recorder::new(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&calls);
    set(AioChange::Set(AioHandler::new(recorder.clone(), move || {
        count.fetch_add(1, Ordering::SeqCst);
    })));
    let rests = (0..10).any(|_| recorder.turn(Duration::ZERO).unwrap() == 0);
    assert!(rests, "the loop finds no rest");
    calls.load(Ordering::SeqCst)
}

#[test]
fn each_new_write_handler_is_told_that_our_output_has_ended() {
    let (near, _far) = MemoryChannel::pair().unwrap();
    let near = plain("upper", plain("lower", near));
    near.set_blocking(false);
    near.close_write().unwrap();
    for _ in 0..3 {
        assert!(calls(|set| drop(near.set_aio_fd_handler(AioChange::Keep, set).unwrap())) > 0);
        assert_eq!(near.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    }
}

#[test]
fn each_new_read_handler_is_told_that_the_stream_has_ended() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let near = plain("upper", plain("lower", near));
    near.set_blocking(false);
    far.close_write().unwrap();
    for _ in 0..3 {
        assert!(calls(|set| drop(near.set_aio_fd_handler(set, AioChange::Keep).unwrap())) > 0);
        assert_eq!(near.read(&mut [0]).unwrap(), 0);
    }
}
