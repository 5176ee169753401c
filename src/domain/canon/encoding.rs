//! Content codings, undone for the fingerprint only and under caps: the backend gets the bytes as they came.

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::{Decompress, FlushDecompress, Status};
use std::borrow::Cow;

/// A decoded body is at most so many times its encoded size; past it somebody sends a bomb, and the encoded bytes count.
const RATIO_MAX: usize = 100;

/// Decoded bytes are asked for in steps of this size, so that a small body never costs the whole cap.
const STEP_BYTES: usize = 16 * 1024;

/// What undoing a coding gave.
pub(super) enum Decoded<'a> {
    /// The bytes that the sender meant.
    Plain(Cow<'a, [u8]>),
    /// Unknown, broken, followed by something else or over a cap: the coding's name in lower case.
    Unknown(Vec<u8>),
}

/// How one step of a decoder ended.
enum Step {
    /// More room is needed.
    More,
    /// The stream is complete; so many bytes of the input belong to it.
    End(usize),
    /// It is not a stream of this coding.
    Broken,
}

/// Undoes a `Content-Encoding`, if it is a single known one and stays under the caps.
pub(super) fn decode<'a>(name: Option<&[u8]>, body: &'a [u8], bytes_max: usize) -> Decoded<'a> {
    let name = name.unwrap_or_default().trim_ascii().to_ascii_lowercase();
    let bytes_max = bytes_max.min(body.len().saturating_mul(RATIO_MAX));
    let decoded = match &*name {
        b"" | b"identity" => return Decoded::Plain(Cow::Borrowed(body)),
        b"gzip" | b"x-gzip" => gzip(body, bytes_max),
        b"deflate" => zlib(body, bytes_max),
        b"br" => brotli(body, bytes_max),
        _ => None,
    };
    match decoded {
        Some(decoded) => Decoded::Plain(Cow::Owned(decoded)),
        None => Decoded::Unknown(name),
    }
}

/// Runs a decoder into a growing buffer until it ends exactly where the input does. Anything behind the end is a doubt:
/// some decoders read on, some do not.
fn collect(
    body_bytes: usize,
    bytes_max: usize,
    mut step: impl FnMut(&mut [u8], &mut usize) -> Step,
) -> Option<Vec<u8>> {
    let mut decoded = Vec::new();
    let mut filled = 0;
    loop {
        // One byte more than the cap, to tell "full" from "over".
        let room = STEP_BYTES.max(filled).min(bytes_max.saturating_add(1) - filled);
        if room == 0 {
            return None;
        }
        decoded.resize(filled + room, 0);
        match step(&mut decoded, &mut filled) {
            Step::More => {}
            Step::Broken => return None,
            Step::End(read) if read == body_bytes && filled <= bytes_max => {
                decoded.truncate(filled);
                return Some(decoded);
            }
            Step::End(_) => return None,
        }
    }
}

/// A zlib stream (RFC 1950), which is what `deflate` names; its checksum is verified.
fn zlib(body: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    inflate(Decompress::new(true), body, bytes_max)
}

fn inflate(mut decompress: Decompress, body: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    collect(body.len(), bytes_max, |out, filled| {
        let (read, written) = (decompress.total_in(), decompress.total_out());
        let rest = body.get(read as usize..).unwrap_or_default();
        match decompress.decompress(rest, &mut out[*filled..], FlushDecompress::None) {
            Ok(status) => {
                *filled += (decompress.total_out() - written) as usize;
                let stuck = decompress.total_in() == read && decompress.total_out() == written;
                match status {
                    Status::StreamEnd => Step::End(decompress.total_in() as usize),
                    Status::Ok | Status::BufError if stuck => Step::Broken,
                    Status::Ok | Status::BufError => Step::More,
                }
            }
            Err(_) => Step::Broken,
        }
    })
}

/// One gzip member (RFC 1952) and nothing behind it. Time, name and comment in its header mean nothing; length and
/// checksum are verified.
fn gzip(body: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    const TRAILER_BYTES: usize = 8;
    let (rest, trailer) = body.split_at(body.len().checked_sub(TRAILER_BYTES)?);
    let stream = rest.get(gzip_header(body)?..)?;
    let decoded = inflate(Decompress::new(false), stream, bytes_max)?;
    let mut crc = flate2::Crc::new();
    crc.update(&decoded);
    let expected = [crc.sum().to_le_bytes(), (decoded.len() as u32).to_le_bytes()].concat();
    (expected == trailer).then_some(decoded)
}

/// The length of a gzip header.
fn gzip_header(body: &[u8]) -> Option<usize> {
    const FIXED_BYTES: usize = 10;
    let &[0x1f, 0x8b, 8, flags, ..] = body.get(..FIXED_BYTES)? else { return None };
    let (extra, name, comment) = (flags & 4 != 0, flags & 8 != 0, flags & 16 != 0);
    // Reserved flags, and the header checksum that nobody sends and few verify.
    if flags & !(1 | 4 | 8 | 16) != 0 {
        return None;
    }
    let mut at = FIXED_BYTES;
    if extra {
        let &[low, high] = body.get(at..at + 2)? else { return None };
        at += 2 + usize::from(u16::from_le_bytes([low, high]));
    }
    for present in [name, comment] {
        if present {
            at += 1 + memchr::memchr(0, body.get(at..)?)?;
        }
    }
    (at <= body.len()).then_some(at)
}

fn brotli(body: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    // Strict: without the large windows of up to 1 GiB that no `br` may use.
    let mut state =
        BrotliState::new_strict(StandardAlloc::default(), StandardAlloc::default(), StandardAlloc::default());
    let (mut available_in, mut read, mut total) = (body.len(), 0, 0);
    collect(body.len(), bytes_max, |out, filled| {
        let mut available_out = out.len() - *filled;
        match BrotliDecompressStream(
            &mut available_in,
            &mut read,
            body,
            &mut available_out,
            filled,
            out,
            &mut total,
            &mut state,
        ) {
            BrotliResult::ResultSuccess => Step::End(read),
            BrotliResult::NeedsMoreOutput => Step::More,
            BrotliResult::NeedsMoreInput | BrotliResult::ResultFailure => Step::Broken,
        }
    })
}
