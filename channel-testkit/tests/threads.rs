//! What may cross threads: pinned, so that nobody takes it back unawares. A driven loop, and what drives it, stay on theirs.

use channel_testkit::adverse::{Adverse, Called, Flip, Gate, Log};
use channel_testkit::patience::{Patience, Progress};
use channel_testkit::recording::{Recorded, Recorder};
use channel_testkit::script::{Mismatch, Playing, Script};
use channel_testkit::{aio_context, suite};

fn send_sync<T: Send + Sync>() {}
fn send<T: Send>() {}

#[test]
fn every_public_type_may_cross_threads() {
    send_sync::<Adverse>();
    send_sync::<Called>();
    send_sync::<Flip>();
    send_sync::<Gate>();
    send_sync::<Log>();
    send_sync::<Patience>();
    send_sync::<Progress>();
    send_sync::<Recorded>();
    send_sync::<Recorder>();
    send_sync::<Mismatch>();
    send_sync::<Playing>();
    send::<Script>();
    send_sync::<aio_context::Clause>();
    send_sync::<aio_context::Setup>();
    send_sync::<suite::Clause>();
    send_sync::<suite::Mode>();
    send_sync::<suite::Options>();
    send_sync::<suite::Setup>();
}
