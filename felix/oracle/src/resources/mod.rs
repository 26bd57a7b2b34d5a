//! A world as objects of `projectcalico.org/v3`.

use libcalico_api::{Kind, Resource};
use serde_json::{Map, Value, json};

use crate::world::{
    ACCOUNTS, Action, End, Icmp, Labels, NAMESPACES, NODE, NamespaceSelector, Pod, Policy, PolicyUse, Port,
    Profile, Protocol, Rule, Set, Side, UPLINK, World,
};

/// Every object of the world.
///
/// # Panics
/// Where an object is not one that the API takes: the strategy is wrong then.
#[must_use]
pub fn resources(world: &World) -> Vec<Resource> {
    documents(world)
        .iter()
        .map(|(kind, value)| {
            let mut resource =
                Resource::from_value_strict(*kind, value).unwrap_or_else(|e| panic!("{value}: {e:?}"));
            resource.set_defaults();
            if let Err(e) = resource.validate() {
                panic!("{value}: {e:?}");
            }
            resource
        })
        .collect()
}

/// The world's objects as documents, to print and to apply.
///
/// # Panics
/// As [`resources`].
#[must_use]
pub fn yaml(world: &World) -> String {
    let documents: Vec<String> =
        resources(world).iter().map(|r| serde_saphyr::to_string(r).expect("YAML")).collect();
    documents.join("---\n")
}

/// The pod's name.
#[must_use]
pub fn pod_name(n: usize) -> String {
    format!("p{n}")
}

/// Name of the pod's interface on the node.
#[must_use]
pub fn interface(n: usize) -> String {
    format!("cali{:x}pod", n + 2)
}

fn documents(world: &World) -> Vec<(Kind, Value)> {
    let mut all = Vec::new();
    let mut add = |kind: Kind, namespace: Option<usize>, name: &str, labels: &Labels, spec: Value| {
        let mut metadata = json!({ "name": name, "labels": labels });
        if let Some(n) = namespace {
            metadata["namespace"] = json!(NAMESPACES[n]);
        }
        let header = json!({
            "apiVersion": "projectcalico.org/v3", "kind": kind.name(), "metadata": metadata, "spec": spec,
        });
        all.push((kind, header));
    };
    let none = Labels::new();
    let default = json!({ "order": 1_000_000.0, "defaultAction": "Deny" });
    add(Kind::Tier, None, "default", &none, default);
    for t in &world.tiers {
        let mut spec = json!({ "defaultAction": if t.pass { "Pass" } else { "Deny" } });
        put(&mut spec, "order", t.order);
        add(Kind::Tier, None, &t.name, &none, spec);
    }
    let prefixed = |prefix: &str, labels: &Labels| -> Labels {
        labels.iter().map(|(k, v)| (format!("{prefix}{k}"), v.clone())).collect()
    };
    for (n, namespace) in NAMESPACES.iter().enumerate() {
        let mut apply = prefixed("pcns.", &world.namespaces[n].labels);
        apply.insert("pcns.projectcalico.org/name".to_owned(), (*namespace).to_owned());
        let rules = if world.namespaces[n].open { json!([{ "action": "Allow" }]) } else { json!([]) };
        let spec = json!({ "labelsToApply": apply, "ingress": rules, "egress": rules });
        add(Kind::Profile, None, &format!("kns.{namespace}"), &none, spec);
        for (a, account) in ACCOUNTS.iter().enumerate() {
            let mut apply = prefixed("pcsa.", &world.accounts[n][a]);
            apply.insert("pcsa.projectcalico.org/name".to_owned(), (*account).to_owned());
            let spec = json!({ "labelsToApply": apply });
            add(Kind::Profile, None, &format!("ksa.{namespace}.{account}"), &none, spec);
        }
    }
    for (n, p) in world.profiles.iter().enumerate() {
        add(Kind::Profile, None, &format!("profile{n}"), &none, profile(p));
    }
    for (n, s) in world.sets.iter().enumerate() {
        let Set { namespace, labels, nets } = s;
        let kind = if namespace.is_some() { Kind::NetworkSet } else { Kind::GlobalNetworkSet };
        add(kind, *namespace, &format!("set{n}"), labels, json!({ "nets": texts(nets) }));
    }
    for (n, pod) in world.pods.iter().enumerate() {
        let mut labels = pod.labels.clone();
        labels.insert("projectcalico.org/namespace".to_owned(), NAMESPACES[pod.namespace].to_owned());
        labels.insert("projectcalico.org/serviceaccount".to_owned(), ACCOUNTS[pod.account].to_owned());
        labels.insert("projectcalico.org/orchestrator".to_owned(), "k8s".to_owned());
        let name = format!("{NODE}-k8s-{}-eth0", pod_name(n));
        add(Kind::WorkloadEndpoint, Some(pod.namespace), &name, &labels, workload(n, pod));
    }
    if let Some(host) = &world.host {
        let addresses = [true, false].map(|v4| End::Node.address(v4).to_string());
        let mut spec = json!({ "node": NODE, "expectedIPs": addresses });
        if !host.by_address {
            spec["interfaceName"] = json!(UPLINK);
        }
        if let Some(p) = host.profile {
            spec["profiles"] = json!([format!("profile{p}")]);
        }
        add(Kind::HostEndpoint, None, "uplink", &host.labels, spec);
    }
    for p in &world.policies {
        let kind = match (p.namespace.is_some(), p.staged) {
            (true, false) => Kind::NetworkPolicy,
            (true, true) => Kind::StagedNetworkPolicy,
            (false, false) => Kind::GlobalNetworkPolicy,
            (false, true) => Kind::StagedGlobalNetworkPolicy,
        };
        add(kind, p.namespace, &policy_name(world, p), &none, policy(world, p));
    }
    all
}

/// A policy's name: in a tier of its own it begins with the tier's.
fn policy_name(world: &World, p: &Policy) -> String {
    let tier = p.tier.and_then(|t| world.tiers.get(t)).map_or("default", |t| t.name.as_str());
    format!("{tier}.{}", p.name)
}

fn put<T: serde_json::value::Index, V: Into<Value>>(at: &mut Value, name: T, value: Option<V>) {
    if let Some(v) = value {
        at[name] = v.into();
    }
}

fn texts<T: ToString>(list: &[T]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn profile(p: &Profile) -> Value {
    let rules = |list: &[Rule]| list.iter().map(rule).collect::<Vec<_>>();
    json!({ "labelsToApply": p.labels, "ingress": rules(&p.ingress), "egress": rules(&p.egress) })
}

fn workload(n: usize, pod: &Pod) -> Value {
    let (namespace, account) = (NAMESPACES[pod.namespace], ACCOUNTS[pod.account]);
    let mut profiles = vec![format!("kns.{namespace}"), format!("ksa.{namespace}.{account}")];
    if let Some(p) = pod.profile {
        profiles.insert(0, format!("profile{p}"));
    }
    let ports: Vec<Value> = pod
        .ports
        .iter()
        .map(|p| json!({ "name": p.name, "protocol": if p.tcp { "TCP" } else { "UDP" }, "port": p.port }))
        .collect();
    let end = End::Pod(n);
    let networks = [format!("{}/32", end.address(true)), format!("{}/128", end.address(false))];
    json!({
        "orchestrator": "k8s", "node": NODE, "pod": pod_name(n), "endpoint": "eth0", "serviceAccountName": account,
        "containerID": format!("container{n}"), "interfaceName": interface(n), "profiles": profiles,
        "ipNetworks": networks, "ports": ports,
    })
}

fn policy(world: &World, p: &Policy) -> Value {
    let tier = p.tier.and_then(|t| world.tiers.get(t)).map_or("default", |t| t.name.as_str());
    let mut types = Vec::new();
    let mut spec = json!({ "tier": tier, "selector": p.selector.to_string() });
    put(&mut spec, "order", p.order);
    put(&mut spec, "serviceAccountSelector", p.account_selector.as_ref().map(ToString::to_string));
    if p.namespace.is_none() {
        put(&mut spec, "namespaceSelector", p.namespace_selector.as_ref().map(ToString::to_string));
    }
    for (name, direction, rules) in [("ingress", "Ingress", &p.ingress), ("egress", "Egress", &p.egress)] {
        if let Some(rules) = rules {
            types.push(direction);
            spec[name] = rules.iter().map(rule).collect();
        }
    }
    spec["types"] = json!(types);
    if p.purpose != PolicyUse::Normal {
        spec["applyOnForward"] = json!(true);
    }
    if p.purpose == PolicyUse::PreDnat {
        spec["preDNAT"] = json!(true);
    }
    spec
}

fn protocol(p: Protocol) -> Value {
    match p {
        Protocol::Tcp => json!("TCP"),
        Protocol::Udp => json!("UDP"),
        Protocol::Icmp => json!("ICMP"),
        Protocol::Icmpv6 => json!("ICMPv6"),
        Protocol::Number(n) => json!(n),
    }
}

fn icmp(i: Icmp) -> Value {
    let mut out = json!({ "type": i.icmp_type });
    put(&mut out, "code", i.code);
    out
}

fn rule(r: &Rule) -> Value {
    let action = match r.action {
        Action::Allow => "Allow",
        Action::Deny => "Deny",
        Action::Pass => "Pass",
        Action::Log => "Log",
    };
    let mut out = json!({ "action": action });
    put(&mut out, "ipVersion", r.ip_version);
    put(&mut out, "protocol", r.protocol.map(protocol));
    put(&mut out, "notProtocol", r.not_protocol.map(protocol));
    put(&mut out, "icmp", r.icmp.map(icmp));
    put(&mut out, "notICMP", r.not_icmp.map(icmp));
    for (name, s) in [("source", &r.source), ("destination", &r.destination)] {
        let s = side(s);
        if !s.is_empty() {
            out[name] = Value::Object(s);
        }
    }
    out
}

fn side(s: &Side) -> Map<String, Value> {
    let mut out = Map::new();
    let port = |p: &Port| match p {
        Port::Number(n) => json!(n),
        Port::Range(first, last) => json!(format!("{first}:{last}")),
        Port::Named(name) => json!(name),
    };
    let mut list = |name: &str, values: Vec<Value>| {
        if !values.is_empty() {
            out.insert(name.to_owned(), values.into());
        }
    };
    let values = |nets| texts(nets).into_iter().map(Value::from).collect();
    list("nets", values(&s.nets));
    list("notNets", values(&s.not_nets));
    list("ports", s.ports.iter().map(port).collect());
    list("notPorts", s.not_ports.iter().map(port).collect());
    let mut text = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            out.insert(name.to_owned(), value.into());
        }
    };
    text("selector", s.selector.as_ref().map(ToString::to_string));
    text("notSelector", s.not_selector.as_ref().map(ToString::to_string));
    text(
        "namespaceSelector",
        s.namespace_selector.as_ref().map(|n| match n {
            NamespaceSelector::Global => "global()".to_owned(),
            NamespaceSelector::Labels(s) => s.to_string(),
        }),
    );
    if !s.account_names.is_empty() || s.account_selector.is_some() {
        let names: Vec<&str> = s.account_names.iter().map(|a| ACCOUNTS[*a]).collect();
        let mut accounts = json!({ "names": names });
        put(&mut accounts, "selector", s.account_selector.as_ref().map(ToString::to_string));
        out.insert("serviceAccounts".to_owned(), accounts);
    }
    out
}
