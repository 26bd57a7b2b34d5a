//! The words by which the command line calls a kind. Names, plurals and short names of the API are understood in
//! any case; here stand the further words that upstream's command takes.

use libcalico_api::Kind;

use crate::foreign::ForeignKind;
use crate::{Error, Result};

/// Words that only the command line has.
const ALIASES: &[(Kind, &[&str])] = &[
    (Kind::BGPFilter, &["bgpf", "bgpfs", "bf", "bfs"]),
    (Kind::BGPPeer, &["bgpp", "bgpps", "bp", "bps"]),
    (Kind::CalicoNodeStatus, &["nodestatus", "nodestatuses"]),
    (Kind::GlobalNetworkPolicy, &["gnps"]),
    (Kind::GlobalNetworkSet, &["gnetsets"]),
    (Kind::IPPool, &["ipp", "ipps", "pool", "pools"]),
    (Kind::IPReservation, &["reservation", "reservations"]),
    (Kind::KubeControllersConfiguration, &["kubecontrollersconfig", "kubecontrollersconfigs"]),
    (Kind::NetworkPolicy, &["policy", "np", "policies", "pol", "pols"]),
    (Kind::NetworkSet, &["netsets"]),
    (Kind::Node, &["no", "nos"]),
    (Kind::Profile, &["pro", "pros"]),
    (Kind::StagedGlobalNetworkPolicy, &["sgnps"]),
    (
        Kind::StagedKubernetesNetworkPolicy,
        &["stagedkubernetespolicy", "stagedkubernetespolicies", "skpol", "skpols"],
    ),
    (Kind::StagedNetworkPolicy, &["stagedpolicy", "stagedpolicies", "spol", "spols"]),
];

/// Finds a kind by a word of the command line.
pub fn find(word: &str) -> Result<Kind> {
    let lower = word.to_ascii_lowercase();
    if let Some((kind, _)) = ALIASES.iter().find(|(_, words)| words.contains(&lower.as_str())) {
        return Ok(*kind);
    }
    if let Some(kind) = ForeignKind::by_word(&lower) {
        return Err(Error::of_kubernetes(kind));
    }
    Kind::find(&lower).map_err(|_| Error::unknown_kind(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_by_every_word_of_upstream() {
        for (word, kind) in [
            ("ippools", Kind::IPPool),
            ("IPPool", Kind::IPPool),
            ("pool", Kind::IPPool),
            ("np", Kind::NetworkPolicy),
            ("snp", Kind::StagedNetworkPolicy),
            ("sknp", Kind::StagedKubernetesNetworkPolicy),
            ("gnp", Kind::GlobalNetworkPolicy),
            ("weps", Kind::WorkloadEndpoint),
            ("heps", Kind::HostEndpoint),
            ("felixconfig", Kind::FelixConfiguration),
            ("bgpconfigs", Kind::BGPConfiguration),
            ("clusterinfo", Kind::ClusterInformation),
            ("nodestatus", Kind::CalicoNodeStatus),
            ("ipamconfig", Kind::IPAMConfiguration),
            ("kubecontrollersconfig", Kind::KubeControllersConfiguration),
        ] {
            assert_eq!(find(word).unwrap(), kind, "{word}");
        }
        assert_eq!(
            find("foo").unwrap_err().to_string(),
            "failed to get resources: resource type 'foo' is not supported"
        );
    }
}
