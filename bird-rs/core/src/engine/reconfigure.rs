//! From the running configuration to a new one, touching only what differs.

use std::sync::Arc;

use bird_wire::cease;

use super::{Engine, Kind, State};
use crate::config::{ChannelConfig, Config, ProtocolConfig, ProtocolKind};
use crate::protocol::{Bgp, Kernel, session_config};
use crate::rib::{ProtoId, Table};
use crate::session::Session;

impl Engine {
    /// Takes the first configuration: makes all instances, starts none.
    pub(crate) fn adopt(&mut self, config: Config) {
        self.make_tables(&config);
        for proto in &config.protocols {
            let id = self.make_instance(proto);
            self.order.push(id);
        }
        self.config = config;
    }

    fn make_tables(&mut self, config: &Config) {
        // A table that is no longer configured stays until no channel needs it; an empty one costs nothing.
        for table in &config.tables {
            if self.table_index(&table.name).is_none() {
                self.tables.push(Table::new(table.name.clone(), table.family));
            }
        }
    }

    pub(crate) fn make_kind(&self, id: ProtoId, config: &ProtocolConfig) -> Kind {
        match &config.kind {
            ProtocolKind::Device(c) => Kind::Device(c.clone()),
            ProtocolKind::Direct(c) => Kind::Direct(c.clone()),
            ProtocolKind::Static(c) => Kind::Static(c.clone()),
            ProtocolKind::Kernel(c) => {
                let ipv6 = config.channels.first().is_some_and(|c| c.family == bird_wire::Family::Ipv6);
                Kind::Kernel(Box::new(Kernel::new(c.clone(), ipv6)))
            }
            ProtocolKind::Bgp(_) => {
                let router_id = config.router_id.unwrap_or(self.router_id);
                let session = Session::new(Arc::new(session_config(config, router_id)));
                Kind::Bgp(Box::new(Bgp::new(id, &config.name, session)))
            }
        }
    }

    /// Takes a new configuration. `soft`: changed filters apply to routes that come from now on.
    pub(crate) fn reconfigure(&mut self, new: Config, soft: bool) {
        tracing::info!("reconfiguring");
        self.configured = self.now;
        self.make_tables(&new);
        if let Some(id) = new.router_id {
            self.router_id = id;
        }
        let gone: Vec<ProtoId> = self
            .instances
            .values()
            .filter(|i| !new.protocols.iter().any(|p| same_protocol(p, &i.config)))
            .map(|i| i.id)
            .collect();
        for id in gone {
            tracing::info!(protocol = %self.name(id), "removed");
            self.stop_instance(id, Some(cease::DECONFIGURED));
            self.instances.remove(&id);
        }
        let mut order = Vec::new();
        let mut fresh = Vec::new();
        for config in &new.protocols {
            let known = self.instances.values().find(|i| i.config.name == config.name).map(|i| i.id);
            let id = match known {
                Some(id) => {
                    self.reconfigure_instance(id, config, soft);
                    id
                }
                None => {
                    let id = self.make_instance(config);
                    fresh.push(id);
                    id
                }
            };
            order.push(id);
        }
        self.order = order;
        self.config = new;
        for id in fresh {
            tracing::info!(protocol = %self.name(id), "added");
            self.start_instance(id);
        }
        self.update_listeners();
    }

    fn reconfigure_instance(&mut self, id: ProtoId, new: &Arc<ProtocolConfig>, soft: bool) {
        let router_id = new.router_id.unwrap_or(self.router_id);
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let old = std::mem::replace(&mut instance.config, new.clone());
        if instance.disabled == old.disabled {
            instance.disabled = new.disabled;
        }
        let same_session = match &instance.kind {
            Kind::Bgp(bgp) => *bgp.session.config() == session_config(new, router_id),
            _ => true,
        };
        if old == *new && same_session {
            return;
        }
        tracing::info!(protocol = %new.name, "reconfigured");
        let shape = |c: &ChannelConfig| (c.family, c.table.clone());
        let same_shape = old.channels.iter().map(shape).eq(new.channels.iter().map(shape));
        let same_kernel = match (&old.kind, &new.kind) {
            (ProtocolKind::Kernel(a), ProtocolKind::Kernel(b)) => a.table == b.table,
            _ => true,
        };
        if new.disabled && instance.state != State::Down {
            self.stop_instance(id, Some(cease::SHUTDOWN));
            self.rebuild(id, new);
            return;
        }
        if !same_session || !same_shape || !same_kernel || instance.state == State::Down {
            self.stop_instance(id, Some(cease::CONFIG_CHANGE));
            self.rebuild(id, new);
            self.start_instance(id);
            return;
        }
        let mut changes = Vec::new();
        for (i, (channel, config)) in instance.channels.iter_mut().zip(&new.channels).enumerate() {
            let before = std::mem::replace(&mut channel.config, config.clone());
            let import = before.import != config.import
                || before.preference != config.preference
                || before.gateway != config.gateway;
            channel.limit_hit &= before.import_limit == config.import_limit;
            changes.push((i, import, export_differs(&before, config)));
        }
        let mut kind_changed = false;
        match (&mut instance.kind, &new.kind) {
            (Kind::Device(now), ProtocolKind::Device(new)) => *now = new.clone(),
            (Kind::Direct(now), ProtocolKind::Direct(new)) => {
                kind_changed = now != new;
                *now = new.clone();
            }
            (Kind::Static(now), ProtocolKind::Static(new)) => {
                kind_changed = now != new;
                *now = new.clone();
            }
            (Kind::Kernel(now), ProtocolKind::Kernel(new)) => {
                kind_changed = now.config != *new;
                now.config = new.clone();
            }
            _ => {}
        }
        if kind_changed || (!soft && changes.iter().any(|(_, import, _)| *import)) {
            self.reload_in(id);
        }
        if kind_changed || (!soft && changes.iter().any(|(.., export)| *export)) {
            self.reload_out(id);
        }
    }

    /// Gives a stopped instance its new shape.
    fn rebuild(&mut self, id: ProtoId, config: &Arc<ProtocolConfig>) {
        let kind = self.make_kind(id, config);
        let channels: Vec<_> = config
            .channels
            .iter()
            .filter_map(|c| Some(super::Channel::new(c.clone(), self.table_index(&c.table)?)))
            .collect();
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.kind = kind;
            instance.channels = channels;
        }
    }
}

fn same_protocol(a: &ProtocolConfig, b: &ProtocolConfig) -> bool {
    a.name == b.name && a.kind.label() == b.kind.label()
}

fn export_differs(a: &ChannelConfig, b: &ChannelConfig) -> bool {
    a.export != b.export
        || a.next_hop_self != b.next_hop_self
        || a.next_hop_keep != b.next_hop_keep
        || a.next_hop_address != b.next_hop_address
        || a.export_limit != b.export_limit
}
