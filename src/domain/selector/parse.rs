//! The text of a selector.

use super::{Alternative, Normaliser, Origin, Selector, Zone};
use crate::domain::canon::JsonPath;
use http::{HeaderName, header};

/// More alternatives are a mistake.
const ALTERNATIVES_MAX: usize = 16;

/// Reads `a | b | 'x'`.
pub(super) fn selector(text: &str, zone: &Zone) -> Result<Selector, String> {
    let mut alternatives = Vec::new();
    for part in split(text)? {
        alternatives.push(alternative(part.trim(), zone)?);
    }
    if alternatives.len() > ALTERNATIVES_MAX {
        return Err(format!("a selector has at most {ALTERNATIVES_MAX} alternatives"));
    }
    // What stands first holds for the whole: `lower:$.branch | header:X-Branch` means one branch, wherever it is named.
    let common = alternatives[0].normalisers.clone();
    for alternative in &mut alternatives[1..] {
        alternative.normalisers.extend(common.iter().cloned());
    }
    Ok(Selector { text: text.trim().to_owned(), alternatives })
}

/// Splits at each `|` outside of quotes.
fn split(text: &str) -> Result<Vec<&str>, String> {
    let mut parts = Vec::new();
    let (mut start, mut quote, mut escaped) = (0, None, false);
    for (at, character) in text.char_indices() {
        match (quote, character) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), _) if open == character => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(character),
            (None, '|') => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            (None, _) => {}
        }
    }
    if quote.is_some() {
        return Err("a quote does not end".into());
    }
    parts.push(&text[start..]);
    Ok(parts)
}

fn alternative(text: &str, zone: &Zone) -> Result<Alternative, String> {
    let mut normalisers = Vec::new();
    let mut rest = text;
    while let Some((normaliser, after)) = normaliser(rest, zone)? {
        normalisers.push(normaliser);
        rest = after.trim_start();
    }
    Ok(Alternative { normalisers, origin: origin(rest)? })
}

/// The normaliser that a text begins with, and what follows it.
fn normaliser<'t>(text: &'t str, zone: &Zone) -> Result<Option<(Normaliser, &'t str)>, String> {
    if text.starts_with(['\'', '"', '$']) {
        return Ok(None);
    }
    let Some((word, rest)) = text.split_once(':') else { return Ok(None) };
    Ok(Some((
        match word.trim_end() {
            "lower" => Normaliser::Lower,
            "trim" => Normaliser::Trim,
            "sorted" => Normaliser::Sorted,
            "datetime" => Normaliser::Datetime(zone.clone()),
            word => match word.strip_prefix("datetime(").and_then(|rest| rest.strip_suffix(')')) {
                Some(name) => Normaliser::Datetime(Zone::parse(name.trim())?),
                None => return Ok(None),
            },
        },
        rest,
    )))
}

fn origin(text: &str) -> Result<Origin, String> {
    const KINDS: &str = "write `$.field`, `path:name`, `query:name`, `header:Name`, `jwt:claim` or `'text'`";
    if text.is_empty() {
        return Err(format!("a value is missing: {KINDS}"));
    }
    if text.starts_with('$') {
        return JsonPath::parse(text).map(Origin::Body);
    }
    if text.starts_with(['\'', '"']) {
        return quoted(text).map(Origin::Text);
    }
    let Some((kind, name)) = text.split_once(':') else {
        return Err(format!("`{text}` is no selector: {KINDS}"));
    };
    let name = name.trim();
    let name = if name.starts_with(['\'', '"']) { quoted(name)? } else { name.to_owned() };
    if name.is_empty() {
        return Err(format!("the name behind `{kind}:` is missing"));
    }
    match kind.trim_end() {
        "path" if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')) => {
            Ok(Origin::Path(name))
        }
        "path" => Err(format!("`{name}` is no segment's name: write what stands in the braces of `match`")),
        "query" => Ok(Origin::Query(name)),
        "header" => match HeaderName::from_bytes(name.as_bytes()) {
            Ok(header::LOCATION) => Ok(Origin::Location),
            Ok(name) => Ok(Origin::Header(name)),
            Err(_) => Err(format!("`{name}` is no header's name")),
        },
        "jwt" => Ok(Origin::Jwt(name)),
        "body" | "json" | "form" => Err(format!("fields of a body are written `$.{name}`")),
        "cookie" => Err("a cookie names a caller, not a thing; take what the request says".into()),
        kind => Err(format!(
            "there is nothing called `{kind}:`; {KINDS}, with `lower:`, `trim:`, `sorted:` or `datetime:` before it"
        )),
    }
}

/// A text in quotes, to its end; a backslash takes the next character as it is.
fn quoted(text: &str) -> Result<String, String> {
    let mut characters = text.chars();
    let quote = characters.next();
    let mut plain = String::new();
    while let Some(character) = characters.next() {
        match character {
            '\\' => plain.extend(characters.next()),
            _ if Some(character) == quote => {
                let rest = characters.as_str();
                return match rest.is_empty() {
                    true => Ok(plain),
                    false => Err(format!(
                        "`{rest}` stands behind the closing quote; alternatives are divided by `|`"
                    )),
                };
            }
            _ => plain.push(character),
        }
    }
    Err("a quote does not end".into())
}
