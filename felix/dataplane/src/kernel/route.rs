//! rtnetlink: links, addresses, routes, IPv4 neighbours; reading, changing and watching them.
//!
//! In: requests; out: what stands in the kernel, and notifications. Numbers are those of `linux/rtnetlink.h`. Always
//! holds: only table `main` is read and written. Left out: which routes are ours.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::attr::{Attributes, Builder, Message, text};
use super::netlink::{Netlink, flags};
use crate::rule::Family;

/// Netlink protocol.
pub const NETLINK_ROUTE: i32 = 0;
/// Multicast groups: links, addresses and routes of both families.
pub const GROUPS: [u32; 5] = [1, 5, 9, 7, 11];

const NEW_LINK: u16 = 16;
const DEL_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ADDR: u16 = 20;
const DEL_ADDR: u16 = 21;
const GET_ADDR: u16 = 22;
const NEW_ROUTE: u16 = 24;
const DEL_ROUTE: u16 = 25;
const GET_ROUTE: u16 = 26;
const NEW_NEIGHBOUR: u16 = 28;
const DEL_NEIGHBOUR: u16 = 29;
const GET_NEIGHBOUR: u16 = 30;
/// Never asked for again, never forgotten.
const STATE_PERMANENT: u16 = 0x80;

const TABLE_MAIN: u8 = 254;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
const TYPE_UNICAST: u8 = 1;
/// Answer with the table that matched, and with its entry instead of the resolved path (linux/rtnetlink.h).
const LOOKUP_TABLE: u32 = 0x1000;
const FIB_MATCH: u32 = 0x2000;
const FLAG_UP: u32 = 1;
const FLAG_RUNNING: u32 = 0x40;

/// Protocol of routes that the kernel makes itself.
pub const PROTOCOL_KERNEL: u8 = 2;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// Administratively up and with a carrier.
    pub up: bool,
}

/// A unicast route in table `main` over one interface without a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRoute {
    pub dst: IpNet,
    pub index: u32,
    pub protocol: u8,
    /// Metric; IPv6 routes always have one.
    pub priority: u32,
    pub source: Option<IpAddr>,
}

/// What a notification says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Link(Link),
    LinkGone(Link),
    Addr {
        index: u32,
        addr: IpAddr,
        present: bool,
    },
    /// A route over one interface came or went.
    Route(DeviceRoute, bool),
}

fn family_number(f: Family) -> u8 {
    match f {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => bytes.first_chunk::<4>().map(|b| IpAddr::from(*b)),
        16 => bytes.first_chunk::<16>().map(|b| IpAddr::from(*b)),
        _ => None,
    }
}

fn octets(addr: IpAddr) -> Vec<u8> {
    super::nft::list::octets(&addr)
}

fn word(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|b| u32::from_ne_bytes(*b))
}

fn parse_link(payload: &[u8]) -> Option<Link> {
    let (index, link_flags) = (word(payload.get(4..)?)?, word(payload.get(8..)?)?);
    let name = Attributes(payload.get(16..)?).find(|(k, _)| *k == 3).and_then(|(_, v)| text(v))?;
    let up = link_flags & FLAG_UP != 0 && link_flags & FLAG_RUNNING != 0;
    Some(Link { index, name: name.to_owned(), up })
}

fn parse_addr(payload: &[u8]) -> Option<(u32, IpAddr)> {
    let index = word(payload.get(4..)?)?;
    let attrs = Attributes(payload.get(8..)?);
    // IFA_LOCAL is the own address where the interface is point to point.
    let own = attrs.clone().find(|(k, _)| *k == 2).or_else(|| attrs.clone().find(|(k, _)| *k == 1))?;
    Some((index, address(own.1)?))
}

fn parse_route(payload: &[u8]) -> Option<DeviceRoute> {
    let [family, len, _, _, table, protocol, _, kind] = *payload.first_chunk::<8>()?;
    if table != TABLE_MAIN || kind != TYPE_UNICAST {
        return None;
    }
    let mut route = DeviceRoute {
        dst: match family {
            2 => IpNet::new([0; 4].into(), len).ok()?,
            10 => IpNet::new([0_u8; 16].into(), len).ok()?,
            _ => return None,
        },
        index: 0,
        protocol,
        priority: 0,
        source: None,
    };
    for (kind, value) in Attributes(payload.get(12..)?) {
        match kind {
            1 => route.dst = IpNet::new(address(value)?, len).ok()?,
            4 => route.index = word(value)?,
            // Gateway, multipath, nexthop object: not a route to a neighbour on the interface.
            5 | 9 | 18 | 30 => return None,
            6 => route.priority = word(value)?,
            7 => route.source = address(value),
            15 if word(value) != Some(u32::from(TABLE_MAIN)) => return None,
            _ => {}
        }
    }
    (route.index != 0).then_some(route)
}

/// What a notification is about; `None`: nothing that matters here.
#[must_use]
pub fn event(m: &Message<'_>) -> Option<Event> {
    match m.kind {
        NEW_LINK => parse_link(m.payload).map(Event::Link),
        DEL_LINK => parse_link(m.payload).map(Event::LinkGone),
        NEW_ADDR | DEL_ADDR => parse_addr(m.payload).map(|(index, addr)| Event::Addr {
            index,
            addr,
            present: m.kind == NEW_ADDR,
        }),
        NEW_ROUTE | DEL_ROUTE => parse_route(m.payload).map(|r| Event::Route(r, m.kind == NEW_ROUTE)),
        _ => None,
    }
}

fn dump<T>(
    socket: &mut Netlink,
    kind: u16,
    header: &[u8],
    parse: impl Fn(&Message<'_>) -> Option<T>,
) -> io::Result<Vec<T>> {
    let out = RefCell::new(Vec::new());
    socket.dump(
        |seq| {
            let mut b = Builder::default();
            b.begin_message(kind, flags::REQUEST | flags::DUMP, seq);
            b.raw(header);
            b.end_message();
            b.into_bytes()
        },
        || out.borrow_mut().clear(),
        |m| out.borrow_mut().extend(parse(&m)),
    )?;
    Ok(out.into_inner())
}

/// All interfaces.
///
/// # Errors
/// As the kernel says.
pub fn links(socket: &mut Netlink) -> io::Result<Vec<Link>> {
    dump(socket, GET_LINK, &[0; 16], |m| parse_link(m.payload))
}

/// All addresses with their interfaces' indexes.
///
/// # Errors
/// As the kernel says.
pub fn addresses(socket: &mut Netlink) -> io::Result<Vec<(u32, IpAddr)>> {
    dump(socket, GET_ADDR, &[0; 8], |m| parse_addr(m.payload))
}

/// Routes of a family over one interface without a gateway, from table `main`.
///
/// # Errors
/// As the kernel says.
pub fn device_routes(socket: &mut Netlink, family: Family) -> io::Result<Vec<DeviceRoute>> {
    let mut header = [0; 12];
    header[0] = family_number(family);
    dump(socket, GET_ROUTE, &header, |m| route_of(m.payload, family))
}

/// Asked for a family that it does not have (it was started with `ipv6.disable=1`), the kernel lists all others' routes.
fn route_of(payload: &[u8], family: Family) -> Option<DeviceRoute> {
    parse_route(payload).filter(|r| Family::of_net(&r.dst) == family)
}

/// The route of table `main` that packets to an address take, where it is one over an interface without a gateway.
///
/// # Errors
/// As the kernel says; no route at all is no error.
pub fn best_route(socket: &mut Netlink, dst: IpAddr) -> io::Result<Option<DeviceRoute>> {
    let seq = socket.next_seq();
    let net = IpNet::from(dst);
    let mut b = Builder::default();
    b.begin_message(GET_ROUTE, flags::REQUEST | flags::ACK, seq);
    b.raw(&[family_number(Family::of_net(&net)), net.prefix_len(), 0, 0, 0, 0, 0, 0]);
    b.raw(&(LOOKUP_TABLE | FIB_MATCH).to_ne_bytes());
    b.bytes(1, &octets(dst));
    b.end_message();
    let mut found = None;
    match socket.query(&b.into_bytes(), seq, |m| found = parse_route(m.payload)) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EINVAL)) => {
            Ok(None)
        }
        other => other.map(|()| found),
    }
}

fn route_message(socket: &mut Netlink, kind: u16, extra: u16, route: &DeviceRoute) -> (Vec<u8>, u32) {
    let seq = socket.next_seq();
    let family = Family::of_net(&route.dst);
    let scope = match family {
        Family::V4 => SCOPE_LINK,
        Family::V6 => SCOPE_UNIVERSE,
    };
    let mut b = Builder::default();
    b.begin_message(kind, flags::REQUEST | flags::ACK | extra, seq);
    b.raw(&[
        family_number(family),
        route.dst.prefix_len(),
        0,
        0,
        TABLE_MAIN,
        route.protocol,
        scope,
        TYPE_UNICAST,
    ]);
    b.raw(&[0; 4]);
    b.bytes(1, &octets(route.dst.network()));
    b.bytes(4, &route.index.to_ne_bytes());
    if route.priority != 0 {
        b.bytes(6, &route.priority.to_ne_bytes());
    }
    if let Some(source) = route.source {
        b.bytes(7, &octets(source));
    }
    b.end_message();
    (b.into_bytes(), seq)
}

/// Adds a route, in place of one with the same destination and metric.
///
/// # Errors
/// As the kernel says: `ENETDOWN` where the interface is down.
pub fn replace_route(socket: &mut Netlink, route: &DeviceRoute) -> io::Result<()> {
    let (bytes, seq) = route_message(socket, NEW_ROUTE, flags::CREATE | flags::REPLACE, route);
    socket.request(&bytes, seq)
}

/// Removes a route. One that is not there is no error.
///
/// # Errors
/// As the kernel says.
pub fn delete_route(socket: &mut Netlink, route: &DeviceRoute) -> io::Result<()> {
    let (bytes, seq) = route_message(socket, DEL_ROUTE, 0, route);
    match socket.request(&bytes, seq) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::ESRCH | libc::ENODEV)) => Ok(()),
        other => other,
    }
}

/// A permanent entry of the IPv4 neighbour table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Neighbour {
    pub index: u32,
    pub addr: Ipv4Addr,
    pub mac: [u8; 6],
}

/// `struct ndmsg`.
fn neighbour_header(index: u32, state: u16) -> [u8; 12] {
    let (i, s) = (index.to_ne_bytes(), state.to_ne_bytes());
    [2, 0, 0, 0, i[0], i[1], i[2], i[3], s[0], s[1], 0, TYPE_UNICAST]
}

/// All permanent IPv4 neighbours.
///
/// # Errors
/// As the kernel says.
pub fn permanent_neighbours(socket: &mut Netlink) -> io::Result<HashSet<Neighbour>> {
    let parse = |m: &Message<'_>| {
        let state = m.payload.get(8..10)?.first_chunk().map(|b| u16::from_ne_bytes(*b))?;
        let attrs = Attributes(m.payload.get(12..)?);
        let find = |kind| attrs.clone().find(|(k, _)| *k == kind).map(|(_, v)| v);
        let addr = match address(find(1)?)? {
            IpAddr::V4(a) => a,
            IpAddr::V6(_) => return None,
        };
        let mac = *find(2)?.first_chunk()?;
        (state & STATE_PERMANENT != 0).then_some(Neighbour { index: word(m.payload.get(4..)?)?, addr, mac })
    };
    Ok(dump(socket, GET_NEIGHBOUR, &neighbour_header(0, 0)[..], parse)?.into_iter().collect())
}

/// Writes a permanent neighbour, in place of what stands there.
///
/// # Errors
/// As the kernel says: `ENETDOWN` where the interface is down.
pub fn set_neighbour(socket: &mut Netlink, n: &Neighbour) -> io::Result<()> {
    let seq = socket.next_seq();
    let mut b = Builder::default();
    b.begin_message(NEW_NEIGHBOUR, flags::REQUEST | flags::ACK | flags::CREATE | flags::REPLACE, seq);
    b.raw(&neighbour_header(n.index, STATE_PERMANENT));
    b.bytes(1, &n.addr.octets());
    b.bytes(2, &n.mac);
    b.end_message();
    socket.request(&b.into_bytes(), seq)
}

/// Removes a neighbour. One that is not there is no error.
///
/// # Errors
/// As the kernel says.
pub fn delete_neighbour(socket: &mut Netlink, index: u32, addr: Ipv4Addr) -> io::Result<()> {
    let seq = socket.next_seq();
    let mut b = Builder::default();
    b.begin_message(DEL_NEIGHBOUR, flags::REQUEST | flags::ACK, seq);
    b.raw(&neighbour_header(index, 0));
    b.bytes(1, &addr.octets());
    b.end_message();
    match socket.request(&b.into_bytes(), seq) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENODEV | libc::ENXIO)) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_of_another_family_than_the_one_asked_for_is_none() {
        let mut b = Builder::default();
        b.raw(&[family_number(Family::V4), 32, 0, 0, TABLE_MAIN, 80, SCOPE_LINK, TYPE_UNICAST, 0, 0, 0, 0]);
        b.bytes(1, &[10, 65, 0, 2]);
        b.bytes(4, &7_u32.to_ne_bytes());
        let payload = b.into_bytes();
        let route = route_of(&payload, Family::V4).unwrap();
        assert_eq!((route.dst, route.index), ("10.65.0.2/32".parse().unwrap(), 7));
        assert_eq!(route_of(&payload, Family::V6), None);
    }
}
