//! The syncer over Kubernetes: what Felix is told of pods, namespaces, nodes and policies.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use libcalico_datastore::syncer::felix_syncer;
use libcalico_model::{SyncStatus, SyncerEvent};
use serde_json::json;
use tokio::sync::mpsc::Receiver;

use crate::server::ApiServer;

const PATIENCE: Duration = Duration::from_secs(60);

/// What a reader of the syncer knows.
#[derive(Default)]
pub struct View {
    pub values: BTreeMap<String, String>,
    pub in_sync: bool,
    updates: usize,
}

impl View {
    pub async fn until(&mut self, rx: &mut Receiver<SyncerEvent>, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            let event = tokio::time::timeout(PATIENCE, rx.recv()).await;
            match event
                .unwrap_or_else(|_| panic!("waited in vain, have {:#?}", self.values))
                .expect("a syncer")
            {
                SyncerEvent::Status(s) => self.in_sync = s == SyncStatus::InSync,
                SyncerEvent::Updates(updates) => {
                    self.updates += updates.len();
                    for u in updates {
                        match u.value {
                            Some(v) => self
                                .values
                                .insert(u.key.path(), String::from_utf8_lossy(&v.to_bytes()).into_owned()),
                            None => self.values.remove(&u.key.path()),
                        };
                    }
                }
            }
        }
    }

    /// Keys that a node makes.
    fn of_node(&self, name: &str) -> usize {
        self.values.keys().filter(|k| k.contains(name)).count()
    }

    pub fn has(&self, path: &str, text: &str) -> bool {
        self.values.get(path).is_some_and(|v| v.contains(text))
    }
}

#[tokio::test]
async fn felix_is_told_of_kubernetes_objects_through_an_outage() {
    let Some(mut server) = ApiServer::start() else { return };
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n1",
        "annotations": { "projectcalico.org/IPv4Address": "172.31.0.1/24" } } });
    server.create("/api/v1/nodes", &node);
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "clerk" } });
    server.create("/api/v1/namespaces/default/serviceaccounts", &account);
    let mut rx = felix_syncer(Arc::new(server.store()));
    let mut view = View::default();
    view.until(&mut rx, |v| v.in_sync).await;
    assert!(view.has("/calico/v1/host/n1/bird_ip", "172.31.0.1"), "{:#?}", view.values);
    assert!(view.has("/calico/v1/policy/profile/kns.default/rules", "allow"));
    let profile = "/calico/resources/v3/projectcalico.org/profiles/ksa.default.clerk";
    assert!(view.has(profile, "pcsa.projectcalico.org/name"));
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web", "labels": { "app": "web" },
            "annotations": { "cni.projectcalico.org/podIP": "10.65.0.2/32" } },
        "spec": { "nodeName": "n1", "containers": [{ "name": "c", "image": "i" }] } });
    server.create("/api/v1/namespaces/default/pods", &pod);
    let policy = json!({ "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": { "name": "p" },
        "spec": { "podSelector": { "matchLabels": { "app": "web" } }, "ingress": [{ "from": [{ "namespaceSelector": {
            "matchLabels": { "env": "prod" } } }] }] } });
    server.create("/apis/networking.k8s.io/v1/namespaces/default/networkpolicies", &policy);
    let endpoint = "/calico/v1/host/n1/workload/k8s/default%2Fweb/endpoint/eth0";
    let at = "/calico/v1/policy/NetworkPolicy/default/knp.default.p";
    view.until(&mut rx, |v| v.has(endpoint, "10.65.0.2/32") && v.has(at, "pcns.env")).await;
    // Conditions of pods and nodes change all the time, and nobody here reads them.
    let before = view.updates;
    for i in 0..5 {
        let status = json!({ "status": { "conditions": [{ "type": "Ready", "status": "True", "reason": format!("r{i}") }] } });
        server.patch("/api/v1/namespaces/default/pods/web/status", &status);
        server.patch("/api/v1/nodes/n1/status", &status);
    }
    let label = json!({ "metadata": { "labels": { "app": "web", "new": "label" } } });
    server.patch("/api/v1/namespaces/default/pods/web", &label);
    view.until(&mut rx, |v| v.has(endpoint, r#""new":"label""#)).await;
    // The first of each, because a watch does not know what was listed, and the label. A node is several keys.
    assert!(view.updates - before <= 2 + view.of_node("n1"), "{} updates", view.updates - before);
    // What changes while the server is away is told when it is back, deletions too.
    server.delete("/apis/networking.k8s.io/v1/namespaces/default/networkpolicies/p");
    server.kill();
    server.run();
    let annotations =
        json!({ "metadata": { "annotations": { "cni.projectcalico.org/podIP": "10.65.0.3/32" } } });
    server.patch("/api/v1/namespaces/default/pods/web", &annotations);
    view.until(&mut rx, |v| v.has(endpoint, "10.65.0.3/32") && !v.values.contains_key(at)).await;
    assert!(view.in_sync);
}
