//! A throw-away certification authority and a server certificate of it, in memory only.

use std::error::Error;

use channel_stack::tls::Provider;
use channel_stack::tls::pki_types::PrivatePkcs8KeyDer;
use channel_stack::{ClientCredentials, ServerCredentials};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// The name in the server's certificate, which the client verifies.
pub(crate) const SERVER_NAME: &str = "localhost";

/// Credentials of a client that trusts one new authority alone, and of a server that this authority certified.
///
/// The authority's key is gone when this returns: it never certifies anything else.
///
/// # Errors
/// If the cryptographic library cannot make keys.
pub(crate) fn throw_away() -> Result<(ClientCredentials, ServerCredentials), Box<dyn Error + Send + Sync>> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "relay demo, throw-away authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;

    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([SERVER_NAME.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, "relay demo");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.signed_by(&key, &authority)?;

    let client = ClientCredentials::builder(Provider::AwsLcRs).roots([authority.der().clone()]).build()?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let server =
        ServerCredentials::builder(Provider::AwsLcRs).identity(vec![certificate.der().clone()], key.into()).build()?;
    Ok((client, server))
}
