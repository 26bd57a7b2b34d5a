//! Manifests of Calico's API v1 (Calico 2 and before) as objects of v3.
//!
//! In comes a document with `apiVersion: v1` and a kind such as `ipPool` or `policy`; out goes the v3 object, or every
//! field that is wrong. What changed between the two: names must be lower case and unique in the cluster (made from the
//! v1 identity), tags are labels without a value, words begin with capitals, `net` joined `nets`, selectors name
//! namespaces by `projectcalico.org/namespace`. Pure. What is left out: reading a v1 datastore.

use std::collections::BTreeMap;

use libcalico_api::{API_VERSION, Kind, Resource, strict};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::foreign::reasons_of;

/// API version of v1 manifests.
pub const VERSION: &str = "v1";
const KINDS: [&str; 7] =
    ["bgpPeer", "hostEndpoint", "ipPool", "node", "policy", "profile", "workloadEndpoint"];

/// True for the kinds of v1. Case does not count, as it did not in v1.
#[must_use]
pub fn knows(kind: &str) -> bool {
    KINDS.iter().any(|k| k.eq_ignore_ascii_case(kind))
}

/// Reads a v1 document as a v3 object.
pub fn convert(value: &Value) -> Result<Resource, Vec<String>> {
    let kind = value.get("kind").and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase();
    let (kind, object) = match kind.as_str() {
        "bgppeer" => (Kind::BGPPeer, bgp_peer(read(value)?)),
        "hostendpoint" => (Kind::HostEndpoint, host_endpoint(read(value)?)),
        "ippool" => (Kind::IPPool, ip_pool(read(value)?)),
        "node" => (Kind::Node, node(&read(value)?)),
        "policy" => (Kind::GlobalNetworkPolicy, policy(read(value)?)),
        "profile" => (Kind::Profile, profile(read(value)?)),
        "workloadendpoint" => (Kind::WorkloadEndpoint, workload_endpoint(read(value)?)),
        _ => return Err(vec![format!("kind: unknown; allowed in API v1: {}", KINDS.join(", "))]),
    };
    let mut object = without_null(object);
    object["kind"] = kind.name().into();
    object["apiVersion"] = API_VERSION.into();
    let mut resource = Resource::from_value_strict(kind, &object).map_err(|found| reasons_of(&found))?;
    resource.set_defaults();
    resource.validate().map_err(|found| reasons_of(&found))?;
    Ok(resource)
}

/// A v1 object. Its metadata has fields of its own, so it is read under another name: strict reading knows Kubernetes'
/// metadata alone.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct V1<M, S> {
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "meta")]
    metadata: M,
    spec: S,
}

fn read<M, S>(value: &Value) -> Result<V1<M, S>, Vec<String>>
where
    V1<M, S>: DeserializeOwned,
{
    let mut renamed = value.clone();
    if let Some(map) = renamed.as_object_mut()
        && let Some(metadata) = map.remove("metadata")
    {
        map.insert("meta".to_owned(), metadata);
    }
    let with_its_name = |reason: String| match reason.strip_prefix("meta.") {
        Some(rest) => format!("metadata.{rest}"),
        None => reason,
    };
    strict::decode(&renamed).map_err(|found| reasons_of(&found).into_iter().map(with_its_name).collect())
}

/// What is absent is left out, not null.
fn without_null(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().filter(|(_, v)| !v.is_null());
            Value::Object(kept.map(|(k, v)| (k, without_null(v))).collect())
        }
        Value::Array(items) => items.into_iter().map(without_null).collect(),
        other => other,
    }
}

/// A name that v3 takes: lower case, and dashes for what is not allowed.
fn name(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.';
    let text: String = text.to_ascii_lowercase().chars().map(|c| if allowed(c) { c } else { '-' }).collect();
    text.trim_matches(['-', '.']).to_owned()
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PeerMetadata {
    scope: Option<String>,
    node: Option<String>,
    #[serde(rename = "peerIP")]
    peer_ip: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PeerSpec {
    as_number: Value,
}

fn bgp_peer(p: V1<PeerMetadata, PeerSpec>) -> Value {
    let node = p.metadata.node.filter(|n| !n.is_empty() && p.metadata.scope.as_deref() != Some("global"));
    let own = format!("peer-{}", p.metadata.peer_ip);
    let full = node.as_ref().map_or_else(|| own.clone(), |n| format!("{n}.{own}"));
    json!({
        "metadata": { "name": name(&full) },
        "spec": { "peerIP": p.metadata.peer_ip, "node": node.as_deref().map(name), "asNumber": p.spec.as_number },
    })
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct HostMetadata {
    name: String,
    node: String,
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct HostSpec {
    interface_name: Option<String>,
    #[serde(rename = "expectedIPs")]
    expected_ips: Vec<String>,
    profiles: Vec<String>,
    ports: Vec<Port>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Port {
    name: String,
    protocol: Value,
    port: u16,
}

fn ports(ports: Vec<Port>) -> Vec<Port> {
    ports.into_iter().map(|p| Port { protocol: protocol(p.protocol), ..p }).collect()
}

fn names(all: &[String]) -> Vec<String> {
    all.iter().map(|n| name(n)).collect()
}

fn host_endpoint(h: V1<HostMetadata, HostSpec>) -> Value {
    let (m, s) = (h.metadata, h.spec);
    json!({
        "metadata": { "name": name(&format!("{}.{}", m.node, m.name)), "labels": m.labels },
        "spec": { "node": name(&m.node), "interfaceName": s.interface_name, "expectedIPs": s.expected_ips,
            "profiles": names(&s.profiles), "ports": ports(s.ports) },
    })
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PoolMetadata {
    cidr: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PoolSpec {
    ipip: Option<Ipip>,
    #[serde(rename = "nat-outgoing")]
    nat_outgoing: bool,
    disabled: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Ipip {
    enabled: bool,
    mode: Option<String>,
}

fn ip_pool(p: V1<PoolMetadata, PoolSpec>) -> Value {
    let mode = match p.spec.ipip {
        Some(Ipip { enabled: true, mode }) if mode.as_deref() == Some("cross-subnet") => "CrossSubnet",
        Some(Ipip { enabled: true, .. }) => "Always",
        _ => "Never",
    };
    json!({
        "metadata": { "name": name(&p.metadata.cidr.replace('.', "-")) },
        "spec": { "cidr": p.metadata.cidr, "ipipMode": mode, "natOutgoing": p.spec.nat_outgoing,
            "disabled": p.spec.disabled.then_some(true) },
    })
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeMetadata {
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeSpec {
    bgp: Option<NodeBgp>,
    orch_refs: Vec<OrchRef>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeBgp {
    as_number: Value,
    ipv4_address: Option<String>,
    ipv6_address: Option<String>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct OrchRef {
    node_name: Option<String>,
    orchestrator: String,
}

fn node(n: &V1<NodeMetadata, NodeSpec>) -> Value {
    json!({
        "metadata": { "name": name(&n.metadata.name) },
        "spec": { "bgp": n.spec.bgp, "orchRefs": n.spec.orch_refs },
    })
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PolicyMetadata {
    name: String,
    tier: Option<String>,
    annotations: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PolicySpec {
    order: Option<f64>,
    ingress: Vec<Rule>,
    egress: Vec<Rule>,
    selector: String,
    do_not_track: bool,
    #[serde(rename = "preDNAT")]
    pre_dnat: bool,
    types: Vec<String>,
}

fn policy(p: V1<PolicyMetadata, PolicySpec>) -> Value {
    let (m, s) = (p.metadata, p.spec);
    let tier = m.tier.filter(|t| !t.is_empty() && t != "default");
    let own = name(&m.name);
    let full = tier.as_ref().map_or_else(|| own.clone(), |t| format!("{t}.{own}"));
    // Both worked on forwarded traffic alone in v1, and v3 wants that said.
    let forward = s.do_not_track || s.pre_dnat;
    let types: Vec<String> = s.types.iter().map(|t| capital(t)).collect();
    json!({
        "metadata": { "name": full, "annotations": m.annotations },
        "spec": { "tier": tier, "order": s.order, "selector": selector(&s.selector),
            "ingress": rules(s.ingress), "egress": rules(s.egress),
            "doNotTrack": s.do_not_track.then_some(true), "preDNAT": s.pre_dnat.then_some(true),
            "applyOnForward": forward.then_some(true), "types": types },
    })
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ProfileMetadata {
    name: String,
    tags: Vec<String>,
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ProfileSpec {
    ingress: Vec<Rule>,
    egress: Vec<Rule>,
}

fn profile(p: V1<ProfileMetadata, ProfileSpec>) -> Value {
    let mut labels = p.metadata.labels;
    labels.extend(p.metadata.tags.into_iter().map(|t| (t, String::new())));
    json!({
        "metadata": { "name": name(&p.metadata.name) },
        "spec": { "ingress": rules(p.spec.ingress), "egress": rules(p.spec.egress), "labelsToApply": labels },
    })
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WorkloadMetadata {
    name: String,
    workload: String,
    orchestrator: String,
    node: String,
    #[serde(rename = "activeInstanceID")]
    active_instance_id: Option<String>,
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WorkloadSpec {
    ip_networks: Vec<String>,
    #[serde(rename = "ipNATs")]
    ip_nats: Vec<Nat>,
    #[serde(rename = "ipv4Gateway")]
    ipv4_gateway: Option<String>,
    #[serde(rename = "ipv6Gateway")]
    ipv6_gateway: Option<String>,
    profiles: Vec<String>,
    interface_name: Option<String>,
    mac: Option<String>,
    ports: Vec<Port>,
    #[serde(rename = "allow_spoofed_source_prefixes")]
    allow_spoofed_source_prefixes: Vec<String>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Nat {
    #[serde(rename = "internalIP")]
    internal_ip: String,
    #[serde(rename = "externalIP")]
    external_ip: String,
}

fn workload_endpoint(w: V1<WorkloadMetadata, WorkloadSpec>) -> Value {
    let (m, s) = (w.metadata, w.spec);
    let orchestrator = name(&m.orchestrator);
    // Kubernetes' workloads were NAMESPACE.POD, others have no namespace.
    let (namespace, workload) = match m.workload.split_once(['.', '/']) {
        Some((namespace, pod)) if orchestrator == "k8s" => (name(namespace), name(pod)),
        _ => ("default".to_owned(), name(&m.workload)),
    };
    let pod = (orchestrator == "k8s").then(|| workload.clone());
    let container = match orchestrator.as_str() {
        "cni" => Some(workload.clone()),
        _ => m.active_instance_id,
    };
    let other = (pod.is_none() && orchestrator != "cni").then(|| workload.clone());
    json!({
        "metadata": { "namespace": namespace, "labels": m.labels },
        "spec": { "node": name(&m.node), "orchestrator": orchestrator, "endpoint": name(&m.name),
            "pod": pod, "containerID": container, "workload": other, "ipNetworks": s.ip_networks, "ipNATs": s.ip_nats,
            "ipv4Gateway": s.ipv4_gateway, "ipv6Gateway": s.ipv6_gateway, "profiles": names(&s.profiles),
            "interfaceName": s.interface_name, "mac": s.mac, "ports": ports(s.ports),
            "allowSpoofedSourcePrefixes": s.allow_spoofed_source_prefixes },
    })
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rule {
    action: String,
    ip_version: Option<u8>,
    protocol: Value,
    icmp: Value,
    not_protocol: Value,
    #[serde(rename = "notICMP")]
    not_icmp: Value,
    source: Entity,
    destination: Entity,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Entity {
    tag: Option<String>,
    net: Option<String>,
    nets: Vec<String>,
    selector: String,
    ports: Vec<Value>,
    not_tag: Option<String>,
    not_net: Option<String>,
    not_nets: Vec<String>,
    not_selector: String,
    not_ports: Vec<Value>,
}

fn rules(rules: Vec<Rule>) -> Vec<Value> {
    let rule = |r: Rule| {
        let action = match r.action.to_ascii_lowercase().as_str() {
            // The enterprise edition's old word.
            "pass" | "next-tier" => "Pass".to_owned(),
            other => capital(other),
        };
        json!({
            "action": action, "ipVersion": r.ip_version, "protocol": protocol(r.protocol), "icmp": r.icmp,
            "notProtocol": protocol(r.not_protocol), "notICMP": r.not_icmp,
            "source": entity(r.source), "destination": entity(r.destination),
        })
    };
    rules.into_iter().map(rule).collect()
}

fn entity(e: Entity) -> Value {
    let nets =
        |one: Option<String>, many: Vec<String>| -> Vec<String> { one.into_iter().chain(many).collect() };
    json!({
        "nets": nets(e.net, e.nets),
        "selector": with_tag(&selector(&e.selector), e.tag.as_deref(), "&&"),
        "ports": e.ports,
        "notNets": nets(e.not_net, e.not_nets),
        // Neither this nor that: what matches either is left out.
        "notSelector": with_tag(&selector(&e.not_selector), e.not_tag.as_deref(), "||"),
        "notPorts": e.not_ports,
    })
}

fn with_tag(selector: &str, tag: Option<&str>, operator: &str) -> String {
    match (selector, tag.filter(|t| !t.is_empty())) {
        (own, None) => own.to_owned(),
        ("", Some(tag)) => format!("has({tag})"),
        (own, Some(tag)) => format!("({own}) {operator} has({tag})"),
    }
}

/// Labels that Calico itself gave have other names in v3.
fn selector(text: &str) -> String {
    text.replace("calico/k8s_ns/label/", "pcns.").replace("calico/k8s_ns", "projectcalico.org/namespace")
}

/// `tcp` was written small in v1.
fn protocol(value: Value) -> Value {
    let Some(text) = value.as_str() else { return value };
    let words = ["TCP", "UDP", "ICMP", "ICMPv6", "SCTP", "UDPLite"];
    let word = words.iter().find(|w| w.eq_ignore_ascii_case(text));
    word.map_or_else(|| value.clone(), |w| (*w).into())
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource_file::parse_value;
    use proptest::prelude::*;

    fn v3(text: &str) -> Value {
        let made = convert(&parse_value(text).unwrap()).unwrap_or_else(|e| panic!("{text}: {e:?}"));
        serde_json::to_value(&made).unwrap()
    }

    #[test]
    fn a_policy_keeps_its_meaning() {
        let p = v3("
apiVersion: v1
kind: policy
metadata: {name: Allow_Web}
spec:
  order: 10
  selector: app == 'web' && calico/k8s_ns == 'prod'
  types: [ingress]
  ingress:
  - {action: allow, protocol: tcp, source: {tag: client, net: 10.0.0.0/8, nets: [11.0.0.0/8]}, destination: {ports: [80, '8000:8080']}}
  - {action: deny, source: {notTag: good, notSelector: role == 'x'}}
");
        assert_eq!(p["kind"], "GlobalNetworkPolicy");
        assert_eq!(p["metadata"]["name"], "allow-web");
        assert_eq!(p["spec"]["selector"], "app == 'web' && projectcalico.org/namespace == 'prod'");
        assert_eq!(p["spec"]["types"], json!(["Ingress"]));
        assert_eq!(
            p["spec"]["ingress"][0],
            json!({"action": "Allow", "protocol": "TCP",
                "source": {"nets": ["10.0.0.0/8", "11.0.0.0/8"], "selector": "has(client)"},
                "destination": {"ports": [80, "8000:8080"]}})
        );
        assert_eq!(p["spec"]["ingress"][1]["source"]["notSelector"], "(role == 'x') || has(good)");
    }

    #[test]
    fn every_kind_has_its_object_in_v3() {
        let pool = v3(
            "{apiVersion: v1, kind: ipPool, metadata: {cidr: 192.168.0.0/16}, spec: {ipip: {enabled: true, mode: cross-subnet}, nat-outgoing: true}}",
        );
        assert_eq!(
            (&pool["metadata"]["name"], &pool["spec"]["ipipMode"]),
            (&json!("192-168-0-0-16"), &json!("CrossSubnet"))
        );
        let peer = v3(
            "{apiVersion: v1, kind: bgpPeer, metadata: {scope: node, node: Rack1-Host1, peerIP: 10.0.0.1}, spec: {asNumber: 64512}}",
        );
        assert_eq!(peer["metadata"]["name"], "rack1-host1.peer-10.0.0.1");
        assert_eq!(peer["spec"], json!({"node": "rack1-host1", "peerIP": "10.0.0.1", "asNumber": 64512}));
        let host = v3(
            "{apiVersion: v1, kind: hostEndpoint, metadata: {name: eth0, node: h1, labels: {a: b}}, spec: {interfaceName: eth0, expectedIPs: [10.0.0.9], profiles: [p1], ports: [{name: web, port: 80, protocol: tcp}]}}",
        );
        assert_eq!(host["metadata"]["name"], "h1.eth0");
        assert_eq!(host["spec"]["ports"][0]["protocol"], "TCP");
        let profile = v3(
            "{apiVersion: v1, kind: profile, metadata: {name: p1, tags: [t1], labels: {l: v}}, spec: {ingress: [{action: allow, source: {tag: t1}}], egress: [{action: allow}]}}",
        );
        assert_eq!(profile["spec"]["labelsToApply"], json!({"t1": "", "l": "v"}));
        let node = v3(
            "{apiVersion: v1, kind: node, metadata: {name: n1}, spec: {bgp: {asNumber: 64512, ipv4Address: 10.0.0.1/24}}}",
        );
        assert_eq!(node["spec"]["bgp"], json!({"asNumber": 64512, "ipv4Address": "10.0.0.1/24"}));
        let workload = v3(
            "{apiVersion: v1, kind: workloadEndpoint, metadata: {name: eth0, workload: shop.web-1, orchestrator: k8s, node: n1}, spec: {interfaceName: cali1, ipNetworks: [10.1.0.2/32], profiles: [k8s_ns.shop]}}",
        );
        assert_eq!(
            (&workload["metadata"]["namespace"], &workload["spec"]["pod"]),
            (&json!("shop"), &json!("web-1"))
        );
        assert_eq!(workload["metadata"]["name"], "n1-k8s-web--1-eth0");
    }

    #[test]
    fn unknown_fields_and_kinds_are_named() {
        let told = |text: &str| convert(&parse_value(text).unwrap()).unwrap_err().join("; ");
        let e = told("{apiVersion: v1, kind: ipPool, metadata: {cidr: 10.0.0.0/8, name: x}, spec: {}}");
        assert_eq!(e, "metadata.name: unknown field; allowed: cidr");
        let e = told("{apiVersion: v1, kind: policy, metadata: {name: x}, spec: {sel: all()}}");
        assert!(e.starts_with("spec.sel: unknown field; allowed: "), "{e}");
        assert!(!knows("Pod") && knows("IpPool"));
    }

    proptest! {
        #[test]
        fn arbitrary_documents_never_panic(kind in "[a-zA-Z]{0,12}", text in "[ -~\n]{0,120}", key in "[a-z]{1,8}") {
            for spec in [Value::String(text.clone()), parse_value(&text).unwrap_or_default(), json!({ key: text })] {
                for kind in KINDS.iter().chain([&kind.as_str()]) {
                    let _ = convert(&json!({ "apiVersion": VERSION, "kind": kind, "metadata": spec, "spec": spec }));
                }
            }
        }
    }
}
