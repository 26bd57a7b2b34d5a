//! `datastore migrate` from one real etcd to another.

use crate::common::{Cluster as _, Etcd, dump};

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
