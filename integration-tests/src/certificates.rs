//! A throw-away certification authority and a server certificate of it, made once per process.

use std::sync::{Arc, OnceLock};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::Failure;

/// The name in the server certificate, besides the address 127.0.0.1.
pub const SERVER_NAME: &str = "localhost";

/// An authority, and a certificate and key that a server of [`SERVER_NAME`] proves itself with.
#[derive(Debug)]
pub struct Authority {
    root: CertificateDer<'static>,
    server: CertificateDer<'static>,
    server_key: Vec<u8>,
}

/// The authority of this process.
///
/// # Errors
/// If the certificates cannot be made: a fault of the certificate library.
pub fn authority() -> Result<&'static Authority, Failure> {
    static AUTHORITY: OnceLock<Result<Authority, rcgen::Error>> = OnceLock::new();
    AUTHORITY.get_or_init(Authority::generate).as_ref().map_err(|error| error.to_string().into())
}

/// A rustls client that trusts `root` alone: what [`Authority::root`] gave, perhaps in another process.
///
/// # Errors
/// If `root` is no certificate, or `provider` has no cipher suite for TLS 1.2 or 1.3.
pub fn client_config(
    root: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<ClientConfig>, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add(root)?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

impl Authority {
    fn generate() -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        // Names of their own: a certificate whose subject is its issuer counts as self-signed.
        params.distinguished_name.push(DnType::CommonName, "throw-away authority");
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![SERVER_NAME.to_owned(), "127.0.0.1".to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, SERVER_NAME);
        let server = params.signed_by(&key, &root)?;
        Ok(Self { root: root.der().clone(), server: server.der().clone(), server_key: key.serialize_der() })
    }

    /// What a client trusts.
    #[must_use]
    pub fn root(&self) -> CertificateDer<'static> {
        self.root.clone()
    }

    /// What a server shows.
    #[must_use]
    pub fn server_chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.server.clone()]
    }

    /// The key of the server's certificate.
    #[must_use]
    pub fn server_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.server_key.clone()))
    }

    /// A rustls client that trusts this authority alone.
    ///
    /// # Errors
    /// If `provider` has no cipher suite for TLS 1.2 or 1.3.
    pub fn client_config(&self, provider: Arc<CryptoProvider>) -> Result<Arc<ClientConfig>, Failure> {
        client_config(self.root(), provider)
    }

    /// A rustls server that shows this authority's certificate.
    ///
    /// # Errors
    /// If `provider` has no cipher suite for TLS 1.2 or 1.3.
    pub fn server_config(&self, provider: Arc<CryptoProvider>) -> Result<Arc<ServerConfig>, Failure> {
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(self.server_chain(), self.server_key())?;
        Ok(Arc::new(config))
    }
}
