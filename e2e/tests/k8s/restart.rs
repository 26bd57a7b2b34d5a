//! Programs that are killed: traffic of pods goes on, and what happens meanwhile is made good.

use e2e::k8s::Cluster;

use crate::support::{Space, two_nodes, wait};

pub fn calico_node(cluster: &Cluster) {
    let [one, two] = two_nodes(cluster);
    let space = Space::new(cluster, "k8s-restart");
    space.server("web", &one);
    space.server("client", &two);
    space.ready(&["web", "client"]);
    let web = format!("{}:8080", space.seen("web").address);
    space.reaches("client", &web);
    let meanwhile =
        || space.connects("client", &web).unwrap_or_else(|e| panic!("traffic ended with calico-node: {e}"));
    cluster.without_calico_node(&one, meanwhile).unwrap();
    wait("calico-node to be ready again", || {
        cluster.on(&one, &["calico-node", "-felix-ready", "-bird-ready"]).map(drop).map_err(|e| e.to_string())
    });
    space.connects("client", &web).unwrap_or_else(|e| panic!("{e}"));
    // And a pod made afterwards is a pod like others.
    space.server("late", &one);
    space.ready(&["late"]);
    space.reaches("client", &format!("{}:8080", space.seen("late").address));
}

pub fn node(cluster: &Cluster) {
    let [one, two] = two_nodes(cluster);
    let space = Space::new(cluster, "k8s-node");
    for (name, node) in [("stays", &one), ("goes", &one), ("client", &two)] {
        space.server(name, node);
    }
    space.ready(&["stays", "goes", "client"]);
    let stays = format!("{}:8080", space.seen("stays").address);
    space.reaches("client", &stays);
    for service in ["kubelet", "containerd"] {
        cluster.service("stop", &one, service).unwrap();
    }
    // The kernel's part of a pod needs neither.
    space.connects("client", &stays).unwrap_or_else(|e| panic!("traffic ended with the kubelet: {e}"));
    space.kubectl(&["delete", "pod", "goes", "--wait=false"]);
    for service in ["containerd", "kubelet"] {
        cluster.service("start", &one, service).unwrap();
    }
    wait("the deleted pod to be gone", || {
        let left = cluster.pods(space.name, "app=goes").map_err(|e| e.to_string())?;
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    space.ready(&["stays"]);
    space.connects("client", &stays).unwrap_or_else(|e| panic!("{e}"));
    space.server("late", &one);
    space.ready(&["late"]);
    space.reaches("client", &format!("{}:8080", space.seen("late").address));
}
