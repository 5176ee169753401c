//! What a log line looks like: the same fields as one JSON object or as one line for eyes. Formatting happens on the
//! journal's thread, so a worker only hands over the facts.

use super::stamp::Stamp;
use crate::domain::event::{Event, Exchange};
use std::fmt::Display;
use std::io::Write as _;
use std::time::Duration;
use tracing::Level;

/// One line on its way to the log.
#[derive(Debug)]
pub(super) enum Line {
    /// Formatted already, by `tracing` on the thread that said it; with its line break.
    Text(Vec<u8>),
    /// An access line.
    Exchange(Exchange),
    /// A fact.
    Event(Event),
}

/// For whom lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// For eyes, in colour or without.
    Pretty { colour: bool },
    /// One JSON object a line.
    Json,
}

/// A field's value, borrowed for the moment of writing.
enum Value<'a> {
    /// May hold anything, so it is escaped.
    Text(&'a str),
    /// An id, an address or a method: nothing in it needs an escape.
    Plain(&'a dyn Display),
    Number(u64),
    /// Milliseconds, to the microsecond.
    Millis(Duration),
}

/// Writes one line's fields in one style.
struct Fields<'a> {
    out: &'a mut Vec<u8>,
    style: Style,
}

// === impl Line ===

impl Line {
    /// Bytes that the line holds beyond its own size: what a queue of lines may grow to.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Line::Text(text) => text.len(),
            Line::Exchange(exchange) => {
                exchange.path.len() + exchange.request_id.len() + exchange.client.len()
            }
            Line::Event(Event::Duplicate { request_id, original_request_id, .. }) => {
                request_id.len() + original_request_id.as_ref().map_or(0, String::len)
            }
            Line::Event(Event::InDoubt { request_id, .. }) => request_id.len(),
            Line::Event(Event::SlotTaken { request_id, client, .. }) => request_id.len() + client.len(),
            Line::Event(Event::SlotVacated { held_by, request_id, client, .. }) => {
                held_by.len() + request_id.len() + client.len()
            }
            Line::Event(Event::StoreOutage { detail, .. } | Event::UpstreamHealth { detail, .. }) => {
                detail.len()
            }
            Line::Event(Event::Throttled { path, client, .. } | Event::PollStorm { path, client, .. }) => {
                path.len() + client.len()
            }
            Line::Event(Event::Retry { request_id, .. } | Event::Recovered { request_id, .. }) => {
                request_id.len()
            }
            Line::Event(Event::DuplicateAnswer { request_id, first_request_id, value, within, .. }) => {
                request_id.len() + first_request_id.len() + value.len() + within.len()
            }
            Line::Event(Event::Settled { .. }) => 0,
        }
    }

    /// Appends the line, with its line break, as written at `now`.
    pub(super) fn write(&self, style: Style, now: Stamp, out: &mut Vec<u8>) {
        match self {
            Line::Text(text) => out.extend_from_slice(text),
            Line::Exchange(exchange) => write_exchange(exchange, style, now, out),
            Line::Event(event) => write_event(event, style, now, out),
        }
    }
}

/// The level of a copy's line.
pub(super) const DUPLICATE: Level = Level::INFO;

/// How loud an event is.
pub(super) fn level(event: &Event) -> Level {
    match event {
        Event::InDoubt { .. }
        | Event::PollStorm { .. }
        | Event::DuplicateAnswer { .. }
        | Event::StoreOutage { up: false, .. }
        | Event::UpstreamHealth { up: false, .. } => Level::WARN,
        Event::Duplicate { .. } => DUPLICATE,
        Event::Settled { .. }
        | Event::Throttled { .. }
        | Event::SlotTaken { .. }
        | Event::SlotVacated { .. }
        | Event::Retry { .. }
        | Event::Recovered { .. }
        | Event::StoreOutage { up: true, .. }
        | Event::UpstreamHealth { up: true, .. } => Level::INFO,
    }
}

/// A line of the journal's own, such as the one that says how many others were lost.
pub(super) fn write_note(level: Level, message: &str, style: Style, now: Stamp, out: &mut Vec<u8>) {
    Fields::begin(out, style, level, "journal", now).message(message).end();
}

fn write_exchange(exchange: &Exchange, style: Style, now: Stamp, out: &mut Vec<u8>) {
    let mut fields = Fields::begin(out, style, Level::INFO, "access", now);
    fields.field("method", Value::Plain(&exchange.method));
    fields.field("path", Value::Text(&exchange.path));
    fields.field("status", Value::Number(u64::from(exchange.status)));
    fields.field("decision", Value::Plain(&exchange.decision.word()));
    if let Some(route) = &exchange.route_name {
        fields.field("route", Value::Text(route));
    }
    fields.field("client", Value::Text(&exchange.client));
    if let Some(scope) = &exchange.scope {
        fields.field("scope", Value::Plain(scope));
    }
    if let Some(upstream) = exchange.upstream {
        fields.field("upstream_ms", Value::Millis(upstream));
    }
    if let Some(held) = exchange.held {
        fields.field("held_ms", Value::Millis(held));
    }
    fields.field("total_ms", Value::Millis(exchange.total));
    fields.field("request_id", Value::Text(&exchange.request_id));
    fields.end();
}

fn write_event(event: &Event, style: Style, now: Stamp, out: &mut Vec<u8>) {
    let mut fields = Fields::begin(out, style, level(event), "journal", now);
    match event {
        Event::Duplicate { route, id, request_id, original_request_id, scope, client } => {
            fields.message("a copy was answered without asking the backend").event(event);
            fields.field("route", Value::Text(route));
            fields.field("id", Value::Plain(id));
            fields.field("request_id", Value::Text(request_id));
            if let Some(original) = original_request_id {
                fields.field("original_request_id", Value::Text(original));
            }
            fields.field("scope", Value::Plain(scope));
            fields.field("client", Value::Text(client));
        }
        Event::InDoubt { route, id, request_id, why } => {
            fields.message(
                "nobody knows whether this write was executed; copies are refused until it is settled",
            );
            fields.event(event);
            fields.field("why", Value::Plain(why_word(why)));
            fields.field("route", Value::Text(route));
            fields.field("id", Value::Plain(id));
            fields.field("request_id", Value::Text(request_id));
        }
        Event::StoreOutage { up, detail } => {
            let message =
                if *up { "the store works again" } else { "the store refuses: guarded writes get their 503" };
            fields.message(message).event(event);
            fields.field("detail", Value::Text(detail));
        }
        Event::UpstreamHealth { upstream, authority, up, detail } => {
            let message = if *up {
                "an upstream server is back in rotation"
            } else {
                "an upstream server is out of rotation"
            };
            fields.message(message).event(event);
            fields.field("upstream", Value::Text(upstream));
            fields.field("server", Value::Text(authority));
            fields.field("detail", Value::Text(detail));
        }
        Event::Throttled { route, path, client, limit, wait, request_id } => {
            fields
                .message("a client is above its limits; its requests get 429 until it has waited")
                .event(event);
            fields.field("route", Value::Text(route));
            fields.field("path", Value::Text(path));
            fields.field("client", Value::Text(client));
            fields.field("limit", Value::Text(limit));
            fields.field("wait_ms", Value::Millis(*wait));
            fields.field("request_id", Value::Text(request_id));
        }
        Event::PollStorm { route, template, path, client, storm } => {
            fields.message("a client polls far too often").event(event);
            fields.field("client", Value::Text(client));
            fields.field("template", Value::Text(template));
            fields.field("route", Value::Text(route));
            fields.field("path", Value::Text(path));
            fields.field("reads", Value::Number(u64::from(storm.reads)));
            fields.field("within_ms", Value::Millis(storm.within));
            fields.field("reads_per_minute", Value::Number(storm.per_minute()));
            fields.field("source_ports", Value::Number(u64::from(storm.ports)));
            fields.field("absorbed_percent", Value::Number(u64::from(storm.absorbed_percent())));
        }
        Event::SlotTaken { route, slot, slot_id, state, since, request_id, scope, client } => {
            fields.message("a request asked for a slot that is taken").event(event);
            fields.field("slot", Value::Text(slot));
            fields.field("slot_id", Value::Plain(slot_id));
            fields.field("state", Value::Plain(&state.word()));
            fields.field("since", Value::Number(since.0));
            fields.field("route", Value::Text(route));
            fields.field("request_id", Value::Text(request_id));
            fields.field("scope", Value::Plain(scope));
            fields.field("client", Value::Text(client));
        }
        Event::SlotVacated { route, slot, slot_id, since, held_by, request_id, client } => {
            fields.message("the backend has no such booking any more; its slot was given back").event(event);
            fields.field("slot", Value::Text(slot));
            fields.field("slot_id", Value::Plain(slot_id));
            fields.field("since", Value::Number(since.0));
            fields.field("held_by", Value::Text(held_by));
            fields.field("route", Value::Text(route));
            fields.field("request_id", Value::Text(request_id));
            fields.field("client", Value::Text(client));
        }
        Event::Retry { route, id, request_id, attempt, status, wait } => {
            fields.message("the backend met a conflict and did nothing; the write is sent once more");
            fields.event(event);
            fields.field("attempt", Value::Number(u64::from(*attempt)));
            fields.field("status", Value::Number(u64::from(*status)));
            fields.field("wait_ms", Value::Millis(*wait));
            fields.field("route", Value::Text(route));
            fields.field("id", Value::Plain(id));
            fields.field("request_id", Value::Text(request_id));
        }
        Event::Recovered { route, id, request_id, how } => {
            fields.message("the backend was asked what became of a write").event(event);
            fields.field("how", Value::Plain(&how.word()));
            fields.field("route", Value::Text(route));
            fields.field("id", Value::Plain(id));
            fields.field("request_id", Value::Text(request_id));
        }
        Event::DuplicateAnswer { route, id, request_id, first_request_id, value, within } => {
            fields.message("two answers of the backend have in common what only one may have");
            fields.event(event);
            fields.field("value", Value::Text(value));
            fields.field("within", Value::Text(within));
            fields.field("route", Value::Text(route));
            fields.field("id", Value::Plain(id));
            fields.field("request_id", Value::Text(request_id));
            fields.field("first_request_id", Value::Text(first_request_id));
        }
        Event::Settled { id, verdict } => {
            fields.message("an operator settled a record").event(event);
            fields.field("id", Value::Plain(id));
            fields.field("verdict", Value::Plain(&verdict.word()));
        }
    }
    fields.end();
}

/// The word for a doubt, the same as in the API.
fn why_word(why: &crate::domain::ledger::Doubt) -> &'static dyn Display {
    use crate::domain::ledger::Doubt;
    match why {
        Doubt::ConnectionLost => &"connection-lost",
        Doubt::TimedOut => &"timed-out",
        Doubt::AnswerTruncated => &"answer-truncated",
        Doubt::AnswerAmbiguous => &"answer-ambiguous",
        Doubt::LeaseEnded => &"lease-ended",
        Doubt::OwnerDied => &"owner-died",
    }
}

// === impl Fields ===

// Writing into a `Vec` cannot fail, so the results of `write!` carry nothing here.
impl<'a> Fields<'a> {
    fn begin(out: &'a mut Vec<u8>, style: Style, level: Level, target: &str, now: Stamp) -> Fields<'a> {
        let _ = match style {
            Style::Json => write!(out, r#"{{"timestamp":"{now}","level":"{level}","target":"{target}""#),
            Style::Pretty { colour: false } => write!(out, "{now} {level:>5} {target}:"),
            Style::Pretty { colour: true } => {
                let code = if level == Level::WARN { 33 } else { 32 };
                write!(out, "\x1b[2m{now}\x1b[0m \x1b[{code}m{level:>5}\x1b[0m \x1b[2m{target}:\x1b[0m")
            }
        };
        Fields { out, style }
    }

    fn message(&mut self, message: &str) -> &mut Self {
        match self.style {
            Style::Json => self.field("message", Value::Text(message)),
            Style::Pretty { .. } => {
                let _ = write!(self.out, " {message}");
            }
        }
        self
    }

    fn event(&mut self, event: &Event) {
        self.field("event", Value::Plain(&event.word()));
    }

    fn field(&mut self, name: &'static str, value: Value<'_>) {
        match self.style {
            Style::Json => self.json_field(name, &value),
            Style::Pretty { colour } => {
                // The four fields that a reader looks for first stand without their names.
                let bare = matches!(name, "method" | "path" | "status" | "decision");
                let _ = match (bare, colour) {
                    (true, _) => write!(self.out, " "),
                    (false, true) => write!(self.out, " \x1b[2m{name}=\x1b[0m"),
                    (false, false) => write!(self.out, " {name}="),
                };
                self.pretty_value(&value);
            }
        }
    }

    fn json_field(&mut self, name: &str, value: &Value<'_>) {
        let _ = write!(self.out, r#","{name}":"#);
        match value {
            // An in-memory string always serialises.
            Value::Text(text) => drop(serde_json::to_writer(&mut *self.out, text)),
            Value::Plain(plain) => drop(write!(self.out, r#""{plain}""#)),
            Value::Number(number) => drop(write!(self.out, "{number}")),
            Value::Millis(time) => self.millis(*time),
        }
    }

    fn pretty_value(&mut self, value: &Value<'_>) {
        match value {
            // What a client sent must not move the cursor or forge a line.
            Value::Text(text) if text.contains(char::is_control) => {
                drop(write!(self.out, "{}", text.escape_debug()))
            }
            Value::Text(text) => self.out.extend_from_slice(text.as_bytes()),
            Value::Plain(plain) => drop(write!(self.out, "{plain}")),
            Value::Number(number) => drop(write!(self.out, "{number}")),
            Value::Millis(time) => self.millis(*time),
        }
    }

    fn millis(&mut self, time: Duration) {
        let micros = time.as_micros();
        let _ = write!(self.out, "{}.{:03}", micros / 1000, micros % 1000);
    }

    fn end(&mut self) {
        self.out.extend_from_slice(if self.style == Style::Json { b"}\n" } else { b"\n" });
    }
}

#[cfg(test)]
mod tests;
