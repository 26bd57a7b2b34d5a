//! A cluster's stored objects, and what Felix calculates from them for any node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::sync::Arc;

use felix_calc::mirror::Mirror;
use felix_calc::{CalcGraph, Config};
use felix_message::{TierDefaultAction, TierInfo, WorkloadEndpoint};
use libcalico_api::felix_configuration::FailsafePort;
use libcalico_api::workload_endpoint::{NAMESPACE_LABEL, ORCHESTRATOR_LABEL};
use libcalico_api::{Kind, Resource};
use libcalico_datastore::syncer::{Converter as _, FelixConverter, felix_scopes};
use libcalico_datastore::{Datastore, Found, Read, resources};
use libcalico_model::key::{PolicyKey, PolicyKind, WorkloadEndpointKey};
use libcalico_model::{Key, KeyValue, Revision, SyncStatus, Update, Value, backend};
use libcalico_net::cidr::{Family, IpNet, from_u128, to_u128};

use crate::policy::party::Traffic;
use crate::{Error, Result};

/// Outside every cluster: addresses kept for documentation (RFC 5737, RFC 3849).
pub const OUTSIDE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];
/// The node on which pods are thought that do not exist yet.
const NOWHERE: &str = "(not scheduled)";

/// A pod or another workload's interface.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub key: WorkloadEndpointKey,
    /// `NAMESPACE/POD`
    pub name: String,
    pub namespace: String,
    pub addresses: Vec<IpAddr>,
    pub profiles: Vec<String>,
}

/// A host's own interface.
#[derive(Clone, Debug)]
pub struct HostInterface {
    /// Name of the HostEndpoint.
    pub name: String,
    pub node: String,
    /// Those it is expected to have; the node's where it names none.
    pub addresses: Vec<IpAddr>,
    /// It stands for every interface of the node that is no workload's.
    pub wildcard: bool,
}

impl HostInterface {
    fn key(&self) -> EndKey {
        EndKey::Host { node: self.node.clone(), name: self.name.clone() }
    }
}

/// An end of traffic that policy applies to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EndKey {
    Workload(WorkloadEndpointKey),
    /// Node and name of a HostEndpoint.
    Host {
        node: String,
        name: String,
    },
}

impl EndKey {
    /// The node on which it is.
    #[must_use]
    pub fn node(&self) -> &str {
        match self {
            Self::Workload(w) => &w.host,
            Self::Host { node, .. } => node,
        }
    }
}

/// See the module's text.
pub struct World {
    objects: BTreeMap<Key, KeyValue>,
    updates: Vec<Update>,
    pub endpoints: BTreeMap<WorkloadEndpointKey, Endpoint>,
    /// By name.
    pub hosts: BTreeMap<String, HostInterface>,
    /// Objects that Felix cannot use, and why: they count as absent.
    pub unusable: Vec<String>,
    mirrors: BTreeMap<String, Rc<Mirror>>,
    imagined: u128,
}

/// Reads what Felix would read, at one revision.
pub async fn read(store: &dyn Datastore) -> Result<Vec<KeyValue>> {
    let reads: Vec<Read> = felix_scopes().into_iter().map(Read::Scope).collect();
    let found = store.read_many(&reads).await?;
    Ok(found
        .into_iter()
        .flat_map(|f| if let Found::Scope(listing) = f { listing.items } else { Vec::new() })
        .collect())
}

impl World {
    /// The world of these stored objects.
    #[must_use]
    pub fn new(objects: impl IntoIterator<Item = KeyValue>) -> Self {
        let mut world = Self {
            objects: objects.into_iter().map(|kv| (kv.key.clone(), kv)).collect(),
            updates: Vec::new(),
            endpoints: BTreeMap::new(),
            hosts: BTreeMap::new(),
            unusable: Vec::new(),
            mirrors: BTreeMap::new(),
            imagined: 0,
        };
        for (key, value) in FelixConverter.builtin() {
            world.updates.push(Update { key, value: Some(value), revision: Revision::default() });
        }
        for kv in world.objects.values() {
            match FelixConverter.convert(kv) {
                Ok(outputs) => {
                    for (key, value) in outputs {
                        note_endpoint(&mut world.endpoints, kv, &key, &value);
                        note_host(&mut world.hosts, &key, &value);
                        let revision = kv.revision.clone();
                        world.updates.push(Update { key, value: Some(value), revision });
                    }
                }
                Err(reason) => world.unusable.push(format!("{}: {reason}", subject(&kv.key))),
            }
        }
        world.fill_host_addresses();
        world
    }

    /// The same world after these objects were applied.
    #[must_use]
    pub fn with(&self, changes: impl IntoIterator<Item = Resource>) -> Self {
        let mut objects = self.objects.clone();
        for mut resource in changes {
            resource.set_defaults();
            let key = resources::key_of(&resource);
            let kv = KeyValue { key: key.clone(), value: resource.into(), revision: Revision::default() };
            objects.insert(key, kv);
        }
        Self::new(objects.into_values())
    }

    /// A stored object.
    #[must_use]
    pub fn resource(&self, kind: Kind, namespace: &str, name: &str) -> Option<&Resource> {
        match &self.objects.get(&Key::resource(kind, namespace, name))?.value {
            Value::Resource(r) => Some(r),
            _ => None,
        }
    }

    /// The stored policy that a key of the calculation stands for.
    #[must_use]
    pub fn policy(&self, key: &PolicyKey) -> Option<&Resource> {
        if key.kind == PolicyKind::KubernetesClusterNetworkPolicy {
            let kv = self.objects.get(&Key::ClusterNetworkPolicy(key.name.clone()))?;
            return match &kv.value {
                Value::Resource(r) => Some(r),
                _ => None,
            };
        }
        let kind = Kind::ALL.iter().find(|k| k.name() == key.kind.name())?;
        self.resource(*kind, &key.namespace, &key.name)
    }

    /// The endpoint that has an address.
    #[must_use]
    pub fn endpoint_at(&self, addr: IpAddr) -> Option<&Endpoint> {
        self.endpoints.values().find(|e| e.addresses.contains(&addr))
    }

    /// What Felix on a node would tell its dataplane.
    pub fn mirror(&mut self, node: &str) -> Result<Rc<Mirror>> {
        if let Some(mirror) = self.mirrors.get(node) {
            return Ok(mirror.clone());
        }
        let mut graph = CalcGraph::new(Config { hostname: node.to_owned(), ..Config::default() });
        for update in &self.updates {
            graph.on_update(update.clone());
        }
        graph.on_status(SyncStatus::InSync);
        let mut messages = Vec::new();
        graph.flush(&mut messages);
        let mut mirror = Mirror::default();
        mirror.apply_all(&messages).map_err(|e| Error::Action(format!("calculation for {node}: {e}")))?;
        let mirror = Rc::new(mirror);
        self.mirrors.insert(node.to_owned(), mirror.clone());
        Ok(mirror)
    }

    /// A host interface that is expected to have an address.
    #[must_use]
    pub fn host_at(&self, addr: IpAddr) -> Option<&HostInterface> {
        self.hosts.values().find(|h| h.addresses.contains(&addr))
    }

    /// The addresses and ports behind a service's port, or behind all of them, by what its EndpointSlices say: a port
    /// of theirs is behind the service's port with its name. The error says why there are none.
    pub fn backends(&self, namespace: &str, service: &str, traffic: Traffic) -> Result<Vec<Backend>> {
        let full = format!("{namespace}/{service}");
        let wrong = |text: String| Error::Usage(format!("svc:{full}: {text}"));
        let key = Key::Service { namespace: namespace.to_owned(), name: service.to_owned() };
        let Some(Value::Service(found)) = self.objects.get(&key).map(|kv| &kv.value) else {
            return Err(wrong("there is no such service; on etcd services are not known".to_owned()));
        };
        let protocol = traffic.protocol_name();
        let same = |p: &str| p.eq_ignore_ascii_case(&protocol) || (p.is_empty() && protocol == "TCP");
        let ports = || found.spec.ports.iter().filter(|p| same(&p.protocol));
        let asked: BTreeSet<&str> =
            ports().filter(|p| traffic.port.is_none_or(|n| n == p.port)).map(|p| p.name.as_str()).collect();
        if asked.is_empty() {
            let shown: Vec<String> = ports().map(|p| p.port.to_string()).collect();
            return Err(wrong(format!("its {protocol} ports are: {}", shown.join(", "))));
        }
        let slices = self.objects.values().filter_map(|kv| match &kv.value {
            Value::EndpointSlice(s) if s.service().as_deref() == Some(full.as_str()) => Some(s),
            _ => None,
        });
        let mut backends = BTreeSet::new();
        for slice in slices {
            for p in slice.ports.iter().filter(|p| same(&p.protocol) && asked.contains(p.name.as_str())) {
                backends.extend(slice.addresses().filter_map(|addr| Some(Backend { addr, port: p.port? })));
            }
        }
        if backends.is_empty() {
            return Err(wrong("no pod is behind it: its EndpointSlices name no address".to_owned()));
        }
        Ok(backends.into_iter().collect())
    }

    /// The ports on which a host's interface is reached, or reaches others, whatever policy says.
    #[must_use]
    pub fn failsafe(&self, node: &str, inbound: bool) -> Vec<FailsafePort> {
        let of = |name: &str| match self.resource(Kind::FelixConfiguration, "", name) {
            Some(Resource::FelixConfiguration(f)) if inbound => f.spec.failsafe_inbound_host_ports.clone(),
            Some(Resource::FelixConfiguration(f)) => f.spec.failsafe_outbound_host_ports.clone(),
            _ => None,
        };
        of(&format!("node.{node}")).or_else(|| of("default")).unwrap_or_else(|| default_failsafe(inbound))
    }

    /// The host endpoint that is for the interface by which a node's workload reaches what is elsewhere: the node's
    /// only one. To workloads elsewhere the way may lead through a tunnel, which only a wildcard endpoint is for.
    #[must_use]
    pub fn way_out(&self, node: &str, to_workload: bool) -> Option<EndKey> {
        let mut own = self.hosts.values().filter(|h| h.node == node && (h.wildcard || !to_workload));
        let first = own.next().map(HostInterface::key)?;
        own.next().is_none().then_some(first)
    }

    /// The host endpoint that is for the interfaces of a node's workloads: the first wildcard one.
    #[must_use]
    pub fn wildcard(&self, node: &str) -> Option<EndKey> {
        self.hosts.values().find(|h| h.node == node && h.wildcard).map(HostInterface::key)
    }

    /// False where FelixConfiguration says that workloads do not reach their own node.
    #[must_use]
    pub fn workloads_reach_host(&self, node: &str) -> bool {
        let of = |name: &str| match self.resource(Kind::FelixConfiguration, "", name) {
            Some(Resource::FelixConfiguration(f)) => f.spec.default_endpoint_to_host_action.clone(),
            _ => None,
        };
        let action = of(&format!("node.{node}")).or_else(|| of("default"));
        !action.is_some_and(|a| a.eq_ignore_ascii_case("Drop"))
    }

    /// An interface whose endpoint names no address has its node's.
    fn fill_host_addresses(&mut self) {
        let addresses: BTreeMap<String, Vec<IpAddr>> =
            self.hosts.values().map(|h| (h.node.clone(), self.node_addresses(&h.node))).collect();
        for h in self.hosts.values_mut().filter(|h| h.addresses.is_empty()) {
            h.addresses = addresses.get(&h.node).cloned().unwrap_or_default();
        }
    }

    fn node_addresses(&self, node: &str) -> Vec<IpAddr> {
        let Some(Resource::Node(n)) = self.resource(Kind::Node, "", node) else { return Vec::new() };
        let bgp = n.spec.bgp.iter().flat_map(|b| [b.ipv4_address.as_deref(), b.ipv6_address.as_deref()]);
        let own = n.spec.addresses.iter().map(|a| Some(a.address.as_str()));
        let texts = bgp.chain(own).flatten().map(|t| t.split('/').next().unwrap_or_default());
        let mut found: Vec<IpAddr> = texts.filter_map(|t| t.parse().ok()).collect();
        found.dedup();
        found
    }

    /// What Felix on the endpoint's node calculated for it.
    pub fn calculated(&mut self, key: &EndKey) -> Result<Calculated> {
        let unused = |name: &str| Error::Action(format!("{name}: Felix would not use this endpoint"));
        match key {
            EndKey::Workload(w) => {
                let mirror = self.mirror(&w.host)?;
                let endpoint = mirror.workloads.get(w).cloned().ok_or_else(|| unused(&w.workload))?;
                Ok(Calculated {
                    mirror,
                    endpoint,
                    host: None,
                    name: w.workload.clone(),
                    node: w.host.clone(),
                })
            }
            EndKey::Host { node, name } => {
                let mirror = self.mirror(node)?;
                let host = mirror.hosts.get(name).cloned().ok_or_else(|| unused(name))?;
                // The same lists decide in the same way at either kind of endpoint.
                let stage = |tiers: &[TierInfo], profiles: &[String]| {
                    Arc::new(WorkloadEndpoint {
                        active: true,
                        tiers: tiers.into(),
                        profiles: profiles.to_vec(),
                        ..WorkloadEndpoint::default()
                    })
                };
                // What their rules leave open goes on.
                let endless = |tiers: &[TierInfo]| -> Vec<TierInfo> {
                    let pass =
                        |t: &TierInfo| TierInfo { default_action: TierDefaultAction::Pass, ..t.clone() };
                    tiers.iter().map(pass).collect()
                };
                // Felix has no untracked policy where the interface is not known.
                let wildcard = host.interface_name == "*";
                let untracked = if wildcard { &[] } else { &*host.untracked_tiers };
                let stages = HostStages {
                    untracked: stage(&endless(untracked), &[]),
                    pre_dnat: stage(&endless(&host.pre_dnat_tiers), &[]),
                    forward: stage(&host.forward_tiers, &[]),
                    failsafe: [true, false].map(|inbound| self.failsafe(node, inbound)),
                };
                let endpoint = stage(&host.tiers, &host.profiles);
                let (name, node) = (format!("host endpoint {name}"), node.clone());
                Ok(Calculated { mirror, endpoint, host: Some(Rc::new(stages)), name, node })
            }
        }
    }

    /// Adds a pod that does not exist yet. It gets the profiles that other pods of its namespace have, else
    /// Kubernetes' (`kns.NAMESPACE`, `ksa.NAMESPACE.default`), and unused addresses from the pools.
    pub fn imagine(&mut self, namespace: &str, labels: BTreeMap<String, String>) -> WorkloadEndpointKey {
        self.imagined += 1;
        let name = format!("new-pod-{}", self.imagined);
        let sibling = self.endpoints.values().find(|e| e.namespace == namespace && e.key.host != NOWHERE);
        let profiles = sibling.map_or_else(
            || vec![format!("kns.{namespace}"), format!("ksa.{namespace}.default")],
            |e| e.profiles.clone(),
        );
        let mut value = backend::WorkloadEndpoint {
            state: "active".to_owned(),
            name: name.clone(),
            profile_ids: profiles.clone(),
            labels,
            ..backend::WorkloadEndpoint::default()
        };
        value.labels.insert(NAMESPACE_LABEL.to_owned(), namespace.to_owned());
        value.labels.insert(ORCHESTRATOR_LABEL.to_owned(), "k8s".to_owned());
        let addresses = self.unused_addresses();
        for addr in &addresses {
            match IpNet::from(*addr) {
                IpNet::V4(n) => value.ipv4_nets.push(n),
                IpNet::V6(n) => value.ipv6_nets.push(n),
            }
        }
        let key = WorkloadEndpointKey {
            host: NOWHERE.to_owned(),
            orchestrator: "k8s".to_owned(),
            workload: format!("{namespace}/{name}"),
            endpoint: "eth0".to_owned(),
        };
        let (name, namespace) = (key.workload.clone(), namespace.to_owned());
        self.endpoints
            .insert(key.clone(), Endpoint { key: key.clone(), name, namespace, addresses, profiles });
        self.updates.push(Update {
            key: Key::WorkloadEndpoint(key.clone()),
            value: Some(Value::WorkloadEndpoint(Arc::new(value))),
            revision: Revision::default(),
        });
        self.mirrors.clear();
        key
    }

    /// One address of each family that has a pool; the documentation's network where there is none.
    fn unused_addresses(&self) -> Vec<IpAddr> {
        let used: BTreeSet<IpAddr> =
            self.endpoints.values().flat_map(|e| e.addresses.iter().copied()).collect();
        let pools: Vec<IpNet> = self.objects.values().filter_map(enabled_pool).collect();
        let last = |net: &IpNet| {
            let family = Family::of_net(*net);
            let mut n = to_u128(net.broadcast());
            // Downwards from the end, where a growing cluster arrives last.
            loop {
                n = n.checked_sub(1)?;
                let addr = from_u128(family, n).filter(|a| net.contains(a))?;
                if !used.contains(&addr) {
                    return Some(addr);
                }
            }
        };
        let of = |family| pools.iter().filter(|p| Family::of_net(**p) == family).find_map(last);
        let found: Vec<IpAddr> = [of(Family::V4), of(Family::V6)].into_iter().flatten().collect();
        if !found.is_empty() {
            return found;
        }
        let n = to_u128(OUTSIDE[0]) + self.imagined;
        from_u128(Family::V4, n).into_iter().collect()
    }
}

/// What Felix makes of an end.
#[derive(Clone)]
pub struct Calculated {
    pub mirror: Rc<Mirror>,
    pub endpoint: Arc<WorkloadEndpoint>,
    /// What comes before its policies where it is a host's.
    pub host: Option<Rc<HostStages>>,
    pub name: String,
    pub node: String,
}

/// What is looked at before a host endpoint's usual policies.
pub struct HostStages {
    pub untracked: Arc<WorkloadEndpoint>,
    /// For what arrives.
    pub pre_dnat: Arc<WorkloadEndpoint>,
    /// For what is on its way to or from elsewhere. Where it has no policy it lets pass.
    pub forward: Arc<WorkloadEndpoint>,
    /// Inbound, outbound.
    pub failsafe: [Vec<FailsafePort>; 2],
}

/// An address and port behind a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Backend {
    pub addr: IpAddr,
    pub port: u16,
}

/// Felix's own list: SSH, DHCP, BGP, etcd, Typha, the API server, and Calico's old ports for etcd.
fn default_failsafe(inbound: bool) -> Vec<FailsafePort> {
    let own: [(&str, i32); 2] = if inbound { [("TCP", 22), ("UDP", 68)] } else { [("UDP", 53), ("UDP", 67)] };
    let common = [179, 2379, 2380, 5473, 6443, 6666, 6667].map(|port| ("TCP", port));
    let port = |(protocol, port): (&str, i32)| FailsafePort {
        net: None,
        port: Some(port),
        protocol: Some(protocol.to_owned()),
    };
    own.into_iter().chain(common).map(port).collect()
}

fn note_host(hosts: &mut BTreeMap<String, HostInterface>, key: &Key, value: &Value) {
    let (Key::HostEndpoint { host, name }, Value::HostEndpoint(v)) = (key, value) else { return };
    let v4 = v.expected_ipv4_addrs.iter().copied().map(IpAddr::V4);
    let v6 = v.expected_ipv6_addrs.iter().copied().map(IpAddr::V6);
    let found = HostInterface {
        name: name.clone(),
        node: host.clone(),
        addresses: v4.chain(v6).collect(),
        wildcard: v.name == "*",
    };
    hosts.insert(name.clone(), found);
}

fn enabled_pool(kv: &KeyValue) -> Option<IpNet> {
    match &kv.value {
        Value::Resource(r) => match &**r {
            Resource::IPPool(p) if p.spec.disabled != Some(true) => p.network(),
            _ => None,
        },
        _ => None,
    }
}

fn subject(key: &Key) -> String {
    match key {
        Key::Resource(r) => r.to_string(),
        other => other.to_string(),
    }
}

fn note_endpoint(
    endpoints: &mut BTreeMap<WorkloadEndpointKey, Endpoint>,
    stored: &KeyValue,
    key: &Key,
    value: &Value,
) {
    let (Key::WorkloadEndpoint(key), Value::WorkloadEndpoint(v)) = (key, value) else { return };
    let Key::Resource(resource) = &stored.key else { return };
    let namespace = resource.namespace.clone();
    let pod = match &stored.value {
        Value::Resource(r) => match &**r {
            Resource::WorkloadEndpoint(w) if !w.spec.pod.is_empty() => w.spec.pod.clone(),
            _ => key.workload.rsplit('/').next().unwrap_or_default().to_owned(),
        },
        _ => String::new(),
    };
    let v4 = v.ipv4_nets.iter().map(|n| IpAddr::V4(n.addr()));
    let v6 = v.ipv6_nets.iter().map(|n| IpAddr::V6(n.addr()));
    let endpoint = Endpoint {
        key: key.clone(),
        name: format!("{namespace}/{pod}"),
        namespace,
        addresses: v4.chain(v6).collect(),
        profiles: v.profile_ids.clone(),
    };
    endpoints.insert(key.clone(), endpoint);
}
