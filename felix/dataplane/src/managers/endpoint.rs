//! Workloads: their chains, their entries in the dispatch maps, their routes and neighbours.
//!
//! Always holds: two endpoints that claim one interface or one address are resolved by their names, the smaller wins,
//! whichever came first. An address goes to one whose interface is up, where there is such a one: an endpoint that a
//! workload left behind takes it from nobody.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use felix_message::{Message, WorkloadEndpoint};
use ipnet::IpNet;
use libcalico_model::key::WorkloadEndpointKey;

use super::Outputs;
use super::ending::Endings;
use super::floating_ip::has_floating;
use super::policy_group::{Groups, Shared};
use crate::config::Config;
use crate::driver::neighbour;
use crate::interfaces::Interfaces;
use crate::render::endpoint::Ending;
use crate::render::names::Direction;
use crate::render::{endpoint, names};
use crate::rule::{Action, Chain, ChainId, End, Family, Match, Rule, Table};

#[derive(Debug)]
pub struct EndpointManager {
    config: Arc<Config>,
    endpoints: HashMap<WorkloadEndpointKey, Arc<WorkloadEndpoint>>,
    by_interface: BTreeMap<Arc<str>, BTreeSet<WorkloadEndpointKey>>,
    by_net: BTreeMap<IpNet, BTreeSet<WorkloadEndpointKey>>,
    dirty_interfaces: BTreeSet<Arc<str>>,
    /// Interfaces of which the policies alone may be others than before.
    dirty_policies: BTreeSet<Arc<str>>,
    dirty_nets: BTreeSet<IpNet>,
    /// Workload interfaces that carry traffic.
    up: HashSet<Arc<str>>,
    groups: Groups,
    endings: Endings,
    started: bool,
}

/// Where routes to the workload lead from: its addresses, and the floating ones that are translated to them.
fn nets(key: &WorkloadEndpointKey, e: &WorkloadEndpoint, config: &Config) -> BTreeSet<IpNet> {
    let v4 = e.ipv4_nets.iter().map(|n| IpNet::V4(n.trunc()));
    let v6 = e.ipv6_nets.iter().map(|n| IpNet::V6(n.trunc()));
    let floating =
        e.nat.iter().filter(|_| has_floating(key, config)).map(|(_, external)| IpNet::from(*external));
    // A family without tables has no routes either: nothing there would deny what they lead to.
    v4.chain(v6).chain(floating).filter(|n| config.families().contains(&Family::of_net(n))).collect()
}

/// True where two endpoints are the same, but for their policies.
fn differ_in_policies_alone(a: &WorkloadEndpoint, b: &WorkloadEndpoint) -> bool {
    let WorkloadEndpoint {
        active,
        interface_name,
        mac,
        profiles,
        ipv4_nets,
        ipv6_nets,
        tiers: _,
        nat,
        allow_spoofed_source_prefixes,
        annotations,
    } = a;
    *active == b.active
        && *interface_name == b.interface_name
        && *mac == b.mac
        && *profiles == b.profiles
        && *ipv4_nets == b.ipv4_nets
        && *ipv6_nets == b.ipv6_nets
        && *nat == b.nat
        && *allow_spoofed_source_prefixes == b.allow_spoofed_source_prefixes
        && *annotations == b.annotations
}

impl EndpointManager {
    pub fn new(config: Arc<Config>) -> Self {
        Self {
            config,
            endpoints: HashMap::new(),
            by_interface: BTreeMap::new(),
            by_net: BTreeMap::new(),
            dirty_interfaces: BTreeSet::new(),
            dirty_policies: BTreeSet::new(),
            dirty_nets: BTreeSet::new(),
            up: HashSet::new(),
            groups: Groups::default(),
            endings: Endings::default(),
            started: false,
        }
    }

    pub fn on_message(&mut self, message: &Message, _out: &mut Outputs) {
        match message {
            Message::PolicyUpdate(key, p) if !key.kind.staged() => self.groups.set_policy(key, Some(p)),
            Message::PolicyRemove(key) if !key.kind.staged() => self.groups.set_policy(key, None),
            Message::WorkloadEndpointUpdate(key, e)
                if !self.config.is_workload_interface(&e.interface_name) =>
            {
                let (interface, workload) = (&e.interface_name, &key.workload);
                tracing::warn!(
                    workload,
                    interface,
                    "the endpoint has no traffic: InterfacePrefix does not begin this name"
                );
                self.forget(key);
            }
            Message::WorkloadEndpointUpdate(key, e) => {
                if let Some(old) = self.endpoints.get_mut(key).filter(|old| differ_in_policies_alone(old, e))
                {
                    *old = e.clone();
                    let name = self.by_interface.get_key_value(e.interface_name.as_str());
                    self.dirty_policies.extend(name.map(|(name, _)| name.clone()));
                    return;
                }
                self.forget(key);
                let name: Arc<str> = e.interface_name.as_str().into();
                self.by_interface.entry(name.clone()).or_default().insert(key.clone());
                self.dirty_interfaces.insert(name);
                for net in nets(key, e, &self.config) {
                    self.by_net.entry(net).or_default().insert(key.clone());
                    self.dirty_nets.insert(net);
                }
                self.endpoints.insert(key.clone(), e.clone());
            }
            Message::WorkloadEndpointRemove(key) => self.forget(key),
            _ => {}
        }
    }

    /// Interfaces changed: who has an address that several claim may be another one now.
    pub fn on_interfaces(&mut self, interfaces: &Interfaces) {
        let carries = interfaces.all().filter(|i| i.up && self.config.is_workload_interface(&i.name));
        let before = std::mem::replace(&mut self.up, carries.map(|i| i.name.clone()).collect());
        for name in self.up.symmetric_difference(&before) {
            for key in self.by_interface.get(name).into_iter().flatten() {
                let Some(e) = self.endpoints.get(key) else { continue };
                let several = |net: &IpNet| self.by_net.get(net).is_some_and(|keys| keys.len() > 1);
                self.dirty_nets.extend(nets(key, e, &self.config).into_iter().filter(several));
            }
        }
    }

    /// Of the workloads that claim an address the one that has it.
    fn owner(&self, net: &IpNet) -> Option<&Arc<WorkloadEndpoint>> {
        let claims = || {
            let keys = self.by_net.get(net).into_iter().flatten();
            keys.filter_map(|k| self.endpoints.get(k)).filter(|e| e.active)
        };
        claims().find(|e| self.up.contains(e.interface_name.as_str())).or_else(|| claims().next())
    }

    fn forget(&mut self, key: &WorkloadEndpointKey) {
        let Some(old) = self.endpoints.remove(key) else { return };
        if let Some((name, keys)) = self.by_interface.get_key_value(old.interface_name.as_str()) {
            let (name, last) = (name.clone(), keys.len() == 1);
            self.dirty_interfaces.insert(name.clone());
            if last {
                self.by_interface.remove(&name);
            } else if let Some(keys) = self.by_interface.get_mut(&name) {
                keys.remove(key);
            }
        }
        for net in nets(key, &old, &self.config) {
            self.dirty_nets.insert(net);
            if let Some(keys) = self.by_net.get_mut(&net) {
                keys.remove(key);
                if keys.is_empty() {
                    self.by_net.remove(&net);
                }
            }
        }
    }

    /// True where an update says of an endpoint nothing new, but for its policies.
    pub fn tells_of_policies_alone(&self, key: &WorkloadEndpointKey, e: &WorkloadEndpoint) -> bool {
        self.endpoints.get(key).is_some_and(|old| differ_in_policies_alone(old, e))
    }

    pub fn has_interface(&self, interface: &str) -> bool {
        self.by_interface.contains_key(interface)
    }

    /// The interface that a workload claims.
    pub fn interface_of(&self, key: &WorkloadEndpointKey) -> Option<&str> {
        self.endpoints.get(key).map(|e| e.interface_name.as_str())
    }

    /// Of the workloads that claim an interface the one that has it.
    pub fn winner(&self, interface: &str) -> Option<&WorkloadEndpointKey> {
        self.by_interface.get(interface)?.first()
    }

    fn on_interface(&self, interface: &str) -> Option<&Arc<WorkloadEndpoint>> {
        self.endpoints.get(self.winner(interface)?)
    }

    /// True where a workload may send from further addresses.
    pub fn may_spoof(&self, interface: &str) -> bool {
        let e = self.on_interface(interface);
        self.config.workload_source_spoofing && e.is_some_and(|e| !e.allow_spoofed_source_prefixes.is_empty())
    }

    pub fn resolve(&mut self, out: &mut Outputs) {
        let mut dirty = std::mem::take(&mut self.dirty_interfaces);
        let others = !dirty.is_empty();
        dirty.extend(self.regroup(&dirty, out));
        for interface in &dirty {
            self.interface(interface, out);
        }
        self.end(out);
        for net in std::mem::take(&mut self.dirty_nets) {
            let winner = self.owner(&net);
            let interface = winner.map(|e| Arc::<str>::from(e.interface_name.as_str()));
            out.routes.set(net, interface.as_ref());
            if let IpNet::V4(net) = net
                && net.prefix_len() == 32
            {
                let mac = winner.and_then(|e| neighbour::parse_mac(e.mac.as_deref()?));
                out.neighbours.set(net.addr(), interface.zip(mac));
            }
        }
        if others || !self.started {
            self.started = true;
            self.reverse_path_exceptions(out);
        }
    }

    /// Brings the chains that workloads share up to date. Returns interfaces that go through others than before.
    fn regroup(&mut self, dirty: &BTreeSet<Arc<str>>, out: &mut Outputs) -> BTreeSet<Arc<str>> {
        let listed = std::mem::take(&mut self.dirty_policies);
        for interface in dirty.union(&listed) {
            let tiers = self.on_interface(interface).filter(|e| e.active).map(|e| e.tiers.clone());
            for direction in Direction::BOTH {
                self.groups.set(interface, direction, tiers.as_ref());
            }
        }
        let changes = self.groups.resolve();
        for (name, shared) in changes.define {
            let chain = Arc::new(match shared {
                Shared::List(tiers) => endpoint::policies(&tiers, &self.config),
                Shared::Run(chains) => endpoint::run(&chains, &self.config),
            });
            let id = ChainId::new(Table::Filter, name);
            for family in self.config.families() {
                out.tables.family(*family).set_chain(id.clone(), chain.clone());
            }
        }
        for name in changes.remove {
            let id = ChainId::new(Table::Filter, name);
            for family in self.config.families() {
                out.tables.family(*family).remove_chain(&id);
            }
        }
        changes.interfaces
    }

    /// Brings the chains up to date that workloads' chains end in.
    fn end(&mut self, out: &mut Outputs) {
        let changes = self.endings.resolve();
        for family in self.config.families() {
            let tables = out.tables.family(*family);
            for (name, ending) in &changes.define {
                let chain = Arc::new(ending.chain(&self.config));
                tables.set_chain(ChainId::new(Table::Filter, name.clone()), chain);
            }
            for name in &changes.remove {
                tables.remove_chain(&ChainId::new(Table::Filter, name.clone()));
            }
        }
    }

    fn interface(&mut self, interface: &Arc<str>, out: &mut Outputs) {
        let found = self.on_interface(interface).cloned();
        let steps = Direction::BOTH.map(|d| self.groups.steps(interface, d));
        let active = found.as_ref().filter(|e| e.active);
        let ending = |e: &WorkloadEndpoint| Direction::BOTH.map(|d| Ending::of(e, d, steps[d.index()]));
        let endings = self.endings.set(interface, active.map_or([None, None], |e| ending(e)));
        let chains = found.as_ref().map(|e| endpoint::workload(e, &self.config, steps, endings));
        let maps = ["cali-to-wl-dispatch", "cali-from-wl-dispatch"];
        let ids = Direction::BOTH.map(|d| ChainId::new(Table::Filter, names::workload_chain(d, interface)));
        let chains = chains.map(|all| all.map(Arc::new));
        for family in self.config.families() {
            let tables = out.tables.family(*family);
            let chains =
                chains.as_ref().filter(|_| found.as_ref().is_some_and(|e| endpoint::uses(e, *family)));
            for (n, (map, id)) in maps.iter().zip(&ids).enumerate() {
                let map = ChainId::new(Table::Filter, *map);
                match chains.and_then(|c| c.get(n)) {
                    Some(chain) => {
                        tables.set_chain(id.clone(), chain.clone());
                        tables.dispatch(&map, interface, Some(id.name.clone()));
                    }
                    None => {
                        tables.dispatch(&map, interface, None);
                        tables.remove_chain(id);
                    }
                }
            }
        }
    }

    /// Sources that workloads may use besides their own addresses.
    fn reverse_path_exceptions(&self, out: &mut Outputs) {
        for family in self.config.families() {
            let mut rules = Vec::new();
            if self.config.workload_source_spoofing {
                for interface in self.by_interface.keys() {
                    let Some(e) = self.on_interface(interface) else { continue };
                    let own = e.allow_spoofed_source_prefixes.iter().filter(|n| Family::of_net(n) == *family);
                    rules.extend(own.map(|n| {
                        let mut matches = vec![Match::InInterface(interface.clone())];
                        if n.prefix_len() > 0 {
                            matches.push(Match::Net { end: End::Src, not: false, nets: vec![n.trunc()] });
                        }
                        Rule::when(matches, Action::Accept)
                    }));
                }
            }
            let id = ChainId::new(Table::Raw, "cali-rpf-skip");
            out.tables.family(*family).set_chain(id, Arc::new(Chain::new(rules)));
        }
    }
}
