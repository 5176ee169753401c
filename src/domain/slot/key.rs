//! What slots and bookings are called in a store: keyed digests, like everything else there.

use crate::domain::fingerprint::FingerprintKey;
use crate::domain::ledger::Token;
use crate::domain::selector::Value;
use std::fmt;

/// Names one slot: a digest of the slot's name and of the values that tell it from others. A name shared by several routes
/// is one space.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotId(pub [u8; 16]);

/// One of the values that tell a slot from others, as a digest: enough to put a changed one in its place.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Part(pub [u8; 16]);

/// Names a booking within a slot's name: a digest of the id that the backend gave it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BookingId(pub [u8; 16]);

const SLOT: &[u8] = b"oncegate slot 1";
const PART: &[u8] = b"oncegate slot part 1";
const BOOKING: &[u8] = b"oncegate booking 1";
const ADOPTED: &[u8] = b"oncegate adopted 1";
const WITNESS: &[u8] = b"oncegate slot witness 1";

impl FingerprintKey {
    /// The digest of the value at place `at` of a slot's key.
    pub fn slot_part(&self, name: &str, at: usize, value: &Value) -> Part {
        let mut key = Vec::new();
        value.push_key(&mut key);
        Part(self.short(PART, &[name.as_bytes(), &(at as u64).to_be_bytes(), &key]))
    }

    /// The slot of that name whose key has these parts.
    pub fn slot_id(&self, name: &str, parts: &[Part]) -> SlotId {
        let mut fields = vec![name.as_bytes()];
        fields.extend(parts.iter().map(|part| &part.0[..]));
        SlotId(self.short(SLOT, &fields))
    }

    /// The booking `id` among those that hold slots of that name.
    pub fn booking_id(&self, name: &str, id: &str) -> BookingId {
        BookingId(self.short(BOOKING, &[name.as_bytes(), id.as_bytes()]))
    }

    /// The token of an adopted hold: the same for the same booking, so that adopting it twice is adopting it once. Bookings
    /// without an id are told apart by which of their slot they are, `nth` from zero.
    pub fn adopted_token(&self, slot: SlotId, booking: Option<BookingId>, nth: u64) -> Token {
        let (booking, nth) = (booking.map_or([0; 16], |booking| booking.0), nth.to_be_bytes());
        let mut fields = vec![&slot.0[..], &booking];
        if nth != [0; 8] {
            fields.push(&nth);
        }
        Token(u128::from_be_bytes(self.short(ADOPTED, &fields)))
    }

    /// Who may be told which booking holds a slot, where the caller has shown nothing but an address: whoever sends the
    /// very same request from there. An address is no credential, and its neighbours share it.
    pub fn slot_witness(&self, scope: &[u8], fingerprint: &[u8]) -> [u8; 16] {
        self.short(WITNESS, &[scope, fingerprint])
    }
}

macro_rules! hex {
    ($type:ty) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }
    };
}
hex!(SlotId);
hex!(Part);
hex!(BookingId);

impl std::str::FromStr for SlotId {
    type Err = &'static str;

    /// The 32 hex digits that `Display` writes.
    fn from_str(text: &str) -> Result<SlotId, &'static str> {
        const WRONG: &str = "a slot's id is 32 hexadecimal digits";
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(WRONG);
        }
        u128::from_str_radix(text, 16).map(|id| SlotId(id.to_be_bytes())).map_err(|_| WRONG)
    }
}
