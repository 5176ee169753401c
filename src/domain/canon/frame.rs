//! Framing of byte strings, so that what is written one after another can be told apart, and the order of form fields.

/// Appends `field` behind its length (eight bytes, big end first): no two lists of fields give the same bytes.
pub(super) fn push_field(out: &mut Vec<u8>, field: &[u8]) {
    out.extend_from_slice(&(field.len() as u64).to_be_bytes());
    out.extend_from_slice(field);
}

/// What a form field's name is sorted by. Fields of one family keep the order in which they were sent, because some
/// backend sees them as one thing: `rows[][a]`, `rows[][b]` are rows built up in order, and `A.b`, `a_b` are one variable
/// where names are mangled or compared without case. Fields of different families have no order.
///
/// `None` for names that backends are known to disagree about.
pub(super) fn family(name: &[u8]) -> Option<Vec<u8>> {
    if !name.is_ascii() {
        // Whatever a backend folds or normalises in there, one family for all of them is on the safe side.
        return Some(vec![0xff]);
    }
    let base = match memchr::memchr(b'[', name) {
        Some(open) if memchr::memchr(b']', &name[open..]).is_some() => &name[..open],
        Some(_) => return None,
        None => name,
    };
    if base.iter().any(u8::is_ascii_control) {
        return None;
    }
    Some(
        base.trim_ascii()
            .iter()
            .map(|byte| if matches!(byte, b'.' | b' ') { b'_' } else { byte.to_ascii_lowercase() })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_backend_may_take_for_one_are_one_family() {
        let family = |name: &str| family(name.as_bytes());
        assert_eq!(family("rows[][a]"), family("rows[][b]"));
        assert_eq!(family("Rows"), family("rows[0]"));
        assert_eq!(family("a.b"), family("A_b"));
        assert_eq!(family(" a b"), family("a_b"));
        assert_eq!(family("é"), family("É"));
        assert_ne!(family("date"), family("doctor"));
        assert_eq!(family("a[b"), None);
        assert_eq!(family("a\0b"), None);
    }
}
