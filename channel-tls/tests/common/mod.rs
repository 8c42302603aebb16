//! Throw-away certificates, and rustls' own buffered connections as the peer.
#![allow(dead_code, unreachable_pub, missing_docs)] // each test program uses its own part

use std::sync::Arc;

use channel_tls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use channel_tls::rustls_0_23::rustls::{self, ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use channel_tls::rustls_0_23::{client_config, server_config};
use channel_tls::{ClientCredentials, ClientCredentialsBuilder, ServerCredentials, ServerCredentialsBuilder};
use channel_tls::{ProtocolVersion, Provider};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

pub const NAME: &str = "peer.example";

/// One that was compiled in.
#[cfg(feature = "aws-lc-rs")]
pub const PROVIDER: Provider = Provider::AwsLcRs;
#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
pub const PROVIDER: Provider = Provider::Ring;

/// A CA of one test.
pub struct Authority {
    pub root: CertificateDer<'static>,
    pub root_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "the authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap();
        let root_pem = pem("CERTIFICATE", root.der());
        Self { root: root.der().clone(), root_pem, issuer: Issuer::new(params, key) }
    }

    pub fn issue(&self, name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        self.issue_with(name, |_| {})
    }

    pub fn issue_expired(&self, name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        self.issue_with(name, |params| {
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        })
    }

    pub fn issue_pem(&self, name: &str) -> (String, String) {
        let (params, key) = Self::leaf(name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (pem("CERTIFICATE", certificate.der()), pem("PRIVATE KEY", key.serialized_der()))
    }

    fn issue_with(
        &self,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let (mut params, key) = Self::leaf(name);
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (vec![certificate.der().clone()], key.into())
    }

    fn leaf(name: &str) -> (CertificateParams, KeyPair) {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        (params, KeyPair::generate().unwrap())
    }

    pub fn client_builder(&self) -> ClientCredentialsBuilder {
        ClientCredentials::builder(PROVIDER).roots([self.root.clone()])
    }

    pub fn server_builder(&self) -> ServerCredentialsBuilder {
        let (chain, key) = self.issue(NAME);
        ServerCredentials::builder(PROVIDER).identity(chain, key)
    }

    pub fn client(&self, version: ProtocolVersion) -> Arc<ClientConfig> {
        client_config(&self.client_builder().versions([version]).build().unwrap())
    }

    pub fn server(&self, version: ProtocolVersion) -> Arc<ServerConfig> {
        server_config(&self.server_builder().versions([version]).build().unwrap())
    }
}

pub const VERSIONS: [ProtocolVersion; 2] = [ProtocolVersion::Tls1_2, ProtocolVersion::Tls1_3];

pub fn buffered_client(config: Arc<ClientConfig>) -> rustls::Connection {
    ClientConnection::new(config, ServerName::try_from(NAME).unwrap()).unwrap().into()
}

pub fn buffered_server(config: Arc<ServerConfig>) -> rustls::Connection {
    ServerConnection::new(config).unwrap().into()
}

/// Bytes that differ from place to place.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((at * 31 + at / 251) % 256).unwrap()).collect()
}

/// DER as PEM text (RFC 7468).
pub fn pem(label: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in der.chunks(3) {
        let mut group = [0; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes(group);
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) & 63;
            text.push(if digit > chunk.len() { '=' } else { char::from(DIGITS[usize::try_from(index).unwrap()]) });
        }
    }
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
