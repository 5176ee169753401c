//! One request head, line by line, and what it says about framing.

use super::block;
use super::bytes::{LIKE_DASH, NAME, NOT_TOKEN, is_plain_target, is_rare_in_target, trimmed};
use super::problem::Problem;
use super::{Limits, authority};
use crate::domain::framing::is_framing;
use crate::domain::target::has_plain_characters;
use crate::gateway::spelling::is_title_case;
use std::ops::Range;

/// The longest method. Those of WebDAV and its relatives have up to 17 letters.
pub(super) const METHOD_BYTES_MAX: usize = 32;
/// What a request line has besides its target: the method, two spaces, the version.
pub(super) const LINE_BESIDES_TARGET: usize = METHOD_BYTES_MAX + 2 + 8;
/// Digits of a `Content-Length` that fits 63 bits.
const LENGTH_DIGITS_MAX: usize = 19;

/// Where a body ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    #[default]
    None,
    /// After so many bytes.
    Length(u64),
    /// Where its chunks end.
    Chunked,
}

/// What has been read of a head. Places are counted from the first byte that was not passed on yet, which is the
/// head's own first byte.
#[derive(Clone, Debug, Default)]
pub(super) struct Head {
    /// The request line was read.
    pub begun: bool,
    /// The one empty line that may come before it was read.
    pub blank: bool,
    /// Header lines so far.
    pub headers: usize,
    /// A name was met that is not in Title-Case.
    pub is_odd: bool,
    /// Another protocol is asked for.
    pub upgrade: bool,
    is_11: bool,
    is_connect: bool,
    length: Option<u64>,
    chunked: bool,
    host: Option<Range<usize>>,
    authority: Option<Range<usize>>,
}

/// A header line, cut at its colon.
pub(super) struct Field<'a> {
    /// Before the colon.
    pub name: &'a [u8],
    /// Behind it, with the space around it.
    pub value: &'a [u8],
    /// The name is spelled otherwise than in Title-Case.
    pub is_odd: bool,
    /// The name has a sign that is no `-`.
    like_dash: bool,
}

// === impl Field ===

impl Field<'_> {
    /// A name alone, which is known to be one.
    pub fn named(name: &[u8]) -> Field<'_> {
        let like_dash = name.iter().any(|byte| NAME[usize::from(*byte)] == LIKE_DASH);
        Field { name, value: &[], is_odd: false, like_dash }
    }

    /// Cuts `line`; `first` where no header came before it.
    #[inline]
    pub fn cut(line: &[u8], first: bool) -> Result<Field<'_>, Problem> {
        // Most names are letters and dashes throughout; the others are read byte by byte.
        let (letters, is_odd) = line.first_chunk().map_or((0, false), block::name);
        match line.get(letters) {
            Some(b':') if letters > 0 => {
                Ok(Field { name: &line[..letters], value: &line[letters + 1..], is_odd, like_dash: false })
            }
            _ => Field::cut_by_bytes(line, first),
        }
    }

    #[inline(never)]
    fn cut_by_bytes(line: &[u8], first: bool) -> Result<Field<'_>, Problem> {
        let mut class = 0;
        for (at, &byte) in line.iter().enumerate() {
            let this = NAME[usize::from(byte)];
            class |= this;
            if this == NOT_TOKEN {
                if byte != b':' || at == 0 {
                    return Err(Field::problem(line, at, first));
                }
                return Ok(Field {
                    name: &line[..at],
                    value: &line[at + 1..],
                    is_odd: !is_title_case(line),
                    like_dash: class == LIKE_DASH,
                });
            }
        }
        Err(Problem::NoColon)
    }

    #[cold]
    fn problem(line: &[u8], at: usize, first: bool) -> Problem {
        match line[at] {
            b' ' | b'\t' if at == 0 && first => Problem::LeadingSpace,
            b' ' | b'\t' if at == 0 => Problem::Fold,
            b':' => Problem::EmptyName,
            b' ' | b'\t' if trimmed(&line[at..]).first() == Some(&b':') => Problem::SpaceBeforeColon,
            _ => Problem::NameByte,
        }
    }

    /// Refuses names that some backends take for a framing header's.
    #[inline]
    pub fn without_look_alikes(&self) -> Result<(), Problem> {
        if (self.like_dash || self.has_a_run()) && self.is_framing() {
            return Err(Problem::LookAlike);
        }
        Ok(())
    }

    /// Whether several `-` follow each other in a name that may be a framing header's without them. Its length and first
    /// letter say for nearly all names that it is none.
    fn has_a_run(&self) -> bool {
        let may_be = match self.name.first().map(u8::to_ascii_lowercase) {
            Some(b'k') => self.name.len() > 10,
            Some(b'c' | b't' | b'p') => self.name.len() > 14,
            _ => false,
        };
        may_be && self.name.windows(2).any(|two| two == b"--")
    }

    /// See [`is_framing`].
    #[cold]
    pub fn is_framing(&self) -> bool {
        is_framing(self.name)
    }
}

// === impl Head ===

impl Head {
    /// Reads the request line, which begins at `place`.
    pub fn request_line(&mut self, line: &[u8], place: usize, limits: &Limits) -> Result<(), Problem> {
        if line.len() > limits.target_bytes + LINE_BESIDES_TARGET {
            return Err(Problem::TargetTooLong);
        }
        if line == b"PRI * HTTP/2.0" {
            return Err(Problem::Http2Preface);
        }
        let space = line.iter().position(|&byte| byte == b' ').ok_or(Problem::RequestLine)?;
        let method = &line[..space];
        check_method(method)?;
        let behind = &line[space + 1..];
        let (target, version) =
            behind.split_at_checked(behind.len().wrapping_sub(9)).ok_or(Problem::RequestLine)?;
        self.is_11 = match version {
            b" HTTP/1.1" => true,
            b" HTTP/1.0" => false,
            _ => return Err(version_problem(behind)),
        };
        if target.len() > limits.target_bytes {
            return Err(Problem::TargetTooLong);
        }
        self.begun = true;
        self.target(method, target, place + space + 1)
    }

    fn target(&mut self, method: &[u8], target: &[u8], place: usize) -> Result<(), Problem> {
        if target.first() == Some(&b'/') && method != b"CONNECT" {
            return check_target_bytes(target);
        }
        // Spaces and fragments are told as such in every form.
        check_target_bytes(target)?;
        if method == b"CONNECT" {
            self.is_connect = true;
            self.authority = Some(place..place + target.len());
            return authority::check(target, Problem::Authority);
        }
        if target == b"*" {
            return if method == b"OPTIONS" { Ok(()) } else { Err(Problem::TargetForm) };
        }
        let scheme = [&b"http://"[..], b"https://"].iter().find_map(|scheme| {
            let begins = target.get(..scheme.len())?.eq_ignore_ascii_case(scheme);
            begins.then_some(scheme.len())
        });
        let start = scheme.ok_or(Problem::TargetForm)?;
        let length = target[start..].iter().position(|byte| matches!(byte, b'/' | b'?'));
        let end = length.map_or(target.len(), |length| start + length);
        self.authority = Some(place + start..place + end);
        authority::check(&target[start..end], Problem::Authority)
    }

    /// Reads a header line, which begins at `place`.
    pub fn header(&mut self, line: &[u8], place: usize, limits: &Limits) -> Result<(), Problem> {
        let field = Field::cut(line, self.headers == 0)?;
        self.headers += 1;
        self.is_odd |= field.is_odd;
        if self.headers > limits.headers {
            return Err(Problem::TooManyHeaders);
        }
        field.without_look_alikes()?;
        match field.name.len() {
            4 if field.name.eq_ignore_ascii_case(b"host") => {
                let value = trimmed(field.value);
                // Where the value begins: behind the name, the colon and the space that was trimmed.
                let front =
                    place + 5 + field.value.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
                if self.host.replace(front..front + value.len()).is_some() {
                    return Err(Problem::SeveralHosts);
                }
                authority::check(value, Problem::Host)
            }
            7 if field.name.eq_ignore_ascii_case(b"upgrade") => {
                self.upgrade = true;
                Ok(())
            }
            14 if field.name.eq_ignore_ascii_case(b"content-length") => {
                match self.length.replace(length(trimmed(field.value))?) {
                    None => Ok(()),
                    Some(_) => Err(Problem::SeveralLengths),
                }
            }
            17 if field.name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if std::mem::replace(&mut self.chunked, true) {
                    return Err(Problem::SeveralCodings);
                }
                let exact = trimmed(field.value).eq_ignore_ascii_case(b"chunked");
                if exact { Ok(()) } else { Err(Problem::Coding) }
            }
            _ => Ok(()),
        }
    }

    /// The head ended: what its lines say together. `bytes` begins with the head.
    pub fn end(&self, bytes: &[u8]) -> Result<Framing, Problem> {
        match (self.chunked, self.length) {
            (true, Some(_)) => return Err(Problem::LengthAndCoding),
            (true, None) if !self.is_11 => return Err(Problem::CodingOn10),
            _ => {}
        }
        if self.is_11 && self.host.is_none() {
            return Err(Problem::NoHost);
        }
        if let Some(authority) = &self.authority {
            self.agrees(authority, bytes)?;
        }
        Ok(match self.length {
            _ if self.chunked => Framing::Chunked,
            None | Some(0) => Framing::None,
            Some(length) => Framing::Length(length),
        })
    }

    #[cold]
    fn agrees(&self, authority: &Range<usize>, bytes: &[u8]) -> Result<(), Problem> {
        let text = |range: &Range<usize>| bytes.get(range.clone()).unwrap_or_default();
        match &self.host {
            Some(host) if !text(host).eq_ignore_ascii_case(text(authority)) => {
                Err(Problem::AuthorityMismatch)
            }
            _ if self.is_connect => Err(Problem::Tunnel),
            _ => Ok(()),
        }
    }
}

/// Capital letters only: to a backend that compares without case, `post` would be a POST that no route guards.
pub(super) fn check_method(method: &[u8]) -> Result<(), Problem> {
    if matches!(method, b"GET" | b"POST") {
        return Ok(());
    }
    let is_known =
        |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    match method.first() {
        Some(first)
            if first.is_ascii_uppercase()
                && method.len() <= METHOD_BYTES_MAX
                && method.iter().all(is_known) =>
        {
            Ok(())
        }
        _ => Err(Problem::Method),
    }
}

#[cold]
fn version_problem(behind: &[u8]) -> Problem {
    let mut words = behind.split(|&byte| byte == b' ');
    match (words.next(), words.next(), words.next()) {
        (Some([_, ..]), Some([_, ..]), None) => Problem::Version,
        _ => Problem::RequestLine,
    }
}

pub(super) fn check_target_bytes(target: &[u8]) -> Result<(), Problem> {
    if is_plain_target(target) { Ok(()) } else { rare_target_bytes(target) }
}

/// `"` is at home in paths and the grave accent in queries, as some clients write them; so is UTF-8 in both, which has one
/// meaning as escapes.
#[cold]
fn rare_target_bytes(target: &[u8]) -> Result<(), Problem> {
    let mut in_query = false;
    for &byte in target {
        in_query |= byte == b'?';
        match byte {
            b' ' | b'\t' => return Err(Problem::RequestLine),
            b'#' => return Err(Problem::Fragment),
            b'"' if !in_query => {}
            b'`' if in_query => {}
            // All of them together are looked at below.
            0x80.. => {}
            _ if !is_rare_in_target(byte) => {}
            _ => return Err(Problem::TargetByte),
        }
    }
    match std::str::from_utf8(target) {
        Ok("") => Err(Problem::RequestLine),
        Ok(text) if has_plain_characters(text) => Ok(()),
        _ => Err(Problem::TargetByte),
    }
}

/// One plain number. A leading zero is refused because some read it as octal.
pub(super) fn length(text: &[u8]) -> Result<u64, Problem> {
    let plain = (1..=LENGTH_DIGITS_MAX).contains(&text.len())
        && text.iter().all(u8::is_ascii_digit)
        && (text.len() == 1 || text[0] != b'0');
    // Nineteen digits fit 64 bits, so the sum cannot overflow.
    let number = text
        .iter()
        .fold(0u64, |sum, digit| sum.wrapping_mul(10).wrapping_add(u64::from(digit.wrapping_sub(b'0'))));
    if plain && number <= i64::MAX as u64 { Ok(number) } else { Err(Problem::Length) }
}
