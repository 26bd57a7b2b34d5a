//! `ipam check`, `release`, `configure`, `split` and `show` over pods and nodes, the same on both datastores.

use std::net::IpAddr;

use libcalico_ipam::{AssignRequest, IpamClient, Owner};

use crate::common::Cluster;

const POOL: &str =
    "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: pool}\nspec: {cidr: 10.65.0.0/16}\n";

fn assign(c: &dyn Cluster, addr: &str, handle: &str) {
    let mut request = AssignRequest::workload(Owner::host("node-a"));
    request.handle_id = Some(handle.to_owned());
    request.attributes = [("node", "node-a"), ("pod", handle), ("namespace", "default")]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
    let addr: IpAddr = addr.parse().unwrap();
    c.runtime().block_on(async { IpamClient::new(c.store()).assign_ip(&request, addr).await }).unwrap();
}

/// A pool, a node, two pods with their addresses.
fn world(c: &dyn Cluster) {
    c.ok(&["apply", "-f", "-"], POOL);
    if !c.kubernetes() {
        let profile = "apiVersion: projectcalico.org/v3\nkind: Profile\nmetadata: {name: kns.default}\n";
        let node = "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {name: node-a}\n";
        c.ok(&["apply", "-f", "-"], &format!("{profile}---\n{node}"));
    }
    for (pod, ip) in [("web", "10.65.0.1"), ("db", "10.65.0.2")] {
        c.pod("default", pod, "node-a", &[("app", pod)], ip);
        assign(c, ip, &format!("k8s-pod-network.{pod}"));
    }
}

fn last_line(text: &str) -> &str {
    text.lines().last().unwrap_or_default()
}

pub fn what_leaked_is_found_reported_and_released(c: &dyn Cluster) {
    world(c);
    let sound = c.ok(&["ipam", "check", "--show-problem-ips"], "");
    assert_eq!(last_line(&sound), "Check complete; found 0 problems.", "{sound}");
    assign(c, "10.65.0.3", "k8s-pod-network.gone");
    let found = c.ok(&["ipam", "check", "--show-problem-ips"], "");
    assert!(found.contains("  10.65.0.3 leaked; attrs "), "{found}");
    assert!(found.contains("Found 1 IPs that are allocated in IPAM but not actually in use."), "{found}");
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("report.json");
    let report = report.to_str().unwrap();
    c.ok(&["datastore", "migrate", "lock"], "");
    c.ok(&["ipam", "check", "-o", report], "");
    let released = c.ok(&["ipam", "release", &format!("--from-report={report}")], "");
    assert!(released.contains("Released 1 IPs successfully\n"), "{released}");
    c.ok(&["datastore", "migrate", "unlock"], "");
    assert_eq!(c.ok(&["ipam", "show", "--ip=10.65.0.3"], ""), "10.65.0.3 is not assigned\n");
    let after = c.ok(&["ipam", "check", "--show-problem-ips"], "");
    assert_eq!(last_line(&after), "Check complete; found 0 problems.", "{after}");
}

pub fn pods_outside_of_ipam_and_addresses_of_two_are_found(c: &dyn Cluster) {
    world(c);
    c.pod("default", "twin", "node-a", &[("app", "twin")], "10.65.0.2");
    c.pod("default", "free", "node-a", &[("app", "free")], "10.65.0.9");
    c.pod("default", "outside", "node-a", &[("app", "outside")], "192.168.77.1");
    let found = c.ok(&["ipam", "check", "--show-problem-ips"], "");
    for told in [
        "Found 1 in-use IPs that are not in active IP pools.\n",
        "Found 1 in-use IPs that are in active IP pools but have no corresponding IPAM allocation.\n",
        "Found 1 IPs that are used or allocated more than once.\n",
        "default/node--a-k8s-twin-eth0",
    ] {
        assert!(found.contains(told), "{told}: {found}");
    }
}

pub fn settings_and_pools_change_as_everywhere(c: &dyn Cluster) {
    world(c);
    let said = c.ok(&["ipam", "configure", "--strictaffinity=true"], "");
    assert_eq!(said, "Successfully set StrictAffinity to: true\n");
    c.ok(&["ipam", "configure", "--max-blocks-per-host=4"], "");
    let shown = c.ok(&["ipam", "show", "--show-configuration"], "");
    assert!(shown.contains("StrictAffinity") && shown.contains("true") && shown.contains('4'), "{shown}");
    let shown = c.ok(&["ipam", "show", "--show-blocks"], "");
    assert!(shown.contains("| Block    | 10.65.0.0/26 |        64 |     2 (3%) |"), "{shown}");
    c.ok(&["datastore", "migrate", "lock"], "");
    let split = c.ok(&["ipam", "split", "4", "--cidr=10.65.0.0/16"], "");
    assert!(split.contains("with CIDR 10.65.128.0/18.\n"), "{split}");
    c.ok(&["datastore", "migrate", "unlock"], "");
    let shown = c.ok(&["ipam", "show"], "");
    assert!(shown.contains("10.65.0.0/18") && !shown.contains("10.65.0.0/16"), "{shown}");
    let freed = c.ok(&["ipam", "release", "--ip=10.65.0.1"], "");
    assert_eq!(freed, "Successfully released IP address 10.65.0.1\n");
    let e = c.refused(&["ipam", "release", "--ip=10.65.0.1"], "");
    assert_eq!(e, "Error: IP address 10.65.0.1 is not assigned\n");
}
