//! `ipam check`, `release`, `configure` and `split` on a real etcd with upstream's data.

use crate::common::{Cluster as _, Etcd, Output, dump};

fn last_line(out: &Output) -> &str {
    out.stdout.lines().last().unwrap_or_default()
}

fn locked(etcd: &Etcd) {
    let out = etcd.calicoctl(&["datastore", "migrate", "lock"], "");
    assert_eq!((out.code, out.stdout.as_str()), (0, "Datastore locked.\n"), "{}", out.stderr);
}

#[test]
fn leaked_addresses_are_found_reported_and_released() {
    let Some(etcd) = Etcd::start() else { return };
    // Of three addresses of each family, one endpoint is gone.
    let gone = |key: &str| key.contains("/workloadendpoints/") && key.contains("keep0001c0ffee");
    let pairs: Vec<_> = dump().into_iter().filter(|(key, _)| !gone(key)).collect();
    etcd.load(&pairs);
    let before = etcd.calicoctl(&["ipam", "check", "--show-problem-ips"], "");
    assert_eq!(before.code, 0, "{}", before.stderr);
    let leak = "  10.65.174.130 leaked; attrs Main:peernet.keep0001c0ffee0123456789 Extra:node=node-a,";
    assert!(before.stdout.contains(leak), "{}", before.stdout);
    assert!(
        before.stdout.contains("Found 2 IPs that are allocated in IPAM but not actually in use.\n"),
        "{}",
        before.stdout
    );

    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("report.json");
    let report = report.to_str().unwrap();
    let from = format!("--from-report={report}");
    assert_eq!(etcd.calicoctl(&["ipam", "check", "-o", report], "").code, 0);
    let out = etcd.calicoctl(&["ipam", "release", &from], "");
    assert!(out.code == 1 && out.stderr.contains("data store is not locked"), "{}", out.stderr);
    locked(&etcd);
    let out = etcd.calicoctl(&["ipam", "release", &from], "");
    assert!(out.code == 1 && out.stderr.contains("stale"), "{}", out.stderr);
    assert_eq!(etcd.calicoctl(&["ipam", "check", "-o", report], "").code, 0);
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    assert_eq!(json["datastoreLocked"], true);
    assert_eq!(json["allocations"]["10.65.174.130"][0]["inUse"], false);
    assert_eq!(json["allocations"]["10.65.174.131"][0]["inUse"], true);
    let out = etcd.calicoctl(&["ipam", "release", &from], "");
    assert!(
        out.code == 0 && out.stdout.contains("Released 2 IPs successfully\n"),
        "{}{}",
        out.stdout,
        out.stderr
    );
    assert_eq!(last_line(&out), "You may now unlock the data store.");
    assert_eq!(
        etcd.calicoctl(&["ipam", "show", "--ip=10.65.174.130"], "").stdout,
        "10.65.174.130 is not assigned\n"
    );
    let after = etcd.calicoctl(&["ipam", "check"], "");
    assert!(after.stdout.contains("Found 0 IPs that are allocated in IPAM but not actually in use."));
}

#[test]
fn a_sound_cluster_has_no_problem_and_stray_handles_are_deleted() {
    let Some(etcd) = Etcd::start() else { return };
    // What else uses addresses in the dump was made by hand, outside of IPAM.
    let by_hand = |key: &str, value: &str| {
        key.contains("/workloadendpoints/") && !key.contains("keep000")
            || key.contains("/nodes/") && value.contains("TunnelAddr")
    };
    let mut pairs: Vec<_> = dump().into_iter().filter(|(k, v)| !by_hand(k, v)).collect();
    if !pairs.iter().any(|(k, _)| k.ends_with("/nodes/node-a")) {
        let node =
            r#"{"kind":"Node","apiVersion":"projectcalico.org/v3","metadata":{"name":"node-a"},"spec":{}}"#;
        pairs.push(("/calico/resources/v3/projectcalico.org/nodes/node-a".to_owned(), node.to_owned()));
    }
    // The address whose release upstream's dump shows is the endpoint's again.
    for (key, value) in &mut pairs {
        if key.contains("/workloadendpoints/") && key.contains("keep0000") {
            *value = value.replace("\"10.65.174.129/32\",", "");
        }
    }
    etcd.load(&pairs);
    let out = etcd.calicoctl(&["ipam", "check", "--show-problem-ips"], "");
    assert_eq!(last_line(&out), "Check complete; found 0 problems.", "{}", out.stdout);
    etcd.load(&[("/calico/ipam/v2/handle/stray".to_owned(), r#"{"block":{},"deleted":false}"#.to_owned())]);
    locked(&etcd);
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("report.json");
    let report = report.to_str().unwrap();
    let out = etcd.calicoctl(&["ipam", "check", "--show-all-ips", "-o", report], "");
    assert_eq!(last_line(&out), "Check complete; found 1 problems.", "{}", out.stdout);
    assert!(out.stdout.contains("  handle stray has no address\n"), "{}", out.stdout);
    let out = etcd.calicoctl(&["ipam", "release", &format!("--from-report={report}")], "");
    assert!(
        out.stdout.contains("Released 1 handles; 0 skipped; 0 errors.\n"),
        "{}{}",
        out.stdout,
        out.stderr
    );
}

#[test]
fn one_address_is_released_with_upstreams_words() {
    let Some(etcd) = Etcd::start() else { return };
    etcd.load(&dump());
    let out = etcd.calicoctl(&["ipam", "release", "--ip=10.65.174.130"], "");
    assert_eq!(out.stdout, "Successfully released IP address 10.65.174.130\n");
    let out = etcd.calicoctl(&["ipam", "release", "--ip=10.65.174.130"], "");
    assert_eq!((out.code, out.stderr.as_str()), (1, "Error: IP address 10.65.174.130 is not assigned\n"));
}

#[test]
fn settings_are_changed_with_upstreams_words() {
    let Some(etcd) = Etcd::start() else { return };
    let out = etcd.calicoctl(&["ipam", "configure", "--max-blocks-per-host=4"], "");
    assert_eq!(
        (out.code, out.stderr.as_str()),
        (1, "Error: error: MaxBlocksPerHost requires StrictAffinity to be enabled\n")
    );
    let out = etcd.calicoctl(&["ipam", "configure", "--strictaffinity=true"], "");
    assert_eq!(out.stdout, "Successfully set StrictAffinity to: true\n", "{}", out.stderr);
    let out =
        etcd.calicoctl(&["ipam", "configure", "--max-blocks-per-host=4", "--ip-cooldown-seconds", "30"], "");
    assert_eq!(
        out.stdout,
        "Successfully set MaxBlocksPerHost to: 4\nSuccessfully set IPCooldownSeconds to: 30\n"
    );
    let stored = etcd.read("/calico/ipam/v2/config");
    assert_eq!(stored["strict_affinity"], true);
    assert_eq!(stored["maxBlocksPerHost"], 4);
    let out = etcd.calicoctl(&["ipam", "configure", "--strictaffinity=perhaps"], "");
    assert!(
        out.code == 1 && out.stderr.contains("Use true or false to set strictaffinity"),
        "{}",
        out.stderr
    );
    assert_eq!(etcd.calicoctl(&["ipam", "configure"], "").code, 1);
}

#[test]
fn a_pool_is_split_under_a_lock_and_its_addresses_stay() {
    let Some(etcd) = Etcd::start() else { return };
    etcd.load(&dump());
    let split = ["ipam", "split", "4", "--cidr=10.65.0.0/16"];
    let out = etcd.calicoctl(&split, "");
    assert_eq!(
        (out.code, out.stderr.as_str()),
        (
            1,
            "Error: datastore is not locked. Run the `calicoctl datastore migrate lock` command in order split the IP pools\n"
        )
    );
    locked(&etcd);
    let out = etcd.calicoctl(&["ipam", "split", "3", "--cidr=10.65.0.0/16"], "");
    assert!(out.code == 1 && out.stderr.contains("power of 2"), "{}", out.stderr);
    let out = etcd.calicoctl(&split, "");
    assert_eq!(out.code, 0, "{}", out.stderr);
    assert!(out.stdout.contains("-2 with CIDR 10.65.128.0/18.\n"), "{}", out.stdout);
    let usage = etcd.calicoctl(&["ipam", "show"], "").stdout;
    assert!(usage.contains("| IP Pool  | 10.65.128.0/18 |      16384 |     2 (0%) |"), "{usage}");
    assert!(!usage.contains("10.65.0.0/16"), "{usage}");
}

#[test]
fn a_cluster_that_cannot_be_asked_is_an_error_and_no_report_is_written() {
    let Some(etcd) = Etcd::start() else { return };
    etcd.load(&dump());
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("report.json");
    let out = etcd.calicoctl(
        &["ipam", "check", "--kubeconfig=/nonexistent/kubeconfig", "-o", report.to_str().unwrap()],
        "",
    );
    assert!(out.code == 1 && out.stderr.contains("/nonexistent/kubeconfig"), "{}", out.stderr);
    assert!(!report.exists());
}
