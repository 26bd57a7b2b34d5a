//! Kubernetes' own objects of a world: its policies, and the EndpointSlices of its services.

use libcalico_api::{Kind, Resource};
use libcalico_model::kubernetes::{cluster_network_policy, network_policy, service};
use libcalico_model::{Key, KeyValue, Revision, Value as Stored};
use serde_json::{Map, Value, json};

use super::{texts, valid};
use crate::world::{
    Action, ClusterPeer, ClusterPods, ClusterPolicy, ClusterPort, ClusterRule, End, KubernetesPeer,
    KubernetesPolicy, KubernetesPort, KubernetesRule, LabelSelector, NAMESPACES, Port, Selector, Transport,
    World,
};

/// What a document is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Document {
    Policy,
    Staged,
    Cluster,
    Slice,
}

/// Every object, as the datastore's Kubernetes part gives it.
pub fn stored(world: &World) -> Vec<KeyValue> {
    documents(world).into_iter().map(|(what, value)| convert(what, &value)).collect()
}

fn convert(what: Document, value: &Value) -> KeyValue {
    let bytes = value.to_string();
    let bytes = bytes.as_bytes();
    let text = |at: &str| value["metadata"][at].as_str().unwrap_or_default().to_owned();
    match what {
        Document::Policy => {
            let made = network_policy::convert(bytes).unwrap_or_else(|e| panic!("{value}: {e}"));
            assert!(made.left_out.is_empty(), "{value}: {:?}", made.left_out);
            valid_as_it_is(made.policy.into())
        }
        Document::Staged => {
            let kind = Kind::StagedKubernetesNetworkPolicy;
            valid(Resource::from_value_strict(kind, value).unwrap_or_else(|e| panic!("{value}: {e:?}")))
        }
        Document::Cluster => {
            let made = cluster_network_policy::convert(bytes).unwrap_or_else(|e| panic!("{value}: {e}"));
            assert!(made.replaced.is_empty(), "{value}: {:?}", made.replaced);
            let resource: Resource = made.policy.into();
            let key = Key::ClusterNetworkPolicy(text("name"));
            KeyValue { key, value: resource.into(), revision: Revision::default() }
        }
        Document::Slice => {
            let slice = service::endpoint_slice(bytes).unwrap_or_else(|e| panic!("{value}: {e}"));
            let key = Key::EndpointSlice { namespace: text("namespace"), name: text("name") };
            KeyValue { key, value: Stored::EndpointSlice(slice.into()), revision: Revision::default() }
        }
    }
}

/// A policy that Kubernetes' API server has checked already: Calico's API gives it no defaults.
fn valid_as_it_is(resource: Resource) -> KeyValue {
    let key = libcalico_datastore::resources::key_of(&resource);
    KeyValue { key, value: resource.into(), revision: Revision::default() }
}

/// The documents, as they are applied to Kubernetes.
pub fn documents(world: &World) -> Vec<(Document, Value)> {
    let mut all = Vec::new();
    for p in &world.kubernetes {
        all.push((if p.staged { Document::Staged } else { Document::Policy }, policy(p)));
    }
    all.extend(world.cluster.iter().map(|p| (Document::Cluster, cluster(p))));
    for (n, s) in world.services.iter().enumerate() {
        let slices: Vec<&[End]> = if s.apart { s.backends.chunks(1).collect() } else { vec![&s.backends] };
        let families = [(true, "IPv4"), (false, "IPv6")];
        for ((v4, family), (at, backends)) in
            families.into_iter().flat_map(|f| slices.iter().enumerate().map(move |s| (f, s)))
        {
            let addresses = backends.iter().map(|e| {
                let mut endpoint = json!({ "addresses": [e.address(v4)] });
                if s.unready {
                    endpoint["conditions"] = json!({ "ready": false, "serving": false });
                }
                endpoint
            });
            let ports = s.ports.iter().enumerate().map(|(at, (transport, port))| {
                json!({ "name": format!("p{at}"), "protocol": protocol(*transport), "port": port })
            });
            all.push((
                Document::Slice,
                json!({
                    "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
                    "metadata": {
                        "name": format!("service{n}-{}-{at}", family.to_lowercase()),
                        "namespace": NAMESPACES[s.namespace],
                        "labels": { "kubernetes.io/service-name": format!("service{n}") },
                    },
                    "endpoints": addresses.collect::<Vec<_>>(), "ports": ports.collect::<Vec<_>>(),
                }),
            ));
        }
    }
    all
}

/// What a rule says to mean a service. Its namespace is left out where it is the policy's own.
pub fn service_match(world: &World, service: usize, namespace: Option<usize>) -> Value {
    let of = world.services.get(service).map_or(0, |s| s.namespace);
    let mut out = json!({ "name": format!("service{service}") });
    if namespace != Some(of) {
        out["namespace"] = json!(NAMESPACES[of]);
    }
    out
}

/// As Kubernetes writes it, and Calico too.
pub fn protocol(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "TCP",
        Transport::Udp => "UDP",
        Transport::Sctp => "SCTP",
    }
}

fn label_selector(terms: &LabelSelector) -> Value {
    let mut labels = Map::new();
    let mut expressions = Vec::new();
    for term in terms {
        let mut one_of = |key: &str, operator: &str, values: &[String]| {
            let mut e = json!({ "key": key, "operator": operator });
            if !values.is_empty() {
                e["values"] = json!(values);
            }
            expressions.push(e);
        };
        match term {
            Selector::Is(k, v) if !labels.contains_key(k) => drop(labels.insert(k.clone(), json!(v))),
            Selector::Is(k, v) => one_of(k, "In", std::slice::from_ref(v)),
            Selector::In(k, values) => one_of(k, "In", values),
            Selector::NotIn(k, values) => one_of(k, "NotIn", values),
            Selector::Has(k) => one_of(k, "Exists", &[]),
            Selector::HasNot(k) => one_of(k, "DoesNotExist", &[]),
            other => panic!("{other} is no requirement of Kubernetes'"),
        }
    }
    let mut out = json!({});
    if !labels.is_empty() {
        out["matchLabels"] = labels.into();
    }
    if !expressions.is_empty() {
        out["matchExpressions"] = expressions.into();
    }
    out
}

fn policy(p: &KubernetesPolicy) -> Value {
    let mut spec = json!({ "podSelector": label_selector(&p.pods) });
    let mut types = Vec::new();
    for (name, peers, direction, rules) in
        [("ingress", "from", "Ingress", &p.ingress), ("egress", "to", "Egress", &p.egress)]
    {
        if let Some(rules) = rules {
            types.push(direction);
            spec[name] = rules.iter().map(|r| rule(r, peers)).collect();
        }
    }
    if p.types_given {
        spec["policyTypes"] = json!(types);
    }
    let (version, kind) = if p.staged {
        spec["stagedAction"] = json!("Set");
        ("projectcalico.org/v3", "StagedKubernetesNetworkPolicy")
    } else {
        ("networking.k8s.io/v1", "NetworkPolicy")
    };
    json!({
        "apiVersion": version, "kind": kind,
        "metadata": { "name": p.name, "namespace": NAMESPACES[p.namespace] }, "spec": spec,
    })
}

fn rule(r: &KubernetesRule, peers: &str) -> Value {
    let mut out = json!({});
    if !r.peers.is_empty() {
        out[peers] = r.peers.iter().map(peer).collect();
    }
    if !r.ports.is_empty() {
        out["ports"] = r.ports.iter().map(port).collect();
    }
    out
}

fn peer(p: &KubernetesPeer) -> Value {
    match p {
        KubernetesPeer::Block(net, except) => {
            json!({ "ipBlock": { "cidr": net.to_string(), "except": texts(except) } })
        }
        KubernetesPeer::Pods { namespaces, pods } => {
            let mut out = json!({});
            for (name, terms) in [("namespaceSelector", namespaces), ("podSelector", pods)] {
                if let Some(terms) = terms {
                    out[name] = label_selector(terms);
                }
            }
            out
        }
    }
}

fn port(p: &KubernetesPort) -> Value {
    let mut out = json!({});
    // TCP goes without saying, but an empty port would say nothing.
    if p.transport != Transport::Tcp || p.port.is_none() {
        out["protocol"] = json!(protocol(p.transport));
    }
    match &p.port {
        None => {}
        Some(Port::Number(n)) => out["port"] = json!(n),
        Some(Port::Named(name)) => out["port"] = json!(name),
        Some(Port::Range(first, last)) => {
            out["port"] = json!(first);
            out["endPort"] = json!(last);
        }
    }
    out
}

fn cluster(p: &ClusterPolicy) -> Value {
    let rules = |list: &[ClusterRule], peers: &str| list.iter().map(|r| cluster_rule(r, peers)).collect();
    let mut spec = json!({
        "tier": if p.admin { "Admin" } else { "Baseline" }, "priority": p.priority,
        "subject": cluster_pods(&p.subject),
    });
    let (ingress, egress): (Vec<Value>, Vec<Value>) = (rules(&p.ingress, "from"), rules(&p.egress, "to"));
    spec["ingress"] = json!(ingress);
    spec["egress"] = json!(egress);
    json!({
        "apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
        "metadata": { "name": p.name }, "spec": spec,
    })
}

fn cluster_pods(p: &ClusterPods) -> Value {
    let namespaces = label_selector(&p.namespaces);
    match &p.pods {
        None => json!({ "namespaces": namespaces }),
        Some(pods) => {
            json!({ "pods": { "namespaceSelector": namespaces, "podSelector": label_selector(pods) } })
        }
    }
}

fn cluster_rule(r: &ClusterRule, peers: &str) -> Value {
    let action = match r.action {
        Action::Allow => "Accept",
        Action::Deny => "Deny",
        Action::Pass => "Pass",
        Action::Log => panic!("a ClusterNetworkPolicy has no Log rules"),
    };
    let to = r.peers.iter().map(|p| match p {
        ClusterPeer::Pods(p) => cluster_pods(p),
        ClusterPeer::Networks(nets) => json!({ "networks": texts(nets) }),
    });
    let mut out = json!({ "action": action, peers: to.collect::<Vec<_>>() });
    if !r.ports.is_empty() {
        let of = |p: &Option<Port>| match p {
            None => json!({}),
            Some(Port::Range(first, last)) => {
                json!({ "destinationPort": { "range": { "start": first, "end": last } } })
            }
            Some(Port::Number(n)) => json!({ "destinationPort": { "number": n } }),
            Some(Port::Named(name)) => panic!("{name}: such a port is of any protocol"),
        };
        let ports = r.ports.iter().map(|p| match p {
            ClusterPort::Of(t, p) => json!({ protocol(*t).to_lowercase(): of(p) }),
            ClusterPort::Named(name) => json!({ "destinationNamedPort": name }),
        });
        out["protocols"] = ports.collect();
    }
    out
}
