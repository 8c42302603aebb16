//! What rustls complains of, as errors of this layer: who is at fault and what it was.

use channel_core::{Error, ErrorKind};
use rustls::AlertDescription;

/// The name of the layer in errors.
pub(crate) const LAYER: &str = "tls";

/// What is said of a close_notify before the session is open.
pub(crate) const ENDED_EARLY: &str = "the peer ended the session before the handshake was complete";

/// An error of this layer.
pub(crate) fn error(kind: ErrorKind, detail: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(kind, LAYER, detail)
}

/// What ended a session.
pub(crate) fn of_session(cause: rustls::Error) -> Error {
    use rustls::Error as Tls;
    let (kind, detail) = match &cause {
        // While the session is open a close_notify is no error.
        Tls::AlertReceived(AlertDescription::CloseNotify) => (ErrorKind::UnexpectedEof, ENDED_EARLY),
        Tls::AlertReceived(alert) => (of_alert(*alert), "the peer ended the session with an alert"),
        Tls::InvalidCertificate(_) | Tls::UnsupportedNameType => {
            (ErrorKind::Authentication, "the peer's certificate was not accepted")
        }
        Tls::NoCertificatesPresented => {
            (ErrorKind::Authentication, "the peer sent no certificate, and one is required")
        }
        Tls::InvalidCertRevocationList(_) => {
            (ErrorKind::Authentication, "the peer's certificate could not be checked for revocation")
        }
        Tls::PeerIncompatible(_) | Tls::NoApplicationProtocol => {
            (ErrorKind::Protocol, "the peer and we have nothing in common to speak")
        }
        Tls::DecryptError => (ErrorKind::Protocol, "a record was damaged or forged on the way"),
        Tls::EncryptError
        | Tls::General(_)
        | Tls::FailedToGetCurrentTime
        | Tls::FailedToGetRandomBytes
        | Tls::HandshakeNotComplete
        | Tls::BadMaxFragmentSize
        | Tls::InconsistentKeys(_)
        | Tls::Other(_) => (ErrorKind::Internal, "the TLS engine failed"),
        _ => (ErrorKind::Protocol, "the peer does not speak TLS as it should"),
    };
    error(kind, detail).with_source(cause)
}

/// What makes credentials unusable: always the caller's to mend.
pub(crate) fn of_credentials(detail: &'static str, cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    error(ErrorKind::InvalidInput, detail).with_source(cause)
}

/// Alerts about who we are say so; any other is a plain refusal (RFC 8446 §6.2).
fn of_alert(alert: AlertDescription) -> ErrorKind {
    use AlertDescription as Alert;
    match alert {
        Alert::NoCertificate
        | Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::AccessDenied
        | Alert::BadCertificateStatusResponse
        | Alert::CertificateRequired => ErrorKind::Authentication,
        _ => ErrorKind::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_verifier_of_the_callers_own_says_is_about_authentication() {
        let revoked = rustls::Error::InvalidCertRevocationList(rustls::CertRevocationListError::BadSignature);
        let error = of_session(revoked);
        assert_eq!(error.kind(), ErrorKind::Authentication);
        assert!(error.to_string().contains("revocation"), "{error}");
    }
}
