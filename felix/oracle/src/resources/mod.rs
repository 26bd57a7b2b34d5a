//! A world as objects of `projectcalico.org/v3` and of Kubernetes.

mod kubernetes;

use ipnet::IpNet;
use libcalico_api::{Kind, Resource};
use libcalico_datastore::resources::key_of;
use libcalico_model::{KeyValue, Revision};
use serde_json::{Map, Value, json};

use crate::world::{
    ACCOUNTS, Action, DEFAULT_ALLOW, End, FAILSAFE, Host, Icmp, Interface, Labels, Membership, NAMESPACES,
    NODE, NamedPort, NamespaceSelector, OTHER_NODE, Pod, Policy, PolicyUse, Port, Profile, Profiles,
    Protocol, Remote, Rule, Selector, Set, Side, UPLINK, World, failsafe_net,
};

/// Every object of the world, as a datastore has it.
///
/// # Panics
/// Where an object is not one that the API takes: the strategy is wrong then.
#[must_use]
pub fn stored(world: &World) -> Vec<KeyValue> {
    let own = documents(world).into_iter().map(|(kind, value)| {
        let r = Resource::from_value_strict(kind, &value).unwrap_or_else(|e| panic!("{value}: {e:?}"));
        valid(r)
    });
    let mut all: Vec<KeyValue> = own.collect();
    all.extend(kubernetes::stored(world));
    all
}

/// The resource with its defaults, checked as the API checks it.
fn valid(mut resource: Resource) -> KeyValue {
    resource.set_defaults();
    if let Err(e) = resource.validate() {
        panic!("{resource:?}: {e:?}");
    }
    KeyValue { key: key_of(&resource), value: resource.into(), revision: Revision::default() }
}

/// The world's objects as documents, to print and to apply.
///
/// # Panics
/// Where a document cannot be written as YAML: the strategy is wrong then.
#[must_use]
pub fn yaml(world: &World) -> String {
    let own = documents(world).into_iter().map(|(_, value)| value);
    let all = own.chain(kubernetes::documents(world).into_iter().map(|(_, value)| value));
    let texts: Vec<String> = all.map(|d| serde_saphyr::to_string(&d).expect("YAML")).collect();
    texts.join("---\n")
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
    for (name, order) in [("kube-admin", 1_000.0), ("kube-baseline", 10_000_000.0)] {
        add(Kind::Tier, None, name, &none, json!({ "order": order, "defaultAction": "Pass" }));
    }
    let spec = json!({
        "failsafeInboundHostPorts": [{ "protocol": "TCP", "port": FAILSAFE, "net": failsafe_net() }],
        "failsafeOutboundHostPorts": [{ "protocol": "UDP", "port": FAILSAFE }],
    });
    add(Kind::FelixConfiguration, None, "default", &none, spec);
    for t in world.tiers.iter().filter(|t| !t.missing) {
        let mut spec = json!({});
        put(&mut spec, "order", t.order);
        // Deny goes without saying.
        if t.pass || t.order.is_some() {
            spec["defaultAction"] = json!(if t.pass { "Pass" } else { "Deny" });
        }
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
        add(Kind::Profile, None, &format!("profile{n}"), &none, profile(world, p));
    }
    for (n, s) in world.sets.iter().enumerate() {
        let Set { namespace, labels, nets } = s;
        let kind = if namespace.is_some() { Kind::NetworkSet } else { Kind::GlobalNetworkSet };
        add(kind, *namespace, &format!("set{n}"), labels, json!({ "nets": net_texts(nets) }));
    }
    for (n, pod) in world.pods.iter().enumerate() {
        let name = format!("{NODE}-k8s-{}-eth0", pod_name(n));
        let labels = pod_labels(&pod.labels, pod.namespace, pod.account);
        add(Kind::WorkloadEndpoint, Some(pod.namespace), &name, &labels, workload(n, pod));
    }
    for (n, r) in world.remotes.iter().enumerate() {
        let labels = pod_labels(&r.pod.labels, r.pod.namespace, r.pod.account);
        let name = format!("{OTHER_NODE}-k8s-r{n}-eth0");
        add(Kind::WorkloadEndpoint, Some(r.pod.namespace), &name, &labels, remote(n, r));
    }
    let hosts = [
        ("uplink", NODE, End::Node, &world.host),
        ("beside", NODE, End::Node, &world.beside),
        ("outside", OTHER_NODE, End::Outside, &world.outside),
    ];
    for (name, node, end, host) in hosts {
        if let Some(host) = host {
            add(Kind::HostEndpoint, None, name, &host.labels, host_endpoint(host, node, end));
        }
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

/// A pod's labels with those that every pod has.
fn pod_labels(own: &Labels, namespace: usize, account: usize) -> Labels {
    let mut labels = own.clone();
    let fixed = [
        ("projectcalico.org/namespace", NAMESPACES[namespace]),
        ("projectcalico.org/serviceaccount", ACCOUNTS[account]),
        ("projectcalico.org/orchestrator", "k8s"),
    ];
    labels.extend(fixed.map(|(k, v)| (k.to_owned(), v.to_owned())));
    labels
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

/// Networks where Calico's API also takes an address, which one of IPv6 is written as.
fn net_texts(nets: &[IpNet]) -> Vec<String> {
    nets.iter().map(|n| if n.prefix_len() == 128 { n.addr().to_string() } else { n.to_string() }).collect()
}

fn profile(world: &World, p: &Profile) -> Value {
    let rules = |list: &[Rule]| list.iter().map(|r| rule(r, None, world)).collect::<Vec<_>>();
    json!({ "labelsToApply": p.labels, "ingress": rules(&p.ingress), "egress": rules(&p.egress) })
}

fn workload(n: usize, pod: &Pod) -> Value {
    let at: Vec<End> = [n].into_iter().chain(pod.also).map(End::Pod).collect();
    let mut spec = endpoint(pod, &at);
    spec["node"] = json!(NODE);
    spec["pod"] = json!(pod_name(n));
    spec["interfaceName"] = json!(interface(n));
    spec
}

fn remote(n: usize, r: &Remote) -> Value {
    let mut spec = endpoint(&r.pod, &r.at);
    spec["node"] = json!(OTHER_NODE);
    spec["pod"] = json!(format!("r{n}"));
    spec["interfaceName"] = json!(format!("califar{n}"));
    spec
}

fn profile_names(profiles: &Profiles) -> Vec<String> {
    let name = |p: &usize| match *p {
        DEFAULT_ALLOW => "projectcalico-default-allow".to_owned(),
        p => format!("profile{p}"),
    };
    profiles.own.iter().map(name).collect()
}

fn named_ports(ports: &[NamedPort]) -> Vec<Value> {
    let one = |p: &NamedPort| json!({ "name": p.name, "protocol": kubernetes::protocol(p.transport), "port": p.port });
    ports.iter().map(one).collect()
}

fn host_endpoint(host: &Host, node: &str, end: End) -> Value {
    let mut spec = json!({
        "node": node, "ports": named_ports(&host.ports), "profiles": profile_names(&host.profiles),
    });
    if host.addresses {
        spec["expectedIPs"] = json!([true, false].map(|v4| end.address(v4)));
    }
    match host.interface {
        Interface::Named => spec["interfaceName"] = json!(UPLINK),
        Interface::Any => spec["interfaceName"] = json!("*"),
        Interface::Addressed => {}
    }
    spec
}

fn endpoint(pod: &Pod, at: &[End]) -> Value {
    let (namespace, account) = (NAMESPACES[pod.namespace], ACCOUNTS[pod.account]);
    let own = profile_names(&pod.profiles);
    let of_kubernetes = vec![format!("kns.{namespace}"), format!("ksa.{namespace}.{account}")];
    let profiles = match pod.profiles.membership {
        Membership::BehindOwn => [own, of_kubernetes].concat(),
        Membership::BeforeOwn => [of_kubernetes, own].concat(),
        Membership::Nowhere => own,
    };
    let ports = named_ports(&pod.ports);
    let both = |e: &End| [format!("{}/32", e.address(true)), format!("{}/128", e.address(false))];
    let networks: Vec<String> = at.iter().flat_map(both).collect();
    json!({
        "orchestrator": "k8s", "endpoint": "eth0", "serviceAccountName": account, "containerID": "container",
        "profiles": profiles, "ipNetworks": networks, "ports": ports,
    })
}

fn policy(world: &World, p: &Policy) -> Value {
    let tier = p.tier.and_then(|t| world.tiers.get(t)).map(|t| t.name.as_str());
    let mut types = Vec::new();
    let mut spec = json!({});
    put(&mut spec, "tier", tier.or(p.types_given.then_some("default")));
    let says = p.types_given || p.selector != Selector::All;
    put(&mut spec, "selector", says.then(|| p.selector.to_string()));
    if p.hint {
        spec["performanceHints"] = json!(["AssumeNeededOnEveryNode"]);
    }
    put(&mut spec, "order", p.order);
    put(&mut spec, "serviceAccountSelector", p.account_selector.as_ref().map(ToString::to_string));
    if p.namespace.is_none() {
        put(&mut spec, "namespaceSelector", p.namespace_selector.as_ref().map(ToString::to_string));
    }
    for (name, direction, rules) in [("ingress", "Ingress", &p.ingress), ("egress", "Egress", &p.egress)] {
        if let Some(rules) = rules {
            types.push(direction);
            spec[name] = rules.iter().map(|r| rule(r, p.namespace, world)).collect();
        }
    }
    if p.types_given {
        spec["types"] = json!(types);
    }
    if p.purpose != PolicyUse::Normal {
        spec["applyOnForward"] = json!(true);
    }
    match p.purpose {
        PolicyUse::PreDnat => spec["preDNAT"] = json!(true),
        PolicyUse::Untracked => spec["doNotTrack"] = json!(true),
        PolicyUse::Normal | PolicyUse::Forward => {}
    }
    spec
}

fn protocol(p: Protocol) -> Value {
    match p {
        Protocol::Tcp => json!("TCP"),
        Protocol::Udp => json!("UDP"),
        Protocol::Icmp => json!("ICMP"),
        Protocol::Icmpv6 => json!("ICMPv6"),
        Protocol::UdpLite => json!("UDPLite"),
        Protocol::Sctp => json!("SCTP"),
        Protocol::Digits(n) => json!(n.to_string()),
        Protocol::Number(n) => json!(n),
    }
}

fn icmp(i: Icmp) -> Value {
    let mut out = json!({});
    put(&mut out, "type", i.icmp_type);
    put(&mut out, "code", i.code);
    out
}

/// A rule of a policy in a namespace, or in none.
fn rule(r: &Rule, namespace: Option<usize>, world: &World) -> Value {
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
    if r.http {
        out["http"] = json!({ "methods": ["GET"] });
    }
    for (name, s) in [("source", &r.source), ("destination", &r.destination)] {
        let service = s.service;
        let mut s = side(s);
        if let Some(n) = service {
            s.insert("services".to_owned(), kubernetes::service_match(world, n, namespace));
        }
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
    let values = |nets: &[IpNet]| net_texts(nets).into_iter().map(Value::from).collect();
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
            NamespaceSelector::Number(n) => {
                format!("projectcalico.org/name == '{}'", NAMESPACES[*n])
            }
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
