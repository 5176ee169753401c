//! Hosts: of the `Host` header and of targets that name one.

use super::block::hosts;
use super::bytes::HOST;
use super::problem::Problem;

/// Digits of the largest port.
const PORT_DIGITS_MAX: usize = 5;

/// Accepts a name or an address with an optional port; `otherwise` is what anything else is. In `Host` the port may be
/// empty behind its colon (RFC 3986, 3.2.3); in a target hyper does not read it so.
pub(super) fn check(authority: &[u8], otherwise: Problem) -> Result<(), Problem> {
    let front = authority.first_chunk().map_or(0, |front| hosts(front).trailing_ones() as usize);
    let behind = authority[front..].iter().position(|&byte| !HOST[usize::from(byte)]);
    let name = behind.map_or(authority.len(), |behind| front + behind);
    if name > 0 && is_port(&authority[name..], otherwise) { Ok(()) } else { literal(authority, otherwise) }
}

#[cold]
fn literal(authority: &[u8], otherwise: Problem) -> Result<(), Problem> {
    if authority.contains(&b'@') {
        return Err(Problem::Userinfo);
    }
    let [b'[', rest @ ..] = authority else { return Err(otherwise) };
    let end = rest.iter().position(|&byte| byte == b']').ok_or(otherwise)?;
    if is_literal(&rest[..end]) && is_port(&rest[end + 1..], otherwise) { Ok(()) } else { Err(otherwise) }
}

fn is_literal(address: &[u8]) -> bool {
    std::str::from_utf8(address).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
}

/// Nothing, or a colon and a port.
fn is_port(port: &[u8], otherwise: Problem) -> bool {
    match port {
        [] => true,
        [b':'] => otherwise == Problem::Host,
        [b':', digits @ ..] => {
            (1..=PORT_DIGITS_MAX).contains(&digits.len())
                && digits.iter().all(u8::is_ascii_digit)
                && digits.iter().fold(0u32, |port, digit| port * 10 + u32::from(digit - b'0')) <= 65_535
        }
        _ => false,
    }
}
