//! The commands, one file each. In comes a [`Request`], out go JSON or an error.

pub mod add;
mod addresses;
pub mod check;
pub mod del;
pub mod gc;
pub mod ipam;
pub mod status;

use std::path::Path;
use std::sync::Arc;

use libcalico_api::Resource;
use libcalico_datastore::{Found, Read};
use libcalico_model::{Key, Value};

use crate::error::{CniError, Code};
use crate::network::NetworkError;
use crate::plan::MTU_FILE;
use crate::request::{Command, Request};

/// IPAM's type that is served in this process.
const OWN_IPAM: &str = "calico-ipam";

/// Serves a call of the plugin `calico`.
pub async fn network(request: &Request, stdin: &[u8]) -> Result<String, CniError> {
    request.conf.unsupported()?;
    if request.conf.ipam.type_.is_empty() && !matches!(request.command, Command::Status | Command::Gc) {
        return Err(CniError::new(Code::InvalidConfig, "the network configuration has no ipam.type")
            .with_details("write \"ipam\": {\"type\": \"calico-ipam\"}"));
    }
    let none = |()| String::new();
    match request.command {
        Command::Add => add::add(request, stdin).await.map(|r| r.to_json(request.version)),
        Command::Del => del::del(request, stdin).await.map(none),
        Command::Check => check::check(request, stdin).await.map(none),
        Command::Status => status::status(request).await.map(none),
        Command::Gc => gc::gc(request, stdin).await.map(none),
        Command::Version => Ok(crate::result::version_json()),
    }
}

/// Serves a call of the plugin `calico-ipam`.
pub async fn ipam(request: &Request) -> Result<String, CniError> {
    request.conf.unsupported()?;
    let none = |()| String::new();
    match request.command {
        Command::Add => ipam::add(request).await.map(|r| r.to_json(request.version)),
        Command::Del => ipam::del(request).await.map(none),
        Command::Check => ipam::check(request).await.map(none),
        Command::Status => status::status(request).await.map(none),
        // The network plugin's GC frees the addresses with the endpoints.
        Command::Gc => Ok(String::new()),
        Command::Version => Ok(crate::result::version_json()),
    }
}

/// Key of the object that says whether the datastore may be written.
fn cluster_key() -> Key {
    Key::resource(libcalico_api::Kind::ClusterInformation, "", "default")
}

/// Refuses while the datastore is locked (upgrade, migration).
fn ready(found: Option<&Found>) -> Result<(), CniError> {
    let Some(Found::Key(Some(kv))) = found else { return Ok(()) };
    let Value::Resource(r) = &kv.value else { return Ok(()) };
    match &**r {
        Resource::ClusterInformation(c) if c.spec.datastore_ready == Some(false) => {
            Err(CniError::new(Code::TryAgainLater, "Calico is currently not ready to process requests")
                .with_details("ClusterInformation default has datastoreReady: false; the datastore is being migrated or upgraded"))
        }
        _ => Ok(()),
    }
}

/// The pod that the runtime speaks of is not the API server's (any more).
fn pod_gone(w: &crate::workload::Workload) -> CniError {
    CniError::new(Code::TryAgainLater, format!("pod {}/{} is not in the API server", w.namespace, w.pod))
        .with_details("it was deleted or made anew meanwhile, or kubernetes.kubeconfig is another cluster's")
}

/// With Kubernetes as datastore an endpoint is a pod.
fn no_pod() -> CniError {
    CniError::new(Code::InvalidEnvironment, "datastore_type \"kubernetes\" serves Kubernetes pods alone")
        .with_details("CNI_ARGS has neither K8S_POD_NAMESPACE nor K8S_POD_NAME")
}

/// The answers to `reads` by key.
fn answer<'a>(reads: &[Read], found: &'a [Found], key: &Key) -> Option<&'a Found> {
    reads.iter().zip(found).find(|(r, _)| matches!(r, Read::Key(k) if k == key)).map(|(_, f)| f)
}

/// Contents of Felix's MTU file.
fn mtu_file() -> Option<String> {
    std::fs::read_to_string(Path::new(MTU_FILE)).ok()
}

/// Runs blocking work with the kernel beside the datastore calls.
async fn kernel<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NetworkError> + Send + 'static,
) -> Result<T, NetworkError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| {
        Err(NetworkError::Namespace {
            path: String::new(),
            source: std::io::Error::other(format!("work with the kernel was cut off: {e}")),
        })
    })
}

/// A namespace that several pieces of work share.
type SharedNs = Arc<crate::network::netns::NetNs>;
