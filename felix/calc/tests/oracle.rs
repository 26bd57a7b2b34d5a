//! A naive evaluator, written from the documentation and reading the objects themselves, decides about packets as the
//! messages do. A world that differs is shrunk and printed.

mod world;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use felix_calc::explain::{Direction, Packet, workload};
use felix_calc::replay::Runner;
use ipnet::IpNet;
use libcalico_api::Resource;
use libcalico_api::num_or_string::Port;
use libcalico_model::backend::{EndpointPort, Policy, Rule, WorkloadEndpoint};
use libcalico_model::key::{PolicyKey, WorkloadEndpointKey};
use libcalico_model::{Key, Value};
use libcalico_selector::Selector;
use proptest::prelude::*;
use world::{LOCAL, Objects, config, updates};

type Labels = BTreeMap<String, String>;

/// Something with labels and addresses.
struct Entity {
    labels: Labels,
    nets: Vec<IpNet>,
    ports: Vec<EndpointPort>,
}

struct Naive<'a> {
    objects: &'a Objects,
    entities: Vec<Entity>,
}

fn select(selector: &str, labels: &Labels) -> bool {
    Selector::parse(selector).unwrap().matches(labels)
}

impl<'a> Naive<'a> {
    fn new(objects: &'a Objects) -> Self {
        let mut naive = Self { objects, entities: Vec::new() };
        for value in objects.values() {
            let (labels, profiles, nets, ports) = match value {
                Value::WorkloadEndpoint(w) => {
                    let nets = w.ipv4_nets.iter().map(|n| IpNet::V4(*n)).collect();
                    (&w.labels, &w.profile_ids, nets, w.ports.clone())
                }
                Value::HostEndpoint(h) => {
                    let nets = h.expected_ipv4_addrs.iter().map(|a| IpNet::V4((*a).into())).collect();
                    (&h.labels, &h.profile_ids, nets, h.ports.clone())
                }
                Value::NetworkSet(n) => (&n.labels, &n.profile_ids, n.nets.clone(), Vec::new()),
                _ => continue,
            };
            let labels = naive.all_labels(labels, profiles);
            naive.entities.push(Entity { labels, nets, ports });
        }
        naive
    }

    /// Own labels hide those of profiles, an earlier profile's hide a later one's.
    fn all_labels(&self, own: &Labels, profiles: &[String]) -> Labels {
        let mut out = Labels::new();
        for name in profiles.iter().rev() {
            let key = Key::resource(libcalico_api::Kind::Profile, "", name.as_str());
            if let Some(Value::Resource(r)) = self.objects.get(&key)
                && let Resource::Profile(p) = &**r
            {
                out.extend(p.spec.labels_to_apply.clone());
            }
        }
        out.extend(own.clone());
        out
    }

    /// Entities that have the address and match the selector but not the other.
    fn holders<'s>(&'s self, addr: IpAddr, yes: &'s str, no: &'s str) -> impl Iterator<Item = &'s Entity> {
        self.entities.iter().filter(move |e| {
            e.nets.iter().any(|n| n.contains(&addr))
                && (yes.is_empty() || select(yes, &e.labels))
                && (no.is_empty() || !select(no, &e.labels))
        })
    }

    fn side(&self, side: &RuleSide<'_>, addr: IpAddr, port: u16, protocol: u8) -> bool {
        let within = |nets: &[IpNet]| nets.iter().any(|n| n.contains(&addr));
        let named = |name: &str| {
            self.holders(addr, side.selector, side.not_selector).any(|e| {
                e.ports
                    .iter()
                    .any(|p| p.name == name && p.protocol.number() == Some(protocol) && p.port == port)
            })
        };
        let port_matches = |ports: &[Port]| {
            ports.iter().any(|p| match p {
                Port::Number(n) => *n == port,
                Port::Range(a, b) => (*a..=*b).contains(&port),
                Port::Named(name) => named(name),
            })
        };
        let selected = match (side.selector, side.not_selector) {
            ("", "") => true,
            ("", no) => self.holders(addr, no, "").next().is_none(),
            (yes, no) => self.holders(addr, yes, no).next().is_some(),
        };
        let named_only = !side.ports.is_empty() && side.ports.iter().all(|p| matches!(p, Port::Named(_)));
        (side.nets.is_empty() || within(side.nets))
            && !within(side.not_nets)
            && (selected || named_only)
            && (side.ports.is_empty() || port_matches(side.ports))
            && !port_matches(side.not_ports)
            && (side.service.is_empty() || self.serves(side, addr, port, protocol))
    }

    /// True where an endpoint of the service has the address, and the port where ports count.
    fn serves(&self, side: &RuleSide<'_>, addr: IpAddr, port: u16, protocol: u8) -> bool {
        self.objects.values().any(|value| {
            let Value::EndpointSlice(slice) = value else { return false };
            let number = |text: &str| if text == "UDP" { 17 } else { 6 };
            slice.metadata.labels.get("kubernetes.io/service-name").is_some_and(|s| s == side.service)
                && slice.endpoints.iter().any(|e| e.addresses.contains(&addr.to_string()))
                && (!side.service_ports
                    || slice.ports.iter().any(|p| p.port == Some(port) && number(&p.protocol) == protocol))
        })
    }

    fn rule(&self, r: &Rule, p: &Packet) -> bool {
        let src = RuleSide {
            nets: &r.src_nets,
            not_nets: &r.not_src_nets,
            selector: &r.src_selector,
            not_selector: &r.not_src_selector,
            ports: &r.src_ports,
            not_ports: &r.not_src_ports,
            service: &r.src_service,
            service_ports: false,
        };
        let dst = RuleSide {
            nets: &r.dst_nets,
            not_nets: &r.not_dst_nets,
            selector: &r.dst_selector,
            not_selector: &r.not_dst_selector,
            ports: &r.dst_ports,
            not_ports: &r.not_dst_ports,
            service: &r.dst_service,
            service_ports: true,
        };
        r.protocol.as_ref().is_none_or(|x| x.number() == Some(p.protocol))
            && r.not_protocol.as_ref().is_none_or(|x| x.number() != Some(p.protocol))
            && self.side(&src, p.src, p.src_port, p.protocol)
            && self.side(&dst, p.dst, p.dst_port, p.protocol)
    }

    /// The first rule that decides.
    fn rules(&self, rules: &[Rule], p: &Packet) -> Option<&'static str> {
        rules.iter().filter(|r| self.rule(r, p)).find_map(|r| match r.action.as_str() {
            "" | "allow" => Some("allow"),
            "deny" => Some("deny"),
            "pass" => Some("pass"),
            _ => None,
        })
    }

    fn tier(&self, name: &str) -> (bool, f64, bool) {
        let order = |o: Option<f64>| o.filter(|o| !o.is_nan()).unwrap_or(f64::INFINITY);
        match self.objects.get(&Key::Tier(name.to_owned())) {
            Some(Value::Tier(t)) => match t.default_action.as_deref() {
                None | Some("Deny") => (false, order(t.order), false),
                Some("Pass") => (false, order(t.order), true),
                Some(_) => (true, f64::INFINITY, false),
            },
            _ => (true, f64::INFINITY, false),
        }
    }

    /// True where the packet passes.
    fn decide(&self, w: &WorkloadEndpoint, dir: Direction, p: &Packet) -> bool {
        let labels = self.all_labels(&w.labels, &w.profile_ids);
        let wanted = if dir == Direction::Ingress { "ingress" } else { "egress" };
        let tier_name = |p: &Policy| if p.tier.is_empty() { "default".to_owned() } else { p.tier.clone() };
        let mut policies: Vec<(&PolicyKey, &Policy)> = self
            .objects
            .iter()
            .filter_map(|(k, v)| match (k, v) {
                (Key::Policy(k), Value::Policy(p)) => Some((k, &**p)),
                _ => None,
            })
            .filter(|(k, p)| {
                !k.kind.staged()
                    && !p.untracked
                    && !p.pre_dnat
                    && (p.types.is_empty() || p.types.iter().any(|t| t == wanted))
                    && select(&p.selector, &labels)
            })
            .collect();
        let order = |o: Option<f64>| o.filter(|o| !o.is_nan()).unwrap_or(f64::INFINITY);
        policies.sort_by(|(ak, a), (bk, b)| {
            let key = |k: &PolicyKey, p: &Policy| {
                let (missing, tier_order, _) = self.tier(&tier_name(p));
                let tie = format!("{}/{}/{}", k.name, k.namespace, k.kind.name());
                (missing, tier_order, tier_name(p), order(p.order), tie)
            };
            key(ak, a).partial_cmp(&key(bk, b)).unwrap()
        });
        let mut at = 0;
        while let Some((_, first)) = policies.get(at) {
            let tier = tier_name(first);
            let of_tier: Vec<_> = policies[at..].iter().take_while(|(_, p)| tier_name(p) == tier).collect();
            at += of_tier.len();
            let verdict = of_tier.iter().find_map(|(_, policy)| {
                let inbound = dir == Direction::Ingress;
                self.rules(if inbound { &policy.inbound_rules } else { &policy.outbound_rules }, p)
            });
            match verdict {
                Some("pass") => {}
                Some(decided) => return decided == "allow",
                None if self.tier(&tier).2 => {}
                None => return false,
            }
        }
        w.profile_ids.iter().any_decided(|name| {
            let Some(Value::ProfileRules(rules)) = self.objects.get(&Key::ProfileRules(name.clone())) else {
                return Some(false);
            };
            let inbound = dir == Direction::Ingress;
            let decided =
                self.rules(if inbound { &rules.inbound_rules } else { &rules.outbound_rules }, p)?;
            (decided != "pass").then_some(decided == "allow")
        })
    }
}

/// The first decision, denial where there is none.
trait AnyDecided: Iterator + Sized {
    fn any_decided(mut self, f: impl FnMut(Self::Item) -> Option<bool>) -> bool {
        self.find_map(f).unwrap_or(false)
    }
}

impl<I: Iterator> AnyDecided for I {}

struct RuleSide<'a> {
    nets: &'a [IpNet],
    not_nets: &'a [IpNet],
    selector: &'a str,
    not_selector: &'a str,
    ports: &'a [Port],
    not_ports: &'a [Port],
    /// In the one namespace that there is.
    service: &'a str,
    service_ports: bool,
}

fn packets() -> impl Iterator<Item = Packet> {
    let addr = |n: u8| IpAddr::V4(Ipv4Addr::new(10, 0, 0, n));
    let ports = [(1u16, 2u16), (2, 1), (3, 3)];
    (0..9).flat_map(move |s| (0..9).map(move |d| (s, d))).flat_map(move |(s, d)| {
        [6u8, 17, 1].into_iter().flat_map(move |protocol| {
            ports.into_iter().map(move |(src_port, dst_port)| Packet {
                src: addr(s),
                dst: addr(d),
                protocol,
                src_port,
                dst_port,
                icmp: None,
            })
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_messages_decide_as_the_documentation_does(objects in world::world()) {
        let mirror = Runner::from_scratch(config(), updates(&objects)).map_err(TestCaseError::fail)?;
        let naive = Naive::new(&objects);
        let ours = |k: &WorkloadEndpointKey| k.host == LOCAL;
        for (key, value) in &objects {
            let (Key::WorkloadEndpoint(key), Value::WorkloadEndpoint(w)) = (key, value) else { continue };
            if !ours(key) {
                continue;
            }
            let endpoint = &mirror.workloads[key];
            for packet in packets() {
                for dir in [Direction::Ingress, Direction::Egress] {
                    let verdict = workload(&mirror, endpoint, dir, &packet);
                    prop_assert_eq!(
                        verdict.allowed,
                        naive.decide(w, dir, &packet),
                        "{:?} {:?} {:?}: {:?}", key, dir, packet, verdict.decision
                    );
                }
            }
        }
    }
}
