//! Whom a verified client certificate proves.

use rustls::pki_types::CertificateDer;
use std::rc::Rc;
use webpki::EndEntityCert;

/// The holder of a certificate that one of the authorities of `client_ca` signed: issuer and subject, so that a renewed
/// certificate is the same caller. A certificate without a subject goes by its names, one without any by its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal(Rc<[u8]>);

/// An empty sequence: a subject that says nothing.
const EMPTY: &[u8] = &[0x30, 0x00];

// === impl Principal ===

impl Principal {
    /// Whom `certificate` names. It was verified in the handshake; `None` where it cannot be read all the same.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Principal> {
        let certificate = EndEntityCert::try_from(certificate).ok()?;
        let mut bytes = Vec::new();
        part(&mut bytes, b"issuer", certificate.issuer());
        let subject = certificate.subject();
        if !(subject.is_empty() || subject == EMPTY) {
            part(&mut bytes, b"subject", subject);
            return Some(Principal(bytes.into()));
        }
        let mut named = false;
        for name in certificate.valid_dns_names().chain(certificate.valid_uri_names()) {
            part(&mut bytes, b"name", name.as_bytes());
            named = true;
        }
        if !named {
            part(&mut bytes, b"key", &certificate.subject_public_key_info());
        }
        Some(Principal(bytes.into()))
    }

    /// What is digested.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// With its length, so that no two principals are the same bytes.
fn part(bytes: &mut Vec<u8>, label: &[u8], value: &[u8]) {
    bytes.extend_from_slice(label);
    bytes.extend_from_slice(&(value.len() as u64).to_be_bytes());
    bytes.extend_from_slice(value);
}
