//! Does a packet pass? Written from the documentation of the API, one sentence after the other, with no thought of
//! speed.
//!
//! - Tiers are taken by their order, those without one last, then by name; policies within a tier likewise.
//! - In a tier that has policies for the endpoint and direction, the first rule that matches decides; `Pass` goes to
//!   the next tier, `Log` decides nothing; at the tier's end its default action decides.
//! - After the tiers the endpoint's profiles decide, in their order; where none does, the packet is denied.
//! - A packet between two pods must leave the one and be let into the other. What the node forwards to or from its own
//!   endpoint meets the policies that apply on forward; without any it passes there.

use std::cmp::Ordering;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::world::{
    Action, End, Icmp, Labels, NAMESPACES, NamedPort, NamespaceSelector, Packet, Policy, PolicyUse, Port,
    Rule, Selector, Side, Traffic, World,
};

/// Direction, seen from the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Ingress,
    Egress,
}

/// Something with labels and addresses that a selector can find.
struct Entity {
    namespace: Option<usize>,
    account: Option<usize>,
    labels: Labels,
    nets: Vec<IpNet>,
    ports: Vec<NamedPort>,
}

/// Which lists of policies apply.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Normal,
    Forward,
    PreDnat,
}

struct Evaluator<'a> {
    world: &'a World,
    entities: Vec<Entity>,
}

/// True where a connection that begins with this packet comes about.
#[must_use]
pub fn passes(world: &World, packet: &Packet) -> bool {
    let e = Evaluator { world, entities: entities(world) };
    let uplink = |end: End| end == End::Outside;
    // What arrives from outside meets pre-DNAT policy first, whether it is for the node or for a pod.
    if uplink(packet.from) && !e.host(Stage::PreDnat, Direction::Ingress, packet) {
        return false;
    }
    match (packet.from, packet.to) {
        (End::Node, End::Outside) => e.host(Stage::Normal, Direction::Egress, packet),
        (End::Outside, End::Node) => e.host(Stage::Normal, Direction::Ingress, packet),
        // The node reaches its own pods, whatever their policy says (kubelet's probes).
        (End::Node, End::Pod(_)) => true,
        (from, to) => {
            let leaves = !matches!(from, End::Pod(_)) || e.pod(from, Direction::Egress, packet);
            let enters = !matches!(to, End::Pod(_)) || e.pod(to, Direction::Ingress, packet);
            let in_at_uplink = !uplink(from) || e.host(Stage::Forward, Direction::Ingress, packet);
            let out_at_uplink = !uplink(to) || e.host(Stage::Forward, Direction::Egress, packet);
            leaves && enters && in_at_uplink && out_at_uplink
        }
    }
}

/// Packets about which [`passes`] has an opinion.
#[must_use]
pub fn judges(from: End, to: End) -> bool {
    from != to && !matches!((from, to), (End::Pod(_), End::Node))
}

fn with_profile(world: &World, own: &Labels, profile: Option<usize>) -> Labels {
    let mut labels =
        profile.and_then(|p| world.profiles.get(p)).map(|p| p.labels.clone()).unwrap_or_default();
    labels.extend(own.clone());
    labels
}

fn entities(world: &World) -> Vec<Entity> {
    let mut all = Vec::new();
    for (n, pod) in world.pods.iter().enumerate() {
        all.push(Entity {
            namespace: Some(pod.namespace),
            account: Some(pod.account),
            labels: with_profile(world, &pod.labels, pod.profile),
            nets: [true, false].map(|v4| IpNet::from(End::Pod(n).address(v4))).to_vec(),
            ports: pod.ports.clone(),
        });
    }
    for set in &world.sets {
        let (namespace, labels, nets) = (set.namespace, set.labels.clone(), set.nets.clone());
        all.push(Entity { namespace, account: None, labels, nets, ports: Vec::new() });
    }
    if let Some(host) = &world.host {
        all.push(Entity {
            namespace: None,
            account: None,
            labels: with_profile(world, &host.labels, host.profile),
            nets: [true, false].map(|v4| IpNet::from(End::Node.address(v4))).to_vec(),
            ports: Vec::new(),
        });
    }
    all
}

impl Evaluator<'_> {
    fn pod(&self, end: End, dir: Direction, packet: &Packet) -> bool {
        let End::Pod(n) = end else { return true };
        let Some(pod) = self.world.pods.get(n) else { return false };
        let me = self.entities.get(n);
        let applies = |p: &Policy| me.is_some_and(|me| self.selects(p, me));
        if let Some(decided) = self.tiers(Stage::Normal, dir, packet, applies) {
            return decided;
        }
        let own = self.profile(pod.profile, dir, packet);
        own.map_or(self.world.namespaces[pod.namespace].open, |action| action == Action::Allow)
    }

    /// What a profile says.
    fn profile(&self, profile: Option<usize>, dir: Direction, packet: &Packet) -> Option<Action> {
        let profile = self.world.profiles.get(profile?)?;
        let rules = if dir == Direction::Ingress { &profile.ingress } else { &profile.egress };
        self.rules(rules, None, packet)
    }

    fn host(&self, stage: Stage, dir: Direction, packet: &Packet) -> bool {
        let Some(host) = &self.world.host else { return true };
        let Some(me) = self.entities.last() else { return true };
        match self.tiers(stage, dir, packet, |p| self.selects(p, me)) {
            Some(decided) => decided,
            None if stage != Stage::Normal => true,
            None => self.profile(host.profile, dir, packet) == Some(Action::Allow),
        }
    }

    /// What the tiers say; none where every tier that applies passes.
    fn tiers(
        &self,
        stage: Stage,
        dir: Direction,
        packet: &Packet,
        applies: impl Fn(&Policy) -> bool,
    ) -> Option<bool> {
        let rules_of =
            |p: &Policy| if dir == Direction::Ingress { p.ingress.clone() } else { p.egress.clone() };
        let for_stage = |p: &Policy| match stage {
            Stage::Normal => p.purpose != PolicyUse::PreDnat,
            Stage::Forward => p.purpose == PolicyUse::Forward,
            Stage::PreDnat => p.purpose == PolicyUse::PreDnat,
        };
        // The default tier has order 1,000,000 and denies.
        let mut tiers: Vec<(Option<usize>, f64, &str, bool)> = vec![(None, 1_000_000.0, "default", false)];
        for (n, t) in self.world.tiers.iter().enumerate() {
            tiers.push((Some(n), t.order.unwrap_or(f64::INFINITY), &t.name, t.pass));
        }
        tiers.sort_by(|a, b| a.1.total_cmp(&b.1).then_with(|| a.2.cmp(b.2)));
        for (tier, _, _, pass) in tiers {
            let mut policies: Vec<&Policy> = self
                .world
                .policies
                .iter()
                .filter(|p| {
                    p.tier == tier && !p.staged && for_stage(p) && rules_of(p).is_some() && applies(p)
                })
                .collect();
            policies.sort_by(|a, b| in_order(a, b));
            if policies.is_empty() {
                continue;
            }
            let verdict = policies.iter().find_map(|p| self.rules(&rules_of(p)?, p.namespace, packet));
            match verdict {
                Some(Action::Allow) => return Some(true),
                Some(Action::Deny) => return Some(false),
                Some(Action::Pass | Action::Log) => {}
                // Pre-DNAT policy has no default denial: what it does not decide goes on.
                None if pass || stage == Stage::PreDnat => {}
                None => return Some(false),
            }
        }
        None
    }

    /// True where the policy is about the endpoint.
    fn selects(&self, policy: &Policy, e: &Entity) -> bool {
        policy.namespace.is_none_or(|n| e.namespace == Some(n))
            && policy.namespace_selector.as_ref().is_none_or(|s| self.namespace_matches(s, e))
            && policy.account_selector.as_ref().is_none_or(|s| self.account_matches(s, e))
            && policy.selector.matches(&e.labels)
    }

    fn namespace_matches(&self, selector: &Selector, e: &Entity) -> bool {
        let none = Labels::new();
        let labels = e.namespace.map_or(&none, |n| &self.world.namespaces[n].labels);
        selector.matches_member(labels, e.namespace.is_some())
    }

    fn account_matches(&self, selector: &Selector, e: &Entity) -> bool {
        let none = Labels::new();
        let account = e.namespace.zip(e.account);
        let labels = account.map_or(&none, |(n, a)| &self.world.accounts[n][a]);
        selector.matches_member(labels, account.is_some())
    }

    /// The action of the first rule that decides.
    fn rules(&self, rules: &[Rule], namespace: Option<usize>, packet: &Packet) -> Option<Action> {
        let decides = |r: &&Rule| r.action != Action::Log && self.matches(r, namespace, packet);
        rules.iter().find(decides).map(|r| r.action)
    }

    fn matches(&self, rule: &Rule, namespace: Option<usize>, p: &Packet) -> bool {
        let (number, port) = match p.traffic {
            Traffic::Tcp(port) => (6, port),
            Traffic::Udp(port) => (17, port),
            Traffic::Ping => (if p.v4 { 1 } else { 58 }, 0),
        };
        let echo = if p.v4 { 8 } else { 128 };
        let icmp = |i: &Icmp| i.icmp_type == echo && i.code.is_none_or(|c| c == 0);
        let version = if p.v4 { 4 } else { 6 };
        let (src, dst) = (p.from.address(p.v4), p.to.address(p.v4));
        rule.ip_version.is_none_or(|v| v == version)
            && rule.protocol.is_none_or(|x| x.number() == number)
            && rule.not_protocol.is_none_or(|x| x.number() != number)
            && rule.icmp.as_ref().is_none_or(icmp)
            && !rule.not_icmp.as_ref().is_some_and(icmp)
            && self.side(&rule.source, namespace, src, p.source_port, number)
            && self.side(&rule.destination, namespace, dst, port, number)
    }

    fn side(&self, side: &Side, namespace: Option<usize>, addr: IpAddr, port: u16, number: u8) -> bool {
        let within = |nets: &[IpNet]| nets.iter().any(|n| n.contains(&addr));
        let excluded = |s: &Selector| self.holders(addr).any(|e| s.matches(&e.labels));
        // Of what is chosen, `notSelector` takes some away; alone it takes away from everything there is.
        let chosen = |e: &Entity| {
            self.chosen(side, namespace, e)
                && !side.not_selector.as_ref().is_some_and(|s| s.matches(&e.labels))
        };
        // A namespaced policy's `notSelector` is about its own namespace: all there but those.
        let restricted = restricts(side) || namespace.is_some() && side.not_selector.is_some();
        // A named port stands for that port of the endpoints that the side selects.
        let named = |name: &String| {
            let has = |e: &Entity| {
                e.ports
                    .iter()
                    .any(|p| p.name == *name && p.port == port && (if p.tcp { 6 } else { 17 }) == number)
            };
            self.holders(addr).any(|e| has(e) && (!restricted || chosen(e)))
        };
        let port_matches = |p: &Port| match p {
            Port::Number(n) => *n == port,
            Port::Range(first, last) => (*first..=*last).contains(&port),
            Port::Named(name) => named(name),
        };
        (side.nets.is_empty() || within(&side.nets))
            && !within(&side.not_nets)
            && (!restricted || self.holders(addr).any(chosen))
            && (restricted || !side.not_selector.as_ref().is_some_and(excluded))
            && (side.ports.is_empty() || side.ports.iter().any(port_matches))
            && !side.not_ports.iter().any(port_matches)
    }

    fn holders(&self, addr: IpAddr) -> impl Iterator<Item = &Entity> {
        self.entities.iter().filter(move |e| e.nets.iter().any(|n| n.contains(&addr)))
    }

    /// True where the side's selectors choose the entity.
    fn chosen(&self, side: &Side, namespace: Option<usize>, e: &Entity) -> bool {
        let in_namespace = match (&side.namespace_selector, namespace) {
            (Some(NamespaceSelector::Global), _) => e.namespace.is_none(),
            (Some(NamespaceSelector::Labels(s)), _) => self.namespace_matches(s, e),
            // Without a namespace selector a namespaced policy means its own namespace.
            (None, Some(n)) => e.namespace == Some(n),
            (None, None) => true,
        };
        let names = &side.account_names;
        in_namespace
            && (names.is_empty() || e.account.is_some_and(|a| names.contains(&a)))
            && side.account_selector.as_ref().is_none_or(|s| self.account_matches(s, e))
            && side.selector.as_ref().is_none_or(|s| s.matches(&e.labels))
    }
}

fn restricts(side: &Side) -> bool {
    side.selector.is_some()
        || side.namespace_selector.is_some()
        || side.account_selector.is_some()
        || !side.account_names.is_empty()
}

/// By order, those without one last; then by name, namespace and kind.
fn in_order(a: &Policy, b: &Policy) -> Ordering {
    let order = |p: &Policy| p.order.unwrap_or(f64::INFINITY);
    let rest = |p: &Policy| {
        let namespace = p.namespace.map_or("", |n| NAMESPACES[n]);
        (
            p.name.clone(),
            namespace,
            if p.namespace.is_some() { "NetworkPolicy" } else { "GlobalNetworkPolicy" },
        )
    };
    order(a).total_cmp(&order(b)).then_with(|| rest(a).cmp(&rest(b)))
}
