//! etcd refused, gone, silent, encrypted: what the client does about it, against a real etcd.

mod support;

use std::time::{Duration, Instant};

use libcalico_api::Kind;
use libcalico_datastore::etcd::EtcdDatastore;
use libcalico_datastore::{Datastore, DatastoreError, EtcdConfig, Listing, Pem, Scope, WatchEvent};
use libcalico_model::{Key, Revision, Value, ipam};
use libcalico_testing::{EtcdCluster, Pki, RealEtcd};
use support::config;
use support::faults::faults;
use tokio::sync::mpsc::Receiver;

fn handle(id: &str) -> Key {
    Key::Handle(id.to_owned())
}

fn value() -> Value {
    Value::Handle(ipam::Handle::default())
}

#[tokio::test]
async fn a_dead_endpoint_is_passed_over_for_reads_and_writes() {
    let Some(etcd) = RealEtcd::start() else { return };
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
    // Without a limit it would be for ever.
    let error = store.get(&handle("a")).await.unwrap_err();
    let text = error.to_string();
    assert!(error.retryable() && text.contains("127.0.0.1:1") && text.contains("refused"), "{text}");
}

#[tokio::test]
async fn faults_are_told_and_survived() {
    let Some(mut etcd) = RealEtcd::start() else { return };
    faults(&mut etcd).await;
}

fn through(cluster: &EtcdCluster) -> EtcdDatastore {
    EtcdDatastore::new(EtcdConfig { endpoints: cluster.endpoints(), ..EtcdConfig::default() })
}

/// Longest wait for anything: on a busy machine a cluster chooses a leader more than once.
const PATIENCE: Duration = Duration::from_secs(120);

/// Tries until it is done: a cluster that chooses a new leader refuses for a moment.
async fn insist<T, F: Future<Output = Result<T, DatastoreError>>>(mut call: impl FnMut() -> F) -> T {
    let start = Instant::now();
    loop {
        match call().await {
            Ok(done) => return done,
            Err(e) => assert!(e.retryable() && start.elapsed() < PATIENCE, "{e}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn write(store: &EtcdDatastore, id: &str) {
    let (key, value) = (handle(id), value());
    insist(|| store.apply(&key, value.clone())).await;
}

async fn listed(store: &EtcdDatastore) -> Listing {
    insist(|| store.list(&Scope::Handles)).await
}

async fn watched(store: &EtcdDatastore, from: &Revision) -> Receiver<WatchEvent> {
    insist(|| store.watch(&Scope::Handles, from)).await
}

async fn next(rx: &mut Receiver<WatchEvent>) -> WatchEvent {
    tokio::time::timeout(PATIENCE, rx.recv()).await.expect("an event in time").expect("an open watch")
}

/// Watches until it is told of a key's value. A watch ends with its leader.
async fn told(store: &EtcdDatastore, from: &Revision, id: &str) {
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < PATIENCE, "{id} is not told");
        match next(&mut watched(store, from).await).await {
            WatchEvent::Set(k, Ok(_)) if k == handle(id) => return,
            WatchEvent::Failed(e) if e.retryable() => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn the_death_of_one_of_three_servers_is_survived_by_reads_writes_and_watches() {
    let Some(mut cluster) = EtcdCluster::start() else { return };
    let store = through(&cluster);
    write(&store, "a").await;
    let list = listed(&store).await;
    let mut rx = watched(&store, &list.revision).await;
    cluster.members[0].kill();
    let event = next(&mut rx).await;
    assert!(matches!(event, WatchEvent::Failed(DatastoreError::Unreachable { .. })), "{event:?}");
    write(&store, "b").await;
    told(&store, &list.revision, "b").await;
    assert_eq!(listed(&store).await.items.len(), 2);
}

#[tokio::test]
async fn one_of_three_servers_that_hangs_is_left_for_another_in_seconds() {
    let Some(cluster) = EtcdCluster::start() else { return };
    let store = through(&cluster);
    write(&store, "a").await;
    let list = listed(&store).await;
    let mut rx = watched(&store, &list.revision).await;
    // The first endpoint, which all of it is on: its connections stay open and nothing comes.
    cluster.members[0].freeze();
    let start = Instant::now();
    let list = listed(&store).await;
    eprintln!("a listing took {:?}", start.elapsed());
    assert_eq!(list.items.len(), 1);
    let event = next(&mut rx).await;
    assert!(matches!(event, WatchEvent::Failed(DatastoreError::Unreachable { .. })), "{event:?}");
    write(&store, "b").await;
    cluster.members[0].thaw();
}

#[tokio::test]
async fn a_server_that_is_cut_off_from_the_other_two_says_so_instead_of_telling_old_news() {
    let Some(cluster) = EtcdCluster::start() else { return };
    let alone = EtcdDatastore::new(only(cluster.members[0].endpoint()));
    write(&alone, "a").await;
    let list = listed(&alone).await;
    let mut rx = watched(&alone, &list.revision).await;
    cluster.members[1].freeze();
    cluster.members[2].freeze();
    let event = next(&mut rx).await;
    assert!(matches!(event, WatchEvent::Failed(DatastoreError::Unreachable { .. })), "{event:?}");
    let error = alone.list(&Scope::Handles).await.unwrap_err();
    assert!(error.retryable(), "{error}");
    cluster.members[1].thaw();
    cluster.members[2].thaw();
    write(&alone, "b").await;
}

fn only(endpoint: String) -> EtcdConfig {
    EtcdConfig { endpoints: vec![endpoint], ..EtcdConfig::default() }
}

#[tokio::test]
async fn mutual_tls_lets_the_right_certificate_in_and_the_wrong_one_not() {
    let pki = Pki::new();
    let Some(etcd) = RealEtcd::start_tls(&pki) else { return };
    let with = |ca: &str, who: &str| EtcdConfig {
        ca: Some(Pem::File(pki.cert(ca))),
        cert: Some(Pem::File(pki.cert(who))),
        key: Some(Pem::Inline(std::fs::read_to_string(pki.key(who)).unwrap())),
        ..config(&etcd)
    };
    let right = EtcdDatastore::new(with("ca", "client"));
    right.apply(&handle("a"), value()).await.unwrap();
    assert_eq!(right.list(&Scope::Handles).await.unwrap().items.len(), 1);
    for (ca, who) in [("other-ca", "client"), ("ca", "other-client")] {
        let error = EtcdDatastore::new(with(ca, who)).get(&handle("a")).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, DatastoreError::Unreachable { .. }), "{text}");
        eprintln!("{ca} {who}: {text}");
    }
    let missing = EtcdConfig { ca: Some(Pem::File("/nonexistent/ca.pem".into())), ..config(&etcd) };
    let error = EtcdDatastore::new(missing).get(&handle("a")).await.unwrap_err();
    assert!(error.to_string().contains("/nonexistent/ca.pem"), "{error}");
}

#[tokio::test]
async fn a_client_certificate_is_read_again_when_it_is_refused() {
    let pki = Pki::new();
    let Some(etcd) = RealEtcd::start_tls(&pki) else { return };
    let at = |name: &str| pki.directory().join(name);
    let put = |who: &str| {
        std::fs::copy(pki.cert(who), at("own.pem")).unwrap();
        std::fs::copy(pki.key(who), at("own-key.pem")).unwrap();
    };
    put("other-client");
    let store = EtcdDatastore::new(EtcdConfig {
        ca: Some(Pem::File(pki.cert("ca"))),
        cert: Some(Pem::File(at("own.pem"))),
        key: Some(Pem::File(at("own-key.pem"))),
        ..config(&etcd)
    });
    let refused = store.get(&handle("a")).await.unwrap_err();
    assert!(refused.retryable(), "{refused}");
    put("client");
    store.apply(&handle("a"), value()).await.unwrap();
}

#[tokio::test]
async fn user_and_password_are_asked_for() {
    let Some(mut etcd) = RealEtcd::start_auth("secret") else { return };
    let with = |user: &str, password: &str| EtcdConfig {
        username: Some(user.into()),
        password: Some(password.into()),
        ..config(&etcd)
    };
    let right = EtcdDatastore::new(with("root", "secret"));
    right.apply(&handle("a"), value()).await.unwrap();
    for (config, word) in [
        (config(&etcd), "user name is empty"),
        (with("root", "wrong"), "authentication failed, invalid user ID or password"),
        (with("nobody", "secret"), "authentication failed, invalid user ID or password"),
    ] {
        let error = EtcdDatastore::new(config).get(&handle("a")).await.unwrap_err();
        assert!(matches!(error, DatastoreError::Unauthorized(_)), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
    // Tokens are in the server's memory: one that was started again asks for the password again.
    let from = right.list(&Scope::Handles).await.unwrap().revision;
    etcd.kill();
    etcd.run();
    write(&right, "b").await;
    assert_eq!(listed(&right).await.items.len(), 2);
    told(&right, &from, "b").await;
}

#[tokio::test]
async fn the_stored_bytes_are_the_models_own() {
    let Some(etcd) = RealEtcd::start() else { return };
    let store = EtcdDatastore::new(config(&etcd));
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
