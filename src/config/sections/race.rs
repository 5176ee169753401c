//! `[route.lane]`, `[route.retry]`, `[route.recover]` and `[route.detect]`: what is done about writes that race inside the
//! backend.

use crate::config::race::{Absent, Detect, Lane, Pointer, Recover, Retry};
use crate::config::table::{Table, Word};
use crate::config::values::{self, Read, Wrong, quote, show_duration};
use crate::domain::canon::JsonPath;
use crate::domain::conflict::{Backoff, Signs, Sought, Text};
use crate::domain::selector::{Selector, Template, Zone};
use std::fmt::Display;
use std::time::Duration;

/// Retries of one write; more are a load of their own.
const RETRIES_MAX: usize = 20;
/// One wait before a retry.
const WAIT_MAX: Duration = Duration::from_secs(60);

impl Word for Absent {
    const WORDS: &'static [(&'static str, Absent)] = &[("keep", Absent::Keep), ("free", Absent::Free)];
}

/// `[route.lane]` of the route `route`.
pub(super) fn lane(table: &Table<'_>, route: &str, zone: &Zone) -> Lane {
    table.require("by", "add by = [\"$.clinicId\"]: the writes that share it run one at a time");
    Lane {
        name: table.parsed("name", values::name).unwrap_or_else(|| route.to_owned()).into(),
        by: table.some("by", false, "name the values, as in [\"$.clinicId\"]", |text| {
            values::selector(text, zone)
        }),
        queue: u32::try_from(table.count("queue")).unwrap_or(u32::MAX),
        wait: table.duration("wait"),
    }
}

/// `[route.retry]`
pub(super) fn retry(table: &Table<'_>) -> Retry {
    table.require("status", "add status = [409, 500]: by which the backend says that it did nothing");
    let backoff = table.some("backoff", false, "write the waits, as in [\"50ms\", \"200ms\"]", wait);
    if backoff.len() > RETRIES_MAX {
        let wrong = Wrong::new(format!("`backoff` has {} waits", backoff.len()));
        table.error("backoff", wrong.help(format!("write {RETRIES_MAX} at most: each is another request")));
    }
    let help = "name what says that nothing was done, as in [409]";
    let statuses = table.some("status", true, help, values::status);
    Retry { signs: signs(table, statuses), backoff: Backoff(backoff) }
}

/// `[route.recover]`
pub(super) fn recover(table: &Table<'_>, zone: &Zone) -> Recover {
    table.require("get", "add get = \"/api/bookings?slot={$.slotIndex}\": where the record would be");
    table.require("found", "add found = \"$.items[0]\": where in that answer it is");
    Recover {
        get: table.parsed("get", |text| template(text, zone)).unwrap_or_else(|| nowhere(zone)),
        found: Sought(table.parsed("found", found).unwrap_or_else(root)),
        attempts: u32::try_from(table.count("attempts")).unwrap_or(u32::MAX),
        apart: table.duration("apart"),
        signs: signs(table, table.list("status", true, values::status)),
        absent: table.word("absent"),
    }
}

/// `[route.detect]`
pub(super) fn detect(table: &Table<'_>, route: &str, zone: &Zone) -> Option<Detect> {
    table.require("unique", "add unique = \"answer:$.tokenNumber\": what must not come twice");
    let within = table.list("within", false, |text| pointer(text, zone));
    let window = table.duration("window");
    let name = table.parsed("name", values::name).unwrap_or_else(|| route.to_owned()).into();
    let unique = table.parsed("unique", |text| pointer(text, zone))?;
    if !unique.answer {
        let wrong = Wrong::new(format!("{} is in the request", quote(&unique.selector.to_string())));
        table.error(
            "unique",
            wrong.help("write \"answer:$.tokenNumber\": it is the backend's answers that are compared"),
        );
    }
    Some(Detect { name, unique, within, window })
}

fn signs(table: &Table<'_>, statuses: Vec<(u16, u16)>) -> Signs {
    Signs { statuses: values::status_set(statuses).ranges, text: table.parsed("body", text) }
}

fn text(text: &str) -> Read<Text> {
    let wrong = || Wrong::new(format!("{} is not a regular expression", quote(text)));
    match Text::parse(text) {
        Ok(parsed) if text.is_empty() || parsed.as_str().is_empty() => {
            Err(wrong().help("it is empty: leave the key out where the status alone says it"))
        }
        Ok(parsed) => Ok(parsed),
        Err(why) => Err(wrong().help(why)),
    }
}

fn wait(text: &str) -> Read<Duration> {
    let wait = values::duration(text)?;
    if wait.is_zero() || wait > WAIT_MAX {
        return Err(Wrong::new(format!("{} is out of range", quote(text)))
            .help(format!("write 1ms to {}", show_duration(WAIT_MAX))));
    }
    Ok(wait)
}

fn template(text: &str, zone: &Zone) -> Read<Template> {
    target(text, |hole| Selector::parse(hole, zone))
}

/// A target of the same backend; `read` reads what stands in a hole of it.
pub(super) fn target<H: Display>(text: &str, read: impl Fn(&str) -> Result<H, String>) -> Read<Template<H>> {
    let wrong = || Wrong::new(format!("{} is not a target", quote(text)));
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    if !text.starts_with('/') || text.starts_with("//") {
        return Err(wrong().help("begin with a slash: the same backend is asked, and no other"));
    }
    // What is in the holes has a grammar of its own, and is escaped when it is filled in.
    let written: String = text.split('{').map(|part| part.rsplit('}').next().unwrap_or_default()).collect();
    if !written.bytes().all(plain) {
        return Err(wrong().help("write blanks and letters beyond ASCII as %XX, and no `#`"));
    }
    Template::parse_with(text, read).map_err(|why| wrong().help(why))
}

/// Stands where `get` is missing or wrong, which was reported.
fn nowhere(zone: &Zone) -> Template {
    Template::parse("/", zone).expect("a slash is a target")
}

fn root() -> JsonPath {
    JsonPath::parse("$").expect("the root is a path")
}

/// Where in an answer a record is.
pub(super) fn found(text: &str) -> Read<JsonPath> {
    JsonPath::parse(text).map_err(|why| {
        Wrong::new(format!("{} is not a path into an answer", quote(text)))
            .help(format!("{why}; write \"$.items[0]\", or \"$\" for all of it"))
    })
}

fn pointer(text: &str, zone: &Zone) -> Read<Pointer> {
    let (answer, rest) = match text.strip_prefix("answer:") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    Ok(Pointer { answer, selector: values::selector(rest, zone)? })
}
