//! Address families and the prefixes of NLRI fields (RFC 4271 section 4.3, RFC 4760, RFC 7911).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use bytes::BufMut;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The address families this speaker carries, all of them unicast (SAFI 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4 unicast.
    Ipv4,
    /// IPv6 unicast.
    Ipv6,
}

impl Family {
    /// Both families, in the order of their AFI.
    pub const ALL: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    /// The family of an AFI and SAFI; `None` for those this speaker does not carry.
    #[must_use]
    pub fn from_code(afi: u16, safi: u8) -> Option<Self> {
        match (afi, safi) {
            (1, 1) => Some(Self::Ipv4),
            (2, 1) => Some(Self::Ipv6),
            _ => None,
        }
    }

    /// The AFI of RFC 4760.
    #[must_use]
    pub fn afi(self) -> u16 {
        match self {
            Self::Ipv4 => 1,
            Self::Ipv6 => 2,
        }
    }

    /// The family a prefix belongs to.
    #[must_use]
    pub fn of(prefix: &IpNet) -> Self {
        match prefix {
            IpNet::V4(_) => Self::Ipv4,
            IpNet::V6(_) => Self::Ipv6,
        }
    }

    /// 0 for IPv4, 1 for IPv6: an index into a pair of per-family values.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Ipv4 => 0,
            Self::Ipv6 => 1,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        })
    }
}

/// One prefix of an NLRI field, with its path identifier (RFC 7911; 0 where the session does not use them).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Nlri {
    /// The prefix; host bits are zero.
    pub prefix: IpNet,
    /// Path identifier.
    pub path_id: u32,
}

impl From<IpNet> for Nlri {
    fn from(prefix: IpNet) -> Self {
        Self { prefix: prefix.trunc(), path_id: 0 }
    }
}

/// Reads a whole NLRI field; `None` when a length is impossible or the field ends within a prefix.
pub(crate) fn decode_all(mut data: &[u8], family: Family, add_path: bool) -> Option<Vec<Nlri>> {
    let mut out = Vec::new();
    while !data.is_empty() {
        let mut path_id = 0;
        if add_path {
            let (id, rest) = data.split_first_chunk::<4>()?;
            path_id = u32::from_be_bytes(*id);
            data = rest;
        }
        let (&len, rest) = data.split_first()?;
        let (bytes, rest) = rest.split_at_checked(usize::from(len).div_ceil(8))?;
        data = rest;
        out.push(Nlri { prefix: prefix_from(bytes, len, family)?, path_id });
    }
    Some(out)
}

fn prefix_from(bytes: &[u8], len: u8, family: Family) -> Option<IpNet> {
    match family {
        Family::Ipv4 => {
            let mut octets = [0u8; 4];
            octets.get_mut(..bytes.len())?.copy_from_slice(bytes);
            Some(IpNet::V4(Ipv4Net::new(Ipv4Addr::from(octets), len).ok()?.trunc()))
        }
        Family::Ipv6 => {
            let mut octets = [0u8; 16];
            octets.get_mut(..bytes.len())?.copy_from_slice(bytes);
            Some(IpNet::V6(Ipv6Net::new(Ipv6Addr::from(octets), len).ok()?.trunc()))
        }
    }
}

/// Bytes that [`encode_one`] will write.
pub(crate) fn encoded_len(nlri: &Nlri, add_path: bool) -> usize {
    usize::from(nlri.prefix.prefix_len()).div_ceil(8) + 1 + if add_path { 4 } else { 0 }
}

pub(crate) fn encode_one(out: &mut Vec<u8>, nlri: &Nlri, add_path: bool) {
    if add_path {
        out.put_u32(nlri.path_id);
    }
    let len = nlri.prefix.prefix_len();
    out.put_u8(len);
    let count = usize::from(len).div_ceil(8);
    match nlri.prefix {
        IpNet::V4(net) => out.extend(net.network().octets().iter().take(count)),
        IpNet::V6(net) => out.extend(net.network().octets().iter().take(count)),
    }
}
