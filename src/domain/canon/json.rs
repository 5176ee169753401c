//! JSON as canonical text: one pass over the bytes, no tree. The result is itself JSON: no white space, members sorted by
//! name, strings with the fewest escapes (`\"`, `\\`, and `\u00xx` for control characters), numbers as they were sent.
//!
//! Numbers are never read as numbers: `1`, `1.0` and `1e0` stay three texts, because which of them a backend tells apart
//! is not known here, and 9007199254740993 would become its neighbour.

use super::path::{JsonPath, Step};
use super::{DEPTH_MAX, Doubtful};
use std::cmp::Ordering;

/// The compiled `ignore` and `unordered` of a route.
#[derive(Clone, Debug, Default)]
pub(super) struct Paths {
    paths: Vec<Path>,
}

#[derive(Clone, Debug)]
struct Path {
    steps: Vec<Match>,
    effect: Effect,
}

/// A step in the shape in which it is compared.
#[derive(Clone, Debug)]
enum Match {
    /// A member's name, spelled as the canonical text spells it, with its quotes.
    Name(Vec<u8>),
    Index(usize),
    Every,
}

/// What is to be done with a value; both at once is possible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Effect {
    ignored: bool,
    unordered: bool,
}

/// Which of the paths still match at one place: a range of `Canonicaliser::open`. At depth d their first d steps have
/// matched.
#[derive(Clone, Copy)]
struct Open {
    from: usize,
    to: usize,
}

/// Where one member or element lies in `out`.
#[derive(Clone, Copy)]
struct Item {
    start: u32,
    /// Where its sort key ends: a member's name, or the whole of an element.
    key_end: u32,
    end: u32,
    /// Digest of the name without regard to case.
    fold: u64,
    ignored: bool,
    /// Whether the name is spelled with escapes, so that it does not sort as it is spelled.
    escaped: bool,
}

struct Canonicaliser<'a> {
    text: &'a [u8],
    at: usize,
    out: Vec<u8>,
    /// Items of the containers that are open at this moment, innermost last.
    items: Vec<Item>,
    /// Numbers of paths, see `Open`.
    open: Vec<usize>,
    /// Copy of a container while its items are put in order.
    spare: Vec<u8>,
    folds: Vec<u64>,
    paths: &'a [Path],
}

/// The canonical text of a JSON document, or the doubt that there is one.
pub(super) fn canonical(text: &[u8], paths: &Paths) -> Result<Vec<u8>, Doubtful> {
    // Offsets are kept in 32 bits, and an escape may grow threefold.
    if text.len() > u32::MAX as usize / 4 || std::str::from_utf8(text).is_err() {
        return Err(Doubtful);
    }
    let mut canonicaliser = Canonicaliser {
        text,
        at: 0,
        out: Vec::with_capacity(text.len() + 16),
        items: Vec::with_capacity(16),
        open: Vec::new(),
        spare: Vec::new(),
        folds: Vec::new(),
        paths: &paths.paths,
    };
    canonicaliser.document()?;
    Ok(canonicaliser.out)
}

/// Appends a string as canonical text spells it, with its quotes.
fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    text.chars().for_each(|character| push_char(out, character));
    out.push(b'"');
}

/// Appends one character of a string in its canonical spelling.
fn push_char(out: &mut Vec<u8>, character: char) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match character {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\0'..='\x1f' => {
            let code = character as usize;
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', HEX[code >> 4], HEX[code & 15]]);
        }
        _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// The bytes that canonical text spells, without the quotes around it.
pub(super) fn unescaped(spelled: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let mut rest = spelled.iter();
    std::iter::from_fn(move || match *rest.next()? {
        b'\\' => match *rest.next()? {
            b'u' => {
                let digit = |byte: u8| (byte as char).to_digit(16).unwrap_or(0) as u8;
                let digits = rest.as_slice().get(2..4)?;
                rest.nth(3);
                Some(digit(digits[0]) << 4 | digit(digits[1]))
            }
            escaped => Some(escaped),
        },
        byte => Some(byte),
    })
}

/// A digest that is equal for names which differ only in case. Some decoders match names without regard to it and let
/// the last one win, so two such members have an order that counts. More collisions only make more bodies raw.
fn fold(spelled: &[u8]) -> u64 {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |digest: u64, word: u64| {
        let product = (digest ^ word).wrapping_mul(MULTIPLIER);
        product ^ product >> 29
    };
    let mut digest = spelled.len() as u64;
    let (words, rest) = spelled.as_chunks::<8>();
    let mut high = 0;
    for word in words {
        let word = u64::from_le_bytes(*word);
        high |= word;
        digest = mix(digest, word | 0x2020_2020_2020_2020);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let last = u64::from_le_bytes(last);
    high |= last;
    if high & 0x8080_8080_8080_8080 == 0 {
        mix(digest, last | 0x2020_2020_2020_2020)
    } else {
        fold_unicode(spelled)
    }
}

/// The same for names with letters beyond ASCII, some of which fold into ASCII.
#[cold]
fn fold_unicode(spelled: &[u8]) -> u64 {
    let folded: Vec<u8> = String::from_utf8_lossy(spelled)
        .chars()
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .flat_map(|character| character.encode_utf8(&mut [0; 4]).bytes().collect::<Vec<_>>())
        .collect();
    if folded.is_ascii() {
        return fold(&folded);
    }
    folded.iter().fold(!0, |digest, byte| (digest ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Order of two names by the bytes that they spell.
fn by_name(text: &[u8], base: usize, a: &Item, b: &Item) -> Ordering {
    // Without its quotes: a closing quote would sort before or after the next character of a longer name.
    let name = |item: &Item| &text[item.start as usize - base + 1..item.key_end as usize - base - 1];
    if a.escaped || b.escaped { unescaped(name(a)).cmp(unescaped(name(b))) } else { name(a).cmp(name(b)) }
}

// === impl Paths ===

impl Paths {
    pub(super) fn new(ignore: &[JsonPath], unordered: &[JsonPath]) -> Paths {
        let compile = |path: &JsonPath, effect| {
            let step = |step: &Step| match step {
                Step::Name(name) => {
                    let mut spelled = Vec::with_capacity(name.len() + 2);
                    push_string(&mut spelled, name);
                    Match::Name(spelled)
                }
                Step::Index(index) => Match::Index(*index),
                Step::Every => Match::Every,
            };
            Path { steps: path.steps().iter().map(step).collect(), effect }
        };
        let ignored = Effect { ignored: true, unordered: false };
        let ignore = ignore.iter().filter(|path| !path.is_root()).map(|path| compile(path, ignored));
        let sorted = Effect { ignored: false, unordered: true };
        Paths { paths: ignore.chain(unordered.iter().map(|path| compile(path, sorted))).collect() }
    }
}

// === impl Canonicaliser ===

impl Canonicaliser<'_> {
    fn document(&mut self) -> Result<(), Doubtful> {
        let mut unordered = false;
        for (number, path) in self.paths.iter().enumerate() {
            match path.steps.is_empty() {
                true => unordered |= path.effect.unordered,
                false => self.open.push(number),
            }
        }
        let open = Open { from: 0, to: self.open.len() };
        self.white_space();
        self.value(0, open, unordered)?;
        self.white_space();
        if self.at == self.text.len() { Ok(()) } else { Err(Doubtful) }
    }

    /// One value; `depth` containers are around it.
    fn value(&mut self, depth: usize, open: Open, unordered: bool) -> Result<(), Doubtful> {
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b'{') if depth < DEPTH_MAX => self.object(depth, open),
            Some(b'[') if depth < DEPTH_MAX => self.array(depth, open, unordered),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            _ => Err(Doubtful),
        }
    }

    fn object(&mut self, depth: usize, open: Open) -> Result<(), Doubtful> {
        let (start, base) = (self.out.len(), self.items.len());
        let mut in_order = true;
        self.begin(b'{');
        while !self.ends(b'}', self.items.len() > base)? {
            let name_start = self.out.len();
            if self.peek() != Some(b'"') {
                return Err(Doubtful);
            }
            let escaped = self.string()?;
            let key_end = self.out.len();
            self.white_space();
            self.expect(b':')?;
            self.out.push(b':');
            self.white_space();
            let (inner, effect) = self.enter(open, depth, |text, step| match step {
                Match::Name(name) => name == &text[name_start..key_end],
                _ => false,
            });
            self.value(depth + 1, inner, effect.unordered)?;
            self.open.truncate(inner.from);
            let item = Item {
                start: name_start as u32,
                key_end: key_end as u32,
                end: self.out.len() as u32,
                fold: fold(&self.out[name_start + 1..key_end - 1]),
                ignored: effect.ignored,
                escaped,
            };
            in_order &= !effect.ignored
                && self.items[base..]
                    .last()
                    .is_none_or(|last| by_name(&self.out, 0, last, &item) == Ordering::Less);
            self.items.push(item);
        }
        // Ignored members too: with two of one name it is not known which of them a backend takes, and for what.
        self.distinct(base)?;
        match in_order {
            true => self.items.truncate(base),
            false => self.rearrange(start, base, Some(by_name)),
        }
        self.out.push(b'}');
        Ok(())
    }

    fn array(&mut self, depth: usize, open: Open, unordered: bool) -> Result<(), Doubtful> {
        let (start, base) = (self.out.len(), self.items.len());
        let mut ignores = false;
        let mut index = 0;
        self.begin(b'[');
        while !self.ends(b']', index > 0)? {
            let element_start = self.out.len();
            let (inner, effect) = self.enter(open, depth, |_, step| match step {
                Match::Index(wanted) => *wanted == index,
                Match::Every => true,
                Match::Name(_) => false,
            });
            self.value(depth + 1, inner, effect.unordered)?;
            self.open.truncate(inner.from);
            ignores |= effect.ignored;
            // Without rules an array needs no items: most arrays stay as they were written.
            if unordered || open.from != open.to {
                let (start, end) = (element_start as u32, self.out.len() as u32);
                self.items.push(Item {
                    start,
                    key_end: end,
                    end,
                    fold: 0,
                    ignored: effect.ignored,
                    escaped: false,
                });
            }
            index += 1;
        }
        match (unordered, ignores) {
            (true, _) => self.rearrange(start, base, Some(by_element)),
            (false, true) => self.rearrange(start, base, None),
            (false, false) => self.items.truncate(base),
        }
        self.out.push(b']');
        Ok(())
    }

    /// Puts the items from `base` on in order, without the ignored ones, into the container that opens at `start`.
    fn rearrange(
        &mut self,
        start: usize,
        base: usize,
        order: Option<fn(&[u8], usize, &Item, &Item) -> Ordering>,
    ) {
        let Canonicaliser { out, items, spare, .. } = self;
        spare.clear();
        spare.extend_from_slice(&out[start..]);
        if let Some(order) = order {
            items[base..].sort_unstable_by(|a, b| order(spare, start, a, b));
        }
        out.truncate(start + 1);
        for item in items.drain(base..).filter(|item| !item.ignored) {
            if out.len() > start + 1 {
                out.push(b',');
            }
            out.extend_from_slice(&spare[item.start as usize - start..item.end as usize - start]);
        }
    }

    /// Refuses objects in which two names are equal, or would be to a decoder that does not look at case.
    fn distinct(&mut self, base: usize) -> Result<(), Doubtful> {
        let items = &self.items[base..];
        if items.len() <= 12 {
            let repeated =
                |(at, item): (usize, &Item)| items[..at].iter().any(|earlier| earlier.fold == item.fold);
            return if items.iter().enumerate().any(repeated) { Err(Doubtful) } else { Ok(()) };
        }
        self.folds.clear();
        self.folds.extend(items.iter().map(|item| item.fold));
        self.folds.sort_unstable();
        if self.folds.windows(2).any(|pair| pair[0] == pair[1]) { Err(Doubtful) } else { Ok(()) }
    }

    /// The paths that go on inside the value about to be read, and what is to be done with the value itself.
    #[inline]
    fn enter(&mut self, open: Open, depth: usize, matches: impl Fn(&[u8], &Match) -> bool) -> (Open, Effect) {
        let from = self.open.len();
        let mut effect = Effect::default();
        for place in open.from..open.to {
            let number = self.open[place];
            let path = &self.paths[number];
            if !matches(&self.out, &path.steps[depth]) {
                continue;
            }
            if path.steps.len() == depth + 1 {
                effect.ignored |= path.effect.ignored;
                effect.unordered |= path.effect.unordered;
            } else {
                self.open.push(number);
            }
        }
        (Open { from, to: self.open.len() }, effect)
    }

    /// A string, from its opening quote; says whether its canonical spelling has escapes.
    #[inline]
    fn string(&mut self) -> Result<bool, Doubtful> {
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

    /// Moves over bytes that stand for themselves.
    #[inline]
    fn plain(&mut self) {
        const STOP: [bool; 256] = {
            let mut stop = [false; 256];
            let mut control = 0;
            while control < 0x20 {
                stop[control] = true;
                control += 1;
            }
            stop[b'"' as usize] = true;
            stop[b'\\' as usize] = true;
            stop
        };
        let rest = &self.text[self.at..];
        self.at += rest.iter().position(|byte| STOP[*byte as usize]).unwrap_or(rest.len());
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

    fn number(&mut self) -> Result<(), Doubtful> {
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

    fn word(&mut self, word: &[u8]) -> Result<(), Doubtful> {
        if !self.text[self.at..].starts_with(word) {
            return Err(Doubtful);
        }
        self.at += word.len();
        self.out.extend_from_slice(word);
        Ok(())
    }

    fn begin(&mut self, bracket: u8) {
        self.at += 1;
        self.out.push(bracket);
        self.white_space();
    }

    /// Whether the container ends here; if not, moves over the comma that has to stand between its items.
    #[inline]
    fn ends(&mut self, bracket: u8, comma: bool) -> Result<bool, Doubtful> {
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

    fn expect(&mut self, byte: u8) -> Result<(), Doubtful> {
        if self.next() == Some(byte) { Ok(()) } else { Err(Doubtful) }
    }

    #[inline]
    fn white_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    #[inline]
    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }
}

/// Order of two elements by their canonical text: equal ones stay as many as they are.
fn by_element(text: &[u8], base: usize, a: &Item, b: &Item) -> Ordering {
    let element = |item: &Item| &text[item.start as usize - base..item.end as usize - base];
    element(a).cmp(element(b))
}
