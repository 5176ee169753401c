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
    /// Of a fleet: how many gateways there are, and whether this one limits by itself.
    fleet: [AtomicU64; 2],
}

// === impl LimitFigures ===

impl LimitFigures {
    /// Places in use, how often one was missing, and how many requests wait.
    pub fn set(&self, used: u64, overflowed: u64, held: u64) {
        self.used.store(used, Relaxed);
        self.overflowed.store(overflowed, Relaxed);
        self.held.store(held, Relaxed);
    }

    /// Of a fleet: whether this gateway limits by itself, because the store does not answer in time, and how many gateways
    /// share it.
    pub fn set_fleet(&self, alone: bool, gateways: u64) {
        self.fleet[0].store(gateways, Relaxed);
        self.fleet[1].store(u64::from(alone), Relaxed);
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
        if self.fleet[0].load(Relaxed) > 0 {
            let help = "Gateways that share the store and with it the limits, this one included";
            gauge(encoder, "gateways", help, None, value(&self.fleet[0]))?;
            let help = "Whether this gateway keeps its share of the limits by itself: the store does not answer in time";
            gauge(encoder, "limits_alone", help, None, value(&self.fleet[1]))?;
        }
        let help = "Requests that were to wait for their turn, by how that ended";
        let mut family = encoder.encode_descriptor("holds", help, None, MetricType::Counter)?;
        for (word, cell) in WORDS.iter().zip(&self.holds) {
            let labels = &[("end", *word)][..];
            ConstCounter::new(cell.load(Relaxed)).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
