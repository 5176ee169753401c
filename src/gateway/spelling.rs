//! How header names are spelled. HTTP does not care, but legacy backends and clients do, so every name passes as it came.
//!
//! hyper can keep spellings itself, at the price of a second header map a message, and it can write names in Title-Case,
//! which is how most come, letter by letter. Both cost more than all that a gateway does beside. So hyper writes names in
//! lower case, and below it heads are spelled before they go out: in Title-Case, or as the scanner found them where they
//! came otherwise (`ETag`, `SOAPAction`, `x-request-id`).

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;
use wide::u8x16;

/// The names of one head that are not in Title-Case, one a line, in their order. It goes with a message as one of its
/// extensions, from where the head came in to where it goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spelling(Arc<[u8]>);

/// Sets of spellings that one thread keeps; when there are more, all are noted anew.
const KEPT_MOST: usize = 256;
/// A head of more bytes goes out in Title-Case.
const HEAD_BYTES_MOST: usize = 64 << 10;
/// Of a head with more names that are not in Title-Case, those behind go out in it.
const NAMES_MOST: u32 = u64::BITS;

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

#[derive(Default)]
struct Kept {
    known: HashSet<Arc<[u8]>>,
    /// The names that are looked for, kept so that a look allocates nothing.
    names: Vec<u8>,
}

/// How names are spelled in `head`, a whole one with names that are not in Title-Case.
pub fn of(head: &[u8]) -> Option<Spelling> {
    // An empty line may come before a request.
    let head = head.strip_prefix(b"\r\n").unwrap_or(head);
    (head.len() <= HEAD_BYTES_MOST).then(|| KEPT.with_borrow_mut(|kept| kept.find(head)))
}

/// Spells the names in `lines`, header lines with names in lower case: as `spelling` has them, or in Title-Case. Ends with
/// the first empty line.
pub fn spell(lines: &mut [u8], spelling: Option<&Spelling>) {
    let mut noted = spelling.map(Noted::new);
    let mut rest = lines;
    while rest.first().is_some_and(|byte| *byte != b'\r') {
        let length = title_case(rest);
        if let Some(noted) = &mut noted {
            noted.spell(&mut rest[..length]);
        }
        let Some(end) = memchr::memchr(b'\n', &rest[length..]) else { return };
        rest = &mut rest[length + end + 1..];
    }
}

/// Spells the lower-case name at the start of `line` in Title-Case, and tells its length. It ends at a colon, or with `line`.
#[inline]
fn title_case(line: &mut [u8]) -> usize {
    let mut first = 1;
    let mut at = 0;
    loop {
        let block = u8x16::new(block(&line[at..]));
        let from_a = block - u8x16::splat(b'a');
        let letters = from_a.min(u8x16::splat(b'z' - b'a')).simd_eq(from_a).to_bitmask();
        let is = |byte: u8| block.simd_eq(u8x16::splat(byte)).to_bitmask();
        // One bit a byte: a letter is the first of its word where the name begins, or behind a dash.
        let (dashes, colons) = (is(b'-'), is(b':'));
        let mut capitals = letters & (dashes << 1 | first) & within_name(colons);
        while capitals != 0 {
            line[at + capitals.trailing_zeros() as usize] &= !0x20;
            capitals &= capitals - 1;
        }
        if colons != 0 {
            return at + colons.trailing_zeros() as usize;
        }
        first = dashes >> 15 & 1;
        at += 16;
    }
}

/// Of sixteen bytes those before the first colon.
fn within_name(colons: u32) -> u32 {
    colons.wrapping_sub(1) & !colons & 0xffff
}

/// The first bytes of `rest`, filled up with colons, which end a name and no line.
fn block(rest: &[u8]) -> [u8; 16] {
    if let Some(block) = rest.first_chunk() {
        return *block;
    }
    let mut last = [b':'; 16];
    last[..rest.len()].copy_from_slice(rest);
    last
}

/// Whether the name at the start of `text` is in Title-Case. It ends at a colon, or with `text`.
pub fn is_title_case(text: &[u8]) -> bool {
    let mut first = 1;
    let mut rest = text;
    loop {
        let block = u8x16::new(block(rest));
        let within = |start: u8, most: u8| {
            let from_start = block - u8x16::splat(start);
            from_start.min(u8x16::splat(most - start)).simd_eq(from_start).to_bitmask()
        };
        let is = |byte: u8| block.simd_eq(u8x16::splat(byte)).to_bitmask();
        // One bit a byte: a letter is the first of its word where the name begins, or behind a dash.
        let (dashes, colons) = (is(b'-'), is(b':'));
        let firsts = dashes << 1 | first;
        let odd = within(b'a', b'z') & firsts | within(b'A', b'Z') & !firsts;
        if odd & within_name(colons) != 0 {
            return false;
        }
        if colons != 0 {
            return true;
        }
        first = dashes >> 15 & 1;
        rest = &rest[16..];
    }
}

/// The names of a head.
fn names(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = head.split(|byte| *byte == b'\n').skip(1);
    lines.filter_map(|line| Some(&line[..memchr::memchr(b':', line)?]))
}

// === impl Kept ===

impl Kept {
    /// The spellings of a head that is not in Title-Case throughout.
    fn find(&mut self, head: &[u8]) -> Spelling {
        self.names.clear();
        names(head).filter(|name| !is_title_case(name)).for_each(|name| self.list(name));
        // The spellings of a name that comes several times are told apart by their order, so all of them are needed.
        if names(head).any(|name| is_title_case(name) && self.lists(name)) {
            self.names.clear();
            names(head).for_each(|name| self.list(name));
        }
        if let Some(known) = self.known.get(&self.names[..]) {
            return Spelling(known.clone());
        }
        if self.known.len() >= KEPT_MOST {
            self.known.clear();
        }
        let noted: Arc<[u8]> = self.names[..].into();
        self.known.insert(noted.clone());
        Spelling(noted)
    }

    fn list(&mut self, name: &[u8]) {
        self.names.extend_from_slice(name);
        self.names.push(b'\n');
    }

    fn lists(&self, name: &[u8]) -> bool {
        self.names.split(|byte| *byte == b'\n').any(|listed| listed.eq_ignore_ascii_case(name))
    }
}

/// The names of a spelling, each for one line.
struct Noted<'s> {
    spelling: &'s Spelling,
    /// One bit for each name that has had its line.
    taken: u64,
    /// Where the name stands that probably comes next, and its number.
    next: (usize, u32),
}

impl<'s> Noted<'s> {
    fn new(spelling: &'s Spelling) -> Noted<'s> {
        Noted { spelling, taken: 0, next: (0, 0) }
    }

    /// Spells `name` as the first name was that is its and has had no line, if there is one.
    fn spell(&mut self, name: &mut [u8]) {
        let Some(from) = self.find(self.next, name).or_else(|| self.find((0, 0), name)) else { return };
        let (start, number) = from;
        name.copy_from_slice(&self.spelling.0[start..start + name.len()]);
        self.taken |= 1 << number;
        self.next = (start + name.len() + 1, number + 1);
    }

    /// The first of those from `(start, number)` on that is `name` and has had no line.
    fn find(&self, (mut start, mut number): (usize, u32), name: &[u8]) -> Option<(usize, u32)> {
        while number < NAMES_MOST {
            let rest = self.spelling.0.get(start..)?;
            let length = memchr::memchr(b'\n', rest)?;
            if length == name.len()
                && self.taken & 1 << number == 0
                && rest[..length].eq_ignore_ascii_case(name)
            {
                return Some((start, number));
            }
            (start, number) = (start + length + 1, number + 1);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::intake::Intake;
    use crate::gateway::scan::{AnswerScanner, Asked, Limits};
    use tokio::io::ReadBuf;

    /// These names as they go out.
    fn written(spelling: Option<&Spelling>, names: &[&str]) -> String {
        let lines: String = names.iter().map(|name| format!("{name}: a-b:c-d\r\n")).collect();
        let mut lines = (lines + "\r\na-body: x\r\n").into_bytes();
        spell(&mut lines, spelling);
        String::from_utf8(lines).expect("ASCII")
    }

    /// What the scanners find in `head`, which comes in pieces.
    fn scanned(head: &[u8], pieces: &[usize]) -> Option<Spelling> {
        let mut requests = Intake::of_requests(Limits::DEFAULT, false);
        let mut answers = Intake::of_answers(AnswerScanner::new(Limits::DEFAULT));
        answers.scanner().asks(Asked::default());
        let (mut rest, mut found) = (head, None);
        for &size in pieces {
            let piece;
            (piece, rest) = rest.split_at(size);
            let mut bytes = vec![0; head.len()];
            let mut buf = ReadBuf::new(&mut bytes);
            buf.put_slice(piece);
            let (stop, spelling) = if head.starts_with(b"HTTP/") {
                (answers.came(&mut buf, 0), answers.spelling())
            } else {
                (requests.came(&mut buf, 0), requests.spelling())
            };
            assert_eq!(stop, None);
            found = found.or(spelling);
        }
        found
    }

    fn spelling(head: &str) -> Option<Spelling> {
        scanned(head.as_bytes(), &[head.len()])
    }

    #[test]
    fn names_in_title_case_need_no_note() {
        assert!(spelling("GET / HTTP/1.1\r\nHost: x\r\nX-Request-Id: 1\r\nX-2: aB:c\r\n\r\n").is_none());
        assert!(spelling("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nbody: x").is_none());
    }

    #[test]
    fn title_case_begins_each_word_with_a_capital() {
        let capitals = |name: &str| {
            let mut first = true;
            let letter = |byte: u8| {
                let spelled = if first { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() };
                first = byte == b'-';
                spelled
            };
            name.bytes().map(letter).collect::<Vec<u8>>()
        };
        let long = "Abcdefghijklmno-Pqrstuvwxyz-0-A_b.c-D";
        for name in ["A", "a", "ETag", "Etag", "X-A", "X-a", "x-A", "-", "A-", "--A", "0a", "0A", "TE", long]
        {
            let spelled = String::from_utf8(capitals(name)).expect("ASCII");
            let out = format!("{spelled}: a-b:c-d\r\n\r\na-body: x\r\n");
            assert_eq!(written(None, &[&name.to_ascii_lowercase()]), out);
            for text in [name.to_owned(), format!("{name}: vV-v"), format!("{name}:{}", "x".repeat(40))] {
                assert_eq!(is_title_case(text.as_bytes()), capitals(name) == name.as_bytes(), "{text}");
            }
        }
        for at in 0..long.len() {
            let mut other = long.as_bytes().to_vec();
            other[at] ^= 0x20;
            let is_letter = long.as_bytes()[at].is_ascii_alphabetic();
            assert!(!is_letter || !is_title_case(&other), "{at}");
        }
    }

    #[test]
    fn every_other_spelling_goes_out_as_it_came() {
        let head = "POST / HTTP/1.1\r\nhost: x\r\nSOAPAction: b\r\ncontent-length: 3\r\nETag: e\r\nVia: v\r\n\r\nabc";
        let spelling = spelling(head).expect("noted");
        let written = written(
            Some(&spelling),
            &["x-added", "etag", "soapaction", "via", "host", "a-name-of-more-than-16"],
        );
        let names = ["X-Added", "ETag", "SOAPAction", "Via", "host", "A-Name-Of-More-Than-16"];
        let expected: String = names.iter().map(|name| format!("{name}: a-b:c-d\r\n")).collect();
        assert_eq!(written, expected + "\r\na-body: x\r\n");
    }

    #[test]
    fn lines_of_one_name_keep_a_spelling_each() {
        let spelling =
            spelling("GET / HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nX-B: 1\r\nx-a: 2\r\n\r\n").expect("noted");
        let written = written(Some(&spelling), &["x-a", "x-a", "x-a", "x-b"]);
        assert!(written.starts_with("X-A: a-b:c-d\r\nx-a: a-b:c-d\r\nX-A: a-b:c-d\r\nX-B: "), "{written}");
    }

    #[test]
    fn more_names_than_are_noted_go_out_in_title_case() {
        let names: Vec<String> = (0..90).map(|n| format!("x-{n}")).collect();
        let lines: String = names.iter().map(|name| format!("{name}: 1\r\n")).collect();
        let spelling = spelling(&format!("GET / HTTP/1.1\r\n{lines}Host: x\r\n\r\n")).expect("noted");
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let written = written(Some(&spelling), &names);
        assert!(written.contains("\r\nx-63: ") && written.contains("\r\nX-64: "), "{written}");
    }

    #[test]
    fn lines_without_a_colon_or_an_end_are_left_as_they_are() {
        for text in ["", "a", "a-b", "\r\n", "\r\na: b", "a-b-c-d-e-f-g-h-"] {
            let mut lines = text.as_bytes().to_vec();
            spell(&mut lines, None);
            assert!(lines.eq_ignore_ascii_case(text.as_bytes()));
        }
    }

    #[test]
    fn a_head_may_come_in_any_pieces() {
        let answer =
            &b"HTTP/1.1 103 Early Hints\r\nx: 1\r\n\r\nHTTP/1.1 204 No Content\r\nServer: s\r\nETag: e\r\n\r\n"[..];
        let request = b"\r\nGET http://x/ HTTP/1.1\r\nHost: x\r\nETag: e\r\n\r\n";
        for head in [answer, request] {
            let whole = scanned(head, &[head.len()]).expect("noted");
            assert!(written(Some(&whole), &["etag", "x"]).starts_with("ETag: a-b:c-d\r\nX: "));
            for cut in 1..head.len() {
                let found = scanned(head, &[cut, head.len() - cut]).expect("noted");
                assert_eq!(found, whole, "{cut}");
            }
            assert!(scanned(head, &vec![1; head.len()]).is_some());
        }
    }

    #[test]
    fn only_the_head_that_the_bytes_begin_with_is_noted_of_several_requests() {
        let (plain, odd) = ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\nhost: x\r\n\r\n");
        assert!(spelling(&format!("{odd}{plain}")).is_some());
        assert!(spelling(&format!("{plain}{odd}")).is_none());
    }

    #[test]
    fn a_head_that_is_too_large_is_not_looked_at() {
        let head = |length| format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", "x".repeat(length));
        assert!(of(head(HEAD_BYTES_MOST - 100).as_bytes()).is_some());
        assert!(of(head(HEAD_BYTES_MOST).as_bytes()).is_none());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        for n in 0..2 * KEPT_MOST {
            assert!(of(format!("GET / HTTP/1.1\r\nx-{n}: 1\r\n\r\n").as_bytes()).is_some());
            assert!(KEPT.with_borrow(|kept| kept.known.len()) <= KEPT_MOST);
        }
    }
}
