//! The condition `NetworkUnavailable` of Kubernetes' Node: cloud providers set it, and keep pods away, until the network's
//! agent takes it back.
//!
//! In come a node's name and whether Calico runs; out goes one patch of the Node's status. Texts are upstream's. Left
//! out: who asks again when it fails; start-up does.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use libcalico_datastore::{DatastoreError, KubernetesConfig};
use serde_json::{Value, json};

/// Longest wait for the API server.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why the condition could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ConditionError {
    #[error(transparent)]
    Configuration(#[from] DatastoreError),
    #[error(
        "condition NetworkUnavailable of node {node}: {reason}; nodes/status must be allowed to be patched"
    )]
    Refused { node: String, reason: String },
}

/// Says whether the node's network is there.
pub async fn set(config: &KubernetesConfig, node: &str, available: bool) -> Result<(), ConditionError> {
    let refused = |reason: String| ConditionError::Refused { node: node.to_owned(), reason };
    let client = Client::try_from(config.kube_config().await?).map_err(|e| refused(e.to_string()))?;
    let patch = Patch::Strategic(patch(available, Utc::now()));
    let nodes: Api<Node> = Api::all(client);
    let parameters = PatchParams::default();
    match tokio::time::timeout(TIMEOUT, nodes.patch_status(node, &parameters, &patch)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(e)) => Err(refused(e.to_string())),
        Err(_) => Err(refused(format!("no answer within {TIMEOUT:?}"))),
    }
}

fn patch(available: bool, now: DateTime<Utc>) -> Value {
    let (status, reason, message) = if available {
        ("False", "CalicoIsUp", "Calico is running on this node")
    } else {
        ("True", "CalicoIsDown", "Calico is shutting down on this node")
    };
    let now = now.to_rfc3339_opts(SecondsFormat::Secs, true);
    json!({ "status": { "conditions": [{
        "type": "NetworkUnavailable", "status": status, "reason": reason, "message": message,
        "lastTransitionTime": now, "lastHeartbeatTime": now,
    }] } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_is_there_is_not_unavailable() {
        let now = "2026-01-02T03:04:05Z".parse().unwrap();
        let condition = patch(true, now)["status"]["conditions"][0].clone();
        assert_eq!(condition["status"], "False");
        assert_eq!(condition["reason"], "CalicoIsUp");
        assert_eq!(condition["lastTransitionTime"], "2026-01-02T03:04:05Z");
        assert_eq!(patch(false, now)["status"]["conditions"][0]["status"], "True");
    }
}
