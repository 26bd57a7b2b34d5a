//! Interfaces of the machine, and who is a neighbour on them.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::config::InterfacePattern;
use crate::filter::glob_matches;
use crate::rib::Iface;

/// An address on an interface.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InterfaceAddress {
    /// The address with the length of its subnet.
    pub net: IpNet,
    /// The other end of a point-to-point link.
    pub peer: Option<IpAddr>,
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Kernel index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Administratively up.
    pub admin_up: bool,
    /// The link has a carrier.
    pub link_up: bool,
    /// Loopback.
    pub loopback: bool,
    /// Broadcast-capable.
    pub broadcast: bool,
    /// Point-to-point.
    pub point_to_point: bool,
    /// Multicast-capable.
    pub multicast: bool,
    /// Largest packet, in bytes.
    pub mtu_bytes: u32,
    /// Its master (bridge, VRF), when it has one.
    pub master: Option<u32>,
    /// Addresses, sorted.
    pub addresses: Vec<InterfaceAddress>,
}

impl Interface {
    /// Whether it can carry packets.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.admin_up && self.link_up
    }

    /// What a next hop keeps of it.
    #[must_use]
    pub fn handle(&self) -> Arc<Iface> {
        Arc::new(Iface { index: self.index, name: Arc::from(self.name.as_str()) })
    }
}

/// All interfaces, as last seen.
#[derive(Debug, Default)]
pub struct Interfaces {
    all: Vec<Interface>,
}

impl Interfaces {
    /// Takes a new look; returns whether anything is different.
    pub fn replace(&mut self, mut all: Vec<Interface>) -> bool {
        for interface in &mut all {
            interface.addresses.sort();
        }
        all.sort_by_key(|i| i.index);
        let changed = self.all != all;
        self.all = all;
        changed
    }

    /// All of them, by index.
    #[must_use]
    pub fn all(&self) -> &[Interface] {
        &self.all
    }

    /// By kernel index.
    #[must_use]
    pub fn by_index(&self, index: u32) -> Option<&Interface> {
        self.all.iter().find(|i| i.index == index)
    }

    /// By name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Interface> {
        self.all.iter().find(|i| i.name == name)
    }

    /// The interface on whose subnet an address is; the longest subnet wins. Addresses of our own do not count.
    #[must_use]
    pub fn neighbor(&self, address: IpAddr) -> Option<&Interface> {
        self.subnet_of(address).filter(|_| !self.is_local(address)).map(|(interface, _)| interface)
    }

    fn subnet_of(&self, address: IpAddr) -> Option<(&Interface, IpNet)> {
        let candidates = self.all.iter().filter(|i| i.is_up()).flat_map(|i| {
            i.addresses.iter().filter_map(move |a| match a.peer {
                Some(peer) if peer == address => Some((i, IpNet::from(peer))),
                Some(_) => None,
                None => a.net.contains(&address).then_some((i, a.net)),
            })
        });
        candidates.max_by_key(|(_, net)| net.prefix_len())
    }

    /// Whether an address is one of ours.
    #[must_use]
    pub fn is_local(&self, address: IpAddr) -> bool {
        self.all.iter().any(|i| i.addresses.iter().any(|a| a.net.addr() == address))
    }

    /// A global address of a family on the interface that has `near`.
    #[must_use]
    pub fn sibling(&self, near: IpAddr, ipv6: bool) -> Option<IpAddr> {
        let interface = self.all.iter().find(|i| i.addresses.iter().any(|a| a.net.addr() == near))?;
        let usable = |a: &IpAddr| match a {
            IpAddr::V4(_) => !ipv6,
            IpAddr::V6(a) => ipv6 && !a.is_unicast_link_local(),
        };
        interface.addresses.iter().map(|a| a.net.addr()).find(usable)
    }

    /// The lowest IPv4 address that is no loopback: a router id for those who configured none.
    #[must_use]
    pub fn router_id(&self) -> Option<std::net::Ipv4Addr> {
        let addresses = self.all.iter().filter(|i| i.admin_up && !i.loopback).flat_map(|i| &i.addresses);
        let v4 = addresses.filter_map(|a| match a.net {
            IpNet::V4(net) => Some(net.addr()),
            IpNet::V6(_) => None,
        });
        v4.min()
    }
}

/// Whether patterns choose an address of an interface; the first that matches decides, no patterns take all.
#[must_use]
pub(crate) fn chosen(patterns: &[InterfacePattern], interface: &Interface, net: IpNet) -> bool {
    if patterns.is_empty() {
        return true;
    }
    let matches = |p: &&InterfacePattern| {
        p.name.as_deref().is_none_or(|name| glob_matches(name, &interface.name))
            && p.prefix.is_none_or(|prefix| prefix.contains(&net.addr()))
    };
    patterns.iter().find(matches).is_some_and(|p| !p.negated)
}
