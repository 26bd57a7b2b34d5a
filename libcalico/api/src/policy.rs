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
