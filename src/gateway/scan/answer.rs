//! The scanner of connections to servers: the same care for answers. An answer with two readings is never passed on, and
//! bytes that belong to no answer end their connection before they can be taken for the next one's.

use super::block::Marks;
use super::body::Body;
use super::bytes::trimmed;
use super::cursor::Cursor;
use super::head::{Field, Framing, length};
use super::problem::Problem;
use super::{Limits, Progress, Scan, Stop};
use std::ops::Range;

/// Interim answers (`1xx`) before one that is final.
const INTERIMS_MAX: u32 = 32;
/// What a status line has before its reason: version, space, three digits.
const STATUS_LINE_FRONT: usize = 12;

/// What of a request decides how its answer is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// `HEAD`: the answer has no body, whatever its head says.
    pub head: bool,
    /// An upgrade was asked for, so that `101` may come.
    pub upgrade: bool,
    /// `Expect: 100-continue`: somebody waits for the server's word.
    pub expects: bool,
}

/// Follows one connection to a server.
#[derive(Clone, Debug)]
pub struct Scanner {
    limits: Limits,
    state: State,
    cursor: Cursor,
    head: Head,
    body: Body,
    asked: Asked,
    interims: u32,
    /// No further request may go out on this connection.
    spent: bool,
    news: News,
    /// The head that ended last is a final one with names that are not in Title-Case.
    is_odd: bool,
    spelled: Option<Range<usize>>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing: nobody has asked.
    Rest,
    /// A status line, or the rest of its head.
    Head,
    /// A body.
    Body,
    /// A body that ends with the connection.
    UntilClose,
    /// Whatever comes is not HTTP/1.1 any more.
    Switched,
    /// Nothing more is read.
    Refused(Stop),
}

/// What has been read of a head.
#[derive(Clone, Debug, Default)]
struct Head {
    begun: bool,
    status: u16,
    is_11: bool,
    headers: usize,
    /// A name was met that is not in Title-Case.
    is_odd: bool,
    length: Option<u64>,
    chunked: bool,
}

/// What was met since the last look.
#[derive(Clone, Debug, Default)]
pub struct News {
    /// The server said `100 Continue`.
    pub goes_on: bool,
    /// The final answer's head has come, and somebody waits for it.
    pub answered: bool,
    /// Other interim answers, heads as they came, one behind the other.
    pub interims: Vec<u8>,
}

// === impl Scanner ===

impl Scanner {
    /// For a connection that was just made.
    pub fn new(limits: Limits) -> Scanner {
        let (cursor, head, body) = (Cursor::default(), Head::default(), Body::default());
        let (asked, news) = (Asked::default(), News::default());
        let (state, interims, spent, is_odd, spelled) = (State::Rest, 0, false, false, None);
        Scanner { limits, state, cursor, head, body, asked, interims, spent, news, is_odd, spelled }
    }

    /// The same, of a server whose heads may end lines with a bare LF. hyper reads them so anyway, and writes CRLF: to the
    /// client they have one reading.
    pub fn of_bare_lf(limits: Limits) -> Scanner {
        let mut scanner = Scanner::new(limits);
        scanner.cursor.bare_lf = true;
        scanner
    }

    /// A request begins to go out: what comes from now on is its answer.
    pub fn asks(&mut self, asked: Asked) {
        if self.state == State::Rest {
            (self.state, self.asked, self.interims) = (State::Head, asked, 0);
        }
    }

    /// Whether no further request may go out: its answer could not be told from what this one may still bring.
    pub fn is_spent(&self) -> bool {
        self.spent
    }

    /// Whether the server switched to another protocol.
    pub fn has_switched(&self) -> bool {
        self.state == State::Switched
    }

    /// Whether all of the answer was read, and nothing else has come.
    pub fn is_at_rest(&self) -> bool {
        self.state == State::Rest
    }

    /// What was met since the last call; `None` where that is nothing.
    pub fn news(&mut self) -> Option<News> {
        let News { goes_on, answered, interims } = &self.news;
        (*goes_on || *answered || !interims.is_empty()).then(|| std::mem::take(&mut self.news))
    }

    /// Reads one part at the front of `rest`: its length, or `None` where it has not ended yet.
    fn part(&mut self, rest: &[u8]) -> Result<Option<usize>, Problem> {
        match self.state {
            State::Rest if rest.is_empty() => Ok(Some(0)),
            State::Rest => Err(Problem::Unsolicited),
            State::Head => self.head(rest),
            State::Body => {
                let part = self.body.part(rest);
                if self.body.has_ended() {
                    self.state = State::Rest;
                }
                part
            }
            State::UntilClose | State::Switched => Ok(Some(rest.len())),
            State::Refused(stop) => Err(stop.problem()),
        }
    }

    fn head(&mut self, bytes: &[u8]) -> Result<Option<usize>, Problem> {
        let mut marks = Marks::new(bytes, self.cursor.searched);
        while let Some((line, _)) = self.cursor.next(&mut marks, bytes)? {
            if self.cursor.line > self.limits.head_bytes {
                return Err(Problem::HeadTooLarge);
            }
            if !self.head.begun {
                self.head.status_line(line)?;
            } else if !line.is_empty() {
                self.head.header(line, &self.limits)?;
            } else {
                let length = self.cursor.take();
                return self.head_end(&bytes[..length]).map(|()| Some(length));
            }
        }
        // Most of what is no answer has no lines; nobody should wait for their end.
        if !self.head.begun && !is_status_line_front(bytes) {
            return Err(Problem::StatusLine);
        }
        if bytes.len() > self.limits.head_bytes { Err(Problem::HeadTooLarge) } else { Ok(None) }
    }

    fn head_end(&mut self, head: &[u8]) -> Result<(), Problem> {
        let Head { status, is_11, length, chunked, is_odd, .. } = std::mem::take(&mut self.head);
        match (chunked, length) {
            (true, Some(_)) => return Err(Problem::LengthAndCoding),
            (true, None) if !is_11 => return Err(Problem::CodingOn10),
            _ => {}
        }
        let announces = chunked || length.is_some_and(|length| length > 0);
        match status {
            100..=199 if announces => return Err(Problem::InterimBody),
            101 if self.asked.upgrade => {
                self.is_odd = is_odd;
                (self.state, self.spent, self.news.answered) = (State::Switched, true, true);
                return Ok(());
            }
            101 => return Err(Problem::Switched),
            100..=199 => return self.interim(status, head),
            _ => {}
        }
        (self.news.answered, self.is_odd) = (self.asked.expects, is_odd);
        self.state = State::Rest;
        if self.asked.head || matches!(status, 204 | 304) {
            // RFC 9112, 6.3: it ends here, whatever it announces. A server that sends the body all the same must not be
            // asked again on this connection.
            self.spent |= announces;
            return Ok(());
        }
        match length {
            _ if chunked => drop(self.body.begin(Framing::Chunked)),
            Some(0) => return Ok(()),
            Some(length) => drop(self.body.begin(Framing::Length(length))),
            None => {
                (self.state, self.spent) = (State::UntilClose, true);
                return Ok(());
            }
        }
        self.state = State::Body;
        Ok(())
    }

    fn interim(&mut self, status: u16, head: &[u8]) -> Result<(), Problem> {
        self.interims += 1;
        if self.interims > INTERIMS_MAX || self.news.interims.len() + head.len() > self.limits.head_bytes {
            return Err(Problem::Interims);
        }
        match status {
            100 => self.news.goes_on = true,
            _ => self.news.interims.extend_from_slice(head),
        }
        Ok(())
    }
}

impl Scan for Scanner {
    fn odd_head(&mut self) -> Option<Range<usize>> {
        self.spelled.take()
    }

    fn scan(&mut self, bytes: &[u8]) -> Progress {
        let mut passed = 0;
        // Where the answer begins to which the byte at `passed` belongs, as far as it begins in `bytes`.
        let mut message = None;
        loop {
            if matches!(self.state, State::Head | State::Rest) {
                message = Some(passed);
            }
            match self.part(&bytes[passed..]) {
                Ok(Some(length)) => {
                    if std::mem::take(&mut self.is_odd) {
                        self.spelled = Some(passed..passed + length);
                    }
                    passed += length;
                }
                Ok(None) => return Progress { passed, stop: None },
                Err(problem) => {
                    // A bad chunk right behind its head takes the head with it, as long as nobody has seen that.
                    let stop = message.map_or(Stop::Body(problem), |_| Stop::Message(problem));
                    (self.state, self.spent) = (State::Refused(stop), true);
                    return Progress { passed: message.unwrap_or(passed), stop: Some(stop) };
                }
            }
            if passed == bytes.len() {
                return Progress { passed, stop: None };
            }
        }
    }
}

// === impl Head ===

impl Head {
    fn status_line(&mut self, line: &[u8]) -> Result<(), Problem> {
        let (front, reason) = line.split_at_checked(STATUS_LINE_FRONT).ok_or(Problem::StatusLine)?;
        if !is_status_line_front(front) || !matches!(reason.first(), None | Some(b' ')) {
            return Err(Problem::StatusLine);
        }
        let digit = |at: usize| u16::from(front[at] - b'0');
        self.is_11 = front[7] == b'1';
        self.status = digit(9) * 100 + digit(10) * 10 + digit(11);
        self.begun = true;
        Ok(())
    }

    #[inline]
    fn header(&mut self, line: &[u8], limits: &Limits) -> Result<(), Problem> {
        let field = Field::cut(line, self.headers == 0)?;
        self.headers += 1;
        self.is_odd |= field.is_odd;
        if self.headers > limits.headers {
            return Err(Problem::TooManyHeaders);
        }
        field.without_look_alikes()?;
        match field.name.len() {
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
}

/// Whether `bytes` begin as a status line does, as far as they go.
fn is_status_line_front(bytes: &[u8]) -> bool {
    let front = &bytes[..bytes.len().min(STATUS_LINE_FRONT)];
    front.iter().enumerate().all(|(at, &byte)| match at {
        0..7 => byte == b"HTTP/1."[at],
        7 => matches!(byte, b'0' | b'1'),
        8 => byte == b' ',
        9 => matches!(byte, b'1'..=b'9'),
        _ => byte.is_ascii_digit(),
    })
}
