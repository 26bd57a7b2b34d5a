//! Whether a stored object is one that the API allows: what calicoctl refuses to write is not used when it stands in
//! the datastore all the same, because it was written with kubectl, by a newer version or straight into etcd.
//!
//! In comes a stored object, out goes the object with its defaults, or every reason why it is not valid: it is then
//! absent as a whole, never half applied. Defaults count as written: a policy that was made with kubectl and names no
//! direction means what the same policy means through calicoctl.
//!
//! The API server checks most of this by the schemas and CEL rules of our CRDs. It cannot check: the grammar of
//! selectors (`selector`, `notSelector`, `namespaceSelector`, `serviceAccountSelector`, `nodeSelector`,
//! `peerSelector`), whether a network has bits beyond its length, durations in Go's writing, that all addresses of a
//! rule are of one family, and anything between objects (tiers that policies name, pools that overlap). The first four
//! are checked here. No admission policy does it a second time: it could not either (CEL has no grammar of selectors),
//! and the reader must be safe without one. Between objects nothing is refused: each has a meaning whatever the others are
//! (a policy of a missing tier comes last and denies at its end; of two pools with one network the first counts).
//!
//! Left out: kinds whose values are judged one by one where they are used, since one bad value must not take the settings
//! of a whole cluster with it (`FelixConfiguration`, `BGPConfiguration`), that are converted
//! from Kubernetes' own objects (`Node`, `Profile`, `WorkloadEndpoint`, policies `knp.default.…`, which have other
//! limits), or that nobody writes by hand (`ClusterInformation`, IPAM's).

use std::borrow::Cow;

use libcalico_api::Resource;
use libcalico_model::kubernetes::network_policy;
use libcalico_model::{Key, KeyValue, Value};

/// Reasons that are listed for one object.
const MAX_REASONS: usize = 5;

/// The object with its defaults, if its API allows it. None where it is no API object.
pub fn checked(stored: &KeyValue) -> Result<Option<Cow<'_, Resource>>, String> {
    let Value::Resource(resource) = &stored.value else { return Ok(None) };
    let resource: &Resource = resource;
    if !is_checked(&stored.key, resource) {
        return Ok(Some(Cow::Borrowed(resource)));
    }
    let mut completed = resource.clone();
    completed.set_defaults();
    match completed.validate() {
        Ok(()) => Ok(Some(Cow::Owned(completed))),
        Err(found) => {
            let mut reasons: Vec<String> = found.iter().take(MAX_REASONS).map(ToString::to_string).collect();
            if found.len() > MAX_REASONS {
                reasons.push(format!("and {} more", found.len() - MAX_REASONS));
            }
            Err(reasons.join("; "))
        }
    }
}

fn is_checked(key: &Key, resource: &Resource) -> bool {
    match resource {
        Resource::NetworkPolicy(p) => network_policy::source(&p.metadata.name).is_none(),
        Resource::GlobalNetworkPolicy(_) => matches!(key, Key::Resource(_)),
        Resource::StagedNetworkPolicy(_)
        | Resource::StagedGlobalNetworkPolicy(_)
        | Resource::StagedKubernetesNetworkPolicy(_)
        | Resource::Tier(_)
        | Resource::NetworkSet(_)
        | Resource::GlobalNetworkSet(_)
        | Resource::HostEndpoint(_)
        | Resource::IPPool(_)
        | Resource::BGPFilter(_)
        | Resource::BGPPeer(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use libcalico_api::Kind;
    use libcalico_model::{Revision, backend};

    use super::*;
    use crate::syncer::{Converter, FelixConverter, PassThrough};

    fn stored(kind: Kind, namespace: &str, name: &str, spec: &str) -> KeyValue {
        let key = Key::resource(kind, namespace, name);
        let json = format!(r#"{{"metadata":{{}},"spec":{spec}}}"#);
        let value = Value::parse(&key, json.as_bytes()).unwrap();
        KeyValue { key, value, revision: Revision::default() }
    }

    #[test]
    fn what_the_api_does_not_allow_is_absent_with_the_reason() {
        let cases = [
            (Kind::NetworkPolicy, "ns", r#"{"selector":"a =="}"#, "spec.selector"),
            (
                Kind::GlobalNetworkPolicy,
                "",
                r#"{"ingress":[{"action":"Allow","source":{"selector":"(("}}]}"#,
                "selector",
            ),
            (
                Kind::GlobalNetworkPolicy,
                "",
                r#"{"egress":[{"action":"Allow","destination":{"ports":[80]}}]}"#,
                "egress[0]",
            ),
            (
                Kind::GlobalNetworkPolicy,
                "",
                r#"{"doNotTrack":true,"preDNAT":true,"applyOnForward":true}"#,
                "preDNAT",
            ),
            (Kind::StagedNetworkPolicy, "ns", r#"{"selector":"!!"}"#, "selector"),
            (Kind::NetworkSet, "ns", r#"{"nets":["10.0.0.0/33"]}"#, "nets[0]"),
            (Kind::IPPool, "", r#"{"cidr":"10.0.0.0/24","blockSize":8}"#, "blockSize"),
            (
                Kind::HostEndpoint,
                "",
                r#"{"node":"n","interfaceName":"a name that is too long"}"#,
                "interfaceName",
            ),
        ];
        for (kind, namespace, spec, why) in cases {
            let error = FelixConverter.convert(&stored(kind, namespace, "x", spec)).unwrap_err();
            assert!(error.contains(why), "{kind} {spec}: {error}");
        }
        let peer = stored(Kind::BGPPeer, "", "x", r#"{"peerIP":"nobody","asNumber":1}"#);
        let error = PassThrough.convert(&peer).unwrap_err();
        assert!(error.contains("peerIP"), "{error}");
    }

    #[test]
    fn defaults_count_as_written() {
        let policy =
            stored(Kind::NetworkPolicy, "ns", "x", r#"{"selector":"all()","egress":[{"action":"Deny"}]}"#);
        let outputs = FelixConverter.convert(&policy).unwrap();
        let Value::Policy(made) = &outputs[0].1 else { panic!("{outputs:?}") };
        let backend::Policy { types, tier, .. } = &**made;
        assert_eq!((types.as_slice(), tier.as_str()), (["egress".to_owned()].as_slice(), "default"));
    }

    #[test]
    fn what_kubernetes_wrote_has_its_own_limits() {
        let rules: Vec<String> = (0..1_100).map(|_| r#"{"action":"Allow"}"#.to_owned()).collect();
        let spec = format!(r#"{{"selector":"all()","ingress":[{}]}}"#, rules.join(","));
        assert!(FelixConverter.convert(&stored(Kind::NetworkPolicy, "ns", "knp.default.x", &spec)).is_ok());
        assert!(FelixConverter.convert(&stored(Kind::NetworkPolicy, "ns", "x", &spec)).is_err());
    }
}
