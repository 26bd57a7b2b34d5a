//! A map from prefixes of both families to values, asked by longest match.
//!
//! In come networks (host bits are cleared on the way in), out go the entries that hold, cover or lie within a
//! network. One entry a network. It is `prefix-trie` for each family; lookups cost the length of the prefix, not the
//! number of entries.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

use crate::cidr::host_net;

/// Prefixes of both families with a value each.
#[derive(Clone)]
pub struct LpmMap<T> {
    v4: PrefixMap<Ipv4Net, T>,
    v6: PrefixMap<Ipv6Net, T>,
}

impl<T> Default for LpmMap<T> {
    fn default() -> Self {
        Self { v4: PrefixMap::new(), v6: PrefixMap::new() }
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for LpmMap<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<T> LpmMap<T> {
    /// An empty map.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the value of a network; gives back the one it had.
    pub fn insert(&mut self, net: IpNet, value: T) -> Option<T> {
        match net {
            IpNet::V4(n) => self.v4.insert(n.trunc(), value),
            IpNet::V6(n) => self.v6.insert(n.trunc(), value),
        }
    }

    /// Takes a network out; gives back its value.
    pub fn remove(&mut self, net: IpNet) -> Option<T> {
        match net {
            IpNet::V4(n) => self.v4.remove(&n.trunc()),
            IpNet::V6(n) => self.v6.remove(&n.trunc()),
        }
    }

    /// The value of exactly this network.
    #[must_use]
    pub fn get(&self, net: IpNet) -> Option<&T> {
        match net {
            IpNet::V4(n) => self.v4.get(&n.trunc()),
            IpNet::V6(n) => self.v6.get(&n.trunc()),
        }
    }

    /// The value of exactly this network, to change.
    pub fn get_mut(&mut self, net: IpNet) -> Option<&mut T> {
        match net {
            IpNet::V4(n) => self.v4.get_mut(&n.trunc()),
            IpNet::V6(n) => self.v6.get_mut(&n.trunc()),
        }
    }

    /// The longest entry that covers the network, itself included.
    #[must_use]
    pub fn longest_match(&self, net: IpNet) -> Option<(IpNet, &T)> {
        match net {
            IpNet::V4(n) => self.v4.get_lpm(&n.trunc()).map(|(p, v)| (IpNet::V4(p), v)),
            IpNet::V6(n) => self.v6.get_lpm(&n.trunc()).map(|(p, v)| (IpNet::V6(p), v)),
        }
    }

    /// The longest entry that holds the address.
    #[must_use]
    pub fn longest_match_addr(&self, addr: IpAddr) -> Option<(IpNet, &T)> {
        self.longest_match(host_net(addr))
    }

    /// Every entry that covers the network, itself included, shortest prefix first.
    pub fn covering(&self, net: IpNet) -> impl Iterator<Item = (IpNet, &T)> {
        let (v4, v6) = match net {
            IpNet::V4(n) => (Some(self.v4.cover(&n.trunc())), None),
            IpNet::V6(n) => (None, Some(self.v6.cover(&n.trunc()))),
        };
        v4.into_iter()
            .flatten()
            .map(|(p, v)| (IpNet::V4(p), v))
            .chain(v6.into_iter().flatten().map(|(p, v)| (IpNet::V6(p), v)))
    }

    /// Every entry within the network, itself included, by address.
    pub fn children(&self, net: IpNet) -> impl Iterator<Item = (IpNet, &T)> {
        let (v4, v6) = match net {
            IpNet::V4(n) => (Some(self.v4.children(&n.trunc())), None),
            IpNet::V6(n) => (None, Some(self.v6.children(&n.trunc()))),
        };
        v4.into_iter()
            .flatten()
            .map(|(p, v)| (IpNet::V4(p), v))
            .chain(v6.into_iter().flatten().map(|(p, v)| (IpNet::V6(p), v)))
    }

    /// Every entry, IPv4 first, by address.
    pub fn iter(&self) -> impl Iterator<Item = (IpNet, &T)> {
        let v4 = self.v4.iter().map(|(p, v)| (IpNet::V4(p), v));
        v4.chain(self.v6.iter().map(|(p, v)| (IpNet::V6(p), v)))
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// True where there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes every entry out.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Few bits vary, so that prefixes nest and collide.
    fn net() -> impl Strategy<Value = IpNet> {
        let v4 = (0u32..16, 0u8..=32)
            .prop_map(|(n, len)| IpNet::V4(Ipv4Net::new((n << 28 | n & 3).into(), len).unwrap()));
        let v6 = (0u128..16, 0u8..=128)
            .prop_map(|(n, len)| IpNet::V6(Ipv6Net::new((n << 124 | n & 3).into(), len).unwrap()));
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn it_answers_as_a_list_that_is_searched_from_end_to_end(
            steps in proptest::collection::vec((net(), any::<Option<u8>>()), 0..60),
            asked in net(),
        ) {
            let (mut map, mut model) = (LpmMap::new(), BTreeMap::new());
            for (net, value) in steps {
                match value {
                    Some(v) => prop_assert_eq!(map.insert(net, v), model.insert(net.trunc(), v)),
                    None => prop_assert_eq!(map.remove(net), model.remove(&net.trunc())),
                }
            }
            let asked_net = asked.trunc();
            prop_assert_eq!(map.len(), model.len());
            prop_assert_eq!(map.is_empty(), model.is_empty());
            prop_assert_eq!(map.get(asked), model.get(&asked_net));
            let mut covering: Vec<_> = model.iter().filter(|(n, _)| n.contains(&asked_net)).map(|(n, v)| (*n, v)).collect();
            covering.sort_by_key(|(n, _)| n.prefix_len());
            prop_assert_eq!(map.longest_match(asked), covering.last().copied());
            prop_assert_eq!(map.covering(asked).collect::<Vec<_>>(), covering);
            let children: BTreeMap<_, _> =
                model.iter().filter(|(n, _)| asked_net.contains(*n)).map(|(n, v)| (*n, v)).collect();
            prop_assert_eq!(map.children(asked).collect::<BTreeMap<_, _>>(), children);
            prop_assert_eq!(map.iter().collect::<BTreeMap<_, _>>(), model.iter().map(|(n, v)| (*n, v)).collect());
        }
    }
}
