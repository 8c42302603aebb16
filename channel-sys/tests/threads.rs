//! What may cross threads: pinned, so that nobody takes it back unawares.

use channel_sys::{Passing, Received};

fn send_sync<T: Send + Sync>() {}

#[test]
fn every_public_type_may_cross_threads() {
    send_sync::<Passing>();
    send_sync::<Received>();
}
