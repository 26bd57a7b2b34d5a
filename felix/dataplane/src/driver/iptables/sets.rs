//! Reconciles IP sets: made before the rules that name them, removed after.
//!
//! In: desired sets of both families. Out: batches of netlink messages. Always holds: one member that changes is one
//! message; members come before others go, so that a set never lacks what both states have; a set that is replaced is
//! filled under another name and then swapped in. What is still in use (the kernel lets rules go a moment after they are
//! gone) is removed later.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use felix_message::{IpSetKind, IpSetMember};
use ipnet::IpNet;

use super::names;
use crate::config::Config;
use crate::driver::desired::{Desired, DesiredTables};
use crate::driver::{TableError, members_are_foreign, members_differ};
use crate::kernel::ipset::{self, Batch, KernelSet, SetError};
use crate::kernel::netlink::Netlink;
use crate::kernel::nft::NETLINK_NETFILTER;
use crate::rule::{Family, SetName};
use crate::tally::TALLY;

/// A set in the kernel. Its members are not remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KnownSet {
    /// `None`: a type that is never made here.
    kind: Option<IpSetKind>,
    max: u32,
}

/// The sets' half of the driver.
#[derive(Debug)]
pub struct Sets {
    socket: Netlink,
    known: [HashMap<Arc<str>, KnownSet>; 2],
    /// Sets that are to go.
    gone: BTreeSet<(Family, Arc<str>)>,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Written {
    pub operations: usize,
    pub bytes: usize,
}

/// One batch in the making.
struct Planner<'a> {
    family: Family,
    config: &'a Config,
    tables: &'a DesiredTables,
    known: &'a mut HashMap<Arc<str>, KnownSet>,
    gone: &'a mut BTreeSet<(Family, Arc<str>)>,
    batch: &'a mut Batch,
    temporary: usize,
}

impl From<SetError> for TableError {
    fn from(e: SetError) -> Self {
        Self(e.to_string())
    }
}

impl Sets {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn new(timeout: Duration) -> std::io::Result<Self> {
        Ok(Self {
            socket: Netlink::open(NETLINK_NETFILTER)?.with_timeout(timeout)?,
            known: [HashMap::new(), HashMap::new()],
            gone: BTreeSet::new(),
        })
    }

    /// How many stand for a family.
    #[must_use]
    pub fn count(&self, family: Family) -> usize {
        self.known[family.index()].len()
    }

    /// Names of what stands for a family.
    #[must_use]
    pub fn names(&self, family: Family) -> BTreeSet<Arc<str>> {
        self.known[family.index()].keys().cloned().collect()
    }

    /// Makes and changes sets; with `everything` after reading back what stands. What is to go stays until
    /// [`Self::remove_gone`].
    ///
    /// # Errors
    /// A member that does not fit, or the kernel's refusal. Everything has to be read back then.
    pub fn apply(
        &mut self,
        desired: &Desired,
        config: &Config,
        everything: bool,
    ) -> Result<Written, TableError> {
        let kernel = if everything { Some(self.read_back()?) } else { None };
        let mut batch = Batch::default();
        for family in Family::BOTH {
            let enabled = config.families().contains(&family);
            let mut planner = Planner {
                family,
                config,
                tables: &desired.families[family.index()],
                known: &mut self.known[family.index()],
                gone: &mut self.gone,
                batch: &mut batch,
                temporary: 0,
            };
            match &kernel {
                Some(kernel) if enabled => planner.everything(&kernel[family.index()])?,
                Some(kernel) => planner.nothing(&kernel[family.index()]),
                None if enabled => planner.changes()?,
                None => {}
            }
        }
        let written = Written { operations: batch.operations(), bytes: batch.bytes() };
        let refused = send(batch, &mut self.socket)?;
        refused.into_iter().next().map_or(Ok(written), |e| Err(e.into()))
    }

    fn read_back(&mut self) -> Result<[BTreeMap<Arc<str>, KernelSet>; 2], TableError> {
        let all = ipset::sets(&mut self.socket, "cali")
            .map_err(|e| TableError(format!("cannot read back IP sets: {e}")))?;
        let mut out = [BTreeMap::new(), BTreeMap::new()];
        for (name, set) in all {
            let family = Family::BOTH.into_iter().find(|f| is_ours(*f, &name));
            if let Some(f) = family {
                out[f.index()].insert(name, set);
            }
        }
        for (known, kernel) in self.known.iter_mut().zip(&out) {
            let set = |(n, s): (&Arc<str>, &KernelSet)| (n.clone(), KnownSet { kind: s.kind, max: s.max });
            *known = kernel.iter().map(set).collect();
        }
        self.gone.clear();
        Ok(out)
    }

    /// Removes what is to go; true where nothing is left to remove.
    ///
    /// # Errors
    /// The kernel's refusal, other than that a set is still in use.
    pub fn remove_gone(&mut self) -> Result<bool, TableError> {
        if self.gone.is_empty() {
            return Ok(true);
        }
        let mut batch = Batch::default();
        for (family, name) in &self.gone {
            batch.destroy(*family, name);
        }
        let mut still: BTreeSet<Arc<str>> = BTreeSet::new();
        for refusal in send(batch, &mut self.socket)? {
            match refusal {
                SetError::Refused { name, busy: true, .. } => {
                    still.insert(name);
                }
                other => return Err(other.into()),
            }
        }
        let known = &mut self.known;
        self.gone.retain(|(family, name)| {
            let stays = still.contains(name);
            if !stays {
                known[family.index()].remove(name);
            }
            stays
        });
        Ok(self.gone.is_empty())
    }

    /// Removes every set of ours; true where none is left.
    ///
    /// # Errors
    /// As [`Self::remove_gone`].
    pub fn remove_all(&mut self) -> Result<bool, TableError> {
        let kernel = self.read_back()?;
        for (family, sets) in Family::BOTH.into_iter().zip(&kernel) {
            self.gone.extend(sets.keys().map(|n| (family, n.clone())));
        }
        self.remove_gone()
    }

    /// Where the kernel has other sets than believed, or other members than desired: a line for each.
    ///
    /// # Errors
    /// The kernel cannot be read.
    pub fn differences(&mut self, desired: &Desired, config: &Config) -> Result<Vec<String>, TableError> {
        let believed = self.known.clone();
        let gone = self.gone.clone();
        let read = self.read_back();
        let found = std::mem::replace(&mut self.known, believed);
        self.gone = gone;
        let kernel = read?;
        let mut out = Vec::new();
        for (family, (b, k)) in Family::BOTH.into_iter().zip(self.known.iter().zip(&found)) {
            let all: BTreeSet<&Arc<str>> = b.keys().chain(k.keys()).collect();
            let others = all.into_iter().filter(|n| b.get(*n) != k.get(*n));
            out.extend(others.map(|n| format!("IPv{} IP set {n}", family.version())));
            if config.families().contains(&family) {
                out.extend(wrong_members(family, &desired.families[family.index()], &kernel[family.index()]));
            }
        }
        Ok(out)
    }
}

/// Sets of the kernel that have the wanted kind and other members than desired.
fn wrong_members(
    family: Family,
    tables: &DesiredTables,
    kernel: &BTreeMap<Arc<str>, KernelSet>,
) -> Vec<String> {
    let mut out = BTreeMap::new();
    for (name, set) in tables.sets() {
        let (text, kind): (Arc<str>, _) = (names::set(family, name).into(), set.kind());
        let Some(k) = kernel.get(&text).filter(|k| k.kind == Some(kind)) else { continue };
        let want: BTreeSet<IpSetMember> = expanded(kind, set.effective()).into_iter().collect();
        let line = match &k.members {
            None => members_are_foreign(family, &text),
            Some(have) if *have == want => continue,
            Some(have) => {
                members_differ(family, &text, want.difference(have).count(), have.difference(&want).count())
            }
        };
        out.insert(text, line);
    }
    out.into_values().collect()
}

/// Sends a batch; returns what was refused.
fn send(batch: Batch, socket: &mut Netlink) -> Result<Vec<SetError>, TableError> {
    let operations = batch.operations();
    let result = batch.send(socket);
    if operations > 0 {
        TALLY.set_calls.add(1);
        TALLY.set_lines.add(operations);
        // A set that is still in use is asked for again: no error.
        let errs = |refused: &Vec<SetError>| {
            refused.iter().any(|r| !matches!(r, SetError::Refused { busy: true, .. }))
        };
        TALLY.set_errors.add(usize::from(result.as_ref().map_or(true, errs)));
    }
    Ok(result?)
}

fn is_ours(family: Family, name: &str) -> bool {
    name.starts_with(names::set_prefix(family))
        || name.strip_prefix(names::temporary_prefix(family)).is_some_and(|n| n.parse::<usize>().is_ok())
}

/// A network of length zero is two of length one: the kernel's hash has no place for it.
fn expanded(kind: IpSetKind, members: impl IntoIterator<Item = IpSetMember>) -> Vec<IpSetMember> {
    let mut out = Vec::new();
    for m in members {
        match m {
            IpSetMember::Net(n) if kind == IpSetKind::Net && n.prefix_len() == 0 => {
                out.extend(n.subnets(1).into_iter().flatten().map(IpSetMember::Net));
            }
            IpSetMember::Net(n) if kind == IpSetKind::Net => out.push(IpSetMember::Net(IpNet::trunc(&n))),
            other => out.push(other),
        }
    }
    out
}

impl Planner<'_> {
    fn text(&self, name: &SetName) -> Arc<str> {
        names::set(self.family, name).into()
    }

    fn max(&self, members: usize) -> u32 {
        let room = u32::try_from(members.next_power_of_two()).unwrap_or(u32::MAX);
        self.config.ip_set_max.max(room)
    }

    fn everything(&mut self, kernel: &BTreeMap<Arc<str>, KernelSet>) -> Result<(), SetError> {
        let mut wanted = BTreeSet::new();
        let mut sets: Vec<_> = self.tables.sets().iter().collect();
        sets.sort_by_key(|(n, _)| (*n).clone());
        // Left over from a refill that was cut off; nothing refers to them.
        for name in kernel.keys().filter(|n| !n.starts_with(names::set_prefix(self.family))) {
            self.batch.destroy(self.family, name);
            self.known.remove(name);
        }
        for (name, set) in sets {
            let (text, kind) = (self.text(name), set.kind());
            wanted.insert(text.clone());
            let want = expanded(kind, set.effective());
            match kernel.get(&text) {
                None => self.make(&text, kind, &want)?,
                Some(k) if k.kind == Some(kind) && k.family == Some(self.family) => {
                    let room = usize::try_from(k.max).unwrap_or(usize::MAX);
                    match &k.members {
                        Some(have) if room >= want.len() => self.difference(&text, kind, have, want)?,
                        _ => self.refill(&text, kind, &want)?,
                    }
                }
                Some(_) => {
                    // Another type cannot be swapped in: only a set that no rule names can be changed.
                    self.batch.destroy(self.family, &text);
                    self.make(&text, kind, &want)?;
                }
            }
        }
        let gone = kernel.keys().filter(|n| n.starts_with(names::set_prefix(self.family)));
        self.gone.extend(gone.filter(|n| !wanted.contains(*n)).map(|n| (self.family, n.clone())));
        Ok(())
    }

    fn nothing(&mut self, kernel: &BTreeMap<Arc<str>, KernelSet>) {
        self.gone.extend(kernel.keys().map(|n| (self.family, n.clone())));
    }

    fn difference(
        &mut self,
        text: &Arc<str>,
        kind: IpSetKind,
        have: &BTreeSet<IpSetMember>,
        want: Vec<IpSetMember>,
    ) -> Result<(), SetError> {
        let want: BTreeSet<IpSetMember> = want.into_iter().collect();
        let new: Vec<IpSetMember> = want.difference(have).copied().collect();
        let old: Vec<IpSetMember> = have.difference(&want).copied().collect();
        self.batch.members(self.family, text, kind, true, &new)?;
        self.batch.members(self.family, text, kind, false, &old)
    }

    fn make(&mut self, text: &Arc<str>, kind: IpSetKind, want: &[IpSetMember]) -> Result<(), SetError> {
        let max = self.max(want.len());
        self.batch.create(self.family, text, kind, max);
        self.batch.members(self.family, text, kind, true, want)?;
        self.known.insert(text.clone(), KnownSet { kind: Some(kind), max });
        Ok(())
    }

    fn refill(&mut self, text: &Arc<str>, kind: IpSetKind, want: &[IpSetMember]) -> Result<(), SetError> {
        let temporary: Arc<str> = names::temporary_set(self.family, self.temporary).into();
        self.temporary += 1;
        let max = self.max(want.len());
        self.batch.create(self.family, &temporary, kind, max);
        self.batch.members(self.family, &temporary, kind, true, want)?;
        self.batch.swap(self.family, &temporary, text);
        self.batch.destroy(self.family, &temporary);
        self.known.insert(text.clone(), KnownSet { kind: Some(kind), max });
        Ok(())
    }

    fn changes(&mut self) -> Result<(), SetError> {
        let tables = self.tables;
        for name in &tables.changes().sets {
            let text = self.text(name);
            let known = self.known.get(&text).copied();
            match (tables.sets().get(name), known) {
                (None, Some(_)) => {
                    self.gone.insert((self.family, text));
                }
                (None, None) => {}
                (Some(set), known) => {
                    self.gone.remove(&(self.family, text.clone()));
                    let want = expanded(set.kind(), set.effective());
                    if known.is_some() {
                        self.refill(&text, set.kind(), &want)?;
                    } else {
                        self.make(&text, set.kind(), &want)?;
                    }
                }
            }
        }
        for (name, delta) in &tables.changes().members {
            let Some(set) = tables.sets().get(name) else { continue };
            let (text, kind) = (self.text(name), set.kind());
            let of = |added: bool| delta.iter().filter(move |(_, a)| **a == added).map(|(m, _)| *m);
            let new = expanded(kind, of(true));
            let room = self.known.get(&text).map_or(0, |k| usize::try_from(k.max).unwrap_or(usize::MAX));
            if set.len() + 1 > room {
                self.refill(&text, kind, &expanded(kind, set.effective()))?;
                continue;
            }
            // Half of everything may be wanted for itself.
            let kept: BTreeSet<IpSetMember> = new.iter().copied().collect();
            let old: Vec<IpSetMember> =
                expanded(kind, of(false)).into_iter().filter(|m| !kept.contains(m)).collect();
            self.batch.members(self.family, &text, kind, true, &new)?;
            self.batch.members(self.family, &text, kind, false, &old)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_two_halves() {
        let all = |text: &str| IpSetMember::Net(text.parse().unwrap());
        assert_eq!(expanded(IpSetKind::Net, [all("0.0.0.0/0")]), [all("0.0.0.0/1"), all("128.0.0.0/1")]);
        assert_eq!(expanded(IpSetKind::Net, [all("::/0")]), [all("::/1"), all("8000::/1")]);
    }

    #[test]
    fn a_set_is_ours_by_its_name() {
        assert!(is_ours(Family::V4, "cali40s:x") && is_ours(Family::V4, "cali4t12"));
        assert!(
            !is_ours(Family::V6, "cali40s:x")
                && !is_ours(Family::V4, "cali4tx")
                && !is_ours(Family::V4, "cali")
        );
    }
}
