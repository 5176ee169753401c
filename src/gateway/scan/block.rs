//! Sixteen or thirty-two bytes at a time: one bit for each byte that is of a kind.

use wide::u8x16;

/// How many bytes one vector has.
pub(super) const BYTES: usize = 16;

/// The control characters of some bytes, one after the other. In a good head these are the line ends, so this is how
/// lines are found and how everything else of that kind is, in one pass.
pub(super) struct Marks<'b> {
    bytes: &'b [u8],
    /// Where the bytes begin that `mask` is of.
    at: usize,
    mask: u32,
    /// Where those begin that come next.
    next: usize,
}

// === impl Marks ===

impl<'b> Marks<'b> {
    /// Those of `bytes` from `start` on.
    pub fn new(bytes: &'b [u8], start: usize) -> Marks<'b> {
        Marks { bytes, at: start, mask: 0, next: start }
    }

    /// Where the next one is.
    #[inline(always)]
    pub fn next(&mut self) -> Option<usize> {
        while self.mask == 0 {
            let rest = self.bytes.get(self.next..)?;
            self.at = self.next;
            if let Some(bytes) = rest.first_chunk() {
                self.mask = controls(bytes);
                self.next += BYTES;
            } else if rest.is_empty() {
                return None;
            } else {
                let mut bytes = [b' '; BYTES];
                bytes[..rest.len()].copy_from_slice(rest);
                self.mask = controls(&bytes);
                self.next += rest.len();
            }
        }
        let bit = self.mask.trailing_zeros() as usize;
        self.mask &= self.mask - 1;
        Some(self.at + bit)
    }

    /// Passes over the mark that stands directly behind the last one.
    #[inline(always)]
    pub fn pass(&mut self) {
        match self.mask {
            // Every mark of these bytes was given, so the one directly behind is the first byte of those that follow.
            0 => self.next += 1,
            mask => self.mask = mask & (mask - 1),
        }
    }
}

/// Below the space, or DEL.
#[inline]
fn controls(bytes: &[u8; BYTES]) -> u32 {
    let bytes = u8x16::new(*bytes);
    let low = bytes.min(u8x16::splat(0x1f)).simd_eq(bytes);
    (low | bytes.simd_eq(u8x16::splat(0x7f))).to_bitmask()
}

/// How many letters and dashes, which most names of headers are made of, `bytes` begin with; and whether they are spelled
/// otherwise than in Title-Case.
#[inline]
pub(super) fn name(bytes: &[u8; BYTES]) -> (usize, bool) {
    let bytes = u8x16::new(*bytes);
    let within = |bytes: u8x16| bytes.min(u8x16::splat(25)).simd_eq(bytes);
    let letters = within((bytes | u8x16::splat(0x20)) - u8x16::splat(b'a'));
    let dashes = bytes.simd_eq(u8x16::splat(b'-'));
    let length = (letters | dashes).to_bitmask().trailing_ones();
    // One bit a byte: a letter is the first of its word where the name begins, or behind a dash.
    let (capitals, dashes) = (within(bytes - u8x16::splat(b'A')).to_bitmask(), dashes.to_bitmask());
    let firsts = dashes << 1 | 1;
    let odd = firsts & !capitals & !dashes | capitals & !firsts;
    (length as usize, odd & ((1 << length) - 1) != 0)
}

/// Letters, digits and what else names of hosts are made of. Escapes and sub-delimiters are what parsers disagree about.
#[inline]
pub(super) fn hosts(bytes: &[u8; BYTES]) -> u32 {
    let bytes = u8x16::new(*bytes);
    let is = |byte| bytes.simd_eq(u8x16::splat(byte));
    let within = |bytes: u8x16, span| bytes.min(u8x16::splat(span)).simd_eq(bytes);
    let letters = within((bytes | u8x16::splat(0x20)) - u8x16::splat(b'a'), 25);
    // The dash, the dot and the digits stand side by side, but for the slash.
    let digits = within(bytes - u8x16::splat(b'-'), b'9' - b'-') & !is(b'/');
    (letters | digits | is(b'_') | is(b'~')).to_bitmask()
}

/// Bytes that are not printable, and those that do not stand bare in paths and in queries alike.
#[inline]
pub(super) fn rare_in_target(bytes: &[u8; BYTES]) -> u32 {
    let bytes = u8x16::new(*bytes);
    let is = |byte| bytes.simd_eq(u8x16::splat(byte));
    let printable = bytes - u8x16::splat(b'!');
    let printable = printable.min(u8x16::splat(b'~' - b'!')).simd_eq(printable);
    let rare = is(b'"') | is(b'#') | is(b'<') | is(b'>') | is(b'`');
    (rare | !printable).to_bitmask()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_the_control_characters_wherever_they_stand() {
        for length in 0..100 {
            for byte in 0..=u8::MAX {
                let mut bytes = vec![b'a'; length];
                let at = usize::from(byte) % length.max(1);
                if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
                let expected = (length > 0 && (byte < 0x20 || byte == 0x7f)).then_some(at);
                assert_eq!(Marks::new(&bytes, 0).next(), expected, "{byte} at {at} of {length}");
            }
        }
    }

    #[test]
    fn marks_begin_where_they_are_told_and_come_in_order() {
        let bytes = [b'\n'; 70];
        for start in 0..=bytes.len() {
            let mut marks = Marks::new(&bytes, start);
            let found: Vec<usize> = std::iter::from_fn(|| marks.next()).collect();
            assert_eq!(found, (start..bytes.len()).collect::<Vec<_>>());
        }
        assert_eq!(Marks::new(&bytes, 71).next(), None);
    }

    #[test]
    fn a_mark_directly_behind_is_passed_over_wherever_the_vectors_end() {
        for front in 0..40 {
            let text = [&vec![b'a'; front][..], b"\r\nb\rc"].concat();
            let mut marks = Marks::new(&text, 0);
            assert_eq!(marks.next(), Some(front));
            marks.pass();
            assert_eq!((marks.next(), marks.next()), (Some(front + 3), None), "{front}");
        }
    }

    #[test]
    fn bytes_of_hosts_are_the_same_one_by_one() {
        for byte in 0..=u8::MAX {
            let expected = if super::super::bytes::HOST[usize::from(byte)] { 0xffff } else { 0 };
            assert_eq!(hosts(&[byte; BYTES]), expected, "{byte}");
        }
    }

    #[test]
    fn rare_bytes_of_a_target_are_the_same_one_by_one() {
        for byte in 0..=u8::MAX {
            let expected = if super::super::bytes::is_rare_in_target(byte) { 0xffff } else { 0 };
            assert_eq!(rare_in_target(&[byte; BYTES]), expected, "{byte}");
        }
    }

    #[test]
    fn names_are_letters_and_dashes() {
        for byte in 0..=u8::MAX {
            let expected = if byte.is_ascii_alphabetic() || byte == b'-' { BYTES } else { 0 };
            assert_eq!(name(&[byte; BYTES]).0, expected, "{byte}");
        }
        assert_eq!(name(b"Content-Length: "), (14, false));
    }

    #[test]
    fn the_spelling_of_a_name_is_judged_as_it_is_letter_by_letter() {
        for text in [b"Abcd-Efg-H: xX-x", b"A-Bcdefghijklmno", b"-A--Bc-D-Ef-G---", b"Host: x\r\nabc: de"] {
            for at in 0..BYTES {
                let mut other = *text;
                other[at] ^= if other[at].is_ascii_alphabetic() { 0x20 } else { 0 };
                let (length, odd) = name(&other);
                let line = [&other[..length], b":"].concat();
                assert_eq!(odd, !crate::gateway::spelling::is_title_case(&line), "{other:?}");
            }
        }
    }
}
