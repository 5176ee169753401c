//! What is counted of kept and shared answers, beside the decisions that each request is counted under.

use super::exposition::{counter, gauge, labelled_counter};
use super::shard::Gauge;
use crate::domain::read::Bar;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Figures of kept and shared answers.
#[derive(Debug, Default)]
pub struct ReadFigures {
    /// Requests that wait for another's call at this moment.
    pub waiting: Gauge,
    /// Answers that no longer count because a write came after them, each time one was met.
    pub ended: AtomicU64,
    stored: AtomicU64,
    bytes: AtomicU64,
    entries: AtomicU64,
    barred: [AtomicU64; Bar::ALL.len()],
}

// === impl ReadFigures ===

impl ReadFigures {
    /// An answer was kept; what the cache holds since.
    pub fn kept(&self, bytes: u64, entries: usize) {
        self.bytes.store(bytes, Ordering::Relaxed);
        self.entries.store(entries as u64, Ordering::Relaxed);
    }

    /// One more was stored.
    pub fn stored(&self) {
        self.stored.fetch_add(1, Ordering::Relaxed);
    }

    /// An answer was for its own request alone.
    pub fn barred(&self, why: Bar) {
        self.barred[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let count = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        let level = |cell: &AtomicU64| i64::try_from(count(cell)).unwrap_or(i64::MAX);
        gauge(encoder, "cache", "Memory of kept answers", Some(Unit::Bytes), level(&self.bytes))?;
        gauge(encoder, "cache_entries", "Kept answers and notes about reads", None, level(&self.entries))?;
        gauge(
            encoder,
            "coalesce_waiting",
            "Requests that wait for another's call",
            None,
            self.waiting.get(),
        )?;
        counter(encoder, "cache_stored", "Answers that were kept", count(&self.stored))?;
        let help = "Kept or coming answers that a write had ended when they were wanted";
        counter(encoder, "cache_ended", help, count(&self.ended))?;
        let help = "Answers that could not be shared";
        let mut family = encoder.encode_descriptor("cache_barred", help, None, MetricType::Counter)?;
        for (bar, cell) in Bar::ALL.iter().zip(&self.barred) {
            labelled_counter(&mut family, &[("why", bar.word())], count(cell))?;
        }
        Ok(())
    }
}
