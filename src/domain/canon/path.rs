//! Field paths of the configuration: `$.a.b`, `$.items[*].x`, `$.items[0]`, `$['odd name']`. Owns their syntax; what a
//! path means for a body is said where that kind of body is read.

use std::fmt;
use std::str::FromStr;

/// A path to values in a JSON body, or to a field of a form by its name (`$.name`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JsonPath {
    steps: Vec<Step>,
}

/// One step from a value into a value that it contains.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// `.name` or `['name']`: the member of an object, compared byte by byte after unescaping.
    Name(String),
    /// `[3]`: one element of an array, counted from 0 as sent.
    Index(usize),
    /// `[*]`: each element of an array.
    Every,
}

/// Deeper paths address nothing: a document nested deeper than this is taken raw.
pub(super) const STEPS_MAX: usize = super::DEPTH_MAX;

/// What remains to be read of a path's text.
struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
}

// === impl JsonPath ===

impl JsonPath {
    /// Reads a path; the error is a sentence for the operator who wrote it.
    pub fn parse(text: &str) -> Result<JsonPath, String> {
        let Some(rest) = text.strip_prefix('$') else {
            return Err(format!("a path starts with `$`: `$.{}`", text.trim_start_matches('.')));
        };
        let mut reader = Reader { text, rest };
        let mut steps = Vec::new();
        while let Some(step) = reader.step()? {
            steps.push(step);
            if steps.len() > STEPS_MAX {
                return Err(format!("a path has at most {STEPS_MAX} steps"));
            }
        }
        Ok(JsonPath { steps })
    }

    /// The steps from the root.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Whether it is `$`, the whole body.
    pub fn is_root(&self) -> bool {
        self.steps.is_empty()
    }

    /// The names in `$.a.b`, where every step is one: the shape that rules address fields of forms by.
    pub fn names(&self) -> Option<Vec<&str>> {
        let names = self.steps.iter().map(|step| match step {
            Step::Name(name) => Some(name.as_str()),
            _ => None,
        });
        names.collect()
    }

    /// The name in `$.name`.
    pub fn field(&self) -> Option<&str> {
        match self.steps.as_slice() {
            [Step::Name(name)] => Some(name),
            _ => None,
        }
    }
}

impl FromStr for JsonPath {
    type Err = String;

    fn from_str(text: &str) -> Result<JsonPath, String> {
        JsonPath::parse(text)
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("$")?;
        self.steps.iter().try_for_each(|step| write!(f, "{step}"))
    }
}

// === impl Step ===

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Name(name) if !name.is_empty() && name.chars().all(is_plain) => write!(f, ".{name}"),
            Step::Name(name) => {
                f.write_str("['")?;
                for character in name.chars() {
                    if matches!(character, '\'' | '\\') {
                        f.write_str("\\")?;
                    }
                    write!(f, "{character}")?;
                }
                f.write_str("']")
            }
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Every => f.write_str("[*]"),
        }
    }
}

/// Characters of a name that needs no quotes.
fn is_plain(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '-')
}

// === impl Reader ===

impl Reader<'_> {
    /// The next step, or `None` at the end.
    fn step(&mut self) -> Result<Option<Step>, String> {
        if let Some(rest) = self.rest.strip_prefix('.') {
            let end = rest.find(|character| !is_plain(character)).unwrap_or(rest.len());
            let (name, rest) = rest.split_at(end);
            if name.is_empty() {
                return Err(
                    self.problem("a name has to follow `.` (`$.items[*].x`; odd names as `['odd name']`)")
                );
            }
            self.rest = rest;
            return Ok(Some(Step::Name(name.to_owned())));
        }
        if let Some(rest) = self.rest.strip_prefix('[') {
            self.rest = rest;
            return self.bracket().map(Some);
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        Err(self.problem("expected `.name`, `['name']`, `[0]` or `[*]`"))
    }

    /// What stands between brackets, with the closing one.
    fn bracket(&mut self) -> Result<Step, String> {
        let step = match self.rest.chars().next() {
            Some(quote @ ('\'' | '"')) => self.quoted(quote)?,
            Some('*') => {
                self.rest = &self.rest[1..];
                Step::Every
            }
            _ => {
                let end =
                    self.rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(self.rest.len());
                let (digits, rest) = self.rest.split_at(end);
                let index =
                    digits.parse().map_err(|_| self.problem("expected a number, `*` or a quoted name"))?;
                self.rest = rest;
                Step::Index(index)
            }
        };
        self.rest = self.rest.strip_prefix(']').ok_or_else(|| self.problem("expected `]`"))?;
        Ok(step)
    }

    /// A name in quotes; a backslash takes the next character as it is.
    fn quoted(&mut self, quote: char) -> Result<Step, String> {
        let mut name = String::new();
        let mut characters = self.rest[1..].char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                '\\' => match characters.next() {
                    Some((_, escaped)) => name.push(escaped),
                    None => break,
                },
                _ if character == quote => {
                    self.rest = &self.rest[1 + at + 1..];
                    return Ok(Step::Name(name));
                }
                _ => name.push(character),
            }
        }
        Err(self.problem("the quoted name does not end"))
    }

    fn problem(&self, what: &str) -> String {
        format!("{what}, at character {}", self.text[..self.text.len() - self.rest.len()].chars().count() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_displayed_as_it_was_written() {
        for text in [
            "$",
            "$.a",
            "$.a.b",
            "$.items[*].x",
            "$.items[0]",
            "$['odd name']",
            "$['it\\'s']['']",
            "$[*][12]",
        ] {
            assert_eq!(JsonPath::parse(text).map(|path| path.to_string()), Ok(text.to_owned()));
        }
        assert_eq!(JsonPath::parse("$[\"a\"]").map(|path| path.to_string()), Ok("$.a".to_owned()));
    }

    #[test]
    fn a_wrong_path_says_what_was_expected_and_where() {
        let problem = |text: &str| JsonPath::parse(text).expect_err("a wrong path");
        assert_eq!(problem("a.b"), "a path starts with `$`: `$.a.b`");
        assert!(problem("$.").contains("a name has to follow"), "{}", problem("$."));
        assert!(problem("$.a..b").ends_with("at character 4"), "{}", problem("$.a..b"));
        assert!(problem("$.a[").contains("expected a number"), "{}", problem("$.a["));
        assert!(problem("$.a[1").contains("expected `]`"));
        assert!(problem("$.a[-1]").contains("expected a number"));
        assert!(problem("$.a['b]").contains("does not end"));
        assert!(problem("$.a b").contains("expected `.name`"));
        assert!(problem("$.a[99999999999999999999]").contains("expected a number"));
        assert!(problem(&format!("${}", ".a".repeat(STEPS_MAX + 1))).contains("at most"));
    }

    #[test]
    fn only_a_single_name_addresses_a_form_field() {
        let field = |text: &str| JsonPath::parse(text).expect("a path").field().map(str::to_owned);
        assert_eq!(field("$.days"), Some("days".to_owned()));
        assert_eq!(field("$['days[]']"), Some("days[]".to_owned()));
        assert_eq!(field("$.a.b"), None);
        assert_eq!(field("$[0]"), None);
        assert_eq!(field("$"), None);
    }
}
