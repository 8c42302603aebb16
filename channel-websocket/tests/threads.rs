//! What may cross threads: pinned, so that nobody takes it back unawares.

use channel_websocket::{ClientOptions, CloseFrame, Role, ServerOptions, WebSocketChannel};

fn send_sync<T: Send + Sync>() {}

#[test]
fn every_public_type_may_cross_threads() {
    send_sync::<WebSocketChannel>();
    send_sync::<Role>();
    send_sync::<ClientOptions>();
    send_sync::<ServerOptions>();
    send_sync::<CloseFrame>();
}
