//! What the four Calico policy kinds have in common: limits, cross-field rules, defaults, and the two marks that
//! upstream's clients put into a policy's metadata.

use crate::meta::ObjectMeta;
use crate::rule::{Direction, PolicyType, Rule};
use crate::validation::{Findings, Path};

/// The tier of a policy that names none.
pub const DEFAULT_TIER: &str = "default";
/// Label that repeats the policy's tier, for lists by tier.
pub const TIER_LABEL: &str = "projectcalico.org/tier";
/// Annotation that keeps the name under which the policy was written.
pub const METADATA_ANNOTATION: &str = "projectcalico.org/metadata";
/// Most rules of a policy in one direction.
pub const MAX_RULES: usize = 1024;

/// The fields of a policy spec that are checked alike. Kinds without a field pass its absence.
pub(crate) struct PolicyFields<'a> {
    pub tier: Option<&'a str>,
    pub selector: Option<&'a str>,
    pub namespace_selector: Option<&'a str>,
    pub service_account_selector: Option<&'a str>,
    pub ingress: &'a [Rule],
    pub egress: &'a [Rule],
    pub types: &'a [PolicyType],
    pub order: Option<f64>,
    pub do_not_track: bool,
    pub pre_dnat: bool,
    pub apply_on_forward: bool,
}

impl PolicyFields<'_> {
    pub fn check(&self, e: &mut Findings) {
        let spec = Path::root("spec");
        if let Some(tier) = self.tier.filter(|t| !t.is_empty()) {
            e.object_name(&spec.field("tier"), tier);
        }
        check_order(self.order, e);
        e.selector_opt(&spec.field("selector"), self.selector);
        e.selector_opt(&spec.field("namespaceSelector"), self.namespace_selector);
        e.selector_opt(&spec.field("serviceAccountSelector"), self.service_account_selector);
        for (name, direction, rules) in
            [("ingress", Direction::Ingress, self.ingress), ("egress", Direction::Egress, self.egress)]
        {
            let at = spec.field(name);
            e.max_items(&at, rules, MAX_RULES);
            for (i, rule) in rules.iter().enumerate() {
                rule.check(direction, &at.index(i), e);
            }
        }
        self.check_types(&spec, e);
        self.check_host_policy(&spec, e);
    }

    fn check_types(&self, spec: &Path<'_>, e: &mut Findings) {
        let at = spec.field("types");
        for (i, t) in self.types.iter().enumerate() {
            let before = self.types.get(..i).unwrap_or_default();
            e.require(!before.contains(t), &at.index(i), format!("{t:?}"), "is listed twice");
        }
    }

    /// Pre-DNAT and untracked policy is for host endpoints and has no place for some of what other policy has.
    fn check_host_policy(&self, spec: &Path<'_>, e: &mut Findings) {
        e.require(
            !(self.do_not_track && self.pre_dnat),
            &spec.field("preDNAT"),
            "true",
            "preDNAT and doNotTrack cannot both be true",
        );
        e.require(
            !self.pre_dnat || self.egress.is_empty(),
            &spec.field("egress"),
            "",
            "a preDNAT policy has no egress rules",
        );
        e.require(
            !self.pre_dnat || !self.types.contains(&PolicyType::Egress),
            &spec.field("types"),
            "Egress",
            "a preDNAT policy applies to ingress only",
        );
        e.require(
            self.apply_on_forward || !(self.pre_dnat || self.do_not_track),
            &spec.field("applyOnForward"),
            "false",
            "must be true where preDNAT or doNotTrack is",
        );
    }
}

/// An order must be a number that can be compared.
pub(crate) fn check_order(order: Option<f64>, e: &mut Findings) {
    if let Some(n) = order {
        e.require(n.is_finite(), &Path::root("spec").field("order"), n, "must be a finite number");
    }
}

/// The directions a policy applies to where it does not say: those it has rules for, else ingress.
pub(crate) fn default_types(types: &mut Vec<PolicyType>, ingress: &[Rule], egress: &[Rule]) {
    if types.is_empty() {
        if !ingress.is_empty() || egress.is_empty() {
            types.push(PolicyType::Ingress);
        }
        if !egress.is_empty() {
            types.push(PolicyType::Egress);
        }
    }
}

/// Fills in the tier and repeats tier and name in the metadata, as upstream's clients do.
pub(crate) fn default_tier(meta: &mut ObjectMeta, tier: &mut Option<String>) {
    let tier = tier.get_or_insert_default();
    if tier.is_empty() {
        DEFAULT_TIER.clone_into(tier);
    }
    meta.labels.insert(TIER_LABEL.to_owned(), tier.clone());
    let kept = serde_json::json!({ "name": meta.name }).to_string();
    meta.annotations.insert(METADATA_ANNOTATION.to_owned(), kept);
}

/// Go leaves a false flag out.
pub(crate) fn drop_false(flag: &mut Option<bool>) {
    if *flag == Some(false) {
        *flag = None;
    }
}

/// Go leaves an empty text out.
pub(crate) fn drop_empty(text: &mut Option<String>) {
    if text.as_deref() == Some("") {
        *text = None;
    }
}

/// What the Kubernetes API checks of rules, in every policy kind that has them. A rule between fields of one rule
/// must stay cheap: the API server counts it for 1,024 rules.
#[cfg(feature = "schema")]
pub(crate) const RULE_LIMITS: crate::crd::Limits = {
    use crate::crd::Set::{Max, MaxItems, MaxLength, Min, Numbers, Required, Rule};
    use crate::crd::{NET, OBJECT_NAME, OBJECT_NAME_OR_EMPTY, SELECTOR, SELECTOR_WITHOUT_GLOBAL};
    use crate::rule::{MAX_NETS, MAX_PORTS};
    &[
        ("spec.{ingress,egress}", &[MaxItems(MAX_RULES as u64)]),
        (
            "spec.{ingress,egress}[]",
            &[
                Required(&["action"]),
                Rule(
                    "!((has(self.source) && ((has(self.source.ports) && size(self.source.ports) > 0) || (has(self.source.notPorts) && size(self.source.notPorts) > 0))) || (has(self.destination) && ((has(self.destination.ports) && size(self.destination.ports) > 0) || (has(self.destination.notPorts) && size(self.destination.notPorts) > 0)))) || (has(self.protocol) ? string(self.protocol).lowerAscii() in ['tcp', 'udp', 'sctp', '6', '17', '132'] : ((!has(self.source) || ((!has(self.source.ports) || self.source.ports.all(p, type(p) == string)) && (!has(self.source.notPorts) || self.source.notPorts.all(p, type(p) == string)))) && (!has(self.destination) || ((!has(self.destination.ports) || self.destination.ports.all(p, type(p) == string)) && (!has(self.destination.notPorts) || self.destination.notPorts.all(p, type(p) == string))))))",
                    "ports need protocol TCP, UDP or SCTP in the same rule; names of ports may stand without",
                ),
                Rule(
                    "!(has(self.icmp) || has(self.notICMP)) || (has(self.protocol) && string(self.protocol).lowerAscii() in ['icmp', 'icmpv6', '1', '58'])",
                    "icmp and notICMP need protocol ICMP or ICMPv6 in the same rule",
                ),
                Rule(
                    "!has(self.ipVersion) || !has(self.protocol) || !(self.ipVersion == 4 ? string(self.protocol).lowerAscii() in ['icmpv6', '58'] : string(self.protocol).lowerAscii() in ['icmp', '1'])",
                    "ipVersion does not fit the protocol: ICMP is IPv4, ICMPv6 is IPv6",
                ),
            ],
        ),
        (
            "spec.ingress[]",
            &[
                Rule(
                    "!has(self.destination) || !has(self.destination.services)",
                    "services are matched on the far side only: the source of ingress",
                ),
                Rule(
                    "!has(self.http) || !has(self.protocol) || string(self.protocol).lowerAscii() in ['tcp', '6']",
                    "HTTP is matched with protocol TCP only",
                ),
                Rule("!has(self.http) || self.action == 'Allow'", "HTTP is matched by rules that allow only"),
            ],
        ),
        (
            "spec.egress[]",
            &[
                Rule(
                    "!has(self.source) || !has(self.source.services)",
                    "services are matched on the far side only: the destination of egress",
                ),
                Rule(
                    "!has(self.destination) || !has(self.destination.services) || !((has(self.destination.ports) && size(self.destination.ports) > 0) || (has(self.destination.notPorts) && size(self.destination.notPorts) > 0))",
                    "the ports come from the service when services are matched",
                ),
                Rule("!has(self.http)", "HTTP is matched on ingress only"),
            ],
        ),
        ("spec.{ingress,egress}[].ipVersion", &[Numbers(&[4, 6])]),
        (
            "spec.{ingress,egress}[].{icmp,notICMP}",
            &[Rule("!has(self.code) || has(self.type)", "a code needs a type beside it")],
        ),
        ("spec.{ingress,egress}[].{icmp,notICMP}.type", &[Min(0), Max(254)]),
        ("spec.{ingress,egress}[].{icmp,notICMP}.code", &[Min(0), Max(255)]),
        ("spec.{ingress,egress}[].http.paths[].{exact,prefix}", &[MaxLength(1024)]),
        (
            "spec.{ingress,egress}[].{source,destination}",
            &[Rule(
                "!has(self.services) || !((has(self.nets) && size(self.nets) > 0) || (has(self.notNets) && size(self.notNets) > 0) || (has(self.selector) && self.selector != '') || (has(self.notSelector) && self.notSelector != '') || (has(self.namespaceSelector) && self.namespaceSelector != '') || has(self.serviceAccounts))",
                "services cannot be combined with nets, selectors or serviceAccounts on the same side",
            )],
        ),
        ("spec.{ingress,egress}[].{source,destination}.{nets,notNets}", &[MaxItems(MAX_NETS as u64)]),
        ("spec.{ingress,egress}[].{source,destination}.{nets,notNets}[]", NET),
        ("spec.{ingress,egress}[].{source,destination}.{ports,notPorts}", &[MaxItems(MAX_PORTS as u64)]),
        ("spec.{ingress,egress}[].{source,destination}.{selector,notSelector}", SELECTOR_WITHOUT_GLOBAL),
        ("spec.{ingress,egress}[].{source,destination}.namespaceSelector", SELECTOR),
        ("spec.{ingress,egress}[].{source,destination}.serviceAccounts.selector", SELECTOR_WITHOUT_GLOBAL),
        ("spec.{ingress,egress}[].{source,destination}.serviceAccounts.names[]", OBJECT_NAME),
        ("spec.{ingress,egress}[].{source,destination}.services", &[Required(&["name"])]),
        ("spec.{ingress,egress}[].{source,destination}.services.name", OBJECT_NAME),
        ("spec.{ingress,egress}[].{source,destination}.services.namespace", OBJECT_NAME_OR_EMPTY),
    ]
};

/// What the Kubernetes API checks of the fields that every Calico policy has.
#[cfg(feature = "schema")]
pub(crate) const LIMITS: crate::crd::Limits = {
    use crate::crd::Set::{Default, MaxItems, Rule};
    use crate::crd::{OBJECT_NAME_OR_EMPTY, SELECTOR_WITHOUT_GLOBAL};
    &[
        ("spec.tier", OBJECT_NAME_OR_EMPTY),
        ("spec.tier", &[Default("\"default\"")]),
        ("spec.{selector,serviceAccountSelector}", SELECTOR_WITHOUT_GLOBAL),
        (
            "spec.types",
            &[MaxItems(2), Rule("self.all(t, self.exists_one(u, u == t))", "a direction is listed twice")],
        ),
    ]
};

/// What the Kubernetes API checks of the fields that policies for the whole cluster have.
#[cfg(feature = "schema")]
pub(crate) const GLOBAL_LIMITS: crate::crd::Limits = {
    use crate::crd::SELECTOR_WITHOUT_GLOBAL;
    use crate::crd::Set::Rule;
    &[
        ("spec.namespaceSelector", SELECTOR_WITHOUT_GLOBAL),
        (
            "spec",
            &[
                Rule(
                    "!(has(self.doNotTrack) && self.doNotTrack && has(self.preDNAT) && self.preDNAT)",
                    "preDNAT and doNotTrack cannot both be true",
                ),
                Rule(
                    "!(has(self.preDNAT) && self.preDNAT) || !has(self.egress) || size(self.egress) == 0",
                    "a preDNAT policy has no egress rules",
                ),
                Rule(
                    "!(has(self.preDNAT) && self.preDNAT) || !has(self.types) || !('Egress' in self.types)",
                    "a preDNAT policy applies to ingress only",
                ),
                Rule(
                    "(has(self.applyOnForward) && self.applyOnForward) || !((has(self.preDNAT) && self.preDNAT) || (has(self.doNotTrack) && self.doNotTrack))",
                    "applyOnForward must be true where preDNAT or doNotTrack is",
                ),
            ],
        ),
    ]
};
