//! What a client is told: the frames that go out, as far as they answer streams and end them.

/// Follows the frames that go out, in whatever pieces they are written.
#[derive(Debug, Default)]
pub struct Told {
    begun: [u8; RESET_BYTES],
    have: usize,
    /// Bytes of a frame that say nothing here and are still to come.
    skip: usize,
}

/// One frame that went out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tells {
    /// The head of an answer, and more to come.
    Answers(u32),
    /// The end of an answer.
    Ends(u32),
    /// A stream is reset, for this reason.
    Resets(u32, u32),
    /// Anything else.
    Nothing,
}

/// A frame's own head.
const HEAD_BYTES: usize = 9;
/// The whole of RST_STREAM.
const RESET_BYTES: usize = HEAD_BYTES + 4;
const RST_STREAM: u8 = 0x3;

// === impl Told ===

impl Told {
    /// The next frame that begins in `bytes`, which are advanced; `None` at their end.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Option<Tells> {
        loop {
            let skipped = self.skip.min(bytes.len());
            *bytes = &bytes[skipped..];
            self.skip -= skipped;
            if bytes.is_empty() {
                return None;
            }
            let wanted = if self.have < HEAD_BYTES { HEAD_BYTES } else { RESET_BYTES };
            let taken = bytes.len().min(wanted - self.have);
            self.begun[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            *bytes = &bytes[taken..];
            self.have += taken;
            let whole = if self.begun[3] == RST_STREAM { RESET_BYTES } else { HEAD_BYTES };
            if self.have >= HEAD_BYTES && self.have == whole {
                return Some(self.take());
            }
        }
    }

    fn take(&mut self) -> Tells {
        let [a, b, c, kind, flags, d, e, f, g, code @ ..] = self.begun;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.skip = length.saturating_sub(self.have - HEAD_BYTES);
        self.have = 0;
        let stream = stream_of([d, e, f, g]);
        match kind {
            RST_STREAM => Tells::Resets(stream, u32::from_be_bytes(code)),
            0x0 | 0x1 if flags & 0x1 != 0 => Tells::Ends(stream),
            0x1 => Tells::Answers(stream),
            _ => Tells::Nothing,
        }
    }
}

/// The number of a stream in a frame's head.
pub fn stream_of(bytes: [u8; 4]) -> u32 {
    u32::from_be_bytes(bytes) & 0x7fff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_seen_in_any_pieces() {
        let all = [
            &[0, 0, 6, 4, 0, 0, 0, 0, 0, 3, 3, 3, 3, 3, 3][..],
            &[0, 0, 1, 1, 4, 0, 0, 0, 1, 0x88],
            &[0, 0, 2, 0, 1, 0, 0, 0, 1, b'o', b'k'],
            &[0, 0, 4, 3, 0, 0, 0, 0, 3, 0, 0, 0, 7],
            &[0, 0, 1, 1, 5, 0, 0, 0, 5, 0x88],
        ]
        .concat();
        let expected =
            [Tells::Nothing, Tells::Answers(1), Tells::Ends(1), Tells::Resets(3, 7), Tells::Ends(5)];
        for size in 1..=all.len() {
            let (mut told, mut seen) = (Told::default(), Vec::new());
            for mut piece in all.chunks(size) {
                while let Some(tells) = told.next(&mut piece) {
                    seen.push(tells);
                }
            }
            assert_eq!(seen, expected, "pieces of {size}");
        }
    }
}
