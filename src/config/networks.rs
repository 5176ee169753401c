//! Networks and addresses, for `trusted_proxies` and `allow`.

use super::values::{Read, Wrong, quote};
use ipnet::{IpNet, Ipv4Net};
use std::net::IpAddr;

/// An IPv6 network that lies within `::ffff:0:0/96` is one of IPv4, and its prefix is so much shorter there.
const MAPPED_BITS: u8 = 96;

/// `10.0.0.0/8`, or one address.
pub(super) fn network(text: &str) -> Read<IpNet> {
    let one = text.parse::<IpAddr>().map(IpNet::from);
    text.parse::<IpNet>().or(one).map(|net| plain(net.trunc())).map_err(|_| {
        Wrong::new(format!("{} is not a network", quote(text)))
            .help("write a CIDR or an address, as in \"10.0.0.0/8\", \"fd00::/8\" or \"192.0.2.7\"")
    })
}

/// IPv4 in IPv6 as IPv4, as which addresses are compared.
fn plain(net: IpNet) -> IpNet {
    let IpNet::V6(six) = net else { return net };
    let prefix = six.prefix_len().checked_sub(MAPPED_BITS);
    let mapped = prefix.zip(six.addr().to_ipv4_mapped());
    mapped.and_then(|(prefix, four)| Ipv4Net::new(four, prefix).ok()).map_or(net, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<String> {
        network(text).ok().map(|net| net.to_string())
    }

    #[test]
    fn networks_may_be_single_addresses() {
        assert_eq!(read("10.1.2.3/8").as_deref(), Some("10.0.0.0/8"));
        assert_eq!(read("192.0.2.7").as_deref(), Some("192.0.2.7/32"));
        assert_eq!(read("fd00::1").as_deref(), Some("fd00::1/128"));
        assert!(network("10.0.0.0/33").is_err() && network("localhost").is_err());
    }

    #[test]
    fn ipv4_within_ipv6_is_ipv4() {
        assert_eq!(read("::ffff:127.1.2.3/104").as_deref(), Some("127.0.0.0/8"));
        assert_eq!(read("::ffff:192.0.2.7").as_deref(), Some("192.0.2.7/32"));
        assert_eq!(read("::ffff:0:0/96").as_deref(), Some("0.0.0.0/0"));
        assert_eq!(read("::/0").as_deref(), Some("::/0"));
        assert_eq!(read("::1").as_deref(), Some("::1/128"));
    }
}
