//! Which route a request takes: `METHOD path` patterns over the normalised path; the first match wins.
//!
//! Owns the patterns' language, what one pattern hides from a later one, and the [`Router`]. The normal form of a
//! request's path is `domain::target`'s; what a route does with the request is the policy's.

mod loose;

use crate::domain::target::NormalTarget;
use http::Method;

/// One `match` entry: a method (or `*`) and a path whose segments are literal, `{name}` (one segment) or a closing
/// `**` (the rest, also none).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// `None` for `*`.
    pub method: Option<http::Method>,
    /// The path's segments.
    pub segments: Vec<Segment>,
    /// Whether the pattern ends in `**`.
    pub open: bool,
}

/// One segment of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Matches itself, in its normal form.
    Literal(String),
    /// `{name}`: matches any one segment and names it.
    Named(String),
}

/// All routes' patterns, compiled once and read by every request. Holds no state and allocates nothing per request.
#[derive(Clone, Debug)]
pub struct Router {
    entries: Vec<Entry>,
    /// Some literal has an escape that a request may bring bare.
    has_escapes: bool,
}

/// The route that a request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// The route's index.
    pub route: usize,
    /// Whether the pattern names the request's method (HEAD is named by GET); `*` names none.
    pub method_named: bool,
    /// The pattern that matched, for [`Router::named`].
    pub pattern: usize,
}

/// One pattern, ready to be compared: the literal segments it begins with are one string, so that nearly every pattern
/// that does not match costs one comparison.
#[derive(Clone, Debug)]
struct Entry {
    method: Option<Method>,
    /// `/api/bookings`, or empty.
    prefix: Box<str>,
    /// The segments from the first named one on.
    rest: Box<[Segment]>,
    open: bool,
    route: usize,
}

/// Whether a method only reads, by its own definition (RFC 9110, WebDAV, CalDAV, HTTP QUERY).
pub fn is_safe(method: &Method) -> bool {
    method.is_safe() || matches!(method.as_str(), "PROPFIND" | "REPORT" | "SEARCH" | "QUERY")
}

// === impl Pattern ===

impl Pattern {
    /// Reads `METHOD path`. The error is a sentence for the person who wrote it.
    pub fn parse(text: &str) -> Result<Pattern, String> {
        let mut words = text.split_ascii_whitespace();
        let (Some(method), Some(path), None) = (words.next(), words.next(), words.next()) else {
            return Err("a pattern is a method and a path, as in \"POST /api/bookings\"".into());
        };
        let method = parse_method(method)?;
        let Some(path) = path.strip_prefix('/') else {
            return Err(format!("the path has to begin with a slash, as in \"/{path}\""));
        };
        // A closing slash means the same as none, in the pattern as in the request.
        let path = path.strip_suffix('/').unwrap_or(path);
        let mut pattern = Pattern { method, segments: Vec::new(), open: false };
        if path.is_empty() {
            return Ok(pattern);
        }
        for segment in path.split('/') {
            if pattern.open {
                return Err("`**` matches the rest of the path, so nothing can follow it".into());
            }
            if segment == "**" {
                pattern.open = true;
                continue;
            }
            let segment = Segment::parse(segment)?;
            if pattern.segments.contains(&segment) && matches!(segment, Segment::Named(_)) {
                return Err("two segments have the same name".into());
            }
            pattern.segments.push(segment);
        }
        Ok(pattern)
    }

    /// Whether every request that `later` matches is matched by `self` too, so that `later` behind it is never reached.
    pub fn covers(&self, later: &Pattern) -> bool {
        let methods = match (&self.method, &later.method) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(mine), Some(other)) => mine == other || (mine == Method::GET && other == Method::HEAD),
        };
        let longer = later.segments.len() > self.segments.len() || later.open;
        methods
            && later.segments.len() >= self.segments.len()
            && (self.open || !longer)
            && self.segments.iter().zip(&later.segments).all(|(mine, other)| match (mine, other) {
                (Segment::Named(_), _) => true,
                (Segment::Literal(a), Segment::Literal(b)) => a == b,
                (Segment::Literal(_), Segment::Named(_)) => false,
            })
    }
}

impl std::fmt::Display for Pattern {
    /// As it would be written in the file, in normal form.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.method.as_ref().map_or("*", Method::as_str))?;
        f.write_str(" ")?;
        for segment in &self.segments {
            match segment {
                Segment::Literal(text) => write!(f, "/{text}")?,
                Segment::Named(name) => write!(f, "/{{{name}}}")?,
            }
        }
        match (self.open, self.segments.is_empty()) {
            (true, _) => f.write_str("/**"),
            (false, true) => f.write_str("/"),
            (false, false) => Ok(()),
        }
    }
}

fn parse_method(text: &str) -> Result<Option<Method>, String> {
    if text == "*" {
        return Ok(None);
    }
    let method = Method::from_bytes(text.as_bytes()).map_err(|_| format!("`{text}` is not a method"))?;
    // Methods are case-sensitive: "post" would be legal, and would never match anything that a client sends.
    let upper = text.to_ascii_uppercase();
    if upper != text {
        return Err(format!("methods are written in capitals: {upper}"));
    }
    Ok(Some(method))
}

// === impl Segment ===

impl Segment {
    fn parse(text: &str) -> Result<Segment, String> {
        if let Some(name) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            return if !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
            {
                Ok(Segment::Named(name.into()))
            } else {
                Err(format!("`{text}` is not a segment's name: letters, digits, `_` and `-`, as in {{id}}"))
            };
        }
        match text {
            "" => {
                Err("the path has an empty segment (`//`), and requests with one are never matched so".into())
            }
            "." | ".." => Err("`.` and `..` are resolved before matching, so this can never match".into()),
            _ if text.contains('*') => {
                Err("`*` is only for methods: write {name} for one segment, ** for the rest".into())
            }
            _ if text.contains(['{', '}']) => {
                Err(format!("`{text}`: a named segment is named as a whole, as in {{id}}"))
            }
            _ if text.contains(['?', '#']) => {
                Err("patterns match the path alone, without query and fragment".into())
            }
            _ => normal_segment(text).map(Segment::Literal),
        }
    }
}

/// A literal in the spelling that a request's path has in normal form.
fn normal_segment(text: &str) -> Result<String, String> {
    // Patterns may be written in any script; on the wire they are percent-encoded UTF-8.
    let mut path = String::from("/");
    for byte in text.bytes() {
        if byte.is_ascii_graphic() {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    let normal = NormalTarget::parse(&path).map_err(|problem| problem.to_string())?;
    match normal.path().strip_prefix('/') {
        Some(segment) if !segment.is_empty() && !segment.contains('/') => Ok(segment.into()),
        _ => Err(format!("`{text}` is resolved before matching, so this can never match")),
    }
}

// === impl Router ===

impl Router {
    /// Compiles patterns with their routes' indexes. The order decides: the first match wins.
    pub fn new(patterns: Vec<(Pattern, usize)>) -> Router {
        let entries: Vec<_> =
            patterns.into_iter().map(|(pattern, route)| Entry::new(pattern, route)).collect();
        let has_escapes = entries.iter().any(Entry::has_escapes);
        Router { entries, has_escapes }
    }

    /// The route that a request takes. `path` is in normal form, without a query.
    pub fn route(&self, method: &Method, path: &str) -> Option<usize> {
        self.find(method, path).map(|found| found.route)
    }

    /// The same, with how the pattern named the method.
    pub fn find(&self, method: &Method, path: &str) -> Option<Match> {
        // `/api/bookings/` takes the route of `/api/bookings`: a closing slash must not lead past a guard.
        let path = path.strip_suffix('/').unwrap_or(path);
        let takes = |entry: &Entry| entry.takes(method) && entry.matches(path);
        self.entries.iter().position(takes).map(|pattern| self.matched(pattern))
    }

    /// The first pattern of one route that takes a request, in its own spelling or in an equal one.
    pub fn find_of(&self, route: usize, method: &Method, path: &str) -> Option<Match> {
        let bare = path.strip_suffix('/').unwrap_or(path);
        let first = |is_spelled: &dyn Fn(&Entry) -> bool| {
            self.entries
                .iter()
                .position(|entry| entry.route == route && entry.takes(method) && is_spelled(entry))
        };
        let pattern =
            first(&|entry| entry.matches(bare)).or_else(|| first(&|entry| entry.matches_loosely(path)))?;
        Some(self.matched(pattern))
    }

    fn matched(&self, pattern: usize) -> Match {
        let entry = &self.entries[pattern];
        Match { route: entry.route, method_named: entry.method.is_some(), pattern }
    }

    /// The segments of `path` that the pattern of a [`Match`] names, as they stand in the path's normal form.
    pub fn named<'a>(&'a self, pattern: usize, path: &'a str) -> Vec<(&'a str, &'a str)> {
        let Some(entry) = self.entries.get(pattern) else { return Vec::new() };
        if !entry.matches(path.strip_suffix('/').unwrap_or(path)) {
            return entry.named_loosely(path);
        }
        let rest = &path[entry.prefix.len()..];
        let segments = rest.strip_prefix('/').unwrap_or(rest).split('/');
        let named = entry.rest.iter().zip(segments).filter_map(|(segment, text)| match segment {
            Segment::Named(name) => Some((name.as_str(), text)),
            Segment::Literal(_) => None,
        });
        named.collect()
    }
}

// === impl Entry ===

impl Entry {
    fn new(pattern: Pattern, route: usize) -> Entry {
        let mut prefix = String::new();
        let mut rest = pattern.segments.into_iter().peekable();
        while let Some(Segment::Literal(text)) =
            rest.next_if(|segment| matches!(segment, Segment::Literal(_)))
        {
            prefix.push('/');
            prefix.push_str(&text);
        }
        Entry {
            method: pattern.method,
            prefix: prefix.into(),
            rest: rest.collect(),
            open: pattern.open,
            route,
        }
    }

    /// HEAD is a GET without its body: where the GET is guarded, HEAD must not slip past it.
    fn takes(&self, method: &Method) -> bool {
        self.method
            .as_ref()
            .is_none_or(|mine| mine == method || (mine == Method::GET && method == Method::HEAD))
    }

    /// `path` comes without a closing slash; the root is the empty string.
    fn matches(&self, path: &str) -> bool {
        let Some(mut left) = path.strip_prefix(&*self.prefix) else { return false };
        if !left.is_empty() && !left.starts_with('/') {
            // `/api/bookings-old` is not below `/api/bookings`. What is no path at all (`OPTIONS *`) is only for `/**`.
            return self.prefix.is_empty() && self.rest.is_empty() && self.open;
        }
        for segment in &self.rest {
            let Some(tail) = left.strip_prefix('/') else { return false };
            let next = match segment {
                Segment::Literal(text) => match tail.strip_prefix(text.as_str()) {
                    Some(next) if next.is_empty() || next.starts_with('/') => next,
                    _ => return false,
                },
                // Segments are short: a plain loop beats a search that has to be set up.
                Segment::Named(_) => match tail.bytes().position(|byte| byte == b'/').unwrap_or(tail.len()) {
                    0 => return false,
                    end => &tail[end..],
                },
            };
            left = next;
        }
        self.open || left.is_empty()
    }
}

#[cfg(test)]
mod tests;
