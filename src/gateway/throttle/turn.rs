//! Waiting for a turn, and what a turn that equal reads share allows: one call to the backend.

use super::buckets::Verdict;
use super::fleet::Asks;
use super::hold::{End, Held};
use super::{Asked, fly};
use crate::domain::read::ReadKey;
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::throttle::{Denied, Over};
use crate::gateway::clock;
use crate::gateway::exchange::{Exchange, Outcome};
use crate::gateway::line::{Limits, Line};
use crate::gateway::reads::{self, Flight};
use http::request::Parts;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// A turn that equal reads share. Whoever of them comes first makes its one call.
#[derive(Clone, Debug, Default)]
pub struct SharedTurn(Arc<OnceLock<Option<Arc<Flight>>>>);

/// What a read knows of the turn that it shares.
pub struct Shares {
    turn: SharedTurn,
    /// Why it came too early.
    denied: Denied,
}

/// Of a fleet's turn, a request that has just come lets so much pass, at most, and at most such a part of the turn.
const LETS_PASS: Duration = Duration::from_millis(24);
const LETS_PASS_PART: u32 = 16;

/// Stands in line once more: the call of the turn that was shared is made, and its answer was not for everybody.
/// `read`: which of the others may share this turn, too.
pub async fn stand_again(
    exchange: &Exchange,
    parts: &Parts,
    line: &mut Line,
    read: Option<ReadKey>,
) -> Result<Option<Outcome>, Refusal> {
    let (Some(asked), Some(shares)) = (Asked::by(exchange, parts), line.limits.shares.take()) else {
        return Ok(None);
    };
    let Over::Hold { at_most } = asked.throttle.rules.over else { return Ok(None) };
    // Whoever waits for a turn has nothing in flight.
    line.limits.flight = None;
    exchange.flight.set(None);
    let left = at_most.saturating_sub(line.limits.held.unwrap_or_default());
    let answered = asked.hold(left, shares.denied, read, true, line).await?;
    if answered.is_none() {
        fly(exchange, parts, line).await?;
    }
    Ok(answered)
}

// === impl Limits ===

impl Limits {
    /// Whether it may call the backend: of those who share a turn only the first, whom the others may follow in `flight`.
    pub fn may_call(&self, flight: Option<&Arc<Flight>>) -> bool {
        self.shares.as_ref().is_none_or(|shares| shares.turn.0.set(flight.cloned()).is_ok())
    }

    /// The call that was made in the turn that it shares.
    pub fn called(&self) -> Option<Arc<Flight>> {
        self.shares.as_ref().and_then(|shares| shares.turn.0.get().cloned().flatten())
    }

    /// Whether others count on its call.
    pub fn is_shared(&self) -> bool {
        self.shares.is_some()
    }
}

// === impl Asked ===

impl Asked<'_> {
    /// Waits for the turn, which whoever asks for the same `read` shares. Past that: what is kept of an earlier answer,
    /// where it may have that, else the refusal.
    pub(super) async fn hold(
        &self,
        at_most: Duration,
        denied: Denied,
        read: Option<ReadKey>,
        is_plain: bool,
        line: &mut Line,
    ) -> Result<Option<Outcome>, Refusal> {
        let throttles = &self.who.exchange.shared().throttles;
        let umbrella = self.who.caller.umbrella(&throttles.keyed);
        let held = Held { key: self.keys.own, client: self.who.client, umbrella, read, at_most };
        let (began, mut last, mut stands) = (clock::now(), denied, None);
        let end = throttles
            .holds
            .turn(held, &self.who.exchange.shared().journal.metrics().limits, async || {
                match self.again().await {
                    Verdict::Allowed(stand) => {
                        stands = Some(stand);
                        Ok(())
                    }
                    Verdict::Early(denied, _) | Verdict::Hard(denied, _) => {
                        last = denied;
                        let waited = clock::now().saturating_duration_since(began);
                        let fleet = throttles.fleet.as_ref();
                        Err(denied.wait + fleet.map_or(Duration::ZERO, |_| self.lets_pass(denied, waited)))
                    }
                }
            })
            .await;
        let waited = clock::now().saturating_duration_since(began);
        line.limits.held = Some(line.limits.held.unwrap_or_default() + waited);
        if let (Some(stand), Some(notice)) = (stands, &mut line.limits.notice) {
            notice.stand = stand;
        }
        let refusal = match end {
            End::Turn(shared) => {
                line.limits.shares = shared.map(|turn| Shares { turn, denied });
                return Ok(None);
            }
            End::Shared(turn) => {
                line.limits.shares = Some(Shares { turn, denied });
                return Ok(None);
            }
            End::Over(ahead) => Denied { wait: last.wait + self.turns(last, ahead), ..last },
            End::Full => last,
            End::Draining => return self.copy(is_plain).map(Some).ok_or_else(draining),
        };
        match self.copy(is_plain) {
            Some(copy) => Ok(Some(copy)),
            None => self.refused(refusal, false).map(Some),
        }
    }

    /// Takes the turn for which it waits, if it has come.
    async fn again(&self) -> Verdict {
        let throttles = &self.who.exchange.shared().throttles;
        match &throttles.fleet {
            None => throttles.buckets.take(self.throttle, self.keys, throttles.now(), false),
            Some(fleet) => fleet.decide(self, Asks::Again).await,
        }
    }

    /// How long so many turns take.
    fn turns(&self, denied: Denied, count: usize) -> Duration {
        let limits = &self.throttle.rules.limits;
        let turn = limits[denied.by % limits.len()].interval().saturating_mul(self.throttle.rules.cost);
        Duration::from_nanos(turn.saturating_mul(count as u64))
    }

    /// How much later than its turn it asks, so that those at other gateways who wait for longer ask before it: nobody
    /// keeps a line for all of them, and who comes last would win as often as who waits.
    fn lets_pass(&self, denied: Denied, waited: Duration) -> Duration {
        let turn = self.turns(denied, 1);
        let newcomer = (turn / LETS_PASS_PART).min(LETS_PASS);
        newcomer.div_f64(1.0 + waited.as_secs_f64() / turn.as_secs_f64().max(1e-6))
    }

    /// What is kept of an earlier answer, while it is young enough.
    fn copy(&self, is_plain: bool) -> Option<Outcome> {
        is_plain.then(|| reads::throttled(self.who.exchange, self.who.parts)).flatten()
    }
}

/// The gateway drains, and whoever waits is told.
fn draining() -> Refusal {
    let detail =
        "The gateway is shutting down, and this request was still waiting for its turn; nothing was sent.";
    Refusal::new(Reason::Draining, detail).retry_after(Duration::from_secs(1))
}
