//! A cluster's stored objects, and what Felix calculates from them for any node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::sync::Arc;

use felix_calc::mirror::Mirror;
use felix_calc::{CalcGraph, Config};
use felix_message::WorkloadEndpoint;
use libcalico_api::workload_endpoint::{NAMESPACE_LABEL, ORCHESTRATOR_LABEL};
use libcalico_api::{Kind, Resource};
use libcalico_datastore::syncer::{Converter as _, FelixConverter, felix_scopes};
use libcalico_datastore::{Datastore, Found, Read, resources};
use libcalico_model::key::{PolicyKey, WorkloadEndpointKey};
use libcalico_model::{Key, KeyValue, Revision, SyncStatus, Update, Value, backend};
use libcalico_net::cidr::{Family, IpNet, from_u128, to_u128};

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

/// See the module's text.
pub struct World {
    objects: BTreeMap<Key, KeyValue>,
    updates: Vec<Update>,
    pub endpoints: BTreeMap<WorkloadEndpointKey, Endpoint>,
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
                        let revision = kv.revision.clone();
                        world.updates.push(Update { key, value: Some(value), revision });
                    }
                }
                Err(reason) => world.unusable.push(format!("{}: {reason}", subject(&kv.key))),
            }
        }
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

    /// What Felix on the endpoint's node calculated for it.
    pub fn calculated(&mut self, key: &WorkloadEndpointKey) -> Result<(Rc<Mirror>, Arc<WorkloadEndpoint>)> {
        let mirror = self.mirror(&key.host)?;
        let endpoint = mirror.workloads.get(key).cloned();
        let endpoint = endpoint
            .ok_or_else(|| Error::Action(format!("{}: Felix would not use this endpoint", key.workload)))?;
        Ok((mirror, endpoint))
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
