//! Lists in which a quoted string may hold what otherwise separates (RFC 9110, 5.6.4; `Forwarded`, RFC 7239, 4).

/// The pieces of `text` between separators that stand outside of quotes, the last one first. Quotes are counted from the right:
/// one that somebody further away has left open must not hide what the nearest proxy wrote.
pub fn pieces(text: &[u8], is_separator: impl Fn(u8) -> bool) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut quoted = false;
        let mut is_cut = |(at, &byte): (usize, &u8)| {
            quoted ^= is_quote(text, at);
            is_separator(byte) && !quoted
        };
        let cut = text.iter().enumerate().rev().find(|&place| is_cut(place)).map(|(at, _)| at);
        rest = cut.map(|at| &text[..at]);
        Some(&text[cut.map_or(0, |at| at + 1)..])
    })
}

/// The pairs of a `Forwarded`, the last one first: what each begins with, up to its `=`, and the whole of it. `None`: it cannot be
/// taken apart.
pub fn pairs(forwarded: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let pieces = pieces(forwarded, |byte| matches!(byte, b',' | b';')).map(<[u8]>::trim_ascii);
    let pairs = pieces.filter(|pair| !pair.is_empty()).map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        Some((&pair[..equals], pair))
    });
    pairs.collect::<Option<_>>().filter(|_| is_closed(forwarded))
}

/// Whether every quote of `text` is closed.
pub fn is_closed(text: &[u8]) -> bool {
    (0..text.len()).filter(|at| is_quote(text, *at)).count() % 2 == 0
}

/// Whether a quote begins or ends at `at`: one that is the second half of a quoted pair does not.
fn is_quote(text: &[u8], at: usize) -> bool {
    text[at] == b'"' && text[..at].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_separates_nothing() {
        let list = |text: &'static [u8]| pieces(text, |byte| byte == b',').collect::<Vec<_>>();
        assert_eq!(list(br#"a,"b,c",d"#), [&b"d"[..], br#""b,c""#, b"a"]);
        assert_eq!(list(br#""a\",b",c"#), [&b"c"[..], br#""a\",b""#]);
        assert_eq!(list(br#""open,a,b"#), [&b"b"[..], b"a", br#""open"#], "counted from the right");
        assert_eq!(list(b""), [b""]);
        assert!(is_closed(br#"a="b\"c""#) && !is_closed(br#"a="b"#) && is_closed(b""));
    }
}
