//! The fixed chains; they change with the use of IPIP and of IPVS, and with the networks of services alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use felix_message::Message;
use ipnet::IpNet;

use super::{Manager, Outputs};
use crate::config::Config;
use crate::interfaces::Interfaces;
use crate::render::base::{self, InUse};
use crate::rule::{ChainId, Table};

/// kube-proxy makes it where it uses IPVS, with the addresses of all Services.
const IPVS_INTERFACE: &str = "kube-ipvs0";

pub struct StaticManager {
    config: Arc<Config>,
    used: InUse,
    /// Networks of services that BGP tells other routers of.
    services: BTreeSet<IpNet>,
    dirty: bool,
}

impl StaticManager {
    pub fn new(config: Arc<Config>) -> Self {
        Self { used: InUse::default(), services: BTreeSet::new(), dirty: true, config }
    }
}

impl Manager for StaticManager {
    fn on_message(&mut self, message: &Message, _out: &mut Outputs) {
        match message {
            Message::EncapsulationUpdate(e) => {
                self.dirty |= self.used.ipip != e.ipip;
                self.used.ipip = e.ipip;
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

    fn on_interfaces(&mut self, interfaces: &Interfaces) {
        let ipvs = interfaces.by_name(IPVS_INTERFACE).is_some();
        if ipvs == self.used.ipvs {
            return;
        }
        if ipvs {
            tracing::error!(
                interface = IPVS_INTERFACE,
                "kube-proxy uses IPVS, with which pods' egress policy cannot be enforced: their connections to Services \
                 are denied; run kube-proxy with mode nftables or iptables, and delete this interface"
            );
        } else {
            tracing::info!(interface = IPVS_INTERFACE, "kube-proxy does not use IPVS any more");
        }
        self.used.ipvs = ipvs;
        self.dirty = true;
    }

    fn resolve(&mut self, out: &mut Outputs) {
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        let used = InUse { ipip: self.config.ipip_enabled.unwrap_or(self.used.ipip), ..self.used };
        for family in self.config.families() {
            let tables = out.tables.family(*family);
            for map in ["cali-from-wl-dispatch", "cali-to-wl-dispatch"] {
                tables.add_map(&ChainId::new(Table::Filter, map));
            }
            let chains = base::base_chains(&self.config).into_iter().chain(base::static_chains(
                *family,
                &self.config,
                used,
            ));
            for (id, chain) in chains {
                tables.set_chain(id, Arc::new(chain));
            }
            let block = base::service_loop_prevention(*family, &self.config, &self.services);
            tables.set_chain(ChainId::new(Table::Filter, "cali-cidr-block"), Arc::new(block));
        }
    }
}
