//! Where the frames of a WebSocket begin and end (RFC 6455, 5.2): enough to know where a close frame may be put between
//! them, and nothing of what is in them.

/// Follows one direction of a WebSocket.
#[derive(Debug, Default)]
pub struct Frames {
    /// The header of the frame that is coming in, as far as it came.
    header: [u8; 14],
    came: usize,
    /// Bytes of the present frame's payload that are still to come.
    left: u64,
    closed: bool,
}

/// Opcode of a close frame.
const CLOSE: u8 = 8;
/// `1001`: the other end goes away.
const GOING_AWAY: [u8; 2] = [0x03, 0xe9];

/// A close frame with status 1001, as a server sends it: without a mask.
pub const CLOSE_TO_CLIENT: [u8; 4] = [0x88, 2, GOING_AWAY[0], GOING_AWAY[1]];
/// The same as a client sends it: with a mask, which need not be secret here.
pub const CLOSE_TO_SERVER: [u8; 8] = [0x88, 0x82, 1, 2, 3, 4, GOING_AWAY[0] ^ 1, GOING_AWAY[1] ^ 2];

// === impl Frames ===

impl Frames {
    /// Reads on.
    pub fn came(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left -= count as u64;
                bytes = &bytes[count..];
                continue;
            }
            self.header[self.came] = bytes[0];
            self.came += 1;
            bytes = &bytes[1..];
            if self.came >= 2 && self.came == self.header_length() {
                self.closed |= self.header[0] & 0xf == CLOSE;
                self.left = self.payload_length();
                self.came = 0;
            }
        }
    }

    /// Whether the next byte begins a frame.
    pub fn is_between(&self) -> bool {
        self.came == 0 && self.left == 0
    }

    /// Whether a close frame has come.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    fn header_length(&self) -> usize {
        let length = match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + if self.header[1] & 0x80 != 0 { 4 } else { 0 }
    }

    fn payload_length(&self) -> u64 {
        let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        match self.header[1] & 0x7f {
            126 => number(&self.header[2..4]),
            127 => number(&self.header[2..10]),
            length => u64::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(opcode: u8, payload: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut frame = vec![0x80 | opcode];
        match payload {
            0..126 => frame.push(mask | payload as u8),
            126..65_536 => {
                frame.push(mask | 126);
                frame.extend((payload as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend((payload as u64).to_be_bytes());
            }
        }
        if masked {
            frame.extend([1, 2, 3, 4]);
        }
        frame.extend(vec![0x88; payload]);
        frame
    }

    #[test]
    fn ends_of_frames_are_found_however_they_come() {
        let frames: Vec<Vec<u8>> = [0, 1, 125, 126, 65_535, 65_536]
            .into_iter()
            .flat_map(|payload| [frame(1, payload, true), frame(2, payload, false)])
            .collect();
        for size in [1, 7, 1 << 20] {
            let mut follower = Frames::default();
            for frame in &frames {
                let (last, front) = frame.split_last().expect("a frame");
                front.chunks(size).for_each(|piece| follower.came(piece));
                assert!(!follower.is_between());
                follower.came(&[*last]);
                assert!(follower.is_between() && !follower.is_closed());
            }
            follower.came(&frame(CLOSE, 2, true));
            assert!(follower.is_closed());
        }
    }

    #[test]
    fn our_own_close_frames_are_frames() {
        for close in [&CLOSE_TO_CLIENT[..], &CLOSE_TO_SERVER] {
            let mut follower = Frames::default();
            follower.came(close);
            assert!(follower.is_between() && follower.is_closed());
        }
    }
}
