//! The slots API: who holds what, whether something is free, what the backend had given away before, and an operator's word
//! that a place is free after all.

use super::AdminState;
use super::problem::Problem;
use crate::domain::client::ScopeId;
use crate::domain::fingerprint::FingerprintKey;
use crate::domain::selector::{Found, Selector};
use crate::domain::slot::{BookingId, HoldKey, HoldState, Keep, Row, SlotId, SlotPolicy, Wanted, put_field};
use crate::domain::time::Millis;
use crate::store::slots::{Adopted, Adoption, HoldListing, HoldView, Released, Which};
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, JsonRejection, QueryRejection};
use axum::extract::{Query, RawQuery, State};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;

/// Holds of one page, where the request does not say.
const LIMIT: usize = 100;
/// Holds of one page at most: the store's own bound.
const LIMIT_MAX: usize = 1_000;
/// Fields that are asked about at once; no slot is told apart by as many.
const FIELDS_MAX: usize = 100;
/// Bookings that one request adopts.
pub const ROWS_MAX: usize = 5_000;
/// Slots that one booking may have: each of its lines looks at all of them.
const OF_ONE_MAX: usize = 500;
/// Rows that could not be adopted and are told of.
const WRONG_MAX: usize = 50;

/// Which holds to list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Selection {
    slot: Option<String>,
    slot_id: Option<String>,
    state: Option<HoldState>,
    after: Option<String>,
    limit: Option<usize>,
}

/// One page of holds, in the order of their slots.
#[derive(Debug, Serialize, Deserialize)]
pub struct HoldsPage {
    /// The holds.
    pub holds: Vec<HoldView>,
    /// Where the next page begins (`after`), where there may be one.
    pub next: Option<String>,
}

/// Whether a slot is free.
#[derive(Debug, Serialize, Deserialize)]
pub struct SlotView {
    /// Its name.
    pub slot: String,
    /// Its id.
    pub slot_id: String,
    /// The values of its key.
    pub key: String,
    /// Whether it can be had.
    pub free: bool,
    /// How many may hold it.
    pub capacity: u32,
    /// How firmly it is held, where it is not free.
    pub state: Option<HoldState>,
    /// Since when it is not free.
    pub since: Option<Millis>,
    /// When the first place becomes free by itself.
    pub until: Option<Millis>,
}

/// How to read the rows of an import.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct How {
    slot: String,
    /// Which field has the end of the hold.
    until: Option<String>,
    /// Whether there are more of them than these.
    #[serde(default)]
    part: bool,
}

/// What became of the rows of an import.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Imported {
    /// Held from now on.
    pub added: usize,
    /// Held already, by the same booking.
    pub known: usize,
    /// Their end has passed.
    pub ended: usize,
    /// Lines of those that are held from now on although their slot has no place left: the backend gave it away too often.
    pub over: Vec<usize>,
    /// Lines that could not be read, with the reason; the first fifty.
    pub wrong: Vec<(usize, String)>,
    /// How many could not be read.
    pub wrong_count: usize,
}

/// What to give back: a booking's holds of one name, or one hold (`SLOT/HOLD`, as a list shows it).
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Release {
    /// By the booking.
    Booking {
        /// The slot's name.
        slot: String,
        /// The booking's id.
        booking: String,
    },
    /// By the hold.
    Hold {
        /// `SLOT/HOLD`
        hold: String,
    },
}

/// `GET /api/slots?slot=&slot_id=&state=&after=&limit=`
pub(super) async fn list(
    State(state): State<AdminState>,
    selection: Result<Query<Selection>, QueryRejection>,
) -> Result<Json<HoldsPage>, Problem> {
    let Query(selection) = selection.map_err(|error| Problem::bad_request(error.body_text()))?;
    let limit = selection.limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Problem::bad_request(format!("limit is 1 to {LIMIT_MAX}, not {limit}")));
    }
    let slot = selection.slot_id.as_deref().map(slot_id).transpose()?;
    let after = selection.after.as_deref().map(hold_key).transpose()?;
    let listing = HoldListing { name: selection.slot.clone(), slot, state: selection.state, after, limit };
    let holds = state.store.holds(listing).await.map_err(unavailable)?;
    // What a configuration before this one named may still be held.
    if let Some(name) = selection.slot.filter(|_| holds.is_empty()) {
        policy(&state, &name)?;
    }
    let last = holds.last().filter(|_| holds.len() == limit);
    let next = last.map(|last| format!("{}/{}", last.slot_id, last.hold));
    Ok(Json(HoldsPage { holds, next }))
}

/// `GET /api/slots/ask?slot=NAME&FIELD=VALUE…`
pub(super) async fn ask(
    State(state): State<AdminState>,
    RawQuery(query): RawQuery,
) -> Result<Json<SlotView>, Problem> {
    let (mut slot_name, mut fields) = (None, serde_json::Value::Object(Default::default()));
    for (at, (name, value)) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()).enumerate() {
        // Beside the slot's name.
        if at > FIELDS_MAX {
            return Err(Problem::bad_request(format!("name at most {FIELDS_MAX} fields")));
        }
        // The first one is the slot's name; a slot may also be told apart by a field of that name.
        if name == "slot" && slot_name.is_none() {
            slot_name = Some(value.into_owned());
        } else {
            put_field(&mut fields, &name, value.into_owned().into()).map_err(Problem::bad_request)?;
        }
    }
    let Some(name) = slot_name else {
        return Err(Problem::bad_request("name the slot: ?slot=NAME&FIELD=VALUE"));
    };
    let slot = policy(&state, &name)?;
    let row = Row::parse(fields.to_string().as_bytes()).map_err(Problem::bad_request)?;
    let wanted = row
        .look(|source| slot.question(&FingerprintKey::new(state.store.secret()), source))
        .map_err(|problem| {
            Problem::bad_request(format!(
                "the slot needs {}{}",
                problem.selector,
                because(problem.unreadable.as_deref())
            ))
        })?;
    let taken = state.store.look(&wanted).await.map_err(unavailable)?;
    Ok(Json(SlotView {
        slot: name,
        slot_id: wanted.slot.to_string(),
        key: wanted.label.to_string(),
        free: taken.is_none(),
        capacity: wanted.capacity,
        state: taken.as_ref().map(|taken| taken.state),
        since: taken.as_ref().map(|taken| taken.since),
        until: taken.and_then(|taken| taken.until),
    }))
}

/// `POST /api/slots/import?slot=NAME&until=FIELD&part=true`: one JSON object a line.
pub(super) async fn import(
    State(state): State<AdminState>,
    how: Result<Query<How>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Imported>, Problem> {
    let Query(how) = how.map_err(|error| Problem::bad_request(error.body_text()))?;
    let body = body.map_err(|_| Problem::too_large())?;
    let slot = policy(&state, &how.slot)?;
    let until = how.until.map(|text| until(&state, &text)).transpose()?;
    let mut done = Imported::default();
    let (mut lines, mut adopted) = (Vec::new(), Vec::new());
    let rows = body.split(|byte| *byte == b'\n').enumerate();
    for (at, text) in rows.filter(|(_, text)| !text.trim_ascii().is_empty()) {
        match adopt(&state, slot, until.as_ref(), text, how.part) {
            Ok(one) => {
                lines.push(at + 1);
                adopted.push(one);
            }
            Err(why) => {
                done.wrong_count += 1;
                if done.wrong.len() < WRONG_MAX {
                    done.wrong.push((at + 1, why));
                }
            }
        }
        if adopted.len() > ROWS_MAX {
            return Err(Problem::bad_request(format!("send at most {ROWS_MAX} bookings at a time")));
        }
    }
    let adopted = together(&FingerprintKey::new(state.store.secret()), adopted, how.part)?;
    let adoptions = state.store.adopt(adopted).await.map_err(unavailable)?;
    for (line, adoption) in lines.into_iter().zip(adoptions) {
        match adoption {
            Adoption::Added => done.added += 1,
            Adoption::Known => done.known += 1,
            Adoption::Ended => done.ended += 1,
            Adoption::Over => done.over.push(line),
        }
    }
    tracing::info!(
        slot = how.slot,
        added = done.added,
        known = done.known,
        over = done.over.len(),
        wrong = done.wrong_count,
        "an operator told what the backend holds already"
    );
    Ok(Json(done))
}

/// `POST /api/slots/release`
pub(super) async fn release(
    State(state): State<AdminState>,
    release: Result<Json<Release>, JsonRejection>,
) -> Result<Json<serde_json::Value>, Problem> {
    let Json(release) = release.map_err(|error| Problem::bad_request(error.body_text()))?;
    let (which, what) = match &release {
        Release::Hold { hold } => (Which::Hold(hold_key(hold)?), format!("the hold {hold}")),
        Release::Booking { slot, booking } => {
            let key: BookingId =
                FingerprintKey::new(state.store.secret()).booking_id(&policy(&state, slot)?.name, booking);
            (Which::Booking(key), format!("booking {booking:?} of slot {slot}"))
        }
    };
    match state.store.release_hold(which).await.map_err(unavailable)? {
        Released::Yes(count) => {
            tracing::info!(%what, count, "an operator gave a slot back");
            Ok(Json(serde_json::json!({ "released": count })))
        }
        Released::NotFound => {
            Err(Problem::not_found(format!("{what} holds nothing; it may have ended by itself")))
        }
        Released::AtWork => Err(Problem::at_work(format!("a write is at work that has reserved {what}"))),
    }
}

/// One row as what is adopted of it.
fn adopt(
    state: &AdminState,
    slot: &SlotPolicy,
    until: Option<&Selector>,
    text: &[u8],
    is_part: bool,
) -> Result<Wanted, String> {
    let digest = FingerprintKey::new(state.store.secret());
    let row = Row::parse(text)?;
    row.look(|source| {
        let named = |problem: crate::domain::slot::Problem| {
            format!("{} is missing{}", problem.selector, because(problem.unreadable.as_deref()))
        };
        let mut wanted: Wanted = slot.question(&digest, source).map_err(named)?;
        wanted.keep = match until {
            None => slot.keep(source).map_err(named)?,
            Some(selector) => match selector.find(source) {
                Found::Value(value) => match state.slots.zone().instant(&value.shown()) {
                    Some(end) => Keep::Until(Millis(u64::try_from(end.as_millisecond()).unwrap_or(0))),
                    None => return Err(format!("{selector} is no date with a time that can be read")),
                },
                Found::Missing => return Err(format!("{selector} is missing")),
                Found::Unreadable(why) => return Err(format!("{selector}: {why}")),
            },
        };
        wanted.witness = ScopeId([0; 16]);
        wanted.booking = slot.booking(&digest, source);
        if let (Some(id), None) = (&slot.id, &wanted.booking) {
            return Err(format!("{id} is missing: a booking without its id could never be given back"));
        }
        if is_part && wanted.booking.is_none() {
            return Err(format!(
                "the slot has no `id`, so its bookings are told apart by their number: import at most {ROWS_MAX} at a time"
            ));
        }
        Ok(wanted)
    })
}

/// What is adopted, as its lines are one import: equal bookings without an id are told apart by their number, and of those with
/// one it is known which slots they have together, unless it is a part of more.
fn together(digest: &FingerprintKey, lines: Vec<Wanted>, is_part: bool) -> Result<Vec<Adopted>, Problem> {
    let mut of_booking: HashMap<BookingId, Vec<SlotId>> = HashMap::new();
    for wanted in &lines {
        let Some(booking) = &wanted.booking else { continue };
        let slots = of_booking.entry(booking.key).or_default();
        slots.push(wanted.slot);
        if slots.len() > OF_ONE_MAX {
            let what =
                format!("booking {:?} has more than {OF_ONE_MAX} lines; nothing was adopted", booking.id);
            return Err(Problem::bad_request(what));
        }
    }
    let of_booking: HashMap<BookingId, Arc<[SlotId]>> = of_booking
        .into_iter()
        .map(|(booking, mut slots)| {
            slots.sort_unstable();
            (booking, slots.into())
        })
        .collect();
    let mut nameless: HashMap<SlotId, u64> = HashMap::new();
    let adopted = lines.into_iter().map(|wanted| {
        let (slot, booking) = (wanted.slot, wanted.booking.as_ref().map(|booking| booking.key));
        let all = booking.filter(|_| !is_part).and_then(|booking| of_booking.get(&booking).cloned());
        let nth = match booking {
            Some(_) => 0,
            None => {
                let count = nameless.entry(slot).or_default();
                *count += 1;
                *count - 1
            }
        };
        Adopted { token: digest.adopted_token(slot, booking, nth), wanted, all }
    });
    Ok(adopted.collect())
}

fn until(state: &AdminState, text: &str) -> Result<Selector, Problem> {
    let text = if text.starts_with(['$', '\'']) || text.contains(':') {
        text.to_owned()
    } else {
        format!("$.{text}")
    };
    Selector::parse(&text, state.slots.zone()).map_err(|why| Problem::bad_request(format!("until: {why}")))
}

fn because(why: Option<&str>) -> String {
    why.map(|why| format!(": {why}")).unwrap_or_default()
}

fn policy<'s>(state: &'s AdminState, name: &str) -> Result<&'s SlotPolicy, Problem> {
    state.slots.find(name).ok_or_else(|| {
        let known = state.slots.names().collect::<Vec<_>>().join(", ");
        Problem::not_found(format!("no route takes a slot {name:?}; there are: {known}"))
    })
}

fn slot_id(text: &str) -> Result<SlotId, Problem> {
    text.parse().map_err(|why: &str| Problem::bad_request(why))
}

fn hold_key(text: &str) -> Result<HoldKey, Problem> {
    let wrong = || Problem::bad_request("a hold is named SLOT/HOLD, 32 hexadecimal digits each");
    let (slot, token) = text.split_once('/').ok_or_else(wrong)?;
    let is_token = token.len() == 32 && token.bytes().all(|byte| byte.is_ascii_hexdigit());
    let token = u128::from_str_radix(token, 16).ok().filter(|_| is_token).ok_or_else(wrong)?;
    Ok(HoldKey { slot: slot_id(slot)?, token: crate::domain::ledger::Token(token) })
}

fn unavailable(error: crate::store::StoreError) -> Problem {
    Problem::unavailable(error.to_string())
}
