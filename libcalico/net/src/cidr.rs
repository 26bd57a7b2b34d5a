//! Reading addresses and prefixes as people and manifests write them.
//!
//! In comes text, out go `ipnet` types or an error that names the text and what would be right. Three shapes are kept
//! apart because Calico's fields are: a *network* (host bits are cleared: `10.1.2.3/16` is `10.1.0.0/16`), an
//! *address* (no prefix length), and an *address in its network* (`10.1.2.3/16` keeps both, as a Node's BGP address).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

pub use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Text that is not an address or prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}{hint}")]
pub struct CidrError {
    /// What was read.
    pub text: String,
    /// What should have been there.
    pub expected: &'static str,
    /// More for the person, or empty.
    pub hint: &'static str,
}

impl CidrError {
    fn new(text: &str, expected: &'static str, hint: &'static str) -> Self {
        // A wrong field may be of any length; the message need not be.
        Self { text: text.chars().take(80).collect(), expected, hint }
    }
}

/// Address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub fn of(addr: IpAddr) -> Self {
        if addr.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The family of a prefix.
    #[must_use]
    pub fn of_net(net: IpNet) -> Self {
        Self::of(net.addr())
    }

    /// 4 or 6, as in a rule's `ipVersion`.
    #[must_use]
    pub fn version(self) -> u8 {
        match self {
            Self::V4 => 4,
            Self::V6 => 6,
        }
    }

    /// Bits of an address: 32 or 128.
    #[must_use]
    pub fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IPv{}", self.version())
    }
}

/// The network of one address: `/32` or `/128`.
#[must_use]
pub fn host_net(addr: IpAddr) -> IpNet {
    IpNet::from(addr)
}

/// True where the prefix holds exactly one address.
#[must_use]
pub fn is_host_net(net: IpNet) -> bool {
    net.prefix_len() == net.max_prefix_len()
}

/// The network with its host bits cleared.
#[must_use]
pub fn masked(net: IpNet) -> IpNet {
    net.trunc()
}

/// Reads a network, `ADDRESS/LENGTH`, and clears its host bits.
pub fn parse_network(text: &str) -> Result<IpNet, CidrError> {
    parse_network_keep_host_bits(text).map(masked)
}

/// Reads a network that must be written without host bits (pools, blocks).
pub fn parse_network_strict(text: &str) -> Result<IpNet, CidrError> {
    let net = parse_network_keep_host_bits(text)?;
    if net == masked(net) {
        Ok(net)
    } else {
        Err(CidrError::new(text, "a network", ": bits are set beyond its prefix length"))
    }
}

fn parse_network_keep_host_bits(text: &str) -> Result<IpNet, CidrError> {
    let wrong = |hint| CidrError::new(text, "a network such as 10.0.0.0/16 or fd00::/48", hint);
    let Some((addr, len)) = text.split_once('/') else {
        return Err(wrong(": the /LENGTH is missing"));
    };
    let addr: IpAddr = addr.parse().map_err(|_| wrong(""))?;
    let digits = !len.is_empty() && len.len() <= 3 && len.bytes().all(|b| b.is_ascii_digit());
    let len: u8 = if digits { len.parse().map_err(|_| wrong(""))? } else { return Err(wrong("")) };
    IpNet::new(addr, len).map_err(|_| wrong(": the prefix length is too long"))
}

/// Reads a network or a single address, which stands for its `/32` or `/128`. Host bits are cleared.
pub fn parse_network_or_address(text: &str) -> Result<IpNet, CidrError> {
    if text.contains('/') {
        return parse_network(text);
    }
    text.parse::<IpAddr>().map(host_net).map_err(|_| {
        CidrError::new(text, "an address or a network such as 10.0.0.1, 10.0.0.0/16 or fd00::/48", "")
    })
}

/// Reads a single address, without a prefix length.
pub fn parse_address(text: &str) -> Result<IpAddr, CidrError> {
    text.parse().map_err(|_| {
        let hint = if text.contains('/') { ": no /LENGTH belongs here" } else { "" };
        CidrError::new(text, "an address such as 10.0.0.1 or fd00::1", hint)
    })
}

/// An address together with the length of the network it stands in: `10.1.2.3/16`.
///
/// Written without a length it is alone in its network (`/32`, `/128`), as a Node's BGP address may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressInNetwork {
    addr: IpAddr,
    prefix_len: u8,
}

impl AddressInNetwork {
    /// `None` where the length is too long for the family.
    #[must_use]
    pub fn new(addr: IpAddr, prefix_len: u8) -> Option<Self> {
        (prefix_len <= Family::of(addr).bits()).then_some(Self { addr, prefix_len })
    }

    /// The address itself.
    #[must_use]
    pub fn addr(self) -> IpAddr {
        self.addr
    }

    /// Bits of the network, 0 to 32 or 128.
    #[must_use]
    pub fn prefix_len(self) -> u8 {
        self.prefix_len
    }

    /// The network, its host bits cleared.
    #[must_use]
    pub fn network(self) -> IpNet {
        let host = host_net(self.addr);
        IpNet::new(self.addr, self.prefix_len).map_or(host, masked)
    }
}

impl FromStr for AddressInNetwork {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let wrong =
            |hint| CidrError::new(text, "an address such as 10.0.0.1, 10.0.0.1/24 or fd00::1/64", hint);
        if text.contains('/') {
            let net = parse_network_keep_host_bits(text).map_err(|e| wrong(e.hint))?;
            return Ok(Self { addr: net.addr(), prefix_len: net.prefix_len() });
        }
        let addr: IpAddr = text.parse().map_err(|_| wrong(""))?;
        Ok(Self { addr, prefix_len: Family::of(addr).bits() })
    }
}

impl fmt::Display for AddressInNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix_len)
    }
}

/// True where the two networks share an address.
#[must_use]
pub fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}

/// The address as a number and back, for arithmetic within a block. IPv4 uses the low 32 bits.
#[must_use]
pub fn to_u128(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(a) => u128::from(u32::from(a)),
        IpAddr::V6(a) => u128::from(a),
    }
}

/// The inverse of [`to_u128`]; `None` where the number does not fit the family.
#[must_use]
pub fn from_u128(family: Family, n: u128) -> Option<IpAddr> {
    match family {
        Family::V4 => u32::try_from(n).ok().map(|n| IpAddr::V4(Ipv4Addr::from(n))),
        Family::V6 => Some(IpAddr::V6(Ipv6Addr::from(n))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_network_loses_its_host_bits_and_an_address_in_it_keeps_them() {
        assert_eq!(parse_network("10.1.2.3/16").unwrap().to_string(), "10.1.0.0/16");
        let a: AddressInNetwork = "10.1.2.3/16".parse().unwrap();
        assert_eq!(
            (a.to_string(), a.network().to_string()),
            ("10.1.2.3/16".to_owned(), "10.1.0.0/16".to_owned())
        );
    }

    #[test]
    fn a_strict_network_has_no_host_bits() {
        let e = parse_network_strict("10.1.2.3/16").unwrap_err();
        assert_eq!(e.to_string(), "\"10.1.2.3/16\" is not a network: bits are set beyond its prefix length");
        assert!(parse_network_strict("fd00::/48").is_ok());
    }

    #[test]
    fn a_lone_address_is_its_own_network_where_that_is_allowed() {
        assert_eq!(parse_network_or_address("fd00::1").unwrap().to_string(), "fd00::1/128");
        assert!(parse_network("10.0.0.1").is_err());
        assert!(parse_address("10.0.0.1/32").unwrap_err().to_string().ends_with("no /LENGTH belongs here"));
    }

    #[test]
    fn odd_lengths_and_octal_looking_numbers_are_refused() {
        for text in [
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "010.0.0.0/8",
            "::/129",
            "10.0/8",
            " 10.0.0.0/8",
            "10.0.0.0/0008",
        ] {
            assert!(parse_network(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in ".{0,60}") {
            let _ = (parse_network(&text), parse_network_or_address(&text), parse_address(&text));
            let _ = text.parse::<AddressInNetwork>();
        }

        #[test]
        fn what_is_printed_is_read_back(n in any::<u128>(), v6 in any::<bool>(), len in 0u8..=32) {
            let family = if v6 { Family::V6 } else { Family::V4 };
            let addr = from_u128(family, if v6 { n } else { n & 0xffff_ffff }).unwrap();
            prop_assert_eq!(to_u128(addr), if v6 { n } else { n & 0xffff_ffff });
            let a = AddressInNetwork::new(addr, len).unwrap();
            prop_assert_eq!(a.to_string().parse::<AddressInNetwork>().unwrap(), a);
            prop_assert_eq!(parse_network_strict(&a.network().to_string()).unwrap(), a.network());
        }
    }
}
