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

/// A digest that is equal for names which differ only in case. Some decoders match names without regard to it and let
/// the last one win, so two such members have an order that counts. More collisions only make more bodies raw.
pub(super) fn fold(spelled: &[u8]) -> u64 {
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
