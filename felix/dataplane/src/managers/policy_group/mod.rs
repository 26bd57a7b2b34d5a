//! Workloads share chains for what their lists of policies have in common, so that a policy that is for all of a thousand
//! workloads changes one chain and not a thousand:
//!
//! - a **run**: policies with one selector that follow each other in a tier. Whoever has one of them has, as a rule, all.
//! - a **list**: all policies of a direction, where several workloads have the same ones.
//!
//! ```text
//!  cali-tw-… ─▶ cali-gi-IFACE (a list) ─┬─▶ cali-gi-IFACE/HASH (a run) ─┬─▶ cali-pi-…
//!                                       └─▶ cali-pi-…                   └─▶ cali-pi-…
//! ```
//!
//! In: each interface's policies, and the policies' selectors. Out: the shared chains, and the interfaces that go through
//! others than before. Always holds: what is shared, and its name, is a function of what interfaces and policies there are
//! now. A name does not tell what is in the chain, so that the chain keeps it while policies come and go: it is that of
//! the workload whose interface has the smallest hash, so that of a thousand workloads any one may come or go with little
//! chance that the name does. What no other workload has, and lists of few steps (at most one in each tier), stand in the
//! workload's own chain.

mod numbers;
mod slab;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use felix_message::{ActivePolicy, TierDefaultAction, TierInfo};
use hashbrown::{HashMap, HashSet};
use libcalico_model::key::PolicyKey;
use sha2::{Digest as _, Sha256};

use crate::render::endpoint::{self, Steps, TierSteps};
use crate::render::names::{self, Direction};
use numbers::{Number, PolicyNumbers};
use slab::Slab;

/// A run of one policy has a chain where so many lists have it: the next policy of its kind then changes that chain alone.
/// Fewer lists are better off without one jump more.
const MANY: usize = 16;

/// An interface, in the order in which chains are named: by its hash.
type Ranked = (u64, Arc<str>);

/// A direction and what stands in it, tier by tier: default action, number of policies, policies.
type Content = (Direction, Arc<[u32]>);

/// All policies of a direction.
#[derive(Debug)]
struct List {
    content: Content,
    tiers: Vec<Tier>,
    members: BTreeSet<Ranked>,
    /// What its members go through, as they were told.
    steps: Arc<[TierSteps]>,
    chain: Option<Arc<str>>,
}

#[derive(Debug)]
struct Tier {
    default_action: TierDefaultAction,
    /// Numbers of runs.
    runs: Vec<u32>,
}

/// Policies with one selector that follow each other.
#[derive(Debug)]
struct Run {
    content: Content,
    /// Numbers of lists.
    lists: HashSet<u32>,
    chain: Option<Arc<str>>,
}

/// What has a shared chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    List(u32),
    Run(u32),
}

#[derive(Debug)]
struct Member {
    list: u32,
    rank: u64,
    /// What it was told to go through.
    steps: Option<Steps>,
}

/// All groups.
#[derive(Debug, Default)]
pub struct Groups {
    policies: PolicyNumbers,
    lists: Slab<List>,
    runs: Slab<Run>,
    lists_by_content: HashMap<Content, u32>,
    runs_by_content: HashMap<Content, u32>,
    members: HashMap<(Arc<str>, Direction), Member>,
    /// Interfaces that have no policies any more.
    left: BTreeSet<Arc<str>>,
    /// Those that came or have other members.
    touched_lists: BTreeSet<u32>,
    touched_runs: BTreeSet<u32>,
    /// Chains that stand.
    chains: BTreeMap<Arc<str>, Owner>,
    /// Chains that lost what they were for.
    gone: BTreeSet<Arc<str>>,
}

/// What is in a shared chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shared {
    List(Arc<[TierSteps]>),
    Run(Vec<Arc<str>>),
}

/// What has to be done.
#[derive(Debug, Default)]
pub struct Changes {
    pub define: Vec<(Arc<str>, Shared)>,
    pub remove: Vec<Arc<str>>,
    /// Interfaces that go through other chains than before.
    pub interfaces: BTreeSet<Arc<str>>,
}

fn rank(interface: &str) -> u64 {
    Sha256::digest(interface.as_bytes()).first_chunk().map_or(0, |b| u64::from_be_bytes(*b))
}

/// The tiers of a list's content.
fn tiers_of(content: &[u32]) -> impl Iterator<Item = (TierDefaultAction, &[Number])> {
    let mut rest = content;
    std::iter::from_fn(move || {
        let ([default_action, count], behind) = rest.split_first_chunk()?;
        let (policies, behind) = behind.split_at_checked(*count as usize)?;
        rest = behind;
        let deny = *default_action == number_of(TierDefaultAction::Deny);
        Some((if deny { TierDefaultAction::Deny } else { TierDefaultAction::Pass }, policies))
    })
}

fn number_of(action: TierDefaultAction) -> u32 {
    match action {
        TierDefaultAction::Deny => 0,
        TierDefaultAction::Pass => 1,
    }
}

impl Groups {
    /// A policy came or changed, or (`None`) went.
    pub fn set_policy(&mut self, key: &PolicyKey, policy: Option<&ActivePolicy>) {
        let Some(number) = self.policies.set(key, policy) else { return };
        let has = |l: &List| tiers_of(&l.content.1).any(|(_, policies)| policies.contains(&number));
        let lists: Vec<u32> = self.lists.iter().filter(|(_, l)| has(l)).map(|(id, _)| id).collect();
        for id in lists {
            let Some(content) = self.lists.get(id).map(|l| l.content.clone()) else { continue };
            let tiers = self.split(id, &content);
            let Some(list) = self.lists.get_mut(id) else { continue };
            let old = std::mem::replace(&mut list.tiers, tiers);
            self.touched_lists.insert(id);
            self.leave_runs(id, &old);
        }
    }

    /// These policies apply to an interface; `None`: none, or it is gone.
    pub fn set(&mut self, interface: &Arc<str>, direction: Direction, tiers: Option<&Arc<[TierInfo]>>) {
        let content = tiers.map(|t| self.content(t, direction)).filter(|(_, c)| !c.is_empty());
        let at = (interface.clone(), direction);
        let (old, rank) = match self.members.get(&at) {
            Some(member) => (Some(member.list), member.rank),
            None => (None, rank(interface)),
        };
        let ranked = (rank, interface.clone());
        let same = old.and_then(|id| self.lists.get(id)).map(|l| &l.content) == content.as_ref();
        if same {
            return;
        }
        let new = content.map(|c| self.join(c, ranked.clone()));
        match (new, self.members.get_mut(&at)) {
            (Some(list), Some(member)) => member.list = list,
            (Some(list), None) => {
                self.members.insert(at, Member { list, rank, steps: None });
            }
            (None, _) => {
                if self.members.remove(&at).is_some() {
                    self.left.insert(interface.clone());
                }
            }
        }
        // At last: policies keep their numbers.
        if let Some(old) = old {
            self.leave(old, &ranked);
        }
    }

    fn content(&mut self, tiers: &[TierInfo], direction: Direction) -> Content {
        let mut out = Vec::with_capacity(tiers.iter().map(|t| t.ingress.len().max(t.egress.len()) + 2).sum());
        for tier in tiers.iter().filter(|t| endpoint::applies(t, direction)) {
            let count = endpoint::enforced(tier, direction).count();
            out.extend([number_of(tier.default_action), u32::try_from(count).unwrap_or(u32::MAX)]);
            out.extend(endpoint::enforced(tier, direction).map(|p| self.policies.number(p)));
        }
        (direction, out.into())
    }

    fn join(&mut self, content: Content, member: Ranked) -> u32 {
        let id = match self.lists_by_content.get(&content) {
            Some(id) => *id,
            None => {
                for (_, policies) in tiers_of(&content.1) {
                    policies.iter().for_each(|p| self.policies.used(*p));
                }
                let id = self.lists.add(List {
                    content: content.clone(),
                    tiers: Vec::new(),
                    members: BTreeSet::new(),
                    steps: Arc::default(),
                    chain: None,
                });
                let tiers = self.split(id, &content);
                if let Some(list) = self.lists.get_mut(id) {
                    list.tiers = tiers;
                }
                self.lists_by_content.insert(content, id);
                id
            }
        };
        if let Some(list) = self.lists.get_mut(id) {
            list.members.insert(member);
        }
        self.touch(id);
        id
    }

    fn leave(&mut self, id: u32, member: &Ranked) {
        let Some(list) = self.lists.get_mut(id) else { return };
        list.members.remove(member);
        if !list.members.is_empty() {
            self.touch(id);
            return;
        }
        self.touched_lists.remove(&id);
        let Some(list) = self.lists.take(id) else { return };
        self.lists_by_content.remove(&list.content);
        self.leave_runs(id, &list.tiers);
        self.close(list.chain, Owner::List(id));
        for (_, policies) in tiers_of(&list.content.1) {
            policies.iter().for_each(|p| self.policies.unused(*p));
        }
    }

    /// Its members, or what it is made of, changed: chains may have other names.
    fn touch(&mut self, id: u32) {
        self.touched_lists.insert(id);
        if let Some(list) = self.lists.get(id) {
            self.touched_runs.extend(list.tiers.iter().flat_map(|t| &t.runs));
        }
    }

    /// Takes a list's policies apart where the selector changes.
    fn split(&mut self, id: u32, (direction, content): &Content) -> Vec<Tier> {
        let mut out = Vec::new();
        for (default_action, policies) in tiers_of(content) {
            let same = |a: &Number, b: &Number| {
                self.policies.selector(*a).is_some_and(|s| Some(s) == self.policies.selector(*b))
            };
            let parts: Vec<&[Number]> = policies.chunk_by(same).collect();
            let runs = parts.into_iter().map(|p| self.join_run(id, (*direction, p.into()))).collect();
            out.push(Tier { default_action, runs });
        }
        out
    }

    fn join_run(&mut self, list: u32, content: Content) -> u32 {
        let id = match self.runs_by_content.get(&content) {
            Some(id) => *id,
            None => {
                let run = Run { content: content.clone(), lists: HashSet::new(), chain: None };
                let id = self.runs.add(run);
                self.runs_by_content.insert(content, id);
                id
            }
        };
        if let Some(run) = self.runs.get_mut(id) {
            run.lists.insert(list);
        }
        self.touched_runs.insert(id);
        id
    }

    /// A list no longer has these runs, except where it has them again.
    fn leave_runs(&mut self, list: u32, tiers: &[Tier]) {
        let again = |id: u32| {
            let now = self.lists.get(list).map_or(&[][..], |l| &l.tiers);
            now.iter().any(|t| t.runs.contains(&id))
        };
        let left: BTreeSet<u32> =
            tiers.iter().flat_map(|t| &t.runs).copied().filter(|id| !again(*id)).collect();
        for id in left {
            let Some(run) = self.runs.get_mut(id) else { continue };
            run.lists.remove(&list);
            if !run.lists.is_empty() {
                self.touched_runs.insert(id);
                continue;
            }
            self.touched_runs.remove(&id);
            if let Some(run) = self.runs.take(id) {
                self.runs_by_content.remove(&run.content);
                self.close(run.chain, Owner::Run(id));
            }
        }
    }

    /// A chain has no longer what it was for.
    fn close(&mut self, chain: Option<Arc<str>>, owner: Owner) {
        if let Some(chain) = chain
            && self.chains.get(&chain) == Some(&owner)
        {
            self.chains.remove(&chain);
            self.gone.insert(chain);
        }
    }

    /// What an interface's packets pass.
    #[must_use]
    pub fn steps(&self, interface: &Arc<str>, direction: Direction) -> Option<&Steps> {
        self.members.get(&(interface.clone(), direction))?.steps.as_ref()
    }

    /// Names what changed.
    pub fn resolve(&mut self) -> Changes {
        let mut out = Changes { interfaces: std::mem::take(&mut self.left), ..Changes::default() };
        self.name_runs(&mut out);
        self.name_lists(&mut out);
        out.remove = std::mem::take(&mut self.gone).into_iter().collect();
        out
    }

    fn name_runs(&mut self, out: &mut Changes) {
        let touched = std::mem::take(&mut self.touched_runs);
        let named = touched.iter().filter_map(|id| {
            let run = self.runs.get(*id)?;
            let name = self.run_name(*id, run);
            (run.chain != name).then_some((*id, name))
        });
        let named: Vec<(u32, Option<Arc<str>>)> = named.collect();
        // All old names are free before the first new one is given.
        for (id, _) in &named {
            let Some(run) = self.runs.get_mut(*id) else { continue };
            let old = run.chain.take();
            self.touched_lists.extend(&run.lists);
            self.close(old, Owner::Run(*id));
        }
        for (id, name) in named {
            let (Some(name), Some(run)) = (name, self.runs.get_mut(id)) else { continue };
            run.chain = Some(name.clone());
            let policies = run.content.1.iter();
            let chains = policies.filter_map(|p| self.policies.chain(*p, run.content.0).cloned()).collect();
            self.gone.remove(&name);
            self.chains.insert(name.clone(), Owner::Run(id));
            out.define.push((name, Shared::Run(chains)));
        }
    }

    fn run_name(&self, id: u32, run: &Run) -> Option<Arc<str>> {
        let (direction, policies) = &run.content;
        if run.lists.len() < 2 || (policies.len() < 2 && run.lists.len() < MANY) {
            return None;
        }
        let lists = run.lists.iter().filter_map(|l| self.lists.get(*l));
        let (first, list) = lists.filter_map(|l| Some((l.members.first()?, l))).min_by_key(|(m, _)| *m)?;
        let selector_of = |id: u32| {
            let first = self.runs.get(id)?.content.1.first()?;
            self.policies.selector(*first)
        };
        let selector = selector_of(id)?;
        let all = list.tiers.iter().flat_map(|t| &t.runs);
        let before = all.take_while(|r| **r != id).filter(|r| selector_of(**r) == Some(selector)).count();
        Some(names::run_chain(*direction, &first.1, selector, before).into())
    }

    fn name_lists(&mut self, out: &mut Changes) {
        let touched = std::mem::take(&mut self.touched_lists);
        let mut named = Vec::new();
        for id in &touched {
            let Some(list) = self.lists.get(*id) else { continue };
            let steps = self.steps_of(list);
            let several = list.members.len() > 1 && steps.iter().any(|t| t.chains.len() > 1);
            let first = list.members.first().filter(|_| several);
            let name = first.map(|(_, i)| Arc::from(names::group_chain(list.content.0, i)));
            named.push((*id, name, (*list.steps != *steps).then_some(steps)));
        }
        for (id, name, steps) in &mut named {
            let Some(list) = self.lists.get_mut(*id) else { continue };
            let old = list.chain.take_if(|c| Some(&*c) != name.as_ref());
            if let Some(steps) = steps.take() {
                list.steps = steps.into();
                // Defined anew below.
                list.chain = None;
            }
            let left = old.or_else(|| name.clone().filter(|_| list.chain.is_none()));
            self.close(left, Owner::List(*id));
        }
        for (id, name, _) in named {
            let Some(list) = self.lists.get_mut(id) else { continue };
            if let (Some(name), None) = (&name, &list.chain) {
                list.chain = Some(name.clone());
                self.gone.remove(name);
                self.chains.insert(name.clone(), Owner::List(id));
                out.define.push((name.clone(), Shared::List(list.steps.clone())));
            }
            let steps = match name {
                Some(chain) => Steps::Shared { chain, behind: endpoint::behind(&list.steps) },
                None => Steps::Own(list.steps.clone()),
            };
            for (_, interface) in &list.members {
                if let Some(member) = self.members.get_mut(&(interface.clone(), list.content.0))
                    && member.steps.as_ref() != Some(&steps)
                {
                    member.steps = Some(steps.clone());
                    out.interfaces.insert(interface.clone());
                }
            }
        }
    }

    fn steps_of(&self, list: &List) -> Vec<TierSteps> {
        let chains = |run: &u32| {
            let Some(run) = self.runs.get(*run) else { return Vec::new() };
            let policies = run.content.1.iter();
            match &run.chain {
                Some(chain) => vec![chain.clone()],
                None => policies.filter_map(|p| self.policies.chain(*p, list.content.0).cloned()).collect(),
            }
        };
        let passes = |run: &u32| {
            let policies = self.runs.get(*run).map_or(&[][..], |r| &*r.content.1);
            policies.iter().any(|p| self.policies.passes(*p, list.content.0))
        };
        let tiers = list.tiers.iter();
        tiers
            .map(|t| TierSteps {
                default_action: t.default_action,
                passes: t.runs.iter().any(passes),
                chains: t.runs.iter().flat_map(chains).collect(),
            })
            .collect()
    }
}
