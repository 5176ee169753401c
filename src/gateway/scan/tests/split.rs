//! Where a network cuts the bytes makes no difference.

use super::{Framing, feed};
use crate::gateway::scan::{Limits, Scanner};

/// Requests of every framing, pipelined.
const MESSAGES: &[u8] = b"GET /a?b HTTP/1.1\r\nHost: a.example:80\r\nAccept: */*\r\nCookie: a=b; c=d\r\n\r\n\
    \r\nPOST http://a/b HTTP/1.1\r\nhost:a\r\nContent-Length: 12\r\n\r\nGET / HTTP/1\
    PUT /c HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: Chunked\r\n\r\n5;x=\"y;\"\r\n\r\n0\r\n\r\n1\r\nz\r\n0\r\nT: u\r\n\r\n\
    OPTIONS * HTTP/1.0\r\n\r\n";

#[test]
fn two_pieces_give_what_one_gives_wherever_they_are_cut() {
    for cut in 0..=MESSAGES.len() {
        let mut scanner = Scanner::new(Limits::DEFAULT);
        let (passed, stop) = feed(&mut scanner, &[&MESSAGES[..cut], &MESSAGES[cut..]]);
        assert_eq!((passed, stop), (MESSAGES.to_vec(), None), "cut at {cut}");
        assert_eq!((scanner.heads(), scanner.framing()), (4, Framing::None));
        assert!(scanner.is_between_messages());
    }
}

#[test]
fn single_bytes_give_the_same() {
    let mut scanner = Scanner::new(Limits::DEFAULT);
    let pieces: Vec<&[u8]> = MESSAGES.chunks(1).collect();
    assert_eq!(feed(&mut scanner, &pieces), (MESSAGES.to_vec(), None));
    assert_eq!(scanner.heads(), 4);
}

#[test]
fn a_head_passes_only_when_it_is_whole_and_a_body_as_it_comes() {
    let mut scanner = Scanner::new(Limits::DEFAULT);
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n";
    for cut in 0..head.len() {
        assert_eq!(scanner.scan(&head[..cut]).passed, 0, "{cut}");
    }
    assert_eq!(scanner.scan(head).passed, head.len());
    assert_eq!(scanner.framing(), Framing::Length(9));
    assert_eq!(scanner.scan(b"abcd").passed, 4);
    assert_eq!(scanner.scan(b"efghiGET").passed, 5, "the next head waits");
}

#[test]
fn a_line_that_trickles_in_is_searched_only_once() {
    let mut scanner = Scanner::new(Limits::DEFAULT);
    let mut text = b"GET / HTTP/1.1\r\nHost: a\r\nA: ".to_vec();
    while text.len() < 60 << 10 {
        text.push(b'a');
        assert_eq!(scanner.scan(&text).passed, 0);
        assert_eq!(scanner.cursor.searched, text.len());
    }
    text.extend_from_slice(b"\r\n\r\n");
    assert_eq!(scanner.scan(&text).passed, text.len());
}

#[test]
fn garbage_without_lines_is_refused_at_its_first_byte() {
    for garbage in [&b"\x16\x03\x01\x02\x00"[..], b"\0", b"\x80", b"a", b" ", b"{", b"GET /\0", b"GET / \x01"]
    {
        assert!(super::refusal(garbage).is_some(), "{garbage:?}");
    }
}

#[test]
fn a_refused_connection_stays_refused() {
    for bad in [&b"\0"[..], b"a", b"get / HTTP/1.1\r\n\r\n"] {
        let mut scanner = Scanner::new(Limits::DEFAULT);
        let first = scanner.scan(bad);
        assert!(first.stop.is_some());
        assert_eq!(scanner.scan(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), first);
    }
}

#[test]
fn a_stopped_scanner_lets_everything_pass() {
    let mut scanner = Scanner::new(Limits::DEFAULT);
    scanner.stop();
    assert_eq!(scanner.scan(b"\0\n\r whatever").passed, 12);
    assert!(!scanner.is_between_messages());
}
