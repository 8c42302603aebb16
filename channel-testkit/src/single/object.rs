//! What a channel is: O, F, N, X.

use std::io::{self, IoSlice, IoSliceMut, SeekFrom};
use std::os::fd::AsFd;
use std::sync::Arc;

use channel_core::{Channel, ChannelExt, Direction, Error, Features, ReadFlags, Result, WriteFlags};

use super::{Setup, Subject};

/// \[O1\] `Box<C>` and `Arc<C>` behave exactly as `C`, whose name is the one that was set.
pub fn o1_box_and_arc_are_the_channel(setup: &Setup) {
    let one = setup.make();
    assert_eq!(one.name(), None, "the name of a channel that was given none");
    let shared: Arc<dyn Channel> = Arc::new(Arc::clone(&one.channel));
    assert_eq!(shared.layer(), one.layer());
    assert_eq!(shared.features(), one.features());
    assert_eq!(shared.describe_layer(), one.describe_layer());
    assert_eq!(shared.as_any().type_id(), one.as_any().type_id(), "as_any is another type when shared");
    assert_eq!(shared.next_layer().is_some(), one.next_layer().is_some());
    shared.set_name("console");
    assert_eq!(one.name().as_deref(), Some("console"), "the name that was set on the channel when shared");
    assert!(format!("{:?}", &*one).contains("console"), "Debug shows no name: {:?}", &*one);
}

/// \[F1\] Features are fixed when the constructor returns.
pub fn f1_features_stay(setup: &Setup) {
    let one = setup.make();
    let made = one.features();
    let unchanged = |when: &str| assert_eq!(one.features(), made, "features {when}, which were {made:?}");
    one.set_blocking(false);
    one.set_cork(true);
    one.set_cork(false);
    unchanged("after hints");
    for direction in one.directions() {
        one.exhaust(direction);
    }
    unchanged("after calls");
    let _ = one.close_write();
    unchanged("after close_write");
    let _ = one.close();
    unchanged("after close");
}

/// \[F2\] `why_not` gives a reason for each feature that is missing, and none for one that is there.
pub fn f2_a_missing_feature_has_a_reason(setup: &Setup) {
    let one = setup.make();
    let features = one.features();
    for feature in Features::all() {
        let reason = one.why_not(feature);
        match features.contains(feature) {
            true => assert_eq!(reason, None, "{feature:?} is there, but has a reason why not"),
            false => assert!(reason.is_some_and(|why| why.len() > 3), "{feature:?} is missing, and no reason is given"),
        }
    }
    assert_eq!(one.why_not(Features::all()).is_some(), !features.is_all(), "why not all of the features");
}

/// \[N1\] What has no handshake is open from the start.
pub fn n1_there_is_nothing_to_open(setup: &Setup) {
    let one = setup.make();
    one.set_blocking(false);
    for _ in 0..2 {
        one.handshake().expect("the handshake of a channel that has none");
    }
}

/// \[X1\] An error names the operation, the layer, and the channel if it has a name, and survives `io::Error` and back.
pub fn x1_an_error_names_the_channel(setup: &Setup) {
    let one = setup.make();
    one.set_name("console");
    for (error, _) in refusals(&one) {
        assert_tells(&one, &error);
    }
    let _ = one.close();
    let after = [
        one.read(&mut [0; 4]).map(drop),
        one.write(b"x").map(drop),
        one.flush(),
        one.seek(SeekFrom::Start(0)).map(drop),
    ];
    for result in after {
        assert_tells(&one, &result.expect_err("a call after close"));
    }
}

fn assert_tells(one: &Subject, error: &Error) {
    assert_eq!(error.layer(), one.layer(), "the layer of {error:?}");
    assert!(!error.operation().is_empty(), "no operation is named by {error:?}");
    assert_eq!(error.channel(), Some("console"), "the channel that {error:?} names");
    let kind = error.kind();
    let back = Error::from(io::Error::from(error.clone()));
    assert_eq!((back.kind(), back.to_string()), (kind, error.to_string()), "what survives of {error:?}");
}

/// What it refuses for what it is, and the feature that is missing for it: `None` where it is the direction.
pub(super) fn refusals(one: &Subject) -> Vec<(Error, Option<Features>)> {
    let lacks = |feature| !one.features().contains(feature);
    let (mut byte, mut fds) = ([0], Vec::new());
    let stdin = io::stdin();
    let mut refused = Vec::new();
    let mut add = |result: Result<()>, call: &str, missing| match result {
        Err(error) if error.is_unsupported() => refused.push((error, missing)),
        other => panic!("{call} gave {other:?}"),
    };
    if one.carries(Direction::Read) {
        for (feature, flags) in [(Features::FD_PASS, ReadFlags::DONT_WAIT), (Features::READ_MSG_PEEK, ReadFlags::all())]
        {
            if lacks(feature) {
                let fds = (feature == Features::FD_PASS).then_some(&mut fds);
                let read = one.readv_full(&mut [IoSliceMut::new(&mut byte)], fds, flags);
                add(read.map(drop), "a read that needs what is missing", Some(feature));
            }
        }
    } else {
        add(one.read(&mut byte).map(drop), "a read where nothing can be read", None);
        add(one.read(&mut []).map(drop), "a read of nothing where nothing can be read", None);
    }
    if one.carries(Direction::Write) {
        for (feature, flags) in
            [(Features::FD_PASS, WriteFlags::DONT_WAIT), (Features::WRITE_ZERO_COPY, WriteFlags::all())]
        {
            if lacks(feature) {
                let fds = [stdin.as_fd()];
                let fds = if feature == Features::FD_PASS { &fds[..] } else { &[] };
                let written = one.writev_full(&[IoSlice::new(b"x")], fds, flags);
                add(written.map(drop), "a write that needs what is missing", Some(feature));
            }
        }
    } else {
        add(one.write(b"x").map(drop), "a write where nothing can be written", None);
        add(one.write(b"").map(drop), "a write of nothing where nothing can be written", None);
    }
    if lacks(Features::SEEKABLE) {
        add(one.seek(SeekFrom::Start(0)).map(drop), "a seek", Some(Features::SEEKABLE));
    }
    if lacks(Features::READ_BUF) {
        add(one.with_read_buf(&mut |_| 0).map(drop), "a lend", Some(Features::READ_BUF));
    }
    if lacks(Features::CLOSE_WRITE) {
        add(one.close_write(), "close_write", Some(Features::CLOSE_WRITE));
    }
    refused
}
