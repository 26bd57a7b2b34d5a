//! Names of labs, machines and pods, and the kernel names made from them.
//!
//! In: what a person typed. Out: checked names; network namespaces `lab-<lab>-<machine>` and
//! `lab-<lab>-p-<hash of the pod>`.
//! What always holds: a lab's name has no dash, so a namespace belongs to exactly one lab and a lab's namespaces
//! can be listed by their prefix even when its state folder is gone.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{LabError, Result};

/// The longest name of a lab: short enough for every kernel name made from it.
const MAX_LAB_NAME: usize = 16;

/// Checks a lab's name: lower-case letters and digits, a letter first, at most 16 characters.
pub fn check_lab_name(name: &str) -> Result<()> {
    let bad = |why| Err(LabError::BadName { name: name.to_owned(), why });
    if name.is_empty() || name.len() > MAX_LAB_NAME {
        return bad("a lab's name has 1 to 16 characters");
    }
    if !name.starts_with(|c: char| c.is_ascii_lowercase())
        || !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    {
        return bad("a lab's name is a lower-case letter followed by lower-case letters and digits");
    }
    Ok(())
}

/// What every network namespace of a lab begins with.
pub fn netns_prefix(lab: &str) -> String {
    format!("lab-{lab}-")
}

/// The network namespace of a machine (`n1`, `infra`, `outside`, or `fab`: the switch and router).
pub fn machine_netns(lab: &str, machine: &str) -> String {
    format!("lab-{lab}-{machine}")
}

/// The network namespace of a pod. A hash, because pods' names may be longer than a file name's limit allows.
pub fn pod_netns(lab: &str, pod: &PodName) -> String {
    let digest = hex::encode(Sha256::digest(pod.to_string()));
    format!("lab-{lab}-p-{}", digest.get(..12).unwrap_or(&digest))
}

/// A pod's namespace and name, written `NAMESPACE/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PodName {
    pub namespace: String,
    pub name: String,
}

impl PodName {
    /// A pod's name from its two parts, both DNS labels or subdomains as Kubernetes wants them.
    pub fn new(namespace: &str, name: &str) -> Result<Self> {
        if !is_dns_name(namespace, false) {
            return Err(LabError::BadName {
                name: namespace.to_owned(),
                why: "a namespace is made of lower-case letters, digits and '-'",
            });
        }
        if !is_dns_name(name, true) {
            return Err(LabError::BadName {
                name: name.to_owned(),
                why: "a pod's name is made of lower-case letters, digits, '-' and '.'",
            });
        }
        Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }
}

fn is_dns_name(text: &str, dots: bool) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    text.len() <= 63
        && edge(text.chars().next())
        && edge(text.chars().next_back())
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || (dots && c == '.'))
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for PodName {
    type Err = LabError;

    fn from_str(text: &str) -> Result<Self> {
        let Some((namespace, name)) = text.split_once('/') else {
            return Err(LabError::BadName { name: text.to_owned(), why: "a pod is written NAMESPACE/NAME" });
        };
        Self::new(namespace, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dash_in_a_labs_name_is_refused_so_that_prefixes_cannot_overlap() {
        check_lab_name("demo").unwrap();
        check_lab_name("t1").unwrap();
        for bad in ["", "a-b", "Demo", "1a", "abcdefghijklmnopq", "a/b", "a b"] {
            assert!(check_lab_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_pods_namespace_and_name_are_checked() {
        let pod: PodName = "quickstart/web-1.x".parse().unwrap();
        assert_eq!((pod.namespace.as_str(), pod.name.as_str()), ("quickstart", "web-1.x"));
        for bad in ["web", "a/b/c", "/web", "ns/", "ns/-a", "n.s/a", "ns/A", "../x"] {
            assert!(bad.parse::<PodName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn pods_of_different_namespaces_have_different_network_namespaces() {
        let a = pod_netns("demo", &PodName::new("a", "web").unwrap());
        let b = pod_netns("demo", &PodName::new("b", "web").unwrap());
        assert_ne!(a, b);
        assert!(a.starts_with("lab-demo-p-"), "{a}");
    }
}
