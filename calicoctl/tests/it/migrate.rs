//! `datastore migrate` from one real etcd to another.

use crate::common::{Cluster as _, Etcd, Kubernetes, dump};

#[test]
fn what_is_exported_is_imported_unchanged() {
    let (Some(old), Some(new)) = (Etcd::start(), Etcd::start()) else { return };
    old.load(&dump());
    let out = old.calicoctl(&["datastore", "migrate", "export"], "");
    assert!(out.code == 1 && out.stderr.contains("datastore is not locked"), "{}", out.stderr);
    assert_eq!(old.calicoctl(&["datastore", "migrate", "lock"], "").stdout, "Datastore locked.\n");
    let exported = old.calicoctl(&["datastore", "migrate", "export"], "");
    assert_eq!(exported.code, 0, "{}", exported.stderr);
    assert_eq!(exported.stdout.matches("===\n").count(), 2);
    assert!(!exported.stdout.contains("kind: WorkloadEndpoint"));

    let import = ["datastore", "migrate", "import", "-f", "-"];
    let out = new.calicoctl(&import, &exported.stdout);
    assert_eq!(out.code, 0, "{}", out.stderr);
    assert!(out.stdout.contains("Successfully applied 8 IPAM resource(s)\n"), "{}", out.stdout);
    let key = "/calico/resources/v3/projectcalico.org/clusterinformations/default";
    assert_eq!(new.read(key)["spec"]["datastoreReady"], false);
    assert_eq!(new.read(key)["spec"]["clusterGUID"], old.read(key)["spec"]["clusterGUID"]);
    for kind in
        ["nodes", "ippools", "globalnetworkpolicies", "networkpolicies", "tiers", "felixconfigurations"]
    {
        let get = |e: &Etcd| {
            let text = e.calicoctl(&["get", kind, "-A", "-o", "yaml", "--export"], "").stdout;
            text.lines().filter(|l| !l.contains("resourceVersion")).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(get(&old), get(&new), "{kind}");
    }
    assert_eq!(
        old.calicoctl(&["ipam", "show", "--show-blocks"], "").stdout,
        new.calicoctl(&["ipam", "show", "--show-blocks"], "").stdout
    );
    assert_eq!(new.calicoctl(&["datastore", "migrate", "unlock"], "").stdout, "Datastore unlocked.\n");
    assert_eq!(new.read(key)["spec"]["datastoreReady"], true);

    let again = new.calicoctl(&import, &exported.stdout);
    assert!(again.code == 1 && again.stderr.contains("import into an empty one"), "{}", again.stderr);
}

#[test]
fn a_file_that_is_no_export_changes_nothing() {
    let Some(etcd) = Etcd::start() else { return };
    let out = etcd.calicoctl(&["datastore", "migrate", "import", "-f", "-"], "kind: Tier\n");
    assert!(out.code == 1 && out.stderr.contains("standard input is not an export"), "{}", out.stderr);
    let out = etcd.calicoctl(&["get", "tiers"], "");
    assert_eq!(out.stdout.lines().count(), 2, "{}", out.stdout);
}

#[test]
fn etcd_becomes_kubernetes_with_every_record() {
    let (Some(old), Some(new)) = (Etcd::start(), Kubernetes::start()) else { return };
    old.load(&dump());
    // Kubernetes calls the node otherwise.
    old.ok(
        &[
            "patch",
            "node",
            "node-a",
            "-p",
            r#"{"spec":{"orchRefs":[{"nodeName":"kube-a","orchestrator":"k8s"}]}}"#,
        ],
        "",
    );
    old.ok(&["datastore", "migrate", "lock"], "");
    let exported = old.ok(&["datastore", "migrate", "export"], "");
    new.node("kube-a");
    let import = ["datastore", "migrate", "import", "-f", "-"];
    let out = new.calicoctl(&import, &exported);
    assert_eq!(out.code, 0, "{}{}", out.stdout, out.stderr);
    assert!(out.stdout.contains("Successfully applied 8 IPAM resource(s)\n"), "{}", out.stdout);
    assert!(out.stderr.contains("Node(node-b) is left out"), "{}", out.stderr);
    let key = "/calico/resources/v3/projectcalico.org/clusterinformations/default";
    assert_eq!(new.read(key)["spec"]["datastoreReady"], false);
    assert_eq!(new.read(key)["spec"]["clusterGUID"], old.read(key)["spec"]["clusterGUID"]);
    for kind in [
        "ippools",
        "globalnetworkpolicies",
        "networkpolicies",
        "tiers",
        "bgppeers",
        "bgpfilters",
        "hostendpoints",
    ] {
        let get = |c: &dyn crate::common::Cluster| {
            let text = c.ok(&["get", kind, "-A", "-o", "yaml", "--export"], "");
            // An empty status is not kept by the Kubernetes API, and its objects count their generations.
            let own = |l: &&str| {
                !l.contains("resourceVersion") && !l.contains("generation:") && l.trim() != "status: {}"
            };
            text.lines().filter(own).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(get(&old), get(&new), "{kind}");
    }
    let felix = new.ok(&["get", "felixconfigurations"], "");
    assert!(felix.contains("node.kube-a"), "{felix}");
    let show = |c: &dyn crate::common::Cluster| c.ok(&["ipam", "show", "--show-blocks"], "");
    assert_eq!(show(&old), show(&new));
    assert_eq!(
        new.ok(&["ipam", "show", "--ip=10.65.174.130"], "").replace("kube-a", "node-a"),
        old.ok(&["ipam", "show", "--ip=10.65.174.130"], "")
    );
    new.ok(&["datastore", "migrate", "unlock"], "");
    assert_eq!(new.read(key)["spec"]["datastoreReady"], true);
    let e = new.refused(&import, &exported);
    assert!(e.contains("import into an empty one"), "{e}");
}

#[test]
fn policies_of_the_default_tier_get_their_own_names() {
    let Some(etcd) = Etcd::start() else { return };
    let path = "/calico/resources/v3/projectcalico.org";
    let old = |kind: &str, at: &str| {
        let annotation = r#"{"projectcalico.org/metadata":"{\"name\":\"web\"}"}"#;
        let json = format!(
            r#"{{"kind":"{kind}","apiVersion":"projectcalico.org/v3","metadata":{{"name":"default.web","annotations":{annotation},"uid":"11111111-2222-3333-4444-555555555555"}},"spec":{{"order":1,"selector":"all()","types":["Ingress"]}}}}"#
        );
        (format!("{path}/{at}/default.web"), json)
    };
    for (key, json) in
        [old("GlobalNetworkPolicy", "globalnetworkpolicies"), old("NetworkPolicy", "networkpolicies/shop")]
    {
        let said = etcd.server.etcdctl(&["put", &key, &json]);
        assert_eq!(said, "OK\n");
    }
    etcd.ok(
        &["apply", "-f", "-"],
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: new}\nspec: {}\n",
    );
    let migrate = ["datastore", "migrate-policy-names"];
    assert_eq!(etcd.ok(&migrate, ""), "Policy name migration complete, migrated 2 policies.\n");
    assert_eq!(etcd.ok(&migrate, ""), "Policy name migration complete, migrated 0 policies.\n");
    let keys = etcd.server.etcdctl(&["get", path, "--prefix", "--keys-only"]);
    assert!(!keys.contains("default.web"), "{keys}");
    let web = etcd.read(&format!("{path}/globalnetworkpolicies/web"));
    assert_eq!(web["metadata"]["name"], "web");
    assert_eq!(web["metadata"]["uid"], "11111111-2222-3333-4444-555555555555");
    assert!(etcd.ok(&["get", "np", "-A"], "").contains("shop        web "));
}
