//! What nf_tables tells of the tables that iptables keeps in it.
//!
//! In: notifications. Out: those that are about chains of ours, with who caused them. Always holds: others' own chains
//! (kube-proxy's, a person's) are none of our business; whatever is told, reading it does no harm. xtables tells nothing.

use super::names::CHAIN_PREFIX;
use crate::kernel::attr::{Attributes, Message, text};
use crate::kernel::nft::{message_type, msg};
use crate::rule::Family;

const TABLES: [&str; 4] = ["filter", "nat", "mangle", "raw"];
const KERNEL_CHAINS: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];
const TABLE: u16 = 1;
const CHAIN_OF_RULE: u16 = 2;
const CHAIN_NAME: u16 = 3;

/// A change that concerns us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touch {
    pub family: Family,
    /// Address of the socket that caused it.
    pub port: u32,
}

/// Reads a notification.
#[must_use]
pub fn touch(m: &Message<'_>) -> Option<Touch> {
    let family = match m.payload.first()? {
        2 => Family::V4,
        10 => Family::V6,
        _ => return None,
    };
    let attribute = |kind: u16| {
        let attrs = Attributes(m.payload.get(4..).unwrap_or(&[]));
        attrs.clone().find(|(k, _)| *k == kind).and_then(|(_, v)| text(v))
    };
    let of = |kinds: [u16; 2]| kinds.iter().any(|k| m.kind == message_type(*k));
    let chain = if of([msg::NEW_RULE, msg::DEL_RULE]) {
        Some(CHAIN_OF_RULE)
    } else if of([msg::NEW_CHAIN, msg::DEL_CHAIN]) {
        Some(CHAIN_NAME)
    } else if of([msg::NEW_TABLE, msg::DEL_TABLE]) {
        None
    } else {
        return None;
    };
    let concerns = |name: &str| name.starts_with(CHAIN_PREFIX) || KERNEL_CHAINS.contains(&name);
    let ours = TABLES.contains(&attribute(TABLE)?)
        && match chain {
            Some(kind) => concerns(attribute(kind)?),
            None => true,
        };
    ours.then_some(Touch { family, port: m.port })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::attr::{Builder, Messages};

    fn rule(table: &str, chain: &str) -> Option<Touch> {
        let mut b = Builder::default();
        b.begin_message(message_type(msg::NEW_RULE), 0, 1);
        b.raw(&[2, 0, 0, 0]);
        b.text(TABLE, table);
        b.text(CHAIN_OF_RULE, chain);
        b.end_message();
        let bytes = b.into_bytes();
        Messages(&bytes).next().and_then(|m| touch(&m))
    }

    #[test]
    fn others_chains_do_not_concern_us() {
        let us = Some(Touch { family: Family::V4, port: 0 });
        assert_eq!(rule("filter", "cali-FORWARD"), us);
        assert_eq!(rule("nat", "POSTROUTING"), us);
        assert_eq!(rule("nat", "KUBE-SERVICES"), None);
        assert_eq!(rule("calico", "filter-cali-FORWARD"), None);
    }

    proptest! {
        #[test]
        fn arbitrary_notifications_never_panic(kind: u16, payload: Vec<u8>) {
            let _ = touch(&Message { kind, flags: 0, seq: 0, port: 0, payload: &payload });
        }
    }
}
