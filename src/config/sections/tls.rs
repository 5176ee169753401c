//! `[server.tls]` and `[upstream.tls]`: which files, and whether they can be used.

use crate::config::certificates::{
    CertificateFiles, ClientCertificates, ServerTls, UpstreamTls, authorities,
};
use crate::config::problem::Severity;
use crate::config::read::Reader;
use crate::config::table::{Table, Word};
use crate::config::values::{Read, Wrong, quote};
use rustls::pki_types::ServerName;
use std::path::PathBuf;

/// More certificates than this are a file gone wrong; every one is read at each reload.
const CERTIFICATES_MOST: usize = 1024;

/// `client_auth`
#[derive(Clone, Copy)]
enum ClientAuth {
    Required,
    Optional,
}

impl Word for ClientAuth {
    const WORDS: &'static [(&'static str, ClientAuth)] =
        &[("required", ClientAuth::Required), ("optional", ClientAuth::Optional)];
}

/// `[server.tls]`
pub(super) fn server(reader: &Reader<'_>, table: &Table<'_>) -> ServerTls {
    let more = table.tables("certificate");
    if more.len() > CERTIFICATES_MOST {
        let wrong =
            Wrong::new(format!("there are {} certificates; {CERTIFICATES_MOST} is the most", more.len()));
        table.error("certificate", wrong);
    }
    if more.is_empty() && !table.has("key") {
        table.require("cert", "add cert = \"cert.pem\" and key = \"key.pem\"");
    }
    let own = pair(reader, table, "[server.tls]");
    let rest = more.iter().filter_map(|table| {
        if !table.has("key") {
            table.require("cert", "add cert = \"cert.pem\" and key = \"key.pem\"");
        }
        pair(reader, table, "[[server.tls.certificate]]")
    });
    let certificates: Vec<_> = own.into_iter().chain(rest).collect();
    let required = matches!(table.word::<ClientAuth>("client_auth"), ClientAuth::Required);
    if table.has("client_auth") && !table.has("client_ca") {
        let wrong = Wrong::new("`client_auth` without `client_ca`: no certificate would prove anything");
        table.error("client_auth", wrong.help("add client_ca = \"client-ca.pem\""));
    }
    let clients = authorities_of(reader, table, "client_ca")
        .map(|authorities| ClientCertificates { authorities, required });
    ServerTls { certificates, clients }
}

/// `[upstream.tls]`
pub(super) fn upstream(reader: &Reader<'_>, table: &Table<'_>) -> UpstreamTls {
    UpstreamTls {
        authorities: authorities_of(reader, table, "ca"),
        certificate: pair(reader, table, "[upstream.tls]"),
        server_name: table.parsed("server_name", server_name),
    }
}

/// `cert` and `key` of a table, read once to make sure of them.
fn pair(reader: &Reader<'_>, table: &Table<'_>, header: &str) -> Option<CertificateFiles> {
    for (one, other) in [("cert", "key"), ("key", "cert")] {
        if table.has(one) && !table.has(other) {
            let wrong = Wrong::new(format!("{header} has `{one}` and no `{other}`"));
            table.error(one, wrong.help(format!("add {other} = \"…\"")));
        }
    }
    let (cert, key) = (path(reader, table, "cert"), path(reader, table, "key"));
    let files = CertificateFiles { cert: cert?, key: key? };
    if let Err(why) = files.load() {
        let at_key = why.contains(&*files.key.to_string_lossy()) && files.key != files.cert;
        table.error(if at_key { "key" } else { "cert" }, unusable(why));
    }
    Some(files)
}

fn authorities_of(reader: &Reader<'_>, table: &Table<'_>, name: &str) -> Option<PathBuf> {
    let path = path(reader, table, name)?;
    if let Err(why) = authorities(&path) {
        table.error(name, unusable(why));
    }
    Some(path)
}

fn unusable(why: String) -> Wrong {
    Wrong::new(why).help("PEM files are read; relative paths start from the configuration's own directory")
}

fn path(reader: &Reader<'_>, table: &Table<'_>, name: &str) -> Option<PathBuf> {
    let text = table.text(name)?;
    if text.value.is_empty() {
        reader.report(Severity::Error, &text.path, Wrong::new(format!("`{name}` is empty")));
        return None;
    }
    Some(reader.dir.join(text.value))
}

fn server_name(text: &str) -> Read<String> {
    match ServerName::try_from(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(Wrong::new(format!("{} is not a server's name", quote(text)))
            .help("write a host name or an address, as in \"backend.internal\"")),
    }
}
