//! Routes between nodes: learned by BGP, kept while the BGP daemons are stopped, told to and understood by Debian's
//! BIRD.

mod common;

use std::thread;
use std::time::Duration;

use common::{ETCD, alone, can_run, config, eventually, expect, inside, machine, pod, up};
use e2e::traffic::Pinger;
use e2e::{Expect, Lab, LabConfig};
use nix::sys::signal::Signal;

/// The number the kernel's table of routing protocols has for BIRD.
const PROTO_BIRD: &str = "12";

/// The routes on a node that its BGP daemon put into the kernel.
fn bird_routes(lab: &Lab, node: &str) -> Vec<String> {
    let text = lab.exec_ok(&machine(node), &["ip", "-4", "route", "show", "proto", PROTO_BIRD], "").unwrap();
    text.lines().map(|line| line.trim().to_owned()).collect()
}

/// The routes of all nodes, once they have stayed the same for some seconds.
fn settled(lab: &Lab) -> Vec<Vec<String>> {
    let all = || -> Vec<_> { ["n1", "n2", "n3"].map(|node| bird_routes(lab, node)).into() };
    let mut last = all();
    eventually("routes to settle", Duration::from_secs(180), || {
        thread::sleep(Duration::from_secs(3));
        let now = all();
        let same = now == last;
        last = now;
        if same { Ok(()) } else { Err(format!("{last:?}")) }
    });
    last
}

/// Whether `routes` has one to the block of `address` by way of `gateway`.
fn leads_to(routes: &[String], address: std::net::IpAddr, gateway: &str) -> bool {
    routes.iter().any(|route| {
        let mut words = route.split_whitespace();
        let inside = words.next().and_then(|net| net.parse::<ipnet::IpNet>().ok());
        inside.is_some_and(|net| net.contains(&address)) && route.contains(&format!("via {gateway} "))
    })
}

#[test]
fn pods_on_other_nodes_are_reached_by_routes_from_bgp_which_outlive_the_bgp_daemons() {
    if !can_run(&[ETCD]) {
        return;
    }
    let _alone = alone();
    let lab = up(config("tb1"));
    let (a, b) = (pod(&lab, "a", "n1", &[]), pod(&lab, "b", "n2", &[]));
    let (at_a, at_b) = (a.address().unwrap(), b.address().unwrap());
    for (node, address, gateway) in [
        ("n1", at_b, "172.31.0.2"),
        ("n2", at_a, "172.31.0.1"),
        ("n3", at_a, "172.31.0.1"),
        ("n3", at_b, "172.31.0.2"),
    ] {
        eventually(&format!("{node}'s route to {address}"), Duration::from_secs(180), || {
            let routes = bird_routes(&lab, node);
            if leads_to(&routes, address, gateway) { Ok(()) } else { Err(routes.join("; ")) }
        });
    }
    expect(&lab, &a, &b, Expect::Allow);
    // Blocks travel whole: what a node has inside its block is nobody else's concern.
    for (node, address) in [("n1", at_b), ("n2", at_a), ("n3", at_a), ("n3", at_b)] {
        eventually(&format!("{node} to know blocks alone"), Duration::from_secs(180), || {
            let routes = bird_routes(&lab, node);
            let single = routes.iter().find(|r| r.split_whitespace().next() == Some(&address.to_string()));
            single.map_or(Ok(()), |route| Err(route.clone()))
        });
    }

    let before = settled(&lab);
    let pinger = Pinger::start(&lab, &inside(&a), at_b).unwrap();
    for node in ["n1", "n2", "n3"] {
        lab.kill_process(node, "bird-rs", Signal::SIGSTOP).unwrap();
    }
    thread::sleep(Duration::from_secs(5));
    let during: Vec<_> = ["n1", "n2", "n3"].map(|node| bird_routes(&lab, node)).into();
    expect(&lab, &a, &b, Expect::Allow);
    for node in ["n1", "n2", "n3"] {
        lab.kill_process(node, "bird-rs", Signal::SIGCONT).unwrap();
    }
    let pings = pinger.stop();
    assert_eq!(during, before);
    assert!(pings.lost.is_empty(), "lost at {:?}", pings.lost);

    // Not only stopped but gone, with everything else of Calico on one node: its neighbours keep its routes for
    // the graceful-restart time, and it finds its own again.
    let pinger = Pinger::start(&lab, &inside(&a), at_b).unwrap();
    for daemon in ["calico-node", "bird-rs", "calico-felix", "confd"] {
        lab.kill_process("n2", daemon, Signal::SIGKILL).ok();
    }
    eventually("Calico to be gone from n2", Duration::from_secs(180), || {
        let left =
            lab.processes("n2", "bird-rs").unwrap().len() + lab.processes("n2", "calico-node").unwrap().len();
        if left == 0 { Ok(()) } else { Err(format!("{left} processes")) }
    });
    thread::sleep(Duration::from_secs(5));
    let during: Vec<_> = ["n1", "n2", "n3"].map(|node| bird_routes(&lab, node)).into();
    assert_eq!(during, before, "while n2 has no BGP daemon");
    expect(&lab, &a, &b, Expect::Allow);
    lab.restart_daemon("n2", "calico-node").unwrap();
    eventually("n2 to be ready", Duration::from_secs(180), || lab.node_ready("n2").unwrap());
    thread::sleep(Duration::from_secs(2));
    let after: Vec<_> = ["n1", "n2", "n3"].map(|node| bird_routes(&lab, node)).into();
    let pings = pinger.stop();
    assert_eq!(after, before, "after n2's restart");
    assert!(pings.lost.is_empty(), "lost at {:?}", pings.lost);
}

#[test]
fn debians_bird_learns_the_blocks_through_a_bgppeer_and_its_birdc_talks_to_ours() {
    if !can_run(&[ETCD, "/usr/sbin/bird", "/usr/sbin/birdc"]) {
        return;
    }
    let _alone = alone();
    let lab = up(LabConfig { nodes: 2, ..config("tb2") });
    let (a, b) = (pod(&lab, "a", "n1", &[]), pod(&lab, "b", "n2", &[]));
    let infra = machine("infra");
    let neighbor = |n: usize| {
        format!(
            "protocol bgp n{n} {{ local 172.31.0.250 as 65001; neighbor 172.31.0.{n} as 64512; \
             ipv4 {{ import all; export where source = RTS_STATIC; }}; }}\n"
        )
    };
    let config = format!(
        "router id 172.31.0.250;\nprotocol device {{}}\n\
         protocol static {{ ipv4; route 198.51.100.0/24 blackhole; }}\n{}{}",
        neighbor(1),
        neighbor(2)
    );
    let run = |script: &str, input: &str| lab.exec_ok(&infra, &["sh", "-c", script], input).unwrap();
    run(
        "cat > /run/peer.conf && /usr/sbin/bird -c /run/peer.conf -s /run/peer.ctl -P /run/peer.pid",
        &config,
    );
    lab.calicoctl(
        &["apply", "-f", "-"],
        "apiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata:\n  name: debian\n\
         spec:\n  peerIP: 172.31.0.250\n  asNumber: 65001\n",
    )
    .unwrap();
    for (pod, gateway) in [(&a, "172.31.0.1"), (&b, "172.31.0.2")] {
        let address = pod.address().unwrap();
        eventually(&format!("Debian's BIRD to learn of {address}"), Duration::from_secs(180), || {
            // Fails as long as there is no route.
            let show = format!("/usr/sbin/birdc -s /run/peer.ctl show route for {address} all");
            let routes = lab.exec(&infra, &["sh", "-c", &show], "").unwrap().stdout;
            let learned = routes.contains("BGP.as_path: 64512") && routes.contains(gateway);
            if learned { Ok(()) } else { Err(routes) }
        });
    }
    for node in ["n1", "n2"] {
        eventually(&format!("{node} to learn of 198.51.100.0/24"), Duration::from_secs(180), || {
            let routes = bird_routes(&lab, node);
            let address = "198.51.100.1".parse().unwrap();
            if leads_to(&routes, address, "172.31.0.250") { Ok(()) } else { Err(routes.join("; ")) }
        });
    }
    let birdc = |command: &[&str]| {
        let argv: Vec<&str> =
            ["/usr/sbin/birdc", "-s", "/var/run/calico/bird.ctl"].iter().chain(command).copied().collect();
        lab.exec_ok(&machine("n1"), &argv, "").unwrap()
    };
    assert!(birdc(&["show", "status"]).contains("Router ID is 172.31.0.1"));
    assert!(birdc(&["show", "protocols"]).contains("Established"));
    assert!(birdc(&["show", "protocols", "all"]).contains("Neighbor AS:      65001"));
    assert!(birdc(&["show", "route"]).contains("198.51.100.0/24"));
    assert!(birdc(&["show", "route", "all"]).contains("BGP.as_path: 65001"));
    assert!(birdc(&["configure"]).contains("Reconfig"));
}
