//! What every destination is: pool, block, workload, host or tunnel, and on which node.
//!
//! In come pools, IPAM blocks, nodes, this host's endpoints (and with [`RouteSource::WorkloadIps`] everybody's
//! instead of blocks); out go, at a flush, routes that changed. A destination's route gathers what is known of the
//! networks around it, from the widest to itself: the pool gives encapsulation and masquerading, a block its node, an
//! address of its own overrides the block.
//!
//! Always holds: after a flush what was sent is what the current objects give. A change of a network is calculated
//! again for the networks within it, a change of a node for its networks, a change of this host's subnet for all.

use std::collections::{BTreeMap, BTreeSet};

use felix_message::{EncapMode, IpPool, Message, PoolType, Route, RouteTypes, Tunnels};
use ipnet::IpNet;
use libcalico_model::backend;
use libcalico_model::ipam::AllocationBlock;
use libcalico_net::cidr::host_net;
use libcalico_net::lpm::LpmMap;

use crate::hosts::{Hosts, NodeInfo};

/// Where routes to other nodes' workloads come from (`RouteSource`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RouteSource {
    /// IPAM's blocks.
    #[default]
    CalicoIpam,
    /// The addresses of every workload endpoint.
    WorkloadIps,
}

/// Why a node has an address. The first in this order decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    Workload,
    Ipip,
    Vxlan,
    Wireguard,
}

/// What is known of one network.
#[derive(Default)]
struct Info {
    /// By the pool's key: two keys may name one network.
    pools: BTreeMap<IpNet, Pool>,
    /// Nodes that a block, or a borrowed address of one, belongs to.
    blocks: BTreeMap<String, u32>,
    /// Nodes whose own address it is.
    hosts: BTreeSet<String>,
    /// Uses with their node and count. Remote uses come after local ones.
    refs: BTreeMap<(bool, Use, String), u32>,
}

impl Info {
    fn is_empty(&self) -> bool {
        self.pools.is_empty() && self.blocks.is_empty() && self.hosts.is_empty() && self.refs.is_empty()
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Pool {
    kind: PoolType,
    cross_subnet: bool,
    masquerade: bool,
}

/// See the module's text.
pub struct Routes {
    hostname: String,
    source: RouteSource,
    infos: LpmMap<Info>,
    /// Networks that name a node, to look at when it changes.
    by_node: BTreeMap<String, BTreeMap<IpNet, u32>>,
    pools: BTreeMap<IpNet, backend::IpPool>,
    /// Networks of a block: itself and what others borrowed of it.
    blocks: BTreeMap<IpNet, Vec<(IpNet, String)>>,
    stale: BTreeSet<IpNet>,
    stale_pools: BTreeSet<IpNet>,
    sent: BTreeMap<IpNet, Route>,
    sent_pools: BTreeMap<IpNet, IpPool>,
}

/// Reads a pool's mode.
pub fn mode(text: &str) -> EncapMode {
    match text.to_ascii_lowercase().as_str() {
        "always" => EncapMode::Always,
        "cross-subnet" | "crosssubnet" => EncapMode::CrossSubnet,
        _ => EncapMode::Never,
    }
}

fn pool_message(pool: &backend::IpPool) -> IpPool {
    IpPool {
        masquerade: pool.masquerade,
        ipip_mode: mode(&pool.ipip_mode),
        vxlan_mode: mode(&pool.vxlan_mode),
        load_balancer_only: load_balancer_only(pool),
    }
}

fn load_balancer_only(pool: &backend::IpPool) -> bool {
    pool.allowed_uses == ["LoadBalancer"]
}

impl Routes {
    /// Nothing known yet.
    pub fn new(hostname: &str, source: RouteSource) -> Self {
        Self {
            hostname: hostname.to_owned(),
            source,
            infos: LpmMap::new(),
            by_node: BTreeMap::new(),
            pools: BTreeMap::new(),
            blocks: BTreeMap::new(),
            stale: BTreeSet::new(),
            stale_pools: BTreeSet::new(),
            sent: BTreeMap::new(),
            sent_pools: BTreeMap::new(),
        }
    }

    /// Whether every node's workloads are to be told, not only this one's.
    pub fn wants_remote_workloads(&self) -> bool {
        self.source == RouteSource::WorkloadIps
    }

    /// The pools, by key.
    pub fn pools(&self) -> impl Iterator<Item = &backend::IpPool> {
        self.pools.values()
    }

    fn change(&mut self, net: IpNet, f: impl FnOnce(&mut Info)) {
        let net = net.trunc();
        let mut info = self.infos.remove(net).unwrap_or_default();
        f(&mut info);
        if !info.is_empty() {
            self.infos.insert(net, info);
        }
        self.stale.insert(net);
        self.stale.extend(self.infos.children(net).map(|(n, _)| n));
    }

    fn note_node(&mut self, node: &str, net: IpNet, add: bool) {
        let nets = self.by_node.entry(node.to_owned()).or_default();
        let count = nets.entry(net.trunc()).or_default();
        *count = if add { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            nets.remove(&net.trunc());
        }
        if nets.is_empty() {
            self.by_node.remove(node);
        }
    }

    /// Sets or removes a pool.
    pub fn set_pool(&mut self, key: IpNet, pool: Option<&backend::IpPool>) {
        let old = match pool {
            Some(pool) => self.pools.insert(key, pool.clone()),
            None => self.pools.remove(&key),
        };
        if old.as_ref() == pool {
            return;
        }
        if let Some(old) = old {
            self.stale_pools.insert(old.cidr.trunc());
            self.change(old.cidr, |i| {
                i.pools.remove(&key);
            });
        }
        if let Some(pool) = pool {
            self.stale_pools.insert(pool.cidr.trunc());
            let (ipip, vxlan) = (mode(&pool.ipip_mode), mode(&pool.vxlan_mode));
            let kind = match (vxlan, ipip) {
                _ if load_balancer_only(pool) => PoolType::None,
                (EncapMode::Never, EncapMode::Never) => PoolType::NoEncap,
                (EncapMode::Never, _) => PoolType::Ipip,
                _ => PoolType::Vxlan,
            };
            let cross_subnet = vxlan == EncapMode::CrossSubnet || ipip == EncapMode::CrossSubnet;
            let pool = Pool { kind, cross_subnet, masquerade: pool.masquerade };
            self.change(pool_net(&self.pools, key), |i| {
                i.pools.insert(key, pool);
            });
        }
    }

    /// Sets or removes an IPAM block.
    pub fn set_block(&mut self, key: IpNet, block: Option<&AllocationBlock>) {
        if self.source == RouteSource::WorkloadIps {
            return;
        }
        let new = block.map(nets_of_block).unwrap_or_default();
        let old = if new.is_empty() {
            self.blocks.remove(&key).unwrap_or_default()
        } else {
            self.blocks.insert(key, new.clone()).unwrap_or_default()
        };
        if old == new {
            return;
        }
        for (net, node) in &old {
            self.note_node(node, *net, false);
            self.change(*net, |i| take(&mut i.blocks, node));
        }
        for (net, node) in &new {
            self.note_node(node, *net, true);
            self.change(*net, |i| *i.blocks.entry(node.clone()).or_default() += 1);
        }
    }

    /// A node's addresses changed: what it said before, and what it says now.
    pub fn node_changed(&mut self, node: &str, old: Option<&NodeInfo>, new: Option<&NodeInfo>) {
        if old == new {
            return;
        }
        let uses = |info: &NodeInfo| -> Vec<(Use, IpNet)> {
            let ipip = info.ipip.iter().map(|a| (Use::Ipip, host_net(*a)));
            let vxlan = info.vxlan.iter().map(|a| (Use::Vxlan, host_net(*a)));
            ipip.chain(vxlan).chain(info.wireguard.iter().map(|a| (Use::Wireguard, host_net(*a)))).collect()
        };
        if let Some(old) = old {
            for addr in &old.addresses {
                self.note_node(node, host_net(*addr), false);
                self.change(host_net(*addr), |i| {
                    i.hosts.remove(node);
                });
            }
            for (usage, net) in uses(old) {
                self.refer(node, net, usage, false);
            }
        }
        if let Some(new) = new {
            for addr in &new.addresses {
                self.note_node(node, host_net(*addr), true);
                self.change(host_net(*addr), |i| {
                    i.hosts.insert(node.to_owned());
                });
            }
            for (usage, net) in uses(new) {
                self.refer(node, net, usage, true);
            }
        }
        if let Some(nets) = self.by_node.get(node) {
            self.stale.extend(nets.keys());
        }
        let subnet = |i: Option<&NodeInfo>| (i.and_then(|i| i.v4), i.and_then(|i| i.v6));
        if node == self.hostname && subnet(old) != subnet(new) {
            self.stale.extend(self.infos.iter().map(|(net, _)| net));
        }
    }

    /// A workload's address comes or goes.
    pub fn workload(&mut self, node: &str, net: IpNet, add: bool) {
        self.refer(node, net, Use::Workload, add);
    }

    fn refer(&mut self, node: &str, net: IpNet, usage: Use, add: bool) {
        self.note_node(node, net, add);
        let key = (node != self.hostname, usage, node.to_owned());
        self.change(net, |i| {
            if add {
                *i.refs.entry(key).or_default() += 1;
            } else {
                take(&mut i.refs, &key);
            }
        });
    }

    /// The route of a network, from everything around it.
    fn route(&self, dst: IpNet, hosts: &Hosts) -> Option<Route> {
        self.infos.get(dst)?;
        let mut route = Route {
            dst,
            types: RouteTypes::default(),
            pool_type: PoolType::None,
            dst_node_name: String::new(),
            dst_node_ip: None,
            same_subnet: false,
            nat_outgoing: false,
            local_workload: false,
            tunnel: Tunnels::default(),
            borrowed: false,
        };
        let mut cross_subnet = false;
        let mut block_node: Option<&str> = None;
        for (net, info) in self.infos.covering(dst) {
            if let Some(pool) = info.pools.values().next() {
                route.pool_type = pool.kind;
                route.nat_outgoing |= pool.masquerade;
                cross_subnet |= pool.cross_subnet;
            }
            if let Some(node) = info.blocks.keys().next() {
                route.borrowed |= block_node.is_some_and(|b| b != node);
                block_node = Some(node);
                self.workload_type(&mut route, node);
            }
            if net == dst {
                self.add_own(&mut route, info, block_node);
            }
        }
        let node = hosts.get(&route.dst_node_name);
        route.dst_node_ip = node.and_then(|n| n.addr_for(dst));
        route.same_subnet = cross_subnet && in_our_subnet(hosts.get(&self.hostname), node, dst);
        route.types.cidr_info = route.types == RouteTypes::default();
        Some(route)
    }

    fn workload_type(&self, route: &mut Route, node: &str) {
        node.clone_into(&mut route.dst_node_name);
        if node == self.hostname {
            route.types.local_workload = true;
        } else {
            route.types.remote_workload = true;
        }
    }

    /// What is said of the destination itself, not of networks around it.
    fn add_own(&self, route: &mut Route, info: &Info, block_node: Option<&str>) {
        if let Some(node) = info.hosts.first() {
            route.dst_node_name.clone_from(node);
            if *node == self.hostname {
                route.types.local_host = true;
            } else {
                route.types.remote_host = true;
            }
        }
        for (_, usage, _) in info.refs.keys() {
            match usage {
                Use::Workload => {}
                Use::Ipip => route.tunnel.ipip = true,
                Use::Vxlan => route.tunnel.vxlan = true,
                Use::Wireguard => route.tunnel.wireguard = true,
            }
        }
        let Some(((remote, usage, node), _)) = info.refs.first_key_value() else { return };
        route.borrowed |= block_node.is_some_and(|b| b != node);
        match (usage, remote) {
            (Use::Workload, _) => {
                self.workload_type(route, node);
                route.local_workload = !remote;
            }
            (_, false) => route.types.local_tunnel = true,
            (_, true) => route.types.remote_tunnel = true,
        }
        route.dst_node_name.clone_from(node);
    }

    /// Messages for pools and routes that changed.
    pub fn flush(&mut self, hosts: &Hosts, out: &mut Vec<Message>) {
        for net in std::mem::take(&mut self.stale_pools) {
            let pool = self.pools.values().find(|p| p.cidr.trunc() == net).map(pool_message);
            if self.sent_pools.get(&net) == pool.as_ref() {
                continue;
            }
            out.push(match pool {
                Some(pool) => {
                    self.sent_pools.insert(net, pool.clone());
                    Message::PoolUpdate(net, pool)
                }
                None => {
                    self.sent_pools.remove(&net);
                    Message::PoolRemove(net)
                }
            });
        }
        for net in std::mem::take(&mut self.stale) {
            let route = self.route(net, hosts);
            if self.sent.get(&net) == route.as_ref() {
                continue;
            }
            out.push(match route {
                Some(route) => {
                    self.sent.insert(net, route.clone());
                    Message::RouteUpdate(route)
                }
                None => {
                    self.sent.remove(&net);
                    Message::RouteRemove(net)
                }
            });
        }
    }
}

fn pool_net(pools: &BTreeMap<IpNet, backend::IpPool>, key: IpNet) -> IpNet {
    pools.get(&key).map_or(key, |p| p.cidr)
}

fn take<K: Ord + Clone>(counts: &mut BTreeMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// A block with its node, and each address of it that another node has.
fn nets_of_block(block: &AllocationBlock) -> Vec<(IpNet, String)> {
    let host = |affinity: &Option<String>| affinity.as_deref()?.strip_prefix("host:").map(str::to_owned);
    let owner = host(&block.affinity).or_else(|| block.host_affinity.clone());
    let mut out: Vec<(IpNet, String)> = Vec::new();
    if let Some(owner) = &owner {
        out.push((block.cidr.trunc(), owner.clone()));
    }
    let family = libcalico_net::cidr::Family::of_net(block.cidr);
    let first = libcalico_net::cidr::to_u128(block.cidr.network());
    for (ordinal, allocation) in block.allocations.iter().enumerate() {
        let attribute = allocation.and_then(|i| block.attributes.get(i));
        let Some(node) = attribute.and_then(|a| a.active_owner_attrs.get("node")) else { continue };
        if owner.as_ref() == Some(node) {
            continue;
        }
        let addr = first.checked_add(ordinal as u128);
        let addr = addr.and_then(|n| libcalico_net::cidr::from_u128(family, n));
        if let Some(addr) = addr.filter(|a| block.cidr.contains(a)) {
            out.push((host_net(addr), node.clone()));
        }
    }
    out
}

fn in_our_subnet(ours: Option<&NodeInfo>, theirs: Option<&NodeInfo>, dst: IpNet) -> bool {
    let (Some(ours), Some(theirs)) = (ours, theirs) else { return false };
    match dst {
        IpNet::V4(_) => ours.v4.zip(theirs.v4).is_some_and(|(a, b)| a.contains(&b.addr())),
        IpNet::V6(_) => ours.v6.zip(theirs.v6).is_some_and(|(a, b)| a.contains(&b.addr())),
    }
}
