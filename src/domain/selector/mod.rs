//! Selectors: how the configuration points at a value of a request or an answer. Slots, lanes, labels and the like name
//! what they are about with them: `$.clinicId`, `path:id`, `header:X-Branch`, `lower:$.doctor | 'nobody'`.
//!
//! Owns their syntax ([`Selector::parse`]), what they find ([`Selector::find`], pure, over a [`Source`]) and when two
//! found values are one ([`Value::push_key`]). Leaves to others what is done where nothing is found.
//!
//! Found values serve to tell whether two writes want the same thing. There a false difference is the dangerous error: it
//! lets both through. So what some backend would take for one thing is one here (`5` and `"5"`, `é` in both its
//! spellings, `Doctor` where `doctor` is asked for), and what a backend might read in two ways is not guessed at but
//! [`Found::Unreadable`].
//!
//! | origin | what it finds |
//! |---|---|
//! | `$.a.b`, `$.items[*].id` | in a JSON body, in a GraphQL request also below its `variables`, in a form the field of that name (`a[b]`, `a.b`) |
//! | `path:id` | the segment that the route's pattern calls `{id}`, percent-decoded |
//! | `query:x` | a parameter of the target's query |
//! | `header:X-Branch` | a header; `header:Location` is the last segment of the resource that an answer names |
//! | `jwt:sub` | a claim of the bearer token. The backend verifies it; a token that it refuses is answered 401, which executes nothing |
//! | `'text'` | always this text |
//!
//! `a | b` is b where a is absent, null or empty. Normalisers stand before an origin: `lower:`, `trim:`, `sorted:` (a list
//! whose order means nothing), `datetime:` (the same instant in whatever offset; without one in the configured zone, or
//! in the one of `datetime(Asia/Kolkata):`). Those before the first origin hold for the whole selector.

mod body;
mod instant;
mod parse;
mod source;
mod template;
mod value;

#[cfg(test)]
mod tests;

pub use instant::Zone;
pub use source::Source;
pub use template::{Template, Unfit};
pub use value::Value;

use crate::domain::canon::JsonPath;
use http::HeaderName;
use std::fmt;

/// A compiled selector.
#[derive(Clone, Debug)]
pub struct Selector {
    text: String,
    alternatives: Vec<Alternative>,
}

/// One of `a | b | c`.
#[derive(Clone, Debug)]
struct Alternative {
    normalisers: Vec<Normaliser>,
    origin: Origin,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `$.a.b`
    Body(JsonPath),
    /// `path:id`
    Path(String),
    /// `query:x`
    Query(String),
    /// `header:X-Branch`
    Header(HeaderName),
    /// `header:Location`: the last segment of the path in it.
    Location,
    /// `jwt:sub`
    Jwt(String),
    /// `'text'`
    Text(String),
}

/// What is done to a value before it is compared.
#[derive(Clone, Debug)]
enum Normaliser {
    /// `lower:`
    Lower,
    /// `trim:`
    Trim,
    /// `sorted:`
    Sorted,
    /// `datetime:`
    Datetime(Zone),
}

/// What a selector found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A value.
    Value(Value),
    /// Every alternative is absent, null or empty.
    Missing,
    /// Something is there, but what it is cannot be told without doubt; the sentence says why.
    Unreadable(String),
}

// === impl Selector ===

impl Selector {
    /// Reads a selector; date and time without an offset are in `zone`. The error is a sentence for the operator.
    pub fn parse(text: &str, zone: &Zone) -> Result<Selector, String> {
        parse::selector(text, zone)
    }

    /// What it finds in `source`.
    pub fn find(&self, source: &Source<'_>) -> Found {
        let mut found = Found::Missing;
        for alternative in &self.alternatives {
            found = alternative.find(source);
            if !matches!(found, Found::Missing) {
                break;
            }
        }
        // `b` where `a` is absent: what is there and cannot be read is not absent.
        found
    }

    /// The same among what the request says itself: its body and its query. Who asks and what stands in for what is
    /// absent is left out.
    pub fn find_said(&self, source: &Source<'_>) -> Found {
        let said = |origin: &Origin| matches!(origin, Origin::Body(_) | Origin::Query(_));
        let mut said = self.alternatives.iter().filter(|alternative| said(&alternative.origin));
        said.find_map(|alternative| match alternative.find(source) {
            Found::Missing => None,
            found => Some(found),
        })
        .unwrap_or(Found::Missing)
    }

    /// Where it looks, in order.
    pub fn origins(&self) -> impl Iterator<Item = &Origin> {
        self.alternatives.iter().map(|alternative| &alternative.origin)
    }

    /// Whether it looks into a body.
    pub fn reads_body(&self) -> bool {
        self.origins().any(|origin| matches!(origin, Origin::Body(_)))
    }

    /// Whether what it finds may be compared in another spelling than it was sent in.
    pub fn respells(&self) -> bool {
        let respells = |normaliser: &Normaliser| !matches!(normaliser, Normaliser::Trim);
        self.alternatives.iter().any(|alternative| alternative.normalisers.iter().any(respells))
    }

    /// Whether it always finds something, because it ends in a text.
    pub fn is_total(&self) -> bool {
        self.origins().any(|origin| matches!(origin, Origin::Text(text) if !text.trim().is_empty()))
    }
}

impl fmt::Display for Selector {
    /// As the configuration writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Selector {
    fn eq(&self, other: &Selector) -> bool {
        self.text == other.text
    }
}

// === impl Alternative ===

impl Alternative {
    fn find(&self, source: &Source<'_>) -> Found {
        let found = match source.look(&self.origin) {
            Found::Value(value) if value.is_empty() => Found::Missing,
            found => found,
        };
        let normalised = self.normalisers.iter().fold(found, |found, normaliser| match found {
            Found::Value(value) => normaliser.apply(value),
            other => other,
        });
        match normalised {
            Found::Value(value) => value.settled(),
            other => other,
        }
    }
}

// === impl Normaliser ===

impl Normaliser {
    fn apply(&self, mut value: Value) -> Found {
        match self {
            Normaliser::Lower => value.each(|text| *text = text.to_lowercase()),
            Normaliser::Trim => value.each(|text| *text = text.trim().to_owned()),
            Normaliser::Sorted => value.sort(),
            Normaliser::Datetime(zone) => return value.instants(zone),
        }
        Found::Value(value)
    }
}
