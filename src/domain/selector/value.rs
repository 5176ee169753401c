//! What a selector found, and when two of them are one.

use super::{Found, Zone};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// One scalar, or a list of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    items: Vec<Scalar>,
    many: Many,
}

/// A text, a number, `true` or `false`; of anything composed its canonical text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scalar {
    text: String,
    number: bool,
}

/// How several items came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Many {
    /// There is one.
    One,
    /// The sender meant a list.
    List,
    /// A name came several times. Which of them a backend takes is not known, unless `sorted:` says that it is a list.
    Repeated,
}

/// Longer plain spellings of numbers stay in scientific notation.
const DIGITS_MAX: i64 = 40;

// === impl Value ===

impl Value {
    /// One scalar.
    pub(super) fn one(item: Scalar) -> Value {
        Value { items: vec![item], many: Many::One }
    }

    /// A list.
    pub(super) fn list(items: Vec<Scalar>) -> Value {
        Value { items, many: Many::List }
    }

    /// What a name that came once or several times stands for.
    pub(super) fn repeated(items: Vec<Scalar>) -> Value {
        let many = if items.len() == 1 { Many::One } else { Many::Repeated };
        Value { items, many }
    }

    /// A value from a text, as an operator gives it.
    pub fn from_text(text: &str) -> Value {
        Value::one(Scalar::text(text.to_owned()))
    }

    /// Its scalars.
    pub(super) fn into_items(self) -> Vec<Scalar> {
        self.items
    }

    /// Whether there is nothing in it: no item, or only white space.
    pub(super) fn is_empty(&self) -> bool {
        self.items.iter().all(|item| item.text.trim().is_empty())
    }

    /// Carries out `change` on every item's text; a number has no case and no white space.
    pub(super) fn each(&mut self, change: impl Fn(&mut String)) {
        self.items.iter_mut().filter(|item| !item.number).for_each(|item| change(&mut item.text));
    }

    /// The order means nothing.
    pub(super) fn sort(&mut self) {
        self.items.sort_by_cached_key(Scalar::key);
        if self.many == Many::Repeated {
            self.many = Many::List;
        }
    }

    /// Every item as the instant that it names.
    pub(super) fn instants(mut self, zone: &Zone) -> Found {
        for item in &mut self.items {
            match zone.instant(&item.text) {
                Some(instant) => *item = Scalar::text(instant.to_string()),
                // What was sent may be anything; the client knows it, and no log needs it.
                None => return Found::Unreadable("it is no date with a time that can be read".into()),
            }
        }
        Found::Value(self)
    }

    /// A name that came several times is one value where all of them are equal, and none otherwise.
    pub(super) fn settled(self) -> Found {
        if self.many != Many::Repeated {
            return Found::Value(self);
        }
        let mut items = self.items;
        let first = items[0].key();
        if items.iter().all(|item| item.key() == first) {
            items.truncate(1);
            return Found::Value(Value { items, many: Many::One });
        }
        Found::Unreadable(
            "it came several times with different values; which of them counts is not known".into(),
        )
    }

    /// Appends what two values have in common that are one: each scalar NFC, trimmed, behind its length. A list of one is
    /// that one, because a form cannot tell them apart.
    pub fn push_key(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.items.len() as u64).to_be_bytes());
        for item in &self.items {
            let key = item.key();
            out.extend_from_slice(&(key.len() as u64).to_be_bytes());
            out.extend_from_slice(key.as_bytes());
        }
    }

    /// The value in its compared spelling, for people and for names: items joined by commas.
    pub fn shown(&self) -> String {
        self.items.iter().map(Scalar::key).collect::<Vec<_>>().join(",")
    }

    /// The value as it was sent: items joined by commas.
    pub fn sent(&self) -> String {
        self.items.iter().map(|item| item.text.as_str()).collect::<Vec<_>>().join(",")
    }
}

// === impl Scalar ===

impl Scalar {
    /// A text.
    pub(super) fn text(text: String) -> Scalar {
        Scalar { text, number: false }
    }

    /// A JSON number as it was sent, `true` or `false`.
    pub(super) fn word(text: String) -> Scalar {
        let number = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
        Scalar { text, number }
    }

    /// Bytes that should be UTF-8; others are taken for Latin-1, so that one name in two charsets stays one name.
    pub(super) fn bytes(bytes: &[u8]) -> Scalar {
        Scalar::text(match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
        })
    }

    fn key(&self) -> String {
        if self.number {
            return decimal(&self.text);
        }
        match is_nfc_quick(self.text.chars()) {
            IsNormalized::Yes => self.text.trim().to_owned(),
            _ => self.text.nfc().collect::<String>().trim().to_owned(),
        }
    }
}

/// A JSON number, exactly, in the shortest spelling: `5`, `5.0` and `50e-1` are `5`. Texts are not read as numbers: room
/// "1.10" is not room "1.1".
fn decimal(number: &str) -> String {
    let (sign, rest) = match number.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", number),
    };
    let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    // An exponent beyond this is no number that anybody means; its own spelling is all that counts then.
    let Ok(exponent) = exponent.parse::<i32>() else { return number.to_owned() };
    let digits = [whole, fraction].concat();
    let trimmed = digits.trim_end_matches('0');
    let mut exponent = i64::from(exponent) - fraction.len() as i64 + (digits.len() - trimmed.len()) as i64;
    let digits = trimmed.trim_start_matches('0');
    if digits.is_empty() {
        return "0".into();
    }
    let length = digits.len() as i64;
    if exponent >= 0 && length + exponent <= DIGITS_MAX {
        return format!("{sign}{digits}{}", "0".repeat(exponent as usize));
    }
    if exponent < 0 && -exponent <= DIGITS_MAX {
        let point = length + exponent;
        return match point > 0 {
            true => format!("{sign}{}.{}", &digits[..point as usize], &digits[point as usize..]),
            false => format!("{sign}0.{}{digits}", "0".repeat(-point as usize)),
        };
    }
    // The length stays in the exponent, so that each number has one spelling.
    exponent += length - 1;
    format!("{sign}{digits}e{exponent}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_exact_and_have_one_spelling() {
        for (spellings, shown) in [
            (&["5", "5.0", "50e-1", "0.5E+1"][..], "5"),
            (&["0", "-0", "0.00", "0e9"], "0"),
            (&["100", "1e2", "1.0E2"], "100"),
            (&["-1.5", "-15e-1"], "-1.5"),
            (&["0.05", "5e-2"], "0.05"),
            (&["9007199254740993"], "9007199254740993"),
            (&["1e60", "10e59"], "1e60"),
            (&["12e60", "1.2e61"], "12e61"),
            (&["1e99999999999"], "1e99999999999"),
        ] {
            for spelling in spellings {
                assert_eq!(decimal(spelling), shown, "{spelling}");
            }
        }
    }

    #[test]
    fn bytes_that_are_no_utf_8_are_latin_1() {
        assert_eq!(Scalar::bytes(b"caf\xe9").key(), Scalar::bytes("cafe\u{301} ".as_bytes()).key());
    }
}
