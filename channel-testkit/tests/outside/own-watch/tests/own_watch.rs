//! A watch and a task of one's own do what those of the library do.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use channel_core::{AioChannel, Channel, ChannelExt, Direction, ErrorKind, EventLoop, MemoryChannel, enter_context};
use own_watch::{Heard, Listening, Progress};

fn pair() -> (Arc<dyn Channel>, MemoryChannel) {
    let (near, far) = MemoryChannel::pair().unwrap();
    near.set_blocking(false);
    (Arc::new(near), far)
}

/// What a watch on `near` hears until that ends, how that ends, and why the watch was lost; `then` is done after what it hears.
fn heard(
    near: &Arc<dyn Channel>,
    then: impl Fn(&dyn Channel) + Send + 'static,
) -> (Vec<u8>, Option<ErrorKind>, Option<ErrorKind>) {
    let event_loop = EventLoop::new().unwrap();
    let all = Arc::new(Mutex::new((Vec::new(), None)));
    let (log, handle, channel) = (Arc::clone(&all), event_loop.handle(), Arc::downgrade(near));
    let listening = Listening::to(near, event_loop.handle(), move |heard| {
        match heard {
            Heard::Bytes(bytes) => log.lock().unwrap().0.extend(bytes),
            Heard::End(end) => {
                log.lock().unwrap().1 = end.err().map(|error| error.kind());
                return handle.stop();
            }
        }
        if let Some(channel) = channel.upgrade() {
            then(&*channel);
        }
    })
    .unwrap();
    assert!(Listening::to(near, event_loop.handle(), |_| ()).unwrap_err().is_busy());
    event_loop.run().unwrap();
    let heard = all.lock().unwrap();
    (heard.0.clone(), heard.1, listening.lost().map(|why| why.kind()))
}

#[test]
fn a_watch_hears_all_there_is_and_the_end() {
    let (near, far) = pair();
    far.write_all(&[b'x'; 3000]).unwrap();
    far.close_write().unwrap();
    assert_eq!(heard(&near, |_| ()), (vec![b'x'; 3000], None, None));
}

#[test]
fn a_watch_hears_that_its_channel_was_closed() {
    let (near, far) = pair();
    far.write_all(b"hello").unwrap();
    let closes = |near: &dyn Channel| near.close().unwrap();
    let closed = Some(ErrorKind::Closed);
    assert_eq!(heard(&near, closes), (b"hello".to_vec(), closed, closed));
}

#[test]
fn a_watch_cannot_wait_for_its_own_end() {
    let (near, far) = pair();
    let event_loop = EventLoop::new().unwrap();
    let own = Arc::new(Mutex::new(None::<Listening>));
    let waited = Arc::new(Mutex::new(None));
    let (within, result, handle) = (Arc::clone(&own), Arc::clone(&waited), event_loop.handle());
    let listening = Listening::to(&near, event_loop.handle(), move |_| {
        *result.lock().unwrap() = within.lock().unwrap().as_ref().map(Listening::stop);
        handle.stop();
    });
    *own.lock().unwrap() = Some(listening.unwrap());
    far.write_all(b"x").unwrap();
    event_loop.run().unwrap();
    let waited = waited.lock().unwrap().take().unwrap();
    assert_eq!(waited.unwrap_err().kind(), ErrorKind::WouldDeadlock);
    own.lock().unwrap().as_ref().map(Listening::stop).unwrap().unwrap(); // outside of it it can
    assert!(Listening::to(&near, event_loop.handle(), |_| ()).is_ok(), "its place is free");
}

#[test]
fn a_task_waits_and_moves_to_the_loop_that_polls_it() {
    let (near, far) = pair();
    let mut waits = pin!(Progress::of(&near, Direction::Read));
    let mut poll = || waits.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(poll(), Poll::Ready(Err(error)) if error.kind() == ErrorKind::NotAttached));
    let first = EventLoop::new().unwrap();
    let entered = enter_context(first.handle());
    assert!(poll().is_pending());
    drop(entered);
    let second = AioChannel::from_arc(Arc::clone(&near));
    let mut busy = pin!(second.ready(Direction::Read));
    let event_loop = EventLoop::new().unwrap();
    let entered = enter_context(event_loop.handle());
    let busy = busy.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(busy, Poll::Ready(Err(error)) if error.is_busy()));
    drop((entered, first));
    let writes = event_loop.spawn(async move { far.write_all(b"x").map(|()| far) });
    event_loop.block_on(waits).unwrap().unwrap();
    let far = event_loop.block_on(writes).unwrap().unwrap().unwrap();
    assert_eq!(near.read(&mut [0; 8]).unwrap(), 1);
    let waits = event_loop.block_on(async {
        near.close().unwrap();
        Progress::of(&near, Direction::Read).await
    });
    assert!(waits.unwrap().unwrap_err().is_closed());
    drop(far);
}
