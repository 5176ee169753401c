//! Slots on the data path: what a request asks for, what its answer makes of that, and what a client is told.
//!
//! Which slot a request is about is `domain::slot`'s to say, whether it can be had the store's, in the same command as
//! the claim. This file brings the two together.

use super::clock;
use super::exchange::Exchange;
use super::forward::STORE_PATIENCE;
use super::guard::Intent;
use super::source::{self, answer_fields};
use super::worker::Running;
use crate::config::SlotRules;
use crate::domain::canon::Fields;
use crate::domain::client::ScopeId;
use crate::domain::event::Event;
use crate::domain::ledger::Token;
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::says::Says;
use crate::domain::selector::Source;
use crate::domain::slot::{
    Asks, Booking, BookingId, Change, End, HoldKey, HoldState, Keep, Known, Problem, ReleasePolicy, SlotId,
    Taken, Wanted,
};
use crate::store::{EndIntents, Free, Settlement, StoreError};
use http::header::HeaderMap;
use http::request::Parts;
use http::{Method, StatusCode, Uri};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// What one request has to do with slots.
#[derive(Default)]
pub struct Slotted {
    /// What its body says; read only where the route has slots.
    fields: Option<Fields>,
    /// A DELETE: what it succeeds with is gone for good, whatever conditions a `release` has for other methods.
    deletes: bool,
    /// What its claim reserves.
    pub wanted: Vec<Wanted>,
    /// The bookings that its success may give back, with the route's rule and what the request says to it.
    said: Vec<(usize, Booking, Asks)>,
}

/// The backend's answer, as far as it is there to be read.
#[derive(Clone, Copy)]
pub struct Answered<'a> {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its body, where it was kept.
    pub body: Option<&'a [u8]>,
}

/// How often a booking is looked at again because it changed between the look and the claim.
pub const LOOKS_MAX: usize = 3;

/// The first pause before a release that the store did not take is offered again, and the longest one.
const AGAIN: Duration = Duration::from_millis(200);
const AGAIN_MOST: Duration = Duration::from_secs(5);
/// How long it is offered.
const AGAIN_FOR: Duration = Duration::from_secs(3600);
/// How many releases may wait for the store.
const WAITING_MOST: usize = 1024;

/// Why it cannot be said what a request asks for.
pub enum Obstacle {
    /// The request's fault.
    Refused(Refusal),
    /// The store's.
    Store(StoreError),
}

// === impl Slotted ===

impl Slotted {
    /// Reads what a guarded request says about slots. Costs nothing on a route that has none.
    pub fn read(exchange: &Exchange, parts: &Parts, body: &[u8]) -> Slotted {
        let rules = &exchange.rules().slots;
        if rules.is_empty() {
            return Slotted::default();
        }
        let fields = source::request_fields(exchange, parts, body);
        let method = exchange.counts_as(&parts.method);
        let said = {
            let named = source::named(exchange, parts.uri.path());
            let source = request(&named, parts, &fields);
            said(exchange, method, rules, &source)
        };
        Slotted { fields: Some(fields), deletes: *method == Method::DELETE, wanted: Vec::new(), said }
    }

    /// Whether its claim may have to reserve something: only then its body was read for slots.
    pub fn may_reserve(&self) -> bool {
        self.fields.is_some()
    }

    /// Whether the store has to be asked what its claim reserves.
    pub fn looks(&self, exchange: &Exchange) -> bool {
        self.may_reserve() && !exchange.rules().slots.changes.is_empty()
    }

    /// Says what the request's claim has to reserve, by what is known of its booking at this moment.
    pub async fn plan(
        &mut self,
        exchange: &Exchange,
        parts: &Parts,
        (scope, fingerprint, anonymous): (ScopeId, &[u8], bool),
    ) -> Result<(), Obstacle> {
        let rules = &exchange.rules().slots;
        let Some(fields) = self.fields.as_ref().filter(|_| rules.may_reserve()) else { return Ok(()) };
        let shared = exchange.shared();
        let witness = match anonymous {
            true => ScopeId(shared.digest.slot_witness(&scope.0, fingerprint)),
            false => scope,
        };
        let named = source::named(exchange, parts.uri.path());
        let source = request(&named, parts, fields);
        let mut wanted: Vec<Wanted> = Vec::new();
        for slot in &rules.takes {
            let place = slot.wanted(&shared.digest, &source, witness).map_err(refused)?;
            // Two entries that mean the same place mean one place.
            wanted.extend(place.filter(|place| wanted.iter().all(|other| other.slot != place.slot)));
        }
        for change in &rules.changes {
            let Some(booking) = change.slot.booking(&shared.digest, &source) else { continue };
            let known = shared.store.holds_of(booking.key).await.map_err(Obstacle::Store)?;
            let mut add = |places: Vec<Wanted>| {
                for place in places {
                    if wanted.iter().all(|other| other.slot != place.slot) {
                        wanted.push(place);
                    }
                }
            };
            let now = shared.store.now();
            if self.deletes {
                match Change::ending(&change.slot, &shared.digest, &booking, &known, now) {
                    Some(places) => add(places),
                    None => add(vec![never(change.slot.name.clone(), Some(booking), witness)]),
                }
                continue;
            }
            let asks = change.release.and_then(|rule| self.said.iter().find(|(said, ..)| *said == rule));
            let asks = asks.map_or(Asks::Nothing, |(rule, _, asks)| planned(rules, *rule, *asks, &known));
            match Change::plan(&change.slot, &shared.digest, &source, &known, (asks, witness, now)) {
                Ok(Change::Nothing) => {}
                Ok(Change::Takes(places)) => add(places),
                Ok(Change::Busy) => add(vec![never(change.slot.name.clone(), Some(booking), witness)]),
                Ok(Change::Unclear) => return Err(Obstacle::Refused(unclear(&change.slot.name))),
                Err(problem) => return Err(refused(problem)),
            }
        }
        self.wanted = wanted;
        Ok(())
    }

    /// Nothing can be reserved: its claim only finds out whether there is a record.
    pub fn only_ask(&mut self) {
        self.wanted = vec![never("".into(), None, ScopeId([0; 16]))];
    }

    /// Whether what a success says beyond its head may matter.
    pub fn reads_answer(&self, exchange: &Exchange) -> bool {
        let releases = &exchange.rules().slots.releases;
        let is_open = |rule: usize| releases.get(rule).is_some_and(ReleasePolicy::is_open);
        self.wanted.iter().any(|wanted| wanted.booking.is_none())
            || (!self.deletes && self.said.iter().any(|(rule, ..)| is_open(*rule)))
    }

    /// How the places that were reserved go on after an answer.
    pub fn settlement(&self, exchange: &Exchange, answer: Answered<'_>) -> Settlement {
        if self.wanted.is_empty() {
            return Settlement::default();
        }
        let rules = &exchange.rules().slots;
        let says = Says::of(answer.status);
        // What only may have moved has both places.
        let is_unsure = !rules.may_release(says) && self.wanted.iter().any(Wanted::gives_back);
        let end = if is_unsure { End::Unsettled } else { End::of(says) };
        let fields = answer_fields(exchange, answer.headers, answer.body);
        let answer = Source::answer(answer.headers, &fields);
        let booking = |wanted: &Wanted| {
            let slot = rules.takes.iter().find(|slot| slot.name == wanted.name)?;
            Some((wanted.slot, slot.booking(&exchange.shared().digest, &answer)?))
        };
        let bookings: Vec<(SlotId, Booking)> =
            self.wanted.iter().filter(|wanted| wanted.booking.is_none()).filter_map(booking).collect();
        if end == End::Held {
            let journal = &exchange.shared().journal;
            let taken = self.wanted.iter().filter(|wanted| !wanted.looks);
            taken.for_each(|wanted| journal.slot_held(&wanted.name));
        }
        Settlement { end, bookings }
    }

    /// The bookings that an answer gives back.
    pub fn frees(&self, exchange: &Exchange, answer: Answered<'_>) -> Vec<Free> {
        let rules = &exchange.rules().slots;
        let says = Says::of(answer.status);
        if self.said.is_empty() || !says.is_success() {
            return Vec::new();
        }
        let fields = answer_fields(exchange, answer.headers, answer.body);
        let answer = Source::answer(answer.headers, &fields);
        let freed = self.said.iter().filter_map(|(rule, booking, asks)| {
            let release = rules.releases.get(*rule)?;
            let answered = if self.deletes { Asks::Release } else { release.in_answer(&answer) };
            // Where only the answer says whether it comes back, what does not say so leaves it given back.
            let stays = answered != Asks::Resume && release.is_open() && self.wakes(booking.key);
            let releases =
                *asks == Asks::Release && (stays || (answered == Asks::Release && rules.may_release(says)));
            releases.then_some(Free { booking: booking.key, remember: !self.deletes && release.remembers() })
        });
        freed.collect()
    }

    /// Whether a place is reserved because the booking may come back.
    fn wakes(&self, booking: BookingId) -> bool {
        let woken = |place: &&Wanted| place.was_released && !place.looks && !place.asleep;
        let mut woken = self.wanted.iter().filter(woken);
        woken.any(|place| place.booking.as_ref().is_some_and(|own| own.key == booking))
    }
}

/// What an unguarded request's success gives back: its body streams, so only its head is looked at.
pub fn frees_of_head(exchange: &Exchange, method: &Method, target: &Uri, headers: &HeaderMap) -> Vec<Free> {
    let rules = &exchange.rules().slots;
    if rules.releases.is_empty() {
        return Vec::new();
    }
    let named = source::named(exchange, target.path());
    let source = Source { path: &named, query: target.query(), headers, body: &Fields::Empty };
    let for_good = |rule: usize| method == Method::DELETE || rules.releases[rule].when.is_empty();
    let said = said(exchange, method, rules, &source).into_iter();
    let said = said.filter(|(rule, _, asks)| *asks == Asks::Release && for_good(*rule));
    said.map(|(_, booking, _)| Free { booking: booking.key, remember: false }).collect()
}

/// Gives back what an unguarded success released, durably, before its answer goes out. Where the store does not take it, it
/// is offered again: until then the place stays taken, which is the safe side.
pub async fn release(exchange: &Exchange, frees: Vec<Free>, ends: Option<EndIntents>) {
    let store = &exchange.shared().store;
    let released = store.release(frees.clone(), ends.clone());
    let released = tokio::time::timeout_at(clock::now() + STORE_PATIENCE, released).await;
    let Err(error) = released.unwrap_or_else(|_| Err(StoreError::Unavailable("it does not answer".into())))
    else {
        return;
    };
    tracing::warn!(request_id = ?exchange.request_id, %error, "a slot could not be given back yet; it is tried again");
    let shared = exchange.worker.shared.clone();
    if shared.unrecorded.fetch_add(1, Relaxed) >= WAITING_MOST {
        shared.unrecorded.fetch_sub(1, Relaxed);
        tracing::error!(
            "too many releases wait for the store; this one is lost, and its slot stays taken until its end"
        );
        return;
    }
    let running = Running::new(&exchange.worker);
    let until = clock::now() + AGAIN_FOR;
    tokio::task::spawn_local(async move {
        let mut pause = AGAIN;
        while clock::now() < until && shared.store.release(frees.clone(), ends.clone()).await.is_err() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(AGAIN_MOST);
        }
        shared.unrecorded.fetch_sub(1, Relaxed);
        drop(running);
    });
}

fn request<'a>(named: &'a [(&'a str, &'a str)], parts: &'a Parts, fields: &'a Fields) -> Source<'a> {
    Source { path: named, query: parts.uri.query(), headers: &parts.headers, body: fields }
}

/// What the request says to each `release` of its route.
fn said(
    exchange: &Exchange,
    method: &Method,
    rules: &SlotRules,
    source: &Source<'_>,
) -> Vec<(usize, Booking, Asks)> {
    let digest = &exchange.shared().digest;
    let said = rules.releases.iter().enumerate().filter_map(|(at, release)| {
        let asks = if method == Method::DELETE { Asks::Release } else { release.in_request(source) };
        Some((at, release.booking(digest, source)?, asks))
    });
    said.filter(|(_, _, asks)| *asks != Asks::Nothing).collect()
}

/// A place that is never granted: the claim finds its record where there is one, and is otherwise told to look again.
fn never(name: Arc<str>, booking: Option<Booking>, witness: ScopeId) -> Wanted {
    let slot = SlotId([0; 16]);
    Wanted {
        slot,
        capacity: 1,
        keep: Keep::For(Duration::ZERO),
        witness,
        asleep: false,
        booking,
        instead_of: Some(HoldKey { slot, token: Token(0) }),
        was_released: false,
        looks: false,
        name,
        label: "".into(),
        parts: [].into(),
    }
}

/// What a request asks as far as its claim goes. Where only the answer says whether the booking is released, it has to be taken
/// for one that keeps what it has, or has it again.
fn planned(rules: &SlotRules, rule: usize, asks: Asks, known: &[Known]) -> Asks {
    let release = rules.releases.get(rule);
    let is_open = release.is_some_and(ReleasePolicy::is_open);
    let says_so = release.is_some_and(|release| release.when.iter().any(|when| !when.in_answer));
    let is_released = known.iter().all(|known| known.hold.state == HoldState::Released);
    match asks {
        Asks::Release if is_open && known.is_empty() => Asks::Nothing,
        // It asks for what is so already, and does not come back by it.
        Asks::Release if is_open && says_so && is_released => Asks::Release,
        Asks::Release if is_open => Asks::Resume,
        asks => asks,
    }
}

fn refused(problem: Problem) -> Obstacle {
    Obstacle::Refused(unnamed(problem))
}

// === refusals ===

pub fn unnamed(problem: Problem) -> Refusal {
    let Problem { slot, selector, unreadable, of_end } = problem;
    let role = if of_end { "is held until" } else { "is told from others by" };
    let detail = match unreadable {
        None => format!(
            "The slot '{slot}' {role} {selector}, and the request has no such value; nothing is known that could stand in \
             for it. Nothing was sent."
        ),
        Some(why) => format!("The slot '{slot}' {role} {selector}: {why}. Nothing was sent."),
    };
    Refusal::new(Reason::SlotUnnamed, detail)
}

/// It moves a booking that has several places.
fn unclear(slot: &str) -> Refusal {
    let detail = format!(
        "The booking has several places of the slot '{slot}', and the request does not say which of them it changes. \
         Nothing was sent."
    );
    Refusal::new(Reason::SlotUnnamed, detail)
}

/// Somebody else holds it.
pub fn slot_taken(taken: Taken) -> Refusal {
    let what = match (taken.state, taken.capacity) {
        (HoldState::Reserved, _) => "is being taken by another request at this moment",
        (HoldState::Unsettled, _) => "may be taken: the outcome of an earlier request is not settled",
        (_, 1) => "is taken",
        _ => "has no place left",
    };
    let own = if taken.id.is_some() { " The booking that holds it is your own." } else { "" };
    let detail = format!("The slot '{}' {what}.{own} Nothing was sent.", taken.name);
    let soon = (taken.state == HoldState::Reserved).then_some(Duration::from_secs(1));
    let refusal = Refusal::new(Reason::SlotTaken, detail).taken(taken);
    match soon {
        Some(soon) => refusal.retry_after(soon),
        None => refusal,
    }
}

/// Another change of the same booking is under way, or nobody knows how one ended.
pub fn booking_busy() -> Refusal {
    let detail =
        "Another change of this booking is under way, or its outcome is not settled. Nothing was sent.";
    Refusal::new(Reason::InFlight, detail).retry_after(Duration::from_secs(2))
}

/// Counts and tells that a slot was refused.
pub fn tell_taken(exchange: &Exchange, headers: &HeaderMap, intent: &Intent, taken: &Taken) {
    exchange.shared().journal.slot_refused(&taken.name);
    exchange.shared().journal.event(Event::SlotTaken {
        route: exchange.rules().name.clone(),
        slot: taken.name.clone(),
        slot_id: taken.slot,
        state: taken.state,
        since: taken.since,
        request_id: exchange.request_id.to_str().unwrap_or_default().into(),
        scope: intent.scope,
        client: exchange.client(headers),
    });
}
