//! Records for eyes.

#![allow(clippy::disallowed_methods, reason = "an operator reads ages as of now")]

use crate::admin::ClaimsPage;
use crate::domain::time::Millis;
use crate::store::RecordView;
use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Digits of an id that a list shows; `show` and `resolve` take them.
const ID_SHOWN: usize = 12;

/// This machine's time, to say how long ago something was. The store's clock may differ a little.
pub(in crate::cli) fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// One page as a table.
pub(super) fn list(page: &ClaimsPage, now: Millis) -> String {
    if page.claims.is_empty() {
        return "no records\n".into();
    }
    let head = ["ID", "PHASE", "SINCE", "LEFT", "OUTCOME", "ROUTE", "SCOPE", "REQUEST"].map(String::from);
    let rows: Vec<[String; 8]> =
        std::iter::once(head).chain(page.claims.iter().map(|claim| row(claim, now))).collect();
    let mut widths = [0; 8];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            // Writing into a string cannot fail.
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    if let Some(next) = &page.next {
        let _ = writeln!(text, "there may be more: --after {}", plain(next));
    }
    text
}

/// One record, a line a field.
pub(super) fn show(claim: &RecordView, now: Millis) -> String {
    let keyed = if claim.keyed { "an Idempotency-Key" } else { "its meaning (no key was sent)" };
    let mut text = String::new();
    for (name, value) in [
        ("id", plain(&claim.id)),
        ("phase", plain(&claim.phase)),
        ("outcome", outcome(claim)),
        ("request", plain(&claim.about.request)),
        ("route", plain(&claim.about.route)),
        ("request id", plain(&claim.about.request_id)),
        ("scope", plain(&claim.scope)),
        ("named by", keyed.into()),
        ("claimed", format!("{} ago", length(now.since(claim.claimed_at)))),
        ("since", format!("{} ago", length(now.since(claim.since)))),
        ("leaves in", length(claim.until.since(now))),
    ] {
        let _ = writeln!(text, "{name:<11} {value}");
    }
    if claim.phase == "in-doubt" {
        let id = short(claim);
        let _ = write!(
            text,
            "\nLook for it in the backend (by its request id, or the row itself), then say what you found:\n  \
             oncegate claims resolve {id} --executed --status 201 \\\n    \
             --header 'Content-Type: application/json' --body @answer.json\n  \
             oncegate claims resolve {id} --not-executed\n"
        );
    }
    text
}

fn row(claim: &RecordView, now: Millis) -> [String; 8] {
    let (since, left) = (length(now.since(claim.since)), length(claim.until.since(now)));
    let (route, request) = (plain(&claim.about.route), plain(&claim.about.request));
    [short(claim), plain(&claim.phase), since, left, outcome(claim), route, plain(&claim.scope), request]
}

fn short(claim: &RecordView) -> String {
    plain(&claim.id).chars().take(ID_SHOWN).collect()
}

/// What is known of the outcome, in a word.
fn outcome(claim: &RecordView) -> String {
    let why = claim.why.and_then(|why| serde_json::to_value(why).ok());
    match (claim.status, why) {
        (Some(status), _) => status.to_string(),
        (None, Some(serde_json::Value::String(why))) => why,
        _ => "-".into(),
    }
}

/// A length of time in its largest two units.
pub(in crate::cli) fn length(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{:02}s", seconds % 60),
        (0, _, _) => format!("{hours}h{minutes:02}m"),
        _ => format!("{days}d{hours:02}h"),
    }
}

/// What a client chose must not move the terminal's cursor.
pub(in crate::cli) fn plain(text: &str) -> String {
    if text.contains(char::is_control) { text.escape_debug().to_string() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ledger::Doubt;
    use crate::store::About;

    fn claim() -> RecordView {
        RecordView {
            id: "0123456789abcdef".repeat(4),
            phase: "in-doubt".into(),
            keyed: true,
            scope: "abababababababab".into(),
            about: About {
                route: "book".into(),
                request: "POST /api/bookings".into(),
                request_id: "r-1".into(),
            },
            claimed_at: Millis(0),
            since: Millis(10_000),
            until: Millis(86_400_000 + 70_000),
            why: Some(Doubt::TimedOut),
            status: None,
        }
    }

    #[test]
    fn a_list_is_a_table_under_its_heads() {
        let next = Some("ffff".to_owned());
        let text = list(&ClaimsPage { claims: vec![claim()], next }, Millis(70_000));
        assert_eq!(
            text,
            "ID            PHASE     SINCE  LEFT   OUTCOME    ROUTE  SCOPE             REQUEST\n\
             0123456789ab  in-doubt  1m00s  1d00h  timed-out  book   abababababababab  POST /api/bookings\n\
             there may be more: --after ffff\n"
        );
        assert_eq!(list(&ClaimsPage { claims: Vec::new(), next: None }, Millis(0)), "no records\n");
    }

    #[test]
    fn a_record_in_doubt_is_shown_with_what_to_do() {
        let text = show(&claim(), Millis(70_000));
        for line in [
            "outcome     timed-out",
            "request     POST /api/bookings",
            "request id  r-1",
            "since       1m00s ago",
            "leaves in   1d00h",
            "  oncegate claims resolve 0123456789ab --not-executed",
        ] {
            assert!(text.lines().any(|found| found == line), "{line:?} in\n{text}");
        }
        let done = RecordView { phase: "done".into(), why: None, status: Some(201), ..claim() };
        assert!(show(&done, Millis(0)).contains("outcome     201\n"));
        assert!(!show(&done, Millis(0)).contains("resolve"));
    }

    #[test]
    fn what_a_client_chose_cannot_move_the_cursor() {
        let mut forged = claim();
        forged.about.request = "GET /\x1b[2J\n0123456789ab  done".into();
        let page = ClaimsPage { claims: vec![forged.clone()], next: None };
        for text in [list(&page, Millis(0)), show(&forged, Millis(0))] {
            assert!(!text.contains('\x1b'), "{text:?}");
            assert!(!text.contains("\n0123456789ab  done"), "{text:?}");
        }
    }

    #[test]
    fn lengths_have_their_largest_units() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (61, "1m01s"), (3_700, "1h01m"), (90_000, "1d01h")] {
            assert_eq!(length(Duration::from_secs(seconds)), text);
        }
    }
}
