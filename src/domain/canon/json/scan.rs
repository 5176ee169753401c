//! The smallest pieces of JSON, moved from the text that came to the canonical text.

use super::spelling::push_char;
use crate::domain::canon::Doubtful;

/// Where the bytes of a string from `from` on that stand for themselves end: at its quote, an escape, or what has to be
/// escaped. Eight are looked at at a time.
#[inline]
pub fn plain_end(text: &[u8], from: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // The high bit of each byte that is below `bound`; above the lowest such byte there may be false ones.
    let below = |word: u64, bound: u64| word.wrapping_sub(ONES * bound) & !word & HIGH;
    let (words, tail) = text[from..].as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let quote = below(word ^ (ONES * u64::from(b'"')), 1);
        let backslash = below(word ^ (ONES * u64::from(b'\\')), 1);
        let stop = below(word, 0x20) | quote | backslash;
        if stop != 0 {
            return from + at * 8 + stop.trailing_zeros() as usize / 8;
        }
    }
    let stop = tail.iter().position(|byte| matches!(byte, 0..0x20 | b'"' | b'\\'));
    from + words.len() * 8 + stop.unwrap_or(tail.len())
}

/// A place in the text, and what has been written of it. Most documents are spelled canonically but for the order of
/// their members, so nothing is copied before the two differ.
pub(super) struct Scan<'a> {
    text: &'a [u8],
    at: usize,
    /// `None` while what has been written is what has been read.
    out: Option<Vec<u8>>,
}

// === impl Scan ===

impl<'a> Scan<'a> {
    pub(super) fn new(text: &'a [u8]) -> Scan<'a> {
        Scan { text, at: 0, out: None }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    /// What has been written.
    #[inline]
    pub(super) fn written(&self) -> &[u8] {
        self.out.as_deref().unwrap_or(&self.text[..self.at])
    }

    /// How long that is.
    #[inline]
    pub(super) fn length(&self) -> usize {
        self.out.as_ref().map_or(self.at, Vec::len)
    }

    /// What has been written, to change it: from here on it is not what has been read.
    pub(super) fn out(&mut self) -> &mut Vec<u8> {
        self.out.get_or_insert_with(|| {
            let mut out = Vec::with_capacity(self.text.len() + 16);
            out.extend_from_slice(&self.text[..self.at]);
            out
        })
    }

    pub(super) fn into_written(self) -> Vec<u8> {
        self.out.unwrap_or_else(|| self.text[..self.at].to_vec())
    }

    /// Moves to `end`; all up to there is written as it stands.
    #[inline]
    fn keep(&mut self, end: usize) {
        if let Some(out) = &mut self.out {
            out.extend_from_slice(&self.text[self.at..end]);
        }
        self.at = end;
    }

    /// The same over one byte.
    #[inline]
    fn keep_one(&mut self) {
        if let Some(out) = &mut self.out {
            out.push(self.text[self.at]);
        }
        self.at += 1;
    }

    /// A string, from its opening quote; says whether its canonical spelling has escapes.
    #[inline]
    pub(super) fn string(&mut self) -> Result<bool, Doubtful> {
        let end = plain_end(self.text, self.at + 1);
        if self.text.get(end) == Some(&b'"') {
            self.keep(end + 1);
            return Ok(false);
        }
        self.escaped_string(end)
    }

    /// A string that has escapes, the first of them at `end`.
    #[cold]
    fn escaped_string(&mut self, end: usize) -> Result<bool, Doubtful> {
        let out_start = self.length();
        self.out();
        self.keep(end);
        loop {
            match self.next() {
                Some(b'"') => {
                    let escaped = memchr::memchr(b'\\', &self.written()[out_start..]).is_some();
                    self.out().push(b'"');
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    let character = self.escape()?;
                    push_char(self.out(), character);
                }
                // Control characters have to be escaped, and the text may end before the string does.
                _ => return Err(Doubtful),
            }
            self.keep(plain_end(self.text, self.at));
        }
    }

    /// What an escape stands for; the backslash is read already.
    fn escape(&mut self) -> Result<char, Doubtful> {
        Ok(match self.next().ok_or(Doubtful)? {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\x08',
            b'f' => '\x0c',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = self.hex()?;
                let code = match unit {
                    0xd800..0xdc00 => {
                        self.expect(b'\\')?;
                        self.expect(b'u')?;
                        let low =
                            self.hex()?.checked_sub(0xdc00).filter(|low| *low < 0x400).ok_or(Doubtful)?;
                        0x10000 + ((unit - 0xd800) << 10 | low)
                    }
                    _ => unit,
                };
                // A low surrogate alone is no character.
                char::from_u32(code).ok_or(Doubtful)?
            }
            _ => return Err(Doubtful),
        })
    }

    fn hex(&mut self) -> Result<u32, Doubtful> {
        let digits = self.text.get(self.at..self.at + 4).ok_or(Doubtful)?;
        self.at += 4;
        digits
            .iter()
            .try_fold(0, |code, digit| Ok(code << 4 | (*digit as char).to_digit(16).ok_or(Doubtful)?))
    }

    pub(super) fn number(&mut self) -> Result<(), Doubtful> {
        let mut end = self.at + usize::from(self.peek() == Some(b'-'));
        end = match self.text.get(end) {
            Some(b'0') => end + 1,
            _ => self.digits(end)?,
        };
        if self.text.get(end) == Some(&b'.') {
            end = self.digits(end + 1)?;
        }
        if let Some(b'e' | b'E') = self.text.get(end) {
            end += 1;
            end += usize::from(matches!(self.text.get(end), Some(b'+' | b'-')));
            end = self.digits(end)?;
        }
        self.keep(end);
        Ok(())
    }

    /// Where the digits from `from` on end: one or more.
    fn digits(&self, from: usize) -> Result<usize, Doubtful> {
        let rest = self.text.get(from..).unwrap_or_default();
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if count > 0 { Ok(from + count) } else { Err(Doubtful) }
    }

    pub(super) fn word(&mut self, word: &[u8]) -> Result<(), Doubtful> {
        if !self.text[self.at..].starts_with(word) {
            return Err(Doubtful);
        }
        self.keep(self.at + word.len());
        Ok(())
    }

    /// The bracket that opens a container.
    pub(super) fn begin(&mut self) {
        self.keep_one();
        self.white_space();
    }

    /// Whether the container ends here; if not, moves over the comma that has to stand between its items. The bracket that
    /// closes it is left to [`Scan::end`].
    #[inline]
    pub(super) fn ends(&mut self, bracket: u8, comma: bool) -> Result<bool, Doubtful> {
        if comma || self.peek() == Some(bracket) {
            self.white_space();
            if self.peek() == Some(bracket) {
                return Ok(true);
            }
            self.mark(b',')?;
        }
        Ok(false)
    }

    /// The bracket that closes a container, at which [`Scan::ends`] has stopped.
    pub(super) fn end(&mut self) {
        self.keep_one();
    }

    /// A comma or a colon that has to stand here, and the white space behind it.
    #[inline]
    pub(super) fn mark(&mut self, byte: u8) -> Result<(), Doubtful> {
        if self.peek() != Some(byte) {
            return Err(Doubtful);
        }
        self.keep_one();
        self.white_space();
        Ok(())
    }

    fn expect(&mut self, byte: u8) -> Result<(), Doubtful> {
        if self.next() == Some(byte) { Ok(()) } else { Err(Doubtful) }
    }

    #[inline]
    pub(super) fn white_space(&mut self) {
        if self.is_at_white_space() {
            self.skip_white_space();
        }
    }

    fn skip_white_space(&mut self) {
        self.out();
        while self.is_at_white_space() {
            self.at += 1;
        }
    }

    #[inline]
    fn is_at_white_space(&self) -> bool {
        matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t'))
    }

    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    #[inline]
    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }
}
