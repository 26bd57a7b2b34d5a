//! Chains and rules in the dataplane's own terms: what is to hold, whichever backend programs it.
//!
//! In: nothing; these are the values that [`crate::render`] makes and table drivers take. Always holds: a rule here
//! means the same for nftables and iptables; a match that one backend cannot express in one rule is taken apart by that
//! backend (`render::lower` for nftables). Left out: names' limits and families of sets, which are the backend's.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use felix_message::{IpSetId, PortRange};
use ipnet::IpNet;

/// An IP family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// Both families, in the order in which they are programmed.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// 4 or 6.
    #[must_use]
    pub fn version(self) -> u8 {
        match self {
            Self::V4 => 4,
            Self::V6 => 6,
        }
    }

    /// Position in an array of both.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self == Self::V6)
    }

    /// The family of an address.
    #[must_use]
    pub fn of(addr: &IpAddr) -> Self {
        if addr.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The family of a network.
    #[must_use]
    pub fn of_net(net: &IpNet) -> Self {
        Self::of(&net.addr())
    }
}

/// The four tables of iptables; nftables has them as a prefix of its chains' names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    Raw,
    Mangle,
    Nat,
    Filter,
}

impl Table {
    /// All of them, in the order in which a packet meets them.
    pub const ALL: [Self; 4] = [Self::Raw, Self::Mangle, Self::Nat, Self::Filter];

    /// Position in [`Self::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Raw => 0,
            Self::Mangle => 1,
            Self::Nat => 2,
            Self::Filter => 3,
        }
    }

    /// The name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Mangle => "mangle",
            Self::Nat => "nat",
            Self::Filter => "filter",
        }
    }
}

/// Name of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChainId {
    pub table: Table,
    /// Without the table: `cali-FORWARD`; for a kernel chain `FORWARD`.
    pub name: Arc<str>,
}

impl ChainId {
    /// The name of a chain.
    pub fn new(table: Table, name: impl Into<Arc<str>>) -> Self {
        Self { table, name: name.into() }
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.table.name(), self.name)
    }
}

/// Kernel hooks, in netfilter's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HookPoint {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

/// Where a base chain hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hook {
    /// `filter`, `nat` or `route`.
    pub kind: &'static str,
    pub point: HookPoint,
    pub priority: i32,
}

/// A chain. Rules are tried in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Where the kernel enters it; `None` for chains that others jump to.
    pub hook: Option<Hook>,
    pub rules: Vec<Rule>,
}

impl Chain {
    /// A chain that others jump to.
    #[must_use]
    pub fn new(mut rules: Vec<Rule>) -> Self {
        // Chains are kept as long as they stand.
        rules.shrink_to_fit();
        Self { hook: None, rules }
    }
}

/// One rule: all matches hold → the action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub matches: Vec<Match>,
    pub action: Action,
}

impl Rule {
    /// A rule that always acts.
    #[must_use]
    pub fn always(action: Action) -> Self {
        Self { matches: Vec::new(), action }
    }

    /// A rule with conditions.
    #[must_use]
    pub fn when(mut matches: Vec<Match>, action: Action) -> Self {
        matches.shrink_to_fit();
        Self { matches, action }
    }
}

/// Which end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    Src,
    Dst,
}

/// A set of addresses or of addresses with ports.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SetName {
    /// One that the calculation named.
    Calculated(IpSetId),
    /// One of the dataplane's own: `all-hosts-net`, `this-host`, `network-ip-pools`, `masq-ipam-pools`.
    Own(&'static str),
}

/// How often at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RateLimit {
    pub packets: u32,
    pub unit: TimeUnit,
    pub burst: u32,
}

/// What a rate is counted over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimeUnit {
    Second,
    Minute,
    Hour,
    Day,
}

impl TimeUnit {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Second, Self::Minute, Self::Hour, Self::Day];

    /// As nftables and iptables have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    /// Its length.
    #[must_use]
    pub fn secs(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
            Self::Day => 86400,
        }
    }
}

/// A condition. `not` negates it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// The mark's bits under the mask are exactly `value`.
    Mark {
        value: u32,
        mask: u32,
    },
    /// Connection tracking's state: any of these bits ([`ct_state`]).
    CtState(u32),
    /// The packet's connection has a translated destination.
    CtDnat {
        not: bool,
    },
    /// Incoming interface; a trailing `+` stands for anything.
    InInterface(Arc<str>),
    /// Outgoing interface, likewise.
    OutInterface(Arc<str>),
    Protocol {
        not: bool,
        number: u8,
    },
    /// The address is in one of the networks (of the family that is rendered).
    Net {
        end: End,
        not: bool,
        nets: Vec<IpNet>,
    },
    /// The address is in the set.
    Set {
        end: End,
        not: bool,
        set: SetName,
    },
    /// Address, protocol and port are in the set.
    PortSet {
        end: End,
        not: bool,
        set: SetName,
    },
    /// The port is in one of the ranges. The rule has a [`Match::Protocol`] before it.
    Ports {
        end: End,
        not: bool,
        ranges: Vec<PortRange>,
    },
    /// The port is in one of the ranges, or address, protocol and port are in one of the sets.
    AnyPort {
        end: End,
        not: bool,
        protocol: u8,
        ranges: Vec<PortRange>,
        sets: Vec<SetName>,
    },
    /// ICMP or, with IPv6, ICMPv6 of this type and code.
    Icmp {
        not: bool,
        icmp_type: u8,
        code: Option<u8>,
    },
    /// The address is one of this host's.
    Local {
        end: End,
        not: bool,
    },
    /// No more than so many packets in a time, after a first burst. The last condition of a rule: asking uses it up.
    Limit(RateLimit),
    /// No route leads back to the source over the interface that the packet came in on (mark included).
    ReversePathFails,
}

/// Bits of connection tracking's state as nftables has them.
pub mod ct_state {
    pub const INVALID: u32 = 1;
    pub const ESTABLISHED: u32 = 2;
    pub const RELATED: u32 = 4;
    pub const UNTRACKED: u32 = 64;
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Accept,
    Drop,
    Reject,
    Return,
    Jump(Arc<str>),
    Goto(Arc<str>),
    /// Clears, then sets bits of the mark.
    Mark {
        clear: u32,
        set: u32,
    },
    Log {
        prefix: String,
    },
    NoTrack,
    /// Source translation to the outgoing interface's address.
    Masquerade {
        ports: Option<PortRange>,
    },
    /// Source translation to an address.
    Snat {
        to: IpAddr,
        ports: Option<PortRange>,
    },
    /// Destination translation to an address.
    Dnat {
        to: IpAddr,
    },
    /// Goes on in the chain that the dispatch map names for the incoming interface; else with the next rule.
    DispatchIn(Arc<str>),
    /// Likewise for the outgoing interface.
    DispatchOut(Arc<str>),
}

/// Shorthands for rules' conditions.
impl Match {
    /// All these mark bits are set.
    #[must_use]
    pub fn mark_set(bits: u32) -> Self {
        Self::Mark { value: bits, mask: bits }
    }

    /// All these mark bits are clear.
    #[must_use]
    pub fn mark_clear(bits: u32) -> Self {
        Self::Mark { value: 0, mask: bits }
    }

    /// Interface with a prefix.
    #[must_use]
    pub fn in_prefix(prefix: &str) -> Self {
        Self::InInterface(format!("{prefix}+").into())
    }

    /// Interface with a prefix.
    #[must_use]
    pub fn out_prefix(prefix: &str) -> Self {
        Self::OutInterface(format!("{prefix}+").into())
    }
}
