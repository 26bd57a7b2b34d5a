//! Policies and profiles: their chains in the tables where they may be used.
//!
//! A chain that no endpoint enters stays out of the kernel ([`crate::driver::desired`] counts).

use std::sync::Arc;

use felix_message::{ActivePolicy, ActiveProfile, Message};

use super::{Manager, Outputs};
use crate::config::Config;
use crate::counters::Source;
use crate::render::identity::Owner;
use crate::render::names::{self, Direction};
use crate::render::policy;
use crate::rule::{ChainId, Table};

pub struct PolicyManager {
    config: Arc<Config>,
}

impl PolicyManager {
    pub fn new(config: Arc<Config>) -> Self {
        Self { config }
    }

    fn set(
        &self,
        out: &mut Outputs,
        tables: &[Table],
        name: &str,
        (owner, direction): (&Owner, Direction),
        source: Source,
    ) {
        let name: Arc<str> = name.into();
        let mut chains = [None, None];
        for family in self.config.families() {
            let rules = source.rules(direction);
            let chain = Arc::new(policy::chain(rules, *family, &self.config, (owner, direction)));
            for table in tables {
                out.tables.family(*family).set_chain(ChainId::new(*table, name.clone()), chain.clone());
            }
            chains[family.index()] = Some(chain);
        }
        out.counted.set(&name, owner, direction, source, chains);
    }

    fn remove(&self, out: &mut Outputs, tables: &[Table], name: &str) {
        let name: Arc<str> = name.into();
        for family in self.config.families() {
            for table in tables {
                out.tables.family(*family).remove_chain(&ChainId::new(*table, name.clone()));
            }
        }
    }
}

/// Where traffic in a direction meets policy: host endpoints judge translated egress and ingress before translation in
/// mangle, and what is not tracked in raw.
const ALL: [Table; 3] = [Table::Filter, Table::Mangle, Table::Raw];
const PROFILE_TABLES: [Table; 2] = [Table::Filter, Table::Mangle];

fn tables(policy: &ActivePolicy, direction: Direction) -> &'static [Table] {
    match (policy.untracked, policy.pre_dnat, direction) {
        (true, ..) => &[Table::Raw],
        (false, true, _) => &[Table::Mangle],
        (false, false, Direction::Ingress) => &[Table::Filter],
        (false, false, Direction::Egress) => &[Table::Filter, Table::Mangle],
    }
}

impl Manager for PolicyManager {
    fn on_message(&mut self, message: &Message, out: &mut Outputs) {
        match message {
            Message::PolicyUpdate(key, p) if !key.kind.staged() => {
                let owner = Owner::Policy { key: key.clone(), tier: p.tier.as_str().into() };
                for direction in Direction::BOTH {
                    let name = names::policy_chain(direction, key);
                    let wanted = tables(p, direction);
                    let others: Vec<Table> = ALL.into_iter().filter(|t| !wanted.contains(t)).collect();
                    self.remove(out, &others, &name);
                    self.set(out, wanted, &name, (&owner, direction), Source::Policy(p.clone()));
                }
            }
            Message::PolicyRemove(key) => {
                for direction in Direction::BOTH {
                    let name = names::policy_chain(direction, key);
                    self.remove(out, &ALL, &name);
                    out.counted.remove(&name);
                }
            }
            Message::ProfileUpdate(name, p) => self.profile(out, name, p),
            Message::ProfileRemove(name) => {
                for direction in Direction::BOTH {
                    let name = names::profile_chain(direction, name);
                    self.remove(out, &PROFILE_TABLES, &name);
                    out.counted.remove(&name);
                }
            }
            _ => {}
        }
    }
}

impl PolicyManager {
    fn profile(&self, out: &mut Outputs, name: &str, p: &Arc<ActiveProfile>) {
        let owner = Owner::Profile(name.into());
        for direction in Direction::BOTH {
            let chain = names::profile_chain(direction, name);
            self.set(out, &PROFILE_TABLES, &chain, (&owner, direction), Source::Profile(p.clone()));
        }
    }
}
