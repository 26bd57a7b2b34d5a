//! Pods with IPv4 and IPv6: routes, reachability and policy are the same in both families.

mod common;

use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use common::{ETCD, becomes, can_run, config, deny_ingress_to, inside, machine, pod, up};
use e2e::probe::Protocol;
use e2e::{Expect, Lab, LabConfig, Pod, Target};

/// Asks a pod from another at each of its addresses, by TCP and ICMP, and insists on the result.
fn expect_both(lab: &Lab, from: &Pod, to: &Pod, expect: Expect) {
    let addresses = to.addresses();
    assert!(addresses.iter().any(IpAddr::is_ipv4) && addresses.iter().any(IpAddr::is_ipv6), "{addresses:?}");
    for address in addresses {
        for protocol in [Protocol::Tcp, Protocol::Icmp] {
            let target = Target::parse(&SocketAddr::new(address, 80).to_string()).unwrap();
            let report = lab.probe(&inside(from), &target, protocol, Some(expect)).unwrap();
            assert!(report.matches(expect), "{report}, expected {expect}");
        }
    }
}

#[test]
fn both_families_are_routed_by_bgp_and_ruled_by_one_policy() {
    if !can_run(&[ETCD]) {
        return;
    }
    let lab = up(LabConfig { nodes: 2, ipv6: true, ..config("ts") });
    let (a, b) = (pod(&lab, "a", "n1", &[]), pod(&lab, "b", "n2", &[("app", "b")]));
    expect_both(&lab, &a, &b, Expect::Allow);
    expect_both(&lab, &b, &a, Expect::Allow);
    let routes = lab.exec_ok(&machine("n1"), &["ip", "-6", "route", "show", "proto", "12"], "").unwrap();
    assert!(routes.contains("via fd00:31::2 "), "{routes}");

    lab.calicoctl(&["apply", "-f", "-"], &deny_ingress_to("b")).unwrap();
    becomes(&lab, &a, &b, Expect::Deny);
    // A moment more, for the other family.
    thread::sleep(Duration::from_secs(1));
    expect_both(&lab, &a, &b, Expect::Deny);
    expect_both(&lab, &b, &a, Expect::Allow);
}
