//! A lowered rule as the kernel's expressions.
//!
//! In: a rule of one family, and its lists. Out: attributes of `NFTA_RULE_EXPRESSIONS`. Always holds: the order of
//! expressions is that of `nft`'s own output, so that its listing shows the rule as it is meant.

use std::net::IpAddr;

use felix_message::PortRange;
use ipnet::IpNet;

use super::NftFamily;
use super::list::{List, octets};
use crate::kernel::attr::Builder;
use crate::render::names;
use crate::rule::{Action, End, Family, Match, Rule, Table};

const LIST_ELEM: u16 = 1;
const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;

/// Registers: the verdict, one of 16 bytes, and the 4-byte ones that follow it.
const VERDICT: u32 = 0;
const REG: u32 = 1;
const REG32: u32 = 8;
/// A register that leaves [`REG`] alone.
const REG2: u32 = 2;
const REG3: u32 = 3;
const REG4: u32 = 4;

const CMP_EQ: u32 = 0;
const CMP_NEQ: u32 = 1;

const META_MARK: u32 = 3;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_L4PROTO: u32 = 16;

const BASE_NETWORK: u32 = 1;
const BASE_TRANSPORT: u32 = 2;

const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
const CT_STATUS_DNAT: u32 = 1 << 5;

const FIB_SADDR: u32 = 1;
const FIB_DADDR: u32 = 2;
const FIB_MARK: u32 = 4;
const FIB_IIF: u32 = 8;
const FIB_RESULT_OIF: u32 = 1;
const FIB_RESULT_TYPE: u32 = 3;
const ROUTE_LOCAL: u32 = 2;

const NAT_SNAT: u32 = 0;
const NAT_DNAT: u32 = 1;
const NAT_MAP_IPS: u32 = 1;
const NAT_PROTO: u32 = 2;
const NAT_RANDOM_FULLY: u32 = 1 << 4;

const LOG_INFO: u32 = 6;

/// Verdicts as the kernel numbers them.
pub mod verdict {
    pub const DROP: i32 = 0;
    pub const ACCEPT: i32 = 1;
    pub const JUMP: i32 = -3;
    pub const GOTO: i32 = -4;
    pub const RETURN: i32 = -5;
}

/// What an encoder of one rule needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub family: Family,
    pub table: Table,
    /// As [`super::list::of_rule`] has them.
    pub lists: &'a [List],
}

/// Appends the rule's expressions.
pub fn write(b: &mut Builder, rule: &Rule, cx: Context<'_>) {
    let mut e = Encoder { b, cx, lists: cx.lists.iter(), protocol: None };
    for m in &rule.matches {
        e.condition(m);
    }
    // A dispatch is not counted: its chains count.
    if !matches!(rule.action, Action::DispatchIn(_) | Action::DispatchOut(_)) {
        e.counter();
    }
    e.action(&rule.action);
}

struct Encoder<'a> {
    b: &'a mut Builder,
    cx: Context<'a>,
    lists: std::slice::Iter<'a, List>,
    /// What an earlier condition fixed.
    protocol: Option<u8>,
}

impl Encoder<'_> {
    fn expr(&mut self, name: &str, fill: impl FnOnce(&mut Builder)) {
        self.b.nested(LIST_ELEM, |b| {
            b.text(EXPR_NAME, name);
            b.nested(EXPR_DATA, fill);
        });
    }

    fn counter(&mut self) {
        self.expr("counter", |b| {
            b.be64(1, 0);
            b.be64(2, 0);
        });
    }

    fn meta(&mut self, key: u32, register: u32) {
        self.expr("meta", |b| {
            b.be32(2, key);
            b.be32(1, register);
        });
    }

    fn payload(&mut self, base: u32, offset: u32, len: u32, register: u32) {
        self.expr("payload", |b| {
            b.be32(1, register);
            b.be32(2, base);
            b.be32(3, offset);
            b.be32(4, len);
        });
    }

    fn bitwise(&mut self, mask: &[u8], xor: &[u8]) {
        self.expr("bitwise", |b| {
            b.be32(1, REG);
            b.be32(2, REG);
            b.be32(3, u32::try_from(mask.len()).unwrap_or(0));
            b.nested(4, |b| b.bytes(DATA_VALUE, mask));
            b.nested(5, |b| b.bytes(DATA_VALUE, xor));
        });
    }

    fn cmp(&mut self, op: u32, value: &[u8]) {
        self.expr("cmp", |b| {
            b.be32(1, REG);
            b.be32(2, op);
            b.nested(3, |b| b.bytes(DATA_VALUE, value));
        });
    }

    fn equal(&mut self, not: bool, value: &[u8]) {
        self.cmp(if not { CMP_NEQ } else { CMP_EQ }, value);
    }

    fn lookup(&mut self, not: bool, set: &str) {
        self.expr("lookup", |b| {
            b.text(1, set);
            b.be32(2, REG);
            if not {
                b.be32(5, 1);
            }
        });
    }

    fn immediate(&mut self, register: u32, value: &[u8]) {
        self.expr("immediate", |b| {
            b.be32(1, register);
            b.nested(2, |b| b.bytes(DATA_VALUE, value));
        });
    }

    fn verdict(&mut self, code: i32, chain: Option<&str>) {
        let chain = chain.map(|c| format!("{}-{c}", self.cx.table.name()));
        self.expr("immediate", |b| {
            b.be32(1, VERDICT);
            b.nested(2, |b| write_verdict(b, code, chain.as_deref()));
        });
    }

    /// Where an address stands in the network header, and how long it is.
    fn address_place(&self, end: End) -> (u32, u32) {
        match (self.cx.family, end) {
            (Family::V4, End::Src) => (12, 4),
            (Family::V4, End::Dst) => (16, 4),
            (Family::V6, End::Src) => (8, 16),
            (Family::V6, End::Dst) => (24, 16),
        }
    }

    fn address(&mut self, end: End) {
        let (offset, len) = self.address_place(end);
        self.payload(BASE_NETWORK, offset, len, REG);
    }

    fn need_protocol(&mut self, number: u8) {
        if self.protocol != Some(number) {
            self.meta(META_L4PROTO, REG);
            self.cmp(CMP_EQ, &[number]);
            self.protocol = Some(number);
        }
    }

    fn condition(&mut self, m: &Match) {
        match m {
            Match::Mark { value, mask } => {
                self.meta(META_MARK, REG);
                self.bitwise(&mask.to_ne_bytes(), &[0; 4]);
                self.cmp(CMP_EQ, &value.to_ne_bytes());
            }
            Match::CtState(bits) => self.ct_bits(CT_STATE, *bits, false),
            Match::CtDnat { not } => self.ct_bits(CT_STATUS, CT_STATUS_DNAT, *not),
            Match::InInterface(name) => self.interface(META_IIFNAME, name),
            Match::OutInterface(name) => self.interface(META_OIFNAME, name),
            Match::Protocol { not, number } => {
                if *not {
                    self.meta(META_L4PROTO, REG);
                    self.cmp(CMP_NEQ, &[*number]);
                } else {
                    self.need_protocol(*number);
                }
            }
            Match::Net { end, not, nets } => self.nets(*end, *not, nets),
            Match::Set { end, not, set } => {
                self.address(*end);
                let name = names::set(self.cx.family, set);
                self.lookup(*not, &name);
            }
            Match::PortSet { end, not, set } => self.port_set(*end, *not, &names::set(self.cx.family, set)),
            Match::Ports { end, not, ranges } => self.ports(*end, *not, ranges),
            // Lowered before: never seen here. Denying to match is the closed answer for an accepting rule.
            Match::AnyPort { .. } => self.impossible(),
            Match::Icmp { not, icmp_type, code } => {
                self.need_protocol(match self.cx.family {
                    Family::V4 => 1,
                    Family::V6 => 58,
                });
                self.icmp(*not, *icmp_type, *code);
            }
            Match::Local { end, not } => {
                let flag = match end {
                    End::Src => FIB_SADDR,
                    End::Dst => FIB_DADDR,
                };
                self.fib(FIB_RESULT_TYPE, flag);
                self.cmp(if *not { CMP_NEQ } else { CMP_EQ }, &ROUTE_LOCAL.to_ne_bytes());
            }
            Match::Limit(l) => self.expr("limit", |b| {
                b.be64(1, l.packets.into());
                b.be64(2, l.unit.secs());
                b.be32(3, l.burst);
            }),
            Match::ReversePathFails => {
                self.fib(FIB_RESULT_OIF, FIB_SADDR | FIB_MARK | FIB_IIF);
                self.cmp(CMP_EQ, &[0; 4]);
            }
        }
    }

    fn impossible(&mut self) {
        self.meta(META_MARK, REG);
        self.bitwise(&[0; 4], &[0; 4]);
        self.cmp(CMP_EQ, &1_u32.to_ne_bytes());
    }

    fn ct_bits(&mut self, key: u32, bits: u32, not: bool) {
        self.expr("ct", |b| {
            b.be32(2, key);
            b.be32(1, REG);
        });
        self.bitwise(&bits.to_ne_bytes(), &[0; 4]);
        self.cmp(if not { CMP_EQ } else { CMP_NEQ }, &[0; 4]);
    }

    fn interface(&mut self, key: u32, name: &str) {
        self.meta(key, REG);
        if let Some(prefix) = name.strip_suffix('+') {
            self.cmp(CMP_EQ, prefix.as_bytes());
        } else {
            self.cmp(CMP_EQ, &interface_key(name));
        }
    }

    fn nets(&mut self, end: End, not: bool, nets: &[IpNet]) {
        self.address(end);
        match nets {
            [one] => {
                let len = octets(&one.addr()).len();
                if one.prefix_len() < one.max_prefix_len() {
                    self.bitwise(&octets(&one.netmask()), &vec![0; len]);
                }
                self.equal(not, &octets(&one.network()));
            }
            _ => self.lookup_list(not),
        }
    }

    fn lookup_list(&mut self, not: bool) {
        match self.lists.next() {
            Some(list) => self.lookup(not, &list.name),
            // Every list is there: see [`Context::lists`].
            None => self.impossible(),
        }
    }

    fn port_offset(end: End) -> u32 {
        match end {
            End::Src => 0,
            End::Dst => 2,
        }
    }

    fn port_set(&mut self, end: End, not: bool, set: &str) {
        let words = match self.cx.family {
            Family::V4 => 1,
            Family::V6 => 4,
        };
        self.address(end);
        self.meta(META_L4PROTO, REG32 + words);
        self.payload(BASE_TRANSPORT, Self::port_offset(end), 2, REG32 + words + 1);
        self.lookup(not, set);
    }

    fn ports(&mut self, end: End, not: bool, ranges: &[PortRange]) {
        self.payload(BASE_TRANSPORT, Self::port_offset(end), 2, REG);
        match ranges {
            [one] if one.first == one.last => self.equal(not, &one.first.to_be_bytes()),
            [one] => self.range(not, &one.first.to_be_bytes(), &one.last.to_be_bytes()),
            _ => self.lookup_list(not),
        }
    }

    fn range(&mut self, not: bool, from: &[u8], to: &[u8]) {
        self.expr("range", |b| {
            b.be32(1, REG);
            b.be32(2, u32::from(not));
            b.nested(3, |b| b.bytes(DATA_VALUE, from));
            b.nested(4, |b| b.bytes(DATA_VALUE, to));
        });
    }

    fn icmp(&mut self, not: bool, icmp_type: u8, code: Option<u8>) {
        match (code, not) {
            (None, _) => {
                self.payload(BASE_TRANSPORT, 0, 1, REG);
                self.equal(not, &[icmp_type]);
            }
            (Some(code), false) => {
                self.payload(BASE_TRANSPORT, 0, 1, REG);
                self.equal(false, &[icmp_type]);
                self.payload(BASE_TRANSPORT, 1, 1, REG);
                self.equal(false, &[code]);
            }
            (Some(code), true) => {
                self.payload(BASE_TRANSPORT, 0, 2, REG);
                self.equal(true, &[icmp_type, code]);
            }
        }
    }

    fn fib(&mut self, result: u32, flags: u32) {
        self.expr("fib", |b| {
            b.be32(1, REG);
            b.be32(2, result);
            b.be32(3, flags);
        });
    }

    fn action(&mut self, action: &Action) {
        match action {
            Action::Accept => self.verdict(verdict::ACCEPT, None),
            Action::Drop => self.verdict(verdict::DROP, None),
            Action::Return => self.verdict(verdict::RETURN, None),
            Action::Jump(chain) => self.verdict(verdict::JUMP, Some(chain)),
            Action::Goto(chain) => self.verdict(verdict::GOTO, Some(chain)),
            Action::Reject => {
                let port_unreachable = match self.cx.family {
                    Family::V4 => 3,
                    Family::V6 => 4,
                };
                self.expr("reject", |b| {
                    b.be32(1, 0);
                    b.bytes(2, &[port_unreachable]);
                });
            }
            Action::Mark { clear, set } => {
                self.meta(META_MARK, REG);
                self.bitwise(&(!(clear | set)).to_ne_bytes(), &set.to_ne_bytes());
                self.expr("meta", |b| {
                    b.be32(2, META_MARK);
                    b.be32(3, REG);
                });
            }
            Action::Log { prefix } => {
                // The kernel takes 127 bytes.
                let cut =
                    (0..=prefix.len().min(127)).rev().find(|n| prefix.is_char_boundary(*n)).unwrap_or(0);
                self.expr("log", |b| {
                    b.text(2, &prefix[..cut]);
                    b.be32(5, LOG_INFO);
                });
            }
            Action::NoTrack => self.expr("notrack", |_| {}),
            Action::Masquerade { ports } => self.masquerade(*ports),
            Action::Snat { to, ports } => self.nat(NAT_SNAT, to, *ports),
            Action::Dnat { to } => self.nat(NAT_DNAT, to, None),
            Action::DispatchIn(map) => self.dispatch(META_IIFNAME, map),
            Action::DispatchOut(map) => self.dispatch(META_OIFNAME, map),
        }
    }

    fn port_registers(&mut self, ports: Option<PortRange>) -> u32 {
        let Some(p) = ports else { return 0 };
        self.immediate(REG3, &p.first.to_be_bytes());
        self.immediate(REG4, &p.last.to_be_bytes());
        NAT_PROTO
    }

    fn masquerade(&mut self, ports: Option<PortRange>) {
        let flags = self.port_registers(ports) | NAT_RANDOM_FULLY;
        self.expr("masq", |b| {
            b.be32(1, flags);
            if ports.is_some() {
                b.be32(2, REG3);
                b.be32(3, REG4);
            }
        });
    }

    fn nat(&mut self, kind: u32, to: &IpAddr, ports: Option<PortRange>) {
        self.immediate(REG2, &octets(to));
        let mut flags = self.port_registers(ports) | NAT_MAP_IPS;
        if kind == NAT_SNAT {
            flags |= NAT_RANDOM_FULLY;
        }
        let family = u32::from(NftFamily::from(Family::of(to)).number());
        self.expr("nat", |b| {
            b.be32(1, kind);
            b.be32(2, family);
            b.be32(3, REG2);
            b.be32(4, REG2);
            if ports.is_some() {
                b.be32(5, REG3);
                b.be32(6, REG4);
            }
            b.be32(7, flags);
        });
    }

    fn dispatch(&mut self, key: u32, map: &str) {
        let map = format!("{}-{map}", self.cx.table.name());
        self.meta(key, REG);
        self.expr("lookup", |b| {
            b.text(1, &map);
            b.be32(2, REG);
            b.be32(3, VERDICT);
        });
    }
}

/// Appends a verdict as data.
pub fn write_verdict(b: &mut Builder, code: i32, chain: Option<&str>) {
    b.nested(DATA_VERDICT, |b| {
        b.bytes(1, &code.to_be_bytes());
        if let Some(chain) = chain {
            b.text(2, chain);
        }
    });
}

/// An interface's name as a key: 16 bytes, zeros at the end.
#[must_use]
pub fn interface_key(name: &str) -> [u8; 16] {
    let mut key = [0; 16];
    // The kernel's names have at most 15 bytes.
    for (to, from) in key.iter_mut().zip(name.bytes().take(15)) {
        *to = from;
    }
    key
}
