//! Hides secrets in the file's text before any of it is shown. Problems quote the line they are about, and that line
//! may hold a token. Too much hidden costs a glance into the file; too little cannot be taken back.

use std::ops::Range;

/// Parts of a key's name that mark its value as nobody's business.
const SECRET_WORDS: [&str; 6] = ["secret", "token", "passw", "passphrase", "credential", "api_key"];

/// Whether a key of this name holds a secret, whether or not the file knows the key.
pub(super) fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// The text with `secrets`, everything that is assigned to a secret's name and passwords in URLs replaced by stars,
/// byte for byte, so that positions stay what they were.
pub(super) fn mask(text: &str, secrets: &[Range<usize>]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let mut hide = |range: Range<usize>| {
        for byte in bytes.get_mut(range).into_iter().flatten() {
            if !byte.is_ascii_whitespace() {
                *byte = b'*';
            }
        }
    };
    secrets.iter().cloned().for_each(&mut hide);
    assignments(text).for_each(&mut hide);
    commented_out(text).for_each(&mut hide);
    passwords(text).for_each(&mut hide);
    // Only whole values are replaced, and those begin and end between characters; should one ever not, show nothing.
    String::from_utf8(bytes).unwrap_or_default()
}

/// Passwords in URLs as they may be shown in a message.
pub(super) fn mask_passwords(text: &str) -> String {
    let mut shown = text.to_owned();
    let ranges: Vec<_> = passwords(text).collect();
    for range in ranges.into_iter().rev() {
        shown.replace_range(range, "***");
    }
    shown
}

/// What follows `NAME =` where NAME is a secret's, also in comments and in lines that are no TOML.
fn assignments(text: &str) -> impl Iterator<Item = Range<usize>> {
    text.match_indices('=').filter_map(|(at, _)| {
        let before = text[..at].trim_end_matches([' ', '\t', '"', '\'']);
        let name = before.rsplit(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-')).next()?;
        is_secret_name(name).then(|| value_after(text, at + 1))
    })
}

/// What a comment assigns: a key that was commented out is known by no list, so its value may be a secret.
fn commented_out(text: &str) -> impl Iterator<Item = Range<usize>> {
    text.match_indices('#').filter_map(|(at, _)| {
        let line = text[at..].split('\n').next()?;
        let value = line.find('=')? + 1;
        line[value..].contains(['"', '\'']).then(|| at + value..at + line.len())
    })
}

/// The value that begins behind `from`: to its closing quotes, to the end of a `{…}`, or to the end of the line.
fn value_after(text: &str, from: usize) -> Range<usize> {
    let start = from + (text[from..].len() - text[from..].trim_start_matches([' ', '\t']).len());
    let rest = &text[start..];
    // A table names a file; what it holds is shown, except where a line is hidden as a whole.
    if rest.starts_with('{') {
        return start..start;
    }
    for quote in ["\"\"\"", "'''"] {
        if let Some(inner) = rest.strip_prefix(quote) {
            return start..inner.find(quote).map_or(text.len(), |end| start + end + 6);
        }
    }
    start..rest.find('\n').map_or(text.len(), |end| start + end)
}

/// `user:password@` before a host, also where the URL around it is damaged.
fn passwords(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut from = 0;
    let words = text.split(|c: char| c.is_whitespace() || c == '"' || c == '\'').filter_map(move |word| {
        let start = from;
        from += word.len() + text[start + word.len()..].chars().next().map_or(0, char::len_utf8);
        // The last `@`: a password may hold one, and a slash too.
        let user = &word[..word.rfind('@')?];
        let scheme = user.find("://").map_or(0, |at| at + 3);
        user.contains(':').then_some(start + scheme..start + user.len())
    });
    words.filter(|range| !range.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masking_keeps_every_position() {
        let text = "token = \"tökén\"\nurl = \"redis://ann:p@ss/w@h:1/0\"\nx = 1\n";
        let masked = mask(text, &[]);
        assert_eq!(masked.len(), text.len());
        assert_eq!(masked, "token = *********\nurl = \"redis://**********@h:1/0\"\nx = 1\n");
    }

    #[test]
    fn broken_and_commented_secrets_are_hidden_too() {
        for text in [
            "token = \"hunter2",
            "admin.token=hunter2",
            "x = 1 # token = \"hunter2\"",
            "a = { client_secret = \"hunter2\", b = 1 }",
            "smtp_password = '''\nhunter2\n''' ",
            "secret = \"\"\"\nhunter2",
            "u = \"smtps://user:hunter2@mail\"",
            "\"token\" = \"hunter2\"",
        ] {
            assert!(!mask(text, &[]).contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn messages_hide_passwords_in_urls() {
        assert_eq!(mask_passwords("http://a:b@c/ and http://d/"), "http://***@c/ and http://d/");
    }
}
