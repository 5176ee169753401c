//! How canonical text spells strings: one spelling for each, and back.

/// Appends a string as canonical text spells it, with its quotes.
pub(super) fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    text.chars().for_each(|character| push_char(out, character));
    out.push(b'"');
}

/// Appends one character of a string in its canonical spelling.
pub(super) fn push_char(out: &mut Vec<u8>, character: char) {
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
pub(in crate::domain::canon) fn unescaped(spelled: &[u8]) -> impl Iterator<Item = u8> + '_ {
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

/// A name in short, for comparisons that seldom have to look at the name itself.
#[derive(Clone, Copy)]
pub(super) struct Brief {
    /// The first eight bytes that the name spells, big end first and filled up with zeros: where two differ, they differ
    /// as the names do.
    pub(super) prefix: u64,
    /// A digest that is equal for names which differ only in case. Some decoders match names without regard to it and
    /// let the last one win, so two such members have an order that counts. More collisions only make more bodies raw.
    pub(super) fold: u64,
}

/// The brief of a name in canonical spelling, without its quotes; `escaped` where that has escapes.
#[inline]
pub(super) fn brief(spelled: &[u8], escaped: bool) -> Brief {
    let (words, rest) = spelled.as_chunks::<8>();
    let mut last = [0; 8];
    // Not a copy of variable length, which would be a call.
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    let prefix = match escaped {
        false => u64::from_be_bytes(*words.first().unwrap_or(&last)),
        true => prefix_unescaped(spelled),
    };
    let mut fold = Fold::new(spelled.len());
    words.iter().for_each(|word| fold.add(*word));
    fold.add(last);
    Brief { prefix, fold: if fold.is_ascii() { fold.digest } else { fold_unicode(spelled) } }
}

#[cold]
fn prefix_unescaped(spelled: &[u8]) -> u64 {
    let mut prefix = [0; 8];
    prefix.iter_mut().zip(unescaped(spelled)).for_each(|(to, from)| *to = from);
    u64::from_be_bytes(prefix)
}

/// Odd, and its bits are spread: 2^64 divided by the golden ratio.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// The digest behind [`Brief::fold`], eight bytes at a time.
struct Fold {
    digest: u64,
    seen: u64,
}

impl Fold {
    fn new(length: usize) -> Fold {
        // Spread over all bits: xored as it is, it would make "l" and "o " one.
        Fold { digest: (length as u64).wrapping_mul(MULTIPLIER), seen: 0 }
    }

    #[inline]
    fn add(&mut self, word: [u8; 8]) {
        let word = u64::from_le_bytes(word);
        self.seen |= word;
        // Sets the bit that tells small letters from capitals.
        let product = (self.digest ^ (word | 0x2020_2020_2020_2020)).wrapping_mul(MULTIPLIER);
        self.digest = product ^ product >> 29;
    }

    fn is_ascii(&self) -> bool {
        self.seen & 0x8080_8080_8080_8080 == 0
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
        return brief(&folded, false).fold;
    }
    folded.iter().fold(!0, |digest, byte| (digest ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
