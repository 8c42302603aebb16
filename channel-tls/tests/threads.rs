//! What may cross threads: pinned, so that nobody takes it back unawares.

use channel_tls::{
    ClientCredentials, ClientCredentialsBuilder, ProtocolVersion, Provider, Role, ServerCredentials,
    ServerCredentialsBuilder, TlsChannel,
};

fn send_sync<T: Send + Sync>() {}

#[test]
fn every_public_type_may_cross_threads() {
    send_sync::<TlsChannel>();
    send_sync::<Role>();
    send_sync::<ProtocolVersion>();
    send_sync::<Provider>();
    send_sync::<ClientCredentials>();
    send_sync::<ClientCredentialsBuilder>();
    send_sync::<ServerCredentials>();
    send_sync::<ServerCredentialsBuilder>();
}
