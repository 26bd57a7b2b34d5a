//! Does a rule match a packet? What its sides, selectors, networks and ports mean.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Entity, Evaluator, Wire};
use crate::world::{Action, Icmp, Labels, NamespaceSelector, Port, Rule, Selector, Side};

/// Which side of a rule is looked at: a service's ports count where it is what traffic goes to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Source,
    Destination,
}

impl Evaluator<'_> {
    pub(super) fn namespace_matches(&self, selector: &Selector, e: &Entity) -> bool {
        let none = Labels::new();
        let labels = e.namespace.filter(|_| e.inherits).map_or(&none, |n| &self.world.namespaces[n].labels);
        selector.matches_member(labels, e.namespace.is_some())
    }

    pub(super) fn account_matches(&self, selector: &Selector, e: &Entity) -> bool {
        let none = Labels::new();
        let account = e.namespace.zip(e.account);
        let labels = account.filter(|_| e.inherits).map_or(&none, |(n, a)| &self.world.accounts[n][a]);
        selector.matches_member(labels, account.is_some())
    }

    /// The action of the first rule that decides.
    pub(super) fn rules(&self, rules: &[Rule], namespace: Option<usize>, packet: &Wire) -> Option<Action> {
        let decides = |r: &&Rule| r.action != Action::Log && self.matches(r, namespace, packet);
        rules.iter().find(decides).map(|r| r.action)
    }

    fn matches(&self, rule: &Rule, namespace: Option<usize>, p: &Wire) -> bool {
        let icmp = |i: &Icmp| {
            p.icmp.is_some_and(|(kind, code)| {
                i.icmp_type.is_none_or(|t| t == kind) && i.code.is_none_or(|c| c == code)
            })
        };
        let version = if p.src.is_ipv4() { 4 } else { 6 };
        !rule.http
            && rule.ip_version.is_none_or(|v| v == version)
            && rule.protocol.is_none_or(|x| x.number() == p.protocol)
            && rule.not_protocol.is_none_or(|x| x.number() != p.protocol)
            && rule.icmp.as_ref().is_none_or(icmp)
            && !rule.not_icmp.as_ref().is_some_and(icmp)
            && self.side(&rule.source, namespace, Which::Source, p)
            && self.side(&rule.destination, namespace, Which::Destination, p)
    }

    fn side(&self, side: &Side, namespace: Option<usize>, which: Which, p: &Wire) -> bool {
        let (addr, port) = if which == Which::Source { (p.src, p.src_port) } else { (p.dst, p.dst_port) };
        let within = |nets: &[IpNet]| nets.iter().any(|n| n.contains(&addr));
        // A rule with networks of one family alone is for that family, also where it excludes them.
        let of_family = |nets: &[IpNet]| nets.iter().any(|n| n.addr().is_ipv4() == addr.is_ipv4());
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
                    .any(|n| n.name == *name && n.port == port && n.transport.number() == p.protocol)
            };
            self.holders(addr).any(|e| has(e) && (!restricted || chosen(e)))
        };
        let port_matches = |one: &Port| match one {
            Port::Number(n) => *n == port,
            Port::Range(first, last) => (*first..=*last).contains(&port),
            Port::Named(name) => named(name),
        };
        (side.nets.is_empty() || within(&side.nets))
            && (side.not_nets.is_empty() || of_family(&side.not_nets) && !within(&side.not_nets))
            && (!restricted || self.holders(addr).any(chosen))
            && (restricted || !side.not_selector.as_ref().is_some_and(excluded))
            && (side.ports.is_empty() || side.ports.iter().any(port_matches))
            && !side.not_ports.iter().any(port_matches)
            && side.service.is_none_or(|n| {
                self.behind(n, addr, (which == Which::Destination).then_some((p.protocol, port)))
            })
    }

    /// True where the address is behind the service and, if one is given, the port too.
    fn behind(&self, service: usize, addr: IpAddr, port: Option<(u8, u16)>) -> bool {
        let Some(service) = self.world.services.get(service) else { return false };
        service.backends.iter().any(|e| e.address(addr.is_ipv4()) == addr)
            && port.is_none_or(|(protocol, port)| {
                service.ports.iter().any(|(transport, p)| transport.number() == protocol && *p == port)
            })
    }

    fn holders(&self, addr: IpAddr) -> impl Iterator<Item = &Entity> {
        self.entities.iter().filter(move |e| e.nets.iter().any(|n| n.contains(&addr)))
    }

    /// True where the side's selectors choose the entity.
    fn chosen(&self, side: &Side, namespace: Option<usize>, e: &Entity) -> bool {
        let in_namespace = match (&side.namespace_selector, namespace) {
            (Some(NamespaceSelector::Global), _) => e.namespace.is_none(),
            (Some(NamespaceSelector::Labels(s)), _) => self.namespace_matches(s, e),
            (Some(NamespaceSelector::Number(n)), _) => e.namespace == Some(*n),
            // Without a namespace selector a namespaced policy means its own namespace.
            (None, Some(n)) => e.namespace == Some(n),
            (None, None) => true,
        };
        let names = &side.account_names;
        in_namespace
            && (names.is_empty() || e.account.is_some_and(|a| names.contains(&a)))
            && (!side.pods_only || e.account.is_some())
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
