//! Fields of a script's arguments in one piece, which `struct.unpack` takes apart, or `cmsgpack.unpack` where they stand as in
//! a record: a command's cost is mostly the number of its arguments, here and at the server.

/// See the module.
pub(super) struct Packed(Vec<u8>);

// === impl Packed ===

impl Packed {
    /// Nothing yet.
    pub(super) fn new() -> Packed {
        Packed(Vec::with_capacity(256))
    }

    /// Bytes of a length that the script knows: `c16` and the like.
    pub(super) fn fixed(mut self, bytes: &[u8]) -> Packed {
        self.0.extend_from_slice(bytes);
        self
    }

    /// `B`.
    pub(super) fn byte(self, byte: u8) -> Packed {
        self.fixed(&[byte])
    }

    /// `I8`; a script counts exactly to 2^53 and a little less exactly above it.
    pub(super) fn number(self, number: u64) -> Packed {
        self.fixed(&number.to_be_bytes())
    }

    /// `Bc0`: at most 255 bytes, what is longer is cut off.
    pub(super) fn short(self, bytes: &[u8]) -> Packed {
        let bytes = &bytes[..bytes.len().min(usize::from(u8::MAX))];
        self.byte(bytes.len() as u8).fixed(bytes)
    }

    /// A string of msgpack: at most 255 bytes, what is longer is cut off.
    pub(super) fn text(self, bytes: &[u8]) -> Packed {
        match bytes.len() {
            short @ 0..32 => self.byte(0xa0 | short as u8).fixed(bytes),
            _ => self.byte(0xd9).short(bytes),
        }
    }

    /// A truth of msgpack.
    pub(super) fn truth(self, truth: bool) -> Packed {
        self.byte(0xc2 + u8::from(truth))
    }

    /// The argument.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}
