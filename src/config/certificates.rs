//! Certificates, keys and authorities: which files the configuration names, and what is in them. Read here when the file
//! is checked, and again by the gateway when the files change.

use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use webpki::EndEntityCert;

/// A larger file holds something else.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// `[server.tls]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// `cert` and `key`, then those of `certificate`. The first one answers where no name fits.
    pub certificates: Vec<CertificateFiles>,
    /// `client_ca` and `client_auth`, where client certificates are asked for.
    pub clients: Option<ClientCertificates>,
}

/// A certificate chain and its private key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// `cert`: the certificate, then those between it and the authority.
    pub cert: PathBuf,
    /// `key`
    pub key: PathBuf,
}

/// Which client certificates prove their holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// `client_ca`: those that these authorities signed.
    pub authorities: PathBuf,
    /// `client_auth`: whether a connection without one is refused.
    pub required: bool,
}

/// `[upstream.tls]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// `ca`: the authorities that count, in place of the system's.
    pub authorities: Option<PathBuf>,
    /// `cert` and `key`: who the gateway is to the backend.
    pub certificate: Option<CertificateFiles>,
    /// `server_name`: the name that the backend's certificate has to bear, in place of the URL's.
    pub server_name: Option<String>,
}

// === impl CertificateFiles ===

impl CertificateFiles {
    /// Reads both files and makes sure that they belong together.
    ///
    /// # Errors
    /// A sentence for the operator: which file, and what is wrong with it.
    pub fn load(&self) -> Result<CertifiedKey, String> {
        let chain = certificates(&self.cert)?;
        let leaf = chain.first().ok_or_else(|| about(&self.cert, "holds no certificate"))?;
        // What rustls reads of a certificate, so that nobody finds out in the first handshake.
        EndEntityCert::try_from(leaf)
            .map_err(|error| about(&self.cert, format!("cannot be used: {error}")))?;
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?)
            .map_err(|error| about(&self.key, format!("holds no private key in PEM: {error}")))?;
        CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                format!(
                    "the key {} is not that of the certificate {}",
                    self.key.display(),
                    self.cert.display()
                )
            }
            error => about(&self.key, format!("cannot be used: {error}")),
        })
    }
}

/// The authorities of a PEM file.
///
/// # Errors
/// A sentence for the operator. An authority that cannot be used is an error, too: nobody should wonder later why it
/// does not count.
pub fn authorities(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .map_err(|error| about(path, format!("holds an unusable authority: {error}")))?;
    }
    if roots.is_empty() {
        return Err(about(path, "holds no certificate"));
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_slice_iter(&read(path)?).collect::<Result<Vec<_>, _>>();
    read.map_err(|error| about(path, format!("is not PEM: {error}")))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Ok(read) if read as u64 <= FILE_BYTES_MAX => Ok(bytes),
        Ok(_) => Err(about(path, format!("is larger than {FILE_BYTES_MAX} bytes"))),
        Err(error) => Err(about(path, format!("cannot be read: {error}"))),
    }
}

fn about(path: &Path, what: impl Display) -> String {
    format!("the file {} {what}", path.display())
}
