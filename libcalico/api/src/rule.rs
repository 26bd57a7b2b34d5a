//! Policy rules: action, protocol, source and destination matches. Shared by every Calico policy kind.
//!
//! The checks are upstream's: ports only with protocols that have them, ICMP fields only with ICMP, one address family
//! a rule. What is left out: how many rules a policy may have (`policy`).

use std::collections::BTreeMap;

use libcalico_net::cidr::Family;
use serde::{Deserialize, Serialize};

use crate::common::null_default;
use crate::num_or_string::{Port, Protocol, ports_fit};
use crate::validation::{Findings, Path};

/// What a rule does with a packet that matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Action {
    #[default]
    Allow,
    Deny,
    Log,
    Pass,
}

/// The direction that a policy applies to, seen from the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum PolicyType {
    Ingress,
    Egress,
}

/// What a staged policy would do to its enforced twin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum StagedAction {
    Set,
    Delete,
    Learn,
    Ignore,
}

/// One rule. Absent matches match everything; all given matches must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// What happens to a packet that matches. Must be given: a rule that says nothing must not allow.
    pub action: Action,
    /// 4 or 6: only packets of that family.
    #[serde(rename = "ipVersion", skip_serializing_if = "Option::is_none")]
    pub ip_version: Option<u8>,
    /// Only packets of this protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Only ICMP messages of this type and code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp: Option<IcmpFields>,
    /// Only packets of another protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_protocol: Option<Protocol>,
    /// Only ICMP messages of another type and code.
    #[serde(rename = "notICMP", skip_serializing_if = "Option::is_none")]
    pub not_icmp: Option<IcmpFields>,
    /// Where the packet comes from.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "EntityRule::is_empty")]
    pub source: EntityRule,
    /// Where the packet goes to.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "EntityRule::is_empty")]
    pub destination: EntityRule,
    /// Only HTTP requests of these methods and paths (application layer policy).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpMatch>,
    /// Annotations, not matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<RuleMetadata>,
}

/// ICMP type and code (RFC 792, RFC 4443). A code needs a type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct IcmpFields {
    /// ICMP type.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub icmp_type: Option<i32>,
    /// ICMP code; needs a type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
}

/// One side of a rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct EntityRule {
    /// Addresses within one of these networks.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub nets: Vec<String>,
    /// Addresses of endpoints and network sets whose labels match.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub selector: String,
    /// Narrows `selector` (or stands alone) to namespaces whose labels match; `global()` means none.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub namespace_selector: String,
    /// Addresses and ports of a Kubernetes Service's endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services: Option<ServiceMatch>,
    /// Any of these ports.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Addresses within none of these networks.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub not_nets: Vec<String>,
    /// Addresses of none of the endpoints whose labels match.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub not_selector: String,
    /// None of these ports.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub not_ports: Vec<Port>,
    /// Addresses of pods that run as one of these service accounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_accounts: Option<ServiceAccountMatch>,
}

impl EntityRule {
    /// True where nothing is matched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A Kubernetes Service whose endpoints are matched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct ServiceMatch {
    /// The Service's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The Service's namespace; the policy's own unless given.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
}

/// Service accounts, by name and by their labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct ServiceAccountMatch {
    /// Names within the policy's namespace.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Service accounts by their labels.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub selector: String,
}

/// HTTP methods and paths (application layer policy).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct HttpMatch {
    /// Methods, any of these.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Paths, any of these.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<HttpPath>,
}

/// One HTTP path, whole or by its beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct HttpPath {
    /// The whole path.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub exact: String,
    /// The path's beginning.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub prefix: String,
}

/// Annotations of a rule: shown in flow logs, not matched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct RuleMetadata {
    /// Names and values for people and programs.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What Felix may assume of a policy to be quicker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum PerformanceHint {
    /// Calculate the policy before an endpoint on the node needs it.
    AssumeNeededOnEveryNode,
}

/// Most networks in one list of a rule.
pub const MAX_NETS: usize = 256;
/// Most ports in one list of a rule.
pub const MAX_PORTS: usize = 50;

/// Which way packets go that a list of rules is for, seen from the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Ingress,
    Egress,
}

impl Rule {
    /// Lists what is wrong with the rule.
    pub fn check(&self, direction: Direction, path: &Path<'_>, e: &mut Findings) {
        self.check_protocol(path, e);
        let (source, destination) = (path.field("source"), path.field("destination"));
        self.source.check(&source, e);
        self.destination.check(&destination, e);
        self.check_families(path, e);
        let (own, own_path, far, far_path) = match direction {
            Direction::Ingress => (&self.destination, destination, &self.source, source),
            Direction::Egress => (&self.source, source, &self.destination, destination),
        };
        e.require(
            own.services.is_none(),
            &own_path.field("services"),
            "",
            "services are matched on the far side only: the source of ingress, the destination of egress",
        );
        if direction == Direction::Egress && far.services.is_some() {
            e.require(
                far.ports.is_empty() && far.not_ports.is_empty(),
                &far_path.field("ports"),
                "",
                "the ports come from the service when services are matched",
            );
        }
        if let Some(http) = &self.http {
            let at = path.field("http");
            e.require(direction == Direction::Ingress, &at, "", "HTTP is matched on ingress only");
            let tcp = self.protocol.as_ref().is_none_or(|p| p.number() == Some(6));
            e.require(tcp, &at, "", "HTTP is matched with protocol TCP only");
            e.require(self.action == Action::Allow, &at, "", "HTTP is matched by rules that allow only");
            for (i, p) in http.paths.iter().enumerate() {
                let one = p.exact.is_empty() != p.prefix.is_empty();
                e.require(one, &at.field("paths").index(i), "", "give either exact or prefix");
            }
        }
    }

    fn check_protocol(&self, path: &Path<'_>, e: &mut Findings) {
        for (name, protocol) in [("protocol", &self.protocol), ("notProtocol", &self.not_protocol)] {
            if let Some(p) = protocol {
                check_known(p, &path.field(name), e);
            }
        }
        for (side, entity) in [("source", &self.source), ("destination", &self.destination)] {
            let side = path.field(side);
            for (name, ports) in [("ports", &entity.ports), ("notPorts", &entity.not_ports)] {
                e.require(
                    ports_fit(self.protocol.as_ref(), ports),
                    &side.field(name),
                    "",
                    "ports need protocol TCP, UDP or SCTP in the same rule; names of ports may stand without",
                );
            }
        }
        let number = self.protocol.as_ref().and_then(Protocol::number);
        for (name, icmp) in [("icmp", &self.icmp), ("notICMP", &self.not_icmp)] {
            let Some(icmp) = icmp else { continue };
            let at = path.field(name);
            e.require(
                matches!(number, Some(1 | 58)),
                &at,
                "",
                "needs protocol ICMP or ICMPv6 in the same rule",
            );
            icmp.check(&at, e);
        }
        let at = path.field("ipVersion");
        match (self.ip_version, number) {
            (Some(4), Some(58)) => e.add(&at, 4, "ICMPv6 is IPv6 only"),
            (Some(6), Some(1)) => e.add(&at, 6, "ICMP is IPv4 only; IPv6 has ICMPv6"),
            (Some(v), _) => e.require(matches!(v, 4 | 6), &at, v, "must be 4 or 6"),
            (None, _) => {}
        }
    }

    /// One rule becomes rules of one family, so its networks must all be of one.
    fn check_families(&self, path: &Path<'_>, e: &mut Findings) {
        let mut seen: Option<Family> = match self.ip_version {
            Some(4) => Some(Family::V4),
            Some(6) => Some(Family::V6),
            _ => None,
        };
        for (side, entity) in [("source", &self.source), ("destination", &self.destination)] {
            let side = path.field(side);
            for (name, nets) in [("nets", &entity.nets), ("notNets", &entity.not_nets)] {
                let list = side.field(name);
                for (i, text) in nets.iter().enumerate() {
                    // Unreadable networks have been noted by the entity's own check.
                    let Ok(net) = libcalico_net::cidr::parse_network_or_address(text) else { continue };
                    let family = Family::of_net(net);
                    let want = *seen.get_or_insert(family);
                    e.require(
                        want == family,
                        &list.index(i),
                        text,
                        "the networks of one rule must all be of one family, the one of ipVersion where it is given",
                    );
                }
            }
        }
    }
}

/// A protocol must be one that the API knows by name, or a number above 0.
pub(crate) fn check_known(p: &Protocol, path: &Path<'_>, e: &mut Findings) {
    e.require(
        p.number().is_some_and(|n| n > 0),
        path,
        p,
        "must be TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number from 1 to 255",
    );
}

impl IcmpFields {
    fn check(&self, path: &Path<'_>, e: &mut Findings) {
        e.range_opt(&path.field("type"), self.icmp_type, 0, 254);
        e.range_opt(&path.field("code"), self.code, 0, 255);
        e.require(
            self.code.is_none() || self.icmp_type.is_some(),
            &path.field("code"),
            "",
            "a code needs a type beside it",
        );
    }
}

impl EntityRule {
    fn check(&self, path: &Path<'_>, e: &mut Findings) {
        for (name, nets) in [("nets", &self.nets), ("notNets", &self.not_nets)] {
            let at = path.field(name);
            e.max_items(&at, nets, MAX_NETS);
            e.nets(&at, nets);
        }
        for (name, ports) in [("ports", &self.ports), ("notPorts", &self.not_ports)] {
            e.max_items(&path.field(name), ports, MAX_PORTS);
        }
        e.selector(&path.field("selector"), &self.selector);
        e.selector(&path.field("notSelector"), &self.not_selector);
        e.namespace_selector(&path.field("namespaceSelector"), &self.namespace_selector);
        if let Some(sa) = &self.service_accounts {
            let at = path.field("serviceAccounts");
            e.selector(&at.field("selector"), &sa.selector);
            for (i, name) in sa.names.iter().enumerate() {
                e.object_name(&at.field("names").index(i), name);
            }
        }
        if let Some(service) = &self.services {
            let at = path.field("services");
            e.object_name(&at.field("name"), &service.name);
            if !service.namespace.is_empty() {
                e.object_name(&at.field("namespace"), &service.namespace);
            }
            let alone = self.nets.is_empty()
                && self.not_nets.is_empty()
                && self.selector.is_empty()
                && self.not_selector.is_empty()
                && self.namespace_selector.is_empty()
                && self.service_accounts.is_none();
            e.require(
                alone,
                &at,
                "",
                "cannot be combined with nets, selectors or serviceAccounts on the same side",
            );
        }
    }
}
