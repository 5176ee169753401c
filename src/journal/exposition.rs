//! The figures as OpenMetrics text, which Prometheus reads. Names and units follow its conventions; docs/operations.md
//! lists them.

use super::metrics::{METHODS, Metrics};
use super::process;
use crate::domain::event::Decision;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// The content type of [`super::Journal::metrics_text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Decisions below this index (all but refusals) are shown from zero, so that a first occurrence is a visible rise.
const ALWAYS_SHOWN: usize = Decision::COUNT - crate::domain::refusal::Reason::ALL.len();

#[derive(Debug)]
struct DataPath {
    metrics: Arc<Metrics>,
    log_dropped: u64,
}

#[derive(Debug)]
struct Process;

/// The whole text: the data path's figures, what `more` collects (prefixed as ours), and the process's.
pub(super) fn expose(metrics: Arc<Metrics>, log_dropped: u64, more: Vec<Box<dyn Collector>>) -> String {
    let mut ours = Registry::with_prefix("oncegate");
    ours.register_collector(Box::new(DataPath { metrics, log_dropped }));
    more.into_iter().for_each(|collector| ours.register_collector(collector));
    let mut process = Registry::default();
    process.register_collector(Box::new(Process));
    let mut text = String::with_capacity(16 << 10);
    // Writing into a string cannot fail, and no collector here does; what was written until then is still true.
    let _ = text::encode_registry(&mut text, &ours);
    let _ = text::encode_registry(&mut text, &process);
    let _ = text::encode_eof(&mut text);
    text
}

/// One gauge without labels.
pub fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<Unit>,
    value: i64,
) -> fmt::Result {
    let encoder = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
    ConstGauge::new(value).encode(encoder)
}

/// One counter without labels.
pub fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let encoder = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    ConstCounter::new(value).encode(encoder)
}

/// A gauge's value under its labels, within a family that `family` began.
pub fn labelled_gauge(family: &mut MetricEncoder<'_>, labels: &[(&str, &str)], value: i64) -> fmt::Result {
    ConstGauge::new(value).encode(family.encode_family(&labels)?)
}

/// A counter's value under its labels, as above.
pub(super) fn labelled_counter(
    family: &mut MetricEncoder<'_>,
    labels: &[(&str, &str)],
    value: u64,
) -> fmt::Result {
    ConstCounter::new(value).encode(family.encode_family(&labels)?)
}

// === impl DataPath ===

impl Collector for DataPath {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let metrics = &self.metrics;
        let build = "The running version";
        let mut family = encoder.encode_descriptor("build", build, None, MetricType::Info)?;
        family.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])?;
        gauge(encoder, "connections", "Open client connections", None, metrics.connections.get())?;
        let what = "Connections that were closed at once, because their address had as many as it may";
        counter(encoder, "connections_refused", what, metrics.connections_refused.load(Relaxed))?;
        let what = "Connections that speak another protocol after an upgrade";
        gauge(encoder, "upgrades", what, None, metrics.upgrades.get())?;
        gauge(encoder, "in_flight", "Requests being served", None, metrics.in_flight.get())?;
        counter(encoder, "log_dropped", "Log lines lost because nobody read them in time", self.log_dropped)?;
        let help = "Facts told to the journal";
        let mut family = encoder.encode_descriptor("events", help, None, MetricType::Counter)?;
        for (word, count) in metrics.events() {
            labelled_counter(&mut family, &[("event", word)], count)?;
        }
        metrics.limits.encode(encoder)?;
        metrics.doors.encode(encoder)?;
        metrics.reads.encode(encoder)?;
        metrics.slots.encode(encoder)?;
        self.encode_routes(encoder)?;
        self.encode_upstreams(encoder)
    }
}

impl DataPath {
    fn encode_routes(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let routes: Vec<_> = self.metrics.routes().collect();
        let help = "Requests by route and what the gateway decided";
        let mut family = encoder.encode_descriptor("requests", help, None, MetricType::Counter)?;
        for (route, figures) in &routes {
            for (index, decision) in Decision::all().enumerate() {
                let count = figures.decisions[index];
                if count > 0 || (index < ALWAYS_SHOWN && !route.is_empty()) {
                    labelled_counter(&mut family, &[("route", route), ("decision", decision.word())], count)?;
                }
            }
        }
        let help = "Mutations that no idempotency rule guarded";
        let mut family = encoder.encode_descriptor("unguarded_mutations", help, None, MetricType::Counter)?;
        for (route, figures) in &routes {
            for (method, &count) in METHODS.iter().zip(&figures.unguarded).filter(|(_, count)| **count > 0) {
                labelled_counter(&mut family, &[("route", route), ("method", method)], count)?;
            }
        }
        let help = "Writes sent once more, because the backend met a conflict and did nothing";
        let mut family = encoder.encode_descriptor("retries", help, None, MetricType::Counter)?;
        for (route, figures) in routes.iter().filter(|(_, figures)| figures.retries > 0) {
            labelled_counter(&mut family, &[("route", route)], figures.retries)?;
        }
        let help = "Time from joining a lane to its turn";
        let unit = Some(&Unit::Seconds);
        let mut family = encoder.encode_descriptor("lane_wait", help, unit, MetricType::Histogram)?;
        for (route, figures) in routes.iter().filter(|(_, figures)| figures.lane_wait.count() > 0) {
            let times = &figures.lane_wait;
            let labels: &[(&str, &str)] = &[("route", route)];
            let (sum, count, buckets) = (times.sum_seconds(), times.count(), times.buckets());
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        for (name, help) in [
            ("request", "Time from a request's head to its answer's head"),
            ("upstream", "Time from the first byte sent to the backend to its answer's head"),
        ] {
            let mut family =
                encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
            for (route, figures) in &routes {
                let times = if name == "request" { &figures.total } else { &figures.upstream };
                let labels: &[(&str, &str)] = &[("route", route)];
                let (sum, count, buckets) = (times.sum_seconds(), times.count(), times.buckets());
                family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
            }
        }
        Ok(())
    }

    fn encode_upstreams(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Requests that an upstream works on";
        let mut family = encoder.encode_descriptor("upstream_in_flight", help, None, MetricType::Gauge)?;
        for upstream in &self.metrics.upstreams {
            labelled_gauge(&mut family, &[("upstream", &upstream.name)], upstream.in_flight.get())?;
        }
        let helps = ["Requests that wait for a place", "Requests that may be in flight at this moment"];
        for (at, (name, help)) in ["upstream_waiting", "upstream_limit"].into_iter().zip(helps).enumerate() {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for upstream in &self.metrics.upstreams {
                let value = i64::try_from(upstream.places()[at]).unwrap_or(i64::MAX);
                labelled_gauge(&mut family, &[("upstream", &upstream.name)], value)?;
            }
        }
        let help = "Whether a server is in rotation";
        let mut family = encoder.encode_descriptor("upstream_up", help, None, MetricType::Gauge)?;
        for upstream in &self.metrics.upstreams {
            for (server, up) in upstream.servers() {
                labelled_gauge(
                    &mut family,
                    &[("upstream", &upstream.name), ("server", &server)],
                    i64::from(up),
                )?;
            }
        }
        Ok(())
    }
}

// === impl Process ===

impl Collector for Process {
    /// The names that every Prometheus client library uses, so that common dashboards find them.
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        if let Some(bytes) = process::resident_bytes() {
            gauge(&mut encoder, "process_resident_memory", "Resident memory", Some(Unit::Bytes), bytes)?;
        }
        if let Some(open) = process::open_fds() {
            gauge(&mut encoder, "process_open_fds", "Open file descriptors", None, open)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::refusal::Reason;
    use std::time::Duration;

    fn text() -> String {
        let metrics = Metrics::new(vec!["book".into()], vec!["scheduler".into()]);
        let (executed, refused) = (Decision::Executed, Decision::Refused(Reason::BodyTooLarge));
        metrics.count(Some(0), executed, Some(Duration::from_millis(20)), Duration::from_millis(21));
        metrics.count(Some(0), refused, None, Duration::from_micros(10));
        metrics.count_unguarded(Some(0), &http::Method::PUT);
        metrics.connections.inc();
        let upstream = metrics.upstream(0).expect("one upstream");
        upstream.in_flight.inc();
        upstream.declare_server("127.0.0.1:8000");
        expose(Arc::new(metrics), 5, Vec::new())
    }

    #[test]
    fn the_text_carries_the_counts() {
        let text = text();
        for line in [
            "# TYPE oncegate_requests counter",
            r#"oncegate_requests_total{route="book",decision="executed"} 1"#,
            r#"oncegate_requests_total{route="book",decision="body-too-large"} 1"#,
            r#"oncegate_requests_total{route="book",decision="in-doubt"} 0"#,
            "# UNIT oncegate_request_seconds seconds",
            r#"oncegate_request_seconds_count{route="book"} 2"#,
            r#"oncegate_request_seconds_bucket{le="0.01",route="book"} 1"#,
            r#"oncegate_request_seconds_bucket{le="+Inf",route="book"} 2"#,
            r#"oncegate_upstream_seconds_sum{route="book"} 0.02"#,
            r#"oncegate_unguarded_mutations_total{route="book",method="PUT"} 1"#,
            r#"oncegate_upstream_in_flight{upstream="scheduler"} 1"#,
            r#"oncegate_upstream_up{upstream="scheduler",server="127.0.0.1:8000"} 1"#,
            r#"oncegate_events_total{event="duplicate"} 0"#,
            "oncegate_connections 1",
            "oncegate_in_flight 0",
            "oncegate_log_dropped_total 5",
            concat!(r#"oncegate_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""} 1"#),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn every_line_parses_as_open_metrics() {
        let text = text();
        let mut families = std::collections::BTreeMap::new();
        assert!(text.ends_with("# EOF\n"), "{text}");
        for line in text.lines().filter(|line| *line != "# EOF") {
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.splitn(3, ' ');
                let (kind, name, rest) = (words.next(), words.next(), words.next());
                if kind == Some("TYPE") {
                    assert!(families.insert(name, rest).is_none(), "{name:?} is declared twice");
                }
                assert!(matches!(kind, Some("HELP" | "TYPE" | "UNIT")) && rest.is_some(), "{line}");
                continue;
            }
            let (series, value) = line.rsplit_once(' ').expect("a value");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            let name = series.split('{').next().expect("a name");
            let bare = ["_total", "_bucket", "_count", "_sum", "_info"]
                .iter()
                .find_map(|end| name.strip_suffix(end));
            assert!(families.contains_key(&Some(name)) || families.contains_key(&bare), "{line} has no TYPE");
            assert!(name.starts_with("oncegate_") || name.starts_with("process_"), "{line}");
        }
        assert!(families.len() > 10, "{families:?}");
    }

    #[test]
    fn refusals_that_never_happened_take_no_room() {
        assert!(!text().contains("no-route"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_tells_its_memory_and_descriptors() {
        let text = text();
        let value = |name: &str| -> f64 {
            let line = text.lines().find(|line| line.starts_with(name)).expect("the series");
            line.rsplit_once(' ').expect("a value").1.parse().expect("a number")
        };
        assert!(value("process_resident_memory_bytes ") > 1e6);
        assert!(value("process_open_fds ") >= 3.0);
    }
}
