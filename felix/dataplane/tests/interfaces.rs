//! Settings of workloads' interfaces and of the host, and routes: what stands in the kernel.

mod lab;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use felix_dataplane::Config;
use felix_dataplane::driver::route::{DesiredRoutes, HOLD, RouteDriver, RouteOutcome};
use felix_dataplane::interfaces::Interfaces;
use felix_dataplane::kernel::netlink::Netlink;
use felix_dataplane::kernel::route::{self, NETLINK_ROUTE};
use felix_dataplane::status::{Change, Status};
use felix_dataplane::worker::Report;
use felix_message::{Message, WorkloadEndpoint};
use ipnet::IpNet;
use lab::{Felix, Namespace, Pod, eventually, ready, run};
use libcalico_model::key::WorkloadEndpointKey;
use nix::sched::{CloneFlags, unshare};

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

/// A pod's endpoint as it is, and as one that may send from other addresses too.
fn spoofing(pod: &Pod) -> (WorkloadEndpointKey, Arc<WorkloadEndpoint>, Arc<WorkloadEndpoint>) {
    let Message::WorkloadEndpointUpdate(key, e) = pod.endpoint(vec![], &["open"]) else { unreachable!() };
    let spoofing = WorkloadEndpoint {
        allow_spoofed_source_prefixes: vec!["192.0.2.0/24".parse().unwrap()],
        ..(*e).clone()
    };
    (key, e, Arc::new(spoofing))
}

#[test]
fn a_workload_that_may_spoof_is_not_checked_by_the_kernel_either() {
    if !ready() {
        return;
    }
    let host = Namespace::host();
    host.must("echo 1 > /proc/sys/net/ipv4/conf/default/rp_filter");
    let pod = Pod::new(&host, 2);
    let (key, e, spoofing) = spoofing(&pod);
    let check = || setting(&host, "ipv4/conf/cali2pod/rp_filter");
    let config = Config { workload_source_spoofing: true, ..Config::default() };
    let felix = Felix::among(&host, config, vec![Message::WorkloadEndpointUpdate(key.clone(), spoofing)]);
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

/// What the reports say of each pod's endpoint until all of these hold.
fn await_statuses(felix: &Felix, wanted: &[(&Pod, Status)]) {
    let mut last = std::collections::HashMap::new();
    let holds = |last: &std::collections::HashMap<_, _>| {
        wanted.iter().all(|(pod, status)| last.get(&pod.key()) == Some(status))
    };
    while !holds(&last) {
        match felix.reports.recv_timeout(Duration::from_secs(60)).expect("a report") {
            Report::Applied { statuses, .. } => last.extend(statuses.into_iter().filter_map(|c| match c {
                Change::Workload(key, Some((status, _))) => Some((key, status)),
                _ => None,
            })),
            Report::Failed { reason, .. } => panic!("{reason}"),
            Report::Idle => {}
        }
    }
}

#[test]
fn one_route_that_is_refused_keeps_its_own_endpoint_down_and_no_other() {
    if !ready() {
        return;
    }
    let host = Namespace::host();
    let (a, b) = (Pod::new(&host, 2), Pod::new(&host, 3));
    let source = "192.0.2.7".parse().unwrap();
    let config = Config { device_route_source: Some(source), ..Config::default() };
    // IPv6 routes have no such source. The address is nobody's: the kernel refuses every IPv4 route with it.
    let Message::WorkloadEndpointUpdate(key, e) = b.endpoint(vec![], &["open"]) else { unreachable!() };
    let six =
        WorkloadEndpoint { ipv4_nets: vec![], mac: Some("02:00:00:00:00:03".to_owned()), ..(*e).clone() };
    let felix = Felix::start(&host, config);
    let six = Message::WorkloadEndpointUpdate(key, Arc::new(six));
    felix.send(vec![a.endpoint(vec![], &["open"]), six, Message::InSync]);
    await_statuses(&felix, &[(&a, Status::Down), (&b, Status::Up)]);
    assert!(host.must("ip -6 route show fd00:65::3").contains("dev cali3pod"));
    assert_eq!(setting(&host, "ipv4/conf/cali2pod/proxy_arp"), "1");
    // The cure comes from outside: it is tried again by itself.
    host.must("ip addr add 192.0.2.7/32 dev lo");
    await_statuses(&felix, &[(&a, Status::Up)]);
    assert!(host.must("ip route show 10.65.0.2").contains("dev cali2pod"));
}

/// A dataplane that sees some of `/proc/sys` read-only, until [`ReadOnly::end`].
struct ReadOnly {
    felix: Felix,
    /// Of the thread, for its mounts.
    thread: nix::unistd::Pid,
    path: String,
}

impl ReadOnly {
    fn start(host: &Namespace, config: Config, path: &str) -> Self {
        let (tell, told) = channel();
        let of_thread = path.to_owned();
        let felix = Felix::start_after(host, config, move || {
            unshare(CloneFlags::CLONE_NEWNS).expect("unshare");
            run(&format!(
                "mount --make-rprivate / && mount --bind {of_thread} {of_thread} && \
                 mount -o remount,bind,ro {of_thread}"
            ));
            tell.send(nix::unistd::gettid()).unwrap();
        });
        Self { felix, thread: told.recv().unwrap(), path: path.to_owned() }
    }

    fn end(&self, host: &Namespace) {
        let Self { thread, path, .. } = self;
        let (mine, net) = (std::process::id(), &host.0);
        run(&format!(
            "nsenter --mount=/proc/{mine}/task/{thread}/ns/mnt --net=/var/run/netns/{net} umount -l {path}"
        ));
    }
}

#[test]
fn one_interface_that_cannot_be_set_up_keeps_its_own_endpoint_down_and_no_other() {
    if !ready() {
        return;
    }
    let host = Namespace::host();
    let (a, b) = (Pod::new(&host, 2), Pod::new(&host, 3));
    let it = ReadOnly::start(&host, Config::default(), "/proc/sys/net/ipv4/conf/cali2pod");
    it.felix.send(vec![a.endpoint(vec![], &["open"]), b.endpoint(vec![], &["open"]), Message::InSync]);
    await_statuses(&it.felix, &[(&a, Status::Down), (&b, Status::Up)]);
    assert!(host.must("ip route show 10.65.0.3").contains("dev cali3pod"));
    assert_ne!(setting(&host, "ipv4/conf/cali2pod/proxy_arp"), "1");
    it.end(&host);
    await_statuses(&it.felix, &[(&a, Status::Up)]);
    assert_eq!(setting(&host, "ipv4/conf/cali2pod/proxy_arp"), "1");
}

#[test]
fn a_host_that_cannot_be_told_to_forward_has_its_workloads_all_the_same() {
    if !ready() {
        return;
    }
    let host = Namespace::host();
    host.must("echo 0 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv6/conf/all/forwarding");
    let a = Pod::new(&host, 2);
    let config = Config { interface_refresh: Duration::from_secs(1), ..Config::default() };
    let it = ReadOnly::start(&host, config, "/proc/sys/net/ipv4/ip_forward");
    it.felix.send(vec![a.endpoint(vec![], &["open"]), Message::InSync]);
    await_statuses(&it.felix, &[(&a, Status::Up)]);
    assert!(host.must("ip route show 10.65.0.2").contains("dev cali2pod"));
    assert_eq!(setting(&host, "ipv4/ip_forward"), "0");
    assert_eq!(setting(&host, "ipv6/conf/all/forwarding"), "1", "the other family's is another one");
    it.end(&host);
    eventually("it is tried at every refresh", || setting(&host, "ipv4/ip_forward") == "1");
}

#[test]
fn who_takes_an_interface_over_has_the_kernels_check_of_sources_again() {
    if !ready() {
        return;
    }
    let host = Namespace::host();
    host.must("echo 1 > /proc/sys/net/ipv4/conf/default/rp_filter");
    let pod = Pod::new(&host, 2);
    let (key, e, spoofing) = spoofing(&pod);
    let mut second = key.clone();
    second.workload = "default/zz".to_owned();
    let config = Config { workload_source_spoofing: true, ..Config::default() };
    let felix = Felix::among(
        &host,
        config,
        vec![
            Message::WorkloadEndpointUpdate(key.clone(), spoofing),
            Message::WorkloadEndpointUpdate(second, e),
        ],
    );
    let check = || setting(&host, "ipv4/conf/cali2pod/rp_filter");
    eventually("the first one is not checked", || check() == "0");
    felix.apply(vec![Message::WorkloadEndpointRemove(key)]);
    eventually("the second one is", || check() == "1");
}

/// The driver of routes alone, in the host's thread.
struct Routes {
    driver: RouteDriver,
    desired: DesiredRoutes,
    interfaces: Interfaces,
    begin: Instant,
}

impl Routes {
    fn new() -> Self {
        let links = route::links(&mut Netlink::open(NETLINK_ROUTE).unwrap()).unwrap();
        let driver = RouteDriver::new(Arc::new(Config::default())).unwrap();
        let interfaces = Interfaces::new(links, vec![]);
        Self { driver, desired: DesiredRoutes::default(), interfaces, begin: Instant::now() }
    }

    fn to(&mut self, addr: IpAddr, interface: Option<&str>) {
        self.desired.set(IpNet::from(addr), interface.map(Arc::from).as_ref());
    }

    fn apply(&mut self, after: Duration, uncut: bool) -> RouteOutcome {
        let now = self.begin + after;
        let out = self.driver.apply(&mut self.desired, &self.interfaces, now, &|_| uncut);
        assert!(out.refused.is_none() && out.unread.is_none(), "{out:?}");
        out
    }
}

#[test]
fn a_moved_address_leads_to_nobody_until_its_connections_are_cut() {
    if !ready() {
        return;
    }
    for addr in ["10.65.0.9", "fd00:65::9"].map(|a| a.parse::<IpAddr>().unwrap()) {
        let host = Namespace::host();
        let _pods = [Pod::new(&host, 2), Pod::new(&host, 3)];
        let name = host.0.clone();
        let shown = move || {
            let family = if addr.is_ipv4() { "-4" } else { "-6" };
            String::from_utf8(run(&format!("ip -n {name} {family} route show {addr}")).stdout).unwrap()
        };
        let test = host.inside(move || {
            let (short, mut r) = (Duration::from_millis(1), Routes::new());
            r.to(addr, Some("cali2pod"));
            let first = r.apply(Duration::ZERO, false);
            assert!(first.gone.is_empty() && first.held.is_empty() && shown().contains("cali2pod"));
            // It moves.
            r.to(addr, Some("cali3pod"));
            let moved = r.apply(short, false);
            assert_eq!((moved.gone, moved.held.len()), (vec![addr], 1), "told before anything else is known");
            assert_eq!(moved.missing.iter().map(|i| &**i).collect::<Vec<_>>(), ["cali3pod"]);
            assert_eq!(shown(), "", "the old one's way is closed, the new one's not open");
            let waits = r.apply(short * 2, true);
            assert!(waits.gone.is_empty() && waits.held.len() == 1 && shown().is_empty());
            // Reading everything back opens nothing either.
            r.driver.resync();
            assert!(r.apply(short * 3, true).held.len() == 1 && shown().is_empty());
            let cut = r.apply(short * 4, false);
            assert!(cut.held.is_empty() && cut.missing.is_empty() && shown().contains("cali3pod"));
            // It goes, and another one has it before its connections are cut.
            r.to(addr, None);
            assert_eq!(r.apply(short * 5, true).gone, [addr]);
            r.to(addr, Some("cali2pod"));
            assert!(r.apply(short * 6, true).held.len() == 1 && shown().is_empty());
            // Not for ever.
            let over = r.apply(short * 6 + HOLD, true);
            assert!(over.held.is_empty() && shown().contains("cali2pod"));
            // What stands is not taken for missing when its interface changes.
            r.desired.touch("cali2pod");
            let touched = r.apply(short * 7 + HOLD, true);
            assert!(touched.held.is_empty() && touched.missing.is_empty() && shown().contains("cali2pod"));
            // What moved while nobody looked is found in the kernel.
            let mut again = Routes::new();
            again.to(addr, Some("cali3pod"));
            let found = again.apply(Duration::ZERO, false);
            assert_eq!((found.gone, found.held.len()), (vec![addr], 1));
            assert_eq!(shown(), "");
            assert!(again.apply(short, false).held.is_empty() && shown().contains("cali3pod"));
        });
        test.join().unwrap();
    }
}
