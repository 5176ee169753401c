//! The smallest pieces of JSON, moved from the text that came to the canonical text.

use super::spelling::push_char;
use crate::domain::canon::Doubtful;

/// A place in the text, and what has been written of it.
pub(super) struct Scan<'a> {
    text: &'a [u8],
    at: usize,
    pub(super) out: Vec<u8>,
}

// === impl Scan ===

impl<'a> Scan<'a> {
    pub(super) fn new(text: &'a [u8]) -> Scan<'a> {
        Scan { text, at: 0, out: Vec::with_capacity(text.len() + 16) }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    /// A string, from its opening quote; says whether its canonical spelling has escapes.
    #[inline]
    pub(super) fn string(&mut self) -> Result<bool, Doubtful> {
        let start = self.at;
        self.at += 1;
        self.plain();
        self.out.extend_from_slice(&self.text[start..self.at]);
        if self.peek() == Some(b'"') {
            self.at += 1;
            self.out.push(b'"');
            return Ok(false);
        }
        self.escaped_string(start)
    }

    /// The rest of a string that has escapes.
    #[cold]
    fn escaped_string(&mut self, start: usize) -> Result<bool, Doubtful> {
        let out_start = self.out.len() - (self.at - start);
        loop {
            match self.next() {
                Some(b'"') => {
                    let escaped = memchr::memchr(b'\\', &self.out[out_start..]).is_some();
                    self.out.push(b'"');
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    let character = self.escape()?;
                    push_char(&mut self.out, character);
                }
                // Control characters have to be escaped, and the text may end before the string does.
                _ => return Err(Doubtful),
            }
            let run = self.at;
            self.plain();
            self.out.extend_from_slice(&self.text[run..self.at]);
        }
    }

    /// Moves over bytes that stand for themselves, eight at a time.
    #[inline]
    fn plain(&mut self) {
        const ONES: u64 = 0x0101_0101_0101_0101;
        const HIGH: u64 = 0x8080_8080_8080_8080;
        // The high bit of each byte that is below `bound`; above the lowest such byte there may be false ones.
        let below = |word: u64, bound: u64| word.wrapping_sub(ONES * bound) & !word & HIGH;
        let rest = &self.text[self.at..];
        let (words, tail) = rest.as_chunks::<8>();
        for (at, word) in words.iter().enumerate() {
            let word = u64::from_le_bytes(*word);
            let quote = below(word ^ (ONES * u64::from(b'"')), 1);
            let backslash = below(word ^ (ONES * u64::from(b'\\')), 1);
            let stop = below(word, 0x20) | quote | backslash;
            if stop != 0 {
                self.at += at * 8 + stop.trailing_zeros() as usize / 8;
                return;
            }
        }
        let stop = tail.iter().position(|byte| matches!(byte, 0..0x20 | b'"' | b'\\'));
        self.at += words.len() * 8 + stop.unwrap_or(tail.len());
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
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        self.out.extend_from_slice(&self.text[start..self.at]);
        Ok(())
    }

    /// One digit or more.
    fn digits(&mut self) -> Result<(), Doubtful> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(Doubtful) }
    }

    pub(super) fn word(&mut self, word: &[u8]) -> Result<(), Doubtful> {
        if !self.text[self.at..].starts_with(word) {
            return Err(Doubtful);
        }
        self.at += word.len();
        self.out.extend_from_slice(word);
        Ok(())
    }

    pub(super) fn begin(&mut self, bracket: u8) {
        self.at += 1;
        self.out.push(bracket);
        self.white_space();
    }

    /// Whether the container ends here; if not, moves over the comma that has to stand between its items.
    #[inline]
    pub(super) fn ends(&mut self, bracket: u8, comma: bool) -> Result<bool, Doubtful> {
        if comma || self.peek() == Some(bracket) {
            self.white_space();
            if self.peek() == Some(bracket) {
                self.at += 1;
                return Ok(true);
            }
            self.expect(b',')?;
            self.out.push(b',');
            self.white_space();
        }
        Ok(false)
    }

    pub(super) fn expect(&mut self, byte: u8) -> Result<(), Doubtful> {
        if self.next() == Some(byte) { Ok(()) } else { Err(Doubtful) }
    }

    #[inline]
    pub(super) fn white_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
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
