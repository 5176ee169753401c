//! What a configuration does, as a table for eyes: which request goes where, and what guards it.

use crate::config::model::{Config, Idempotency, KeyRule, Mode, Route, StoreUrl};
use crate::config::redis_url::{RedisLayout, RedisUrl};
use crate::config::values::{quote, show_duration};
use crate::domain::slot::SlotPolicy;
use std::fmt::Write as _;

/// The routes in their order with their guards, and where records live.
pub fn summary(config: &Config) -> String {
    let mut rows: Vec<[String; 4]> = Vec::new();
    for route in &config.routes {
        let upstream = config.upstreams.get(route.upstream).map_or("", |upstream| &*upstream.name);
        for (at, pattern) in route.patterns.iter().enumerate() {
            let first = |text: String| if at == 0 { text } else { String::new() };
            rows.push([
                first(route.name.to_string()),
                pattern.to_string(),
                upstream.to_owned(),
                first(guard(config, route)),
            ]);
        }
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let (name, pattern, upstream) = (width(0), width(1), width(2));
    let mut out = String::from("routes, the first match wins\n");
    for row in &rows {
        let line = format!("  {:name$}  {:pattern$}  -> {:upstream$}  {}", row[0], row[1], row[2], row[3]);
        let _ = writeln!(out, "{}", line.trim_end());
    }
    let _ = writeln!(
        out,
        "\nrecords in {}",
        match &config.store.url {
            StoreUrl::Memory => "memory, until the process ends".to_owned(),
            StoreUrl::File(directory) => directory.display().to_string(),
            StoreUrl::Redis(url) => redis(config, url),
        }
    );
    out
}

/// A shared store, without credentials.
fn redis(config: &Config, url: &RedisUrl) -> String {
    let nodes: Vec<String> = url.nodes.iter().map(|(host, port)| format!("{host}:{port}")).collect();
    let what = match &url.layout {
        RedisLayout::Single => "Redis at".to_owned(),
        RedisLayout::Sentinel(master) => format!("the Redis master {} behind the Sentinels", quote(master)),
        RedisLayout::Cluster => "the Redis cluster of".to_owned(),
    };
    let replicas = match config.store.shared.wait_replicas {
        0 => String::new(),
        1 => ", claims on a replica too".to_owned(),
        count => format!(", claims on {count} replicas too"),
    };
    format!(
        "{what} {}{replicas}, shared by gateways that write under {}",
        nodes.join(", "),
        quote(&config.store.shared.prefix)
    )
}

fn guard(config: &Config, route: &Route) -> String {
    match &route.idempotency {
        None if route.lets_writes_through() => "not guarded, writes are counted".into(),
        None => "not guarded".into(),
        Some(rules) => {
            let observed = route.mode.unwrap_or(config.mode) == Mode::Observe;
            let how = if observed { "observed" } else { "guarded" };
            let slots: String = route.slots.slots.iter().map(slot).collect();
            format!("{how} by {}{slots}{}", key(rules), races(route))
        }
    }
}

fn slot(slot: &SlotPolicy) -> String {
    let asked = if slot.recover.is_some() { " (its holder is asked for)" } else { "" };
    format!(", slot {}{asked}", slot.name)
}

/// What is done about writes that race inside the backend.
fn races(route: &Route) -> String {
    let mut out = String::new();
    if let Some(lane) = &route.lane {
        let by: Vec<String> = lane.by.iter().map(ToString::to_string).collect();
        let _ = write!(out, ", one at a time by {}", by.join(", "));
    }
    if let Some(retry) = &route.retry {
        let _ = write!(out, ", up to {} retries", retry.backoff.len());
    }
    if route.recover.is_some() {
        out.push_str(", existing ones fetched");
    }
    if let Some(detect) = &route.detect {
        let _ = write!(out, ", {} watched", detect.unique.selector);
    }
    out
}

fn key(rules: &Idempotency) -> String {
    let (keyed, keyless) = (show_duration(rules.remember), show_duration(rules.remember_fingerprint));
    match rules.key {
        KeyRule::Header => format!("key for {keyed}, required"),
        KeyRule::Fingerprint => format!("fingerprint for {keyless}"),
        KeyRule::HeaderOrFingerprint => format!("key for {keyed}, without one by fingerprint for {keyless}"),
    }
}
