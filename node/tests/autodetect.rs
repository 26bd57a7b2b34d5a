//! Autodetection against the kernel's own interfaces, each test in a network namespace.

mod support;

use calico_node::autodetect::{detect, interfaces, mtu_of};
use libcalico_net::cidr::Family;
use support::{in_namespace, root};

const HOST: &[&str] = &[
    "link set lo up",
    "link add docker0 type veth peer name veth-docker0",
    "addr add 172.17.0.1/16 dev docker0",
    "link set docker0 up",
    "link set veth-docker0 up",
    "link add eth0 type veth peer name veth-eth0",
    "addr add 10.7.0.5/24 dev eth0",
    "-6 addr add fd07::5/64 dev eth0 nodad",
    "link set eth0 mtu 1400",
    "link set eth0 up",
    "link set veth-eth0 up",
    "link add eth1 type veth peer name veth-eth1",
    "addr add 192.168.70.5/24 dev eth1",
    "link set eth1 up",
    "link set veth-eth1 up",
    "link add eth2 type veth peer name veth-eth2",
    "addr add 10.9.0.5/24 dev eth2",
    "route add default via 192.168.70.1 dev eth1",
];

fn found(method: &str, family: Family) -> Option<String> {
    detect(&method.parse().unwrap(), family, &interfaces().unwrap(), &[]).ok().map(|n| n.to_string())
}

#[test]
fn every_method_finds_its_address_on_a_real_host() {
    if !root() {
        return;
    }
    in_namespace(HOST, || {
        for (method, v4) in [
            ("first-found", Some("10.7.0.5/24")),
            ("interface=eth1", Some("192.168.70.5/24")),
            ("interface=docker.*", Some("172.17.0.1/16")),
            ("skip-interface=eth0", Some("192.168.70.5/24")),
            ("cidr=192.168.0.0/16", Some("192.168.70.5/24")),
            ("can-reach=10.7.0.1", Some("10.7.0.5/24")),
            ("can-reach=8.8.8.8", Some("192.168.70.5/24")),
            // eth2 is down: its address is not the node's.
            ("interface=eth2", None),
            ("cidr=10.9.0.0/16", None),
        ] {
            assert_eq!(found(method, Family::V4).as_deref(), v4, "{method}");
        }
        assert_eq!(found("first-found", Family::V6).as_deref(), Some("fd07::5/64"));
        assert_eq!(found("can-reach=fd07::1", Family::V6).as_deref(), Some("fd07::5/64"));
        assert_eq!(found("can-reach=2001:db8::1", Family::V6), None);
    });
}

#[test]
fn the_mtu_is_that_of_the_own_namespace() {
    if !root() {
        return;
    }
    in_namespace(HOST, || {
        assert_eq!(mtu_of("eth0"), Some(1400));
        assert_eq!(mtu_of("nosuch0"), None);
        let host = interfaces().unwrap();
        assert_eq!(calico_node::files::host_mtu(&host, None), Some(1400));
        assert_eq!(calico_node::files::host_mtu(&host, Some("^eth1$")), Some(1500));
    });
}

#[test]
fn a_host_without_addresses_has_none() {
    if !root() {
        return;
    }
    in_namespace(&["link set lo up"], || {
        assert_eq!(found("first-found", Family::V4), None);
        assert_eq!(found("can-reach=10.0.0.1", Family::V4), None);
    });
}
