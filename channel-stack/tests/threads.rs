//! What may cross threads: pinned, so that nobody takes it back unawares.

use channel_stack::{ClientStack, ServerStack, Stack, UnknownStack};

fn send_sync<T: Send + Sync>() {}

#[test]
fn every_public_type_may_cross_threads() {
    send_sync::<ClientStack>();
    send_sync::<ServerStack>();
    send_sync::<Stack>();
    send_sync::<UnknownStack>();
}
