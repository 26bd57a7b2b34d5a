//! The worlds are worth judging: every feature of policy decides about packets in enough of them.
//!
//! For each feature stands here what a world is without it. Where the documentation's verdict about a packet is another
//! one then, the feature decided about that packet; a mistake in it would be seen. A change of the generator's weights
//! cannot make a feature vanish unseen.

#[allow(dead_code)] // Each test uses its part.
mod judge;

use felix_oracle::naive::Evaluator;
use felix_oracle::world::{
    Action, ClusterPort, DEFAULT_ALLOW, Host, Interface, KubernetesPeer, Labels, Membership,
    NamespaceSelector, Packet, Policy, PolicyUse, Port, Profiles, Protocol, Rule, SOURCE_PORT, Side, Traffic,
    World,
};
use judge::{packets, world_of};
use proptest::strategy::ValueTree as _;

/// Worlds that are looked at. Those of the other test are 2,500, with four times as many packets.
const WORLDS: u64 = 600;

/// Takes a feature out of a world.
type Without = fn(&mut World);

fn verdicts(world: &World, packets: &[Packet]) -> Vec<bool> {
    let naive = Evaluator::new(world);
    packets.iter().map(|p| naive.passes(p)).collect()
}

fn policies(world: &mut World, change: impl FnMut(&mut Policy)) {
    world.policies.iter_mut().for_each(change);
}

fn rules(world: &mut World, change: impl FnMut(&mut Rule)) {
    let of_policies =
        world.policies.iter_mut().flat_map(|p| p.ingress.iter_mut().chain(&mut p.egress).flatten());
    let of_profiles = world.profiles.iter_mut().flat_map(|p| p.ingress.iter_mut().chain(&mut p.egress));
    of_policies.chain(of_profiles).for_each(change);
}

fn sides(world: &mut World, mut change: impl FnMut(&mut Side)) {
    rules(world, |r| {
        change(&mut r.source);
        change(&mut r.destination);
    });
}

fn named(p: &Port) -> bool {
    matches!(p, Port::Named(_))
}

fn purpose(world: &mut World, of: PolicyUse) {
    policies(world, |p| {
        if p.purpose == of {
            p.purpose = PolicyUse::Normal;
        }
    });
}

fn membership(world: &mut World, change: impl Fn(&mut Profiles)) {
    world.pods.iter_mut().for_each(|p| change(&mut p.profiles));
}

fn protocols(world: &mut World, is: impl Fn(Protocol) -> bool) {
    let keep = |p: &mut Option<Protocol>| *p = p.filter(|p| !is(*p));
    rules(world, |r| {
        keep(&mut r.protocol);
        keep(&mut r.not_protocol);
    });
}

fn hosts(world: &mut World, change: impl FnMut(&mut Host)) {
    world.host.iter_mut().chain(&mut world.beside).chain(&mut world.outside).for_each(change);
}

fn endpoint_profiles(world: &mut World, change: impl Fn(&mut Vec<usize>)) {
    let pods = world.pods.iter_mut().chain(world.remotes.iter_mut().map(|r| &mut r.pod));
    pods.for_each(|p| change(&mut p.profiles.own));
    hosts(world, |h| change(&mut h.profiles.own));
}

/// What stands in rules of Calico's policies and of profiles.
const RULES: [(&str, Without); 25] = [
    ("Pass", |w| rules(w, |r| r.action = if r.action == Action::Pass { Action::Deny } else { r.action })),
    ("Log", |w| rules(w, |r| r.action = if r.action == Action::Log { Action::Allow } else { r.action })),
    ("ipVersion", |w| rules(w, |r| r.ip_version = None)),
    ("HTTP", |w| rules(w, |r| r.http = false)),
    ("SCTP", |w| protocols(w, |p| p == Protocol::Sctp)),
    ("UDPLite", |w| protocols(w, |p| p == Protocol::UdpLite)),
    ("protocols' numbers as text", |w| protocols(w, |p| matches!(p, Protocol::Digits(_)))),
    ("notProtocol", |w| rules(w, |r| r.not_protocol = None)),
    ("icmp", |w| rules(w, |r| r.icmp = None)),
    ("notICMP", |w| rules(w, |r| r.not_icmp = None)),
    ("selector", |w| sides(w, |s| s.selector = None)),
    ("notSelector", |w| sides(w, |s| s.not_selector = None)),
    ("namespaceSelector", |w| sides(w, |s| s.namespace_selector = None)),
    ("global()", |w| {
        sides(w, |s| {
            if s.namespace_selector == Some(NamespaceSelector::Global) {
                s.namespace_selector = None;
            }
        });
    }),
    ("names of service accounts", |w| sides(w, |s| s.account_names.clear())),
    ("selector of service accounts", |w| sides(w, |s| s.account_selector = None)),
    ("nets", |w| sides(w, |s| s.nets.clear())),
    ("notNets", |w| sides(w, |s| s.not_nets.clear())),
    ("ports", |w| sides(w, |s| s.ports.clear())),
    ("source ports", |w| rules(w, |r| r.source.ports.clear())),
    ("named source ports", |w| rules(w, |r| r.source.ports.retain(|p| !named(p)))),
    ("named ports", |w| rules(w, |r| r.destination.ports.retain(|p| !named(p)))),
    ("notPorts", |w| sides(w, |s| s.not_ports.clear())),
    ("named notPorts", |w| sides(w, |s| s.not_ports.retain(|p| !named(p)))),
    ("services", |w| sides(w, |s| s.service = None)),
];

/// Features of rules that meet.
const PAIRS: [(&str, Without); 9] = [
    ("selector beside named ports", |w| {
        sides(w, |s| s.selector = s.selector.take().filter(|_| !s.ports.iter().any(named)));
    }),
    ("notSelector beside named ports", |w| {
        sides(w, |s| s.not_selector = s.not_selector.take().filter(|_| !s.ports.iter().any(named)));
    }),
    ("selector beside named notPorts", |w| {
        sides(w, |s| s.selector = s.selector.take().filter(|_| !s.not_ports.iter().any(named)));
    }),
    ("named ports beside numbers", |w| {
        sides(w, |s| {
            if s.ports.iter().any(|p| !named(p)) {
                s.ports.retain(|p| !named(p));
            }
        });
    }),
    ("named ports without a protocol", |w| {
        rules(w, |r| {
            if r.protocol.is_none() {
                r.destination.ports.clear();
            }
        });
    }),
    ("selector beside notSelector", |w| {
        sides(w, |s| s.not_selector = s.not_selector.take().filter(|_| s.selector.is_none()));
    }),
    ("nets beside notNets", |w| {
        sides(w, |s| {
            if !s.nets.is_empty() {
                s.not_nets.clear();
            }
        });
    }),
    ("notSelector alone in a namespace's policy", |w| {
        policies(w, |p| {
            if p.namespace.is_some() {
                p.namespace = None;
            }
        });
    }),
    ("namespaces beside accounts", |w| {
        sides(w, |s| {
            if s.namespace_selector.is_some() {
                (s.account_selector, s.account_names) = (None, Vec::new());
            }
        });
    }),
];

/// What stands in policies, tiers and endpoints.
const OBJECTS: [(&str, Without); 34] = [
    ("namespaceSelector of policies", |w| policies(w, |p| p.namespace_selector = None)),
    ("serviceAccountSelector of policies", |w| policies(w, |p| p.account_selector = None)),
    ("types left out", |w| {
        policies(w, |p| {
            if !std::mem::replace(&mut p.types_given, true) {
                (p.ingress, p.egress) = (Some(p.ingress.take().unwrap_or_default()), p.egress.take());
            }
        });
    }),
    ("order of policies", |w| policies(w, |p| p.order = None)),
    ("names of policies", |w| policies(w, |p| p.name = p.name.chars().rev().collect())),
    ("staged policies", |w| policies(w, |p| p.staged = false)),
    ("policies on forward", |w| purpose(w, PolicyUse::Forward)),
    ("policies before translation", |w| purpose(w, PolicyUse::PreDnat)),
    ("untracked policies", |w| purpose(w, PolicyUse::Untracked)),
    ("order of tiers", |w| w.tiers.iter_mut().for_each(|t| t.order = None)),
    ("tiers that are not there", |w| w.tiers.iter_mut().for_each(|t| t.missing = false)),
    ("tiers that pass", |w| w.tiers.iter_mut().for_each(|t| t.pass = false)),
    ("labels of profiles", |w| w.profiles.iter_mut().for_each(|p| p.labels = Labels::new())),
    ("order of profiles", |w| endpoint_profiles(w, |own| own.reverse())),
    ("profiles that are not there", |w| endpoint_profiles(w, |own| own.retain(|p| *p != 2))),
    ("the profile that allows everything", |w| {
        endpoint_profiles(w, |own| own.retain(|p| *p != DEFAULT_ALLOW));
    }),
    ("profiles before their namespace's", |w| {
        membership(w, |p| {
            if p.membership == Membership::BehindOwn {
                p.membership = Membership::BeforeOwn;
            }
        });
    }),
    ("pods without their namespace's profile", |w| {
        membership(w, |p| {
            if p.membership == Membership::Nowhere {
                p.membership = Membership::BehindOwn;
            }
        });
    }),
    ("pods without any profile", |w| {
        membership(w, |p| {
            if p.membership == Membership::Nowhere && p.own.is_empty() {
                p.membership = Membership::BehindOwn;
            }
        });
    }),
    ("two pods with one address", |w| w.pods.iter_mut().for_each(|p| p.also = None)),
    ("network sets", |w| w.sets.clear()),
    ("sets of namespaces", |w| w.sets.retain(|s| s.namespace.is_none())),
    ("endpoints elsewhere", |w| w.remotes.clear()),
    ("several slices' backends", |w| {
        w.services.iter_mut().filter(|s| s.apart).for_each(|s| s.backends.truncate(1));
    }),
    ("backends that are not ready", |w| {
        w.services.iter_mut().filter(|s| s.unready).for_each(|s| s.backends.clear());
    }),
    ("one name for several ports", |w| {
        for pod in &mut w.pods {
            let mut seen = std::collections::BTreeSet::new();
            pod.ports.retain(|p| seen.insert(p.name.clone()));
        }
    }),
    ("wildcard endpoints", |w| {
        w.host
            .iter_mut()
            .filter(|h| h.interface == Interface::Any)
            .for_each(|h| h.interface = Interface::Named);
    }),
    ("a wildcard endpoint beside another", |w| {
        w.beside = w.beside.take().filter(|h| h.interface != Interface::Any);
    }),
    ("which of an interface's endpoints has it", |w| {
        if w.hosts().iter().all(|(_, h)| h.interface != Interface::Any) && w.beside.is_some() {
            std::mem::swap(&mut w.host, &mut w.beside);
        }
    }),
    ("labels of host endpoints", |w| {
        hosts(w, |h| h.labels = Labels::new());
    }),
    ("named ports of host endpoints", |w| hosts(w, |h| h.ports.clear())),
    ("host endpoints that do not say their addresses", |w| hosts(w, |h| h.addresses = true)),
    ("host endpoints elsewhere", |w| w.outside = None),
    ("closed namespaces", |w| w.namespaces.iter_mut().for_each(|n| n.open = true)),
];

/// What stands in Kubernetes' own kinds.
const KUBERNETES: [(&str, Without); 8] = [
    ("policies of Kubernetes", |w| w.kubernetes.clear()),
    ("exceptions of blocks", |w| {
        let rules = w.kubernetes.iter_mut().flat_map(|p| p.ingress.iter_mut().chain(&mut p.egress).flatten());
        for peer in rules.flat_map(|r| &mut r.peers) {
            if let KubernetesPeer::Block(_, except) = peer {
                except.clear();
            }
        }
    }),
    ("ports of Kubernetes' policies", |w| {
        let rules = w.kubernetes.iter_mut().flat_map(|p| p.ingress.iter_mut().chain(&mut p.egress).flatten());
        rules.for_each(|r| r.ports.clear());
    }),
    ("named ports of Kubernetes' policies", |w| {
        let rules = w.kubernetes.iter_mut().flat_map(|p| p.ingress.iter_mut().chain(&mut p.egress).flatten());
        rules.for_each(|r| r.ports.retain(|p| !p.port.as_ref().is_some_and(named)));
    }),
    ("policies of clusters", |w| w.cluster.clear()),
    ("tiers of clusters' policies", |w| w.cluster.iter_mut().for_each(|p| p.admin = !p.admin)),
    ("priorities of clusters' policies", |w| w.cluster.iter_mut().for_each(|p| p.priority = -p.priority)),
    ("named ports of clusters' policies", |w| {
        let rules = w.cluster.iter_mut().flat_map(|p| p.ingress.iter_mut().chain(&mut p.egress));
        rules.for_each(|r| r.ports.retain(|p| !matches!(p, ClusterPort::Named(_))));
    }),
];

#[test]
fn worlds_are_worth_judging() {
    let features: Vec<&(&str, Without)> =
        RULES.iter().chain(&PAIRS).chain(&OBJECTS).chain(&KUBERNETES).collect();
    // Of one family and to a port of each protocol: what decides about others is not another feature.
    let told_apart = |p: &Packet| p.v4 && !matches!(p.traffic, Traffic::Tcp(7003) | Traffic::Udp(7003));
    let packets: Vec<Packet> = packets(|| SOURCE_PORT).into_iter().filter(told_apart).collect();
    let mut decided = vec![0; features.len()];
    let (mut open, mut closed) = (0, 0);
    for seed in 1..=WORLDS {
        let world = world_of(seed).current();
        let whole = verdicts(&world, &packets);
        let passed = whole.iter().filter(|p| **p).count();
        (open, closed) = (open + passed, closed + whole.len() - passed);
        for ((_, without), count) in features.iter().zip(&mut decided) {
            let mut less = world.clone();
            without(&mut less);
            if less != world && verdicts(&less, &packets) != whole {
                *count += 1;
            }
        }
    }
    let counts: Vec<String> =
        features.iter().zip(&decided).map(|((name, _), count)| format!("{count:5} {name}")).collect();
    let counts = counts.join("\n");
    println!("{open} open, {closed} closed; of {WORLDS} worlds each decided in\n{counts}");
    // Worlds that are all open or all closed would find nothing.
    assert!(open * 5 > closed && closed * 5 > open, "{open} open, {closed} closed");
    assert!(decided.iter().all(|n| *n >= 1), "of {WORLDS} worlds each decided in\n{counts}");
}
