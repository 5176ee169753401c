//! Which hosts a trusted proxy says a request was sent to. A backend may serve another tenant under each.

use super::quoted::pairs;

/// The hosts of an `X-Forwarded-Host`, in lower case, unless all of them are the one in `host`.
pub fn listed(list: &[u8], host: &[u8]) -> Option<Vec<u8>> {
    unlike(list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii), host)
}

/// The same of a `Forwarded` (RFC 7239). One that cannot be taken apart is its own host.
pub fn forwarded(list: &[u8], host: &[u8]) -> Option<Vec<u8>> {
    let Some(pairs) = pairs(list) else { return Some(list.to_ascii_lowercase()) };
    let hosts = pairs.iter().filter(|(name, _)| name.trim_ascii().eq_ignore_ascii_case(b"host"));
    unlike(hosts.map(|(name, pair)| unquoted(pair[name.len() + 1..].trim_ascii())), host)
}

fn unlike<'a>(hosts: impl Iterator<Item = &'a [u8]> + Clone, host: &[u8]) -> Option<Vec<u8>> {
    let said = hosts.filter(|said| !said.is_empty());
    let says_more = !said.clone().all(|said| said.eq_ignore_ascii_case(host));
    says_more.then(|| said.collect::<Vec<_>>().join(&b", "[..]).to_ascii_lowercase())
}

fn unquoted(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_beside_the_host_is_all_that_counts() {
        let listed =
            |list: &str| listed(list.as_bytes(), b"internal").map(|hosts| String::from_utf8(hosts).unwrap());
        assert_eq!(listed("Clinic-A.example").as_deref(), Some("clinic-a.example"));
        assert_eq!(listed("a,b").as_deref(), Some("a, b"));
        assert_eq!((listed("Internal"), listed(""), listed("internal, internal")), (None, None, None));
        assert_eq!(listed("internal, a").as_deref(), Some("internal, a"));
    }

    #[test]
    fn of_a_forwarded_only_the_hosts_count() {
        let hosts = |list: &str| {
            forwarded(list.as_bytes(), b"internal").map(|hosts| String::from_utf8(hosts).unwrap())
        };
        assert_eq!(hosts("for=192.0.2.1:4711;Host=\"A.example\";proto=https").as_deref(), Some("a.example"));
        assert_eq!(hosts("for=192.0.2.2:4712;host=a.example, for=10.0.0.1").as_deref(), Some("a.example"));
        assert_eq!(hosts("host=a;for=_x, host=b").as_deref(), Some("b, a"), "the nearest first");
        assert_eq!((hosts("for=192.0.2.1"), hosts("for=\"[::1]:1\";host=internal")), (None, None));
        assert_eq!(hosts("for=a;host").as_deref(), Some("for=a;host"), "nobody knows which host that is");
        assert_eq!(hosts("host=\"a").as_deref(), Some("host=\"a"));
    }
}
