//! nf_tables over netlink: transactions and read-back.
//!
//! - [`batch`]: a transaction as bytes: tables, chains, rules, sets, elements.
//! - [`expr`]: a rule's conditions and action as the kernel's expressions.
//! - [`list`]: lists of a rule as sets.
//! - [`read`]: what stands in the kernel.
//! - [`xtables`]: rules that iptables wrote.
//!
//! Numbers are those of `linux/netfilter/nf_tables.h`.

pub mod batch;
pub mod expr;
pub mod list;
pub mod read;
pub mod xtables;

/// Netlink protocol.
pub const NETLINK_NETFILTER: i32 = 12;
/// Multicast group with every change of nf_tables.
pub const GROUP_NFTABLES: u32 = 7;
const SUBSYSTEM: u16 = 10;

/// Families of tables that are programmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NftFamily {
    Ip,
    Ip6,
}

impl NftFamily {
    /// `NFPROTO_…`.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Ip => 2,
            Self::Ip6 => 10,
        }
    }
}

impl From<crate::rule::Family> for NftFamily {
    fn from(f: crate::rule::Family) -> Self {
        match f {
            crate::rule::Family::V4 => Self::Ip,
            crate::rule::Family::V6 => Self::Ip6,
        }
    }
}

/// Messages of the subsystem.
pub mod msg {
    pub const NEW_TABLE: u16 = 0;
    pub const DEL_TABLE: u16 = 2;
    pub const NEW_CHAIN: u16 = 3;
    pub const GET_CHAIN: u16 = 4;
    pub const DEL_CHAIN: u16 = 5;
    pub const NEW_RULE: u16 = 6;
    pub const GET_RULE: u16 = 7;
    pub const DEL_RULE: u16 = 8;
    pub const NEW_SET: u16 = 9;
    pub const GET_SET: u16 = 10;
    pub const DEL_SET: u16 = 11;
    pub const NEW_ELEMENT: u16 = 12;
    pub const GET_ELEMENT: u16 = 13;
    pub const DEL_ELEMENT: u16 = 14;
    pub const NEW_GENERATION: u16 = 15;
}

/// The message type of a subsystem's message.
#[must_use]
pub fn message_type(m: u16) -> u16 {
    (SUBSYSTEM << 8) | m
}

/// Properties of a set or map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SetType {
    /// Single addresses.
    Addr,
    /// Networks.
    Net,
    /// Address, protocol, port.
    AddrPort,
    /// Ranges of ports.
    Ports,
    /// Interface name → verdict.
    Dispatch,
}

/// Flags of sets.
pub(crate) mod set_flag {
    pub const ANONYMOUS: u32 = 1;
    pub const INTERVAL: u32 = 4;
    pub const MAP: u32 = 8;
}

impl SetType {
    /// All that we make.
    pub const ALL: [Self; 5] = [Self::Addr, Self::Net, Self::AddrPort, Self::Ports, Self::Dispatch];

    /// Flags as the kernel has them.
    #[must_use]
    pub fn flags(self) -> u32 {
        match self {
            Self::Addr | Self::AddrPort => 0,
            Self::Net | Self::Ports => set_flag::INTERVAL,
            Self::Dispatch => set_flag::MAP,
        }
    }

    /// The key's type in `nft`'s numbering (for listings), its length in bytes, and whether it is big endian.
    #[must_use]
    pub fn key(self, family: NftFamily) -> (u32, u32, bool) {
        const PROTOCOL: u32 = 12;
        const SERVICE: u32 = 13;
        const IFNAME: u32 = 41;
        let (addr, len) = match family {
            NftFamily::Ip => (7, 4),
            NftFamily::Ip6 => (8, 16),
        };
        match self {
            Self::Addr | Self::Net => (addr, len, true),
            Self::AddrPort => ((addr << 12) | (PROTOCOL << 6) | SERVICE, len + 8, true),
            Self::Ports => (SERVICE, 2, true),
            Self::Dispatch => (IFNAME, 16, false),
        }
    }
}
