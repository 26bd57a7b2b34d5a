//! Random rules, each one that the API takes: networks of one family, ports with protocols that have them, ICMP fields
//! with ICMP.

use ipnet::IpNet;
use proptest::collection::vec;
use proptest::option::{of, weighted};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::theme::Theme;
use super::{net, port_name, selector};
use crate::world::{Action, Icmp, NamespaceSelector, PORTS, Port, Protocol, Rule, Side};

/// Now and then a list that is not empty.
fn sometimes<T: Clone + std::fmt::Debug + 'static>(
    often: f64,
    list: impl Strategy<Value = Vec<T>> + 'static,
) -> BoxedStrategy<Vec<T>> {
    weighted(often, list).prop_map(Option::unwrap_or_default).boxed()
}

fn named_port() -> impl Strategy<Value = Port> {
    port_name().prop_map(Port::Named)
}

fn ports(theme: &Theme) -> BoxedStrategy<Vec<Port>> {
    let number = prop_oneof![
        3 => select(PORTS.to_vec()).prop_map(Port::Number),
        1 => (7000u16..7004, 0u16..4).prop_map(|(p, n)| Port::Range(p, p + n)),
    ];
    vec(either(theme.names, named_port(), number), 1..4).boxed()
}

/// Ports of the side that sends: those that probes have are between 20,000 and 59,999.
fn source_ports(theme: &Theme) -> BoxedStrategy<Vec<Port>> {
    let ranges = [(1024, 65535), (1, 30000), (40000, 60000), (7001, 7002)];
    let range = select(ranges.to_vec()).prop_map(|(first, last)| Port::Range(first, last));
    vec(either(theme.names, named_port(), range), 1..3).boxed()
}

/// The first so often, else the second.
fn either<T: std::fmt::Debug>(
    often: f64,
    first: impl Strategy<Value = T> + 'static,
    second: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = T> {
    (any::<prop::sample::Index>(), first, second).prop_map(move |(n, first, second)| {
        if (n.index(100) as f64) < often * 100.0 { first } else { second }
    })
}

fn namespace_selector() -> impl Strategy<Value = NamespaceSelector> {
    prop_oneof![
        1 => Just(NamespaceSelector::Global),
        4 => selector().prop_map(NamespaceSelector::Labels),
    ]
}

fn nets(v4: bool) -> impl Strategy<Value = Vec<IpNet>> {
    vec(net(v4), 1..4)
}

/// How often a side of a rule says each, above 0 and below 1.
#[derive(Clone, Copy, Debug)]
struct Odds {
    selector: f64,
    not_selector: f64,
    nets: f64,
    not_nets: f64,
    namespaces: f64,
    accounts: f64,
    account_labels: f64,
    ports: f64,
    not_ports: f64,
}

/// Places of some in [`Odds::exactly`].
const SELECTOR: usize = 0;
const NOT_SELECTOR: usize = 1;
const PORTS_OF_SIDE: usize = 7;
const NOT_PORTS: usize = 8;

const NEVER: f64 = 0.001;
const ALWAYS: f64 = 0.999;

impl Odds {
    /// By what the world is rich in. At the side where the policy's own endpoint is a rule seldom says who that is.
    fn of(theme: &Theme, near: bool, ports: f64) -> Self {
        let who = |share: f64| if near { share / 5.0 } else { share };
        let not = theme.negations;
        Self {
            selector: who(theme.selectors),
            not_selector: who(not),
            nets: who(theme.nets),
            not_nets: who(not / 2.0),
            namespaces: who(theme.membership),
            accounts: who(theme.membership / 2.0),
            account_labels: who(theme.membership / 2.0),
            ports,
            not_ports: ports.min(not),
        }
    }

    const NOTHING: Self = Self {
        selector: NEVER,
        not_selector: NEVER,
        nets: NEVER,
        not_nets: NEVER,
        namespaces: NEVER,
        accounts: NEVER,
        account_labels: NEVER,
        ports: NEVER,
        not_ports: NEVER,
    };

    /// Says these things, of nine, and nothing else.
    fn exactly(things: &[usize]) -> Self {
        let mut odds = Self::NOTHING;
        let all = [
            &mut odds.selector,
            &mut odds.not_selector,
            &mut odds.nets,
            &mut odds.not_nets,
            &mut odds.namespaces,
            &mut odds.accounts,
            &mut odds.account_labels,
            &mut odds.ports,
            &mut odds.not_ports,
        ];
        for thing in things {
            *all[*thing] = ALWAYS;
        }
        odds
    }
}

fn side(odds: Odds, v4: bool, ports: BoxedStrategy<Vec<Port>>) -> impl Strategy<Value = Side> + use<> {
    let selectors = (
        weighted(odds.selector, selector()),
        weighted(odds.not_selector, selector()),
        weighted(odds.namespaces, namespace_selector()),
        sometimes(odds.accounts, subsequence(vec![0, 1], 1..=2)),
        weighted(odds.account_labels, selector()),
    );
    let places = (sometimes(odds.nets, nets(v4)), sometimes(odds.not_nets, nets(v4)));
    let ports = (sometimes(odds.ports, ports.clone()), sometimes(odds.not_ports, ports));
    (places, selectors, ports).prop_map(|((nets, not_nets), selectors, (ports, not_ports))| {
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
    })
}

fn icmp(v4: bool, often: f64) -> impl Strategy<Value = Option<Icmp>> {
    let types = if v4 { vec![8, 8, 0, 3] } else { vec![128, 128, 1, 135] };
    weighted(often, (select(types), of(0u8..2)).prop_map(|(kind, code)| Icmp { icmp_type: Some(kind), code }))
}

/// The same, or every message.
fn messages(v4: bool, often: f64) -> impl Strategy<Value = Option<Icmp>> {
    prop_oneof![9 => icmp(v4, often), 1 => Just(Some(Icmp { icmp_type: None, code: None }))]
}

/// For what traffic a list of rules is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Ingress,
    Egress,
    /// A profile's rules neither pass nor name services.
    Profile,
}

/// A rule, now and then with a service at the far side.
pub fn rule(theme: &Theme, purpose: Purpose) -> impl Strategy<Value = Rule> + use<> {
    let service = if purpose == Purpose::Profile { 0.0 } else { theme.services };
    let service = if service > 0.0 {
        weighted(service, select(vec![0, 0, 0, 1, 1, 2])).boxed()
    } else {
        Just(None).boxed()
    };
    let http = weighted(0.2, Just(()));
    (plain_rule(theme, purpose), service, http).prop_map(move |(mut rule, service, http)| {
        let ingress = purpose == Purpose::Ingress;
        let tcp = rule.protocol.is_none_or(|p| p.number() == 6);
        rule.http = http.is_some() && ingress && tcp && rule.action == Action::Allow;
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

fn protocol(theme: &Theme, v4: bool) -> BoxedStrategy<Option<Protocol>> {
    let own = if v4 { Protocol::Icmp } else { Protocol::Icmpv6 };
    let numbers = if v4 { [6, 17, 1, 132] } else { [17, 136, 58, 6] };
    let with_ports = weighted(
        0.7,
        prop_oneof![
            2 => Just(Protocol::Tcp),
            2 => Just(Protocol::Udp),
            1 => Just(Protocol::UdpLite),
            1 => Just(Protocol::Sctp),
            1 => select(numbers.to_vec()).prop_map(Protocol::Number),
            1 => select(numbers.to_vec()).prop_map(Protocol::Digits),
        ],
    );
    either(theme.icmp, Just(Some(own)), with_ports).boxed()
}

fn action(purpose: Purpose) -> impl Strategy<Value = Action> {
    let pass = u32::from(purpose != Purpose::Profile);
    prop_oneof![
        2 => Just(Action::Allow),
        2 => Just(Action::Deny),
        pass => Just(Action::Pass),
        1 => Just(Action::Log),
    ]
}

/// One half says whatever the world is rich in, the other up to three things of one side: more would hardly ever
/// match.
fn plain_rule(theme: &Theme, purpose: Purpose) -> BoxedStrategy<Rule> {
    let theme = *theme;
    let full = (action(purpose), any::<bool>()).prop_flat_map(move |(action, v4)| {
        let (near_source, near_destination) = (purpose != Purpose::Ingress, purpose != Purpose::Egress);
        let others = vec![
            Protocol::Tcp,
            Protocol::Udp,
            Protocol::Number(1),
            Protocol::Digits(17),
            Protocol::UdpLite,
            Protocol::Sctp,
        ];
        let others = select(others);
        (
            Just(action),
            weighted(0.2, Just(if v4 { 4u8 } else { 6 })),
            protocol(&theme, v4),
            weighted(theme.negations / 2.0, others),
            (messages(v4, 0.5), icmp(v4, 0.1 + theme.negations)),
            side(Odds::of(&theme, near_source, theme.ports / 4.0), v4, source_ports(&theme)),
            side(Odds::of(&theme, near_destination, theme.ports), v4, ports(&theme)),
        )
            .prop_map(made)
    });
    let said = subsequence((0..9).collect::<Vec<usize>>(), 0..=3);
    let some = few(theme, purpose, said, any::<bool>());
    // Names of ports mean those of endpoints that the side selects: what else a side says matters most there.
    let names = Theme { names: 0.7, ..theme };
    let besides = subsequence(vec![SELECTOR, NOT_SELECTOR, NOT_PORTS], 0..=2);
    let besides = besides.prop_map(|things| things.into_iter().chain([PORTS_OF_SIDE]).collect::<Vec<_>>());
    let by_name = few(names, purpose, besides, Just(false));
    let often = if theme.names > 0.4 { 2 } else { 1 };
    prop_oneof![4 => full.boxed(), 4 => some, often => by_name].boxed()
}

/// A rule that says these of nine things about one side, the source or the destination, and little else.
fn few(
    theme: Theme,
    purpose: Purpose,
    things: impl Strategy<Value = Vec<usize>> + 'static,
    of_source: impl Strategy<Value = bool> + 'static,
) -> BoxedStrategy<Rule> {
    let what = (action(purpose), any::<bool>(), things, of_source);
    let rule = what.prop_flat_map(move |(action, v4, things, of_source)| {
        let (says, silent) = (Odds::exactly(&things), Odds::NOTHING);
        let (source, destination) = if of_source { (says, silent) } else { (silent, says) };
        // Only with a protocol may ports have numbers.
        let transports = vec![Protocol::Tcp, Protocol::Tcp, Protocol::Udp, Protocol::Udp, Protocol::Sctp];
        let with_ports = weighted(0.6, select(transports));
        let echo = Just(Some(if v4 { Protocol::Icmp } else { Protocol::Icmpv6 }));
        let protocol = either(theme.icmp / 2.0, echo, with_ports);
        let others = weighted(0.1, select(vec![Protocol::Tcp, Protocol::Udp]));
        let icmp = (messages(v4, 0.4), icmp(v4, 0.4));
        let source = side(source, v4, source_ports(&theme));
        (Just(action), Just(None), protocol, others, icmp, source, side(destination, v4, ports(&theme)))
            .prop_map(made)
    });
    rule.boxed()
}

type Parts =
    (Action, Option<u8>, Option<Protocol>, Option<Protocol>, (Option<Icmp>, Option<Icmp>), Side, Side);

fn made(parts: Parts) -> Rule {
    let (action, ip_version, protocol, not_protocol, (icmp, not_icmp), source, destination) = parts;
    let mut rule =
        Rule { action, ip_version, protocol, not_protocol, icmp, not_icmp, http: false, source, destination };
    fit(&mut rule);
    rule
}

/// Takes away what the rule's protocol does not have.
fn fit(r: &mut Rule) {
    match r.protocol.map(Protocol::number) {
        Some(6 | 17 | 132) => (r.icmp, r.not_icmp) = (None, None),
        Some(1 | 58) => without_ports(r),
        Some(136) => {
            (r.icmp, r.not_icmp) = (None, None);
            without_ports(r);
        }
        _ => {
            (r.icmp, r.not_icmp) = (None, None);
            with_names_of_ports_only(r);
        }
    }
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
