//! Sets, prefix sets and AS-path masks.

use std::net::IpAddr;

use bird_wire::{AsPath, LargeCommunity};
use ipnet::IpNet;

use super::value::{EnumKind, Value};

/// One element of a prefix set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrefixPattern {
    /// The base prefix.
    pub base: IpNet,
    /// Shortest length that matches.
    pub low: u8,
    /// Longest length that matches.
    pub high: u8,
}

impl PrefixPattern {
    /// Whether a prefix matches: its length is within bounds, and as many bits as both have are equal.
    #[must_use]
    pub fn matches(&self, net: IpNet) -> bool {
        if !(self.low..=self.high).contains(&net.prefix_len()) {
            return false;
        }
        let same_family =
            matches!((self.base, net), (IpNet::V4(_), IpNet::V4(_)) | (IpNet::V6(_), IpNet::V6(_)));
        same_family && (self.base.contains(&net) || net.contains(&self.base))
    }
}

/// A set; all elements are of one type. Bounds are inclusive.
#[derive(Debug, Clone, PartialEq)]
pub enum Set {
    /// `[]`.
    Empty,
    /// Numbers.
    Int(Vec<(u32, u32)>),
    /// Communities: bounds of the upper and of the lower half.
    Pair(Vec<((u32, u32), (u32, u32))>),
    /// Large communities: bounds of each part.
    Lc(Vec<[(u32, u32); 3]>),
    /// Addresses, router ids among them.
    Ip(Vec<(IpAddr, IpAddr)>),
    /// Values of one enumeration.
    Enum(EnumKind, Vec<(u8, u8)>),
    /// Prefixes.
    Prefix(Vec<PrefixPattern>),
}

impl Set {
    /// Whether a value is in the set; `None` when it is of another type.
    #[must_use]
    pub fn contains(&self, value: &Value) -> Option<bool> {
        Some(match (self, value) {
            (Self::Empty, _) => false,
            (Self::Int(ranges), Value::Int(n)) => ranges.iter().any(|r| within(*r, *n)),
            (Self::Pair(ranges), Value::Pair(c)) => {
                ranges.iter().any(|&(hi, lo)| within(hi, c >> 16) && within(lo, c & 0xffff))
            }
            (Self::Lc(ranges), Value::Lc(LargeCommunity(a, b, c))) => {
                ranges.iter().any(|&[x, y, z]| within(x, *a) && within(y, *b) && within(z, *c))
            }
            (Self::Ip(ranges), Value::Ip(a)) => ranges.iter().any(|(lo, hi)| lo <= a && a <= hi),
            (Self::Ip(ranges), Value::Quad(q)) => {
                let a = IpAddr::V4(*q);
                ranges.iter().any(|(lo, hi)| *lo <= a && a <= *hi)
            }
            (Self::Enum(kind, ranges), Value::Enum(k, code)) if kind == k => {
                ranges.iter().any(|(lo, hi)| lo <= code && code <= hi)
            }
            (Self::Prefix(patterns), Value::Net(net)) => patterns.iter().any(|p| p.matches(*net)),
            _ => return None,
        })
    }
}

fn within((low, high): (u32, u32), n: u32) -> bool {
    (low..=high).contains(&n)
}

/// One element of an AS-path mask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MaskItem {
    /// `*`: any number of ASes.
    Any,
    /// `?`: one AS.
    One,
    /// `+`: the item before, once or more; kept with its item.
    Repeat(Box<MaskItem>),
    /// An AS number, or a range of them.
    As(u32, u32),
    /// Any of these ranges.
    Set(Vec<(u32, u32)>),
}

impl MaskItem {
    fn takes(&self, asn: u32) -> bool {
        match self {
            Self::Any | Self::One => true,
            Self::Repeat(item) => item.takes(asn),
            Self::As(low, high) => (low..=high).contains(&&asn),
            Self::Set(ranges) => ranges.iter().any(|r| within(*r, asn)),
        }
    }
}

/// Whether a path matches a mask as a whole. Walks all positions at once: time is the product of both lengths.
pub(super) fn mask_matches(mask: &[MaskItem], path: &AsPath) -> bool {
    // `open[i]`: the items before i may have taken everything read so far.
    let mut open = vec![false; mask.len() + 1];
    if let Some(first) = open.first_mut() {
        *first = true;
    }
    skip_stars(mask, &mut open);
    for asn in path.iter() {
        let mut next = vec![false; mask.len() + 1];
        for (i, item) in mask.iter().enumerate() {
            if !open.get(i).copied().unwrap_or(false) || !item.takes(asn) {
                continue;
            }
            // A star or a repetition may take more; all others are done with.
            if matches!(item, MaskItem::Any | MaskItem::Repeat(_)) {
                mark(&mut next, i);
            }
            if !matches!(item, MaskItem::Any) {
                mark(&mut next, i + 1);
            }
        }
        skip_stars(mask, &mut next);
        open = next;
    }
    open.last().copied().unwrap_or(false)
}

fn mark(open: &mut [bool], i: usize) {
    if let Some(slot) = open.get_mut(i) {
        *slot = true;
    }
}

/// A star may also take nothing.
fn skip_stars(mask: &[MaskItem], open: &mut [bool]) {
    for (i, item) in mask.iter().enumerate() {
        if *item == MaskItem::Any && open.get(i).copied().unwrap_or(false) {
            mark(open, i + 1);
        }
    }
}
