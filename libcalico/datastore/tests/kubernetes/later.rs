//! Services, and a kind that the cluster gets later and loses again.

use std::sync::Arc;

use libcalico_datastore::syncer::felix_syncer;
use libcalico_datastore::{Datastore, DatastoreError};
use libcalico_model::Key;
use serde_json::json;

use crate::server::ApiServer;
use crate::syncing::View;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const DEFINITION: &str = "clusternetworkpolicies.policy.networking.k8s.io";
const POLICIES: &str = "/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies";

#[tokio::test]
async fn services_and_cluster_network_policies_are_followed_whenever_the_cluster_has_them() {
    let Some(server) = ApiServer::start() else { return };
    let mut definition = server.get(&format!("{DEFINITIONS}/{DEFINITION}"));
    server.delete(&format!("{DEFINITIONS}/{DEFINITION}"));
    libcalico_testing::within(std::time::Duration::from_secs(60), "the kind is gone", || {
        server.raw("GET", POLICIES, None).is_err()
    });

    // A cluster without the kind is a cluster without such policies.
    let mut rx = felix_syncer(Arc::new(server.store()));
    let mut view = View::default();
    view.until(&mut rx, |v| v.in_sync).await;
    let key = Key::ClusterNetworkPolicy("p".to_owned());
    assert!(matches!(server.store().get(&key).await, Err(DatastoreError::NotFound(_))));

    let service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
        "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80 }] } });
    server.create("/api/v1/namespaces/default/services", &service);
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let slice = json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "name": "web-1", "labels": { "kubernetes.io/service-name": "web" } }, "addressType": "IPv4",
        "endpoints": [{ "addresses": ["10.65.0.2"] }], "ports": [{ "port": 8080, "protocol": "TCP" }] });
    server.create(slices, &slice);
    let base = "/calico/resources/v3/projectcalico.org";
    let (service_at, slice_at) = (
        format!("{base}/kubernetesservice/default/web"),
        format!("{base}/kubernetesendpointslices/default/web-1"),
    );
    view.until(&mut rx, |v| v.has(&service_at, "clusterIPs") && v.has(&slice_at, "10.65.0.2")).await;
    server.patch(&format!("{slices}/web-1"), &json!({ "endpoints": [{ "addresses": ["10.65.0.3"] }] }));
    view.until(&mut rx, |v| v.has(&slice_at, "10.65.0.3")).await;
    server.delete(&format!("{slices}/web-1"));
    view.until(&mut rx, |v| !v.values.contains_key(&slice_at)).await;

    for field in ["uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"] {
        definition["metadata"].as_object_mut().unwrap().remove(field);
    }
    definition.as_object_mut().unwrap().remove("status");
    server.create(DEFINITIONS, &definition);
    let policy = json!({ "apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
        "metadata": { "name": "p" }, "spec": { "tier": "Admin", "priority": 5, "subject": { "namespaces": {} },
            "ingress": [{ "action": "Deny", "from": [{ "namespaces": { "matchLabels": { "env": "test" } } }] }] } });
    libcalico_testing::within(std::time::Duration::from_secs(60), "the kind is there", || {
        server.raw("POST", POLICIES, Some(&policy)).is_ok()
    });
    let at = "/calico/v1/policy/KubernetesClusterNetworkPolicy//p";
    view.until(&mut rx, |v| v.has(at, "kube-admin") && v.has(at, "pcns.env")).await;
    server.patch(&format!("{POLICIES}/p"), &json!({ "spec": { "tier": "Baseline" } }));
    view.until(&mut rx, |v| v.has(at, "kube-baseline")).await;

    server.delete(&format!("{DEFINITIONS}/{DEFINITION}"));
    view.until(&mut rx, |v| !v.values.contains_key(at)).await;
    assert!(view.in_sync);
}
