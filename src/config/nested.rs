//! Tables within a table: one, several, one or several, and those whose keys are written by the operator.

use crate::config::document::join;
use crate::config::keys::{self, Key};
use crate::config::read::Text;
use crate::config::table::Table;
use crate::config::values::{Read, Wrong};
use toml::de::DeValue;

/// The list of keys knows a table's own path only by its parent's and its name.
fn spec_below(key: &Key) -> &'static str {
    let path = join(key.table, key.name);
    keys::KEYS.iter().map(|key| key.table).find(|table| *table == path).unwrap_or("")
}

// === impl Table ===

impl<'a> Table<'a> {
    /// The table under a key; where the file has none, one in which every key has its default.
    pub fn table(&self, name: &'static str) -> Table<'a> {
        let entries = self.get(name).and_then(|value| match value.get_ref() {
            DeValue::Table(entries) => Some(entries),
            _ => {
                let help = format!("write [{}] and its keys below", self.spec_of(name));
                self.mismatch(&self.path_of(name), "a table", value, Some(help));
                None
            }
        });
        Table::open(self.reader, entries, self.key(name).map_or("", spec_below), self.path_of(name))
    }

    /// The tables of an array of tables.
    pub fn tables(&self, name: &'static str) -> Vec<Table<'a>> {
        let Some(value) = self.get(name) else { return Vec::new() };
        let path = self.path_of(name);
        let help = Some(format!("write [[{name}]], once for each"));
        let items = match value.get_ref() {
            DeValue::Array(items) => items,
            _ => {
                self.mismatch(&path, "an array of tables", value, help);
                return Vec::new();
            }
        };
        let spec = self.key(name).map_or("", spec_below);
        let tables = items.iter().enumerate().map(|(at, item)| {
            let path = format!("{path}[{at}]");
            let entries = item.get_ref().as_table();
            if entries.is_none() {
                self.mismatch(&path, "a table", item, help.clone());
            }
            // An element that is no table keeps its place, so that indexes in messages and references stay right.
            Table::open(self.reader, entries, spec, path)
        });
        tables.collect()
    }

    /// The tables of a list, or the one table that stands in its place: `release = { … }`.
    pub fn tables_or_one(&self, name: &'static str) -> Vec<Table<'a>> {
        match self.get(name).map(|value| value.get_ref()) {
            Some(DeValue::Table(entries)) => {
                let spec = self.key(name).map_or("", spec_below);
                vec![Table::open(self.reader, Some(entries), spec, self.path_of(name))]
            }
            _ => self.tables(name),
        }
    }

    /// The entries of a table whose keys have a grammar of their own, each with one value or several. Numbers and `true` or
    /// `false` count as they are written.
    pub fn entries_of<T>(&self, name: &str, parse: impl Fn(&str) -> Read<T>) -> Vec<(T, Vec<String>)> {
        let Some(value) = self.get(name) else { return Vec::new() };
        let DeValue::Table(entries) = value.get_ref() else {
            self.mismatch(
                &self.path_of(name),
                "a table",
                value,
                Some(format!("write {name} = {{ \"$.status\" = [\"CANCELLED\"] }}")),
            );
            return Vec::new();
        };
        let mut read = Vec::new();
        for (key, value) in entries {
            let path = join(&self.path_of(name), key.get_ref());
            let text = Text {
                value: key.get_ref().to_string(),
                raw: key.get_ref().to_string(),
                path: self.path_of(name),
            };
            let Some(key) = text.parse(self.reader, &parse) else { continue };
            let items = match value.get_ref() {
                DeValue::Array(items) => items.iter().collect(),
                _ => vec![value],
            };
            if items.is_empty() {
                let wrong = Wrong::new(format!("`{name}` has a condition without a value"));
                self.error(name, wrong.help("name the values that meet it, or take it out"));
            }
            let values: Vec<String> = items
                .into_iter()
                .filter_map(|item| match item.get_ref() {
                    DeValue::Integer(number) => Some(number.to_string()),
                    DeValue::Boolean(value) => Some(value.to_string()),
                    _ => {
                        self.string(path.clone(), "a value or a list of values", item).map(|text| text.value)
                    }
                })
                .collect();
            read.push((key, values));
        }
        if read.is_empty() && entries.is_empty() {
            self.error(
                name,
                Wrong::new(format!("`{name}` is empty")).help("name a condition, or take it out"),
            );
        }
        read
    }

    /// As [`Table::list`], of a key that means nothing without an item. `help` names one.
    pub fn some<T>(&self, name: &str, numbers: bool, help: &str, parse: impl Fn(&str) -> Read<T>) -> Vec<T> {
        let items = self.list(name, numbers, parse);
        if items.is_empty() && self.has(name) && !self.failed(name) {
            self.error(name, Wrong::new(format!("`{name}` is empty")).help(help));
        }
        items
    }
}
