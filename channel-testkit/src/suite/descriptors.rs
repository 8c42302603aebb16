//! D: the descriptors of a channel, and those passed along.

use std::io::{IoSlice, IoSliceMut, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use channel_core::{Channel, ChannelExt, Direction, Error, ErrorKind, Features, ReadFlags, Result, WriteFlags};
use rustix::fs::OFlags;
use rustix::pipe::{PipeFlags, pipe_with};

use super::Setup;
use super::end::{End, UNBOUNDED, assert_stream};
use super::files::{assert_released, file_behind, polled, status_flags, watched};
use crate::fds::{assert_cloexec, assert_same_file};

/// \[D1\] The descriptors of a channel are counted: what `readiness` handed out stays the same file until it is let go.
pub fn d1_a_descriptor_handed_out_stays_the_same_file(setup: &Setup) {
    let (near, far) = setup.small_pair();
    near.fill(0, UNBOUNDED); // so that both directions wait for something
    let held = polled(&*near);
    assert!(!held.is_empty(), "a full and silent channel waits for no descriptor");
    let before: Vec<String> = held.iter().map(file_behind).collect();
    // The peer does not read; what becomes of politeness is of no interest.
    let _ = near.drive(Direction::Write, Channel::close);
    drop((near, far));
    // Whatever number was let go too early is taken by one of these.
    let others: Vec<_> = (0..32).map(|_| pipe()).collect();
    let after: Vec<String> = held.iter().map(file_behind).collect();
    assert_eq!(before, after, "the files behind the descriptors that readiness handed out");
    drop(others);
    let held = watched(held);
    assert_released(&held, "nobody waits any more and both ends are dropped");
}

/// \[D2\] Received descriptors are close-on-exec, and blocking unless `PRESERVE_BLOCKING`; they refer to the files that were sent.
pub fn d2_received_descriptors_are_the_files_that_were_sent(setup: &Setup) {
    let (near, far) = setup.pair();
    for (from, to) in [(&near, &far), (&far, &near)] {
        let ((out, inn), (quick, _kept)) =
            (pipe(), pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).expect("a pipe"));
        for flags in [ReadFlags::PRESERVE_BLOCKING, ReadFlags::empty()] {
            send(from, b"ab", &[out.as_fd(), quick.as_fd(), inn.as_fd()]);
            let (bytes, fds) = receive(to, 2, flags);
            assert_eq!(bytes, b"ab");
            assert_eq!(fds.len(), 3, "descriptors that arrived of 3 that were sent");
            for (sent, got) in [out.as_fd(), quick.as_fd(), inn.as_fd()].into_iter().zip(&fds) {
                assert_same_file(sent, got);
                assert_cloexec(got);
            }
            let preserved = status_flags(&fds[1]).contains(OFlags::NONBLOCK);
            assert_eq!(preserved, !flags.is_empty(), "O_NONBLOCK of a received descriptor, received with {flags:?}");
            assert_eq!(rustix::io::write(&inn, b"x"), Ok(1));
            assert_eq!(rustix::io::read(&fds[0], &mut [0; 4]), Ok(1), "what a received descriptor reads");
        }
    }
}

/// \[D3\] Descriptors are sent with the first byte; on `WouldBlock` or an error none are.
pub fn d3_descriptors_go_with_the_first_byte_or_not_at_all(setup: &Setup) {
    let (near, far) = setup.pair();
    let (out, inn) = pipe();
    send(&near, b"abc", &[out.as_fd()]);
    let (bytes, fds) = receive(&far, 1, ReadFlags::empty());
    assert_eq!((&bytes[..], fds.len()), (&b"a"[..], 1), "the first byte and the descriptors that came with it");
    let (bytes, fds) = receive(&far, 2, ReadFlags::empty());
    assert_eq!((&bytes[..], fds.len()), (&b"bc"[..], 0), "the other bytes and the descriptors that came with them");
    // Without a byte there is nothing to travel with.
    let nothing = near.writev_full(&[], &[inn.as_fd()], WriteFlags::empty());
    assert!(!matches!(nothing, Ok(1..)), "descriptors without a byte gave {nothing:?}");

    let (near, far) = setup.small_pair();
    let taken = near.fill(0, UNBOUNDED);
    for _ in 0..3 {
        let refused = near.writev_full(&[IoSlice::new(b"x")], &[out.as_fd()], WriteFlags::DONT_WAIT);
        assert!(refused.as_ref().is_err_and(Error::is_would_block), "a write to a full channel gave {refused:?}");
    }
    let (bytes, fds) = receive(&far, taken, ReadFlags::empty());
    assert_stream(0, &bytes);
    assert_eq!(fds.len(), 0, "descriptors that came though their write said would-block");
    send(&near, b"y", &[out.as_fd()]);
    let (bytes, fds) = receive(&far, 1, ReadFlags::empty());
    assert_eq!((&bytes[..], fds.len()), (&b"y"[..], 1), "the retried byte and its descriptors");
}

/// \[D4\] None is lost unseen: up to 253 in a message arrive; those that arrive on a read that did not ask are kept for the next
/// that does; more than fit is an error that says how many arrived, and ends the stream.
pub fn d4_no_descriptor_is_lost_unseen(setup: &Setup) {
    const MOST: usize = 253; // SCM_MAX_FD, see unix(7)
    let (near, far) = setup.pair();
    let (out, inn) = pipe();
    send(&far, b"m", &[out.as_fd(); MOST]);
    let (bytes, fds) = receive(&near, 1, ReadFlags::empty());
    assert_eq!((&bytes[..], fds.len()), (&b"m"[..], MOST), "the byte and the descriptors of a full message");
    drop(fds);

    send(&far, b"1", &[out.as_fd()]);
    assert_eq!(near.take(1), b"1");
    send(&far, b"2", &[inn.as_fd()]);
    let (bytes, fds) = receive(&near, 1, ReadFlags::empty());
    assert_eq!(
        (&bytes[..], fds.len()),
        (&b"2"[..], 2),
        "the byte, and its descriptor after one that was not asked for"
    );
    assert_same_file(&out, &fds[0]);
    assert_same_file(&inn, &fds[1]);
    drop(fds);

    setup.step("a long read that asks for descriptors and is late");
    near.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
    send(&far, b"l", &[out.as_fd()]);
    let (mut bytes, mut fds) = ([0; 2], Vec::new());
    let late = near.readv_full_all(&mut [IoSliceMut::new(&mut bytes)], Some(&mut fds), ReadFlags::empty());
    let late = late.map_err(|error| (error.kind(), error.bytes_done()));
    assert_eq!(late, Err((ErrorKind::TimedOut, Some(1))), "a read of more than was sent");
    assert_eq!(fds.len(), 1, "descriptors that came with the bytes of a read that was late");
    drop(fds);
    near.set_read_timeout(None).expect("no timeout");

    setup.step("receiving descriptors nobody asks for");
    let mut sent = 0;
    let error = loop {
        assert!(sent <= 2 * MOST, "{sent} descriptors arrived unasked for, and all was well");
        send(&far, b"n", &[out.as_fd(), inn.as_fd(), out.as_fd()]);
        sent += 3;
        if let Err(error) = near.read_some(&mut [0; 1]) {
            break error;
        }
    };
    let lost = matches!(error.kind(), ErrorKind::DescriptorsLost | ErrorKind::LimitExceeded);
    assert!(lost, "descriptors that do not fit gave {error:?}");
    assert!(error.to_string().contains(|c: char| c.is_ascii_digit()), "{error:?} does not say how many arrived");
    let again = near.try_read(&mut [0; 1]);
    assert!(matches!(&again, Err(error) if !error.is_would_block()), "the stream goes on after {error:?}: {again:?}");
}

/// \[D6\] What nobody can take is not kept: a channel that was taken over takes no descriptors on a read that does not ask; the
/// stream goes on, and `describe` says how many messages brought such.
pub fn d6_what_nobody_can_take_is_not_kept(setup: &Setup) {
    let (near, far) = setup.pair();
    let quick = |_| pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).expect("a pipe");
    let pipes: [_; 2] = std::array::from_fn(quick);
    send(&far, b"1", &[pipes[0].1.as_fd()]);
    assert_eq!(near.take(1), b"1"); // which keeps the descriptor
    near.take_over();
    for _ in 0..3 {
        send(&far, b"2", &[pipes[1].1.as_fd()]);
        assert_eq!(near.take(1), b"2", "the byte that brought a descriptor nobody asks for");
    }
    // Ours are the last writers of these pipes now, if none is kept.
    for (at, (out, inn)) in pipes.into_iter().enumerate() {
        drop(inn);
        let ended = rustix::io::read(&out, &mut [0; 1]);
        assert_eq!(ended, Ok(0), "a read of pipe {at}, of which the peer sent the other end: it is still open");
    }
    let told = near.describe_layer();
    assert!(told.contains('4'), "`{told}` does not say how many messages brought descriptors");
    let (out, _inn) = pipe();
    send(&far, b"3", &[out.as_fd()]);
    let (bytes, fds) = receive(&near, 1, ReadFlags::empty());
    assert_eq!((&bytes[..], fds.len()), (&b"3"[..], 1), "a read that asks");
}

/// \[D5\] Without `FD_PASS` a call with descriptors is refused before any byte. So is every flag whose feature is missing.
pub fn d5_what_cannot_be_done_is_refused_before_any_byte(setup: &Setup) {
    let (near, far) = setup.pair();
    let passes = near.has_feature(Features::FD_PASS) && far.has_feature(Features::FD_PASS);
    assert_eq!(passes, setup.declared().descriptors, "both ends have FD_PASS, and the maker declares that");
    if !near.has_feature(Features::FD_PASS) {
        refuses_descriptors(&near, &far);
    }
    let unsupported = |what: &str, result: Result<usize>| {
        assert!(result.as_ref().is_err_and(Error::is_unsupported), "{what} gave {result:?}");
    };
    if !near.has_feature(Features::WRITE_ZERO_COPY) {
        let written = near.writev_full(&[IoSlice::new(b"refused")], &[], WriteFlags::ZERO_COPY);
        unsupported("a write with ZERO_COPY without WRITE_ZERO_COPY", written);
    }
    if !near.has_feature(Features::READ_MSG_PEEK) {
        far.put(b"kept");
        let read = near.readv_full(&mut [IoSliceMut::new(&mut [0; 4])], None, ReadFlags::MSG_PEEK);
        unsupported("a read with MSG_PEEK without READ_MSG_PEEK", read);
        assert_eq!(near.take(4), b"kept", "a refused peek consumed something");
    }
    if !near.has_feature(Features::SEEKABLE) {
        let sought = near.seek(SeekFrom::Current(0));
        assert!(sought.as_ref().is_err_and(Error::is_unsupported), "a seek without SEEKABLE gave {sought:?}");
    }
    near.put(b"sent");
    assert_eq!(far.take(4), b"sent", "the first bytes after calls that were refused");
}

/// Checks that descriptors are refused before any byte.
fn refuses_descriptors(near: &End, far: &End) {
    let (out, _inn) = pipe();
    let written = near.writev_full(&[IoSlice::new(b"refused")], &[out.as_fd()], WriteFlags::empty());
    let unsupported = written.as_ref().is_err_and(Error::is_unsupported);
    assert!(unsupported, "a write with descriptors without FD_PASS gave {written:?}");
    far.put(b"kept");
    let (mut buf, mut fds) = ([0; 4], Vec::new());
    let read = near.readv_full(&mut [IoSliceMut::new(&mut buf)], Some(&mut fds), ReadFlags::empty());
    let unsupported = read.as_ref().is_err_and(Error::is_unsupported);
    assert!(unsupported, "a read that asks for descriptors without FD_PASS gave {read:?}");
    assert_eq!(near.take(4), b"kept", "a refused read consumed something");
    near.flush_all().expect("a flush");
    far.expect_nothing();
}

fn pipe() -> (OwnedFd, OwnedFd) {
    pipe_with(PipeFlags::CLOEXEC).expect("a pipe")
}

/// Writes all of `bytes`, and `fds` with the first of them.
fn send(from: &End, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
    let sent = from.drive(Direction::Write, |from| from.writev_full(&[IoSlice::new(bytes)], fds, WriteFlags::empty()));
    let count = sent.unwrap_or_else(|error| panic!("a write with {} descriptors failed: {error:?}", fds.len()));
    from.put(&bytes[count..]);
}

/// Reads `count` bytes and asks for what descriptors come with them.
fn receive(to: &End, count: usize, flags: ReadFlags) -> (Vec<u8>, Vec<OwnedFd>) {
    let (mut bytes, mut fds) = (vec![0; count], Vec::new());
    let mut done = 0;
    while done < count {
        let read = to.drive(Direction::Read, |to| {
            to.readv_full(&mut [IoSliceMut::new(&mut bytes[done..])], Some(&mut fds), flags)
        });
        match read {
            Ok(0) => panic!("the stream ended after {done} of {count} bytes"),
            Ok(more) => done += more,
            Err(error) => panic!("a read that asks for descriptors failed: {error:?}"),
        }
    }
    (bytes, fds)
}
