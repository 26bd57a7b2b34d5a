//! Random worlds. Names, labels and networks are few, so that things meet often.

mod kubernetes;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::collection::{btree_map, vec};
use proptest::option::{of, weighted};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::world::{
    Action, End, Host, Icmp, Interface, Labels, NamedPort, Namespace, NamespaceSelector, PODS, PORTS, Pod,
    Policy, PolicyUse, Port, Profile, Protocol, Remote, Rule, Selector, Service, Set, Side, Tier, World,
};

fn word() -> impl Strategy<Value = String> {
    select(vec!["a", "b", "ab"]).prop_map(str::to_owned)
}

fn labels() -> impl Strategy<Value = Labels> {
    btree_map(word(), word(), 0..3)
}

fn selector() -> impl Strategy<Value = Selector> {
    let leaf = prop_oneof![
        4 => (word(), word()).prop_map(|(k, v)| Selector::Is(k, v)),
        1 => (word(), word()).prop_map(|(k, v)| Selector::IsNot(k, v)),
        2 => word().prop_map(Selector::Has),
        1 => word().prop_map(Selector::HasNot),
        1 => (word(), vec(word(), 1..3)).prop_map(|(k, v)| Selector::In(k, v)),
        1 => (word(), vec(word(), 1..3)).prop_map(|(k, v)| Selector::NotIn(k, v)),
        1 => (word(), word()).prop_map(|(k, v)| Selector::StartsWith(k, v)),
        1 => (word(), word()).prop_map(|(k, v)| Selector::EndsWith(k, v)),
        1 => (word(), word()).prop_map(|(k, v)| Selector::Contains(k, v)),
        2 => Just(Selector::All),
    ];
    leaf.prop_recursive(2, 5, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Selector::And(a.into(), b.into())),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Selector::Or(a.into(), b.into())),
            inner.prop_map(|a| Selector::Not(a.into())),
        ]
    })
}

fn end() -> impl Strategy<Value = End> {
    select(End::all().collect::<Vec<_>>())
}

/// A network around one of the ends.
fn net(v4: bool) -> impl Strategy<Value = IpNet> {
    (end(), select(if v4 { vec![0, 8, 16, 30, 31, 32] } else { vec![0, 16, 64, 126, 127, 128] })).prop_map(
        move |(end, len)| match end.address(v4) {
            std::net::IpAddr::V4(a) => IpNet::V4(Ipv4Net::new(a, len).expect("length").trunc()),
            std::net::IpAddr::V6(a) => IpNet::V6(Ipv6Net::new(a, len).expect("length").trunc()),
        },
    )
}

/// Networks of sets: of both families, now and then everything.
fn set_nets() -> impl Strategy<Value = Vec<IpNet>> {
    vec(any::<bool>().prop_flat_map(net), 0..4)
}

fn ports() -> impl Strategy<Value = Vec<Port>> {
    let port = prop_oneof![
        3 => select(PORTS.to_vec()).prop_map(Port::Number),
        1 => (7000u16..7004, 0u16..3).prop_map(|(p, n)| Port::Range(p, p + n + 1)),
        2 => word().prop_map(|w| Port::Named(format!("port-{w}"))),
    ];
    prop_oneof![2 => Just(Vec::new()), 1 => vec(port, 1..4)]
}

/// Ports of the side that sends: those that probes have are between 20,000 and 59,999.
fn source_ports() -> impl Strategy<Value = Vec<Port>> {
    let port = select(vec![
        Port::Range(1024, 65535),
        Port::Range(1, 30000),
        Port::Range(40000, 50000),
        Port::Number(7001),
        Port::Named("port-a".to_owned()),
    ]);
    prop_oneof![8 => Just(Vec::new()), 1 => vec(port, 1..3)]
}

fn nets(v4: bool) -> impl Strategy<Value = (Vec<IpNet>, Vec<IpNet>)> {
    (
        prop_oneof![4 => Just(Vec::new()), 1 => vec(net(v4), 1..4)],
        prop_oneof![8 => Just(Vec::new()), 1 => vec(net(v4), 1..3)],
    )
}

fn namespace_selector() -> impl Strategy<Value = NamespaceSelector> {
    prop_oneof![
        1 => Just(NamespaceSelector::Global),
        4 => selector().prop_map(NamespaceSelector::Labels),
    ]
}

fn side(v4: bool, ports: BoxedStrategy<Vec<Port>>) -> impl Strategy<Value = Side> {
    let selectors = (
        weighted(0.4, selector()),
        weighted(0.2, selector()),
        weighted(0.15, namespace_selector()),
        prop_oneof![8 => Just(Vec::new()), 1 => subsequence(vec![0, 1], 1..=2)],
        weighted(0.1, selector()),
    );
    (nets(v4), selectors, ports.clone(), prop_oneof![4 => Just(Vec::new()).boxed(), 1 => ports]).prop_map(
        |((nets, not_nets), selectors, ports, not_ports)| {
            let (selector, not_selector, namespace_selector, account_names, account_selector) = selectors;
            Side {
                nets,
                not_nets,
                selector,
                not_selector,
                namespace_selector,
                account_names,
                account_selector,
                service: None,
                ports,
                not_ports,
                pods_only: false,
            }
        },
    )
}

fn icmp(v4: bool) -> impl Strategy<Value = Option<Icmp>> {
    let types = if v4 { vec![8, 0, 3] } else { vec![128, 1, 135] };
    of((select(types), of(0u8..2)).prop_map(|(icmp_type, code)| Icmp { icmp_type, code }))
}

/// For what traffic a list of rules is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Ingress,
    Egress,
    /// A profile's rules neither pass nor name services.
    Profile,
}

/// A rule, now and then with a service at the far side.
fn rule(purpose: Purpose) -> impl Strategy<Value = Rule> {
    let service =
        if purpose == Purpose::Profile { Just(None).boxed() } else { weighted(0.1, 0usize..3).boxed() };
    (plain_rule(purpose != Purpose::Profile), service).prop_map(move |(mut rule, service)| {
        let ingress = purpose == Purpose::Ingress;
        let far = if ingress { &mut rule.source } else { &mut rule.destination };
        if service.is_some() {
            // Nothing else can be said of this side; but that a source has some port.
            let (ports, not_ports) = (std::mem::take(&mut far.ports), std::mem::take(&mut far.not_ports));
            *far = Side { service, ..Side::default() };
            if ingress {
                (far.ports, far.not_ports) = (ports, not_ports);
            }
        }
        rule
    })
}

/// A rule that the API takes: networks of one family, ports with protocols that have them, ICMP fields with ICMP.
fn plain_rule(pass: bool) -> impl Strategy<Value = Rule> {
    let action = if pass {
        select(vec![Action::Allow, Action::Allow, Action::Deny, Action::Deny, Action::Pass, Action::Log])
    } else {
        select(vec![Action::Allow, Action::Allow, Action::Deny, Action::Log])
    };
    (action, any::<bool>()).prop_flat_map(|(action, v4)| {
        let protocol = if v4 {
            vec![
                None,
                None,
                Some(Protocol::Tcp),
                Some(Protocol::Udp),
                Some(Protocol::Icmp),
                Some(Protocol::Number(6)),
                Some(Protocol::UdpLite),
            ]
        } else {
            vec![
                None,
                None,
                Some(Protocol::Tcp),
                Some(Protocol::Udp),
                Some(Protocol::Icmpv6),
                Some(Protocol::Number(17)),
                Some(Protocol::Number(136)),
            ]
        };
        let not_protocol = select(vec![
            None,
            None,
            None,
            None,
            None,
            Some(Protocol::Udp),
            Some(Protocol::Number(1)),
            Some(Protocol::UdpLite),
        ]);
        (
            Just(action),
            weighted(0.2, Just(if v4 { 4u8 } else { 6 })),
            select(protocol),
            not_protocol,
            (icmp(v4), icmp(v4)),
            side(v4, source_ports().boxed()),
            side(v4, ports().boxed()),
        )
            .prop_map(
                |(action, ip_version, protocol, not_protocol, (icmp, not_icmp), source, destination)| {
                    let mut r = Rule {
                        action,
                        ip_version,
                        protocol,
                        not_protocol,
                        icmp,
                        not_icmp,
                        source,
                        destination,
                    };
                    match protocol.map(Protocol::number) {
                        Some(6 | 17) => (r.icmp, r.not_icmp) = (None, None),
                        Some(1 | 58) => without_ports(&mut r),
                        Some(136) => {
                            (r.icmp, r.not_icmp) = (None, None);
                            without_ports(&mut r);
                        }
                        _ => {
                            (r.icmp, r.not_icmp) = (None, None);
                            with_names_of_ports_only(&mut r);
                        }
                    }
                    r
                },
            )
    })
}

/// A name stands for ports of any protocol; a number needs one.
fn with_names_of_ports_only(r: &mut Rule) {
    for side in [&mut r.source, &mut r.destination] {
        for ports in [&mut side.ports, &mut side.not_ports] {
            ports.retain(|p| matches!(p, Port::Named(_)));
        }
    }
}

fn without_ports(r: &mut Rule) {
    for side in [&mut r.source, &mut r.destination] {
        side.ports.clear();
        side.not_ports.clear();
    }
}

fn order() -> impl Strategy<Value = Option<f64>> {
    of(select(vec![1.0, 2.0, 2.5, -3.0]))
}

fn policy() -> impl Strategy<Value = Policy> {
    let rules = |purpose| of(vec(rule(purpose), 0..4));
    let purpose = prop_oneof![
        4 => Just(PolicyUse::Normal),
        2 => Just(PolicyUse::Forward),
        2 => Just(PolicyUse::PreDnat),
        1 => Just(PolicyUse::Untracked),
    ];
    let selectors = (selector(), weighted(0.2, selector()), weighted(0.2, selector()));
    let place = (of(0usize..2), weighted(0.1, Just(())), of(0usize..2), order());
    (place, selectors, rules(Purpose::Ingress), rules(Purpose::Egress), purpose).prop_map(
        |((namespace, staged, tier, order), selectors, mut ingress, mut egress, mut purpose)| {
            let (selector, namespace_selector, account_selector) = selectors;
            if namespace.is_some() {
                purpose = PolicyUse::Normal;
            }
            if purpose == PolicyUse::PreDnat {
                egress = None;
            }
            if ingress.is_none() && egress.is_none() {
                ingress = Some(Vec::new());
            }
            Policy {
                name: String::new(),
                namespace,
                staged: staged.is_some(),
                tier,
                order,
                selector,
                namespace_selector: namespace_selector.filter(|_| namespace.is_none()),
                account_selector,
                ingress,
                egress,
                purpose,
            }
        },
    )
}

fn profile() -> impl Strategy<Value = Profile> {
    let rules = || vec(rule(Purpose::Profile), 0..3);
    (labels(), rules(), rules()).prop_map(|(labels, ingress, egress)| Profile { labels, ingress, egress })
}

/// Labels of a pod. Now and then one pretends to be its namespace's or its account's; no selector may see it.
fn pod_labels() -> impl Strategy<Value = Labels> {
    let pretended = (select(vec!["pcns.", "pcsa."]), word(), word());
    (labels(), weighted(0.2, pretended)).prop_map(|(mut labels, pretended)| {
        labels.extend(pretended.map(|(prefix, name, value)| (format!("{prefix}{name}"), value)));
        labels
    })
}

fn pod() -> impl Strategy<Value = Pod> {
    let port = (word(), any::<bool>(), select(PORTS.to_vec())).prop_map(|(name, tcp, port)| NamedPort {
        name: format!("port-{name}"),
        tcp,
        port,
    });
    (0usize..2, 0usize..2, pod_labels(), vec(port, 0..3), weighted(0.3, 0usize..2)).prop_map(
        |(namespace, account, labels, ports, profile)| Pod { namespace, account, labels, ports, profile },
    )
}

fn remote() -> impl Strategy<Value = Remote> {
    (pod(), end()).prop_map(|(Pod { namespace, account, labels, ports, profile }, at)| Remote {
        namespace,
        account,
        labels,
        ports,
        profile,
        at,
    })
}

fn service() -> impl Strategy<Value = Service> {
    let port = (any::<bool>(), select(PORTS.to_vec()));
    (0usize..2, vec(end(), 0..3), vec(port, 0..3)).prop_map(|(namespace, backends, ports)| Service {
        namespace,
        backends,
        ports,
    })
}

fn set() -> impl Strategy<Value = Set> {
    (of(0usize..2), labels(), set_nets()).prop_map(|(namespace, labels, nets)| Set {
        namespace,
        labels,
        nets,
    })
}

fn tiers() -> impl Strategy<Value = Vec<Tier>> {
    (order(), any::<bool>(), order(), any::<bool>()).prop_map(|(o0, p0, o1, p1)| {
        [("one", o0, p0), ("two", o1, p1)]
            .map(|(name, order, pass)| Tier { name: name.to_owned(), order, pass })
            .to_vec()
    })
}

fn namespace() -> impl Strategy<Value = Namespace> {
    (labels(), weighted(0.7, Just(()))).prop_map(|(labels, open)| Namespace { labels, open: open.is_some() })
}

fn host() -> impl Strategy<Value = Host> {
    let interface = select(vec![Interface::Named, Interface::Addressed, Interface::Any]);
    (labels(), interface, of(0usize..2)).prop_map(|(labels, interface, profile)| Host {
        labels,
        interface,
        profile,
    })
}

/// A world.
pub fn world() -> impl Strategy<Value = World> {
    let accounts = || [labels(), labels()];
    let around = (
        [namespace(), namespace()],
        [accounts(), accounts()],
        vec(pod(), PODS),
        vec(profile(), 2),
        vec(set(), 0..4),
        prop_oneof![3 => Just(Vec::new()).boxed(), 1 => vec(remote(), 1..3).boxed()],
        vec(service(), 0..3),
    );
    let kubernetes = prop_oneof![1 => Just(Vec::new()).boxed(), 1 => vec(kubernetes::policy(), 1..3).boxed()];
    let cluster = prop_oneof![1 => Just(Vec::new()).boxed(), 1 => vec(kubernetes::cluster(), 1..3).boxed()];
    let policies = (tiers(), vec(policy(), 0..7), kubernetes, cluster);
    (around, policies, weighted(0.5, host())).prop_map(|(around, policies, host)| {
        let (namespaces, accounts, pods, profiles, sets, remotes, services) = around;
        let (tiers, mut policies, mut kubernetes, mut cluster) = policies;
        // Distinct names that are not in the order of their making, so that ties by name mean something.
        let name = |n: usize| format!("{}{n}", ["m", "a", "z"][n % 3]);
        policies.iter_mut().enumerate().for_each(|(n, p)| p.name = name(n));
        kubernetes.iter_mut().enumerate().for_each(|(n, p)| p.name = name(n));
        cluster.iter_mut().enumerate().for_each(|(n, p)| p.name = name(n));
        World {
            namespaces,
            accounts,
            pods,
            profiles,
            sets,
            remotes,
            services,
            tiers,
            policies,
            kubernetes,
            cluster,
            host,
        }
    })
}
