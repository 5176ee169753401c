//! The grammars of single values: durations, sizes, addresses, URLs, identities, status sets. Each reads a text or says
//! what is wrong with it and what to write.

use crate::config::mask::mask_passwords;
use crate::config::model::{Base, StatusSet, StoreUrl};
use crate::config::redis_url::redis_url;
use crate::domain::canon::JsonPath;
use crate::domain::client::Identity;
use crate::domain::selector::{Selector, Zone};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// Why a value is not acceptable.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// What is wrong with it.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

/// A value that has been read, or why not.
pub(super) type Read<T> = Result<T, Wrong>;

// === impl Wrong ===

impl Wrong {
    /// A problem without advice.
    pub fn new(message: impl Into<String>) -> Wrong {
        Wrong { message: message.into(), help: None }
    }

    /// The same, with what to write instead.
    pub fn help(self, help: impl Into<String>) -> Wrong {
        Wrong { help: Some(help.into()), ..self }
    }
}

/// A value as a message may show it: quoted, short, and without a URL's password.
pub(super) fn quote(text: &str) -> String {
    let shown = mask_passwords(text);
    let short: String = shown.chars().take(80).collect();
    let more = if short.len() < shown.len() { "…" } else { "" };
    format!("\"{}{more}\"", short.escape_debug())
}

/// The candidate that `text` was probably meant to be.
pub(super) fn similar<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = text.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        // A third of the letters may differ: "routes" for "route", "remeber" for "remember", but not "log" for "lane".
        .filter(|(distance, candidate)| *distance <= 1.max(candidate.len().max(text.len()) / 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `"a", "b" or "c"`.
pub(super) fn alternatives<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    joined(words, "or")
}

/// `"a", "b" and "c"`.
pub(super) fn all_of<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    joined(words, "and")
}

fn joined<'a>(words: impl IntoIterator<Item = &'a str>, last_by: &str) -> String {
    let words: Vec<_> = words.into_iter().map(|word| format!("\"{word}\"")).collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} {last_by} {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

// === durations and sizes ===

const MILLIS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// `"100ms"`, `"10s"`, `"15m"`, `"24h"`, `"90d"`.
pub(super) fn duration(text: &str) -> Read<Duration> {
    let (digits, unit) = split_number(text);
    let wrong = || Wrong::new(format!("{} is not a duration", quote(text)));
    if digits.is_empty() {
        return Err(wrong().help("write a whole number and a unit (ms, s, m, h or d), as in \"10s\""));
    }
    if unit.is_empty() {
        return Err(wrong()
            .help(format!("a duration needs its unit: \"{digits}s\", \"{digits}ms\", \"{digits}m\" …")));
    }
    let Some((_, millis)) = MILLIS.iter().find(|(name, _)| *name == unit) else {
        return Err(wrong().help("write a whole number and one unit of ms, s, m, h and d, as in \"90s\""));
    };
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(*millis));
    number.map(Duration::from_millis).ok_or_else(|| wrong().help("this is more than can be counted"))
}

/// A duration as it would be written in the file.
pub fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".into();
    }
    let fits = |factor: u64| millis.is_multiple_of(factor);
    let (unit, factor) = MILLIS.iter().rev().find(|(_, factor)| fits(*factor)).copied().unwrap_or(("ms", 1));
    // "24h" and "90s" say more at a glance than "1d" and "1m 30s".
    if (unit, millis / factor) == ("d", 1) {
        return "24h".into();
    }
    format!("{}{unit}", millis / factor)
}

const BYTES: [(&str, u64); 7] = [
    ("b", 1),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
];

/// `"1MiB"`, `"512KiB"`, `"64MB"`, `"100B"`, `"4096"`.
pub(super) fn size(text: &str) -> Read<u64> {
    let (digits, unit) = split_number(text);
    let unit = if unit.is_empty() { "b".into() } else { unit.trim_start().to_ascii_lowercase() };
    let factor = BYTES.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let bytes = factor.and_then(|factor| digits.parse::<u64>().ok()?.checked_mul(factor));
    bytes.ok_or_else(|| {
        Wrong::new(format!("{} is not a size", quote(text))).help(
            "write a whole number of bytes, or one with B, KB, MB, GB, KiB, MiB or GiB, as in \"512KiB\"",
        )
    })
}

/// A size as it would be written in the file.
pub fn show_size(bytes: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, factor)| bytes != 0 && bytes.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", bytes / factor),
        None => format!("{bytes}B"),
    }
}

fn split_number(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

// === addresses ===

/// `127.0.0.1:8080`, `[::1]:8080`.
pub(super) fn address(text: &str) -> Read<SocketAddr> {
    text.parse().map_err(|_| {
        let wrong = Wrong::new(format!("{} is not an address to listen on", quote(text)));
        let port = text.rsplit(':').next().filter(|port| port.parse::<u16>().is_ok());
        match (text.split_once(':'), port) {
            (Some(("localhost", _)), Some(port)) => wrong.help(format!("write \"127.0.0.1:{port}\"")),
            (Some(("" | "*", _)) | None, Some(port)) => wrong.help(format!(
                "write \"0.0.0.0:{port}\" for every interface, \"127.0.0.1:{port}\" for this machine"
            )),
            _ => wrong.help("write an IP address and a port, as in \"127.0.0.1:8080\" or \"[::1]:8080\""),
        }
    })
}

/// `http://host[:port][/prefix]`, or the same with `https`.
pub(super) fn base(text: &str) -> Read<Base> {
    let wrong = |why: &str| Wrong::new(format!("{} is not a base URL: {why}", quote(text)));
    let example = "write \"http://host:port\", with a path prefix if the backend lives under one";
    let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("it has no scheme").help(example))?;
    let secure = match scheme.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        _ => return Err(wrong("the scheme has to be http or https").help(example)),
    };
    let own_port = if secure { 443 } else { 80 };
    if rest.contains(['?', '#']) {
        return Err(wrong("a base has no query and no fragment").help(example));
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err(wrong("it holds credentials").help("let clients send their own; oncegate adds none"));
    }
    let (host, port) =
        host_and_port(authority, own_port).ok_or_else(|| wrong("host or port is malformed").help(example))?;
    let prefix = path.trim_end_matches('/');
    let plain = |b: u8| b.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&b);
    if !prefix.bytes().all(plain)
        || prefix.contains("//")
        || prefix.split('/').any(|part| part == "." || part == "..")
    {
        return Err(wrong("its path is not in normal form")
            .help("write it without `//`, `..` and with %XX for the rest"));
    }
    let bracketed = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let authority = if port == own_port { bracketed } else { format!("{bracketed}:{port}") };
    Ok(Base { secure, host, port, authority, prefix: prefix.into() })
}

/// A host, without brackets, and a port: `own_port` where none is written.
pub(super) fn host_and_port(authority: &str, own_port: u16) -> Option<(String, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            let host = host.parse::<std::net::Ipv6Addr>().ok()?.to_string();
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => {
            let (host, port) = match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            };
            let named = !host.is_empty()
                && host.len() <= 253
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
            (named.then(|| host.to_ascii_lowercase())?, port)
        }
    };
    let port = match port {
        None => own_port,
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => {
            port.parse().ok().filter(|&port: &u16| port > 0)?
        }
        Some(_) => return None,
    };
    Some((host, port))
}

/// `memory:`, `file:DIR` or a shared store; DIR is relative to the configuration's own directory, so that a start from elsewhere does
/// not find an empty store and execute everything again.
pub(super) fn store_url(text: &str, dir: &Path) -> Read<StoreUrl> {
    const BUILT: &str = "write \"memory:\", \"file:DIR\" or \"redis://host:6379/0\"";
    let wrong = |why: &str| Wrong::new(format!("{} is not a store: {why}", quote(text))).help(BUILT);
    let (scheme, rest) =
        text.split_once(':').ok_or_else(|| match similar(text, ["memory", "file", "redis"]) {
            Some("memory") => wrong("it has no colon").help("did you mean \"memory:\"?"),
            _ => wrong("it has no scheme"),
        })?;
    match scheme {
        "memory" if rest.is_empty() => Ok(StoreUrl::Memory),
        "memory" => Err(wrong("nothing follows `memory:`").help("write \"memory:\"")),
        "file" if rest.is_empty() => {
            Err(wrong("the directory is missing").help("write \"file:./oncegate-data\""))
        }
        "file" if rest.starts_with("//") => {
            Err(wrong("the directory follows the colon, without a host")
                .help("write \"file:/var/lib/oncegate\""))
        }
        "file" => Ok(StoreUrl::File(dir.join(rest))),
        "redis" | "rediss" | "redis-sentinel" | "redis-cluster" => {
            redis_url(scheme, rest).map(StoreUrl::Redis)
        }
        _ => Err(
            match similar(scheme, ["memory", "file", "redis", "rediss", "redis-sentinel", "redis-cluster"]) {
                Some(meant) => wrong("no such scheme").help(format!("did you mean `{meant}:`?")),
                None => wrong("no such scheme"),
            },
        ),
    }
}

/// The one way in which what comes later is refused.
pub(super) fn later(what: &str) -> Wrong {
    Wrong::new(format!("{what} is not supported yet"))
}

// === identities, statuses, names ===

/// `header:Name`, `jwt:claim`, `cookie:name`, `cert`, `ip`.
pub(super) fn identity(text: &str) -> Read<Identity> {
    const HELP: &str = "write \"header:X-Api-Key\", \"jwt:sub\", \"cookie:session\", \"cert\" or \"ip\"";
    let wrong = |why: &str| Wrong::new(format!("{} does not name a caller: {why}", quote(text))).help(HELP);
    match text.split_once(':') {
        None if text == "ip" => Ok(Identity::Ip),
        None if text == "cert" => Ok(Identity::Cert),
        None => Err(wrong("it has no kind")),
        Some((_, "")) => Err(wrong("the name is missing")),
        Some(("header", name)) => match http::HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) => Ok(Identity::Header(name)),
            Err(_) => Err(wrong("this is not a header's name")),
        },
        Some(("jwt", claim)) => Ok(Identity::Jwt(claim.into())),
        Some(("cookie", name))
            if name.bytes().all(|b| b.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(&b)) =>
        {
            Ok(Identity::Cookie(name.into()))
        }
        Some(("cookie", _)) => Err(wrong("this is not a cookie's name")),
        Some((kind, name)) => Err(match similar(kind, ["header", "jwt", "cookie"]) {
            Some(meant) => wrong("no such kind").help(format!("did you mean \"{meant}:{name}\"?")),
            None => wrong("no such kind"),
        }),
    }
}

/// One item of a status set: `4xx`, or a status.
pub(super) fn status(text: &str) -> Read<(u16, u16)> {
    let class = text.to_ascii_lowercase();
    match class.strip_suffix("xx").and_then(|class| class.parse::<u16>().ok()) {
        Some(class @ 1..=5) if text.len() == 3 => return Ok((class * 100, class * 100 + 99)),
        _ => {}
    }
    match text.parse::<u16>() {
        Ok(status @ 100..=599) if text.len() == 3 => Ok((status, status)),
        _ => Err(Wrong::new(format!("{} is not a status", quote(text)))
            .help("write a class or a status from 100 to 599, as in [\"4xx\", 503]")),
    }
}

/// Ranges as a set: sorted, and joined where they touch.
pub(super) fn status_set(mut ranges: Vec<(u16, u16)>) -> StatusSet {
    ranges.sort_unstable();
    let mut joined: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
    for (low, high) in ranges {
        match joined.last_mut() {
            Some(last) if low <= last.1 + 1 => last.1 = last.1.max(high),
            _ => joined.push((low, high)),
        }
    }
    StatusSet { ranges: joined }
}

/// The name of a route or an upstream: it goes into metrics, logs and answers as it is.
pub(super) fn name(text: &str) -> Read<String> {
    let fine = (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    if fine {
        return Ok(text.into());
    }
    Err(Wrong::new(format!("{} is not a name", quote(text)))
        .help("write 1 to 64 letters, digits, `-`, `_` and `.`"))
}

/// A time zone's name, `Asia/Kolkata`.
pub(super) fn time_zone(text: &str) -> Read<Zone> {
    let wrong = || Wrong::new(format!("{} is not a time zone", quote(text)));
    Zone::parse(text)
        .map_err(|_| wrong().help("write its name in the IANA database, as in \"Asia/Kolkata\" or \"UTC\""))
}

/// A selector, `$.clinicId | 'main'`; date and time without an offset are in `zone`.
pub(super) fn selector(text: &str, zone: &Zone) -> Read<Selector> {
    Selector::parse(text, zone)
        .map_err(|why| Wrong::new(format!("{} is not a selector", quote(text))).help(why))
}

/// A field's path in a body, `$.client_time`.
pub(super) fn field_path(text: &str) -> Read<JsonPath> {
    let wrong = |why: &str| Wrong::new(format!("{} is not a field's path: {why}", quote(text)));
    match JsonPath::parse(text) {
        Ok(path) if path.is_root() => {
            Err(wrong("it is the whole body").help("name a field in it, as in \"$.client_time\""))
        }
        Ok(path) => Ok(path),
        Err(why) => Err(wrong(&why)
            .help("write a path from the body's root, as in \"$.client_time\" or \"$.items[*].id\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_carry_one_unit() {
        for (text, millis) in
            [("100ms", 100), ("10s", 10_000), ("15m", 900_000), ("24h", 86_400_000), ("90d", 7_776_000_000)]
        {
            assert_eq!(duration(text).map(|value| value.as_millis()), Ok(millis));
        }
        for text in [
            "",
            "5",
            "s",
            "-5s",
            "+5s",
            "1.5s",
            "5 s",
            "5S",
            "1h30m",
            "5w",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
        for text in ["0s", "1ms", "1500ms", "90s", "2m", "24h", "36h", "90d"] {
            assert_eq!(duration(text).map(show_duration), Ok(text.to_owned()));
        }
    }

    #[test]
    fn sizes_are_bytes() {
        for (text, bytes) in [
            ("4096", 4096),
            ("0", 0),
            ("1MiB", 1 << 20),
            ("512KiB", 512 << 10),
            ("64MB", 64_000_000),
            ("2gib", 2 << 30),
            ("7 B", 7),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "1.5MiB", "-1", "1TiB", "99999999999GiB", "1 mega"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!([show_size(0), show_size(1 << 20), show_size(1500)], ["0B", "1MiB", "1500B"]);
    }

    #[test]
    fn bases_are_taken_apart() {
        let read = |text: &str| base(text).map(|base| (base.host, base.port, base.authority, base.prefix));
        let expected = |host: &str, port, authority: &str, prefix: &str| {
            Ok((host.into(), port, authority.into(), prefix.into()))
        };
        assert_eq!(read("http://127.0.0.1:8000"), expected("127.0.0.1", 8000, "127.0.0.1:8000", ""));
        assert_eq!(read("HTTP://Backend.Example/"), expected("backend.example", 80, "backend.example", ""));
        assert_eq!(read("http://[::1]:81/api/v1/"), expected("::1", 81, "[::1]:81", "/api/v1"));
        assert_eq!(read("http://[2001:DB8::1]"), expected("2001:db8::1", 80, "[2001:db8::1]", ""));
        for text in [
            "",
            "127.0.0.1:8000",
            "http://",
            "http://:80",
            "http://a:0",
            "http://a:99999",
            "http://a:+80",
            "http://a b",
            "http://a/?q",
            "http://a/#f",
            "http://u@a",
            "http://[::1",
            "http://[::1]80",
            "http://::1",
            "http://a/../b",
            "http://a//b",
            "ftp://a",
            "http://ä",
        ] {
            assert!(base(text).is_err(), "{text}");
        }
        let secure = base("https://a/b").expect("a base");
        assert_eq!((secure.secure, secure.port, &*secure.authority), (true, 443, "a"));
        assert_eq!(base("https://a:80").expect("a base").authority, "a:80");
    }

    #[test]
    fn identities_name_their_kind() {
        let key = http::HeaderName::from_static("x-api-key");
        assert_eq!(identity("header:X-Api-Key"), Ok(Identity::Header(key)));
        assert_eq!(identity("jwt:sub"), Ok(Identity::Jwt("sub".into())));
        assert_eq!(identity("cookie:session"), Ok(Identity::Cookie("session".into())));
        assert_eq!(identity("ip"), Ok(Identity::Ip));
        assert_eq!(identity("cert"), Ok(Identity::Cert));
        for text in ["", "header", "header:", "header:a b", "cookie:a;b", "IP", "ip:4", "jtw:sub"] {
            assert!(identity(text).is_err(), "{text}");
        }
    }

    #[test]
    fn statuses_are_classes_or_single_ones() {
        let set = |items: &[&str]| {
            status_set(items.iter().map(|item| status(item).expect("a status")).collect()).ranges
        };
        assert_eq!(set(&["503", "4xx"]), [(400, 499), (503, 503)]);
        assert_eq!(set(&["4XX", "404", "500"]), [(400, 500)]);
        assert_eq!(set(&[]), []);
        for text in ["", "99", "600", "0xx", "6xx", "4x", "xx", "+404", "0404", "04xx"] {
            assert!(status(text).is_err(), "{text}");
        }
    }

    #[test]
    fn suggestions_are_near_or_none() {
        assert_eq!(similar("remeber", ["remember", "wait"]), Some("remember"));
        assert_eq!(similar("routes", ["route", "store"]), Some("route"));
        assert_eq!(similar("xyzzy", ["remember", "wait", "key"]), None);
    }
}
