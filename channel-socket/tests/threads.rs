//! What may cross threads: pinned, so that nobody takes it back unawares.

use channel_socket::{AioListener, SocketAddress, SocketChannel, SocketListener};

fn send_sync<T: Send + Sync>() {}

#[test]
fn every_public_type_may_cross_threads() {
    send_sync::<AioListener>();
    send_sync::<SocketAddress>();
    send_sync::<SocketChannel>();
    send_sync::<SocketListener>();
}
