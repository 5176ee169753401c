//! The figures of limits: who waits, how waiting ended, and how much is remembered.

use super::exposition::{counter, gauge};
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How a request's wait for its turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldEnd {
    /// Its turn came.
    Turn,
    /// It shared the turn of an equal read.
    Shared,
    /// `hold_at_most` passed.
    Over,
    /// It could not wait: as many wait as may.
    Full,
    /// The gateway drained.
    Drained,
    /// Its client left.
    Left,
}

/// The words of [`HoldEnd`], in its order.
const WORDS: [&str; 6] = ["turn", "shared", "over", "full", "drained", "client-left"];

/// What limits count.
#[derive(Debug, Default)]
pub struct LimitFigures {
    used: AtomicU64,
    overflowed: AtomicU64,
    held: AtomicU64,
    holds: [AtomicU64; WORDS.len()],
}

// === impl LimitFigures ===

impl LimitFigures {
    /// Places in use, how often one was missing, and how many requests wait.
    pub fn set(&self, used: u64, overflowed: u64, held: u64) {
        self.used.store(used, Relaxed);
        self.overflowed.store(overflowed, Relaxed);
        self.held.store(held, Relaxed);
    }

    /// A wait ended.
    pub fn hold_ended(&self, end: HoldEnd) {
        self.holds[end as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let value = |cell: &AtomicU64| i64::try_from(cell.load(Relaxed)).unwrap_or(i64::MAX);
        gauge(encoder, "held", "Requests that wait for their turn", None, value(&self.held))?;
        let help = "Limits of clients that are remembered exactly";
        gauge(encoder, "limit_buckets", help, None, value(&self.used))?;
        let help = "Limits of clients that found no room and were counted together with others'";
        counter(encoder, "limit_overflows", help, self.overflowed.load(Relaxed))?;
        let help = "Requests that were to wait for their turn, by how that ended";
        let mut family = encoder.encode_descriptor("holds", help, None, MetricType::Counter)?;
        for (word, cell) in WORDS.iter().zip(&self.holds) {
            let labels = &[("end", *word)][..];
            ConstCounter::new(cell.load(Relaxed)).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
