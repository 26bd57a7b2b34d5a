//! Settings of workloads' interfaces and of the host, and routes: what stands in the kernel.

mod lab;

use std::sync::Arc;
use std::time::Duration;

use felix_dataplane::Config;
use felix_message::{Message, WorkloadEndpoint};
use lab::{Felix, Namespace, Pod, eventually, ready};

fn setting(host: &Namespace, path: &str) -> String {
    host.must(&format!("cat /proc/sys/net/{path}")).trim().to_owned()
}

#[test]
fn a_workloads_interface_has_its_settings() {
    if !ready() {
        return;
    }
    let host = Namespace::host();
    host.must("echo 2 > /proc/sys/net/ipv4/conf/default/rp_filter");
    host.must("echo 0 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv6/conf/all/forwarding");
    let pod = Pod::new(&host, 2);
    let other = Pod::new(&host, 3);
    let settings = [
        ("ipv4/conf/cali2pod/proxy_arp", "1"),
        ("ipv4/conf/cali2pod/route_localnet", "1"),
        ("ipv4/conf/cali2pod/forwarding", "1"),
        // As every other interface.
        ("ipv4/conf/cali2pod/rp_filter", "2"),
        ("ipv4/neigh/cali2pod/proxy_delay", "0"),
        ("ipv6/conf/cali2pod/accept_ra", "0"),
        ("ipv6/conf/cali2pod/proxy_ndp", "1"),
        ("ipv6/conf/cali2pod/forwarding", "1"),
        ("ipv4/ip_forward", "1"),
        ("ipv6/conf/all/forwarding", "1"),
    ];
    host.must("echo 1 > /proc/sys/net/ipv6/conf/cali2pod/accept_ra; echo 1 > /proc/sys/net/ipv6/conf/cali3pod/accept_ra");
    let config = Config { interface_refresh: Duration::from_secs(1), ..Config::default() };
    let felix = Felix::among(&host, config, vec![pod.endpoint(vec![], &["open"])]);
    for (path, value) in settings {
        eventually(path, || setting(&host, path) == value);
    }
    assert_eq!(setting(&host, "ipv6/conf/cali3pod/accept_ra"), "1", "nobody's: {}", other.interface);
    // Someone else's tool changes them: seen at the next refresh.
    host.must("echo 0 > /proc/sys/net/ipv4/conf/cali2pod/proxy_arp; echo 0 > /proc/sys/net/ipv4/ip_forward");
    eventually("the settings are back", || {
        setting(&host, "ipv4/conf/cali2pod/proxy_arp") == "1" && setting(&host, "ipv4/ip_forward") == "1"
    });
    drop(felix);
}

#[test]
fn a_workload_that_may_spoof_is_not_checked_by_the_kernel_either() {
    if !ready() {
        return;
    }
    let host = Namespace::host();
    host.must("echo 1 > /proc/sys/net/ipv4/conf/default/rp_filter");
    let pod = Pod::new(&host, 2);
    let Message::WorkloadEndpointUpdate(key, e) = pod.endpoint(vec![], &["open"]) else { unreachable!() };
    let spoofing = WorkloadEndpoint {
        allow_spoofed_source_prefixes: vec!["192.0.2.0/24".parse().unwrap()],
        ..(*e).clone()
    };
    let check = || setting(&host, "ipv4/conf/cali2pod/rp_filter");
    let config = Config { workload_source_spoofing: true, ..Config::default() };
    let felix =
        Felix::among(&host, config, vec![Message::WorkloadEndpointUpdate(key.clone(), Arc::new(spoofing))]);
    eventually("it is not checked", || check() == "0");
    felix.apply(vec![Message::WorkloadEndpointUpdate(key, e)]);
    eventually("it is checked as every other interface again", || check() == "1");
}

#[test]
fn routes_have_the_configured_protocol_source_and_metric() {
    if !ready() {
        return;
    }
    let host = Namespace::host();
    host.must("ip addr add 192.0.2.7/32 dev lo");
    let pod = Pod::new(&host, 2);
    let config = Config {
        device_route_protocol: 80,
        device_route_source: Some("192.0.2.7".parse().unwrap()),
        ipv4_route_priority: 77,
        ipv6_route_priority: 78,
        ..Config::default()
    };
    let _felix = Felix::among(&host, config, vec![pod.endpoint(vec![], &["open"])]);
    let route = host.must("ip route show 10.65.0.2");
    for word in ["dev cali2pod", "proto 80", "scope link", "src 192.0.2.7", "metric 77"] {
        assert!(route.contains(word), "no {word:?}: {route}");
    }
    let route = host.must("ip -6 route show fd00:65::2");
    assert!(
        route.contains("dev cali2pod") && route.contains("proto 80") && route.contains("metric 78"),
        "{route}"
    );
}

#[test]
fn routes_over_several_interfaces_are_left_alone() {
    if !ready() {
        return;
    }
    let host = Namespace::host();
    let pods = [Pod::new(&host, 2), Pod::new(&host, 3)];
    let config = Config { routes_refresh: Duration::from_secs(1), ..Config::default() };
    let _felix = Felix::among(&host, config, pods.iter().map(|p| p.endpoint(vec![], &["open"])).collect());
    host.must("ip route add 198.51.100.0/24 nexthop dev cali2pod nexthop dev cali3pod");
    // One of its own is missing, one too many is there: all are compared, those over several are not its business.
    host.must("ip route del 10.65.0.2/32 dev cali2pod; ip route add 198.51.101.1/32 dev cali2pod");
    eventually("its own are mended", || {
        let routes = host.must("ip route");
        routes.contains("10.65.0.2 dev cali2pod") && !routes.contains("198.51.101.1")
    });
    assert!(host.must("ip route show 198.51.100.0/24").contains("nexthop"), "{}", host.must("ip route"));
}
