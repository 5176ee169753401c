//! `[[route]]` and `[route.idempotency]`: what happens to which request.

use super::race;
use super::reads;
use crate::config::model::{Idempotency, InDoubtRule, KeyRule, Route, Upstream};
use crate::config::sections::slot;
use crate::config::sections::throttle;
use crate::config::table::{Table, Word};
use crate::config::values::{self, Read, Wrong, alternatives, quote, similar};
use crate::domain::canon::GraphqlRule;
use crate::domain::route::Pattern;
use crate::domain::selector::Zone;

impl Word for KeyRule {
    const WORDS: &'static [(&'static str, KeyRule)] = &[
        ("header", KeyRule::Header),
        ("fingerprint", KeyRule::Fingerprint),
        ("header-or-fingerprint", KeyRule::HeaderOrFingerprint),
    ];
}

impl Word for InDoubtRule {
    const WORDS: &'static [(&'static str, InDoubtRule)] = &[
        ("refuse", InDoubtRule::Refuse),
        ("recover", InDoubtRule::Recover),
        ("forward", InDoubtRule::Forward),
    ];
}

impl Word for GraphqlRule {
    const WORDS: &'static [(&'static str, GraphqlRule)] =
        &[("detect", GraphqlRule::Detect), ("off", GraphqlRule::Off)];
}

/// One `[[route]]`. `upstreams` are those of the file, also where they have problems of their own.
pub(super) fn read(table: &Table<'_>, upstreams: &[Upstream], zone: &Zone) -> Route {
    let slots = slot::read(table, zone);
    table.require("name", "add name = \"book\"");
    table.require("match", "add match = \"POST /api/bookings\"");
    table.require("upstream", "add upstream = \"…\" with the name of an [[upstream]]");
    let patterns = table.some("match", false, "write \"POST /api/bookings\", or a list of such", pattern);
    let name = table.parsed("name", values::name).unwrap_or_default();
    Route {
        lane: table.has("lane").then(|| race::lane(&table.table("lane"), &name, zone)),
        retry: table.has("retry").then(|| race::retry(&table.table("retry"))),
        recover: table.has("recover").then(|| race::recover(&table.table("recover"), zone)),
        detect: table.has("detect").then(|| race::detect(&table.table("detect"), &name, zone)).flatten(),
        name: name.into(),
        patterns,
        upstream: table.parsed("upstream", |text| upstream(text, upstreams)).unwrap_or_default(),
        mode: table.word_set("mode"),
        body_limit: table.size_set("body_limit"),
        timeout: table.duration_set("timeout"),
        coalesce: table.switch("coalesce"),
        cache: table.has("cache").then(|| reads::read(&table.table("cache"))),
        upgrade: table.list("upgrade", false, protocol),
        // What takes a slot is claimed, so it is guarded; with the defaults where the file says nothing else.
        idempotency: (table.has("idempotency") || slots.need_a_guard())
            .then(|| idempotency(&table.table("idempotency"))),
        slots,
        throttle: if table.has("throttle") { throttle::read(&table.table("throttle")) } else { None },
        concurrency: if table.has("concurrency") {
            throttle::read_concurrency(&table.table("concurrency"))
        } else {
            None
        },
    }
}

fn idempotency(table: &Table<'_>) -> Idempotency {
    let (remember, remember_fingerprint) =
        (table.duration("remember"), table.duration("remember_fingerprint"));
    Idempotency {
        key: table.word("key"),
        ignore: table.list("ignore", false, values::field_path),
        unordered: table.list("unordered", false, values::field_path),
        remember,
        remember_fingerprint,
        not_executed: values::status_set(table.list("not_executed", true, values::status)),
        wait: table.duration("wait"),
        in_doubt: table.word("in_doubt"),
        // A doubt must not be forgotten before the answer would have been, so without a value it follows.
        in_doubt_for: match table.duration_set("in_doubt_for") {
            Some(kept) => kept,
            None => table.duration("in_doubt_for").max(remember).max(remember_fingerprint),
        },
        on_outage: table.word_set("on_outage"),
        graphql: table.word("graphql"),
    }
}

/// A protocol's name in `Upgrade` (RFC 9110, 7.8).
fn protocol(text: &str) -> Read<String> {
    let name = text.to_ascii_lowercase();
    if name == "h2c" || name.starts_with("http/") {
        return Err(Wrong::new(format!("{} would be HTTP that the gateway does not read", quote(text)))
            .help("take it out: a connection that became HTTP/2 behind its back would bypass every guard"));
    }
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/".contains(&byte);
    if name.is_empty() || !name.bytes().all(letter) {
        return Err(Wrong::new(format!("{} is not a protocol's name", quote(text)))
            .help("write one such as \"websocket\""));
    }
    Ok(name)
}

fn pattern(text: &str) -> Read<Pattern> {
    Pattern::parse(text).map_err(|why| Wrong::new(format!("{} is not a pattern", quote(text))).help(why))
}

fn upstream(text: &str, upstreams: &[Upstream]) -> Read<usize> {
    if let Some(index) = upstreams.iter().position(|upstream| !text.is_empty() && &*upstream.name == text) {
        return Ok(index);
    }
    let names = || upstreams.iter().map(|upstream| &*upstream.name).filter(|name| !name.is_empty());
    let wrong = Wrong::new(format!("there is no upstream {}", quote(text)));
    Err(match similar(text, names()) {
        Some(meant) => wrong.help(format!("did you mean \"{meant}\"?")),
        None if names().next().is_none() => {
            wrong.help(format!("add an [[upstream]] with name = {}", quote(text)))
        }
        None => wrong.help(format!("write {}", alternatives(names()))),
    })
}
