//! The calculation's wiring: which update goes to which room, and in which order a flush asks them.
//!
//! ```text
//! Update ──▶ workload endpoint ─┬▶ items (labels, addresses) ──▶ ip_sets ──┐
//!            host endpoint ─────┤                                ▲         │
//!            network set ───────┘     this host's ▶ local ───────┘ sets    ├▶ flush: Vec<Message>
//!            policy, tier, profile ▶ policies ────▶ local ─ policies,      │
//!                                                           endpoints ─────┤
//!            Node, HostConfig ──────▶ hosts ─┬─ metadata, VTEPs ───────────┤
//!            pool, block ───────────▶ routes ┴─ routes, pools ─────────────┤
//!            EndpointSlice ─────────▶ ip_sets (of services)                │
//!            Service, BGPConfiguration ▶ passed, as they are ──────────────┘
//!            GlobalConfig, HostConfig ─ configuration, passed through
//!            FelixConfiguration ──────▶ selected_config ─ configuration of those that select this node
//! ```
//!
//! In come updates in any order and batching, out go messages in an order that the dataplane can apply one by one:
//! what is referred to comes before what refers to it, and goes after it. Nothing goes out before the datastore is in
//! sync. Always holds: after a flush the messages sent so far describe what the current objects give, whatever the
//! way that led there.
//!
//! Left out: time, input and output, and what the messages do to a kernel.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use felix_message::{ConfigUpdate, EncapMode, Encapsulation, Message, ServiceName};
use ipnet::IpNet;
use libcalico_api::Resource;
use libcalico_api::{Kind, node::Node, profile::Profile};
use libcalico_model::backend;
use libcalico_model::key::{PolicyKey, WorkloadEndpointKey};
use libcalico_model::{Key, SyncStatus, Update, Value};
use tracing::{info, warn};

use crate::hosts::{Hosts, NodeInfo};
use crate::ip_sets::{IpSets, Side};
use crate::items::{ItemId, Items, KeyHash, NewItem, Traits};
use crate::local::{LocalEndpoints, LocalKey, LocalValue, PolicyChange, World};
use crate::passed::Passed;
use crate::policies::{Policies, Policy, ProfileRules};
use crate::routes::{RouteSource, Routes};
use crate::rules::{RuleError, SelectorCache};
use crate::selected_config::SelectedConfig;
use crate::slices::Slice;

/// What the calculation is told once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// This node's name.
    pub hostname: String,
    pub route_source: RouteSource,
    /// `IpInIpEnabled`, `VXLANEnabled`: override what the pools say, for IPv4.
    pub ipip_enabled: Option<bool>,
    pub vxlan_enabled: Option<bool>,
}

/// Numbers for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Endpoints and network sets of the cluster.
    pub items: usize,
    /// Of these, workload endpoints.
    pub workload_endpoints: usize,
    /// Of these, host endpoints.
    pub host_endpoints: usize,
    /// Nodes of the cluster.
    pub hosts: usize,
    pub profiles: usize,
    pub local_endpoints: usize,
    pub active_policies: usize,
    pub active_profiles: usize,
    pub policies: usize,
    /// Of these, those that are staged: counted and reported, never enforced.
    pub staged_policies: usize,
    pub tiers: usize,
    pub ip_sets: usize,
    /// Kubernetes' Services.
    pub services: usize,
}

/// See the module's text.
pub struct CalcGraph {
    config: Config,
    items: Items,
    sets: IpSets,
    policies: Policies,
    profiles: HashMap<String, Arc<ProfileRules>>,
    selectors: SelectorCache,
    local: LocalEndpoints,
    hosts: Hosts,
    routes: Routes,
    passed: Passed,
    raw_config: ConfigUpdate,
    raw_config_stale: bool,
    selected: SelectedConfig,
    encapsulation: Option<Encapsulation>,
    status: SyncStatus,
    in_sync_sent: bool,
    /// Workload endpoints and host endpoints of the cluster.
    endpoints: (usize, usize),
}

impl CalcGraph {
    /// Nothing known yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            routes: Routes::new(&config.hostname, config.route_source),
            config,
            items: Items::default(),
            sets: IpSets::default(),
            policies: Policies::default(),
            profiles: HashMap::new(),
            selectors: SelectorCache::default(),
            local: LocalEndpoints::default(),
            hosts: Hosts::default(),
            passed: Passed::default(),
            raw_config: ConfigUpdate::default(),
            raw_config_stale: false,
            selected: SelectedConfig::default(),
            encapsulation: None,
            status: SyncStatus::default(),
            in_sync_sent: false,
            endpoints: (0, 0),
        }
    }

    /// Takes an update. A value that does not fit its key counts as absent.
    pub fn on_update(&mut self, update: Update) {
        let Update { key, value, .. } = update;
        match (&key, value) {
            (Key::WorkloadEndpoint(k), value) => {
                let value = match value {
                    Some(Value::WorkloadEndpoint(v)) => Some(v),
                    _ => None,
                };
                self.set_workload(&key, k, value);
            }
            (Key::HostEndpoint { host, name }, value) => {
                let value = match value {
                    Some(Value::HostEndpoint(v)) => Some(v),
                    _ => None,
                };
                self.set_host(&key, host, name, value);
            }
            (Key::NetworkSet(_), Some(Value::NetworkSet(v))) => self.set_network_set(&key, Some(&v)),
            (Key::NetworkSet(_), _) => self.set_network_set(&key, None),
            (Key::Policy(k), value) => self.set_policy(k, value.and_then(as_policy)),
            (Key::Tier(name), value) => self.set_tier(name, value.as_ref()),
            (Key::ProfileRules(name), value) => self.set_profile_rules(name, value),
            (Key::Resource(r), value) if r.kind == Kind::Profile => self.set_profile(&r.name, value.as_ref()),
            (Key::Resource(r), value) if r.kind == Kind::Node => self.set_node(&r.name, value.as_ref()),
            (Key::Resource(r), value) if r.kind == Kind::BGPConfiguration => {
                self.set_bgp_config(&r.name, value.as_ref());
            }
            (Key::Resource(r), value) if r.kind == Kind::FelixConfiguration => {
                self.set_felix_config(&r.name, value.as_ref());
            }
            (Key::IpPool(net), Some(Value::IpPool(pool))) => self.routes.set_pool(*net, Some(&pool)),
            (Key::IpPool(net), _) => self.routes.set_pool(*net, None),
            (Key::Block(net), Some(Value::Block(block))) if !block.deleted => {
                self.routes.set_block(*net, Some(&block));
            }
            (Key::Block(net), _) => self.routes.set_block(*net, None),
            (Key::EndpointSlice { namespace, name }, value) => {
                let slice = match &value {
                    Some(Value::EndpointSlice(slice)) => Slice::new(slice),
                    _ => None,
                };
                self.sets.set_slice((namespace.clone(), name.clone()), slice, &self.items);
            }
            (Key::Service { namespace, name }, value) => {
                let name = ServiceName { namespace: namespace.clone(), name: name.clone() };
                let service = match &value {
                    Some(Value::Service(service)) => Some(&**service),
                    _ => None,
                };
                self.passed.set_service(name, service);
            }
            (Key::GlobalConfig(name), value) => self.set_config(None, name, value),
            (Key::HostConfig { host, name }, value) => self.set_config(Some(host), name, value),
            _ => {}
        }
    }

    /// Takes the syncer's state.
    pub fn on_status(&mut self, status: SyncStatus) {
        if status != self.status {
            info!(?status, "datastore synchronisation");
        }
        self.status = status;
    }

    /// Appends what changed since the last flush, in order.
    pub fn flush(&mut self, out: &mut Vec<Message>) {
        if !self.in_sync_sent && self.status != SyncStatus::InSync {
            return;
        }
        if std::mem::take(&mut self.raw_config_stale) {
            out.push(Message::ConfigUpdate(self.raw_config.clone()));
        }
        let mut world = World {
            items: &mut self.items,
            sets: &mut self.sets,
            policies: &mut self.policies,
            profiles: &self.profiles,
        };
        let mut local = self.local.flush(&mut world);
        let sets_gone = self.sets.flush(&mut self.items, out);
        out.append(&mut local.updates);
        out.append(&mut local.removals);
        out.extend(sets_gone.into_iter().map(Message::IpSetRemove));
        self.hosts.flush(out);
        self.routes.flush(&self.hosts, out);
        self.flush_encapsulation(out);
        self.passed.flush(out);
        if !self.in_sync_sent {
            self.in_sync_sent = true;
            out.push(Message::InSync);
        }
    }

    /// Numbers for metrics.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let (active_policies, active_profiles) = self.local.counts();
        let (policies, tiers) = self.policies.counts();
        Stats {
            items: self.items.len(),
            workload_endpoints: self.endpoints.0,
            host_endpoints: self.endpoints.1,
            hosts: self.hosts.len(),
            profiles: self.profiles.len(),
            local_endpoints: self.local.len(),
            active_policies,
            active_profiles,
            policies,
            staged_policies: self.policies.staged(),
            tiers,
            ip_sets: self.sets.len(),
            services: self.passed.len(),
        }
    }

    fn flush_encapsulation(&mut self, out: &mut Vec<Message>) {
        let any = |f: &dyn Fn(&backend::IpPool) -> bool| self.routes.pools().any(f);
        let on = |text: &str| crate::routes::mode(text) != EncapMode::Never;
        let v4 = |p: &backend::IpPool| p.cidr.addr().is_ipv4();
        let now = Encapsulation {
            ipip: self.config.ipip_enabled.unwrap_or_else(|| any(&|p| v4(p) && on(&p.ipip_mode))),
            vxlan: self.config.vxlan_enabled.unwrap_or_else(|| any(&|p| v4(p) && on(&p.vxlan_mode))),
            vxlan_v6: any(&|p| !v4(p) && on(&p.vxlan_mode)),
        };
        if self.encapsulation.replace(now) != Some(now) {
            out.push(Message::EncapsulationUpdate(now));
        }
    }

    /// Sets or removes an item; tells the sets before. Gives its number now.
    fn set_item(&mut self, key: KeyHash, new: Option<&NewItem<'_>>) -> Option<ItemId> {
        let id = self.items.find(key);
        let traits = new.map(|n| self.items.acquire(n));
        let nets = new.map(|n| sorted(n.nets)).unwrap_or_default();
        if !self.sets.is_idle() {
            let old_nets: Vec<IpNet> = id.map(|i| self.items.nets(i).collect()).unwrap_or_default();
            let side = |traits: Traits, nets| Side {
                view: self.items.labels.view(traits.set, traits.list),
                nets,
                ports: self.items.ports(traits.ports),
            };
            let old = id.and_then(|i| self.items.traits(i)).map(|t| side(t, &old_nets));
            let new = traits.map(|t| side(t, &nets));
            self.sets.before_change(&self.items, old, new);
        }
        if let Some(id) = id {
            self.items.remove(id);
        }
        traits.map(|traits| self.items.insert(key, &nets, traits))
    }

    fn set_workload(
        &mut self,
        key: &Key,
        name: &WorkloadEndpointKey,
        value: Option<Arc<backend::WorkloadEndpoint>>,
    ) {
        let hash = Items::hash(key);
        let ours = name.host == self.config.hostname;
        let routed = ours || self.routes.wants_remote_workloads();
        // Routes count addresses: those before are given back, those now are taken.
        let before = self.items.find(hash).filter(|_| routed);
        let before: Vec<IpNet> = before.map(|id| self.items.nets(id).collect()).unwrap_or_default();
        let nets = value.as_deref().map(nets_of).unwrap_or_default();
        let new = value.as_deref().map(|v| NewItem {
            labels: &v.labels,
            profiles: &v.profile_ids,
            nets: &nets,
            ports: &v.ports,
        });
        let known = usize::from(self.items.find(hash).is_some());
        let id = self.set_item(hash, new.as_ref());
        self.endpoints.0 = self.endpoints.0 + usize::from(id.is_some()) - known;
        if routed {
            before.into_iter().for_each(|net| self.routes.workload(&name.host, net, false));
            let now: Vec<IpNet> = id.map(|id| self.items.nets(id).collect()).unwrap_or_default();
            now.into_iter().for_each(|net| self.routes.workload(&name.host, net, true));
        }
        if ours {
            let local_key = LocalKey::Workload(name.clone());
            match (id, value) {
                (Some(id), Some(v)) => self.local.set(local_key, id, LocalValue::Workload(v)),
                _ => self.local.remove(&local_key),
            }
        }
    }

    fn set_host(&mut self, key: &Key, host: &str, name: &str, value: Option<Arc<backend::HostEndpoint>>) {
        let nets = value.as_deref().map(nets_of_host).unwrap_or_default();
        let new = value.as_deref().map(|v| NewItem {
            labels: &v.labels,
            profiles: &v.profile_ids,
            nets: &nets,
            ports: &v.ports,
        });
        let hash = Items::hash(key);
        let known = usize::from(self.items.find(hash).is_some());
        let id = self.set_item(hash, new.as_ref());
        self.endpoints.1 = self.endpoints.1 + usize::from(id.is_some()) - known;
        if host == self.config.hostname {
            let local_key = LocalKey::Host(name.to_owned());
            match (id, value) {
                (Some(id), Some(v)) => self.local.set(local_key, id, LocalValue::Host(v)),
                _ => self.local.remove(&local_key),
            }
        }
    }

    fn set_network_set(&mut self, key: &Key, value: Option<&backend::NetworkSet>) {
        let new =
            value.map(|v| NewItem { labels: &v.labels, profiles: &v.profile_ids, nets: &v.nets, ports: &[] });
        self.set_item(Items::hash(key), new.as_ref());
    }

    fn set_policy(&mut self, key: &PolicyKey, value: Option<Arc<backend::Policy>>) {
        let parsed = value.and_then(|v| {
            let subject = format!("{} {}/{}", key.kind.name(), key.namespace, key.name);
            valid(&subject, Policy::parse(key, &v, &mut self.selectors))
        });
        let Some(policy) = parsed else {
            if let Some(id) = self.policies.remove(key) {
                self.local.policy_removed(id, key, &mut self.items);
            }
            return;
        };
        let old = self.policies.find(key).and_then(|id| self.policies.get(id));
        if old.is_some_and(|o| **o == policy) {
            return;
        }
        let change = match old {
            Some(o) if o.is_listed_the_same(&policy) => PolicyChange::Rules,
            Some(o) if o.selector == policy.selector => PolicyChange::Place,
            _ => PolicyChange::Selector,
        };
        let id = self.policies.insert(policy);
        if let Some(policy) = self.policies.get(id) {
            self.local.policy_changed(id, policy, change, &mut self.items);
        }
    }

    fn set_tier(&mut self, name: &str, value: Option<&Value>) {
        let tier = match value {
            Some(Value::Tier(tier)) => Some(tier),
            _ => None,
        };
        let changed = match self.policies.set_tier(name, tier) {
            Ok(changed) => changed,
            Err(error) => {
                valid::<()>(&format!("tier {name}"), Err(error));
                self.policies.set_tier(name, None).unwrap_or(true)
            }
        };
        if changed {
            self.local.tiers_changed();
        }
    }

    fn set_profile_rules(&mut self, name: &str, value: Option<Value>) {
        let rules = match value {
            Some(Value::ProfileRules(rules)) => {
                valid(&format!("profile {name}"), ProfileRules::parse(&rules, &mut self.selectors))
            }
            _ => None,
        };
        match rules {
            Some(rules) => self.profiles.insert(name.to_owned(), Arc::new(rules)),
            None => self.profiles.remove(name),
        };
        self.local.profile_changed(name);
    }

    /// A profile's labels.
    fn set_profile(&mut self, name: &str, value: Option<&Value>) {
        let labels: Option<BTreeMap<String, String>> = match value {
            Some(Value::Resource(resource)) => match &**resource {
                Resource::Profile(profile) => {
                    let profile: &Profile = profile;
                    Some(profile.spec.labels_to_apply.clone())
                }
                _ => None,
            },
            _ => None,
        };
        let (id, staged) = self.items.labels.stage_profile(name, labels.as_ref());
        if self.items.labels.applied(id) != &*staged {
            let heirs: Vec<u32> = self.items.labels.heirs(id).collect();
            for &item in &heirs {
                if !self.sets.is_idle() {
                    self.sets.before_profile_change(&self.items, item, id, &staged);
                }
                self.local.labels_changed(item);
            }
        }
        self.items.labels.commit_profile(id, staged, labels.is_some());
    }

    /// The one named `default` is for every node; others are settings of single nodes' BGP.
    fn set_bgp_config(&mut self, name: &str, value: Option<&Value>) {
        if name != "default" {
            return;
        }
        self.passed.set_bgp(match value {
            Some(Value::Resource(resource)) => match &**resource {
                Resource::BGPConfiguration(config) => Some(config),
                _ => None,
            },
            _ => None,
        });
    }

    fn set_node(&mut self, name: &str, value: Option<&Value>) {
        let info = match value {
            Some(Value::Resource(resource)) => match &**resource {
                Resource::Node(node) => {
                    let node: &Node = node;
                    Some(NodeInfo::new(node))
                }
                _ => None,
            },
            _ => None,
        };
        let old = self.hosts.get(name).cloned();
        self.routes.node_changed(name, old.as_ref(), info.as_ref());
        let relabelled = old.as_ref().map(NodeInfo::labels) != info.as_ref().map(NodeInfo::labels);
        self.hosts.set_node(name, info);
        if relabelled && name == self.config.hostname {
            self.select_config();
        }
    }

    fn set_felix_config(&mut self, name: &str, value: Option<&Value>) {
        self.selected.set(
            name,
            match value {
                Some(Value::Resource(resource)) => match &**resource {
                    Resource::FelixConfiguration(object) => Some(object),
                    _ => None,
                },
                _ => None,
            },
        );
        self.select_config();
    }

    /// Asks anew which object is this node's.
    fn select_config(&mut self) {
        let node = self.hosts.get(&self.config.hostname);
        let now = self.selected.of_node(node.map(NodeInfo::labels));
        if now != self.raw_config.per_selector {
            self.raw_config.per_selector = now;
            self.raw_config_stale = true;
        }
    }

    fn set_config(&mut self, host: Option<&str>, name: &str, value: Option<Value>) {
        let value = match value {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        };
        if let Some(host) = host {
            self.hosts.set_config(host, name, value.as_deref());
        }
        let map = match host {
            None => &mut self.raw_config.global,
            Some(host) if host == self.config.hostname => &mut self.raw_config.per_host,
            Some(_) => return,
        };
        let before = map.get(name) != value.as_ref();
        self.raw_config_stale |= before;
        match value {
            Some(value) => map.insert(name.to_owned(), value),
            None => map.remove(name),
        };
    }
}

fn as_policy(value: Value) -> Option<Arc<backend::Policy>> {
    match value {
        Value::Policy(policy) => Some(policy),
        _ => None,
    }
}

fn nets_of(v: &backend::WorkloadEndpoint) -> Vec<IpNet> {
    let v4 = v.ipv4_nets.iter().map(|n| IpNet::V4(*n));
    v4.chain(v.ipv6_nets.iter().map(|n| IpNet::V6(*n))).collect()
}

fn nets_of_host(v: &backend::HostEndpoint) -> Vec<IpNet> {
    let v4 = v.expected_ipv4_addrs.iter().map(|a| IpNet::V4((*a).into()));
    v4.chain(v.expected_ipv6_addrs.iter().map(|a| IpNet::V6((*a).into()))).collect()
}

/// Networks without host bits, sorted, distinct.
fn sorted(nets: &[IpNet]) -> Vec<IpNet> {
    let mut nets: Vec<IpNet> = nets.iter().map(IpNet::trunc).collect();
    nets.sort_unstable();
    nets.dedup();
    nets
}

/// An object that is not valid counts as absent; it is named in the log.
fn valid<T>(subject: &str, result: Result<T, RuleError>) -> Option<T> {
    result.map_err(|error| warn!(subject, %error, "not valid: taken as absent")).ok()
}
