//! A channel as tokio's `AsyncRead` and `AsyncWrite`.
#![cfg(feature = "tokio")]

#[path = "support/odd.rs"]
mod odd;
#[path = "support/pairs.rs"]
mod pairs;
#[path = "support/mod.rs"]
mod support;

use std::future::Future;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use channel_core::{
    AioChannel, Channel, ChannelExt, Direction, Error, ErrorKind, EventLoop, MemoryChannel, NullChannel,
    current_context,
};
use channel_testkit::{adverse, watchdog};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional, split};
use tokio::runtime::Builder;

use odd::unending;
use pairs::{PAIRS, bytes, memory};
use support::plain;

/// Runs a test on both kinds of runtime, in a task and with every pair.
fn on_each<F>(name: &'static str, test: fn(AioChannel, AioChannel) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    watchdog::run(name, || {
        for (pair, make) in PAIRS {
            for mut builder in [Builder::new_current_thread(), Builder::new_multi_thread()] {
                eprintln!("over {pair}");
                let runtime = builder.worker_threads(2).enable_io().build().unwrap();
                let (near, far) = make();
                let task = runtime.spawn(test(AioChannel::new(near), AioChannel::new(far)));
                runtime.block_on(task).unwrap();
            }
        }
    });
}

/// The channel as tokio sees it: its own methods of the same names are out of sight.
fn tokio_io(channel: AioChannel) -> impl AsyncRead + AsyncWrite + Unpin + Send + 'static {
    channel
}

const LONG: usize = 200_000;

#[test]
fn copy_bidirectional_carries_both_streams_and_both_ends() {
    on_each("copy_bidirectional_carries_both_streams_and_both_ends", |near, mut far| async move {
        // client — near ═ far — proxy — inner — server
        let (mut inner, server) = memory();
        let (mut near, mut server) = (tokio_io(near), tokio_io(server));
        let proxy = tokio::spawn(async move { copy_bidirectional(&mut far, &mut inner).await });
        let server = tokio::spawn(async move {
            let mut heard = Vec::new();
            server.read_to_end(&mut heard).await.unwrap();
            assert!(heard == bytes(LONG, 1));
            server.write_all(&bytes(LONG + 1, 2)).await.unwrap(); // after the client's end: half-closed
            server.shutdown().await.unwrap();
        });
        near.write_all(&bytes(LONG, 1)).await.unwrap();
        near.shutdown().await.unwrap();
        let mut heard = Vec::new();
        near.read_to_end(&mut heard).await.unwrap();
        assert!(heard == bytes(LONG + 1, 2));
        assert_eq!(proxy.await.unwrap().unwrap(), (LONG as u64, LONG as u64 + 1));
        server.await.unwrap();
    });
}

#[test]
fn a_reader_and_a_writer_work_at_once_on_both_ends() {
    on_each("a_reader_and_a_writer_work_at_once_on_both_ends", |near, far| async move {
        let mut tasks = Vec::new();
        for (channel, ours, theirs) in [(near, 1, 2), (far, 2, 1)] {
            let (mut reader, mut writer) = split(channel);
            tasks.push(tokio::spawn(async move {
                writer.write_all(&bytes(LONG, ours)).await.unwrap();
                writer.flush().await.unwrap();
                writer.shutdown().await.unwrap();
            }));
            tasks.push(tokio::spawn(async move {
                let mut heard = Vec::new();
                reader.read_to_end(&mut heard).await.unwrap();
                assert!(heard == bytes(LONG, theirs));
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn a_shared_channel_is_read_and_written_through_references() {
    on_each("a_shared_channel_is_read_and_written_through_references", |near, far| async move {
        let near = Arc::new(near);
        let writer = Arc::clone(&near);
        let writing =
            tokio::spawn(async move { AsyncWriteExt::write_all(&mut &*writer, &bytes(LONG, 1)).await.unwrap() });
        let echo = tokio::spawn(async move {
            let (mut reader, mut writer) = split(far);
            let mut heard = vec![0; LONG];
            reader.read_exact(&mut heard).await.unwrap();
            writer.write_all(&heard).await.unwrap();
            writer.flush().await.unwrap();
        });
        let mut heard = vec![0; LONG];
        AsyncReadExt::read_exact(&mut &*near, &mut heard).await.unwrap();
        assert!(heard == bytes(LONG, 1));
        writing.await.unwrap();
        echo.await.unwrap();
    });
}

#[test]
fn a_read_that_is_dropped_while_it_waits_loses_nothing() {
    on_each("a_read_that_is_dropped_while_it_waits_loses_nothing", |near, far| async move {
        let (mut near, mut far) = (tokio_io(near), tokio_io(far));
        let sent = bytes(20_000, 3);
        let writing = {
            let sent = sent.clone();
            tokio::spawn(async move {
                for piece in sent.chunks(17) {
                    far.write_all(piece).await.unwrap();
                    far.flush().await.unwrap();
                    tokio::task::yield_now().await;
                }
                far.shutdown().await.unwrap();
            })
        };
        let mut heard = Vec::new();
        let mut buf = [0; 1000];
        loop {
            // Polled once, and dropped unless it is ready.
            let read = std::pin::pin!(near.read(&mut buf)).poll(&mut Context::from_waker(Waker::noop()));
            match read {
                Poll::Ready(Ok(0)) => break,
                Poll::Ready(count) => heard.extend_from_slice(&buf[..count.unwrap()]),
                Poll::Pending => tokio::task::yield_now().await,
            }
            match near.read(&mut buf).await.unwrap() {
                0 => break,
                count => heard.extend_from_slice(&buf[..count]),
            }
        }
        assert!(heard == sent);
        writing.await.unwrap();
    });
}

#[test]
fn the_end_of_our_output_leaves_reading_open() {
    on_each("the_end_of_our_output_leaves_reading_open", |near, far| async move {
        let (mut near, mut far) = (tokio_io(near), tokio_io(far));
        near.write_all(b"question").await.unwrap();
        near.shutdown().await.unwrap();
        near.shutdown().await.unwrap();
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"question");
        far.write_all(b"answer").await.unwrap();
        far.shutdown().await.unwrap();
        heard.clear();
        near.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"answer");
        let error = near.write_all(b"too late").await.unwrap_err();
        let ours = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).expect("our error inside");
        assert!(ours.is_closed() || ours.kind() == ErrorKind::BrokenPipe, "{ours}");
    });
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    Builder::new_current_thread().enable_io().build().unwrap().block_on(future)
}

#[test]
fn a_vectored_write_is_one_call_with_all_its_buffers() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let (near, log) = adverse::record(Box::new(near));
    let mut near = AioChannel::new(near);
    assert!(near.is_write_vectored() && AsyncWrite::is_write_vectored(&&near));
    let bufs = [&b"one "[..], b"and ", b"two"].map(IoSlice::new);
    assert_eq!(block_on(near.write_vectored(&bufs)).unwrap(), 11);
    assert_eq!(block_on(AsyncWriteExt::write_vectored(&mut &near, &bufs)).unwrap(), 11);
    let calls = log.of("writev_full");
    assert_eq!(calls.iter().map(|call| (call.buffers, call.asked)).collect::<Vec<_>>(), [(3, 11), (3, 11)]);
    let mut heard = [0; 22];
    far.read_all(&mut heard).unwrap();
    assert_eq!(&heard, b"one and twoone and two");
}

#[test]
fn a_channel_without_a_polite_end_is_flushed_by_shutdown() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let near = plain("corked", near);
    near.set_cork(true);
    let mut near = tokio_io(AioChannel::new(unending(Box::new(near))));
    block_on(near.write_all(b"held")).unwrap();
    far.set_blocking(false);
    assert!(far.read(&mut [0; 4]).unwrap_err().is_would_block());
    block_on(near.shutdown()).unwrap();
    assert_eq!(far.read(&mut [0; 8]).unwrap(), 4);
    assert!(far.read(&mut [0; 4]).unwrap_err().is_would_block(), "that was no end");
}

#[test]
fn a_stream_that_is_cut_short_is_our_error_inside_tokios() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let broken = Error::new(ErrorKind::UnexpectedEof, "test", "cut short");
    let mut near = tokio_io(AioChannel::new(adverse::fail_after(Box::new(near), Direction::Read, 2, broken)));
    far.write_all(b"x").unwrap();
    block_on(async {
        near.read_u8().await.unwrap();
        let error = near.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
        let ours = error.get_ref().unwrap().downcast_ref::<Error>().expect("our error inside");
        assert_eq!(ours.kind(), ErrorKind::UnexpectedEof);
    });
}

#[test]
fn a_task_that_never_waits_lets_others_have_their_turn() {
    watchdog::run("a_task_that_never_waits_lets_others_have_their_turn", || {
        block_on(async {
            let done = Arc::new(AtomicBool::new(false));
            let other = tokio::spawn({
                let done = Arc::clone(&done);
                async move { done.store(true, Ordering::SeqCst) }
            });
            let mut endless = tokio_io(AioChannel::new(NullChannel::new()));
            while !done.load(Ordering::SeqCst) {
                endless.write_all(b"never would-block").await.unwrap();
            }
            other.await.unwrap();
        });
    });
}

#[test]
fn handlers_on_another_thread_wake_the_tasks() {
    watchdog::run("handlers_on_another_thread_wake_the_tasks", || {
        let event_loop = Arc::new(EventLoop::new().unwrap());
        let running = {
            let event_loop = Arc::clone(&event_loop);
            thread::spawn(move || event_loop.run().unwrap())
        };
        let (near, far) = memory();
        let attached = [&near, &far].map(|channel| channel.attach(event_loop.handle()).unwrap());
        // This runtime has no I/O driver: everything comes from the other thread.
        let runtime = Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let mut near = tokio_io(near);
        let echo = runtime.spawn(async move {
            let (mut reader, mut writer) = split(far);
            tokio::io::copy(&mut reader, &mut writer).await.unwrap();
            writer.shutdown().await.unwrap();
        });
        runtime.block_on(async {
            for round in 0..500 {
                near.write_u32(round).await.unwrap();
                assert_eq!(near.read_u32().await.unwrap(), round);
            }
            near.shutdown().await.unwrap();
            assert_eq!(near.read(&mut [0; 1]).await.unwrap(), 0);
            echo.await.unwrap();
        });
        drop(attached);
        event_loop.handle().stop();
        running.join().unwrap();
    });
}

#[test]
fn without_any_loop_waiting_fails_at_once() {
    let (near, _far) = memory();
    let mut near = tokio_io(near);
    let read = std::pin::pin!(near.read_u8()).poll(&mut Context::from_waker(Waker::noop()));
    assert!(current_context().is_none());
    let Poll::Ready(Err(error)) = read else { panic!("it waits for ever") };
    let ours = error.get_ref().unwrap().downcast_ref::<Error>().unwrap();
    assert_eq!(ours.kind(), ErrorKind::NotAttached);
}

/// Polls once, on the loop; whether that gave anything.
fn polled<T>(event_loop: &EventLoop, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> bool {
    event_loop.block_on(std::future::poll_fn(|cx| Poll::Ready(poll(cx).is_ready()))).unwrap()
}

/// Has a writer wait for room and a reader for bytes, makes a call that is done at once, in the same or in another task, and
/// expects the one that waits to be woken all the same.
#[test]
fn a_poll_that_is_done_at_once_leaves_who_waits_in_its_place() {
    type Call = fn(&AioChannel, &mut Context<'_>) -> Poll<std::io::Result<()>>;
    const CALLS: [(&str, Direction, Call); 3] = [
        ("a flush", Direction::Write, |mut near, cx| Pin::new(&mut near).poll_flush(cx)),
        ("an empty write", Direction::Write, |mut near, cx| Pin::new(&mut near).poll_write(cx, b"").map_ok(drop)),
        ("a read of what is there", Direction::Read, |mut near, cx| {
            Pin::new(&mut near).poll_read(cx, &mut ReadBuf::new(&mut [0; 8]))
        }),
    ];
    for (what, direction, call) in CALLS {
        for same_task in [false, true] {
            watchdog::run(what, || {
                let (near, far) = MemoryChannel::pair_with_capacity(4).unwrap();
                let near = Arc::new(AioChannel::new(near));
                let event_loop = EventLoop::new().unwrap();
                let (waiting, mut called) = (Arc::clone(&near), !same_task);
                if direction == Direction::Write {
                    assert!(polled(&event_loop, |cx| Pin::new(&mut &*near).poll_write(cx, b"full")));
                }
                let task = event_loop.spawn(std::future::poll_fn(move |cx| {
                    let mut face = &*waiting;
                    let waits = match direction {
                        Direction::Write => Pin::new(&mut face).poll_write(cx, b"more").map_ok(drop),
                        Direction::Read => Pin::new(&mut face).poll_read(cx, &mut ReadBuf::new(&mut [0; 8])),
                    };
                    if waits.is_pending() && !called && direction == Direction::Write {
                        called = true;
                        assert!(call(&waiting, cx).is_ready());
                    }
                    waits
                }));
                event_loop.run_once(Some(Duration::ZERO)).unwrap();
                if !same_task || direction == Direction::Read {
                    if direction == Direction::Read {
                        far.write_all(b"1st").unwrap();
                    }
                    assert!(polled(&event_loop, |cx| call(&near, cx)));
                }
                match direction {
                    Direction::Read => far.write_all(b"2nd").unwrap(),
                    Direction::Write => far.read_all(&mut [0; 4]).unwrap(),
                }
                event_loop.block_on(task).unwrap().unwrap().unwrap();
            });
        }
    }
}
