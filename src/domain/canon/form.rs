//! `application/x-www-form-urlencoded`: fields in the order of their names, values as the bytes that they stand for.

use super::Doubtful;
use super::fields::SentField;
use super::frame::{family, push_field};
use super::rules::FieldRules;
use std::borrow::Cow;

/// One field as sent; `a` and `a=` are two things, because some backends tell them apart.
struct Field<'a> {
    family: Vec<u8>,
    name: Cow<'a, [u8]>,
    value: Option<Cow<'a, [u8]>>,
}

/// The canonical bytes of a form: for each field its name, a byte that says whether a value follows, and the value.
pub(super) fn canonical(body: &[u8], rules: &FieldRules) -> Result<Vec<u8>, Doubtful> {
    let mut fields = Vec::new();
    if !body.is_empty() {
        for pair in body.split(|byte| *byte == b'&') {
            let field = Field::parse(pair)?;
            if !rules.ignores(&field.name) {
                fields.push(field);
            }
        }
    }
    // Stable: what is of one family keeps its order.
    fields.sort_by(|a, b| a.family.cmp(&b.family));
    rules.sort_unordered(&mut fields, |field| &field.name, |field| &mut field.value);
    let mut out = Vec::with_capacity(body.len() + fields.len() * 16);
    for field in &fields {
        push_field(&mut out, &field.name);
        out.push(u8::from(field.value.is_some()));
        push_field(&mut out, field.value.as_deref().unwrap_or_default());
    }
    Ok(out)
}

/// The fields as sent: names, and values where they have one.
pub(super) fn fields(body: &[u8]) -> Result<Vec<SentField>, Doubtful> {
    let field = |pair| {
        let field = Field::parse(pair)?;
        Ok((field.name.into_owned(), field.value.map(Cow::into_owned)))
    };
    body.split(|byte| *byte == b'&').map(field).collect()
}

/// Undoes `+` and `%xx`. Bytes that no encoder of forms leaves bare are a doubt, `;` above all: some backends end a field
/// there.
fn decode(text: &[u8]) -> Result<Cow<'_, [u8]>, Doubtful> {
    if text.iter().any(|byte| !byte.is_ascii_graphic() || *byte == b';') {
        return Err(Doubtful);
    }
    if !text.iter().any(|byte| matches!(byte, b'+' | b'%')) {
        return Ok(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit =
                    || rest.next().and_then(|digit| (*digit as char).to_digit(16)).ok_or(Doubtful);
                (digit()? << 4 | digit()?) as u8
            }
            _ => *byte,
        });
    }
    Ok(Cow::Owned(decoded))
}

// === impl Field ===

impl<'a> Field<'a> {
    fn parse(pair: &'a [u8]) -> Result<Field<'a>, Doubtful> {
        let (name, value) = match memchr::memchr(b'=', pair) {
            Some(equals) => (&pair[..equals], Some(decode(&pair[equals + 1..])?)),
            None => (pair, None),
        };
        let name = decode(name)?;
        // `&&` and `=x`: skipped by some, fields without a name to others.
        if name.is_empty() {
            return Err(Doubtful);
        }
        Ok(Field { family: family(&name).ok_or(Doubtful)?, name, value })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BodyInput, JsonPath, Kind, Meaning, Rules, meaning};

    fn rules(ignore: &[&str], unordered: &[&str]) -> Rules {
        let paths = |texts: &[&str]| {
            texts.iter().map(|text| JsonPath::parse(text).expect("a path")).collect::<Vec<_>>()
        };
        Rules::new(&paths(ignore), &paths(unordered), 1 << 20)
    }

    fn read<'a>(body: &'a str, rules: &Rules) -> Meaning<'a> {
        let content_type = Some(&b"application/x-www-form-urlencoded"[..]);
        meaning(
            &BodyInput { content_type, content_encoding: None, query: None, body: body.as_bytes() },
            rules,
        )
    }

    fn same(a: &str, b: &str) -> bool {
        let plain = rules(&[], &[]);
        let (a, b) = (read(a, &plain), read(b, &plain));
        assert_eq!((a.kind, b.kind), (Kind::Form, Kind::Form));
        a == b
    }

    #[test]
    fn order_of_different_names_and_spelling_mean_nothing() {
        assert!(same("a=1&b=2", "b=2&a=1"));
        assert!(same("a=x+y", "a=x%20y"));
        assert!(same("%61=%c3%A9", "a=%C3%a9"));
    }

    #[test]
    fn values_their_order_and_their_number_mean_something() {
        assert!(!same("a=1&a=2", "a=2&a=1"));
        assert!(!same("a=1", "a=1&a=1"));
        assert!(!same("a", "a="));
        assert!(!same("a=1&b=2", "a=1b&=2".replace("&=", "&c=").as_str()));
        assert!(!same("a=%2B", "a=+"));
    }

    #[test]
    fn rows_built_up_in_order_keep_their_order() {
        // Rack makes [{a:1,b:2},{a:3}] of the first and [{a:1},{a:3,b:2}] of the second.
        assert!(!same("r[][a]=1&r[][b]=2&r[][a]=3", "r[][a]=1&r[][a]=3&r[][b]=2"));
        // Mangled or compared without case, both are one variable, and the last one wins.
        assert!(!same("a.b=1&a_b=2", "a_b=2&a.b=1"));
        assert!(!same("a=1&A=2", "A=2&a=1"));
    }

    #[test]
    fn odd_forms_are_taken_raw() {
        for odd in [
            "a=%", "a=%4", "a=%zz", "a=1&&b=2", "a=1&", "=1", "a=1;b=2", "a=é", "a=1 2", "a[=1", "a%00=1",
            "a=1\n",
        ] {
            let meaning = read(odd, &rules(&[], &[]));
            assert_eq!((meaning.kind, &*meaning.body), (Kind::Raw, odd.as_bytes()), "{odd}");
        }
    }

    #[test]
    fn a_rule_reaches_every_spelling_of_its_field_and_no_other_one() {
        let rules = rules(&["$.meta.sent.at", "$.list", "$['a.b']"], &["$.week.days"]);
        for field in [
            "meta[sent][at]",
            "meta.sent.at",
            "meta[sent].at",
            "meta.sent[at]",
            "meta[sent][at][]",
            "list",
            "list[]",
            "a.b",
        ] {
            assert_eq!(read(&format!("{field}=5&x=1"), &rules), read("x=1", &rules), "{field}");
        }
        for field in [
            "meta[sent]",
            "meta[sent][atx]",
            "meta[sent]at",
            "metasent[at]",
            "Meta[sent][at]",
            "meta[sent][at][0]",
            "list[a]",
            "list[0]",
            "lists",
            "a[b]",
        ] {
            assert_ne!(read(&format!("{field}=5&x=1"), &rules), read("x=1", &rules), "{field}");
        }
        assert_eq!(
            read("week[days][]=1&week[days][]=2", &rules),
            read("week[days][]=2&week[days][]=1", &rules)
        );
        assert_eq!(read("week.days=1&week.days=2", &rules), read("week.days=2&week.days=1", &rules));
        assert_ne!(read("week[x]=1&week[x]=2", &rules), read("week[x]=2&week[x]=1", &rules));
    }

    #[test]
    fn ignored_fields_do_not_count_and_unordered_ones_count_as_a_set_with_repeats() {
        let rules = rules(&["$.t", "$.deep.path"], &["$.day"]);
        assert_eq!(read("a=1&t=5&t=6", &rules), read("a=1", &rules));
        assert_eq!(read("day=1&a=x&day=2", &rules), read("day=2&day=1&a=x", &rules));
        assert_ne!(read("day=1&day=1&day=2", &rules), read("day=1&day=2&day=2", &rules));
        assert_ne!(read("a=1&a=2", &rules), read("a=2&a=1", &rules));
        // Each spelling of a list is its own.
        assert_eq!(read("day[]=1&day[]=2", &rules), read("day[]=2&day[]=1", &rules));
        assert_ne!(read("day[]=1&day=2", &rules), read("day[]=2&day=1", &rules));
        assert_ne!(read("day[0]=1&day[1]=2", &rules), read("day[0]=2&day[1]=1", &rules));
        // Other names of the family keep their places.
        assert_ne!(read("day=1&Day=9&day=2", &rules), read("Day=9&day=1&day=2", &rules));
        assert_eq!(read("day=1&Day=9&day=2", &rules), read("day=2&Day=9&day=1", &rules));
    }
}
