//! Path attributes: their typed form and their encoding.
//!
//! Reading them, with the error handling of RFC 7606, is `attribute_decode`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::BufMut;

use crate::aspath::AsPath;
use crate::message::Context;

/// Attribute type codes.
pub(crate) mod code {
    pub const ORIGIN: u8 = 1;
    pub const AS_PATH: u8 = 2;
    pub const NEXT_HOP: u8 = 3;
    pub const MED: u8 = 4;
    pub const LOCAL_PREF: u8 = 5;
    pub const ATOMIC_AGGREGATE: u8 = 6;
    pub const AGGREGATOR: u8 = 7;
    pub const COMMUNITIES: u8 = 8;
    pub const ORIGINATOR_ID: u8 = 9;
    pub const CLUSTER_LIST: u8 = 10;
    pub const MP_REACH: u8 = 14;
    pub const MP_UNREACH: u8 = 15;
    pub const EXT_COMMUNITIES: u8 = 16;
    pub const AS4_PATH: u8 = 17;
    pub const AS4_AGGREGATOR: u8 = 18;
    pub const LARGE_COMMUNITIES: u8 = 32;
}

/// Attribute flags (RFC 4271 section 4.3).
pub(crate) mod flag {
    pub const OPTIONAL: u8 = 0x80;
    pub const TRANSITIVE: u8 = 0x40;
    pub const PARTIAL: u8 = 0x20;
    pub const EXTENDED: u8 = 0x10;
}

/// How the route came into BGP; the lower is the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// From an interior protocol or configuration.
    Igp,
    /// From EGP.
    Egp,
    /// By other means.
    Incomplete,
}

impl Origin {
    /// The value on the wire.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Igp => 0,
            Self::Egp => 1,
            Self::Incomplete => 2,
        }
    }

    /// The origin of a value on the wire.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Igp),
            1 => Some(Self::Egp),
            2 => Some(Self::Incomplete),
            _ => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Igp => "IGP",
            Self::Egp => "EGP",
            Self::Incomplete => "Incomplete",
        })
    }
}

/// Where to send packets for a route; IPv6 may add a link-local address (RFC 2545).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// The address everyone can use.
    pub global: IpAddr,
    /// The address for neighbours on the same link.
    pub link_local: Option<Ipv6Addr>,
}

impl From<IpAddr> for NextHop {
    fn from(global: IpAddr) -> Self {
        Self { global, link_local: None }
    }
}

/// Who aggregated the route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Aggregator {
    /// Its AS number.
    pub asn: u32,
    /// Its BGP identifier.
    pub id: Ipv4Addr,
}

/// A large community (RFC 8092).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LargeCommunity(pub u32, pub u32, pub u32);

/// An attribute this speaker does not know; passed on when it is transitive.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UnknownAttribute {
    /// Flags, without the extended-length bit.
    pub flags: u8,
    /// Type code.
    pub code: u8,
    /// Value.
    pub data: Vec<u8>,
}

/// The attributes of a route. Absent ones are `None` or empty; prefixes and MP attributes are not among them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct PathAttributes {
    /// ORIGIN.
    pub origin: Option<Origin>,
    /// AS_PATH.
    pub as_path: Option<AsPath>,
    /// NEXT_HOP, or the next hop of MP_REACH_NLRI.
    pub next_hop: Option<NextHop>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// ATOMIC_AGGREGATE.
    pub atomic_aggregate: bool,
    /// AGGREGATOR.
    pub aggregator: Option<Aggregator>,
    /// COMMUNITIES, the AS number in the upper half.
    pub communities: Vec<u32>,
    /// ORIGINATOR_ID.
    pub originator_id: Option<Ipv4Addr>,
    /// CLUSTER_LIST, the nearest first.
    pub cluster_list: Vec<u32>,
    /// Extended communities.
    pub ext_communities: Vec<u64>,
    /// Large communities.
    pub large_communities: Vec<LargeCommunity>,
    /// The rest.
    pub unknown: Vec<UnknownAttribute>,
}

/// A name for each attribute, used where code must say which one it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Attribute {
    /// ORIGIN.
    Origin,
    /// AS_PATH.
    AsPath,
    /// NEXT_HOP.
    NextHop,
    /// MULTI_EXIT_DISC.
    Med,
    /// LOCAL_PREF.
    LocalPref,
    /// COMMUNITIES.
    Communities,
    /// ORIGINATOR_ID.
    OriginatorId,
    /// CLUSTER_LIST.
    ClusterList,
    /// Large communities.
    LargeCommunities,
}

impl PathAttributes {
    /// Writes every attribute but the MP ones, in the order of their codes. `with_next_hop` adds NEXT_HOP for
    /// routes in the body of an UPDATE.
    pub(crate) fn encode(&self, ctx: &Context, with_next_hop: bool, out: &mut Vec<u8>) {
        const WELL_KNOWN: u8 = flag::TRANSITIVE;
        const OPTIONAL: u8 = flag::OPTIONAL;
        const BOTH: u8 = flag::OPTIONAL | flag::TRANSITIVE;
        if let Some(origin) = self.origin {
            put(out, WELL_KNOWN, code::ORIGIN, &[origin.code()]);
        }
        if let Some(path) = &self.as_path {
            let mut value = Vec::new();
            path.encode(&mut value, ctx.as4);
            put(out, WELL_KNOWN, code::AS_PATH, &value);
        }
        if let (true, Some(NextHop { global: IpAddr::V4(addr), .. })) = (with_next_hop, self.next_hop) {
            put(out, WELL_KNOWN, code::NEXT_HOP, &addr.octets());
        }
        if let Some(med) = self.med {
            put(out, OPTIONAL, code::MED, &med.to_be_bytes());
        }
        if let Some(pref) = self.local_pref {
            put(out, WELL_KNOWN, code::LOCAL_PREF, &pref.to_be_bytes());
        }
        if self.atomic_aggregate {
            put(out, WELL_KNOWN, code::ATOMIC_AGGREGATE, &[]);
        }
        if let Some(aggregator) = self.aggregator {
            put(out, BOTH, code::AGGREGATOR, &aggregator_value(aggregator, ctx.as4));
        }
        if !self.communities.is_empty() {
            let value: Vec<u8> = self.communities.iter().flat_map(|c| c.to_be_bytes()).collect();
            put(out, BOTH, code::COMMUNITIES, &value);
        }
        if let Some(id) = self.originator_id {
            put(out, OPTIONAL, code::ORIGINATOR_ID, &id.octets());
        }
        if !self.cluster_list.is_empty() {
            let value: Vec<u8> = self.cluster_list.iter().flat_map(|c| c.to_be_bytes()).collect();
            put(out, OPTIONAL, code::CLUSTER_LIST, &value);
        }
        if !self.ext_communities.is_empty() {
            let value: Vec<u8> = self.ext_communities.iter().flat_map(|c| c.to_be_bytes()).collect();
            put(out, BOTH, code::EXT_COMMUNITIES, &value);
        }
        self.encode_as4(ctx, out);
        if !self.large_communities.is_empty() {
            let mut value = Vec::with_capacity(self.large_communities.len() * 12);
            for &LargeCommunity(a, b, c) in &self.large_communities {
                value.put_u32(a);
                value.put_u32(b);
                value.put_u32(c);
            }
            put(out, BOTH, code::LARGE_COMMUNITIES, &value);
        }
        for unknown in &self.unknown {
            put(out, unknown.flags, unknown.code, &unknown.data);
        }
    }

    /// AS4_PATH and AS4_AGGREGATOR for a peer of two-octet AS numbers (RFC 6793 section 4.2.2).
    fn encode_as4(&self, ctx: &Context, out: &mut Vec<u8>) {
        const BOTH: u8 = flag::OPTIONAL | flag::TRANSITIVE;
        if ctx.as4 {
            return;
        }
        if let Some(path) = self.as_path.as_ref().filter(|p| p.needs_as4()) {
            let mut value = Vec::new();
            path.without_confederation().encode(&mut value, true);
            put(out, BOTH, code::AS4_PATH, &value);
        }
        if let Some(aggregator) = self.aggregator.filter(|a| a.asn > 65535) {
            put(out, BOTH, code::AS4_AGGREGATOR, &aggregator_value(aggregator, true));
        }
    }
}

fn aggregator_value(aggregator: Aggregator, as4: bool) -> Vec<u8> {
    let mut value = Vec::with_capacity(8);
    if as4 {
        value.put_u32(aggregator.asn);
    } else {
        value.put_u16(u16::try_from(aggregator.asn).unwrap_or(crate::aspath::AS_TRANS as u16));
    }
    value.extend(aggregator.id.octets());
    value
}

/// Writes one attribute with the length form its value needs.
pub(crate) fn put(out: &mut Vec<u8>, flags: u8, code: u8, value: &[u8]) {
    if let Ok(len) = u8::try_from(value.len()) {
        out.put_u8(flags & !flag::EXTENDED);
        out.put_u8(code);
        out.put_u8(len);
    } else {
        out.put_u8(flags | flag::EXTENDED);
        out.put_u8(code);
        out.put_u16(u16::try_from(value.len()).unwrap_or(u16::MAX));
    }
    out.extend(value);
}
