//! Collects what is wrong with a file. A value that is wrong is reported and its default goes on in its place, so that
//! one run finds every problem; a configuration with an error is never handed out.

use crate::config::document::Document;
use crate::config::problem::{Problem, Severity};
use crate::config::values::{Read, Wrong, quote};
use std::cell::RefCell;
use std::ops::Range;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What reading needs beside the tree, and what it found.
pub(super) struct Reader<'a> {
    document: &'a Document<'a>,
    /// The directory that relative paths start from: the file's own.
    pub dir: &'a Path,
    /// The environment, by name.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    found: RefCell<Found>,
}

/// What reading has found so far.
#[derive(Default)]
struct Found {
    problems: Vec<Problem>,
    secrets: Vec<Range<usize>>,
}

/// A string of the file after `${…}` was replaced.
#[derive(Clone, Debug)]
pub(super) struct Text {
    /// The value.
    pub value: String,
    /// As it is in the file: what messages quote, because a variable's value may be a secret.
    pub raw: String,
    /// Its path.
    pub path: String,
}

// === impl Reader ===

impl<'a> Reader<'a> {
    /// A reader over a document.
    pub fn new(
        document: &'a Document<'a>,
        dir: &'a Path,
        env: &'a dyn Fn(&str) -> Option<String>,
    ) -> Reader<'a> {
        Reader { document, dir, env, found: RefCell::default() }
    }

    /// The top level's keys.
    pub fn entries(&self) -> &DeTable<'a> {
        &self.document.root
    }

    /// Everything found, and the values that must not be shown.
    pub fn finish(self) -> (Vec<Problem>, Vec<Range<usize>>) {
        let found = self.found.into_inner();
        (found.problems, found.secrets)
    }

    /// Whether the file says something at this path.
    pub fn is_set(&self, path: &str) -> bool {
        self.document.spots.contains_key(path)
    }

    /// Whether the whole file was readable as TOML; otherwise what seems to be absent may only be unreadable.
    pub fn is_whole(&self) -> bool {
        self.document.syntax.is_empty()
    }

    /// Whether an error was found at this path or below: what depends on its value cannot be judged.
    pub fn failed(&self, path: &str) -> bool {
        let below = |other: &str| {
            other.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.found
            .borrow()
            .problems
            .iter()
            .any(|problem| problem.severity == Severity::Error && below(&problem.path))
    }

    /// Reports a problem with the value at `path`.
    pub fn report(&self, severity: Severity, path: &str, wrong: Wrong) {
        let span = self.document.place(path);
        self.push(severity, path, span, wrong);
    }

    /// Reports a problem with the key itself.
    pub fn report_key(&self, path: &str, wrong: Wrong) {
        let span = self.document.spots.get(path).map(|spot| spot.key.clone());
        self.push(Severity::Error, path, span, wrong);
    }

    /// Reports that something is not there. In a file with syntax errors it may only be unreadable, so nothing is said.
    pub fn report_missing(&self, path: &str, wrong: Wrong) {
        if self.is_whole() {
            self.report(Severity::Error, path, wrong);
        }
    }

    fn push(&self, severity: Severity, path: &str, span: Option<Range<usize>>, wrong: Wrong) {
        if span.as_ref().is_some_and(|span| self.document.is_broken(span)) {
            return;
        }
        let problem = Problem {
            severity,
            path: path.to_owned(),
            owner: self.owner(path),
            span,
            message: wrong.message,
            help: wrong.help,
        };
        // A value that two checks look at has its problem once.
        let mut found = self.found.borrow_mut();
        if !found.problems.contains(&problem) {
            found.problems.push(problem);
        }
    }

    /// `route "book"` for everything in that route: an index is hard to count to.
    fn owner(&self, path: &str) -> Option<String> {
        let (kind, rest) = path.split_once('[')?;
        let index: usize = rest.split_once(']')?.0.parse().ok()?;
        let items = self.document.root.get(kind)?.get_ref().as_array()?;
        let name = items.get(index)?.get_ref().as_table()?.get("name")?.get_ref().as_str()?;
        Some(format!("{kind} {}", quote(name)))
    }

    /// Keeps a value and all that is in it from being shown.
    pub fn hide(&self, value: &Spanned<DeValue<'_>>) {
        self.found.borrow_mut().secrets.push(value.span());
        // A dotted key's table begins and ends with its key, not with what it holds.
        match value.get_ref() {
            DeValue::Table(entries) => entries.iter().for_each(|(_, value)| self.hide(value)),
            DeValue::Array(items) => items.iter().for_each(|item| self.hide(item)),
            _ => {}
        }
    }
}

// === impl Text ===

impl Text {
    /// Reads it by its grammar; reports what is wrong.
    pub fn parse<T>(&self, reader: &Reader<'_>, parse: impl FnOnce(&str) -> Read<T>) -> Option<T> {
        match parse(&self.value) {
            Ok(value) => Some(value),
            Err(mut wrong) => {
                if self.value != self.raw {
                    // The grammars quote what they were given, and that came from the environment.
                    wrong = Wrong::new(format!(
                        "{}, once its variables are replaced, is not acceptable",
                        quote(&self.raw)
                    ));
                }
                reader.report(Severity::Error, &self.path, wrong);
                None
            }
        }
    }
}
