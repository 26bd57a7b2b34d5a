//! IP sets over netlink: changes in batches, and read-back.
//!
//! In: operations on sets by name. Out: messages of the subsystem `NFNL_SUBSYS_IPSET`. Always holds: an operation that
//! is refused is told with the set's name and the kernel's reason in words; what is there already (or gone already) is
//! no failure. Left out: which sets there should be.
//!
//! Numbers are those of `linux/netfilter/ipset/ip_set.h`. Unlike nf_tables there is no transaction: every message counts
//! for itself, in order.

mod read;

use std::sync::Arc;

use felix_message::{IpSetKind, IpSetMember};

pub use read::{KernelSet, sets};

use crate::kernel::attr::Builder;
use crate::kernel::netlink::{Netlink, Refusal, flags};
use crate::rule::Family;

const SUBSYSTEM: u16 = 6;
/// Oldest protocol of the kernel's that has all that is used here.
const PROTOCOL: u8 = 6;
/// Number is in network byte order.
const BIG_ENDIAN: u16 = 0x4000;
/// Members in one message: an attribute's length has 16 bits.
const MEMBERS_PER_MESSAGE: usize = 500;
/// Longest name, without the closing zero.
pub const MAX_NAME: usize = 31;

mod cmd {
    pub const CREATE: u16 = 2;
    pub const DESTROY: u16 = 3;
    pub const SWAP: u16 = 6;
    pub const LIST: u16 = 7;
    pub const ADD: u16 = 9;
    pub const DEL: u16 = 10;
}

mod attribute {
    pub const PROTOCOL: u16 = 1;
    pub const SETNAME: u16 = 2;
    pub const TYPENAME: u16 = 3;
    /// Second set of a swap.
    pub const SETNAME2: u16 = 3;
    pub const REVISION: u16 = 4;
    pub const FAMILY: u16 = 5;
    pub const DATA: u16 = 7;
    pub const ADT: u16 = 8;
    pub const LINENO: u16 = 9;
}

/// Attributes of a member or of a set's properties.
mod data {
    pub const IP: u16 = 1;
    pub const CIDR: u16 = 3;
    pub const PORT: u16 = 4;
    pub const PROTO: u16 = 7;
    pub const MAXELEM: u16 = 19;
}

/// Members in one message share these.
const IPADDR_V4: u16 = 1;
const IPADDR_V6: u16 = 2;

/// Error numbers beyond errno.
mod refusal {
    pub const BUSY: i32 = 4100;
    pub const REFERENCED: i32 = 4108;
    pub const HASH_FULL: i32 = 4352;
}

fn message_type(command: u16) -> u16 {
    (SUBSYSTEM << 8) | command
}

fn family_number(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

/// The kernel's name of a kind of set.
#[must_use]
pub fn type_name(kind: IpSetKind) -> &'static str {
    match kind {
        IpSetKind::Ip => "hash:ip",
        IpSetKind::Net => "hash:net",
        IpSetKind::IpPort => "hash:ip,port",
    }
}

/// Why sets could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    #[error("the kernel refused to {operation} IP set {name}: {reason}")]
    Refused { operation: &'static str, name: Arc<str>, reason: String, busy: bool },
    #[error("IP set {name}: member {member:?} does not fit a set of {kind}")]
    Misfit { name: Arc<str>, member: IpSetMember, kind: &'static str },
    #[error("IP sets: {0}")]
    Io(#[from] std::io::Error),
}

/// Operations on sets, in order.
#[derive(Debug, Default)]
pub struct Batch {
    b: Builder,
    labels: Vec<(&'static str, Arc<str>)>,
}

impl Batch {
    /// Messages so far.
    #[must_use]
    pub fn operations(&self) -> usize {
        self.labels.len()
    }

    /// Size so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.b.len()
    }

    fn message(
        &mut self,
        command: u16,
        extra: u16,
        family: Family,
        operation: &'static str,
        name: &Arc<str>,
        fill: impl FnOnce(&mut Builder),
    ) {
        // Sequence numbers are relative until the batch is sent: the label's position.
        let seq = u32::try_from(self.labels.len() + 1).unwrap_or(u32::MAX);
        self.labels.push((operation, name.clone()));
        self.b.begin_message(message_type(command), flags::REQUEST | flags::ACK | extra, seq);
        self.b.raw(&[family_number(family), 0, 0, 0]);
        self.b.bytes(attribute::PROTOCOL, &[PROTOCOL]);
        self.b.text(attribute::SETNAME, name);
        fill(&mut self.b);
        self.b.end_message();
    }

    /// Makes a set. `max`: most members it takes.
    pub fn create(&mut self, family: Family, name: &Arc<str>, kind: IpSetKind, max: u32) {
        self.message(cmd::CREATE, flags::CREATE | flags::EXCL, family, "make", name, |b| {
            b.text(attribute::TYPENAME, type_name(kind));
            // Every kernel has a type's first revision, and it has all that is used here.
            b.bytes(attribute::REVISION, &[0]);
            b.bytes(attribute::FAMILY, &[family_number(family)]);
            b.nested(attribute::DATA, |b| b.be32(data::MAXELEM | BIG_ENDIAN, max));
        });
    }

    /// Adds (or removes) members.
    ///
    /// # Errors
    /// A member that a set of this kind cannot hold.
    pub fn members(
        &mut self,
        family: Family,
        name: &Arc<str>,
        kind: IpSetKind,
        add: bool,
        members: &[IpSetMember],
    ) -> Result<(), SetError> {
        if let Some(member) = members.iter().find(|m| !fits(kind, m)) {
            let (name, kind) = (name.clone(), type_name(kind));
            return Err(SetError::Misfit { name, member: *member, kind });
        }
        let (command, operation) =
            if add { (cmd::ADD, "add members to") } else { (cmd::DEL, "remove members from") };
        for part in members.chunks(MEMBERS_PER_MESSAGE) {
            self.message(command, 0, family, operation, name, |b| {
                // The kernel wants a line number beside a list; it is told back where members have one.
                b.be32(attribute::LINENO, 0);
                b.nested(attribute::ADT, |b| part.iter().for_each(|m| member(b, kind, m)));
            });
        }
        Ok(())
    }

    /// Gives two sets of one type each other's name, at once for all rules.
    pub fn swap(&mut self, family: Family, a: &Arc<str>, b: &Arc<str>) {
        self.message(cmd::SWAP, 0, family, "swap", a, |builder| builder.text(attribute::SETNAME2, b));
    }

    /// Removes a set that no rule refers to.
    pub fn destroy(&mut self, family: Family, name: &Arc<str>) {
        self.message(cmd::DESTROY, 0, family, "remove", name, |_| {});
    }

    /// Sends everything; returns what the kernel refused.
    ///
    /// # Errors
    /// Sending failed.
    pub fn send(self, socket: &mut Netlink) -> Result<Vec<SetError>, SetError> {
        if self.labels.is_empty() {
            return Ok(Vec::new());
        }
        let count = u32::try_from(self.labels.len()).unwrap_or(u32::MAX);
        let first = socket.next_seq();
        let last = first.wrapping_add(count - 1);
        socket.used_up_to(last);
        let bytes = renumbered(self.b.into_bytes(), first.wrapping_sub(1));
        let refused = socket.transact(&bytes, last)?;
        let label = |r: &Refusal| {
            let at = usize::try_from(r.seq.wrapping_sub(first)).unwrap_or(usize::MAX);
            self.labels.get(at).cloned().unwrap_or(("change", "unknown".into()))
        };
        Ok(refused
            .iter()
            .map(|r| {
                let (operation, name) = label(r);
                let busy = matches!(r.errno, refusal::BUSY | refusal::REFERENCED);
                SetError::Refused { operation, name, reason: words(r), busy }
            })
            .collect())
    }
}

/// Adds to every message's sequence number.
fn renumbered(mut bytes: Vec<u8>, add: u32) -> Vec<u8> {
    let mut at = 0;
    while let Some(header) = bytes.get_mut(at..at + 12) {
        let len = header.first_chunk().map_or(0, |b| u32::from_ne_bytes(*b));
        if let Some(seq) = header.get_mut(8..12) {
            let old = u32::from_ne_bytes([seq[0], seq[1], seq[2], seq[3]]);
            seq.copy_from_slice(&old.wrapping_add(add).to_ne_bytes());
        }
        let Ok(len @ 16..) = usize::try_from(len) else { break };
        at += len.next_multiple_of(4);
    }
    bytes
}

fn words(r: &Refusal) -> String {
    let known = match r.errno {
        libc::ENOENT => "there is no such set",
        libc::EEXIST => "it exists",
        libc::EPERM => "not permitted; is CAP_NET_ADMIN there?",
        4098 => "the kernel has no such type of set; is its module (ip_set_hash_…) there?",
        4099 => "there are too many sets",
        refusal::BUSY => "it is in use by rules",
        4102 => "the sets are of different types",
        refusal::REFERENCED => "it is referred to by rules",
        refusal::HASH_FULL => "it is full; raise MaxIpsetSize",
        _ => "",
    };
    if !known.is_empty() {
        return known.to_owned();
    }
    match r.errno {
        n @ 1..4096 => std::io::Error::from_raw_os_error(n).to_string(),
        n => format!("error {n} of the ip_set subsystem"),
    }
}

fn fits(kind: IpSetKind, m: &IpSetMember) -> bool {
    match (kind, m) {
        (IpSetKind::Net, IpSetMember::Net(n)) => n.prefix_len() > 0,
        (IpSetKind::Ip, IpSetMember::Net(n)) => n.prefix_len() == n.max_prefix_len(),
        (IpSetKind::IpPort, IpSetMember::IpPort(..)) => true,
        _ => false,
    }
}

fn member(b: &mut Builder, kind: IpSetKind, m: &IpSetMember) {
    let address = |b: &mut Builder, addr: std::net::IpAddr| {
        b.nested(data::IP, |b| match addr {
            std::net::IpAddr::V4(a) => b.bytes(IPADDR_V4 | BIG_ENDIAN, &a.octets()),
            std::net::IpAddr::V6(a) => b.bytes(IPADDR_V6 | BIG_ENDIAN, &a.octets()),
        });
    };
    b.nested(attribute::DATA, |b| match m {
        IpSetMember::Net(n) => {
            address(b, n.network());
            if kind == IpSetKind::Net {
                b.bytes(data::CIDR, &[n.prefix_len()]);
            }
        }
        IpSetMember::IpPort(addr, protocol, port) => {
            address(b, *addr);
            b.bytes(data::PORT | BIG_ENDIAN, &port.to_be_bytes());
            b.bytes(data::PROTO, &[*protocol]);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::attr::Messages;

    #[test]
    fn messages_are_numbered_from_the_sockets_next_number() {
        let mut batch = Batch::default();
        batch.create(Family::V4, &"a".into(), IpSetKind::Net, 10);
        batch.destroy(Family::V6, &"b".into());
        let bytes = renumbered(batch.b.into_bytes(), 41);
        let seqs: Vec<u32> = Messages(&bytes).map(|m| m.seq).collect();
        assert_eq!(seqs, [42, 43]);
    }

    #[test]
    fn a_member_of_another_kind_is_refused_before_anything_is_sent() {
        let mut batch = Batch::default();
        let member = IpSetMember::IpPort([10, 0, 0, 1].into(), 6, 80);
        let error = batch.members(Family::V4, &"cali40s:x".into(), IpSetKind::Net, true, &[member]);
        assert!(error.unwrap_err().to_string().contains("cali40s:x"));
        assert_eq!(batch.operations(), 0);
    }
}
