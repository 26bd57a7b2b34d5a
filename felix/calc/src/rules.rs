//! Rules of policies and profiles: checked and parsed once when they come in, rendered when an endpoint needs them.
//!
//! In comes a rule of the datastore model, out goes a [`ParsedRule`] that holds only what the rule says, or the reason
//! why it is not valid; and of a parsed rule, with the address sets that it refers to, the message's rule. Always
//! holds: what cannot be understood is an error, never a match that is left away, because a rule with one match less
//! lets more through.
//!
//! How selectors become sets (as upstream has it): a selector and its negation on one side become one set; a named
//! port becomes a set of addresses and ports of the endpoints that the side's selector matches, and the selector itself
//! is then left away unless the side has numeric ports too.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};

use felix_message::{Action, Icmp, IpSetId, PortRange, Rule, Side};
use ipnet::IpNet;
use libcalico_api::num_or_string::{Port, Protocol, ports_fit};
use libcalico_model::backend;
use libcalico_selector::Selector;
use libcalico_selector::ast::Node;

use crate::ip_sets::SetSpec;

/// Why a policy or profile is taken as absent.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RuleError {
    #[error("{field} {text:?}: {reason}")]
    Selector { field: &'static str, text: String, reason: String },
    #[error("unknown action {0:?}: one of allow, deny, log, pass")]
    Action(String),
    #[error("IP version {0}: 4 or 6")]
    IpVersion(u8),
    #[error("unknown protocol {0:?}")]
    Protocol(String),
    #[error("ports need the protocol TCP, UDP or SCTP, not {0}")]
    PortsWithoutProtocol(String),
    #[error("an ICMP code needs an ICMP type")]
    IcmpCodeWithoutType,
    #[error("tier {tier:?}: unknown default action {action:?}: Deny or Pass")]
    DefaultAction { tier: String, action: String },
    #[error("unknown policy type {0:?}: ingress or egress")]
    PolicyType(String),
}

/// Selectors that were read, by their text: ten thousand policies share a few.
#[derive(Default)]
pub struct SelectorCache {
    known: HashMap<String, Weak<Selector>>,
    /// At this size those that nobody has any more are dropped.
    sweep_at: usize,
}

impl SelectorCache {
    /// Reads a selector.
    pub fn parse(&mut self, field: &'static str, text: &str) -> Result<Arc<Selector>, RuleError> {
        if let Some(selector) = self.known.get(text).and_then(Weak::upgrade) {
            return Ok(selector);
        }
        let selector = Selector::parse(text).map_err(|e| RuleError::Selector {
            field,
            text: text.chars().take(120).collect(),
            reason: e.to_string(),
        })?;
        let selector = Arc::new(selector);
        if self.known.len() >= self.sweep_at {
            self.known.retain(|_, s| s.strong_count() > 0);
            self.sweep_at = 2 * self.known.len() + 64;
        }
        self.known.insert(text.to_owned(), Arc::downgrade(&selector));
        Ok(selector)
    }
}

/// A rule that was checked. Only what the rule says takes memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ParsedRule {
    action: Action,
    matches: Box<[Match]>,
}

/// One match of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Match {
    IpVersion(u8),
    Protocol(Box<Protocol>),
    NotProtocol(Box<Protocol>),
    Icmp(Icmp),
    NotIcmp(Icmp),
    Nets(End, Box<[IpNet]>),
    NotNets(End, Box<[IpNet]>),
    Selector(End, Arc<Selector>),
    NotSelector(End, Arc<Selector>),
    Ports(End, Box<[Port]>),
    NotPorts(End, Box<[Port]>),
    /// `namespace/name`
    Service(End, Box<str>),
    Metadata(Arc<BTreeMap<String, String>>),
}

/// A side of the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum End {
    Source,
    Destination,
}

fn action(text: &str) -> Result<Action, RuleError> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "" | "allow" => Action::Allow,
        "deny" => Action::Deny,
        "log" => Action::Log,
        "pass" | "next-tier" => Action::Pass,
        _ => return Err(RuleError::Action(text.to_owned())),
    })
}

fn icmp(icmp_type: Option<u8>, code: Option<u8>) -> Result<Option<Icmp>, RuleError> {
    match (icmp_type, code) {
        (None, Some(_)) => Err(RuleError::IcmpCodeWithoutType),
        (icmp_type, code) => Ok(icmp_type.map(|icmp_type| Icmp { icmp_type, code })),
    }
}

/// The two sides of a rule of the model, field by field.
struct RawSide<'a> {
    end: End,
    nets: (&'a Option<IpNet>, &'a [IpNet]),
    not_nets: (&'a Option<IpNet>, &'a [IpNet]),
    selector: (&'static str, &'a str),
    not_selector: (&'static str, &'a str),
    ports: &'a [Port],
    not_ports: &'a [Port],
    service: (&'a str, &'a str),
}

impl RawSide<'_> {
    fn parse(&self, cache: &mut SelectorCache, out: &mut Vec<Match>) -> Result<(), RuleError> {
        let nets = |(one, many): (&Option<IpNet>, &[IpNet])| -> Box<[IpNet]> {
            one.iter().chain(many).map(IpNet::trunc).collect()
        };
        let (in_nets, not_nets) = (nets(self.nets), nets(self.not_nets));
        if !in_nets.is_empty() {
            out.push(Match::Nets(self.end, in_nets));
        }
        if !not_nets.is_empty() {
            out.push(Match::NotNets(self.end, not_nets));
        }
        if !self.selector.1.is_empty() {
            out.push(Match::Selector(self.end, cache.parse(self.selector.0, self.selector.1)?));
        }
        if !self.not_selector.1.is_empty() {
            out.push(Match::NotSelector(self.end, cache.parse(self.not_selector.0, self.not_selector.1)?));
        }
        if !self.ports.is_empty() {
            out.push(Match::Ports(self.end, self.ports.into()));
        }
        if !self.not_ports.is_empty() {
            out.push(Match::NotPorts(self.end, self.not_ports.into()));
        }
        if !self.service.0.is_empty() {
            out.push(Match::Service(self.end, format!("{}/{}", self.service.1, self.service.0).into()));
        }
        Ok(())
    }
}

impl ParsedRule {
    /// Denies everything.
    pub fn deny() -> Self {
        Self { action: Action::Deny, matches: Box::default() }
    }

    /// Checks a rule.
    pub fn parse(rule: &backend::Rule, cache: &mut SelectorCache) -> Result<Self, RuleError> {
        let mut matches = Vec::new();
        if let Some(v) = rule.ip_version {
            if v != 4 && v != 6 {
                return Err(RuleError::IpVersion(v));
            }
            matches.push(Match::IpVersion(v));
        }
        for protocol in rule.protocol.iter().chain(&rule.not_protocol) {
            if protocol.number().is_none() {
                return Err(RuleError::Protocol(protocol.to_string()));
            }
        }
        let ports = [&rule.src_ports, &rule.dst_ports, &rule.not_src_ports, &rule.not_dst_ports];
        if !ports.into_iter().all(|p| ports_fit(rule.protocol.as_ref(), p)) {
            let protocol = rule.protocol.as_ref().map_or("any".to_owned(), ToString::to_string);
            return Err(RuleError::PortsWithoutProtocol(protocol));
        }
        matches.extend(rule.protocol.clone().map(|p| Match::Protocol(Box::new(p))));
        matches.extend(rule.not_protocol.clone().map(|p| Match::NotProtocol(Box::new(p))));
        matches.extend(icmp(rule.icmp_type, rule.icmp_code)?.map(Match::Icmp));
        matches.extend(icmp(rule.not_icmp_type, rule.not_icmp_code)?.map(Match::NotIcmp));
        let sides = [
            RawSide {
                end: End::Source,
                nets: (&rule.src_net, &rule.src_nets),
                not_nets: (&rule.not_src_net, &rule.not_src_nets),
                selector: ("src_selector", &rule.src_selector),
                not_selector: ("!src_selector", &rule.not_src_selector),
                ports: &rule.src_ports,
                not_ports: &rule.not_src_ports,
                service: (&rule.src_service, &rule.src_service_namespace),
            },
            RawSide {
                end: End::Destination,
                nets: (&rule.dst_net, &rule.dst_nets),
                not_nets: (&rule.not_dst_net, &rule.not_dst_nets),
                selector: ("dst_selector", &rule.dst_selector),
                not_selector: ("!dst_selector", &rule.not_dst_selector),
                ports: &rule.dst_ports,
                not_ports: &rule.not_dst_ports,
                service: (&rule.dst_service, &rule.dst_service_namespace),
            },
        ];
        for side in sides {
            side.parse(cache, &mut matches)?;
        }
        if let Some(metadata) = &rule.metadata
            && !metadata.annotations.is_empty()
        {
            matches.push(Match::Metadata(Arc::new(metadata.annotations.clone())));
        }
        Ok(Self { action: action(&rule.action)?, matches: matches.into_boxed_slice() })
    }

    /// The message's rule. `set` is asked for the identifier of each set that the rule refers to.
    pub fn render(&self, set: &mut impl FnMut(SetSpec) -> IpSetId) -> Rule {
        let mut rule = Rule { action: self.action, ..Rule::default() };
        for m in &self.matches {
            match m {
                Match::IpVersion(v) => rule.ip_version = Some(*v),
                Match::Protocol(p) => rule.protocol = Some((**p).clone()),
                Match::NotProtocol(p) => rule.not_protocol = Some((**p).clone()),
                Match::Icmp(i) => rule.icmp = Some(*i),
                Match::NotIcmp(i) => rule.not_icmp = Some(*i),
                Match::Metadata(m) => rule.metadata = (**m).clone(),
                _ => {}
            }
        }
        let protocol = rule.protocol.as_ref().and_then(Protocol::number);
        rule.src = self.render_side(End::Source, protocol, set);
        rule.dst = self.render_side(End::Destination, protocol, set);
        rule
    }

    fn render_side(&self, end: End, protocol: Option<u8>, set: &mut impl FnMut(SetSpec) -> IpSetId) -> Side {
        let mut side = Side::default();
        let (mut selector, mut not_selector) = (None, None);
        let (mut ports, mut not_ports): (&[Port], &[Port]) = (&[], &[]);
        for m in &self.matches {
            match m {
                Match::Nets(e, nets) if *e == end => side.nets = nets.to_vec(),
                Match::NotNets(e, nets) if *e == end => side.not_nets = nets.to_vec(),
                Match::Selector(e, s) if *e == end => selector = Some((**s).clone()),
                Match::NotSelector(e, s) if *e == end => not_selector = Some((**s).clone()),
                Match::Ports(e, p) if *e == end => ports = p,
                Match::NotPorts(e, p) if *e == end => not_ports = p,
                Match::Service(e, name) if *e == end => {
                    let with_ports = end == End::Destination;
                    let id = set(SetSpec::Service { name: name.clone(), with_ports });
                    if with_ports { &mut side.ip_port_sets } else { &mut side.ip_sets }.push(id);
                }
                _ => {}
            }
        }
        let (selector, not_selector) = combine(selector, not_selector);
        // Not filtered by a negated selector: another item with the address of one that it leaves could match it.
        let of = selector.clone().unwrap_or_default();
        let mut named = |ports: &[Port]| -> Vec<IpSetId> {
            let names = ports.iter().filter_map(|p| match p {
                Port::Named(name) => Some(name.as_str().into()),
                _ => None,
            });
            names.map(|name| set(SetSpec::NamedPort { selector: of.clone(), protocol, name })).collect()
        };
        side.named_port_sets = named(ports);
        side.not_named_port_sets = named(not_ports);
        side.ports = ranges(ports);
        side.not_ports = ranges(not_ports);
        // A set of named ports holds only what the selector matches.
        if side.named_port_sets.is_empty() || !side.ports.is_empty() {
            side.ip_sets.extend(selector.map(|s| set(SetSpec::Addresses(s))));
        }
        side.not_ip_sets.extend(not_selector.map(|s| set(SetSpec::Addresses(s))));
        side
    }
}

fn ranges(ports: &[Port]) -> Vec<PortRange> {
    ports.iter().filter_map(Port::range).map(|(first, last)| PortRange { first, last }).collect()
}

/// A selector and its negation on one side are one selector.
fn combine(yes: Option<Selector>, no: Option<Selector>) -> (Option<Selector>, Option<Selector>) {
    match (yes, no) {
        (Some(yes), Some(no)) => {
            let not = Node::Not(Box::new(no.node().clone()));
            (Some(Selector::from_node(Node::And(vec![yes.node().clone(), not]))), None)
        }
        other => other,
    }
}

/// Checks rules in order.
///
/// No dataplane here looks into HTTP. A rule that asks for methods or paths must not let everything through, so it is
/// left out; a denying one denies whatever the method.
pub fn parse_rules(
    rules: &[backend::Rule],
    cache: &mut SelectorCache,
) -> Result<Box<[ParsedRule]>, RuleError> {
    let mut out = Vec::with_capacity(rules.len());
    for rule in rules {
        let parsed = ParsedRule::parse(rule, cache)?;
        let asks_http = rule.http.as_ref().is_some_and(|h| !h.methods.is_empty() || !h.paths.is_empty());
        if !asks_http || parsed.action == Action::Deny {
            out.push(parsed);
        }
    }
    Ok(out.into_boxed_slice())
}
