//! S: the abrupt end, the polite one, and none at all.

use std::io::SeekFrom;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use channel_core::{Channel, ChannelExt, Direction, Error, Features, Limits, Result, WriteFlags};

use super::end::{End, Task, UNBOUNDED, assert_stream, stream};
use super::files::{Watched, assert_released, file_behind, polled, watched};
use super::object::in_background;
use super::setup::endless;
use super::write::drain_or_wait;
use super::{Options, Setup};

/// \[S1\] `shutdown` wakes calls that are blocked in the directions it ends, on every leaf.
pub fn s1_shutdown_wakes_blocked_calls(setup: &Setup) {
    for how in [Shutdown::Read, Shutdown::Write, Shutdown::Both] {
        let (near, far) = setup.small_pair();
        if !near.has_feature(Features::SHUTDOWN) {
            let refused = near.shutdown(how);
            assert!(
                refused.as_ref().is_err_and(Error::is_unsupported),
                "shutdown({how:?}) without SHUTDOWN gave {refused:?}"
            );
            continue;
        }
        let Blocked { reader, writer, taken, stop } = block_both(&near);
        setup.promptly("shutdown", || near.shutdown(how)).expect("shutdown");
        let answering = (how == Shutdown::Write).then(|| in_background(&far, |far| far.put(b"read")));
        setup.step(match how {
            Shutdown::Write => "waiting for a reader that shutdown of writing leaves alone",
            _ => "waiting for a reader that shutdown of reading should wake",
        });
        let read = reader.join();
        match (how, &read) {
            (Shutdown::Write, Ok(bytes)) => assert_eq!(bytes, b"read", "shutdown of writing disturbed the reader"),
            (_, Ok(bytes)) if bytes.is_empty() => {}
            _ => panic!("a blocked read ended by shutdown({how:?}) gave {read:?}"),
        }
        if let Some(answering) = answering {
            answering.join_while_reading(&near);
        }
        if how == Shutdown::Read {
            setup.step("waiting for a writer that shutdown of reading leaves alone");
            stop.store(true, Ordering::Relaxed);
            let mut seen = 0;
            while !writer.is_finished() {
                seen += drain_or_wait(&near, &far, seen);
            }
            let written = writer.join();
            let more = written.unwrap_or_else(|error| panic!("shutdown of reading ended a write: {error:?}"));
            assert_stream(seen, &far.take(taken + more - seen));
            continue;
        }
        setup.step("waiting for a writer that shutdown of writing should wake");
        let written = writer.join();
        match (how, &written) {
            (Shutdown::Write | Shutdown::Both, Err(error)) if error.is_disconnected() || error.is_closed() => {}
            _ => panic!("a blocked write met by shutdown({how:?}) gave {written:?}"),
        }
    }
}

/// \[S2\] `shutdown` never blocks, whoever is inside the channel.
pub fn s2_shutdown_never_blocks(setup: &Setup) {
    let (near, _far) = setup.endless_pair();
    if !near.has_feature(Features::SHUTDOWN) {
        let refused = near.shutdown(Shutdown::Both);
        let unsupported = refused.as_ref().is_err_and(Error::is_unsupported);
        assert!(unsupported, "shutdown without SHUTDOWN gave {refused:?}");
        return;
    }
    let Blocked { reader, writer, .. } = block_both(&near);
    setup.promptly("shutdown with a reader and a writer inside", || near.shutdown(Shutdown::Both)).expect("shutdown");
    setup.promptly("a second shutdown", || near.shutdown(Shutdown::Both)).expect("a second shutdown");
    setup.step("waiting for the reader and the writer after shutdown");
    let (read, written) = (reader.join(), writer.join());
    assert!(matches!(&read, Ok(bytes) if bytes.is_empty()), "a read that met shutdown gave {read:?}");
    assert!(ended(&written), "a write that met shutdown gave {written:?}");

    // Somebody is in the polite end.
    let (near, _far) = setup.endless_pair();
    near.fill(0, UNBOUNDED);
    let closing = in_background(&near, |near| near.close());
    closing.until_asleep();
    let shut = setup.promptly("shutdown while somebody closes", || near.shutdown(Shutdown::Both));
    // Closing may be over already.
    assert!(shut.is_ok() || shut.as_ref().is_err_and(Error::is_closed), "shutdown while somebody closes gave {shut:?}");
    setup.step("waiting for close after shutdown");
    let closed = closing.join();
    // What was held is lost, where something was.
    assert!(closed.is_ok() || ended(&closed), "close that met shutdown gave {closed:?}");

    // Somebody is in the handshake, where there is one.
    let (near, _far) = setup.unopened(&Options { limits: endless(Limits::default()), ..Options::default() });
    near.apply_mode();
    let opening = in_background(&near, |near| near.drive(Direction::Read, Channel::handshake));
    opening.until_asleep();
    let was_open = opening.is_finished();
    setup.promptly("shutdown during the handshake", || near.shutdown(Shutdown::Both)).expect("shutdown");
    setup.step("waiting for a handshake that shutdown should end");
    let opened = opening.join();
    assert!(ended(&opened) || was_open, "a handshake without a peer, met by shutdown, gave {opened:?}");
}

/// \[S3\] `close` ends our output politely within the linger, wakes a blocked reader, and releases the descriptors when the last
/// call has left; it is idempotent, and later calls get `Closed`.
pub fn s3_close_is_polite_bounded_and_final(setup: &Setup) {
    let (near, far) = setup.pair();
    near.set_cork(true);
    near.write_whole(&stream(0, 2000)).expect("a corked write");
    let answering = far.answer();
    setup.step("closing with output held");
    near.close().expect("close with a peer that reads and answers");
    let (bytes, ended) = answering.join();
    assert!(ended.is_ok(), "the peer saw close as {ended:?}");
    assert_eq!(bytes.len(), 2000, "bytes that arrived before the end that close made");
    assert_stream(0, &bytes);
    assert_closed(&near);
    let again = near.close();
    assert!(again.is_ok(), "a second close gave {again:?}");

    let (near, far) = setup.pair();
    // The eventfds that wake its waiters a channel may keep as long as it lives.
    let files: Vec<Watched> =
        watched(polled(&*near).into_iter().filter(|file| !file_behind(file).contains("eventfd")).collect());
    let reader = in_background(&near, |near| near.read_some(&mut [0; 8]));
    reader.until_asleep();
    let answering = far.answer();
    setup.step("closing while a reader is blocked");
    near.close().expect("close while a reader is blocked");
    setup.step("waiting for a reader that close should wake");
    let read = reader.join();
    let woken = matches!(read, Ok(0)) || read.as_ref().is_err_and(Error::is_closed);
    assert!(woken, "a blocked read ended by close gave {read:?}");
    drop(answering.join());
    drop(far);
    assert_released(&files, "closed, with nobody inside");
}

/// \[S4\] Dropping a channel never blocks, sends nothing more, and leaks nothing.
pub fn s4_drop_is_abrupt_and_leaks_nothing(setup: &Setup) {
    let (near, far) = setup.endless_pair();
    let files = [watched(polled(&*near)), watched(polled(&*far))].concat();
    let taken = near.fill(0, UNBOUNDED);
    setup.promptly("drop with output held", || drop(near));
    setup.step("the peer reads on after a drop");
    let (bytes, _) = far.take_to_end();
    assert!(bytes.len() <= taken, "{} bytes arrived of {taken} that were taken", bytes.len());
    assert_stream(0, &bytes);
    drop(far);
    assert_released(&files, "both ends dropped");

    let (near, far) = setup.pair();
    if near.next_layer().is_none() {
        return; // what a leaf took is the system's already
    }
    near.set_cork(true);
    near.write_whole(&stream(0, 64)).expect("a corked write");
    // Longer than the system itself holds corked segments back, see TCP_CORK in tcp(7).
    let held = !far.wait(Direction::Read, Some(Duration::from_millis(250))).expect("a wait");
    setup.promptly("drop with output corked", || drop(near));
    setup.step("the peer reads on after a drop");
    let (bytes, _) = far.take_to_end();
    assert!(bytes.is_empty() || !held, "drop sent {} bytes that were held back until then", bytes.len());
}

/// Whether a call was told that there is no more to be done on this channel: by our own end, or what became of the peer's.
fn ended<T>(result: &Result<T>) -> bool {
    result.as_ref().is_err_and(|error| error.is_disconnected() || error.is_closed() || error.is_truncated())
}

/// A reader and a writer that are blocked in a channel, and how many bytes it had taken before the writer's.
struct Blocked {
    reader: Task<Result<Vec<u8>>>,
    /// How many bytes it wrote.
    writer: Task<Result<usize>>,
    taken: usize,
    /// Has the writer end.
    stop: Arc<AtomicBool>,
}

/// The peer reads nothing, so the writer, who goes on writing until it is told, cannot but be blocked: sooner, or, where the system finds
/// room in its own time, later.
fn block_both(near: &End) -> Blocked {
    let taken = near.fill(0, UNBOUNDED);
    let reader = in_background(near, |near| {
        let mut buf = [0; 4];
        let count = near.read_some(&mut buf)?;
        // All that a test sends at once, even if it comes in pieces.
        if count > 0 {
            buf[count..].copy_from_slice(&near.take(4 - count));
        }
        Ok(if count == 0 { Vec::new() } else { buf.to_vec() })
    });
    reader.until_asleep();
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let writer = in_background(near, move |near| {
        let mut written = 0;
        while !told.load(Ordering::Relaxed) {
            written += near.write_some(&stream(taken + written, 1000))?;
            assert!(written < UNBOUNDED, "{written} bytes were taken that the peer does not read");
        }
        near.flush_all().map(|()| written)
    });
    writer.until_asleep();
    Blocked { reader, writer, taken, stop }
}

pub(super) fn assert_closed(near: &End) {
    let results = [
        ("read", near.read_some(&mut [0; 8]).map(drop)),
        ("write", near.write_some(b"x").map(drop)),
        ("a read of nothing", near.read(&mut []).map(drop)),
        ("a write of nothing", near.write(&[]).map(drop)),
        ("a write with every flag", near.writev_full(&[], &[], WriteFlags::all()).map(drop)),
        ("flush", near.flush_all()),
        ("handshake", near.drive(Direction::Read, Channel::handshake)),
        ("close_write", near.drive(Direction::Write, Channel::close_write)),
        ("with_read_buf", near.with_read_buf(&mut |_| 0).map(drop)),
        ("seek", near.seek(SeekFrom::Start(0)).map(drop)),
    ];
    for (call, result) in results {
        assert!(result.as_ref().is_err_and(Error::is_closed), "{call} after close gave {result:?}");
    }
}
