//! Values of the filter language, how they compare and how they print.

use std::cmp::Ordering;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bird_wire::{AsPath, LargeCommunity};
use ipnet::IpNet;

use super::set::{MaskItem, Set};

/// The enumerations of the language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EnumKind {
    /// `RTS_*`: where a route comes from.
    Source,
    /// `RTD_*`: what happens to packets.
    Dest,
    /// `SCOPE_*`.
    Scope,
    /// `ORIGIN_*`.
    Origin,
    /// `NET_*`: types of prefixes.
    NetType,
}

/// All names of enumeration values; numbers are BIRD's.
const ENUMS: &[(&str, EnumKind, u8)] = &[
    ("RTS_DUMMY", EnumKind::Source, 0),
    ("RTS_STATIC", EnumKind::Source, 1),
    ("RTS_INHERIT", EnumKind::Source, 2),
    ("RTS_DEVICE", EnumKind::Source, 3),
    ("RTS_STATIC_DEVICE", EnumKind::Source, 4),
    ("RTS_REDIRECT", EnumKind::Source, 5),
    ("RTS_RIP", EnumKind::Source, 6),
    ("RTS_OSPF", EnumKind::Source, 7),
    ("RTS_OSPF_IA", EnumKind::Source, 8),
    ("RTS_OSPF_EXT1", EnumKind::Source, 9),
    ("RTS_OSPF_EXT2", EnumKind::Source, 10),
    ("RTS_BGP", EnumKind::Source, 11),
    ("RTS_PIPE", EnumKind::Source, 12),
    ("RTS_BABEL", EnumKind::Source, 13),
    ("RTD_UNICAST", EnumKind::Dest, 1),
    ("RTD_BLACKHOLE", EnumKind::Dest, 2),
    ("RTD_UNREACHABLE", EnumKind::Dest, 3),
    ("RTD_PROHIBIT", EnumKind::Dest, 4),
    ("SCOPE_HOST", EnumKind::Scope, 0),
    ("SCOPE_LINK", EnumKind::Scope, 1),
    ("SCOPE_SITE", EnumKind::Scope, 2),
    ("SCOPE_ORGANIZATION", EnumKind::Scope, 3),
    ("SCOPE_UNIVERSE", EnumKind::Scope, 4),
    ("ORIGIN_IGP", EnumKind::Origin, 0),
    ("ORIGIN_EGP", EnumKind::Origin, 1),
    ("ORIGIN_INCOMPLETE", EnumKind::Origin, 2),
    ("NET_IP4", EnumKind::NetType, 1),
    ("NET_IP6", EnumKind::NetType, 2),
];

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing: an attribute the route does not have.
    Void,
    /// A truth value.
    Bool(bool),
    /// A number.
    Int(u32),
    /// A pair of 16-bit numbers, a standard community.
    Pair(u32),
    /// A router id.
    Quad(Ipv4Addr),
    /// An address.
    Ip(IpAddr),
    /// A prefix.
    Net(IpNet),
    /// A string.
    Text(Arc<str>),
    /// A value of an enumeration.
    Enum(EnumKind, u8),
    /// A large community.
    Lc(LargeCommunity),
    /// An extended community.
    Ec(u64),
    /// An AS path.
    Path(Arc<AsPath>),
    /// A pattern of AS paths.
    Mask(Arc<[MaskItem]>),
    /// A list of standard communities.
    CList(Arc<[u32]>),
    /// A list of large communities.
    LcList(Arc<[LargeCommunity]>),
    /// A list of extended communities.
    EcList(Arc<[u64]>),
    /// A set.
    Set(Arc<Set>),
}

impl Value {
    /// The enumeration value of a name.
    #[must_use]
    pub fn enumeration(name: &str) -> Option<Self> {
        ENUMS.iter().find(|(n, ..)| *n == name).map(|&(_, kind, code)| Self::Enum(kind, code))
    }

    /// The name of the type, for messages.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Void => "void",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Pair(_) => "pair",
            Self::Quad(_) => "quad",
            Self::Ip(_) => "ip",
            Self::Net(_) => "prefix",
            Self::Text(_) => "string",
            Self::Enum(..) => "enum",
            Self::Lc(_) => "lc",
            Self::Ec(_) => "ec",
            Self::Path(_) => "bgppath",
            Self::Mask(_) => "bgpmask",
            Self::CList(_) => "clist",
            Self::LcList(_) => "lclist",
            Self::EcList(_) => "eclist",
            Self::Set(_) => "set",
        }
    }

    /// Order of two values of one type; `None` when they cannot be ordered.
    #[must_use]
    pub fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) | (Self::Pair(a), Self::Pair(b)) => Some(a.cmp(b)),
            (Self::Quad(a), Self::Quad(b)) => Some(a.cmp(b)),
            (Self::Ip(a), Self::Ip(b)) => Some(a.cmp(b)),
            (Self::Net(a), Self::Net(b)) => Some(a.cmp(b)),
            (Self::Text(a), Self::Text(b)) => Some(a.cmp(b)),
            (Self::Lc(a), Self::Lc(b)) => Some(a.cmp(b)),
            (Self::Ec(a), Self::Ec(b)) => Some(a.cmp(b)),
            (Self::Enum(k, a), Self::Enum(l, b)) if k == l => Some(a.cmp(b)),
            // A router id compares with an IPv4 address, since `from` and friends are addresses.
            (Self::Quad(a), Self::Ip(IpAddr::V4(b))) => Some(a.cmp(b)),
            (Self::Ip(IpAddr::V4(a)), Self::Quad(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }

    /// Equality as `=` means it; `None` when the types have nothing in common.
    #[must_use]
    pub fn same(&self, other: &Self) -> Option<bool> {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => Some(a == b),
            (Self::Path(a), Self::Path(b)) => Some(a == b),
            (Self::CList(a), Self::CList(b)) => Some(a == b),
            (Self::LcList(a), Self::LcList(b)) => Some(a == b),
            (Self::EcList(a), Self::EcList(b)) => Some(a == b),
            (Self::Void, Self::Void) => Some(true),
            // As in BIRD, values of different types are unequal rather than an error.
            _ => Some(self.order(other).is_some_and(Ordering::is_eq)),
        }
    }

    /// The `~` operator; `None` when the types do not fit.
    #[must_use]
    pub fn matches(&self, other: &Self) -> Option<bool> {
        Some(match (self, other) {
            (Self::Net(a), Self::Net(b)) => same_family(*a, *b) && b.contains(a),
            (Self::Ip(a), Self::Net(b)) => b.contains(a),
            (Self::Text(a), Self::Text(b)) => super::glob_matches(b, a),
            (Self::Pair(a), Self::CList(list)) => list.contains(a),
            (Self::Lc(a), Self::LcList(list)) => list.contains(a),
            (Self::Ec(a), Self::EcList(list)) => list.contains(a),
            (Self::Int(asn), Self::Path(path)) => path.contains(*asn),
            (Self::Path(path), Self::Mask(mask)) => super::set::mask_matches(mask, path),
            (Self::Path(path), Self::Set(set)) => {
                path.iter().any(|asn| set.contains(&Self::Int(asn)) == Some(true))
            }
            (Self::CList(list), Self::Set(set)) => {
                list.iter().any(|&c| set.contains(&Self::Pair(c)) == Some(true))
            }
            (Self::LcList(list), Self::Set(set)) => {
                list.iter().any(|&c| set.contains(&Self::Lc(c)) == Some(true))
            }
            (value, Self::Set(set)) => set.contains(value)?,
            _ => return None,
        })
    }
}

fn same_family(a: IpNet, b: IpNet) -> bool {
    matches!((a, b), (IpNet::V4(_), IpNet::V4(_)) | (IpNet::V6(_), IpNet::V6(_)))
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Void => f.write_str("(void)"),
            Self::Bool(b) => f.write_str(if *b { "TRUE" } else { "FALSE" }),
            Self::Int(n) => write!(f, "{n}"),
            Self::Pair(c) => write!(f, "({},{})", c >> 16, c & 0xffff),
            Self::Quad(q) => write!(f, "{q}"),
            Self::Ip(a) => write!(f, "{a}"),
            Self::Net(n) => write!(f, "{n}"),
            Self::Text(t) => f.write_str(t),
            Self::Enum(kind, code) => match ENUMS.iter().find(|(_, k, c)| k == kind && c == code) {
                Some((name, ..)) => f.write_str(name),
                None => write!(f, "(enum {code})"),
            },
            Self::Lc(LargeCommunity(a, b, c)) => write!(f, "({a}, {b}, {c})"),
            Self::Ec(c) => write!(f, "(generic, 0x{:x}, 0x{:x})", c >> 32, c & 0xffff_ffff),
            Self::Path(p) => write!(f, "{p}"),
            Self::Mask(_) => f.write_str("[= … =]"),
            Self::CList(list) => list_of(f, list.iter().map(|&c| Self::Pair(c))),
            Self::LcList(list) => list_of(f, list.iter().map(|&c| Self::Lc(c))),
            Self::EcList(list) => list_of(f, list.iter().map(|&c| Self::Ec(c))),
            Self::Set(_) => f.write_str("[ … ]"),
        }
    }
}

fn list_of(f: &mut fmt::Formatter<'_>, items: impl Iterator<Item = Value>) -> fmt::Result {
    for (i, item) in items.enumerate() {
        if i > 0 {
            f.write_str(" ")?;
        }
        write!(f, "{item}")?;
    }
    Ok(())
}
