//! `[[route.slot]]`, `[[route.release]]` and `[route.ask]`: what only so many may hold, and who gives it back.

use super::race;
use crate::config::slots::{AskRule, RouteSlots};
use crate::config::table::{Table, Word};
use crate::config::values::{self, Read, Wrong, quote};
use crate::domain::conflict::Sought;
use crate::domain::selector::{Origin, Selector, Zone};
use crate::domain::slot::{HoldFor, Hole, MissingRule, Probe, ReleasePolicy, SlotPolicy, When};
use std::time::Duration;

impl Word for MissingRule {
    const WORDS: &'static [(&'static str, MissingRule)] =
        &[("refuse", MissingRule::Refuse), ("skip", MissingRule::Skip)];
}

/// The longest hold; a longer one is a slip of the finger.
const HOLD_MAX: Duration = Duration::from_secs(3650 * 86_400);

/// What a route says about slots.
pub(super) fn read(table: &Table<'_>, zone: &Zone) -> RouteSlots {
    RouteSlots {
        slots: table.tables("slot").iter().map(|table| slot(table, zone)).collect(),
        releases: table.tables_or_one("release").iter().map(|table| release(table, zone)).collect(),
        release_on_redirect: table.switch("release_on_redirect"),
        ask: table.has("ask").then(|| ask(&table.table("ask"), zone)),
    }
}

fn slot(table: &Table<'_>, zone: &Zone) -> SlotPolicy {
    table.require("name", "add name = \"doctor-slot\"");
    table.require("by", "add by = [\"$.doctor\", \"$.date\"]: the values that tell one slot from another");
    table.require("hold", "add hold = \"90d\", or hold = \"until $.end\"");
    let by = selectors(table, "by", zone);
    SlotPolicy {
        name: table.parsed("name", values::name).unwrap_or_default().into(),
        recover: if table.has("recover") { recover(&table.table("recover"), &by) } else { None },
        by,
        capacity: u32::try_from(table.count("capacity")).unwrap_or(u32::MAX),
        hold: table.parsed("hold", |text| hold(text, zone)).unwrap_or(HoldFor::Duration(HOLD_MAX)),
        missing: table.word("missing"),
        id: table.parsed("id", |text| values::selector(text, zone)),
        readable: table.switch("readable"),
    }
}

fn recover(table: &Table<'_>, by: &[Selector]) -> Option<Probe> {
    table.require("get", "add get = \"/api/bookings/{id}\": where the booking is that holds the slot");
    table.require("found", "add found = \"$.id\": where in that answer it is");
    let get = table.parsed("get", |text| race::target(text, |hole| Hole::parse(hole, by)));
    let found = table.parsed("found", race::found);
    let gone = table.entries_of("gone", gone).into_iter();
    let gone = gone.map(|(selector, values)| When { selector, in_answer: true, values }).collect();
    Some(Probe {
        gone,
        attempts: u32::try_from(table.count("attempts")).unwrap_or(u32::MAX),
        apart: table.duration("apart"),
        get: get?,
        found: Sought(found?),
    })
}

fn release(table: &Table<'_>, zone: &Zone) -> ReleasePolicy {
    table.require("slot", "add slot = \"…\" with the name of a [[route.slot]]");
    table.require("id", "add id = \"path:id\": where the request names the booking");
    let nothing =
        || Selector::parse("''", &Zone::utc()).unwrap_or_else(|_| unreachable!("a text is a selector"));
    ReleasePolicy {
        slot: table.parsed("slot", values::name).unwrap_or_default().into(),
        id: table.parsed("id", |text| values::selector(text, zone)).unwrap_or_else(nothing),
        when: table
            .entries_of("when", |text| when(text, zone))
            .into_iter()
            .map(|((selector, in_answer), values)| When { selector, in_answer, values })
            .collect(),
    }
}

fn ask(table: &Table<'_>, zone: &Zone) -> AskRule {
    table.require("slot", "add slot = \"…\" with the name of a [[route.slot]]");
    AskRule {
        slot: table.parsed("slot", values::name).unwrap_or_default().into(),
        by: table.has("by").then(|| selectors(table, "by", zone)),
    }
}

fn selectors(table: &Table<'_>, name: &str, zone: &Zone) -> Vec<Selector> {
    let help = "name the values, as in [\"$.doctor\", \"$.date\"]";
    let by = table.some(name, false, help, |text| values::selector(text, zone));
    if by.len() > SELECTORS_MAX {
        table.error(name, Wrong::new(format!("`{name}` has more than {SELECTORS_MAX} values")));
    }
    by
}

/// Values that a slot's key may be made of.
const SELECTORS_MAX: usize = 16;

/// `"90d"`, `"until $.end"`.
fn hold(text: &str, zone: &Zone) -> Read<HoldFor> {
    if let Some(selector) = text.strip_prefix("until ") {
        let end = values::selector(selector, zone)?;
        return Ok(HoldFor::Until(Box::new(end), zone.clone()));
    }
    let duration = values::duration(text).map_err(|_| {
        Wrong::new(format!("{} says no end", quote(text)))
            .help("write a duration from the success on, as in \"90d\", or where the request names the end: \"until $.end\"")
    })?;
    if duration.is_zero() || duration > HOLD_MAX {
        return Err(Wrong::new("`hold` is out of range").help("write 1ms to 3650d"));
    }
    Ok(HoldFor::Duration(duration))
}

/// A condition on the booking that is found.
fn gone(text: &str) -> Read<Selector> {
    let selector = values::selector(text, &Zone::utc())?;
    if selector.origins().any(|origin| !matches!(origin, Origin::Body(_))) {
        let wrong = Wrong::new(format!("{} is not of the booking that is found", quote(text)));
        return Err(wrong.help("write where it is in what `found` names, as in \"$.status\""));
    }
    Ok(selector)
}

/// A condition's selector, and whether it looks into the answer: `$.status`, `answer:$.status`.
fn when(text: &str, zone: &Zone) -> Read<(Selector, bool)> {
    match text.trim_start().strip_prefix("answer:") {
        Some(rest) => Ok((values::selector(rest, zone)?, true)),
        None => Ok((values::selector(text, zone)?, false)),
    }
}
