//! One table of the file, key by key: each method looks its key up in the list of keys, reports what is wrong with the
//! value and gives the default in its place.

use crate::config::document::join;
use crate::config::keys::{self, Key, Kind};
use crate::config::mask;
use crate::config::problem::Severity;
use crate::config::read::{Reader, Text};
use crate::config::secret::Secret;
use crate::config::substitute::substitute;
use crate::config::values::{self, Read, Wrong, quote};
use std::path::Path;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A secret's file that is larger is some other file.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// One table of the file, or the absence of one: then every key has its default.
#[derive(Clone)]
pub(super) struct Table<'a> {
    pub(super) reader: &'a Reader<'a>,
    pub(super) entries: Option<&'a DeTable<'a>>,
    /// The table's path in the list of keys: `route.idempotency`.
    pub(super) spec: &'static str,
    /// Its path in the file: `route[2].idempotency`.
    pub path: String,
}

/// A word of the file that stands for a value.
pub(super) trait Word: Copy + 'static {
    /// The words and what they stand for.
    const WORDS: &'static [(&'static str, Self)];
    /// Words of the contract that are refused until they are built.
    const LATER: &'static [&'static str] = &[];
}

// === impl Table ===

impl<'a> Table<'a> {
    /// The top level.
    pub fn root(reader: &'a Reader<'a>) -> Table<'a> {
        Table::open(reader, Some(reader.entries()), "", String::new())
    }

    pub(super) fn open(
        reader: &'a Reader<'a>,
        entries: Option<&'a DeTable<'a>>,
        spec: &'static str,
        path: String,
    ) -> Table<'a> {
        let table = Table { reader, entries, spec, path };
        for (key, value) in entries.into_iter().flatten() {
            let name: &str = key.get_ref();
            match keys::find(spec, name) {
                Some(Key { kind: Kind::Later(what), .. }) => {
                    let path = table.path_of(name);
                    reader.report_key(
                        &path,
                        Wrong::new(format!("`{}` is not supported yet: {what}", table.spec_of(name)))
                            .help("take it out; a rule that cannot be kept is refused, never ignored"),
                    );
                }
                Some(_) => {}
                None => table.unknown(name, value),
            }
        }
        table
    }

    /// The path of a key in this table.
    pub fn path_of(&self, name: &str) -> String {
        join(&self.path, name)
    }

    pub(super) fn spec_of(&self, name: &str) -> String {
        join(self.spec, name)
    }

    fn unknown(&self, name: &str, value: &Spanned<DeValue<'_>>) {
        let wrong =
            Wrong::new(format!("{} has no key {}", keys::header(self.spec), quote(name).replace('"', "`")));
        let meant = values::similar(name, keys::names(self.spec));
        let elsewhere = keys::KEYS.iter().find(|key| key.name == name);
        // An unknown key may be a secret's with a slip of the finger.
        let known = meant.or(elsewhere.map(|key| key.name));
        if known.is_none_or(mask::is_secret_name) {
            self.reader.hide(value);
        }
        let wrong = match (meant, elsewhere) {
            (Some(meant), _) => wrong.help(format!("did you mean `{meant}`?")),
            (None, Some(key)) => wrong.help(format!("`{name}` belongs to {}", keys::header(key.table))),
            (None, None) => wrong.help(format!("it knows {}", listed(keys::names(self.spec)))),
        };
        self.reader.report_key(&self.path_of(name), wrong);
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        debug_assert!(
            keys::find(self.spec, name).is_some(),
            "{}.{name} is not in the list of keys",
            self.spec
        );
        self.entries?.get(name)
    }

    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        keys::find(self.spec, name)
    }

    /// Whether the file has this key.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Whether an error was found in a key's value.
    pub fn failed(&self, name: &str) -> bool {
        self.reader.failed(&self.path_of(name))
    }

    /// Reports an error with a key's value.
    pub fn error(&self, name: &str, wrong: Wrong) {
        self.reader.report(Severity::Error, &self.path_of(name), wrong);
    }

    pub(super) fn mismatch(
        &self,
        path: &str,
        expected: &str,
        value: &Spanned<DeValue<'_>>,
        help: Option<String>,
    ) {
        let wrong = Wrong::new(format!("expected {expected}, found {}", described(value.get_ref())));
        self.reader.report(Severity::Error, path, Wrong { help, ..wrong });
    }

    // --- strings ---

    /// The string at a path with its `${…}` replaced; `None` where it is none, which was then reported.
    pub(super) fn string(
        &self,
        path: String,
        expected: &str,
        value: &'a Spanned<DeValue<'a>>,
    ) -> Option<Text> {
        let DeValue::String(raw) = value.get_ref() else {
            let help = match value.get_ref() {
                DeValue::Integer(number) if expected == "a duration" => {
                    Some(format!("write \"{number}s\" or \"{number}ms\""))
                }
                _ => None,
            };
            self.mismatch(&path, expected, value, help);
            return None;
        };
        match substitute(raw, self.reader.env) {
            Ok(value) => Some(Text { value, raw: raw.to_string(), path }),
            Err(problems) => {
                problems.into_iter().for_each(|wrong| self.reader.report(Severity::Error, &path, wrong));
                None
            }
        }
    }

    /// A string, where the file has one.
    pub fn text(&self, name: &str) -> Option<Text> {
        self.string(self.path_of(name), "a string", self.get(name)?)
    }

    /// A value with its own grammar, where the file has one.
    pub fn parsed<T>(&self, name: &str, parse: impl FnOnce(&str) -> Read<T>) -> Option<T> {
        self.text(name)?.parse(self.reader, parse)
    }

    /// A value with its own grammar, or its default.
    pub fn parsed_or_default<T>(&self, name: &str, parse: impl Fn(&str) -> Read<T>) -> T {
        self.parsed(name, &parse).unwrap_or_else(|| default(self.spec, name, parse))
    }

    /// Reports a key that has to be there and is not.
    pub fn require(&self, name: &str, help: &str) {
        if !self.has(name) {
            let wrong = Wrong::new(format!("{} has no `{name}`", keys::header(self.spec))).help(help);
            self.reader.report_missing(&self.path_of(name), wrong);
        }
    }

    /// One string or several. Whole numbers count as their digits where `numbers` says so.
    pub fn texts(&self, name: &str, numbers: bool) -> Option<Vec<Text>> {
        let value = self.get(name)?;
        let path = self.path_of(name);
        let items = match value.get_ref() {
            DeValue::Array(items) => items.iter().collect(),
            _ => vec![value],
        };
        let listed = value.get_ref().is_array();
        let read = items.into_iter().enumerate().filter_map(|(at, item)| {
            let path = if listed { format!("{path}[{at}]") } else { path.clone() };
            match item.get_ref() {
                DeValue::Integer(number) if numbers => {
                    let digits = number.to_string();
                    Some(Text { value: digits.clone(), raw: digits, path })
                }
                _ => {
                    self.string(path, if listed { "a string" } else { "a string or a list of strings" }, item)
                }
            }
        });
        Some(read.collect())
    }

    /// A list of values with their own grammar, or the default.
    pub fn list<T>(&self, name: &str, numbers: bool, parse: impl Fn(&str) -> Read<T>) -> Vec<T> {
        let texts = self.texts(name, numbers).unwrap_or_else(|| default_texts(self.spec, name));
        texts.iter().filter_map(|text| text.parse(self.reader, &parse)).collect()
    }

    // --- numbers, switches, words ---

    /// A duration, where the file has one.
    pub fn duration_set(&self, name: &str) -> Option<Duration> {
        let text = self.string(self.path_of(name), "a duration", self.get(name)?)?;
        let value = text.parse(self.reader, values::duration)?;
        match self.key(name)?.kind {
            Kind::Duration(low, high) => self.within(name, value, low, high, values::duration),
            _ => Some(value),
        }
    }

    /// A duration, or its default.
    pub fn duration(&self, name: &str) -> Duration {
        self.duration_set(name).unwrap_or_else(|| default(self.spec, name, values::duration))
    }

    /// A size in bytes, where the file has one.
    pub fn size_set(&self, name: &str) -> Option<u64> {
        let value = self.get(name)?;
        let bytes = match value.get_ref() {
            DeValue::Integer(number) => self.integer(name, number, "a size")?,
            _ => self.string(self.path_of(name), "a size", value)?.parse(self.reader, values::size)?,
        };
        match self.key(name)?.kind {
            Kind::Size(low, high) => self.within(name, bytes, low, high, values::size),
            _ => Some(bytes),
        }
    }

    /// A size in bytes, or its default.
    pub fn size(&self, name: &str) -> u64 {
        self.size_set(name).unwrap_or_else(|| default(self.spec, name, values::size))
    }

    /// A whole number, or its default.
    pub fn count(&self, name: &str) -> u64 {
        self.count_set(name).unwrap_or_else(|| default(self.spec, name, number))
    }

    /// A whole number, where the file has one.
    pub fn count_set(&self, name: &str) -> Option<u64> {
        let value = self.get(name)?;
        let count = match value.get_ref() {
            DeValue::Integer(digits) => self.integer(name, digits, "a whole number")?,
            // A number from the environment can only come as a string.
            DeValue::String(raw) if raw.contains("${") => {
                self.string(self.path_of(name), "a whole number", value)?.parse(self.reader, number)?
            }
            _ => {
                self.mismatch(&self.path_of(name), "a whole number", value, None);
                return None;
            }
        };
        match self.key(name)?.kind {
            Kind::Count(low, high) => self.within(name, count, &low.to_string(), &high.to_string(), number),
            _ => Some(count),
        }
    }

    fn integer(&self, name: &str, digits: &toml::de::DeInteger<'_>, expected: &str) -> Option<u64> {
        let value = u64::from_str_radix(digits.as_str(), digits.radix()).ok();
        if value.is_none() {
            self.error(name, Wrong::new(format!("expected {expected}, found {digits}")));
        }
        value
    }

    fn within<T: PartialOrd>(
        &self,
        name: &str,
        value: T,
        low: &str,
        high: &str,
        parse: fn(&str) -> Read<T>,
    ) -> Option<T> {
        let fits = parse(low).is_ok_and(|low| value >= low) && parse(high).is_ok_and(|high| value <= high);
        if !fits {
            self.error(
                name,
                Wrong::new(format!("`{name}` is out of range")).help(format!("write {low} to {high}")),
            );
        }
        fits.then_some(value)
    }

    /// `true` or `false`, or the default.
    pub fn switch(&self, name: &str) -> bool {
        match self.get(name).map(|value| (value, value.get_ref())) {
            Some((_, DeValue::Boolean(value))) => *value,
            Some((value, DeValue::String(raw))) if raw.contains("${") => {
                let text = self.string(self.path_of(name), "true or false", value);
                text.and_then(|text| text.parse(self.reader, boolean)).unwrap_or_default()
            }
            Some((value, _)) => {
                self.mismatch(&self.path_of(name), "true or false", value, None);
                false
            }
            None => default(self.spec, name, boolean),
        }
    }

    /// A word, where the file has one.
    pub fn word_set<W: Word>(&self, name: &str) -> Option<W> {
        debug_assert!(
            matches!(keys::find(self.spec, name), Some(Key { kind: Kind::Choice(words), .. })
                if words.iter().eq(W::WORDS.iter().map(|(word, _)| word))),
            "the list of keys and the words of {}.{name} differ",
            self.spec
        );
        self.parsed(name, word)
    }

    /// A word, or the default.
    pub fn word<W: Word>(&self, name: &str) -> W {
        self.word_set(name).unwrap_or_else(|| default(self.spec, name, word))
    }

    // --- secrets ---

    /// A secret: a string, or `{ file = "…" }`.
    pub fn secret(&self, name: &str) -> Option<Secret> {
        let value = self.get(name)?;
        let path = self.path_of(name);
        let text = match value.get_ref() {
            DeValue::Table(entries) => self.secret_file(&path, value, entries)?,
            _ => {
                self.reader.hide(value);
                self.string(path.clone(), "a string or { file = \"…\" }", value)?.value
            }
        };
        if text.is_empty() {
            self.error(name, Wrong::new(format!("`{name}` is empty")));
            return None;
        }
        if text.len() < 16 {
            let wrong = Wrong::new(format!("`{name}` has fewer than 16 characters and can be guessed"));
            self.reader.report(
                Severity::Warning,
                &path,
                wrong.help("`openssl rand -hex 32` makes a good one"),
            );
        }
        Some(Secret::new(text))
    }

    fn secret_file(
        &self,
        path: &str,
        value: &Spanned<DeValue<'_>>,
        entries: &'a DeTable<'a>,
    ) -> Option<String> {
        let only_file = entries.len() == 1 && entries.contains_key("file");
        let Some(file) = entries.get("file").filter(|_| only_file) else {
            self.reader.hide(value);
            let wrong = Wrong::new("a secret is a string or { file = \"…\" }, and nothing else beside it");
            self.reader.report(Severity::Error, path, wrong);
            return None;
        };
        let path = join(path, "file");
        let file = self.string(path, "a string", file)?;
        let text = self.file(&file, SECRET_BYTES_MAX)?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        Some(text.strip_suffix('\r').unwrap_or(text).to_owned())
    }

    /// A whole text file that a key names.
    pub fn file(&self, file: &Text, bytes_max: u64) -> Option<String> {
        let read = read_file(&self.reader.dir.join(&file.value), bytes_max, &file.raw);
        read.map_err(|wrong| self.reader.report(Severity::Error, &file.path, wrong)).ok()
    }
}

/// A key's default from the list of keys. A test reads every one of them.
fn default<T>(table: &str, name: &str, parse: impl Fn(&str) -> Read<T>) -> T {
    let text = keys::find(table, name).and_then(|key| key.default).unwrap_or_default();
    parse(text).unwrap_or_else(|wrong| unreachable!("the default of {table}.{name}: {}", wrong.message))
}

/// The items of a default such as `["4xx"]`.
fn default_texts(table: &str, name: &str) -> Vec<Text> {
    let text = keys::find(table, name).and_then(|key| key.default).unwrap_or_default();
    let items = text
        .trim_start_matches('[')
        .trim_end_matches(']')
        .split(',')
        .map(|item| item.trim().trim_matches('"'));
    let items = items.filter(|item| !item.is_empty());
    items.map(|item| Text { value: item.into(), raw: item.into(), path: String::new() }).collect()
}

fn number(text: &str) -> Read<u64> {
    text.parse().map_err(|_| Wrong::new(format!("{} is not a whole number", quote(text))))
}

fn boolean(text: &str) -> Read<bool> {
    text.parse().map_err(|_| Wrong::new(format!("{} is neither true nor false", quote(text))))
}

fn word<W: Word>(text: &str) -> Read<W> {
    let words = || W::WORDS.iter().map(|(word, _)| *word);
    if let Some((_, value)) = W::WORDS.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    if W::LATER.contains(&text) {
        return Err(values::later(&quote(text)).help(format!("write {}", values::alternatives(words()))));
    }
    let wrong = Wrong::new(format!("{} is none of {}", quote(text), values::alternatives(words())));
    Err(match values::similar(text, words()) {
        Some(meant) => wrong.help(format!("did you mean \"{meant}\"?")),
        None => wrong,
    })
}

fn described(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn read_file(path: &Path, bytes_max: u64, shown: &str) -> Read<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(bytes_max + 1).read_to_string(&mut text));
    match read {
        Ok(read) if read as u64 <= bytes_max => Ok(text),
        Ok(_) => Err(Wrong::new(format!("the file {} is larger than {bytes_max} bytes", quote(shown)))),
        Err(error) => Err(Wrong::new(format!("the file {} cannot be read: {error}", quote(shown)))
            .help("relative paths start from the configuration's own directory")),
    }
}
