//! Does policy allow this flow's first packet? What the rules in the kernel would say, from the same messages.
//!
//! In: messages that are programmed, and a flow. Out: whether a local workload's policy denies it. Always holds: a policy
//! or set that is not known decides nothing; the reading of a rule is the renderer's (a rule whose networks are all of
//! the other family does not match; ports without a protocol are those of TCP, UDP and SCTP).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use felix_dataplane::kernel::conntrack::Entry;
use felix_message::{
    Action, ActivePolicy, ActiveProfile, IpSetId, IpSetMember, Message, PortRange, Rule, Side,
    TierDefaultAction, WorkloadEndpoint,
};
use ipnet::IpNet;
use libcalico_model::key::{PolicyKey, WorkloadEndpointKey};

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const WITH_PORTS: [u8; 3] = [6, 17, 132];

/// A flow as policy sees it: after translation of its destination, before that of its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub protocol: u8,
    pub src_port: u16,
    pub dst_port: u16,
    pub icmp: Option<(u8, u8)>,
}

impl Flow {
    /// The flow of an entry of connection tracking.
    #[must_use]
    pub fn of(e: &Entry) -> Self {
        Self {
            src: e.original.src,
            dst: e.reply.src,
            protocol: e.original.protocol,
            src_port: e.original.src_port,
            dst_port: e.reply.src_port,
            icmp: e.original.icmp,
        }
    }
}

/// What flows are judged by besides messages.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// This host's addresses, from which every workload here is reached.
    pub own: HashSet<IpAddr>,
    /// Interfaces that are up.
    pub up: HashSet<String>,
}

#[derive(Debug, Default)]
struct Members {
    nets: HashSet<IpNet>,
    /// How many networks of each length, for each family.
    lengths: [std::collections::BTreeMap<u8, usize>; 2],
    ports: HashSet<(IpAddr, u8, u16)>,
}

fn family_index(net: &IpNet) -> usize {
    usize::from(matches!(net, IpNet::V6(_)))
}

impl Members {
    fn insert(&mut self, m: &IpSetMember) {
        match m {
            IpSetMember::Net(n) => {
                if self.nets.insert(n.trunc()) {
                    *self.lengths[family_index(n)].entry(n.prefix_len()).or_default() += 1;
                }
            }
            IpSetMember::IpPort(a, p, n) => {
                self.ports.insert((*a, *p, *n));
            }
        }
    }

    fn remove(&mut self, m: &IpSetMember) {
        match m {
            IpSetMember::Net(n) => {
                let lengths = &mut self.lengths[family_index(n)];
                if self.nets.remove(&n.trunc())
                    && let Some(count) = lengths.get_mut(&n.prefix_len())
                {
                    *count -= 1;
                    if *count == 0 {
                        lengths.remove(&n.prefix_len());
                    }
                }
            }
            IpSetMember::IpPort(a, p, n) => {
                self.ports.remove(&(*a, *p, *n));
            }
        }
    }

    fn contains(&self, addr: IpAddr) -> bool {
        self.lengths[usize::from(addr.is_ipv6())]
            .keys()
            .any(|len| IpNet::new(addr, *len).is_ok_and(|n| self.nets.contains(&n.trunc())))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Ingress,
    Egress,
}

/// What is programmed, as far as it decides about flows of workloads.
#[derive(Debug, Default)]
pub struct World {
    in_sync: bool,
    sets: HashMap<IpSetId, Members>,
    policies: HashMap<PolicyKey, Arc<ActivePolicy>>,
    profiles: HashMap<String, Arc<ActiveProfile>>,
    workloads: HashMap<WorkloadEndpointKey, Arc<WorkloadEndpoint>>,
    by_addr: HashMap<IpAddr, BTreeSet<WorkloadEndpointKey>>,
}

fn addresses(e: &WorkloadEndpoint) -> impl Iterator<Item = IpAddr> + '_ {
    let v4 = e.ipv4_nets.iter().filter(|n| n.prefix_len() == 32).map(|n| IpAddr::V4(n.addr()));
    v4.chain(e.ipv6_nets.iter().filter(|n| n.prefix_len() == 128).map(|n| IpAddr::V6(n.addr())))
}

impl World {
    /// Everything that stood in the datastore was seen.
    #[must_use]
    pub fn in_sync(&self) -> bool {
        self.in_sync
    }

    /// Takes a message; true where it may change what is allowed.
    pub fn apply(&mut self, message: &Message) -> bool {
        match message {
            Message::InSync => self.in_sync = true,
            Message::IpSetUpdate(set) => {
                let mut members = Members::default();
                set.members.iter().for_each(|m| members.insert(m));
                self.sets.insert(set.id.clone(), members);
            }
            Message::IpSetDelta(d) => {
                if let Some(members) = self.sets.get_mut(&d.id) {
                    d.removed.iter().for_each(|m| members.remove(m));
                    d.added.iter().for_each(|m| members.insert(m));
                }
            }
            Message::IpSetRemove(id) => {
                self.sets.remove(id);
            }
            Message::PolicyUpdate(key, p) => {
                self.policies.insert(key.clone(), p.clone());
            }
            Message::PolicyRemove(key) => {
                self.policies.remove(key);
            }
            Message::ProfileUpdate(name, p) => {
                self.profiles.insert(name.clone(), p.clone());
            }
            Message::ProfileRemove(name) => {
                self.profiles.remove(name);
            }
            Message::WorkloadEndpointUpdate(key, e) => {
                self.forget(key);
                for addr in addresses(e) {
                    self.by_addr.entry(addr).or_default().insert(key.clone());
                }
                self.workloads.insert(key.clone(), e.clone());
            }
            Message::WorkloadEndpointRemove(key) => self.forget(key),
            _ => return false,
        }
        true
    }

    fn forget(&mut self, key: &WorkloadEndpointKey) {
        let Some(old) = self.workloads.remove(key) else { return };
        for addr in addresses(&old) {
            if let Some(keys) = self.by_addr.get_mut(&addr) {
                keys.remove(key);
                if keys.is_empty() {
                    self.by_addr.remove(&addr);
                }
            }
        }
    }

    /// The workload that has an address: of several the one to which the route leads.
    fn workload(&self, addr: IpAddr, host: &Host) -> Option<&WorkloadEndpoint> {
        let keys = self.by_addr.get(&addr)?;
        let claims = || keys.iter().filter_map(|k| self.workloads.get(k)).filter(|e| e.active);
        claims().find(|e| host.up.contains(&e.interface_name)).or_else(|| claims().next()).map(|e| &**e)
    }

    /// True where the policy of the workload at either end denies the flow.
    #[must_use]
    pub fn denies(&self, flow: &Flow, host: &Host) -> bool {
        let judged = |addr, direction| {
            let workload = self.workload(addr, host);
            workload.is_some_and(|e| self.verdict(e, direction, flow) == Some(Action::Deny))
        };
        judged(flow.src, Direction::Egress)
            || (!host.own.contains(&flow.src) && judged(flow.dst, Direction::Ingress))
    }

    /// `None`: something is not known.
    fn verdict(&self, e: &WorkloadEndpoint, direction: Direction, flow: &Flow) -> Option<Action> {
        'tiers: for tier in &*e.tiers {
            let policies = match direction {
                Direction::Ingress => &tier.ingress,
                Direction::Egress => &tier.egress,
            };
            let mut enforced = false;
            for key in policies.iter().filter(|k| !k.kind.staged()) {
                enforced = true;
                let p = self.policies.get(key)?;
                let rules = match direction {
                    Direction::Ingress => &p.inbound,
                    Direction::Egress => &p.outbound,
                };
                match self.first(rules, flow)? {
                    Some(Action::Pass) => continue 'tiers,
                    Some(action) => return Some(action),
                    None => {}
                }
            }
            if enforced && tier.default_action == TierDefaultAction::Deny {
                return Some(Action::Deny);
            }
        }
        for name in &e.profiles {
            let Some(p) = self.profiles.get(name) else { continue };
            let rules = match direction {
                Direction::Ingress => &p.inbound,
                Direction::Egress => &p.outbound,
            };
            if let Some(action @ (Action::Allow | Action::Deny)) = self.first(rules, flow)? {
                return Some(action);
            }
        }
        Some(Action::Deny)
    }

    /// Outer `None`: something is not known. Inner: no rule matches.
    fn first(&self, rules: &[Rule], flow: &Flow) -> Option<Option<Action>> {
        for rule in rules.iter().filter(|r| r.action != Action::Log) {
            if self.matches(rule, flow)? {
                return Some(Some(rule.action));
            }
        }
        Some(None)
    }

    fn matches(&self, rule: &Rule, flow: &Flow) -> Option<bool> {
        let version = if flow.src.is_ipv4() { 4 } else { 6 };
        if rule.ip_version.is_some_and(|v| v != version) {
            return Some(false);
        }
        if rule.protocol.as_ref().is_some_and(|p| p.number() != Some(flow.protocol))
            || rule.not_protocol.as_ref().is_some_and(|p| p.number() == Some(flow.protocol))
        {
            return Some(false);
        }
        let ports = |s: &Side| !s.ports.is_empty() || !s.not_ports.is_empty();
        if (ports(&rule.src) || ports(&rule.dst)) && !WITH_PORTS.contains(&flow.protocol) {
            return Some(false);
        }
        let own_icmp = if version == 4 { ICMP } else { ICMPV6 };
        for (icmp, not) in [(rule.icmp, false), (rule.not_icmp, true)] {
            let Some(want) = icmp else { continue };
            if flow.protocol != own_icmp {
                return Some(false);
            }
            let (kind, code) = flow.icmp?;
            let same = want.icmp_type == kind && want.code.is_none_or(|c| c == code);
            if same == not {
                return Some(false);
            }
        }
        Some(
            self.side(&rule.src, flow.src, flow.src_port, flow)?
                && self.side(&rule.dst, flow.dst, flow.dst_port, flow)?,
        )
    }

    fn side(&self, side: &Side, addr: IpAddr, port: u16, flow: &Flow) -> Option<bool> {
        for (nets, not) in [(&side.nets, false), (&side.not_nets, true)] {
            let mut own = nets.iter().filter(|n| n.addr().is_ipv4() == addr.is_ipv4()).peekable();
            if nets.is_empty() {
                continue;
            }
            if own.peek().is_none() || own.any(|n| n.contains(&addr)) == not {
                return Some(false);
            }
        }
        for (ids, not) in [(&side.ip_sets, false), (&side.not_ip_sets, true)] {
            for id in ids {
                if self.sets.get(id)?.contains(addr) == not {
                    return Some(false);
                }
            }
        }
        let in_port_set =
            |id: &IpSetId| Some(self.sets.get(id)?.ports.contains(&(addr, flow.protocol, port)));
        for id in &side.ip_port_sets {
            if !in_port_set(id)? {
                return Some(false);
            }
        }
        let any = |ranges: &[PortRange], sets: &[IpSetId]| {
            let mut found = ranges.iter().any(|r| (r.first..=r.last).contains(&port));
            for id in sets {
                found |= in_port_set(id)?;
            }
            Some(found)
        };
        let given = !side.ports.is_empty() || !side.named_port_sets.is_empty();
        if given && !any(&side.ports, &side.named_port_sets)? {
            return Some(false);
        }
        Some(!any(&side.not_ports, &side.not_named_port_sets)?)
    }
}

#[cfg(test)]
mod tests {
    use felix_message::{IpSetDelta, IpSetKind, IpSetUpdate, TierInfo};
    use libcalico_api::num_or_string::Protocol;
    use libcalico_model::PolicyKind;

    use super::*;

    fn key(name: &str) -> PolicyKey {
        PolicyKey { kind: PolicyKind::GlobalNetworkPolicy, namespace: String::new(), name: name.to_owned() }
    }

    fn world(inbound: Vec<Rule>) -> World {
        let mut w = World::default();
        let p = ActivePolicy { inbound, ..ActivePolicy::default() };
        let open = ActiveProfile { inbound: vec![Rule::default()], outbound: vec![Rule::default()] };
        let tier = TierInfo { ingress: vec![Arc::new(key("p"))], ..TierInfo::default() };
        let e = WorkloadEndpoint {
            active: true,
            ipv4_nets: vec!["10.65.0.3/32".parse().unwrap()],
            tiers: vec![tier].into(),
            profiles: vec!["open".to_owned()],
            ..WorkloadEndpoint::default()
        };
        let endpoint = WorkloadEndpointKey {
            host: "h".to_owned(),
            orchestrator: "k8s".to_owned(),
            workload: "w".to_owned(),
            endpoint: "eth0".to_owned(),
        };
        for m in [
            Message::PolicyUpdate(key("p"), Arc::new(p)),
            Message::ProfileUpdate("open".to_owned(), Arc::new(open)),
            Message::WorkloadEndpointUpdate(endpoint, Arc::new(e)),
            Message::InSync,
        ] {
            w.apply(&m);
        }
        w
    }

    fn flow(port: u16) -> Flow {
        Flow {
            src: "10.65.0.2".parse().unwrap(),
            dst: "10.65.0.3".parse().unwrap(),
            protocol: 6,
            src_port: 40_000,
            dst_port: port,
            icmp: None,
        }
    }

    fn web() -> Rule {
        let mut rule = Rule { protocol: Some(Protocol::Number(6)), ..Rule::default() };
        rule.dst.ports = vec![PortRange { first: 80, last: 80 }];
        rule
    }

    #[test]
    fn what_no_rule_allows_is_denied_at_the_end_of_the_tier() {
        let w = world(vec![web()]);
        let none = Host::default();
        assert!(!w.denies(&flow(80), &none));
        assert!(w.denies(&flow(81), &none));
        let host = Host { own: HashSet::from([flow(81).src]), ..Host::default() };
        assert!(!w.denies(&flow(81), &host), "the host reaches its workloads");
        let back = Flow { src: flow(81).dst, dst: flow(81).src, ..flow(81) };
        assert!(!w.denies(&back, &none), "egress is open by the profile");
    }

    #[test]
    fn pass_goes_on_to_the_profiles() {
        let w = world(vec![
            Rule { action: Action::Pass, ..web() },
            Rule { action: Action::Deny, ..Rule::default() },
        ]);
        assert!(!w.denies(&flow(80), &Host::default()));
        assert!(w.denies(&flow(81), &Host::default()));
    }

    #[test]
    fn a_set_is_followed_and_an_unknown_one_decides_nothing() {
        let mut rule = web();
        rule.src.ip_sets = vec!["s:a".into()];
        let mut w = world(vec![rule]);
        let none = Host::default();
        assert!(!w.denies(&flow(80), &none), "the set is not known");
        let set = |members| IpSetUpdate { id: "s:a".into(), kind: IpSetKind::Net, members };
        w.apply(&Message::IpSetUpdate(set(vec![])));
        assert!(w.denies(&flow(80), &none));
        let net = vec![IpSetMember::Net("10.65.0.0/24".parse().unwrap())];
        w.apply(&Message::IpSetDelta(IpSetDelta { id: "s:a".into(), added: net.clone(), removed: vec![] }));
        assert!(!w.denies(&flow(80), &none));
        w.apply(&Message::IpSetDelta(IpSetDelta { id: "s:a".into(), added: vec![], removed: net }));
        assert!(w.denies(&flow(80), &none));
    }

    #[test]
    fn of_several_that_claim_an_address_the_one_whose_interface_is_up_judges() {
        // An endpoint that a crash left behind, with the smaller name and no policy: it would allow everything.
        let mut w = world(vec![web()]);
        let (live, e) = w.workloads.iter().next().map(|(k, e)| (k.clone(), e.clone())).unwrap();
        let on = |interface: &str, tiers| WorkloadEndpoint {
            interface_name: interface.to_owned(),
            tiers,
            ..(*e).clone()
        };
        let stale = WorkloadEndpointKey { workload: "a".to_owned(), ..live.clone() };
        w.apply(&Message::WorkloadEndpointUpdate(live, Arc::new(on("cali1", e.tiers.clone()))));
        w.apply(&Message::WorkloadEndpointUpdate(stale, Arc::new(on("cali0", Arc::default()))));
        let up =
            |names: &[&str]| Host { up: names.iter().map(|n| (*n).to_owned()).collect(), ..Host::default() };
        assert!(w.denies(&flow(81), &up(&["cali1"])));
        assert!(!w.denies(&flow(81), &up(&["cali0", "cali1"])), "the smaller name has it");
        assert!(!w.denies(&flow(81), &up(&[])));
    }
}
