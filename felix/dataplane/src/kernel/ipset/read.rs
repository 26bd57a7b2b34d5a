//! What IP sets stand in the kernel.
//!
//! In: the kernel's listing. Out: sets with type and members. Always holds: a set or member that is not of a kind that
//! is made here is reported as such (`None`), never guessed; arbitrary bytes are read without harm.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use felix_message::{IpSetKind, IpSetMember};
use ipnet::IpNet;

use super::{IPADDR_V4, IPADDR_V6, PROTOCOL, attribute, cmd, data, message_type, type_name};
use crate::kernel::attr::{Attributes, Builder, be32, text};
use crate::kernel::netlink::{Netlink, flags};
use crate::rule::Family;

/// A set as it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelSet {
    /// `None`: a type that is never made here.
    pub kind: Option<IpSetKind>,
    pub family: Option<Family>,
    /// Most members.
    pub max: u32,
    /// `None`: there is one that is never put there.
    pub members: Option<BTreeSet<IpSetMember>>,
}

/// Reads all sets whose names begin with `prefix`.
///
/// # Errors
/// As the kernel says. Without IP sets in the kernel there are none.
pub fn sets(socket: &mut Netlink, prefix: &str) -> io::Result<BTreeMap<Arc<str>, KernelSet>> {
    let out = std::cell::RefCell::new(BTreeMap::<Arc<str>, KernelSet>::new());
    let result = socket.dump(
        |seq| {
            let mut b = Builder::default();
            b.begin_message(message_type(cmd::LIST), flags::REQUEST | flags::ACK | flags::DUMP, seq);
            b.raw(&[0, 0, 0, 0]);
            b.bytes(attribute::PROTOCOL, &[PROTOCOL]);
            b.end_message();
            b.into_bytes()
        },
        || out.borrow_mut().clear(),
        |m| part(m.payload.get(4..).unwrap_or(&[]), prefix, &mut out.borrow_mut()),
    );
    match result {
        // No such subsystem, or nothing in it.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EINVAL | libc::EOPNOTSUPP)) => {}
        other => other?,
    }
    Ok(out.into_inner())
}

/// One message of the listing: a set's head with its first members, or more members.
fn part(payload: &[u8], prefix: &str, out: &mut BTreeMap<Arc<str>, KernelSet>) {
    let attrs = Attributes(payload);
    let find = |kind: u16| attrs.clone().find(|(k, _)| *k == kind).map(|(_, v)| v);
    let Some(name) = find(attribute::SETNAME).and_then(text).filter(|n| n.starts_with(prefix)) else {
        return;
    };
    if !out.contains_key(name) {
        out.insert(name.into(), KernelSet { members: Some(BTreeSet::new()), ..KernelSet::default() });
    }
    let Some(set) = out.get_mut(name) else { return };
    if let Some(type_text) = find(attribute::TYPENAME).and_then(text) {
        let all = [IpSetKind::Ip, IpSetKind::Net, IpSetKind::IpPort];
        set.kind = all.into_iter().find(|k| type_name(*k) == type_text);
        set.family = match find(attribute::FAMILY).and_then(|v| v.first()) {
            Some(2) => Some(Family::V4),
            Some(10) => Some(Family::V6),
            _ => None,
        };
        let max = find(attribute::DATA).and_then(|d| Attributes(d).find(|(k, _)| *k == data::MAXELEM));
        set.max = max.and_then(|(_, v)| be32(v)).unwrap_or(0);
    }
    for (_, element) in find(attribute::ADT).map(Attributes).into_iter().flatten() {
        match (member(element, set.kind), &mut set.members) {
            (Some(m), Some(members)) => {
                members.insert(m);
            }
            (None, members) => *members = None,
            (Some(_), None) => {}
        }
    }
}

fn member(element: &[u8], kind: Option<IpSetKind>) -> Option<IpSetMember> {
    let find = |kind: u16| Attributes(element).find(|(k, _)| *k == kind).map(|(_, v)| v);
    let addr = Attributes(find(data::IP)?).find_map(|(k, v)| match k {
        IPADDR_V4 => v.first_chunk::<4>().map(|b| IpAddr::from(*b)),
        IPADDR_V6 => v.first_chunk::<16>().map(|b| IpAddr::from(*b)),
        _ => None,
    })?;
    let host = || IpNet::from(addr);
    match kind? {
        IpSetKind::Ip => Some(IpSetMember::Net(host())),
        IpSetKind::Net => {
            let len = find(data::CIDR).and_then(|v| v.first().copied());
            Some(IpSetMember::Net(match len {
                Some(len) => IpNet::new(addr, len).ok()?,
                None => host(),
            }))
        }
        IpSetKind::IpPort => {
            let port = find(data::PORT)?.first_chunk().map(|b| u16::from_be_bytes(*b))?;
            Some(IpSetMember::IpPort(addr, *find(data::PROTO)?.first()?, port))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_sent_is_read_back(addr: u32, len in 1_u8..=32, port: u16, protocol: u8) {
            let net = IpNet::new(IpAddr::from(addr.to_be_bytes()), len).unwrap().trunc();
            let cases = [
                (IpSetKind::Net, IpSetMember::Net(net)),
                (IpSetKind::Ip, IpSetMember::Net(IpNet::from(net.addr()))),
                (IpSetKind::IpPort, IpSetMember::IpPort(net.addr(), protocol, port)),
            ];
            for (kind, m) in cases {
                let mut b = Builder::default();
                super::super::member(&mut b, kind, &m);
                let bytes = b.into_bytes();
                let (_, element) = Attributes(&bytes).next().unwrap();
                prop_assert_eq!(member(element, Some(kind)), Some(m));
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            part(&bytes, "", &mut BTreeMap::new());
            for kind in [IpSetKind::Ip, IpSetKind::Net, IpSetKind::IpPort] {
                let _ = member(&bytes, Some(kind));
            }
        }
    }
}
