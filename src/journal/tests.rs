//! The journal as its callers use it.

use super::line::Style;
use super::queue::LINES_MAX;
use super::*;
use crate::domain::client::ScopeId;
use crate::domain::ledger::{Doubt, RecordId};
use crate::domain::refusal::Reason;
use std::sync::Mutex;
use tracing::Level;

/// A log that keeps its lines.
#[derive(Clone, Default)]
pub(super) struct Kept(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no test panics here").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Kept {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no test panics here").clone()).expect("lines are UTF-8")
    }

    pub(super) fn lines(&self) -> Vec<serde_json::Value> {
        self.text().lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
    }
}

/// What a journal with this log level and access setting writes while `tell` talks to it, and its figures after that.
fn told(level: Level, access: bool, tell: impl FnOnce(&Journal)) -> (Vec<serde_json::Value>, String) {
    let kept = Kept::default();
    let (queue, guard) = Queue::start(kept.clone(), Style::Json, level, LINES_MAX).expect("a thread");
    let journal = Journal::with_log(vec!["book".into()], vec!["scheduler".into()], access, Some(queue));
    tell(&journal);
    drop(guard);
    (kept.lines(), journal.metrics_text(Vec::new()))
}

fn exchange() -> Exchange {
    Exchange {
        request_id: "r-1".into(),
        route: Some(0),
        route_name: Some("book".into()),
        method: http::Method::POST,
        path: "/api/bookings".into(),
        client: "192.0.2.7".into(),
        scope: Some(ScopeId([1; 16])),
        status: 201,
        decision: Decision::Executed,
        upstream: None,
        held: None,
        total: Duration::from_millis(1),
    }
}

fn duplicate() -> Event {
    Event::Duplicate {
        route: "book".into(),
        id: RecordId([7; 32]),
        request_id: "copy".into(),
        original_request_id: Some("original".into()),
        scope: ScopeId([1; 16]),
        client: "192.0.2.7".into(),
    }
}

#[test]
fn an_exchange_is_counted_and_written_once() {
    let (lines, text) = told(Level::INFO, true, |journal| journal.exchange(exchange()));
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!((&lines[0]["target"], &lines[0]["request_id"]), (&"access".into(), &"r-1".into()));
    assert!(text.contains(r#"oncegate_requests_total{route="book",decision="executed"} 1"#), "{text}");
}

#[test]
fn without_access_lines_an_exchange_is_only_counted() {
    let (lines, text) = told(Level::INFO, false, |journal| {
        assert!(!journal.access());
        journal.exchange(exchange());
        journal.count(Some(0), Decision::Executed, None, Duration::from_millis(1));
    });
    assert!(lines.is_empty(), "{lines:?}");
    assert!(text.contains(r#"oncegate_requests_total{route="book",decision="executed"} 2"#), "{text}");
}

#[test]
fn access_lines_have_their_own_switch_and_ignore_the_level() {
    let (lines, _) = told(Level::ERROR, true, |journal| journal.exchange(exchange()));
    assert_eq!(lines.len(), 1, "{lines:?}");
}

#[test]
fn at_level_warn_a_duplicate_is_counted_and_a_doubt_is_also_written() {
    let (lines, text) = told(Level::WARN, true, |journal| {
        journal.event(duplicate());
        let (route, request_id) = ("book".into(), "r".into());
        journal.event(Event::InDoubt {
            route,
            id: RecordId([7; 32]),
            request_id,
            why: Doubt::ConnectionLost,
        });
    });
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!((&lines[0]["event"], &lines[0]["why"]), (&"in-doubt".into(), &"connection-lost".into()));
    for event in ["duplicate", "in-doubt"] {
        assert!(text.contains(&format!("oncegate_events_total{{event=\"{event}\"}} 1")), "{text}");
    }
}

#[test]
fn an_outage_is_told_once_per_change_however_often_it_is_noticed() {
    let (lines, text) = told(Level::INFO, true, |journal| {
        for up in [true, false, false, false, true, true] {
            journal.event(Event::StoreOutage { up, detail: "disk full".into() });
        }
        for up in [true, false, false, true] {
            let (upstream, authority) = ("scheduler".into(), "127.0.0.1:8000".into());
            journal.event(Event::UpstreamHealth { upstream, authority, up, detail: "refused".into() });
        }
    });
    let told: Vec<(&str, &str)> = lines
        .iter()
        .map(|line| (line["event"].as_str().unwrap_or_default(), line["level"].as_str().unwrap_or_default()))
        .collect();
    let (store, upstream) = ("store-outage", "upstream-health");
    assert_eq!(told, [(store, "WARN"), (store, "INFO"), (upstream, "WARN"), (upstream, "INFO")]);
    assert!(text.contains(r#"oncegate_events_total{event="store-outage"} 2"#), "{text}");
    assert!(
        text.contains(r#"oncegate_upstream_up{upstream="scheduler",server="127.0.0.1:8000"} 1"#),
        "{text}"
    );
}

#[test]
fn lost_lines_are_in_the_figures() {
    let (queue, _guard) = Queue::start(std::io::sink(), Style::Json, Level::INFO, 0).expect("a thread");
    let journal = Journal::with_log(vec!["book".into()], Vec::new(), true, Some(queue));
    journal.exchange(exchange());
    let text = journal.metrics_text(Vec::new());
    assert!(text.contains("oncegate_log_dropped_total 1\n"), "{text}");
}

#[test]
fn a_journal_without_a_log_counts_and_wants_no_access_lines() {
    let journal = Journal::with_log(vec!["book".into()], Vec::new(), true, None);
    assert!(!journal.access());
    journal.exchange(exchange());
    journal.event(duplicate());
    assert!(journal.metrics_text(Vec::new()).contains(r#"{route="book",decision="executed"} 1"#));
}

#[test]
fn every_reason_is_documented_for_whoever_meets_it() {
    let documentation = include_str!("../../docs/refusals.md");
    for reason in Reason::ALL {
        let heading = format!("## {}: {}", reason.slug(), reason.status());
        let section = documentation
            .split_once(&format!("{heading}\n"))
            .unwrap_or_else(|| panic!("docs/refusals.md has no section \"{heading}\""))
            .1
            .split("\n## ")
            .next()
            .unwrap_or_default();
        assert!(
            section.contains(reason.title()),
            "{heading} does not quote its title \"{}\"",
            reason.title()
        );
        for word in ["Meaning:", "Whose fault:", "What to do:"] {
            assert!(section.contains(word), "{heading} lacks \"{word}\"");
        }
    }
    let sections = documentation.matches("\n## ").count();
    assert_eq!(sections, Reason::ALL.len(), "docs/refusals.md describes a reason that does not exist");
}

/// Fails unless every figure of `text` has its row in the operators' table.
pub(crate) fn assert_documented(text: &str) {
    let documentation = include_str!("../../docs/operations.md");
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap_or_default();
        let row = ["", "_total", "_info"].map(|end| format!("\n| `{name}{end}` |"));
        assert!(
            row.iter().any(|row| documentation.contains(row)),
            "docs/operations.md has no row for {name}"
        );
    }
}

#[test]
fn every_figure_is_in_the_operators_table() {
    assert_documented(&told(Level::INFO, true, |journal| journal.exchange(exchange())).1);
}
