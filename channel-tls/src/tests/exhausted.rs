//! Keys that have protected all they may, which the cipher suites of the providers allow after 2²⁴ records at the least, and one of these
//! tests after three.

use std::sync::Arc;

use channel_core::ErrorKind;
use rustls::crypto::{CipherSuiteCommon, CryptoProvider};
use rustls::{ClientConfig, RootCertStore, SupportedCipherSuite, Tls12CipherSuite};

use super::common::{Authority, buffered_server, pattern};
use super::end::{Ours, heard_by, records, said_by, settle, to_peer};
use crate::ProtocolVersion;

/// A TLS 1.2 client whose keys protect `most` records, the last one of its handshake among them.
fn client(authority: &Authority, most: u64) -> Arc<ClientConfig> {
    let mut provider = CryptoProvider::clone(authority.client(ProtocolVersion::Tls1_2).crypto_provider());
    provider.cipher_suites.retain_mut(|suite| {
        let SupportedCipherSuite::Tls12(known) = *suite else { return false };
        let common = CipherSuiteCommon {
            suite: known.common.suite,
            hash_provider: known.common.hash_provider,
            confidentiality_limit: most,
        };
        let short_lived = Tls12CipherSuite {
            common,
            prf_provider: known.prf_provider,
            kx: known.kx,
            sign: known.sign,
            aead_alg: known.aead_alg,
        };
        *suite = SupportedCipherSuite::Tls12(Box::leak(Box::new(short_lived)));
        true
    });
    let mut roots = RootCertStore::empty();
    roots.add(authority.root.clone()).unwrap();
    let config =
        ClientConfig::builder_with_provider(provider.into()).with_protocol_versions(&[&rustls::version::TLS12]);
    config.unwrap().with_root_certificates(roots).with_no_client_auth().into()
}

#[test]
fn of_a_write_that_cannot_be_sealed_whole_nothing_is_sent() {
    let authority = Authority::new();
    let mut ours = Ours::client(client(&authority, 3));
    let mut peer = buffered_server(authority.server(ProtocolVersion::Tls1_2));
    settle(&mut ours, &mut peer);
    ours.writes(b"before").unwrap();
    // Its first record could still be sealed; the second could not.
    let error = ours.writes(&pattern(20_000)).unwrap_err();
    assert_eq!((error.kind(), error.layer()), (ErrorKind::LimitExceeded, "tls"), "{error}");
    let sent = ours.sends();
    assert_eq!(records(&sent).len(), 1, "neither data nor an alert behind it, whose numbers the peer would not expect");
    to_peer(&mut peer, &sent).unwrap();
    assert_eq!(heard_by(&mut peer), b"before");

    assert_eq!(ours.writes(b"after").unwrap_err().kind(), ErrorKind::LimitExceeded, "the session stays ended");
    let late = said_by(&mut peer, b"late");
    assert_eq!(ours.receives(&late).unwrap_err().kind(), ErrorKind::LimitExceeded);
    ours.finishes().unwrap();
    assert_eq!(ours.sends(), b"", "nothing follows");
}
