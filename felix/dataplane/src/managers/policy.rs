//! Policies and profiles: their chains in the tables where they may be used.
//!
//! A chain that no endpoint enters stays out of the kernel ([`crate::driver::desired`] counts).

use std::sync::Arc;

use felix_message::{ActivePolicy, ActiveProfile, Message, Rule};

use super::{Manager, Outputs};
use crate::config::Config;
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

    fn set(&self, out: &mut Outputs, tables: &[Table], name: &str, rules: &[Rule]) {
        let name: Arc<str> = name.into();
        for family in self.config.families() {
            let chain = Arc::new(policy::chain(rules, *family, &self.config));
            for table in tables {
                out.tables.family(*family).set_chain(ChainId::new(*table, name.clone()), chain.clone());
            }
        }
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
        use Direction::{Egress, Ingress};
        match message {
            Message::PolicyUpdate(key, p) if !key.kind.staged() => {
                for (direction, rules) in [(Ingress, &p.inbound), (Egress, &p.outbound)] {
                    let name = names::policy_chain(direction, key);
                    let wanted = tables(p, direction);
                    let others: Vec<Table> = ALL.into_iter().filter(|t| !wanted.contains(t)).collect();
                    self.remove(out, &others, &name);
                    self.set(out, wanted, &name, rules);
                }
            }
            Message::PolicyRemove(key) => {
                for direction in [Ingress, Egress] {
                    self.remove(out, &ALL, &names::policy_chain(direction, key));
                }
            }
            Message::ProfileUpdate(name, p) => self.profile(out, name, p),
            Message::ProfileRemove(name) => {
                for direction in [Ingress, Egress] {
                    self.remove(out, &PROFILE_TABLES, &names::profile_chain(direction, name));
                }
            }
            _ => {}
        }
    }
}

impl PolicyManager {
    fn profile(&self, out: &mut Outputs, name: &str, p: &ActiveProfile) {
        for (direction, rules) in [(Direction::Ingress, &p.inbound), (Direction::Egress, &p.outbound)] {
            self.set(out, &PROFILE_TABLES, &names::profile_chain(direction, name), rules);
        }
    }
}
