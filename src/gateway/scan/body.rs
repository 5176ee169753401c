//! Where a body ends: after its length, or where its chunks do. The same for requests and for answers.

use super::block::Marks;
use super::chunk;
use super::cursor::Cursor;
use super::head::{Field, Framing};
use super::problem::Problem;

/// Bytes of a chunk's first line: the size and its extensions.
pub const CHUNK_LINE_BYTES_MAX: usize = 4 << 10;
/// Bytes of all trailers.
pub const TRAILERS_BYTES_MAX: usize = 8 << 10;
/// How many trailers.
pub const TRAILERS_MAX: usize = 64;

/// Follows one body.
#[derive(Clone, Debug, Default)]
pub(super) struct Body {
    state: State,
    cursor: Cursor,
    trailers: usize,
}

/// What comes next of a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing.
    #[default]
    Ended,
    /// So many bytes of a sized body.
    Sized(u64),
    /// The line before a chunk.
    ChunkLine,
    /// So many bytes of a chunk.
    Chunk(u64),
    /// The line end behind a chunk.
    ChunkEnd,
    /// The trailers and the empty line behind them.
    Trailers,
}

// === impl Body ===

impl Body {
    /// A body that begins with the next byte; whether there is one.
    pub fn begin(&mut self, framing: Framing) -> bool {
        self.state = match framing {
            Framing::None => State::Ended,
            Framing::Length(length) => State::Sized(length),
            Framing::Chunked => State::ChunkLine,
        };
        self.state != State::Ended
    }

    /// Whether all of it was read.
    pub fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Reads one part at the front of `rest`: its length, or `None` where it has not ended yet.
    pub fn part(&mut self, rest: &[u8]) -> Result<Option<usize>, Problem> {
        match self.state {
            State::Ended => Ok(Some(0)),
            State::Sized(left) => Ok(Some(self.skip(rest, left, State::Sized, State::Ended))),
            State::Chunk(left) => Ok(Some(self.skip(rest, left, State::Chunk, State::ChunkEnd))),
            State::ChunkLine => self.chunk_line(rest),
            State::ChunkEnd => self.chunk_end(rest),
            State::Trailers => self.trailers(rest),
        }
    }

    fn skip(&mut self, rest: &[u8], left: u64, more: fn(u64) -> State, done: State) -> usize {
        match usize::try_from(left) {
            Ok(left) if left <= rest.len() => {
                self.state = done;
                left
            }
            _ => {
                self.state = more(left - rest.len() as u64);
                rest.len()
            }
        }
    }

    fn chunk_line(&mut self, bytes: &[u8]) -> Result<Option<usize>, Problem> {
        let found = self.cursor.next(&mut Marks::new(bytes, self.cursor.searched), bytes)?;
        let length = found.map_or(bytes.len(), |(line, _)| line.len());
        if length > CHUNK_LINE_BYTES_MAX {
            return Err(Problem::ChunkExtension);
        }
        let Some((line, _)) = found else { return Ok(None) };
        self.state = match chunk::size(line)? {
            0 => State::Trailers,
            size => State::Chunk(size),
        };
        Ok(Some(self.cursor.take()))
    }

    fn chunk_end(&mut self, bytes: &[u8]) -> Result<Option<usize>, Problem> {
        match bytes {
            [b'\r', b'\n', ..] => {
                self.state = State::ChunkLine;
                Ok(Some(2))
            }
            [] | [b'\r'] => Ok(None),
            _ => Err(Problem::ChunkEnd),
        }
    }

    fn trailers(&mut self, bytes: &[u8]) -> Result<Option<usize>, Problem> {
        let mut marks = Marks::new(bytes, self.cursor.searched);
        while let Some((line, _)) = self.cursor.next(&mut marks, bytes)? {
            if self.cursor.line > TRAILERS_BYTES_MAX || self.trailers > TRAILERS_MAX {
                return Err(Problem::TrailersTooLarge);
            }
            if line.is_empty() {
                *self = Body { cursor: std::mem::take(&mut self.cursor), ..Body::default() };
                return Ok(Some(self.cursor.take()));
            }
            let field = Field::cut(line, self.trailers == 0)?;
            self.trailers += 1;
            if field.is_framing() {
                return Err(Problem::TrailerName);
            }
        }
        if bytes.len() > TRAILERS_BYTES_MAX { Err(Problem::TrailersTooLarge) } else { Ok(None) }
    }
}
