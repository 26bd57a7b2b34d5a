//! The fixed chains; they change with the use of IPIP alone.

use std::sync::Arc;

use felix_message::Message;

use super::{Manager, Outputs};
use crate::config::Config;
use crate::render::base;
use crate::rule::{ChainId, Table};

pub struct StaticManager {
    config: Arc<Config>,
    ipip: bool,
    dirty: bool,
}

impl StaticManager {
    pub fn new(config: Arc<Config>) -> Self {
        Self { ipip: false, dirty: true, config }
    }
}

impl Manager for StaticManager {
    fn on_message(&mut self, message: &Message, _out: &mut Outputs) {
        if let Message::EncapsulationUpdate(e) = message {
            self.dirty |= self.ipip != e.ipip;
            self.ipip = e.ipip;
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
        }
    }
}
