//! E: how a stream ends.

use std::net::Shutdown;

use channel_core::{Channel, ChannelExt, Direction, Features, ReadFlags, Result};

use super::Setup;
use super::end::{End, Task, assert_stream, stream};
use super::write::end_in_background;

/// \[E1\] A clean end by the peer is 0, after all data.
pub fn e1_a_clean_end_comes_after_all_data(setup: &Setup) {
    for count in [0, 1, 10_000] {
        let (near, far) = setup.pair();
        let sending = Task::spawn(move || {
            far.write_whole(&stream(0, count)).expect("a write");
            far.end_output();
            far
        });
        setup.step("reading to the clean end");
        let (bytes, ended) = near.take_to_end();
        assert!(ended.is_ok(), "the peer ended cleanly after {count} bytes, but a read gave {ended:?}");
        assert_eq!(bytes.len(), count, "bytes before the clean end");
        assert_stream(0, &bytes);
        sending.join();
        assert!(matches!(near.read_some(&mut [0; 8]), Ok(0)), "the clean end does not last");
    }
}

/// \[E2\] An end that the protocol does not allow is `UnexpectedEof`, after all data; `RELAXED_EOF`, or our own `shutdown` of
/// reading, makes it 0.
pub fn e2_a_truncated_end_is_told_from_a_clean_one(setup: &Setup) {
    let cut_off = || {
        let (near, far) = setup.pair();
        far.put(&stream(0, 2000));
        drop(far);
        near
    };
    let near = cut_off();
    setup.step("reading to the end that the peer's going made");
    let (bytes, ended) = near.take_to_end();
    assert_eq!(bytes.len(), 2000, "bytes before the end by a peer that went: {ended:?}");
    assert_stream(0, &bytes);
    match ended {
        // Where the protocol has no polite end, as a socket's, going is a clean end.
        Ok(()) => assert!(!setup.declared().tells_a_cut, "a peer that went without an end made a clean one"),
        Err(error) if error.is_truncated() => {
            assert!(
                setup.declared().tells_a_cut,
                "the maker does not declare that a cut can be told, and it gave {error:?}"
            );
            let again = near.read_some(&mut [0; 8]);
            assert!(again.as_ref().is_err_and(|e| e.is_truncated()), "after {error:?} the next read gave {again:?}");
        }
        Err(error) => panic!("a peer that went ended the stream as {error:?}"),
    }

    let near = cut_off();
    let relaxed = |near: &End| -> Result<usize> {
        near.drive(Direction::Read, |near| {
            near.readv_full(&mut [std::io::IoSliceMut::new(&mut [0; 8])], None, ReadFlags::RELAXED_EOF)
        })
    };
    near.take(2000);
    let end = relaxed(&near);
    assert!(matches!(end, Ok(0)), "a read with RELAXED_EOF at the end by a peer that went gave {end:?}");

    if near.has_feature(Features::SHUTDOWN) {
        let (near, far) = setup.pair();
        near.shutdown(Shutdown::Read).expect("shutdown of reading");
        drop(far);
        let end = near.read_some(&mut [0; 8]);
        assert!(matches!(end, Ok(0)), "a read after our own shutdown of reading gave {end:?}");
    }
}

/// \[E3\] `close_write` sends everything held and then our end, from the top down; reading goes on, and the peer can still write
/// to us. A later write fails; a second `close_write` does nothing.
pub fn e3_close_write_ends_our_output_alone(setup: &Setup) {
    let (near, far) = setup.pair();
    if !near.has_feature(Features::CLOSE_WRITE) {
        let refused = near.drive(Direction::Write, Channel::close_write);
        let unsupported = refused.as_ref().is_err_and(|error| error.is_unsupported());
        assert!(unsupported, "close_write without CLOSE_WRITE gave {refused:?}");
        near.put(b"goes on");
        assert_eq!(far.take(7), b"goes on");
        return;
    }
    near.set_cork(true);
    near.write_whole(&stream(0, 3000)).expect("a corked write");
    near.end_output();
    setup.step("the peer reads to the end that close_write made");
    let (bytes, ended) = far.take_to_end();
    assert!(ended.is_ok(), "the peer saw close_write as {ended:?}");
    assert_eq!(bytes.len(), 3000, "bytes that arrived before the end that close_write made");
    assert_stream(0, &bytes);
    setup.step("the peer goes on writing");
    far.put(&stream(0, 1500));
    assert_stream(0, &near.take(1500));
    let late = near.write_some(b"late");
    let refused = late.as_ref().is_err_and(|error| error.is_disconnected() || error.is_closed());
    assert!(refused, "a write after close_write gave {late:?}");
    let again = near.drive(Direction::Write, Channel::close_write);
    assert!(again.is_ok(), "a second close_write gave {again:?}");
    far.put(b"still");
    assert_eq!(near.take(5), b"still");

    // What is held when there is no room for it is sent before the end, however long that takes.
    let (near, far) = setup.small_pair();
    let taken = near.fill(0, 64 * 1024);
    end_in_background(&near).until_asleep();
    setup.step("the peer reads what close_write still has to send");
    let (bytes, ended) = far.take_to_end();
    assert_stream(0, &bytes);
    let seen = bytes.len();
    assert!(ended.is_ok() && seen == taken, "{seen} of {taken} bytes arrived before the end: {ended:?}");
}
