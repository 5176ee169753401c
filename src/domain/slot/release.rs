//! One `release`, compiled: which success gives a slot back, and which takes it again.

use super::hold::Booking;
use crate::domain::fingerprint::FingerprintKey;
use crate::domain::selector::{Found, Selector, Source, Value};
use std::sync::Arc;

/// A `release` of a route.
#[derive(Clone, Debug, PartialEq)]
pub struct ReleasePolicy {
    /// `slot`: its name.
    pub slot: Arc<str>,
    /// `id`: the booking, in the request.
    pub id: Selector,
    /// `when`: all of them have to hold. None: every success releases.
    pub when: Vec<When>,
}

/// One condition: a selector and the values by which it holds.
#[derive(Clone, Debug, PartialEq)]
pub struct When {
    /// Where the value is.
    pub selector: Selector,
    /// Whether it is looked for in the answer; in the request otherwise.
    pub in_answer: bool,
    /// The values.
    pub values: Vec<String>,
}

/// What a request asks of the slots of its booking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// Nothing.
    Nothing,
    /// To give them back.
    Release,
    /// To have them: what would release them is named, and has another value.
    Resume,
}

// === impl ReleasePolicy ===

impl ReleasePolicy {
    /// What the request says of it. Conditions on the answer are left open.
    pub fn in_request(&self, request: &Source<'_>) -> Asks {
        self.asked(request, false)
    }

    /// What the answer says of it.
    pub fn in_answer(&self, answer: &Source<'_>) -> Asks {
        self.asked(answer, true)
    }

    fn asked(&self, source: &Source<'_>, in_answer: bool) -> Asks {
        let mut asks = Asks::Release;
        for when in self.when.iter().filter(|when| when.in_answer == in_answer) {
            match when.selector.find(source) {
                Found::Value(value) if when.values.iter().any(|wanted| is_one(&value, wanted)) => {}
                Found::Value(_) => asks = Asks::Resume,
                Found::Missing | Found::Unreadable(_) => return Asks::Nothing,
            }
        }
        asks
    }

    /// Whether only the answer says whether it holds.
    pub fn is_open(&self) -> bool {
        self.when.iter().any(|when| when.in_answer)
    }

    /// Whether the booking may come back, so that its slots are remembered.
    pub fn remembers(&self) -> bool {
        !self.when.is_empty()
    }

    /// The booking that a request names.
    pub fn booking(&self, digest: &FingerprintKey, request: &Source<'_>) -> Option<Booking> {
        match self.id.find(request) {
            Found::Value(value) => {
                let id = value.shown();
                Some(Booking::new(digest.booking_id(&self.slot, &id), &id))
            }
            Found::Missing | Found::Unreadable(_) => None,
        }
    }
}

// === impl When ===

impl When {
    /// Whether it holds of `source`; what is missing or cannot be read does not.
    pub fn holds(&self, source: &Source<'_>) -> bool {
        match self.selector.find(source) {
            Found::Value(value) => self.values.iter().any(|named| is_one(&value, named)),
            Found::Missing | Found::Unreadable(_) => false,
        }
    }
}

/// Whether a found value is the one that the configuration names, as values of slots are compared.
fn is_one(found: &Value, named: &str) -> bool {
    found.shown() == Value::from_text(named).shown()
}
