//! Labels of BlockAffinity objects: by them the API server picks the affinities of one owner out of a cluster's.
//!
//! In come an owner and a block, out go upstream's labels, or a selector for them. Pure. A machine's name may be longer
//! than a label's value, so its hash stands there. Objects of older writers have no labels: who asks by label and finds
//! nothing asks again without.

use libcalico_net::cidr::{Family, IpNet};
use serde_json::{Value, json};
use sha3::{Digest, Sha3_256};

use crate::Scope;

const HOSTNAME_HASH: &str = "projectcalico.org/hostname-hash";
const AFFINITY_TYPE: &str = "projectcalico.org/affinity-type";
const IP_VERSION: &str = "projectcalico.org/ip-version";

/// The labels of an affinity.
pub fn of(affinity_type: &str, owner: &str, block: IpNet) -> Value {
    let version = if Family::of_net(block) == Family::V4 { "4" } else { "6" };
    json!({ HOSTNAME_HASH: hash(owner), AFFINITY_TYPE: affinity_type, IP_VERSION: version })
}

/// What picks the affinities of a scope that is one owner's; none for any other scope.
pub fn selector(scope: &Scope) -> Option<String> {
    let (affinity_type, owner) = match scope {
        Scope::BlockAffinities { host: Some(host) } => ("host", host),
        Scope::VirtualAffinities { owner: Some(owner) } => ("virtual", owner),
        _ => return None,
    };
    Some(format!("{HOSTNAME_HASH}={},{AFFINITY_TYPE}={affinity_type}", hash(owner)))
}

fn hash(owner: &str) -> String {
    base32(&Sha3_256::digest(owner.as_bytes()))
}

/// RFC 4648, section 6, without padding.
fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut out = String::with_capacity(bytes.len() * 8 / 5 + 1);
    for chunk in bytes.chunks(5) {
        let mut five = [0; 8];
        five[3..3 + chunk.len()].copy_from_slice(chunk);
        let bits = u64::from_be_bytes(five);
        for i in 0..(chunk.len() * 8).div_ceil(5) {
            let index = (bits >> (35 - 5 * i)) & 31;
            out.extend(usize::try_from(index).ok().and_then(|i| ALPHABET.get(i)).map(|b| char::from(*b)));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_32_is_the_rfcs() {
        for (text, wanted) in [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("foobar", "MZXW6YTBOI"),
        ] {
            assert_eq!(base32(text.as_bytes()), wanted);
        }
    }

    #[test]
    fn an_owners_affinities_are_picked_by_what_they_are_labelled_with() {
        let labels = of("host", "node-a", "10.0.0.0/26".parse().unwrap());
        assert_eq!(labels[IP_VERSION], "4");
        let hash = labels[HOSTNAME_HASH].as_str().unwrap();
        assert!(hash.len() <= 63, "{hash}");
        let selector = selector(&Scope::BlockAffinities { host: Some("node-a".to_owned()) }).unwrap();
        assert!(selector.contains(hash) && selector.ends_with("affinity-type=host"), "{selector}");
        assert_eq!(super::selector(&Scope::BlockAffinities { host: None }), None);
    }
}
