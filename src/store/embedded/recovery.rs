//! What the backend was asked about, and what its answers have in common.

use super::state::{After, State};
use super::*;
use crate::domain::ledger::{Command, Verdict};
use crate::store::recovery::{AnswerKey, Sighting};
use std::collections::{BTreeSet, HashMap};

/// Answers that are remembered for what they have. Each takes some 150 bytes.
const SIGHTINGS_MAX: usize = 100_000;

/// A request id is kept up to this length.
const REQUEST_ID_MAX: usize = 128;

/// What was seen in answers, until when, and in whose.
#[derive(Default)]
pub(super) struct Sightings {
    known: HashMap<AnswerKey, (Millis, String)>,
    ends: BTreeSet<(Millis, AnswerKey)>,
}

// === impl Sightings ===

impl Sightings {
    /// See [`Store::sighted`].
    fn note(&mut self, sighting: Sighting, now: Millis) -> Option<String> {
        while let Some(&(until, key)) = self.ends.first()
            && (until <= now || self.known.len() >= SIGHTINGS_MAX)
        {
            self.ends.pop_first();
            self.known.remove(&key);
        }
        let Sighting { key, mut request_id, window } = sighting;
        if let Some((_, first)) = self.known.get(&key) {
            return Some(first.clone());
        }
        request_id.truncate(request_id.floor_char_boundary(REQUEST_ID_MAX));
        let until = now.after(window);
        self.known.insert(key, (until, request_id));
        self.ends.insert((until, key));
        None
    }
}

// === impl State: recovery ===

impl State {
    /// See [`Store::recovered`](crate::store::Store::recovered).
    fn recovered(
        &mut self,
        completion: Completion,
        now: Millis,
        after: &mut After,
    ) -> Result<Held, StoreError> {
        let answer = Kept::new(self.fitting(&completion.answer));
        let (id, token, keep) = (completion.id, completion.token, completion.keep);
        let verdict = Verdict::Executed { answer, keep };
        let held =
            self.finish(Box::new(completion), Command::Resolve { token: Some(token), verdict }, now, after)?;
        self.free_lane_of(id, held, now, after);
        Ok(held)
    }

    fn proven_absent(&mut self, id: RecordId, token: Token, now: Millis, after: &mut After) -> Held {
        let verdict = Verdict::NotExecuted;
        let held = self.command(id, Command::Resolve { token: Some(token), verdict }, None, now, after);
        self.free_lane_of(id, held, now, after);
        after.commit = self.commit(false);
        held
    }
}

// === impl Embedded: recovery ===

impl Embedded {
    /// See [`Store::recovered`].
    pub(in crate::store) async fn recovered(&self, completion: Completion) -> Result<Held, StoreError> {
        self.hold_back().await?;
        let (held, after) = self.run(|state, now, after| state.recovered(completion, now, after))?;
        self.durable(after.commit).await?;
        held
    }

    /// See [`Store::proven_absent`].
    pub(in crate::store) async fn proven_absent(
        &self,
        id: RecordId,
        token: Token,
    ) -> Result<Held, StoreError> {
        let (held, after) = self.run(|state, now, after| state.proven_absent(id, token, now, after))?;
        self.durable(after.commit).await?;
        Ok(held)
    }

    /// See [`Store::sighted`].
    pub(in crate::store) fn sighted(&self, sighting: Sighting) -> Result<Option<String>, StoreError> {
        self.run(|state, now, _| state.sightings.note(sighting, now)).map(|(first, _)| first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sighting(key: u8, request: &str) -> Sighting {
        let window = Duration::from_secs(10);
        Sighting { key: AnswerKey([key; 16]), request_id: request.into(), window }
    }

    #[test]
    fn the_second_of_its_kind_is_told_of_the_first_within_the_window() {
        let mut sightings = Sightings::default();
        assert_eq!(sightings.note(sighting(1, "a"), Millis(0)), None);
        assert_eq!(sightings.note(sighting(2, "b"), Millis(1)), None);
        assert_eq!(sightings.note(sighting(1, "c"), Millis(9_999)).as_deref(), Some("a"));
        assert_eq!(sightings.note(sighting(1, "d"), Millis(10_000)), None, "its window is over");
        assert_eq!(sightings.note(sighting(1, "e"), Millis(10_001)).as_deref(), Some("d"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut sightings = Sightings::default();
        for n in 0..(SIGHTINGS_MAX as u64 + 10) {
            let mut key = [0; 16];
            key[..8].copy_from_slice(&n.to_be_bytes());
            let window = Duration::from_secs(10);
            let sighting = Sighting { key: AnswerKey(key), request_id: String::new(), window };
            assert_eq!(sightings.note(sighting, Millis(n / 100)), None);
        }
        assert!(sightings.known.len() <= SIGHTINGS_MAX && sightings.ends.len() == sightings.known.len());
    }
}
