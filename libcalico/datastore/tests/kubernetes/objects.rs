//! Kubernetes' own objects as Calico's, read and written through a real API server.

use libcalico_api::{Kind, Resource};
use libcalico_datastore::{
    Datastore, DatastoreError, KubernetesDatastore, Scope, WatchEvent, Write, resources,
};
use libcalico_model::ipam::{AffinityState, AllocationBlock, BlockAffinity, Handle, IpamConfig};
use libcalico_model::{Key, Value};
use serde_json::json;

use crate::server::ApiServer;
use crate::support::contract::next;

pub async fn run(server: &ApiServer) {
    let store = server.store();
    namespaces_and_service_accounts_are_profiles(server, &store).await;
    a_node_keeps_calicos_fields_in_annotations(server, &store).await;
    a_pod_is_a_workload_endpoint(server, &store).await;
    policies_of_both_kinds_are_in_one_listing_and_watch(server, &store).await;
    ipams_records_are_custom_resources(server, &store).await;
}

async fn namespaces_and_service_accounts_are_profiles(server: &ApiServer, store: &KubernetesDatastore) {
    let scope = Scope::kind(Kind::Profile);
    let list = store.list(&scope).await.unwrap();
    assert!(list.items.iter().any(|kv| kv.key == Key::resource(Kind::Profile, "", "kns.default")));
    let mut rx = store.watch(&scope, &list.revision).await.unwrap();
    let ns = json!({ "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": "shop", "labels": { "env": "prod" } } });
    server.create("/api/v1/namespaces", &ns);
    let WatchEvent::Set(key, Ok(kv)) = next(&mut rx).await else { panic!("no event") };
    assert_eq!(key, Key::resource(Kind::Profile, "", "kns.shop"));
    assert_eq!(store.get(&key).await.unwrap(), kv);
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "clerk", "labels": { "team": "a" } } });
    server.create("/api/v1/namespaces/shop/serviceaccounts", &account);
    let WatchEvent::Set(key, Ok(_)) = next(&mut rx).await else { panic!("no event") };
    assert_eq!(key, Key::resource(Kind::Profile, "", "ksa.shop.clerk"));
    let refused = store.delete(&key, None).await.unwrap_err().to_string();
    assert!(refused.contains("kubectl"), "{refused}");
    server.delete("/api/v1/namespaces/shop/serviceaccounts/clerk");
    let WatchEvent::Deleted(gone, _) = next(&mut rx).await else { panic!("no event") };
    assert_eq!(gone, key);
    assert!(matches!(store.get(&key).await, Err(DatastoreError::NotFound(_))));
}

async fn a_node_keeps_calicos_fields_in_annotations(server: &ApiServer, store: &KubernetesDatastore) {
    let node = json!({ "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": "node-a", "labels": { "kubernetes.io/os": "linux" } },
        "spec": { "podCIDR": "10.65.0.0/24", "podCIDRs": ["10.65.0.0/24"] } });
    server.create("/api/v1/nodes", &node);
    let Resource::Node(mut n) = resources::get(store, Kind::Node, "", "node-a").await.unwrap() else {
        panic!()
    };
    let bgp = n.spec.bgp.get_or_insert_default();
    bgp.ipv4_address = Some("172.31.0.1/24".into());
    bgp.as_number = Some("64513".parse().unwrap());
    n.metadata.labels.insert("rack".into(), "r1".into());
    let (written, _) = resources::apply(store, Resource::Node(n)).await.unwrap();
    let read = resources::get(store, Kind::Node, "", "node-a").await.unwrap();
    assert_eq!(read, written);
    let raw = server.get("/api/v1/nodes/node-a");
    assert_eq!(raw["metadata"]["annotations"]["projectcalico.org/IPv4Address"], "172.31.0.1/24");
    assert!(raw["metadata"]["labels"].get("rack").is_none());
    assert_eq!(read.metadata().labels["rack"], "r1");
    // What the reader saw must still be what stands there.
    server.patch("/api/v1/nodes/node-a", &json!({ "metadata": { "labels": { "x": "y" } } }));
    let stale = resources::replace(store, read).await;
    assert!(matches!(stale, Err(DatastoreError::Conflict(_))), "{stale:?}");
    let absent = Resource::from_json(Kind::Node, br#"{"metadata":{"name":"no-such"}}"#).unwrap();
    let refused = resources::create(store, absent).await.unwrap_err().to_string();
    assert!(refused.contains("kubelet"), "{refused}");
}

async fn a_pod_is_a_workload_endpoint(server: &ApiServer, store: &KubernetesDatastore) {
    let scope = Scope::kind(Kind::WorkloadEndpoint);
    let list = store.list(&scope).await.unwrap();
    let mut rx = store.watch(&scope, &list.revision).await.unwrap();
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web", "labels": { "app": "web" } },
        "spec": { "nodeName": "node-a", "serviceAccountName": "clerk", "containers": [
            { "name": "c", "image": "i", "ports": [{ "name": "http", "containerPort": 80 }] }] } });
    server.create("/api/v1/namespaces/shop/pods", &pod);
    let host = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "agent" },
        "spec": { "nodeName": "node-a", "hostNetwork": true, "containers": [{ "name": "c", "image": "i" }] } });
    server.create("/api/v1/namespaces/shop/pods", &host);
    let WatchEvent::Set(key, Ok(kv)) = next(&mut rx).await else { panic!("no event") };
    assert_eq!(key, Key::resource(Kind::WorkloadEndpoint, "shop", "node--a-k8s-web-eth0"));
    let Value::Resource(r) = &kv.value else { panic!() };
    let Resource::WorkloadEndpoint(w) = &**r else { panic!() };
    assert!(w.spec.ip_networks.is_empty());
    let mut mine = w.clone();
    mine.spec.ip_networks = vec!["10.65.0.2/32".into(), "fd00::2/128".into()];
    mine.spec.container_id = "c0ffee".into();
    mine.metadata.resource_version.clear();
    resources::apply(store, Resource::WorkloadEndpoint(mine.clone())).await.unwrap();
    let WatchEvent::Set(_, Ok(_)) = next(&mut rx).await else { panic!("no event") };
    let Resource::WorkloadEndpoint(read) =
        resources::get(store, Kind::WorkloadEndpoint, "shop", "node--a-k8s-web-eth0").await.unwrap()
    else {
        panic!()
    };
    assert_eq!(
        (&read.spec.ip_networks, &read.spec.container_id),
        (&mine.spec.ip_networks, &mine.spec.container_id)
    );
    assert_eq!(read.spec.profiles, ["kns.shop", "ksa.shop.clerk"]);
    let notes = server.get("/api/v1/namespaces/shop/pods/web")["metadata"]["annotations"].clone();
    assert_eq!(notes["cni.projectcalico.org/podIPs"], "10.65.0.2/32,fd00::2/128");
    // The name says which node it is on.
    let elsewhere = Key::resource(Kind::WorkloadEndpoint, "shop", "node--b-k8s-web-eth0");
    assert!(matches!(store.get(&elsewhere).await, Err(DatastoreError::NotFound(_))));
    assert_eq!(store.list(&scope).await.unwrap().items.len(), 1);
    resources::delete(store, Kind::WorkloadEndpoint, "shop", "node--a-k8s-web-eth0", None).await.unwrap();
    let notes = server.get("/api/v1/namespaces/shop/pods/web")["metadata"]["annotations"].clone();
    assert_eq!(
        (&notes["cni.projectcalico.org/podIP"], &notes["cni.projectcalico.org/containerID"]),
        (&json!(""), &json!("c0ffee"))
    );
    server.delete("/api/v1/namespaces/shop/pods/web");
    loop {
        if let WatchEvent::Deleted(k, _) = next(&mut rx).await {
            assert_eq!(k, key);
            break;
        }
    }
}

async fn policies_of_both_kinds_are_in_one_listing_and_watch(
    server: &ApiServer,
    store: &KubernetesDatastore,
) {
    let scope = Scope::Kind { kind: Kind::NetworkPolicy, namespace: Some("shop".into()) };
    let list = store.list(&scope).await.unwrap();
    assert_eq!(list.revision.0.split('/').count(), 2);
    let mut rx = store.watch(&scope, &list.revision).await.unwrap();
    let kube = json!({ "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": { "name": "deny" },
        "spec": { "podSelector": {}, "ingress": [{ "ports": [{ "port": 80, "endPort": 90 }] }] } });
    server.create("/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies", &kube);
    let WatchEvent::Set(key, Ok(kv)) = next(&mut rx).await else { panic!("no event") };
    assert_eq!(key, Key::resource(Kind::NetworkPolicy, "shop", "knp.default.deny"));
    assert_eq!(store.get(&key).await.unwrap(), kv);
    let own = br#"{"metadata":{"name":"own","namespace":"shop"},"spec":{"selector":"all()","ingress":[{"action":"Allow"}]}}"#;
    let own = Resource::from_json(Kind::NetworkPolicy, own).unwrap();
    let made = resources::create(store, own).await.unwrap();
    assert!(
        !server.get("/apis/projectcalico.org/v3/namespaces/shop/networkpolicies/own")["metadata"]
            .to_string()
            .contains("projectcalico.org/metadata")
    );
    let WatchEvent::Set(second, Ok(_)) = next(&mut rx).await else { panic!("no event") };
    assert_eq!(second, Key::resource(Kind::NetworkPolicy, "shop", "own"));
    let (items, _) = resources::list(store, Kind::NetworkPolicy, Some("shop")).await.unwrap();
    assert_eq!(
        items.iter().map(|r| r.metadata().name.as_str()).collect::<Vec<_>>(),
        ["knp.default.deny", "own"]
    );
    assert_eq!(items[1], made);
    // A single object's revision is enough to watch from.
    let mut again = store.watch(&scope, &kv.revision).await.unwrap();
    assert!(matches!(next(&mut again).await, WatchEvent::Set(k, Ok(_)) if k == second));
    let refused = store.apply(&key, kv.value).await.unwrap_err().to_string();
    assert!(refused.contains("kubectl"), "{refused}");
}

async fn ipams_records_are_custom_resources(server: &ApiServer, store: &KubernetesDatastore) {
    let cidr = "10.65.0.64/26".parse().unwrap();
    let block: AllocationBlock = serde_json::from_str(
        r#"{"cidr":"10.65.0.64/26","affinity":"host:node-a","allocations":[0,null],"unallocated":[1],
            "attributes":[{"handle_id":"net.X","secondary":{"pod":"p"}}],"sequenceNumber":5}"#,
    )
    .unwrap();
    let affinity = Key::BlockAffinity { affinity_type: "host".into(), host: "node-a".into(), cidr };
    let handle = Handle { block: [("10.65.0.64/26".to_owned(), 1)].into(), deleted: false };
    let pending = BlockAffinity { state: AffinityState::Pending, deleted: false };
    let made = store
        .write_all(vec![
            Write::Create(Key::Block(cidr), Value::Block(Box::new(block.clone()))),
            Write::Create(affinity.clone(), Value::BlockAffinity(pending)),
            Write::Create(Key::Handle("net.X".into()), Value::Handle(handle.clone())),
        ])
        .await
        .unwrap();
    assert_eq!(made.len(), 3);
    assert_eq!(store.get(&Key::Block(cidr)).await.unwrap().value, Value::Block(Box::new(block)));
    assert_eq!(store.get(&Key::Handle("net.X".into())).await.unwrap().value, Value::Handle(handle));
    let raw = server.get("/apis/projectcalico.org/v3/blockaffinities/node-a-10-65-0-64-26");
    assert_eq!(raw["spec"]["state"], "pending");
    let of = |host: &str| Scope::BlockAffinities { host: Some(host.into()) };
    assert_eq!(store.list(&of("node-a")).await.unwrap().items.len(), 1);
    assert!(store.list(&of("node-b")).await.unwrap().items.is_empty());
    let stale = store.delete(&affinity, Some(&made[0])).await;
    assert!(matches!(stale, Err(DatastoreError::Conflict(_))), "{stale:?}");
    store.delete(&affinity, Some(&made[1])).await.unwrap();
    let config = IpamConfig { strict_affinity: true, ..IpamConfig::default() };
    store.apply(&Key::IpamConfig, Value::IpamConfig(config.clone())).await.unwrap();
    assert_eq!(store.get(&Key::IpamConfig).await.unwrap().value, Value::IpamConfig(config));
    let same = resources::get(store, Kind::IPAMConfiguration, "", "default").await.unwrap();
    assert_eq!(serde_json::to_value(&same).unwrap()["spec"]["strictAffinity"], true);
}
