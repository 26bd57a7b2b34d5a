//! `x.member`: what paths, prefixes, communities and lists can be asked.

use std::net::IpAddr;
use std::sync::Arc;

use bird_wire::LargeCommunity;
use ipnet::IpNet;

use super::ast::Member;
use super::set::Set;
use super::value::{EnumKind, Value};

/// The value of `subject.member(argument)`; `argument` is void for members without one.
pub(super) fn member(subject: Value, member: Member, argument: &Value) -> Result<Value, String> {
    let wrong = format!("a {} has no such member", subject.type_name());
    Ok(match (member, subject) {
        (Member::Len, Value::Net(net)) => Value::Int(u32::from(net.prefix_len())),
        (Member::Len, Value::Path(path)) => count(path.len()),
        (Member::Len, Value::CList(list)) => count(list.len()),
        (Member::Len, Value::LcList(list)) => count(list.len()),
        (Member::Len, Value::EcList(list)) => count(list.len()),
        (Member::Ip, Value::Net(net)) => Value::Ip(net.network()),
        (Member::Type, Value::Net(net)) => {
            Value::Enum(EnumKind::NetType, if net.network().is_ipv4() { 1 } else { 2 })
        }
        (Member::First, Value::Path(path)) => Value::Int(path.first().unwrap_or(0)),
        (Member::Last, Value::Path(path)) => Value::Int(path.last().unwrap_or(0)),
        (Member::LastNonaggregated, Value::Path(path)) => Value::Int(last_nonaggregated(&path)),
        (Member::Asn, Value::Pair(c)) => Value::Int(c >> 16),
        (Member::Data, Value::Pair(c)) => Value::Int(c & 0xffff),
        (Member::Asn, Value::Lc(c)) => Value::Int(c.0),
        (Member::Data1, Value::Lc(c)) => Value::Int(c.1),
        (Member::Data2, Value::Lc(c)) => Value::Int(c.2),
        (Member::Empty, Value::Path(_)) => Value::Path(Arc::default()),
        (Member::Empty, Value::CList(_)) => Value::CList(Arc::from([])),
        (Member::Empty, Value::LcList(_)) => Value::LcList(Arc::from([])),
        (Member::Empty, Value::EcList(_)) => Value::EcList(Arc::from([])),
        (Member::Mask, Value::Ip(address)) => mask(address, argument)?,
        (Member::Prepend, Value::Path(path)) => match argument {
            Value::Int(asn) => Value::Path(Arc::new(path.prepended(*asn))),
            _ => return Err("only a number can be prepended to a path".into()),
        },
        (Member::Delete | Member::Filter, Value::Path(path)) => {
            let inside = |asn: u32| match argument {
                Value::Int(n) => asn == *n,
                Value::Set(set) => set.contains(&Value::Int(asn)) == Some(true),
                _ => false,
            };
            let keep = member == Member::Filter;
            Value::Path(Arc::new(path.without(|asn| inside(asn) != keep)))
        }
        (_, Value::CList(list)) => {
            let change = Change::new(member, argument, |v| match v {
                Value::Pair(c) => Some(vec![*c]),
                Value::CList(list) => Some(list.to_vec()),
                _ => None,
            })?;
            Value::CList(change.apply(&list, |c| Value::Pair(*c)).into())
        }
        (_, Value::LcList(list)) => {
            let change = Change::new(member, argument, |v| match v {
                Value::Lc(c) => Some(vec![*c]),
                Value::LcList(list) => Some(list.to_vec()),
                _ => None,
            })?;
            Value::LcList(change.apply(&list, |c: &LargeCommunity| Value::Lc(*c)).into())
        }
        (_, Value::EcList(list)) => {
            let change = Change::new(member, argument, |v| match v {
                Value::Ec(c) => Some(vec![*c]),
                Value::EcList(list) => Some(list.to_vec()),
                _ => None,
            })?;
            Value::EcList(change.apply(&list, |c| Value::Ec(*c)).into())
        }
        _ => return Err(wrong),
    })
}

/// `add`, `delete` or `filter` of a list, by a list of items or a set.
struct Change<'a, T> {
    member: Member,
    items: Vec<T>,
    set: Option<&'a Set>,
}

impl<'a, T: PartialEq + Clone> Change<'a, T> {
    fn new(
        member: Member,
        argument: &'a Value,
        items: impl Fn(&Value) -> Option<Vec<T>>,
    ) -> Result<Self, String> {
        if !matches!(member, Member::Add | Member::Delete | Member::Filter) {
            return Err("a list has no such member".into());
        }
        if let (Value::Set(set), false) = (argument, member == Member::Add) {
            return Ok(Self { member, items: Vec::new(), set: Some(set) });
        }
        let items =
            items(argument).ok_or_else(|| format!("a {} does not fit this list", argument.type_name()))?;
        Ok(Self { member, items, set: None })
    }

    fn apply(&self, list: &[T], value: impl Fn(&T) -> Value) -> Vec<T> {
        let inside = |item: &T| match self.set {
            Some(set) => set.contains(&value(item)) == Some(true),
            None => self.items.contains(item),
        };
        match self.member {
            Member::Add => {
                let mut out = list.to_vec();
                for item in &self.items {
                    if !out.contains(item) {
                        out.push(item.clone());
                    }
                }
                out
            }
            Member::Delete => list.iter().filter(|i| !inside(i)).cloned().collect(),
            _ => list.iter().filter(|i| inside(i)).cloned().collect(),
        }
    }
}

fn count(n: usize) -> Value {
    Value::Int(u32::try_from(n).unwrap_or(u32::MAX))
}

fn mask(address: IpAddr, argument: &Value) -> Result<Value, String> {
    let Value::Int(len) = argument else {
        return Err("mask takes a number".into());
    };
    let len = u8::try_from(*len).ok().and_then(|len| IpNet::new(address, len).ok());
    len.map(|net| Value::Ip(net.network())).ok_or_else(|| "mask length is out of range".into())
}

/// The last AS of the leading sequences, 0 when the path starts with a set.
fn last_nonaggregated(path: &bird_wire::AsPath) -> u32 {
    let sequences = path.segments().iter().take_while(|s| s.kind == bird_wire::SegmentKind::Sequence);
    sequences.last().and_then(|s| s.asns.last().copied()).unwrap_or(0)
}
