//! The verdict about traffic between two ends, for every port for which it is the same, with the steps that led there.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use felix_calc::explain::{self, Decision, Direction, Packet, Verdict, matches};
use felix_calc::mirror::Mirror;
use felix_message::{
    Action, IpSetId, IpSetMember, Rule, Side, TierDefaultAction, TierInfo, WorkloadEndpoint,
};
use libcalico_api::felix_configuration::FailsafePort;
use libcalico_model::key::{PolicyKey, PolicyKind};
use libcalico_model::kubernetes::network_policy;
use libcalico_net::cidr::parse_network;
use serde::Serialize;

use crate::policy::party::{Party, Traffic};
use crate::policy::rule_text;
use crate::policy::stations::{self, Role, Station};
use crate::policy::world::World;
use crate::{Error, Result};

/// Source port of a new connection: of those that systems give out, and in no rule by chance.
const SOURCE_PORT: u16 = 54_321;
/// Types of an echo request in ICMP and ICMPv6.
const ECHO: [u8; 2] = [8, 128];

/// The answer for one pair and one address family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    pub from: String,
    pub from_address: IpAddr,
    pub to: String,
    pub to_address: IpAddr,
    pub protocol: String,
    /// In order of ports. One without ports where the protocol has none.
    pub parts: Vec<Part>,
}

/// Ports with the same verdict for the same reasons.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    /// First and last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<(u16, u16)>,
    pub allowed: bool,
    /// Absent where the end is no workload of the cluster: nothing of ours decides there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<Half>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Half>,
    /// At the host endpoints through which a workload's node receives it or sends it on, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forwarded: Vec<Passage>,
}

impl Part {
    /// What decides along the way.
    pub fn halves(&self) -> impl Iterator<Item = &Half> {
        let between = self.forwarded.iter().map(|p| &p.half);
        self.egress.iter().chain(between).chain(&self.ingress)
    }

    fn add(&mut self, station: &Station, half: Half) {
        match (station.role, station.dir) {
            (Role::Forward | Role::Arrival, dir) => {
                let direction = if dir == Direction::Ingress { "ingress" } else { "egress" };
                self.forwarded.push(Passage { direction, half });
            }
            (_, Direction::Egress) => self.egress = Some(half),
            (_, Direction::Ingress) => self.ingress = Some(half),
        }
    }

    fn says_the_same(&self, other: &Self) -> bool {
        let all = |p: &Self| (p.allowed, p.egress.clone(), p.ingress.clone(), p.forwarded.clone());
        all(self) == all(other)
    }
}

/// A host endpoint on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Passage {
    /// `ingress` where the node receives it, `egress` where it sends it on.
    pub direction: &'static str,
    #[serde(flatten)]
    pub half: Half,
}

/// What happens at one end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Half {
    pub endpoint: String,
    pub node: String,
    pub allowed: bool,
    /// What decided, in a sentence's part.
    pub decided_by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Counted from 0, as in the policy's list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<usize>,
    pub steps: Vec<Step>,
}

/// Something that was looked at on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// `NetworkPolicy default/web`, `profile kns.default`, or the end of the tier.
    pub subject: String,
    pub outcome: String,
}

/// How much of an answer is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// What decides, and every step.
    Full,
    /// Which ports pass: for matrices.
    Verdict,
}

/// Answers for every address family that both ends have.
pub fn ask(
    world: &mut World,
    from: &Party,
    to: &Party,
    traffic: Traffic,
    detail: Detail,
) -> Result<Vec<Answer>> {
    let stations = stations::on_the_way(world, from.endpoint.as_ref(), to.endpoint.as_ref())?;
    let mut answers = Vec::new();
    for v4 in [true, false] {
        let of = |p: &Party| p.addresses.iter().copied().find(|a| a.is_ipv4() == v4);
        let (Some(src), Some(dst)) = (of(from), of(to)) else { continue };
        let question = Ends { src, dst, traffic };
        let parts = parts(world, &stations, question, detail);
        answers.push(Answer {
            from: from.name.clone(),
            from_address: src,
            to: to.name.clone(),
            to_address: dst,
            protocol: traffic.protocol_name(),
            parts,
        });
    }
    if answers.is_empty() {
        return Err(Error::Usage(format!("{} and {} have no address family in common", from.name, to.name)));
    }
    Ok(answers)
}

#[derive(Clone, Copy)]
struct Ends {
    src: IpAddr,
    dst: IpAddr,
    traffic: Traffic,
}

impl Ends {
    fn packet(&self, port: u16) -> Packet {
        let v4 = self.src.is_ipv4();
        let protocol = self.traffic.protocol_for(v4);
        let has_ports = self.traffic.has_ports();
        Packet {
            src: self.src,
            dst: self.dst,
            protocol,
            src_port: if has_ports { SOURCE_PORT } else { 0 },
            dst_port: port,
            icmp: matches!(protocol, 1 | 58).then_some((ECHO[usize::from(!v4)], 0)),
        }
    }
}

fn parts(world: &World, stations: &[Station], question: Ends, detail: Detail) -> Vec<Part> {
    let traffic = question.traffic;
    let ranges: Vec<(u16, u16)> = match (traffic.has_ports(), traffic.port) {
        (false, _) => vec![(0, 0)],
        (true, Some(port)) => vec![(port, port)],
        (true, None) => {
            let mut starts = BTreeSet::new();
            stations.iter().for_each(|s| boundaries(s, question.dst, &mut starts));
            // Port 0 cannot be asked for.
            starts.retain(|s| *s > 1);
            let firsts: Vec<u16> = std::iter::once(1).chain(starts).collect();
            let lasts = firsts.iter().skip(1).map(|f| f - 1).chain([u16::MAX]);
            firsts.iter().copied().zip(lasts).collect()
        }
    };
    let mut parts: Vec<Part> = Vec::new();
    for (first, last) in ranges {
        let packet = question.packet(first);
        let mut part = Part::default();
        match detail {
            Detail::Full => {
                stations.iter().for_each(|s| part.add(s, half(world, s, &packet)));
                let allowed = part.halves().all(|h| h.allowed);
                part.allowed = allowed;
            }
            Detail::Verdict => part.allowed = stations.iter().all(|s| deciding(s, &packet).allowed()),
        }
        let ports = traffic.has_ports().then_some((first, last));
        match parts.last_mut() {
            Some(p) if p.says_the_same(&part) => p.ports = p.ports.map(|(f, _)| (f, last)),
            _ => parts.push(Part { ports, ..part }),
        }
    }
    parts
}

/// What decides at an end.
enum Deciding<'a> {
    /// A port that policy does not close.
    Failsafe,
    /// Whether it passes, and why no policy is asked.
    Exempt(bool, &'static str),
    /// The lists of one stage.
    Lists(&'a WorkloadEndpoint, Verdict),
}

impl Deciding<'_> {
    fn allowed(&self) -> bool {
        match self {
            Self::Failsafe => true,
            Self::Exempt(allowed, _) => *allowed,
            Self::Lists(_, verdict) => verdict.allowed,
        }
    }
}

/// At a host's interface: failsafe ports, untracked policy, policy before address translation, then what every endpoint
/// has; or, for what the host sends on, policy that applies on forward. What one of them allows the next is not asked.
fn deciding<'a>(station: &'a Station, packet: &Packet) -> Deciding<'a> {
    let (end, dir, inbound) = (&station.at, station.dir, station.dir == Direction::Ingress);
    if let Role::Exempt(allowed, why) = station.role {
        return Deciding::Exempt(allowed, why);
    }
    let judged = |lists: &'a WorkloadEndpoint| explain::workload(&end.mirror, lists, dir, packet);
    let Some(host) = &end.host else { return Deciding::Lists(&end.endpoint, judged(&end.endpoint)) };
    let far = if inbound { packet.src } else { packet.dst };
    let ports = if inbound { &host.failsafe[0] } else { &host.failsafe[1] };
    let failsafe = ports.iter().any(|p| opens(p, far, packet));
    let sent_on = !inbound && station.role != Role::End;
    // What is sent on met these two where it arrived. Failsafe ports are open before them.
    let before: &[&Arc<WorkloadEndpoint>] = match (failsafe || sent_on, inbound) {
        (true, _) => &[],
        (false, true) => &[&host.untracked, &host.pre_dnat],
        (false, false) => &[&host.untracked],
    };
    for lists in before {
        // A list that decides nothing ends without a profile.
        let verdict = judged(lists);
        if matches!(verdict.decision, Decision::PolicyRule { .. }) {
            return Deciding::Lists(lists, verdict);
        }
    }
    match station.role {
        Role::Forward => match judged(&host.forward) {
            Verdict { decision: Decision::NoProfile, .. } => {
                Deciding::Exempt(true, "no policy for forwarded traffic decides")
            }
            verdict => Deciding::Lists(&host.forward, verdict),
        },
        Role::Arrival => Deciding::Exempt(true, "no policy before address translation decides"),
        _ if failsafe => Deciding::Failsafe,
        _ => Deciding::Lists(&end.endpoint, judged(&end.endpoint)),
    }
}

fn opens(p: &FailsafePort, far: IpAddr, packet: &Packet) -> bool {
    let protocol = match p.protocol.as_deref().unwrap_or("TCP").to_ascii_uppercase().as_str() {
        "UDP" => 17,
        "SCTP" => 132,
        _ => 6,
    };
    let net = p.net.as_deref().filter(|n| !n.is_empty());
    let near = net.is_none_or(|n| parse_network(n).is_ok_and(|n| n.contains(&far)));
    packet.protocol == protocol && p.port == Some(i32::from(packet.dst_port)) && near
}

/// First ports of ranges within which nothing at the station tells ports apart.
fn boundaries(station: &Station, dst: IpAddr, starts: &mut BTreeSet<u16>) {
    let (end, dir) = (&station.at, station.dir);
    let mut add = |first: u16, last: u16| {
        starts.insert(first);
        starts.extend(last.checked_add(1));
    };
    let mirror = &*end.mirror;
    let pick = |inbound: &'_ [Rule], outbound: &'_ [Rule], add: &mut dyn FnMut(u16, u16)| {
        for rule in if dir == Direction::Ingress { inbound } else { outbound } {
            let side: &Side = &rule.dst;
            for r in side.ports.iter().chain(&side.not_ports) {
                add(r.first, r.last);
            }
            let sets = side.ip_port_sets.iter().chain(&side.named_port_sets).chain(&side.not_named_port_sets);
            for port in sets.flat_map(|id| ports_of(mirror, id, dst)) {
                add(port, port);
            }
        }
    };
    let mut lists = vec![&*end.endpoint];
    if let Some(host) = &end.host {
        lists.extend([&*host.untracked, &*host.pre_dnat, &*host.forward]);
        let ports = if dir == Direction::Ingress { &host.failsafe[0] } else { &host.failsafe[1] };
        for port in ports.iter().filter_map(|p| u16::try_from(p.port?).ok()) {
            add(port, port);
        }
    }
    for endpoint in lists {
        for key in endpoint.tiers.iter().flat_map(|t| policies(t, dir)) {
            if let Some(p) = mirror.policies.get(key) {
                pick(&p.inbound, &p.outbound, &mut add);
            }
        }
        for profile in endpoint.profiles.iter().filter_map(|p| mirror.profiles.get(p)) {
            pick(&profile.inbound, &profile.outbound, &mut add);
        }
    }
}

fn ports_of<'a>(mirror: &'a Mirror, id: &IpSetId, dst: IpAddr) -> impl Iterator<Item = u16> + 'a {
    let members = mirror.ip_sets.get(id).map(|(_, members)| members.iter());
    members.into_iter().flatten().filter_map(move |m| match m {
        IpSetMember::IpPort(addr, _, port) if *addr == dst => Some(*port),
        _ => None,
    })
}

fn policies(tier: &TierInfo, dir: Direction) -> &[Arc<PolicyKey>] {
    if dir == Direction::Ingress { &tier.ingress } else { &tier.egress }
}

fn half(world: &World, station: &Station, packet: &Packet) -> Half {
    let deciding = deciding(station, packet);
    let (end, dir) = (&station.at, station.dir);
    let mirror = &*end.mirror;
    let mut half = Half {
        endpoint: end.name.clone(),
        node: end.node.clone(),
        allowed: deciding.allowed(),
        decided_by: String::new(),
        tier: None,
        policy: None,
        rule: None,
        steps: Vec::new(),
    };
    let (endpoint, verdict) = match &deciding {
        Deciding::Failsafe => {
            half.decided_by = "a failsafe port, which no policy closes".to_owned();
            return half;
        }
        Deciding::Exempt(_, why) => {
            half.decided_by = (*why).to_owned();
            return half;
        }
        Deciding::Lists(endpoint, verdict) => (*endpoint, verdict),
    };
    half.steps = steps(world, mirror, endpoint, dir, packet);
    half.decided_by = match &verdict.decision {
        Decision::Inactive => "the endpoint is not active".to_owned(),
        Decision::PolicyRule { policy, rule } => {
            half.tier = mirror.policies.get(policy).map(|p| p.tier.clone());
            half.policy = Some(policy_name(policy));
            half.rule = Some(*rule);
            let tier = half.tier.as_deref().unwrap_or_default();
            let text = rule_text::of_policy(world, policy, dir, *rule);
            format!("{} rule {rule} in tier {tier}{}", policy_name(policy), in_brackets(&text))
        }
        Decision::TierDefault { tier } => {
            half.tier = Some(tier.clone());
            format!("the end of tier {tier}: policies apply and none of their rules matches")
        }
        Decision::ProfileRule { profile, rule } => {
            half.policy = Some(format!("profile {profile}"));
            half.rule = Some(*rule);
            let text = rule_text::of_profile(world, profile, dir, *rule);
            format!("profile {profile} rule {rule}{}", in_brackets(&text))
        }
        Decision::NoProfile => "no policy applies and no profile allows it".to_owned(),
    };
    half
}

fn in_brackets(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" ({text})") }
}

/// `NetworkPolicy default/web`
#[must_use]
pub fn policy_name(key: &PolicyKey) -> String {
    let slash = if key.namespace.is_empty() { "" } else { "/" };
    // People know Kubernetes' kinds by their own names.
    let kind = match key.kind {
        PolicyKind::KubernetesClusterNetworkPolicy => "ClusterNetworkPolicy",
        PolicyKind::KubernetesNetworkPolicy => "Kubernetes NetworkPolicy",
        other => other.name(),
    };
    let name = match key.name.strip_prefix(network_policy::NAME_PREFIX) {
        Some(own) if key.kind == PolicyKind::NetworkPolicy => {
            return format!("Kubernetes NetworkPolicy {}{slash}{own}", key.namespace);
        }
        _ => &key.name,
    };
    format!("{kind} {}{slash}{name}", key.namespace)
}

/// What a list of rules says of a packet.
enum Said {
    Nothing,
    Final(usize, Action),
}

fn first_match(mirror: &Mirror, rules: &[Rule], packet: &Packet) -> (Vec<usize>, Said) {
    let mut logged = Vec::new();
    for (i, rule) in rules.iter().enumerate().filter(|(_, r)| matches(mirror, r, packet)) {
        if rule.action == Action::Log {
            logged.push(i);
        } else {
            return (logged, Said::Final(i, rule.action));
        }
    }
    (logged, Said::Nothing)
}

/// Everything that was looked at, in order, up to what decided.
fn steps(
    world: &World,
    mirror: &Mirror,
    endpoint: &WorkloadEndpoint,
    dir: Direction,
    packet: &Packet,
) -> Vec<Step> {
    let mut steps = Vec::new();
    if !endpoint.active {
        return steps;
    }
    for tier in endpoint.tiers.iter() {
        if tier_steps(world, mirror, tier, dir, packet, &mut steps) {
            return steps;
        }
    }
    for name in &endpoint.profiles {
        let subject = format!("profile {name}");
        let Some(profile) = mirror.profiles.get(name) else { continue };
        let rules = if dir == Direction::Ingress { &profile.inbound } else { &profile.outbound };
        let (_, said) = first_match(mirror, rules, packet);
        let (outcome, end) = match said {
            Said::Nothing => ("no rule matches".to_owned(), false),
            Said::Final(i, action) => (
                format!("rule {i}: {action:?}{}", in_brackets(&rule_text::of_profile(world, name, dir, i))),
                action != Action::Pass,
            ),
        };
        steps.push(Step { tier: None, subject, outcome });
        if end {
            return steps;
        }
    }
    steps.push(Step { tier: None, subject: "end".to_owned(), outcome: "Deny".to_owned() });
    steps
}

/// True where the tier decided.
fn tier_steps(
    world: &World,
    mirror: &Mirror,
    tier: &TierInfo,
    dir: Direction,
    packet: &Packet,
    steps: &mut Vec<Step>,
) -> bool {
    let mut enforced = false;
    let mut push = |subject: String, outcome: String| {
        steps.push(Step { tier: Some(tier.name.clone()), subject, outcome });
    };
    for key in policies(tier, dir) {
        let Some(policy) = mirror.policies.get(key) else { continue };
        let rules = if dir == Direction::Ingress { &policy.inbound } else { &policy.outbound };
        let (logged, said) = first_match(mirror, rules, packet);
        let staged = if key.kind.staged() { "staged, not enforced: " } else { "" };
        enforced |= !key.kind.staged();
        for i in logged {
            push(policy_name(key), format!("{staged}rule {i}: Log"));
        }
        match said {
            Said::Nothing => push(policy_name(key), format!("{staged}no rule matches")),
            Said::Final(i, action) => {
                let text = in_brackets(&rule_text::of_policy(world, key, dir, i));
                push(policy_name(key), format!("{staged}rule {i}: {action:?}{text}"));
                if staged.is_empty() {
                    return action != Action::Pass;
                }
            }
        }
    }
    if !enforced {
        return false;
    }
    let action = if tier.default_action == TierDefaultAction::Pass { "Pass" } else { "Deny" };
    push("end of the tier".to_owned(), action.to_owned());
    tier.default_action != TierDefaultAction::Pass
}
