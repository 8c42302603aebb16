//! The cryptography below TLS, named by the caller.

use std::sync::Arc;

use channel_core::{ErrorKind, Result};
use rustls::crypto::CryptoProvider;
use rustls::{CipherSuite, ProtocolVersion, SupportedProtocolVersion};

use crate::fault;

/// The library that does the cryptography; each is a feature of this crate. Always named, never a process-wide default.
///
/// With neither feature there is none to name: [`client_with_config`](crate::TlsChannel::client_with_config) and
/// [`server_with_config`](crate::TlsChannel::server_with_config) take any other in a ready-made configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Provider {
    /// aws-lc-rs; the feature `aws-lc-rs`, on by default.
    #[cfg(feature = "aws-lc-rs")]
    AwsLcRs,
    /// ring; the feature `ring`.
    #[cfg(feature = "ring")]
    Ring,
}

impl Provider {
    fn load(self) -> CryptoProvider {
        match self {
            #[cfg(feature = "aws-lc-rs")]
            Self::AwsLcRs => rustls::crypto::aws_lc_rs::default_provider(),
            #[cfg(feature = "ring")]
            Self::Ring => rustls::crypto::ring::default_provider(),
        }
    }
}

/// What both roles choose alike.
#[derive(Clone, Debug)]
pub(crate) struct Choices {
    pub(crate) provider: Provider,
    pub(crate) alpn: Vec<Vec<u8>>,
    pub(crate) cipher_suites: Option<Vec<CipherSuite>>,
    pub(crate) versions: Option<Vec<ProtocolVersion>>,
}

impl Choices {
    pub(crate) fn new(provider: Provider) -> Self {
        Self { provider, alpn: Vec::new(), cipher_suites: None, versions: None }
    }

    /// The provider with only the cipher suites chosen, in the order chosen, and the versions.
    pub(crate) fn resolve(&self) -> Result<(Arc<CryptoProvider>, Vec<&'static SupportedProtocolVersion>)> {
        let mut provider = self.provider.load();
        if let Some(chosen) = &self.cipher_suites {
            let mut suites = Vec::with_capacity(chosen.len());
            for suite in chosen {
                let found = provider.cipher_suites.iter().find(|known| known.suite() == *suite);
                let Some(found) = found else {
                    return Err(unknown(format!("{:?} has no cipher suite {suite:?}", self.provider)));
                };
                suites.push(*found);
            }
            provider.cipher_suites = suites;
        }
        let mut versions = rustls::ALL_VERSIONS.to_vec();
        if let Some(chosen) = &self.versions {
            for version in chosen {
                if !versions.iter().any(|known| known.version == *version) {
                    return Err(unknown(format!("{version:?} is not spoken here; TLSv1_2 and TLSv1_3 are")));
                }
            }
            versions.retain(|known| chosen.contains(&known.version));
        }
        // rustls refuses a version without a suite, also one that was not asked for by name.
        if self.versions.is_none() {
            versions.retain(|known| provider.cipher_suites.iter().any(|suite| suite.version() == *known));
        }
        if self.alpn.iter().any(|name| name.is_empty() || name.len() > 255) {
            return Err(unknown("an ALPN protocol name has 1 to 255 bytes (RFC 7301 §3.1)".to_owned()));
        }
        Ok((Arc::new(provider), versions))
    }
}

fn unknown(detail: String) -> channel_core::Error {
    fault::error(ErrorKind::InvalidInput, detail).during("build credentials")
}
