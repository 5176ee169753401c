//! `[[upstream]]`: a backend.

use crate::config::certificates::UpstreamTls;
use crate::config::model::{Base, HostPolicy, TargetSpelling, Upstream};
use crate::config::problem::Severity;
use crate::config::read::Reader;
use crate::config::sections::tls;
use crate::config::table::{Table, Word};
use crate::config::values::{self, Wrong, quote};

impl Word for HostPolicy {
    const WORDS: &'static [(&'static str, HostPolicy)] =
        &[("preserve", HostPolicy::Preserve), ("rewrite", HostPolicy::Rewrite)];
}

impl Word for TargetSpelling {
    const WORDS: &'static [(&'static str, TargetSpelling)] =
        &[("normal", TargetSpelling::Normal), ("original", TargetSpelling::Original)];
}

/// Servers of one upstream: the gateway keeps a bit for each while it looks for one that can be reached.
const URLS_MOST: usize = 64;

/// One `[[upstream]]`.
pub(super) fn read(reader: &Reader<'_>, table: &Table<'_>) -> Upstream {
    table.require("name", "add name = \"scheduler\"");
    table.require("url", "add url = \"http://127.0.0.1:8000\"");
    let help = "write \"http://127.0.0.1:8000\", or a list of such";
    let urls = table.some("url", false, help, values::base);
    check_urls(reader, table, &urls);
    Upstream {
        name: table.parsed("name", values::name).unwrap_or_default().into(),
        timeout: table.duration("timeout"),
        connect_timeout: table.duration("connect_timeout"),
        pause: table.duration("pause"),
        idle: table.duration("idle"),
        stall: table.duration("stall"),
        total: table.duration_set("total"),
        max_in_flight: usize::try_from(table.count("max_in_flight")).unwrap_or(usize::MAX),
        queue: usize::try_from(table.count("queue")).unwrap_or(usize::MAX),
        queue_wait: table.duration("queue_wait"),
        adaptive: table.switch("adaptive"),
        host: table.word("host"),
        target: table.word("target"),
        bare_lf: table.switch("bare_lf"),
        http2: table.switch("http2"),
        tls: read_tls(reader, table, &urls),
        urls,
    }
}

fn read_tls(reader: &Reader<'_>, table: &Table<'_>, urls: &[Base]) -> UpstreamTls {
    if table.has("tls") && !urls.is_empty() && !urls.iter().any(|base| base.secure) {
        let wrong = Wrong::new("[upstream.tls] and no `url` with https: nothing would be encrypted");
        table.error("tls", wrong.help("write https:// in `url`, or take it out"));
    }
    tls::upstream(reader, &table.table("tls"))
}

fn check_urls(reader: &Reader<'_>, table: &Table<'_>, urls: &[Base]) {
    let path = table.path_of("url");
    if urls.len() > URLS_MOST {
        let wrong = Wrong::new(format!("`url` names {} servers; {URLS_MOST} is the most", urls.len()));
        table.error("url", wrong.help("put a load balancer in front of so many"));
    }
    for (at, base) in urls.iter().enumerate() {
        if urls[..at].contains(base) && !reader.failed(&path) {
            let wrong = Wrong::new(format!("{} is there twice", quote(&base.authority)));
            reader.report(Severity::Warning, &format!("{path}[{at}]"), wrong);
        }
    }
}
