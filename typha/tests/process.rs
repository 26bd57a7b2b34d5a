//! The program itself with a real etcd: starts by its environment, outlives etcd, is killed and started again, ends
//! gently.

mod support;

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use calico_typha::SyncerKind;
use calico_typha::client::{TyphaClient, TyphaClientConfig};
use libcalico_api::{Kind, Resource};
use libcalico_datastore::etcd::EtcdDatastore;
use libcalico_datastore::{Datastore, EtcdConfig};
use libcalico_testing::{RealEtcd, free_port};
use support::{Mirror, set_key, stored};

/// A process that ends with the test.
struct Process(Child);

impl Process {
    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn wait_for(port: u16) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "nothing listens on {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

struct Ports {
    etcd: u16,
    typha: u16,
    health: u16,
}

fn typha(p: &Ports) -> Process {
    let process = Process(command(p).spawn().unwrap());
    wait_for(p.typha);
    process
}

fn command(p: &Ports) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_calico-typha"));
    command
        .args(["--config-file", "/nonexistent"])
        .env("ETCD_ENDPOINTS", format!("http://127.0.0.1:{}", p.etcd))
        .env("TYPHA_SERVERHOST", "127.0.0.1")
        .env("TYPHA_SERVERPORT", p.typha.to_string())
        .env("TYPHA_HEALTHENABLED", "true")
        .env("TYPHA_HEALTHHOST", "127.0.0.1")
        .env("TYPHA_HEALTHPORT", p.health.to_string())
        .env("TYPHA_SHUTDOWNCONNECTIONDROPINTERVALMAXSECS", "0.01")
        .stderr(Stdio::null());
    command
}

fn readiness(port: u16) -> u16 {
    let Ok(mut s) = TcpStream::connect(("127.0.0.1", port)) else { return 0 };
    s.write_all(b"GET /readiness HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    s.read_to_string(&mut text).unwrap();
    text.split_whitespace().nth(1).and_then(|c| c.parse().ok()).unwrap_or_default()
}

async fn becomes(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn put(store: &dyn Datastore, name: &str) {
    let json = format!(r#"{{"metadata":{{"name":"{name}"}},"spec":{{"nets":["10.0.0.0/8"]}}}}"#);
    let r = Resource::from_json(Kind::GlobalNetworkSet, json.as_bytes()).unwrap();
    while let Err(e) = store.apply(&stored(name), r.clone().into()).await {
        assert!(e.retryable(), "{e}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn typha_outlives_etcd_and_its_clients_outlive_typha() {
    let Some(mut etcd) = RealEtcd::start() else { return };
    let p = Ports { etcd: etcd.port(), typha: free_port(), health: free_port() };
    let endpoints = vec![etcd.endpoint()];
    let store: Arc<dyn Datastore> =
        Arc::new(EtcdDatastore::new(EtcdConfig { endpoints, ..EtcdConfig::default() }));
    put(&*store, "a").await;
    let mut server = typha(&p);
    becomes("ready", || readiness(p.health) == 200).await;
    let config = TyphaClientConfig::new(vec![format!("127.0.0.1:{}", p.typha)], SyncerKind::Felix, "h");
    let mut client = Mirror::new(TyphaClient::new(config).start().unwrap());
    client.in_sync().await;
    assert!(client.state.contains_key(&set_key("a")));

    // etcd away: Typha keeps what it has and its clients.
    etcd.kill();
    client.quiet().await;
    assert_eq!(readiness(p.health), 200);
    etcd.run();
    put(&*store, "b").await;
    client.has(&set_key("b")).await;

    // Typha away: the client finds what happened meanwhile.
    server.kill();
    store.delete(&stored("a"), None).await.unwrap();
    put(&*store, "c").await;
    let mut server = typha(&p);
    client.has(&set_key("c")).await;
    client.until(Duration::from_secs(60), "deletion", |m| !m.state.contains_key(&set_key("a"))).await;
    assert!(client.state.contains_key(&set_key("b")));

    // Asked to end, it lets its client go and ends well.
    let pid = server.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let mut code = None;
    becomes("ended", || {
        code = server.0.try_wait().unwrap();
        code.is_some()
    })
    .await;
    assert!(code.unwrap().success(), "{code:?}");
}

#[test]
fn a_setting_that_would_be_unsafe_to_ignore_ends_it_with_a_reason() {
    let out = Command::new(env!("CARGO_BIN_EXE_calico-typha"))
        .args(["--config-file", "/nonexistent"])
        .env("TYPHA_SERVERKEYFILE", "/key")
        .env("NOT_OURS", OsStr::from_bytes(&[0xff]))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && text.contains("TLS needs"), "{text}");
}

#[tokio::test]
async fn metrics_that_cannot_be_served_over_tls_are_not_served_and_clients_are() {
    let Some(etcd) = RealEtcd::start() else { return };
    let p = Ports { etcd: etcd.port(), typha: free_port(), health: free_port() };
    let metrics = free_port();
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let child = command(&p)
        .env("TYPHA_PROMETHEUSMETRICSENABLED", "true")
        .env("TYPHA_PROMETHEUSMETRICSHOST", "127.0.0.1")
        .env("TYPHA_PROMETHEUSMETRICSPORT", metrics.to_string())
        .env("TYPHA_PROMETHEUSMETRICSCERTFILE", "/nonexistent/cert")
        .env("TYPHA_PROMETHEUSMETRICSKEYFILE", "/nonexistent/key")
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn();
    let _server = Process(child.unwrap());
    let said = || {
        let text = std::fs::read_to_string(&log).unwrap();
        text.lines().any(|l| l.contains("metrics are not served") && l.contains("PrometheusMetricsCertFile"))
    };
    becomes("the log names the parameter", said).await;
    assert!(TcpStream::connect(("127.0.0.1", metrics)).is_err());
    becomes("ready", || readiness(p.health) == 200).await;
    let config = TyphaClientConfig::new(vec![format!("127.0.0.1:{}", p.typha)], SyncerKind::Felix, "h");
    Mirror::new(TyphaClient::new(config).start().unwrap()).in_sync().await;
}
