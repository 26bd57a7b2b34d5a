//! The objects of the founding documents, as they stand there: each is taken by calicoctl on both datastores and by the
//! Kubernetes API with our CRDs, and does what it says.

use serde_json::json;

use crate::common::{Cluster, Kubernetes};

const BGP_CONFIGURATION: &str = include_str!("../data/resources/bgpconfiguration.yaml");
const BGP_PEER: &str = include_str!("../data/resources/bgppeer.yaml");
const INSTALLATION: &str = include_str!("../data/resources/installation.yaml");
const POOL: &str = include_str!("../data/resources/ippool.yaml");
const KUBERNETES_POLICIES: &str = include_str!("../data/resources/kubernetes-policies.yaml");
const POLICIES: &str = include_str!("../data/resources/policies.yaml");
const AUDIT: &str = include_str!("../data/resources/audit-policy.yaml");

fn key(plural: &str, name: &str) -> String {
    format!("/calico/resources/v3/projectcalico.org/{plural}/{name}")
}

pub fn every_object_of_the_founding_documents_is_accepted(c: &dyn Cluster) {
    c.namespace("production");
    let apply = |text: &str| c.ok(&["apply", "-f", "-"], text);
    assert_eq!(apply(BGP_CONFIGURATION), "Successfully applied 1 'BGPConfiguration' resource(s)\n");
    assert_eq!(c.read(&key("bgpconfigurations", "default"))["spec"]["asNumber"], 63400);
    assert_eq!(apply(BGP_PEER), "Successfully applied 1 'BGPPeer' resource(s)\n");
    assert_eq!(c.read(&key("bgppeers", "route-reflector"))["spec"]["peerIP"], "10.0.0.1");
    assert_eq!(apply(POOL), "Successfully applied 1 'IPPool' resource(s)\n");
    let pool = c.read(&key("ippools", "default-ipv4-ippool"));
    assert_eq!((&pool["spec"]["ipipMode"], &pool["spec"]["natOutgoing"]), (&json!("Always"), &json!(true)));
    assert_eq!(apply(POLICIES), "Successfully applied 4 resource(s)\n");
    assert_eq!(apply(KUBERNETES_POLICIES), "Successfully applied 3 'NetworkPolicy' resource(s)\n");
    let shown = c.ok(&["get", "-f", "-"], KUBERNETES_POLICIES);
    for name in ["default-deny-all", "allow-frontend-to-backend", "tenant-a-policy"] {
        assert!(shown.contains(&format!("knp.default.{name}")), "{shown}");
    }
    assert_eq!(apply(INSTALLATION), "Successfully applied 1 'Installation' resource(s)\n");
    installation_does_what_it_says(c);
    // Again, and nothing changes.
    for text in [BGP_CONFIGURATION, BGP_PEER, POLICIES, KUBERNETES_POLICIES, INSTALLATION] {
        apply(text);
        c.ok(&["validate", "-f", "-"], text);
    }
    traffic_is_as_the_policies_say(c);
    for text in [POLICIES, KUBERNETES_POLICIES] {
        c.ok(&["delete", "-f", "-"], text);
    }
}

/// On Kubernetes the operator has it to act on; on etcd its pools and MTU stand where calico-node reads them.
fn installation_does_what_it_says(c: &dyn Cluster) {
    if c.kubernetes() {
        return;
    }
    let pool = c.read(&key("ippools", "default-ipv4-ippool"));
    assert_eq!(
        (&pool["spec"]["vxlanMode"], &pool["spec"]["ipipMode"]),
        (&json!("CrossSubnet"), &json!("Never"))
    );
    assert_eq!(c.read(&key("felixconfigurations", "default"))["spec"]["vxlanMTU"], 1440);
}

/// The Calico policies alone, by what felix would calculate.
fn traffic_is_as_the_policies_say(c: &dyn Cluster) {
    if !c.kubernetes() {
        let profile =
            "apiVersion: projectcalico.org/v3\nkind: Profile\nmetadata: {name: kns.default}\nspec: {}\n";
        c.ok(&["apply", "-f", "-"], profile);
    }
    c.pod("default", "db", "node-a", &[("app", "database")], "192.168.0.2");
    c.pod("default", "api", "node-a", &[("app", "backend")], "192.168.0.3");
    c.pod("default", "page", "node-a", &[("role", "frontend")], "192.168.0.4");
    let verdict = |from: &str, to: &str| {
        let text = c.ok(&["policy", "explain", from, to, "-o", "json"], "");
        let answers: serde_json::Value = serde_json::from_str(&text).unwrap();
        answers[0]["parts"][0]["ingress"]["allowed"].as_bool().unwrap()
    };
    assert!(verdict("default/api", "default/db:5432/tcp"), "traffic-control allows it");
    assert!(!verdict("default/api", "default/db:5433/tcp"), "nothing allows the port");
    assert!(verdict("default/page", "default/db:5433/tcp"), "security-policy comes first and allows it");
    assert!(!verdict("default/db", "default/api:80/tcp"), "default-deny");
}

pub fn a_policy_with_an_unknown_field_changes_nothing(c: &dyn Cluster) {
    let e = c.refused(&["apply", "-f", "-"], &format!("{POOL}---\n{AUDIT}"));
    assert!(
        e.contains(
            "document 2 (NetworkPolicy audit-policy): spec.audit: unknown field; allowed: egress, ingress, "
        ),
        "{e}"
    );
    assert_eq!(c.ok(&["get", "ippools"], ""), "NAME   CIDR   SELECTOR   \n\n");
}

#[test]
fn kubectl_takes_every_object_too() {
    let Some(k) = Kubernetes::start() else { return };
    k.namespace("production");
    for text in [BGP_CONFIGURATION, BGP_PEER, POOL, INSTALLATION, POLICIES, KUBERNETES_POLICIES] {
        let out = k.kubectl(&["apply", "--server-side", "-f", "-"], text);
        assert_eq!(out.code, 0, "{}{}\n{text}", out.stdout, out.stderr);
    }
    let pool = k.kubectl(
        &["get", "ippools.projectcalico.org", "default-ipv4-ippool", "-o", "jsonpath={.spec.ipipMode}"],
        "",
    );
    assert_eq!(pool.stdout, "Always", "{}", pool.stderr);
    let i = k.kubectl(
        &["get", "installations.operator.tigera.io", "default", "-o", "jsonpath={.spec.calicoNetwork.mtu}"],
        "",
    );
    assert_eq!(i.stdout, "1440", "{}", i.stderr);
    let e = k.kubectl(&["apply", "--server-side", "-f", "-"], AUDIT);
    assert!(e.code == 1 && e.stderr.contains("spec.audit"), "{}{}", e.stdout, e.stderr);
    assert!(k.kubectl(&["get", "networkpolicies.networking.k8s.io", "audit-policy"], "").code == 1);
    // What kubectl wrote, calicoctl reads.
    assert!(k.ok(&["get", "gnp"], "").contains("security-policy"));
    assert!(k.ok(&["get", "np", "-A"], "").contains("knp.default.default-deny-all"));
    let e = k.refused(&["get", "installations"], "");
    assert!(e.contains("kubectl get installations.operator.tigera.io"), "{e}");
    assert_eq!(
        k.ok(&["delete", "installation", "default"], ""),
        "Successfully deleted 1 'Installation' resource(s)\n"
    );
}
