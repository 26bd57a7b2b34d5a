//! Endings that workloads share: each stands while someone goes there.
//!
//! In: how each interface's chains end. Out: chains that came, and that nobody goes to any more.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::render::endpoint::Ending;

/// Endings of all workloads.
#[derive(Debug, Default)]
pub struct Endings {
    uses: HashMap<Arc<Ending>, usize>,
    by_interface: HashMap<Arc<str>, [Option<Arc<Ending>>; 2]>,
    /// Those that came first or went last, since it was asked; whether they were there then.
    touched: BTreeMap<Arc<str>, (Arc<Ending>, bool)>,
}

/// What has to be done.
#[derive(Debug, Default)]
pub struct Changes {
    pub define: Vec<(Arc<str>, Arc<Ending>)>,
    pub remove: Vec<Arc<str>>,
}

impl Endings {
    /// Chains of an interface, to it and from it, end so; `None`: they have no ending of that kind.
    pub fn set(&mut self, interface: &Arc<str>, endings: [Option<Ending>; 2]) {
        let new = endings.map(|e| e.map(|e| self.enter(e)));
        let old = if new == [None, None] {
            self.by_interface.remove(interface)
        } else {
            self.by_interface.insert(interface.clone(), new)
        };
        for ending in old.into_iter().flatten().flatten() {
            self.leave(&ending);
        }
    }

    fn enter(&mut self, ending: Ending) -> Arc<Ending> {
        if let Some((known, _)) = self.uses.get_key_value(&ending) {
            let known = known.clone();
            self.uses.entry(known.clone()).and_modify(|n| *n += 1);
            return known;
        }
        let ending = Arc::new(ending);
        self.uses.insert(ending.clone(), 1);
        self.touch(&ending, false);
        ending
    }

    fn leave(&mut self, ending: &Arc<Ending>) {
        let Some(uses) = self.uses.get_mut(ending) else { return };
        *uses -= 1;
        if *uses == 0 {
            self.uses.remove(ending);
            self.touch(ending, true);
        }
    }

    fn touch(&mut self, ending: &Arc<Ending>, was: bool) {
        self.touched.entry(ending.chain_name().into()).or_insert_with(|| (ending.clone(), was));
    }

    /// What changed since it was asked.
    pub fn resolve(&mut self) -> Changes {
        let mut out = Changes::default();
        for (name, (ending, was)) in std::mem::take(&mut self.touched) {
            match (was, self.uses.contains_key(&ending)) {
                (false, true) => out.define.push((name, ending)),
                (true, false) => out.remove.push(name),
                _ => {}
            }
        }
        out
    }
}
