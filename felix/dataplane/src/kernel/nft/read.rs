//! What stands in the kernel's nf_tables, as far as a table of ours goes.
//!
//! In: names of tables, chains, sets. Out: chains with their rules' tags and handles, sets with their types, members.
//! Always holds: what cannot be read as ours is reported as foreign, never guessed.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use felix_message::IpSetMember;
use ipnet::IpNet;

use super::batch::{Tag, tag_of};
use super::expr::verdict;
use super::list::Interval;
use super::{NftFamily, SetType, message_type, msg, set_flag};
use crate::kernel::attr::{Attributes, Builder, Message, be32, be64, text};
use crate::kernel::netlink::{Netlink, flags};

/// A rule as far as it is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelRule {
    pub handle: u64,
    /// `None`: not one of ours.
    pub tag: Option<Tag>,
}

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelChain {
    /// Hook number and priority.
    pub hook: Option<(u32, i32)>,
    pub rules: Vec<KernelRule>,
}

/// A table of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelTable {
    pub chains: HashMap<Arc<str>, KernelChain>,
    /// `None`: a type that we never make.
    pub sets: HashMap<Arc<str>, Option<SetType>>,
}

fn dump_request(kind: u16, family: NftFamily, seq: u32, fill: impl FnOnce(&mut Builder)) -> Vec<u8> {
    let mut b = Builder::default();
    b.begin_message(message_type(kind), flags::REQUEST | flags::DUMP, seq);
    b.raw(&[family.number(), 0, 0, 0]);
    fill(&mut b);
    b.end_message();
    b.into_bytes()
}

pub(super) fn attributes<'a>(m: &Message<'a>) -> Attributes<'a> {
    Attributes(m.payload.get(4..).unwrap_or(&[]))
}

pub(super) fn find<'a>(attrs: &Attributes<'a>, kind: u16) -> Option<&'a [u8]> {
    attrs.clone().find(|(k, _)| *k == kind).map(|(_, v)| v)
}

/// Reads a table's chains, rules and sets. An absent table is an empty one; whether it is there, says the second.
///
/// # Errors
/// As the kernel says.
pub fn table(socket: &mut Netlink, family: NftFamily, name: &str) -> io::Result<KernelTable> {
    let mut table = KernelTable { chains: chains(socket, family, name)?, sets: sets(socket, family, name)? };
    // Chain by chain: for every part of a dump the kernel counts from the beginning of the table, so that all rules in
    // one take it time with the square of their number. What is written in between, notifications tell of.
    for (chain, c) in &mut table.chains {
        c.rules = rules(socket, family, name, chain)?;
    }
    Ok(table)
}

/// No such table or set: nothing stands there.
pub(super) fn absent_is_empty(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}

fn chains(
    socket: &mut Netlink,
    family: NftFamily,
    table: &str,
) -> io::Result<HashMap<Arc<str>, KernelChain>> {
    let out = std::cell::RefCell::new(HashMap::new());
    absent_is_empty(socket.dump(
        |seq| dump_request(msg::GET_CHAIN, family, seq, |_| {}),
        || out.borrow_mut().clear(),
        |m| {
            let attrs = attributes(&m);
            if find(&attrs, 1).and_then(text) != Some(table) {
                return;
            }
            let Some(name) = find(&attrs, 3).and_then(text) else { return };
            let hook = find(&attrs, 4).and_then(|h| {
                let h = Attributes(h);
                let priority = find(&h, 2)?.first_chunk().map(|b| i32::from_be_bytes(*b))?;
                Some((find(&h, 1).and_then(be32)?, priority))
            });
            out.borrow_mut().insert(name.into(), KernelChain { hook, rules: Vec::new() });
        },
    ))?;
    Ok(out.into_inner())
}

/// A chain of any table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnyChain {
    pub table: String,
    pub name: String,
    /// The kernel enters it.
    pub base: bool,
    /// What no rule decided is dropped.
    pub drops: bool,
}

/// Lists the chains of all tables of a family.
///
/// # Errors
/// As the kernel says.
pub fn chain_names(socket: &mut Netlink, family: NftFamily) -> io::Result<Vec<AnyChain>> {
    let out = std::cell::RefCell::new(Vec::new());
    absent_is_empty(socket.dump(
        |seq| dump_request(msg::GET_CHAIN, family, seq, |_| {}),
        || out.borrow_mut().clear(),
        |m| {
            let attrs = attributes(&m);
            let (table, name) = (find(&attrs, 1).and_then(text), find(&attrs, 3).and_then(text));
            if let (Some(table), Some(name)) = (table, name) {
                let drops = find(&attrs, 5).and_then(be32) == Some(0);
                let base = find(&attrs, 4).is_some();
                out.borrow_mut().push(AnyChain {
                    table: table.to_owned(),
                    name: name.to_owned(),
                    base,
                    drops,
                });
            }
        },
    ))?;
    Ok(out.into_inner())
}

/// Reads a chain's rules.
///
/// # Errors
/// As the kernel says.
pub fn rules(
    socket: &mut Netlink,
    family: NftFamily,
    table: &str,
    chain: &str,
) -> io::Result<Vec<KernelRule>> {
    let out: std::cell::RefCell<Vec<KernelRule>> = std::cell::RefCell::default();
    absent_is_empty(socket.dump(
        |seq| rules_request(family, seq, table, chain),
        || out.borrow_mut().clear(),
        |m| {
            let attrs = attributes(&m);
            let Some(handle) = find(&attrs, 3).and_then(be64) else { return };
            out.borrow_mut().push(KernelRule { handle, tag: find(&attrs, 7).and_then(tag_of) });
        },
    ))?;
    Ok(out.into_inner())
}

pub(super) fn rules_request(family: NftFamily, seq: u32, table: &str, chain: &str) -> Vec<u8> {
    dump_request(msg::GET_RULE, family, seq, |b| {
        b.text(1, table);
        b.text(2, chain);
    })
}

/// What a rule counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleCounter {
    pub handle: u64,
    /// `None`: not one of ours.
    pub tag: Option<Tag>,
    pub packets: u64,
    pub bytes: u64,
}

/// Reads the counters of a chain's rules, in the order of rules. A dump that others' writing tore is taken as it is: the
/// chain has other rules than it should.
///
/// # Errors
/// As the kernel says.
pub fn counters(
    socket: &mut Netlink,
    family: NftFamily,
    table: &str,
    chain: &str,
) -> io::Result<Vec<RuleCounter>> {
    let mut out = Vec::new();
    absent_is_empty(socket.dump_once(
        |seq| rules_request(family, seq, table, chain),
        |m| {
            let attrs = attributes(&m);
            let Some(handle) = find(&attrs, 3).and_then(be64) else { return };
            let mut counter =
                RuleCounter { handle, tag: find(&attrs, 7).and_then(tag_of), ..RuleCounter::default() };
            let expressions = Attributes(find(&attrs, 4).unwrap_or(&[]));
            let found = expressions
                .map(|(_, e)| Attributes(e))
                .find(|e| find(e, 1).and_then(text) == Some("counter"));
            if let Some(data) = found.and_then(|e| find(&e, 2)) {
                let data = Attributes(data);
                counter.bytes = find(&data, 1).and_then(be64).unwrap_or(0);
                counter.packets = find(&data, 2).and_then(be64).unwrap_or(0);
            }
            out.push(counter);
        },
    ))?;
    Ok(out)
}

fn sets(
    socket: &mut Netlink,
    family: NftFamily,
    table: &str,
) -> io::Result<HashMap<Arc<str>, Option<SetType>>> {
    let out = std::cell::RefCell::new(HashMap::new());
    absent_is_empty(socket.dump(
        |seq| dump_request(msg::GET_SET, family, seq, |b| b.text(1, table)),
        || out.borrow_mut().clear(),
        |m| {
            let attrs = attributes(&m);
            let Some(name) = find(&attrs, 2).and_then(text) else { return };
            let flags = find(&attrs, 3).and_then(be32).unwrap_or(0);
            if flags & set_flag::ANONYMOUS != 0 {
                return;
            }
            let key = (find(&attrs, 4).and_then(be32), find(&attrs, 5).and_then(be32));
            let kind = SetType::ALL.into_iter().find(|k| {
                let (t, l, _) = k.key(family);
                k.flags() == flags && key == (Some(t), Some(l))
            });
            out.borrow_mut().insert(name.into(), kind);
        },
    ))?;
    Ok(out.into_inner())
}

/// A raw element: key, whether it ends an interval, and the chain that its verdict goes to.
struct Element {
    key: Vec<u8>,
    end: bool,
    goto: Option<String>,
}

fn elements(socket: &mut Netlink, family: NftFamily, table: &str, set: &str) -> io::Result<Vec<Element>> {
    let out: std::cell::RefCell<Vec<Element>> = std::cell::RefCell::default();
    absent_is_empty(socket.dump(
        |seq| {
            dump_request(msg::GET_ELEMENT, family, seq, |b| {
                b.text(1, table);
                b.text(2, set);
            })
        },
        || out.borrow_mut().clear(),
        |m| {
            let Some(list) = find(&attributes(&m), 3) else { return };
            for (_, e) in Attributes(list) {
                let e = Attributes(e);
                let Some(key) = find(&e, 1).and_then(|k| find(&Attributes(k), 1)) else { continue };
                let end = find(&e, 3).and_then(be32).unwrap_or(0) & 1 != 0;
                let goto = find(&e, 2).and_then(|d| find(&Attributes(d), 2)).and_then(|v| {
                    let v = Attributes(v);
                    let code = find(&v, 1)?.first_chunk().map(|b| i32::from_be_bytes(*b))?;
                    (code == verdict::GOTO).then(|| find(&v, 2).and_then(text).map(str::to_owned))?
                });
                out.borrow_mut().push(Element { key: key.to_vec(), end, goto });
            }
        },
    ))?;
    Ok(out.into_inner())
}

/// Reads a set's members. `None`: something in it is not of the kind that we put there.
///
/// # Errors
/// As the kernel says.
pub fn members(
    socket: &mut Netlink,
    family: NftFamily,
    table: &str,
    set: &str,
    kind: SetType,
) -> io::Result<Option<Vec<IpSetMember>>> {
    let raw = elements(socket, family, table, set)?;
    Ok(match kind {
        SetType::Net => intervals(raw),
        SetType::Addr => raw.iter().map(|e| address(&e.key).map(|a| IpSetMember::Net(a.into()))).collect(),
        SetType::AddrPort => raw.iter().map(|e| address_port(&e.key)).collect(),
        SetType::Ports | SetType::Dispatch => None,
    })
}

/// Reads the intervals of a list's set, sorted. `None`: something in it is not of the kind that we put there.
///
/// # Errors
/// As the kernel says.
pub fn list(
    socket: &mut Netlink,
    family: NftFamily,
    table: &str,
    set: &str,
) -> io::Result<Option<Vec<Interval>>> {
    Ok(pairs(elements(socket, family, table, set)?))
}

/// Reads a dispatch map: interface → chain. An entry with another verdict has an empty chain.
///
/// # Errors
/// As the kernel says.
pub fn dispatch(
    socket: &mut Netlink,
    family: NftFamily,
    table: &str,
    map: &str,
) -> io::Result<HashMap<Arc<str>, String>> {
    let raw = elements(socket, family, table, map)?;
    let entry = |e: Element| text(&e.key).map(|name| (name.into(), e.goto.unwrap_or_default()));
    Ok(raw.into_iter().filter_map(entry).collect())
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => bytes.first_chunk::<4>().map(|b| IpAddr::from(*b)),
        16 => bytes.first_chunk::<16>().map(|b| IpAddr::from(*b)),
        _ => None,
    }
}

fn address_port(bytes: &[u8]) -> Option<IpSetMember> {
    let len = bytes.len().checked_sub(8)?;
    let addr = address(bytes.get(..len)?)?;
    let port = bytes.get(len + 4..len + 6).and_then(<[u8]>::first_chunk).map(|b| u16::from_be_bytes(*b))?;
    Some(IpSetMember::IpPort(addr, *bytes.get(len)?, port))
}

/// Networks of an interval set's elements.
fn intervals(raw: Vec<Element>) -> Option<Vec<IpSetMember>> {
    let all = pairs(raw)?;
    all.iter().map(|(first, last)| network(first, last).map(IpSetMember::Net)).collect()
}

/// First and last keys of an interval set's elements.
fn pairs(mut raw: Vec<Element>) -> Option<Vec<Interval>> {
    // Where one interval ends another may begin: ends first.
    raw.sort_by(|a, b| a.key.cmp(&b.key).then(b.end.cmp(&a.end)));
    let mut out = Vec::with_capacity(raw.len() / 2);
    let mut start: Option<Vec<u8>> = None;
    for e in raw {
        match (start.take(), e.end) {
            (None, true) => {} // `nft` itself puts an end before the first interval.
            (None, false) => start = Some(e.key),
            (Some(s), true) => out.push((s, predecessor(&e.key)?)),
            (Some(_), false) => return None,
        }
    }
    if let Some(s) = start {
        let last = vec![0xff; s.len()];
        out.push((s, last));
    }
    Some(out)
}

fn predecessor(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = bytes.to_vec();
    for byte in out.iter_mut().rev() {
        let (next, borrow) = byte.overflowing_sub(1);
        *byte = next;
        if !borrow {
            return Some(out);
        }
    }
    None
}

/// The network from `first` to `last`, where there is exactly one.
fn network(first: &[u8], last: &[u8]) -> Option<IpNet> {
    let addr = address(first)?;
    let mut len = 0_u8;
    for (a, b) in first.iter().zip(last) {
        let same = (a ^ b).leading_zeros();
        len += u8::try_from(same).ok()?;
        if same < 8 {
            break;
        }
    }
    let net = IpNet::new(addr, len).ok()?;
    (net.network() == addr && Some(net.broadcast()) == address(last)).then_some(net)
}

/// True where a notification is about a table of this name.
#[must_use]
pub fn is_about(m: &Message<'_>, table: &str) -> bool {
    m.kind != message_type(msg::NEW_GENERATION) && find(&attributes(m), 1).and_then(text) == Some(table)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn element(key: [u8; 4], end: bool) -> Element {
        Element { key: key.to_vec(), end, goto: None }
    }

    #[test]
    fn adjacent_networks_are_told_apart() {
        let raw = vec![
            element([10, 0, 1, 0], false),
            element([10, 0, 1, 0], true),
            element([10, 0, 2, 0], true),
            element([10, 0, 0, 0], false),
            element([255, 0, 0, 0], false),
        ];
        let want =
            ["10.0.0.0/24", "10.0.1.0/24", "255.0.0.0/8"].map(|n| IpSetMember::Net(n.parse().unwrap()));
        assert_eq!(intervals(raw), Some(want.to_vec()));
    }

    #[test]
    fn a_range_that_is_no_network_is_foreign() {
        assert_eq!(intervals(vec![element([10, 0, 0, 1], false), element([10, 0, 0, 3], true)]), None);
    }

    proptest! {
        #[test]
        fn a_network_is_found_again(addr: u32, len in 0_u8..=32) {
            let net = IpNet::new(IpAddr::from(addr.to_be_bytes()), len).unwrap().trunc();
            let first = super::super::list::octets(&net.network());
            let last = super::super::list::octets(&net.broadcast());
            prop_assert_eq!(network(&first, &last), Some(net));
        }
    }
}
