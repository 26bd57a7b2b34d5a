//! etcd refused, gone, silent, encrypted: what the client does about it, against a real etcd.

mod support;

use std::time::{Duration, Instant};

use libcalico_api::Kind;
use libcalico_datastore::etcd::EtcdDatastore;
use libcalico_datastore::{Datastore, DatastoreError, EtcdConfig, Pem, Scope, WatchEvent};
use libcalico_model::{Key, Value, ipam};
use support::{Etcd, Pki, have_etcd};

fn handle(id: &str) -> Key {
    Key::Handle(id.to_owned())
}

fn value() -> Value {
    Value::Handle(ipam::Handle::default())
}

#[tokio::test]
async fn a_dead_endpoint_is_passed_over_for_reads_and_writes() {
    if !have_etcd() {
        return;
    }
    let etcd = Etcd::start();
    let store = EtcdDatastore::new(EtcdConfig {
        endpoints: vec!["http://127.0.0.1:1".into(), etcd.endpoint()],
        ..EtcdConfig::default()
    });
    store.create(&handle("a"), value()).await.unwrap();
    store.get(&handle("a")).await.unwrap();
}

#[tokio::test]
async fn an_unreachable_cluster_is_an_error_in_bounded_time_that_names_it() {
    let store = EtcdDatastore::new(EtcdConfig {
        endpoints: vec!["http://127.0.0.1:1".into()],
        ..EtcdConfig::default()
    });
    let start = Instant::now();
    let error = store.get(&handle("a")).await.unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(5));
    let text = error.to_string();
    assert!(error.retryable() && text.contains("127.0.0.1:1") && text.contains("refused"), "{text}");
}

#[tokio::test]
async fn a_killed_server_ends_the_watch_and_calls_work_again_after_its_return() {
    if !have_etcd() {
        return;
    }
    let mut etcd = Etcd::start();
    let store = EtcdDatastore::new(etcd.config());
    let list = store.list(&Scope::Handles).await.unwrap();
    let mut rx = store.watch(&Scope::Handles, &list.revision).await.unwrap();
    etcd.kill();
    let event = tokio::time::timeout(Duration::from_secs(5), rx.recv()).await.unwrap().unwrap();
    assert!(matches!(event, WatchEvent::Failed(DatastoreError::Unreachable { .. })), "{event:?}");
    assert!(store.get(&handle("a")).await.unwrap_err().retryable());
    etcd.run();
    let mut tries = 0;
    while let Err(e) = store.apply(&handle("a"), value()).await {
        tries += 1;
        assert!(e.retryable() && tries < 50, "{e}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_silent_connection_is_given_up_in_seconds() {
    if !have_etcd() {
        return;
    }
    let etcd = Etcd::start();
    let proxy = support::proxy::Proxy::start(etcd.client_port).await;
    let store = EtcdDatastore::new(EtcdConfig { endpoints: vec![proxy.endpoint()], ..EtcdConfig::default() });
    let list = store.list(&Scope::Handles).await.unwrap();
    let mut rx = store.watch(&Scope::Handles, &list.revision).await.unwrap();
    proxy.set_silent(true);
    let start = Instant::now();
    let event = tokio::time::timeout(Duration::from_secs(20), rx.recv()).await.unwrap().unwrap();
    assert!(matches!(event, WatchEvent::Failed(DatastoreError::Unreachable { .. })), "{event:?}");
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}

fn tls_server(pki: &Pki) -> Etcd {
    let arg = |name: &str, path: std::path::PathBuf| vec![name.to_owned(), path.display().to_string()];
    let mut args = arg("--cert-file", pki.cert("server"));
    args.extend(arg("--key-file", pki.key("server")));
    args.extend(arg("--trusted-ca-file", pki.cert("ca")));
    args.push("--client-cert-auth".to_owned());
    Etcd::start_with("https", args)
}

#[tokio::test]
async fn mutual_tls_lets_the_right_certificate_in_and_the_wrong_one_not() {
    if !have_etcd() {
        return;
    }
    let pki = Pki::new();
    let etcd = tls_server(&pki);
    let config = |ca: &str, who: &str| EtcdConfig {
        ca: Some(Pem::File(pki.cert(ca))),
        cert: Some(Pem::File(pki.cert(who))),
        key: Some(Pem::Inline(std::fs::read_to_string(pki.key(who)).unwrap())),
        ..etcd.config()
    };
    let right = EtcdDatastore::new(config("ca", "client"));
    right.apply(&handle("a"), value()).await.unwrap();
    assert_eq!(right.list(&Scope::Handles).await.unwrap().items.len(), 1);
    for (ca, who) in [("other-ca", "client"), ("ca", "other-client")] {
        let error = EtcdDatastore::new(config(ca, who)).get(&handle("a")).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, DatastoreError::Unreachable { .. }), "{text}");
        eprintln!("{ca} {who}: {text}");
    }
    let missing = EtcdConfig { ca: Some(Pem::File("/nonexistent/ca.pem".into())), ..etcd.config() };
    let error = EtcdDatastore::new(missing).get(&handle("a")).await.unwrap_err();
    assert!(error.to_string().contains("/nonexistent/ca.pem"), "{error}");
}

#[tokio::test]
async fn user_and_password_are_asked_for() {
    if !have_etcd() {
        return;
    }
    let etcd = Etcd::start();
    etcd.etcdctl(&["user", "add", "root:secret"]);
    etcd.etcdctl(&["user", "grant-role", "root", "root"]);
    etcd.etcdctl(&["auth", "enable"]);
    let with = |user: &str, password: &str| EtcdConfig {
        username: Some(user.into()),
        password: Some(password.into()),
        ..etcd.config()
    };
    EtcdDatastore::new(with("root", "secret")).apply(&handle("a"), value()).await.unwrap();
    for config in [etcd.config(), with("root", "wrong")] {
        let error = EtcdDatastore::new(config).get(&handle("a")).await.unwrap_err();
        assert!(matches!(error, DatastoreError::Unauthorized(_)), "{error}");
    }
}

#[tokio::test]
async fn the_stored_bytes_are_the_models_own() {
    if !have_etcd() {
        return;
    }
    let etcd = Etcd::start();
    let store = EtcdDatastore::new(etcd.config());
    let json = r#"{"kind":"IPPool","apiVersion":"projectcalico.org/v3","metadata":{"name":"pool-v4"},"spec":{"cidr":"10.65.0.0/16"}}"#;
    let key = Key::resource(Kind::IPPool, "", "pool-v4");
    let pool = libcalico_api::Resource::from_json(Kind::IPPool, json.as_bytes()).unwrap();
    let made = store.create(&key, pool.into()).await.unwrap();
    let path = "/calico/resources/v3/projectcalico.org/ippools/pool-v4";
    assert_eq!(etcd.etcdctl(&["get", path]).trim(), format!("{path}\n{json}"));
    // What is read carries the revision; what is written back does not store it.
    store.update(made).await.unwrap();
    assert_eq!(etcd.etcdctl(&["get", path]).trim(), format!("{path}\n{json}"));
}
