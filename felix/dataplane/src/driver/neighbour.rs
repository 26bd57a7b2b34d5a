//! Permanent entries of the neighbour table: a workload's address and its hardware address on its interface.
//!
//! In: address → interface and hardware address. Out: entries. Always holds: only entries of workload interfaces that
//! were asked for are written, and removed again; IPv6 finds its neighbours itself, as with upstream. Why at all:
//! a workload that answers for no address but those of its subnet (`arp_ignore=2`) would not be found, and an entry that
//! another program wrote over (`dnsmasq` does) must come back.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::interfaces::Interfaces;
use crate::kernel::netlink::Netlink;
use crate::kernel::route::{self, Neighbour};

/// A hardware address.
pub type Mac = [u8; 6];

/// What is to stand.
#[derive(Debug, Default)]
pub struct DesiredNeighbours {
    entries: BTreeMap<Ipv4Addr, (Arc<str>, Mac)>,
    /// Addresses that changed, with the interface that they leave.
    dirty: BTreeMap<Ipv4Addr, Option<Arc<str>>>,
}

impl DesiredNeighbours {
    /// Names an address's neighbour, or (`None`) nobody.
    pub fn set(&mut self, addr: Ipv4Addr, to: Option<(Arc<str>, Mac)>) {
        if self.entries.get(&addr) == to.as_ref() {
            return;
        }
        let old = match to {
            Some(new) => self.entries.insert(addr, new),
            None => self.entries.remove(&addr),
        };
        let leaves = self.dirty.entry(addr).or_default();
        if leaves.is_none() {
            *leaves = old.map(|(i, _)| i);
        }
    }

    /// The interface came up or changed: its entries are written again.
    pub fn touch(&mut self, interface: &str) {
        for (addr, _) in self.entries.iter().filter(|(_, (i, _))| **i == *interface) {
            self.dirty.entry(*addr).or_insert(None);
        }
    }
}

/// `aa:bb:cc:dd:ee:ff` as bytes.
#[must_use]
pub fn parse_mac(text: &str) -> Option<Mac> {
    let mut out = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut out {
        *byte = u8::from_str_radix(parts.next().filter(|p| p.len() == 2)?, 16).ok()?;
    }
    parts.next().is_none().then_some(out)
}

/// Makes the kernel hold the entries over interfaces that are up; `all`: compares everything. Returns how many were
/// written.
///
/// # Errors
/// What the kernel refused, the first of it; the rest was still tried. The caller tries again with `all`.
pub fn apply(
    socket: &mut Netlink,
    desired: &mut DesiredNeighbours,
    interfaces: &Interfaces,
    all: bool,
) -> io::Result<usize> {
    let wanted = |addr: &Ipv4Addr| {
        let (interface, mac) = desired.entries.get(addr)?;
        Some(Neighbour { index: interfaces.up(interface)?.index, addr: *addr, mac: *mac })
    };
    let mut addresses: BTreeSet<Ipv4Addr> = desired.dirty.keys().copied().collect();
    if all && !desired.entries.is_empty() {
        let have = route::permanent_neighbours(socket)?;
        addresses.extend(
            desired.entries.keys().filter(|a| wanted(a).is_some_and(|n| !have.contains(&n))).copied(),
        );
    }
    let (mut written, mut failed) = (0, None);
    for addr in &addresses {
        let new = wanted(addr);
        let left = desired.dirty.get(addr).and_then(Option::as_ref).and_then(|i| interfaces.by_name(i));
        let gone = left.filter(|i| new.as_ref().is_none_or(|n| n.index != i.index));
        let removed = gone.map(|i| route::delete_neighbour(socket, i.index, *addr));
        let set = new.map(|n| route::set_neighbour(socket, &n));
        for result in removed.into_iter().chain(set) {
            written += 1;
            match result {
                // The interface went in between; its notification is on its way.
                Err(e) if matches!(e.raw_os_error(), Some(libc::ENETDOWN | libc::ENODEV)) => {}
                Err(e) if failed.is_none() => {
                    failed = Some(io::Error::new(e.kind(), format!("neighbour {addr}: {e}")));
                }
                _ => {}
            }
        }
    }
    desired.dirty.clear();
    failed.map_or(Ok(written), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hardware_address_has_six_bytes() {
        assert_eq!(parse_mac("ee:ee:EE:00:01:ff"), Some([0xee, 0xee, 0xee, 0, 1, 0xff]));
        for text in ["", "ee:ee:ee:ee:ee", "ee:ee:ee:ee:ee:ee:ee", "e:ee:ee:ee:ee:ee", "gg:ee:ee:ee:ee:ee"] {
            assert_eq!(parse_mac(text), None, "{text}");
        }
    }
}
