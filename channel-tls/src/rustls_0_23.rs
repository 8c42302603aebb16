//! Ready-made configurations of rustls 0.23 as credentials, and back.
//!
//! **What is in here follows the version of rustls; the rest of the crate does not.** With its next version this module
//! goes, and one with the same functions and that version's name comes. Whoever takes the
//! [`source`](std::error::Error::source) of a session's error for an error of rustls follows its version, too.
//!
//! For what [`ClientCredentials::builder`] and [`ServerCredentials::builder`] do not offer: providers, verifiers,
//! certificate resolvers and session stores of one's own. A session uses them as they are, and runs them while it is
//! locked: they must not call the channel.
//!
//! ```
//! # #[cfg(feature = "aws-lc-rs")]
//! # fn example() -> Result<(), channel_tls::rustls_0_23::rustls::Error> {
//! use std::sync::Arc;
//!
//! use channel_tls::rustls_0_23::{client_credentials, rustls};
//!
//! let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
//! let config = rustls::ClientConfig::builder_with_provider(provider)
//!     .with_protocol_versions(&[&rustls::version::TLS13])?
//!     .with_root_certificates(rustls::RootCertStore::empty())
//!     .with_no_client_auth();
//! let trusts_nobody = client_credentials(Arc::new(config));
//! # drop(trusts_nobody);
//! # Ok(())
//! # }
//! # #[cfg(feature = "aws-lc-rs")]
//! # example().unwrap();
//! ```

use std::sync::Arc;

use channel_core::{ErrorKind, Result};
pub use rustls;
use rustls::{ClientConfig, ServerConfig};

use crate::credentials::{ClientCredentials, ServerCredentials};
use crate::fault;

/// A client's side as `config` says.
#[must_use]
pub fn client_credentials(config: Arc<ClientConfig>) -> ClientCredentials {
    ClientCredentials(config)
}

/// A server's side as `config` says.
///
/// # Errors
/// [`Unsupported`](ErrorKind::Unsupported) if it takes 0-RTT data, which an attacker can replay.
pub fn server_credentials(config: Arc<ServerConfig>) -> Result<ServerCredentials> {
    if config.max_early_data_size > 0 {
        let detail = "0-RTT data can be replayed; set `max_early_data_size` to 0";
        return Err(fault::error(ErrorKind::Unsupported, detail).during("build credentials"));
    }
    Ok(ServerCredentials(config))
}

/// The configuration that `credentials` are.
#[must_use]
pub fn client_config(credentials: &ClientCredentials) -> Arc<ClientConfig> {
    Arc::clone(&credentials.0)
}

/// The configuration that `credentials` are.
#[must_use]
pub fn server_config(credentials: &ServerCredentials) -> Arc<ServerConfig> {
    Arc::clone(&credentials.0)
}
