//! A hundred pods at once: distinct addresses, and nothing of them is left.

mod common;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{ETCD, can_run, config, eventually, machine, up};
use e2e::kernel::links;
use e2e::probe::Protocol;
use e2e::{Expect, Lab, LabConfig, Place, PodSpec, Target};
use serde_json::Value;

const PODS: usize = 100;
const WORKERS: usize = 8;

/// Hands the numbers of all pods to eight workers.
fn in_parallel(work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::SeqCst);
                    if n >= PODS {
                        return;
                    }
                    work(n);
                }
            });
        }
    });
}

fn spec(n: usize) -> PodSpec {
    PodSpec::new("crowd", &format!("pod-{n}"), &format!("n{}", n % 2 + 1)).unwrap()
}

/// Keys below a prefix, straight from etcd.
fn keys(lab: &Lab, prefix: &str) -> Vec<String> {
    let argv = ["etcdctl", "get", "--prefix", prefix, "--keys-only"];
    let text = lab.exec_ok(&machine("infra"), &argv, "").unwrap();
    text.lines().filter(|l| !l.is_empty()).map(str::to_owned).collect()
}

/// How many addresses the blocks in etcd say are taken.
fn allocated(lab: &Lab) -> usize {
    let blocks = keys(lab, "/calico/ipam/v2/assignment/ipv4/block/");
    let values = blocks.iter().map(|key| {
        let text =
            lab.exec_ok(&machine("infra"), &["etcdctl", "get", "--print-value-only", key], "").unwrap();
        serde_json::from_str::<Value>(&text).unwrap_or_else(|e| panic!("{key}: {e}: {text}"))
    });
    values
        .map(|block| {
            let slots = block["allocations"].as_array().map(Vec::as_slice).unwrap_or_default().to_vec();
            slots.iter().filter(|slot| !slot.is_null()).count()
        })
        .sum()
}

/// What of pods can be left on a node: interfaces, routes, policy.
fn left_on(lab: &Lab, node: &str) -> Vec<String> {
    let ns = lab.netns_of(&machine(node));
    let mut left: Vec<String> =
        links::names(&ns).unwrap().into_iter().filter(|name| name.starts_with("cali")).collect();
    let run = |argv: &[&str]| lab.exec_ok(&machine(node), argv, "").unwrap();
    for text in [run(&["ip", "route"]), run(&["ip", "neigh"]), run(&["nft", "list", "ruleset"])] {
        let trace =
            |line: &&str| line.contains("cali-tw-") || line.contains("cali-fw-") || line.contains("dev cali");
        left.extend(text.lines().filter(trace).map(|line| line.trim().to_owned()));
    }
    left
}

#[test]
fn a_hundred_pods_from_eight_workers_get_distinct_addresses_and_leave_nothing() {
    if !can_run(&[ETCD]) {
        return;
    }
    let lab = up(LabConfig { nodes: 2, ..config("tp") });
    let in_use_before = allocated(&lab);
    let addresses = Mutex::new(BTreeSet::new());
    let start = Instant::now();
    in_parallel(|n| {
        let pod = lab.pod_run(spec(n)).unwrap_or_else(|e| panic!("{e}"));
        let address = pod.address().unwrap();
        assert!(addresses.lock().unwrap().insert(address), "{address} was given twice");
    });
    eprintln!("{PODS} pods made in {:?}", start.elapsed());
    let count = addresses.lock().unwrap().len();
    assert_eq!(count, PODS);
    assert_eq!(allocated(&lab), in_use_before + PODS);
    for (from, to) in [(0, 1), (2, 4), (97, 98)] {
        let target = Target { host: spec(to).name.to_string(), port: None };
        let report =
            lab.probe(&Place::Pod(spec(from).name), &target, Protocol::Icmp, Some(Expect::Allow)).unwrap();
        assert!(report.matches(Expect::Allow), "{from} → {to}: {report}");
    }

    let start = Instant::now();
    in_parallel(|n| lab.pod_delete(&spec(n).name).unwrap_or_else(|e| panic!("{e}")));
    eprintln!("{PODS} pods removed in {:?}", start.elapsed());
    assert_eq!(allocated(&lab), in_use_before, "addresses leaked");
    for prefix in ["/calico/ipam/v2/handle/", "/calico/resources/v3/projectcalico.org/workloadendpoints/"] {
        assert_eq!(keys(&lab, prefix), Vec::<String>::new(), "keys leaked");
    }
    let shown = lab.calicoctl(&["ipam", "show"], "").unwrap();
    assert!(shown.contains("|     0 (0%) |"), "{shown}");
    for node in ["n1", "n2"] {
        eventually(&format!("{node} to be clean"), Duration::from_secs(180), || {
            let left = left_on(&lab, node);
            if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
        });
    }
    assert!(e2e::kernel::netns::list("lab-tp-p-").unwrap().is_empty());
}
