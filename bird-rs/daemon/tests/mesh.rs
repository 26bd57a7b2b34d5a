//! Three nodes of a cluster, all of them bird-rs, with a configuration as confd renders it.

mod support;

use std::net::IpAddr;
use std::time::Duration;

use support::Daemon::Ours;
use support::{Lab, Router, can_run, traffic, wait};

/// A node's configuration: its blocks leave whole, what lies within stays.
fn node(number: usize) -> String {
    let mut out = format!(
        "router id 10.99.0.{number};\n\
         protocol device {{ debug {{ states }}; scan time 2; }}\n\
         protocol direct {{ debug {{ states }}; ipv4; ipv6; interface -\"cali*\", -\"kube-ipvs*\", \"*\"; }}\n\
         template bgp bgp_template {{ debug {{ states }}; description \"Connection to BGP peer\"; local as 64512; \
           graceful restart; connect delay time 2; connect retry time 5; error wait time 5,30; }}\n"
    );
    for (family, suffix, block) in
        [("ipv4", "v4", format!("10.65.{number}.0/26")), ("ipv6", "v6", format!("fd65:{number}::/122"))]
    {
        let pool = if family == "ipv4" { "10.65.0.0/16" } else { "fd65::/16" };
        out += &format!(
            "function calico_aggr_{suffix}() {{\n\
               if (net = {block}) then {{ accept; }}\n\
               if (net ~ {block} && krt_metric < 1024) then {{ accept; }}\n\
               if (net ~ {block}) then {{ reject; }}\n}}\n\
             function calico_priority_{suffix}() {{\n\
               if (source = RTS_BGP && defined(bgp_local_pref)) then {{ krt_metric = 2147483647 - bgp_local_pref; }}\n\
               else {{ if (!defined(krt_metric)) then {{ krt_metric = 1024; }} bgp_local_pref = 2147483647 - krt_metric; }}\n}}\n\
             function calico_export_to_bgp_peers_{suffix}(bool internal_peer) {{\n\
               if (internal_peer && defined(ifname)) then {{\n\
                 if (ifname ~ \"*.cali\" || ifname ~ \"*.calico\" || ifname ~ \"tunl0\") then {{ reject; }} }}\n\
               calico_aggr_{suffix}();\n  if (net ~ {pool}) then {{ accept; }}\n}}\n\
             filter calico_kernel_programming_{suffix} {{\n\
               if (source = RTS_DEVICE) then {{ reject; }}\n\
               if (source = RTS_BGP && !defined(krt_metric)) then {{ krt_metric = 1024;\n\
                 if (defined(bgp_local_pref)) then {{ krt_metric = 2147483647 - bgp_local_pref; }}\n\
                 if (krt_metric < 1024) then {{ preference = 200; }} }}\n  accept;\n}}\n\
             protocol kernel kernel_{suffix} {{ learn; persist; scan time 2; graceful restart; merge paths on; metric 0;\n\
               {family} {{ import all; export filter calico_kernel_programming_{suffix}; }}; }}\n\
             protocol static static_{suffix} {{ {family}; route {block} blackhole; }}\n"
        );
        for peer in (1..=3).filter(|p| *p != number) {
            let address =
                |n: usize| if family == "ipv4" { format!("10.99.0.{n}") } else { format!("fd99::{n}") };
            // As upstream: the node with the higher address waits for the other.
            let passive = if peer > number { "passive on;" } else { "" };
            out += &format!(
                "protocol bgp Mesh_{suffix}_{peer} from bgp_template {{ neighbor {} as 64512; source address {};\n\
                 ttl security off; multihop; {passive}\n\
                 {family} {{ gateway recursive; add paths on;\n\
                   import filter {{ if (defined(bgp_local_pref) && bgp_local_pref > 2147482623) then {{ preference = 200; }} accept; }};\n\
                   export filter {{ calico_priority_{suffix}(); calico_export_to_bgp_peers_{suffix}(true); reject; }}; }}; }}\n",
                address(peer),
                address(number)
            );
        }
    }
    out
}

/// A namespace-less pod: an address on an interface named as a workload's.
fn pod(router: &Router) {
    let n = router.number;
    router.exec(&format!(
        "sh -c 'ip link add cali{n} type veth peer name pod{n} && ip link set pod{n} up && ip link set cali{n} up && ip addr add 10.65.{n}.5/32 dev cali{n} \
         && ip addr add fd65:{n}::5/128 dev cali{n} nodad \
         && ip route add 10.65.{n}.9/32 dev cali{n} metric 1024'"
    ));
}

fn mesh() -> Lab {
    let mut lab = Lab::new(&[Ours, Ours, Ours]);
    for router in &mut lab.routers {
        pod(router);
        for address in addresses(router.number) {
            traffic::echo(&router.ns, address);
        }
        let config = node(router.number);
        router.start(&config, &["-R"]);
    }
    for (i, router) in lab.routers.iter().enumerate() {
        let own = [format!("blackhole 10.65.{}.0/26", i + 1), format!("blackhole fd65:{}::/122", i + 1)];
        wait("a node's own blocks", || {
            let routes = router.routes();
            own.iter().all(|block| routes.contains(block))
        });
        for peer in (1..=3).filter(|p| *p != i + 1) {
            let (v4, v6) = (
                format!("10.65.{peer}.0/26 via 10.99.0.{peer}"),
                format!("fd65:{peer}::/122 via fd99::{peer}"),
            );
            wait("blocks of all other nodes", || {
                let routes = router.routes();
                routes.contains(&v4) && routes.contains(&v6)
            });
        }
    }
    lab
}

fn addresses(number: usize) -> [IpAddr; 2] {
    [format!("10.65.{number}.5"), format!("fd65:{number}::5")].map(|a| a.parse().expect("an address"))
}

/// Every pod reaches every other one, by IPv4 and by IPv6.
fn probe(lab: &Lab) {
    for router in &lab.routers {
        for peer in (1..=3).filter(|p| *p != router.number) {
            for (from, to) in addresses(router.number).into_iter().zip(addresses(peer)) {
                assert!(traffic::reaches(&router.ns, from, to), "{from} -> {to}");
            }
        }
    }
}

#[test]
fn pods_of_a_mesh_reach_each_other_and_only_blocks_are_advertised() {
    if !can_run() {
        return;
    }
    let lab = mesh();
    probe(&lab);
    let routes = lab.routers[1].routes();
    assert!(!routes.contains("10.65.1.9"), "a route within the block left the node: {routes}");
    assert!(routes.contains("10.65.1.0/26 via 10.99.0.1 dev eth0 proto bird metric 1024"), "{routes}");
    let shown = lab.routers[0].birdc("show protocols");
    assert_eq!(shown.matches("Established").count(), 4, "{shown}");
    assert!(lab.routers[0].birdc("show route all 10.65.2.0/26").contains("BGP.local_pref: 2147482623"));
}

#[test]
fn routes_stay_while_every_daemon_is_down_and_nothing_flaps_on_return() {
    if !can_run() {
        return;
    }
    let mut lab = mesh();
    let watches: Vec<_> = lab.routers.iter().map(Router::watch_routes).collect();
    let done = |r: &Router| r.log().matches("graceful restart done").count();
    let mut before = Vec::new();
    for router in &mut lab.routers {
        router.kill();
        before.push(done(router));
    }
    std::thread::sleep(Duration::from_secs(2));
    probe(&lab);
    for router in &mut lab.routers {
        let config = node(router.number);
        router.start(&config, &["-R"]);
    }
    for (router, before) in lab.routers.iter().zip(before) {
        wait("the end of the recovery", || done(router) > before);
    }
    std::thread::sleep(Duration::from_secs(3));
    probe(&lab);
    for watch in watches {
        assert_eq!(watch.lines(), "");
    }
}

#[test]
fn killing_each_daemon_in_turn_loses_no_packet() {
    if !can_run() {
        return;
    }
    let mut lab = mesh();
    let flows: Vec<_> = [(1, 2), (2, 3), (3, 1)]
        .into_iter()
        .flat_map(|(from, to)| addresses(from).into_iter().zip(addresses(to)).map(move |pair| (from, pair)))
        .map(|(router, (from, to))| {
            traffic::flow(&lab.routers[router - 1].ns, from, to, Duration::from_secs(8))
        })
        .collect();
    std::thread::sleep(Duration::from_millis(500));
    for router in &mut lab.routers {
        router.kill();
        std::thread::sleep(Duration::from_secs(1));
        let config = node(router.number);
        router.start(&config, &["-R"]);
    }
    for flow in flows {
        let (sent, lost) = flow.join().expect("the flow ends");
        assert!(sent > 20 && lost == 0, "{lost} of {sent} packets lost");
    }
}
