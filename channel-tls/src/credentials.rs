//! Who we are and whom we trust.

use std::fmt;
use std::sync::Arc;

use channel_core::{ErrorKind, Result};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::fault;
use crate::parameters::ProtocolVersion;
use crate::provider::{Choices, Provider};

/// A client's side: the roots it trusts, and a certificate of its own where servers ask for one. Cheap to clone; sessions
/// made from clones can resume each other.
#[derive(Clone)]
pub struct ClientCredentials(pub(crate) Arc<ClientConfig>);

/// A server's side: its certificate, and the roots of client certificates where it demands them. Cheap to clone.
#[derive(Clone)]
pub struct ServerCredentials(pub(crate) Arc<ServerConfig>);

/// Makes [`ClientCredentials`].
#[must_use]
pub struct ClientCredentialsBuilder {
    choices: Choices,
    roots: Vec<CertificateDer<'static>>,
    identity: Option<Identity>,
}

/// Makes [`ServerCredentials`].
#[must_use]
pub struct ServerCredentialsBuilder {
    choices: Choices,
    client_roots: Option<Vec<CertificateDer<'static>>>,
    identity: Option<Identity>,
}

/// A certificate chain and the key of its first certificate.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl ClientCredentials {
    /// Begins with `provider` and nothing else: no roots are trusted until they are given.
    pub fn builder(provider: Provider) -> ClientCredentialsBuilder {
        ClientCredentialsBuilder { choices: Choices::new(provider), roots: Vec::new(), identity: None }
    }
}

impl ServerCredentials {
    /// Begins with `provider` and nothing else.
    pub fn builder(provider: Provider) -> ServerCredentialsBuilder {
        ServerCredentialsBuilder { choices: Choices::new(provider), client_roots: None, identity: None }
    }
}

/// What both builders offer alike.
macro_rules! choices {
    () => {
        /// Shows this certificate chain, its own certificate first, and proves it with `key`.
        pub fn identity(mut self, chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Self {
            self.identity = Some(Identity { chain, key });
            self
        }

        /// As [`identity`](Self::identity), from PEM text: `CERTIFICATE` sections, and one private key in PKCS#8, PKCS#1 or
        /// SEC1 form.
        ///
        /// # Errors
        /// [`InvalidInput`](ErrorKind::InvalidInput) if the text holds no certificate or no key.
        pub fn identity_pem(self, chain: &[u8], key: &[u8]) -> Result<Self> {
            let chain = certificates(chain)?;
            let key = PrivateKeyDer::from_pem_slice(key)
                .map_err(|cause| fault::of_credentials("no private key could be read from the PEM text", cause))?;
            Ok(self.identity(chain, key))
        }

        /// The application protocols we speak, most wanted first (ALPN, RFC 7301).
        pub fn alpn<P: AsRef<[u8]>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
            self.choices.alpn = protocols.into_iter().map(|name| name.as_ref().to_vec()).collect();
            self
        }

        /// Only these cipher suites, most wanted first, instead of all the provider thinks safe. By their names in IANA's
        /// registry, such as `TLS_AES_128_GCM_SHA256` (RFC 8446 appendix B.4).
        pub fn cipher_suites<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
            self.choices.cipher_suites = Some(names.into_iter().map(Into::into).collect());
            self
        }

        /// Only these protocol versions, instead of TLS 1.2 and 1.3.
        pub fn versions(mut self, versions: impl IntoIterator<Item = ProtocolVersion>) -> Self {
            self.choices.versions = Some(versions.into_iter().collect());
            self
        }
    };
}

impl ClientCredentialsBuilder {
    /// Also trusts servers whose certificates lead to one of `roots`.
    pub fn roots(mut self, roots: impl IntoIterator<Item = CertificateDer<'static>>) -> Self {
        self.roots.extend(roots);
        self
    }

    /// As [`roots`](Self::roots), from the `CERTIFICATE` sections of PEM text.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) if it holds none, or one that cannot be read.
    pub fn roots_pem(self, pem: &[u8]) -> Result<Self> {
        Ok(self.roots(certificates(pem)?))
    }

    choices!();

    /// The credentials.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) without roots, for a certificate or key that cannot be used or do not belong
    /// together, and for a cipher suite the provider lacks: the message lists those it has.
    pub fn build(self) -> Result<ClientCredentials> {
        let roots = store(self.roots)?;
        let (provider, versions) = self.choices.resolve()?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .map_err(|cause| fault::of_credentials("no session can come of these versions and cipher suites", cause))?
            .with_root_certificates(roots);
        let mut config = match self.identity {
            None => config.with_no_client_auth(),
            Some(Identity { chain, key }) => config.with_client_auth_cert(chain, key).map_err(bad_identity)?,
        };
        config.alpn_protocols = self.choices.alpn;
        Ok(ClientCredentials(Arc::new(config)))
    }
}

impl ServerCredentialsBuilder {
    /// Demands a certificate of every client, which must lead to one of `roots`. Without this, clients are not asked.
    pub fn require_client_certificates(mut self, roots: impl IntoIterator<Item = CertificateDer<'static>>) -> Self {
        self.client_roots.get_or_insert_default().extend(roots);
        self
    }

    /// As [`require_client_certificates`](Self::require_client_certificates), from the `CERTIFICATE` sections of PEM text.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) if it holds none, or one that cannot be read.
    pub fn require_client_certificates_pem(self, pem: &[u8]) -> Result<Self> {
        Ok(self.require_client_certificates(certificates(pem)?))
    }

    choices!();

    /// The credentials.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) without an identity, for a certificate or key that cannot be used or do not
    /// belong together, and for a cipher suite the provider lacks: the message lists those it has.
    pub fn build(self) -> Result<ServerCredentials> {
        let Some(Identity { chain, key }) = self.identity else {
            return Err(fault::error(ErrorKind::InvalidInput, "a server needs a certificate: give it an `identity`"));
        };
        let (provider, versions) = self.choices.resolve()?;
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
            .map_err(|cause| fault::of_credentials("no session can come of these versions and cipher suites", cause))?;
        let config = match self.client_roots {
            None => config.with_no_client_auth(),
            Some(roots) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store(roots)?), provider).build();
                config.with_client_cert_verifier(
                    verifier
                        .map_err(|cause| fault::of_credentials("clients cannot be verified with these roots", cause))?,
                )
            }
        };
        let mut config = config.with_single_cert(chain, key).map_err(bad_identity)?;
        config.alpn_protocols = self.choices.alpn;
        Ok(ServerCredentials(Arc::new(config)))
    }
}

/// None of these says anything of keys.
macro_rules! silent_debug {
    ($($type:ident),*) => {$(
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($type)).finish_non_exhaustive()
            }
        }
    )*};
}
silent_debug!(ClientCredentials, ServerCredentials, ClientCredentialsBuilder, ServerCredentialsBuilder);

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let mut found = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate
            .map_err(|cause| fault::of_credentials("a certificate could not be read from the PEM text", cause))?;
        found.push(certificate);
    }
    if found.is_empty() {
        return Err(fault::error(ErrorKind::InvalidInput, "the PEM text holds no CERTIFICATE section"));
    }
    Ok(found)
}

fn store(roots: Vec<CertificateDer<'static>>) -> Result<RootCertStore> {
    if roots.is_empty() {
        return Err(fault::error(ErrorKind::InvalidInput, "no root certificates were given: nobody could be trusted"));
    }
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root).map_err(|cause| fault::of_credentials("a root certificate cannot be used", cause))?;
    }
    Ok(store)
}

fn bad_identity(cause: rustls::Error) -> channel_core::Error {
    fault::of_credentials("the certificate and its key cannot be used together", cause)
}
