//! The network configuration on standard input.
//!
//! Key names are upstream's. Keys that are not here are ignored, as the specification wants; keys that would change
//! what the plugin does and that it cannot honour are an error of [`NetConf::unsupported`], never silently dropped.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::error::{CniError, Code};

/// The configuration of one network. Absent keys have their zero value.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NetConf {
    #[serde(rename = "cniVersion", deserialize_with = "null")]
    pub cni_version: String,
    #[serde(deserialize_with = "null")]
    pub name: String,
    #[serde(deserialize_with = "null")]
    pub ipam: Ipam,
    #[serde(deserialize_with = "null")]
    pub args: Args,
    /// Bytes; 0 takes `/var/lib/calico/mtu` or 1500.
    #[serde(deserialize_with = "null")]
    pub mtu: u32,
    pub require_mtu_file: bool,
    /// Queues of each end of the pair, for sending and for receiving; 0 is 1.
    #[serde(deserialize_with = "null")]
    pub num_queues: u32,

    #[serde(deserialize_with = "null")]
    pub nodename: String,
    #[serde(deserialize_with = "null")]
    pub nodename_file: String,
    pub nodename_file_optional: bool,
    /// Old name of `nodename`.
    #[serde(deserialize_with = "null")]
    pub hostname: String,

    #[serde(deserialize_with = "null")]
    pub datastore_type: String,
    #[serde(deserialize_with = "null")]
    pub etcd_endpoints: String,
    #[serde(deserialize_with = "null")]
    pub etcd_authority: String,
    #[serde(deserialize_with = "null")]
    pub etcd_scheme: String,
    #[serde(deserialize_with = "null")]
    pub etcd_discovery_srv: String,
    #[serde(deserialize_with = "null")]
    pub etcd_key_file: String,
    #[serde(deserialize_with = "null")]
    pub etcd_cert_file: String,
    #[serde(deserialize_with = "null")]
    pub etcd_ca_cert_file: String,

    #[serde(deserialize_with = "null")]
    pub log_level: String,
    #[serde(deserialize_with = "null")]
    pub log_file_path: String,
    /// Megabytes.
    #[serde(deserialize_with = "null")]
    pub log_file_max_size: u64,
    /// Days.
    #[serde(deserialize_with = "null")]
    pub log_file_max_age: u64,
    #[serde(deserialize_with = "null")]
    pub log_file_max_count: usize,

    #[serde(deserialize_with = "null")]
    pub policy: Policy,
    #[serde(deserialize_with = "null")]
    pub kubernetes: Kubernetes,
    #[serde(deserialize_with = "null")]
    pub container_settings: ContainerSettings,
    /// With routes from another IPAM plugin: default routes as well.
    pub include_default_routes: bool,
    #[serde(deserialize_with = "null")]
    pub policy_setup_timeout_seconds: u64,
    /// URLs that must answer before a pod is made.
    #[serde(deserialize_with = "null")]
    pub readiness_gates: Vec<String>,

    #[serde(rename = "prevResult")]
    pub prev_result: Option<Value>,
    #[serde(rename = "cni.dev/valid-attachments", deserialize_with = "null")]
    pub valid_attachments: Vec<Attachment>,
}

/// Where addresses come from.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Ipam {
    #[serde(rename = "type", deserialize_with = "null")]
    pub type_: String,
    #[serde(deserialize_with = "null")]
    pub subnet: Value,
    /// `"true"` or `"false"`; default true.
    pub assign_ipv4: Option<String>,
    /// `"true"` or `"false"`; default false.
    pub assign_ipv6: Option<String>,
    #[serde(deserialize_with = "null")]
    pub ipv4_pools: Vec<String>,
    #[serde(deserialize_with = "null")]
    pub ipv6_pools: Vec<String>,
}

/// Labels in upstream's place for Mesos, in the CNI conventions' place (`args.cni`), and by themselves.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Args {
    #[serde(deserialize_with = "null")]
    pub labels: Vec<Label>,
    #[serde(deserialize_with = "null")]
    pub cni: Labels,
    #[serde(rename = "org.apache.mesos", deserialize_with = "null")]
    pub mesos: Mesos,
}

/// Upstream's Mesos arguments.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Mesos {
    #[serde(deserialize_with = "null")]
    pub network_info: NetworkInfo,
}

/// Upstream's Mesos network.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NetworkInfo {
    #[serde(deserialize_with = "null")]
    pub labels: Labels,
}

/// A list of labels.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Labels {
    #[serde(deserialize_with = "null")]
    pub labels: Vec<Label>,
}

/// A label of the endpoint.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Label {
    pub key: String,
    pub value: String,
}

/// Who says what a pod may do.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Policy {
    #[serde(rename = "type", deserialize_with = "null")]
    pub type_: String,
    #[serde(deserialize_with = "null")]
    pub k8s_api_root: String,
}

/// How to reach Kubernetes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Kubernetes {
    #[serde(deserialize_with = "null")]
    pub kubeconfig: String,
    #[serde(deserialize_with = "null")]
    pub k8s_api_root: String,
    #[serde(deserialize_with = "null")]
    pub node_name: String,
}

/// Settings of the pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ContainerSettings {
    pub allow_ip_forwarding: bool,
}

/// An attachment that the runtime still has (GC).
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(default)]
pub struct Attachment {
    #[serde(rename = "containerID")]
    pub container_id: String,
    pub ifname: String,
}

fn null<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

impl NetConf {
    /// Reads standard input.
    pub fn parse(stdin: &[u8]) -> Result<Self, CniError> {
        serde_json::from_slice(stdin).map_err(|e| {
            CniError::new(Code::Decode, "the network configuration on standard input cannot be read")
                .with_details(e.to_string())
        })
    }

    /// Names what the configuration asks for and this version cannot do.
    pub fn unsupported(&self) -> Result<(), CniError> {
        let no = |field: &str, hint: &str| {
            Err(CniError::new(Code::UnsupportedField, format!("{field} is not supported by this version"))
                .with_details(hint.to_owned()))
        };
        let hint = "policy and pods are read from etcd alone: remove it and set etcd_endpoints";
        if !self.kubernetes.kubeconfig.is_empty() {
            return no("kubernetes.kubeconfig", hint);
        }
        if !self.kubernetes.k8s_api_root.is_empty() || !self.policy.k8s_api_root.is_empty() {
            return no("k8s_api_root", hint);
        }
        if self.policy.type_ == "k8s" {
            return no("policy.type \"k8s\"", hint);
        }
        if self.datastore_type == "kubernetes" {
            return no("datastore_type \"kubernetes\"", hint);
        }
        if !matches!(self.datastore_type.as_str(), "" | "etcdv3") {
            return no(&format!("datastore_type {:?}", self.datastore_type), "etcdv3 is");
        }
        if self.ipam.type_ == "host-local"
            && self.ipam.subnet.as_str().is_some_and(|s| s.eq_ignore_ascii_case("usePodCidr"))
        {
            return no("ipam.subnet \"usePodCidr\"", "it needs the Kubernetes API; write the node's subnet");
        }
        if self.policy_setup_timeout_seconds > 0 {
            return no(
                "policy_setup_timeout_seconds",
                "remove it: a pod has no traffic before its policy is there, but ADD does not wait for it",
            );
        }
        Ok(())
    }

    /// Labels for the endpoint, from every place.
    pub fn labels(&self) -> impl Iterator<Item = &Label> {
        let mesos = &self.args.mesos.network_info.labels.labels;
        mesos.iter().chain(&self.args.cni.labels).chain(&self.args.labels)
    }
}
