//! Rules that iptables' nft variant keeps in nf_tables.
//!
//! In: a chain's name, or a rule's attributes. Out: of each rule what tells whose it is and what it counted. Always
//! holds: whatever the kernel says, reading it does no harm. Left out: what a rule means. iptables has its comment as a
//! match of xtables (`comment`, 256 bytes of text); other versions have it as `nft`'s comment: both are read.

use std::cell::RefCell;
use std::io;

use super::batch::Tag;
use super::read::{absent_is_empty, attributes, find, rules_request};
use super::{NftFamily, message_type, msg};
use crate::kernel::attr::{Attributes, Message, be64, text};
use crate::kernel::netlink::Netlink;

/// What begins the comment of a rule of ours; its tag follows.
const COMMENT: &str = "cali:";
/// `nft`'s own note on a rule: its comment.
const UDATA_RULE_COMMENT: u8 = 0;

/// A rule as far as it is of interest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct XtRule {
    pub handle: u64,
    /// `None`: its comment is not one of ours.
    pub tag: Option<Tag>,
    /// The chain that it leads into.
    pub to: Option<String>,
    pub packets: u64,
    pub bytes: u64,
}

/// Reads a chain's rules in their order.
///
/// # Errors
/// As the kernel says.
pub fn rules(socket: &mut Netlink, family: NftFamily, table: &str, chain: &str) -> io::Result<Vec<XtRule>> {
    let out: RefCell<Vec<XtRule>> = RefCell::default();
    absent_is_empty(socket.dump(
        |seq| rules_request(family, seq, table, chain),
        || out.borrow_mut().clear(),
        |m| out.borrow_mut().extend(rule(&m)),
    ))?;
    Ok(out.into_inner())
}

/// Like [`rules`], but a dump that others' writing tore is taken as it is: the chain has other rules than it should.
///
/// # Errors
/// As the kernel says.
pub fn counters(
    socket: &mut Netlink,
    family: NftFamily,
    table: &str,
    chain: &str,
) -> io::Result<Vec<XtRule>> {
    let mut out = Vec::new();
    absent_is_empty(
        socket.dump_once(|seq| rules_request(family, seq, table, chain), |m| out.extend(rule(&m))),
    )?;
    Ok(out)
}

/// Reads a rule out of a message; `None`: it is about something else.
#[must_use]
pub fn rule(m: &Message<'_>) -> Option<XtRule> {
    if m.kind != message_type(msg::NEW_RULE) {
        return None;
    }
    let attrs = attributes(m);
    let mut out = XtRule { handle: find(&attrs, 3).and_then(be64)?, ..XtRule::default() };
    let mut commented = false;
    for (_, expression) in Attributes(find(&attrs, 4).unwrap_or(&[])) {
        let e = Attributes(expression);
        let (Some(name), Some(data)) = (find(&e, 1).and_then(text), find(&e, 2)) else { continue };
        let data = Attributes(data);
        match name {
            "match" if !commented && find(&data, 1).and_then(text) == Some("comment") => {
                out.tag = find(&data, 3).and_then(tag);
                commented = true;
            }
            "counter" => {
                out.bytes = find(&data, 1).and_then(be64).unwrap_or(0);
                out.packets = find(&data, 2).and_then(be64).unwrap_or(0);
            }
            "immediate" => {
                let verdict = find(&data, 2).and_then(|d| find(&Attributes(d), 2));
                let chain = verdict.and_then(|v| find(&Attributes(v), 2)).and_then(text);
                out.to = chain.map(str::to_owned);
            }
            _ => {}
        }
    }
    if !commented {
        out.tag = find(&attrs, 7).and_then(note);
    }
    Some(out)
}

/// The tag in a comment.
fn tag(comment: &[u8]) -> Option<Tag> {
    text(comment)?.strip_prefix(COMMENT)?.as_bytes().first_chunk().copied()
}

/// The tag in notes on a rule: type, length, value after each other.
fn note(mut notes: &[u8]) -> Option<Tag> {
    while let [kind, len, rest @ ..] = notes {
        let value = rest.get(..usize::from(*len))?;
        if *kind == UDATA_RULE_COMMENT {
            return tag(value);
        }
        notes = rest.get(usize::from(*len)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::attr::{Builder, Messages};

    fn expression(b: &mut Builder, name: &str, fill: impl FnOnce(&mut Builder)) {
        b.nested(1, |b| {
            b.text(1, name);
            b.nested(2, fill);
        });
    }

    fn message(expressions: impl FnOnce(&mut Builder), userdata: Option<&[u8]>) -> XtRule {
        let mut b = Builder::default();
        b.begin_message(message_type(msg::NEW_RULE), 0, 1);
        b.raw(&[2, 0, 0, 0]);
        b.be64(3, 7);
        b.nested(4, expressions);
        if let Some(u) = userdata {
            b.bytes(7, u);
        }
        b.end_message();
        let bytes = b.into_bytes();
        Messages(&bytes).next().and_then(|m| rule(&m)).unwrap()
    }

    fn comment(b: &mut Builder, words: &str) {
        let mut info = [0; 256];
        info[..words.len()].copy_from_slice(words.as_bytes());
        expression(b, "match", |b| {
            b.text(1, "comment");
            b.be32(2, 0);
            b.bytes(3, &info);
        });
    }

    #[test]
    fn a_rule_is_known_by_its_first_comment_and_tells_what_it_counted() {
        let found = message(
            |b| {
                comment(b, "cali:0123456789abcdef");
                comment(b, "cali:another-comment-");
                expression(b, "counter", |b| {
                    b.be64(1, 300);
                    b.be64(2, 3);
                });
                expression(b, "immediate", |b| b.nested(2, |b| b.nested(2, |b| b.text(2, "cali-INPUT"))));
            },
            None,
        );
        let to = Some("cali-INPUT".to_owned());
        assert_eq!(found, XtRule { handle: 7, tag: Some(*b"0123456789abcdef"), to, packets: 3, bytes: 300 });
    }

    #[test]
    fn a_comment_may_stand_among_notes_instead() {
        let notes = b"\x05\x01x\x00\x16cali:0123456789abcdef\x00";
        assert_eq!(message(|_| {}, Some(notes)).tag, Some(*b"0123456789abcdef"));
        assert_eq!(message(|b| comment(b, "mine"), Some(b"\x00\x02x\x00")).tag, None);
    }

    proptest! {
        #[test]
        fn arbitrary_rules_never_panic(payload: Vec<u8>, notes: Vec<u8>) {
            let kind = message_type(msg::NEW_RULE);
            let _ = rule(&Message { kind, flags: 0, seq: 0, port: 0, payload: &payload });
            let _ = note(&notes);
        }
    }
}
