//! The header lines that the gateway adds to a head, ready to go out as they are.
//!
//! What it tells a backend about a client, and a client about itself, is the same from request to request but for the
//! request's id. Put into a header map, each of these headers is hashed, spelled and copied anew every time; as lines they
//! are made once a connection, and put behind the others where the head goes out.

use super::spelling;
use http::HeaderValue;
use http::header::{self, HeaderMap};
use std::cell::RefCell;
use std::rc::Rc;

/// Lines for the end of one head.
#[derive(Clone, Debug, Default)]
pub struct OwnLines {
    /// Whole lines, each with its end.
    pub whole: Vec<u8>,
    /// The lines that are the same for every request, up to the name and the colon of the last one, and its value: the
    /// request's id.
    pub signature: Option<(Rc<[u8]>, HeaderValue)>,
}

/// What the backend is told about one client connection, made when its requests first say a `Host`, and again when that
/// changes.
#[derive(Default)]
pub struct Told(RefCell<Option<Known>>);

/// A `Host`, and the lines for it.
type Known = (Box<[u8]>, Rc<[u8]>);

// === impl OwnLines ===

impl OwnLines {
    /// Puts the lines before the empty line that ends `head`; `false` where none does.
    pub fn put_into(&self, head: &mut Vec<u8>) -> bool {
        let Some(length) = head.strip_suffix(b"\r\n\r\n").map(<[u8]>::len) else { return false };
        head.truncate(length + 2);
        head.extend_from_slice(&self.whole);
        if let Some((before, id)) = &self.signature {
            head.extend_from_slice(before);
            head.extend_from_slice(id.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        true
    }
}

/// `headers` as lines, and behind them the beginning of one for `last`.
pub fn lines(headers: &HeaderMap, last: &header::HeaderName) -> Rc<[u8]> {
    let mut lines = Vec::new();
    for (name, value) in headers {
        lines.extend_from_slice(name.as_str().as_bytes());
        lines.extend_from_slice(b": ");
        lines.extend_from_slice(value.as_bytes());
        lines.extend_from_slice(b"\r\n");
    }
    lines.extend_from_slice(last.as_str().as_bytes());
    lines.extend_from_slice(b": ");
    spelling::spell(&mut lines, None);
    lines.into()
}

// === impl Told ===

impl Told {
    /// The lines for a request with this `Host`, which `make` makes.
    pub fn lines(&self, host: &HeaderValue, make: impl FnOnce() -> Rc<[u8]>) -> Rc<[u8]> {
        let mut told = self.0.borrow_mut();
        match &*told {
            Some((known, lines)) if **known == *host.as_bytes() => lines.clone(),
            _ => {
                let lines = make();
                // Copied: the value lies in what was read from the socket, and would keep all of that.
                *told = Some((host.as_bytes().into(), lines.clone()));
                lines
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own_lines(id: &'static str) -> OwnLines {
        let mut headers = HeaderMap::new();
        headers.append(header::VIA, HeaderValue::from_static("1.1 a-b"));
        let before = lines(&headers, &header::HeaderName::from_static("x-request-id"));
        OwnLines { whole: b"A: b\r\n".to_vec(), signature: Some((before, HeaderValue::from_static(id))) }
    }

    #[test]
    fn lines_stand_at_the_end_of_a_head() {
        let mut head = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
        assert!(own_lines("17").put_into(&mut head));
        let expected = b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\nVia: 1.1 a-b\r\nX-Request-Id: 17\r\n\r\n";
        assert_eq!(head, expected);
    }

    #[test]
    fn nothing_is_put_behind_what_does_not_end() {
        let mut head = b"GET / HTTP/1.1\r\nHost: x\r\n".to_vec();
        assert!(!own_lines("17").put_into(&mut head));
        assert_eq!(head, b"GET / HTTP/1.1\r\nHost: x\r\n");
    }

    #[test]
    fn they_are_made_anew_for_another_host() {
        let told = Told::default();
        let make = |text: &'static [u8]| move || Rc::from(text);
        let host = HeaderValue::from_static;
        assert_eq!(&*told.lines(&host("a"), make(b"1")), b"1");
        assert_eq!(&*told.lines(&host("a"), make(b"2")), b"1");
        assert_eq!(&*told.lines(&host("b"), make(b"3")), b"3");
        assert_eq!(&*told.lines(&host("a"), make(b"4")), b"4");
    }

    #[test]
    fn a_connection_at_rest_keeps_nothing_of_what_it_read() {
        let (read, told) = (bytes::Bytes::from(vec![b'a'; 8192]), Told::default());
        let host = HeaderValue::from_maybe_shared(read.slice(..9)).expect("a value");
        told.lines(&host, || Rc::from(&b"1"[..]));
        drop(host);
        assert!(read.is_unique());
    }
}
