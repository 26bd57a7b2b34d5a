//! Policies by number, with what lists of them need: their selector and the names of their chains.
//!
//! In: policies as they come and go, and the keys that endpoints list. Out: a small number for each, which lists are
//! made of: they are compared and hashed as numbers, not as names. Always holds: a number stands for one policy while the
//! policy is there or a list has it.

use std::sync::Arc;

use felix_message::{Action, ActivePolicy, Rule};
use hashbrown::HashMap;
use libcalico_model::key::PolicyKey;

use super::slab::Slab;
use crate::render::names::{self, Direction};

/// A policy's number.
pub type Number = u32;

#[derive(Debug)]
struct Entry {
    key: PolicyKey,
    /// Whom it is for; `None`: the policy itself is not there.
    selector: Option<Arc<str>>,
    /// Whether a rule may pass a packet on to the next tier: to workloads, from workloads.
    passes: [bool; 2],
    /// To workloads, from workloads.
    chains: [Arc<str>; 2],
    /// How many lists have it.
    uses: u32,
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct PolicyNumbers {
    by_key: HashMap<PolicyKey, Number>,
    all: Slab<Entry>,
}

impl PolicyNumbers {
    /// The number of a policy. It has to be [`used`](Self::used), or the policy be there, to last.
    pub fn number(&mut self, key: &PolicyKey) -> Number {
        if let Some(n) = self.by_key.get(key) {
            return *n;
        }
        let chain = |direction| Arc::from(names::policy_chain(direction, key));
        let chains = [chain(Direction::Ingress), chain(Direction::Egress)];
        let number =
            self.all.add(Entry { key: key.clone(), selector: None, passes: [true; 2], chains, uses: 0 });
        self.by_key.insert(key.clone(), number);
        number
    }

    /// A policy came or changed, or (`None`) went. Returns its number where lists that have it now mean something else.
    pub fn set(&mut self, key: &PolicyKey, policy: Option<&ActivePolicy>) -> Option<Number> {
        let selector = policy.map(|p| Arc::<str>::from(format!("{}/{}", key.namespace, p.original_selector)));
        if selector.is_none() && !self.by_key.contains_key(key) {
            return None;
        }
        let number = self.number(key);
        let entry = self.all.get_mut(number)?;
        let pass = |rules: &[Rule]| rules.iter().any(|r| r.action == Action::Pass);
        let passes = policy.map_or([true; 2], |p| [pass(&p.inbound), pass(&p.outbound)]);
        let changed = entry.selector != selector || entry.passes != passes;
        if changed {
            entry.selector = selector;
            entry.passes = passes;
        }
        let used = entry.uses > 0;
        self.forget_unused(number);
        (changed && used).then_some(number)
    }

    /// A list came that has the policy.
    pub fn used(&mut self, number: Number) {
        if let Some(entry) = self.all.get_mut(number) {
            entry.uses += 1;
        }
    }

    /// Such a list went.
    pub fn unused(&mut self, number: Number) {
        if let Some(entry) = self.all.get_mut(number) {
            entry.uses = entry.uses.saturating_sub(1);
        }
        self.forget_unused(number);
    }

    fn forget_unused(&mut self, number: Number) {
        let unused = self.all.get(number).is_some_and(|e| e.uses == 0 && e.selector.is_none());
        if let Some(entry) = unused.then(|| self.all.take(number)).flatten() {
            self.by_key.remove(&entry.key);
        }
    }

    /// Whom a policy is for. Nobody knows of one that is not there.
    pub fn selector(&self, number: Number) -> Option<&Arc<str>> {
        self.all.get(number)?.selector.as_ref()
    }

    /// True where a policy may pass a packet on. One that is not there may do anything.
    pub fn passes(&self, number: Number, direction: Direction) -> bool {
        self.all.get(number).is_none_or(|e| e.passes[direction.index()])
    }

    /// The chain of a policy.
    pub fn chain(&self, number: Number, direction: Direction) -> Option<&Arc<str>> {
        Some(&self.all.get(number)?.chains[direction.index()])
    }
}

#[cfg(test)]
mod tests {
    use libcalico_model::PolicyKind;

    use super::*;

    fn key(name: &str) -> PolicyKey {
        PolicyKey { kind: PolicyKind::GlobalNetworkPolicy, namespace: String::new(), name: name.to_owned() }
    }

    #[test]
    fn a_number_lasts_while_the_policy_or_a_list_is_there() {
        let mut all = PolicyNumbers::default();
        let policy = ActivePolicy { original_selector: "all()".to_owned(), ..ActivePolicy::default() };
        assert_eq!(all.set(&key("a"), Some(&policy)), None, "no list has it");
        let a = all.number(&key("a"));
        all.used(a);
        assert_eq!(all.set(&key("a"), None), Some(a));
        assert_eq!((all.number(&key("a")), all.selector(a)), (a, None));
        all.unused(a);
        assert!(all.by_key.is_empty());
        assert_eq!(all.number(&key("b")), a, "numbers are used again");
    }
}
