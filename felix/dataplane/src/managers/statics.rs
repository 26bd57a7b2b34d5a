//! The fixed chains; they change with the use of IPIP and with the networks of services alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use felix_message::Message;
use ipnet::IpNet;

use super::{Manager, Outputs};
use crate::config::Config;
use crate::render::base;
use crate::rule::{ChainId, Table};

pub struct StaticManager {
    config: Arc<Config>,
    ipip: bool,
    /// Networks of services that BGP tells other routers of.
    services: BTreeSet<IpNet>,
    dirty: bool,
}

impl StaticManager {
    pub fn new(config: Arc<Config>) -> Self {
        Self { ipip: false, services: BTreeSet::new(), dirty: true, config }
    }
}

impl Manager for StaticManager {
    fn on_message(&mut self, message: &Message, _out: &mut Outputs) {
        match message {
            Message::EncapsulationUpdate(e) => {
                self.dirty |= self.ipip != e.ipip;
                self.ipip = e.ipip;
            }
            Message::GlobalBgpConfigUpdate(c) => {
                let all =
                    [&c.service_cluster_cidrs, &c.service_external_cidrs, &c.service_loadbalancer_cidrs];
                let services = all.into_iter().flatten().map(IpNet::trunc).collect();
                self.dirty |= self.services != services;
                self.services = services;
            }
            _ => {}
        }
    }

    fn resolve(&mut self, out: &mut Outputs) {
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        let ipip = self.config.ipip_enabled.unwrap_or(self.ipip);
        for family in self.config.families() {
            let tables = out.tables.family(*family);
            for map in ["cali-from-wl-dispatch", "cali-to-wl-dispatch"] {
                tables.add_map(&ChainId::new(Table::Filter, map));
            }
            let chains = base::base_chains(&self.config).into_iter().chain(base::static_chains(
                *family,
                &self.config,
                ipip,
            ));
            for (id, chain) in chains {
                tables.set_chain(id, Arc::new(chain));
            }
            let block = base::service_loop_prevention(*family, &self.config, &self.services);
            tables.set_chain(ChainId::new(Table::Filter, "cali-cidr-block"), Arc::new(block));
        }
    }
}
