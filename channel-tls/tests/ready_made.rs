//! Configurations of rustls as credentials, and credentials as configurations.
#![cfg(any(feature = "aws-lc-rs", feature = "ring"))]

mod common;

use std::sync::Arc;
use std::thread;

use channel_core::{Channel, Limits, MemoryChannel};
use channel_tls::rustls_0_23::rustls::crypto::CryptoProvider;
use channel_tls::rustls_0_23::rustls::{self, CipherSuite};
use channel_tls::rustls_0_23::{client_config, client_credentials, server_config, server_credentials};
use channel_tls::{ClientCredentials, ProtocolVersion, ServerCredentials, TlsChannel};
use common::{Authority, NAME};

fn opened(client: &ClientCredentials, server: &ServerCredentials) -> [TlsChannel; 2] {
    let (near, far) = MemoryChannel::pair().unwrap();
    let near = TlsChannel::client(Box::new(near), client, NAME, Limits::default()).unwrap();
    let far = TlsChannel::server(Box::new(far), server, Limits::default()).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| far.handshake().unwrap());
        near.handshake().unwrap();
    });
    [near, far]
}

#[test]
fn a_session_is_as_its_ready_made_configuration_says() {
    let authority = Authority::new();
    let mut provider = CryptoProvider::clone(authority.client(ProtocolVersion::Tls1_3).crypto_provider());
    provider.cipher_suites.retain(|suite| suite.suite() == CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.root.clone()).unwrap();
    let mut client = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut server = (*authority.server(ProtocolVersion::Tls1_3)).clone();
    server.alpn_protocols = vec![b"nbd".to_vec()];
    client.alpn_protocols = vec![b"nbd".to_vec()];

    for end in opened(&client_credentials(client.into()), &server_credentials(server.into()).unwrap()) {
        assert_eq!(end.protocol_version(), Some(ProtocolVersion::Tls1_3));
        assert_eq!(end.cipher_suite().as_deref(), Some("TLS_CHACHA20_POLY1305_SHA256"));
        assert_eq!(end.alpn_protocol(), Some(&b"nbd"[..]));
    }
}

#[test]
fn what_the_builders_made_can_be_changed_by_rustls_own_means() {
    let authority = Authority::new();
    let made = authority.server_builder().cipher_suites(["TLS_AES_128_GCM_SHA256"]).build().unwrap();
    let mut changed = (*server_config(&made)).clone();
    changed.send_tls13_tickets = 0;
    let changed = server_credentials(changed.into()).unwrap();
    let client = authority.client_builder().build().unwrap();
    let [near, _] = opened(&client_credentials(client_config(&client)), &changed);
    assert_eq!(near.cipher_suite().as_deref(), Some("TLS_AES_128_GCM_SHA256"));
}

#[test]
fn a_configuration_that_takes_early_data_is_refused() {
    let mut config = (*Authority::new().server(ProtocolVersion::Tls1_3)).clone();
    config.max_early_data_size = 1;
    let error = server_credentials(config.into()).unwrap_err();
    assert!(error.is_unsupported() && error.to_string().contains("0-RTT"), "{error}");
}

/// The most wanted comes first, whatever the provider thinks of it.
#[test]
fn the_order_of_cipher_suites_is_the_order_of_choice() {
    let authority = Authority::new();
    let suites = ["TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384"];
    let client = authority.client_builder().cipher_suites(suites).build().unwrap();
    let server = authority.server_builder().build().unwrap();
    let [near, _] = opened(&client, &server);
    assert_eq!(near.cipher_suite().as_deref(), Some(suites[0]));
}
