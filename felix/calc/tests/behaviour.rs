//! What single objects do, one behaviour a test: ties of order, overlaps, shared addresses, missing and hostile objects.

#![allow(clippy::needless_pass_by_value)] // JSON is written where it is passed

use felix_calc::replay::Runner;
use felix_calc::{CalcGraph, Config};
use felix_message::{Action, IpSetMember, Message, TierDefaultAction, TierInfo};
use libcalico_model::key::{PolicyKey, WorkloadEndpointKey};
use libcalico_model::{PolicyKind, SyncStatus};
use serde_json::{Value, json};

/// A node `here` in sync.
struct Node(Runner);

impl Node {
    fn new() -> Self {
        let mut runner = Runner::new(Config { hostname: "here".to_owned(), ..Config::default() });
        runner.graph.on_status(SyncStatus::InSync);
        Self(runner)
    }

    /// Sets objects (`null` deletes) and flushes.
    fn set(&mut self, objects: &[(&str, Value)]) -> &mut Self {
        for (path, value) in objects {
            let update = felix_calc::recording::update(path, Some(value), None).unwrap();
            self.0.graph.on_update(update);
        }
        self.0.flush().unwrap();
        self
    }

    fn tiers(&self, pod: &str) -> &[TierInfo] {
        &self.0.mirror.workloads[&key(pod)].tiers
    }

    /// Names of the policies for ingress, in order.
    fn ingress(&self, pod: &str) -> Vec<String> {
        let keys = self.tiers(pod).iter().flat_map(|t| &t.ingress);
        keys.map(
            |k| if k.namespace.is_empty() { k.name.clone() } else { format!("{}/{}", k.namespace, k.name) },
        )
        .collect()
    }

    /// Members of the only set, as text.
    fn members(&self) -> Vec<String> {
        let [(_, members)] = &self.0.mirror.ip_sets.values().collect::<Vec<_>>()[..] else {
            panic!("not one set: {:?}", self.0.mirror.ip_sets);
        };
        let text = |m: &IpSetMember| match m {
            IpSetMember::Net(n) => n.to_string(),
            IpSetMember::IpPort(a, p, port) => format!("{a},{p}:{port}"),
        };
        members.iter().map(text).collect()
    }
}

fn key(pod: &str) -> WorkloadEndpointKey {
    WorkloadEndpointKey {
        host: "here".to_owned(),
        orchestrator: "k8s".to_owned(),
        workload: pod.to_owned(),
        endpoint: "eth0".to_owned(),
    }
}

fn pod_path(host: &str, name: &str) -> String {
    format!("/calico/v1/host/{host}/workload/k8s/{name}/endpoint/eth0")
}

fn pod(addrs: &[&str], labels: Value, profiles: &[&str]) -> Value {
    json!({"state": "active", "name": "cali0", "ipv4_nets": addrs, "labels": labels, "profile_ids": profiles,
           "ports": [{"name": "web", "protocol": "tcp", "port": 80}]})
}

fn gnp(name: &str) -> String {
    format!("/calico/v1/policy/GlobalNetworkPolicy//{name}")
}

fn from(selector: &str) -> Value {
    json!({"selector": "all()", "inbound_rules": [{"src_selector": selector}], "types": ["ingress"]})
}

#[test]
fn policies_of_equal_order_are_sorted_by_name_then_namespace_then_kind_and_those_without_order_come_last() {
    let mut node = Node::new();
    let plain = |order: Value| json!({"selector": "all()", "order": order});
    node.set(&[
        (&pod_path("here", "a"), pod(&["10.0.0.1/32"], json!({}), &[])),
        (&gnp("zz"), plain(json!(-1))),
        (&gnp("a"), plain(Value::Null)),
        (&gnp("b"), plain(json!(1))),
        ("/calico/v1/policy/NetworkPolicy/ns2/b", plain(json!(1.0))),
        ("/calico/v1/policy/NetworkPolicy/ns1/b", plain(json!(1))),
    ]);
    assert_eq!(node.ingress("a"), ["zz", "b", "ns1/b", "ns2/b", "a"]);
}

#[test]
fn tiers_are_sorted_by_order_then_name_and_a_missing_one_is_last_and_denies() {
    let mut node = Node::new();
    let in_tier = |tier: &str| json!({"selector": "all()", "tier": tier});
    node.set(&[
        (&pod_path("here", "a"), pod(&["10.0.0.1/32"], json!({}), &[])),
        (&gnp("p1"), in_tier("missing")),
        (&gnp("p2"), in_tier("no-order")),
        (&gnp("p3"), in_tier("y")),
        (&gnp("p4"), in_tier("x")),
        ("/calico/v1/policy/tier/no-order/metadata", json!({"defaultAction": "Pass"})),
        ("/calico/v1/policy/tier/y/metadata", json!({"order": 5})),
        ("/calico/v1/policy/tier/x/metadata", json!({"order": 5})),
    ]);
    let tiers: Vec<_> = node.tiers("a").iter().map(|t| (t.name.as_str(), t.default_action)).collect();
    use TierDefaultAction::{Deny, Pass};
    assert_eq!(tiers, [("x", Deny), ("y", Deny), ("no-order", Pass), ("missing", Deny)]);
}

#[test]
fn an_address_that_two_endpoints_have_stays_until_the_last_one_goes() {
    let mut node = Node::new();
    node.set(&[
        (&pod_path("here", "a"), pod(&["10.0.0.1/32"], json!({}), &[])),
        (&pod_path("far", "b"), pod(&["10.0.0.9/32"], json!({"x": "1"}), &[])),
        (&pod_path("far", "c"), pod(&["10.0.0.9/32"], json!({"x": "1"}), &[])),
        (&gnp("p"), from("x == '1'")),
    ]);
    assert_eq!(node.members(), ["10.0.0.9/32"]);
    node.set(&[(&pod_path("far", "b"), Value::Null)]);
    assert_eq!(node.members(), ["10.0.0.9/32"]);
    node.set(&[(&pod_path("far", "c"), pod(&["10.0.0.9/32"], json!({"x": "2"}), &[]))]);
    assert!(node.members().is_empty());
}

#[test]
fn a_network_within_another_of_the_set_comes_up_when_the_wider_one_goes() {
    let mut node = Node::new();
    let set = |nets: &[&str]| json!({"nets": nets, "labels": {"x": "1"}});
    node.set(&[
        (&pod_path("here", "a"), pod(&["10.1.2.3/32"], json!({"x": "1"}), &[])),
        ("/calico/v1/netset/wide", set(&["10.0.0.0/8"])),
        ("/calico/v1/netset/narrow", set(&["10.1.0.0/16", "10.1.2.0/24", "11.0.0.0/8"])),
        (&gnp("p"), from("x == '1'")),
    ]);
    assert_eq!(node.members(), ["10.0.0.0/8", "11.0.0.0/8"]);
    node.set(&[("/calico/v1/netset/wide", Value::Null)]);
    assert_eq!(node.members(), ["10.1.0.0/16", "11.0.0.0/8"]);
    node.set(&[("/calico/v1/netset/narrow", Value::Null)]);
    assert_eq!(node.members(), ["10.1.2.3/32"]);
    node.set(&[("/calico/v1/netset/wide", set(&["10.0.0.0/8"]))]);
    assert_eq!(node.members(), ["10.0.0.0/8"]);
}

#[test]
fn a_profiles_labels_reach_the_sets_of_other_nodes_endpoints() {
    let mut node = Node::new();
    let profile = |v: &str| json!({"spec": {"labelsToApply": {"pcns.team": v}}});
    let path = "/calico/resources/v3/projectcalico.org/profiles/kns.blue";
    node.set(&[
        (&pod_path("here", "a"), pod(&["10.0.0.1/32"], json!({}), &[])),
        (&pod_path("far", "b"), pod(&["10.0.0.2/32"], json!({}), &["kns.blue"])),
        (&gnp("p"), from("pcns.team == 'x'")),
        (path, profile("x")),
    ]);
    assert_eq!(node.members(), ["10.0.0.2/32"]);
    node.set(&[(path, profile("y"))]);
    assert!(node.members().is_empty());
    node.set(&[(path, profile("x"))]);
    node.set(&[(path, Value::Null)]);
    assert!(node.members().is_empty());
}

#[test]
fn one_member_that_changes_is_one_delta() {
    let mut node = Node::new();
    node.set(&[
        (&pod_path("here", "a"), pod(&["10.0.0.1/32"], json!({}), &[])),
        (&pod_path("far", "b"), pod(&["10.0.0.2/32"], json!({"x": "1"}), &[])),
        (&gnp("p"), from("has(x)")),
    ]);
    let moved = pod(&["10.0.0.3/32"], json!({"x": "2"}), &[]);
    let update = felix_calc::recording::update(&pod_path("far", "b"), Some(&moved), None).unwrap();
    node.0.graph.on_update(update);
    let mut out = Vec::new();
    node.0.graph.flush(&mut out);
    let [Message::IpSetDelta(delta)] = &out[..] else { panic!("{out:?}") };
    assert_eq!(delta.added, [IpSetMember::Net("10.0.0.3/32".parse().unwrap())]);
    assert_eq!(delta.removed, [IpSetMember::Net("10.0.0.2/32".parse().unwrap())]);
}

#[test]
fn a_port_name_without_a_protocol_stands_for_its_ports_of_every_protocol() {
    let mut node = Node::new();
    let mut dns = pod(&["10.0.0.1/32"], json!({}), &[]);
    dns["ports"] = json!([
        {"name": "dns", "protocol": "udp", "port": 53}, {"name": "dns", "protocol": "tcp", "port": 5353},
        {"name": "web", "protocol": "tcp", "port": 80},
    ]);
    let rule = |with: Value| json!({"selector": "all()", "types": ["ingress"], "inbound_rules": [with]});
    let (path, name) = (pod_path("here", "a"), gnp("p"));
    node.set(&[(&path, dns), (&name, rule(json!({"dst_ports": ["dns"]})))]);
    assert_eq!(node.members(), ["10.0.0.1,6:5353", "10.0.0.1,17:53"]);
    node.set(&[(&name, rule(json!({"dst_ports": ["dns"], "protocol": "udp"})))]);
    assert_eq!(node.members(), ["10.0.0.1,17:53"]);
    // A number says nothing without a protocol: the whole policy is left out.
    node.set(&[(&name, rule(json!({"dst_ports": ["dns", 80]})))]);
    assert!(node.0.mirror.ip_sets.is_empty());
}

#[test]
fn an_update_that_changes_nothing_says_nothing() {
    let mut node = Node::new();
    let objects = [
        (pod_path("here", "a"), pod(&["10.0.0.1/32"], json!({}), &["p"])),
        (gnp("p"), from("has(x)")),
        ("/calico/v1/policy/profile/p/rules".to_owned(), json!({"inbound_rules": [{}]})),
    ];
    for (i, (path, value)) in objects.iter().chain(&objects).enumerate() {
        let update = felix_calc::recording::update(path, Some(value), None).unwrap();
        node.0.graph.on_update(update);
        let sent = node.0.flush().unwrap();
        assert_eq!(sent == 0, i >= objects.len(), "{path} sent {sent} messages");
    }
}

#[test]
fn a_profile_that_is_missing_or_not_valid_denies_whatever_comes_behind_it() {
    let mut node = Node::new();
    let rules = |node: &Node| {
        let profile = &node.0.mirror.profiles["first"];
        [&profile.inbound, &profile.outbound].map(|r| r.iter().map(|r| r.action).collect::<Vec<_>>())
    };
    let path = "/calico/v1/policy/profile/first/rules";
    node.set(&[(&pod_path("here", "a"), pod(&["10.0.0.1/32"], json!({}), &["first", "open"]))]);
    assert_eq!(rules(&node), [[Action::Deny], [Action::Deny]]);
    node.set(&[(path, json!({"inbound_rules": [{"action": "allow"}]}))]);
    assert_eq!(rules(&node), [vec![Action::Allow], vec![]]);
    node.set(&[(path, json!({"inbound_rules": [{"action": "allow", "src_selector": "a ==="}]}))]);
    assert_eq!(rules(&node), [[Action::Deny], [Action::Deny]]);
}

#[test]
fn a_staged_policy_is_listed_and_marked_and_decides_nothing() {
    use felix_calc::explain::{Decision, Direction, Packet, workload};
    let mut node = Node::new();
    node.set(&[
        (&pod_path("here", "a"), pod(&["10.0.0.1/32"], json!({}), &["open"])),
        ("/calico/v1/policy/profile/open/rules", json!({"inbound_rules": [{"action": "allow"}]})),
        (
            "/calico/v1/policy/StagedGlobalNetworkPolicy//s",
            json!({"selector": "all()", "inbound_rules": [{"action": "deny"}], "staged_action": "Set"}),
        ),
    ]);
    assert_eq!(node.ingress("a"), ["s"]);
    let staged = PolicyKey {
        kind: PolicyKind::StagedGlobalNetworkPolicy,
        namespace: String::new(),
        name: "s".to_owned(),
    };
    assert!(node.0.mirror.policies[&staged].staged);
    let addr = "10.0.0.1".parse().unwrap();
    let packet = Packet { src: addr, dst: addr, protocol: 6, src_port: 1, dst_port: 2, icmp: None };
    let endpoint = &node.0.mirror.workloads[&key("a")];
    let verdict = workload(&node.0.mirror, endpoint, Direction::Ingress, &packet);
    assert!(verdict.allowed);
    assert_eq!(verdict.decision, Decision::ProfileRule { profile: "open".to_owned(), rule: 0 });
}

#[test]
fn objects_that_are_not_valid_count_as_absent_and_come_back_when_mended() {
    let mut node = Node::new();
    let good = from("has(x)");
    let pods = (pod_path("here", "a"), pod(&["10.0.0.1/32"], json!({}), &[]));
    node.set(&[(&pods.0, pods.1), (&gnp("p"), good.clone())]);
    for bad in [
        json!({"selector": "all("}),
        json!({"selector": "all()", "inbound_rules": [{"src_selector": "has(x"}]}),
        json!({"selector": "all()", "inbound_rules": [{"action": "wave"}]}),
        json!({"selector": "all()", "inbound_rules": [{"dst_ports": [80]}]}),
        json!({"selector": "all()", "inbound_rules": [{"protocol": "icmp", "dst_ports": ["web"]}]}),
        json!({"selector": "all()", "inbound_rules": [{"protocol": "warp"}]}),
        json!({"selector": "all()", "inbound_rules": [{"ip_version": 5}]}),
        json!({"selector": "all()", "inbound_rules": [{"protocol": "icmp", "icmp_code": 1}]}),
        json!({"selector": "all()", "types": ["sideways"]}),
        json!({"selector": "all()", "order": "first"}),
    ] {
        node.set(&[(&gnp("p"), bad.clone())]);
        assert!(node.ingress("a").is_empty(), "{bad}");
        assert!(node.0.mirror.ip_sets.is_empty(), "{bad}");
        node.set(&[(&gnp("p"), good.clone())]);
        assert_eq!(node.ingress("a"), ["p"]);
    }
}

#[test]
fn an_allow_rule_by_http_method_lets_nothing_through() {
    let mut node = Node::new();
    let rules = json!([{"action": "allow", "http": {"methods": ["GET"]}}, {"action": "deny", "http": {"methods": ["PUT"]}}]);
    node.set(&[
        (&pod_path("here", "a"), pod(&["10.0.0.1/32"], json!({}), &[])),
        (&gnp("p"), json!({"selector": "all()", "inbound_rules": rules})),
    ]);
    let policy = node.0.mirror.policies.values().next().unwrap();
    assert_eq!(policy.inbound.iter().map(|r| r.action).collect::<Vec<_>>(), [Action::Deny]);
}

#[test]
fn huge_objects_are_calculated() {
    let mut node = Node::new();
    let nets: Vec<String> = (0..256).map(|n| format!("10.{n}.0.0/16")).collect();
    let rules: Vec<Value> = (0..1024)
        .map(|n| json!({"action": "allow", "src_nets": nets, "!src_selector": format!("x == '{n}'")}))
        .collect();
    let long = vec!["has(a-label-of-some-length)"; 400].join(" || ");
    let deep = format!("{}has(x){}", "!(".repeat(300), ")".repeat(300));
    node.set(&[
        (&pod_path("here", "a"), pod(&["10.0.0.1/32"], json!({"x": "1"}), &[])),
        (&gnp("many-rules"), json!({"selector": "all()", "inbound_rules": rules})),
        (&gnp("long"), json!({"selector": long})),
        (
            &gnp("deep"),
            json!({"selector": deep, "inbound_rules": [{"src_selector": deep, "!src_selector": deep}]}),
        ),
        (&gnp("Every.legal-Char_acter%2Fin%25it"), json!({"selector": "all()"})),
    ]);
    assert_eq!(node.ingress("a"), ["Every.legal-Char_acter/in%it", "deep", "many-rules"]);
    let key = PolicyKey {
        kind: PolicyKind::GlobalNetworkPolicy,
        namespace: String::new(),
        name: "many-rules".to_owned(),
    };
    let ids: std::collections::BTreeSet<_> =
        node.0.mirror.policies[&key].inbound.iter().map(|r| r.rule_id.clone()).collect();
    assert_eq!(ids.len(), 1024);
}

#[test]
fn a_rule_keeps_its_identifier_when_another_is_put_before_it() {
    let mut node = Node::new();
    let policy = |rules: Value| json!({"selector": "all()", "inbound_rules": rules});
    let ids = |node: &Node| -> Vec<String> {
        node.0.mirror.policies.values().flat_map(|p| &p.inbound).map(|r| r.rule_id.clone()).collect()
    };
    node.set(&[
        (&pod_path("here", "a"), pod(&["10.0.0.1/32"], json!({}), &[])),
        (&gnp("p"), policy(json!([{"action": "deny"}, {"action": "deny"}]))),
    ]);
    let before = ids(&node);
    assert_ne!(before[0], before[1]);
    node.set(&[(&gnp("p"), policy(json!([{"action": "log"}, {"action": "deny"}, {"action": "deny"}])))]);
    assert_eq!(ids(&node)[1..], before);
}

#[test]
fn an_endpoint_of_another_node_costs_a_few_bytes_of_numbers_and_no_message() {
    let mut graph = CalcGraph::new(Config { hostname: "here".to_owned(), ..Config::default() });
    graph.on_status(SyncStatus::InSync);
    for n in 0..1000 {
        let value = pod(&["10.0.0.2/32"], json!({"x": "1"}), &[]);
        let update =
            felix_calc::recording::update(&pod_path("far", &format!("p{n}")), Some(&value), None).unwrap();
        graph.on_update(update);
    }
    let mut out = Vec::new();
    graph.flush(&mut out);
    assert!(matches!(out[..], [Message::EncapsulationUpdate(_), Message::InSync]), "{out:?}");
    assert_eq!(graph.stats().items, 1000);
}

fn node_labelled(role: &str) -> Value {
    json!({"kind": "Node", "apiVersion": "projectcalico.org/v3",
           "metadata": {"name": "here", "labels": {"role": role}}, "spec": {}})
}

fn felix_config(selector: &str, severity: &str) -> Value {
    json!({"kind": "FelixConfiguration", "apiVersion": "projectcalico.org/v3",
           "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
           "spec": {"nodeSelector": selector, "logSeverityScreen": severity}})
}

#[test]
fn the_configuration_by_selector_follows_objects_and_the_own_nodes_labels() {
    let resources = "/calico/resources/v3/projectcalico.org";
    let (here, far) = (format!("{resources}/nodes/here"), format!("{resources}/nodes/far"));
    let (edge, core) =
        (format!("{resources}/felixconfigurations/edge"), format!("{resources}/felixconfigurations/core"));
    let mut node = Node::new();
    let severity = |n: &Node| n.0.mirror.config.per_selector.get("LogSeverityScreen").cloned();
    node.set(&[(&edge, felix_config("role == 'edge'", "Debug"))]);
    node.set(&[(&far, node_labelled("edge"))]);
    assert_eq!(severity(&node), None, "only this node's own labels count");
    node.set(&[(&here, node_labelled("edge"))]);
    assert_eq!(severity(&node).as_deref(), Some("Debug"));
    node.set(&[(&core, felix_config("role == 'core'", "Error"))]);
    assert_eq!(severity(&node).as_deref(), Some("Debug"));
    node.set(&[(&here, node_labelled("core"))]);
    assert_eq!(severity(&node).as_deref(), Some("Error"), "the label changed");
    node.set(&[(&core, Value::Null)]);
    assert_eq!(severity(&node), None);
    node.set(&[(&edge, felix_config("has(role)", "Debug"))]);
    assert_eq!(severity(&node).as_deref(), Some("Debug"), "the selector changed");
    node.set(&[(&here, Value::Null)]);
    assert_eq!(severity(&node), None, "a node that is not known");
}
