//! TLS over any channel: [`TlsChannel`], client and server, on rustls.
//!
//! ```
//! # #[cfg(feature = "aws-lc-rs")] {
//! use channel_core::{Channel, ChannelExt, Limits, MemoryChannel};
//! use channel_tls::{ClientCredentials, Provider, ServerCredentials, TlsChannel};
//!
//! // A throw-away certificate that is its own authority. `identity_pem` and `roots_pem` take what is in files.
//! let made = rcgen::generate_simple_self_signed(["nbd.example".to_owned()]).unwrap();
//! let certificate = made.cert.der().clone();
//! let server = ServerCredentials::builder(Provider::AwsLcRs)
//!     .identity(vec![certificate.clone()], made.signing_key.into())
//!     .build()?;
//! let client = ClientCredentials::builder(Provider::AwsLcRs).roots([certificate]).build()?;
//!
//! let (near, far) = MemoryChannel::pair()?;
//! let far = TlsChannel::server(Box::new(far), &server, Limits::default())?;
//! let server = std::thread::spawn(move || {
//!     far.handshake()?;
//!     far.write_all(b"hello")?;
//!     far.close_write()
//! });
//! let near = TlsChannel::client(Box::new(near), &client, "nbd.example", Limits::default())?;
//! near.handshake()?;
//! let mut heard = [0; 5];
//! near.read_all(&mut heard)?;
//! assert_eq!(&heard, b"hello");
//! assert_eq!(near.read(&mut heard)?, 0); // close_notify came: the clean end
//! server.join().unwrap()?;
//! # }
//! # Ok::<(), channel_core::Error>(())
//! ```
//!
//! # What it insists on
//! * The client always verifies the server's certificate against roots it was given, and its name. No system store is read.
//! * The crypto provider is named in the credentials, never taken from a process-wide default.
//! * An end without close_notify is [`UnexpectedEof`](channel_core::ErrorKind::UnexpectedEof): it may be an attacker's cut.
//! * No 0-RTT data: it can be replayed.
//!
//! # What it does not have
//! Pre-shared keys and anonymous key exchange (QEMU's `tls-creds-psk` and `tls-creds-anon`): rustls has neither, so there is no
//! way to ask for them. A private CA and client certificates do what a pre-shared key would.
//!
//! # Whose version it follows
//! Nothing of rustls is in a signature, except in [`rustls_0_23`], which takes ready-made configurations.
//!
//! # Where things are
//! `session.rs` is the only file that steps rustls; `engine.rs` decodes and encodes with it, `handshake.rs` opens it, and
//! `channel.rs` is the public face.
#![forbid(unsafe_code)]
// Nobody can begin a builder without a provider to name.
#![cfg_attr(not(any(feature = "aws-lc-rs", feature = "ring")), allow(unreachable_code))]

// The tests of this crate and the programs in `tests/` share helpers, which use the crate by its name.
#[cfg(test)]
extern crate self as channel_tls;

mod channel;
mod credentials;
mod engine;
mod fault;
mod handshake;
mod parameters;
mod provider;
pub mod rustls_0_23;
mod session;
#[cfg(all(test, any(feature = "aws-lc-rs", feature = "ring")))]
mod tests;

pub use channel::{Role, TlsChannel};
pub use credentials::{ClientCredentials, ClientCredentialsBuilder, ServerCredentials, ServerCredentialsBuilder};
pub use parameters::ProtocolVersion;
pub use provider::Provider;
/// Certificates, private keys and server names as types, of a crate with a version of its own: rustls 0.23 and 0.24 share
/// its 1.x.
pub use rustls_pki_types as pki_types;
