//! A backend's answer as it is remembered: status, end-to-end headers and body in one compact allocation.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// A recorded answer. Cheap to clone (one reference count), and it pins none of the connection's read buffers.
///
/// Layout: `status u16 | flags u8 | headers u16 | { name length u16 | name | value length u32 | value }* | body`, all
/// integers big-endian. The same bytes go to disk and to a shared store.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    bytes: Bytes,
    body_at: usize,
}

/// Flag: the body was too large to keep, so this answer is a tombstone (status and headers only).
const BODY_DROPPED: u8 = 1;

/// Flag: no answer of the backend's, but a refusal that whoever waits for one gets, too.
const REFUSAL: u8 = 2;

/// Why stored bytes are not an answer; only a damaged or foreign store produces it.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

impl Answer {
    /// Copies an answer into its compact form. `body` is `None` where it was too large to keep.
    pub fn new(status: StatusCode, headers: &HeaderMap, body: Option<&[u8]>) -> Answer {
        Answer::without(None, status, headers, body)
    }

    /// The same, leaving out the header `omitted`.
    pub fn without(
        omitted: Option<&HeaderName>,
        status: StatusCode,
        headers: &HeaderMap,
        body: Option<&[u8]>,
    ) -> Answer {
        let fits = |name: &HeaderName, value: &HeaderValue| {
            name.as_str().len() <= 0xffff && value.len() <= 1 << 20 && Some(name) != omitted
        };
        let kept = || headers.iter().filter(|(name, value)| fits(name, value));
        let (count, head) = kept().fold((0_usize, 0), |(count, head), (name, value)| {
            (count + 1, head + 6 + name.as_str().len() + value.len())
        });
        let mut out = BytesMut::with_capacity(5 + head + body.map_or(0, <[u8]>::len));
        out.put_u16(status.as_u16());
        out.put_u8(if body.is_none() { BODY_DROPPED } else { 0 });
        out.put_u16(u16::try_from(count).unwrap_or(u16::MAX));
        for (name, value) in kept().take(usize::from(u16::MAX)) {
            out.put_u16(name.as_str().len() as u16);
            out.put_slice(name.as_str().as_bytes());
            out.put_u32(value.len() as u32);
            out.put_slice(value.as_bytes());
        }
        let body_at = out.len();
        out.put_slice(body.unwrap_or_default());
        Answer { bytes: out.freeze(), body_at }
    }

    /// Reads an answer back from the bytes that [`Answer::as_bytes`] gave.
    pub fn from_bytes(bytes: Bytes) -> Result<Answer, Malformed> {
        let mut at = 5;
        if bytes.len() < at || StatusCode::from_u16(u16::from_be_bytes([bytes[0], bytes[1]])).is_err() {
            return Err(Malformed);
        }
        for _ in 0..u16::from_be_bytes([bytes[3], bytes[4]]) {
            let (_, _, next) = header_at(&bytes, at).ok_or(Malformed)?;
            at = next;
        }
        Ok(Answer { bytes, body_at: at })
    }

    /// The compact form, for a store.
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The recorded status code.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(u16::from_be_bytes([self.bytes[0], self.bytes[1]]))
            .unwrap_or(StatusCode::BAD_GATEWAY)
    }

    /// The recorded headers, in their order, as a fresh map.
    pub fn headers(&self) -> HeaderMap {
        let count = usize::from(u16::from_be_bytes([self.bytes[3], self.bytes[4]]));
        let mut map = HeaderMap::with_capacity(count + 4);
        self.fields().for_each(|(name, value)| self.put(&mut map, name, value));
        map
    }

    /// Puts one of [`Answer::fields`] into a map.
    pub fn put(&self, map: &mut HeaderMap, name: &[u8], value: &[u8]) {
        // Shared, not copied: the map is on its way out, and the answer stays.
        let value = HeaderValue::from_maybe_shared(self.bytes.slice_ref(value));
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), value) {
            map.append(name, value);
        }
    }

    /// Names, in lower case, and values of the recorded headers, in their order.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut at = 5;
        std::iter::from_fn(move || {
            let (name, value, next) = header_at(&self.bytes[..self.body_at], at)?;
            at = next;
            Some((name, value))
        })
    }

    /// The bytes that the headers take in the compact form.
    pub fn fields_len(&self) -> usize {
        self.body_at - 5
    }

    /// The recorded body; empty for a tombstone.
    pub fn body(&self) -> Bytes {
        self.bytes.slice(self.body_at..)
    }

    /// Whether the body was too large to keep.
    pub fn is_tombstone(&self) -> bool {
        self.bytes[2] & BODY_DROPPED != 0
    }

    /// Whether it is the gateway's own refusal.
    pub fn is_refusal(&self) -> bool {
        self.bytes[2] & REFUSAL != 0
    }

    /// The same answer, marked as the gateway's own refusal.
    pub fn to_refusal(&self) -> Answer {
        let mut bytes = BytesMut::from(&self.bytes[..]);
        bytes[2] |= REFUSAL;
        Answer { bytes: bytes.freeze(), body_at: self.body_at }
    }

    /// The same answer without its body: executed, but the answer was too large to keep.
    pub fn to_tombstone(&self) -> Answer {
        let mut head = BytesMut::from(&self.bytes[..self.body_at]);
        head[2] |= BODY_DROPPED;
        Answer { bytes: head.freeze(), body_at: self.body_at }
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Answer({}, {} B)", self.status().as_u16(), self.bytes.len() - self.body_at)
    }
}

fn header_at(bytes: &[u8], at: usize) -> Option<(&[u8], &[u8], usize)> {
    let name_len = usize::from(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let name = bytes.get(at + 2..at + 2 + name_len)?;
    let at = at + 2 + name_len;
    let value_len = u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize;
    let value = bytes.get(at + 4..(at + 4).checked_add(value_len)?)?;
    Some((name, value, at + 4 + value_len))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (HeaderMap, Answer) {
        let mut headers = HeaderMap::new();
        headers.append("content-type", HeaderValue::from_static("text/plain"));
        headers.append("x-a", HeaderValue::from_static("1"));
        headers.append("x-a", HeaderValue::from_bytes(b"caf\xe9").expect("latin-1 is allowed"));
        let answer = Answer::new(StatusCode::CREATED, &headers, Some(b"hello"));
        (headers, answer)
    }

    #[test]
    fn answer_survives_its_bytes() {
        let (headers, answer) = sample();
        let back = Answer::from_bytes(answer.as_bytes().clone()).expect("own bytes");
        assert_eq!(back.status(), StatusCode::CREATED);
        assert_eq!(back.headers(), headers);
        assert_eq!(&back.body()[..], b"hello");
        assert!(!back.is_tombstone());
    }

    #[test]
    fn tombstone_keeps_status_and_headers() {
        let (headers, answer) = sample();
        let stone = Answer::from_bytes(answer.to_tombstone().as_bytes().clone()).expect("own bytes");
        assert_eq!((stone.status(), stone.headers()), (StatusCode::CREATED, headers));
        assert!(stone.body().is_empty() && stone.is_tombstone());
    }

    #[test]
    fn every_truncation_of_the_head_is_malformed() {
        let (_, answer) = sample();
        for end in 0..answer.body_at {
            assert_eq!(Answer::from_bytes(answer.as_bytes().slice(..end)), Err(Malformed), "cut at {end}");
        }
    }
}
