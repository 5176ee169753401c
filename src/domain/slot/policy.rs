//! One `[[route.slot]]`, compiled: which slot a request is about.

use super::hold::{Booking, Keep, Wanted};
use super::key::Part;
use super::probe::Probe;
use crate::domain::client::ScopeId;
use crate::domain::fingerprint::FingerprintKey;
use crate::domain::selector::{Found, Origin, Selector, Source, Zone};
use crate::domain::time::Millis;
use std::sync::Arc;
use std::time::Duration;

/// A slot as a route names it.
#[derive(Clone, Debug, PartialEq)]
pub struct SlotPolicy {
    /// `name`: one name is one space, whichever routes share it.
    pub name: Arc<str>,
    /// `by`: the values that tell one slot of that name from another.
    pub by: Vec<Selector>,
    /// `capacity`
    pub capacity: u32,
    /// `hold`
    pub hold: HoldFor,
    /// `missing`
    pub missing: MissingRule,
    /// `id`: the booking, in the answer; in the request where [`SlotPolicy::changes_a_booking`].
    pub id: Option<Selector>,
    /// `readable`: whether the store keeps the key's values for the operator.
    pub readable: bool,
    /// `recover`: how the backend is asked, before a request is refused, whether what holds the slot is still there.
    pub recover: Option<Probe>,
}

/// How long a slot is held.
#[derive(Clone, Debug, PartialEq)]
pub enum HoldFor {
    /// `"90d"`, from the success on.
    Duration(Duration),
    /// `"until $.end"`; without an offset in this zone.
    Until(Box<Selector>, Zone),
}

/// What happens to a request in which a value of the key is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingRule {
    /// 422.
    Refuse,
    /// It takes no slot.
    Skip,
}

/// Why it cannot be said which slot a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The slot's name.
    pub slot: Arc<str>,
    /// The selector, as it is written.
    pub selector: String,
    /// Why what is there cannot be read; `None` where nothing is there.
    pub unreadable: Option<String>,
    /// Whether it is the slot's end that is missing, and not what tells it from others.
    pub of_end: bool,
}

/// What the store keeps of a key's values for the operator takes at most so many bytes.
const LABEL_BYTES_MAX: usize = 200;

// === impl SlotPolicy ===

impl SlotPolicy {
    /// Whether requests of this route are about a booking that exists and that they name: then a change of the key's
    /// values moves it.
    pub fn changes_a_booking(&self) -> bool {
        let named = |origin: &Origin| matches!(origin, Origin::Path(_) | Origin::Query(_));
        self.id.as_ref().is_some_and(|id| id.origins().any(named))
    }

    /// The key's values; `None` where one is missing and that takes no slot.
    pub fn parts(
        &self,
        digest: &FingerprintKey,
        source: &Source<'_>,
    ) -> Result<Option<(Vec<Part>, String)>, Problem> {
        let (mut parts, mut label, mut missing) = (Vec::with_capacity(self.by.len()), String::new(), None);
        for (at, selector) in self.by.iter().enumerate() {
            match selector.find(source) {
                Found::Value(value) => {
                    parts.push(digest.slot_part(&self.name, at, &value));
                    self.add_to(&mut label, &value.shown());
                }
                Found::Missing => missing = missing.or(Some(selector)),
                // Not even `skip` passes this by: the backend may read what is not read here.
                Found::Unreadable(why) => return Err(self.problem(selector, Some(why))),
            }
        }
        match (missing, self.missing) {
            (None, _) => Ok(Some((parts, label))),
            (Some(_), MissingRule::Skip) => Ok(None),
            (Some(selector), MissingRule::Refuse) => Err(self.problem(selector, None)),
        }
    }

    /// How long a success holds the slot.
    pub fn keep(&self, source: &Source<'_>) -> Result<Keep, Problem> {
        match &self.hold {
            HoldFor::Duration(duration) => Ok(Keep::For(*duration)),
            HoldFor::Until(selector, zone) => match selector.find(source) {
                Found::Value(value) => match zone.instant(&value.shown()) {
                    Some(instant) => {
                        Ok(Keep::Until(Millis(u64::try_from(instant.as_millisecond()).unwrap_or(0))))
                    }
                    None => {
                        Err(self.no_end(selector, Some("it is no date with a time that can be read".into())))
                    }
                },
                Found::Missing => Err(self.no_end(selector, None)),
                Found::Unreadable(why) => Err(self.no_end(selector, Some(why))),
            },
        }
    }

    /// The place that a request asks for which makes a booking; `None` where it asks for none.
    pub fn wanted(
        &self,
        digest: &FingerprintKey,
        source: &Source<'_>,
        witness: ScopeId,
    ) -> Result<Option<Wanted>, Problem> {
        let Some((parts, label)) = self.parts(digest, source)? else { return Ok(None) };
        Ok(Some(self.place(digest, parts, label, self.keep(source)?, witness)))
    }

    /// The place that a question is about. Whatever `missing` says: a question without a value has no answer.
    pub fn question(&self, digest: &FingerprintKey, source: &Source<'_>) -> Result<Wanted, Problem> {
        let strict = SlotPolicy { missing: MissingRule::Refuse, ..self.clone() };
        let nothing =
            || Problem { slot: self.name.clone(), selector: String::new(), unreadable: None, of_end: false };
        let (parts, label) = strict.parts(digest, source)?.ok_or_else(nothing)?;
        Ok(self.place(digest, parts, label, Keep::For(Duration::ZERO), ScopeId([0; 16])))
    }

    /// The place with this key.
    pub(super) fn place(
        &self,
        digest: &FingerprintKey,
        parts: Vec<Part>,
        label: String,
        keep: Keep,
        witness: ScopeId,
    ) -> Wanted {
        Wanted {
            slot: digest.slot_id(&self.name, &parts),
            capacity: self.capacity,
            keep,
            witness,
            asleep: false,
            booking: None,
            instead_of: None,
            was_released: false,
            looks: false,
            name: self.name.clone(),
            label: label.into(),
            parts: parts.into(),
        }
    }

    /// The booking that `source` names: an answer, or a request that changes one.
    pub fn booking(&self, digest: &FingerprintKey, source: &Source<'_>) -> Option<Booking> {
        match self.id.as_ref()?.find(source) {
            Found::Value(value) => {
                let id = value.shown();
                Some(Booking::new(digest.booking_id(&self.name, &id), &id))
            }
            Found::Missing | Found::Unreadable(_) => None,
        }
    }

    /// Adds a value to what the operator reads.
    pub(super) fn add_to(&self, label: &mut String, value: &str) {
        if !self.readable {
            return;
        }
        if !label.is_empty() {
            label.push_str(" | ");
        }
        label.push_str(value);
        label.truncate(label.floor_char_boundary(LABEL_BYTES_MAX));
    }

    pub(super) fn problem(&self, selector: &Selector, unreadable: Option<String>) -> Problem {
        Problem { slot: self.name.clone(), selector: selector.to_string(), unreadable, of_end: false }
    }

    fn no_end(&self, selector: &Selector, unreadable: Option<String>) -> Problem {
        Problem { of_end: true, ..self.problem(selector, unreadable) }
    }
}
