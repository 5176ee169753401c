//! Which route a request takes: `METHOD path` patterns over the normalised path; the first match wins.

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
