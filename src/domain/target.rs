//! The one normal form of a request's target, for matching, fingerprint and forwarding. What two parts of a system could
//! read in two ways has no normal form and is a problem, answered with 400.

use std::borrow::Cow;
use std::fmt;

/// A path and a query in normal form: no dot segments, no empty segments but the last, unreserved characters bare, all
/// other escapes in upper case. Parsing its text again gives it again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NormalTarget<'a> {
    text: Cow<'a, str>,
    /// Where the path ends: at the `?` or at the end.
    path_end: usize,
}

/// Why a target has no normal form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TargetProblem {
    /// It does not start with `/`, and is not `*`.
    NotAbsolute,
    /// A control character, a space, or a character beyond ASCII that is like one; or, where a `%` stands in the query
    /// that begins no escape, any beyond ASCII.
    BadByte,
    /// `#`: fragments are not sent.
    Fragment,
    /// `%` without two hexadecimal digits in the path.
    BadEscape,
    /// `%2F`, `%5C`, `%00` or `\` in the path: some servers take them for separators or ends.
    HiddenSeparator,
    /// `..` above the root.
    AboveRoot,
    /// `..;x`: some servers take it for `..`.
    DotParameter,
}

/// The most paths that [`NormalTarget::parents`] gives.
pub const PARENTS_MAX: usize = 32;

/// What a byte of a path is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Stands for itself.
    Plain,
    /// Printable or part of a character beyond ASCII, and not allowed bare in a path: normal as an escape.
    Escaped,
    /// `/`, `%`, `.`, `\`, `#`: looked at one by one.
    Special,
    Bad,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Bad; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        classes[byte] = match byte as u8 {
            b'/' | b'%' | b'.' | b'\\' | b'#' | b'?' => Class::Special,
            b'"' | b'<' | b'>' | b'[' | b']' | b'^' | b'`' | b'{' | b'|' | b'}' => Class::Escaped,
            _ => Class::Plain,
        };
        byte += 1;
    }
    byte = 0x80;
    while byte < 256 {
        classes[byte] = Class::Escaped;
        byte += 1;
    }
    classes
};

/// Whether no character beyond ASCII in `target` is one that some reader ends a word or a line at.
pub fn has_plain_characters(target: &str) -> bool {
    target.is_ascii()
        || !target.chars().any(|char| !char.is_ascii() && (char.is_control() || char.is_whitespace()))
}

/// RFC 3986, 2.3: escaped or bare, they mean the same.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// The byte that the escape at the start of `text` stands for, its `%` already taken off.
fn unescape(text: &[u8]) -> Option<u8> {
    let digit = |at: usize| text.get(at).and_then(|digit| (*digit as char).to_digit(16));
    Some((digit(0)? << 4 | digit(1)?) as u8)
}

/// Whether an escape is spelled as the normal form spells it.
fn is_normal_escape(digits: &[u8], byte: u8) -> bool {
    !is_unreserved(byte) && !digits[..2].iter().any(u8::is_ascii_lowercase)
}

fn push_escape(out: &mut String, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(HEX[usize::from(byte >> 4)] as char);
    out.push(HEX[usize::from(byte & 15)] as char);
}

/// Whether a path is normal already, in one pass; a problem where one is met on the way.
fn is_normal_path(path: &[u8]) -> Result<bool, TargetProblem> {
    let mut normal = true;
    let mut at = 0;
    while let Some(byte) = path.get(at) {
        match CLASSES[usize::from(*byte)] {
            Class::Plain => {}
            Class::Escaped => normal = false,
            Class::Bad => return Err(TargetProblem::BadByte),
            Class::Special => match byte {
                b'%' => {
                    let digits = &path[at + 1..];
                    let stands_for = unescape(digits).ok_or(TargetProblem::BadEscape)?;
                    if matches!(stands_for, 0 | b'/' | b'\\') {
                        return Err(TargetProblem::HiddenSeparator);
                    }
                    normal &= is_normal_escape(digits, stands_for);
                    at += 2;
                }
                b'/' => normal &= !matches!(&path[at + 1..], [b'/', ..]),
                // Only a segment that starts with a dot can be a dot segment.
                b'.' if path[at - 1] == b'/' => normal &= !may_be_dots(&path[at..]),
                b'\\' => return Err(TargetProblem::HiddenSeparator),
                b'#' => return Err(TargetProblem::Fragment),
                _ => {}
            },
        }
        at += 1;
    }
    Ok(normal)
}

/// Whether the segment at the start of `rest` is `.` or `..`, or would be to some server.
fn may_be_dots(rest: &[u8]) -> bool {
    let dots = rest.iter().take_while(|byte| **byte == b'.').count();
    dots <= 2 && matches!(rest.get(dots), None | Some(b'/' | b';'))
}

/// Writes the normal form of a path that `is_normal_path` has found sound.
fn push_normal_path(out: &mut String, path: &str) -> Result<(), TargetProblem> {
    let mut segments = path[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        let start = out.len();
        out.push('/');
        push_normal_segment(out, segment);
        let last = segments.peek().is_none();
        match &out[start + 1..] {
            "" if !last => out.truncate(start),
            "." => {
                // A dot segment at the end leaves its slash: it names a directory.
                out.truncate(start + usize::from(last));
            }
            ".." => {
                let parent = out[..start].rfind('/').ok_or(TargetProblem::AboveRoot)?;
                out.truncate(parent + usize::from(last));
            }
            dots if dots.starts_with(".;") || dots.starts_with("..;") => {
                return Err(TargetProblem::DotParameter);
            }
            _ => {}
        }
    }
    Ok(())
}

fn push_normal_segment(out: &mut String, segment: &str) {
    let mut rest = segment.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, unescape(after)) {
            (b'%', Some(stands_for)) => {
                rest = &after[2..];
                match is_unreserved(stands_for) {
                    true => out.push(stands_for as char),
                    false => push_escape(out, stands_for),
                }
            }
            _ if CLASSES[usize::from(byte)] == Class::Escaped => push_escape(out, byte),
            _ => out.push(byte as char),
        }
    }
}

/// Whether a query is normal already; a problem where it cannot be sent.
///
/// A query with a bad escape is normal as it is: it is neither matched nor taken apart here, and to decode what stands
/// around a stray `%` could make an escape that nobody wrote.
fn is_normal_query(query: &[u8]) -> Result<bool, TargetProblem> {
    let (mut normal, mut sound, mut ascii) = (true, true, true);
    for (at, byte) in query.iter().enumerate() {
        match byte {
            b'#' => return Err(TargetProblem::Fragment),
            b'%' => match unescape(&query[at + 1..]) {
                Some(stands_for) => normal &= is_normal_escape(&query[at + 1..], stands_for),
                None => sound = false,
            },
            0x21..=0x7e => {}
            0x80.. => (normal, ascii) = (false, false),
            _ => return Err(TargetProblem::BadByte),
        }
    }
    if sound || ascii { Ok(normal || !sound) } else { Err(TargetProblem::BadByte) }
}

fn push_normal_query(out: &mut String, query: &str) {
    let push_bare = |out: &mut String, piece: &str| {
        for char in piece.chars() {
            match char.is_ascii() {
                true => out.push(char),
                false => char.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| push_escape(out, byte)),
            }
        }
    };
    let mut pieces = query.split('%');
    push_bare(out, pieces.next().unwrap_or_default());
    for piece in pieces {
        match unescape(piece.as_bytes()) {
            Some(byte) if is_unreserved(byte) => out.push(byte as char),
            Some(byte) => push_escape(out, byte),
            None => out.push('%'),
        }
        push_bare(out, piece.get(2..).unwrap_or(piece));
    }
}

// === impl NormalTarget ===

impl<'a> NormalTarget<'a> {
    /// Brings a path and query (`/path?query`, or `*`) into normal form. One that is normal already is borrowed, after
    /// one pass over it.
    pub fn parse(target: &'a str) -> Result<NormalTarget<'a>, TargetProblem> {
        if target == "*" {
            return Ok(NormalTarget { text: Cow::Borrowed(target), path_end: 1 });
        }
        if !target.starts_with('/') {
            return Err(TargetProblem::NotAbsolute);
        }
        let path_end = memchr::memchr(b'?', target.as_bytes()).unwrap_or(target.len());
        let (path, query) = target.split_at(path_end);
        let path_normal = is_normal_path(path.as_bytes())?;
        let query_normal = is_normal_query(query.as_bytes())?;
        if path_normal && query_normal {
            return Ok(NormalTarget { text: Cow::Borrowed(target), path_end });
        }
        if !has_plain_characters(target) {
            return Err(TargetProblem::BadByte);
        }
        let mut text = String::with_capacity(target.len() + 16);
        match path_normal {
            true => text.push_str(path),
            false => push_normal_path(&mut text, path)?,
        }
        let path_end = text.len();
        match query_normal {
            true => text.push_str(query),
            false => push_normal_query(&mut text, query),
        }
        Ok(NormalTarget { text: Cow::Owned(text), path_end })
    }

    /// The path, from its first `/`; or `*`.
    pub fn path(&self) -> &str {
        &self.text[..self.path_end]
    }

    /// What follows the `?`, where there is one.
    pub fn query(&self) -> Option<&str> {
        self.text[self.path_end..].strip_prefix('?')
    }

    /// Path and query, as they are forwarded.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The path as it names a resource: without the slash at its end, so that `/a/` and `/a` are one.
    pub fn resource(&self) -> &str {
        resource(self.path())
    }

    /// The resource and each resource above it, up to `/`, the nearest first; at most [`PARENTS_MAX`].
    pub fn parents(&self) -> impl Iterator<Item = &str> {
        std::iter::successors(Some(self.resource()), above).take(PARENTS_MAX)
    }

    /// The same target, independent of what it was parsed from.
    pub fn into_owned(self) -> NormalTarget<'static> {
        NormalTarget { text: Cow::Owned(self.text.into_owned()), path_end: self.path_end }
    }
}

impl fmt::Display for NormalTarget<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The resource above another one.
fn above<'p>(path: &&'p str) -> Option<&'p str> {
    let slash = path.rfind('/').filter(|_| *path != "/")?;
    Some(resource(&path[..=slash]))
}

fn resource(path: &str) -> &str {
    match path.strip_suffix('/') {
        Some("") | None => path,
        Some(shorter) => shorter,
    }
}

// === impl TargetProblem ===

impl fmt::Display for TargetProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TargetProblem::NotAbsolute => "the target does not start with `/`",
            TargetProblem::BadByte => {
                "the target has a control character or a space in it, or is not ASCII and has a stray `%`"
            }
            TargetProblem::Fragment => "the target has a `#` in it",
            TargetProblem::BadEscape => "the path has a `%` in it that two hexadecimal digits do not follow",
            TargetProblem::HiddenSeparator => {
                "the path has `\\`, `%5C`, `%2F` or `%00` in it, which servers read in different ways"
            }
            TargetProblem::AboveRoot => "the path leads above its root",
            TargetProblem::DotParameter => {
                "the path has a dot segment with a `;` in it, which servers read in different ways"
            }
        })
    }
}

impl std::error::Error for TargetProblem {}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(target: &str) -> String {
        NormalTarget::parse(target)
            .map(|target| target.to_string())
            .unwrap_or_else(|problem| format!("{problem:?}"))
    }

    #[test]
    fn a_normal_target_is_borrowed() {
        for target in [
            "/",
            "/a/b",
            "/a/b/",
            "/a?x=%2F",
            "/.well-known/a",
            "/...",
            "/a%20b",
            "/%E5%A7%93",
            "/a:b@c;d=1,2",
            "*",
            "/a?",
        ] {
            let parsed = NormalTarget::parse(target).expect("a normal target");
            assert!(matches!(parsed.text, Cow::Borrowed(_)), "{target}");
            assert_eq!(parsed.as_str(), target);
        }
    }

    #[test]
    fn spellings_of_one_path_have_one_form() {
        for (spelled, expected) in [
            ("/a//b", "/a/b"),
            ("//a", "/a"),
            ("/a///", "/a/"),
            ("/a/./b", "/a/b"),
            ("/a/b/..", "/a/"),
            ("/a/b/../c", "/a/c"),
            ("/a/.", "/a/"),
            ("/a//../b", "/b"),
            ("/a/%2e%2E/b", "/b"),
            ("/%61%7e", "/a~"),
            ("/a%3ab%c3%a9", "/a%3Ab%C3%A9"),
            ("/{id}", "/%7Bid%7D"),
            ("/caf\u{e9}/\u{59d3}", "/caf%C3%A9/%E5%A7%93"),
            ("/a?b=\u{e9}%7e&\u{59d3}=%2f", "/a?b=%C3%A9~&%E5%A7%93=%2F"),
            ("/a/..", "/"),
            ("/a?b=%7e&c=%2f", "/a?b=~&c=%2F"),
            ("/a/../b?x=../y//z", "/b?x=../y//z"),
        ] {
            assert_eq!(normal(spelled), expected, "{spelled}");
            assert_eq!(normal(expected), expected, "{expected} is normal");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_a_problem() {
        for (target, expected) in [
            ("", TargetProblem::NotAbsolute),
            ("a", TargetProblem::NotAbsolute),
            ("?x", TargetProblem::NotAbsolute),
            ("**", TargetProblem::NotAbsolute),
            ("http://a/b", TargetProblem::NotAbsolute),
            ("/a b", TargetProblem::BadByte),
            ("/a?b c", TargetProblem::BadByte),
            ("/a\0", TargetProblem::BadByte),
            ("/a\u{a0}", TargetProblem::BadByte),
            ("/a?\u{85}", TargetProblem::BadByte),
            ("/a?b=\u{2028}", TargetProblem::BadByte),
            ("/a?\u{e9}=100%", TargetProblem::BadByte),
            ("/a\x7f", TargetProblem::BadByte),
            ("/a#b", TargetProblem::Fragment),
            ("/a?b#c", TargetProblem::Fragment),
            ("/a%", TargetProblem::BadEscape),
            ("/a%2", TargetProblem::BadEscape),
            ("/a%2g", TargetProblem::BadEscape),
            ("/a%2Fb", TargetProblem::HiddenSeparator),
            ("/a%5cb", TargetProblem::HiddenSeparator),
            ("/a%00", TargetProblem::HiddenSeparator),
            ("/a\\b", TargetProblem::HiddenSeparator),
            ("/..", TargetProblem::AboveRoot),
            ("/a/../../b", TargetProblem::AboveRoot),
            ("/%2e%2e/b", TargetProblem::AboveRoot),
            ("/a/..;/b", TargetProblem::DotParameter),
            ("/a/%2e%2e;x=1/b", TargetProblem::DotParameter),
            ("/a/.;/b", TargetProblem::DotParameter),
        ] {
            assert_eq!(
                NormalTarget::parse(target).map(|target| target.to_string()),
                Err(expected),
                "{target}"
            );
        }
    }

    #[test]
    fn a_query_with_a_stray_percent_is_left_alone() {
        assert_eq!(normal("/a?q=100%&b=%7e"), "/a?q=100%&b=%7e");
        // Decoding the inner escape would make a new one.
        assert_eq!(normal("/a?q=%%341"), "/a?q=%%341");
        assert_eq!(normal("/b/../a?q=%"), "/a?q=%");
    }

    #[test]
    fn path_and_query_are_told_apart() {
        let target = NormalTarget::parse("/x/../a?b=1?c").expect("a target").into_owned();
        assert_eq!((target.path(), target.query()), ("/a", Some("b=1?c")));
        let target = NormalTarget::parse("/a").expect("a target");
        assert_eq!((target.path(), target.query()), ("/a", None));
        assert_eq!(NormalTarget::parse("/a?").expect("a target").query(), Some(""));
    }

    #[test]
    fn parents_lead_from_the_resource_to_the_root() {
        let parents = |target: &str| {
            NormalTarget::parse(target).expect("a target").parents().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(parents("/a/b/c?x=/y"), ["/a/b/c", "/a/b", "/a", "/"]);
        assert_eq!(parents("/a/b/"), ["/a/b", "/a", "/"]);
        assert_eq!(parents("/"), ["/"]);
        assert_eq!(parents("*"), ["*"]);
        assert_eq!(parents(&"/a".repeat(100)).len(), PARENTS_MAX);
    }
}
