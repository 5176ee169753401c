//! Which byte may stand where.

use super::block;

/// What a byte is in a header's name.
pub(super) const NOT_TOKEN: u8 = 0;
/// A token's byte that nobody takes for another.
const TOKEN: u8 = 1;
/// `_`, `.` and other signs, which some backends take for `-`: CGI makes one of all of them.
pub(super) const LIKE_DASH: u8 = 3;

/// The class of every byte in a header's name. `LIKE_DASH` has a bit more than `TOKEN`, so that classes can be gathered
/// with `|`.
pub(super) const NAME: [u8; 256] = {
    let mut table = [NOT_TOKEN; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => TOKEN,
            b'_' | b'.' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'^' | b'`' | b'|'
            | b'~' => LIKE_DASH,
            _ => NOT_TOKEN,
        };
        byte += 1;
    }
    table
};

/// What names of hosts are made of. Escapes and sub-delimiters are what parsers disagree about.
pub(super) const HOST: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'-' | b'.' | b'_' | b'~');
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

/// Whether every byte of `text` may stand bare in a path and in a query. Sixteen at a time, the last of them overlapping
/// those before.
pub(super) fn is_plain_target(text: &[u8]) -> bool {
    let Some(last) = text.last_chunk() else {
        return !text.is_empty() && text.iter().all(|&byte| !is_rare_in_target(byte));
    };
    let (blocks, _) = text.as_chunks();
    blocks.iter().chain([last]).all(|block| block::rare_in_target(block) == 0)
}

/// Not printable, or not both in paths and in queries.
#[inline]
pub(super) fn is_rare_in_target(byte: u8) -> bool {
    !byte.is_ascii_graphic() || matches!(byte, b'"' | b'#' | b'<' | b'>' | b'`')
}
