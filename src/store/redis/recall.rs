//! What this gateway remembers of its own recent claims and answers, so that it can say them again to a store that was
//! restarted, replaced or emptied. Bounded in number, where the oldest are forgotten first, and in bytes of answers, where less
//! and less is kept of the oldest: a record that is forgotten would be executed again. It lives as long as the process: a
//! gateway and the store lost at once are two faults.
//!
//! What it remembers of a write under a client's key answers copies, too, without asking the store: no later write ends such
//! a record before its time, only an operator. Who deletes it tells all gateways (`hearing`); where that is not heard, the
//! store is asked again after [`SAID_FOR`].

use super::ended::Ended;
use super::holdings::Holdings;
use super::spread::SpreadMap;
use super::turns::Turns;
use crate::domain::answer::Answer;
use crate::domain::ledger::{RecordId, TargetId, Token};
use crate::domain::time::Millis;
use crate::store::ClaimRequest;
use http::HeaderMap;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Records that are remembered at most.
const RECORDS_MOST: usize = 200_000;

/// So many claims later it is looked for what is over behind a record that lives long.
const LOOK_EVERY: u32 = 16_384;

/// No attempt is at work for longer, before or behind the time for which its doubt is kept.
const AT_WORK_MOST: Duration = Duration::from_secs(86_400);

/// So many milliseconds an answer under a key goes to copies after the store last said it, before it is asked again.
const SAID_FOR: u64 = 10_000;

/// From so many milliseconds before a record's end on, the store is asked: it ends by the store's clock, which the gateway
/// hears every second.
const NEAR_END: Duration = Duration::from_secs(2);

/// See the module.
pub(super) struct Recall {
    /// The holds that its claims took.
    pub(super) holds: Holdings,
    /// What ended before its time.
    pub(super) ended: Ended,
    /// The turns that its attempts have.
    pub(super) turns: Turns,
    inner: Mutex<Inner>,
    bytes_most: u64,
}

#[derive(Default)]
struct Inner {
    /// Boxed: a table of so many is moved whenever it grows, and most of it is not touched again.
    records: SpreadMap<RecordId, Box<Remembered>>,
    /// In the order of their claims; what was forgotten meanwhile is passed over.
    order: VecDeque<(RecordId, Token)>,
    /// Those whose answers are more than a status, in the order of their answers and then of what was cut off them; likewise.
    answers: VecDeque<(RecordId, Token)>,
    bytes: u64,
    /// Claims since it was looked for what is over.
    since_look: u32,
}

/// What is remembered of one record.
#[derive(Clone)]
pub(super) struct Remembered {
    /// The claim that was granted, or would have been.
    pub(super) request: ClaimRequest,
    /// When.
    pub(super) claimed_at: Millis,
    /// What became of it.
    pub(super) end: End,
    /// Its answer was offered to the store, which did not say that it has it.
    offered: bool,
}

/// What became of a claim, as far as this gateway knows.
#[derive(Clone)]
pub(super) enum End {
    /// It may have been sent.
    Sent,
    /// It was answered.
    Done(Kept),
    /// Nothing was sent, and the store may not know that yet.
    Abandoned,
}

/// An answer that is kept.
#[derive(Clone)]
pub(super) struct Kept {
    /// The answer.
    pub(super) answer: Answer,
    /// The resource that it names.
    pub(super) names: Option<TargetId>,
    /// Since when.
    pub(super) done_at: Millis,
    /// Until when.
    pub(super) until: Millis,
    /// When the store last said so, in milliseconds of this gateway's life.
    pub(super) said_at: u64,
}

// === impl Recall ===

impl Recall {
    /// Remembers answers of at most `bytes_most` bytes in all.
    pub(super) fn new(bytes_most: u64) -> Recall {
        let (holds, ended, turns) = (Holdings::default(), Ended::default(), Turns::default());
        Recall { holds, ended, turns, inner: Mutex::default(), bytes_most }
    }

    /// A claim was granted.
    pub(super) fn claimed(&self, request: ClaimRequest, now: Millis) {
        self.holds.reserved(&request, now);
        let (id, token) = (request.id, request.claim.token);
        let mut inner = self.lock();
        inner.take(&id);
        inner
            .records
            .insert(id, Box::new(Remembered { request, claimed_at: now, end: End::Sent, offered: false }));
        inner.order.push_back((id, token));
        inner.shrink(now);
    }

    /// It was answered.
    pub(super) fn done(&self, id: RecordId, token: Token, kept: Kept) {
        let now = kept.done_at;
        let mut inner = self.lock();
        let size = size(&kept);
        match inner.of(&id, token) {
            Some(record) if matches!(record.end, End::Done(_)) => return,
            Some(record) => record.end = End::Done(kept),
            None => return,
        }
        inner.bytes += size;
        inner.answers.push_back((id, token));
        inner.shrink(now);
        inner.cut(self.bytes_most);
    }

    /// An answer was offered, and the store did not say that it has it.
    pub(super) fn offered(&self, id: RecordId, token: Token) {
        if let Some(record) = self.lock().of(&id, token) {
            record.offered = true;
        }
    }

    /// Whether that was so before.
    pub(super) fn was_offered(&self, id: &RecordId, token: Token) -> bool {
        self.lock().of(id, token).is_none_or(|record| record.offered)
    }

    /// The answer of a copy under a client's key, where the store need not be asked for it. `time`: the present instant, and
    /// the milliseconds of this gateway's life.
    pub(super) fn answer_of(
        &self,
        copy: &ClaimRequest,
        time: impl FnOnce() -> (Millis, u64),
    ) -> Option<Answer> {
        if !copy.claim.keyed {
            return None;
        }
        let (now, elapsed) = time();
        let inner = self.lock();
        let known = inner.records.get(&copy.id)?;
        let End::Done(kept) = &known.end else { return None };
        let means_the_same = known.request.claim.fingerprint == copy.claim.fingerprint;
        let is_fresh = now.after(NEAR_END) < kept.until && elapsed < kept.said_at + SAID_FOR;
        // Of one without a body the store may have more.
        (means_the_same && is_fresh && !kept.answer.is_tombstone()).then(|| kept.answer.clone())
    }

    /// The store said at `elapsed` that this is the answer of a record.
    pub(super) fn said(&self, id: &RecordId, answer: &Answer, elapsed: u64) {
        if let Some(known) = self.lock().records.get_mut(id)
            && let End::Done(kept) = &mut known.end
            && kept.answer == *answer
        {
            kept.said_at = elapsed;
        }
    }

    /// The request id of the attempt whose answer a record has.
    pub(super) fn made_by(&self, id: &RecordId, now: Millis) -> Option<String> {
        let inner = self.lock();
        let known = inner.records.get(id)?;
        let counts = matches!(&known.end, End::Done(kept) if now < kept.until);
        counts.then(|| known.request.about.request_id.clone())
    }

    /// Nothing was sent, and the store was not reached with that.
    pub(super) fn abandoned(&self, id: RecordId, token: Token) {
        if let Some(record) = self.lock().of(&id, token) {
            record.end = End::Abandoned;
        }
        self.holds.gone(token);
    }

    /// There is nothing left to say of it.
    pub(super) fn forget(&self, id: RecordId, token: Token) {
        let mut inner = self.lock();
        if inner.of(&id, token).is_some() {
            inner.take(&id);
        }
    }

    /// It is known that nothing was executed.
    pub(super) fn not_executed(&self, id: RecordId, token: Token) {
        self.forget(id, token);
        self.holds.gone(token);
    }

    /// An operator has settled it.
    pub(super) fn settled(&self, id: RecordId) {
        self.lock().take(&id);
    }

    /// Everything that is still worth saying at `now`.
    pub(super) fn all(&self, now: Millis) -> Vec<Remembered> {
        let inner = self.lock();
        let counts = |record: &&Remembered| match &record.end {
            End::Sent => now < record.claimed_at.after(record.request.claim.in_doubt_for),
            End::Done(kept) => now < kept.until,
            End::Abandoned => true,
        };
        inner.records.values().map(|record| &**record).filter(counts).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Remembered ===

impl Remembered {
    /// Whether nobody will have anything to say of it any more.
    fn is_over(&self, now: Millis) -> bool {
        match &self.end {
            End::Done(kept) => kept.until <= now,
            End::Sent => self.claimed_at.after(self.request.claim.in_doubt_for).after(AT_WORK_MOST) <= now,
            End::Abandoned => false,
        }
    }
}

// === impl Inner ===

impl Inner {
    fn of(&mut self, id: &RecordId, token: Token) -> Option<&mut Remembered> {
        let record = self.records.get_mut(id).map(|record| &mut **record);
        record.filter(|record| record.request.claim.token == token)
    }

    fn take(&mut self, id: &RecordId) {
        if let Some(record) = self.records.remove(id)
            && let End::Done(kept) = &record.end
        {
            self.bytes -= size(kept);
        }
    }

    /// Forgets the oldest: those that are over, and as many as there are too many.
    fn shrink(&mut self, now: Millis) {
        self.since_look += 1;
        if self.since_look >= LOOK_EVERY {
            self.since_look = 0;
            self.drop_over(now);
        }
        tidy(&mut self.order, &self.records);
        while let Some((id, token)) = self.order.front().copied() {
            let too_many = self.records.len() > RECORDS_MOST;
            let is_over = self.of(&id, token).is_none_or(|record| record.is_over(now));
            if !too_many && !is_over {
                return;
            }
            self.order.pop_front();
            if self.of(&id, token).is_some() {
                self.take(&id);
            }
        }
    }

    /// Forgets all that are over, wherever they stand: one that lives long must not be the first to go because of them.
    fn drop_over(&mut self, now: Millis) {
        let over = self.records.iter().filter(|(_, record)| record.is_over(now));
        let over: Vec<RecordId> = over.map(|(id, _)| *id).collect();
        over.iter().for_each(|id| self.take(id));
    }

    /// Keeps less of the oldest answers while all of them are more bytes than that: no bodies, then the statuses alone.
    fn cut(&mut self, bytes_most: u64) {
        tidy(&mut self.answers, &self.records);
        while self.bytes > bytes_most
            && let Some((id, token)) = self.answers.pop_front()
        {
            let Some(Remembered { end: End::Done(kept), .. }) = self.of(&id, token) else { continue };
            let (before, had_body) = (size(kept), !kept.answer.is_tombstone());
            kept.answer = match had_body {
                true => kept.answer.to_tombstone(),
                false => Answer::new(kept.answer.status(), &HeaderMap::new(), None),
            };
            let after = size(kept);
            self.bytes = self.bytes - before + after;
            if had_body {
                self.answers.push_back((id, token));
            }
        }
    }
}

/// The front may stay for long while those behind it are forgotten.
fn tidy(queue: &mut VecDeque<(RecordId, Token)>, records: &SpreadMap<RecordId, Box<Remembered>>) {
    if queue.len() > 2 * RECORDS_MOST {
        queue
            .retain(|(id, token)| records.get(id).is_some_and(|record| record.request.claim.token == *token));
    }
}

fn size(kept: &Kept) -> u64 {
    kept.answer.as_bytes().len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::client::ScopeId;
    use crate::domain::fingerprint::Fingerprint;
    use crate::domain::ledger::{Claim, Owner, PolicyVersion};
    use crate::store::About;

    fn request(n: u8) -> ClaimRequest {
        let claim = Claim {
            fingerprint: Fingerprint([n; 32]),
            keyed: true,
            policy: PolicyVersion(1),
            scope: ScopeId([1; 16]),
            target: TargetId([1; 16]),
            token: Token(u128::from(n)),
            owner: Owner(1),
            lease: Duration::from_secs(1),
            sent: true,
            in_doubt_for: Duration::from_secs(10),
        };
        let about = About { route: "r".into(), request: String::new(), request_id: String::new() };
        ClaimRequest { id: RecordId([n; 32]), claim, quota: 1, about, slots: Vec::new(), above: None }
    }

    fn claimed(recall: &Recall, n: u8, now: u64) {
        recall.claimed(request(n), Millis(now));
    }

    fn answer(bytes: usize) -> Answer {
        Answer::new(http::StatusCode::OK, &http::HeaderMap::new(), Some(&vec![0; bytes]))
    }

    fn done(recall: &Recall, n: u8, now: u64, bytes: usize) {
        let (answer, until) = (answer(bytes), Millis(now + 100));
        let kept = Kept { answer, names: None, done_at: Millis(now), until, said_at: 0 };
        recall.done(RecordId([n; 32]), Token(u128::from(n)), kept);
    }

    #[test]
    fn too_many_bytes_of_answers_cost_the_oldest_ones_their_bodies_and_nobody_a_record() {
        let recall = Recall::new(1_000);
        claimed(&recall, 9, 0);
        for n in 1..=3 {
            claimed(&recall, n, 0);
            done(&recall, n, 0, 400);
        }
        let mut left = recall.all(Millis(1));
        left.sort_by_key(|record| record.request.id);
        let bodies = left.iter().map(|record| match &record.end {
            End::Done(kept) => Some(kept.answer.body().len()),
            _ => None,
        });
        let bodies: Vec<_> = bodies.collect();
        assert_eq!(bodies, [Some(0), Some(400), Some(400), None], "the last one is in flight, and was first");
    }

    #[test]
    fn of_answers_without_bodies_that_are_too_many_bytes_their_statuses_are_left() {
        let recall = Recall::new(300);
        let headers =
            http::HeaderMap::from_iter([(http::header::LOCATION, "x".repeat(150).parse().unwrap())]);
        let answer = Answer::new(http::StatusCode::CREATED, &headers, Some(b"body"));
        for n in 1..=4 {
            claimed(&recall, n, 0);
            let kept = Kept {
                answer: answer.clone(),
                names: None,
                done_at: Millis(0),
                until: Millis(60_000),
                said_at: 0,
            };
            recall.done(RecordId([n; 32]), Token(u128::from(n)), kept);
        }
        assert!(recall.lock().bytes <= 300);
        let (all, status) = (recall.all(Millis(1)), http::StatusCode::CREATED);
        assert!(
            all.len() == 4
                && all
                    .iter()
                    .all(|record| matches!(&record.end, End::Done(kept) if kept.answer.status() == status))
        );
        assert_eq!(recall.answer_of(&request(1), || (Millis(1), 1)), None, "the store is asked for it");
    }

    #[test]
    fn what_is_over_leaves_from_behind_a_record_that_is_in_doubt_for_long() {
        let recall = Recall::new(1_000);
        claimed(&recall, 1, 0);
        for n in 2..=100 {
            claimed(&recall, n, 0);
            done(&recall, n, 0, 1);
        }
        (0..LOOK_EVERY).for_each(|_| claimed(&recall, 101, 100));
        let mut inner = recall.lock();
        assert_eq!((inner.records.len(), inner.bytes), (2, 0), "the first one and the last");
        assert!(inner.of(&RecordId([1; 32]), Token(1)).is_some());
    }

    #[test]
    fn what_is_over_or_settled_is_not_said_again() {
        let recall = Recall::new(1_000);
        (1..=4).for_each(|n| claimed(&recall, n, 0));
        done(&recall, 1, 0, 1);
        recall.forget(RecordId([2; 32]), Token(2));
        recall.settled(RecordId([3; 32]));
        recall.abandoned(RecordId([4; 32]), Token(9));
        assert_eq!(recall.all(Millis(99)).len(), 2);
        assert_eq!(recall.all(Millis(100)).len(), 1, "the answer's window is over");
        assert!(recall.all(Millis(10_000)).is_empty(), "so is the doubt's");
    }
    #[test]
    fn copies_under_a_key_are_answered_as_long_as_the_store_cannot_know_better() {
        let recall = Recall::new(1_000);
        claimed(&recall, 1, 0);
        let asked = |copy: &ClaimRequest, now, elapsed| recall.answer_of(copy, || (Millis(now), elapsed));
        assert_eq!(asked(&request(1), 1, 1), None, "in flight");
        let until = Millis(60_000);
        let kept = Kept { answer: answer(9), names: None, done_at: Millis(2), until, said_at: 2 };
        recall.done(RecordId([1; 32]), Token(1), kept);
        assert_eq!(asked(&request(1), 3, 3), Some(answer(9)));
        let mut other = request(1);
        other.claim.fingerprint = Fingerprint([2; 32]);
        assert_eq!(asked(&other, 3, 3), None, "another meaning");
        other = request(1);
        other.claim.keyed = false;
        assert_eq!(asked(&other, 3, 3), None, "a later write may have ended it");
        assert_eq!(asked(&request(1), 58_000, 3), None, "about to end");
        assert_eq!(asked(&request(1), 10_002, 10_002), None, "the store has to say it again");
        recall.said(&RecordId([1; 32]), &answer(8), 10_002);
        assert_eq!(asked(&request(1), 10_003, 10_003), None, "it said something else");
        recall.said(&RecordId([1; 32]), &answer(9), 10_002);
        assert_eq!(asked(&request(1), 10_003, 10_003), Some(answer(9)));
        recall.forget(RecordId([1; 32]), Token(1));
        assert_eq!(asked(&request(1), 10_003, 10_003), None);
    }
}
