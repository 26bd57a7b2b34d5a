//! Reads back what iptables' nft variant keeps in nf_tables, without its program.
//!
//! In: a socket. Out: what [`super::save::parse`] makes of the program's output, but for the words of rules in the
//! kernel's chains. Always holds: others' chains are counted, not read. The program takes seconds for fifty thousand
//! rules, nearly all of it to put them into words.

use std::io;

use super::names::CHAIN_PREFIX;
use super::save::{self, KernelChain, OwnRule, Saved};
use crate::kernel::netlink::Netlink;
use crate::kernel::nft::{NftFamily, read, xtables};
use crate::rule::Family;

/// Reads a family's tables.
///
/// # Errors
/// As the kernel says.
pub fn tables(socket: &mut Netlink, family: Family) -> io::Result<Saved> {
    let nft = NftFamily::from(family);
    let mut out = Saved::new();
    for chain in read::chain_names(socket, nft)? {
        let Some(table) = save::table(&chain.table) else { continue };
        let saved = out.entry(table).or_default();
        let rules = |socket: &mut Netlink| xtables::rules(socket, nft, &chain.table, &chain.name);
        if chain.name.starts_with(CHAIN_PREFIX) {
            let tags = rules(socket)?.into_iter().map(|r| r.tag).collect();
            saved.chains.insert(chain.name.as_str().into(), tags);
        } else if chain.base {
            let mut kernel = KernelChain::default();
            for r in rules(socket)? {
                if r.tag.is_some() || r.to.is_some_and(|to| to.starts_with(CHAIN_PREFIX)) {
                    kernel.own.push(OwnRule { at: kernel.rules, tag: r.tag, text: None });
                }
                kernel.rules += 1;
            }
            saved.kernel.insert(chain.name.as_str().into(), kernel);
        }
    }
    Ok(out)
}
