//! Before a request is refused a slot: is what holds it still there? Somebody may have cancelled in the backend's own page,
//! which no gateway sees. Where the route's slot has a `recover`, the backend is asked about the hold, with the credentials of
//! whoever is refused; only where every answer says that there is none is that hold given back, if it is still the same.
//!
//! What is unsettled is never asked about, and neither is a hold younger than the backend's own time: who does not see it yet
//! has proven nothing. Many who ask for one slot wait for one question (`asked`); a hold that was found is left alone for a
//! while.

mod asked;

pub use asked::Probing;

use super::exchange::Exchange;
use super::recover::Question;
use crate::domain::conflict::Evidence;
use crate::domain::event::Event;
use crate::domain::slot::{Known, Probe, SlotPolicy, Taken};
use crate::store::Held;
use asked::{Place, Shown};
use http::request::Parts;
use std::time::Duration;

/// Whether the slot that a claim was refused may be asked for once more: something that held it is gone.
pub async fn frees(exchange: &Exchange, parts: &Parts, taken: &Taken) -> bool {
    let mut slots = exchange.rules().slots.all().filter(|slot| slot.name == taken.name);
    let Some((slot, probe)) = slots.find_map(|slot| Some((slot, slot.recover.as_ref()?))) else {
        return false;
    };
    match exchange.shared().probing.enter(taken.slot) {
        Place::Rests => false,
        Place::Copy(waiting) => waiting.shown().await.is_worth_a_claim(),
        Place::First(asking) => {
            let shown = ask_about_one(exchange, parts, (slot, probe), taken).await;
            asking.ended(shown);
            shown.is_worth_a_claim()
        }
    }
}

/// Asks about one of the slot's holders, one that was not asked about lately.
async fn ask_about_one(
    exchange: &Exchange,
    parts: &Parts,
    (slot, probe): (&SlotPolicy, &Probe),
    taken: &Taken,
) -> Shown {
    let shared = exchange.shared();
    let holders = match shared.store.holders(taken.slot, Probe::HOLDERS_MAX as usize).await {
        Ok(holders) => holders,
        // What was refused stays refused; the next command tells of the outage.
        Err(_) => return Shown::Nothing,
    };
    let quiet = exchange.rules().timeout + exchange.guard().map_or(Duration::ZERO, |guard| guard.pause);
    let now = shared.store.now();
    let mut holders = holders.into_iter().filter(|known| known.hold.may_be_asked_about(now, quiet));
    let Some(known) = holders.find(|known| shared.probing.take(known.key())) else {
        shared.probing.rest(taken.slot);
        return Shown::Nothing;
    };
    let target = match probe.target(slot, &shared.digest, &known.hold) {
        Ok(target) => target,
        Err(why) => {
            tracing::debug!(request_id = ?exchange.request_id, ?why, "[route.slot.recover] get cannot be filled");
            return Shown::Nothing;
        }
    };
    let how = (&probe.found, probe.attempts, probe.apart);
    let Some(question) = Question::to(exchange, &target, &parts.headers, how) else { return Shown::Nothing };
    let shown = match question.ask_for_absence(|found| probe.is_gone(found)).await {
        Evidence::Found(_) => Shown::There,
        Evidence::Nothing(why) => {
            tracing::debug!(request_id = ?exchange.request_id, why, "asking about the holder of a slot showed nothing");
            Shown::Nothing
        }
        Evidence::Absent => vacate(exchange, parts, &known).await,
    };
    shared.journal.slot_probed(&slot.name, shown.word());
    shown
}

/// The backend says that there is none: gives the hold back, where it is still the same.
async fn vacate(exchange: &Exchange, parts: &Parts, known: &Known) -> Shown {
    let shared = exchange.shared();
    match shared.store.vacate(known).await {
        Ok(Held::Yes) => {}
        // Given back, moved or taken anew meanwhile: the claim that follows tells which.
        Ok(Held::No) => return Shown::Changed,
        Err(error) => {
            tracing::warn!(request_id = ?exchange.request_id, %error, "a slot whose booking is gone could not be given back");
            return Shown::Nothing;
        }
    }
    shared.journal.event(Event::SlotVacated {
        route: exchange.rules().name.clone(),
        slot: known.hold.name.clone(),
        slot_id: known.slot,
        since: known.hold.since,
        held_by: known.hold.request_id.clone(),
        request_id: exchange.request_id.to_str().unwrap_or_default().into(),
        client: exchange.client(&parts.headers),
    });
    Shown::Freed
}
