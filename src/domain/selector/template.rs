//! Targets with values in them: `/api/bookings?clinic={$.clinicId}&slot={$.slotIndex}`.

use super::{Found, Selector, Source, Zone};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::fmt;

/// A target with holes. What stands in a hole is a selector of a request, or something else that names a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Template<H = Selector> {
    pieces: Vec<Piece<H>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Piece<H> {
    /// As it is written.
    Text(String),
    /// A value; `in_path`: before the `?`.
    Hole { what: Box<H>, in_path: bool },
}

/// Why a target cannot be made of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// The selector finds nothing.
    Missing(String),
    /// What it finds cannot be read, or cannot stand where it would have to; the sentence says why.
    Unusable(String, String),
}

/// Everything but RFC 3986's unreserved characters is escaped, so a value never ends the part of the target that it is in.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

// === impl Template ===

impl Template {
    /// Reads a target with selectors in its holes; the error is a sentence for the operator.
    pub fn parse(text: &str, zone: &Zone) -> Result<Template, String> {
        Template::parse_with(text, |hole| Selector::parse(hole, zone))
    }

    /// The target for one request: values as they were sent, escaped.
    pub fn fill(&self, source: &Source<'_>) -> Result<String, Unfit> {
        self.fill_with(|selector| match selector.find(source) {
            Found::Value(value) => Ok(value.sent()),
            Found::Missing => Err(Unfit::Missing(selector.to_string())),
            Found::Unreadable(why) => Err(Unfit::Unusable(selector.to_string(), why)),
        })
    }
}

impl<H: fmt::Display> Template<H> {
    /// Reads a target; `read` reads what stands in a hole.
    pub fn parse_with(text: &str, read: impl Fn(&str) -> Result<H, String>) -> Result<Template<H>, String> {
        let mut template = Template { pieces: Vec::new() };
        let (mut rest, mut in_path) = (text, true);
        while let Some((before, after)) = rest.split_once('{') {
            if before.contains('}') {
                return Err("a `}` closes nothing".into());
            }
            in_path &= !before.contains('?');
            template.pieces.push(Piece::Text(before.to_owned()));
            let end = closing(after).ok_or("a `{` is not closed")?;
            template.pieces.push(Piece::Hole { what: Box::new(read(&after[..end])?), in_path });
            rest = &after[end + 1..];
        }
        if rest.contains('}') {
            return Err("a `}` closes nothing".into());
        }
        template.pieces.push(Piece::Text(rest.to_owned()));
        Ok(template)
    }

    /// What stands in its holes.
    pub fn holes(&self) -> impl Iterator<Item = &H> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Hole { what, .. } => Some(&**what),
            Piece::Text(_) => None,
        })
    }

    /// The target with the value of each hole, escaped.
    pub fn fill_with(&self, value: impl Fn(&H) -> Result<String, Unfit>) -> Result<String, Unfit> {
        let mut target = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => target.push_str(text),
                Piece::Hole { what, in_path } => {
                    let value = value(what)?;
                    // Even escaped, some servers take these for separators or for the way up.
                    if *in_path && (value.contains(['/', '\\', '\0']) || value.starts_with('.')) {
                        let why =
                            "it cannot stand in a path: it holds a separator, or begins with a dot".into();
                        return Err(Unfit::Unusable(what.to_string(), why));
                    }
                    target.extend(utf8_percent_encode(&value, ESCAPED));
                }
            }
        }
        Ok(target)
    }
}

/// Where the brace closes, outside of quotes.
fn closing(text: &str) -> Option<usize> {
    let (mut quote, mut escaped) = (None, false);
    for (at, character) in text.char_indices() {
        match (quote, character) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), _) if open == character => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(character),
            (None, '}') => return Some(at),
            (None, _) => {}
        }
    }
    None
}
