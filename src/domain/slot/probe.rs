//! `[route.slot.recover]`, compiled: how the backend is asked whether what holds a slot is still there.
//!
//! The question is about the hold alone: the booking's id as the backend gave it, the key's values as the store keeps them.
//! Nothing of the request that is about to be refused goes into it: whoever asks must not be able to spell a booking away.
//! What is kept only in part, or not, makes no question. LIFECYCLE.md has what a hold has to be for it.

use super::hold::{Hold, HoldState};
use super::policy::SlotPolicy;
use super::release::When;
use crate::domain::canon::{Document, Fields};
use crate::domain::conflict::Sought;
use crate::domain::fingerprint::FingerprintKey;
use crate::domain::selector::{Selector, Source, Template, Unfit, Value};
use crate::domain::time::Millis;
use http::HeaderMap;
use std::fmt;
use std::time::Duration;

/// How the backend is asked about a hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// `get`: the target of the question.
    pub get: Template<Hole>,
    /// `found`: where in its answer the booking is.
    pub found: Sought,
    /// `gone`: by which values of what is found it holds nothing any more. All of them have to hold.
    pub gone: Vec<When>,
    /// `attempts`: so many answers have to say that there is none.
    pub attempts: u32,
    /// `apart`: the pause between two of them.
    pub apart: Duration,
}

/// What stands in a hole of [`Probe::get`].
#[derive(Clone, Debug, PartialEq)]
pub enum Hole {
    /// `{id}`: the booking's id.
    Id,
    /// One of the values of `by`: at which place of it, and which.
    Part(usize, Box<Selector>),
}

// === impl Hole ===

impl Hole {
    /// Reads what stands in a hole; `by` tells the slot from others. The error is a sentence for the operator.
    pub fn parse(text: &str, by: &[Selector]) -> Result<Hole, String> {
        let text = text.trim();
        if text == "id" {
            return Ok(Hole::Id);
        }
        let at = by.iter().position(|selector| selector.to_string() == text);
        let at = at.ok_or_else(|| {
            format!("`{{{text}}}` is not of the hold: write {{id}}, or a selector as it stands in `by`")
        })?;
        if by[at].respells() {
            let why =
                "compares another spelling than the backend may have, so its absence would prove nothing";
            return Err(format!("`{text}` {why}: write {{id}}"));
        }
        Ok(Hole::Part(at, Box::new(by[at].clone())))
    }
}

impl fmt::Display for Hole {
    /// As the configuration writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hole::Id => f.write_str("id"),
            Hole::Part(_, selector) => selector.fmt(f),
        }
    }
}

// === impl Probe ===

impl Probe {
    /// Holders of one slot that are asked about.
    pub const HOLDERS_MAX: u32 = 100;

    /// Whether it names the booking.
    pub fn names_the_booking(&self) -> bool {
        self.get.holes().any(|hole| *hole == Hole::Id)
    }

    /// Whether the booking that was `found` says itself that it holds nothing: cancelled, and still shown.
    pub fn is_gone(&self, found: &[u8]) -> bool {
        let Some(found) = Document::parse(found).map(Fields::Json) else { return false };
        let headers = HeaderMap::new();
        let source = Source::answer(&headers, &found);
        !self.gone.is_empty() && self.gone.iter().all(|when| when.holds(&source))
    }

    /// The question about `hold` of the slot of `policy`.
    pub fn target(&self, policy: &SlotPolicy, digest: &FingerprintKey, hold: &Hold) -> Result<String, Unfit> {
        self.get.fill_with(|hole| match hole {
            Hole::Id => {
                let booking = hold.booking.as_ref().ok_or_else(|| Unfit::Missing(hole.to_string()))?;
                // Long ids are kept in part.
                match digest.booking_id(&policy.name, &booking.id) == booking.key {
                    true => Ok(booking.id.to_string()),
                    false => Err(Unfit::Unusable(hole.to_string(), "it is not kept in full".into())),
                }
            }
            Hole::Part(at, _) => {
                let kept: Vec<&str> = hold.label.split(" | ").collect();
                // A value may hold the divider, and what is long is cut: the digest tells.
                let value = kept.get(*at).filter(|_| kept.len() == hold.parts.len());
                let is_it = |value: &&&str| {
                    hold.parts.get(*at)
                        == Some(&digest.slot_part(&policy.name, *at, &Value::from_text(value)))
                };
                match value.filter(is_it) {
                    Some(value) => Ok((*value).to_owned()),
                    None => Err(Unfit::Unusable(hole.to_string(), "it is not kept as one value".into())),
                }
            }
        })
    }
}

// === impl Hold ===

impl Hold {
    /// Whether the backend may be asked at `now` if it is still there. What nobody has settled is not a question of being
    /// there; and a success is given `quiet` to be seen by whoever asks.
    pub fn may_be_asked_about(&self, now: Millis, quiet: Duration) -> bool {
        self.state == HoldState::Held && self.occupies(now) && now.since(self.since) >= quiet
    }

    /// Whether it is still, at `now`, the hold that was `seen`: nobody has given it back, moved it or taken it anew.
    pub fn is_still(&self, seen: &Hold, now: Millis) -> bool {
        let same = self.token == seen.token && self.since == seen.since && self.booking == seen.booking;
        same && self.state == HoldState::Held && !self.is_over(now)
    }
}
