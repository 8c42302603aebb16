//! A channel as the `AsyncRead` and `AsyncWrite` of futures-io, on the loop that ships.
#![cfg(feature = "futures-io")]

#[path = "support/odd.rs"]
mod odd;
#[path = "support/pairs.rs"]
mod pairs;
#[path = "support/mod.rs"]
mod support;

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice, IoSliceMut};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use channel_core::{
    AioChannel, Channel, ChannelExt, Direction, Error, ErrorKind, EventLoop, LoopHandle, MemoryChannel,
};
use channel_testkit::{adverse, watchdog};
use futures_io::{AsyncRead, AsyncWrite};

use odd::unending;
use pairs::{PAIRS, bytes, memory};
use support::plain;

async fn read(mut channel: impl AsyncRead + Unpin, buf: &mut [u8]) -> io::Result<usize> {
    poll_fn(|cx| Pin::new(&mut channel).poll_read(cx, buf)).await
}

async fn read_to_end(mut channel: impl AsyncRead + Unpin) -> io::Result<Vec<u8>> {
    let mut heard = Vec::new();
    let mut buf = [0; 1000];
    loop {
        match read(&mut channel, &mut buf).await? {
            0 => return Ok(heard),
            count => heard.extend_from_slice(&buf[..count]),
        }
    }
}

async fn write_all(mut channel: impl AsyncWrite + Unpin, mut buf: &[u8]) -> io::Result<()> {
    while !buf.is_empty() {
        let count = poll_fn(|cx| Pin::new(&mut channel).poll_write(cx, buf)).await?;
        buf = &buf[count..];
    }
    poll_fn(|cx| Pin::new(&mut channel).poll_flush(cx)).await
}

async fn close(mut channel: impl AsyncWrite + Unpin) -> io::Result<()> {
    poll_fn(|cx| Pin::new(&mut channel).poll_close(cx)).await
}

/// Runs a test in a task of the loop that ships, with every pair.
fn on_each<F>(name: &'static str, test: fn(AioChannel, AioChannel, Arc<LoopHandle>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    watchdog::run(name, || {
        for (pair, make) in PAIRS {
            eprintln!("over {pair}");
            let event_loop = EventLoop::new().unwrap();
            let (near, far) = make();
            let task = event_loop.spawn(test(AioChannel::new(near), AioChannel::new(far), event_loop.handle()));
            event_loop.block_on(task).unwrap().unwrap();
        }
    });
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    EventLoop::new().unwrap().block_on(future).unwrap()
}

const LONG: usize = 200_000;

#[test]
fn a_reader_and_a_writer_work_at_once_on_both_ends() {
    on_each("a_reader_and_a_writer_work_at_once_on_both_ends", |near, far, event_loop| async move {
        let mut tasks = Vec::new();
        for (channel, ours, theirs) in [(near, 1, 2), (far, 2, 1)] {
            let channel = Arc::new(channel);
            let writer = Arc::clone(&channel);
            tasks.push(event_loop.spawn(async move {
                write_all(&*writer, &bytes(LONG, ours)).await.unwrap();
                close(&*writer).await.unwrap();
            }));
            tasks.push(event_loop.spawn(async move {
                assert!(read_to_end(&*channel).await.unwrap() == bytes(LONG, theirs));
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn a_read_that_is_dropped_while_it_waits_loses_nothing() {
    on_each("a_read_that_is_dropped_while_it_waits_loses_nothing", |mut near, far, event_loop| async move {
        let sent = bytes(20_000, 3);
        let writing = {
            let sent = sent.clone();
            event_loop.spawn(async move {
                for piece in sent.chunks(17) {
                    write_all(&far, piece).await.unwrap();
                }
                close(&far).await.unwrap();
            })
        };
        let mut heard = Vec::new();
        let mut buf = [0; 100];
        loop {
            // Polled once, and dropped unless it is ready.
            let once = pin!(read(&mut near, &mut buf)).poll(&mut Context::from_waker(Waker::noop()));
            let count = match once {
                Poll::Ready(count) => count.unwrap(),
                Poll::Pending => read(&mut near, &mut buf).await.unwrap(),
            };
            if count == 0 {
                break;
            }
            heard.extend_from_slice(&buf[..count]);
        }
        assert!(heard == sent);
        writing.await.unwrap();
    });
}

#[test]
fn closing_ends_our_output_and_leaves_reading_open() {
    on_each("closing_ends_our_output_and_leaves_reading_open", |mut near, far, _| async move {
        write_all(&mut near, b"question").await.unwrap();
        close(&mut near).await.unwrap();
        close(&mut near).await.unwrap();
        assert_eq!(read_to_end(&far).await.unwrap(), b"question");
        write_all(&far, b"answer").await.unwrap();
        close(&far).await.unwrap();
        assert_eq!(read_to_end(&mut near).await.unwrap(), b"answer");
        let error = write_all(&near, b"too late").await.unwrap_err();
        let ours = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).expect("our error inside");
        assert!(ours.is_closed() || ours.kind() == ErrorKind::BrokenPipe, "{ours}");
    });
}

#[test]
fn vectored_calls_are_one_call_with_all_their_buffers() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let (near, log) = adverse::record(Box::new(near));
    let mut near = AioChannel::new(near);
    let sent = [&b"one "[..], b"and ", b"two"].map(IoSlice::new);
    let wrote = block_on(poll_fn(|cx| Pin::new(&mut near).poll_write_vectored(cx, &sent))).unwrap();
    assert_eq!(wrote, 11);
    let mut heard = [0; 11];
    far.read_all(&mut heard).unwrap();
    assert_eq!(&heard, b"one and two");

    far.write_all(b"there and back").unwrap();
    let (mut start, mut end) = ([0; 6], [0; 8]);
    let mut bufs = [&mut start[..], &mut end[..]].map(IoSliceMut::new);
    assert_eq!(block_on(poll_fn(|cx| Pin::new(&mut &near).poll_read_vectored(cx, &mut bufs))).unwrap(), 14);
    assert_eq!((&start, &end), (b"there ", b"and back"));
    let buffers = |method| log.of(method).iter().map(|call| call.buffers).collect::<Vec<_>>();
    assert_eq!((buffers("writev_full"), buffers("readv_full")), (vec![3], vec![2]));
}

#[test]
fn a_channel_without_a_polite_end_is_flushed_by_close() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let near = plain("corked", near);
    near.set_cork(true);
    let near = AioChannel::new(unending(Box::new(near)));
    block_on(poll_fn(|cx| Pin::new(&mut &near).poll_write(cx, b"held"))).unwrap();
    far.set_blocking(false);
    assert!(far.read(&mut [0; 4]).unwrap_err().is_would_block());
    block_on(close(&near)).unwrap();
    assert_eq!(far.read(&mut [0; 8]).unwrap(), 4);
    assert!(far.read(&mut [0; 4]).unwrap_err().is_would_block(), "that was no end");
}

#[test]
fn a_stream_that_is_cut_short_is_our_error_inside_stds() {
    let (near, _far) = MemoryChannel::pair().unwrap();
    let broken = Error::new(ErrorKind::UnexpectedEof, "test", "cut short");
    let near = AioChannel::new(adverse::fail_after(Box::new(near), Direction::Read, 1, broken));
    let error = block_on(read(&near, &mut [0; 1])).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    let ours = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).expect("our error inside");
    assert_eq!(ours.kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn handlers_on_another_thread_wake_the_tasks() {
    watchdog::run("handlers_on_another_thread_wake_the_tasks", || {
        let other = Arc::new(EventLoop::new().unwrap());
        let running = {
            let other = Arc::clone(&other);
            thread::spawn(move || other.run().unwrap())
        };
        let (near, far) = memory();
        let attached = [&near, &far].map(|channel| channel.attach(other.handle()).unwrap());
        let echo = thread::spawn(move || {
            block_on(async {
                let mut buf = [0; 4];
                while read(&far, &mut buf).await.unwrap() > 0 {
                    write_all(&far, &buf).await.unwrap();
                }
            });
        });
        block_on(async {
            for round in 0..500u32 {
                write_all(&near, &round.to_ne_bytes()).await.unwrap();
                let mut heard = [0; 4];
                assert_eq!(read(&near, &mut heard).await.unwrap(), 4);
                assert_eq!(u32::from_ne_bytes(heard), round);
            }
            close(&near).await.unwrap();
        });
        echo.join().unwrap();
        drop(attached);
        other.handle().stop();
        running.join().unwrap();
    });
}

#[test]
fn a_poll_that_waited_and_is_done_leaves_its_time_to_none_that_comes_later() {
    const SHORT: Duration = Duration::from_millis(20);
    let (near, far) = MemoryChannel::pair_with_capacity(4).unwrap();
    near.set_read_timeout(Some(SHORT)).unwrap();
    near.set_write_timeout(Some(SHORT)).unwrap();
    let near = AioChannel::new(near);
    let event_loop = EventLoop::new().unwrap();
    let polled = poll_fn(|cx| {
        let mut channel = &near;
        let (mut read, mut written) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            far.set_blocking(false);
            let mut all = [0; 8];
            let _ = Pin::new(&mut channel).poll_write(cx, b"full");
            assert!(Pin::new(&mut channel).poll_write(cx, b"full").is_pending());
            assert!(Pin::new(&mut channel).poll_read(cx, &mut all).is_pending());
            far.read(&mut all).unwrap();
            far.write_all(b"four").unwrap();
            read.push(matches!(Pin::new(&mut channel).poll_read(cx, &mut all), Poll::Ready(Ok(4))));
            written.push(matches!(Pin::new(&mut channel).poll_write(cx, b"full"), Poll::Ready(Ok(4))));
            thread::sleep(SHORT * 2); // nobody asks for anything meanwhile
        }
        Poll::Ready((read, written))
    });
    assert_eq!(event_loop.block_on(polled).unwrap(), (vec![true; 2], vec![true; 2]));
}
