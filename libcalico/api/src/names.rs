//! Shapes of names and other short texts that fields share: DNS names, labels, interfaces, MAC addresses.
//!
//! Each function says whether a text has the shape; what to tell the person is the caller's.

/// A DNS label (RFC 1123): lower-case letters, digits and inner dashes, at most 63.
#[must_use]
pub fn is_dns_label(s: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    s.len() <= 63
        && edge(s.as_bytes().first())
        && edge(s.as_bytes().last())
        && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// A name of an object: DNS labels joined by dots, at most 253 characters in all. Single labels may be longer
/// than 63, as Kubernetes allows.
#[must_use]
pub fn is_object_name(s: &str) -> bool {
    let label = |l: &str| {
        let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        edge(l.as_bytes().first())
            && edge(l.as_bytes().last())
            && l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    s.len() <= 253 && s.split('.').all(label)
}

fn is_qualified_part(s: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    (1..=63).contains(&s.len())
        && edge(s.as_bytes().first())
        && edge(s.as_bytes().last())
        && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// A label's or annotation's name: `[PREFIX/]NAME`, the prefix a DNS name.
#[must_use]
pub fn is_label_key(s: &str) -> bool {
    match s.split_once('/') {
        Some((prefix, name)) => is_object_name(prefix) && is_qualified_part(name),
        None => is_qualified_part(s),
    }
}

/// A label's value: empty, or up to 63 letters, digits and inner `-_.`.
#[must_use]
pub fn is_label_value(s: &str) -> bool {
    s.is_empty() || is_qualified_part(s)
}

/// A network interface of Linux: 1 to 15 letters, digits, `_`, `.` and `-`.
#[must_use]
pub fn is_interface_name(s: &str) -> bool {
    (1..=15).contains(&s.len())
        && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// A named port of an endpoint: 1 to 128 letters, digits, `_`, `.` and `-`, not a number.
#[must_use]
pub fn is_port_name(s: &str) -> bool {
    (1..=128).contains(&s.len())
        && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && !s.bytes().all(|b| b.is_ascii_digit())
}

/// A MAC address: six pairs of hexadecimal digits joined by colons or dashes.
#[must_use]
pub fn is_mac(s: &str) -> bool {
    let separator = if s.contains('-') { '-' } else { ':' };
    s.len() == 17
        && s.split(separator).count() == 6
        && s.split(separator).all(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// The value of a BGP community: `A:B` of 16 bits each (RFC 1997) or `A:B:C` of 32 bits each (RFC 8092).
#[must_use]
pub fn is_bgp_community(s: &str) -> bool {
    let parts: Vec<&str> = s.split(':').collect();
    let digits = |p: &&str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit());
    let fits = match parts.len() {
        2 => parts.iter().all(|p| p.parse::<u16>().is_ok()),
        3 => parts.iter().all(|p| p.parse::<u32>().is_ok()),
        _ => false,
    };
    fits && parts.iter().all(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_what_only_looks_like_one() {
        for s in ["a", "kns.default", "node--a-k8s-web--1-eth0", "1.2", &"a".repeat(253)] {
            assert!(is_object_name(s), "{s}");
        }
        for s in ["", "A", "-a", "a-", "a..b", ".a", "a_b", "a/b", &"a".repeat(254)] {
            assert!(!is_object_name(s), "{s}");
        }
        assert!(is_dns_label("a-1") && !is_dns_label("a.b"));
        assert!(is_label_key("projectcalico.org/tier") && is_label_key("A_b") && !is_label_key("a/b/c"));
        assert!(is_label_value("") && is_label_value("A.b_c-1") && !is_label_value("-a"));
        assert!(
            is_interface_name("eth0.100")
                && !is_interface_name("eth0*")
                && !is_interface_name("sixteen-chars-xx")
        );
        assert!(is_mac("ca:fe:1d:52:bb:e9") && !is_mac("ca:fe:1d:52:bb") && !is_mac("ca:fe:1d:52:bb:zz"));
        assert!(is_bgp_community("65535:0") && is_bgp_community("4294967295:1:2"));
        assert!(!is_bgp_community("65536:0") && !is_bgp_community("1") && !is_bgp_community("+1:2"));
    }
}
