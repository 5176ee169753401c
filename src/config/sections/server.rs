//! `[server]`, `[admin]` and `[log]`: the process itself.

use crate::config::model::{Admin, Flood, ForwardedStyle, Log, LogFormat, Server};
use crate::config::read::Reader;
use crate::config::sections::tls;
use crate::config::table::{Table, Word};
use crate::config::values::{self, Read, Wrong, quote};
use crate::domain::framing::is_framing;

impl Word for ForwardedStyle {
    const WORDS: &'static [(&'static str, ForwardedStyle)] = &[
        ("x-forwarded", ForwardedStyle::XForwarded),
        ("forwarded", ForwardedStyle::Forwarded),
        ("both", ForwardedStyle::Both),
        ("off", ForwardedStyle::Off),
    ];
}

impl Word for LogFormat {
    const WORDS: &'static [(&'static str, LogFormat)] =
        &[("auto", LogFormat::Auto), ("pretty", LogFormat::Pretty), ("json", LogFormat::Json)];
}

impl Word for tracing::Level {
    const WORDS: &'static [(&'static str, tracing::Level)] = &[
        ("error", tracing::Level::ERROR),
        ("warn", tracing::Level::WARN),
        ("info", tracing::Level::INFO),
        ("debug", tracing::Level::DEBUG),
        ("trace", tracing::Level::TRACE),
    ];
}

/// `[server]`
pub(super) fn read(reader: &Reader<'_>, table: &Table<'_>) -> Server {
    let help = "write an address, as in \"127.0.0.1:8080\"";
    let listen = table.some("listen", false, help, values::address);
    let workers = usize::try_from(table.count("workers")).unwrap_or_default();
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Server {
        listen,
        workers: if workers == 0 { cores() } else { workers },
        lame_duck: table.duration("lame_duck"),
        drain: table.duration("drain"),
        body_limit: table.size("body_limit"),
        body_memory: table.size("body_memory"),
        header_timeout: table.duration("header_timeout"),
        idle: table.duration("idle"),
        body_timeout: table.duration("body_timeout"),
        body_rate: table.size("body_rate"),
        write_timeout: table.duration("write_timeout"),
        target_limit: usize::try_from(table.size("target_limit")).unwrap_or(usize::MAX),
        head_limit: usize::try_from(table.size("head_limit")).unwrap_or(usize::MAX),
        headers_max: usize::try_from(table.count("headers_max")).unwrap_or(usize::MAX),
        connections_max: usize::try_from(table.count("connections_max")).unwrap_or(usize::MAX),
        connections_per_address: usize::try_from(table.count("connections_per_address"))
            .unwrap_or(usize::MAX),
        upgrades_max: usize::try_from(table.count("upgrades_max")).unwrap_or(usize::MAX),
        upgrade_idle: table.duration("upgrade_idle"),
        flood: table.has("flood").then(|| read_flood(&table.table("flood"))),
        forwarded: table.word("forwarded"),
        via: table.switch("via"),
        request_id_header: table.parsed_or_default("request_id_header", header_name),
        http2: table.switch("http2"),
        proxy_protocol: table.switch("proxy_protocol"),
        tls: table.has("tls").then(|| tls::server(reader, &table.table("tls"))),
    }
}

/// `[server.flood]`
fn read_flood(table: &Table<'_>) -> Flood {
    table.require("requests_per_second", "add requests_per_second = 50");
    table.require("burst", "add burst = 100");
    let count = |name| u32::try_from(table.count_set(name).unwrap_or(1)).unwrap_or(u32::MAX);
    Flood { requests_per_second: count("requests_per_second"), burst: count("burst") }
}

/// `[admin]`
pub(super) fn read_admin(table: &Table<'_>) -> Admin {
    let token = table.secret("token");
    // What a header cannot bring as it is written would lock everybody out.
    let can_come = |text: &str| text.trim() == text && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if token.as_ref().is_some_and(|token| !can_come(token.expose())) {
        let wrong = Wrong::new("`token` has a blank at an end, a line break or a letter beyond ASCII");
        let help = "no request can bring such a token; `openssl rand -hex 32` makes a good one";
        table.error("token", wrong.help(help));
    }
    Admin { listen: table.parsed_or_default("listen", values::address), token }
}

/// `[log]`
pub(super) fn read_log(table: &Table<'_>) -> Log {
    Log { level: table.word("level"), format: table.word("format"), access: table.switch("access") }
}

/// The gateway writes the header into every request and every answer, so it must be none that says where a message ends.
fn header_name(text: &str) -> Read<http::HeaderName> {
    let wrong = |why| Wrong::new(format!("{} {why}", quote(text))).help("write one such as \"X-Request-Id\"");
    let name = http::HeaderName::from_bytes(text.as_bytes()).map_err(|_| wrong("is not a header's name"))?;
    match name.as_str() {
        framing if is_framing(framing.as_bytes()) => Err(wrong("says where a message ends or who gets it")),
        // The gateway would take out what its clients sent, or write over it.
        "authorization" | "cookie" | "idempotency-key" | "content-type" | "x-api-key" => {
            Err(wrong("says something else already"))
        }
        _ => Ok(name),
    }
}
