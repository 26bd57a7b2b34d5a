//! The name of the host's end of a workload's veth pair.
//!
//! In come the workload's identity and the configured prefix, out goes a name of at most 15 bytes (Linux'
//! `IFNAMSIZ` less the closing zero). The same workload always gets the same name, whatever node it runs on, which is
//! how Felix finds the interface of an endpoint after a restart. Upstream's names are kept letter by letter.

use sha1::{Digest, Sha1};

/// The prefix that Felix, CNI and the manifests share unless told otherwise.
pub const DEFAULT_PREFIX: &str = "cali";

/// Longest name that Linux takes, in bytes.
pub const MAX_LEN: usize = 15;

/// Characters of the hash that follow the prefix.
const HASH_LEN: usize = 11;

/// `cali` and the first 11 hexadecimal digits of SHA-1 over `namespace.pod`.
///
/// `prefix` may be a list as in `FELIX_INTERFACEPREFIX` (`cali,tap`): its first entry counts, empty means
/// [`DEFAULT_PREFIX`]. A prefix of more than four bytes leaves room for fewer digits.
#[must_use]
pub fn veth_name_for_workload(prefix: &str, namespace: &str, pod: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(namespace.as_bytes());
    hash.update(b".");
    hash.update(pod.as_bytes());
    join(prefix, &hex::encode(hash.finalize()))
}

/// The name for a container that no orchestrator named: the prefix and the first 11 characters of its identifier.
#[must_use]
pub fn veth_name_for_container(prefix: &str, container_id: &str) -> String {
    join(prefix, container_id)
}

fn join(prefix: &str, tail: &str) -> String {
    let first = prefix.split(',').next().unwrap_or_default().trim();
    let first = if first.is_empty() { DEFAULT_PREFIX } else { first };
    let room = MAX_LEN.saturating_sub(first.len()).min(HASH_LEN);
    first.chars().chain(tail.chars().take(room)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_named_by_the_hash_of_its_namespace_and_name() {
        // printf default.web | sha1sum
        assert_eq!(veth_name_for_workload("cali", "default", "web"), "cali68caf03a5f4");
    }

    #[test]
    fn the_first_of_several_prefixes_counts_and_none_means_cali() {
        let plain = veth_name_for_workload("cali", "a", "b");
        assert_eq!(veth_name_for_workload("cali,tap", "a", "b"), plain);
        assert_eq!(veth_name_for_workload("", "a", "b"), plain);
    }

    #[test]
    fn a_name_never_exceeds_what_linux_takes() {
        assert_eq!(veth_name_for_workload("workload", "a", "b").len(), MAX_LEN);
        assert_eq!(veth_name_for_container("cali", "0123456789abcdef"), "cali0123456789a");
        assert_eq!(veth_name_for_container("cali", "01"), "cali01");
    }
}
