//! Names and literals in BIRD's grammar. Whatever an object holds, what leaves here cannot end a string or a name
//! early: text that has no literal is `None`, and the caller leaves the statement out.

use std::net::IpAddr;

use sha2::{Digest, Sha256};

/// The largest integer of upstream's BIRD. Priorities travel as `MAX - priority` in LOCAL_PREF.
pub const INT_MAX: i64 = 2_147_483_647;

/// BIRD's limit on symbols (64) less `bgp_` and `_importFilterV4`.
const MAX_FILTER_NAME: usize = 45;

/// A string literal. BIRD has no escapes: quotes and control characters have no literal.
#[must_use]
pub fn quoted(text: &str) -> Option<String> {
    (!text.contains(['"', '\\']) && !text.chars().any(char::is_control)).then(|| format!("\"{text}\""))
}

/// `Mesh_10_192_0_3`, `Node_fd00__1_port_500`.
#[must_use]
pub fn protocol_name(prefix: &str, ip: IpAddr, port: Option<u16>) -> String {
    let address = ip.to_string().replace(['.', ':'], "_");
    match port {
        Some(port) => format!("{prefix}_{address}_port_{port}"),
        None => format!("{prefix}_{address}"),
    }
}

/// The quoted symbol of a filter's function. Long names are cut and hashed as upstream does, so that two long names
/// with one beginning stay two. `None` for characters that BIRD does not take in a quoted symbol.
#[must_use]
pub fn filter_function(name: &str, direction: &str, family: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    (!name.is_empty() && name.chars().all(allowed))
        .then(|| format!("'bgp_{}_{direction}Filter{family}'", truncate_and_hash(name)))
}

fn truncate_and_hash(name: &str) -> String {
    if name.len() <= MAX_FILTER_NAME {
        return name.to_owned();
    }
    let hash: String =
        Sha256::digest(name.as_bytes()).iter().take(8).map(|byte| format!("{byte:02X}")).collect();
    let kept: String = name.chars().take(MAX_FILTER_NAME - hash.len() - 1).collect();
    format!("{kept}_{hash}")
}

/// A community as the pair or triple of BIRD, with the attribute that holds it: `65000:100`, `65000:1:2`.
#[must_use]
pub fn community(text: &str) -> Option<(&'static str, String)> {
    let parts: Vec<&str> = text.trim().split(':').collect();
    match parts.as_slice() {
        [a, b] => {
            let (a, b): (u16, u16) = (a.parse().ok()?, b.parse().ok()?);
            Some(("bgp_community", format!("({a}, {b})")))
        }
        [a, b, c] => {
            let (a, b, c): (u32, u32, u32) = (a.parse().ok()?, b.parse().ok()?, c.parse().ok()?);
            Some(("bgp_large_community", format!("({a}, {b}, {c})")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn long_filter_names_are_cut_and_hashed_as_upstream_does() {
        for (name, expected) in [
            ("test-filter", "'bgp_test-filter_importFilterV4'"),
            (
                "46characters.exactly.so.should.truncate-123456",
                "'bgp_46characters.exactly.so.shou_9615CBDC00BAC628_importFilterV4'",
            ),
            (
                "greater-than-64-characters.so.this.should.definitely.truncate-1234567890",
                "'bgp_greater-than-64-characters.s_4C5DB3273E544641_importFilterV4'",
            ),
        ] {
            assert_eq!(filter_function(name, "import", "V4").as_deref(), Some(expected));
        }
    }

    #[test]
    fn protocols_are_named_after_address_and_port() {
        assert_eq!(protocol_name("Mesh", "10.192.0.3".parse().unwrap(), None), "Mesh_10_192_0_3");
        assert_eq!(protocol_name("Node", "ac13::57".parse().unwrap(), Some(50)), "Node_ac13__57_port_50");
    }

    #[test]
    fn communities_have_two_or_three_numbers() {
        assert_eq!(community("100:6532").unwrap(), ("bgp_community", "(100, 6532)".to_owned()));
        assert_eq!(community("100:555:107").unwrap(), ("bgp_large_community", "(100, 555, 107)".to_owned()));
        for bad in ["", "100", "70000:1", "1:2:3:4", "a:b", "1:2) then accept;("] {
            assert!(community(bad).is_none(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_ends_a_literal_early(text in ".*") {
            if let Some(literal) = quoted(&text) {
                prop_assert_eq!(literal.matches('"').count(), 2);
                prop_assert!(!literal.contains('\n'));
            }
            if let Some(symbol) = filter_function(&text, "export", "V6") {
                prop_assert_eq!(symbol.matches('\'').count(), 2);
                prop_assert!(symbol.len() <= 66);
            }
        }
    }
}
