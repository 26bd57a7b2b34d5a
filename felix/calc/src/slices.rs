//! Endpoints of Kubernetes' services: which addresses and ports rules mean that name a service.
//!
//! In come EndpointSlices, out go members of address sets, by service. Every endpoint of a service counts, ready or
//! not, as upstream has it: policy is about who may speak, not about who answers. Always holds: what a service's set
//! contains is the union of its slices. Left out: the services' own addresses (what was translated to an endpoint's
//! address is matched by that), and slices that belong to no service.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use felix_message::IpSetMember;
use ipnet::IpNet;
use libcalico_model::kubernetes::service::EndpointSlice;

/// Namespace and name of a slice.
pub type SliceKey = (String, String);

/// A slice: its addresses and ports, sorted and distinct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// `namespace/name`
    pub service: Box<str>,
    addrs: Box<[IpAddr]>,
    /// Protocol and number.
    ports: Box<[(u8, u16)]>,
}

impl Slice {
    /// Reads a slice; none where it is of no service. A port without a number is any port, which no rule can name.
    pub fn new(slice: &EndpointSlice) -> Option<Self> {
        let service = slice.service()?.into();
        let mut addrs: Vec<IpAddr> = slice.addresses().collect();
        addrs.sort_unstable();
        addrs.dedup();
        let protocol = |text: &str| match text {
            "UDP" => 17,
            "SCTP" => 132,
            _ => 6,
        };
        let ports = slice.ports.iter().filter_map(|p| Some((protocol(&p.protocol), p.port?)));
        let ports: BTreeSet<(u8, u16)> = ports.collect();
        Some(Self { service, addrs: addrs.into(), ports: ports.into_iter().collect() })
    }

    /// What it brings to its service's set.
    pub fn members(&self, with_ports: bool) -> Vec<IpSetMember> {
        if !with_ports {
            return self.addrs.iter().map(|a| IpSetMember::Net(IpNet::from(*a))).collect();
        }
        let of = |addr: &IpAddr| {
            let addr = *addr;
            self.ports.iter().map(move |(protocol, port)| IpSetMember::IpPort(addr, *protocol, *port))
        };
        self.addrs.iter().flat_map(of).collect()
    }

    fn contains(&self, member: &IpSetMember) -> bool {
        let has = |addr| self.addrs.binary_search(&addr).is_ok();
        match member {
            IpSetMember::Net(net) => has(net.addr()),
            IpSetMember::IpPort(addr, protocol, port) => {
                has(*addr) && self.ports.binary_search(&(*protocol, *port)).is_ok()
            }
        }
    }
}

/// See the module's text.
#[derive(Default)]
pub struct Slices {
    slices: HashMap<SliceKey, Slice>,
    by_service: HashMap<Box<str>, BTreeSet<SliceKey>>,
}

impl Slices {
    /// A slice.
    pub fn get(&self, key: &SliceKey) -> Option<&Slice> {
        self.slices.get(key)
    }

    /// Sets or removes a slice.
    pub fn set(&mut self, key: SliceKey, slice: Option<Slice>) {
        if let Some(old) = self.slices.remove(&key)
            && let Some(keys) = self.by_service.get_mut(&old.service)
        {
            keys.remove(&key);
            if keys.is_empty() {
                self.by_service.remove(&old.service);
            }
        }
        if let Some(slice) = slice {
            self.by_service.entry(slice.service.clone()).or_default().insert(key.clone());
            self.slices.insert(key, slice);
        }
    }

    fn of(&self, service: &str) -> impl Iterator<Item = &Slice> {
        self.by_service.get(service).into_iter().flatten().filter_map(|k| self.slices.get(k))
    }

    /// Members of a service's set, repetitions included.
    pub fn members(&self, service: &str, with_ports: bool) -> Vec<IpSetMember> {
        self.of(service).flat_map(|s| s.members(with_ports)).collect()
    }

    /// True where a service's set has the member.
    pub fn contains(&self, service: &str, member: &IpSetMember) -> bool {
        self.of(service).any(|s| s.contains(member))
    }
}
