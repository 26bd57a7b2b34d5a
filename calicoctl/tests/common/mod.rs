//! A real etcd on ephemeral ports, and the built command beside it.

#![allow(dead_code)] // each test uses a part of it

use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use libcalico_datastore::etcd::EtcdDatastore;
use libcalico_datastore::{Datastore, EtcdConfig};
use libcalico_model::{Key, Value};

/// An etcd of one test. It ends with the value, also when the test fails.
pub struct Etcd {
    child: Child,
    pub endpoint: String,
    _data: tempfile::TempDir,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Etcd {
    /// Starts etcd, or says why the test is skipped.
    pub fn start() -> Option<Self> {
        if !Path::new("/usr/bin/etcd").exists() {
            assert!(
                std::env::var("CI").as_deref() != Ok("true"),
                "etcd is missing: apt-get install etcd-server"
            );
            eprintln!("skipped: needs /usr/bin/etcd");
            return None;
        }
        let data = tempfile::tempdir().unwrap();
        let (client, peer) = (free_port(), free_port());
        let endpoint = format!("http://127.0.0.1:{client}");
        let peers = format!("http://127.0.0.1:{peer}");
        let child = Command::new("/usr/bin/etcd")
            .args(["--data-dir", data.path().to_str().unwrap(), "--listen-client-urls", &endpoint])
            .args(["--advertise-client-urls", &endpoint, "--listen-peer-urls", &peers])
            .args(["--initial-advertise-peer-urls", &peers, "--initial-cluster", &format!("default={peers}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", client)).is_err() {
            assert!(Instant::now() < deadline, "etcd does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(Self { child, endpoint, _data: data })
    }

    /// A client of the datastore.
    pub fn store(&self) -> Arc<dyn Datastore> {
        let config = EtcdConfig { endpoints: vec![self.endpoint.clone()], ..EtcdConfig::default() };
        Arc::new(EtcdDatastore::new(config))
    }

    /// Writes keys and values as they stand in a dump.
    pub fn load(&self, pairs: &[(String, String)]) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = self.store();
            for (key, value) in pairs {
                let key: Key = key.parse().unwrap();
                let value = Value::parse(&key, value.as_bytes()).unwrap();
                store.apply(&key, value).await.unwrap();
            }
        });
    }

    /// What stands at a key.
    pub fn read(&self, key: &str) -> serde_json::Value {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let kv = runtime.block_on(async { self.store().get(&key.parse().unwrap()).await.unwrap() });
        serde_json::from_slice(&kv.value.to_bytes()).unwrap()
    }

    /// Runs the command with arguments and standard input.
    pub fn calicoctl(&self, args: &[&str], input: &str) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_calicoctl"))
            .args(args)
            .env_clear()
            .env("DATASTORE_TYPE", "etcdv3")
            .env("ETCD_ENDPOINTS", &self.endpoint)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that does not read its input closes it.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let out = child.wait_with_output().unwrap();
        Output {
            code: out.status.code().unwrap(),
            stdout: String::from_utf8(out.stdout).unwrap(),
            stderr: String::from_utf8(out.stderr).unwrap(),
        }
    }
}

/// What a command printed.
#[derive(Debug)]
pub struct Output {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Keys and values of upstream's datastore after objects of every kind were made.
pub fn dump() -> Vec<(String, String)> {
    let mut lines = include_str!("../data/etcd-dump.txt").lines().map(str::to_owned);
    let mut pairs = Vec::new();
    while let (Some(key), Some(value)) = (lines.next(), lines.next()) {
        pairs.push((key, value));
    }
    pairs
}
