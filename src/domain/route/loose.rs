//! Spellings that a backend may take for a pattern's, although their normal form is another: `/users/%40me` for
//! `/users/@me` (RFC 3986 leaves open whether the two are one), `/book;jsessionid=1` for `/book` (servlet containers take
//! off what follows a `;`). They must not lead past a guard, so they are looked for where a path may be one.

use super::{Entry, Match, Router, Segment};
use http::Method;

/// Characters that a segment may have bare, and that mean the same to many when they are escaped: `:`, `@` and the
/// sub-delimiters of RFC 3986.
const BARE: &[u8; 13] = b":@!$&'()*+,;=";

impl Router {
    /// The first pattern that an equal spelling of `path` matches, before the one that `path` itself has `found`. None where
    /// that one names in full what the spellings differ in.
    #[inline]
    pub fn find_loosely(&self, method: &Method, path: &str, found: Option<Match>) -> Option<Match> {
        // Nearly every path leaves here.
        let may_differ = self.has_escapes || memchr::memchr2(b'%', b';', path.as_bytes()).is_some();
        if may_differ { self.search_loosely(method, path, found) } else { None }
    }

    #[cold]
    fn search_loosely(&self, method: &Method, path: &str, found: Option<Match>) -> Option<Match> {
        if !path.starts_with('/') {
            return None;
        }
        let end = found.map_or(self.entries.len(), |found| found.pattern);
        let takes = |entry: &Entry| entry.takes(method) && entry.matches_loosely(path);
        let loose = self.entries[..end].iter().position(takes)?;
        let names = |found: Match| self.entries[found.pattern].names_what_differs(&self.entries[loose], path);
        (!found.is_some_and(names)).then(|| self.matched(loose))
    }
}

impl Entry {
    /// Whether a request may spell one of its literals with fewer escapes.
    pub(super) fn has_escapes(&self) -> bool {
        self.literals().any(|literal| literal.is_some_and(|text| !text.bytes().eq(bare(text))))
    }

    /// As [`Entry::matches`], of a path that begins with a slash, in any equal spelling.
    pub(super) fn matches_loosely(&self, path: &str) -> bool {
        let mut segments = segments(path);
        let fits = |(literal, segment): (Option<&str>, Option<&str>)| match (literal, segment) {
            (Some(literal), Some(segment)) => is_same(literal, segment),
            (None, Some(_)) => true,
            (_, None) => false,
        };
        self.literals().all(|literal| fits((literal, segments.next())))
            && (self.open || segments.next().is_none())
    }

    /// Whether each segment in which `path` is not spelled as `loose` spells it is a literal here.
    fn names_what_differs(&self, loose: &Entry, path: &str) -> bool {
        let (mut own, mut others) = (self.literals(), loose.literals());
        path.split('/').filter(|segment| !segment.is_empty()).all(|segment| {
            let (own, other) = (own.next().flatten(), others.next().flatten());
            let is_as_ever = !segment.starts_with(';') && other.is_none_or(|other| other == segment);
            is_as_ever || own.is_some()
        })
    }

    /// As [`Router::named`], of a path that matches loosely.
    #[cold]
    pub(super) fn named_loosely<'a>(&'a self, path: &'a str) -> Vec<(&'a str, &'a str)> {
        let segments = segments(path).skip(self.prefix.matches('/').count());
        let named = self.rest.iter().zip(segments).filter_map(|(segment, text)| match segment {
            Segment::Named(name) => Some((name.as_str(), text)),
            Segment::Literal(_) => None,
        });
        named.collect()
    }

    /// Its segments; `None` for one that is named.
    fn literals(&self) -> impl Iterator<Item = Option<&str>> {
        let rest = self.rest.iter().map(|segment| match segment {
            Segment::Literal(text) => Some(text.as_str()),
            Segment::Named(_) => None,
        });
        self.prefix.split('/').skip(1).map(Some).chain(rest)
    }
}

/// The segments of a path, without those that are nothing once what follows a `;` is taken off.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty() && !segment.starts_with(';'))
}

fn is_same(literal: &str, segment: &str) -> bool {
    let cut = segment.split(';').next().unwrap_or_default();
    let whole = if bare(literal).any(|byte| byte == b';') { segment } else { cut };
    bare(literal).eq(bare(whole))
}

/// The bytes of a segment in normal form, with those bare that may be.
fn bare(text: &str) -> impl Iterator<Item = u8> {
    let mut rest = text.as_bytes();
    std::iter::from_fn(move || {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        let digits = after.first_chunk::<2>().filter(|_| byte == b'%');
        let stands_for = digits.and_then(|digits| BARE.iter().find(|byte| format_escape(**byte) == *digits));
        Some(stands_for.map_or(byte, |byte| {
            rest = &after[2..];
            *byte
        }))
    })
}

/// The two digits of a byte's escape in normal form.
fn format_escape(byte: u8) -> [u8; 2] {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]
}
