//! What is wrong with a configuration, all of it at once. A problem is a value: where it is, what is wrong and what to
//! write instead. Nothing here ever holds a secret: the file's text is masked before it gets in.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use std::ops::Range;

/// How much a problem matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The configuration is not used.
    Error,
    /// It is used, and probably does not do what was meant.
    Warning,
    /// It is used; this is worth knowing.
    Note,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How much it matters.
    pub severity: Severity,
    /// The TOML path, `route[2].idempotency.wait`; empty for the file as a whole.
    pub path: String,
    /// The route or upstream that the path is in, by its name: `route "book"`.
    pub owner: Option<String>,
    /// Where in the file, in bytes.
    pub span: Option<Range<usize>>,
    /// What is wrong, as a sentence's beginning without its full stop.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

/// Problems of one file, in the order of its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    file: String,
    /// The file's text, same length, with every secret masked.
    masked: String,
    list: Vec<Problem>,
}

/// For whom problems are rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// Text alone.
    Plain,
    /// With terminal colours.
    Colour,
}

// === impl Problems ===

impl Problems {
    /// Problems in `file`, whose `masked` text has the length of the original.
    pub(super) fn new(file: impl Into<String>, masked: String, mut list: Vec<Problem>) -> Problems {
        // What concerns the file as a whole comes last: under the details it reads as their conclusion.
        list.sort_by_key(|problem| {
            (problem.span.as_ref().map_or(usize::MAX, |span| span.start), problem.severity)
        });
        Problems { file: file.into(), masked, list }
    }

    /// The one problem of a file that could not be read at all.
    pub(super) fn unreadable(file: impl Into<String>, message: String) -> Problems {
        let problem = Problem {
            severity: Severity::Error,
            path: String::new(),
            owner: None,
            span: None,
            message,
            help: None,
        };
        Problems::new(file, String::new(), vec![problem])
    }

    /// All of them, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    /// How many there are of one severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.list.iter().filter(|problem| problem.severity == severity).count()
    }

    /// Whether the configuration cannot be used.
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// The file's name as problems show it.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// All problems as text, a blank line between two; empty where there are none.
    pub fn render(&self, paint: Paint) -> String {
        self.list.iter().map(|problem| self.render_one(problem, paint) + "\n").collect::<Vec<_>>().join("\n")
    }

    /// "2 errors, 1 warning, 0 notes".
    pub fn tally(&self) -> String {
        let words = [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Note, "note")];
        let counted = words.map(|(severity, word)| {
            let count = self.count(severity);
            format!("{count} {word}{}", if count == 1 { "" } else { "s" })
        });
        counted.join(", ")
    }

    fn render_one(&self, problem: &Problem, paint: Paint) -> String {
        let level = match problem.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
            Severity::Note => Level::NOTE,
        };
        let group = level.primary_title(problem.message.as_str());
        let label = problem.label();
        let located = problem.span.as_ref().map(|span| Line::at(&self.masked, span));
        let group = match &located {
            Some(line) => group.element(
                Snippet::source(line.text)
                    .line_start(line.number)
                    .path(self.file.as_str())
                    .annotation(AnnotationKind::Primary.span(line.columns.clone()).label(label)),
            ),
            None if label.is_empty() => group.element(Level::NOTE.message(format!("in {}", self.file))),
            None => group.element(Level::NOTE.message(format!("in {}: {label}", self.file))),
        };
        let group = match &problem.help {
            Some(help) => group.element(Level::HELP.message(help.as_str())),
            None => group,
        };
        let renderer = if paint == Paint::Colour { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }
}

impl std::fmt::Display for Problems {
    /// Without colours.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.render(Paint::Plain))
    }
}

impl std::error::Error for Problems {}

// === impl Problem ===

impl Problem {
    fn label(&self) -> String {
        match &self.owner {
            Some(owner) => format!("{} ({owner})", self.path),
            None => self.path.clone(),
        }
    }
}

/// The line that a problem points into; a problem over several lines is shown by its first.
struct Line<'a> {
    number: usize,
    text: &'a str,
    columns: Range<usize>,
}

// === impl Line ===

impl<'a> Line<'a> {
    fn at(source: &'a str, span: &Range<usize>) -> Line<'a> {
        let start = floor(source, span.start);
        let first = source[..start].rfind('\n').map_or(0, |at| at + 1);
        let last = source[start..].find('\n').map_or(source.len(), |at| start + at);
        let text = source[first..last].trim_end_matches('\r');
        let end = floor(source, span.end).clamp(start, last);
        let columns = (start - first).min(text.len())..(end - first).min(text.len());
        Line { number: source[..first].matches('\n').count() + 1, text, columns }
    }
}

fn floor(source: &str, at: usize) -> usize {
    (0..=at.min(source.len())).rev().find(|&at| source.is_char_boundary(at)).unwrap_or(0)
}
