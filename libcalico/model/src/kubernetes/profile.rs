//! Namespaces and service accounts as profiles: pods inherit their labels, with a prefix that tells where they are from.
//!
//! A namespace's profile allows everything, so that a pod without policy has traffic, as Kubernetes wants it. A service
//! account's has no rules.

use std::collections::BTreeMap;

use libcalico_api::ObjectMeta;
use libcalico_api::profile::{Profile, ProfileSpec};
use libcalico_api::rule::Rule;
use serde::Deserialize;

use super::{identity, malformed, read};
use crate::ValueError;

/// Before the name of a namespace: `kns.default`.
pub const NAMESPACE_PROFILE: &str = "kns.";
/// Before namespace and name of a service account: `ksa.default.web`.
pub const SERVICE_ACCOUNT_PROFILE: &str = "ksa.";
/// Before labels that come from a namespace.
pub const NAMESPACE_LABEL_PREFIX: &str = "pcns.";
/// Before labels that come from a service account.
pub const SERVICE_ACCOUNT_LABEL_PREFIX: &str = "pcsa.";
/// Label, behind either prefix, that repeats the name.
const NAME_LABEL: &str = "projectcalico.org/name";
/// Longest value of a label.
const MAX_LABEL_VALUE: usize = 63;

/// As much of a Namespace or ServiceAccount as matters.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Named {
    metadata: ObjectMeta,
}

/// A Namespace as a profile.
pub fn from_namespace(json: &[u8]) -> Result<Profile, ValueError> {
    let meta = read::<Named>("Namespace", json)?.metadata;
    if meta.name.is_empty() {
        return Err(malformed("Namespace", "has no name"));
    }
    let allow = || vec![Rule::default()];
    let spec = ProfileSpec {
        ingress: allow(),
        egress: allow(),
        labels_to_apply: labels(&meta, NAMESPACE_LABEL_PREFIX),
    };
    Ok(profile(&meta, format!("{NAMESPACE_PROFILE}{}", meta.name), spec))
}

/// A ServiceAccount as a profile.
pub fn from_service_account(json: &[u8]) -> Result<Profile, ValueError> {
    let meta = read::<Named>("ServiceAccount", json)?.metadata;
    if meta.name.is_empty() || meta.namespace.is_empty() {
        return Err(malformed("ServiceAccount", "has no name or no namespace"));
    }
    let labels_to_apply = labels(&meta, SERVICE_ACCOUNT_LABEL_PREFIX);
    let name = format!("{SERVICE_ACCOUNT_PROFILE}{}.{}", meta.namespace, meta.name);
    Ok(profile(&meta, name, ProfileSpec { labels_to_apply, ..ProfileSpec::default() }))
}

/// Which object a profile stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProfileSource {
    Namespace(String),
    ServiceAccount { namespace: String, name: String },
}

/// Which object a profile of this name stands for; none where it is no name of such a profile.
#[must_use]
pub fn source(profile: &str) -> Option<ProfileSource> {
    if let Some(name) = profile.strip_prefix(NAMESPACE_PROFILE) {
        return Some(ProfileSource::Namespace(name.to_owned())).filter(|_| !name.is_empty());
    }
    // A namespace's name has no dots; a service account's may.
    let (namespace, name) = profile.strip_prefix(SERVICE_ACCOUNT_PROFILE)?.split_once('.')?;
    let source = ProfileSource::ServiceAccount { namespace: namespace.to_owned(), name: name.to_owned() };
    Some(source).filter(|_| !namespace.is_empty() && !name.is_empty())
}

fn profile(meta: &ObjectMeta, name: String, spec: ProfileSpec) -> Profile {
    let metadata = ObjectMeta { name, namespace: String::new(), ..identity(meta) };
    Profile { metadata, spec, ..Profile::default() }
}

fn labels(meta: &ObjectMeta, prefix: &str) -> BTreeMap<String, String> {
    let mut out: BTreeMap<String, String> =
        meta.labels.iter().map(|(k, v)| (format!("{prefix}{k}"), v.clone())).collect();
    if meta.name.len() <= MAX_LABEL_VALUE {
        out.insert(format!("{prefix}{NAME_LABEL}"), meta.name.clone());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_becomes_a_profile_that_allows_and_labels() {
        let json = br#"{"metadata":{"name":"shop","uid":"u","resourceVersion":"7","labels":{"env":"prod"}},"status":{"phase":"Active"}}"#;
        let p = from_namespace(json).unwrap();
        assert_eq!((p.metadata.name.as_str(), p.metadata.resource_version.as_str()), ("kns.shop", "7"));
        assert_eq!((p.spec.ingress.len(), p.spec.egress.len()), (1, 1));
        assert_eq!(p.spec.labels_to_apply["pcns.env"], "prod");
        assert_eq!(p.spec.labels_to_apply["pcns.projectcalico.org/name"], "shop");
    }

    #[test]
    fn a_service_account_becomes_a_profile_without_rules() {
        let json = br#"{"metadata":{"name":"a.b","namespace":"shop","labels":{"team":"x"}}}"#;
        let p = from_service_account(json).unwrap();
        assert_eq!((p.metadata.name.as_str(), p.metadata.namespace.as_str()), ("ksa.shop.a.b", ""));
        assert!(p.spec.ingress.is_empty() && p.spec.egress.is_empty());
        assert_eq!(p.spec.labels_to_apply["pcsa.team"], "x");
        assert_eq!(p.spec.labels_to_apply["pcsa.projectcalico.org/name"], "a.b");
        let source = source(&p.metadata.name).unwrap();
        let expected = ProfileSource::ServiceAccount { namespace: "shop".into(), name: "a.b".into() };
        assert_eq!(source, expected);
    }

    #[test]
    fn other_profiles_stand_for_nothing() {
        for name in ["", "kns.", "ksa.", "ksa.a", "ksa..b", "projectcalico-default-allow"] {
            assert_eq!(source(name), None, "{name}");
        }
        assert!(from_namespace(b"{}").is_err() && from_namespace(b"[]").is_err());
    }
}
