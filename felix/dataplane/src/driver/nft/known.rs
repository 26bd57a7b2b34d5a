//! What is believed to stand in one family's table.
//!
//! Always holds: the counts are those of the chains and sets that are there; they are kept up, not counted again after
//! each change.

use std::collections::HashMap;
use std::sync::Arc;

use super::plan;
use super::uses::Uses;
use crate::driver::{Counts, Size};
use crate::kernel::nft::batch::Tag;
use crate::kernel::nft::{SetType, list};
use crate::rule::{Family, Table};

/// See the module's text.
#[derive(Clone, Debug)]
pub struct Known {
    /// Names begin with their table's.
    chains: HashMap<Arc<str>, KnownChain>,
    /// `None`: a type that we never make.
    sets: HashMap<Arc<str>, Option<SetType>>,
    pub(super) maps: HashMap<Arc<str>, HashMap<Arc<str>, String>>,
    pub(super) uses: Uses,
    tables: [(Table, Size); 4],
    lists: usize,
}

#[derive(Clone, Debug, Default)]
pub struct KnownChain {
    pub(super) hook: Option<(u32, i32)>,
    /// `None`: a rule that is not ours.
    pub(super) tags: Vec<Option<Tag>>,
    /// Known after a read-back, until the chain is written.
    pub(super) handles: Option<Vec<u64>>,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            chains: HashMap::new(),
            sets: HashMap::new(),
            maps: HashMap::new(),
            uses: Uses::default(),
            tables: Counts::default().tables,
            lists: 0,
        }
    }
}

impl Known {
    pub(super) fn chains(&self) -> &HashMap<Arc<str>, KnownChain> {
        &self.chains
    }

    pub(super) fn sets(&self) -> &HashMap<Arc<str>, Option<SetType>> {
        &self.sets
    }

    /// `None`: it is gone.
    pub(super) fn set_chain(&mut self, name: Arc<str>, chain: Option<KnownChain>) {
        let table = plan::parts(&name).map(|(table, _)| table);
        let new = chain.as_ref().map(|c| c.tags.len());
        let old = match chain {
            Some(c) => self.chains.insert(name, c),
            None => self.chains.remove(&name),
        };
        let Some(table) = table else { return };
        let (_, size) = &mut self.tables[table.index()];
        size.chains = size.chains + usize::from(new.is_some()) - usize::from(old.is_some());
        size.rules = size.rules + new.unwrap_or(0) - old.map_or(0, |c| c.tags.len());
    }

    /// `None`: it is gone.
    pub(super) fn set_set(&mut self, name: Arc<str>, kind: Option<Option<SetType>>) {
        let is_list = Family::BOTH.iter().any(|f| list::is_list(&name, *f));
        let come = kind.is_some();
        let old = match kind {
            Some(kind) => self.sets.insert(name, kind),
            None => self.sets.remove(&name),
        };
        if is_list {
            self.lists = self.lists + usize::from(come) - usize::from(old.is_some());
        }
    }

    pub(super) fn counts(&self) -> Counts {
        let (maps, lists) = (self.maps.len(), self.lists);
        Counts { maps, lists, sets: self.sets.len().saturating_sub(maps + lists), tables: self.tables }
    }
}
