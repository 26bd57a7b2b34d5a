//! Who the pod is: names, labels, profiles.
//!
//! In come the request and the node's name, out comes a [`Workload`]. Pure. A call with `K8S_POD_NAME` and
//! `K8S_POD_NAMESPACE` is about a Kubernetes pod, any other about a container of the orchestrator `cni`. Names are
//! upstream's: see `veth_name` and `endpoint_name`.

use std::collections::BTreeMap;

use libcalico_ipam::vm::vm_handle;
use libcalico_net::interface_name::{DEFAULT_PREFIX, veth_name_for_container, veth_name_for_workload};

use crate::facts::{NamespaceFacts, PodFacts};
use crate::machine::Machine;
use crate::request::Request;

const LABEL_NAMESPACE: &str = "projectcalico.org/namespace";
const LABEL_ORCHESTRATOR: &str = "projectcalico.org/orchestrator";

/// A pod or container on this node.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    pub node: String,
    /// `k8s` or `cni`.
    pub orchestrator: &'static str,
    pub namespace: String,
    /// Empty for containers.
    pub pod: String,
    /// The pod's identity, where the runtime tells it.
    pub pod_uid: String,
    pub container_id: String,
    /// The interface in the pod.
    pub endpoint: String,
    pub labels: BTreeMap<String, String>,
    pub profile: Profile,
    /// What the API server says of the pod, where it was asked.
    pub facts: Option<PodFacts>,
    pub namespace_facts: Option<NamespaceFacts>,
    /// The virtual machine that the pod runs, where machines keep their addresses.
    pub machine: Option<Machine>,
}

/// The profile that the endpoint inherits from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Containers of one network reach each other.
    Network(String),
    /// `kns.NAMESPACE`: as a Kubernetes namespace without policy, open.
    Namespace(String),
}

impl Profile {
    /// The profile's name.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Network(n) => n.clone(),
            Self::Namespace(ns) => format!("kns.{ns}"),
        }
    }
}

impl Workload {
    /// Finds out who the request is about.
    #[must_use]
    pub fn of(request: &Request, node: &str) -> Self {
        let args = &request.args;
        let k8s = !args.pod_name.is_empty();
        let namespace = if k8s { args.pod_namespace.clone() } else { "default".to_owned() };
        let orchestrator = if k8s { "k8s" } else { "cni" };
        let mut labels: BTreeMap<String, String> =
            request.conf.labels().map(|l| (l.key.clone(), l.value.clone())).collect();
        labels.insert(LABEL_NAMESPACE.to_owned(), namespace.clone());
        labels.insert(LABEL_ORCHESTRATOR.to_owned(), orchestrator.to_owned());
        Self {
            node: node.to_owned(),
            orchestrator,
            profile: if k8s {
                Profile::Namespace(namespace.clone())
            } else {
                Profile::Network(request.conf.name.clone())
            },
            namespace,
            pod: args.pod_name.clone(),
            pod_uid: args.pod_uid.clone(),
            container_id: request.container_id.clone(),
            endpoint: request.ifname.clone(),
            labels,
            facts: None,
            namespace_facts: None,
            machine: None,
        }
    }

    /// A pod that is known by name alone.
    #[must_use]
    pub fn of_pod(node: &str, namespace: &str, pod: &str, container_id: &str) -> Self {
        Self {
            node: node.to_owned(),
            orchestrator: "k8s",
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            pod_uid: String::new(),
            container_id: container_id.to_owned(),
            endpoint: "eth0".to_owned(),
            labels: BTreeMap::new(),
            profile: Profile::Namespace(namespace.to_owned()),
            facts: None,
            namespace_facts: None,
            machine: None,
        }
    }

    /// True for a Kubernetes pod.
    #[must_use]
    pub fn is_pod(&self) -> bool {
        self.orchestrator == "k8s"
    }

    /// Name of the WorkloadEndpoint: its parts with `-` doubled, joined by `-`.
    #[must_use]
    pub fn endpoint_name(&self) -> String {
        let id = if self.is_pod() { &self.pod } else { &self.container_id };
        [self.node.as_str(), self.orchestrator, id, &self.endpoint].map(|p| p.replace('-', "--")).join("-")
    }

    /// Name of the host's end of the veth pair.
    #[must_use]
    pub fn veth_name(&self) -> String {
        if self.is_pod() {
            veth_name_for_workload(DEFAULT_PREFIX, &self.namespace, &self.pod)
        } else {
            veth_name_for_container(DEFAULT_PREFIX, &self.container_id)
        }
    }

    /// The handle of the pod's addresses: the container's, or its machine's.
    #[must_use]
    pub fn handle(&self, network: &str) -> String {
        match &self.machine {
            Some(m) => vm_handle(network, &self.namespace, &m.name),
            None => handle(network, &self.container_id),
        }
    }

    /// Attributes that the pod's addresses carry.
    #[must_use]
    pub fn address_attributes(&self) -> BTreeMap<String, String> {
        let mut attributes = BTreeMap::from([("node".to_owned(), self.node.clone())]);
        if self.is_pod() {
            attributes.insert("namespace".to_owned(), self.namespace.clone());
            attributes.insert("pod".to_owned(), self.pod.clone());
        }
        if let Some(m) = &self.machine {
            let migration = m.migration.clone().unwrap_or_default();
            let all = [
                ("vmi-name", &m.name),
                ("vmi-uid", &m.instance_uid),
                ("vm-uid", &m.uid),
                ("vmim-uid", &migration),
            ];
            let known = all.into_iter().filter(|(_, v)| !v.is_empty());
            attributes.extend(known.map(|(k, v)| (k.to_owned(), v.clone())));
        }
        attributes
    }

    /// Labels of the pod's namespace; where the API server was not asked, its name.
    #[must_use]
    pub fn namespace_labels(&self) -> Option<BTreeMap<String, String>> {
        self.is_pod().then(|| {
            let mut labels = self.namespace_facts.as_ref().map(|f| f.labels.clone()).unwrap_or_default();
            for key in ["kubernetes.io/metadata.name", "projectcalico.org/name"] {
                labels.entry(key.to_owned()).or_insert_with(|| self.namespace.clone());
            }
            labels
        })
    }
}

/// The handle of a container's addresses on a network.
#[must_use]
pub fn handle(network: &str, container_id: &str) -> String {
    format!("{network}.{container_id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(args: &str) -> Workload {
        let conf = r#"{"cniVersion":"1.0.0","name":"peernet","args":{
            "labels":[{"key":"run","value":"access"}],
            "org.apache.mesos":{"network_info":{"labels":{"labels":[{"key":"a","value":"b"}]}}}}}"#;
        let r = crate::request::parse(conf.as_bytes(), |n| {
            Some(match n {
                "CNI_COMMAND" => "DEL".to_owned(),
                "CNI_CONTAINERID" => "d0000c0ffee0123456789".to_owned(),
                "CNI_IFNAME" => "eth0".to_owned(),
                "CNI_ARGS" => args.to_owned(),
                _ => String::new(),
            })
        });
        Workload::of(&r.unwrap(), "node-a")
    }

    #[test]
    fn a_container_is_named_by_its_identifier() {
        let w = workload("");
        assert_eq!(w.endpoint_name(), "node--a-cni-d0000c0ffee0123456789-eth0");
        assert_eq!(w.veth_name(), "calid0000c0ffee");
        assert_eq!(w.handle("peernet"), "peernet.d0000c0ffee0123456789");
        assert_eq!((w.namespace.as_str(), w.profile.name().as_str()), ("default", "peernet"));
        assert_eq!(w.labels["run"], "access");
        assert_eq!(w.labels["a"], "b");
        assert_eq!(w.address_attributes().len(), 1);
    }

    #[test]
    fn a_pod_is_named_by_its_namespace_and_name() {
        let w = workload("K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-1");
        assert_eq!(w.endpoint_name(), "node--a-k8s-web--1-eth0");
        assert_eq!(w.veth_name(), veth_name_for_workload("cali", "default", "web-1"));
        assert_eq!(w.profile.name(), "kns.default");
        assert_eq!(w.labels["projectcalico.org/orchestrator"], "k8s");
        assert_eq!(w.address_attributes()["pod"], "web-1");
    }
}
