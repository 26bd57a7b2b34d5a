//! What `cluster diags` asks the Kubernetes API for: its own objects, and the logs of Calico's pods.
//!
//! Always holds: Secrets are never read; of each DaemonSet or Deployment at most so many pods' logs are read, those of
//! the nodes in question first, and so many at one time; what the API server refuses is noted and the rest goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use libcalico_api::duration::GoDuration;
use libcalico_datastore::KubernetesDatastore;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::command::diags::Bundle;
use crate::{Error, Result};

/// Objects of Kubernetes that say how Calico's work came about.
const OBJECTS: [(&str, &str); 11] = [
    ("namespaces", "/api/v1/namespaces"),
    ("nodes", "/api/v1/nodes"),
    ("pods", "/api/v1/pods"),
    ("services", "/api/v1/services"),
    ("serviceaccounts", "/api/v1/serviceaccounts"),
    ("events", "/api/v1/events"),
    ("endpointslices", "/apis/discovery.k8s.io/v1/endpointslices"),
    ("networkpolicies", "/apis/networking.k8s.io/v1/networkpolicies"),
    ("clusternetworkpolicies", "/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies"),
    ("installations", "/apis/operator.tigera.io/v1/installations"),
    ("daemonsets", "/apis/apps/v1/daemonsets"),
];
/// A log beyond this is cut, bytes.
const MAX_LOG_BYTES: u64 = 64 << 20;

/// Which logs are wanted.
pub struct Wish {
    /// Seconds.
    pub since: Option<u64>,
    /// Pods of one DaemonSet or Deployment.
    pub most: usize,
    pub at_once: usize,
    /// Nodes whose pods come first.
    pub focus: Vec<String>,
}

/// A container's log.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Log {
    /// In the archive.
    file: String,
    path: String,
}

/// Reads `5s`, `2m`, `3h` as seconds.
pub fn since_seconds(text: &str) -> Result<u64> {
    let wrong = || Error::Usage(format!("--since: {text:?} is no duration such as 5s, 2m or 3h"));
    let duration: GoDuration = text.parse().map_err(|_| wrong())?;
    u64::try_from(duration.as_nanos() / 1_000_000_000).map_err(|_| wrong())
}

/// Collects everything.
pub async fn collect(kubernetes: &Arc<KubernetesDatastore>, wish: &Wish, bundle: &mut Bundle) -> Result<()> {
    let mut pods = Value::Null;
    for (name, path) in OBJECTS {
        match kubernetes.raw(path).await {
            Ok(Some(text)) => {
                let value: Value = serde_json::from_str(&text).unwrap_or_default();
                let text = serde_json::to_string_pretty(&value).unwrap_or(text);
                bundle.text(&format!("kubernetes/{name}.json"), text)?;
                if name == "pods" {
                    pods = value;
                }
            }
            Ok(None) => bundle.missed(format!("{name}: the API server does not have them")),
            Err(e) => bundle.missed(format!("{name}: {e}")),
        }
    }
    let wanted = logs(&pods, wish);
    println!("Collecting {} logs of Calico's pods", wanted.len());
    let turns = Arc::new(Semaphore::new(wish.at_once));
    let mut running = JoinSet::new();
    for log in wanted {
        let (kubernetes, turns) = (kubernetes.clone(), turns.clone());
        running.spawn(async move {
            // The semaphore is never closed.
            let _turn = turns.acquire().await;
            let read = kubernetes.raw(&log.path).await;
            (log, read)
        });
    }
    while let Some(done) = running.join_next().await {
        let Ok((log, read)) = done else { continue };
        match read {
            Ok(Some(text)) => bundle.text(&log.file, text)?,
            Ok(None) => bundle.missed(format!("{}: the pod is gone", log.file)),
            Err(e) => bundle.missed(format!("{}: {e}", log.file)),
        }
    }
    Ok(())
}

/// The logs that are wanted of a listing of pods.
fn logs(pods: &Value, wish: &Wish) -> Vec<Log> {
    let mut by_owner: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for pod in pods["items"].as_array().into_iter().flatten() {
        if of_calico(pod) {
            by_owner.entry(owner(pod)).or_default().push(pod);
        }
    }
    let place = |pod: &&Value| {
        let node = text(pod, "/spec/nodeName");
        let focus = wish.focus.iter().position(|n| n == node);
        (focus.unwrap_or(usize::MAX), node.to_owned(), text(pod, "/metadata/name").to_owned())
    };
    let mut found = Vec::new();
    for pods in by_owner.values_mut() {
        pods.sort_by_key(place);
        for pod in pods.iter().take(wish.most) {
            found.extend(of_pod(pod, wish.since));
        }
    }
    found
}

fn text<'a>(v: &'a Value, pointer: &str) -> &'a str {
    v.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Pods of Calico's and the operator's namespaces, and Calico's own in others.
fn of_calico(pod: &Value) -> bool {
    let (namespace, name) = (text(pod, "/metadata/namespace"), text(pod, "/metadata/name"));
    ["calico", "tigera"].iter().any(|w| namespace.contains(w)) || name.starts_with("calico-")
}

/// What made the pod. Of a Deployment's, the ReplicaSets of its versions count as one.
fn owner(pod: &Value) -> String {
    let (kind, name) =
        (text(pod, "/metadata/ownerReferences/0/kind"), text(pod, "/metadata/ownerReferences/0/name"));
    let name = if kind == "ReplicaSet" { name.rsplit_once('-').map_or(name, |(head, _)| head) } else { name };
    let name = if name.is_empty() { text(pod, "/metadata/name") } else { name };
    format!("{}/{kind}/{name}", text(pod, "/metadata/namespace"))
}

fn of_pod(pod: &Value, since: Option<u64>) -> Vec<Log> {
    let (namespace, name) = (text(pod, "/metadata/namespace"), text(pod, "/metadata/name"));
    let node = Some(text(pod, "/spec/nodeName")).filter(|n| !n.is_empty()).unwrap_or("no-node");
    let since = since.map(|s| format!("&sinceSeconds={s}")).unwrap_or_default();
    let mut found = Vec::new();
    for list in ["initContainers", "containers"] {
        for container in pod["spec"][list].as_array().into_iter().flatten() {
            let container = text(container, "/name");
            let path = format!(
                "/api/v1/namespaces/{namespace}/pods/{name}/log?container={container}&timestamps=true&limitBytes={MAX_LOG_BYTES}{since}"
            );
            let file = format!("nodes/{node}/{namespace}/{name}/{container}");
            if restarted(pod, container) {
                let (file, path) = (format!("{file}.previous.log"), format!("{path}&previous=true"));
                found.push(Log { file, path });
            }
            found.push(Log { file: format!("{file}.log"), path });
        }
    }
    found
}

fn restarted(pod: &Value, container: &str) -> bool {
    ["initContainerStatuses", "containerStatuses"].iter().any(|list| {
        let all = pod["status"][*list].as_array().into_iter().flatten();
        let mut own = all.filter(|s| text(s, "/name") == container);
        own.any(|s| s["restartCount"].as_u64().is_some_and(|n| n > 0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(namespace: &str, name: &str, node: &str, kind: &str, owner: &str) -> Value {
        json!({ "metadata": { "namespace": namespace, "name": name, "ownerReferences": [{ "kind": kind, "name": owner }] },
            "spec": { "nodeName": node, "containers": [{ "name": "c" }] } })
    }

    #[test]
    fn the_nodes_in_question_come_first_and_no_more_than_asked_for() {
        let mut pods = vec![
            pod("kube-system", "calico-node-a", "a", "DaemonSet", "calico-node"),
            pod("kube-system", "calico-node-b", "b", "DaemonSet", "calico-node"),
            pod("kube-system", "calico-node-c", "c", "DaemonSet", "calico-node"),
            pod("calico-system", "typha-5d9-x", "a", "ReplicaSet", "typha-5d9"),
            pod("calico-system", "typha-77f-y", "b", "ReplicaSet", "typha-77f"),
            pod("default", "web", "a", "ReplicaSet", "web-1"),
        ];
        pods[2]["status"] = json!({ "containerStatuses": [{ "name": "c", "restartCount": 2 }] });
        let wish = Wish { since: Some(60), most: 1, at_once: 1, focus: vec!["c".to_owned()] };
        let found = logs(&json!({ "items": pods }), &wish);
        let files: Vec<&str> = found.iter().map(|l| l.file.as_str()).collect();
        assert_eq!(
            files,
            [
                "nodes/a/calico-system/typha-5d9-x/c.log",
                "nodes/c/kube-system/calico-node-c/c.previous.log",
                "nodes/c/kube-system/calico-node-c/c.log"
            ]
        );
        assert!(found[2].path.ends_with("&sinceSeconds=60"), "{}", found[2].path);
    }

    #[test]
    fn durations_are_read_as_seconds() {
        assert_eq!(since_seconds("2m").unwrap(), 120);
        assert_eq!(since_seconds("1h30m").unwrap(), 5400);
        assert!(since_seconds("yesterday").unwrap_err().to_string().contains("5s, 2m or 3h"));
    }
}
