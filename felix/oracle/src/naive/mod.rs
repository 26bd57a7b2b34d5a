//! Does a packet pass? Written from the documentation of the API, one sentence after the other, with no thought of
//! speed.
//!
//! - Tiers are taken by their order, those without one last, then by name; policies within a tier likewise. Policies of
//!   a tier that is not there come after all others, and then nothing passes (no documentation has a word of it).
//! - In a tier that has policies for the endpoint and direction, the first rule that matches decides; `Pass` goes to
//!   the next tier, `Log` decides nothing; at the tier's end its default action decides.
//! - After the tiers the endpoint's profiles decide, in their order; where none does, the packet is denied. A profile
//!   that is named and is not there denies (upstream's word; the documentation has none). An endpoint without profiles
//!   is denied.
//! - Labels of a namespace and of an account come by their profiles: a pod that does not name these has none of them.
//! - A packet between two pods must leave the one and be let into the other. What the node forwards to or from its own
//!   endpoint meets the policies that apply on forward; without any it passes there.
//! - At the node's own endpoint failsafe ports come first, then untracked policy, then policy before address
//!   translation; these two have no denial at their end, and what they allow skips the endpoint's other policies.
//!   Answers to what untracked policy allows must be allowed by untracked policy too.
//! - A wildcard endpoint stands for all interfaces, so that it judges what pods send too, before translation and on
//!   forward. It has no untracked policy.
//! - A node may always reach its own pods; a pod may reach its node where its own policy lets it out.

mod kubernetes;
mod rule;

use std::cmp::Ordering;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::world::{
    Action, DEFAULT_ALLOW, End, FAILSAFE, Host, Interface, Labels, Membership, NAMESPACES, NamedPort, Packet,
    Pod, Policy, PolicyUse, Profiles, Rule, Traffic, World, failsafe_net,
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
    /// Pods alone have one.
    account: Option<usize>,
    /// It has the labels of its namespace and its account.
    inherits: bool,
    labels: Labels,
    nets: Vec<IpNet>,
    ports: Vec<NamedPort>,
}

/// A packet as rules see it.
#[derive(Clone, Copy)]
struct Wire {
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    src_port: u16,
    dst_port: u16,
    /// Type and code.
    icmp: Option<(u8, u8)>,
}

impl Wire {
    fn new(p: &Packet) -> Self {
        let (protocol, port, icmp) = match p.traffic {
            Traffic::Tcp(port) => (6, port, None),
            Traffic::Udp(port) => (17, port, None),
            Traffic::UdpLite(port) => (136, port, None),
            Traffic::Sctp(port) => (132, port, None),
            Traffic::Ping if p.v4 => (1, 0, Some((8, 0))),
            Traffic::Ping => (58, 0, Some((128, 0))),
        };
        let src_port = if icmp.is_none() { p.source_port } else { 0 };
        let (src, dst) = (p.from.address(p.v4), p.to.address(p.v4));
        Self { src, dst, protocol, src_port, dst_port: port, icmp }
    }

    /// The answer to it.
    fn answer(&self) -> Self {
        let icmp = self.icmp.map(|(kind, code)| (if kind == 8 { 0 } else { kind + 1 }, code));
        let (src, dst, src_port, dst_port) = (self.dst, self.src, self.dst_port, self.src_port);
        Self { src, dst, src_port, dst_port, icmp, ..*self }
    }

    /// True for a port that no policy closes to this peer.
    fn failsafe(&self, dir: Direction) -> bool {
        let open = match dir {
            Direction::Ingress => self.protocol == 6 && failsafe_net().contains(&self.src),
            Direction::Egress => self.protocol == 17,
        };
        self.dst_port == FAILSAFE && open
    }

    /// True for an answer from such a port: where nothing is tracked, it must pass too.
    fn answers_failsafe(&self, dir: Direction) -> bool {
        let back = if dir == Direction::Ingress { Direction::Egress } else { Direction::Ingress };
        self.answer().failsafe(back)
    }
}

/// Which lists of policies apply.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Normal,
    Forward,
    PreDnat,
    Untracked,
}

/// The tier in which a policy stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Own(usize),
    Default,
    Admin,
    Baseline,
}

/// A policy of any kind.
struct Subject {
    place: Place,
    kind: &'static str,
    /// It is for pods alone.
    pods_only: bool,
    policy: Policy,
}

/// Judges packets in a world.
pub struct Evaluator<'a> {
    world: &'a World,
    entities: Vec<Entity>,
    subjects: Vec<Subject>,
}

/// Labels of its own and those that its profiles give it: its own hide theirs, and those of a profile the later ones'.
fn with_profiles(world: &World, own: &Labels, profiles: &Profiles) -> Labels {
    let mut labels = Labels::new();
    for profile in profiles.own.iter().rev().filter_map(|p| world.profiles.get(*p)) {
        labels.extend(profile.labels.clone());
    }
    labels.extend(own.clone());
    labels
}

fn both_families(end: End) -> Vec<IpNet> {
    [true, false].map(|v4| IpNet::from(end.address(v4))).to_vec()
}

fn pod_at(world: &World, pod: &Pod, at: &[End]) -> Entity {
    Entity {
        namespace: Some(pod.namespace),
        account: Some(pod.account),
        inherits: pod.profiles.membership != Membership::Nowhere,
        labels: with_profiles(world, &pod.labels, &pod.profiles),
        nets: at.iter().flat_map(|e| both_families(*e)).collect(),
        ports: pod.ports.clone(),
    }
}

/// Pods first, by number; the node's endpoints last.
fn entities(world: &World) -> Vec<Entity> {
    let mut all = Vec::new();
    for (n, pod) in world.pods.iter().enumerate() {
        let at: Vec<End> = [n].into_iter().chain(pod.also).map(End::Pod).collect();
        all.push(pod_at(world, pod, &at));
    }
    all.extend(world.remotes.iter().map(|r| pod_at(world, &r.pod, &r.at)));
    for set in &world.sets {
        let (namespace, labels, nets) = (set.namespace, set.labels.clone(), set.nets.clone());
        all.push(Entity { namespace, account: None, inherits: true, labels, nets, ports: Vec::new() });
    }
    all.extend(world.outside.iter().map(|h| host_at(world, h, End::Outside)));
    all.extend(world.hosts().into_iter().map(|(_, h)| host_at(world, h, End::Node)));
    all
}

fn host_at(world: &World, host: &Host, end: End) -> Entity {
    Entity {
        namespace: None,
        account: None,
        inherits: false,
        labels: with_profiles(world, &host.labels, &host.profiles),
        nets: if host.addresses { both_families(end) } else { Vec::new() },
        ports: host.ports.clone(),
    }
}

/// A policy with those of its lists that apply: without `types` Ingress does, but where there are rules for Egress
/// alone; and Egress does where there are rules for it.
fn with_types(policy: &Policy) -> Policy {
    let mut policy = policy.clone();
    if !policy.types_given {
        policy.egress = policy.egress.filter(|rules| !rules.is_empty());
        let ingress = policy.ingress.take().unwrap_or_default();
        policy.ingress = (!ingress.is_empty() || policy.egress.is_none()).then_some(ingress);
    }
    policy
}

fn subjects(world: &World) -> Vec<Subject> {
    let own = world.policies.iter().map(|p| Subject {
        place: p.tier.map_or(Place::Default, Place::Own),
        kind: if p.namespace.is_some() { "NetworkPolicy" } else { "GlobalNetworkPolicy" },
        pods_only: false,
        policy: with_types(p),
    });
    own.chain(world.kubernetes.iter().map(kubernetes::policy))
        .chain(world.cluster.iter().map(kubernetes::cluster))
        .collect()
}

impl<'a> Evaluator<'a> {
    /// For this world.
    #[must_use]
    pub fn new(world: &'a World) -> Self {
        Self { world, entities: entities(world), subjects: subjects(world) }
    }

    /// True where a connection's first packet comes to its end.
    #[must_use]
    pub fn passes(&self, packet: &Packet) -> bool {
        self.arrives(packet.from, packet.to, &Wire::new(packet))
    }

    /// True where a connection that begins with this packet comes about: the answer comes back. None where untracked
    /// policy lets through one way of it alone and the documentation leaves open what comes of that.
    #[must_use]
    pub fn answered(&self, packet: &Packet) -> Option<bool> {
        let wire = Wire::new(packet);
        if !self.passes(packet) {
            return Some(false);
        }
        let untracked = |from: End, to: End, wire: &Wire| match (from, to) {
            (End::Outside, _) => self.untracked(Direction::Ingress, wire),
            (End::Node, End::Outside) => self.untracked(Direction::Egress, wire),
            _ => None,
        };
        let there = untracked(packet.from, packet.to, &wire);
        let back = untracked(packet.to, packet.from, &wire.answer());
        match (there, back) {
            (None, None) | (Some(true), Some(true)) => Some(true),
            (_, Some(false)) => Some(false),
            _ => None,
        }
    }

    fn arrives(&self, from: End, to: End, packet: &Wire) -> bool {
        let mut done = false;
        if self.policed(from) {
            match self.before(from, packet) {
                Some(false) => return false,
                Some(true) => done = true,
                None => {}
            }
        }
        let (ingress, egress) = (Direction::Ingress, Direction::Egress);
        match (from, to) {
            (End::Node, End::Outside) => match self.untracked(egress, packet) {
                Some(decided) => decided,
                None => self.failsafe(egress, packet) || self.host(to, Stage::Normal, egress, packet),
            },
            (End::Outside, End::Node) => {
                done || self.failsafe(ingress, packet) || self.host(from, Stage::Normal, ingress, packet)
            }
            (End::Node, End::Pod(_)) => true,
            (End::Pod(_), End::Node) => self.pod(from, egress, packet),
            (from, to) => {
                (done || !self.policed(from) || self.host(from, Stage::Forward, ingress, packet))
                    && self.pod(from, egress, packet)
                    && self.pod(to, ingress, packet)
                    && (!self.policed(to) || self.host(to, Stage::Forward, egress, packet))
            }
        }
    }

    /// True where the node's endpoint is for the interface to this end.
    fn policed(&self, end: End) -> bool {
        self.host_towards(end).is_some()
    }

    /// The node's endpoint for the interface to this end.
    fn host_towards(&self, end: End) -> Option<(&Host, &Entity)> {
        let hosts = self.world.hosts();
        let entities = self.entities.iter().skip(self.entities.len() - hosts.len());
        let mut all = hosts.into_iter().map(|(_, host)| host).zip(entities);
        match end {
            End::Outside => all.next(),
            End::Pod(_) => all.find(|(h, _)| h.interface == Interface::Any),
            End::Node => None,
        }
    }

    /// What decides about an arriving packet before it is known whom it is for.
    fn before(&self, from: End, packet: &Wire) -> Option<bool> {
        let untracked = (from == End::Outside).then(|| self.untracked(Direction::Ingress, packet)).flatten();
        if untracked.is_some() || self.failsafe(Direction::Ingress, packet) {
            return untracked;
        }
        let (_, me) = self.host_towards(from)?;
        self.tiers(Stage::PreDnat, Direction::Ingress, packet, |s| self.selects(s, me))
    }

    fn pod(&self, end: End, dir: Direction, packet: &Wire) -> bool {
        let End::Pod(n) = end else { return true };
        let Some(pod) = self.world.pods.get(n) else { return false };
        let me = self.entities.get(n);
        let applies = |s: &Subject| me.is_some_and(|me| self.selects(s, me));
        if let Some(decided) = self.tiers(Stage::Normal, dir, packet, applies) {
            return decided;
        }
        let open = self.world.namespaces[pod.namespace].open;
        let own = || self.profiles(&pod.profiles, dir, packet).map(|action| action == Action::Allow);
        match pod.profiles.membership {
            Membership::Nowhere => own().unwrap_or(false),
            Membership::BehindOwn => own().unwrap_or(open),
            Membership::BeforeOwn => open || own().unwrap_or(false),
        }
    }

    /// What the first profile says that says something. One that is not there denies.
    fn profiles(&self, profiles: &Profiles, dir: Direction, packet: &Wire) -> Option<Action> {
        profiles.own.iter().find_map(|p| {
            if *p == DEFAULT_ALLOW {
                return Some(Action::Allow);
            }
            let Some(profile) = self.world.profiles.get(*p) else { return Some(Action::Deny) };
            let rules = if dir == Direction::Ingress { &profile.ingress } else { &profile.egress };
            self.rules(rules, None, packet)
        })
    }

    /// True where there is an endpoint with such ports.
    fn failsafe(&self, dir: Direction, packet: &Wire) -> bool {
        self.world.host.is_some() && packet.failsafe(dir)
    }

    /// What untracked policy of the node's endpoint says.
    fn untracked(&self, dir: Direction, packet: &Wire) -> Option<bool> {
        let (_, me) = self.host_towards(End::Outside).filter(|(h, _)| h.interface != Interface::Any)?;
        if packet.failsafe(dir) || packet.answers_failsafe(dir) {
            return None;
        }
        self.tiers(Stage::Untracked, dir, packet, |s| self.selects(s, me))
    }

    /// What the node's endpoint towards an end says.
    fn host(&self, towards: End, stage: Stage, dir: Direction, packet: &Wire) -> bool {
        let Some((host, me)) = self.host_towards(towards) else { return true };
        match self.tiers(stage, dir, packet, |s| self.selects(s, me)) {
            Some(decided) => decided,
            None if stage != Stage::Normal => true,
            None => self.profiles(&host.profiles, dir, packet) == Some(Action::Allow),
        }
    }

    /// What the tiers say; none where every tier that applies passes.
    fn tiers(
        &self,
        stage: Stage,
        dir: Direction,
        packet: &Wire,
        applies: impl Fn(&Subject) -> bool,
    ) -> Option<bool> {
        let for_stage = |p: &Policy| match stage {
            Stage::Normal => matches!(p.purpose, PolicyUse::Normal | PolicyUse::Forward),
            Stage::Forward => p.purpose == PolicyUse::Forward,
            Stage::PreDnat => p.purpose == PolicyUse::PreDnat,
            Stage::Untracked => p.purpose == PolicyUse::Untracked,
        };
        for (place, pass) in self.places() {
            let mut here: Vec<&Subject> = self
                .subjects
                .iter()
                .filter(|s| s.place == place && !s.policy.staged && for_stage(&s.policy))
                .filter(|s| rules_of(&s.policy, dir).is_some() && applies(s))
                .collect();
            here.sort_by(|a, b| in_order(a, b));
            if here.is_empty() {
                continue;
            }
            let verdict =
                here.iter().find_map(|s| self.rules(rules_of(&s.policy, dir)?, s.policy.namespace, packet));
            match verdict {
                Some(Action::Allow) => return Some(true),
                Some(Action::Deny) => return Some(false),
                Some(Action::Pass | Action::Log) => {}
                None if pass || matches!(stage, Stage::PreDnat | Stage::Untracked) => {}
                None => return Some(false),
            }
        }
        None
    }

    /// The tiers in their order, and whether they pass at their end.
    fn places(&self) -> Vec<(Place, bool)> {
        // The default tier denies; Kubernetes' tiers stand around it and pass.
        let mut tiers = vec![
            (false, 1_000_000.0, "default", (Place::Default, false)),
            (false, 1_000.0, "kube-admin", (Place::Admin, true)),
            (false, 10_000_000.0, "kube-baseline", (Place::Baseline, true)),
        ];
        for (n, t) in self.world.tiers.iter().enumerate() {
            let order = t.order.filter(|_| !t.missing).unwrap_or(f64::INFINITY);
            tiers.push((t.missing, order, &t.name, (Place::Own(n), t.pass && !t.missing)));
        }
        tiers.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(b.2)));
        tiers.into_iter().map(|t| t.3).collect()
    }

    /// True where the policy is about the endpoint.
    fn selects(&self, subject: &Subject, e: &Entity) -> bool {
        let policy = &subject.policy;
        policy.namespace.is_none_or(|n| e.namespace == Some(n))
            && (!subject.pods_only || e.account.is_some())
            && policy.namespace_selector.as_ref().is_none_or(|s| self.namespace_matches(s, e))
            && policy.account_selector.as_ref().is_none_or(|s| self.account_matches(s, e))
            && policy.selector.matches(&e.labels)
    }
}

fn rules_of(policy: &Policy, dir: Direction) -> Option<&[Rule]> {
    let rules = if dir == Direction::Ingress { &policy.ingress } else { &policy.egress };
    rules.as_deref()
}

/// By order, those without one last; then by name, namespace and kind.
fn in_order(a: &Subject, b: &Subject) -> Ordering {
    let order = |s: &Subject| s.policy.order.unwrap_or(f64::INFINITY);
    let rest =
        |s: &Subject| (s.policy.name.clone(), s.policy.namespace.map_or("", |n| NAMESPACES[n]), s.kind);
    order(a).total_cmp(&order(b)).then_with(|| rest(a).cmp(&rest(b)))
}
