//! `multipart/form-data`: fields in the order of their names, files by the digest of their bytes; the boundary means
//! nothing.
//!
//! A strict reader of its own: lenient ones skip preambles, repair line ends and overlook headers, and what one of them
//! overlooks a backend may not. Whatever is not written as every browser and HTTP client writes it is a doubt.

use super::Doubtful;
use super::fields::SentField;
use super::frame::{family, push_field};
use super::media::is_token;
use super::rules::FieldRules;
use memchr::memmem::Finder;
use sha2::{Digest, Sha256};

/// One part in canonical bytes, with what it is sorted by.
struct Part {
    family: Vec<u8>,
    name: Vec<u8>,
    canonical: Vec<u8>,
    /// Some readers may see another name.
    is_doubtful: bool,
}

/// What a part's headers say.
#[derive(Default)]
struct Headers<'a> {
    disposition: Option<Disposition<'a>>,
    content_type: Option<&'a [u8]>,
    length: Option<&'a [u8]>,
    /// `Content-Transfer-Encoding`, where it is one that changes nothing.
    transfer: Option<&'a [u8]>,
}

struct Disposition<'a> {
    name: &'a [u8],
    file_name: Option<&'a [u8]>,
    /// All of it, where it has `filename*` or an escape in the file's name. Not all readers take these for the same name, but
    /// each of them reads the same bytes alike, so they count as they are.
    verbatim: Option<&'a [u8]>,
    /// A quote may end the file's name or be part of it: what follows is a name of its own to some readers.
    is_doubtful: bool,
}

/// RFC 2046, 5.1.1.
const BOUNDARY_BYTES_MAX: usize = 70;

/// The canonical bytes of a multipart form: its parts, each behind its length.
pub(super) fn canonical(body: &[u8], boundary: &[u8], rules: &FieldRules) -> Result<Vec<u8>, Doubtful> {
    let mut parts = Vec::new();
    for_each_part(body, boundary, |bytes| {
        let part = Part::parse(bytes)?;
        if part.is_doubtful || !rules.ignores(&part.name) {
            parts.push(part);
        }
        Ok(())
    })?;
    // Where one's name is in doubt, it may be of any other's family.
    if !parts.iter().any(|part| part.is_doubtful) {
        // Stable: what is of one family keeps its order.
        parts.sort_by(|a, b| a.family.cmp(&b.family));
        rules.sort_unordered(&mut parts, |part| &part.name, |part| &mut part.canonical);
    }
    let mut out = Vec::new();
    parts.iter().for_each(|part| push_field(&mut out, &part.canonical));
    Ok(out)
}

/// The fields as sent: names, and values where they are no files.
pub(super) fn fields(body: &[u8], boundary: &[u8]) -> Result<Vec<SentField>, Doubtful> {
    let mut fields = Vec::new();
    for_each_part(body, boundary, |bytes| {
        let (headers, content) = Headers::split(bytes)?;
        let disposition = headers.disposition.ok_or(Doubtful)?;
        family(disposition.name).ok_or(Doubtful)?;
        // Who does not know `filename*` takes such a part for a field.
        if disposition.is_doubtful || (disposition.verbatim.is_some() && disposition.file_name.is_none()) {
            return Err(Doubtful);
        }
        let value = disposition.file_name.is_none().then(|| content.to_vec());
        fields.push((disposition.name.to_vec(), value));
        Ok(())
    })?;
    Ok(fields)
}

/// Hands out the bytes of each part, its headers included.
fn for_each_part(
    body: &[u8],
    boundary: &[u8],
    mut each: impl FnMut(&[u8]) -> Result<(), Doubtful>,
) -> Result<(), Doubtful> {
    if boundary.is_empty()
        || boundary.len() > BOUNDARY_BYTES_MAX
        || !boundary.iter().all(u8::is_ascii_graphic)
    {
        return Err(Doubtful);
    }
    let delimiter = [b"--", boundary].concat();
    let finder = Finder::new(&delimiter);
    let mut rest = body.strip_prefix(&*delimiter).ok_or(Doubtful)?;
    while let Some(part) = rest.strip_prefix(b"\r\n") {
        // The delimiter's text anywhere else than at a delimiter's place is a doubt: readers differ in what they accept
        // before and behind it.
        let end = finder.find(part).ok_or(Doubtful)?;
        each(part[..end].strip_suffix(b"\r\n").ok_or(Doubtful)?)?;
        rest = &part[end + delimiter.len()..];
    }
    if body.len() == delimiter.len() + rest.len() || !matches!(rest, b"--" | b"--\r\n") {
        return Err(Doubtful);
    }
    Ok(())
}

// === impl Part ===

impl Part {
    fn parse(bytes: &[u8]) -> Result<Part, Doubtful> {
        let (headers, content) = Headers::split(bytes)?;
        let disposition = headers.disposition.ok_or(Doubtful)?;
        let mut canonical = Vec::with_capacity(128);
        push_field(&mut canonical, disposition.name);
        for said in [disposition.file_name, headers.content_type, headers.transfer] {
            canonical.push(u8::from(said.is_some()));
            push_field(&mut canonical, said.unwrap_or_default());
        }
        // Whether it is a digest is told by the file name before it.
        match disposition.file_name {
            Some(_) => push_field(&mut canonical, &Sha256::digest(content)),
            None => push_field(&mut canonical, content),
        }
        disposition.verbatim.iter().for_each(|verbatim| push_field(&mut canonical, verbatim));
        Ok(Part {
            family: family(disposition.name).ok_or(Doubtful)?,
            name: disposition.name.to_vec(),
            canonical,
            is_doubtful: disposition.is_doubtful,
        })
    }
}

// === impl Headers ===

impl<'a> Headers<'a> {
    /// What the headers of a part say, and the content behind them.
    fn split(bytes: &'a [u8]) -> Result<(Headers<'a>, &'a [u8]), Doubtful> {
        let head_end = memchr::memmem::find(bytes, b"\r\n\r\n").ok_or(Doubtful)?;
        let (head, content) = (&bytes[..head_end], &bytes[head_end + 4..]);
        let headers = Headers::parse(head)?;
        let length = content.len().to_string();
        if headers.length.is_some_and(|said| said != length.as_bytes()) {
            return Err(Doubtful);
        }
        Ok((headers, content))
    }

    fn parse(head: &'a [u8]) -> Result<Headers<'a>, Doubtful> {
        let mut headers = Headers::default();
        for line in LineIter(Some(head)) {
            // Some readers take a form feed for a space, and others refuse it.
            if line.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
                return Err(Doubtful);
            }
            let colon = memchr::memchr(b':', line).ok_or(Doubtful)?;
            let (name, value) = (line[..colon].to_ascii_lowercase(), line[colon + 1..].trim_ascii());
            let place = match &*name {
                b"content-disposition" if headers.disposition.is_none() => {
                    headers.disposition = Some(Disposition::parse(value).ok_or(Doubtful)?);
                    continue;
                }
                // Parts in parts carry more headers, which nobody reads alike.
                b"content-type" if !value.to_ascii_lowercase().starts_with(b"multipart/") => {
                    &mut headers.content_type
                }
                b"content-length" => &mut headers.length,
                b"content-transfer-encoding"
                    if matches!(&*value.to_ascii_lowercase(), b"binary" | b"8bit" | b"7bit") =>
                {
                    &mut headers.transfer
                }
                _ => return Err(Doubtful),
            };
            if place.replace(value).is_some() {
                return Err(Doubtful);
            }
        }
        Ok(headers)
    }
}

/// Lines that CRLF divides.
struct LineIter<'a>(Option<&'a [u8]>);

impl<'a> Iterator for LineIter<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.0.take()?;
        match memchr::memmem::find(rest, b"\r\n") {
            Some(end) => {
                self.0 = Some(&rest[end + 2..]);
                Some(&rest[..end])
            }
            None => Some(rest),
        }
    }
}

// === impl Disposition ===

impl<'a> Disposition<'a> {
    /// `form-data; name="x"; filename="y"`, and nothing else but `filename*`.
    fn parse(value: &'a [u8]) -> Option<Disposition<'a>> {
        let kind = value.get(..9)?;
        if !kind.eq_ignore_ascii_case(b"form-data") {
            return None;
        }
        let (mut name, mut file_name, mut extended) = (None, None, None);
        let mut rest = value[9..].trim_ascii_start();
        while !rest.is_empty() {
            rest = rest.strip_prefix(b";")?.trim_ascii_start();
            let equals = memchr::memchr(b'=', rest)?;
            let place = match &*rest[..equals].to_ascii_lowercase() {
                b"name" => &mut name,
                b"filename" => &mut file_name,
                b"filename*" => &mut extended,
                _ => return None,
            };
            let (text, after) = text(&rest[equals + 1..])?;
            if place.replace(text).is_some() {
                return None;
            }
            rest = after.trim_ascii_start();
        }
        let escapes = |text: Option<&[u8]>| text.is_some_and(|text| text.contains(&b'\\'));
        // The file's name alone may have them.
        if escapes(name) || escapes(extended) {
            return None;
        }
        let verbatim = (extended.is_some() || escapes(file_name)).then_some(value);
        let is_doubtful = memchr::memmem::find(value, b"\\\"").is_some();
        Some(Disposition { name: name?, file_name, verbatim, is_doubtful })
    }
}

/// A quoted string, its escapes as they are, or a token; and what follows it.
fn text(value: &[u8]) -> Option<(&[u8], &[u8])> {
    match value.strip_prefix(b"\"") {
        Some(quoted) => {
            let mut end = 0;
            while *quoted.get(end)? != b'"' {
                end += if quoted[end] == b'\\' { 2 } else { 1 };
            }
            Some((&quoted[..end], &quoted[end + 1..]))
        }
        None => {
            let end = value.iter().position(|byte| !is_token(*byte)).unwrap_or(value.len());
            (end > 0).then_some(value.split_at(end))
        }
    }
}

#[cfg(test)]
mod tests;
