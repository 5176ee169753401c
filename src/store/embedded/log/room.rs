//! Where in the log there is room.

/// What a small note may leave unused at the end of a segment.
const SLACK: u64 = 2048;

/// Unwritten bytes of a segment.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Room {
    /// The segment's number.
    pub(in super::super) segment: u32,
    /// The first unwritten byte.
    pub(in super::super) at: u64,
    /// The segment's length.
    pub(in super::super) end: u64,
}

// === impl Room ===

impl Room {
    /// Bytes that are sure to find room in it.
    pub(in super::super) fn bytes(self) -> u64 {
        (self.end - self.at).saturating_sub(SLACK)
    }
}
