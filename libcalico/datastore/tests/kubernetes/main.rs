//! The Kubernetes backend against a real API server: the behaviours of every datastore, Kubernetes' own objects as
//! Calico's, faults, and the syncer over all of it.

#[path = "../support/mod.rs"]
mod support;

mod faults;
mod later;
mod objects;
mod server;
mod syncing;

use libcalico_api::Kind;
use libcalico_datastore::{ClientConfig, Datastore, DatastoreError, Scope, WatchEvent, connect, resources};
use libcalico_model::{Key, Revision};
use serde_json::json;
use server::ApiServer;
use support::contract::{contract, next, scope, set};

#[tokio::test]
async fn the_api_server_keeps_the_contract() {
    let Some(server) = ApiServer::start() else { return };
    let store = server.store();
    contract(&store, false).await;
    a_listing_of_several_pages_is_whole(&server).await;
    a_kubeconfig_with_certificates_is_enough(&server).await;
    a_namespace_that_is_not_there_is_told(&store).await;
    what_the_schema_refuses_is_told_by_field(&store).await;
    a_status_of_its_own_is_written_too(&store).await;
    what_another_client_left_half_deleted_is_in_nobodys_way(&server).await;
    objects::run(&server).await;
}

async fn a_listing_of_several_pages_is_whole(server: &ApiServer) {
    let store = server.store();
    let path = "/apis/projectcalico.org/v3/namespaces/default/networksets";
    for i in 0..1_010 {
        let object = json!({ "apiVersion": "projectcalico.org/v3", "kind": "NetworkSet",
            "metadata": { "name": format!("page-{i:05}") }, "spec": { "nets": ["10.0.0.0/8"] } });
        if i % 101 == 0 {
            server.create(path, &object);
        } else {
            store
                .create(&support::contract::key(&format!("page-{i:05}")), set("x", "10.0.0.0/8"))
                .await
                .unwrap();
        }
    }
    let list = store.list(&scope()).await.unwrap();
    let pages = list.items.iter().filter(|kv| kv.key.path().contains("/page-")).count();
    assert_eq!(pages, 1_010);
    assert!(list.items.windows(2).all(|w| w[0].key < w[1].key));
}

async fn a_kubeconfig_with_certificates_is_enough(server: &ApiServer) {
    let path = server.kubeconfig_with_certificate().display().to_string();
    let config = ClientConfig::from_lookup(|n| (n == "KUBECONFIG").then(|| path.clone())).unwrap();
    let store = connect(&config).await.unwrap();
    assert!(!store.list(&Scope::kind(Kind::Profile)).await.unwrap().items.is_empty());
}

async fn a_namespace_that_is_not_there_is_told(store: &dyn Datastore) {
    let key = Key::resource(Kind::NetworkSet, "nowhere", "s");
    let error = store.create(&key, set("s", "10.0.0.0/8")).await.unwrap_err().to_string();
    assert!(error.contains("namespaces \"nowhere\" not found"), "{error}");
}

async fn what_the_schema_refuses_is_told_by_field(store: &dyn Datastore) {
    let json = br#"{"metadata":{"name":"t"},"spec":{"order":1,"defaultAction":"Maybe"}}"#;
    let tier = libcalico_api::Resource::from_json(Kind::Tier, json).unwrap();
    let error = store.create(&Key::resource(Kind::Tier, "", "t"), tier.into()).await.unwrap_err();
    let DatastoreError::Invalid { reasons, .. } = &error else { panic!("{error}") };
    assert!(reasons.iter().any(|r| r.path.contains("defaultAction")), "{error}");
}

async fn a_status_of_its_own_is_written_too(store: &dyn Datastore) {
    let json = br#"{"metadata":{"name":"n"},"spec":{"node":"n","classes":["Agent"],"updatePeriodSeconds":10},
        "status":{"lastUpdated":"2026-01-01T00:00:00Z","agent":{"birdV4":{"state":"Ready"},"birdV6":{}},"bgp":{},"routes":{}}}"#;
    let object = libcalico_api::Resource::from_json(Kind::CalicoNodeStatus, json).unwrap();
    resources::create(store, object).await.unwrap();
    let read = resources::get(store, Kind::CalicoNodeStatus, "", "n").await.unwrap();
    let value = serde_json::to_value(&read).unwrap();
    assert_eq!(value["status"]["agent"]["birdV4"]["state"], "Ready", "{value}");
}

async fn what_another_client_left_half_deleted_is_in_nobodys_way(server: &ApiServer) {
    let store = server.store();
    let handle = json!({ "apiVersion": "projectcalico.org/v3", "kind": "IPAMHandle", "metadata": { "name": "net.a" },
        "spec": { "handleID": "net.a", "block": { "10.0.0.0/26": 1 }, "deleted": true } });
    server.create("/apis/projectcalico.org/v3/ipamhandles", &handle);
    let key = Key::Handle("net.a".into());
    assert!(matches!(store.get(&key).await, Err(DatastoreError::NotFound(_))));
    let value = libcalico_model::Value::Handle(libcalico_model::ipam::Handle::default());
    store.create(&key, value).await.unwrap();
    store.get(&key).await.unwrap();
    let list = store.list(&Scope::Handles).await.unwrap();
    let mut rx = store.watch(&Scope::Handles, &list.revision).await.unwrap();
    server.patch("/apis/projectcalico.org/v3/ipamhandles/net.a", &json!({ "spec": { "deleted": true } }));
    let event = next(&mut rx).await;
    assert!(matches!(&event, WatchEvent::Deleted(k, _) if *k == key), "{event:?}");
    let none = Revision::default();
    let mut all = store.watch(&Scope::Handles, &none).await.unwrap();
    let other = Key::Handle("Net.B".into());
    let value = libcalico_model::Value::Handle(libcalico_model::ipam::Handle::default());
    store.create(&other, value).await.unwrap();
    let event = next(&mut all).await;
    assert!(matches!(&event, WatchEvent::Set(k, Ok(_)) if *k == other), "{event:?}");
}
