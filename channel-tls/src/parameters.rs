//! What a session is spoken in, by the names that the standards have for it: protocol versions and cipher suites.

use std::borrow::Cow;
use std::fmt;

use rustls::{CipherSuite, SupportedProtocolVersion};

/// A version of the protocol; a later one is greater. Prints as OpenSSL's tools do: `TLSv1.3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ProtocolVersion {
    /// TLS 1.2 (RFC 5246).
    Tls1_2,
    /// TLS 1.3 (RFC 8446).
    Tls1_3,
}

impl ProtocolVersion {
    pub(crate) fn of(version: rustls::ProtocolVersion) -> Option<Self> {
        match version {
            rustls::ProtocolVersion::TLSv1_2 => Some(Self::Tls1_2),
            rustls::ProtocolVersion::TLSv1_3 => Some(Self::Tls1_3),
            _ => None,
        }
    }

    pub(crate) fn supported(self) -> &'static SupportedProtocolVersion {
        match self {
            Self::Tls1_2 => &rustls::version::TLS12,
            Self::Tls1_3 => &rustls::version::TLS13,
        }
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tls1_2 => "TLSv1.2",
            Self::Tls1_3 => "TLSv1.3",
        })
    }
}

/// The name IANA has for `suite`, which in TLS 1.3 (RFC 8446 appendix B.4) is not that of rustls; its number, where a
/// provider has one that rustls has no name for.
pub(crate) fn suite_name(suite: CipherSuite) -> Cow<'static, str> {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256".into(),
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384".into(),
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256".into(),
        CipherSuite::TLS13_AES_128_CCM_SHA256 => "TLS_AES_128_CCM_SHA256".into(),
        CipherSuite::TLS13_AES_128_CCM_8_SHA256 => "TLS_AES_128_CCM_8_SHA256".into(),
        other => match other.as_str() {
            Some(name) => name.into(),
            None => format!("{:#06x}", u16::from(other)).into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_version_is_greater() {
        assert!(ProtocolVersion::Tls1_3 > ProtocolVersion::Tls1_2);
        assert_eq!(format!("{:>9}", ProtocolVersion::Tls1_2), "  TLSv1.2");
    }

    #[test]
    fn cipher_suites_have_their_names_in_the_registry() {
        let names = [
            (0x1301, "TLS_AES_128_GCM_SHA256"),
            (0x1302, "TLS_AES_256_GCM_SHA384"),
            (0x1303, "TLS_CHACHA20_POLY1305_SHA256"),
            (0x1304, "TLS_AES_128_CCM_SHA256"),
            (0x1305, "TLS_AES_128_CCM_8_SHA256"),
            (0xc02b, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
            (0x00c6, "0x00c6"), // TLS_SM4_GCM_SM3, which rustls cannot name
        ];
        for (number, name) in names {
            assert_eq!(suite_name(CipherSuite::from(number)), name);
        }
    }
}
