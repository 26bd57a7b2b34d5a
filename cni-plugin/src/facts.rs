//! What the API server knows of a pod and its namespace.
//!
//! In come a client and names, or the JSON that the API server sends, out come labels, annotations, ports, profiles.
//! A pod is two reads at once. Always holds: everything follows from those two objects; a pod that the API server does
//! not have (any more) is `None`, which an ADD takes for an error and a DEL for work that is done.

use std::collections::BTreeMap;

use libcalico_api::ObjectMeta;
use libcalico_api::workload_endpoint::WorkloadEndpoint;
use libcalico_datastore::KubernetesDatastore;
use libcalico_model::kubernetes::pod;
use libcalico_net::interface_name::DEFAULT_PREFIX;
use serde::Deserialize;
use serde_json::Value;

use crate::error::{CniError, Code};
use crate::machine::{self, InstanceRef};
use crate::workload::Workload;

/// Annotation of a pod that stands for one from a node's own files.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// A pod.
#[derive(Clone, Debug, PartialEq)]
pub struct PodFacts {
    /// As policy sees it: labels, ports, profiles, service account, addresses that were written before.
    pub endpoint: WorkloadEndpoint,
    pub annotations: BTreeMap<String, String>,
    /// The virtual machine's instance that controls the pod.
    pub instance: Option<InstanceRef>,
}

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NamespaceFacts {
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Head {
    metadata: ObjectMeta,
}

impl PodFacts {
    /// Reads a pod. `None` for one without a network of its own, or without a node.
    pub fn parse(json: &str) -> Result<Option<Self>, CniError> {
        let wrong = |e: String| {
            CniError::new(Code::InvalidConfig, format!("the pod cannot be read: {e}"))
                .with_details("a mistake in one of its annotations is the usual cause")
        };
        let endpoint = pod::endpoint(json.as_bytes(), DEFAULT_PREFIX).map_err(|e| wrong(e.to_string()))?;
        let head: Head = serde_json::from_str(json).map_err(|e| wrong(e.to_string()))?;
        let instance = machine::instance_of(&head.metadata);
        Ok(endpoint.map(|endpoint| Self { endpoint, annotations: head.metadata.annotations, instance }))
    }

    /// An annotation, empty where it is not there.
    #[must_use]
    pub fn annotation(&self, name: &str) -> &str {
        self.annotations.get(name).map_or("", String::as_str)
    }

    /// True where it is the pod of that identity. Pods from a node's own files have another one in the API server than
    /// kubelet tells; an empty identity is anybody's.
    #[must_use]
    pub fn is(&self, uid: &str) -> bool {
        uid.is_empty() || uid == self.endpoint.metadata.uid || self.annotations.contains_key(MIRROR)
    }

    /// True where the pod says that it has addresses and that this container has them.
    #[must_use]
    pub fn has_addresses_of(&self, container_id: &str) -> bool {
        self.annotation(pod::CONTAINER_ID) == container_id
            && !(self.annotation(pod::POD_IP).is_empty() && self.annotation(pod::POD_IPS).is_empty())
    }
}

/// Reads the workload's pod.
pub async fn pod(api: &KubernetesDatastore, w: &Workload) -> Result<Option<PodFacts>, CniError> {
    let path = format!("/api/v1/namespaces/{}/pods/{}", w.namespace, w.pod);
    match api.raw(&path).await? {
        Some(json) => PodFacts::parse(&json),
        None => Ok(None),
    }
}

/// Reads the workload's namespace.
pub async fn namespace(api: &KubernetesDatastore, w: &Workload) -> Result<NamespaceFacts, CniError> {
    let Some(json) = api.raw(&format!("/api/v1/namespaces/{}", w.namespace)).await? else {
        return Err(CniError::new(Code::Datastore, format!("namespace {} does not exist", w.namespace)));
    };
    let head: Head = serde_json::from_str(&json)
        .map_err(|e| CniError::new(Code::Datastore, format!("namespace {}: {e}", w.namespace)))?;
    Ok(NamespaceFacts { labels: head.metadata.labels, annotations: head.metadata.annotations })
}

/// Subnets that Kubernetes gave a node for its pods: IPv4, IPv6.
pub async fn pod_cidrs(
    api: &KubernetesDatastore,
    node: &str,
) -> Result<(Option<String>, Option<String>), CniError> {
    let missing = |why: &str| {
        CniError::new(Code::TryAgainLater, format!("node {node} {why}"))
            .with_details("ipam.subnet \"usePodCidr\" takes the subnet of Node.spec.podCIDRs; kube-controller-manager writes it with --allocate-node-cidrs and --cluster-cidr")
    };
    let json = api.raw(&format!("/api/v1/nodes/{node}")).await?.ok_or_else(|| missing("does not exist"))?;
    let value: Value = serde_json::from_str(&json)
        .map_err(|e| CniError::new(Code::Datastore, format!("node {node} cannot be read: {e}")))?;
    let list = value.pointer("/spec/podCIDRs").and_then(Value::as_array);
    let all: Vec<&str> = list.into_iter().flatten().filter_map(Value::as_str).collect();
    let of = |v6: bool| all.iter().find(|c| c.contains(':') == v6).map(|c| (*c).to_owned());
    let found = (of(false), of(true));
    match (&found, all.len()) {
        ((None, None), _) => Err(missing("has no podCIDRs")),
        ((None, _) | (_, None), 2..) => Err(missing("has two podCIDRs of one family")),
        _ => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_says_which_container_has_its_addresses() {
        let pod = |ips: &str| {
            let json = format!(
                r#"{{"metadata":{{"name":"p","namespace":"n","annotations":{{"cni.projectcalico.org/containerID":"c1",
                    "cni.projectcalico.org/podIP":"{ips}","cni.projectcalico.org/podIPs":"{ips}"}}}},"spec":{{"nodeName":"a"}}}}"#
            );
            PodFacts::parse(&json).unwrap().unwrap()
        };
        assert!(pod("10.0.0.1/32").has_addresses_of("c1"));
        assert!(!pod("10.0.0.1/32").has_addresses_of("c2"));
        assert!(!pod("").has_addresses_of("c1"));
    }

    #[test]
    fn a_pod_is_told_from_another_of_its_name() {
        let pod = |annotations: &str| {
            let json = format!(
                r#"{{"metadata":{{"name":"p","namespace":"n","uid":"u1","annotations":{{{annotations}}}}},"spec":{{"nodeName":"a"}}}}"#
            );
            PodFacts::parse(&json).unwrap().unwrap()
        };
        assert!(pod("").is("u1") && pod("").is("") && !pod("").is("u2"));
        assert!(pod(r#""kubernetes.io/config.mirror":"hash""#).is("u2"));
    }

    #[test]
    fn a_pod_of_the_host_network_has_no_facts_and_a_broken_annotation_is_told() {
        let host = r#"{"metadata":{"name":"p","namespace":"n"},"spec":{"nodeName":"a","hostNetwork":true}}"#;
        assert_eq!(PodFacts::parse(host).unwrap(), None);
        let bad = r#"{"metadata":{"name":"p","namespace":"n","annotations":{"cni.projectcalico.org/floatingIPs":"x"}},"spec":{"nodeName":"a"}}"#;
        let e = PodFacts::parse(bad).unwrap_err().to_string();
        assert!(e.contains("n/p") && e.contains("annotation"), "{e}");
    }
}
