//! Every key of config.toml, in one place: its kind, default and range. The reader looks each key up here, docs/config.md
//! is tested against it, and what is not listed is an unknown key.

/// One key of the file.
#[derive(Debug)]
pub(super) struct Key {
    /// The table's path without indexes: empty for the top level, `route.idempotency`.
    pub table: &'static str,
    /// The key itself.
    pub name: &'static str,
    /// What its value is.
    pub kind: Kind,
    /// The value that applies without it, as it would be written. `None`: required, or there is none.
    pub default: Option<&'static str>,
}

/// What a key's value is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// A duration such as `"10s"`, within a range.
    Duration(&'static str, &'static str),
    /// A number of bytes, plain or such as `"1MiB"`, within a range.
    Size(&'static str, &'static str),
    /// A whole number within a range.
    Count(u64, u64),
    /// `true` or `false`.
    Switch,
    /// One of several words.
    Choice(&'static [&'static str]),
    /// A string with its own grammar.
    Text,
    /// One string or several, each with its own grammar.
    Texts,
    /// A string that is never printed, or `{ file = "…" }`.
    Secret,
    /// A table of its own.
    Table,
    /// An array of tables.
    Tables,
    /// Part of the contract, and refused until it is built: what it will be.
    Later(&'static str),
}

use Kind::{Choice, Count, Duration, Later, Secret, Size, Switch, Table, Tables, Text, Texts};

const fn key(table: &'static str, name: &'static str, kind: Kind) -> Key {
    Key { table, name, kind, default: None }
}

const fn with(table: &'static str, name: &'static str, kind: Kind, default: &'static str) -> Key {
    Key { table, name, kind, default: Some(default) }
}

/// Durations that end an exchange; a whole day is more than any backend takes.
const DEADLINE: Kind = Duration("1ms", "24h");
/// Durations for which a record is kept.
const KEPT: Kind = Duration("1ms", "3650d");

/// The list, in the order of the documentation.
pub(super) const KEYS: &[Key] = &[
    with("", "mode", Choice(&["enforce", "observe"]), "enforce"),
    with("", "time_zone", Text, "UTC"),
    key("", "server", Table),
    key("", "admin", Table),
    key("", "log", Table),
    key("", "store", Table),
    key("", "clients", Table),
    key("", "cache", Table),
    key("", "upstream", Tables),
    key("", "route", Tables),
    key("", "audit", Later("a database of what happened")),
    key("", "alert", Later("messages when something piles up")),
    key("", "report", Later("reports on a schedule")),
    key("", "smtp", Later("mail for alerts and reports")),
    // [server]
    with("server", "listen", Texts, "127.0.0.1:8080"),
    with("server", "workers", Count(0, 1024), "0"),
    with("server", "lame_duck", Duration("0s", "1h"), "5s"),
    with("server", "drain", Duration("0s", "24h"), "20s"),
    with("server", "body_limit", Size("1B", "4GiB"), "1MiB"),
    with("server", "body_memory", Size("1MiB", "64GiB"), "256MiB"),
    with("server", "header_timeout", Duration("10ms", "1h"), "10s"),
    with("server", "idle", Duration("1s", "24h"), "75s"),
    with("server", "body_timeout", Duration("10ms", "24h"), "30s"),
    with("server", "body_rate", Size("0B", "1GiB"), "240B"),
    with("server", "write_timeout", Duration("100ms", "1h"), "10s"),
    with("server", "target_limit", Size("64B", "64KiB"), "16KiB"),
    with("server", "head_limit", Size("1KiB", "256KiB"), "64KiB"),
    with("server", "headers_max", Count(8, 1000), "100"),
    with("server", "connections_max", Count(1, 1_000_000), "20000"),
    with("server", "connections_per_address", Count(0, 1_000_000), "0"),
    with("server", "upgrades_max", Count(0, 1_000_000), "10000"),
    with("server", "upgrade_idle", Duration("1s", "24h"), "10m"),
    with("server", "forwarded", Choice(&["x-forwarded", "forwarded", "both", "off"]), "x-forwarded"),
    with("server", "via", Switch, "true"),
    with("server", "request_id_header", Text, "X-Request-Id"),
    with("server", "http2", Switch, "true"),
    with("server", "proxy_protocol", Switch, "true"),
    key("server", "tls", Table),
    key("server", "flood", Table),
    // [server.tls]
    key("server.tls", "cert", Text),
    key("server.tls", "key", Text),
    key("server.tls", "certificate", Tables),
    key("server.tls", "client_ca", Text),
    with("server.tls", "client_auth", Choice(&["required", "optional"]), "required"),
    // [[server.tls.certificate]]
    key("server.tls.certificate", "cert", Text),
    key("server.tls.certificate", "key", Text),
    // [server.flood]
    key("server.flood", "requests_per_second", Count(1, 1_000_000)),
    key("server.flood", "burst", Count(1, 1_000_000)),
    // [admin]
    with("admin", "listen", Text, "127.0.0.1:9090"),
    key("admin", "token", Secret),
    // [log]
    with("log", "level", Choice(&["error", "warn", "info", "debug", "trace"]), "info"),
    with("log", "format", Choice(&["auto", "pretty", "json"]), "auto"),
    with("log", "access", Switch, "true"),
    // [store]
    with("store", "url", Text, "file:./oncegate-data"),
    with("store", "on_outage", Choice(&["refuse", "forward"]), "refuse"),
    key("store", "secret", Secret),
    with("store", "lease", Duration("1s", "1h"), "30s"),
    with("store", "answer_limit", Size("0B", "1GiB"), "1MiB"),
    with("store", "memory", Size("1MiB", "1024GiB"), "64MiB"),
    with("store", "records_max", Count(1, 1_000_000_000), "2000000"),
    with("store", "records_per_scope", Count(1, 1_000_000_000), "10000"),
    key("store", "wait_replicas", Count(0, 16)),
    with("store", "prefix", Text, "oncegate"),
    with("store", "timeout", Duration("10ms", "1m"), "1s"),
    with("store", "limit_timeout", Duration("1ms", "10s"), "50ms"),
    key("store", "password", Secret),
    with("store", "tls", Switch, "false"),
    key("store", "ca", Text),
    with("store", "state", Text, "oncegate-state"),
    // [clients]
    with("clients", "trusted_proxies", Texts, "[]"),
    with("clients", "identify_by", Texts, "[\"ip\"]"),
    with("clients", "scope_by", Texts, "[]"),
    with("clients", "umbrella", Count(1, 1_000_000), "50"),
    with("clients", "limit_memory", Size("1MiB", "64GiB"), "80MiB"),
    with("clients", "held_max", Count(0, 1_000_000), "2000"),
    with("clients", "held_per_client", Count(0, 1_000_000), "16"),
    with("clients", "poll_storm", Text, "60/min"),
    key("clients", "jwt", Table),
    // [clients.jwt]
    key("clients.jwt", "jwks", Text),
    key("clients.jwt", "secret", Secret),
    key("clients.jwt", "issuer", Text),
    key("clients.jwt", "audience", Text),
    // [cache]
    with("cache", "memory", Size("1MiB", "1024GiB"), "64MiB"),
    with("cache", "answer_limit", Size("0B", "1GiB"), "1MiB"),
    // [[upstream]]
    key("upstream", "name", Text),
    key("upstream", "url", Texts),
    with("upstream", "timeout", DEADLINE, "20s"),
    with("upstream", "connect_timeout", DEADLINE, "2s"),
    with("upstream", "pause", Duration("100ms", "24h"), "5s"),
    with("upstream", "idle", Duration("0s", "1h"), "4s"),
    with("upstream", "stall", DEADLINE, "60s"),
    key("upstream", "total", DEADLINE),
    with("upstream", "max_in_flight", Count(1, 1_000_000), "256"),
    with("upstream", "queue", Count(0, 1_000_000), "0"),
    with("upstream", "queue_wait", Duration("1ms", "1h"), "1s"),
    with("upstream", "adaptive", Switch, "false"),
    with("upstream", "host", Choice(&["preserve", "rewrite"]), "preserve"),
    with("upstream", "target", Choice(&["normal", "original"]), "normal"),
    with("upstream", "bare_lf", Switch, "false"),
    with("upstream", "http2", Switch, "false"),
    key("upstream", "tls", Table),
    // [upstream.tls]
    key("upstream.tls", "ca", Text),
    key("upstream.tls", "cert", Text),
    key("upstream.tls", "key", Text),
    key("upstream.tls", "server_name", Text),
    // [[route]]
    key("route", "name", Text),
    key("route", "match", Texts),
    key("route", "upstream", Text),
    key("route", "mode", Choice(&["enforce", "observe"])),
    key("route", "body_limit", Size("1B", "4GiB")),
    key("route", "timeout", DEADLINE),
    with("route", "upgrade", Texts, "[\"websocket\"]"),
    key("route", "idempotency", Table),
    key("route", "slot", Tables),
    key("route", "lane", Table),
    key("route", "retry", Table),
    key("route", "recover", Table),
    key("route", "detect", Table),
    key("route", "release", Tables),
    with("route", "release_on_redirect", Switch, "false"),
    key("route", "ask", Table),
    with("route", "coalesce", Switch, "false"),
    key("route", "cache", Table),
    key("route", "throttle", Table),
    key("route", "concurrency", Table),
    // [[route.slot]]
    key("route.slot", "name", Text),
    key("route.slot", "by", Texts),
    with("route.slot", "capacity", Count(1, 10_000), "1"),
    key("route.slot", "hold", Text),
    with("route.slot", "missing", Choice(&["refuse", "skip"]), "refuse"),
    key("route.slot", "id", Text),
    with("route.slot", "readable", Switch, "true"),
    key("route.slot", "recover", Table),
    // [route.slot.recover]
    key("route.slot.recover", "get", Text),
    key("route.slot.recover", "found", Text),
    key("route.slot.recover", "gone", Table),
    with("route.slot.recover", "attempts", Count(1, 20), "3"),
    with("route.slot.recover", "apart", Duration("1ms", "1m"), "500ms"),
    // [[route.release]]
    key("route.release", "slot", Text),
    key("route.release", "id", Text),
    key("route.release", "when", Table),
    // [route.ask]
    key("route.ask", "slot", Text),
    key("route.ask", "by", Texts),
    // [route.cache]
    with("route.cache", "ttl", Duration("0s", "3650d"), "0s"),
    with("route.cache", "override", Switch, "false"),
    with("route.cache", "stale_if_error", Duration("0s", "3650d"), "0s"),
    with("route.cache", "stale_while_revalidate", Duration("0s", "3650d"), "0s"),
    with("route.cache", "stale_if_throttled", Duration("0s", "3650d"), "0s"),
    with("route.cache", "share", Choice(&["scope", "everyone"]), "scope"),
    with("route.cache", "key", Choice(&["headers", "vary"]), "headers"),
    // [route.idempotency]
    with(
        "route.idempotency",
        "key",
        Choice(&["header", "fingerprint", "header-or-fingerprint"]),
        "header-or-fingerprint",
    ),
    with("route.idempotency", "ignore", Texts, "[]"),
    with("route.idempotency", "unordered", Texts, "[]"),
    with("route.idempotency", "remember", KEPT, "24h"),
    with("route.idempotency", "remember_fingerprint", Duration("0s", "3650d"), "10s"),
    with("route.idempotency", "not_executed", Texts, "[\"4xx\"]"),
    with("route.idempotency", "wait", Duration("0s", "1h"), "15s"),
    with("route.idempotency", "in_doubt", Choice(&["refuse", "recover", "forward"]), "refuse"),
    with("route.idempotency", "in_doubt_for", KEPT, "24h"),
    key("route.idempotency", "on_outage", Choice(&["refuse", "forward"])),
    with("route.idempotency", "graphql", Choice(&["detect", "off"]), "detect"),
    // [route.throttle]
    key("route.throttle", "limits", Texts),
    with("route.throttle", "per", Choice(&["client", "client+resource", "route"]), "client"),
    with("route.throttle", "over", Choice(&["hold", "reject"]), "hold"),
    with("route.throttle", "hold_at_most", Duration("1ms", "10m"), "8s"),
    key("route.throttle", "hard", Text),
    with("route.throttle", "cost", Count(1, 1_000_000), "1"),
    key("route.throttle", "bucket", Text),
    with("route.throttle", "allow", Texts, "[]"),
    with("route.throttle", "storm", Count(2, 1_000_000), "10"),
    with("route.throttle", "x_ratelimit", Switch, "false"),
    // [route.concurrency]
    key("route.concurrency", "per_client", Count(1, 1_000_000)),
    with("route.concurrency", "queue", Count(0, 1_000_000), "16"),
    with("route.concurrency", "wait", Duration("1ms", "1h"), "5s"),
    // [route.lane]
    key("route.lane", "by", Texts),
    key("route.lane", "name", Text),
    with("route.lane", "queue", Count(1, 10_000), "100"),
    with("route.lane", "wait", Duration("1ms", "1h"), "10s"),
    // [route.retry]
    key("route.retry", "status", Texts),
    key("route.retry", "body", Text),
    with("route.retry", "backoff", Texts, "[\"100ms\", \"200ms\", \"400ms\"]"),
    // [route.recover]
    key("route.recover", "get", Text),
    key("route.recover", "found", Text),
    with("route.recover", "attempts", Count(1, 20), "3"),
    with("route.recover", "apart", Duration("1ms", "1m"), "500ms"),
    with("route.recover", "status", Texts, "[\"409\"]"),
    key("route.recover", "body", Text),
    with("route.recover", "absent", Choice(&["keep", "free"]), "keep"),
    // [route.detect]
    key("route.detect", "unique", Text),
    key("route.detect", "name", Text),
    with("route.detect", "within", Texts, "[]"),
    with("route.detect", "window", Duration("1s", "366d"), "24h"),
];

/// The key of that name in a table.
pub(super) fn find(table: &str, name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.table == table && key.name == name)
}

/// The names that a table knows and that are built.
pub(super) fn names(table: &str) -> impl Iterator<Item = &'static str> {
    KEYS.iter().filter(move |key| key.table == table && !matches!(key.kind, Later(_))).map(|key| key.name)
}

/// How a table is written in the file: `[server]`, `[[route]]`, "the file".
pub(super) fn header(table: &str) -> String {
    match KEYS.iter().find(|key| key.table.is_empty() && key.name == table) {
        _ if table.is_empty() => "the file".into(),
        Some(Key { kind: Tables, .. }) => format!("[[{table}]]"),
        _ => format!("[{table}]"),
    }
}
