//! A route and its parts. Routes are small and cheap to copy: whatever many share is behind an `Arc`.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::attrs::Attrs;
use crate::time::Time;

/// Number of a protocol instance; never used again for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProtoId(pub u32);

/// An interface, as far as a next hop needs it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Iface {
    /// Kernel index.
    pub index: u32,
    /// Name.
    pub name: Arc<str>,
}

/// One next hop.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Hop {
    /// Gateway; without one the destination itself is on the link.
    pub gateway: Option<IpAddr>,
    /// Interface.
    pub iface: Arc<Iface>,
    /// The gateway is reachable though no subnet says so.
    pub onlink: bool,
    /// Share of the traffic among several hops, from 1.
    pub weight: u16,
}

/// What happens to packets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Dest {
    /// They go to one or more next hops.
    Unicast(Arc<[Hop]>),
    /// They vanish.
    Blackhole,
    /// They are answered with "unreachable".
    Unreachable,
    /// They are answered with "prohibited".
    Prohibit,
}

impl Dest {
    /// The first next hop.
    #[must_use]
    pub fn first_hop(&self) -> Option<&Hop> {
        self.hops().first()
    }

    /// All next hops.
    #[must_use]
    pub fn hops(&self) -> &[Hop] {
        match self {
            Self::Unicast(hops) => hops,
            _ => &[],
        }
    }

    /// BIRD's number of the kind, for filters.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Unicast(_) => 1,
            Self::Blackhole => 2,
            Self::Unreachable => 3,
            Self::Prohibit => 4,
        }
    }

    /// The word `show route` prints.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unicast(_) => "unicast",
            Self::Blackhole => "blackhole",
            Self::Unreachable => "unreachable",
            Self::Prohibit => "prohibited",
        }
    }
}

/// Where a route comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouteSource {
    /// Configured.
    Static,
    /// Configured, to an interface.
    StaticDevice,
    /// Learned from the kernel.
    Inherit,
    /// The subnet of an interface.
    Device,
    /// BGP.
    Bgp,
}

impl RouteSource {
    /// BIRD's number, for filters.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Static => 1,
            Self::Inherit => 2,
            Self::Device => 3,
            Self::StaticDevice => 4,
            Self::Bgp => 11,
        }
    }

    /// The word after `Type:` in `show route all`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Static | Self::StaticDevice => "static",
            Self::Inherit => "inherit",
            Self::Device => "device",
            Self::Bgp => "BGP",
        }
    }
}

/// What path selection asks about the BGP session a route came over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BgpOrigin {
    /// The neighbour's identifier.
    pub router_id: Ipv4Addr,
    /// The session is internal.
    pub internal: bool,
    /// The neighbour is our route-reflection client.
    pub rr_client: bool,
    /// Value for routes without LOCAL_PREF.
    pub default_local_pref: u32,
    /// Value for routes without MED.
    pub default_med: u32,
    /// Lengths of paths count.
    pub path_metric: bool,
    /// MED counts between different neighbouring ASes.
    pub med_metric: bool,
}

/// Who brought a route; one shared copy for all routes of a protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteOrigin {
    /// The protocol.
    pub proto: ProtoId,
    /// Its name.
    pub name: Arc<str>,
    /// The kind of source.
    pub source: RouteSource,
    /// The neighbour that sent it.
    pub from: Option<IpAddr>,
    /// More, for BGP.
    pub bgp: Option<BgpOrigin>,
}

/// A route to a prefix (which the table knows).
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Who brought it.
    pub origin: Arc<RouteOrigin>,
    /// Which of several routes of one protocol it is.
    pub path_id: u32,
    /// Attributes.
    pub attrs: Arc<Attrs>,
    /// What happens to packets; for a recursive route, as the table says now.
    pub dest: Dest,
    /// The next hop that `dest` is looked up for.
    pub via: Option<IpAddr>,
    /// Interior cost of the next hop.
    pub igp_metric: u32,
    /// Preference; the highest wins.
    pub preference: u32,
    /// Its session is gone and it waits for the neighbour's return (RFC 4724).
    pub stale: bool,
    /// When it came or last changed.
    pub since: Time,
}

impl Route {
    /// Whether another route says the same, so that nobody needs to hear of it.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.attrs, &other.attrs)
            && self.dest == other.dest
            && self.via == other.via
            && self.preference == other.preference
            && self.igp_metric == other.igp_metric
            && self.origin == other.origin
    }
}
