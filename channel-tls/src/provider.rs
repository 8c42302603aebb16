//! The cryptography below TLS, named by the caller.

use std::sync::Arc;

use channel_core::{ErrorKind, Result};
use rustls::crypto::CryptoProvider;
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};

use crate::fault;
use crate::parameters::{ProtocolVersion, suite_name};

/// The library that does the cryptography; each is a feature of this crate. Always named, never a process-wide default.
///
/// With neither feature there is none to name: any other comes in a ready-made configuration
/// ([`rustls_0_23`](crate::rustls_0_23)).
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
    pub(crate) cipher_suites: Option<Vec<String>>,
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
            let suites = chosen.iter().map(|name| self.suite(name, &provider));
            provider.cipher_suites = suites.collect::<Result<_>>()?;
        }
        let versions = match &self.versions {
            Some(chosen) => chosen.iter().map(|version| version.supported()).collect(),
            // rustls refuses a version without a suite, also one that was not asked for by name.
            None => {
                let spoken = |version| provider.cipher_suites.iter().any(|suite| suite.version() == version);
                rustls::ALL_VERSIONS.iter().copied().filter(|version| spoken(*version)).collect()
            }
        };
        if self.alpn.iter().any(|name| name.is_empty() || name.len() > 255) {
            return Err(unknown("an ALPN protocol name has 1 to 255 bytes (RFC 7301 §3.1)".to_owned()));
        }
        Ok((Arc::new(provider), versions))
    }

    fn suite(&self, name: &str, provider: &CryptoProvider) -> Result<SupportedCipherSuite> {
        let suites = &provider.cipher_suites;
        if let Some(found) = suites.iter().find(|known| suite_name(known.suite()) == name) {
            return Ok(*found);
        }
        let names: Vec<_> = suites.iter().map(|known| suite_name(known.suite())).collect();
        let (name, names) = (name.escape_debug(), names.join(", "));
        Err(unknown(format!("{:?} has no cipher suite `{name}`; choose among {names}", self.provider)))
    }
}

fn unknown(detail: String) -> channel_core::Error {
    fault::error(ErrorKind::InvalidInput, detail).during("build credentials")
}
