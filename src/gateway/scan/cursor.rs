//! Lines, found in bytes that come in pieces.

use super::block::Marks;
use super::problem::Problem;

/// The line that is being read, in the bytes that were not passed on yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Cursor {
    /// Where it begins.
    pub line: usize,
    /// Up to where its end was looked for, so that a line which trickles in is searched only once.
    pub searched: usize,
    /// A bare LF ends a line, too.
    pub bare_lf: bool,
}

// === impl Cursor ===

impl Cursor {
    /// The next line without its end, and where it begins; `None` where its end has not come. `marks` are those of
    /// `bytes`, from where the search begins.
    #[inline(always)]
    pub fn next<'b>(
        &mut self,
        marks: &mut Marks<'b>,
        bytes: &'b [u8],
    ) -> Result<Option<(&'b [u8], usize)>, Problem> {
        loop {
            let Some(at) = marks.next() else {
                self.searched = bytes.len();
                return Ok(None);
            };
            if bytes[at..].starts_with(b"\r\n") {
                marks.pass();
                let place = std::mem::replace(&mut self.line, at + 2);
                self.searched = self.line;
                return Ok(Some((&bytes[place..at], place)));
            }
            match (bytes[at], bytes.len() - at) {
                (b'\t', _) => {}
                (b'\n', _) if self.bare_lf => {
                    let place = std::mem::replace(&mut self.line, at + 1);
                    self.searched = self.line;
                    return Ok(Some((&bytes[place..at], place)));
                }
                // What comes next decides.
                (b'\r', 1) => {
                    self.searched = at;
                    return Ok(None);
                }
                (byte, _) => return Err(Cursor::problem(byte)),
            }
        }
    }

    #[cold]
    fn problem(byte: u8) -> Problem {
        match byte {
            0 => Problem::Nul,
            b'\r' => Problem::BareCr,
            b'\n' => Problem::BareLf,
            _ => Problem::Control,
        }
    }

    /// The part ended with the last line: its length. What follows begins at the front again.
    pub fn take(&mut self) -> usize {
        let bare_lf = self.bare_lf;
        std::mem::replace(self, Cursor { bare_lf, ..Cursor::default() }).line
    }
}
