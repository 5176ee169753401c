//! Another reader of requests: strict, slow, written over whole texts, and sharing nothing with the scanner.

use crate::gateway::scan::Framing;

/// One request as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, Vec<u8>)>,
    pub framing: Framing,
    pub body: Vec<u8>,
    /// Bytes on the wire.
    pub length: usize,
}

/// The message at the front of `bytes`; `None` where it is not whole or not strictly one.
pub(super) fn read(bytes: &[u8]) -> Option<Message> {
    let skipped = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
    let text = &bytes[skipped..];
    let end = find(text, b"\r\n\r\n")?;
    let mut lines = lines(&text[..end])?.into_iter();
    let first = String::from_utf8(lines.next()?).ok()?;
    let [method, target, version] = first.split(' ').collect::<Vec<_>>()[..] else { return None };
    let beyond_ascii = |char: char| !char.is_ascii() && !char.is_control() && !char.is_whitespace();
    let plain = target.chars().all(|char| char.is_ascii_graphic() && char != '#' || beyond_ascii(char));
    if !plain
        || method.is_empty()
        || !method.bytes().all(|byte| byte.is_ascii_uppercase() || b"-_0123456789".contains(&byte))
    {
        return None;
    }
    let minor = version.strip_prefix("HTTP/1.")?;
    let headers = lines.map(header).collect::<Option<Vec<_>>>()?;
    let framing = framing(&headers, minor)?;
    let rest = &text[end + 4..];
    let (body, body_length) = match framing {
        Framing::None => (Vec::new(), 0),
        Framing::Length(length) => (rest.get(..usize::try_from(length).ok()?)?.to_vec(), length as usize),
        Framing::Chunked => chunks(rest)?,
    };
    Some(Message {
        method: method.into(),
        target: target.into(),
        headers,
        framing,
        body,
        length: skipped + end + 4 + body_length,
    })
}

/// All messages of `bytes`, which hold nothing else.
pub(super) fn read_all(mut bytes: &[u8]) -> Option<Vec<Message>> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let message = read(bytes)?;
        bytes = &bytes[message.length..];
        messages.push(message);
    }
    Some(messages)
}

fn find(text: &[u8], pattern: &[u8]) -> Option<usize> {
    text.windows(pattern.len()).position(|window| window == pattern)
}

/// Cut at every CR LF; nothing else of the control characters but tabs may be left.
fn lines(text: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut lines = vec![Vec::new()];
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\r' if bytes.next_if_eq(&b'\n').is_some() => lines.push(Vec::new()),
            0..=8 | 10..=31 | 127 => return None,
            _ => lines.last_mut()?.push(byte),
        }
    }
    Some(lines)
}

fn header(line: Vec<u8>) -> Option<(String, Vec<u8>)> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    let name = String::from_utf8(line[..colon].to_vec()).ok()?;
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let value = line[colon + 1..].trim_ascii().to_vec();
    (!name.is_empty() && name.bytes().all(token)).then_some((name, value))
}

fn framing(headers: &[(String, Vec<u8>)], minor: &str) -> Option<Framing> {
    let all = |wanted: &str| -> Vec<&[u8]> {
        let named = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        named.map(|(_, value)| &value[..]).collect()
    };
    match (all("host").len(), minor) {
        (1, "0" | "1") | (0, "0") => {}
        _ => return None,
    }
    match (&all("content-length")[..], &all("transfer-encoding")[..]) {
        ([], []) => Some(Framing::None),
        ([], [coding]) => {
            (coding.eq_ignore_ascii_case(b"chunked") && minor == "1").then_some(Framing::Chunked)
        }
        ([length], []) => {
            let text = std::str::from_utf8(length).ok()?;
            let number: i64 = text.parse().ok()?;
            (number.to_string() == text).then_some(())?;
            Some(if number == 0 { Framing::None } else { Framing::Length(number.try_into().ok()?) })
        }
        _ => None,
    }
}

/// The body without its coding, and how long it is with it.
fn chunks(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let end = find(&text[at..], b"\r\n")?;
        let line = &lines(&text[at..at + end])?[0];
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        if line[digits..].first().is_some_and(|byte| !b"; \t".contains(byte)) {
            return None;
        }
        let size = usize::try_from(i64::from_str_radix(std::str::from_utf8(&line[..digits]).ok()?, 16).ok()?)
            .ok()?;
        at += end + 2;
        if size == 0 {
            break;
        }
        body.extend_from_slice(text.get(at..at.checked_add(size)?)?);
        at += size;
        (text.get(at..at + 2)? == b"\r\n").then_some(())?;
        at += 2;
    }
    if text[at..].starts_with(b"\r\n") {
        return Some((body, at + 2));
    }
    let end = find(&text[at..], b"\r\n\r\n")?;
    lines(&text[at..at + end])?.into_iter().map(header).collect::<Option<Vec<_>>>()?;
    Some((body, at + end + 4))
}
