//! A real API server over a real etcd, with Calico's CRDs, gone when dropped.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use http::{Method, Request};
use libcalico_api::Kind;
use libcalico_datastore::{KubernetesConfig, KubernetesDatastore};
use serde_json::{Value, json};

use crate::support::{Etcd, Pki, have_etcd};

const TOKEN: &str = "a-token-for-tests";

fn binary() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let dir = std::env::var_os("CALICO_K8S_BIN").map(PathBuf::from);
    let path = dir.or_else(|| Some(cache?.join("calico-k8s/bin")))?.join("kube-apiserver");
    path.is_file().then_some(path)
}

/// True where an API server can be run.
pub fn have_server() -> bool {
    if binary().is_none() {
        assert!(
            std::env::var("CALICO_K8S_REQUIRED").as_deref() != Ok("1"),
            "CALICO_K8S_REQUIRED=1 and no kube-apiserver (make k8s builds it)"
        );
        eprintln!("skipped: no kube-apiserver (make k8s builds it)");
        return false;
    }
    have_etcd()
}

pub struct ApiServer {
    pub etcd: Etcd,
    pki: Pki,
    dir: tempfile::TempDir,
    pub port: u16,
    child: Option<Child>,
}

impl ApiServer {
    /// Starts one and gives it the CRDs.
    pub async fn start() -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("tokens"), format!("{TOKEN},admin,1,system:masters\n")).unwrap();
        let mut server = Self { etcd: Etcd::start(), pki: Pki::new(), dir, port, child: None };
        server.run().await;
        for crd in crds() {
            server.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &crd).await;
        }
        server.wait_for_kinds().await;
        server
    }

    /// Starts the process (again) over the same data and port.
    pub async fn run(&mut self) {
        let (dir, pki) = (self.dir.path(), &self.pki);
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let child = Command::new(binary().unwrap())
            .args(["--etcd-servers", &self.etcd.endpoint()])
            .args(["--bind-address", "127.0.0.1", "--secure-port", &self.port.to_string()])
            .args(["--advertise-address", "192.0.2.1", "--endpoint-reconciler-type", "none"])
            .args(["--service-cluster-ip-range", "10.96.0.0/16", "--authorization-mode", "AlwaysAllow"])
            .args(["--disable-admission-plugins", "ServiceAccount", "--profiling=false"])
            .arg("--token-auth-file")
            .arg(dir.join("tokens"))
            .arg("--cert-dir")
            .arg(dir)
            .arg("--tls-cert-file")
            .arg(pki.cert("server"))
            .arg("--tls-private-key-file")
            .arg(pki.key("server"))
            .arg("--client-ca-file")
            .arg(pki.cert("ca"))
            .args(["--service-account-issuer", "https://kubernetes.default.svc"])
            .arg("--service-account-key-file")
            .arg(pki.cert("server"))
            .arg("--service-account-signing-key-file")
            .arg(pki.key("server"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        self.wait("/api/v1/namespaces/default").await;
    }

    /// Until every kind is served, which after a start takes a moment longer than the rest.
    pub async fn wait_for_kinds(&self) {
        for kind in Kind::ALL.iter().filter(|k| !built_in(**k)) {
            self.wait(&format!("/apis/projectcalico.org/v3/{}", kind.plural())).await;
        }
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut c) = self.child.take() {
            let _ = c.kill();
            let _ = c.wait();
        }
    }

    pub fn config(&self) -> KubernetesConfig {
        self.config_at(self.port)
    }

    /// By way of another port.
    pub fn config_at(&self, port: u16) -> KubernetesConfig {
        KubernetesConfig {
            api_endpoint: Some(format!("https://127.0.0.1:{port}")),
            ca_file: Some(self.pki.cert("ca").display().to_string()),
            token: Some(TOKEN.to_owned()),
            ..KubernetesConfig::default()
        }
    }

    /// A kubeconfig with a client certificate instead of a token. Its user is `client`.
    pub fn kubeconfig(&self) -> PathBuf {
        let path = self.dir.path().join("kubeconfig");
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
            "clusters": [{ "name": "c", "cluster": {
                "server": format!("https://localhost:{}", self.port), "certificate-authority": self.pki.cert("ca") } }],
            "users": [{ "name": "u", "user": {
                "client-certificate": self.pki.cert("client"), "client-key": self.pki.key("client") } }],
        });
        std::fs::write(&path, text.to_string()).unwrap();
        path
    }

    pub fn store(&self) -> KubernetesDatastore {
        KubernetesDatastore::new(self.config())
    }

    async fn raw(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, kube::Error> {
        let mut config = kube::Config::new(format!("https://127.0.0.1:{}", self.port).parse().unwrap());
        config.accept_invalid_certs = true;
        config.auth_info.token = Some(TOKEN.to_owned().into());
        let client = kube::Client::try_from(config).unwrap();
        let content =
            if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let request = Request::builder().method(method).uri(path).header("content-type", content);
        let body = body.map(|b| b.to_string().into_bytes()).unwrap_or_default();
        client.request(request.body(body).unwrap()).await
    }

    pub async fn create(&self, collection: &str, object: &Value) -> Value {
        let made = self.raw(Method::POST, collection, Some(object)).await;
        made.unwrap_or_else(|e| panic!("{collection}: {e:?}: {object}"))
    }

    pub async fn patch(&self, path: &str, patch: &Value) -> Value {
        self.raw(Method::PATCH, path, Some(patch)).await.unwrap_or_else(|e| panic!("{path}: {e:?}"))
    }

    pub async fn delete(&self, path: &str) {
        let options = json!({ "gracePeriodSeconds": 0 });
        self.raw(Method::DELETE, path, Some(&options)).await.unwrap_or_else(|e| panic!("{path}: {e:?}"));
    }

    pub async fn get(&self, path: &str) -> Value {
        self.raw(Method::GET, path, None).await.unwrap_or_else(|e| panic!("{path}: {e:?}"))
    }

    async fn wait(&self, path: &str) {
        let deadline = Instant::now() + Duration::from_secs(90);
        while let Err(e) = self.raw(Method::GET, path, None).await {
            if Instant::now() > deadline {
                let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(20).collect();
                panic!("{path}: {e}\n{}", tail.join("\n"));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Kinds that are Kubernetes' own objects.
fn built_in(kind: Kind) -> bool {
    matches!(kind, Kind::Node | Kind::Profile | Kind::WorkloadEndpoint)
}

/// The chart's CRDs.
fn crds() -> Vec<Value> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/calico/crds");
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let read = |p: &PathBuf| {
        let text = std::fs::read_to_string(p).unwrap();
        serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", p.display()))
    };
    let yaml = |p: &&PathBuf| p.extension().is_some_and(|e| e == "yaml");
    files.iter().filter(yaml).map(read).collect()
}
