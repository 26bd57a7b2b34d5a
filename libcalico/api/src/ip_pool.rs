//! `IPPool` of `projectcalico.org/v3`: a range that workloads get addresses from, and how its traffic travels.
//!
//! What is left out: that pools must not overlap needs the other pools; [`overlapping`] helps the writer.

use libcalico_net::IpNet;
use libcalico_net::cidr::{Family, overlap, parse_network, parse_network_or_address};
use serde::{Deserialize, Serialize};

use crate::common::{Condition, null_default};
use crate::meta::Object;
use crate::policy::{drop_empty, drop_false};
use crate::validation::{Checked, Findings, Path};

/// The whole object.
pub type IPPool = Object<IPPoolSpec, IPPoolStatus>;

/// What controllers report of a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct IPPoolStatus {
    /// `Allocatable` and what hinders it.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// A range of addresses and what it is for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct IPPoolSpec {
    /// The range. Cannot change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cidr: Option<String>,
    /// When packets between nodes travel in VXLAN; `Never` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vxlan_mode: Option<EncapMode>,
    /// When packets between nodes travel in IPIP (IPv4 only); `Never` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipip_mode: Option<EncapMode>,
    /// True: packets that leave all pools take the node's address (masquerade).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nat_outgoing: Option<bool>,
    /// True: no new addresses come from the pool; those in use stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// True: the pool's routes are not exported by BGP.
    #[serde(rename = "disableBGPExport", skip_serializing_if = "Option::is_none")]
    pub disable_bgp_export: Option<bool>,
    /// Prefix length of the blocks that nodes take from the pool; 26 for IPv4, 122 for IPv6. Cannot change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_size: Option<i32>,
    /// Nodes that take addresses from the pool; `all()` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<String>,
    /// Namespaces whose pods take addresses from the pool; absent is all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<String>,
    /// What addresses are given to; workloads and tunnels unless said.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub allowed_uses: Vec<AllowedUse>,
    /// `Automatic`: any request may be served from the pool. `Manual`: only those that name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assignment_mode: Option<AssignmentMode>,
}

/// When traffic between nodes is encapsulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum EncapMode {
    Never,
    Always,
    /// Only to nodes in another subnet.
    CrossSubnet,
}

/// Whether a pool serves requests that do not name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum AssignmentMode {
    Automatic,
    Manual,
}

/// What an address of a pool may be given to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum AllowedUse {
    Workload,
    Tunnel,
    LoadBalancer,
}

impl AllowedUse {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Workload => "Workload",
            Self::Tunnel => "Tunnel",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}

/// Block size of a pool that names none.
#[must_use]
pub fn default_block_size(family: Family) -> u8 {
    match family {
        Family::V4 => 26,
        Family::V6 => 122,
    }
}

/// Block sizes that a pool may have.
#[must_use]
pub fn block_size_bounds(family: Family) -> (u8, u8) {
    match family {
        Family::V4 => (20, 32),
        Family::V6 => (116, 128),
    }
}

impl IPPool {
    /// The pool's range; `None` where it is not a network.
    #[must_use]
    pub fn network(&self) -> Option<IpNet> {
        parse_network(self.spec.cidr.as_deref()?).ok()
    }

    /// Prefix length of the pool's blocks, with its default; `None` where the range is not a network.
    #[must_use]
    pub fn block_size(&self) -> Option<u8> {
        let fallback = default_block_size(Family::of_net(self.network()?));
        match self.spec.block_size {
            None | Some(0) => Some(fallback),
            Some(n) => u8::try_from(n).ok(),
        }
    }

    /// True where the pool gives addresses to `what`. A pool that does not say serves workloads and tunnels.
    #[must_use]
    pub fn allows(&self, what: AllowedUse) -> bool {
        match self.spec.allowed_uses.as_slice() {
            [] => what != AllowedUse::LoadBalancer,
            uses => uses.contains(&what),
        }
    }

    /// Lists what must not change when `old` becomes this pool.
    #[must_use]
    pub fn forbidden_changes(&self, old: &Self) -> Vec<crate::validation::Invalid> {
        let mut e = Findings::default();
        let spec = Path::root("spec");
        if self.network() != old.network() {
            e.add(
                &spec.field("cidr"),
                self.spec.cidr.as_deref().unwrap_or_default(),
                "the range of a pool cannot change",
            );
        }
        if self.block_size() != old.block_size() {
            let size = self.spec.block_size.unwrap_or_default();
            e.add(&spec.field("blockSize"), size, "the block size of a pool cannot change");
        }
        e.into_vec()
    }
}

/// The first of `others`, by another name, whose range shares addresses with the pool's.
#[must_use]
pub fn overlapping<'a>(pool: &IPPool, others: impl IntoIterator<Item = &'a IPPool>) -> Option<&'a IPPool> {
    let net = pool.network()?;
    others.into_iter().find(|o| {
        o.metadata.name != pool.metadata.name && o.network().is_some_and(|other| overlap(net, other))
    })
}

impl Checked for IPPool {
    fn check(&self, e: &mut Findings) {
        let spec = Path::root("spec");
        let text = self.spec.cidr.as_deref().unwrap_or_default();
        if let Some(net) = e.network(&spec.field("cidr"), text) {
            self.check_range(&spec, net, e);
        }
        let on = |mode: Option<EncapMode>| mode.is_some_and(|m| m != EncapMode::Never);
        e.require(
            !(on(self.spec.ipip_mode) && on(self.spec.vxlan_mode)),
            &spec.field("vxlanMode"),
            "",
            "ipipMode and vxlanMode cannot both be on; set one to Never",
        );
        e.selector_opt(&spec.field("nodeSelector"), self.spec.node_selector.as_deref());
        e.selector_opt(&spec.field("namespaceSelector"), self.spec.namespace_selector.as_deref());
        self.check_uses(&spec, e);
    }

    fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        if let Some(text) = &mut spec.cidr
            && let Ok(net) = parse_network_or_address(text)
        {
            *text = net.to_string();
            if spec.block_size.is_none_or(|n| n == 0) {
                spec.block_size = Some(i32::from(default_block_size(Family::of_net(net))));
            }
        }
        spec.vxlan_mode.get_or_insert(EncapMode::Never);
        spec.ipip_mode.get_or_insert(EncapMode::Never);
        let node_selector = spec.node_selector.get_or_insert_default();
        if node_selector.is_empty() {
            "all()".clone_into(node_selector);
        }
        if spec.allowed_uses.is_empty() {
            spec.allowed_uses = vec![AllowedUse::Workload, AllowedUse::Tunnel];
        }
        spec.assignment_mode.get_or_insert(AssignmentMode::Automatic);
        drop_empty(&mut spec.namespace_selector);
        for flag in [&mut spec.nat_outgoing, &mut spec.disabled, &mut spec.disable_bgp_export] {
            drop_false(flag);
        }
    }
}

impl IPPool {
    fn check_range(&self, spec: &Path<'_>, net: IpNet, e: &mut Findings) {
        let family = Family::of_net(net);
        let (min, max) = block_size_bounds(family);
        let size_at = spec.field("blockSize");
        let size = match self.spec.block_size {
            None | Some(0) => i64::from(default_block_size(family)),
            Some(n) => i64::from(n),
        };
        e.range(&size_at, size, i64::from(min), i64::from(max));
        let at = spec.field("cidr");
        e.require(
            self.spec.disabled == Some(true) || i64::from(net.prefix_len()) <= size,
            &at,
            net,
            "the pool is smaller than one block; give a shorter prefix or a larger blockSize",
        );
        let (link_local, loopback) = match family {
            Family::V4 => ("169.254.0.0/16", "127.0.0.0/8"),
            Family::V6 => ("fe80::/10", "::1/128"),
        };
        for (reserved, name) in [(link_local, "link-local"), (loopback, "loopback")] {
            let shares = parse_network(reserved).is_ok_and(|r| overlap(r, net) && net.prefix_len() > 0);
            e.require(!shares, &at, net, &format!("shares addresses with the {name} range {reserved}"));
        }
        if family == Family::V6 && self.spec.ipip_mode.is_some_and(|m| m != EncapMode::Never) {
            e.add(&spec.field("ipipMode"), "", "IPIP carries IPv4 only; an IPv6 pool may use vxlanMode");
        }
    }

    fn check_uses(&self, spec: &Path<'_>, e: &mut Findings) {
        let uses = &self.spec.allowed_uses;
        let at = spec.field("allowedUses");
        for (i, u) in uses.iter().enumerate() {
            let before = uses.get(..i).unwrap_or_default();
            e.require(!before.contains(u), &at.index(i), format!("{u:?}"), "is listed twice");
        }
        if uses.contains(&AllowedUse::LoadBalancer) {
            e.require(uses.len() == 1, &at, "", "LoadBalancer cannot be combined with other uses");
            let selector = self.spec.node_selector.as_deref().unwrap_or("all()");
            e.require(
                selector == "all()",
                &spec.field("nodeSelector"),
                selector,
                "a pool for load balancers has nodeSelector all()",
            );
            let on = |mode: Option<EncapMode>| mode.is_some_and(|m| m != EncapMode::Never);
            for (name, mode) in [("ipipMode", self.spec.ipip_mode), ("vxlanMode", self.spec.vxlan_mode)] {
                e.require(!on(mode), &spec.field(name), "", "a pool for load balancers has no encapsulation");
            }
            e.require(
                self.spec.disable_bgp_export != Some(true),
                &spec.field("disableBGPExport"),
                "true",
                "a pool for load balancers is exported",
            );
        }
        let namespaces = self.spec.namespace_selector.as_deref().unwrap_or_default();
        e.require(
            namespaces.is_empty() || !uses.contains(&AllowedUse::Tunnel),
            &spec.field("namespaceSelector"),
            namespaces,
            "tunnels have no namespace: name other allowedUses (Workload) beside a namespaceSelector",
        );
    }
}

/// How the Kubernetes API shows and checks the kind.
#[cfg(feature = "schema")]
pub(crate) const CRD: crate::crd::Table = {
    use crate::crd::Set::{Default, Format, Max, MaxItems, MaxLength, Min, Required, Rule};
    crate::crd::Table {
        columns: &[
            ("CIDR", "string", ".spec.cidr"),
            ("VXLAN", "string", ".spec.vxlanMode"),
            ("IPIP", "string", ".spec.ipipMode"),
            ("NAT", "boolean", ".spec.natOutgoing"),
            ("Allocatable", "string", ".status.conditions[?(@.type=='Allocatable')].status"),
            ("Age", "date", ".metadata.creationTimestamp"),
        ],
        status: true,
        limits: &[
            crate::crd::CONDITIONS,
            &[
                (
                    "spec",
                    &[
                        Required(&["cidr"]),
                        Rule(
                            "!has(self.ipipMode) || self.ipipMode == 'Never' || !has(self.vxlanMode) || self.vxlanMode == 'Never'",
                            "ipipMode and vxlanMode cannot both be on; set one to Never",
                        ),
                        Rule(
                            "!isCIDR(self.cidr) || cidr(self.cidr).ip().family() == 4 || !has(self.ipipMode) || self.ipipMode == 'Never'",
                            "IPIP carries IPv4 only; an IPv6 pool may use vxlanMode",
                        ),
                        Rule(
                            "!isCIDR(self.cidr) || !has(self.blockSize) || self.blockSize == 0 || (cidr(self.cidr).ip().family() == 4 ? (self.blockSize >= 20 && self.blockSize <= 32) : (self.blockSize >= 116 && self.blockSize <= 128))",
                            "blockSize must be between 20 and 32 for IPv4 and between 116 and 128 for IPv6",
                        ),
                        Rule(
                            "!isCIDR(self.cidr) || (has(self.disabled) && self.disabled) || cidr(self.cidr).prefixLength() <= (has(self.blockSize) && self.blockSize != 0 ? self.blockSize : cidr(self.cidr).ip().family() == 4 ? 26 : 122)",
                            "the pool is smaller than one block; give a shorter prefix or a larger blockSize",
                        ),
                        Rule(
                            "!isCIDR(self.cidr) || !isCIDR(oldSelf.cidr) || (has(self.blockSize) && self.blockSize != 0 ? self.blockSize : cidr(self.cidr).ip().family() == 4 ? 26 : 122) == (has(oldSelf.blockSize) && oldSelf.blockSize != 0 ? oldSelf.blockSize : cidr(oldSelf.cidr).ip().family() == 4 ? 26 : 122)",
                            "the block size of a pool cannot change",
                        ),
                        Rule(
                            "!has(self.allowedUses) || !('LoadBalancer' in self.allowedUses) || size(self.allowedUses) == 1",
                            "LoadBalancer cannot be combined with other uses",
                        ),
                        Rule(
                            "!has(self.allowedUses) || !('LoadBalancer' in self.allowedUses) || !has(self.nodeSelector) || self.nodeSelector == 'all()'",
                            "a pool for load balancers has nodeSelector all()",
                        ),
                        Rule(
                            "!has(self.allowedUses) || !('LoadBalancer' in self.allowedUses) || ((!has(self.ipipMode) || self.ipipMode == 'Never') && (!has(self.vxlanMode) || self.vxlanMode == 'Never'))",
                            "a pool for load balancers has no encapsulation",
                        ),
                        Rule(
                            "!has(self.allowedUses) || !('LoadBalancer' in self.allowedUses) || !has(self.disableBGPExport) || !self.disableBGPExport",
                            "a pool for load balancers is exported",
                        ),
                        Rule(
                            "!has(self.allowedUses) || !('Tunnel' in self.allowedUses) || !has(self.namespaceSelector) || self.namespaceSelector == ''",
                            "tunnels have no namespace: name other allowedUses (Workload) beside a namespaceSelector",
                        ),
                    ],
                ),
                (
                    "spec.cidr",
                    &[
                        Format("cidr"),
                        MaxLength(48),
                        Rule(
                            "self == oldSelf || (isCIDR(self) && isCIDR(oldSelf) && cidr(self).masked() == cidr(oldSelf).masked())",
                            "the range of a pool cannot change",
                        ),
                        Rule(
                            "!isCIDR(self) || cidr(self).prefixLength() == 0 || !(cidr(self).ip().family() == 4 ? (cidr('169.254.0.0/16').containsCIDR(self) || cidr(self).containsCIDR('169.254.0.0/16')) : (cidr('fe80::/10').containsCIDR(self) || cidr(self).containsCIDR('fe80::/10')))",
                            "shares addresses with a link-local range (169.254.0.0/16, fe80::/10)",
                        ),
                        Rule(
                            "!isCIDR(self) || cidr(self).prefixLength() == 0 || !(cidr(self).ip().family() == 4 ? (cidr('127.0.0.0/8').containsCIDR(self) || cidr(self).containsCIDR('127.0.0.0/8')) : cidr(self).containsCIDR('::1/128'))",
                            "shares addresses with the loopback range (127.0.0.0/8, ::1/128)",
                        ),
                    ],
                ),
                ("spec.blockSize", &[Min(0), Max(128)]),
                ("spec.{ipipMode,vxlanMode}", &[Default("\"Never\"")]),
                ("spec.nodeSelector", &[Default("\"all()\"")]),
                ("spec.{nodeSelector,namespaceSelector}", crate::crd::SELECTOR_WITHOUT_GLOBAL),
                ("spec.assignmentMode", &[Default("\"Automatic\"")]),
                (
                    "spec.allowedUses",
                    &[MaxItems(3), Rule("self.all(u, self.exists_one(v, v == u))", "a use is listed twice")],
                ),
            ],
        ],
    }
};
