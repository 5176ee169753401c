//! Hosts: of the `Host` header and of targets that name one.

use super::problem::Problem;

/// Digits of the largest port.
const PORT_DIGITS_MAX: usize = 5;

/// Accepts a name or an address with an optional port; `otherwise` is what anything else is.
pub(super) fn check(authority: &[u8], otherwise: Problem) -> Result<(), Problem> {
    if authority.contains(&b'@') {
        return Err(Problem::Userinfo);
    }
    let (is_host, port) = match authority {
        [b'[', rest @ ..] => match rest.iter().position(|&byte| byte == b']') {
            Some(end) => (is_literal(&rest[..end]), &rest[end + 1..]),
            None => (false, rest),
        },
        name => {
            let end = name.iter().position(|&byte| byte == b':').unwrap_or(name.len());
            (is_name(&name[..end]), &name[end..])
        }
    };
    if is_host && is_port(port) { Ok(()) } else { Err(otherwise) }
}

/// Letters, digits and what host names really have; escapes and sub-delimiters are what parsers disagree about.
fn is_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.iter().all(|&byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~'))
}

fn is_literal(address: &[u8]) -> bool {
    std::str::from_utf8(address).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
}

/// Nothing, or a colon and a port.
fn is_port(port: &[u8]) -> bool {
    match port {
        [] => true,
        [b':', digits @ ..] => {
            (1..=PORT_DIGITS_MAX).contains(&digits.len())
                && digits.iter().all(u8::is_ascii_digit)
                && digits.iter().fold(0u32, |port, digit| port * 10 + u32::from(digit - b'0')) <= 65_535
        }
        _ => false,
    }
}
