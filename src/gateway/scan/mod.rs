//! The scanner of client connections: it follows the framing of HTTP/1.1 in the bytes as they arrive, before hyper sees
//! them, and refuses every head and every chunk line that two readers could read in two ways.
//!
//! hyper drops `Content-Length` where `Transfer-Encoding` is present, a target's `#fragment`, and equal duplicates,
//! before any service could object; so the objection has to come from below it. The scanner owns that decision and
//! nothing else: it does no I/O, copies nothing, and what its bytes mean is hyper's to say. `LIFECYCLE.md` beside this
//! file draws its states.

mod answer;
mod authority;
mod block;
mod body;
mod bytes;
mod chunk;
mod cursor;
mod head;
mod http2;
mod problem;

pub use answer::{Asked, News, Scanner as AnswerScanner};
pub use body::{CHUNK_LINE_BYTES_MAX, TRAILERS_BYTES_MAX, TRAILERS_MAX};
pub use head::Framing;
pub use http2::check_http2;
pub use problem::Problem;

use block::Marks;
use body::Body;
use cursor::Cursor;
use head::{Head, LINE_BESIDES_TARGET};
use std::ops::Range;

/// How large a head may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the target.
    pub target_bytes: usize,
    /// Bytes of the whole head.
    pub head_bytes: usize,
    /// Header lines.
    pub headers: usize,
}

const _: () = assert!(Limits::DEFAULT.target_bytes + LINE_BESIDES_TARGET < Limits::DEFAULT.head_bytes);

/// Follows one client connection.
#[derive(Clone, Debug)]
pub struct Scanner {
    limits: Limits,
    state: State,
    cursor: Cursor,
    head: Head,
    framing: Framing,
    body: Body,
    heads: u64,
    /// The head that ended last has names that are not in Title-Case.
    is_odd: bool,
    spelled: Option<Range<usize>>,
}

/// Follows the bytes of one side of a connection.
pub trait Scan {
    /// Reads on. `bytes` begins with what the last call left unpassed, and ends with what came since.
    fn scan(&mut self, bytes: &[u8]) -> Progress;

    /// Where in the bytes of the last scan a head stands whose names are not in Title-Case throughout: of requests the one
    /// that these bytes begin with, of answers the final one. Said once.
    fn odd_head(&mut self) -> Option<Range<usize>>;
}

/// What comes next on the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A request line, or the rest of its head.
    Head,
    /// A body.
    Body,
    /// Nobody knows yet: a request of another protocol, or of HTTP/1.1 where the server does not agree.
    Undecided,
    /// Whatever comes is not HTTP/1.1 any more.
    Stopped,
    /// Nothing more is read.
    Refused(Stop),
}

/// How far a call of [`Scanner::scan`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// So many bytes from the front may be passed on. The rest is the beginning of something that has not ended yet:
    /// it is given again, with what follows it.
    pub passed: usize,
    /// Nothing behind `passed` may ever be passed on.
    pub stop: Option<Stop>,
}

/// Why, and where, a connection is not read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Between two messages: nothing of the refused one was passed on.
    Message(Problem),
    /// In the middle of a body whose head was passed on by an earlier call.
    Body(Problem),
}

// === impl Stop ===

impl Stop {
    /// What is wrong.
    pub fn problem(self) -> Problem {
        match self {
            Stop::Message(problem) | Stop::Body(problem) => problem,
        }
    }
}

// === impl Limits ===

impl Limits {
    /// 16 KiB of target, 64 KiB of head, and as many headers as hyper reads without an allocation: more would cost every
    /// request some 700 instructions.
    pub const DEFAULT: Limits = Limits { target_bytes: 16 << 10, head_bytes: 64 << 10, headers: 100 };
}

// === impl Scanner ===

impl Scanner {
    /// For a connection of which nothing was read yet.
    pub fn new(limits: Limits) -> Scanner {
        let (state, cursor, head) = (State::Head, Cursor::default(), Head::default());
        let (framing, body, heads) = (Framing::None, Body::default(), 0);
        Scanner { limits, state, cursor, head, framing, body, heads, is_odd: false, spelled: None }
    }

    /// See [`Scan::scan`].
    pub fn scan(&mut self, bytes: &[u8]) -> Progress {
        if let State::Refused(stop) = self.state {
            return Progress { passed: 0, stop: Some(stop) };
        }
        let mut passed = 0;
        // Where the message begins to which the byte at `passed` belongs, as far as it begins in `bytes`.
        let mut message = None;
        loop {
            let rest = &bytes[passed..];
            if self.state == State::Head {
                message = Some(passed);
            }
            match self.part(rest) {
                Ok(Some(length)) => {
                    if std::mem::take(&mut self.is_odd) && passed == 0 {
                        self.spelled = Some(0..length);
                    }
                    passed += length;
                }
                Ok(None) => return Progress { passed, stop: None },
                Err(problem) => {
                    // A bad chunk right behind its head takes the head with it, as long as nobody has seen that.
                    let stop = message.map_or(Stop::Body(problem), |_| Stop::Message(problem));
                    self.state = State::Refused(stop);
                    return Progress { passed: message.unwrap_or(passed), stop: Some(stop) };
                }
            }
            if passed == bytes.len() {
                return Progress { passed, stop: None };
            }
        }
    }

    /// Leaves whatever comes alone: behind a `101` or a preface it is not HTTP/1.1 any more.
    pub fn stop(&mut self) {
        self.state = State::Stopped;
    }

    /// How many heads were accepted.
    pub fn heads(&self) -> u64 {
        self.heads
    }

    /// How the body of the last accepted head ends.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Whether the next byte begins a request, or goes on in the head of one.
    pub fn is_between_messages(&self) -> bool {
        matches!(self.state, State::Head | State::Undecided)
    }

    /// Whether the last head asked for another protocol, so that nothing behind it can be read before its answer is known.
    pub fn is_undecided(&self) -> bool {
        self.state == State::Undecided
    }

    /// The last head's answer is no `101`: what comes behind it is HTTP/1.1.
    pub fn stays(&mut self) {
        if self.state == State::Undecided {
            self.state = State::Head;
        }
    }

    /// Reads one part at the front of `rest`: its length, or `None` where it has not ended yet.
    fn part(&mut self, rest: &[u8]) -> Result<Option<usize>, Problem> {
        match self.state {
            State::Head => self.head(rest),
            State::Body => self.body(rest),
            State::Undecided if rest.is_empty() => Ok(Some(0)),
            State::Undecided => Ok(None),
            State::Stopped => Ok(Some(rest.len())),
            State::Refused(stop) => Err(stop.problem()),
        }
    }

    fn head(&mut self, bytes: &[u8]) -> Result<Option<usize>, Problem> {
        let mut marks = Marks::new(bytes, self.cursor.searched);
        while let Some((line, place)) = self.cursor.next(&mut marks, bytes)? {
            if self.cursor.line > self.limits.head_bytes {
                return Err(self.too_large(line.len()));
            }
            if self.head.begun {
                if line.is_empty() {
                    return self.head_end(bytes).map(Some);
                }
                self.head.header(line, place, &self.limits)?;
            } else if !line.is_empty() {
                self.head.request_line(line, place, &self.limits)?;
            } else if std::mem::replace(&mut self.head.blank, true) {
                return Err(Problem::LeadingBytes);
            }
        }
        self.unfinished_head(&bytes[self.cursor.line..], bytes.len()).map(|()| None)
    }

    fn head_end(&mut self, bytes: &[u8]) -> Result<usize, Problem> {
        self.framing = self.head.end(bytes)?;
        if self.body.begin(self.framing) {
            self.state = State::Body;
        } else if self.head.upgrade {
            self.state = State::Undecided;
        }
        self.is_odd = std::mem::take(&mut self.head).is_odd;
        self.heads += 1;
        Ok(self.cursor.take())
    }

    /// What can be said before the end of a line came: most garbage has no lines, and nobody should wait for its end.
    fn unfinished_head(&self, line: &[u8], length: usize) -> Result<(), Problem> {
        if !self.head.begun {
            if !matches!(line, [] | [b'A'..=b'Z' | b'\r', ..]) {
                return Err(Problem::Method);
            }
            if line.len() > self.limits.target_bytes + LINE_BESIDES_TARGET {
                return Err(Problem::TargetTooLong);
            }
        }
        if length > self.limits.head_bytes { Err(self.too_large(line.len())) } else { Ok(()) }
    }

    fn too_large(&self, line_length: usize) -> Problem {
        let is_target = !self.head.begun && line_length > self.limits.target_bytes + LINE_BESIDES_TARGET;
        if is_target { Problem::TargetTooLong } else { Problem::HeadTooLarge }
    }

    fn body(&mut self, rest: &[u8]) -> Result<Option<usize>, Problem> {
        let part = self.body.part(rest);
        if self.body.has_ended() {
            self.state = State::Head;
        }
        part
    }
}

impl Scan for Scanner {
    fn scan(&mut self, bytes: &[u8]) -> Progress {
        Scanner::scan(self, bytes)
    }

    fn odd_head(&mut self) -> Option<Range<usize>> {
        self.spelled.take()
    }
}

#[cfg(test)]
mod tests;
