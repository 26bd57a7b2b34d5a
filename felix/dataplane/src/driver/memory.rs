//! A table driver without a kernel: the twin of the others for pure tests.
//!
//! In: [`Desired`]. Out: tables in memory, as text. Always holds: like the others it writes what changed alone, so that a
//! test sees whether changes are told completely; [`Memory::refuse`] makes the next apply fail with nothing changed.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use felix_message::IpSetMember;

use super::desired::{Desired, DesiredTables};
use super::{Counts, TableDriver, TableError, Written};
use crate::config::Config;
use crate::render::{names, text};
use crate::rule::{ChainId, Family};

/// One family's tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Rules as `nft` lists them.
    pub chains: BTreeMap<ChainId, Vec<String>>,
    pub sets: BTreeMap<String, BTreeSet<IpSetMember>>,
    pub maps: BTreeMap<ChainId, BTreeMap<Arc<str>, Arc<str>>>,
}

/// The driver.
#[derive(Debug)]
pub struct Memory {
    config: Arc<Config>,
    pub tables: [Tables; 2],
    /// Why the next apply fails.
    pub refuse: Option<String>,
    /// Someone else changed something.
    pub touched: bool,
    resync: bool,
}

impl Memory {
    /// Empty tables.
    #[must_use]
    pub fn new(config: Arc<Config>) -> Self {
        Self { config, tables: Default::default(), refuse: None, touched: false, resync: true }
    }

    /// Programs one family; returns operations.
    fn family(&mut self, family: Family, desired: &DesiredTables) -> usize {
        let everything = self.resync;
        let changes = desired.changes();
        let tables = &mut self.tables[family.index()];
        if everything {
            *tables = Tables::default();
        }
        let mut operations = 0;
        let sets: BTreeSet<_> = if everything {
            desired.sets().keys().cloned().collect()
        } else {
            changes.sets.iter().cloned().collect()
        };
        for name in &sets {
            let text = names::set(family, name);
            operations += 1;
            match desired.sets().get(name) {
                Some(s) => tables.sets.insert(text, s.effective().into_iter().collect()),
                None => tables.sets.remove(&text),
            };
        }
        for (name, delta) in changes.members.iter().filter(|(n, _)| !sets.contains(*n)) {
            let set = tables.sets.entry(names::set(family, name)).or_default();
            for (member, add) in delta {
                operations += 1;
                if *add {
                    set.insert(*member)
                } else {
                    set.remove(member)
                };
            }
        }
        let chains = if everything { desired.all_chains() } else { changes.chains.clone() };
        for id in chains {
            operations += 1;
            match desired.programmed(&id, &self.config) {
                Some(chain) => {
                    let rules = text::rules(&chain.rules, id.table, family, &self.config.marks);
                    tables.chains.insert(id, rules)
                }
                None => tables.chains.remove(&id),
            };
        }
        let maps: Vec<ChainId> = if everything {
            desired.maps().keys().cloned().collect()
        } else {
            changes.maps.keys().cloned().collect()
        };
        for id in maps {
            operations += 1;
            tables.maps.insert(id.clone(), desired.maps().get(&id).cloned().unwrap_or_default());
        }
        operations
    }
}

impl TableDriver for Memory {
    fn apply(&mut self, desired: &mut Desired) -> Result<Written, TableError> {
        if let Some(reason) = self.refuse.take() {
            self.resync = true;
            return Err(TableError(reason));
        }
        let resynced = self.resync;
        let mut operations = 0;
        for family in self.config.families() {
            operations += self.family(*family, &desired.families[family.index()]);
        }
        self.resync = false;
        for t in &mut desired.families {
            t.changes_done();
        }
        Ok(Written { operations, resynced, ..Written::default() })
    }

    fn resync(&mut self) {
        self.resync = true;
    }

    fn counts(&self) -> [Counts; 2] {
        Family::BOTH.map(|f| {
            let t = &self.tables[f.index()];
            let mut out = Counts { sets: t.sets.len(), maps: t.maps.len(), ..Counts::default() };
            t.chains.iter().for_each(|(id, rules)| out.chain(id.table, rules.len()));
            out
        })
    }

    fn dump(&mut self, _: &Desired) -> String {
        format!("{:#?}\n", self.tables)
    }

    fn monitor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn drifted(&mut self) -> bool {
        std::mem::take(&mut self.touched)
    }

    fn remove(&mut self) -> Result<bool, TableError> {
        self.tables = Default::default();
        self.resync = true;
        Ok(true)
    }
}
