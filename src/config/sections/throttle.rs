//! `[route.throttle]` and `[route.concurrency]`: how often, and how many at once.

use crate::config::networks;
use crate::config::table::{Table, Word};
use crate::config::throttle::{Concurrency, RouteThrottle};
use crate::config::values::{self, Read, Wrong, quote};
use crate::domain::throttle::{LIMITS_MAX, Limit, Over, Per, Throttle};

/// `over` without what belongs to it.
#[derive(Clone, Copy)]
enum OverWord {
    Hold,
    Reject,
}

impl Word for Per {
    const WORDS: &'static [(&'static str, Per)] =
        &[("client", Per::Client), ("client+resource", Per::ClientResource), ("route", Per::Route)];
}

impl Word for OverWord {
    const WORDS: &'static [(&'static str, OverWord)] =
        &[("hold", OverWord::Hold), ("reject", OverWord::Reject)];
}

/// `[route.throttle]`; `None` where it has no limit that could be kept, which was then reported.
pub(super) fn read(table: &Table<'_>) -> Option<RouteThrottle> {
    table.require("limits", "add limits = [\"1/2s burst 3\", \"10/min\"]");
    let limits = table.some("limits", false, "write \"10/min\", or a list of such", limit);
    if limits.len() > LIMITS_MAX {
        let wrong = Wrong::new(format!("{} limits are stacked; {LIMITS_MAX} is the most", limits.len()));
        table.error("limits", wrong.help("two are usually enough: a pace, and a longer window"));
        return None;
    }
    let (at_most, word) = (table.duration("hold_at_most"), table.word("over"));
    let rules = Throttle {
        per: table.word("per"),
        over: match word {
            OverWord::Hold => Over::Hold { at_most },
            OverWord::Reject => Over::Reject,
        },
        hard: table.parsed("hard", limit),
        cost: table.count("cost"),
        limits,
    };
    let bucket = table.parsed("bucket", values::name).map(Into::into);
    let allow = table.list("allow", false, networks::network);
    let storm = u32::try_from(table.count("storm")).unwrap_or(u32::MAX);
    let x_ratelimit = table.switch("x_ratelimit");
    (!rules.limits.is_empty()).then_some(RouteThrottle { rules, bucket, allow, storm, x_ratelimit })
}

/// `[route.concurrency]`
pub(super) fn read_concurrency(table: &Table<'_>) -> Option<Concurrency> {
    table.require("per_client", "add per_client = 6");
    let many = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    let (queue, wait) = (many(table.count("queue")), table.duration("wait"));
    table.count_set("per_client").map(|count| Concurrency { per_client: many(count), queue, wait })
}

/// `"10/min"`, `"1/2s burst 3"`.
fn limit(text: &str) -> Read<Limit> {
    Limit::parse(text).map_err(|why| Wrong::new(format!("{} is not a limit", quote(text))).help(why))
}

/// A limit, or `"off"`.
pub(super) fn limit_or_off(text: &str) -> Read<Option<Limit>> {
    if text == "off" { Ok(None) } else { limit(text).map(Some) }
}
