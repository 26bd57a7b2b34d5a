//! `BGPFilter` of `projectcalico.org/v3`: rules that routes pass on their way in or out of a BGP session.

use libcalico_net::cidr::Family;
use serde::{Deserialize, Serialize};

use crate::common::null_default;
use crate::meta::{NoStatus, Object};
use crate::names::is_bgp_community;
use crate::num_or_string::AsNumber;
use crate::validation::{Checked, Findings, Path};

/// Most rules in one list.
pub const MAX_RULES: usize = 1024;

/// The whole object.
pub type BGPFilter = Object<BGPFilterSpec, NoStatus>;

/// Rules by direction and family; the first that matches decides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct BGPFilterSpec {
    /// Rules for IPv4 routes that are announced to the peer.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub export_v4: Vec<BGPFilterRule>,
    /// Rules for IPv6 routes that are announced to the peer.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub export_v6: Vec<BGPFilterRule>,
    /// Rules for IPv4 routes that the peer announces.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub import_v4: Vec<BGPFilterRule>,
    /// Rules for IPv6 routes that the peer announces.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub import_v6: Vec<BGPFilterRule>,
}

/// One rule: all given matches must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct BGPFilterRule {
    /// What happens to a route that matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// AS numbers that the route's path begins with.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub as_path_prefix: Vec<AsNumber>,
    /// The network that the route's prefix is compared with, by `matchOperator`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cidr: Option<String>,
    /// Communities of which the route has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub communities: Option<CommunityMatch>,
    /// The interface that the route goes through, with `*` for a part of its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// How the route's prefix and `cidr` relate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub match_operator: Option<MatchOperator>,
    /// Changes of an accepted route, in order.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<Operation>,
    /// The kind of session the rule is for; absent is both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_type: Option<PeerType>,
    /// Bounds for the route's prefix length, within `cidr`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_length: Option<PrefixLength>,
    /// The route's metric in the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// Where the route came from; absent is anywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

/// Where a route came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Source {
    RemotePeers,
}

/// Bounds for the prefix length of matching routes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct PrefixLength {
    /// Longest prefix that matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<i32>,
    /// Shortest prefix that matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<i32>,
}

/// Kind of session: other or own AS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum PeerType {
    #[serde(rename = "eBGP")]
    EBGP,
    #[serde(rename = "iBGP")]
    IBGP,
}

/// One change of an accepted route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Operation {
    /// Adds a community to the route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add_community: Option<AddCommunity>,
    /// Puts AS numbers before the route's path.
    #[serde(rename = "prependASPath", skip_serializing_if = "Option::is_none")]
    pub prepend_as_path: Option<PrependAsPath>,
    /// Sets the route's metric in the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_priority: Option<SetPriority>,
}

/// Sets the kernel metric.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct SetPriority {
    /// The metric; lower goes first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<i32>,
}

/// Puts AS numbers before the path.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct PrependAsPath {
    /// The numbers, the first of them first in the path.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub prefix: Vec<AsNumber>,
}

/// Adds a community.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct AddCommunity {
    /// `A:B` (RFC 1997) or `A:B:C` (RFC 8092).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// How a route's prefix relates to `cidr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum MatchOperator {
    Equal,
    NotEqual,
    In,
    NotIn,
}

/// Communities of which a route must have one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct CommunityMatch {
    /// Communities as `A:B` or `A:B:C`.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// What happens to a route that matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Action {
    Accept,
    Reject,
}

impl Checked for BGPFilter {
    fn check(&self, e: &mut Findings) {
        let spec = Path::root("spec");
        let s = &self.spec;
        for (name, family, rules) in [
            ("exportV4", Family::V4, &s.export_v4),
            ("importV4", Family::V4, &s.import_v4),
            ("exportV6", Family::V6, &s.export_v6),
            ("importV6", Family::V6, &s.import_v6),
        ] {
            let at = spec.field(name);
            e.max_items(&at, rules, MAX_RULES);
            for (i, rule) in rules.iter().enumerate() {
                rule.check(family, &at.index(i), e);
            }
        }
    }
}

impl BGPFilterRule {
    fn check(&self, family: Family, path: &Path<'_>, e: &mut Findings) {
        e.require(self.action.is_some(), &path.field("action"), "", "must be Accept or Reject");
        let cidr = self.cidr.as_deref().unwrap_or_default();
        if !cidr.is_empty() {
            let at = path.field("cidr");
            if let Some(net) = e.network(&at, cidr) {
                let right = Family::of_net(net) == family;
                e.require(right, &at, cidr, &format!("must be an {family} network"));
            }
        }
        e.require(
            cidr.is_empty() == self.match_operator.is_none(),
            &path.field("matchOperator"),
            "",
            "cidr and matchOperator belong together: give both or neither",
        );
        if let Some(length) = &self.prefix_length {
            let at = path.field("prefixLength");
            e.require(!cidr.is_empty(), &at, "", "needs a cidr beside it");
            let bits = i64::from(family.bits());
            e.range_opt(&at.field("min"), length.min, 0, bits);
            e.range_opt(&at.field("max"), length.max, 0, bits);
            let ordered = length.min.zip(length.max).is_none_or(|(min, max)| min <= max);
            e.require(ordered, &at.field("min"), length.min.unwrap_or_default(), "is above max");
        }
        let interface = self.interface.as_deref().unwrap_or_default();
        e.require(
            interface.len() <= 15 && !interface.contains(|c: char| c.is_whitespace() || c == '"'),
            &path.field("interface"),
            interface,
            "must be the name of an interface, with * for a part, at most 15 characters",
        );
        e.range_opt(&path.field("priority"), self.priority, 1, 2_147_483_646);
        if let Some(c) = &self.communities {
            let at = path.field("communities");
            for (i, text) in c.values.iter().enumerate() {
                check_community(&at.field("values").index(i), text, e);
            }
        }
        let at = path.field("operations");
        e.require(
            self.operations.is_empty() || self.action == Some(Action::Accept),
            &at,
            "",
            "a rejected route is not changed: operations need action Accept",
        );
        for (i, operation) in self.operations.iter().enumerate() {
            operation.check(&at.index(i), e);
        }
    }
}

impl Operation {
    fn check(&self, path: &Path<'_>, e: &mut Findings) {
        let given = usize::from(self.add_community.is_some())
            + usize::from(self.prepend_as_path.is_some())
            + usize::from(self.set_priority.is_some());
        e.require(given == 1, path, "", "give exactly one of addCommunity, prependASPath and setPriority");
        if let Some(c) = &self.add_community {
            let at = path.field("addCommunity");
            check_community(&at.field("value"), c.value.as_deref().unwrap_or_default(), e);
        }
        if let Some(p) = &self.prepend_as_path {
            let at = path.field("prependASPath");
            e.require(!p.prefix.is_empty(), &at.field("prefix"), "", "needs at least one AS number");
        }
        if let Some(p) = &self.set_priority {
            let at = path.field("setPriority");
            e.range(&at.field("value"), p.value.unwrap_or_default(), 1, 2_147_483_646);
        }
    }
}

fn check_community(path: &Path<'_>, text: &str, e: &mut Findings) {
    let rule = "must be A:B of 16 bits each or A:B:C of 32 bits each";
    e.require(is_bgp_community(text), path, text, rule);
}

/// How the Kubernetes API shows and checks the kind.
#[cfg(feature = "schema")]
pub(crate) const CRD: crate::crd::Table = {
    use crate::crd::COMMUNITY;
    use crate::crd::Set::{
        Format, Max, MaxItems, MaxLength, MaxProperties, Min, MinItems, MinProperties, Required, Rule,
    };
    crate::crd::Table {
        columns: &[],
        status: false,
        limits: &[&[
            ("spec.{exportV4,exportV6,importV4,importV6}", &[MaxItems(MAX_RULES as u64)]),
            (
                "spec.{exportV4,exportV6,importV4,importV6}[]",
                &[
                    Required(&["action"]),
                    Rule(
                        "(has(self.cidr) && self.cidr != '') == has(self.matchOperator)",
                        "cidr and matchOperator belong together: give both or neither",
                    ),
                    Rule(
                        "!has(self.prefixLength) || (has(self.cidr) && self.cidr != '')",
                        "prefixLength needs a cidr beside it",
                    ),
                    Rule(
                        "!has(self.operations) || size(self.operations) == 0 || self.action == 'Accept'",
                        "a rejected route is not changed: operations need action Accept",
                    ),
                ],
            ),
            ("spec.{exportV4,importV4}[].cidr", &[Format("cidr"), MaxLength(18)]),
            ("spec.{exportV6,importV6}[].cidr", &[Format("cidr"), MaxLength(43)]),
            (
                "spec.{exportV4,exportV6,importV4,importV6}[].prefixLength",
                &[Rule(
                    "!has(self.min) || !has(self.max) || self.min <= self.max",
                    "min must not be above max",
                )],
            ),
            ("spec.{exportV4,importV4}[].prefixLength.{min,max}", &[Min(0), Max(32)]),
            ("spec.{exportV6,importV6}[].prefixLength.{min,max}", &[Min(0), Max(128)]),
            ("spec.{exportV4,exportV6,importV4,importV6}[].interface", &[MaxLength(15)]),
            ("spec.{exportV4,exportV6,importV4,importV6}[].priority", &[Min(1), Max(2_147_483_646)]),
            ("spec.{exportV4,exportV6,importV4,importV6}[].communities.values[]", COMMUNITY),
            (
                "spec.{exportV4,exportV6,importV4,importV6}[].operations[]",
                &[MinProperties(1), MaxProperties(1)],
            ),
            (
                "spec.{exportV4,exportV6,importV4,importV6}[].operations[].addCommunity",
                &[Required(&["value"])],
            ),
            ("spec.{exportV4,exportV6,importV4,importV6}[].operations[].addCommunity.value", COMMUNITY),
            (
                "spec.{exportV4,exportV6,importV4,importV6}[].operations[].prependASPath",
                &[Required(&["prefix"])],
            ),
            (
                "spec.{exportV4,exportV6,importV4,importV6}[].operations[].prependASPath.prefix",
                &[MinItems(1)],
            ),
            (
                "spec.{exportV4,exportV6,importV4,importV6}[].operations[].setPriority",
                &[Required(&["value"])],
            ),
            (
                "spec.{exportV4,exportV6,importV4,importV6}[].operations[].setPriority.value",
                &[Min(1), Max(2_147_483_646)],
            ),
        ]],
    }
};
