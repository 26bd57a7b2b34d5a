//! Which chains use which lists: a list's set goes with the last rule that looks into it.
//!
//! In: the lists of each chain that is written. Out: lists that nobody uses any more.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Lists of all chains that have some.
#[derive(Clone, Debug, Default)]
pub struct Uses {
    by_chain: HashMap<Arc<str>, Vec<Arc<str>>>,
    /// How many rules look into each list.
    counts: HashMap<Arc<str>, usize>,
}

impl Uses {
    /// A chain has these lists now, once for each rule that looks into one.
    pub fn set(&mut self, chain: &Arc<str>, lists: Vec<Arc<str>>) {
        for list in &lists {
            *self.counts.entry(list.clone()).or_default() += 1;
        }
        let old = if lists.is_empty() {
            self.by_chain.remove(chain)
        } else {
            self.by_chain.insert(chain.clone(), lists)
        };
        for list in old.into_iter().flatten() {
            if let Some(n) = self.counts.get_mut(&list) {
                *n -= 1;
                if *n == 0 {
                    self.counts.remove(&list);
                }
            }
        }
    }

    /// Lists that nobody uses once the chains have changed so.
    #[must_use]
    pub fn unused_after(&self, changes: &[(Arc<str>, Vec<Arc<str>>)]) -> BTreeSet<Arc<str>> {
        let mut left: HashMap<&Arc<str>, usize> = HashMap::new();
        for list in changes.iter().filter_map(|(chain, _)| self.by_chain.get(chain)).flatten() {
            *left.entry(list).or_insert_with(|| self.counts.get(list).copied().unwrap_or_default()) -= 1;
        }
        let kept: BTreeSet<&Arc<str>> = changes.iter().flat_map(|(_, lists)| lists).collect();
        left.into_iter().filter(|(list, n)| *n == 0 && !kept.contains(list)).map(|(l, _)| l.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// What is said to be unused after a change is exactly what nobody has then.
        #[test]
        fn a_list_goes_with_its_last_rule(steps in prop::collection::vec(
            prop::collection::btree_map(0_u8..4, prop::collection::vec(0_u8..5, 0..4), 1..3), 0..12)) {
            let text = |n: u8| -> Arc<str> { n.to_string().into() };
            let mut uses = Uses::default();
            let mut kernel: BTreeSet<Arc<str>> = BTreeSet::new();
            for step in steps {
                let changes: Vec<(Arc<str>, Vec<Arc<str>>)> =
                    step.into_iter().map(|(c, lists)| (text(c), lists.into_iter().map(text).collect())).collect();
                kernel.extend(changes.iter().flat_map(|(_, lists)| lists.clone()));
                for gone in uses.unused_after(&changes) {
                    prop_assert!(kernel.remove(&gone));
                }
                changes.into_iter().for_each(|(chain, lists)| uses.set(&chain, lists));
                let used: BTreeSet<Arc<str>> = uses.by_chain.values().flatten().cloned().collect();
                prop_assert_eq!(&used, &kernel);
                prop_assert_eq!(uses.counts.len(), used.len());
            }
        }
    }
}
