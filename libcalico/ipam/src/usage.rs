//! How full pools and blocks are, for `ipam show` and metrics.
//!
//! In come pools, reservations and blocks, out go figures in 128 bits: an IPv6 pool has more addresses than 64 bits
//! count. Always holds: `total = in_use + reserved + free`; a reserved address that is in use counts as in use.

use libcalico_api::Kind;
use libcalico_datastore::{Datastore, Found, Read, Scope};
use libcalico_model::ipam::AllocationBlock;
use libcalico_model::{Key, Value};
use libcalico_net::cidr::IpNet;

use crate::block;
use crate::error::IpamError;
use crate::pool::Pool;
use crate::snapshot::{read_pool, read_reservation};

/// Figures of a pool.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolUsage {
    pub name: String,
    pub cidr: IpNet,
    /// `u128::MAX` for `::/0`, which has one more.
    pub total: u128,
    pub in_use: u128,
    /// Reserved and not in use.
    pub reserved: u128,
    pub free: u128,
    /// In order of address.
    pub blocks: Vec<BlockUsage>,
}

/// Figures of a block.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockUsage {
    pub cidr: IpNet,
    /// `host:NODE`, none for a block of nobody.
    pub owner: Option<String>,
    pub total: u128,
    pub in_use: u128,
    pub reserved: u128,
    pub free: u128,
}

/// Figures of every pool, in the datastore's order (by name).
pub async fn usage(store: &dyn Datastore) -> Result<Vec<PoolUsage>, IpamError> {
    let reads = [Scope::kind(Kind::IPPool), Scope::kind(Kind::IPReservation), Scope::Blocks].map(Read::Scope);
    let found = store.read_many(&reads).await?;
    let (mut pools, mut reservations, mut blocks) = (Vec::new(), Vec::new(), Vec::new());
    for found in found {
        let Found::Scope(listing) = found else { continue };
        for kv in listing.items {
            match (kv.key, kv.value) {
                (Key::Block(_), Value::Block(b)) => blocks.push(*b),
                (Key::Resource(k), Value::Resource(r)) if k.kind == Kind::IPPool => {
                    pools.extend(read_pool(&r));
                }
                (Key::Resource(_), Value::Resource(r)) => reservations.extend(read_reservation(&r)),
                _ => {}
            }
        }
    }
    Ok(compute(&pools, &reservations, &blocks))
}

/// The figures, from what was read.
#[must_use]
pub fn compute(pools: &[Pool], reservations: &[IpNet], blocks: &[AllocationBlock]) -> Vec<PoolUsage> {
    let reservations = outermost(reservations);
    pools
        .iter()
        .map(|p| {
            let mut own: Vec<&AllocationBlock> = blocks.iter().filter(|b| p.holds_block(b.cidr)).collect();
            own.sort_by_key(|b| (b.cidr.addr(), b.cidr.prefix_len()));
            let used_and_reserved: u128 = own.iter().map(|b| both(b, &reservations)).sum();
            let in_use: u128 = own.iter().map(|b| block::in_use(b) as u128).sum();
            let total = count(p.cidr);
            let reserved = reserved_in(p.cidr, &reservations).saturating_sub(used_and_reserved);
            PoolUsage {
                name: p.name.clone(),
                cidr: p.cidr,
                total,
                in_use,
                reserved,
                free: total.saturating_sub(in_use).saturating_sub(reserved),
                blocks: own.into_iter().map(|b| of_block(b, &reservations)).collect(),
            }
        })
        .collect()
}

fn of_block(b: &AllocationBlock, reservations: &[IpNet]) -> BlockUsage {
    let total = count(b.cidr);
    let in_use = block::in_use(b) as u128;
    let reserved = reserved_in(b.cidr, reservations).saturating_sub(both(b, reservations));
    let free = total.saturating_sub(in_use).saturating_sub(reserved);
    BlockUsage { cidr: b.cidr, owner: block::owner_text(b), total, in_use, reserved, free }
}

/// Addresses that are both in use and reserved.
fn both(b: &AllocationBlock, reservations: &[IpNet]) -> u128 {
    if reservations.is_empty() {
        return 0;
    }
    block::taken(b).filter(|(ip, _)| block::reserved(reservations, *ip)).count() as u128
}

fn count(net: IpNet) -> u128 {
    1u128.checked_shl(u32::from(net.max_prefix_len() - net.prefix_len())).unwrap_or(u128::MAX)
}

/// Reserved addresses of a network. `reservations` do not overlap.
fn reserved_in(net: IpNet, reservations: &[IpNet]) -> u128 {
    if reservations.iter().any(|r| r.contains(&net)) {
        return count(net);
    }
    reservations.iter().filter(|r| net.contains(*r)).map(|r| count(*r)).sum()
}

/// Networks that lie in no other of the list, each once.
fn outermost(nets: &[IpNet]) -> Vec<IpNet> {
    IpNet::aggregate(&nets.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Moment;
    use libcalico_api::ip_pool::IPPool;
    use libcalico_model::ipam::AllocationAttribute;

    fn pool(cidr: &str) -> Pool {
        let mut p = IPPool::default();
        p.spec.cidr = Some(cidr.to_owned());
        Pool::read(&p).unwrap()
    }

    #[test]
    fn figures_of_the_captured_datastore_come_out() {
        let mut v4 = block::new_block("10.65.174.128/26".parse().unwrap(), None, Moment(0));
        let mut v6 =
            block::new_block("fd00:65:0:6d15:74ba:80e:4835:8080/122".parse().unwrap(), None, Moment(0));
        block::assign_next(&mut v4, 3, &AllocationAttribute::default(), &[]);
        block::assign_next(&mut v6, 3, &AllocationAttribute::default(), &[]);
        let pools = [pool("10.66.0.0/20"), pool("10.65.0.0/16"), pool("fd00:65::/48")];
        let seen = compute(&pools, &["10.65.0.0/24".parse().unwrap()], &[v4, v6]);
        let figures: Vec<_> = seen.iter().map(|p| (p.total, p.in_use, p.reserved, p.free)).collect();
        let v6_total = 1u128 << 80;
        assert_eq!(figures, [(4096, 0, 0, 4096), (65536, 3, 256, 65277), (v6_total, 3, 0, v6_total - 3)]);
        let b = &seen[1].blocks[0];
        assert_eq!((b.total, b.in_use, b.reserved, b.free), (64, 3, 0, 61));
    }

    #[test]
    fn an_address_that_is_reserved_and_in_use_is_counted_once() {
        let mut b = block::new_block("10.0.0.0/30".parse().unwrap(), None, Moment(0));
        block::assign_next(&mut b, 2, &AllocationAttribute::default(), &[]);
        let reservations = ["10.0.0.0/31", "10.0.0.1/32", "10.0.0.2/32"].map(|s| s.parse().unwrap());
        let seen = &compute(&[pool("10.0.0.0/24")], &reservations, &[b])[0];
        assert_eq!((seen.total, seen.in_use, seen.reserved, seen.free), (256, 2, 1, 253));
        assert_eq!((seen.blocks[0].reserved, seen.blocks[0].free), (1, 1));
    }
}
