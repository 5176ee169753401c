//! What an operator sees of a record.

use super::Embedded;
use super::index::{Entry, Index};
use crate::domain::ledger::{Phase, RecordId};
use crate::store::{LeftInDoubt, Listing, RecordView};

/// The most records that one listing gives.
const LISTING_MAX: usize = 1_000;

/// The operator's view of one record.
pub(super) fn view(id: &RecordId, entry: &Entry) -> RecordView {
    let record = &entry.record;
    let (phase, since, why, status) = match &record.phase {
        Phase::Queued { .. } => ("queued", record.claimed_at, None, None),
        Phase::Sent { sent_at, .. } => ("sent", *sent_at, None, None),
        Phase::Done { answer, done_at, .. } => ("done", *done_at, None, Some(answer.status)),
        Phase::InDoubt { since, why, .. } => ("in-doubt", *since, Some(*why), None),
    };
    RecordView {
        id: id.to_string(),
        phase: phase.into(),
        keyed: record.keyed,
        scope: record.scope.to_string(),
        about: entry.about.clone(),
        claimed_at: record.claimed_at,
        since,
        until: record.next_deadline(),
        why,
        status,
    }
}

/// Up to `room` records of one part of the index (ids that begin with `byte`), in order.
pub(super) fn list_part(index: &Index, byte: u8, listing: &Listing, room: usize) -> Vec<RecordView> {
    let mut ids: Vec<(&RecordId, &Entry)> =
        index.of_part(byte).filter(|(id, _)| listing.after.is_none_or(|after| **id > after)).collect();
    ids.sort_unstable_by_key(|(id, _)| **id);
    let views = ids.into_iter().map(|(id, entry)| view(id, entry));
    views.filter(|view| listing.phase.as_ref().is_none_or(|phase| *phase == view.phase)).take(room).collect()
}

/// How many records `listing` may give.
pub(super) fn limit(listing: &Listing) -> usize {
    listing.limit.clamp(1, LISTING_MAX)
}

// === impl Embedded ===

impl Embedded {
    pub(in crate::store) fn left_in_doubt(&self) -> LeftInDoubt {
        std::mem::take(&mut self.shared.lock().left)
    }

    pub(in crate::store) fn list(&self, listing: &Listing) -> Vec<RecordView> {
        let limit = limit(listing);
        let mut views = Vec::new();
        for byte in listing.after.map_or(0, |after| after.0[0])..=255 {
            // One part at a time: claims get the lock in between.
            views.extend(list_part(&self.shared.lock().index, byte, listing, limit - views.len()));
            if views.len() == limit {
                break;
            }
        }
        views
    }

    pub(in crate::store) fn show(&self, id: RecordId) -> Option<RecordView> {
        self.shared.lock().index.get(&id).map(|entry| view(&id, entry))
    }
}
