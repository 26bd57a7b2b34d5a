//! Generated clusters: the same objects for every program, without a clock or chance.
//!
//! Out: how many local interfaces there are to be, and all objects. Endpoint `i` has interface [`interface`], address
//! [`address`], the profile `kns.default`, which allows everything, and the labels `app=aI` and `group=gG`, 50 groups in
//! all.

use std::net::Ipv4Addr;

use libcalico_api::{Kind, Resource};
use serde_json::{Value, json};

use super::machine::NODE;

/// Where everything with a namespace is.
pub const NAMESPACE: &str = "default";
const GROUPS: usize = 50;
/// Endpoints of [`scale`] that have no policy.
pub const PODS: usize = 2;
/// Policies and address sets of [`members`].
const MEMBERS: usize = 2000;
/// Local endpoints of [`members`].
const MEMBER_ENDPOINTS: usize = 20;

/// A cluster.
pub struct Shape {
    /// Local interfaces.
    pub endpoints: usize,
    pub resources: Vec<Resource>,
}

/// Name of the near end of an endpoint's interface.
pub fn interface(i: usize) -> String {
    format!("cali{i:011x}")
}

/// An endpoint's address.
pub fn address(i: usize) -> Ipv4Addr {
    let [_, _, c, d] = u32::try_from(i + 2).unwrap_or(0).to_be_bytes();
    Ipv4Addr::new(10, 65, c, d)
}

/// As many policies as endpoints, and two endpoints more without any: a client and a server, which come first. The others
/// have a policy each with two rules: TCP to two ports from one group, TCP to one port of another group.
pub fn scale(n: usize) -> Shape {
    let endpoints = n + PODS;
    let mut resources = base(endpoints);
    resources.extend((PODS..endpoints).map(|i| policy(&format!("p{i}"), i, i)));
    Shape { endpoints, resources }
}

/// 2,000 policies on 20 endpoints, 100 on each. Each policy allows from an address set of its own with one remote member.
pub fn members() -> Shape {
    let mut resources = base(MEMBER_ENDPOINTS);
    resources.extend((0..MEMBERS).map(|i| remote(i, true)));
    resources.extend((0..MEMBERS).map(|i| {
        let rule = json!({ "action": "Allow", "protocol": "TCP", "source": { "selector": format!("member == 'm{i}'") },
            "destination": { "ports": [80] } });
        let selector = format!("app == 'a{}'", i % MEMBER_ENDPOINTS);
        object(
            Kind::NetworkPolicy,
            NAMESPACE,
            &format!("p{i}"),
            &json!({ "order": i, "selector": selector, "types": ["Ingress"], "ingress": [rule] }),
            &json!({}),
        )
    }));
    Shape { endpoints: MEMBER_ENDPOINTS, resources }
}

/// 100 policies on an endpoint each, of 100 rules each, no two alike.
pub fn rules() -> Shape {
    const N: usize = 100;
    let mut resources = base(N);
    resources.extend((0..N).map(|i| {
        let rule = |r: usize| {
            json!({ "action": "Allow", "protocol": "TCP", "source": { "nets": [format!("172.{}.{r}.0/24", 16 + i % 16)] },
                "destination": { "ports": [1000 + i, 10_000 + r] } })
        };
        let rules: Vec<Value> = (0..N).map(rule).collect();
        let spec = json!({ "order": i, "selector": format!("app == 'a{i}'"), "types": ["Ingress"], "ingress": rules });
        object(Kind::NetworkPolicy, NAMESPACE, &format!("p{i}"), &spec, &json!({}))
    }));
    Shape { endpoints: N, resources }
}

/// A policy of [`scale`] for an endpoint.
pub fn policy(name: &str, order: usize, endpoint: usize) -> Resource {
    policy_for(&format!("app == 'a{endpoint}'"), name, order, endpoint)
}

/// The same for every endpoint.
pub fn policy_for_all(name: &str, order: usize, groups: usize) -> Resource {
    policy_for("all()", name, order, groups)
}

fn policy_for(selector: &str, name: &str, order: usize, endpoint: usize) -> Resource {
    let group = |i: usize| format!("group == 'g{}'", i % GROUPS);
    let spec = json!({
        "order": order, "selector": selector, "types": ["Ingress", "Egress"],
        "ingress": [{ "action": "Allow", "protocol": "TCP", "source": { "selector": group(endpoint) },
            "destination": { "ports": [80, 443] } }],
        "egress": [{ "action": "Allow", "protocol": "TCP",
            "destination": { "selector": group(endpoint + 1), "ports": [5432] } }],
    });
    object(Kind::NetworkPolicy, NAMESPACE, name, &spec, &json!({}))
}

/// Lets nothing into the second endpoint.
pub fn deny_server() -> Resource {
    let spec = json!({ "order": 1, "selector": "app == 'a1'", "types": ["Ingress"] });
    object(Kind::NetworkPolicy, NAMESPACE, "deny-server", &spec, &json!({}))
}

/// A remote endpoint of [`members`]; without its label it is a member of nothing.
pub fn remote(i: usize, member: bool) -> Resource {
    let member = if member { format!("m{i}") } else { "none".to_owned() };
    let [_, _, c, d] = u32::try_from(i).unwrap_or(0).to_be_bytes();
    endpoint("n2", &format!("r{i}"), &interface(i), Ipv4Addr::new(10, 66, c, d), &json!({ "member": member }))
}

fn base(endpoints: usize) -> Vec<Resource> {
    let allow = json!([{ "action": "Allow" }]);
    let node = |n: usize| {
        let spec = json!({ "bgp": { "ipv4Address": format!("172.31.0.{n}/24") } });
        object(Kind::Node, "", &format!("n{n}"), &spec, &json!({}))
    };
    let mut all = vec![
        object(Kind::ClusterInformation, "", "default", &json!({ "datastoreReady": true }), &json!({})),
        object(
            Kind::Tier,
            "",
            "default",
            &json!({ "order": 1_000_000, "defaultAction": "Deny" }),
            &json!({}),
        ),
        object(Kind::IPPool, "", "pods", &json!({ "cidr": "10.64.0.0/14", "natOutgoing": true }), &json!({})),
        object(Kind::Profile, "", "kns.default", &json!({ "ingress": allow, "egress": allow }), &json!({})),
        node(1),
        node(2),
    ];
    all.extend((0..endpoints).map(|i| {
        let labels = json!({ "app": format!("a{i}"), "group": format!("g{}", i % GROUPS) });
        endpoint(NODE, &format!("p{i}"), &interface(i), address(i), &labels)
    }));
    all
}

fn endpoint(node: &str, pod: &str, interface: &str, address: Ipv4Addr, labels: &Value) -> Resource {
    let mut labels = labels.clone();
    labels["projectcalico.org/namespace"] = NAMESPACE.into();
    labels["projectcalico.org/orchestrator"] = "k8s".into();
    let spec = json!({
        "orchestrator": "k8s", "node": node, "pod": pod, "endpoint": "eth0", "interfaceName": interface,
        "ipNetworks": [format!("{address}/32")], "profiles": ["kns.default"],
    });
    object(Kind::WorkloadEndpoint, NAMESPACE, &format!("{node}-k8s-{pod}-eth0"), &spec, &labels)
}

fn object(kind: Kind, namespace: &str, name: &str, spec: &Value, labels: &Value) -> Resource {
    let mut metadata = json!({ "name": name, "labels": labels });
    if !namespace.is_empty() {
        metadata["namespace"] = namespace.into();
    }
    let text = json!({ "metadata": metadata, "spec": spec }).to_string();
    Resource::from_json(kind, text.as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"))
}
