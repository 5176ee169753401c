//! Names of headers that decide where a message ends or who gets it: nothing may look like one, and no trailer may be one.

const FRAMING: [&[u8]; 10] = [
    b"content-length",
    b"transfer-encoding",
    b"host",
    b"connection",
    b"proxy-connection",
    b"keep-alive",
    b"te",
    b"trailer",
    b"upgrade",
    b"expect",
];

/// Whether `name` is one of them once every sign, and every run of them, is read as `-`.
pub fn is_framing(name: &[u8]) -> bool {
    let dash = |byte: u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
    let is_edge = |byte: &u8| dash(*byte) != b'-';
    let start = name.iter().position(is_edge).unwrap_or_default();
    let end = name.iter().rposition(is_edge).map_or(start, |last| last + 1);
    let name = &name[start..end];
    let squeezed = name.iter().enumerate().filter_map(|(at, &byte)| {
        let again = at > 0 && dash(byte) == b'-' && dash(name[at - 1]) == b'-';
        (!again).then(|| dash(byte))
    });
    FRAMING.iter().any(|framing| squeezed.clone().eq(framing.iter().copied()))
}
