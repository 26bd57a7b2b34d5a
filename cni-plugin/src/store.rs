//! From the network configuration to a datastore and the node's name.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use libcalico_datastore::Datastore;
use libcalico_datastore::config::{ClientConfig, connect};

use crate::error::{CniError, Code};
use crate::netconf::NetConf;

/// Longest wait for a connection to one endpoint: a pod waits for it.
const DIAL: Duration = Duration::from_secs(3);
/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Where calico-node writes the node's name.
const NODENAME_FILE: &str = "/var/lib/calico/nodename";

/// The datastore of the configuration. What the configuration leaves open comes from the environment.
pub async fn open(conf: &NetConf) -> Result<Arc<dyn Datastore>, CniError> {
    let set = |v: &String| Some(v.clone()).filter(|v| !v.is_empty());
    let mut config = ClientConfig::from_lookup(|name| {
        let own = match name {
            "ETCD_ENDPOINTS" => set(&conf.etcd_endpoints),
            "ETCD_AUTHORITY" => set(&conf.etcd_authority),
            "ETCD_SCHEME" => set(&conf.etcd_scheme),
            "ETCD_DISCOVERY_SRV" => set(&conf.etcd_discovery_srv),
            "ETCD_KEY_FILE" => set(&conf.etcd_key_file),
            "ETCD_CERT_FILE" => set(&conf.etcd_cert_file),
            "ETCD_CA_CERT_FILE" => set(&conf.etcd_ca_cert_file),
            "DATASTORE_TYPE" => Some("etcdv3".to_owned()),
            // The runtime's own Kubernetes credentials are not the plugin's.
            "KUBECONFIG" | "K8S_API_ENDPOINT" => return None,
            _ => None,
        };
        own.or_else(|| std::env::var(name).ok())
    })?;
    config.etcd.dial_timeout = DIAL;
    config.etcd.request_timeout = ANSWER;
    Ok(connect(&config).await?)
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
