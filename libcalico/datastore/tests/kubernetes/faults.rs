//! What happens when the API server dies, goes silent, forgets, or refuses.

use std::time::{Duration, Instant};

use libcalico_api::Kind;
use libcalico_datastore::{
    Datastore, DatastoreError, KubernetesConfig, KubernetesDatastore, Scope, WatchEvent,
};

use crate::server::{ApiServer, have_server};
use crate::support::contract::{key, next, scope, set};
use crate::support::proxy::Proxy;

/// Pings, the attempt to go on, and room for a slow machine.
const NOTICED: Duration = Duration::from_secs(40);

#[tokio::test]
async fn faults_are_told_and_survived() {
    if !have_server() {
        return;
    }
    let mut server = ApiServer::start().await;
    credentials_that_are_refused_are_told(&server).await;
    a_silent_connection_is_noticed(&server).await;
    a_killed_server_ends_watches_and_comes_back(&mut server).await;
    a_forgotten_revision_is_told(&mut server).await;
}

async fn credentials_that_are_refused_are_told(server: &ApiServer) {
    let wrong = KubernetesConfig { token: Some("wrong".into()), ..server.config() };
    let store = KubernetesDatastore::new(wrong);
    let refused = store.get(&key("x")).await;
    assert!(matches!(refused, Err(DatastoreError::Unauthorized(_))), "{refused:?}");
    assert!(store.watch(&scope(), &Default::default()).await.is_err());
    let unknown = KubernetesConfig { ca_file: None, ..server.config() };
    let error = KubernetesDatastore::new(unknown).get(&key("x")).await.unwrap_err();
    assert!(matches!(error, DatastoreError::Unreachable { .. }), "{error}");
    let nobody = KubernetesConfig { kubeconfig: Some("/no/such/file".into()), ..KubernetesConfig::default() };
    let error = KubernetesDatastore::new(nobody).get(&key("x")).await.unwrap_err();
    assert!(error.to_string().contains("/no/such/file"), "{error}");
}

async fn a_silent_connection_is_noticed(server: &ApiServer) {
    let proxy = Proxy::start(server.port).await;
    let port: u16 = proxy.endpoint().rsplit(':').next().unwrap().parse().unwrap();
    let store = KubernetesDatastore::new(server.config_at(port));
    let scope = Scope::kind(Kind::NetworkPolicy);
    let from = store.list(&scope).await.unwrap().revision;
    let mut rx = store.watch(&scope, &from).await.unwrap();
    proxy.set_silent(true);
    let start = Instant::now();
    let event = tokio::time::timeout(NOTICED, rx.recv()).await.expect("noticed").expect("an event");
    assert!(matches!(event, WatchEvent::Failed(DatastoreError::Unreachable { .. })), "{event:?}");
    eprintln!("silence noticed after {:?}", start.elapsed());
    let error = store.list(&scope).await.unwrap_err();
    assert!(error.retryable(), "{error}");
    proxy.set_silent(false);
    let deadline = Instant::now() + NOTICED;
    while let Err(e) = store.list(&scope).await {
        assert!(Instant::now() < deadline, "{e}");
    }
}

async fn a_killed_server_ends_watches_and_comes_back(server: &mut ApiServer) {
    let store = server.store();
    let from = store.list(&scope()).await.unwrap().revision;
    let mut rx = store.watch(&scope(), &from).await.unwrap();
    store.apply(&key("before"), set("before", "10.0.0.0/8")).await.unwrap();
    assert!(matches!(next(&mut rx).await, WatchEvent::Set(..)));
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    server.kill();
    let event = tokio::time::timeout(NOTICED, rx.recv()).await.expect("noticed").expect("an event");
    assert!(matches!(event, WatchEvent::Failed(DatastoreError::Unreachable { .. })), "{event:?}");
    assert!(rx.recv().await.is_none());
    server.run().await;
    server.wait_for_kinds().await;
    assert_eq!(store.list(&scope()).await.unwrap().items.len(), 1);
}

async fn a_forgotten_revision_is_told(server: &mut ApiServer) {
    let store = server.store();
    let from = store.list(&scope()).await.unwrap().revision;
    let mut now = from.clone();
    for net in ["11.0.0.0/8", "12.0.0.0/8", "13.0.0.0/8"] {
        now = store.apply(&key("x"), set("x", net)).await.unwrap().revision;
    }
    server.kill();
    server.etcd.etcdctl(&["compact", &now.0]);
    server.run().await;
    server.wait_for_kinds().await;
    let mut rx = store.watch(&scope(), &from).await.unwrap();
    let event = next(&mut rx).await;
    assert!(matches!(event, WatchEvent::Failed(DatastoreError::Compacted(_))), "{event:?}");
}
