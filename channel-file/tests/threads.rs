//! What may cross threads: pinned, so that nobody takes it back unawares.

use channel_file::{FileChannel, PipeChannel, PipeFds};

fn send_sync<T: Send + Sync>() {}

#[test]
fn every_public_type_may_cross_threads() {
    send_sync::<FileChannel>();
    send_sync::<PipeChannel>();
    send_sync::<PipeFds>();
}
