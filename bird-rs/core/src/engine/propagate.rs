//! Routes into tables, and from tables to all other protocols.

use std::sync::Arc;

use ipnet::IpNet;

use super::{Channel, Engine, Instance, Kind};
use crate::config::{LimitAction, Policy};
use crate::event::{Action, KernelChange};
use crate::filter::{Draft, Verdict, run};
use crate::rib::{Attrs, Interner, ProtoId, Route, Table};

/// What a policy makes of a route: the route to use, `None` when it does not pass.
pub(crate) fn apply_policy(
    policy: &Policy,
    prefix: IpNet,
    route: Route,
    interner: &mut Interner,
    proto: &str,
) -> Option<Route> {
    let filter = match policy {
        Policy::All => return Some(route),
        Policy::None => return None,
        Policy::Filter(filter) => filter,
    };
    let mut draft = Draft::new(prefix, route);
    let outcome = run(filter, &mut draft);
    for line in outcome.printed {
        tracing::info!(protocol = proto, "{line}");
    }
    match outcome.verdict {
        Verdict::Accept => {
            if let Some(changed) = draft.take_changed() {
                draft.route.attrs = interner.intern(changed);
            }
            Some(draft.route)
        }
        Verdict::Reject => None,
        Verdict::Error(message) => {
            tracing::warn!(protocol = proto, %prefix, "filter error: {message}");
            None
        }
    }
}

impl Engine {
    /// A protocol's route to a prefix, or its end: through the import filter into the table.
    pub(crate) fn import(
        &mut self,
        id: ProtoId,
        channel: usize,
        prefix: IpNet,
        path_id: u32,
        route: Option<Route>,
    ) {
        let Self { instances, tables, interner, .. } = self;
        let Some(instance) = instances.get_mut(&id) else { return };
        let name = instance.config.name.clone();
        let Some(channel) = instance.channels.get_mut(channel) else { return };
        let Some(table) = tables.get_mut(channel.table) else { return };
        if let Some(excess) = import_into(channel, table, interner, id, &name, (prefix, path_id), route) {
            self.limit_passed(id, excess);
        }
    }

    fn limit_passed(&mut self, id: ProtoId, action: LimitAction) {
        match action {
            LimitAction::Warn | LimitAction::Block => {}
            LimitAction::Restart => self.restart_instance(id, bird_wire::cease::PREFIX_LIMIT),
            LimitAction::Disable => {
                if let Some(instance) = self.instances.get_mut(&id) {
                    instance.disabled = true;
                    "Import limit exceeded".clone_into(&mut instance.message);
                }
                self.stop_instance(id, Some(bird_wire::cease::PREFIX_LIMIT));
            }
        }
    }

    /// Removes routes of a protocol from one of its tables.
    pub(crate) fn purge(
        &mut self,
        id: ProtoId,
        channel: usize,
        mut keep: impl FnMut(&IpNet, &mut Route) -> bool,
    ) {
        let Some(channel) = self.instances.get_mut(&id).and_then(|i| i.channels.get_mut(channel)) else {
            return;
        };
        let Some(table) = self.tables.get_mut(channel.table) else { return };
        let removed = table.retain(id, &mut keep);
        channel.imported = channel.imported.saturating_sub(removed);
    }

    /// Carries changed prefixes to every channel of their table.
    pub(crate) fn propagate(&mut self) {
        for index in 0..self.tables.len() {
            let Some(table) = self.tables.get_mut(index) else { continue };
            if !table.is_dirty() {
                continue;
            }
            let mut dirty = table.take_dirty();
            let moved = table.refresh(&dirty);
            if !moved.is_empty() {
                table.redirect(&moved, self.now);
                dirty.extend(table.take_dirty());
                dirty.sort_unstable();
                dirty.dedup();
            }
            for instance in self.instances.values_mut() {
                let Instance { channels, kind, .. } = instance;
                let Some(channel) = channels.iter().find(|c| c.table == index && c.up) else { continue };
                match kind {
                    Kind::Kernel(kernel) => kernel.mark(&dirty),
                    Kind::Bgp(bgp) => {
                        if let Some(state) = bgp.channel_mut(channel.config.family) {
                            state.pending.extend(dirty.iter().copied());
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// Lets the kernel and BGP sessions write what is waiting.
    pub(crate) fn flush(&mut self) {
        let ids: Vec<ProtoId> = self.order.clone();
        for id in ids {
            match self.instances.get(&id).map(|i| &i.kind) {
                Some(Kind::Kernel(_)) => self.flush_kernel(id),
                Some(Kind::Bgp(_)) => self.flush_bgp(id),
                _ => {}
            }
        }
    }

    pub(crate) fn kernel_changes(&mut self, table: u32, changes: Vec<KernelChange>) {
        if !changes.is_empty() {
            self.actions.push(Action::Kernel { table, changes });
        }
    }

    /// Attributes of routes that have none of their own.
    pub(crate) fn plain_attrs(&mut self) -> Arc<Attrs> {
        self.intern(Attrs::default())
    }
}

/// Returns what to do when this route is one too many.
fn import_into(
    channel: &mut Channel,
    table: &mut Table,
    interner: &mut Interner,
    id: ProtoId,
    name: &str,
    (prefix, path_id): (IpNet, u32),
    route: Option<Route>,
) -> Option<LimitAction> {
    let counter =
        if route.is_some() { &mut channel.stats.import_updates } else { &mut channel.stats.import_withdraws };
    counter.received += 1;
    let wanted = route.is_some();
    let route = route.and_then(|r| apply_policy(&channel.config.import, prefix, r, interner, name));
    if wanted && route.is_none() {
        counter.filtered += 1;
    }
    let mut excess = None;
    let route = route.filter(|_| match channel.config.import_limit {
        Some(limit) if channel.imported >= limit.routes as usize => {
            let known = table.get(&prefix).iter().any(|r| r.origin.proto == id && r.path_id == path_id);
            if known {
                return true;
            }
            if !channel.limit_hit {
                channel.limit_hit = true;
                tracing::warn!(protocol = name, limit = limit.routes, "import limit is passed");
            }
            excess = Some(limit.action);
            limit.action == LimitAction::Warn
        }
        _ => true,
    });
    let has = route.is_some();
    let (had, changed) = table.update(prefix, id, path_id, route);
    match (had, has) {
        (false, true) => channel.imported += 1,
        (true, false) => channel.imported = channel.imported.saturating_sub(1),
        _ => {}
    }
    match (wanted, changed) {
        (true, true) if has => counter.accepted += 1,
        (false, true) => counter.accepted += 1,
        (true, false) if has => counter.ignored += 1,
        (false, false) => counter.ignored += 1,
        _ => {}
    }
    excess
}
