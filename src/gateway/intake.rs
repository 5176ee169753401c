//! Between a socket and hyper: hands over what the scanner accepted, holds what has not ended yet, and, of a client's
//! connection, puts a stand-in in the place of a head that is refused.
//!
//! The stand-in is the simplest way to answer in order: to hyper it is one more pipelined request, so its answer goes
//! out behind those of the requests before it, is counted and logged as every refusal is, and ends the connection. Its
//! method is one that the scanner lets through from nobody.

use super::scan::{AnswerScanner, Limits, Problem, Scan, Scanner, Stop};
use super::spelling::{self, Spelling};
use http::request::Parts;
use tokio::io::ReadBuf;

/// What hyper reads instead of a refused head.
const STAND_IN: &[u8] = b"- / HTTP/1.1\r\nConnection: close\r\n\r\n";
/// The method of [`STAND_IN`].
const STAND_IN_METHOD: &str = "-";

/// The bytes of one connection on their way to hyper.
pub struct Intake<S> {
    scanner: S,
    /// What hyper reads instead of a refused head.
    stand_in: &'static [u8],
    /// What cannot be handed over at once: parts that have not ended, and what did not fit hyper's buffer.
    held: Vec<u8>,
    /// So many bytes of `held` were handed over.
    handed: usize,
    /// So many bytes of `held` may be handed over.
    cleared: usize,
    stop: Option<Stop>,
    preface: Preface,
    spelling: Option<Spelling>,
}

/// The preface of HTTP/2, in the place of a connection's first request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Preface {
    /// It is an error, or it is too late for it.
    Refused,
    /// It may come.
    Allowed,
    /// It came: everything is held.
    Came,
}

/// Of a client that speaks HTTP/2 (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whether `parts` are a stand-in's.
pub fn is_stand_in(parts: &Parts) -> bool {
    parts.method.as_str() == STAND_IN_METHOD
}

// === impl Intake ===

impl Intake<Scanner> {
    /// For a client's connection; `http2` where it may begin with the preface of HTTP/2.
    pub fn of_requests(limits: Limits, http2: bool) -> Intake<Scanner> {
        let preface = if http2 { Preface::Allowed } else { Preface::Refused };
        Intake { preface, ..Intake::new(Scanner::new(limits), STAND_IN) }
    }

    /// The server has not switched: what was held because nobody knew is a request, or begins one.
    pub fn resume(&mut self) {
        self.scanner.stays();
        if self.held.len() == self.handed {
            return;
        }
        let progress = self.scanner.scan(&self.held[self.handed..]);
        let passed = self.handed + progress.passed;
        self.spelling =
            self.scanner.odd_head().and_then(|head| spelling::of(&self.held[self.handed..][head]));
        self.cleared = passed;
        if let Some(stop) = progress.stop {
            self.held.truncate(passed);
            self.stopped(stop, Some(false));
        }
    }
}

impl Intake<AnswerScanner> {
    /// For a connection to a server. Nothing stands in for its answers: who waits for them is told by an error.
    pub fn of_answers(scanner: AnswerScanner) -> Intake<AnswerScanner> {
        Intake::new(scanner, b"")
    }
}

impl<S: Scan> Intake<S> {
    fn new(scanner: S, stand_in: &'static [u8]) -> Intake<S> {
        let preface = Preface::Refused;
        let (held, spelling) = (Vec::new(), None);
        Intake { scanner, stand_in, held, handed: 0, cleared: 0, stop: None, preface, spelling }
    }

    /// Whether the connection began with the preface of HTTP/2.
    pub fn is_preface(&self) -> bool {
        self.preface == Preface::Came
    }

    /// Who reads along.
    pub fn scanner(&mut self) -> &mut S {
        &mut self.scanner
    }

    /// What was not handed over.
    pub fn into_held(mut self) -> Vec<u8> {
        self.held.split_off(self.handed)
    }

    /// Whether something is held that has not ended, or was not handed over.
    pub fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// How names are spelled in the head that came in, where they are not in Title-Case. Said once.
    pub fn spelling(&mut self) -> Option<Spelling> {
        self.spelling.take()
    }

    /// Why nothing more is read, once that is so.
    pub fn stop(&self) -> Option<Stop> {
        self.stop
    }

    /// Hands over what was cleared and did not fit before; whether that was anything.
    pub fn hand_over(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let ready = &self.held[self.handed..self.cleared];
        let count = ready.len().min(buf.remaining());
        if count == 0 {
            return false;
        }
        buf.put_slice(&ready[..count]);
        self.handed += count;
        if self.handed == self.cleared {
            self.release();
        }
        true
    }

    /// Everything in `buf` behind `before` just came from the socket: what may go to hyper stays there. Only called
    /// when nothing is left to hand over.
    pub fn came(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> Option<Problem> {
        if self.held.is_empty() {
            self.came_alone(buf, before);
        } else {
            self.held.extend_from_slice(&buf.filled()[before..]);
            buf.set_filled(before);
            let progress = self.scanner.scan(&self.held);
            self.spelling = self.scanner.odd_head().and_then(|head| spelling::of(&self.held[head]));
            self.cleared = progress.passed;
            match progress.stop {
                Some(stop) => {
                    let preface = self.preface(&self.held, progress.passed, stop);
                    self.held.truncate(if preface == Some(false) { progress.passed } else { usize::MAX });
                    self.stopped(stop, preface);
                }
                None => self.passed(progress.passed),
            }
            self.hand_over(buf);
        }
        self.stop.map(Stop::problem)
    }

    /// The usual case: whole requests and parts of bodies stay where they are.
    fn came_alone(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let bytes = &buf.filled()[before..];
        let progress = self.scanner.scan(bytes);
        self.spelling = self.scanner.odd_head().and_then(|head| spelling::of(&bytes[head]));
        let passed = before + progress.passed;
        if let Some(stop) = progress.stop {
            let preface = self.preface(&buf.filled()[before..], progress.passed, stop);
            if preface != Some(false) {
                self.held.extend_from_slice(&buf.filled()[before..]);
            }
            buf.set_filled(passed);
            return self.stopped(stop, preface);
        }
        self.passed(progress.passed);
        if passed < buf.filled().len() {
            self.held.extend_from_slice(&buf.filled()[passed..]);
            buf.set_filled(passed);
        }
    }

    /// Whether what came first on this connection is for HTTP/2 to read: the preface, or three words without a slash,
    /// which is no line of HTTP/1.1 and so has nobody behind it who could read an answer in HTTP/1.1. `None` while it may
    /// become the preface.
    fn preface(&self, bytes: &[u8], passed: usize, stop: Stop) -> Option<bool> {
        let is_first = self.preface == Preface::Allowed && passed == 0;
        let no_line = || bytes.iter().take_while(|byte| **byte != b'\r').all(|byte| *byte != b'/');
        match stop.problem() {
            Problem::Http2Preface if is_first && bytes.len() < PREFACE.len() => {
                if PREFACE.starts_with(bytes) { None } else { Some(false) }
            }
            Problem::Http2Preface => Some(is_first && bytes.starts_with(PREFACE)),
            Problem::Version => Some(is_first && no_line()),
            _ => Some(false),
        }
    }

    /// Once something has passed, it is too late for a preface.
    fn passed(&mut self, count: usize) {
        if count > 0 {
            self.preface = Preface::Refused;
        }
    }

    /// A refused head is answered by its stand-in; a body that breaks off just ends. A preface that has not ended is
    /// looked at again when more of it came.
    fn stopped(&mut self, stop: Stop, preface: Option<bool>) {
        match preface {
            None => return,
            Some(true) => {
                (self.stop, self.preface) = (Some(stop), Preface::Came);
                return;
            }
            Some(false) => self.stop = Some(stop),
        }
        if let Stop::Message(_) = stop {
            self.held.extend_from_slice(self.stand_in);
        }
        self.cleared = self.held.len();
    }

    /// What was handed over goes; a connection at rest keeps no buffer.
    fn release(&mut self) {
        if self.handed == self.held.len() {
            self.held = Vec::new();
        } else {
            self.held.drain(..self.handed);
        }
        (self.handed, self.cleared) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `pieces` as reads of a socket, with room for so many bytes a read; what hyper gets.
    fn through(pieces: &[&[u8]], room: usize) -> (String, Option<Stop>) {
        let (mut intake, mut out) = (Intake::of_requests(Limits::DEFAULT, true), Vec::new());
        for piece in pieces.iter().flat_map(|piece| piece.chunks(room)) {
            let mut bytes = vec![0; room];
            let mut buf = ReadBuf::new(&mut bytes);
            if intake.stop().is_none() {
                buf.put_slice(piece);
                intake.came(&mut buf, 0);
            }
            out.extend_from_slice(buf.filled());
            loop {
                buf.clear();
                if !intake.hand_over(&mut buf) {
                    break;
                }
                out.extend_from_slice(buf.filled());
            }
        }
        (String::from_utf8_lossy(&out).into_owned(), intake.stop())
    }

    #[test]
    fn the_preface_of_http_2_is_kept_whole_and_only_at_the_very_beginning() {
        let begun = [PREFACE, b"\0\0\0\x04\0\0\0\0\0"].concat();
        for room in 1..=begun.len() {
            let mut intake = Intake::of_requests(Limits::DEFAULT, true);
            let mut behind = Vec::new();
            for piece in begun.chunks(room) {
                let mut bytes = vec![0; room];
                let mut buf = ReadBuf::new(&mut bytes);
                buf.put_slice(piece);
                if intake.is_preface() {
                    behind.extend_from_slice(piece);
                } else {
                    intake.came(&mut buf, 0);
                    assert!(buf.filled().is_empty(), "hyper sees none of it");
                }
            }
            assert!(intake.is_preface());
            let held = intake.into_held();
            assert_eq!([held, behind].concat(), begun, "in pieces of {room}");
        }
        let refused = Some(Stop::Message(Problem::Http2Preface));
        let other = [b"PRI * HTTP/2.0\r\nHost: a\r\n\r\n", GET.as_bytes()].concat();
        for room in 1..other.len() {
            assert_eq!(through(&[&other], room).1, refused, "no preface, in pieces of {room}");
            assert_eq!(through(&[GET.as_bytes(), PREFACE], room).1, refused, "too late, in pieces of {room}");
        }
        let mut intake = Intake::of_requests(Limits::DEFAULT, false);
        let mut bytes = PREFACE.to_vec();
        let mut buf = ReadBuf::new(&mut bytes);
        buf.set_filled(PREFACE.len());
        assert_eq!(intake.came(&mut buf, 0), Some(Problem::Http2Preface));
        assert!(!intake.is_preface());
    }

    const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

    #[test]
    fn what_is_accepted_passes_unchanged_however_it_comes() {
        let text = format!("{GET}{CHUNKED}3\r\nabc\r\n0\r\n\r\n{GET}");
        for room in 1..text.len() {
            assert_eq!(through(&[text.as_bytes()], room), (text.clone(), None), "in pieces of {room}");
        }
    }

    #[test]
    fn a_head_is_held_until_it_is_whole() {
        assert_eq!(through(&[GET.as_bytes(), b"GET / HTTP/1.1\r\nHost: a\r\n"], 1024).0, GET);
    }

    #[test]
    fn a_refused_head_is_replaced_and_nothing_follows_it() {
        let stand_in = String::from_utf8_lossy(STAND_IN);
        for room in 1..64 {
            let (out, stop) = through(&[GET.as_bytes(), b"GET /x\0 HTTP/1.1\r\n", GET.as_bytes()], room);
            assert_eq!(out, format!("{GET}{stand_in}"), "in pieces of {room}");
            assert_eq!(stop, Some(Stop::Message(Problem::Nul)));
        }
    }

    #[test]
    fn a_bad_chunk_that_comes_with_its_head_takes_the_head_with_it() {
        let text = format!("{GET}{CHUNKED}3\r\nabcd\r\n0\r\n\r\n");
        let stand_in = String::from_utf8_lossy(STAND_IN);
        assert_eq!(through(&[text.as_bytes()], 1024).0, format!("{GET}{stand_in}"));
    }

    #[test]
    fn a_bad_chunk_behind_a_head_that_passed_ends_the_bytes_there() {
        let (out, stop) = through(&[CHUNKED.as_bytes(), b"3\r\nabcd\r\n0\r\n\r\n"], 1024);
        assert_eq!(out, format!("{CHUNKED}3\r\nabc"));
        assert_eq!(stop, Some(Stop::Body(Problem::ChunkEnd)));
    }

    #[test]
    fn the_stand_ins_method_is_let_through_from_nobody() {
        let (out, stop) = through(&[STAND_IN], 1024);
        assert_eq!((out.as_bytes(), stop), (STAND_IN, Some(Stop::Message(Problem::Method))));
    }
}
