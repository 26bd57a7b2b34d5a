//! Names of chains and sets, as upstream's.
//!
//! Always holds: a name is a function of what it names; a name that would be too long keeps its prefix and ends in a
//! hash of the rest.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use felix_message::TierDefaultAction;
use libcalico_model::key::PolicyKey;
use sha2::{Digest as _, Sha256};

use crate::driver::tag;
use crate::rule::{Family, SetName};

/// Longest name of a chain, its table's prefix (`filter-`) not counted. The kernel takes 255 in all.
pub const MAX_CHAIN_NAME: usize = 200;

/// Traffic direction as the workload or host sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    /// Both, by index.
    pub const BOTH: [Self; 2] = [Self::Ingress, Self::Egress];

    /// Position in an array of both.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self == Self::Egress)
    }
}

/// Prefix and suffix; where they are too long together, the suffix's hash after `_`.
#[must_use]
pub fn limited(prefix: &str, suffix: &str, max: usize) -> String {
    let suffix = if suffix.is_empty() { "_" } else { suffix };
    let total = prefix.len() + suffix.len();
    if total < max || (total == max && !suffix.starts_with('_')) {
        return format!("{prefix}{suffix}");
    }
    let hash = URL_SAFE_NO_PAD.encode(Sha256::digest(suffix.as_bytes()));
    let room = max.saturating_sub(prefix.len() + 1).min(hash.len());
    format!("{prefix}_{}", &hash[..room])
}

/// `gnp/name`, `np/namespace/name`.
#[must_use]
pub fn policy_id(key: &PolicyKey) -> String {
    let short = key.kind.short_name();
    if key.namespace.is_empty() {
        format!("{short}/{}", key.name)
    } else {
        format!("{short}/{}/{}", key.namespace, key.name)
    }
}

/// `cali-pi-gnp/name`, `cali-po-…`.
#[must_use]
pub fn policy_chain(direction: Direction, key: &PolicyKey) -> String {
    let prefix = match direction {
        Direction::Ingress => "cali-pi-",
        Direction::Egress => "cali-po-",
    };
    limited(prefix, &policy_id(key), MAX_CHAIN_NAME)
}

/// `cali-pri-name`, `cali-pro-name`.
#[must_use]
pub fn profile_chain(direction: Direction, name: &str) -> String {
    let prefix = match direction {
        Direction::Ingress => "cali-pri-",
        Direction::Egress => "cali-pro-",
    };
    limited(prefix, name, MAX_CHAIN_NAME)
}

/// `cali-th-eth0`, `cali-fh-…`, `cali-thfw-…`, `cali-fhfw-…`.
#[must_use]
pub fn endpoint_chain(prefix: &str, interface: &str) -> String {
    limited(prefix, interface, MAX_CHAIN_NAME)
}

/// `cali40s-…`: family, then the identifier with `:` as `-`, which nft's own language needs.
#[must_use]
pub fn set(family: Family, name: &SetName) -> String {
    let text: &str = match name {
        SetName::Calculated(id) => id,
        SetName::Own(n) => n,
    };
    format!("cali{}0{}", family.version(), text.replace(':', "-"))
}

/// `cali-gi-cali0123`, `cali-go-…`: policies that several workloads share, named after the interface of one of them.
#[must_use]
pub fn group_chain(direction: Direction, interface: &str) -> String {
    endpoint_chain(group_prefix(direction), interface)
}

/// `cali-gi-cali0123/HASH`, `cali-go-…`: policies with one selector that follow each other for several workloads, named
/// after one of them, the selector and how often it had come before in this workload's list. A slash is in no
/// interface's name.
#[must_use]
pub fn run_chain(direction: Direction, interface: &str, selector: &str, before: usize) -> String {
    let hash = tag(selector.as_bytes());
    let hash = String::from_utf8_lossy(&hash);
    let suffix =
        if before == 0 { format!("{interface}/{hash}") } else { format!("{interface}/{hash}/{before}") };
    endpoint_chain(group_prefix(direction), &suffix)
}

/// `cali-to-wl-start`, `cali-from-wl-start`: what all workloads' chains begin with.
#[must_use]
pub fn start_chain(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "cali-to-wl-start",
        Direction::Egress => "cali-from-wl-start",
    }
}

/// What workloads' own chains are called, by [`Direction::index`].
const WORKLOAD_PREFIXES: [&str; 2] = ["cali-tw-", "cali-fw-"];

/// `cali-tw-cali0123`, `cali-fw-…`: traffic to a workload, traffic from it.
#[must_use]
pub fn workload_chain(direction: Direction, interface: &str) -> String {
    endpoint_chain(WORKLOAD_PREFIXES[direction.index()], interface)
}

/// True for what [`workload_chain`] makes.
#[must_use]
pub fn is_workload_chain(name: &str) -> bool {
    WORKLOAD_PREFIXES.iter().any(|p| name.starts_with(p))
}

/// `cali-te-HASH`, `cali-fe-…`: how chains of workloads end that have these profiles, and policies with this action at
/// last (`None`: no policies). The name tells what is in it.
#[must_use]
pub fn ending_chain(
    direction: Direction,
    policies: Option<TierDefaultAction>,
    profiles: &[String],
) -> String {
    let prefix = match direction {
        Direction::Ingress => "cali-te-",
        Direction::Egress => "cali-fe-",
    };
    let policies = match policies {
        None => "none",
        Some(TierDefaultAction::Pass) => "pass",
        Some(TierDefaultAction::Deny) => "deny",
    };
    // No name has such a character in it.
    let content = profiles.iter().fold(policies.to_owned(), |all, p| format!("{all}\n{p}"));
    format!("{prefix}{}", String::from_utf8_lossy(&tag(content.as_bytes())))
}

fn group_prefix(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "cali-gi-",
        Direction::Egress => "cali-go-",
    }
}

/// The name that stands for every interface in a host endpoint's chains.
pub const ANY_INTERFACE: &str = "any-interface-at-all";

#[cfg(test)]
mod tests {
    use libcalico_model::key::PolicyKind;

    use super::*;

    #[test]
    fn a_long_name_keeps_its_prefix_and_ends_in_a_hash() {
        // Upstream's iptables chain of policy security.deny-bad, limited to 28 characters.
        assert_eq!(limited("cali-pi-", "gnp/security.deny-bad", 28), "cali-pi-_wz_PMs_QGVcZVYdaM5f");
        assert_eq!(limited("cali-pi-", "gnp/allow-web", 28), "cali-pi-gnp/allow-web");
        assert!(limited("cali-pi-", &"x".repeat(400), MAX_CHAIN_NAME).len() <= MAX_CHAIN_NAME);
    }

    #[test]
    fn a_policy_is_named_by_kind_namespace_and_name() {
        let key = |kind, namespace: &str, name: &str| PolicyKey {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let gnp = key(PolicyKind::GlobalNetworkPolicy, "", "allow-web");
        assert_eq!(policy_chain(Direction::Ingress, &gnp), "cali-pi-gnp/allow-web");
        let np = key(PolicyKind::NetworkPolicy, "default", "np-db");
        assert_eq!(policy_chain(Direction::Egress, &np), "cali-po-np/default/np-db");
    }

    #[test]
    fn a_workloads_chains_are_told_from_others() {
        let own = Direction::BOTH.map(|d| workload_chain(d, "cali0123"));
        assert_eq!(own, ["cali-tw-cali0123", "cali-fw-cali0123"]);
        assert!(own.iter().all(|name| is_workload_chain(name)));
        assert!(!is_workload_chain(&group_chain(Direction::Ingress, "cali0123")));
        assert!(!is_workload_chain(start_chain(Direction::Egress)));
    }

    #[test]
    fn a_set_has_its_family_in_its_name() {
        let id = SetName::Calculated("s:Djx4jfRE_TwnMVpqaxS1NR3".into());
        assert_eq!(set(Family::V4, &id), "cali40s-Djx4jfRE_TwnMVpqaxS1NR3");
        assert_eq!(set(Family::V6, &SetName::Own("this-host")), "cali60this-host");
    }
}
