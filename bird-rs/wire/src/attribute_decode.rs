//! Reading path attributes with the error handling of RFC 7606.
//!
//! In: the attribute field of an UPDATE. Out: the attributes, the MP fields, and the strongest error a session
//! survives. Only errors that make the field itself unreadable, or that hide which routes are meant, are fatal.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::aspath::AsPath;
use crate::attribute::{
    Aggregator, LargeCommunity, NextHop, Origin, PathAttributes, UnknownAttribute, code, flag,
};
use crate::error::{AttributeAction, AttributeError, DecodeError};
use crate::message::Context;
use crate::nlri::{self, Family, Nlri};

/// What an attribute field held.
#[derive(Default)]
pub(crate) struct Decoded {
    pub attrs: PathAttributes,
    pub reach: Option<(Family, NextHop, Vec<Nlri>)>,
    pub unreach: Option<(Family, Vec<Nlri>)>,
    /// MP attributes for families this speaker does not carry were present.
    pub foreign: bool,
    pub malformed: Option<AttributeError>,
    as4_path: Option<AsPath>,
    as4_aggregator: Option<Aggregator>,
    seen: Vec<u8>,
}

impl Decoded {
    fn note(&mut self, code: u8, action: AttributeAction, what: &'static str) {
        if self.malformed.as_ref().is_none_or(|m| m.action < action) {
            self.malformed = Some(AttributeError { code, what, action });
        }
    }
}

/// Decodes the whole attribute field.
pub(crate) fn decode(mut data: &[u8], ctx: &Context) -> Result<Decoded, DecodeError> {
    let mut out = Decoded::default();
    while !data.is_empty() {
        let Some((flags, code, value, rest)) = split_attribute(data) else {
            // RFC 7606 section 4: the lengths do not add up, but the NLRI can still be located.
            out.note(0, AttributeAction::TreatAsWithdraw, "the attribute field is cut short");
            break;
        };
        data = rest;
        if out.seen.contains(&code) {
            if code == code::MP_REACH || code == code::MP_UNREACH {
                return Err(DecodeError::new(3, 1, "an MP attribute stands twice"));
            }
            out.note(code, AttributeAction::Discard, "the attribute stands twice");
            continue;
        }
        out.seen.push(code);
        if let Err(what) = check_flags(flags, code) {
            out.note(code, AttributeAction::TreatAsWithdraw, what);
            continue;
        }
        one(&mut out, flags, code, value, ctx)?;
    }
    merge_as4(&mut out, ctx);
    Ok(out)
}

/// Flags, code, value and the rest of the field.
fn split_attribute(data: &[u8]) -> Option<(u8, u8, &[u8], &[u8])> {
    let (&[flags, code], rest) = data.split_first_chunk::<2>()?;
    let (len, rest) = if flags & flag::EXTENDED != 0 {
        let (len, rest) = rest.split_first_chunk::<2>()?;
        (usize::from(u16::from_be_bytes(*len)), rest)
    } else {
        let (&len, rest) = rest.split_first()?;
        (usize::from(len), rest)
    };
    let (value, rest) = rest.split_at_checked(len)?;
    Some((flags, code, value, rest))
}

fn check_flags(flags: u8, code: u8) -> Result<(), &'static str> {
    let wanted = match code {
        code::ORIGIN | code::AS_PATH | code::NEXT_HOP | code::LOCAL_PREF | code::ATOMIC_AGGREGATE => {
            flag::TRANSITIVE
        }
        code::MED | code::ORIGINATOR_ID | code::CLUSTER_LIST | code::MP_REACH | code::MP_UNREACH => {
            flag::OPTIONAL
        }
        code::AGGREGATOR
        | code::COMMUNITIES
        | code::EXT_COMMUNITIES
        | code::AS4_PATH
        | code::AS4_AGGREGATOR
        | code::LARGE_COMMUNITIES => flag::OPTIONAL | flag::TRANSITIVE,
        _ if flags & flag::OPTIONAL == 0 => return Err("unknown well-known attribute"),
        _ => return Ok(()),
    };
    if flags & (flag::OPTIONAL | flag::TRANSITIVE) == wanted { Ok(()) } else { Err("wrong flags") }
}

fn one(out: &mut Decoded, flags: u8, code: u8, value: &[u8], ctx: &Context) -> Result<(), DecodeError> {
    use AttributeAction::{Discard, TreatAsWithdraw};
    match code {
        code::ORIGIN => match *value {
            [v] if Origin::from_code(v).is_some() => out.attrs.origin = Origin::from_code(v),
            _ => out.note(code, TreatAsWithdraw, "impossible ORIGIN"),
        },
        code::AS_PATH => match AsPath::decode(value, ctx.as4) {
            Some(path) => out.attrs.as_path = Some(path),
            None => out.note(code, TreatAsWithdraw, "malformed AS_PATH"),
        },
        code::NEXT_HOP => match ipv4(value).filter(|a| usable_v4(*a)) {
            Some(addr) => out.attrs.next_hop = Some(NextHop::from(IpAddr::V4(addr))),
            None => out.note(code, TreatAsWithdraw, "impossible NEXT_HOP"),
        },
        code::MED => match be32(value) {
            Some(med) => out.attrs.med = Some(med),
            None => out.note(code, TreatAsWithdraw, "MULTI_EXIT_DISC is not four bytes"),
        },
        code::LOCAL_PREF if ctx.external => out.note(code, Discard, "LOCAL_PREF from an external peer"),
        code::LOCAL_PREF => match be32(value) {
            Some(pref) => out.attrs.local_pref = Some(pref),
            None => out.note(code, TreatAsWithdraw, "LOCAL_PREF is not four bytes"),
        },
        code::ATOMIC_AGGREGATE if value.is_empty() => out.attrs.atomic_aggregate = true,
        code::ATOMIC_AGGREGATE => out.note(code, Discard, "ATOMIC_AGGREGATE with a value"),
        code::AGGREGATOR => match aggregator(value, ctx.as4) {
            Some(aggregator) => out.attrs.aggregator = Some(aggregator),
            None => out.note(code, Discard, "malformed AGGREGATOR"),
        },
        code::COMMUNITIES if !value.is_empty() && value.len().is_multiple_of(4) => {
            out.attrs.communities = value.chunks_exact(4).filter_map(be32).collect();
        }
        code::COMMUNITIES => out.note(code, TreatAsWithdraw, "COMMUNITIES is not a multiple of four bytes"),
        code::ORIGINATOR_ID if ctx.external => out.note(code, Discard, "ORIGINATOR_ID from an external peer"),
        code::ORIGINATOR_ID => match ipv4(value) {
            Some(id) => out.attrs.originator_id = Some(id),
            None => out.note(code, TreatAsWithdraw, "ORIGINATOR_ID is not four bytes"),
        },
        code::CLUSTER_LIST if ctx.external => out.note(code, Discard, "CLUSTER_LIST from an external peer"),
        code::CLUSTER_LIST if !value.is_empty() && value.len().is_multiple_of(4) => {
            out.attrs.cluster_list = value.chunks_exact(4).filter_map(be32).collect();
        }
        code::CLUSTER_LIST => out.note(code, TreatAsWithdraw, "CLUSTER_LIST is not a multiple of four bytes"),
        code::MP_REACH => mp_reach(out, value, ctx)?,
        code::MP_UNREACH => mp_unreach(out, value, ctx)?,
        code::EXT_COMMUNITIES if !value.is_empty() && value.len().is_multiple_of(8) => {
            out.attrs.ext_communities =
                value.chunks_exact(8).map(|c| c.iter().fold(0, |n, &b| n << 8 | u64::from(b))).collect();
        }
        code::EXT_COMMUNITIES => {
            out.note(code, TreatAsWithdraw, "extended communities are not a multiple of eight bytes");
        }
        code::AS4_PATH => out.as4_path = AsPath::decode(value, true).map(|p| p.without_confederation()),
        code::AS4_AGGREGATOR => out.as4_aggregator = aggregator(value, true),
        code::LARGE_COMMUNITIES if !value.is_empty() && value.len().is_multiple_of(12) => {
            out.attrs.large_communities = value.chunks_exact(12).filter_map(large_community).collect();
        }
        code::LARGE_COMMUNITIES => {
            out.note(code, TreatAsWithdraw, "large communities are not a multiple of twelve bytes");
        }
        // RFC 4271 section 5: unknown transitive attributes travel on with Partial set, others are dropped.
        _ if flags & flag::TRANSITIVE != 0 => out.attrs.unknown.push(UnknownAttribute {
            flags: (flags & (flag::OPTIONAL | flag::TRANSITIVE)) | flag::PARTIAL,
            code,
            data: value.to_vec(),
        }),
        _ => {}
    }
    Ok(())
}

fn mp_reach(out: &mut Decoded, value: &[u8], ctx: &Context) -> Result<(), DecodeError> {
    // RFC 7606 7.11: when the routes cannot be told, the session cannot go on.
    let malformed = || DecodeError::new(3, 9, "malformed MP_REACH_NLRI");
    let (&[hi, lo, safi, nh_len], rest) = value.split_first_chunk::<4>().ok_or_else(malformed)?;
    let (nh, rest) = rest.split_at_checked(usize::from(nh_len)).ok_or_else(malformed)?;
    let (_reserved, routes) = rest.split_first().ok_or_else(malformed)?;
    let Some(family) = Family::from_code(u16::from_be_bytes([hi, lo]), safi) else {
        out.foreign = true;
        return Ok(());
    };
    let next_hop = match (family, nh.len()) {
        (Family::Ipv4, 4) => ipv4(nh).map(|a| NextHop::from(IpAddr::V4(a))),
        (Family::Ipv6 | Family::Ipv4, 16 | 32) => ipv6_next_hop(nh),
        _ => None,
    };
    let next_hop = next_hop.ok_or_else(malformed)?;
    let rx = ctx.add_path_rx.get(family.index()).copied().unwrap_or(false);
    let routes = nlri::decode_all(routes, family, rx).ok_or_else(malformed)?;
    out.reach = Some((family, next_hop, routes));
    Ok(())
}

fn mp_unreach(out: &mut Decoded, value: &[u8], ctx: &Context) -> Result<(), DecodeError> {
    let malformed = || DecodeError::new(3, 9, "malformed MP_UNREACH_NLRI");
    let (&[hi, lo, safi], routes) = value.split_first_chunk::<3>().ok_or_else(malformed)?;
    let Some(family) = Family::from_code(u16::from_be_bytes([hi, lo]), safi) else {
        out.foreign = true;
        return Ok(());
    };
    let rx = ctx.add_path_rx.get(family.index()).copied().unwrap_or(false);
    out.unreach = Some((family, nlri::decode_all(routes, family, rx).ok_or_else(malformed)?));
    Ok(())
}

fn merge_as4(out: &mut Decoded, ctx: &Context) {
    if ctx.as4 {
        return;
    }
    // RFC 6793 4.2.3: with an AGGREGATOR that is not AS_TRANS, both AS4 attributes are to be ignored.
    if out.attrs.aggregator.is_some_and(|a| a.asn != crate::aspath::AS_TRANS) && out.as4_aggregator.is_some()
    {
        return;
    }
    if let (Some(path), Some(as4)) = (&out.attrs.as_path, &out.as4_path) {
        out.attrs.as_path = Some(path.merge_as4(as4));
    }
    if let (Some(_), Some(as4)) = (out.attrs.aggregator, out.as4_aggregator) {
        out.attrs.aggregator = Some(as4);
    }
}

fn be32(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

fn ipv4(value: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(value).ok().map(Ipv4Addr::from)
}

fn usable_v4(addr: Ipv4Addr) -> bool {
    !addr.is_unspecified() && !addr.is_multicast() && !addr.is_broadcast()
}

fn ipv6_next_hop(value: &[u8]) -> Option<NextHop> {
    let (first, rest) = value.split_first_chunk::<16>()?;
    let global = Ipv6Addr::from(*first);
    let link_local = <[u8; 16]>::try_from(rest).ok().map(Ipv6Addr::from).filter(|a| !a.is_unspecified());
    Some(NextHop { global: IpAddr::V6(global), link_local })
}

fn aggregator(value: &[u8], as4: bool) -> Option<Aggregator> {
    let (asn, id) = value.split_at_checked(if as4 { 4 } else { 2 })?;
    Some(Aggregator { asn: asn.iter().fold(0, |n, &b| n << 8 | u32::from(b)), id: ipv4(id)? })
}

fn large_community(value: &[u8]) -> Option<LargeCommunity> {
    match value {
        [a @ .., _, _, _, _, _, _, _, _] => {
            Some(LargeCommunity(be32(a)?, be32(value.get(4..8)?)?, be32(value.get(8..12)?)?))
        }
        _ => None,
    }
}
