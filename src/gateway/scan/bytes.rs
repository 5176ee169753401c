//! Which byte may stand where.

use super::problem::Problem;
use super::problem::Problem::{BareCr, Control, Nul};

/// What a byte is in a header's name.
pub(super) const NOT_TOKEN: u8 = 0;
/// A token's byte that nobody takes for another.
const TOKEN: u8 = 1;
/// `_` and `.`, which some backends take for `-`.
pub(super) const LIKE_DASH: u8 = 3;

/// The class of every byte in a header's name. `LIKE_DASH` has a bit more than `TOKEN`, so that classes can be gathered
/// with `|`.
pub(super) const NAME: [u8; 256] = {
    let mut table = [NOT_TOKEN; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b'_' | b'.' => LIKE_DASH,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => TOKEN,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'^' | b'`' | b'|' | b'~' => {
                TOKEN
            }
            _ => NOT_TOKEN,
        };
        byte += 1;
    }
    table
};

/// Bytes that may stand bare in a path and in a query alike.
pub(super) const TARGET: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        table[byte] = !matches!(byte as u8, b'"' | b'#' | b'<' | b'>' | b'`');
        byte += 1;
    }
    table
};

/// Whether `text` is a token that is not empty.
pub(super) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&byte| NAME[usize::from(byte)] != NOT_TOKEN)
}

/// `text` without the spaces and tabs around it.
pub(super) fn trimmed(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// Refuses control characters but for tabs. Branchless in the good case, so that it is compiled to vector instructions.
pub(super) fn without_controls(text: &[u8]) -> Result<(), Problem> {
    let bad = text.iter().fold(0u8, |bad, &byte| {
        // One comparison each: below the space (and no tab), or DEL.
        bad | u8::from((byte < 0x20) & (byte != b'\t')) | u8::from(byte == 0x7f)
    });
    if bad == 0 { Ok(()) } else { Err(control(text)) }
}

#[cold]
fn control(text: &[u8]) -> Problem {
    match text.iter().find(|&&byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f) {
        Some(0) => Nul,
        Some(b'\r') => BareCr,
        _ => Control,
    }
}
