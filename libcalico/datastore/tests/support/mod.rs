//! A real etcd for tests: its own directory, ports and process, gone when dropped.
#![allow(dead_code)] // each test binary uses its own part

pub mod contract;
pub mod proxy;

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use libcalico_datastore::EtcdConfig;

pub struct Etcd {
    child: Option<Child>,
    dir: tempfile::TempDir,
    pub client_port: u16,
    peer_port: u16,
    extra: Vec<String>,
    scheme: &'static str,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// True where etcd is installed. In CI its absence is a failure.
pub fn have_etcd() -> bool {
    let there = Command::new("etcd").arg("--version").stdout(Stdio::null()).status().is_ok();
    assert!(there || std::env::var("CI").as_deref() != Ok("true"), "CI needs etcd (apt install etcd-server)");
    if !there {
        eprintln!("skipped: needs etcd (apt install etcd-server)");
    }
    there
}

impl Etcd {
    pub fn start() -> Self {
        Self::start_with("http", Vec::new())
    }

    pub fn start_with(scheme: &'static str, extra: Vec<String>) -> Self {
        let mut etcd = Self {
            child: None,
            dir: tempfile::tempdir().unwrap(),
            client_port: free_port(),
            peer_port: free_port(),
            extra,
            scheme,
        };
        etcd.run();
        etcd
    }

    pub fn endpoint(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.client_port)
    }

    pub fn config(&self) -> EtcdConfig {
        EtcdConfig { endpoints: vec![self.endpoint()], ..EtcdConfig::default() }
    }

    /// Starts the process (again) over the same data and ports.
    pub fn run(&mut self) {
        let url = self.endpoint();
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let child = Command::new("etcd")
            .args(["--name", "tds", "--data-dir"])
            .arg(self.dir.path())
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("tds={peer}"), "--unsafe-no-fsync"])
            .args(&self.extra)
            .env_remove("ETCDCTL_API")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", self.client_port)).is_err() {
            assert!(Instant::now() < deadline, "etcd did not listen on {url}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut c) = self.child.take() {
            let _ = c.kill();
            let _ = c.wait();
        }
    }

    pub fn etcdctl(&self, args: &[&str]) -> String {
        let out = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.endpoint()])
            .args(args)
            .output()
            .expect("etcdctl (apt install etcd-client)");
        String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A certificate authority with what it signed, as PEM files.
pub struct Pki {
    pub dir: tempfile::TempDir,
}

impl Pki {
    pub fn new() -> Self {
        let pki = Self { dir: tempfile::tempdir().unwrap() };
        for ca in ["ca", "other-ca"] {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            params.distinguished_name.push(rcgen::DnType::CommonName, ca);
            let cert = params.self_signed(&key).unwrap();
            pki.write(ca, &cert.pem(), &key.serialize_pem());
            let issuer = rcgen::Issuer::new(params, key);
            for who in ["server", "client"] {
                let key = rcgen::KeyPair::generate().unwrap();
                let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
                let mut params = rcgen::CertificateParams::new(names).unwrap();
                params.distinguished_name.push(rcgen::DnType::CommonName, who);
                let cert = params.signed_by(&key, &issuer).unwrap();
                let name = if ca == "ca" { who.to_owned() } else { format!("other-{who}") };
                pki.write(&name, &cert.pem(), &key.serialize_pem());
            }
        }
        pki
    }

    fn write(&self, name: &str, cert: &str, key: &str) {
        std::fs::write(self.cert(name), cert).unwrap();
        std::fs::write(self.key(name), key).unwrap();
    }

    pub fn cert(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.pem"))
    }

    pub fn key(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}-key.pem"))
    }
}
