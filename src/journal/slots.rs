//! What is counted of slots: by the slots' names, which the configuration bounds.

use super::exposition::labelled_counter;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Names that are counted; a configuration has fewer.
const NAMES_MAX: usize = 1_024;

/// Places that were taken, and requests for one that were refused.
#[derive(Debug, Default)]
pub(super) struct Slots {
    counts: Mutex<BTreeMap<Arc<str>, Counts>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    held: u64,
    refused: u64,
    /// By what they showed; there are four words.
    probed: [(&'static str, u64); 4],
}

// === impl Slots ===

impl Slots {
    /// A place of this name was taken by a success.
    pub(super) fn held(&self, name: &Arc<str>) {
        self.count(name, |counts| counts.held += 1);
    }

    /// A request for a place of this name was refused.
    pub(super) fn refused(&self, name: &Arc<str>) {
        self.count(name, |counts| counts.refused += 1);
    }

    /// The backend was asked about a holder of this name.
    pub(super) fn probed(&self, name: &Arc<str>, shown: &'static str) {
        self.count(name, |counts| {
            let mut places = counts.probed.iter_mut();
            if let Some((word, count)) = places.find(|(word, _)| *word == shown || word.is_empty()) {
                *word = shown;
                *count += 1;
            }
        });
    }

    /// The counters of every name.
    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let counts = self.lock().clone();
        let help = "Places of a slot that a success took";
        let mut family = encoder.encode_descriptor("slots_held", help, None, MetricType::Counter)?;
        for (name, counts) in &counts {
            labelled_counter(&mut family, &[("slot", name)], counts.held)?;
        }
        let help = "Requests that were refused because the slot was taken";
        let mut family = encoder.encode_descriptor("slots_refused", help, None, MetricType::Counter)?;
        for (name, counts) in &counts {
            labelled_counter(&mut family, &[("slot", name)], counts.refused)?;
        }
        let help = "Questions to the backend whether what holds a slot is still there, by what they showed";
        let mut family = encoder.encode_descriptor("slots_probed", help, None, MetricType::Counter)?;
        for (name, counts) in &counts {
            for (shown, count) in counts.probed.iter().filter(|(_, count)| *count > 0) {
                labelled_counter(&mut family, &[("slot", name), ("shown", shown)], *count)?;
            }
        }
        Ok(())
    }

    fn count(&self, name: &Arc<str>, count: impl FnOnce(&mut Counts)) {
        let mut counts = self.lock();
        if counts.contains_key(name) || counts.len() < NAMES_MAX {
            count(counts.entry(name.clone()).or_default());
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Counts>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
