//! Targets with values in them: `/api/bookings?clinic={$.clinicId}&slot={$.slotIndex}`.

use super::{Found, Selector, Source, Zone};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// A target whose holes are filled from a request.
#[derive(Clone, Debug)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug)]
enum Piece {
    /// As it is written.
    Text(String),
    /// A value; `in_path`: before the `?`.
    Hole { selector: Box<Selector>, in_path: bool },
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
    /// Reads a target with holes; the error is a sentence for the operator.
    pub fn parse(text: &str, zone: &Zone) -> Result<Template, String> {
        let mut template = Template { pieces: Vec::new() };
        let (mut rest, mut in_path) = (text, true);
        while let Some((before, after)) = rest.split_once('{') {
            if before.contains('}') {
                return Err("a `}` closes nothing".into());
            }
            in_path &= !before.contains('?');
            template.pieces.push(Piece::Text(before.to_owned()));
            let end = closing(after).ok_or("a `{` is not closed")?;
            let selector = Box::new(Selector::parse(&after[..end], zone)?);
            template.pieces.push(Piece::Hole { selector, in_path });
            rest = &after[end + 1..];
        }
        if rest.contains('}') {
            return Err("a `}` closes nothing".into());
        }
        template.pieces.push(Piece::Text(rest.to_owned()));
        Ok(template)
    }

    /// The selectors in its holes.
    pub fn selectors(&self) -> impl Iterator<Item = &Selector> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Hole { selector, .. } => Some(&**selector),
            Piece::Text(_) => None,
        })
    }

    /// The target for one request: values as they were sent, escaped.
    pub fn fill(&self, source: &Source<'_>) -> Result<String, Unfit> {
        let mut target = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => target.push_str(text),
                Piece::Hole { selector, in_path } => {
                    let value = match selector.find(source) {
                        Found::Value(value) => value.sent(),
                        Found::Missing => return Err(Unfit::Missing(selector.to_string())),
                        Found::Unreadable(why) => return Err(Unfit::Unusable(selector.to_string(), why)),
                    };
                    // Even escaped, some servers take these for separators or for the way up.
                    if *in_path && (value.contains(['/', '\\', '\0']) || value.starts_with('.')) {
                        let why =
                            "it cannot stand in a path: it holds a separator, or begins with a dot".into();
                        return Err(Unfit::Unusable(selector.to_string(), why));
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
