//! Two pods and a host in namespaces: what policy allows passes, what it denies does not. On every backend alike.

mod lab;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use felix_dataplane::Config;
use felix_dataplane::config::{Backend, DenyAction};
use felix_message::{
    Action, IpPool, IpSetDelta, IpSetKind, IpSetMember, IpSetUpdate, Message, PortRange, Rule,
};
use lab::probe::{Pinger, Server, passes, ping, tcp};
use lab::{Felix, Namespace, Pod, allow, deny, eventually, policy, profile, ready, tier};
use libcalico_api::num_or_string::Protocol;

struct World {
    felix: Felix,
    a: Pod,
    b: Pod,
    _server: Server,
    host: Namespace,
}

const PORT: u16 = 8080;

fn config(backend: Backend) -> Config {
    let mut config = Config { backend, ..Config::default() };
    if backend == Backend::IptablesLegacy {
        config.tables_refresh = REFRESH;
    }
    config
}

fn world(backend: Backend) -> World {
    let host = Namespace::host();
    let (a, b) = (Pod::new(&host, 2), Pod::new(&host, 3));
    let felix = Felix::start(&host, config(backend));
    felix.apply(vec![
        profile("open", vec![allow()], vec![allow()]),
        a.endpoint(vec![], &["open"]),
        b.endpoint(vec![], &["open"]),
        Message::InSync,
    ]);
    let _server = Server::start(&b.ns, PORT);
    World { felix, a, b, _server, host }
}

fn proto(name: &str) -> Rule {
    Rule { protocol: Some(Protocol::Name(name.to_owned())), ..Rule::default() }
}

/// Too long to be spread over rules.
fn long_list() -> Vec<PortRange> {
    (0..6).map(|n| PortRange { first: 1 + 10 * n, last: 2 + 10 * n }).collect()
}

/// Lists everything, in order, with the kernel's identities where it has some.
fn everything(backend: Backend) -> &'static str {
    match backend {
        Backend::Nftables => "nft -a list ruleset | sed 's/packets [0-9]* bytes [0-9]*//'",
        Backend::IptablesNft => {
            "nft -a list ruleset | sed 's/packets [0-9]* bytes [0-9]*//'; ipset save | sort"
        }
        Backend::IptablesLegacy => {
            "(iptables-legacy-save; ip6tables-legacy-save; ipset save | sort) | sed '/^#/d; s/\\[.*\\]//'"
        }
    }
}

/// Lists everything but the order, in which a mended chain may differ.
fn everything_sorted(backend: Backend) -> &'static str {
    match backend {
        Backend::Nftables => "nft list table ip calico | sed 's/packets [0-9]* bytes [0-9]*//' | sort",
        Backend::IptablesNft => {
            "(iptables-nft-save; ip6tables-nft-save; ipset save) | sed '/^#/d; s/\\[.*\\]//; s/initval.*//' | sort"
        }
        Backend::IptablesLegacy => {
            "(iptables-legacy-save; ip6tables-legacy-save; ipset save) | sed '/^#/d; s/\\[.*\\]//; s/initval.*//' | sort"
        }
    }
}

fn damages(backend: Backend) -> &'static [&'static str] {
    match backend {
        Backend::Nftables => &[
            "nft flush chain ip calico filter-cali-pi-gnp/p",
            "nft insert rule ip calico filter-cali-to-wl-dispatch accept",
            "nft delete element ip calico filter-cali-to-wl-dispatch '{ \"cali2pod\" }'",
            "nft add element ip calico cali40this-host '{ 192.0.2.9 }'",
            "nft flush set ip calico $(nft list sets ip | grep -o 'cali4l-[^ ]*')",
            "nft add chain ip calico foreign",
            "nft delete table ip calico",
            "nft flush ruleset",
        ],
        Backend::IptablesNft => &[
            // The kernel tells nobody of a set's change: it is there when the chain's change is told of.
            "ipset add cali40this-host 192.0.2.9; iptables-nft -F cali-pi-gnp/p",
            "iptables-nft -I cali-to-wl-dispatch -j ACCEPT",
            "iptables-nft -D FORWARD 1",
            "iptables-nft -I FORWARD -j cali-FORWARD",
            "iptables-nft -F && iptables-nft -t raw -F",
            "ip6tables-nft -F",
            "iptables-nft -N cali-foreign",
            "nft delete table ip filter",
            "nft flush ruleset",
        ],
        Backend::IptablesLegacy => &[
            "iptables-legacy -F cali-pi-gnp/p",
            "ipset add cali40this-host 192.0.2.9; iptables-legacy -D FORWARD 1",
            // In one step: a chain that is mended between a flush and a removal cannot be removed.
            "printf '*filter\\nCOMMIT\\n' | iptables-legacy-restore",
        ],
    }
}

/// How often tables are read back where nobody tells of changes.
const REFRESH: Duration = Duration::from_millis(300);

impl World {
    /// What of ICMP, TCP, UDP gets from a to b, over both families alike.
    #[track_caller]
    fn passes(&self) -> BTreeSet<&'static str> {
        passes(&self.a.ns, self.b.v4, self.b.v6, PORT)
    }

    /// Policy `p` with these rules on b's ingress.
    fn ingress(&self, rules: Vec<Rule>) {
        self.felix
            .apply(vec![policy("p", rules, vec![]), self.b.endpoint(vec![tier(&["p"], &[])], &["open"])]);
    }
}

fn allowed_passes_and_denied_does_not(backend: Backend) {
    let w = world(backend);
    assert_eq!(w.passes(), BTreeSet::from(["icmp", "tcp", "udp"]));
    w.ingress(vec![deny()]);
    assert_eq!(w.passes(), BTreeSet::new());
    w.ingress(vec![proto("TCP")]);
    assert_eq!(w.passes(), BTreeSet::from(["tcp"]));
    w.ingress(vec![Rule { action: Action::Deny, ..proto("UDP") }, allow()]);
    assert_eq!(w.passes(), BTreeSet::from(["icmp", "tcp"]));
    w.ingress(vec![Rule { action: Action::Pass, ..proto("UDP") }, deny()]);
    assert_eq!(w.passes(), BTreeSet::from(["udp"]));
    w.ingress(vec![Rule { not_protocol: Some(Protocol::Number(6)), ..Rule::default() }]);
    assert_eq!(w.passes(), BTreeSet::from(["icmp", "udp"]));
    w.ingress(vec![]);
    assert_eq!(w.passes(), BTreeSet::new(), "the end of a tier denies");
}

fn ports_sets_and_networks_match_in_the_kernel(backend: Backend) {
    let w = world(backend);
    let range = |first, last| PortRange { first, last };
    let mut ports = proto("TCP");
    ports.dst.ports = vec![range(1, 80), range(8080, 8090)];
    w.ingress(vec![ports.clone()]);
    assert_eq!(w.passes(), BTreeSet::from(["tcp"]));
    ports.dst.ports = vec![range(1, 80), range(8081, 8090)];
    w.ingress(vec![ports.clone()]);
    assert_eq!(w.passes(), BTreeSet::new());
    ports.dst.ports = vec![];
    ports.dst.not_ports = vec![range(1, 80), range(8081, 8090)];
    w.ingress(vec![ports]);
    assert_eq!(w.passes(), BTreeSet::from(["tcp"]));

    // Both networks of the source, one of each family; then everything but them.
    let mut nets = allow();
    nets.src.nets = ["10.65.0.0/30", "192.0.2.0/24", "fd00:65::/126", "2001:db8::/32"]
        .map(|n| n.parse().unwrap())
        .to_vec();
    w.ingress(vec![nets.clone()]);
    assert_eq!(w.passes(), BTreeSet::from(["icmp", "tcp", "udp"]));
    nets.src.not_nets = std::mem::take(&mut nets.src.nets);
    w.ingress(vec![nets]);
    assert_eq!(w.passes(), BTreeSet::new());

    // A set that the source joins and leaves, as a member and as a part of a network.
    let id: felix_message::IpSetId = "s:members".into();
    let set = |members: Vec<IpSetMember>| {
        Message::IpSetUpdate(IpSetUpdate { id: id.clone(), kind: IpSetKind::Net, members })
    };
    let net = |n: &str| IpSetMember::Net(n.parse().unwrap());
    let delta = |added, removed| Message::IpSetDelta(IpSetDelta { id: id.clone(), added, removed });
    let mut by_set = allow();
    by_set.src.ip_sets = vec![id.clone()];
    w.felix.apply(vec![set(vec![net("192.0.2.1/32")])]);
    w.ingress(vec![by_set]);
    assert_eq!(w.passes(), BTreeSet::new());
    let both = [net("10.65.0.2/32"), net("fd00:65::2/128")];
    assert_eq!(w.felix.apply(vec![delta(both.to_vec(), vec![])]), 2, "one message for each family");
    assert_eq!(w.passes().len(), 3);
    w.felix.apply(vec![delta(vec![net("10.65.0.0/24"), net("fd00:65::/64")], both.to_vec())]);
    assert_eq!(w.passes().len(), 3);
    w.felix.apply(vec![delta(vec![], vec![net("10.65.0.0/24"), net("fd00:65::/64")])]);
    assert_eq!(w.passes(), BTreeSet::new());

    // A named port, beside numbers.
    let named: felix_message::IpSetId = "n:http".into();
    let members = [(w.b.v4, 6, PORT), (w.b.v6, 6, PORT)].map(|(a, p, n)| IpSetMember::IpPort(a, p, n));
    let mut by_name = proto("TCP");
    by_name.dst.named_port_sets = vec![named.clone()];
    by_name.dst.ports = vec![range(22, 22)];
    w.felix.apply(vec![Message::IpSetUpdate(IpSetUpdate {
        id: named,
        kind: IpSetKind::IpPort,
        members: members.to_vec(),
    })]);
    w.ingress(vec![by_name.clone()]);
    assert_eq!(w.passes(), BTreeSet::from(["tcp"]));
    by_name.dst.not_named_port_sets = std::mem::take(&mut by_name.dst.named_port_sets);
    by_name.dst.not_ports = std::mem::take(&mut by_name.dst.ports);
    w.ingress(vec![by_name]);
    assert_eq!(w.passes(), BTreeSet::new());
}

fn icmp_types_match_in_their_family(backend: Backend) {
    let w = world(backend);
    let icmp = |name: &str, icmp_type, code| Rule {
        icmp: Some(felix_message::Icmp { icmp_type, code }),
        ..proto(name)
    };
    w.ingress(vec![icmp("ICMP", 8, Some(0)), icmp("ICMPv6", 128, None)]);
    assert_eq!(w.passes(), BTreeSet::from(["icmp"]));
    w.ingress(vec![icmp("ICMP", 8, Some(1)), icmp("ICMPv6", 129, None)]);
    assert_eq!(w.passes(), BTreeSet::new());
    let not = |name: &str, icmp_type, code| Rule {
        not_icmp: Some(felix_message::Icmp { icmp_type, code }),
        ..proto(name)
    };
    w.ingress(vec![not("ICMP", 8, Some(1)), not("ICMPv6", 129, None)]);
    assert_eq!(w.passes(), BTreeSet::from(["icmp"]));
}

fn an_interface_without_an_endpoint_is_closed(backend: Backend) {
    let w = world(backend);
    let c = Pod::new(&w.host, 4);
    w.host.must(&format!("ip route add {}/32 dev {}", c.v4, c.interface));
    w.host.must(&format!("sysctl -qw net.ipv4.conf.{}.proxy_arp=1", c.interface));
    assert!(!ping(&c.ns, w.b.v4), "from an unknown workload");
    assert!(!ping(&w.a.ns, c.v4), "to an unknown workload");
    w.felix.apply(vec![c.endpoint(vec![], &["open"])]);
    assert!(ping(&c.ns, w.b.v4));
    // The plugin's route has made way for one with the metric that keeps it from being advertised.
    let routes = w.host.must("ip route");
    let of_pod: Vec<&str> = routes.lines().filter(|l| l.contains("10.65.0.4")).collect();
    assert!(matches!(of_pod[..], [r] if r.contains("metric 1024")), "{routes}");
    // A profile that nobody defined allows nothing.
    w.felix.apply(vec![c.endpoint(vec![], &["missing"])]);
    assert!(!ping(&c.ns, w.b.v4));
    w.felix.apply(vec![Message::WorkloadEndpointRemove(c.key())]);
    assert!(!ping(&c.ns, w.b.v4));
    let routes = w.host.must("ip route; ip -6 route");
    assert!(!routes.contains("10.65.0.4") && !routes.contains("fd00:65::4"), "{routes}");
}

fn a_workload_cannot_send_from_a_strange_address(backend: Backend) {
    let w = world(backend);
    w.a.ns.must("ip addr add 10.65.0.77/32 dev eth0 && ip route change default via 169.254.1.1 dev eth0 src 10.65.0.77");
    assert!(!ping(&w.a.ns, w.b.v4));
    let (list, rule, none) = match backend {
        Backend::Nftables => ("nft list chain ip calico raw-cali-PREROUTING", "fib saddr", "packets 0 "),
        Backend::IptablesNft => ("iptables-nft-save -c -t raw", "rpfilter", "[0:0]"),
        Backend::IptablesLegacy => ("iptables-legacy-save -c -t raw", "rpfilter", "[0:0]"),
    };
    let dropped = w.host.must(list);
    assert!(dropped.lines().any(|l| l.contains(rule) && !l.contains(none)), "{dropped}");
}

fn pools_with_nat_outgoing_are_masqueraded_outside_pools(backend: Backend) {
    let w = world(backend);
    let out = Namespace::new();
    lab::run(&format!(
        "ip link add ext0 netns {h} type veth peer name eth0 netns {o} && \
         ip -n {h} addr add 192.0.2.1/24 dev ext0 && ip -n {h} link set ext0 up && \
         ip -n {o} addr add 192.0.2.2/24 dev eth0 && ip -n {o} link set eth0 up",
        h = w.host.0,
        o = out.0
    ));
    // Outside knows no way back to the pool: without masquerading no answer.
    let to = "192.0.2.2".parse().unwrap();
    assert!(!ping(&w.a.ns, to));
    let pool = IpPool { masquerade: true, ..IpPool::default() };
    w.felix.apply(vec![Message::PoolUpdate("10.65.0.0/16".parse().unwrap(), pool)]);
    eventually("the host's address is used outside", || ping(&w.a.ns, to));
    eventually("pods are reached by their own", || ping(&w.a.ns, w.b.v4));
    // A pool that pods have addresses of is not left, one for addresses of Services alone is.
    let outside = |load_balancer_only| {
        let pool = IpPool { load_balancer_only, ..IpPool::default() };
        Message::PoolUpdate("192.0.2.0/24".parse().unwrap(), pool)
    };
    w.felix.apply(vec![outside(false)]);
    eventually("no address of the host within pools", || !ping(&w.a.ns, to));
    w.felix.apply(vec![outside(true)]);
    eventually("the host's address again", || ping(&w.a.ns, to));
}

fn an_interface_may_come_after_its_endpoint(backend: Backend) {
    let w = world(backend);
    let c = Pod::new(&w.host, 5);
    let message = c.endpoint(vec![], &["open"]);
    w.host.must(&format!("ip link set {} down", c.interface));
    w.felix.apply(vec![message]);
    assert!(!ping(&c.ns, w.b.v4));
    w.host.must(&format!("ip link set {} up", c.interface));
    eventually("the pod is reached after its interface came up", || ping(&c.ns, w.b.v4));
    let proxy = w.host.must(&format!("sysctl -n net.ipv4.conf.{}.proxy_arp", c.interface));
    assert_eq!(proxy.trim(), "1");
}

fn a_restart_over_an_equal_state_writes_nothing(backend: Backend) {
    let w = world(backend);
    let id: felix_message::IpSetId = "s:x".into();
    let nets = ["10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/1", "fd00::/8"];
    let set = IpSetUpdate {
        id: id.clone(),
        kind: IpSetKind::Net,
        members: nets.map(|n| IpSetMember::Net(n.parse().unwrap())).to_vec(),
    };
    let mut rule = proto("TCP");
    rule.src.ip_sets = vec![id];
    rule.dst.ports = long_list();
    let state = |w: &World| {
        vec![
            Message::IpSetUpdate(set.clone()),
            policy("p", vec![rule.clone(), deny()], vec![]),
            profile("open", vec![allow()], vec![allow()]),
            w.a.endpoint(vec![], &["open"]),
            w.b.endpoint(vec![tier(&["p"], &[])], &["open"]),
            Message::InSync,
        ]
    };
    w.felix.apply(state(&w));
    let before = w.host.must(everything(backend));
    let felix = Felix::start(&w.host, config(backend));
    assert_eq!(felix.apply(state(&w)), 0);
    let after = w.host.must(everything(backend));
    assert_eq!(before, after);
}

fn before_the_datastore_is_in_sync_nothing_is_written(backend: Backend) {
    let w = world(backend);
    w.ingress(vec![deny()]);
    let felix = Felix::start(&w.host, config(backend));
    felix.send(vec![profile("open", vec![], vec![])]);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(w.passes(), BTreeSet::new());
    assert!(ping(&w.b.ns, w.a.v4), "the old rules stand");
}

fn a_refused_transaction_leaves_the_old_rules_and_is_tried_again(backend: Backend) {
    let w = world(backend);
    // A member that does not fit its set: the kernel refuses it, and with it all that comes along.
    let id: felix_message::IpSetId = "s:bad".into();
    let bad = IpSetMember::IpPort(w.b.v4, 6, PORT);
    let set = |members| IpSetUpdate { id: id.clone(), kind: IpSetKind::Net, members };
    w.felix.send(vec![
        Message::IpSetUpdate(set(vec![bad])),
        policy("p", vec![deny()], vec![]),
        w.b.endpoint(vec![tier(&["p"], &[])], &["open"]),
    ]);
    let reason = w.felix.failure();
    assert!(reason.replace(':', "-").contains("cali40s-bad"), "{reason}");
    assert_eq!(w.passes().len(), 3, "the old rules stand");
    w.felix.failure();
    // Both families are programmed once this is told; a lost ping alone would not say so.
    w.felix.apply_in_the_end(vec![Message::IpSetUpdate(set(vec![]))]);
    assert_eq!(w.passes(), BTreeSet::new());
}

fn a_host_endpoint_closes_the_host_but_for_failsafe_ports(backend: Backend) {
    let w = world(backend);
    let out = Namespace::new();
    lab::run(&format!(
        "ip link add eth0 netns {h} type veth peer name eth0 netns {o} && \
         ip -n {h} addr add 192.0.2.1/24 dev eth0 && ip -n {h} link set eth0 up && \
         ip -n {o} addr add 192.0.2.2/24 dev eth0 && ip -n {o} link set eth0 up && \
         ip -n {o} route add 10.65.0.0/16 via 192.0.2.1",
        h = w.host.0,
        o = out.0
    ));
    let _servers = [Server::start(&w.host, PORT), Server::start(&w.host, 6443)];
    let host: std::net::IpAddr = "192.0.2.1".parse().unwrap();
    assert!(ping(&out, host) && tcp(&out, host, PORT) && tcp(&out, w.b.v4, PORT));
    let endpoint = |tiers: Vec<felix_message::TierInfo>, forward: Vec<felix_message::TierInfo>| {
        let e = felix_message::HostEndpoint {
            interface_name: "eth0".to_owned(),
            tiers: tiers.into(),
            forward_tiers: forward.into(),
            ..felix_message::HostEndpoint::default()
        };
        Message::HostEndpointUpdate("h".to_owned(), Arc::new(e))
    };
    w.felix.apply(vec![endpoint(vec![], vec![])]);
    assert!(!ping(&out, host) && !tcp(&out, host, PORT), "closed without policy");
    assert!(tcp(&out, host, 6443), "a failsafe port");
    assert!(tcp(&out, w.b.v4, PORT), "forwarded traffic is not asked");
    w.felix.apply(vec![
        policy("h", vec![proto("TCP")], vec![]),
        policy("f", vec![deny()], vec![]),
        endpoint(vec![tier(&["h"], &[])], vec![tier(&["f"], &[])]),
    ]);
    assert!(tcp(&out, host, PORT) && !ping(&out, host));
    assert!(!tcp(&out, w.b.v4, PORT), "forwarded traffic is denied");
    w.felix.apply(vec![Message::HostEndpointRemove("h".to_owned())]);
    assert!(ping(&out, host) && tcp(&out, w.b.v4, PORT));
}

fn rejection_is_told_to_the_sender(backend: Backend) {
    let host = Namespace::host();
    let (a, b) = (Pod::new(&host, 2), Pod::new(&host, 3));
    let felix = Felix::start(&host, Config { filter_deny_action: DenyAction::Reject, ..config(backend) });
    // There are hooks of a host endpoint in which the kernel takes no rejection.
    let outside = felix_message::HostEndpoint {
        interface_name: "eth9".to_owned(),
        tiers: vec![tier(&["closed"], &["closed"])].into(),
        ..felix_message::HostEndpoint::default()
    };
    felix.apply(vec![
        policy("closed", vec![deny()], vec![deny()]),
        profile("open", vec![allow()], vec![allow()]),
        a.endpoint(vec![], &["open"]),
        b.endpoint(vec![tier(&["closed"], &[])], &["open"]),
        Message::HostEndpointUpdate("h".to_owned(), Arc::new(outside)),
        Message::InSync,
    ]);
    let _server = Server::start(&b.ns, PORT);
    let to = std::net::SocketAddr::new(b.v4, PORT);
    let refused = a.ns.inside(move || std::net::TcpStream::connect_timeout(&to, Duration::from_secs(20)));
    let error = refused.join().unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

fn a_family_that_is_switched_off_is_closed(backend: Backend) {
    let w = world(backend);
    let routes = || w.host.must("ip -6 route");
    assert!(routes().contains("fd00:65::2 dev cali2pod") && routes().contains("fe80::/64 dev cali2pod"));
    // Of nobody's yet.
    w.host.must("ip link add cali7pod type veth peer name other7 && ip link set cali7pod up");
    w.felix.stop();
    let all = || {
        vec![
            profile("open", vec![allow()], vec![allow()]),
            w.a.endpoint(vec![], &["open"]),
            w.b.endpoint(vec![], &["open"]),
            Message::InSync,
        ]
    };
    let felix = Felix::start(&w.host, Config { ipv6: false, ..config(backend) });
    felix.apply(all());
    assert!(ping(&w.a.ns, w.b.v4));
    // Neither an address nor a route: rules for it are gone too.
    let with = |interface: &str| {
        w.host.must(&format!("ip -6 addr show dev {interface}; ip -6 route show dev {interface}"))
    };
    for interface in ["cali2pod", "cali3pod", "cali7pod"] {
        assert_eq!(with(interface), "", "{interface}");
    }
    w.host.must(
        "ip link add cali8pod type veth peer name other8 && ip link set cali8pod up && ip link set other8 up",
    );
    eventually("one that comes later has none", || with("cali8pod").is_empty());
    felix.stop();
    // And back.
    let felix = Felix::start(&w.host, config(backend));
    felix.apply(all());
    eventually("a route over IPv6", || routes().contains("fd00:65::2 dev cali2pod"));
    eventually("the pods reach each other", || ping(&w.a.ns, w.b.v6));
}

fn drift_is_mended(backend: Backend) {
    let w = world(backend);
    let mut listed = Rule { action: Action::Deny, ..proto("TCP") };
    listed.dst.ports = long_list();
    w.ingress(vec![listed, deny()]);
    let before = w.host.must(everything_sorted(backend));
    for damage in damages(backend) {
        w.host.must(damage);
        if backend == Backend::IptablesLegacy {
            // Nobody tells of changes there: a timer looks.
            std::thread::sleep(REFRESH);
        }
        eventually(damage, || {
            let (ok, text) = w.host.exec(everything_sorted(backend));
            ok && text == before
        });
    }
    w.host.must("ip route del 10.65.0.2/32 dev cali2pod");
    eventually("the route is back", || w.host.must("ip route").contains("10.65.0.2 dev cali2pod"));
}

fn no_ping_is_lost_and_none_leaks_while_policy_changes_and_felix_restarts(backend: Backend) {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    let w = world(backend);
    let c = Pod::new(&w.host, 6);
    let closed = || c.endpoint(vec![tier(&["closed"], &[])], &["open"]);
    w.felix.apply(vec![policy("closed", vec![deny()], vec![]), closed()]);
    let stop = Arc::new(AtomicBool::new(false));
    let (lost, leaked, sent) =
        (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let mut threads = Vec::new();
    for to in [w.b.v4, w.b.v6] {
        let (stop, lost, sent) = (stop.clone(), lost.clone(), sent.clone());
        threads.push(w.a.ns.inside(move || {
            while !stop.load(Ordering::Relaxed) {
                // A new socket, so a new connection, for every packet: no established flow hides a gap.
                if !Pinger::new(to).ping(Duration::from_secs(30)) {
                    lost.fetch_add(1, Ordering::Relaxed);
                }
                sent.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
        }));
    }
    for to in [c.v4, c.v6] {
        let (stop, leaked) = (stop.clone(), leaked.clone());
        threads.push(w.a.ns.inside(move || {
            while !stop.load(Ordering::Relaxed) {
                if Pinger::new(to).ping(Duration::from_millis(2)) {
                    leaked.fetch_add(1, Ordering::Relaxed);
                }
            }
        }));
    }
    let World { mut felix, a, b, host, .. } = w;
    for round in 0..200_u32 {
        // Always allows the ping, in a shape that changes.
        let mut rules: Vec<Rule> = (0..rand::random_range(0..4))
            .map(|_| {
                let mut r = Rule { action: Action::Deny, ..proto("TCP") };
                let first = rand::random_range(1..1000);
                r.dst.ports = vec![PortRange { first, last: first + 5 }];
                r
            })
            .collect();
        rules.push(allow());
        let mut messages = vec![policy("p", rules, vec![]), b.endpoint(vec![tier(&["p"], &[])], &["open"])];
        if round % 20 == 19 {
            felix.stop();
            felix = Felix::start(&host, config(backend));
            messages.extend([
                profile("open", vec![allow()], vec![allow()]),
                policy("closed", vec![deny()], vec![]),
                a.endpoint(vec![], &["open"]),
                closed(),
                Message::InSync,
            ]);
        }
        felix.apply(messages);
        std::thread::sleep(Duration::from_millis(3));
    }
    stop.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|t| t.join().unwrap());
    let figures = [&sent, &lost, &leaked].map(|n| n.load(Ordering::Relaxed));
    assert!(figures[0] > 50, "{figures:?}");
    assert_eq!(figures[1..], [0, 0], "lost, leaked of {}", figures[0]);
}

macro_rules! on_each_backend {
    ($($name:ident),+ $(,)?) => {
        on_each_backend!(@one nftables, Nftables, $($name),+);
        on_each_backend!(@one iptables_nft, IptablesNft, $($name),+);
        on_each_backend!(@one iptables_legacy, IptablesLegacy, $($name),+);
    };
    (@one $module:ident, $backend:ident, $($name:ident),+) => {
        mod $module {
            use super::*;
            $(#[test]
            fn $name() {
                if ready() {
                    super::$name(Backend::$backend);
                }
            })+
        }
    };
}

on_each_backend!(
    allowed_passes_and_denied_does_not,
    ports_sets_and_networks_match_in_the_kernel,
    icmp_types_match_in_their_family,
    an_interface_without_an_endpoint_is_closed,
    a_workload_cannot_send_from_a_strange_address,
    pools_with_nat_outgoing_are_masqueraded_outside_pools,
    an_interface_may_come_after_its_endpoint,
    a_restart_over_an_equal_state_writes_nothing,
    before_the_datastore_is_in_sync_nothing_is_written,
    a_refused_transaction_leaves_the_old_rules_and_is_tried_again,
    a_host_endpoint_closes_the_host_but_for_failsafe_ports,
    rejection_is_told_to_the_sender,
    a_family_that_is_switched_off_is_closed,
    drift_is_mended,
    no_ping_is_lost_and_none_leaks_while_policy_changes_and_felix_restarts,
);
