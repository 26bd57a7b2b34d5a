//! Lists of networks and of ports in a rule, as sets of their own.
//!
//! In: a rule of one family. Out: a set for each of its lists, named after what it holds. Always holds: lists that hold
//! the same have one name, so that rules share them and a changed rule finds its unchanged list in place; a set under
//! such a name never changes. Why not sets without a name, as `nft` makes them: the kernel shows a new rule a moment
//! before the intervals that came with it (docs/adr/0006), so that a list has to be there before its rule. Left out: a
//! single network or range, which a rule compares with itself.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use felix_message::PortRange;
use ipnet::IpNet;
use sha2::{Digest as _, Sha256};

use super::SetType;
use crate::rule::{Family, Match, Rule};

/// First and last key.
pub type Interval = (Vec<u8>, Vec<u8>);

/// A set that holds what one list says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    pub name: Arc<str>,
    /// [`SetType::Net`] or [`SetType::Ports`].
    pub kind: SetType,
    /// Sorted, apart from each other.
    pub intervals: Vec<Interval>,
}

/// Lists of a rule, in the order in which its expressions look into them.
#[must_use]
pub fn of_rule(rule: &Rule, family: Family) -> Vec<List> {
    let lists = rule.matches.iter().filter_map(|m| match m {
        Match::Ports { ranges, .. } if ranges.len() > 1 => Some((SetType::Ports, ports(ranges))),
        Match::Net { nets, .. } if nets.len() > 1 => Some((SetType::Net, networks(nets))),
        _ => None,
    });
    lists.map(|(kind, intervals)| List { name: name(family, kind, &intervals), kind, intervals }).collect()
}

/// True for names that [`of_rule`] gives.
#[must_use]
pub fn is_list(name: &str, family: Family) -> bool {
    name.starts_with(prefix(family))
}

fn prefix(family: Family) -> &'static str {
    match family {
        Family::V4 => "cali4l-",
        Family::V6 => "cali6l-",
    }
}

/// The name of a list's set, from what it holds.
#[must_use]
pub fn name(family: Family, kind: SetType, intervals: &[Interval]) -> Arc<str> {
    let mut hash = Sha256::new();
    hash.update([u8::from(kind == SetType::Ports)]);
    for (first, last) in intervals {
        // All keys of a kind are of one length.
        hash.update(first);
        hash.update(last);
    }
    let hash = URL_SAFE_NO_PAD.encode(&hash.finalize()[..15]);
    format!("{}{hash}", prefix(family)).into()
}

fn ports(ranges: &[PortRange]) -> Vec<Interval> {
    let bytes = |p: u16| p.to_be_bytes().to_vec();
    let mut out: Vec<Interval> = ranges.iter().map(|r| (bytes(r.first), bytes(r.last))).collect();
    out.sort_unstable();
    out
}

fn networks(nets: &[IpNet]) -> Vec<Interval> {
    let all = IpNet::aggregate(&nets.to_vec());
    let mut out: Vec<Interval> = all.iter().map(|n| (octets(&n.network()), octets(&n.broadcast()))).collect();
    out.sort_unstable();
    out
}

/// Bytes of an address.
#[must_use]
pub fn octets(addr: &IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::{Action, End};

    fn lists(nets: &[&str], ports: &[(u16, u16)]) -> Vec<List> {
        let nets = nets.iter().map(|n| n.parse().unwrap()).collect();
        let ranges = ports.iter().map(|(first, last)| PortRange { first: *first, last: *last }).collect();
        let matches = vec![
            Match::Net { end: End::Src, not: false, nets },
            Match::Ports { end: End::Dst, not: false, ranges },
        ];
        of_rule(&Rule::when(matches, Action::Accept), Family::V4)
    }

    #[test]
    fn lists_that_hold_the_same_have_one_name() {
        let a = lists(&["10.0.0.0/8", "192.0.2.0/25", "192.0.2.128/25"], &[(80, 80), (443, 443)]);
        let b = lists(&["192.0.2.0/24", "10.0.0.0/8", "10.1.0.0/16"], &[(443, 443), (80, 80)]);
        assert_eq!(a, b);
        assert_ne!(a[0].name, a[1].name);
        assert!(a.iter().all(|l| is_list(&l.name, Family::V4) && l.name.len() <= 31));
        assert_ne!(a[1].name, lists(&[], &[(80, 80), (444, 444)])[0].name);
    }

    #[test]
    fn what_a_rule_can_compare_itself_is_no_list() {
        assert!(lists(&["10.0.0.0/8"], &[(1, 1024)]).is_empty());
    }
}
