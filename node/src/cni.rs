//! The CNI plugin's part in this process: what the init container left is kept as it should be.
//!
//! The installer stages the network configuration and ends; this process, which knows when Felix is ready, gives it to
//! the runtime, and renews the token in the plugin's kubeconfig (ADR 0005). Only where the host's directory is mounted,
//! as upstream's manifests do: on a host without Kubernetes nothing is touched.

use cni_plugin::install::{self, Places, Settings};
use tokio::task::JoinHandle;
use tracing::{info, warn};

/// Starts keeping on the current runtime, where the host's directory for network configurations is mounted.
pub fn start() -> Option<JoinHandle<()>> {
    let places = Places::default();
    if !places.host_net_dir.is_dir() {
        return None;
    }
    match Settings::from_env(places) {
        Ok(settings) => {
            info!(directory = %settings.places.host_net_dir.display(), "keeping the CNI plugin's configuration");
            Some(tokio::spawn(async move { install::keep(&settings).await }))
        }
        // The node's own work does not depend on it.
        Err(error) => {
            warn!(%error, "the CNI plugin's configuration is not kept");
            None
        }
    }
}
