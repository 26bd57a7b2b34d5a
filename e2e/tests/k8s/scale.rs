//! Many pods at once, and what is left of them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use e2e::k8s::{Cluster, eventually};

use crate::support::{Space, wait};

const PODS: usize = 40;
/// Longest time for all pods to be there or gone.
const LIMIT: Duration = Duration::from_secs(150);

pub fn once(cluster: &Cluster) {
    let space = Space::new(cluster, "k8s-scale");
    space.deployment("crowd");
    cycle(&space);
}

pub fn ten_times(cluster: &Cluster) {
    let space = Space::new(cluster, "k8s-scale-ten");
    space.deployment("crowd");
    let mut took: Vec<Duration> = (0..10).map(|_| cycle(&space)).collect();
    took.sort();
    println!(
        "        0 to {PODS} available: least {:.1?}, median {:.1?}, most {:.1?}",
        took[0], took[5], took[9]
    );
}

/// From nothing to all pods available, and back. The time of the former.
fn cycle(space: &Space<'_>) -> Duration {
    let start = Instant::now();
    space.kubectl(&["scale", "deployment", "crowd", &format!("--replicas={PODS}")]);
    space.kubectl(&["rollout", "status", "deployment", "crowd", "--timeout=150s"]);
    let took = start.elapsed();
    let pods = space.cluster.pods(space.name, "app=crowd").unwrap();
    let addresses: BTreeSet<&str> = pods.iter().map(|p| p.address.as_str()).collect();
    let nodes: BTreeSet<&str> = pods.iter().map(|p| p.node.as_str()).collect();
    assert_eq!((pods.len(), addresses.len()), (PODS, PODS), "each pod has an address of its own: {pods:?}");
    assert!(nodes.len() > 1, "{nodes:?}");
    let start = Instant::now();
    space.kubectl(&["scale", "deployment", "crowd", "--replicas=0"]);
    let gone = eventually("all pods to be gone", LIMIT, || {
        let left = space.cluster.pods(space.name, "app=crowd").map_err(|e| e.to_string())?.len();
        if left == 0 { Ok(()) } else { Err(format!("{left} are left")) }
    });
    gone.unwrap_or_else(|e| panic!("{e}"));
    println!("        0 to {PODS}: {took:.1?}, {PODS} to 0: {:.1?}", start.elapsed());
    clean(space.cluster);
    took
}

/// Waits until the nodes have put away what pods had, which takes longer than the API server says.
fn clean(cluster: &Cluster) {
    for node in cluster.nodes().unwrap() {
        wait(&format!("{node} to be clean"), || {
            let traces = cluster.traces(&node).map_err(|e| e.to_string())?;
            if traces.is_empty() { Ok(()) } else { Err(format!("{traces:?}")) }
        });
    }
}

pub fn nothing_left(cluster: &Cluster) {
    // Calico's own pods have no network of their own.
    let others = ["get", "pods", "-A", "-l", "k8s-app!=calico-node", "-o", "name"];
    let all = cluster.kubectl(&others).unwrap();
    assert_eq!(all.trim(), "", "this check needs a cluster without pods");
    clean(cluster);
    let handles = cluster.kubectl(&["get", "ipamhandles.projectcalico.org", "-o", "name"]).unwrap();
    assert_eq!(handles.trim(), "", "handles of pods that are gone");
    let report = cluster.calicoctl(&["ipam", "check"]).unwrap();
    assert!(report.contains("found 0 problems"), "{report}");
}
