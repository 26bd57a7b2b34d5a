//! UPDATE: announced and withdrawn routes with their attributes, and the packing of many routes into messages.

use bytes::{BufMut, Bytes};

use crate::attribute::{NextHop, PathAttributes, code, flag, put};
use crate::attribute_decode;
use crate::error::{AttributeAction, AttributeError, DecodeError};
use crate::message::{Context, HEADER_LEN, framed};
use crate::nlri::{self, Family, Nlri};

/// A decoded UPDATE. Routes of both families stand in the same lists; a prefix says its family itself.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Update {
    /// Withdrawn routes; after a treat-as-withdraw error also those that were announced.
    pub withdrawn: Vec<Nlri>,
    /// Routes announced in the body: IPv4, with [`PathAttributes::next_hop`].
    pub announced: Vec<Nlri>,
    /// Routes announced by MP_REACH_NLRI, with their own next hop.
    pub mp_announced: Option<(NextHop, Vec<Nlri>)>,
    /// The attributes; meaningless when nothing is announced.
    pub attrs: PathAttributes,
    /// The message is the End-of-RIB marker of this family (RFC 4724 section 2).
    pub end_of_rib: Option<Family>,
    /// The strongest attribute error that the session survived, with what was done.
    pub malformed: Option<AttributeError>,
}

pub(crate) fn decode(body: &[u8], ctx: &Context) -> Result<Update, DecodeError> {
    let malformed = || DecodeError::new(3, 1, "lengths in UPDATE do not add up");
    let (withdrawn, rest) = sized(body).ok_or_else(malformed)?;
    let (attributes, routes) = sized(rest).ok_or_else(malformed)?;
    let add_path = ctx.add_path_rx[0];
    let bad_nlri = || DecodeError::new(3, 10, "malformed prefix in UPDATE");
    let mut update = Update {
        withdrawn: nlri::decode_all(withdrawn, Family::Ipv4, add_path).ok_or_else(bad_nlri)?,
        announced: nlri::decode_all(routes, Family::Ipv4, add_path).ok_or_else(bad_nlri)?,
        ..Update::default()
    };
    if withdrawn.is_empty() && attributes.is_empty() && routes.is_empty() {
        update.end_of_rib = Some(Family::Ipv4);
        return Ok(update);
    }
    let decoded = attribute_decode::decode(attributes, ctx)?;
    update.attrs = decoded.attrs;
    update.malformed = decoded.malformed;
    if let Some((family, routes)) = decoded.unreach {
        let nothing_else = routes.is_empty()
            && decoded.reach.is_none()
            && update.withdrawn.is_empty()
            && update.announced.is_empty();
        if nothing_else && update.attrs == PathAttributes::default() {
            update.end_of_rib = Some(family);
        }
        update.withdrawn.extend(routes);
    }
    update.mp_announced = decoded.reach.map(|(_, next_hop, routes)| (next_hop, routes));
    check_mandatory(&mut update);
    if update.malformed.as_ref().is_some_and(|m| m.action == AttributeAction::TreatAsWithdraw) {
        update.withdrawn.append(&mut update.announced);
        if let Some((_, routes)) = update.mp_announced.take() {
            update.withdrawn.extend(routes);
        }
    }
    Ok(update)
}

/// RFC 7606 section 3 (d): a missing mandatory attribute is treat-as-withdraw.
fn check_mandatory(update: &mut Update) {
    let announces = !update.announced.is_empty() || update.mp_announced.is_some();
    let missing = if !announces {
        None
    } else if update.attrs.origin.is_none() {
        Some((code::ORIGIN, "ORIGIN is missing"))
    } else if update.attrs.as_path.is_none() {
        Some((code::AS_PATH, "AS_PATH is missing"))
    } else if !update.announced.is_empty() && update.attrs.next_hop.is_none() {
        Some((code::NEXT_HOP, "NEXT_HOP is missing"))
    } else {
        None
    };
    if let Some((code, what)) = missing
        && update.malformed.as_ref().is_none_or(|m| m.action < AttributeAction::TreatAsWithdraw)
    {
        update.malformed = Some(AttributeError { code, what, action: AttributeAction::TreatAsWithdraw });
    }
}

/// A field with a two-byte length in front, and what follows it.
fn sized(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = data.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))
}

/// Writes the body of one UPDATE; both families may stand in it.
pub(crate) fn encode(update: &Update, ctx: &Context, out: &mut Vec<u8>) {
    let (mut body_withdrawn, mut mp_withdrawn) = (Vec::new(), Vec::new());
    for route in &update.withdrawn {
        match Family::of(&route.prefix) {
            Family::Ipv4 => nlri::encode_one(&mut body_withdrawn, route, ctx.add_path_tx[0]),
            Family::Ipv6 => nlri::encode_one(&mut mp_withdrawn, route, ctx.add_path_tx[1]),
        }
    }
    let mut attrs = Vec::new();
    if !mp_withdrawn.is_empty() || update.end_of_rib == Some(Family::Ipv6) {
        put_mp_unreach(&mut attrs, Family::Ipv6, &mp_withdrawn);
    }
    if let Some((next_hop, routes)) = &update.mp_announced {
        let mut encoded = Vec::new();
        for route in routes {
            nlri::encode_one(&mut encoded, route, ctx.add_path_tx[Family::of(&route.prefix).index()]);
        }
        let family = routes.first().map_or(Family::Ipv6, |r| Family::of(&r.prefix));
        put_mp_reach(&mut attrs, family, next_hop, &encoded);
    }
    if !update.announced.is_empty() || update.mp_announced.is_some() {
        update.attrs.encode(ctx, !update.announced.is_empty(), &mut attrs);
    }
    put_sized(out, &body_withdrawn);
    put_sized(out, &attrs);
    for route in &update.announced {
        nlri::encode_one(out, route, ctx.add_path_tx[0]);
    }
}

fn put_sized(out: &mut Vec<u8>, data: &[u8]) {
    out.put_u16(u16::try_from(data.len()).unwrap_or(u16::MAX));
    out.extend(data);
}

fn put_mp_reach(out: &mut Vec<u8>, family: Family, next_hop: &NextHop, routes: &[u8]) {
    let mut value = Vec::with_capacity(routes.len() + 40);
    value.put_u16(family.afi());
    value.put_u8(1);
    match (next_hop.global, next_hop.link_local) {
        (std::net::IpAddr::V4(addr), _) => {
            value.put_u8(4);
            value.extend(addr.octets());
        }
        (std::net::IpAddr::V6(addr), None) => {
            value.put_u8(16);
            value.extend(addr.octets());
        }
        (std::net::IpAddr::V6(addr), Some(link_local)) => {
            value.put_u8(32);
            value.extend(addr.octets());
            value.extend(link_local.octets());
        }
    }
    value.put_u8(0);
    value.extend(routes);
    put(out, flag::OPTIONAL, code::MP_REACH, &value);
}

fn put_mp_unreach(out: &mut Vec<u8>, family: Family, routes: &[u8]) {
    let mut value = Vec::with_capacity(routes.len() + 3);
    value.put_u16(family.afi());
    value.put_u8(1);
    value.extend(routes);
    put(out, flag::OPTIONAL, code::MP_UNREACH, &value);
}

/// Packs routes that share their attributes into as few messages as fit; `None` when the attributes alone fill
/// a message. IPv4 routes with an IPv4 next hop go into the body, all others into MP_REACH_NLRI. All of
/// `routes` are of `family`.
#[must_use]
pub fn encode_announcements(
    attrs: &PathAttributes,
    next_hop: &NextHop,
    family: Family,
    routes: &[Nlri],
    ctx: &Context,
) -> Option<Vec<Bytes>> {
    let in_body = family == Family::Ipv4 && next_hop.global.is_ipv4();
    let mut fixed = Vec::new();
    PathAttributes { next_hop: Some(*next_hop), ..attrs.clone() }.encode(ctx, in_body, &mut fixed);
    // Header, two lengths, and for MP_REACH its own header with the longest next hop.
    let overhead = HEADER_LEN + 4 + fixed.len() + if in_body { 0 } else { 4 + 5 + 32 };
    let room = ctx.max_len().checked_sub(overhead)?;
    let parts = split(routes, room, ctx.add_path_tx[family.index()])?;
    let message = |part: Vec<u8>| {
        framed(2, |out| {
            out.put_u16(0);
            if in_body {
                put_sized(out, &fixed);
                out.extend(part);
            } else {
                let mut attrs = Vec::with_capacity(fixed.len() + part.len() + 48);
                // MP_REACH comes first (RFC 7606 section 5.1), so a receiver finds the routes whatever follows.
                put_mp_reach(&mut attrs, family, next_hop, &part);
                attrs.extend(&fixed);
                put_sized(out, &attrs);
            }
        })
    };
    Some(parts.into_iter().map(message).collect())
}

/// Packs withdrawn routes of one family into as few messages as fit.
#[must_use]
pub fn encode_withdrawals(family: Family, routes: &[Nlri], ctx: &Context) -> Vec<Bytes> {
    let room = ctx.max_len() - HEADER_LEN - 4 - 7;
    let parts = split(routes, room, ctx.add_path_tx[family.index()]).unwrap_or_default();
    let message = |part: Vec<u8>| {
        framed(2, |out| match family {
            Family::Ipv4 => {
                put_sized(out, &part);
                out.put_u16(0);
            }
            Family::Ipv6 => {
                let mut attrs = Vec::new();
                put_mp_unreach(&mut attrs, family, &part);
                out.put_u16(0);
                put_sized(out, &attrs);
            }
        })
    };
    parts.into_iter().map(message).collect()
}

/// The End-of-RIB marker of a family.
#[must_use]
pub fn encode_end_of_rib(family: Family) -> Bytes {
    framed(2, |out| {
        out.put_u16(0);
        match family {
            Family::Ipv4 => out.put_u16(0),
            Family::Ipv6 => {
                let mut attrs = Vec::new();
                put_mp_unreach(&mut attrs, family, &[]);
                put_sized(out, &attrs);
            }
        }
    })
}

/// Encoded routes in parts of at most `room` bytes; `None` when not even one fits.
fn split(routes: &[Nlri], room: usize, add_path: bool) -> Option<Vec<Vec<u8>>> {
    let mut parts = Vec::new();
    let mut part = Vec::new();
    for route in routes {
        let len = nlri::encoded_len(route, add_path);
        if len > room {
            return None;
        }
        if part.len() + len > room {
            parts.push(std::mem::take(&mut part));
        }
        nlri::encode_one(&mut part, route, add_path);
    }
    if !part.is_empty() {
        parts.push(part);
    }
    Some(parts)
}
