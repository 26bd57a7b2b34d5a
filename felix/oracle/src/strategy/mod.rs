//! Random worlds. Names, labels and networks are few, so that things meet often.

mod kubernetes;
mod rule;
mod theme;

use ipnet::IpNet;
use proptest::collection::{btree_map, vec};
use proptest::option::{of, weighted};
use proptest::prelude::*;
use proptest::sample::select;

use self::rule::{Purpose, rule};
use self::theme::{Theme, theme};
use crate::world::{
    DEFAULT_ALLOW, End, Host, Interface, Labels, Membership, NamedPort, Namespace, PODS, PORTS, Pod, Policy,
    PolicyUse, Profile, Profiles, Remote, SOURCE_PORT, Selector, Service, Set, Tier, Transport, World,
};

/// A label's name, or part of one's value.
fn word() -> impl Strategy<Value = String> {
    select(vec!["a", "b", "ab"]).prop_map(str::to_owned)
}

/// A label's name, of those that most selectors ask for.
fn key() -> impl Strategy<Value = String> {
    select(vec!["a", "a", "a", "b", "b", "ab"]).prop_map(str::to_owned)
}

/// A label's value, of those that most have.
fn value() -> impl Strategy<Value = String> {
    select(vec!["a", "a", "ab", "ab", "b"]).prop_map(str::to_owned)
}

fn labels() -> impl Strategy<Value = Labels> {
    btree_map(key(), value(), 0..4)
}

fn selector() -> impl Strategy<Value = Selector> {
    let leaf = prop_oneof![
        4 => (key(), value()).prop_map(|(k, v)| Selector::Is(k, v)),
        1 => (key(), value()).prop_map(|(k, v)| Selector::IsNot(k, v)),
        2 => key().prop_map(Selector::Has),
        1 => key().prop_map(Selector::HasNot),
        1 => (key(), vec(value(), 1..3)).prop_map(|(k, v)| Selector::In(k, v)),
        1 => (key(), vec(value(), 1..3)).prop_map(|(k, v)| Selector::NotIn(k, v)),
        1 => (key(), word()).prop_map(|(k, v)| Selector::StartsWith(k, v)),
        1 => (key(), word()).prop_map(|(k, v)| Selector::EndsWith(k, v)),
        1 => (key(), word()).prop_map(|(k, v)| Selector::Contains(k, v)),
        3 => Just(Selector::All),
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

/// A network around one of the ends, now and then written by an address within it.
fn net(v4: bool) -> impl Strategy<Value = IpNet> {
    let lengths = if v4 { vec![0, 8, 16, 30, 31, 32] } else { vec![0, 16, 64, 126, 127, 128] };
    (end(), select(lengths), weighted(0.2, Just(()))).prop_map(move |(end, len, within)| {
        let net = IpNet::new(end.address(v4), len).expect("a length of the family");
        if within.is_some() { net } else { net.trunc() }
    })
}

/// Networks of sets: of both families, now and then everything.
fn set_nets() -> impl Strategy<Value = Vec<IpNet>> {
    vec(any::<bool>().prop_flat_map(net), 0..4)
}

fn order() -> impl Strategy<Value = Option<f64>> {
    of(select(vec![1.0, 2.5, -3.0]))
}

fn policy(theme: &Theme) -> impl Strategy<Value = Policy> + use<> {
    let rules = |purpose| weighted(0.6, vec(rule(theme, purpose), 0..5));
    let (hosts, others) = ((theme.of_hosts * 100.0) as u32, 100 - (theme.of_hosts * 100.0) as u32);
    let purpose = prop_oneof![
        2 * others => Just(PolicyUse::Normal),
        hosts => Just(PolicyUse::Forward),
        hosts => Just(PolicyUse::PreDnat),
        hosts => Just(PolicyUse::Untracked),
    ];
    let member = || weighted(0.05 + theme.membership / 2.0, selector());
    let mine = prop_oneof![1 => Just(Selector::All).boxed(), 1 => selector().boxed()];
    let selectors = (mine, member(), member());
    let place = (
        weighted(0.1, Just(())),
        weighted(theme.namespaced, 0usize..2),
        weighted(theme.staged, Just(())),
        weighted(theme.tiers, 0usize..2),
        order(),
        weighted(0.7, Just(())),
    );
    (place, selectors, rules(Purpose::Ingress), rules(Purpose::Egress), purpose).prop_map(
        |((hint, namespace, staged, tier, order, types), selectors, mut ingress, mut egress, mut purpose)| {
            let (selector, namespace_selector, account_selector) = selectors;
            if namespace.is_some() {
                purpose = PolicyUse::Normal;
            }
            if purpose == PolicyUse::PreDnat {
                egress = None;
            }
            if types.is_some() && ingress.is_none() && egress.is_none() {
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
                types_given: types.is_some(),
                hint: hint.is_some(),
                ingress,
                egress,
                purpose,
            }
        },
    )
}

fn profile(theme: &Theme) -> impl Strategy<Value = Profile> + use<> {
    let rules = || vec(rule(theme, Purpose::Profile), 0..3);
    (labels(), rules(), rules()).prop_map(|(labels, ingress, egress)| Profile { labels, ingress, egress })
}

/// Which profiles an endpoint names, of two that are there, one that is not and the one that allows everything.
fn profiles() -> impl Strategy<Value = Profiles> {
    let one = prop_oneof![6 => Just(vec![0]), 6 => Just(vec![1])];
    let own = prop_oneof![
        8 => Just(Vec::new()).boxed(),
        4 => one.boxed(),
        4 => select(vec![vec![0, 1], vec![1, 0]]).boxed(),
        1 => select(vec![vec![0, 2], vec![2, 1], vec![2]]).boxed(),
        1 => select(vec![vec![DEFAULT_ALLOW], vec![0, DEFAULT_ALLOW]]).boxed(),
    ];
    let membership = prop_oneof![
        6 => Just(Membership::BehindOwn),
        3 => Just(Membership::BeforeOwn),
        1 => Just(Membership::Nowhere),
    ];
    (own, membership).prop_map(|(own, membership)| Profiles { own, membership })
}

/// Labels of a pod. Now and then one pretends to be its namespace's or its account's; no selector may see it.
fn pod_labels() -> impl Strategy<Value = Labels> {
    let pretended = (select(vec!["pcns.", "pcsa."]), word(), word());
    (labels(), weighted(0.2, pretended)).prop_map(|(mut labels, pretended)| {
        labels.extend(pretended.map(|(prefix, name, value)| (format!("{prefix}{name}"), value)));
        labels
    })
}

fn port_name() -> impl Strategy<Value = String> {
    select(vec!["a", "a", "b"]).prop_map(|w| format!("port-{w}"))
}

/// A port that a pod gives a name: one on which it answers, or one from which packets come.
fn named_port() -> impl Strategy<Value = NamedPort> {
    let port = prop_oneof![6 => select(PORTS.to_vec()), 1 => Just(SOURCE_PORT)];
    (port_name(), transport(), port).prop_map(|(name, transport, port)| NamedPort { name, transport, port })
}

fn transport() -> impl Strategy<Value = Transport> {
    select(vec![Transport::Tcp, Transport::Tcp, Transport::Udp, Transport::Udp, Transport::Sctp])
}

fn pod() -> impl Strategy<Value = Pod> {
    (0usize..2, 0usize..2, pod_labels(), vec(named_port(), 0..5), profiles()).prop_map(
        |(namespace, account, labels, ports, profiles)| {
            let also = None;
            Pod { namespace, account, labels, ports, profiles, also }
        },
    )
}

/// The node's pods. Now and then one has another's address too.
fn pods() -> impl Strategy<Value = Vec<Pod>> {
    (vec(pod(), PODS), weighted(0.4, (0..PODS, 0..PODS))).prop_map(|(mut pods, shared)| {
        if let Some((one, other)) = shared.filter(|(one, other)| one != other) {
            pods[one].also = Some(other);
        }
        pods
    })
}

fn remote() -> impl Strategy<Value = Remote> {
    (pod(), vec(end(), 0..3)).prop_map(|(pod, at)| Remote { pod, at })
}

fn service() -> impl Strategy<Value = Service> {
    let port = (transport(), select(PORTS.to_vec()));
    let manner = (weighted(0.2, Just(())), any::<bool>());
    (0usize..2, vec(end(), 0..4), vec(port, 0..4), manner).prop_map(
        |(namespace, backends, ports, (unready, apart))| Service {
            namespace,
            backends,
            ports,
            unready: unready.is_some(),
            apart,
        },
    )
}

fn set() -> impl Strategy<Value = Set> {
    (of(0usize..2), labels(), set_nets()).prop_map(|(namespace, labels, nets)| Set {
        namespace,
        labels,
        nets,
    })
}

fn tiers() -> impl Strategy<Value = Vec<Tier>> {
    let pass = || weighted(0.7, Just(())).prop_map(|p| p.is_some());
    let tier = |name: &'static str| {
        let missing = weighted(0.1, Just(())).prop_map(|m| m.is_some());
        (order(), pass(), missing).prop_map(move |(order, pass, missing)| Tier {
            name: name.to_owned(),
            order,
            pass,
            missing,
        })
    };
    [tier("one"), tier("two")].prop_map(Vec::from)
}

fn namespace() -> impl Strategy<Value = Namespace> {
    (labels(), weighted(0.7, Just(()))).prop_map(|(labels, open)| Namespace { labels, open: open.is_some() })
}

fn host(interfaces: &'static [Interface]) -> impl Strategy<Value = Host> {
    let addresses = weighted(0.8, Just(())).prop_map(|a| a.is_some());
    (labels(), select(interfaces), addresses, vec(named_port(), 0..3), profiles()).prop_map(
        |(labels, interface, addresses, ports, profiles)| Host {
            labels,
            interface,
            addresses: addresses || interface == Interface::Addressed,
            ports,
            profiles,
        },
    )
}

/// None, one, a wildcard endpoint besides that of an interface, or two of any sort.
fn hosts(theme: &Theme) -> impl Strategy<Value = (Option<Host>, Option<Host>)> + use<> {
    let none = if theme.of_hosts > 0.1 { 1 } else { 12 };
    let one = host(&[Interface::Named, Interface::Addressed]);
    let any = || host(&[Interface::Any]);
    let either = || host(&[Interface::Named, Interface::Addressed, Interface::Any]);
    prop_oneof![
        none => Just((None, None)),
        2 => one.prop_map(|h| (Some(h), None)),
        1 => any().prop_map(|h| (Some(h), None)),
        1 => (host(&[Interface::Named]), any()).prop_map(|(one, any)| (Some(one), Some(any))),
        1 => (either(), either()).prop_map(|(one, other)| (Some(one), Some(other))),
    ]
}

/// A world. What is in boxes here would fill a thread's stack.
pub fn world() -> BoxedStrategy<World> {
    theme().prop_flat_map(|theme| world_of(&theme).boxed()).boxed()
}

fn world_of(theme: &Theme) -> impl Strategy<Value = World> + use<> {
    let accounts = || [labels(), labels()];
    let around = (
        [namespace(), namespace()],
        [accounts(), accounts()],
        pods(),
        vec(profile(theme), 2),
        vec(set(), 0..4),
        prop_oneof![2 => Just(Vec::new()).boxed(), 1 => vec(remote(), 1..3).boxed()],
        vec(service(), 1..3),
    );
    let kubernetes = prop_oneof![3 => Just(Vec::new()).boxed(), 2 => vec(kubernetes::policy(), 1..4).boxed()];
    let cluster = prop_oneof![2 => Just(Vec::new()).boxed(), 1 => vec(kubernetes::cluster(), 1..5).boxed()];
    let policies = (tiers(), vec(policy(theme), 2..9), kubernetes, cluster);
    let outside = weighted(0.15, host(&[Interface::Named]));
    (around, policies, hosts(theme), outside).prop_map(|(around, policies, (host, beside), outside)| {
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
            beside,
            outside,
        }
    })
}
