//! One block of addresses: who has which, which is next.
//!
//! In come an [`AllocationBlock`] as stored and what to do, out comes the same block changed. Pure: no clock (times
//! are in the attributes that the caller gives), no I/O. Always holds after each function, where it held before
//! ([`check`]): every ordinal is either in `unallocated` once or in `allocations`, every attribute is in use, no two
//! attributes are equal. Free ordinals are a queue as in upstream: given out from the front, released to the end, so
//! an address rests as long as possible before it is used again. With a cool-down (`ipCooldownSeconds`) it rests so long
//! at least: it keeps its place among the allocations, with the time of its release instead of an owner.
//!
//! Each write of a block raises its sequence number ([`written`]); an address keeps the number at which it was given
//! out, so that a late release of an earlier tenant can be told from the present one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use libcalico_model::ipam::{AllocationAttribute, AllocationBlock};
use libcalico_net::cidr::IpNet;

use crate::candidates::{from_bits, to_bits};
use crate::moment::Moment;
use crate::owner::Owner;

/// Blocks of more addresses than this are not worked with: their JSON would be megabytes. 2^16.
pub const MAX_SIZE: usize = 1 << 16;

/// Number of addresses in a block, or `None` where it is beyond [`MAX_SIZE`].
#[must_use]
pub fn size(cidr: IpNet) -> Option<usize> {
    let bits = cidr.max_prefix_len() - cidr.prefix_len();
    1usize.checked_shl(u32::from(bits)).filter(|n| bits < 32 && *n <= MAX_SIZE)
}

/// A block that nobody has an address of yet. Its sequence starts at the clock's nanoseconds, so that the numbers of
/// a block that is deleted and made again do not repeat.
#[must_use]
pub fn new_block(cidr: IpNet, owner: Option<&Owner>, now: Moment) -> AllocationBlock {
    let n = size(cidr).unwrap_or(0);
    AllocationBlock {
        cidr,
        affinity: owner.map(Owner::affinity),
        affinity_claim_time: owner.map(|_| now.rfc3339()),
        strict_affinity: false,
        allocations: vec![None; n],
        unallocated: (0..n).collect(),
        attributes: Vec::new(),
        sequence_number: now.0,
        sequence_number_for_allocation: BTreeMap::new(),
        deleted: false,
        host_affinity: None,
    }
}

/// Says what is wrong with a block that was read, if anything is.
pub fn check(b: &AllocationBlock) -> Result<(), String> {
    let Some(n) = size(b.cidr) else { return Err(format!("more than {MAX_SIZE} addresses")) };
    if b.allocations.len() != n {
        return Err(format!("{} allocations for {n} addresses", b.allocations.len()));
    }
    if let Some(i) = b.allocations.iter().flatten().find(|i| **i >= b.attributes.len()) {
        return Err(format!("an allocation names attribute {i} of {}", b.attributes.len()));
    }
    let free: BTreeSet<usize> = b.unallocated.iter().copied().collect();
    if free.len() != b.unallocated.len() {
        return Err("an address is twice in the list of free ones".to_owned());
    }
    if let Some(o) = free.iter().find(|o| b.allocations.get(**o) != Some(&None)) {
        return Err(format!("ordinal {o} is free and allocated at once, or out of range"));
    }
    if free.len() + in_use(b) != n {
        return Err("an address is neither free nor allocated".to_owned());
    }
    Ok(())
}

/// The block's owner as text (`host:NODE`); very old blocks have the host alone.
#[must_use]
pub fn owner_text(b: &AllocationBlock) -> Option<String> {
    b.affinity.clone().or_else(|| b.host_affinity.as_ref().map(|h| format!("host:{h}")))
}

/// True where the block belongs to the owner.
#[must_use]
pub fn belongs_to(b: &AllocationBlock, owner: &Owner) -> bool {
    owner_text(b).is_some_and(|a| a == owner.affinity())
}

/// Number of addresses that are not free: allocated, or resting after their release.
#[must_use]
pub fn in_use(b: &AllocationBlock) -> usize {
    b.allocations.iter().flatten().count()
}

/// True where every address is free.
#[must_use]
pub fn is_empty(b: &AllocationBlock) -> bool {
    b.allocations.iter().all(Option::is_none)
}

/// The address of an ordinal.
#[must_use]
pub fn address(cidr: IpNet, ordinal: usize) -> IpAddr {
    from_bits(to_bits(cidr.trunc().addr()) | ordinal as u128, cidr.addr().is_ipv4())
}

/// The ordinal of an address, `None` where it is not in the block.
#[must_use]
pub fn ordinal(cidr: IpNet, addr: IpAddr) -> Option<usize> {
    if !cidr.contains(&addr) {
        return None;
    }
    usize::try_from(to_bits(addr) - to_bits(cidr.trunc().addr())).ok()
}

/// True where a reservation covers the address.
#[must_use]
pub fn reserved(reservations: &[IpNet], addr: IpAddr) -> bool {
    reservations.iter().any(|r| r.contains(&addr))
}

/// Number of free addresses that may be given out.
#[must_use]
pub fn available(b: &AllocationBlock, reservations: &[IpNet]) -> usize {
    if reservations.is_empty() {
        return b.unallocated.len();
    }
    b.unallocated.iter().filter(|o| !reserved(reservations, address(b.cidr, **o))).count()
}

/// Gives out up to `n` addresses from the front of the queue, passing over reserved ones (which keep their places).
pub fn assign_next(
    b: &mut AllocationBlock,
    n: usize,
    attribute: &AllocationAttribute,
    reservations: &[IpNet],
) -> Vec<IpAddr> {
    let mut taken = Vec::with_capacity(n.min(b.unallocated.len()));
    let cidr = b.cidr;
    b.unallocated.retain(|&o| {
        let take = taken.len() < n && !reserved(reservations, address(cidr, o));
        if take {
            taken.push(o);
        }
        !take
    });
    for &o in &taken {
        allocate(b, o, attribute);
    }
    taken.into_iter().map(|o| address(cidr, o)).collect()
}

/// Gives out one certain address. False where it is taken or not in the block.
pub fn assign_one(b: &mut AllocationBlock, addr: IpAddr, attribute: &AllocationAttribute) -> bool {
    let Some(o) = ordinal(b.cidr, addr) else { return false };
    let Some(at) = b.unallocated.iter().position(|u| *u == o) else { return false };
    b.unallocated.remove(at);
    allocate(b, o, attribute);
    true
}

fn allocate(b: &mut AllocationBlock, ordinal: usize, attribute: &AllocationAttribute) {
    let index = b.attributes.iter().position(|a| a == attribute).unwrap_or_else(|| {
        b.attributes.push(attribute.clone());
        b.attributes.len() - 1
    });
    if let Some(slot) = b.allocations.get_mut(ordinal) {
        *slot = Some(index);
        b.sequence_number_for_allocation.insert(ordinal.to_string(), b.sequence_number);
    }
}

/// Frees what `select` picks by address and attribute. Freed addresses go to the end of the queue in their order.
/// Returns them with the handle that each had.
pub fn release_where(
    b: &mut AllocationBlock,
    mut select: impl FnMut(IpAddr, &AllocationAttribute) -> bool,
) -> Vec<(IpAddr, Option<String>)> {
    let mut freed = Vec::new();
    for o in 0..b.allocations.len() {
        let Some(attribute) = b.allocations.get(o).copied().flatten().and_then(|i| b.attributes.get(i))
        else {
            continue;
        };
        let addr = address(b.cidr, o);
        if select(addr, attribute) {
            freed.push((addr, attribute.handle_id.clone()));
            b.unallocated.push(o);
            b.sequence_number_for_allocation.remove(&o.to_string());
            if let Some(slot) = b.allocations.get_mut(o) {
                *slot = None;
            }
        }
    }
    if !freed.is_empty() {
        drop_unused_attributes(b);
    }
    freed
}

/// As [`release_where`], but freed addresses rest: they stay in their places, with nothing but the time of their
/// release for an attribute, until [`warm_up`] puts them into the queue.
pub fn cool_where(
    b: &mut AllocationBlock,
    mut select: impl FnMut(IpAddr, &AllocationAttribute) -> bool,
    now: Moment,
) -> Vec<(IpAddr, Option<String>)> {
    let resting = AllocationAttribute { released_at: Some(now.rfc3339()), ..AllocationAttribute::default() };
    let mut freed = Vec::new();
    for o in 0..b.allocations.len() {
        let Some(attribute) = b.allocations.get(o).copied().flatten().and_then(|i| b.attributes.get(i))
        else {
            continue;
        };
        let addr = address(b.cidr, o);
        if !rests(attribute) && select(addr, attribute) {
            freed.push((addr, attribute.handle_id.clone()));
            // A late release of the earlier tenant must not look like one of the next.
            allocate(b, o, &resting);
        }
    }
    if !freed.is_empty() {
        drop_unused_attributes(b);
    }
    freed
}

/// Puts addresses that have rested for so many seconds at the end of the queue. True where there were any.
pub fn warm_up(b: &mut AllocationBlock, seconds: u32, now: Moment) -> bool {
    let done = |a: &AllocationAttribute| {
        let Some(at) = a.released_at.as_deref() else { return false };
        // A time that cannot be read would keep the address away for ever. The text has lost the fraction of a second.
        seconds == 0 || Moment::parse(at).is_none_or(|at| at.plus_seconds(seconds.saturating_add(1)) <= now)
    };
    let over: BTreeSet<usize> =
        b.attributes.iter().enumerate().filter(|(_, a)| done(a)).map(|(i, _)| i).collect();
    if over.is_empty() {
        return false;
    }
    for o in 0..b.allocations.len() {
        if let Some(slot) = b.allocations.get_mut(o)
            && slot.is_some_and(|i| over.contains(&i))
        {
            *slot = None;
            b.unallocated.push(o);
            b.sequence_number_for_allocation.remove(&o.to_string());
        }
    }
    drop_unused_attributes(b);
    true
}

/// Who has an address; none where nobody has.
#[must_use]
pub fn attribute_of(b: &AllocationBlock, addr: IpAddr) -> Option<&AllocationAttribute> {
    let index = b.allocations.get(ordinal(b.cidr, addr)?).copied().flatten()?;
    b.attributes.get(index)
}

/// Writes another attribute for an address that someone has; the rest of the block stays.
pub fn rewrite(b: &mut AllocationBlock, addr: IpAddr, attribute: &AllocationAttribute) {
    let Some(o) = ordinal(b.cidr, addr) else { return };
    if b.allocations.get(o).copied().flatten().is_none() {
        return;
    }
    let number = b.sequence_number_for_allocation.get(&o.to_string()).copied();
    allocate(b, o, attribute);
    // The tenant is the same: its number stays.
    if let Some(number) = number {
        b.sequence_number_for_allocation.insert(o.to_string(), number);
    }
    drop_unused_attributes(b);
}

/// True for an address that was released and is not to be given out yet.
#[must_use]
pub fn rests(a: &AllocationAttribute) -> bool {
    a.released_at.is_some()
}

/// Attributes that no allocation names leave the list; the others move up in their order.
fn drop_unused_attributes(b: &mut AllocationBlock) {
    let used: BTreeSet<usize> = b.allocations.iter().flatten().copied().collect();
    let moved: BTreeMap<usize, usize> = used.iter().enumerate().map(|(new, old)| (*old, new)).collect();
    let mut index = 0;
    b.attributes.retain(|_| {
        index += 1;
        used.contains(&(index - 1))
    });
    for slot in &mut b.allocations {
        *slot = slot.and_then(|old| moved.get(&old).copied());
    }
}

/// Addresses with the handle, in order.
#[must_use]
pub fn addresses_of(b: &AllocationBlock, handle: &str) -> Vec<IpAddr> {
    allocated(b).filter(|(_, a)| a.handle_id.as_deref() == Some(handle)).map(|(ip, _)| ip).collect()
}

/// Every address that someone has, with its attribute, in order. Resting ones are nobody's.
pub fn allocated(b: &AllocationBlock) -> impl Iterator<Item = (IpAddr, &AllocationAttribute)> {
    taken(b).filter(|(_, a)| !rests(a))
}

/// Every address that is not free, with its attribute, in order.
pub fn taken(b: &AllocationBlock) -> impl Iterator<Item = (IpAddr, &AllocationAttribute)> {
    b.allocations
        .iter()
        .enumerate()
        .filter_map(|(o, slot)| slot.and_then(|i| b.attributes.get(i)).map(|a| (address(b.cidr, o), a)))
}

/// To call on every block before it is written over a stored one.
pub fn written(b: &mut AllocationBlock) {
    b.sequence_number = b.sequence_number.wrapping_add(1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block(cidr: &str) -> AllocationBlock {
        new_block(cidr.parse().unwrap(), Some(&Owner::host("node-a")), Moment(1_795_246_062_308_432_096))
    }

    fn with_handle(h: &str) -> AllocationAttribute {
        AllocationAttribute { handle_id: Some(h.to_owned()), ..Default::default() }
    }

    #[test]
    fn a_released_address_rests_before_it_is_given_out_again() {
        let start = Moment(1_795_246_062_900_000_000);
        let after = |seconds| start.plus_seconds(seconds);
        let mut b = block("10.0.0.0/30");
        assert_eq!(assign(&mut b, 3, "x").len(), 3);
        assert_eq!(cool_where(&mut b, |_, a| a.handle_id.as_deref() == Some("x"), start).len(), 3);
        check(&b).unwrap();
        assert_eq!((in_use(&b), allocated(&b).count(), addresses_of(&b, "x").len()), (3, 0, 0));
        assert!(!is_empty(&b));
        assert!(cool_where(&mut b, |_, _| true, after(5)).is_empty(), "resting again would take longer");
        assert_eq!(assign(&mut b, 4, "y"), ["10.0.0.3"]);
        assert!(!warm_up(&mut b, 30, after(30)), "the text of the time has lost a fraction of a second");
        assert!(warm_up(&mut b, 30, after(31)));
        check(&b).unwrap();
        assert_eq!(b.attributes.len(), 1);
        assert_eq!(assign(&mut b, 4, "z"), ["10.0.0.0", "10.0.0.1", "10.0.0.2"]);
    }

    #[test]
    fn without_a_cool_down_or_a_time_that_can_be_read_nothing_rests() {
        let now = Moment(1_795_246_062_900_000_000);
        let mut b = block("10.0.0.0/31");
        assign(&mut b, 2, "x");
        cool_where(&mut b, |_, _| true, now);
        assert!(warm_up(&mut b.clone(), 0, now));
        b.attributes[0].released_at = Some("yesterday".to_owned());
        assert!(warm_up(&mut b, 600, now));
        assert!(is_empty(&b));
    }

    fn assign(b: &mut AllocationBlock, n: usize, h: &str) -> Vec<String> {
        assign_next(b, n, &with_handle(h), &[]).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_first_address_of_a_block_is_used_like_any_other() {
        assert_eq!(assign(&mut block("10.65.174.128/26"), 1, "x"), ["10.65.174.128"]);
        assert_eq!(assign(&mut block("fd00::80/122"), 2, "x"), ["fd00::80", "fd00::81"]);
    }

    #[test]
    fn a_released_address_goes_to_the_end_of_the_queue() {
        let mut b = block("10.0.0.0/30");
        assign(&mut b, 2, "x");
        assert_eq!(release_where(&mut b, |ip, _| ip == "10.0.0.0".parse::<IpAddr>().unwrap()).len(), 1);
        assert_eq!(b.unallocated, [2, 3, 0]);
        assert_eq!(assign(&mut b, 9, "y"), ["10.0.0.2", "10.0.0.3", "10.0.0.0"]);
    }

    #[test]
    fn an_allocation_remembers_the_sequence_number_it_was_made_at() {
        let mut b = block("10.0.0.0/30");
        assign(&mut b, 1, "x");
        written(&mut b);
        assign(&mut b, 1, "y");
        written(&mut b);
        assert_eq!(b.sequence_number, 1_795_246_062_308_432_098);
        assert_eq!(b.sequence_number_for_allocation["1"], 1_795_246_062_308_432_097);
        release_where(&mut b, |_, a| a.handle_id.as_deref() == Some("x"));
        assert!(!b.sequence_number_for_allocation.contains_key("0"));
    }

    #[test]
    fn equal_attributes_are_stored_once_and_leave_with_their_last_address() {
        let mut b = block("10.0.0.0/29");
        assign(&mut b, 2, "x");
        assign(&mut b, 1, "y");
        assert_eq!(b.attributes.len(), 2);
        release_where(&mut b, |_, a| a.handle_id.as_deref() == Some("x"));
        assert_eq!(b.attributes, [with_handle("y")]);
        assert_eq!(b.allocations[2], Some(0));
    }

    #[test]
    fn reserved_addresses_are_passed_over_and_keep_their_place() {
        let mut b = block("10.0.0.0/29");
        let reservations = ["10.0.0.0/31".parse().unwrap()];
        assert_eq!(available(&b, &reservations), 6);
        let got = assign_next(&mut b, 1, &with_handle("x"), &reservations);
        assert_eq!(got, ["10.0.0.2".parse::<IpAddr>().unwrap()]);
        assert_eq!(b.unallocated, [0, 1, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn a_certain_address_is_given_out_once() {
        let mut b = block("10.0.0.0/30");
        let ip = "10.0.0.2".parse().unwrap();
        assert!(assign_one(&mut b, ip, &with_handle("x")));
        assert!(!assign_one(&mut b, ip, &with_handle("y")));
        assert!(!assign_one(&mut b, "10.0.1.2".parse().unwrap(), &with_handle("y")));
    }

    #[test]
    fn what_is_wrong_with_a_stored_block_is_found() {
        let good = block("10.0.0.0/30");
        assert_eq!(check(&good), Ok(()));
        let spoil = |f: &dyn Fn(&mut AllocationBlock)| {
            let mut b = good.clone();
            f(&mut b);
            check(&b).is_err()
        };
        assert!(spoil(&|b| b.allocations = vec![]));
        assert!(spoil(&|b| b.allocations[0] = Some(3)));
        assert!(spoil(&|b| b.unallocated.push(0)));
        assert!(spoil(&|b| b.unallocated[0] = 77));
        assert!(spoil(&|b| b.unallocated.clear()));
        assert!(spoil(&|b| b.cidr = "::/0".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn a_malformed_block_never_makes_it_panic(
            len in 0u8..=32,
            allocations in proptest::collection::vec(proptest::option::of(0usize..5), 0..20),
            unallocated in proptest::collection::vec(any::<usize>(), 0..20),
            attributes in 0usize..3,
        ) {
            let mut b = block("10.0.0.0/28");
            b.cidr = IpNet::new("10.0.0.0".parse().unwrap(), len).unwrap();
            b.allocations = allocations;
            b.unallocated = unallocated;
            b.attributes = (0..attributes).map(|i| with_handle(&i.to_string())).collect();
            let _ = check(&b);
            let _ = (in_use(&b), is_empty(&b), available(&b, &["10.0.0.0/30".parse().unwrap()]));
            assign_next(&mut b, 3, &with_handle("x"), &[]);
            assign_one(&mut b, "10.0.0.3".parse().unwrap(), &with_handle("y"));
            release_where(&mut b, |_, _| true);
            let _ = allocated(&b).count();
        }

        #[test]
        fn a_block_stays_consistent_whatever_is_done_with_it(
            steps in proptest::collection::vec((0u8..4, 0usize..8, 0u8..5), 0..60)
        ) {
            let mut b = block("10.0.0.0/28");
            let mut model: BTreeMap<IpAddr, String> = BTreeMap::new();
            for (op, n, h) in steps {
                let handle = format!("h{h}");
                match op {
                    0 => for ip in assign_next(&mut b, n, &with_handle(&handle), &[]) {
                        prop_assert!(model.insert(ip, handle.clone()).is_none());
                    },
                    1 => {
                        let ip = address(b.cidr, n);
                        let free = !model.contains_key(&ip);
                        prop_assert_eq!(assign_one(&mut b, ip, &with_handle(&handle)), free);
                        model.entry(ip).or_insert(handle);
                    }
                    2 => {
                        release_where(&mut b, |_, a| a.handle_id.as_deref() == Some(&handle));
                        model.retain(|_, v| *v != handle);
                    }
                    _ => {
                        let gone = address(b.cidr, n);
                        release_where(&mut b, |ip, _| ip == gone);
                        model.remove(&gone);
                    }
                }
                written(&mut b);
                prop_assert_eq!(check(&b), Ok(()));
                let seen: BTreeMap<IpAddr, String> =
                    allocated(&b).map(|(ip, a)| (ip, a.handle_id.clone().unwrap_or_default())).collect();
                prop_assert_eq!(&seen, &model);
                let distinct: BTreeSet<_> = b.attributes.iter().map(|a| a.handle_id.clone()).collect();
                prop_assert_eq!(distinct.len(), b.attributes.len());
            }
        }
    }
}
