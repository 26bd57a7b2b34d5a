//! Beyond policy: floating addresses, loop prevention, neighbours, connections of removed addresses, two workloads with
//! one address, counters of rules. With real packets between namespaces.

mod lab;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use felix_dataplane::Config;
use felix_dataplane::config::{Backend, ServiceLoopPrevention};
use felix_dataplane::counters::{Count, Reader};
use felix_dataplane::kernel::conntrack::{self, NETLINK_NETFILTER};
use felix_dataplane::kernel::netlink::Netlink;
use felix_dataplane::render::names::Direction;
use felix_dataplane::rule::{Family, RateLimit, TimeUnit};
use felix_dataplane::worker;
use felix_message::{Action, GlobalBgpConfig, Message, PortRange, Rule, WorkloadEndpoint};
use lab::probe::{Server, ping, tcp, udp};
use lab::{Felix, Namespace, Pod, allow, deny, eventually, policy, profile, ready, run, tier};
use libcalico_api::num_or_string::Protocol;

const PORT: u16 = 8080;

/// The pod's endpoint, changed.
fn changed(pod: &Pod, change: impl FnOnce(&mut WorkloadEndpoint)) -> Message {
    match pod.endpoint(vec![], &["open"]) {
        Message::WorkloadEndpointUpdate(key, e) => {
            let mut e = WorkloadEndpoint::clone(&e);
            change(&mut e);
            Message::WorkloadEndpointUpdate(key, Arc::new(e))
        }
        other => other,
    }
}

fn floating(pod: &Pod) -> (Message, IpAddr, IpAddr) {
    let (v4, v6): (IpAddr, IpAddr) = ("192.0.2.77".parse().unwrap(), "2001:db8::77".parse().unwrap());
    let message = changed(pod, |e| e.nat = vec![(pod.v4, v4), (pod.v6, v6)]);
    (message, v4, v6)
}

#[test]
fn a_floating_address_leads_to_the_workload_from_others_and_from_itself() {
    if !ready() {
        return;
    }
    let host = Namespace::host();
    let (a, b) = (Pod::new(&host, 2), Pod::new(&host, 3));
    let (with, v4, v6) = floating(&b);
    let felix = Felix::among(
        &host,
        Config { floating_ips: true, ..Config::default() },
        vec![a.endpoint(vec![], &["open"]), with],
    );
    let _server = Server::start(&b.ns, PORT);
    for to in [v4, v6] {
        assert!(ping(&a.ns, to) && tcp(&a.ns, to, PORT) && udp(&a.ns, to, PORT), "{to}");
        assert!(tcp(&b.ns, to, PORT), "the workload reaches itself by {to}");
        assert!(tcp(&host, to, PORT), "so does the host");
    }
    // Policy sees the translated destination.
    let mut web = Rule { protocol: Some(Protocol::Number(6)), ..Rule::default() };
    web.dst.nets = vec![b.v4.into(), b.v6.into()];
    web.dst.ports = vec![PortRange { first: PORT, last: PORT }];
    let with_policy = changed(&b, |e| {
        e.nat = vec![(b.v4, v4), (b.v6, v6)];
        e.tiers = vec![tier(&["p"], &[])].into();
    });
    felix.apply(vec![policy("p", vec![web], vec![]), with_policy]);
    assert!(tcp(&a.ns, v4, PORT) && tcp(&a.ns, v6, PORT) && !ping(&a.ns, v4));
    felix.apply(vec![b.endpoint(vec![], &["open"])]);
    assert!(!tcp(&a.ns, v4, PORT) && tcp(&a.ns, b.v4, PORT));
}

#[test]
fn without_the_feature_a_floating_address_leads_nowhere() {
    if !ready() {
        return;
    }
    let host = Namespace::host();
    let (a, b) = (Pod::new(&host, 2), Pod::new(&host, 3));
    let (with, v4, _) = floating(&b);
    let _felix = Felix::among(&host, Config::default(), vec![a.endpoint(vec![], &["open"]), with]);
    assert!(!ping(&a.ns, v4) && ping(&a.ns, b.v4));
}

#[test]
fn what_no_service_took_does_not_go_back_to_the_router() {
    if !ready() {
        return;
    }
    let host = Namespace::host();
    let pod = Pod::new(&host, 2);
    // A router that would send it back: it counts what it gets.
    let router = Namespace::new();
    run(&format!(
        "ip link add r0 netns {h} type veth peer name eth0 netns {r} && \
         ip -n {h} addr add 192.0.2.1/24 dev r0 && ip -n {h} addr add 2001:db8:2::1/64 dev r0 nodad && \
         ip -n {h} link set r0 up && \
         ip -n {r} addr add 192.0.2.2/24 dev eth0 && ip -n {r} addr add 2001:db8:2::2/64 dev eth0 nodad && \
         ip -n {r} link set eth0 up && ip -n {r} route add default via 192.0.2.1 && \
         ip -n {r} -6 route add default via 2001:db8:2::1 && \
         ip -n {r} addr add 10.96.0.9/32 dev lo && ip -n {r} addr add fd00:96::9/128 dev lo && \
         ip -n {h} route add 10.96.0.0/12 via 192.0.2.2 && ip -n {h} -6 route add fd00:96::/112 via 2001:db8:2::2",
        h = host.0,
        r = router.0
    ));
    let services: [IpAddr; 2] = ["10.96.0.9".parse().unwrap(), "fd00:96::9".parse().unwrap()];
    let bgp = |cidrs: &[&str]| {
        let nets = cidrs.iter().map(|c| c.parse().unwrap()).collect();
        Message::GlobalBgpConfigUpdate(GlobalBgpConfig {
            service_cluster_cidrs: nets,
            ..GlobalBgpConfig::default()
        })
    };
    for (prevention, passes) in [
        (ServiceLoopPrevention::Drop, false),
        (ServiceLoopPrevention::Reject, false),
        (ServiceLoopPrevention::Disabled, true),
    ] {
        let felix = Felix::among(
            &host,
            Config { service_loop_prevention: prevention, ..Config::default() },
            vec![pod.endpoint(vec![], &["open"])],
        );
        felix.apply(vec![bgp(&[])]);
        assert!(services.iter().all(|s| ping(&pod.ns, *s)), "no networks are told of");
        felix.apply(vec![bgp(&["10.96.0.0/12", "fd00:96::/112"])]);
        for to in services {
            assert_eq!(ping(&pod.ns, to), passes, "{prevention:?} {to}");
        }
        felix.stop();
    }
}

#[test]
fn a_workloads_hardware_address_is_known_for_good() {
    if !ready() {
        return;
    }
    let host = Namespace::host();
    let (a, b) = (Pod::new(&host, 2), Pod::new(&host, 3));
    let mac = a.ns.must("cat /sys/class/net/eth0/address").trim().to_owned();
    let with_mac = |pod: &Pod| changed(pod, |e| e.mac = Some(mac.clone()));
    let felix = Felix::among(&host, Config::default(), vec![with_mac(&a), b.endpoint(vec![], &["open"])]);
    let shows = |what: &str| host.must("ip -4 neigh show nud permanent").contains(what);
    let entry = format!("10.65.0.2 dev cali2pod lladdr {mac} PERMANENT");
    assert!(shows(&entry));
    assert!(ping(&a.ns, b.v4) && ping(&host, a.v4));
    // The interface goes and comes back: so does the entry.
    host.must("ip link set cali2pod down");
    eventually("the entry is gone with the interface", || !shows(&entry));
    host.must("ip link set cali2pod up");
    eventually("the entry is back", || shows(&entry));
    felix.apply(vec![Message::WorkloadEndpointRemove(a.key())]);
    assert!(!shows("10.65.0.2"));
}

fn connections(host: &Namespace, addr: IpAddr) -> usize {
    let read = host.inside(move || {
        let mut socket = Netlink::open(NETLINK_NETFILTER).unwrap();
        let mut n = 0;
        conntrack::entries(&mut socket, Family::of(&addr), |e| n += usize::from(e.involves(&addr))).unwrap();
        n
    });
    read.join().unwrap()
}

#[test]
fn connections_of_an_address_go_with_its_workload() {
    if !ready() {
        return;
    }
    let host = Namespace::host();
    let (a, b, c) = (Pod::new(&host, 2), Pod::new(&host, 3), Pod::new(&host, 4));
    let all = [&a, &b, &c].map(|p| p.endpoint(vec![], &["open"]));
    let felix = Felix::among(&host, Config::default(), all.to_vec());
    for to in [b.v4, b.v6, c.v4, c.v6] {
        assert!(ping(&a.ns, to));
        assert!(connections(&host, to) > 0);
    }
    felix.apply(vec![Message::WorkloadEndpointRemove(b.key())]);
    for gone in [b.v4, b.v6] {
        eventually("its connections are gone", || connections(&host, gone) == 0);
    }
    assert!(connections(&host, c.v4) > 0 && connections(&host, c.v6) > 0, "those of others stay");
}

#[test]
fn of_two_workloads_with_one_address_the_smaller_name_has_it_whichever_came_first() {
    if !ready() {
        return;
    }
    let host = Namespace::host();
    let (a, b) = (Pod::new(&host, 2), Pod::new(&host, 3));
    let shared = |p: &Pod| changed(p, |e| e.ipv4_nets = vec!["10.65.0.9/32".parse().unwrap()]);
    let felix = Felix::among(&host, Config::default(), vec![]);
    let over = || host.must("ip route show 10.65.0.9");
    // A new owner's route waits until the old one's connections are cut.
    let leads = |interface: &str, why: &str| {
        eventually(why, || {
            let routes = over();
            routes.contains(&format!("dev {interface}")) && routes.lines().count() == 1
        });
    };
    felix.apply(vec![shared(&b)]);
    leads("cali3pod", "it is the only one");
    felix.apply(vec![shared(&a)]);
    leads("cali2pod", "default/cali2pod comes before default/cali3pod");
    felix.apply(vec![shared(&b)]);
    leads("cali2pod", "it stays");
    felix.apply(vec![Message::WorkloadEndpointRemove(a.key())]);
    leads("cali3pod", "the other takes over");
    // Two at a time would take the address from each other: they were told different things.
    felix.stop();
    let again = Felix::among(&host, Config::default(), vec![shared(&a), shared(&b)]);
    leads("cali2pod", "after a restart too");
    // Its workload crashes, and the endpoint stays.
    host.must("ip link del cali2pod");
    leads("cali3pod", "an endpoint without an interface takes the address from nobody");
    drop(again);
}

#[test]
fn others_routes_on_a_workloads_interface_go_only_where_that_is_configured() {
    if !ready() {
        return;
    }
    for (remove, stays) in [(true, false), (false, true)] {
        let host = Namespace::host();
        let a = Pod::new(&host, 2);
        let config =
            Config { remove_external_routes: remove, device_route_protocol: 80, ..Config::default() };
        let felix = Felix::among(&host, config, vec![a.endpoint(vec![], &["open"])]);
        assert!(
            host.must("ip route show 10.65.0.2").contains("proto 80"),
            "the protocol is the configured one"
        );
        host.must("ip route add 10.65.9.9/32 dev cali2pod proto static");
        host.must("ip route add 10.65.9.8/32 dev cali2pod proto 80");
        // What stands on an interface that has just come is given time: by then nothing has asked for it.
        std::thread::sleep(felix_dataplane::driver::route::GRACE + Duration::from_secs(2));
        let stands = |addr: &str| host.must("ip route").contains(addr);
        eventually("a stale one of ours goes either way", || !stands("10.65.9.8"));
        eventually("what is configured", || stands("10.65.9.9") == stays);
        let routes = host.must("ip route");
        assert!(routes.contains("172.31.0.0/24") && routes.contains("default"), "others are left alone");
        felix.stop();
    }
}

#[test]
fn counters_tell_how_often_each_rule_matched_and_survive_a_change_of_another_rule() {
    if !ready() {
        return;
    }
    Backend::ALL.into_iter().for_each(counters_are_read);
}

/// A dataplane whose counters are read.
struct Counting<'a> {
    host: &'a Namespace,
    handle: worker::Handle,
    reports: Receiver<worker::Report>,
    reader: Option<Reader>,
    said: u64,
    thread: Option<JoinHandle<()>>,
}

impl<'a> Counting<'a> {
    fn start(host: &'a Namespace, config: Config) -> Self {
        let (ready, started) = channel();
        let thread = host.inside(move || {
            let (handle, worker) = worker::new(Arc::new(config.clone())).unwrap();
            let reader = Reader::new(worker.counted(), config.backend, config.marks).unwrap();
            let (report, reports) = channel();
            ready.send((handle, reader, reports)).unwrap();
            worker.run(|r| {
                let _ = report.send(r);
            });
        });
        let (handle, reader, reports) = started.recv().unwrap();
        Self { host, handle, reports, reader: Some(reader), said: 0, thread: Some(thread) }
    }

    /// Sends, and waits until the kernel has it.
    fn say(&mut self, messages: Vec<Message>) {
        self.said += messages.len() as u64;
        self.handle.send(worker::Command::Messages(messages)).unwrap();
        loop {
            let report = self.reports.recv_timeout(Duration::from_secs(60)).expect("a report");
            if matches!(report, worker::Report::Applied { taken, .. } if taken == self.said) {
                return;
            }
        }
    }

    /// What the ingress rules of policy p counted since the last time.
    fn read(&mut self) -> Vec<(usize, &'static str, Count)> {
        // The program of xtables reads the tables of the namespace that it is started in.
        let mut reader = self.reader.take().unwrap();
        let read = self.host.inside(move || (reader.read().unwrap(), reader));
        let (all, reader) = read.join().unwrap();
        self.reader = Some(reader);
        let own = all.into_iter().filter(|(r, _)| r.owner.namespace_and_name().1 == "p");
        own.filter(|(r, _)| r.direction == Direction::Ingress).map(|(r, n)| (r.index, r.action, n)).collect()
    }
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        let _ = self.handle.send(worker::Command::Stop);
        if let Some(t) = self.thread.take() {
            let _ = t.join();
        }
    }
}

fn counters_are_read(backend: Backend) {
    let host = Namespace::host();
    let (a, b) = (Pod::new(&host, 2), Pod::new(&host, 3));
    let _server = Server::start(&b.ns, PORT);
    let mut c = Counting::start(&host, Config { backend, ..Config::default() });
    let proto = |action, name: &str| Rule {
        action,
        protocol: Some(Protocol::Name(name.to_owned())),
        ..Rule::default()
    };
    let rules =
        vec![proto(Action::Deny, "UDP"), proto(Action::Log, "TCP"), proto(Action::Allow, "TCP"), deny()];
    c.say(vec![
        profile("open", vec![allow()], vec![allow()]),
        policy("p", rules.clone(), vec![]),
        a.endpoint(vec![], &["open"]),
        b.endpoint(vec![tier(&["p"], &[])], &["open"]),
        Message::InSync,
    ]);
    c.read();
    assert!(tcp(&a.ns, b.v4, PORT) && tcp(&a.ns, b.v6, PORT) && !udp(&a.ns, b.v4, PORT));
    let counts = c.read();
    let rules_told: Vec<_> = counts.iter().map(|(i, action, _)| (*i, *action)).collect();
    assert_eq!(rules_told, [(0, "deny"), (1, "log"), (2, "allow"), (3, "deny")], "{backend:?}");
    // What is not answered in time is sent again.
    let [denied, logged, passed, rest] = [0, 1, 2, 3].map(|i: usize| counts[i].2.packets);
    assert!(denied >= 1 && passed >= 2 && logged == passed && rest == 0, "{backend:?}: {counts:?}");
    assert!(counts[2].2.bytes >= 2 * 40);
    assert!(c.read().iter().all(|(_, _, n)| n.packets == 0), "only what is new is told");
    // A rule behind them changes: theirs go on counting.
    let mut other = rules;
    other[3] = proto(Action::Deny, "ICMP");
    c.say(vec![policy("p", other, vec![])]);
    assert!(tcp(&a.ns, b.v4, PORT));
    c.read();
    assert!(tcp(&a.ns, b.v4, PORT));
    assert!(c.read()[2].2.packets >= 1, "{backend:?}");
}

#[test]
fn a_log_rule_writes_no_more_often_than_its_limit() {
    if !ready() {
        return;
    }
    for backend in Backend::ALL {
        let host = Namespace::host();
        let (a, b) = (Pod::new(&host, 2), Pod::new(&host, 3));
        // Nothing is added to the burst while this runs.
        let limit = RateLimit { packets: 1, unit: TimeUnit::Hour, burst: 3 };
        let config = Config { backend, log_limit: Some(limit), ..Config::default() };
        let mut c = Counting::start(&host, config);
        let mut log = Rule { action: Action::Log, ..Rule::default() };
        log.src.nets = ["10.65.0.0/30", "192.0.2.0/24"].map(|n| n.parse().unwrap()).to_vec();
        c.say(vec![
            profile("open", vec![allow()], vec![allow()]),
            policy("p", vec![log, allow()], vec![]),
            a.endpoint(vec![], &["open"]),
            b.endpoint(vec![tier(&["p"], &[])], &["open"]),
            Message::InSync,
        ]);
        assert!((0..6).all(|_| ping(&a.ns, b.v4)));
        let packets: Vec<_> = c.read().iter().map(|(_, action, n)| (*action, n.packets)).collect();
        // What is not answered in time is sent again.
        assert!(matches!(packets[..], [("log", 3), ("allow", 6..)]), "{backend:?}: {packets:?}");
    }
}
