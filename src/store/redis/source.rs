//! The text of a script as a server gets it: what it shares with others, and its own.
//!
//! A server runs a script's whole text each time, so what stands in front of a script costs at each run: every function,
//! and for every function each local of the text that it uses. So the values of constants are put in for their names, and
//! claims and completions as nearly all are have a script of their own, with the little that they need in front of it.

use std::collections::{HashMap, HashSet};

/// Shared by all scripts: names, and what needs nothing else.
const HEAD: &str = include_str!("scripts/head.lua");

/// Shared by all scripts: the clock, and how a record is written.
const CORE: &str = include_str!("scripts/core.lua");

/// Shared by all scripts.
const COMMON: &str = include_str!("scripts/common.lua");

/// Shared by all scripts: what a record's change means for the slots of its attempt.
const SLOTS: &str = include_str!("scripts/slots.lua");

/// Shared by the scripts that take slots and give them back: some of records, and those whose names begin with `slot_`.
const BOOKINGS: &str = include_str!("scripts/bookings.lua");

/// Shared by the scripts of lanes, whose names begin with `lane_`.
const LANES: &str = include_str!("scripts/lanes.lua");

/// The whole text of the script `name`, whose own one is `source`.
pub(super) fn whole(name: &str, source: &str) -> String {
    match name {
        "limits" => return source.to_owned(),
        "usual" => return with_values(&[HEAD, source].join("\n")),
        _ => {}
    }
    let own = match name {
        lanes if lanes.starts_with("lane_") => LANES,
        "claim" | "complete" | "settle" => BOOKINGS,
        slots if slots.starts_with("slot_") => BOOKINGS,
        _ => "",
    };
    with_values(&[HEAD, CORE, COMMON, SLOTS, own, source].join("\n"))
}

/// The text without comments, and with the values of constants in place of their names. A constant is a name in capitals
/// that a line declares with a literal, where nothing changes any of that line.
fn with_values(text: &str) -> String {
    let changed: HashSet<&str> =
        text.lines().filter(|line| declared(line).is_none()).flat_map(assigned).collect();
    let constants = text.lines().filter_map(declared);
    let constants = constants.filter(|(names, _)| names.iter().all(|name| !changed.contains(name)));
    let values: HashMap<&str, String> =
        constants.flat_map(|(names, literals)| names.into_iter().zip(literals)).collect();
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let is_gone =
            declared(line).is_some_and(|(names, _)| names.iter().all(|name| values.contains_key(name)));
        if is_gone {
            continue;
        }
        let before = out.len();
        for piece in pieces(line) {
            match piece {
                Piece::Word(word) => out.push_str(values.get(word).map_or(word, String::as_str)),
                Piece::Other(other) => out.push_str(other),
            }
        }
        let kept = out.trim_end().len().max(before);
        out.truncate(kept);
        if out.len() > before {
            out.push('\n');
        }
    }
    out
}

/// `local A, B = 1, 'x'`: the names and the literals.
fn declared(line: &str) -> Option<(Vec<&str>, Vec<String>)> {
    let (names, literals) = line.strip_prefix("local ")?.split_once(" = ")?;
    let names: Vec<&str> = names.split(", ").collect();
    let is_name = |name: &&str| name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    let literals: Option<Vec<String>> = literals.split(", ").map(literal).collect();
    literals.filter(|literals| names.iter().all(is_name) && literals.len() == names.len()).map(|l| (names, l))
}

/// A number, a product of numbers, or a letter between quotes.
fn literal(text: &str) -> Option<String> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_letter = matches!(text.as_bytes(), [b'\'', letter, b'\''] if letter.is_ascii_lowercase());
    match text {
        _ if is_letter || is_number(text) => Some(text.to_owned()),
        _ if text.split(" * ").all(is_number) => Some(format!("({text})")),
        _ => None,
    }
}

/// The names that a line assigns to.
fn assigned(line: &str) -> impl Iterator<Item = &str> {
    let left = line.find(" = ").map_or("", |at| &line[..at]);
    // Behind `then` and the like.
    left.split([' ', ',']).filter(|name| !name.is_empty())
}

enum Piece<'a> {
    Word(&'a str),
    Other(&'a str),
}

/// Words, and what is between them; no comment.
fn pieces(line: &str) -> Vec<Piece<'_>> {
    let (mut pieces, mut rest) = (Vec::new(), line);
    while let Some(first) = rest.bytes().next() {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let length = match first {
            b'\'' => rest[1..].find('\'').map_or(rest.len(), |end| end + 2),
            b'-' if rest.starts_with("--") => return pieces,
            byte if is_word(byte) => rest.bytes().position(|byte| !is_word(byte)).unwrap_or(rest.len()),
            _ => rest.chars().next().map_or(1, char::len_utf8),
        };
        let (piece, behind) = rest.split_at(length);
        pieces.push(if is_word(first) { Piece::Word(piece) } else { Piece::Other(piece) });
        rest = behind;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_become_their_values_and_nothing_else_changes() {
        let text = "-- A comment\nlocal A, B = 1, 'x'\nlocal KEPT = 2 * 60\nlocal NOW = 0\nlocal LIFE, FLOOR = nil, 0\n\
                    local function f(r)\n  NOW = r[A] -- A\n  if r[B] then FLOOR = 'A B' .. KEPT end\n  return AB\nend";
        let want = "local NOW = 0\nlocal LIFE, FLOOR = nil, 0\nlocal function f(r)\n  NOW = r[1]\n  \
                    if r['x'] then FLOOR = 'A B' .. (2 * 60) end\n  return AB\nend\n";
        assert_eq!(with_values(text), want);
        let one = "local ONE, TWO = 1, 2\n  if x then ONE = 3 end\nreturn ONE + TWO";
        assert_eq!(
            with_values(one),
            "local ONE, TWO = 1, 2\n  if x then ONE = 3 end\nreturn ONE + TWO\n",
            "what is changed somewhere is no constant"
        );
    }
}
