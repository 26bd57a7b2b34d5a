//! A transaction of nf_tables as bytes.
//!
//! In: operations in an order that the kernel accepts (what is referred to comes first). Out: one buffer for one
//! `send`, and a label for every message so that a refusal can be told in words. Always holds: all or nothing; the last
//! message asks for an acknowledgement.

use felix_message::IpSetMember;
use std::sync::Arc;

use super::expr::{self, Context};
use super::list::{List, octets};
use super::{NftFamily, SetType, message_type, msg};
use crate::kernel::attr::Builder;
use crate::kernel::netlink::{Netlink, Refusal, flags};
use crate::rule::{Family, Hook, HookPoint, Rule};

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const LIST_ELEM: u16 = 1;
const DATA_VALUE: u16 = 1;
const INTERVAL_END: u32 = 1;
const VERDICT_DATA_TYPE: u32 = 0xffff_ff00;
/// Elements in one message: an attribute's length has 16 bits.
const ELEMENTS_PER_MESSAGE: usize = 400;
/// `nft`'s own note on a set: byte order of its key.
const UDATA_KEY_BYTEORDER: u8 = 0;
const UDATA_RULE_COMMENT: u8 = 0;

/// An identity of a rule: what its text hashes to.
pub type Tag = [u8; 16];

/// An element of a dispatch map: interface → chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DispatchElement {
    pub interface: Arc<str>,
    /// Whole name of the chain to go to. Not needed to remove the element.
    pub chain: Option<String>,
}

/// Builds one transaction.
#[derive(Debug)]
pub struct Batch {
    b: Builder,
    table: &'static str,
    first_seq: u32,
    seq: u32,
    labels: Vec<(&'static str, Arc<str>)>,
    next_set_id: u32,
}

/// A refused transaction.
#[derive(Debug, thiserror::Error)]
pub enum TransactionError {
    #[error("nf_tables refused to {operation} {subject}: {reason}")]
    Refused { operation: &'static str, subject: String, reason: String, errno: i32 },
    #[error("nf_tables transaction: {0}")]
    Io(#[from] std::io::Error),
}

impl Batch {
    /// Starts a transaction on tables of one name. `seq` is the first free sequence number of the socket.
    #[must_use]
    pub fn new(table: &'static str, socket: &mut Netlink) -> Self {
        let first_seq = socket.next_seq();
        let mut me = Self {
            b: Builder::default(),
            table,
            first_seq,
            seq: first_seq,
            labels: Vec::new(),
            next_set_id: 1,
        };
        me.b.begin_message(BATCH_BEGIN, flags::REQUEST, first_seq);
        // struct nfgenmsg: family, version, subsystem in network byte order.
        me.b.raw(&[0, 0, 0, 10]);
        me.b.end_message();
        me.labels.push(("begin", "the transaction".into()));
        me
    }

    /// Messages so far, the frame not counted.
    #[must_use]
    pub fn operations(&self) -> usize {
        self.labels.len() - 1
    }

    /// Size so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.b.len()
    }

    fn message(
        &mut self,
        kind: u16,
        extra: u16,
        family: NftFamily,
        label: (&'static str, Arc<str>),
        fill: impl FnOnce(&mut Builder, &'static str),
    ) {
        self.seq = self.seq.wrapping_add(1);
        self.labels.push(label);
        self.b.begin_message(message_type(kind), flags::REQUEST | extra, self.seq);
        self.b.raw(&[family.number(), 0, 0, 0]);
        let table = self.table;
        fill(&mut self.b, table);
        self.b.end_message();
    }

    /// Makes the table where it is absent.
    pub fn add_table(&mut self, family: NftFamily) {
        self.message(msg::NEW_TABLE, flags::CREATE, family, ("add table", "calico".into()), |b, t| {
            b.text(1, t);
            b.be32(2, 0);
        });
    }

    /// Removes the table with all in it.
    pub fn delete_table(&mut self, family: NftFamily) {
        self.message(msg::DEL_TABLE, 0, family, ("delete table", "calico".into()), |b, t| b.text(1, t));
    }

    /// Makes a chain; with a hook: one that the kernel enters.
    pub fn add_chain(&mut self, family: NftFamily, name: &Arc<str>, hook: Option<&Hook>) {
        self.message(msg::NEW_CHAIN, flags::CREATE, family, ("add chain", name.clone()), |b, t| {
            const POLICY_ACCEPT: u32 = 1;
            b.text(1, t);
            b.text(3, name);
            if let Some(h) = hook {
                b.nested(4, |b| {
                    b.be32(1, hook_number(h.point));
                    b.bytes(2, &h.priority.to_be_bytes());
                });
                b.be32(5, POLICY_ACCEPT);
                b.text(7, h.kind);
            }
        });
    }

    /// Removes an empty chain that nothing refers to.
    pub fn delete_chain(&mut self, family: NftFamily, name: &Arc<str>) {
        self.message(msg::DEL_CHAIN, 0, family, ("delete chain", name.clone()), |b, t| {
            b.text(1, t);
            b.text(3, name);
        });
    }

    /// Removes all rules of a chain.
    pub fn flush_chain(&mut self, family: NftFamily, name: &Arc<str>) {
        self.message(msg::DEL_RULE, 0, family, ("flush chain", name.clone()), |b, t| {
            b.text(1, t);
            b.text(2, name);
        });
    }

    /// Removes one rule.
    pub fn delete_rule(&mut self, family: NftFamily, chain: &Arc<str>, handle: u64) {
        self.message(msg::DEL_RULE, 0, family, ("delete a rule of chain", chain.clone()), |b, t| {
            b.text(1, t);
            b.text(2, chain);
            b.be64(3, handle);
        });
    }

    /// Adds a rule, whose lists stand: before the one with handle `before`, or at the end.
    pub fn add_rule(
        &mut self,
        family: Family,
        table: crate::rule::Table,
        chain: &Arc<str>,
        (rule, lists): (&Rule, &[List]),
        tag: &Tag,
        before: Option<u64>,
    ) {
        let nft = NftFamily::from(family);
        // Without NLM_F_APPEND the kernel inserts before the position.
        let extra = if before.is_some() { flags::CREATE } else { flags::CREATE | flags::APPEND };
        self.message(msg::NEW_RULE, extra, nft, ("add a rule to chain", chain.clone()), |b, t| {
            b.text(1, t);
            b.text(2, chain);
            b.nested(4, |b| expr::write(b, rule, Context { family, table, lists }));
            if let Some(handle) = before {
                b.be64(6, handle);
            }
            b.bytes(7, &comment(tag));
        });
    }

    /// Adds what a list holds to its set.
    pub fn intervals(&mut self, family: NftFamily, list: &List) {
        for part in list.intervals.chunks(ELEMENTS_PER_MESSAGE) {
            self.elements(family, &list.name, true, |b| {
                for (first, last) in part {
                    interval(b, first, last);
                }
            });
        }
    }

    /// Makes a set or map.
    pub fn add_set(&mut self, family: NftFamily, name: &Arc<str>, kind: SetType) {
        let (key_type, key_len, big_endian) = kind.key(family);
        let id = self.next_set_id;
        self.next_set_id += 1;
        self.message(msg::NEW_SET, flags::CREATE, family, ("add set", name.clone()), |b, t| {
            b.text(1, t);
            b.text(2, name);
            b.be32(3, kind.flags());
            b.be32(4, key_type);
            b.be32(5, key_len);
            if kind == SetType::Dispatch {
                b.be32(6, VERDICT_DATA_TYPE);
                b.be32(7, 0);
            }
            b.be32(10, id);
            b.bytes(13, &key_byteorder(big_endian));
        });
    }

    /// Removes a set that nothing refers to.
    pub fn delete_set(&mut self, family: NftFamily, name: &Arc<str>) {
        self.message(msg::DEL_SET, 0, family, ("delete set", name.clone()), |b, t| {
            b.text(1, t);
            b.text(2, name);
        });
    }

    /// Removes all elements of a set or map.
    pub fn flush_set(&mut self, family: NftFamily, name: &Arc<str>) {
        self.message(msg::DEL_ELEMENT, 0, family, ("flush set", name.clone()), |b, t| {
            b.text(1, t);
            b.text(2, name);
        });
    }

    /// Adds or removes members of a set.
    pub fn members(
        &mut self,
        family: NftFamily,
        name: &Arc<str>,
        kind: SetType,
        add: bool,
        members: &[IpSetMember],
    ) {
        for part in members.chunks(ELEMENTS_PER_MESSAGE) {
            self.elements(family, name, add, |b| {
                for m in part {
                    member(b, kind, m);
                }
            });
        }
    }

    /// Adds or removes entries of a dispatch map.
    pub fn dispatch(&mut self, family: NftFamily, name: &Arc<str>, add: bool, elements: &[DispatchElement]) {
        for part in elements.chunks(ELEMENTS_PER_MESSAGE) {
            self.elements(family, name, add, |b| {
                for e in part {
                    b.nested(LIST_ELEM, |b| {
                        key(b, &expr::interface_key(&e.interface));
                        if let (true, Some(chain)) = (add, &e.chain) {
                            b.nested(2, |b| expr::write_verdict(b, expr::verdict::GOTO, Some(chain)));
                        }
                    });
                }
            });
        }
    }

    fn elements(&mut self, family: NftFamily, name: &Arc<str>, add: bool, fill: impl FnOnce(&mut Builder)) {
        let (kind, extra, verb) = if add {
            (msg::NEW_ELEMENT, flags::CREATE, "add elements to")
        } else {
            (msg::DEL_ELEMENT, 0, "remove elements from")
        };
        self.message(kind, extra, family, (verb, name.clone()), |b, t| {
            b.text(1, t);
            b.text(2, name);
            b.nested(3, fill);
        });
    }

    /// Sends the transaction. All of it holds afterwards, or none.
    ///
    /// # Errors
    /// The first refusal, with what it was about.
    pub fn commit(mut self, socket: &mut Netlink) -> Result<(), TransactionError> {
        if self.operations() == 0 {
            return Ok(());
        }
        self.b.add_flags(flags::ACK);
        let last = self.seq;
        self.b.begin_message(BATCH_END, flags::REQUEST, last.wrapping_add(1));
        self.b.raw(&[0, 0, 0, 10]);
        self.b.end_message();
        // The socket's own count goes on behind this batch.
        socket.used_up_to(last.wrapping_add(1));
        let bytes = std::mem::take(&mut self.b).into_bytes();
        let refused = socket.transact(&bytes, last)?;
        match refused.first() {
            None => Ok(()),
            Some(r) => Err(self.explain(r)),
        }
    }

    fn explain(&self, r: &Refusal) -> TransactionError {
        let at = usize::try_from(r.seq.wrapping_sub(self.first_seq)).unwrap_or(usize::MAX);
        let (operation, subject) = self
            .labels
            .get(at)
            .map_or(("commit", "the transaction".to_owned()), |(o, s)| (*o, s.to_string()));
        let mut reason = std::io::Error::from_raw_os_error(r.errno).to_string();
        if !r.detail.is_empty() {
            reason = format!("{reason}: {}", r.detail);
        }
        TransactionError::Refused { operation, subject, reason, errno: r.errno }
    }
}

fn hook_number(point: HookPoint) -> u32 {
    match point {
        HookPoint::Prerouting => 0,
        HookPoint::Input => 1,
        HookPoint::Forward => 2,
        HookPoint::Output => 3,
        HookPoint::Postrouting => 4,
    }
}

/// `nft`'s own note on a set, so that it lists keys right: type, length, number in host byte order.
fn key_byteorder(big_endian: bool) -> [u8; 6] {
    let value: u32 = if big_endian { 2 } else { 1 };
    let v = value.to_ne_bytes();
    [UDATA_KEY_BYTEORDER, 4, v[0], v[1], v[2], v[3]]
}

/// The rule's tag as `nft`'s comment: type, length, text with its zero.
fn comment(tag: &Tag) -> Vec<u8> {
    let mut out = Vec::with_capacity(24);
    out.push(UDATA_RULE_COMMENT);
    out.push(22);
    out.extend_from_slice(b"cali:");
    out.extend_from_slice(tag);
    out.push(0);
    out
}

/// The tag in a rule's note, where it is one of ours.
#[must_use]
pub fn tag_of(userdata: &[u8]) -> Option<Tag> {
    let text = userdata.strip_prefix(&[UDATA_RULE_COMMENT, 22])?.strip_prefix(b"cali:")?;
    text.first_chunk().copied()
}

fn key(b: &mut Builder, bytes: &[u8]) {
    b.nested(1, |b| b.bytes(DATA_VALUE, bytes));
}

/// The bytes that follow the last of an interval; `None` at the end of all numbers.
fn successor(last: &[u8]) -> Option<Vec<u8>> {
    let mut out = last.to_vec();
    for byte in out.iter_mut().rev() {
        let (next, carry) = byte.overflowing_add(1);
        *byte = next;
        if !carry {
            return Some(out);
        }
    }
    None
}

/// An interval as two elements: its first key, and the first key behind it.
fn interval(b: &mut Builder, first: &[u8], last: &[u8]) {
    b.nested(LIST_ELEM, |b| key(b, first));
    if let Some(end) = successor(last) {
        b.nested(LIST_ELEM, |b| {
            key(b, &end);
            b.be32(3, INTERVAL_END);
        });
    }
}

fn member(b: &mut Builder, kind: SetType, m: &IpSetMember) {
    match (kind, m) {
        (SetType::Net, IpSetMember::Net(n)) => {
            interval(b, &octets(&n.network()), &octets(&n.broadcast()));
        }
        (_, IpSetMember::Net(n)) => b.nested(LIST_ELEM, |b| key(b, &octets(&n.addr()))),
        (_, IpSetMember::IpPort(addr, protocol, port)) => {
            let mut bytes = octets(addr);
            bytes.extend_from_slice(&[*protocol, 0, 0, 0]);
            bytes.extend_from_slice(&port.to_be_bytes());
            bytes.extend_from_slice(&[0, 0]);
            b.nested(LIST_ELEM, |b| key(b, &bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_last_interval_has_no_successor() {
        assert_eq!(successor(&[10, 0, 0, 255]), Some(vec![10, 0, 1, 0]));
        assert_eq!(successor(&[255, 255]), None);
    }

    #[test]
    fn a_tag_is_found_in_its_comment() {
        let tag = *b"0123456789abcdef";
        assert_eq!(tag_of(&comment(&tag)), Some(tag));
        assert_eq!(tag_of(b"\x00\x04abc"), None);
    }
}
