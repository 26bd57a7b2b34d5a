//! In which order a host tries the blocks of a pool.
//!
//! In come the pool, the block size and the host's name; out goes every block of the pool once, from a place that
//! depends on the host alone. Hosts that claim at the same time start far apart and rarely meet, a host that is asked
//! again (after a crash, or by several callers at once) tries the same block again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libcalico_net::cidr::IpNet;

/// Every block of a pool, starting at the host's own place and going round. Lazy: an IPv6 pool may have 2^80 blocks.
pub fn candidate_blocks(pool: IpNet, block_len: u8, host: &str) -> impl Iterator<Item = IpNet> + use<> {
    let bits = block_len.saturating_sub(pool.prefix_len());
    let valid = block_len >= pool.prefix_len() && block_len <= pool.max_prefix_len();
    let mask = if bits >= 128 { u128::MAX } else { (1 << bits) - 1 };
    let start = place(host) & mask;
    let shift = u32::from(pool.max_prefix_len().saturating_sub(block_len));
    let base = to_bits(pool.trunc().addr());
    let mut next = Some(0u128).filter(|_| valid);
    std::iter::from_fn(move || {
        let step = next?;
        next = if step == mask { None } else { Some(step + 1) };
        let index = start.wrapping_add(step) & mask;
        let addr = from_bits(base | index.checked_shl(shift).unwrap_or(0), pool.addr().is_ipv4());
        IpNet::new(addr, block_len).ok()
    })
}

/// Orders blocks for borrowing: another order for each host, so that hosts without room of their own do not all fall
/// upon the same block.
#[must_use]
pub fn preference(block: IpNet, host: &str) -> u64 {
    let bits = to_bits(block.addr());
    mix((bits as u64) ^ ((bits >> 64) as u64) ^ (place(host) as u64))
}

/// An address as a number.
pub(crate) fn to_bits(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(a) => u128::from(a.to_bits()),
        IpAddr::V6(a) => a.to_bits(),
    }
}

/// A number as an address. Bits beyond the family's are dropped.
pub(crate) fn from_bits(bits: u128, v4: bool) -> IpAddr {
    if v4 {
        IpAddr::V4(Ipv4Addr::from_bits((bits & u128::from(u32::MAX)) as u32))
    } else {
        IpAddr::V6(Ipv6Addr::from_bits(bits))
    }
}

/// A number that differs from host to host and stays the same in every version of the program: FNV-1a, then mixed so
/// that names which differ in one digit (`node-1`, `node-2`) land far apart also in their low bits.
fn place(host: &str) -> u128 {
    let fnv = host
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3));
    u128::from(mix(fnv)) << 64 | u128::from(mix(fnv ^ 0x9e37_79b9_7f4a_7c15))
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn net(s: &str) -> IpNet {
        s.parse().unwrap()
    }

    #[test]
    fn every_block_of_the_pool_comes_once() {
        let all: Vec<IpNet> = candidate_blocks(net("10.0.0.0/24"), 26, "node-a").collect();
        let set: BTreeSet<String> = all.iter().map(ToString::to_string).collect();
        assert_eq!(all.len(), 4);
        assert_eq!(
            set,
            ["10.0.0.0/26", "10.0.0.64/26", "10.0.0.128/26", "10.0.0.192/26"].map(String::from).into()
        );
    }

    #[test]
    fn a_pool_of_one_block_has_one_candidate() {
        assert_eq!(candidate_blocks(net("10.0.0.0/26"), 26, "x").collect::<Vec<_>>(), [net("10.0.0.0/26")]);
        assert_eq!(candidate_blocks(net("10.0.0.0/26"), 25, "x").count(), 0);
    }

    #[test]
    fn the_greatest_pool_is_walked_lazily() {
        let some: Vec<IpNet> = candidate_blocks(net("::/0"), 128, "x").take(3).collect();
        assert_eq!(some.len(), 3);
        let v6 = candidate_blocks(net("fd00:65::/48"), 122, "node-a").next().unwrap();
        assert!(net("fd00:65::/48").contains(&v6) && v6 == v6.trunc());
    }

    #[test]
    fn hosts_start_at_different_places() {
        let starts: BTreeSet<IpNet> = (0..100)
            .filter_map(|i| candidate_blocks(net("10.0.0.0/8"), 26, &format!("node-{i}")).next())
            .collect();
        assert!(starts.len() > 95, "{}", starts.len());
    }
}
