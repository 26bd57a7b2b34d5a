//! Labels of BlockAffinity objects: by them the API server picks the affinities of one owner out of a cluster's.
//!
//! In come an owner and a block, out go upstream's labels, or a selector for them. Pure. A machine's name may be longer
//! than a label's value, so its hash stands there. Objects of older writers have no labels: who asks by label and finds
//! nothing asks again without.

use libcalico_net::cidr::{Family, IpNet};
use serde_json::{Value, json};

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
    base32(&sha3_256(owner.as_bytes()))
}

/// SHA3-256 (FIPS 202). Written out: a name's hash is all that it is needed for, and nothing secret hangs on it.
fn sha3_256(message: &[u8]) -> [u8; 32] {
    const RATE: usize = 136;
    let mut padded = message.to_vec();
    padded.push(0x06);
    padded.resize(padded.len().next_multiple_of(RATE), 0);
    if let Some(last) = padded.last_mut() {
        *last |= 0x80;
    }
    let mut state = [0u64; 25];
    for block in padded.chunks_exact(RATE) {
        for (lane, bytes) in state.iter_mut().zip(block.chunks_exact(8)) {
            *lane ^= bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b));
        }
        keccak_f(&mut state);
    }
    let mut out = [0; 32];
    for (bytes, lane) in out.chunks_exact_mut(8).zip(state) {
        bytes.copy_from_slice(&lane.to_le_bytes());
    }
    out
}

/// The permutation of FIPS 202, section 3.3, with lanes in the order x + 5 y.
fn keccak_f(a: &mut [u64; 25]) {
    // The round constants are the output of a linear feedback register (section 3.2.5).
    let mut register: u8 = 1;
    for _ in 0..24 {
        let column = |a: &[u64; 25], x: usize| (0..5).fold(0, |c, y| c ^ a[x + 5 * y]);
        let c: [u64; 5] = std::array::from_fn(|x| column(a, x));
        for (i, lane) in a.iter_mut().enumerate() {
            *lane ^= c[(i + 4) % 5] ^ c[(i + 1) % 5].rotate_left(1);
        }
        let (mut x, mut y, mut current) = (1, 0, a[1]);
        for t in 0..24u32 {
            (x, y) = (y, (2 * x + 3 * y) % 5);
            let turned = current.rotate_left((t + 1) * (t + 2) / 2 % 64);
            current = std::mem::replace(&mut a[x + 5 * y], turned);
        }
        for row in a.chunks_exact_mut(5) {
            let b: [u64; 5] = std::array::from_fn(|i| row[i]);
            for (i, lane) in row.iter_mut().enumerate() {
                *lane = b[i] ^ (!b[(i + 1) % 5] & b[(i + 2) % 5]);
            }
        }
        for j in 0..7 {
            a[0] ^= u64::from(register & 1) << ((1u32 << j) - 1);
            register = (register << 1) ^ (if register & 0x80 == 0 { 0 } else { 0x71 });
        }
    }
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
    fn the_hash_is_fips_202s() {
        let hex = |bytes: &[u8]| sha3_256(bytes).iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(hex(b""), "a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a");
        assert_eq!(hex(b"abc"), "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532");
        assert_eq!(hex(&[0xa3; 200]), "79f38adec5c20307a98ef76e8324afbfd46cfd81b22e3973c65fa1bd9de31787");
    }

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
