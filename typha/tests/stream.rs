//! A real server and real clients: whatever happens to either, a client's view is the datastore's.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use calico_typha::SyncerKind;
use calico_typha::client::{ClientTls, TyphaClient, TyphaClientConfig};
use calico_typha::identity::Required;
use calico_typha::server::{RunningServer, ServerTls};
use libcalico_datastore::Datastore;
use libcalico_datastore::memory::MemoryDatastore;
use libcalico_datastore::syncer::{bgp_syncer, felix_syncer};
use libcalico_model::SyncStatus;
use libcalico_testing::{Pki, free_port};
use support::{Mirror, fill, put, serve, serve_and_count, server_config, set_key, stored};

fn client(servers: &[&RunningServer], kind: SyncerKind, host: &str) -> Mirror {
    let addresses = servers.iter().map(|s| s.local_addr().to_string()).collect();
    Mirror::new(TyphaClient::new(TyphaClientConfig::new(addresses, kind, host)).start().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_sees_exactly_what_a_local_syncer_sees() {
    let store = MemoryDatastore::new();
    fill(&store).await;
    let server = serve(server_config(0), &store).await;
    let arc: Arc<dyn Datastore> = Arc::new(store.clone());
    for kind in SyncerKind::ALL {
        let direct = match kind {
            SyncerKind::Felix => felix_syncer(arc.clone()),
            SyncerKind::Bgp => bgp_syncer(arc.clone(), None),
        };
        let (mut direct, mut remote) = (Mirror::new(direct), client(&[&server], kind, "h"));
        direct.in_sync().await;
        remote.in_sync().await;
        assert!(direct.state.len() >= 4);
        assert_eq!(direct.state, remote.state);
        assert_eq!(direct.statuses, remote.statuses);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_clients_get_the_snapshot_and_every_change_over_one_watch() {
    let store = MemoryDatastore::new();
    for i in 0..500 {
        put(&store, &format!("s{i}"), "10.0.0.0/8").await;
    }
    let server = serve(server_config(0), &store).await;
    let mut clients: Vec<Mirror> =
        (0..50).map(|i| client(&[&server], SyncerKind::Felix, &format!("h{i}"))).collect();
    for c in &mut clients {
        c.in_sync().await;
        assert!(c.state.len() >= 500);
    }
    assert_eq!(server.connections(), 50);
    let watches = store.calls().watch.load(std::sync::atomic::Ordering::Relaxed);
    put(&store, "new", "11.0.0.0/8").await;
    store.delete(&stored("s1"), None).await.unwrap();
    for c in &mut clients {
        c.has(&set_key("new")).await;
        c.until(Duration::from_secs(60), "deletion", |m| !m.state.contains_key(&set_key("s1"))).await;
    }
    assert_eq!(store.calls().watch.load(std::sync::atomic::Ordering::Relaxed), watches);
    assert!(watches < 40, "{watches}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_outlives_its_server_and_gets_the_difference_alone() {
    let store = MemoryDatastore::new();
    fill(&store).await;
    let port = free_port();
    let server = serve(server_config(port), &store).await;
    let mut c = client(&[&server], SyncerKind::Felix, "h");
    c.in_sync().await;
    let before = c.updates;
    drop(server);
    store.delete(&stored("a"), None).await.unwrap();
    put(&store, "b", "12.0.0.0/8").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let _server = restart(port, &store).await;
    c.has(&set_key("b")).await;
    c.until(Duration::from_secs(60), "deletion", |m| !m.state.contains_key(&set_key("a"))).await;
    c.quiet().await;
    assert_eq!(c.updates, before + 2);
    assert_eq!(c.statuses.iter().filter(|s| **s == SyncStatus::InSync).count(), 1);
}

/// The port may take a moment to be free.
async fn restart(port: u16, store: &MemoryDatastore) -> RunningServer {
    for _ in 0..600 {
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    serve(server_config(port), store).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_two_servers_the_loss_of_one_is_made_good_by_the_other() {
    let store = MemoryDatastore::new();
    fill(&store).await;
    let (one, two) = (serve(server_config(0), &store).await, serve(server_config(0), &store).await);
    let mut clients: Vec<Mirror> =
        (0..8).map(|i| client(&[&one, &two], SyncerKind::Felix, &format!("h{i}"))).collect();
    for c in &mut clients {
        c.in_sync().await;
    }
    one.shutdown().await;
    put(&store, "after", "12.0.0.0/8").await;
    for c in &mut clients {
        c.has(&set_key("after")).await;
    }
    assert_eq!(two.connections(), 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_nothing_is_dropped_and_the_others_do_not_notice() {
    let store = MemoryDatastore::new();
    let mut config = server_config(0);
    config.write_timeout = Duration::from_secs(1);
    let (server, figures) = serve_and_count(config, &store).await;
    let mut well = client(&[&server], SyncerKind::Felix, "well");
    well.in_sync().await;
    // Its reader never reads: the buffers on the way fill up, then the server's patience ends.
    let stuck = client(&[&server], SyncerKind::Felix, "stuck");
    while server.connections() < 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Counted, not looked at: a client that was dropped is back within milliseconds. The other one follows each
    // change before the next, so that they are not sent as one.
    let start = Instant::now();
    let mut round = 0_u32;
    while figures.connections_dropped.get() == 0 {
        assert!(start.elapsed() < Duration::from_secs(600), "not dropped after {round} changes");
        let nets: Vec<String> =
            (0..2000).map(|n| format!("10.{}.{}.0/24", (round + n / 256) % 256, n % 256)).collect();
        let updates = well.updates;
        put(&store, &format!("big{}", round % 80), &nets.join("\",\"")).await;
        well.until(Duration::from_secs(60), "the change", |m| m.updates > updates).await;
        round += 1;
    }
    let updates = well.updates;
    put(&store, "last", "11.0.0.0/8").await;
    well.has(&set_key("last")).await;
    assert_eq!(well.updates, updates + 1);
    // Once it reads again it gets all of it, by a new connection.
    let mut stuck = stuck;
    stuck.until(Duration::from_secs(60), "all", |m| m.state.len() == well.state.len()).await;
    assert_eq!(stuck.state.get(&set_key("last")), well.state.get(&set_key("last")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_clients_are_let_go_and_a_second_one_of_a_host_ends_the_first() {
    let store = MemoryDatastore::new();
    let mut config = server_config(0);
    config.max_connections = 3;
    let server = serve(config, &store).await;
    let other = serve(server_config(0), &store).await;
    let mut clients: Vec<Mirror> =
        (0..6).map(|i| client(&[&server, &other], SyncerKind::Felix, &format!("h{i}"))).collect();
    for c in &mut clients {
        c.in_sync().await;
    }
    let start = Instant::now();
    while server.connections() > 3 {
        assert!(start.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut config = server_config(0);
    config.max_connections_per_client = 1;
    let single = serve(config, &store).await;
    let mut first = client(&[&single], SyncerKind::Felix, "h");
    first.in_sync().await;
    drop(clients);
    let mut bgp = client(&[&single], SyncerKind::Bgp, "h");
    bgp.in_sync().await;
    assert_eq!(single.connections(), 2, "another stream of the host is not counted");
}

fn server_tls(pki: &Pki, client: Required) -> ServerTls {
    ServerTls { cert_file: pki.cert("typha"), key_file: pki.key("typha"), ca_file: pki.cert("ca"), client }
}

fn client_tls(pki: &Pki, who: &str, ca: &str, server: Required) -> ClientTls {
    ClientTls { cert_file: pki.cert(who), key_file: pki.key(who), ca_file: pki.cert(ca), server }
}

fn cn(name: &str) -> Required {
    Required { common_name: Some(name.to_owned()), uri_san: None }
}

fn uri(name: &str) -> Required {
    Required { common_name: None, uri_san: Some(name.to_owned()) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_right_certificates_pass_in_both_directions() {
    let pki = Pki::of(&["typha", "felix", "stranger"]);
    let store = MemoryDatastore::new();
    fill(&store).await;
    let mut config = server_config(0);
    config.tls = Some(server_tls(&pki, cn("felix")));
    let server = serve(config, &store).await;
    let connect = |tls: Option<ClientTls>| {
        let mut c = TyphaClientConfig::new(vec![server.local_addr().to_string()], SyncerKind::Felix, "h");
        c.tls = tls;
        Mirror::new(TyphaClient::new(c).start().unwrap())
    };
    for server_name in [cn("typha"), uri("spiffe://calico/typha")] {
        connect(Some(client_tls(&pki, "felix", "ca", server_name))).in_sync().await;
    }
    for (what, tls) in [
        ("plain text", None),
        ("a client of another authority", Some(client_tls(&pki, "other-felix", "ca", cn("typha")))),
        ("a client of another name", Some(client_tls(&pki, "stranger", "ca", cn("typha")))),
        ("a server of another authority", Some(client_tls(&pki, "felix", "other-ca", cn("typha")))),
        ("a server of another name", Some(client_tls(&pki, "felix", "ca", cn("goldmane")))),
        ("a server of another URI", Some(client_tls(&pki, "felix", "ca", uri("spiffe://calico/x")))),
    ] {
        let mut m = connect(tls);
        tokio::time::sleep(Duration::from_millis(700)).await;
        while let Ok(event) = m.rx.try_recv() {
            assert!(
                matches!(event, libcalico_model::SyncerEvent::Status(SyncStatus::WaitForDatastore)),
                "{what}: {event:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_client_without_address_name_of_the_server_or_certificates_says_so_at_once() {
    let config = TyphaClientConfig::new(Vec::new(), SyncerKind::Felix, "h");
    assert!(TyphaClient::new(config).start().is_err());
    let pki = Pki::of(&["typha", "felix", "stranger"]);
    let mut config = TyphaClientConfig::new(vec!["127.0.0.1:1".into()], SyncerKind::Felix, "h");
    config.tls = Some(client_tls(&pki, "nonexistent", "ca", cn("typha")));
    let error = TyphaClient::new(config).start().unwrap_err().to_string();
    assert!(error.contains("nonexistent.pem"), "{error}");
    let mut config = TyphaClientConfig::new(vec!["127.0.0.1:1".into()], SyncerKind::Felix, "h");
    config.tls = Some(client_tls(&pki, "felix", "ca", Required::default()));
    let error = TyphaClient::new(config).start().unwrap_err().to_string();
    assert!(error.contains("TyphaCN"), "{error}");
}
