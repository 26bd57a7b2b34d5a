//! Connection tracking over netlink: reading all entries of a family, removing one.
//!
//! In: a socket. Out: entries with both directions. Numbers are those of `linux/netfilter/nfnetlink_conntrack.h`. Always
//! holds: an entry is removed by its own tuple and identifier, so one that came into being in between stays. Left out:
//! which entries are to go.

use std::io;
use std::net::IpAddr;

use super::attr::{Attributes, Builder, Message, be32};
use super::netlink::{Netlink, flags};
use crate::rule::Family;

/// Netlink protocol.
pub use super::nft::NETLINK_NETFILTER;

const SUBSYSTEM: u16 = 1;
const GET: u16 = 1;
const DELETE: u16 = 2;

const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
const STATUS_EXPECTED: u32 = 1;
const ID: u16 = 12;
const ZONE: u16 = 18;

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    pub src: IpAddr,
    pub dst: IpAddr,
    /// IANA number.
    pub protocol: u8,
    /// Zero for protocols without ports.
    pub src_port: u16,
    pub dst_port: u16,
    /// Type and code.
    pub icmp: Option<(u8, u8)>,
}

/// A tracked connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As the first packet was.
    pub original: Tuple,
    /// As answers are: ends are exchanged, and translated where NAT applies.
    pub reply: Tuple,
    /// Another connection announced it.
    pub expected: bool,
    /// The attributes that name the entry to the kernel.
    name: Vec<u8>,
}

impl Entry {
    /// True where an address is an end of the connection, before or after translation.
    #[must_use]
    pub fn involves(&self, addr: &IpAddr) -> bool {
        [self.original, self.reply].iter().any(|t| t.src == *addr || t.dst == *addr)
    }
}

fn header(family: Family) -> [u8; 4] {
    let number = match family {
        Family::V4 => 2,
        Family::V6 => 10,
    };
    [number, 0, 0, 0]
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => bytes.first_chunk::<4>().map(|b| IpAddr::from(*b)),
        16 => bytes.first_chunk::<16>().map(|b| IpAddr::from(*b)),
        _ => None,
    }
}

fn find<'a>(attrs: &Attributes<'a>, kind: u16) -> Option<&'a [u8]> {
    attrs.clone().find(|(k, _)| *k == kind).map(|(_, v)| v)
}

fn tuple(bytes: &[u8]) -> Option<Tuple> {
    let attrs = Attributes(bytes);
    let ip = Attributes(find(&attrs, 1)?);
    let proto = Attributes(find(&attrs, 2)?);
    let either = |a, b| find(&ip, a).or_else(|| find(&ip, b)).and_then(address);
    let port = |kind| {
        find(&proto, kind).and_then(<[u8]>::first_chunk).map_or(0, |b: &[u8; 2]| u16::from_be_bytes(*b))
    };
    let byte = |a, b| find(&proto, a).or_else(|| find(&proto, b)).and_then(|v| v.first().copied());
    Some(Tuple {
        src: either(1, 3)?,
        dst: either(2, 4)?,
        protocol: *find(&proto, 1)?.first()?,
        src_port: port(2),
        dst_port: port(3),
        icmp: byte(5, 8).zip(byte(6, 9)),
    })
}

/// Reads an entry; `None`: not one of two addresses.
#[must_use]
pub fn parse(payload: &[u8]) -> Option<Entry> {
    let attrs = Attributes(payload.get(4..)?);
    let original = find(&attrs, TUPLE_ORIGINAL)?;
    let mut name = Builder::default();
    name.bytes(TUPLE_ORIGINAL | super::attr::NESTED, original);
    for kind in [ID, ZONE] {
        if let Some(value) = find(&attrs, kind) {
            name.bytes(kind, value);
        }
    }
    Some(Entry {
        original: tuple(original)?,
        reply: tuple(find(&attrs, TUPLE_REPLY)?)?,
        expected: find(&attrs, STATUS).and_then(be32).is_some_and(|s| s & STATUS_EXPECTED != 0),
        name: name.into_bytes(),
    })
}

/// Hands every entry of a family to `each`.
///
/// # Errors
/// As the kernel says. A kernel without connection tracking has no entries.
pub fn entries(socket: &mut Netlink, family: Family, mut each: impl FnMut(Entry)) -> io::Result<()> {
    let result = socket.dump(
        |seq| {
            let mut b = Builder::default();
            b.begin_message((SUBSYSTEM << 8) | GET, flags::REQUEST | flags::DUMP, seq);
            b.raw(&header(family));
            b.end_message();
            b.into_bytes()
        },
        || {},
        |m: Message<'_>| {
            if let Some(e) = parse(m.payload) {
                each(e);
            }
        },
    );
    match result {
        // Not loaded: nothing is tracked.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        other => other,
    }
}

/// Removes an entry. One that is gone, or has been replaced by a later one, is no error.
///
/// # Errors
/// As the kernel says.
pub fn delete(socket: &mut Netlink, entry: &Entry) -> io::Result<()> {
    let seq = socket.next_seq();
    let mut b = Builder::default();
    b.begin_message((SUBSYSTEM << 8) | DELETE, flags::REQUEST | flags::ACK, seq);
    b.raw(&header(Family::of(&entry.original.src)));
    b.raw(&entry.name);
    b.end_message();
    match socket.request(&b.into_bytes(), seq) {
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}

/// The kernel's identifier of an entry, for tests.
#[must_use]
pub fn id(entry: &Entry) -> Option<u32> {
    find(&Attributes(&entry.name), ID).and_then(be32)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An entry as the kernel tells it, with answers from this address.
    pub(crate) fn message(reply_src: [u8; 4]) -> Vec<u8> {
        let mut b = Builder::default();
        b.raw(&[2, 0, 0, 0]);
        let direction = |b: &mut Builder, kind, src: [u8; 4], dst: [u8; 4], ports: [u16; 2]| {
            b.nested(kind, |b| {
                b.nested(1, |b| {
                    b.bytes(1, &src);
                    b.bytes(2, &dst);
                });
                b.nested(2, |b| {
                    b.bytes(1, &[6]);
                    b.bytes(2, &ports[0].to_be_bytes());
                    b.bytes(3, &ports[1].to_be_bytes());
                });
            });
        };
        direction(&mut b, TUPLE_ORIGINAL, [10, 0, 0, 1], [10, 96, 0, 1], [4000, 80]);
        direction(&mut b, TUPLE_REPLY, reply_src, [10, 0, 0, 1], [8080, 4000]);
        b.be32(ID, 7);
        b.into_bytes()
    }

    #[test]
    fn an_entry_has_both_directions_and_a_name() {
        let e = parse(&message([10, 0, 0, 9])).unwrap();
        assert_eq!((e.original.dst_port, e.reply.src_port), (80, 8080));
        assert_eq!(id(&e), Some(7));
        for (addr, inside) in
            [("10.0.0.1", true), ("10.96.0.1", true), ("10.0.0.9", true), ("10.0.0.2", false)]
        {
            assert_eq!(e.involves(&addr.parse().unwrap()), inside, "{addr}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
