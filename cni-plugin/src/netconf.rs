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
    /// Longest wait of an ADD for Felix's word that the pod's policy is there; 0: no wait.
    #[serde(deserialize_with = "null")]
    pub policy_setup_timeout_seconds: i64,
    /// Where Felix gives that word.
    #[serde(deserialize_with = "null")]
    pub endpoint_status_dir: String,
    #[serde(deserialize_with = "null")]
    pub feature_control: FeatureControl,
    /// `veth` or nothing.
    #[serde(deserialize_with = "null")]
    pub device_type: String,
    #[serde(deserialize_with = "null")]
    pub dataplane_options: DataplaneOptions,
    /// API group of the custom resources.
    #[serde(deserialize_with = "null")]
    pub calico_api_group: String,
    /// Most requests a second to the API server; 0: no limit.
    #[serde(deserialize_with = "null")]
    pub qps: u32,
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
    /// Of `host-local`: lists of `{"subnet": …}`.
    #[serde(deserialize_with = "null")]
    pub ranges: Value,
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
    #[serde(deserialize_with = "null")]
    pub k8s_auth_token: String,
    /// PEM files.
    #[serde(deserialize_with = "null")]
    pub k8s_client_certificate: String,
    #[serde(deserialize_with = "null")]
    pub k8s_client_key: String,
    #[serde(deserialize_with = "null")]
    pub k8s_certificate_authority: String,
}

/// What pods may ask for by annotations.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct FeatureControl {
    pub ip_addrs_no_ipam: bool,
    pub floating_ips: bool,
}

/// Who makes the interface.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct DataplaneOptions {
    /// Nothing: this plugin.
    #[serde(rename = "type", deserialize_with = "null")]
    pub type_: String,
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
        if !matches!(self.datastore_type.as_str(), "" | "etcdv3" | "kubernetes") {
            return no(
                &format!("datastore_type {:.40?}", self.datastore_type),
                "write \"etcdv3\" or \"kubernetes\"",
            );
        }
        if !matches!(self.device_type.as_str(), "" | "veth") {
            return no(&format!("device_type {:.40?}", self.device_type), "write \"veth\", or leave it out");
        }
        if !matches!(self.dataplane_options.type_.as_str(), "" | "linux") {
            let field = format!("dataplane_options.type {:.40?}", self.dataplane_options.type_);
            return no(&field, "this plugin makes the interfaces itself: leave dataplane_options out");
        }
        if !matches!(self.calico_api_group.as_str(), "" | "projectcalico.org/v3") {
            return no(
                &format!("calico_api_group {:.60?}", self.calico_api_group),
                "the custom resources are those of projectcalico.org/v3: leave calico_api_group out",
            );
        }
        if self.policy_setup_timeout_seconds < 0 {
            return Err(CniError::new(
                Code::InvalidConfig,
                format!("policy_setup_timeout_seconds is {}", self.policy_setup_timeout_seconds),
            )
            .with_details("write a number of seconds, 0 for no wait"));
        }
        Ok(())
    }

    /// Labels for the endpoint, from every place.
    pub fn labels(&self) -> impl Iterator<Item = &Label> {
        let mesos = &self.args.mesos.network_info.labels.labels;
        mesos.iter().chain(&self.args.cni.labels).chain(&self.args.labels)
    }
}
