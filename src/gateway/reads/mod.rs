//! Reads whose answers are kept or shared: answered from a copy, by an equal read's call, or by a call of their own.
//!
//! ```text
//! reading -> cache --fresh--------------------------> kept -> answer
//!               |--stale, none--> flight --follows--> landing -^
//!                                    |---leads------> lead --> cache, landing, and its own client
//! writing -> endings: what was asked for before a write is nobody's answer any more
//! ```
//!
//! What may be shared, and for how long, is decided in `domain::read`; here it is done. Nothing here waits for a lock
//! while it holds another.

mod cache;
mod endings;
mod flight;
mod gather;
mod kept;
mod lead;
mod pipe;
mod reading;
mod second;
mod status;
mod writing;

pub use flight::Flight;
pub use pipe::Outlet;
pub use writing::Writing;

use super::clock;
use super::exchange::{self, Exchange, Outcome};
use super::line::{Limits, Line};
use super::throttle::stand_again;
use super::upload::ClientBody;
use crate::config::{CacheMemory, Mode, Reads as Rules};
use crate::domain::event::Decision;
use crate::domain::ledger::TargetId;
use crate::domain::read::{ReadKey, Standing, is_shareable};
use crate::domain::refusal::{Reason, Refusal};
use crate::journal::Journal;
use cache::{Cache, Slot};
use endings::Endings;
use flight::{Flights, Joined, Landing, Origin};
use http::Method;
use http::request::Parts;
use kept::Kept;
use lead::Lead;
use reading::Reading;
use status::CacheStatus;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// What all workers share of kept and coming answers.
pub struct Reads {
    cache: Cache,
    flights: Arc<Flights>,
    endings: Endings,
    answer_limit: u64,
    journal: Arc<Journal>,
}

/// How often a read waits for others before it goes by itself.
const ROUNDS: usize = 2;
/// Answers that are being gathered may take this part of the cache's memory.
const GATHERED_PART: u64 = 4;

/// Answers a GET or HEAD of a route that keeps or shares answers. What goes on to the backend is boxed: a copy that is there
/// needs no room for it.
pub async fn read(
    exchange: Exchange,
    parts: Parts,
    body: ClientBody,
    line: &mut Line,
) -> Result<Outcome, Refusal> {
    let worker = exchange.worker.clone();
    let (Some(reads), Some(rules)) =
        (exchange.reads().cloned(), worker.shared.policy.routes()[exchange.route].reads.as_ref())
    else {
        return Box::pin(exchange::pass(exchange, parts, body)).await;
    };
    if exchange.rules().mode == Mode::Observe {
        return Box::pin(exchange::pass(exchange, parts, body)).await;
    }
    if !is_shareable(&parts, !http_body::Body::is_end_stream(&body)) {
        return by_itself(exchange, parts, body, "request", line).await;
    }
    let reading = Reading::of(&exchange, rules, &parts);
    if reading.wants.no_store {
        return by_itself(exchange, parts, body, "no-store", line).await;
    }
    let stale = match reads.known(&exchange, rules, &reading, &parts) {
        Some((kept, Standing::Fresh)) => return Ok(reads.answer(&kept, &reading)),
        Some((kept, Standing::Refresh)) => {
            let outcome = reads.answer_stale(&kept, &reading, "stale-while-revalidate");
            reads.refresh(exchange, reading, parts, kept, &line.limits);
            return Ok(outcome);
        }
        Some((kept, Standing::Stale)) => Some(kept),
        None => None,
    };
    if reading.wants.only_if_cached {
        let detail = "The request wants a kept answer (only-if-cached), and there is none that it may have.";
        return Err(Refusal::new(Reason::NotCached, detail));
    }
    if let Some(why) = reads.alone(&reading) {
        return by_itself(exchange, parts, body, why, line).await;
    }
    if reading.head_only {
        return by_itself(exchange, parts, body, "method", line).await;
    }
    if rules.coalesce {
        return Box::pin(reads.fly(exchange, reading, parts, body, stale, line)).await;
    }
    let (resource, seat, born) = (exchange.own_target(parts.uri.path()), None, reads.endings.moment());
    Lead { reads, exchange, reading, resource, stale, seat, born }.for_client(parts).await
}

/// The copy that a read without a body may have whose client would have to wait for its turn too long: younger than
/// `stale_if_throttled`. `None` where there is none; nothing is sent either way.
pub fn throttled(exchange: &Exchange, parts: &Parts) -> Option<Outcome> {
    let (reads, rules) = (exchange.reads()?, exchange.rules().reads.as_ref()?);
    let limit = rules.cache.as_ref()?.stale_if_throttled;
    if !is_shareable(parts, false) {
        return None;
    }
    let reading = Reading::of(exchange, rules, parts);
    if reading.wants.no_store {
        return None;
    }
    match reads.known(exchange, rules, &reading, parts) {
        Some((kept, Standing::Fresh)) => Some(reads.answer(&kept, &reading)),
        Some((kept, _)) if kept.is_younger(clock::now(), limit) => {
            Some(reads.answer_stale(&kept, &reading, "stale-if-throttled"))
        }
        _ => None,
    }
}

/// Which reads without a body are one, for whoever lets equal reads wait together: `None` where a request is unlike any
/// other, or where equal ones are not one call to the backend.
pub fn key(exchange: &Exchange, parts: &Parts) -> Option<ReadKey> {
    let (reads, rules) = (exchange.reads()?, exchange.rules().reads.as_ref()?);
    if !rules.coalesce || parts.method != Method::GET || !is_shareable(parts, false) {
        return None;
    }
    let reading = Reading::of(exchange, rules, parts);
    (!reading.wants.no_store && reads.alone(&reading).is_none()).then_some(reading.key)
}

/// Forwards a read whose answer is for itself alone: in a turn of its own.
async fn by_itself(
    exchange: Exchange,
    parts: Parts,
    body: ClientBody,
    why: &'static str,
    line: &mut Line,
) -> Result<Outcome, Refusal> {
    if !line.limits.may_call(None)
        && let Some(answered) = Box::pin(stand_again(&exchange, &parts, line, None)).await?
    {
        return Ok(answered);
    }
    let mut outcome = Box::pin(exchange::pass(exchange, parts, body)).await?;
    CacheStatus::Bypass(why).add_to(outcome.response.headers_mut());
    Ok(outcome)
}

// === impl Reads ===

impl Reads {
    /// Nothing kept yet.
    pub fn new(memory: &CacheMemory, journal: Arc<Journal>) -> Arc<Reads> {
        Arc::new(Reads {
            cache: Cache::new(memory.memory),
            flights: Arc::new(Flights::new(memory.memory / GATHERED_PART)),
            endings: Endings::new(clock::now()),
            answer_limit: memory.answer_limit,
            journal,
        })
    }

    /// The copy that a read may have, as far as no write has ended it.
    fn known(
        &self,
        exchange: &Exchange,
        rules: &Rules,
        reading: &Reading,
        parts: &Parts,
    ) -> Option<(Arc<Kept>, Standing)> {
        let slot = match reading.base {
            None => self.cache.get(&reading.key),
            Some(base) => match self.cache.get(&base) {
                Some(Slot::Varies(names, list)) => {
                    self.cache.get(&reading.varied(exchange, rules, parts, &names).within(list))
                }
                slot => slot,
            },
        };
        let Some(Slot::Kept(kept)) = slot else { return None };
        let now = clock::now();
        if self.endings.ended(kept.born, now, || reading.ended_by(kept.resource)) {
            self.journal.metrics().reads.ended.fetch_add(1, Relaxed);
            return None;
        }
        let standing = kept.standing(now, &reading.wants);
        Some((kept, standing))
    }

    /// Why equal reads go by themselves for now, where they do.
    fn alone(&self, reading: &Reading) -> Option<&'static str> {
        match self.cache.get(&reading.alone) {
            Some(Slot::Alone(until, why)) if clock::now() < until => Some(why),
            _ => None,
        }
    }

    /// Waits for an equal read's call, or leads one.
    async fn fly(
        self: Arc<Reads>,
        exchange: Exchange,
        reading: Reading,
        parts: Parts,
        body: ClientBody,
        stale: Option<Arc<Kept>>,
        line: &mut Line,
    ) -> Result<Outcome, Refusal> {
        let resource = exchange.own_target(parts.uri.path());
        let mut rounds = 0..ROUNDS;
        let mut deadline = clock::now() + exchange.rules().timeout;
        while !rounds.is_empty() {
            let follower = match self.join(&reading, resource, &line.limits) {
                Joined::Lead(seat) => {
                    let (born, seat) = (seat.born(), Some(seat));
                    let lead = Lead { reads: self, exchange, reading, resource, stale, seat, born };
                    return lead.for_client(parts).await;
                }
                Joined::Follow(follower) => follower,
                Joined::Barred => {
                    let again = stand_again(&exchange, &parts, line, Some(reading.key));
                    if let Some(answered) = Box::pin(again).await? {
                        return Ok(answered);
                    }
                    deadline = clock::now() + exchange.rules().timeout;
                    continue;
                }
                Joined::Full => break,
            };
            rounds.next();
            let landing = {
                let landing = pin!(follower.landing(&self.journal.metrics().reads.waiting));
                exchange.worker.deadlines.within(deadline, landing).await
            };
            match landing {
                // The backend works; its answer takes longer than anybody waits for another's.
                None if follower.is_answered() => break,
                None => return Err(too_slow(&exchange)),
                Some(Landing::Shared(kept, Origin::Backend)) => {
                    return Ok(self.answer_shared(&kept, &reading));
                }
                Some(Landing::Shared(kept, Origin::StandIn)) => {
                    return Ok(self.answer_stale(&kept, &reading, "stale-if-error"));
                }
                Some(Landing::Alone) => break,
                Some(Landing::Failed) => {}
            }
        }
        by_itself(exchange, parts, body, "alone", line).await
    }

    /// Joins an equal read's call, or begins one where it may. Whoever shares a turn with one that was made and is over has
    /// that one's answer, unless it had none.
    fn join(&self, reading: &Reading, resource: TargetId, limits: &Limits) -> Joined {
        let is_good = |flight: &Flight| {
            !self.endings.ended(flight.born, clock::now(), || reading.ended_by(flight.resource))
        };
        let own = || {
            let flight = Flight::new(self.endings.moment(), resource, limits.is_shared());
            limits.may_call(Some(&flight)).then_some(flight)
        };
        match self.flights.join(reading.key, own, is_good) {
            Joined::Barred => {
                let called = limits.called().filter(|flight| !flight.has_failed() && is_good(flight));
                called.map_or(Joined::Barred, |flight| self.flights.follow(flight))
            }
            joined => joined,
        }
    }

    /// Asks for a copy anew that was given although it is stale, unless somebody does already.
    fn refresh(
        self: Arc<Reads>,
        exchange: Exchange,
        reading: Reading,
        parts: Parts,
        kept: Arc<Kept>,
        limits: &Limits,
    ) {
        // A backend that has just failed is not asked again at once: the copy is there.
        if reading.head_only || self.alone(&reading).is_some() {
            return;
        }
        // The client has its answer, and waits for this one no more than anybody else does.
        exchange.flight.set(None);
        let (resource, stale) = (kept.resource, Some(kept));
        let own = || {
            let flight = Flight::new(self.endings.moment(), resource, false);
            limits.may_call(Some(&flight)).then_some(flight)
        };
        if let Joined::Lead(seat) = self.flights.join(reading.key, own, |_| true) {
            let (reads, born, seat) = (self.clone(), seat.born(), Some(seat));
            Lead { reads, exchange, reading, resource, stale, seat, born }.for_nobody(parts);
        }
    }

    fn answer(&self, kept: &Kept, reading: &Reading) -> Outcome {
        let now = clock::now();
        let left = kept.seconds_left(now);
        self.answered(kept, reading, Decision::Cached, CacheStatus::Hit(left))
    }

    fn answer_stale(&self, kept: &Kept, reading: &Reading, why: &'static str) -> Outcome {
        let left = kept.seconds_left(clock::now());
        self.answered(kept, reading, Decision::Stale, CacheStatus::Stale(left, why))
    }

    fn answer_shared(&self, kept: &Kept, reading: &Reading) -> Outcome {
        self.answered(kept, reading, Decision::Coalesced, CacheStatus::Collapsed)
    }

    fn answered(&self, kept: &Kept, reading: &Reading, decision: Decision, status: CacheStatus) -> Outcome {
        let response = kept.answer(&reading.conditions, reading.head_only, clock::now(), status);
        Outcome { scope: Some(reading.scope), ..Outcome::new(response, decision) }
    }
}

/// A follower's own patience has ended.
fn too_slow(exchange: &Exchange) -> Refusal {
    let timeout = exchange.rules().timeout;
    let detail =
        format!("The backend did not answer an equal request within {timeout:?}, which this one waited for.");
    Refusal::new(Reason::UpstreamTimeout, detail)
}
