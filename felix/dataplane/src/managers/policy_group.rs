//! Workloads to which the same policies apply share a chain with these policies: `cali-gi-…` to them, `cali-go-…` from
//! them. A policy that is for all of a thousand workloads changes one chain, and there is one list of jumps, not a
//! thousand.
//!
//! In: each interface's policies. Out: the shared chains, and the interfaces that use another one than before. Always
//! holds: what is shared, and its name, is a function of what the interfaces have now: a chain is named after the first
//! of the interfaces that share it. So it keeps its name while policies change, and interfaces other than the first
//! may come and go. Few policies (at most one in each tier), and those that no other workload has, stand in the
//! workload's own chain.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use felix_message::TierInfo;
use sha2::{Digest as _, Sha256};

use crate::render::endpoint;
use crate::render::names::{self, Direction};

/// A direction and a list of policies, by its hash.
type Key = (Direction, [u8; 32]);

#[derive(Debug)]
struct Group {
    tiers: Arc<[TierInfo]>,
    members: BTreeSet<Arc<str>>,
}

#[derive(Debug)]
struct Member {
    key: Key,
    /// The chain that it was told of.
    chain: Option<Arc<str>>,
}

/// All groups.
#[derive(Debug, Default)]
pub struct Groups {
    groups: HashMap<Key, Group>,
    members: HashMap<(Arc<str>, Direction), Member>,
    /// Groups that came, went or have other members.
    touched: HashSet<Key>,
    /// Chains that stand, with what is in them.
    chains: BTreeMap<Arc<str>, Key>,
}

/// What has to be done.
#[derive(Debug, Default)]
pub struct Changes {
    pub define: Vec<(Arc<str>, Direction, Arc<[TierInfo]>)>,
    pub remove: Vec<Arc<str>>,
    /// Interfaces that use another chain than before.
    pub interfaces: BTreeSet<Arc<str>>,
}

/// Hashes of lists, by where they are and direction. Endpoints share lists: most are hashed once. Holds for as long as
/// nothing is freed.
pub type Hashes = HashMap<(*const TierInfo, usize, Direction), Option<Key>>;

fn key(tiers: &Arc<[TierInfo]>, direction: Direction) -> Option<Key> {
    let policies = |t: &TierInfo| endpoint::enforced(t, direction).count();
    if tiers.iter().all(|t| policies(t) < 2) {
        return None;
    }
    let mut hash = Sha256::new();
    let mut word = |text: &str| {
        hash.update(text.len().to_ne_bytes());
        hash.update(text);
    };
    for tier in tiers.iter() {
        word("tier");
        word(&tier.name);
        word(&format!("{:?}", tier.default_action));
        for policy in endpoint::enforced(tier, direction) {
            word(policy.kind.short_name());
            word(&policy.namespace);
            word(&policy.name);
        }
    }
    Some((direction, hash.finalize().into()))
}

impl Groups {
    /// These policies apply to an interface; `None`: none, or it is gone.
    pub fn set(
        &mut self,
        interface: &Arc<str>,
        direction: Direction,
        tiers: Option<&Arc<[TierInfo]>>,
        hashes: &mut Hashes,
    ) {
        let new = tiers.and_then(|t| {
            let place = (t.as_ptr(), t.len(), direction);
            *hashes.entry(place).or_insert_with(|| key(t, direction))
        });
        let of = (interface.clone(), direction);
        let old = self.members.get(&of).map(|m| m.key);
        if old == new {
            return;
        }
        if let Some(old) = old {
            self.touched.insert(old);
            if let Some(group) = self.groups.get_mut(&old) {
                group.members.remove(interface);
                if group.members.is_empty() {
                    self.groups.remove(&old);
                }
            }
        }
        let Some((new, tiers)) = new.zip(tiers) else {
            self.members.remove(&of);
            return;
        };
        self.touched.insert(new);
        let group = self
            .groups
            .entry(new)
            .or_insert_with(|| Group { tiers: tiers.clone(), members: BTreeSet::new() });
        group.members.insert(interface.clone());
        match self.members.get_mut(&of) {
            Some(member) => member.key = new,
            None => {
                self.members.insert(of, Member { key: new, chain: None });
            }
        }
    }

    /// The chain that an interface's packets pass.
    #[must_use]
    pub fn chain(&self, interface: &Arc<str>, direction: Direction) -> Option<Arc<str>> {
        self.members.get(&(interface.clone(), direction))?.chain.clone()
    }

    /// Names what changed.
    pub fn resolve(&mut self) -> Changes {
        let mut out = Changes::default();
        let touched = std::mem::take(&mut self.touched);
        if touched.is_empty() {
            return out;
        }
        let mut free: BTreeSet<Arc<str>> = self
            .chains
            .iter()
            .filter(|(_, key)| touched.contains(*key))
            .map(|(name, _)| name.clone())
            .collect();
        for key in touched {
            let Some(group) = self.groups.get(&key) else { continue };
            // One alone has nobody to share with.
            let first = group.members.first().filter(|_| group.members.len() > 1);
            let name: Option<Arc<str>> = first.map(|i| names::group_chain(key.0, i).into());
            if let Some(name) = &name {
                free.remove(name);
                if self.chains.insert(name.clone(), key) != Some(key) {
                    out.define.push((name.clone(), key.0, group.tiers.clone()));
                }
            }
            for interface in &group.members {
                if let Some(member) = self.members.get_mut(&(interface.clone(), key.0))
                    && member.chain != name
                {
                    member.chain.clone_from(&name);
                    out.interfaces.insert(interface.clone());
                }
            }
        }
        for name in &free {
            self.chains.remove(name);
        }
        out.remove = free.into_iter().collect();
        out
    }
}
