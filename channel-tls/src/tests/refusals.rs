//! Peers that are not who they should be, do not speak TLS, or speak another kind of it; and credentials that make no sense.

use std::error::Error as _;

use channel_core::{Error, ErrorKind};
use rustls::{AlertDescription, ClientConfig, ServerConfig};

use super::common::{Authority, NAME, PROVIDER, VERSIONS, buffered_client, buffered_server};
use super::end::{Ours, from_peer, to_peer};
use crate::handshake::TlsHandshake;
use crate::{ClientCredentials, ProtocolVersion, ServerCredentials};

/// How a handshake of our client with a buffered server fails: our error, and the alert the server got.
fn client_refuses(mut ours: Ours, server: std::sync::Arc<ServerConfig>) -> (Error, AlertDescription) {
    let mut peer = buffered_server(server);
    ours.receives(&[]).unwrap();
    for _ in 0..10 {
        let answer = to_peer(&mut peer, &ours.sends()).unwrap();
        if let Err(error) = ours.receives(&answer) {
            let Err(rustls::Error::AlertReceived(alert)) = to_peer(&mut peer, &ours.sends()) else {
                panic!("the server was not told")
            };
            return (error, alert);
        }
    }
    panic!("the handshake went well");
}

fn assert_not_authentic(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
    assert_eq!(error.layer(), "tls");
    let source = error.source().and_then(|source| source.downcast_ref::<rustls::Error>());
    assert!(matches!(source, Some(rustls::Error::InvalidCertificate(_))), "{source:?}");
}

#[test]
fn a_server_with_another_name_is_refused() {
    let authority = Authority::new();
    for version in VERSIONS {
        let handshake = TlsHandshake::client(authority.client(version), "other.example", 4096).unwrap();
        let (error, alert) = client_refuses(Ours::over(handshake), authority.server(version));
        assert_not_authentic(&error);
        assert_eq!(alert, AlertDescription::BadCertificate);
    }
}

#[test]
fn a_server_of_an_unknown_authority_is_refused() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let client: std::sync::Arc<ClientConfig> = ours.client(ProtocolVersion::Tls1_3);
    let (error, alert) = client_refuses(Ours::client(client), theirs.server(ProtocolVersion::Tls1_3));
    assert_not_authentic(&error);
    // rcgen's authorities share a name and differ in their keys.
    assert!(matches!(alert, AlertDescription::UnknownCA | AlertDescription::DecryptError), "{alert:?}");
}

#[test]
fn an_expired_certificate_is_refused() {
    let authority = Authority::new();
    let (chain, key) = authority.issue_expired(NAME);
    let server = ServerCredentials::builder(PROVIDER).identity(chain, key).build().unwrap().0;
    let (error, alert) = client_refuses(Ours::client(authority.client(ProtocolVersion::Tls1_3)), server);
    assert_not_authentic(&error);
    assert_eq!(alert, AlertDescription::CertificateExpired);
}

/// Our server and a buffered client talk until one of them gives up or both are done.
fn serve(ours: &mut Ours, peer: &mut rustls::Connection) -> (Result<(), Error>, Result<(), rustls::Error>) {
    let mut sent = from_peer(peer);
    loop {
        let ours_went = ours.receives(&sent);
        let answer = ours.sends();
        let theirs_went = to_peer(peer, &answer);
        match (ours_went, theirs_went) {
            (Ok(()), Ok(more)) if !more.is_empty() => sent = more,
            (ours_went, theirs_went) => return (ours_went, theirs_went.map(drop)),
        }
    }
}

#[test]
fn a_server_that_demands_certificates_refuses_a_client_without_one() {
    let authority = Authority::new();
    let server = authority.server_builder().require_client_certificates_pem(authority.root_pem.as_bytes()).unwrap();
    let server = server.build().unwrap();
    for version in VERSIONS {
        let mut ours = Ours::server(&server.0);
        let (error, told) = serve(&mut ours, &mut buffered_client(authority.client(version)));
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Authentication);
        let alert = AlertDescription::CertificateRequired;
        let old = AlertDescription::HandshakeFailure;
        let told = told.unwrap_err();
        assert!(told == rustls::Error::AlertReceived(alert) || told == rustls::Error::AlertReceived(old), "{told:?}");
    }
}

#[test]
fn a_server_that_demands_certificates_knows_the_client_that_has_one() {
    let authority = Authority::new();
    let server = authority.server_builder().require_client_certificates([authority.root.clone()]).build().unwrap();
    let (chain, key) = authority.issue_pem("client.example");
    let client = authority.client_builder().identity_pem(chain.as_bytes(), key.as_bytes()).unwrap().build().unwrap();
    let mut ours = Ours::server(&server.0);
    let (went, told) = serve(&mut ours, &mut buffered_client(client.0));
    went.unwrap();
    told.unwrap();
    assert_eq!(ours.facts.get().unwrap().peer_certificates().len(), 1);
}

#[test]
fn a_client_that_refuses_our_certificate_is_an_authentication_error_at_the_server() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (chain, key) = ours.issue_expired(NAME);
    let server = ServerCredentials::builder(PROVIDER).identity(chain, key).build().unwrap();
    let mut client = buffered_client(theirs.client(ProtocolVersion::Tls1_3));
    let mut server = Ours::server(&server.0);
    let hello = from_peer(&mut client);
    server.receives(&hello).unwrap();
    to_peer(&mut client, &server.sends()).unwrap_err();
    let alert = from_peer(&mut client);
    let error = server.receives(&alert).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Authentication | ErrorKind::Refused), "{error}");
}

#[test]
fn garbage_in_the_handshake_is_a_protocol_error_and_is_answered() {
    let authority = Authority::new();
    for garbage in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], b"SSH-2.0-OpenSSH_9.6\r\n", &[0; 5], &[22, 3, 1, 0, 0], &[22, 3, 1, 72, 0]]
    {
        let mut server = Ours::server(&authority.server(ProtocolVersion::Tls1_3));
        let error = server.receives(garbage).unwrap_err();
        assert_eq!((error.kind(), error.layer()), (ErrorKind::Protocol, "tls"), "{error}");
        assert_eq!(server.sends(), [21, 3, 3, 0, 2, 2, 50], "decode_error, in the clear");
    }
}

#[test]
fn a_peer_without_a_common_version_is_a_protocol_error() {
    let authority = Authority::new();
    let mut ours = Ours::server(&authority.server(ProtocolVersion::Tls1_3));
    let (error, told) = serve(&mut ours, &mut buffered_client(authority.client(ProtocolVersion::Tls1_2)));
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Protocol);
    assert_eq!(told.unwrap_err(), rustls::Error::AlertReceived(AlertDescription::ProtocolVersion));
}

#[test]
fn credentials_that_cannot_work_are_invalid_input() {
    let authority = Authority::new();
    let (chain, _) = authority.issue(NAME);
    let (_, other_key) = authority.issue(NAME);
    let client = || ClientCredentials::builder(PROVIDER);
    let errors = [
        client().build().unwrap_err(),
        client().roots_pem(b"no certificate in here").unwrap_err(),
        client().identity_pem(authority.root_pem.as_bytes(), b"no key in here").unwrap_err(),
        ServerCredentials::builder(PROVIDER).build().unwrap_err(),
        ServerCredentials::builder(PROVIDER).identity(chain, other_key).build().unwrap_err(),
        authority.client_builder().versions([]).build().unwrap_err(),
        authority.client_builder().cipher_suites(["TLS_NULL_WITH_NULL_NULL"]).build().unwrap_err(),
        authority.client_builder().cipher_suites([""; 0]).build().unwrap_err(),
        authority.client_builder().alpn([""]).build().unwrap_err(),
        TlsHandshake::client(authority.client(ProtocolVersion::Tls1_3), "not a name", 4096).err().unwrap(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
}

#[test]
fn one_cipher_suite_is_enough_and_picks_its_version() {
    let authority = Authority::new();
    for suite in ["TLS_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"] {
        authority.client_builder().cipher_suites([suite]).build().unwrap();
        authority.server_builder().cipher_suites([suite]).build().unwrap();
    }
}

#[test]
fn an_unknown_cipher_suite_is_told_those_there_are() {
    // Not by rustls' names either, and not in any spelling but the registry's.
    for name in ["TLS13_AES_128_GCM_SHA256", "tls_aes_128_gcm_sha256", "AES128-GCM-SHA256\n", ""] {
        let error = Authority::new().client_builder().cipher_suites([name]).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let said = error.to_string();
        let list =
            "choose among TLS_AES_256_GCM_SHA384, TLS_AES_128_GCM_SHA256, TLS_CHACHA20_POLY1305_SHA256, TLS_ECDHE_";
        assert!(said.contains(list) && !said.contains('\n'), "{said}");
    }
}

#[test]
fn debug_output_shows_no_keys() {
    let authority = Authority::new();
    let (chain, key) = authority.issue_pem(NAME);
    let builder = ServerCredentials::builder(PROVIDER).identity_pem(chain.as_bytes(), key.as_bytes()).unwrap();
    assert_eq!(format!("{builder:?}"), "ServerCredentialsBuilder { .. }");
    assert_eq!(format!("{:?}", builder.build().unwrap()), "ServerCredentials { .. }");
}
