//! Tables and documents of upstream's data, letter by letter as upstream prints them.

use crate::common::{Cluster as _, Etcd, dump};

/// The tables were printed before these were made.
fn before_pods(pairs: Vec<(String, String)>) -> Vec<(String, String)> {
    pairs.into_iter().filter(|(k, _)| !k.contains("keep") && !k.ends_with("/peernet")).collect()
}

#[test]
fn every_table_of_upstream_comes_out() {
    let Some(etcd) = Etcd::start() else { return };
    etcd.load(&before_pods(dump()));
    let mut compared = 0;
    for section in include_str!("../data/get-tables.txt").split("### calicoctl ").skip(1) {
        let (command, expected) = section.split_once('\n').unwrap();
        let args: Vec<&str> = command.split(' ').collect();
        let out = etcd.calicoctl(&args, "");
        assert_eq!(out.stdout, expected, "calicoctl {command}\n{}", out.stderr);
        assert_eq!(out.code, 0);
        compared += 1;
    }
    assert!(compared > 40, "{compared}");
}

#[test]
fn workload_endpoints_of_other_orchestrators_have_no_workload() {
    let Some(etcd) = Etcd::start() else { return };
    etcd.load(&dump());
    let out = etcd.calicoctl(&["get", "weps", "-A", "-o", "wide"], "");
    let expected = "\
NAMESPACE   NAME                                        WORKLOAD   NODE     NETWORKS                                                 INTERFACE         PROFILES   NATS   
default     node--a-cni-keep0000c0ffee0123456789-eth0              node-a   10.65.174.129/32,fd00:65:0:6d15:74ba:80e:4835:8083/128   calikeep0000c0f   peernet           
default     node--a-cni-keep0001c0ffee0123456789-eth0              node-a   10.65.174.130/32,fd00:65:0:6d15:74ba:80e:4835:8084/128   calikeep0001c0f   peernet           
default     node--a-cni-keep0002c0ffee0123456789-eth0              node-a   10.65.174.131/32,fd00:65:0:6d15:74ba:80e:4835:8085/128   calikeep0002c0f   peernet           
default     node--a-k8s-web--1-eth0                     web-1      node-a   10.65.200.2/32                                           cali0aweb1        prof-1            
default     node--b-k8s-cl--1-eth0                      cl-1       node-b   10.65.201.2/32                                           cali0bcl1         prof-1            

";
    assert_eq!(out.stdout, expected);
}

#[test]
fn documents_have_upstreams_layout() {
    let Some(etcd) = Etcd::start() else { return };
    etcd.load(&dump());
    let without_revision = |text: String| -> String {
        let lines = text.lines().filter(|l| !l.contains("resourceVersion")).map(|l| format!("{l}\n"));
        lines.collect()
    };
    let out = etcd.calicoctl(&["get", "ippool", "pool-v4", "-o", "yaml"], "");
    let yaml = "\
apiVersion: projectcalico.org/v3
kind: IPPool
metadata:
  creationTimestamp: \"2026-11-21T07:25:45Z\"
  name: pool-v4
  uid: 25d13796-be0a-493b-b924-5843061a8c10
spec:
  allowedUses:
  - Workload
  - Tunnel
  assignmentMode: Automatic
  blockSize: 26
  cidr: 10.65.0.0/16
  ipipMode: Never
  natOutgoing: true
  nodeSelector: all()
  vxlanMode: Never
";
    assert!(out.stdout.contains("  resourceVersion: \""), "{}", out.stdout);
    assert_eq!(without_revision(out.stdout), yaml);
    let json = "\
{
  \"kind\": \"IPPool\",
  \"apiVersion\": \"projectcalico.org/v3\",
  \"metadata\": {
    \"name\": \"pool-v4\",
    \"uid\": \"25d13796-be0a-493b-b924-5843061a8c10\",
    \"creationTimestamp\": \"2026-11-21T07:25:45Z\"
  },
  \"spec\": {
    \"cidr\": \"10.65.0.0/16\",
    \"vxlanMode\": \"Never\",
    \"ipipMode\": \"Never\",
    \"natOutgoing\": true,
    \"blockSize\": 26,
    \"nodeSelector\": \"all()\",
    \"allowedUses\": [
      \"Workload\",
      \"Tunnel\"
    ],
    \"assignmentMode\": \"Automatic\"
  }
}
";
    let out = etcd.calicoctl(&["get", "ippool", "pool-v4", "-o", "json"], "");
    assert!(out.stdout.ends_with('}'), "no newline where output goes to a program");
    assert_eq!(without_revision(out.stdout), json);
    let out = etcd.calicoctl(&["get", "tier", "-o", "yaml"], "");
    assert!(
        out.stdout.starts_with("apiVersion: projectcalico.org/v3\nitems:\n- apiVersion:"),
        "{}",
        out.stdout
    );
    assert!(out.stdout.contains("\nkind: TierList\n"), "{}", out.stdout);
    let out = etcd.calicoctl(&["get", "ippool", "pool-v4", "-o", "name"], "");
    assert_eq!(out.stdout, "ippool.projectcalico.org/pool-v4\n");
}

#[test]
fn what_is_missing_or_unknown_is_told_in_upstreams_words() {
    let Some(etcd) = Etcd::start() else { return };
    let out = etcd.calicoctl(&["get", "ippool", "nope"], "");
    assert_eq!(
        (out.code, out.stderr.as_str()),
        (1, "Error: resource does not exist: IPPool(nope) with error: <nil>\n")
    );
    let out = etcd.calicoctl(&["get", "foo"], "");
    assert_eq!(
        (out.code, out.stderr.as_str()),
        (1, "Error: failed to get resources: resource type 'foo' is not supported\n")
    );
    let out = etcd.calicoctl(&["get", "ippool", "-o", "custom-columns=NAME,COLOUR"], "");
    assert_eq!(out.code, 1);
    assert!(
        out.stderr.contains("unknown output column COLOUR for IPPool; use NAME, CIDR, NAT"),
        "{}",
        out.stderr
    );
}

#[test]
fn another_release_of_the_cluster_needs_a_flag() {
    let Some(etcd) = Etcd::start() else { return };
    let key = "/calico/resources/v3/projectcalico.org/clusterinformations/default";
    let json = r#"{"kind":"ClusterInformation","apiVersion":"projectcalico.org/v3","metadata":{"name":"default"},"spec":{"calicoVersion":"v3.20.0"}}"#;
    etcd.load(&[(key.to_owned(), json.to_owned())]);
    let out = etcd.calicoctl(&["get", "nodes"], "");
    assert_eq!(out.code, 1);
    assert!(out.stderr.contains("Version mismatch.") && out.stderr.contains("v3.20.0"), "{}", out.stderr);
    assert_eq!(etcd.calicoctl(&["get", "nodes", "--allow-version-mismatch"], "").code, 0);
    let out = etcd.calicoctl(&["version"], "");
    assert!(out.stdout.contains("Client Version:    v3.34.0\n"), "{}", out.stdout);
    assert!(out.stdout.contains("Cluster Version:   v3.20.0\n"), "{}", out.stdout);
}

#[test]
fn a_configuration_file_wins_over_the_environment() {
    let (Some(etcd), Some(other)) = (Etcd::start(), Etcd::start()) else { return };
    other.load(&dump());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("calicoctl.cfg");
    let text = format!(
        "apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nmetadata:\nspec:\n  datastoreType: etcdv3\n  etcdEndpoints: {}\n",
        other.server.endpoint()
    );
    std::fs::write(&file, text).unwrap();
    let out = etcd.calicoctl(&["get", "nodes", "--config", file.to_str().unwrap()], "");
    assert_eq!(out.stdout, "NAME     \nnode-a   \nnode-b   \n\n");
    let out = etcd.calicoctl(&["get", "nodes", "--config", "/nonexistent"], "");
    assert!(out.code == 1 && out.stderr.contains("/nonexistent"), "{}", out.stderr);
}
