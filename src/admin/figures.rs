//! The store's figures among the others.

use crate::domain::slot::HoldState;
use crate::journal::{counter, gauge, labelled_gauge};
use crate::store::{Figures, LaneFigures};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// The figures of one scrape.
#[derive(Debug)]
pub(super) struct StoreFigures(pub(super) Figures, pub(super) LaneFigures);

// === impl StoreFigures ===

impl Collector for StoreFigures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let encoder = &mut encoder;
        let figures = &self.0;
        let (memory, disk, up) = (figures.memory_bytes, figures.disk_bytes, figures.refusing.is_none());
        gauge(encoder, "store_up", "Whether guarded writes are accepted", None, i64::from(up))?;
        gauge(encoder, "store_memory", "Answers held in memory", Some(Unit::Bytes), signed(memory))?;
        gauge(encoder, "store_disk", "The store's files", Some(Unit::Bytes), signed(disk))?;
        counter(encoder, "store_commits", "Synced commits", figures.commits)?;
        let lanes = &self.1;
        gauge(encoder, "lanes", "Lanes in which somebody has the turn", None, signed(lanes.lanes))?;
        gauge(encoder, "lane_waiting", "Writes that wait for their turn", None, signed(lanes.waiting))?;
        gauge(encoder, "lane_longest", "The longest queue of a lane", None, signed(lanes.longest))?;
        let mut family =
            encoder.encode_descriptor("store_records", "Records by phase", None, MetricType::Gauge)?;
        for (phase, count) in [
            ("queued", figures.queued),
            ("sent", figures.sent),
            ("done", figures.done),
            ("in-doubt", figures.in_doubt),
        ] {
            labelled_gauge(&mut family, &[("phase", phase)], signed(count))?;
        }
        let help = "Holds of slots by the slots' names and how firmly they are held";
        let mut family = encoder.encode_descriptor("slots", help, None, MetricType::Gauge)?;
        for slot in &figures.slots {
            for (state, count) in HoldState::ALL.iter().zip(slot.holds) {
                labelled_gauge(&mut family, &[("slot", &slot.name), ("state", state.word())], signed(count))?;
            }
        }
        Ok(())
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
