//! F: what a channel says it can do.

use channel_core::{Channel, Direction, Features};

use super::Setup;
use super::end::End;
use super::setup::{closing_soon, open};

/// \[F1\] Features are fixed when the constructor returns.
pub fn f1_features_are_fixed(setup: &Setup) {
    let (near, far) = setup.unopened(&closing_soon());
    let made = near.features();
    let unchanged = |near: &End, when: &str| {
        assert_eq!(near.features(), made, "features {when}, which were {made:?} when the channel was made");
    };
    near.apply_mode();
    unchanged(&near, "in its mode");
    open(&near, &far);
    unchanged(&near, "after the handshake");
    near.put(b"data");
    assert_eq!(far.take(4), b"data");
    unchanged(&near, "after data");
    near.set_cork(true);
    near.set_delay(true);
    near.set_name("renamed");
    unchanged(&near, "after cork, delay and name");
    far.end_output();
    assert_eq!(near.read_some(&mut [0; 8]).expect("the clean end"), 0);
    unchanged(&near, "at the end");
    // The end of the linger or of the peer may be an error; what stays fixed does so all the same.
    let _ = near.drive(Direction::Write, Channel::close);
    unchanged(&near, "after close");
}

/// \[F2\] `why_not` gives a reason for each feature that is missing, and none for one that is there.
pub fn f2_why_not_gives_a_reason(setup: &Setup) {
    let (near, _far) = setup.pair();
    let features = near.features();
    for feature in Features::all() {
        let reason = near.why_not(feature);
        if features.contains(feature) {
            assert_eq!(reason, None, "{feature:?} is there, but has a reason why not");
        } else {
            assert!(reason.is_some_and(|reason| reason.len() > 3), "{feature:?} is missing, and no reason is given");
        }
    }
    if !features.is_all() {
        assert!(near.why_not(Features::all()).is_some(), "not all features are there, and no reason is given");
    }
    assert_eq!(near.why_not(features), None, "all of {features:?} is there, but has a reason why not");
}
