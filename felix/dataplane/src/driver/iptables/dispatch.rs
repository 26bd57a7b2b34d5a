//! Dispatch without maps: a tree of chains by the next character of interfaces' names.
//!
//! In: a dispatch map's entries and what follows it in its chain. Out: the rules in the map's place, and further chains.
//! Always holds: a chain has few rules, so that a packet passes few; which chains there are depends on the names alone;
//! an interface without an entry meets the rules that follow the map, in whichever chain its way ends; an entry changes
//! the rules of few chains. Upstream has one level of this tree.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::names;

/// Entries that stand in one chain without being divided.
const LEAF: usize = 12;

/// Interface and the chain that it goes to.
type Entry<'a> = (&'a str, &'a str);

/// What a tree is made of.
#[derive(Clone, Copy, Debug)]
pub struct Tree<'a> {
    /// Name of the chain at its root.
    pub root: &'a str,
    /// `-i` or `-o`.
    pub option: &'a str,
    /// The one prefix that all names have, left out of chains' names. Empty: there are several.
    pub prefix: &'a str,
    /// Rules for what is not in the map.
    pub rest: &'a [String],
}

/// Chains of a tree, the root's rules first (under an empty name; without `rest`, which its chain has itself).
#[must_use]
pub fn chains(tree: Tree<'_>, entries: &BTreeMap<Arc<str>, Arc<str>>) -> Vec<(String, Vec<String>)> {
    let valid: Vec<Entry<'_>> = entries
        .iter()
        .filter(|(name, _)| {
            let valid = names::is_interface(name);
            if !valid {
                tracing::warn!(interface = %name, "no interface can have this name; it is not dispatched to");
            }
            valid
        })
        .map(|(name, chain)| (&**name, &**chain))
        .collect();
    let mut out = vec![(String::new(), Vec::new())];
    let rules = node(tree, &valid, &mut out);
    if let Some(root) = out.first_mut() {
        root.1 = rules;
    }
    out
}

/// Rules for these entries, sorted by name; chains below it go to `out`.
fn node(tree: Tree<'_>, entries: &[Entry<'_>], out: &mut Vec<(String, Vec<String>)>) -> Vec<String> {
    let leaf = |(name, chain): &Entry<'_>| format!(" {} {name} -g {}", tree.option, names::chain(chain));
    if entries.len() <= LEAF {
        return entries.iter().map(leaf).collect();
    }
    let common = common_prefix(entries);
    let mut rules = Vec::new();
    for group in entries.chunk_by(|a, b| a.0.as_bytes().get(common) == b.0.as_bytes().get(common)) {
        if let [one] = group {
            rules.push(leaf(one));
            continue;
        }
        // Names are ASCII and differ, so two that share a character have it.
        let Some(part) = group.first().and_then(|(name, _)| name.get(..=common)) else { continue };
        let key = part.strip_prefix(tree.prefix).filter(|k| !k.is_empty()).unwrap_or(part);
        let chain = names::dispatch_part(tree.root, key);
        rules.push(format!(" {} {part}+ -g {chain}", tree.option));
        let mut below = node(tree, group, out);
        below.extend(tree.rest.iter().cloned());
        out.push((chain, below));
    }
    rules
}

/// Length of what all names begin with.
fn common_prefix(entries: &[Entry<'_>]) -> usize {
    // Sorted: what the first and the last share, all share.
    let (Some((a, _)), Some((b, _))) = (entries.first(), entries.last()) else { return 0 };
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn tree(rest: &[String]) -> Tree<'_> {
        Tree { root: "cali-from-wl-dispatch", option: "-i", prefix: "cali", rest }
    }

    fn map(names: &[String]) -> BTreeMap<Arc<str>, Arc<str>> {
        names.iter().map(|n| (n.as_str().into(), format!("cali-fw-{n}").into())).collect()
    }

    /// Where a packet of an interface goes, and how many rules it passed.
    fn walk(chains: &[(String, Vec<String>)], interface: &str) -> (String, usize) {
        let by_name: HashMap<&str, &Vec<String>> = chains.iter().map(|(n, r)| (n.as_str(), r)).collect();
        let (mut chain, mut passed) = ("", 0);
        'chain: loop {
            for rule in by_name[chain] {
                passed += 1;
                let words: Vec<&str> = rule.split_whitespace().collect();
                match words[..] {
                    ["-i", name, "-g", to] => {
                        let hit = match name.strip_suffix('+') {
                            Some(prefix) => interface.starts_with(prefix),
                            None => name == interface,
                        };
                        if hit && by_name.contains_key(to) {
                            chain = to;
                            continue 'chain;
                        }
                        if hit {
                            return (to.to_owned(), passed);
                        }
                    }
                    ["-j", "DROP"] => return ("DROP".to_owned(), passed),
                    _ => panic!("{rule}"),
                }
            }
            return ("end".to_owned(), passed);
        }
    }

    #[test]
    fn a_thousand_interfaces_are_reached_in_few_rules() {
        use sha2::{Digest as _, Sha256};
        let name = |n: u32| {
            let hash = Sha256::digest(n.to_be_bytes());
            let hex: String = hash.iter().map(|b| format!("{b:02x}")).collect();
            format!("cali{}", &hex[..11])
        };
        let names: Vec<String> = (0..1000).map(name).collect();
        let rest = [" -j DROP".to_owned()];
        let chains = chains(tree(&rest), &map(&names));
        let passed: Vec<usize> = names.iter().map(|n| walk(&chains, n).1).collect();
        assert!(passed.iter().max() < Some(&50), "{:?}", passed.iter().max());
        assert!(passed.iter().sum::<usize>() / names.len() < 26);
        assert!(chains.iter().all(|(_, rules)| rules.len() <= 20));
    }

    #[test]
    fn chains_are_named_after_what_tells_their_interfaces_apart() {
        let names: Vec<String> =
            (0..13).map(|n| format!("calik{n:02}")).chain(["cali0".to_owned()]).collect();
        let chains = chains(tree(&[]), &map(&names));
        assert!(chains.iter().any(|(n, _)| n == "cali-from-wl-dispatch-k"), "{chains:?}");
    }

    proptest! {
        #[test]
        fn every_interface_reaches_its_chain_and_no_other(
            names in prop::collection::btree_set("cali[0-3]{0,5}|tap[ab]{1,3}", 0..60),
            other in "cali[0-3]{0,6}|tap[ab]{1,4}|eth0",
        ) {
            let names: Vec<String> = names.into_iter().collect();
            let rest = [" -j DROP".to_owned()];
            let t = Tree { prefix: "", ..tree(&rest) };
            let chains = chains(t, &map(&names));
            for name in &names {
                prop_assert_eq!(walk(&chains, name).0, format!("cali-fw-{name}"));
            }
            if !names.contains(&other) {
                let to = walk(&chains, &other).0;
                prop_assert!(to == "end" || to == "DROP", "{} went to {}", other, to);
            }
            let distinct: std::collections::BTreeSet<&String> = chains.iter().map(|(n, _)| n).collect();
            prop_assert_eq!(distinct.len(), chains.len());
        }
    }
}
