//! TLS towards backends. The backend's certificate is always verified, against the system's authorities or those of `ca`:
//! there is no switch that turns it off. A handshake that fails is known not to have executed anything.

use super::health::Upstream;
use crate::config::{self, CertificateFiles, authorities};
use crate::gateway::socket::Socket;
use crate::gateway::tls::{ALPN_HTTP2, Watched, provider};
use crate::journal::Journal;
use rustls::pki_types::ServerName;
use rustls::{ALL_VERSIONS, ClientConfig, RootCertStore};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, TlsStream};

/// Who the backend has to be, and who the gateway is to it.
pub type ClientTls = Watched<ClientConfig>;

/// Reads what an upstream with `https` needs; `None` where it has none.
///
/// # Errors
/// What is wrong with the files, for the operator.
pub fn start(upstream: &config::Upstream, journal: &Arc<Journal>) -> Result<Option<ClientTls>, String> {
    if !upstream.urls.iter().any(|base| base.secure) {
        return Ok(None);
    }
    let (tls, http2) = (upstream.tls.clone(), upstream.http2);
    let pair = tls.certificate.iter().flat_map(|CertificateFiles { cert, key }| [cert, key]);
    let files = pair.chain(&tls.authorities).cloned().collect();
    let whose = format!("[upstream.tls] of {}", upstream.name);
    Watched::start(whose, files, journal.clone(), move || load(&tls, http2)).map(Some)
}

fn load(tls: &config::UpstreamTls, http2: bool) -> Result<ClientConfig, String> {
    let roots = match &tls.authorities {
        Some(file) => authorities(file)?,
        None => system_authorities()?,
    };
    let config = ClientConfig::builder_with_provider(provider()).with_protocol_versions(ALL_VERSIONS);
    let config = config.map_err(|error| error.to_string())?.with_root_certificates(roots);
    let mut config = match &tls.certificate {
        None => config.with_no_client_auth(),
        Some(files) => {
            let key = Arc::new(files.load()?);
            config.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)))
        }
    };
    if http2 {
        config.alpn_protocols = vec![ALPN_HTTP2.into()];
    }
    Ok(config)
}

/// Whether this machine trusts any authority, where backends of `config` are to be verified by those; if not, why that matters.
pub fn check_authorities(config: &config::Config) -> Result<(), String> {
    let by_system = |upstream: &&config::Upstream| {
        upstream.tls.authorities.is_none() && upstream.urls.iter().any(|base| base.secure)
    };
    let Some(upstream) = config.upstreams.iter().find(by_system) else { return Ok(()) };
    let told = |why| format!("upstream \"{}\" cannot be verified from here: {why}", upstream.name);
    system_authorities().map(drop).map_err(told)
}

/// Those that this machine trusts: an operator who installs an authority for everything installs it for the gateway, and
/// nobody has to release one because another was withdrawn.
fn system_authorities() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map_or_else(String::new, |error| format!(" ({error})"));
        return Err(format!(
            "this system has no certificate authorities{why}: install the package ca-certificates, or name a file with `ca`"
        ));
    }
    Ok(roots)
}

/// The handshake with `server`; what goes wrong is told as a sentence.
pub async fn handshake(upstream: &Upstream, server: usize, stream: TcpStream) -> Result<Socket, String> {
    let base = &upstream.config.urls[server];
    let Some(tls) = upstream.tls.as_ref().filter(|_| base.secure) else { return Ok(Socket::Plain(stream)) };
    let name = upstream.config.tls.server_name.as_ref().unwrap_or(&base.host).clone();
    let named = ServerName::try_from(name).map_err(|error| format!("{}: {error}", base.authority))?;
    let connector = TlsConnector::from(tls.get());
    let failed = |error| format!("the TLS handshake with {} failed: {error}", base.authority);
    let stream = connector.connect(named, stream).await.map_err(failed)?;
    if upstream.config.http2 && stream.get_ref().1.alpn_protocol() != Some(ALPN_HTTP2) {
        return Err(format!("{} does not speak HTTP/2, which `http2 = true` wants of it", base.authority));
    }
    Ok(Socket::Tls(Box::new(TlsStream::Client(stream))))
}
