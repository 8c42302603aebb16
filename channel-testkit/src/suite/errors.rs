//! X: what an error says.

use std::error::Error as _;
use std::io;

use channel_core::{Channel, ChannelExt, Direction, Error, Features, ReadFlags, layers};

use super::Setup;
use super::end::End;
use super::object::in_background;
use super::setup::{Mode, closing_soon};

/// \[X1\] An error names the operation, the layer, and the channel if it has a name, keeps its source, and survives `io::Error` and
/// back.
pub fn x1_an_error_says_what_where_and_why(setup: &Setup) {
    let (near, far) = setup.pair_with(&closing_soon());
    near.set_name("migration");
    if !near.has_feature(Features::SEEKABLE) {
        let error = near.seek(io::SeekFrom::Start(0)).expect_err("a seek without SEEKABLE");
        assert_tells(&near, &error);
    }
    if !near.has_feature(Features::FD_PASS) {
        let (mut byte, mut fds) = ([0], Vec::new());
        let mut bufs = [io::IoSliceMut::new(&mut byte)];
        let read = near.readv_full(&mut bufs, Some(&mut fds), ReadFlags::DONT_WAIT);
        assert_tells(&near, &read.expect_err("a read with descriptors without FD_PASS"));
    }
    if setup.mode() == Mode::Blocking {
        let reader = in_background(&near, |near| near.take(1));
        reader.until_asleep();
        assert_tells(&near, &near.read(&mut [0; 4]).expect_err("a second reader"));
        far.put(b"x");
        reader.join();
    }
    let short = {
        let reader = in_background(&near, |near| near.read_all(&mut [0; 100]));
        far.put(b"short");
        drop(far);
        reader.join().expect_err("a read that the end cuts short")
    };
    assert_tells(&near, &short);
    setup.step("writing to a peer that is gone");
    let gone = loop {
        if let Err(error) = near.write_some(&[0; 1000]) {
            break error;
        }
    };
    assert_tells(&near, &gone);
    // What the peer's going makes of the polite end is told elsewhere; closed it is.
    let _ = near.drive(Direction::Write, Channel::close);
    assert_tells(&near, &near.read(&mut [0; 4]).expect_err("a read after close"));
    assert_tells(&near, &near.write(b"x").expect_err("a write after close"));
    assert_tells(&near, &near.flush().expect_err("a flush after close"));
}

fn assert_tells(near: &End, error: &Error) {
    let known: Vec<&str> = layers(&**near).map(Channel::layer).collect();
    assert!(known.contains(&error.layer()), "the layer of {error:?} is `{}`, none of {known:?}", error.layer());
    assert!(!error.operation().is_empty(), "no operation is named by {error:?}");
    assert_eq!(error.channel(), Some("migration"), "the channel that {error:?} names");

    let words = error.to_string();
    let source = error.source().map(ToString::to_string);
    let back = Error::from(io::Error::from(error.clone()));
    assert_eq!(back.kind(), error.kind(), "the kind of {error:?} after a trip through io::Error");
    assert_eq!(back.to_string(), words, "the words of {error:?} after a trip through io::Error");
    assert_eq!(
        back.source().map(ToString::to_string),
        source,
        "the source of {error:?} after a trip through io::Error"
    );
}
