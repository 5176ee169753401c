//! Numbers as text of one length: ids, and the names of owners.

/// The digits that [`digits`] makes of a number.
pub const DIGITS: usize = 16;

/// The hexadecimal digits of `number`, in lower case, with zeros in front.
pub fn digits(number: u64) -> [u8; DIGITS] {
    std::array::from_fn(|at| b"0123456789abcdef"[(number >> (60 - 4 * at)) as usize & 15])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_ever() {
        for number in [0, 1, 0xf, 0x10, 0x0123_4567_89ab_cdef, u64::MAX] {
            assert_eq!(digits(number), format!("{number:016x}").as_bytes());
        }
    }
}
