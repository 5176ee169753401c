//! Copies that wait for attempts of other gateways, and of this one. One subscription tells of every end; where a message
//! is lost, the keeper looks at the record itself, at the latest when its lease ends. No copy holds a connection.

use super::spread::SpreadMap;
use crate::domain::ledger::{RecordId, Token};
use crate::store::AttemptEnd;
use crate::store::waiters::{Attempt, Waiter};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Attempts that copies of this gateway may wait for at once; one more is looked at by its own copies' patience alone.
const WAITED_MOST: usize = 100_000;

/// Ends that were told before anybody here waited for them: a message may overtake the reply that it belongs to.
const RECENT_MOST: usize = 1_024;

/// An answer up to so many bytes is kept for that; all of them are a MiB. A larger one is fetched by who comes to wait for it,
/// as hardly ever anybody does: a gateway hears of the answers of the whole fleet.
const RECENT_ANSWER_MOST: usize = 1 << 10;

/// How often a record is looked at while messages arrive, and while they do not (milliseconds).
const LOOK_HEARING: u64 = 1_000;
const LOOK_DEAF: u64 = 100;

/// An attempt: a record's id and its token.
pub(super) type AttemptId = (RecordId, Token);

/// See the module.
#[derive(Default)]
pub(super) struct Ends {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    waited: SpreadMap<AttemptId, Waited>,
    /// The end is `None` where it has to be fetched.
    recent: VecDeque<(AttemptId, Option<AttemptEnd>)>,
    hearing: bool,
}

struct Waited {
    attempt: Arc<Attempt>,
    /// When the keeper looks next, in milliseconds of this gateway's life.
    look_at: u64,
}

// === impl Ends ===

impl Ends {
    /// One more copy behind an attempt whose lease ends in `lease` milliseconds.
    pub(super) fn wait(&self, attempt: AttemptId, lease: u64, anew: bool, now: u64) -> Waiter {
        let mut inner = self.lock();
        let told = inner.recent.iter().rev().find(|(known, _)| *known == attempt).map(|(_, end)| end.clone());
        let known = inner.waited.get(&attempt).map(|waited| waited.attempt.clone());
        let shared = known.unwrap_or_else(Attempt::new);
        let waiter = Waiter::behind(&shared, anew);
        let lost = match told {
            Some(Some(end)) => {
                shared.end(Some(end));
                return waiter;
            }
            Some(None) => true,
            None => false,
        };
        if inner.waited.len() < WAITED_MOST {
            let usual = if inner.hearing { LOOK_HEARING } else { LOOK_DEAF };
            let look_at = if lost { now } else { now.saturating_add(usual.min(lease)) };
            inner.waited.entry(attempt).or_insert(Waited { attempt: shared, look_at });
        }
        waiter
    }

    /// An attempt ended so. `None`: its answer has to be fetched. Says whether somebody waits for that.
    pub(super) fn ended(&self, attempt: AttemptId, end: Option<AttemptEnd>) -> bool {
        let mut inner = self.lock();
        let waited = match &end {
            Some(_) => inner.waited.remove(&attempt),
            None => None,
        };
        let asked_for = inner.waited.contains_key(&attempt);
        if inner.recent.len() >= RECENT_MOST {
            inner.recent.pop_front();
        }
        inner.recent.push_back((attempt, end.as_ref().filter(|end| is_small(end)).cloned()));
        drop(inner);
        if let Some(waited) = waited {
            waited.attempt.end(end);
        }
        asked_for
    }

    /// This gateway ended an attempt itself, and the message follows, or looked how it stands: its own copies hear of it without
    /// a detour. Nobody overtook a reply here, so it is not kept for those who come later.
    pub(super) fn ended_here(&self, attempt: AttemptId, end: AttemptEnd) {
        let waited = self.lock().waited.remove(&attempt);
        if let Some(waited) = waited {
            waited.attempt.end(Some(end));
        }
    }

    /// Whether messages arrive at this moment.
    pub(super) fn hearing(&self, hearing: bool, now: u64) {
        let mut inner = self.lock();
        inner.hearing = hearing;
        // What was missed meanwhile is looked for now.
        for waited in inner.waited.values_mut() {
            waited.look_at = waited.look_at.min(now + LOOK_DEAF);
        }
    }

    /// Attempts to look at now, at most `most`. Those that nobody waits for any more are forgotten.
    pub(super) fn due(&self, now: u64, most: usize) -> Vec<AttemptId> {
        let mut inner = self.lock();
        inner.waited.retain(|_, waited| Arc::strong_count(&waited.attempt) > 1);
        let usual = if inner.hearing { LOOK_HEARING } else { LOOK_DEAF };
        let due = inner.waited.iter_mut().filter(|(_, waited)| waited.look_at <= now).take(most);
        due.map(|(attempt, waited)| {
            waited.look_at = now + usual;
            *attempt
        })
        .collect()
    }

    /// It is still in flight, under a lease that ends in so many milliseconds.
    pub(super) fn still(&self, attempt: AttemptId, lease: u64, now: u64) {
        let mut inner = self.lock();
        if let Some(waited) = inner.waited.get_mut(&attempt) {
            waited.look_at = waited.look_at.min(now.saturating_add(lease.max(1)));
        }
    }

    /// Whether copies of this gateway wait for an attempt.
    pub(super) fn has_waiters(&self, attempt: &AttemptId) -> bool {
        self.lock().waited.get(attempt).is_some_and(|waited| waited.attempt.has_waiters())
    }

    /// Whether anybody waits.
    pub(super) fn is_idle(&self) -> bool {
        self.lock().waited.is_empty()
    }

    /// The store closes: nobody knows more than before.
    pub(super) fn close(&self) {
        let waited = std::mem::take(&mut self.lock().waited);
        waited.into_values().for_each(|waited| waited.attempt.end(None));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_small(end: &AttemptEnd) -> bool {
    !matches!(end, AttemptEnd::Answered(answer) if answer.as_bytes().len() > RECENT_ANSWER_MOST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::answer::Answer;
    use std::time::Duration;

    const ATTEMPT: AttemptId = (RecordId([1; 32]), Token(7));
    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn an_end_that_overtook_the_claims_reply_is_not_missed() {
        let ends = Ends::default();
        assert!(!ends.ended(ATTEMPT, Some(AttemptEnd::NotExecuted)));
        let waiter = ends.wait(ATTEMPT, 1_000, false, 0);
        assert!(matches!(waiter.ended(HOUR).await, Some(AttemptEnd::NotExecuted)));
    }

    #[tokio::test]
    async fn a_large_answer_that_nobody_waited_for_is_not_kept_but_looked_for() {
        let ends = Ends::default();
        let answered = |len: usize| {
            let body = vec![b'x'; len];
            AttemptEnd::Answered(Answer::new(http::StatusCode::OK, &http::HeaderMap::new(), Some(&body)))
        };
        let kept = |ends: &Ends| -> usize {
            let size = |end: &Option<AttemptEnd>| match end {
                Some(AttemptEnd::Answered(answer)) => answer.as_bytes().len(),
                _ => 0,
            };
            ends.lock().recent.iter().map(|(_, end)| size(end)).sum()
        };
        for n in 0..2_000 {
            ends.ended((RecordId([2; 32]), Token(n)), Some(answered(if n % 2 == 0 { 500_000 } else { 500 })));
        }
        assert!(kept(&ends) <= RECENT_MOST * RECENT_ANSWER_MOST, "{} bytes", kept(&ends));
        ends.ended(ATTEMPT, Some(answered(500_000)));
        let waiter = ends.wait(ATTEMPT, 1_000, false, 7);
        assert_eq!(ends.due(7, 9), [ATTEMPT], "at once");
        ends.ended(ATTEMPT, Some(answered(500_000)));
        assert!(matches!(waiter.ended(HOUR).await, Some(AttemptEnd::Answered(_))));
    }

    #[tokio::test]
    async fn an_end_wakes_who_waits_and_an_answer_to_fetch_is_asked_for() {
        let ends = Ends::default();
        let waiter = ends.wait(ATTEMPT, 1_000, false, 0);
        assert!(ends.ended(ATTEMPT, None), "somebody waits for it");
        assert!(!ends.ended((RecordId([1; 32]), Token(8)), None), "another attempt");
        ends.ended(ATTEMPT, Some(AttemptEnd::NotExecuted));
        assert!(matches!(waiter.ended(HOUR).await, Some(AttemptEnd::NotExecuted)));
    }

    #[test]
    fn a_record_is_looked_at_when_its_lease_ends_or_messages_fail() {
        let ends = Ends::default();
        ends.hearing(true, 0);
        let _waiter = ends.wait(ATTEMPT, 300, false, 0);
        assert!(ends.due(299, 9).is_empty());
        assert_eq!(ends.due(300, 9), [ATTEMPT]);
        ends.still(ATTEMPT, 50, 300);
        assert_eq!(ends.due(350, 9), [ATTEMPT]);
        ends.hearing(false, 350);
        assert_eq!(ends.due(450, 9), [ATTEMPT]);
    }

    #[test]
    fn what_nobody_waits_for_is_forgotten() {
        let ends = Ends::default();
        drop(ends.wait(ATTEMPT, 1, false, 0));
        assert!(ends.due(1_000, 9).is_empty() && ends.is_idle());
    }
}
