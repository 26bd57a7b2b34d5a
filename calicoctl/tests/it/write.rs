//! apply, create, replace, delete, patch, label: what is stored, what is said, and with which exit code.

use crate::common::{Cluster, Output};

const POOL: &str = "
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: pool}
spec: {cidr: 192.168.0.0/16, ipipMode: Always, natOutgoing: true}
";

fn said(out: &Output) -> (i32, &str) {
    (out.code, if out.code == 0 { &out.stdout } else { &out.stderr })
}

pub fn applying_creates_and_then_updates_and_initialises_the_datastore(c: &dyn Cluster) {
    let out = c.calicoctl(&["apply", "-f", "-"], POOL);
    assert_eq!(said(&out), (0, "Successfully applied 1 'IPPool' resource(s)\n"));
    let key = "/calico/resources/v3/projectcalico.org/ippools/pool";
    let first = c.read(key);
    assert_eq!(
        first["spec"],
        serde_json::json!({"cidr": "192.168.0.0/16", "vxlanMode": "Never", "ipipMode": "Always", "natOutgoing": true,
            "blockSize": 26, "nodeSelector": "all()", "allowedUses": ["Workload", "Tunnel"], "assignmentMode": "Automatic"})
    );
    c.calicoctl(&["apply", "-f", "-"], &POOL.replace("natOutgoing: true", "disabled: true"));
    let second = c.read(key);
    for field in ["name", "uid", "creationTimestamp"] {
        assert_eq!(second["metadata"][field], first["metadata"][field], "{field} stays");
    }
    assert_eq!(second["spec"]["disabled"], true);
    let tiers = c.calicoctl(&["get", "tiers"], "");
    assert_eq!(
        tiers.stdout,
        "NAME            ORDER   \nkube-admin      1000    \ndefault         1e+06   \nkube-baseline   1e+07   \n\n"
    );
    let info = c.read("/calico/resources/v3/projectcalico.org/clusterinformations/default");
    assert_eq!(info["spec"]["datastoreReady"], true);
}

pub fn messages_and_exit_codes_are_upstreams(c: &dyn Cluster) {
    let tier =
        "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: security}\nspec: {order: 100}\n";
    assert_eq!(
        said(&c.calicoctl(&["create", "-f", "-"], tier)),
        (0, "Successfully created 1 'Tier' resource(s)\n")
    );
    assert_eq!(
        said(&c.calicoctl(&["create", "-f", "-"], tier)),
        (
            1,
            "Error: failed to create 'Tier' resource: [resource already exists: Tier(security) with error: <nil>]\n"
        )
    );
    assert_eq!(c.calicoctl(&["create", "--skip-exists", "-f", "-"], tier).code, 0);
    assert_eq!(
        said(&c.calicoctl(&["replace", "-f", "-"], tier)),
        (0, "Successfully replaced 1 'Tier' resource(s)\n")
    );
    assert_eq!(
        said(&c.calicoctl(&["delete", "ippool", "nope"], "")),
        (
            1,
            "Error: Failed to delete 'IPPool' resource: resource does not exist: IPPool(nope) with error: <nil>\n"
        )
    );
    assert_eq!(c.calicoctl(&["delete", "ippool", "nope", "--skip-not-exists"], "").code, 0);
    assert_eq!(said(&c.calicoctl(&["apply", "-f", "-"], POOL)).0, 0);
    assert_eq!(
        said(&c.calicoctl(&["delete", "ippool", "pool"], "")),
        (0, "Successfully deleted 1 'IPPool' resource(s)\n")
    );
    assert_eq!(
        said(&c.calicoctl(&["validate", "-f", "-"], POOL)),
        (0, "Successfully validated 1 'IPPool' resource(s)\n")
    );
}

pub fn patching_and_labelling_change_one_object(c: &dyn Cluster) {
    c.node("node-b");
    let node = "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {name: node-b}\nspec: {bgp: {ipv4Address: 10.0.0.1/24}}\n";
    c.calicoctl(&["apply", "-f", "-"], node);
    let patch = r#"{"spec":{"bgp":{"routeReflectorClusterID":"224.0.0.1"}}}"#;
    assert_eq!(
        said(&c.calicoctl(&["patch", "node", "node-b", "-p", patch], "")),
        (0, "Successfully patched 1 'Node' resource\n")
    );
    let key = "/calico/resources/v3/projectcalico.org/nodes/node-b";
    assert_eq!(
        c.read(key)["spec"]["bgp"],
        serde_json::json!({"ipv4Address": "10.0.0.1/24", "routeReflectorClusterID": "224.0.0.1"})
    );
    let json = r#"[{"op":"remove","path":"/spec/bgp/routeReflectorClusterID"}]"#;
    assert_eq!(c.calicoctl(&["patch", "node", "node-b", "-t", "json", "-p", json], "").code, 0);
    assert_eq!(c.read(key)["spec"]["bgp"], serde_json::json!({"ipv4Address": "10.0.0.1/24"}));
    let out = c.calicoctl(&["patch", "node", "node-b", "-p", r#"{"spec":{"colour":1}}"#], "");
    assert!(
        out.code == 1 && out.stderr.contains("spec.colour: unknown field; allowed: addresses, bgp"),
        "{}",
        out.stderr
    );

    assert_eq!(
        said(&c.calicoctl(&["label", "nodes", "node-b", "cluster=yes"], "")),
        (0, "Successfully set label cluster on nodes node-b\n")
    );
    assert_eq!(c.read(key)["metadata"]["labels"]["cluster"], "yes");
    let out = c.calicoctl(&["label", "nodes", "node-b", "cluster=no"], "");
    assert!(out.code == 1 && out.stderr.contains("--overwrite"), "{}", out.stderr);
    assert_eq!(c.calicoctl(&["label", "nodes", "node-b", "cluster=no", "--overwrite"], "").code, 0);
    assert_eq!(
        said(&c.calicoctl(&["label", "nodes", "node-b", "cluster", "--remove"], "")),
        (0, "Successfully removed label cluster from nodes node-b\n")
    );
    assert!(c.read(key)["metadata"].get("labels").is_none());
}

pub fn one_wrong_document_stops_everything_before_the_first_write(c: &dyn Cluster) {
    let text = format!(
        "{POOL}---\napiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {{name: p}}\nspec: {{audit: {{}}}}\n"
    );
    let out = c.calicoctl(&["apply", "-f", "-"], &text);
    assert_eq!(out.code, 1);
    assert!(
        out.stderr.starts_with(
            "Error: Failed to execute command: standard input: document 2 (NetworkPolicy p): spec.audit: unknown field; allowed: egress, "
        ),
        "{}",
        out.stderr
    );
    assert_eq!(c.calicoctl(&["get", "ippools"], "").stdout, "NAME   CIDR   SELECTOR   \n\n");
}

pub fn rules_between_objects_are_checked(c: &dyn Cluster) {
    c.calicoctl(&["apply", "-f", "-"], POOL);
    let second = POOL.replace("name: pool", "name: other").replace("192.168.0.0/16", "192.168.128.0/20");
    let out = c.calicoctl(&["apply", "-f", "-"], &second);
    assert!(out.code == 1 && out.stderr.contains("overlaps with IPPool(pool)"), "{}", out.stderr);
    let out = c.calicoctl(&["apply", "-f", "-"], &POOL.replace("192.168.0.0/16", "10.0.0.0/16"));
    assert!(out.code == 1 && out.stderr.contains("spec.cidr"), "{}", out.stderr);
    let policy = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: t.p}\nspec: {tier: t}\n";
    let out = c.calicoctl(&["apply", "-f", "-"], policy);
    assert!(out.code == 1 && out.stderr.contains("resource does not exist: Tier(t)"), "{}", out.stderr);
    let tier = "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: t}\nspec: {order: 1}\n";
    assert_eq!(c.calicoctl(&["apply", "-f", "-"], &format!("{tier}---\n{policy}")).code, 0);
    let out = c.calicoctl(&["delete", "tier", "t"], "");
    assert!(out.code == 1 && out.stderr.contains("it has policies"), "{}", out.stderr);
    let out = c.calicoctl(&["delete", "tier", "default"], "");
    assert!(out.code == 1 && out.stderr.contains("built in"), "{}", out.stderr);
}

pub fn what_was_printed_can_be_applied_again_and_changes_nothing(c: &dyn Cluster) {
    c.load_dump();
    for kind in [
        "nodes",
        "ippools",
        "globalnetworkpolicies",
        "bgppeers",
        "felixconfigurations",
        "tiers",
        "hostendpoints",
    ] {
        let before = c.calicoctl(&["get", kind, "-o", "yaml", "--export"], "");
        let out = c.calicoctl(&["apply", "-f", "-"], &before.stdout);
        assert_eq!(out.code, 0, "{kind}: {}\n{}", out.stderr, before.stdout);
        let after = c.calicoctl(&["get", kind, "-o", "yaml", "--export"], "");
        let bare = |text: &str| -> Vec<String> {
            text.lines().filter(|l| !l.contains("resourceVersion")).map(str::to_owned).collect()
        };
        assert_eq!(bare(&before.stdout), bare(&after.stdout), "{kind}");
    }
}

pub fn the_namespace_comes_from_the_object_or_the_flag(c: &dyn Cluster) {
    c.namespace("production");
    let policy = "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: p}\nspec: {selector: all()}\n";
    assert_eq!(c.calicoctl(&["apply", "-n", "production", "-f", "-"], policy).code, 0);
    assert_eq!(c.calicoctl(&["get", "np"], "").stdout, "NAME   TIER   \n\n");
    assert_eq!(
        c.calicoctl(&["get", "np", "-n", "production"], "").stdout,
        "NAME   TIER      \np      default   \n\n"
    );
    let out =
        c.calicoctl(&["apply", "-n", "a", "-f", "-"], &policy.replace("name: p", "name: p, namespace: b"));
    assert!(
        out.stderr.contains("resource namespace 'b' does not match client namespace 'a'"),
        "{}",
        out.stderr
    );
}

pub fn a_partial_failure_says_what_was_applied_and_which_document_was_not(c: &dyn Cluster) {
    let policy = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: t.p}\nspec: {tier: t}\n";
    let out = c.calicoctl(&["apply", "-f", "-"], &format!("{policy}---\n{POOL}"));
    assert_eq!(
        said(&out),
        (
            1,
            "Error: Partial success: applied 1 out of 2 resources: IPPool(pool)\n\
             Hit error: [standard input: document 1 (GlobalNetworkPolicy t.p): the policy's tier: resource does not exist: \
             Tier(t) with error: <nil>]\n"
        )
    );
}

pub fn a_pool_keeps_its_block_size(c: &dyn Cluster) {
    let small = POOL.replace("ipipMode: Always", "blockSize: 24");
    assert_eq!(c.calicoctl(&["apply", "-f", "-"], &small).code, 0);
    assert_eq!(c.calicoctl(&["apply", "-f", "-"], &small).code, 0);
    let out = c.calicoctl(&["apply", "-f", "-"], POOL);
    assert!(out.code == 1 && out.stderr.contains("spec.blockSize"), "{}", out.stderr);
}

pub fn policies_of_kubernetes_are_read_strictly_and_change_nothing(c: &dyn Cluster) {
    let policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: audit-policy}\n\
        spec: {podSelector: {matchLabels: {role: audit}}, policyTypes: [Ingress], audit: {metadata: {}}}\n";
    let out = c.calicoctl(&["apply", "-f", "-"], &format!("{POOL}---\n{policy}"));
    assert_eq!(
        said(&out),
        (
            1,
            "Error: Failed to execute command: standard input: document 2 (NetworkPolicy audit-policy): spec.audit: \
             unknown field; allowed: egress, ingress, podSelector, policyTypes\n"
        )
    );
    assert_eq!(c.calicoctl(&["get", "ippools"], "").stdout, "NAME   CIDR   SELECTOR   \n\n");
}

pub fn a_policy_of_kubernetes_is_shown_in_calicos_form_and_convert_prints_it(c: &dyn Cluster) {
    let policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web, namespace: prod}\n\
        spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress], ingress: [{ports: [{port: 80}], \
        from: [{podSelector: {matchLabels: {app: client}}}]}]}\n";
    c.namespace("prod");
    assert_eq!(
        said(&c.calicoctl(&["apply", "-f", "-"], policy)),
        (0, "Successfully applied 1 'NetworkPolicy' resource(s)\n")
    );
    let stored = c.read("/calico/resources/v3/projectcalico.org/networkpolicies/prod/knp.default.web");
    assert_eq!(stored["spec"]["types"], serde_json::json!(["Ingress"]));
    assert_eq!(stored["spec"]["ingress"][0]["destination"]["ports"], serde_json::json!([80]));
    let printed = c.calicoctl(&["convert", "-f", "-"], policy);
    assert_eq!(printed.code, 0, "{}", printed.stderr);
    assert!(
        printed.stdout.contains("kind: NetworkPolicy\n")
            && printed.stdout.contains("name: knp.default.web\n")
    );
    if c.kubernetes() {
        let e = c.refused(&["apply", "-f", "-"], &printed.stdout);
        assert!(e.contains("change it with kubectl"), "{e}");
    } else {
        c.ok(&["apply", "-f", "-"], &printed.stdout);
    }
    let json = c.calicoctl(&["convert", "-o", "json", "-f", "-"], policy).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["spec"]["ingress"], stored["spec"]["ingress"]);
    let out = c.calicoctl(&["delete", "-f", "-"], policy);
    assert_eq!(said(&out), (0, "Successfully deleted 1 'NetworkPolicy' resource(s)\n"));
}
