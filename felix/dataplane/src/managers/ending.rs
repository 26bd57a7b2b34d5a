//! Endings that workloads share: each stands while someone goes there.
//!
//! In: how each interface's chains end. Out: chains that came, and that nobody goes to any more.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::render::endpoint::Ending;

/// Endings of all workloads.
#[derive(Debug, Default)]
pub struct Endings {
    uses: HashMap<Arc<Ending>, Use>,
    by_interface: HashMap<Arc<str>, [Option<Arc<Ending>>; 2]>,
    /// Those that came first or went last, since it was asked; whether they were there then.
    touched: BTreeMap<Arc<str>, (Arc<Ending>, bool)>,
}

#[derive(Debug)]
struct Use {
    chain: Arc<str>,
    count: usize,
}

/// What has to be done.
#[derive(Debug, Default)]
pub struct Changes {
    pub define: Vec<(Arc<str>, Arc<Ending>)>,
    pub remove: Vec<Arc<str>>,
}

impl Endings {
    /// Chains of an interface, to it and from it, end so; `None`: they have no ending of that kind. Returns the endings'
    /// chains.
    pub fn set(&mut self, interface: &Arc<str>, endings: [Option<Ending>; 2]) -> [Option<Arc<str>>; 2] {
        let new = endings.map(|e| e.map(|e| self.enter(e)));
        let chains = new.each_ref().map(|e| self.uses.get(e.as_ref()?).map(|u| u.chain.clone()));
        let old = if new == [None, None] {
            self.by_interface.remove(interface)
        } else {
            self.by_interface.insert(interface.clone(), new)
        };
        for ending in old.into_iter().flatten().flatten() {
            self.leave(&ending);
        }
        chains
    }

    fn enter(&mut self, ending: Ending) -> Arc<Ending> {
        let known = self.uses.get_key_value(&ending).map(|(known, _)| known.clone());
        let ending = known.unwrap_or_else(|| Arc::new(ending));
        let used = self.uses.entry(ending.clone());
        let used = used.or_insert_with(|| Use { chain: ending.chain_name().into(), count: 0 });
        used.count += 1;
        if used.count == 1 {
            let chain = used.chain.clone();
            self.touch(chain, &ending, false);
        }
        ending
    }

    fn leave(&mut self, ending: &Arc<Ending>) {
        let Some(used) = self.uses.get_mut(ending) else { return };
        used.count -= 1;
        if used.count == 0 {
            let chain = used.chain.clone();
            self.uses.remove(ending);
            self.touch(chain, ending, true);
        }
    }

    fn touch(&mut self, chain: Arc<str>, ending: &Arc<Ending>, was: bool) {
        self.touched.entry(chain).or_insert_with(|| (ending.clone(), was));
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
