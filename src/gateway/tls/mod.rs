//! TLS towards clients: the certificates, which one a client gets, and their renewal while the gateway runs.
//!
//! TLS 1.2 and 1.3 with ring; no early data, because whoever records it could send it again. `door` does the handshakes;
//! the way to backends is `upstream::tls`'s.

mod handshakes;
mod principal;
mod watch;

pub use handshakes::Handshakes;
pub use principal::Principal;
pub use watch::Watched;

use crate::config::{CertificateFiles, ServerTls, authorities};
use crate::journal::Journal;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ALL_VERSIONS, ServerConfig};
use std::collections::HashMap;
use std::sync::Arc;
use webpki::EndEntityCert;

/// `h2`, as ALPN names it.
pub const ALPN_HTTP2: &[u8] = b"h2";
/// HTTP/1.1, as ALPN names it.
pub const ALPN_HTTP1: &[u8] = b"http/1.1";

/// How clients are met.
pub type ServerSide = Watched<ServerConfig>;

/// The certificates by the names that they are for.
#[derive(Debug)]
struct Certificates {
    /// In the order of the configuration; never empty.
    keys: Vec<Arc<CertifiedKey>>,
    /// Of each name, and of each name behind `*.`, the certificates that bear it.
    names: HashMap<Box<str>, Vec<usize>>,
    wildcards: HashMap<Box<str>, Vec<usize>>,
}

/// The one provider of cryptography.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Reads the files of `[server.tls]`, and again whenever they change.
///
/// # Errors
/// What is wrong with them, for the operator.
pub fn start(tls: &ServerTls, http2: bool, journal: Arc<Journal>) -> Result<ServerSide, String> {
    let pairs = tls.certificates.iter().flat_map(|CertificateFiles { cert, key }| [cert, key]);
    let clients = tls.clients.iter().map(|clients| &clients.authorities);
    let files = pairs.chain(clients).cloned().collect();
    let tls = tls.clone();
    Watched::start("[server.tls]".into(), files, journal, move || load(&tls, http2))
}

fn load(tls: &ServerTls, http2: bool) -> Result<ServerConfig, String> {
    let certificates = Certificates::load(tls)?;
    let config = ServerConfig::builder_with_provider(provider()).with_protocol_versions(ALL_VERSIONS);
    let config = config.map_err(|error| error.to_string())?;
    let config = match &tls.clients {
        None => config.with_no_client_auth(),
        Some(clients) => {
            let roots = Arc::new(authorities(&clients.authorities)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
            let verifier = if clients.required { verifier } else { verifier.allow_unauthenticated() };
            config.with_client_cert_verifier(verifier.build().map_err(|error| error.to_string())?)
        }
    };
    let mut config = config.with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols =
        if http2 { vec![ALPN_HTTP2.into(), ALPN_HTTP1.into()] } else { vec![ALPN_HTTP1.into()] };
    Ok(config)
}

// === impl Certificates ===

impl Certificates {
    fn load(tls: &ServerTls) -> Result<Certificates, String> {
        let keys = tls.certificates.iter().map(|files| files.load().map(Arc::new));
        let keys: Vec<_> = keys.collect::<Result<_, _>>()?;
        let (mut names, mut wildcards) = (HashMap::new(), HashMap::new());
        for (index, key) in keys.iter().enumerate() {
            let leaf = key.cert.first().and_then(|leaf| EndEntityCert::try_from(leaf).ok());
            for name in leaf.iter().flat_map(|leaf| leaf.valid_dns_names()) {
                let name = name.to_ascii_lowercase();
                let (map, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut wildcards, parent),
                    None => (&mut names, &*name),
                };
                map.entry(name.into()).or_insert_with(Vec::new).push(index);
            }
        }
        Ok(Certificates { keys, names, wildcards })
    }

    /// Those that bear `name`, the exact ones first.
    fn bearing(&self, name: &str) -> impl Iterator<Item = usize> {
        let name = name.to_ascii_lowercase();
        let exact = self.names.get(&*name);
        // A star stands for one label.
        let parent = name.split_once('.').and_then(|(_, parent)| self.wildcards.get(parent));
        exact.into_iter().chain(parent).flatten().copied()
    }
}

impl ResolvesServerCert for Certificates {
    /// The first certificate that bears the name and that the client can check; otherwise the first that it can check: a
    /// client that asks for nobody we know finds out by the name in it.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = hello.signature_schemes();
        let usable = |index: &usize| self.keys[*index].key.choose_scheme(schemes).is_some();
        let named = hello.server_name().and_then(|name| self.bearing(name).find(usable));
        let index = named.or_else(|| (0..self.keys.len()).find(usable))?;
        Some(self.keys[index].clone())
    }
}
