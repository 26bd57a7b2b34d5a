//! Upstream's limits and cross-field rules: what is refused, and under which path.

#![allow(clippy::needless_pass_by_value)] // json! makes values to give away

use libcalico_api::{Kind, Resource};
use serde_json::{Value, json};

/// Paths of what is wrong with an object of this spec.
fn wrong(kind: Kind, spec: Value) -> Vec<String> {
    wrong_named(kind, "default", spec)
}

fn wrong_named(kind: Kind, name: &str, spec: Value) -> Vec<String> {
    let mut v = json!({"metadata": {"name": name}, "spec": spec});
    if kind.namespaced() {
        v["metadata"]["namespace"] = json!("ns");
    }
    let mut r = Resource::from_value_strict(kind, &v).unwrap();
    r.set_defaults();
    r.validate().err().unwrap_or_default().into_iter().map(|i| i.path).collect()
}

#[test]
fn names_are_dns_names_and_only_namespaced_kinds_have_a_namespace() {
    assert_eq!(wrong_named(Kind::NetworkSet, "A", json!({})), ["metadata.name"]);
    assert_eq!(wrong_named(Kind::NetworkSet, &"a".repeat(254), json!({})), ["metadata.name"]);
    assert!(
        wrong_named(Kind::GlobalNetworkPolicy, "security.deny-bad", json!({"tier": "security"})).is_empty()
    );
    let v = json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": {}});
    let found = Resource::from_value_strict(Kind::GlobalNetworkSet, &v).unwrap().validate().unwrap_err();
    assert_eq!(found[0].path, "metadata.namespace");
    let v =
        json!({"metadata": {"name": "p", "namespace": "ns", "labels": {"a b": "c", "ok": "-"}}, "spec": {}});
    let found = Resource::from_value_strict(Kind::NetworkSet, &v).unwrap().validate().unwrap_err();
    assert_eq!(found.len(), 2);
}

#[test]
fn a_pool_must_hold_a_block_and_be_encapsulated_one_way() {
    let pool = |spec| wrong(Kind::IPPool, spec);
    assert!(pool(json!({"cidr": "10.0.0.0/26"})).is_empty());
    assert_eq!(pool(json!({"cidr": "10.0.0.0/27"})), ["spec.cidr"]);
    assert_eq!(pool(json!({"cidr": "10.0.0.0/16", "blockSize": 19})), ["spec.blockSize"]);
    assert_eq!(pool(json!({"cidr": "10.0.0.0/16", "blockSize": 33})), ["spec.blockSize"]);
    assert_eq!(pool(json!({"cidr": "fd00::/48", "blockSize": 115})), ["spec.blockSize"]);
    assert!(pool(json!({"cidr": "fd00::/48", "blockSize": 116})).is_empty());
    assert_eq!(pool(json!({"cidr": "fd00::/48", "ipipMode": "Always"})), ["spec.ipipMode"]);
    assert_eq!(
        pool(json!({"cidr": "10.0.0.0/16", "ipipMode": "Always", "vxlanMode": "Always"})),
        ["spec.vxlanMode"]
    );
    assert_eq!(pool(json!({"cidr": "169.254.0.0/20"})), ["spec.cidr"]);
    assert_eq!(pool(json!({"cidr": "nonsense"})), ["spec.cidr"]);
    assert_eq!(pool(json!({"cidr": "10.0.0.0/16", "nodeSelector": "a ="})), ["spec.nodeSelector"]);
    assert_eq!(
        pool(json!({"cidr": "10.0.0.0/16", "allowedUses": ["Workload", "LoadBalancer"]})),
        ["spec.allowedUses"]
    );
}

fn rule(rule: Value) -> Vec<String> {
    let paths = wrong(Kind::NetworkPolicy, json!({"ingress": [rule]}));
    paths.into_iter().map(|p| p.replace("spec.ingress[0].", "")).collect()
}

#[test]
fn ports_need_a_protocol_that_has_them() {
    assert_eq!(rule(json!({"action": "Allow", "destination": {"ports": [80]}})), ["destination.ports"]);
    assert_eq!(
        rule(json!({"action": "Allow", "protocol": "ICMP", "source": {"notPorts": [80]}})),
        ["source.notPorts"]
    );
    assert!(
        rule(json!({"action": "Allow", "protocol": 132, "destination": {"ports": [80, "http", "1:2"]}}))
            .is_empty()
    );
    assert_eq!(rule(json!({"action": "Allow", "protocol": "TPC"})), ["protocol"]);
}

#[test]
fn icmp_needs_its_protocol_and_a_code_needs_a_type() {
    assert!(rule(json!({"action": "Allow", "protocol": "ICMP", "icmp": {"type": 8, "code": 0}})).is_empty());
    assert_eq!(rule(json!({"action": "Allow", "protocol": "TCP", "icmp": {"type": 8}})), ["icmp"]);
    assert_eq!(rule(json!({"action": "Allow", "protocol": "ICMP", "icmp": {"code": 0}})), ["icmp.code"]);
    assert_eq!(rule(json!({"action": "Allow", "protocol": "ICMP", "icmp": {"type": 255}})), ["icmp.type"]);
    assert_eq!(rule(json!({"action": "Allow", "protocol": "ICMPv6", "ipVersion": 4})), ["ipVersion"]);
}

#[test]
fn the_networks_of_a_rule_are_of_one_family() {
    let mixed = json!({"action": "Allow", "source": {"nets": ["10.0.0.0/8"]}, "destination": {"notNets": ["fd00::/8"]}});
    assert_eq!(rule(mixed), ["destination.notNets[0]"]);
    assert_eq!(
        rule(json!({"action": "Allow", "ipVersion": 6, "source": {"nets": ["10.0.0.0/8"]}})),
        ["source.nets[0]"]
    );
    assert_eq!(rule(json!({"action": "Allow", "source": {"nets": ["10.0.0.0/33"]}})), ["source.nets[0]"]);
}

#[test]
fn lists_have_limits() {
    let nets: Vec<String> = (0..257).map(|i| format!("10.{}.{}.0/24", i / 256, i % 256)).collect();
    assert_eq!(rule(json!({"action": "Allow", "source": {"nets": nets}})), ["source.nets"]);
    let ports: Vec<u16> = (1..=51).collect();
    assert_eq!(
        rule(json!({"action": "Allow", "protocol": "TCP", "source": {"ports": ports}})),
        ["source.ports"]
    );
    let rules = vec![json!({"action": "Allow"}); 1025];
    assert_eq!(wrong(Kind::GlobalNetworkPolicy, json!({"egress": rules})), ["spec.egress"]);
    let selector = format!("a == '{}'", "x".repeat(1024));
    assert_eq!(wrong(Kind::GlobalNetworkPolicy, json!({"selector": selector})), ["spec.selector"]);
}

#[test]
fn global_stands_alone_in_a_rules_namespace_selector_and_nowhere_else() {
    assert!(rule(json!({"action": "Allow", "source": {"namespaceSelector": "global()"}})).is_empty());
    assert_eq!(
        rule(json!({"action": "Allow", "source": {"namespaceSelector": "global() || has(a)"}})),
        ["source.namespaceSelector"]
    );
    assert_eq!(wrong(Kind::GlobalNetworkPolicy, json!({"selector": "global()"})), ["spec.selector"]);
}

#[test]
fn services_stand_alone_on_the_far_side() {
    assert!(
        rule(json!({"action": "Allow", "source": {"services": {"name": "s", "namespace": "n"}}})).is_empty()
    );
    assert_eq!(
        rule(json!({"action": "Allow", "destination": {"services": {"name": "s"}}})),
        ["destination.services"]
    );
    assert_eq!(
        rule(json!({"action": "Allow", "source": {"services": {"name": "s"}, "selector": "all()"}})),
        ["source.services"]
    );
}

#[test]
fn host_policy_flags_have_their_rules() {
    let gnp = |spec| wrong(Kind::GlobalNetworkPolicy, spec);
    assert!(
        gnp(json!({"preDNAT": true, "applyOnForward": true, "ingress": [{"action": "Allow"}]})).is_empty()
    );
    assert_eq!(gnp(json!({"preDNAT": true, "types": ["Ingress"]})), ["spec.applyOnForward"]);
    assert_eq!(gnp(json!({"doNotTrack": true, "types": ["Ingress"]})), ["spec.applyOnForward"]);
    assert_eq!(gnp(json!({"preDNAT": true, "doNotTrack": true, "applyOnForward": true})), ["spec.preDNAT"]);
    assert_eq!(
        gnp(json!({"preDNAT": true, "applyOnForward": true, "egress": [{"action": "Allow"}]})),
        ["spec.egress", "spec.types"]
    );
    assert_eq!(gnp(json!({"types": ["Ingress", "Ingress"]})), ["spec.types[1]"]);
}

#[test]
fn a_bgp_peer_is_one_thing_seen_from_one_place() {
    let peer = |spec| wrong(Kind::BGPPeer, spec);
    assert!(peer(json!({"peerIP": "172.31.0.253:1790", "asNumber": 65002, "node": "node-a"})).is_empty());
    assert!(peer(json!({"peerIP": "[fd00::1]:179", "asNumber": 65002})).is_empty());
    assert!(peer(json!({"nodeSelector": "!has(rr)", "peerSelector": "has(rr)"})).is_empty());
    assert_eq!(peer(json!({"peerIP": "10.0.0.1"})), ["spec.asNumber"]);
    assert_eq!(
        peer(json!({"peerIP": "10.0.0.1", "peerSelector": "all()", "asNumber": 1})),
        ["spec.peerIP", "spec.asNumber"]
    );
    assert_eq!(
        peer(json!({"peerIP": "10.0.0.1", "asNumber": 1, "node": "a", "nodeSelector": "all()"})),
        ["spec.node"]
    );
    assert_eq!(peer(json!({"peerIP": "10.0.0.1:0", "asNumber": 1})), ["spec.peerIP"]);
    assert_eq!(
        peer(json!({"peerIP": "10.0.0.1", "asNumber": 1, "maxRestartTime": "1 minute"})),
        ["spec.maxRestartTime"]
    );
    assert_eq!(
        peer(json!({"peerIP": "10.0.0.1", "asNumber": 1, "reachableBy": "fd00::1"})),
        ["spec.reachableBy"]
    );
    assert_eq!(peer(json!({})), ["spec.peerIP"]);
}

#[test]
fn only_the_default_bgp_configuration_speaks_of_the_mesh() {
    let spec = json!({"nodeToNodeMeshEnabled": true, "asNumber": 64512});
    assert!(wrong(Kind::BGPConfiguration, spec.clone()).is_empty());
    assert_eq!(
        wrong_named(Kind::BGPConfiguration, "node.a", spec),
        ["spec.nodeToNodeMeshEnabled", "spec.asNumber"]
    );
    assert_eq!(wrong(Kind::BGPConfiguration, json!({"listenPort": 70000})), ["spec.listenPort"]);
    assert_eq!(
        wrong(
            Kind::BGPConfiguration,
            json!({"communities": [{"name": "x", "value": "1:2:"}],
            "prefixAdvertisements": [{"cidr": "10.0.0.0/8", "communities": ["x", "y", "1:2"]}]})
        ),
        ["spec.communities[0].value", "spec.prefixAdvertisements[0].communities[1]"]
    );
}

#[test]
fn bgp_filter_operators_need_their_networks() {
    let filter = |rule| wrong(Kind::BGPFilter, json!({"exportV4": [rule]}));
    assert!(filter(json!({"action": "Accept", "cidr": "10.0.0.0/8", "matchOperator": "In", "prefixLength": {"min": 8, "max": 32}})).is_empty());
    assert_eq!(filter(json!({"action": "Accept", "cidr": "10.0.0.0/8"})), ["spec.exportV4[0].matchOperator"]);
    assert_eq!(
        filter(json!({"action": "Accept", "matchOperator": "In"})),
        ["spec.exportV4[0].matchOperator"]
    );
    assert_eq!(
        filter(json!({"action": "Accept", "cidr": "fd00::/8", "matchOperator": "In"})),
        ["spec.exportV4[0].cidr"]
    );
    assert_eq!(
        filter(json!({"action": "Reject", "prefixLength": {"min": 9}})),
        ["spec.exportV4[0].prefixLength"]
    );
    assert_eq!(filter(json!({})), ["spec.exportV4[0].action"]);
}

#[test]
fn other_kinds_have_their_rules() {
    assert_eq!(wrong(Kind::HostEndpoint, json!({"node": "a"})), ["spec.interfaceName"]);
    assert!(wrong(Kind::HostEndpoint, json!({"node": "a", "expectedIPs": ["10.0.0.1"]})).is_empty());
    assert_eq!(wrong(Kind::IPReservation, json!({"reservedCIDRs": ["x"]})), ["spec.reservedCIDRs[0]"]);
    assert_eq!(wrong(Kind::Tier, json!({"order": 5})), ["spec.order"]);
    assert_eq!(wrong_named(Kind::Tier, "t", json!({"defaultAction": "Allow"})), ["spec.defaultAction"]);
    assert_eq!(wrong(Kind::Node, json!({"bgp": {"ipv4Address": "fd00::1"}})), ["spec.bgp.ipv4Address"]);
    assert_eq!(wrong(Kind::Node, json!({"vxlanTunnelMACAddr": "x"})), ["spec.vxlanTunnelMACAddr"]);
    assert_eq!(wrong(Kind::IPAMConfiguration, json!({"maxBlocksPerHost": -5})), ["spec.maxBlocksPerHost"]);
    assert_eq!(
        wrong(Kind::FelixConfiguration, json!({"logSeverityScreen": "Loud", "vxlanPort": 70000})),
        ["spec.logSeverityScreen", "spec.vxlanPort"]
    );
    assert_eq!(
        wrong(Kind::FelixConfiguration, json!({"routeRefreshInterval": "soon"})),
        ["spec.routeRefreshInterval"]
    );
    assert_eq!(wrong_named(Kind::ClusterInformation, "other", json!({})), ["metadata.name"]);
    assert_eq!(wrong_named(Kind::Profile, "projectcalico-default-allow", json!({})), ["metadata.name"]);
}

#[test]
fn a_workload_endpoints_name_must_follow_from_its_spec() {
    let spec = json!({"orchestrator": "k8s", "node": "a-b", "pod": "p", "endpoint": "eth0", "interfaceName": "cali1"});
    assert!(wrong_named(Kind::WorkloadEndpoint, "a--b-k8s-p-eth0", spec.clone()).is_empty());
    assert_eq!(wrong_named(Kind::WorkloadEndpoint, "a-b-k8s-p-eth0", spec), ["metadata.name"]);
    let spec = json!({"orchestrator": "k8s", "node": "a", "endpoint": "eth0", "interfaceName": "cali1", "ipNetworks": ["10.0.0.0/24"]});
    assert_eq!(wrong_named(Kind::WorkloadEndpoint, "a", spec), ["spec.pod", "spec.ipNetworks[0]"]);
}
