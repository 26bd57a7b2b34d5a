//! Host endpoints with real packets: a host with an outside on each of two interfaces, and a pod behind it.
//!
//! Neighbours of IPv6 are told to each other beforehand: on a host's own interface policy judges neighbour discovery as
//! it judges everything else, as upstream's does.

mod lab;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use felix_dataplane::Config;
use felix_dataplane::config::{EndpointToHostAction, FailsafePort};
use felix_message::{Action, ActivePolicy, HostEndpoint, Message, PortRange, Rule, TierInfo};
use lab::probe::{Server, passes, ping, tcp, udp};
use lab::{Felix, Namespace, Pod, allow, deny, policy, policy_key, profile, ready, run, tier};
use libcalico_api::num_or_string::Protocol;

const PORT: u16 = 8080;
/// A port that is open by default whatever policy says, inwards and outwards.
const FAILSAFE: u16 = 6443;

/// A machine outside, on one of the host's interfaces.
struct Outside {
    ns: Namespace,
    v4: IpAddr,
    v6: IpAddr,
    /// The host's addresses on this interface.
    host_v4: IpAddr,
    host_v6: IpAddr,
    _servers: [Server; 2],
}

struct World {
    felix: Felix,
    /// On `eth1`.
    a: Outside,
    /// On `eth2`.
    b: Outside,
    pod: Pod,
    host: Namespace,
    _servers: [Server; 3],
}

fn outside(host: &Namespace, n: u8) -> Outside {
    let ns = Namespace::new();
    let (v4, v6) = (format!("192.0.{n}"), format!("2001:db8:{n}::"));
    run(&format!(
        "ip link add eth{n} netns {h} type veth peer name eth0 netns {o} && \
         ip -n {h} addr add {v4}.1/24 dev eth{n} && ip -n {h} addr add {v6}1/64 dev eth{n} nodad && \
         ip -n {h} link set eth{n} up && \
         ip -n {o} addr add {v4}.2/24 dev eth0 && ip -n {o} addr add {v6}2/64 dev eth0 nodad && \
         ip -n {o} link set eth0 up && \
         ip -n {o} route add default via {v4}.1 && ip -n {o} -6 route add default via {v6}1 && \
         ip -n {h} link set eth{n} address 02:00:00:00:0{n}:01 && ip -n {o} link set eth0 address 02:00:00:00:0{n}:02 && \
         ip -n {h} neigh replace {v6}2 lladdr 02:00:00:00:0{n}:02 dev eth{n} && \
         ip -n {o} neigh replace {v6}1 lladdr 02:00:00:00:0{n}:01 dev eth0",
        h = host.0,
        o = ns.0
    ));
    let addr = |text: String| text.parse().unwrap();
    let _servers = [Server::start(&ns, PORT), Server::start(&ns, FAILSAFE)];
    Outside {
        v4: addr(format!("{v4}.2")),
        v6: addr(format!("{v6}2")),
        host_v4: addr(format!("{v4}.1")),
        host_v6: addr(format!("{v6}1")),
        ns,
        _servers,
    }
}

fn world(config: Config) -> World {
    let host = Namespace::host();
    let (a, b) = (outside(&host, 1), outside(&host, 2));
    let pod = Pod::new(&host, 2);
    let felix = Felix::start(&host, config);
    felix.apply(vec![
        profile("open", vec![allow()], vec![allow()]),
        pod.endpoint(vec![], &["open"]),
        Message::InSync,
    ]);
    let _servers = [Server::start(&host, PORT), Server::start(&host, FAILSAFE), Server::start(&pod.ns, PORT)];
    World { felix, a, b, pod, host, _servers }
}

type Passed = BTreeSet<&'static str>;

fn all() -> Passed {
    BTreeSet::from(["icmp", "tcp", "udp"])
}

impl World {
    #[track_caller]
    fn in_to_host(&self, from: &Outside) -> Passed {
        passes(&from.ns, from.host_v4, from.host_v6, PORT)
    }

    #[track_caller]
    fn out_of_host(&self, to: &Outside) -> Passed {
        passes(&self.host, to.v4, to.v6, PORT)
    }

    #[track_caller]
    fn through(&self) -> Passed {
        passes(&self.a.ns, self.b.v4, self.b.v6, PORT)
    }

    #[track_caller]
    fn to_pod(&self) -> Passed {
        passes(&self.a.ns, self.pod.v4, self.pod.v6, PORT)
    }

    #[track_caller]
    fn pod_to_host(&self) -> Passed {
        passes(&self.pod.ns, self.a.host_v4, self.a.host_v6, PORT)
    }

    fn apply(&self, messages: Vec<Message>) {
        self.felix.apply(messages);
    }
}

fn proto(action: Action, name: &str) -> Rule {
    Rule { action, protocol: Some(Protocol::Name(name.to_owned())), ..Rule::default() }
}

fn both_icmp(action: Action) -> [Rule; 2] {
    [proto(action, "ICMP"), proto(action, "ICMPv6")]
}

fn port(action: Action, name: &str, source: bool, number: u16) -> Rule {
    let mut rule = proto(action, name);
    let side = if source { &mut rule.src } else { &mut rule.dst };
    side.ports = vec![PortRange { first: number, last: number }];
    rule
}

/// A policy that is not a plain one.
fn special(name: &str, inbound: Vec<Rule>, outbound: Vec<Rule>, change: fn(&mut ActivePolicy)) -> Message {
    let mut p = ActivePolicy { tier: "default".to_owned(), inbound, outbound, ..ActivePolicy::default() };
    change(&mut p);
    Message::PolicyUpdate(policy_key(name), Arc::new(p))
}

fn endpoint(interface: &str, change: impl FnOnce(&mut HostEndpoint)) -> Message {
    let mut e = HostEndpoint { interface_name: interface.to_owned(), ..HostEndpoint::default() };
    change(&mut e);
    Message::HostEndpointUpdate(format!("h-{interface}"), Arc::new(e))
}

fn tiers(ingress: &[&str], egress: &[&str]) -> Arc<[TierInfo]> {
    vec![tier(ingress, egress)].into()
}

#[test]
fn a_named_endpoint_judges_what_comes_in_and_goes_out_on_its_interface_alone() {
    if !ready() {
        return;
    }
    let w = world(Config::default());
    assert_eq!([w.in_to_host(&w.a), w.out_of_host(&w.a)], [all(), all()]);
    w.apply(vec![
        policy("p", vec![proto(Action::Allow, "TCP")], vec![proto(Action::Allow, "UDP")]),
        endpoint("eth1", |e| e.tiers = tiers(&["p"], &["p"])),
    ]);
    assert_eq!(w.in_to_host(&w.a), Passed::from(["tcp"]));
    assert_eq!(w.out_of_host(&w.a), Passed::from(["udp"]));
    assert_eq!([w.in_to_host(&w.b), w.out_of_host(&w.b)], [all(), all()], "the other interface");
    assert_eq!([w.through(), w.to_pod()], [all(), all()], "what is forwarded");
    w.apply(vec![Message::HostEndpointRemove("h-eth1".to_owned())]);
    assert_eq!([w.in_to_host(&w.a), w.out_of_host(&w.a)], [all(), all()]);
}

#[test]
fn an_endpoint_without_policy_denies_and_one_with_a_profile_follows_it() {
    if !ready() {
        return;
    }
    let w = world(Config::default());
    w.apply(vec![endpoint("eth1", |_| {})]);
    assert_eq!([w.in_to_host(&w.a), w.out_of_host(&w.a)], [Passed::new(), Passed::new()]);
    w.apply(vec![
        profile("web", vec![proto(Action::Allow, "TCP")], both_icmp(Action::Allow).to_vec()),
        endpoint("eth1", |e| e.profiles = vec!["web".to_owned()]),
    ]);
    assert_eq!(w.in_to_host(&w.a), Passed::from(["tcp"]));
    assert_eq!(w.out_of_host(&w.a), Passed::from(["icmp"]));
    // A tier whose policies do not match ends in a denial: the profile has no say.
    w.apply(vec![
        policy("p", vec![proto(Action::Allow, "UDP")], vec![]),
        endpoint("eth1", |e| {
            e.profiles = vec!["web".to_owned()];
            e.tiers = tiers(&["p"], &[]);
        }),
    ]);
    assert_eq!(w.in_to_host(&w.a), Passed::from(["udp"]));
    assert_eq!(w.out_of_host(&w.a), Passed::from(["icmp"]), "no egress policy: the profile decides");
}

#[test]
fn failsafe_ports_stay_open_inwards_and_outwards_for_the_named_peers() {
    if !ready() {
        return;
    }
    let w = world(Config::default());
    w.apply(vec![
        policy("p", vec![deny()], vec![deny()]),
        endpoint("eth1", |e| e.tiers = tiers(&["p"], &["p"])),
    ]);
    assert!(tcp(&w.a.ns, w.a.host_v4, FAILSAFE) && tcp(&w.a.ns, w.a.host_v6, FAILSAFE));
    assert!(tcp(&w.host, w.a.v4, FAILSAFE) && tcp(&w.host, w.a.v6, FAILSAFE));
    assert!(!udp(&w.a.ns, w.a.host_v4, FAILSAFE) && !tcp(&w.a.ns, w.a.host_v4, PORT));
    drop(w);

    let open =
        |net: Option<&str>| FailsafePort { protocol: 17, port: PORT, net: net.map(|n| n.parse().unwrap()) };
    let w = world(Config {
        failsafe_inbound: vec![open(Some("192.0.1.0/24")), open(Some("2001:db8:9::/64"))],
        failsafe_outbound: vec![],
        ..Config::default()
    });
    w.apply(vec![endpoint("eth1", |_| {}), endpoint("eth2", |_| {})]);
    assert!(udp(&w.a.ns, w.a.host_v4, PORT), "the peer is in the network");
    assert!(!udp(&w.b.ns, w.b.host_v4, PORT) && !udp(&w.a.ns, w.a.host_v6, PORT), "these are not");
    assert!(!tcp(&w.a.ns, w.a.host_v4, FAILSAFE) && !tcp(&w.host, w.a.v4, FAILSAFE), "the defaults are gone");
}

#[test]
fn forwarded_packets_meet_policies_that_apply_on_forward_and_no_others() {
    if !ready() {
        return;
    }
    let w = world(Config::default());
    // In through eth1: TCP alone. Out through eth2: anything but one port.
    w.apply(vec![
        special("in", vec![proto(Action::Allow, "TCP")], vec![], |p| p.apply_on_forward = true),
        special("out", vec![], vec![port(Action::Deny, "TCP", false, FAILSAFE), allow()], |p| {
            p.apply_on_forward = true;
        }),
        endpoint("eth1", |e| e.forward_tiers = tiers(&["in"], &[])),
        endpoint("eth2", |e| e.forward_tiers = tiers(&[], &["out"])),
    ]);
    assert_eq!(w.through(), Passed::from(["tcp"]));
    assert_eq!(w.to_pod(), Passed::from(["tcp"]));
    assert!(!tcp(&w.a.ns, w.b.v4, FAILSAFE), "failsafe ports do not apply to what is forwarded");
    assert_eq!(passes(&w.pod.ns, w.a.v4, w.a.v6, PORT), all(), "no egress policy applies on eth1");
    assert!(!tcp(&w.pod.ns, w.b.v4, FAILSAFE), "a pod's packets out of eth2 are forwarded too");
    assert_eq!(w.in_to_host(&w.a), Passed::new(), "the host itself: no policy, no profile");
}

#[test]
fn an_untracked_policy_judges_each_packet_before_everything_else_and_leaves_no_connection() {
    if !ready() {
        return;
    }
    let w = world(Config::default());
    let untracked = |inbound, outbound| special("u", inbound, outbound, |p| p.untracked = true);
    let endpoint = || endpoint("eth1", |e| e.untracked_tiers = tiers(&["u"], &["u"]));
    let allowed = || vec![port(Action::Allow, "TCP", false, PORT), port(Action::Allow, "UDP", false, PORT)];
    let answers = || vec![port(Action::Allow, "TCP", true, PORT), port(Action::Allow, "UDP", true, PORT)];
    w.apply(vec![untracked(allowed(), answers()), endpoint()]);
    assert_eq!(
        w.in_to_host(&w.a),
        Passed::from(["tcp", "udp"]),
        "what it does not name goes on to be denied"
    );
    // A connection that is not tracked has no answer of its own: it needs a rule.
    w.apply(vec![untracked(allowed(), vec![])]);
    assert_eq!(w.in_to_host(&w.a), Passed::new());
    // It comes before forwarding too: the pod's answer to a packet that was not tracked belongs to no connection.
    assert_eq!(w.to_pod(), Passed::from(["icmp", "udp"]));
    w.apply(vec![untracked(vec![], vec![])]);
    assert_eq!(w.to_pod(), all());
    w.apply(vec![untracked(vec![port(Action::Deny, "TCP", false, PORT)], vec![])]);
    assert_eq!(w.to_pod(), Passed::from(["icmp", "udp"]));
    // Failsafe ports and the answers to outward ones stay open.
    w.apply(vec![untracked(vec![deny()], vec![deny()])]);
    assert!(tcp(&w.a.ns, w.a.host_v4, FAILSAFE) && tcp(&w.host, w.a.v6, FAILSAFE));
    assert_eq!(w.in_to_host(&w.a), Passed::new());
}

#[test]
fn a_policy_before_translation_sees_the_address_and_port_that_the_peer_named() {
    if !ready() {
        return;
    }
    let w = world(Config::default());
    // A service as kube-proxy has it: port 30080 of the host leads to the pod.
    for (family, to) in [("ip", format!("{}", w.pod.v4)), ("ip6", format!("[{}]", w.pod.v6))] {
        w.host.must(&format!(
            "nft add table {family} proxy && \
             nft 'add chain {family} proxy pre {{ type nat hook prerouting priority -100; }}' && \
             nft add rule {family} proxy pre meta l4proto '{{ tcp, udp }}' th dport 30080 dnat to {to}:{PORT}"
        ));
    }
    let service = || {
        let one = |to| (tcp(&w.a.ns, to, 30080), udp(&w.a.ns, to, 30080));
        let (four, six) = (one(w.a.host_v4), one(w.a.host_v6));
        assert_eq!(four, six, "IPv4 and IPv6");
        four
    };
    assert_eq!(service(), (true, true));
    let pre = |inbound| special("pre", inbound, vec![], |p| p.pre_dnat = true);
    let endpoint = endpoint("eth1", |e| e.pre_dnat_tiers = tiers(&["pre"], &[]));
    w.apply(vec![pre(vec![port(Action::Deny, "TCP", false, 30080)]), endpoint]);
    assert_eq!(service(), (false, true));
    assert_eq!(w.to_pod(), all(), "the pod's own port is another");
    w.apply(vec![pre(vec![port(Action::Deny, "TCP", false, PORT)])]);
    assert_eq!(service(), (true, true), "translated packets are not judged again");
    assert_eq!(w.to_pod(), Passed::from(["icmp", "udp"]));
    w.apply(vec![pre(vec![deny()])]);
    assert_eq!(service(), (false, false));
    assert!(tcp(&w.a.ns, w.a.host_v4, FAILSAFE), "failsafe ports come first");
}

#[test]
fn an_endpoint_of_all_interfaces_covers_those_without_their_own() {
    if !ready() {
        return;
    }
    let w = world(Config::default());
    let deny_all = policy("none", vec![deny()], vec![deny()]);
    w.apply(vec![
        policy("p", vec![proto(Action::Allow, "TCP")], vec![proto(Action::Allow, "UDP")]),
        deny_all,
        endpoint("*", |e| e.tiers = tiers(&["p"], &["p"])),
    ]);
    for side in [&w.a, &w.b] {
        assert_eq!(w.in_to_host(side), Passed::from(["tcp"]));
        assert_eq!(w.out_of_host(side), Passed::from(["udp"]));
    }
    assert_eq!(w.to_pod(), all(), "pods have policies of their own");
    let own = || tcp(&w.host, "127.0.0.1".parse().unwrap(), PORT);
    assert!(!own(), "the loopback is an interface like the others");
    assert!(ping(&w.host, w.pod.v4) && tcp(&w.host, w.pod.v6, PORT), "the host reaches its pods");
    let open = |e: &mut HostEndpoint| e.profiles = vec!["open".to_owned()];
    w.apply(vec![
        profile("open", vec![allow()], vec![allow()]),
        endpoint("lo", open),
        endpoint("eth2", |e| e.tiers = tiers(&["none"], &["none"])),
    ]);
    assert!(own(), "one of its own opens it");
    assert_eq!(w.in_to_host(&w.a), Passed::from(["tcp"]));
    assert_eq!([w.in_to_host(&w.b), w.out_of_host(&w.b)], [Passed::new(), Passed::new()]);
    // Forwarding and the other hooks know it too.
    w.apply(vec![
        special("f", vec![proto(Action::Deny, "UDP"), allow()], vec![], |p| p.apply_on_forward = true),
        special("u", vec![port(Action::Deny, "TCP", false, FAILSAFE + 1)], vec![], |p| p.untracked = true),
        endpoint("*", |e| {
            e.forward_tiers = tiers(&["f"], &[]);
            e.untracked_tiers = tiers(&["u"], &[]);
        }),
    ]);
    assert_eq!(w.to_pod(), Passed::from(["icmp", "tcp"]));
}

#[test]
fn an_endpoint_is_found_by_its_addresses() {
    if !ready() {
        return;
    }
    let w = world(Config::default());
    let addresses = |a: IpAddr| {
        endpoint("", |e| {
            e.expected_addrs = vec![a];
            e.tiers = tiers(&["p"], &[]);
        })
    };
    w.apply(vec![policy("p", vec![proto(Action::Allow, "TCP")], vec![]), addresses(w.a.host_v4)]);
    assert_eq!(w.in_to_host(&w.a), Passed::from(["tcp"]));
    assert_eq!(w.in_to_host(&w.b), all());
    // The address moves, the endpoint with it.
    w.host.must("ip addr add 192.0.9.1/24 dev eth2");
    w.apply(vec![addresses("192.0.9.1".parse().unwrap())]);
    assert_eq!(w.in_to_host(&w.a), all());
    assert_eq!(w.in_to_host(&w.b), Passed::from(["tcp"]));
}

#[test]
fn what_a_pod_may_send_its_host_is_configured_once_policy_has_let_it_through() {
    if !ready() {
        return;
    }
    for (action, open) in [
        (EndpointToHostAction::Drop, false),
        (EndpointToHostAction::Accept, true),
        // The host's own chains go on: here there are none, so the packet is let in.
        (EndpointToHostAction::Return, true),
    ] {
        let w = world(Config { endpoint_to_host_action: action, ..Config::default() });
        assert_eq!(w.pod_to_host(), if open { all() } else { Passed::new() }, "{action:?}");
        w.apply(vec![
            policy("p", vec![], vec![proto(Action::Deny, "UDP"), allow()]),
            w.pod.endpoint(vec![tier(&[], &["p"])], &["open"]),
        ]);
        let want = if open { Passed::from(["icmp", "tcp"]) } else { Passed::new() };
        assert_eq!(w.pod_to_host(), want, "{action:?}");
        // A host endpoint of the interface that carries the address has no say: the packet comes from the pod's.
        w.apply(vec![endpoint("eth1", |_| {})]);
        assert_eq!(w.pod_to_host(), want, "{action:?}");
        assert!(ping(&w.host, w.pod.v4), "the host reaches its pod, and the answer comes back");
    }
}
