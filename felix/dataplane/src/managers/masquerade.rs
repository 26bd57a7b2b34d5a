//! Pools: their sets, and the masquerading of what leaves them.

use std::collections::BTreeMap;
use std::sync::Arc;

use felix_message::{IpPool, IpSetKind, IpSetMember, Message};
use ipnet::IpNet;

use super::{Manager, Outputs};
use crate::config::Config;
use crate::render::base::{self, ALL_POOLS, MASQUERADE_POOLS};
use crate::rule::{ChainId, Family, Table};

pub struct MasqueradeManager {
    config: Arc<Config>,
    pools: BTreeMap<IpNet, IpPool>,
    dirty: bool,
}

impl MasqueradeManager {
    pub fn new(config: Arc<Config>) -> Self {
        Self { config, pools: BTreeMap::new(), dirty: true }
    }
}

impl Manager for MasqueradeManager {
    fn on_message(&mut self, message: &Message, _out: &mut Outputs) {
        match message {
            Message::PoolUpdate(net, pool) => {
                self.pools.insert(*net, pool.clone());
                self.dirty = true;
            }
            Message::PoolRemove(net) => self.dirty |= self.pools.remove(net).is_some(),
            _ => {}
        }
    }

    fn resolve(&mut self, out: &mut Outputs) {
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        for family in self.config.families() {
            let own = || self.pools.iter().filter(|(net, _)| Family::of_net(net) == *family);
            let masquerade = || own().filter(|(_, p)| p.masquerade).map(|(n, _)| IpSetMember::Net(*n));
            let chain = base::nat_outgoing(*family, &self.config, masquerade().next().is_some());
            let tables = out.tables.family(*family);
            let inside = own().filter(|(_, p)| !p.load_balancer_only).map(|(n, _)| IpSetMember::Net(*n));
            tables.set_set(&ALL_POOLS, IpSetKind::Net, inside);
            tables.set_set(&MASQUERADE_POOLS, IpSetKind::Net, masquerade());
            tables.set_chain(ChainId::new(Table::Nat, "cali-nat-outgoing"), Arc::new(chain));
        }
    }
}
