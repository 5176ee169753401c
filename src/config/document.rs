//! The file as a tree with places: every TOML syntax error at once, and for every path of the tree where it is written.

use crate::config::keys::KEYS;
use crate::config::mask;
use crate::config::problem::{Problem, Severity};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Tables nested deeper than this are no configuration of ours; they are not looked into.
const DEPTH_MAX: usize = 16;
/// Rounds of taking out the lines that stop the parser; each takes out every one that it meets.
const REPAIRS_MAX: usize = 64;

/// Where a path is written.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    /// The key.
    pub key: Range<usize>,
    /// The value; of a table, its header.
    pub value: Range<usize>,
}

/// The parsed file. Where there were syntax errors, the tree holds what could be read in spite of them.
pub(super) struct Document<'a> {
    /// The top level.
    pub root: DeTable<'a>,
    /// The syntax errors, in the order of the file.
    pub syntax: Vec<Problem>,
    /// Where each path is written.
    pub spots: BTreeMap<String, Spot>,
    /// Lines and sections (as byte ranges) with syntax errors: what is said about them beyond those would only confuse.
    pub broken: Vec<Range<usize>>,
    /// Values that are secret by their key's name.
    pub secrets: Vec<Range<usize>>,
}

/// Takes out, in place, the lines at which the parser gives up (a key without a value) or begins to swallow others (a
/// header without its bracket): what follows them would be missing from the tree. Returns the syntax errors of the whole
/// text.
pub(super) fn repair(text: &mut Cow<'_, str>) -> Vec<(String, Range<usize>)> {
    let mut found: Vec<(String, Range<usize>)> = Vec::new();
    let mut headless: Vec<Range<usize>> = Vec::new();
    for _ in 0..REPAIRS_MAX {
        let (_, errors) = DeTable::parse_recoverable(text);
        let mut stops = Vec::new();
        for error in errors {
            let span = error.span().unwrap_or_default();
            let unclosed = is_unclosed(error.message());
            if unclosed || error.message().starts_with("key with no value") {
                stops.push(line_of(text, span.start));
            }
            // The keys below a header that was taken out land in the table before it: that is our doing.
            let ours = error.message().starts_with("duplicate")
                && headless.iter().any(|lines| lines.contains(&span.start));
            if unclosed {
                headless.push(section_of(text, span.start));
            }
            if !ours && !found.iter().any(|(_, known)| *known == span) {
                found.push((error.message().to_owned(), span));
            }
        }
        if stops.is_empty() {
            break;
        }
        let mut bytes = std::mem::take(text).into_owned().into_bytes();
        stops.into_iter().flatten().for_each(|at| bytes[at] = b' ');
        // Whole lines of a valid text became spaces, so it is still valid.
        *text = Cow::Owned(String::from_utf8(bytes).unwrap_or_default());
    }
    found.sort_by_key(|(_, span)| span.start);
    found
}

// === impl Document ===

impl<'a> Document<'a> {
    /// Builds the tree of a `repaired` text whose `original` had the syntax errors `found`.
    pub fn new(original: &str, repaired: &'a str, found: Vec<(String, Range<usize>)>) -> Document<'a> {
        let (root, _) = DeTable::parse_recoverable(repaired);
        let broken = found.iter().map(|(message, span)| match is_unclosed(message) {
            true => section_of(original, span.start),
            false => line_of(original, span.start),
        });
        let broken: Vec<_> = broken.collect();
        let lines = found.iter().map(|(_, span)| line_of(original, span.start));
        let mut document = Document {
            root: root.into_inner(),
            syntax: found.iter().cloned().map(|(message, span)| syntax_problem(message, span)).collect(),
            spots: BTreeMap::new(),
            // A broken line may hold a secret under a name that the break made unreadable.
            secrets: lines.filter_map(|line| unknown_value(original, &line)).collect(),
            broken,
        };
        let root = std::mem::take(&mut document.root);
        document.index(&root, "", 0);
        document.root = root;
        document
    }

    /// The path's value, or the nearest table around it.
    pub fn place(&self, path: &str) -> Option<Range<usize>> {
        let mut path = path;
        loop {
            if let Some(spot) = self.spots.get(path) {
                return Some(spot.value.clone());
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }

    /// Whether this is on a line with a syntax error.
    pub fn is_broken(&self, span: &Range<usize>) -> bool {
        self.broken.iter().any(|line| line.start <= span.end && span.start <= line.end)
    }

    fn index(&mut self, table: &DeTable<'_>, prefix: &str, depth: usize) {
        for (key, value) in table.iter() {
            let path = join(prefix, key.get_ref());
            if mask::is_secret_name(key.get_ref()) && !value.get_ref().is_table() {
                self.secrets.push(value.span());
            }
            self.spots.insert(path.clone(), Spot { key: key.span(), value: value.span() });
            self.index_value(value, &path, depth + 1);
        }
    }

    fn index_value(&mut self, value: &Spanned<DeValue<'_>>, path: &str, depth: usize) {
        match value.get_ref() {
            _ if depth > DEPTH_MAX => {}
            DeValue::Table(table) => self.index(table, path, depth),
            DeValue::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    let path = format!("{path}[{at}]");
                    self.spots.insert(path.clone(), Spot { key: item.span(), value: item.span() });
                    self.index_value(item, &path, depth + 1);
                }
            }
            _ => {}
        }
    }
}

/// A key's path below `prefix`.
pub(super) fn join(prefix: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let key = if bare { Cow::Borrowed(key) } else { Cow::Owned(format!("\"{}\"", key.escape_debug())) };
    if prefix.is_empty() { key.into_owned() } else { format!("{prefix}.{key}") }
}

fn syntax_problem(message: String, span: Range<usize>) -> Problem {
    Problem {
        severity: Severity::Error,
        path: String::new(),
        owner: None,
        span: Some(span),
        message: format!("this is not TOML: {message}"),
        help: None,
    }
}

/// The line around `at`, without its end.
fn line_of(text: &str, at: usize) -> Range<usize> {
    let bytes = text.as_bytes();
    let at = at.min(bytes.len());
    let start = bytes[..at].iter().rposition(|&b| b == b'\n').map_or(0, |end| end + 1);
    let end = bytes[at..].iter().position(|&b| b == b'\n').map_or(bytes.len(), |end| at + end);
    start..end
}

/// The lines from `at` to the next header.
fn section_of(text: &str, at: usize) -> Range<usize> {
    let line = line_of(text, at);
    line.start..text[line.end..].find("\n[").map_or(text.len(), |next| line.end + next)
}

fn is_unclosed(message: &str) -> bool {
    message.starts_with("unclosed") && message.contains("table")
}

/// What may be secret on a broken line: all that it assigns, unless to a key that is known to hold none, and without a
/// key all of it, as soon as there is a quote: it may be the rest of a string.
fn unknown_value(text: &str, line: &Range<usize>) -> Option<Range<usize>> {
    let shown = text.get(line.clone())?;
    let Some((key, value)) = shown.split_once('=').filter(|(key, _)| !key.contains(['"', '\''])) else {
        return shown.contains(['"', '\'']).then(|| line.clone());
    };
    let name = key.trim().rsplit('.').next().unwrap_or_default();
    let known = KEYS.iter().any(|key| key.name == name) && !mask::is_secret_name(name);
    // A second `=` may be another key's, joined to this line by what broke it.
    (!known || value.contains('=')).then_some(line.start + key.len() + 1..line.end)
}
