//! From the network configuration to a datastore, the API server and the node's name.
//!
//! In comes the configuration, out come clients that have not connected yet. With `datastore_type: kubernetes` the API
//! server is both the datastore and the source of what is known of pods, over one connection.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use libcalico_datastore::config::{ClientConfig, connect};
use libcalico_datastore::{Datastore, DatastoreType, KubernetesDatastore};
use libcalico_ipam::IpamClient;
use libcalico_ipam::turns::Turns;

use crate::error::{CniError, Code};
use crate::netconf::NetConf;

/// Longest wait for a connection to one endpoint: a pod waits for it.
const DIAL: Duration = Duration::from_secs(3);
/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Where the queues of nodes' processes are: gone with a restart of the machine.
const QUEUES: &str = "/var/run/calico/cni";
/// Where calico-node writes the node's name.
const NODENAME_FILE: &str = "/var/lib/calico/nodename";

/// Where a call reads and writes.
#[derive(Clone)]
pub struct Stores {
    pub store: Arc<dyn Datastore>,
    /// The API server, where the configuration names it.
    pub api: Option<Arc<KubernetesDatastore>>,
    /// The datastore is the API server: a pod's endpoint is the pod.
    pub kubernetes: bool,
    /// Labels, annotations and ports of pods come from the API server.
    pub pods_from_api: bool,
}

/// The datastore of the configuration. What the configuration leaves open comes from the environment.
pub async fn open(conf: &NetConf) -> Result<Stores, CniError> {
    let mut config = client_config(conf)?;
    config.etcd.dial_timeout = DIAL;
    config.etcd.request_timeout = ANSWER;
    let kubernetes = config.datastore_type == DatastoreType::Kubernetes;
    let policy = conf.policy.type_ == "k8s";
    let named = config.kubernetes.kubeconfig.is_some() || config.kubernetes.api_endpoint.is_some();
    if (kubernetes || policy) && !named {
        let what = if kubernetes { "datastore_type \"kubernetes\"" } else { "policy.type \"k8s\"" };
        return Err(CniError::new(Code::InvalidConfig, format!("{what} needs the API server's address"))
            .with_details(
                "set kubernetes.kubeconfig (or kubernetes.k8s_api_root) in the network configuration",
            ));
    }
    let api = named.then(|| Arc::new(KubernetesDatastore::new(config.kubernetes.clone())));
    let store: Arc<dyn Datastore> = match &api {
        Some(api) if kubernetes => Arc::clone(api) as Arc<dyn Datastore>,
        _ => connect(&config).await?,
    };
    Ok(Stores { store, api, kubernetes, pods_from_api: kubernetes || policy })
}

/// IPAM for a node. With Kubernetes its processes queue up to write a block: one that loses has spent two requests of the
/// API server. A transaction of etcd that loses costs less than the queue.
pub fn ipam(stores: &Stores, node: &str) -> IpamClient {
    let client = IpamClient::new(Arc::clone(&stores.store));
    if !stores.kubernetes {
        return client;
    }
    client.with_turns(Turns::at(&Path::new(QUEUES).join(format!("ipam-{node}.queue"))))
}

fn client_config(conf: &NetConf) -> Result<ClientConfig, CniError> {
    let set = |v: &String| Some(v.clone()).filter(|v| !v.is_empty());
    // Old configurations write the root with the path of the API.
    let root = set(&conf.kubernetes.k8s_api_root)
        .or_else(|| set(&conf.policy.k8s_api_root))
        .and_then(|r| r.split("/api/").next().map(|r| r.trim_end_matches('/').to_owned()));
    let config = ClientConfig::from_lookup(|name| {
        let own = match name {
            "DATASTORE_TYPE" => set(&conf.datastore_type),
            "ETCD_ENDPOINTS" => set(&conf.etcd_endpoints),
            "ETCD_AUTHORITY" => set(&conf.etcd_authority),
            "ETCD_SCHEME" => set(&conf.etcd_scheme),
            "ETCD_DISCOVERY_SRV" => set(&conf.etcd_discovery_srv),
            "ETCD_KEY_FILE" => set(&conf.etcd_key_file),
            "ETCD_CERT_FILE" => set(&conf.etcd_cert_file),
            "ETCD_CA_CERT_FILE" => set(&conf.etcd_ca_cert_file),
            "KUBECONFIG" => set(&conf.kubernetes.kubeconfig),
            "K8S_API_ENDPOINT" => root.clone(),
            "K8S_API_TOKEN" => set(&conf.policy.k8s_auth_token),
            "K8S_CERT_FILE" => set(&conf.policy.k8s_client_certificate),
            "K8S_KEY_FILE" => set(&conf.policy.k8s_client_key),
            "K8S_CA_FILE" => set(&conf.policy.k8s_certificate_authority),
            "K8S_CLIENT_QPS" => (conf.qps > 0).then(|| conf.qps.to_string()),
            _ => None,
        };
        // The runtime's own Kubernetes credentials are not the plugin's.
        own.or_else(|| std::env::var(name).ok().filter(|_| !runtimes_own(name)))
    })?;
    Ok(config)
}

fn runtimes_own(name: &str) -> bool {
    name.contains("KUBECONFIG") || name.contains("K8S_")
}

/// The node's name: from the configuration, else from calico-node's file, else the machine's.
pub fn node_name(conf: &NetConf) -> Result<String, CniError> {
    if !conf.nodename.is_empty() {
        return checked(&conf.nodename);
    }
    let file = if conf.nodename_file.is_empty() { NODENAME_FILE } else { &conf.nodename_file };
    match std::fs::read_to_string(Path::new(file)) {
        Ok(name) if !name.trim().is_empty() => return checked(name.trim()),
        _ if conf.nodename_file_optional => {}
        Ok(_) => {
            return Err(CniError::new(Code::TryAgainLater, format!("{file} is empty"))
                .with_details("calico-node writes the node's name to it when it starts"));
        }
        Err(e) => {
            return Err(CniError::new(Code::TryAgainLater, format!("{file}: {e}")).with_details(
                "check that calico-node is running and has mounted /var/lib/calico/, or set nodename",
            ));
        }
    }
    if !conf.hostname.is_empty() {
        return checked(&conf.hostname);
    }
    let name = nix::unistd::gethostname()
        .map_err(|e| CniError::new(Code::Io, format!("the machine's name cannot be read: {e}")))?;
    checked(&name.to_string_lossy().to_lowercase())
}

/// The name becomes part of datastore keys.
fn checked(name: &str) -> Result<String, CniError> {
    if !name.is_empty()
        && name.len() <= 253
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
    {
        return Ok(name.to_owned());
    }
    Err(CniError::new(Code::InvalidConfig, format!("{name:.80?} is no node's name")))
}
