//! Floating addresses: translation between a workload's own and its external addresses.
//!
//! Always holds: an external address leads to one internal address, the smallest of those that claim it; a workload
//! reaches itself from the smallest of its external ones. OpenStack's workloads have them even where the feature is off,
//! as upstream's do.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use felix_message::Message;
use libcalico_model::key::WorkloadEndpointKey;

use super::{Manager, Outputs};
use crate::config::Config;
use crate::render::base;
use crate::rule::{ChainId, Family, Table};

pub struct FloatingIpManager {
    config: Arc<Config>,
    /// Internal and external address.
    pairs: BTreeMap<WorkloadEndpointKey, Vec<(IpAddr, IpAddr)>>,
    dirty: bool,
}

/// True where the workload's translations are programmed.
pub fn has_floating(key: &WorkloadEndpointKey, config: &Config) -> bool {
    config.floating_ips || key.orchestrator == "openstack"
}

impl FloatingIpManager {
    pub fn new(config: Arc<Config>) -> Self {
        Self { config, pairs: BTreeMap::new(), dirty: true }
    }
}

impl Manager for FloatingIpManager {
    fn on_message(&mut self, message: &Message, _out: &mut Outputs) {
        match message {
            Message::WorkloadEndpointUpdate(key, e)
                if !e.nat.is_empty() && has_floating(key, &self.config) =>
            {
                self.pairs.insert(key.clone(), e.nat.clone());
                self.dirty = true;
            }
            Message::WorkloadEndpointUpdate(key, _) | Message::WorkloadEndpointRemove(key) => {
                self.dirty |= self.pairs.remove(key).is_some();
            }
            _ => {}
        }
    }

    fn resolve(&mut self, out: &mut Outputs) {
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        let pairs: BTreeSet<(IpAddr, IpAddr)> = self.pairs.values().flatten().copied().collect();
        for family in self.config.families() {
            let own = || pairs.iter().filter(|(i, e)| [i, e].iter().all(|a| Family::of(a) == *family));
            let (mut dnat, mut snat) = (BTreeMap::new(), BTreeMap::new());
            // Sorted by internal address: the first that claims an external one has it.
            for (internal, external) in own() {
                dnat.entry(*external).or_insert(*internal);
            }
            for (external, internal) in &dnat {
                snat.entry(*internal).or_insert(*external);
            }
            let chains = base::floating(&dnat, &snat);
            for (name, chain) in ["cali-fip-dnat", "cali-fip-snat"].into_iter().zip(chains) {
                out.tables.family(*family).set_chain(ChainId::new(Table::Nat, name), Arc::new(chain));
            }
        }
    }
}
