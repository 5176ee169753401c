//! A chunk's first line: its size, and extensions that nobody uses except to smuggle.

use super::bytes::{is_token, trimmed};
use super::problem::Problem::{self, ChunkExtension, ChunkSize};

/// Digits of a size; more are leading zeros or an overflow, and 63 bits are what every backend can count.
const DIGITS_MAX: usize = 16;

/// The size that `line` (without its end) announces.
pub(super) fn size(line: &[u8]) -> Result<u64, Problem> {
    let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    if !(1..=DIGITS_MAX).contains(&digits) {
        return Err(ChunkSize);
    }
    let size = line[..digits].iter().fold(0u64, |size, &digit| size << 4 | u64::from(value(digit)));
    if size > i64::MAX as u64 {
        return Err(ChunkSize);
    }
    let rest = &line[digits..];
    if rest.is_empty() {
        return Ok(size);
    }
    // White space counts only before an extension: behind a bare size, parsers disagree about it.
    if !matches!(rest[0], b';' | b' ' | b'\t') || trimmed(rest).is_empty() {
        return Err(ChunkSize);
    }
    extensions(rest).map(|()| size)
}

fn value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

/// `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted ) ] )` (RFC 9112, 7.1.1).
fn extensions(mut rest: &[u8]) -> Result<(), Problem> {
    while !rest.is_empty() {
        let [b';', behind @ ..] = trimmed_start(rest) else { return Err(ChunkExtension) };
        let (name, behind) = token(trimmed_start(behind));
        if !is_token(name) {
            return Err(ChunkExtension);
        }
        rest = behind;
        if let [b'=', behind @ ..] = trimmed_start(behind) {
            rest = argument(trimmed_start(behind))?;
        }
    }
    Ok(())
}

/// What follows an extension's value.
fn argument(text: &[u8]) -> Result<&[u8], Problem> {
    let [b'"', quoted @ ..] = text else {
        let (value, behind) = token(text);
        return if is_token(value) { Ok(behind) } else { Err(ChunkExtension) };
    };
    let mut escaped = false;
    for (at, &byte) in quoted.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Ok(&quoted[at + 1..]),
            _ => {}
        }
    }
    Err(ChunkExtension)
}

fn token(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !is_token(&[*byte])).unwrap_or(text.len());
    text.split_at(end)
}

fn trimmed_start(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    text
}
