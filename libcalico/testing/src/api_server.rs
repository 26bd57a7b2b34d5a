//! A real Kubernetes API server over a real etcd, with Calico's CRDs. No controllers, no nodes: objects are what a test
//! makes them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::etcd::{EtcdOptions, RealEtcd, tail};
use crate::https::{Https, Refused};
use crate::pki::Pki;
use crate::{Need, can_run, free_port, kubernetes_binary};

/// The first administrator's token.
const TOKEN: &str = "a-token-for-tests";
/// Who signs the tokens of service accounts, and whom they are for.
const ISSUER: &str = "https://kubernetes.default.svc";
/// How long it may take until it serves, on a loaded machine.
const START: Duration = Duration::from_secs(300);
/// How long a request is tried again that the server asks to try again.
const AGAIN: Duration = Duration::from_secs(60);
const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// An API server of one test. Everyone it knows may do everything.
pub struct RealApiServer {
    pub etcd: RealEtcd,
    pub pki: Pki,
    child: Option<Child>,
    program: PathBuf,
    port: u16,
    arguments: Vec<String>,
    client: Https,
    directory: tempfile::TempDir,
}

/// From when and until when a token is good.
#[derive(Clone, Copy, Debug)]
pub struct TokenTimes {
    pub not_before: SystemTime,
    pub expires: SystemTime,
}

impl TokenTimes {
    /// From now on, an hour long.
    #[must_use]
    pub fn an_hour() -> Self {
        let now = SystemTime::now();
        Self { not_before: now, expires: now + Duration::from_secs(3600) }
    }
}

impl RealApiServer {
    /// A server with Calico's CRDs. `None` where kube-apiserver or etcd are missing.
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::launch(EtcdOptions::default(), &[])
    }

    /// A server over an etcd with options, with further arguments, with Calico's CRDs.
    #[must_use]
    pub fn launch(etcd: EtcdOptions, arguments: &[&str]) -> Option<Self> {
        let server = Self::launch_bare(etcd, arguments)?;
        server.install_crds();
        Some(server)
    }

    /// A server that knows Kubernetes' own objects alone.
    #[must_use]
    pub fn launch_bare(mut etcd: EtcdOptions, arguments: &[&str]) -> Option<Self> {
        // The etcd that comes with Kubernetes is newer than distributions' and answers requests for progress.
        etcd.program = etcd.program.or_else(|| kubernetes_binary("etcd"));
        let needs: &[Need] =
            if etcd.program.is_some() { &[Need::ApiServer] } else { &[Need::ApiServer, Need::Etcd] };
        if !can_run(needs) {
            return None;
        }
        let program = kubernetes_binary("kube-apiserver")?;
        let etcd = RealEtcd::launch(etcd)?;
        let directory = tempfile::tempdir().expect("a directory for the API server");
        let pki = Pki::of(&["server", "client", "accounts"]);
        let port = free_port();
        let tokens = directory.path().join("tokens");
        std::fs::write(&tokens, format!("{TOKEN},admin,1,system:masters\n")).expect("a file of tokens");
        let mut all = [
            ("etcd-servers", etcd.endpoint()),
            ("bind-address", "127.0.0.1".to_owned()),
            ("secure-port", port.to_string()),
            ("advertise-address", "192.0.2.1".to_owned()),
            ("endpoint-reconciler-type", "none".to_owned()),
            ("service-cluster-ip-range", "10.96.0.0/16".to_owned()),
            ("authorization-mode", "AlwaysAllow".to_owned()),
            ("disable-admission-plugins", "ServiceAccount".to_owned()),
            ("profiling", "false".to_owned()),
            ("token-auth-file", tokens.display().to_string()),
            ("cert-dir", directory.path().display().to_string()),
            ("tls-cert-file", pki.cert("server").display().to_string()),
            ("tls-private-key-file", pki.key("server").display().to_string()),
            ("client-ca-file", pki.cert("ca").display().to_string()),
            ("service-account-issuer", ISSUER.to_owned()),
            ("service-account-key-file", pki.cert("accounts").display().to_string()),
            ("service-account-signing-key-file", pki.key("accounts").display().to_string()),
        ]
        .map(|(name, value)| format!("--{name}={value}"))
        .to_vec();
        all.extend(arguments.iter().map(|a| (*a).to_owned()));
        let ca = std::fs::read(pki.cert("ca")).expect("the authority");
        let client = Https::new(&ca, TOKEN);
        let mut server = Self { etcd, pki, child: None, program, port, arguments: all, client, directory };
        server.run();
        Some(server)
    }

    /// Starts the process (again) over the same data and port, and waits until it serves Kubernetes' own objects.
    pub fn run(&mut self) {
        let log = std::fs::File::create(self.log()).expect("the API server's log");
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.child = Some(child.expect("kube-apiserver starts"));
        self.serves("/api/v1/namespaces/default");
    }

    /// Installs the chart's CRDs and waits until each kind is served.
    pub fn install_crds(&self) {
        for crd in crds() {
            self.create(CRDS, &crd);
        }
        self.wait_for_kinds();
    }

    /// Until every kind is served, which after a start takes a moment longer than the rest.
    pub fn wait_for_kinds(&self) {
        for crd in crds() {
            let (group, version) = (&crd["spec"]["group"], &crd["spec"]["versions"][0]["name"]);
            let plural = &crd["spec"]["names"]["plural"];
            let path = [group, version, plural].map(|v| v.as_str().unwrap_or_default()).join("/");
            self.serves(&format!("/apis/{path}?limit=1"));
        }
    }

    fn serves(&self, path: &str) {
        let log = self.log();
        let end = std::time::Instant::now() + START;
        while let Err(e) = self.raw("GET", path, None) {
            if std::time::Instant::now() > end {
                panic!("the API server does not serve {path}: {e}\n{}", tail(&log));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// SIGKILL. The etcd goes on.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `https://127.0.0.1:PORT`; its certificate is signed by `pki.cert("ca")`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// An administrator's token.
    #[must_use]
    pub fn token(&self) -> &'static str {
        TOKEN
    }

    /// Writes a kubeconfig with the administrator's token.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig_of("kubeconfig", &self.endpoint(), &json!({ "token": TOKEN }))
    }

    /// Writes a kubeconfig with the client certificate of `client`.
    #[must_use]
    pub fn kubeconfig_with_certificate(&self) -> PathBuf {
        let user =
            json!({ "client-certificate": self.pki.cert("client"), "client-key": self.pki.key("client") });
        self.kubeconfig_of("kubeconfig-certificate", &self.endpoint(), &user)
    }

    /// Writes a kubeconfig with any server and user (`{"token": …}`, `{"tokenFile": …}`, …).
    #[must_use]
    pub fn kubeconfig_of(&self, file: &str, server: &str, user: &Value) -> PathBuf {
        let path = self.directory.path().join(file);
        let cluster = json!({ "server": server, "certificate-authority": self.pki.cert("ca") });
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
            "clusters": [{ "name": "c", "cluster": cluster }],
            "users": [{ "name": "u", "user": user }],
        });
        std::fs::write(&path, text.to_string()).expect("a kubeconfig");
        path
    }

    /// A directory that lives as long as the server.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A token of a service account, which is made where it is not there, signed as the API server signs them.
    #[must_use]
    pub fn account_token(&self, namespace: &str, name: &str, times: TokenTimes) -> String {
        let accounts = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        let object = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name } });
        // It may be there.
        let _ = self.raw("POST", &accounts, Some(&object));
        let uid = self.get(&format!("{accounts}/{name}"))["metadata"]["uid"].clone();
        let seconds = |t: SystemTime| t.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let claims = json!({
            "iss": ISSUER, "aud": [ISSUER], "sub": format!("system:serviceaccount:{namespace}:{name}"),
            "iat": seconds(times.not_before), "nbf": seconds(times.not_before), "exp": seconds(times.expires),
            "kubernetes.io": { "namespace": namespace, "serviceaccount": { "name": name, "uid": uid } },
        });
        let part = |v: &Value| URL_SAFE_NO_PAD.encode(v.to_string());
        let text = format!("{}.{}", part(&json!({ "alg": "ES256" })), part(&claims));
        let pem = std::fs::read(self.pki.key("accounts")).expect("the accounts' key");
        let key = PrivateKeyDer::from_pem_slice(&pem).expect("a key");
        let random = ring::rand::SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.secret_der(), &random);
        let signature = key.expect("an ECDSA key").sign(&random, text.as_bytes()).expect("a signature");
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// One request as the administrator.
    pub fn raw(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Refused> {
        let content = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let body = body.map(|b| b.to_string().into_bytes()).unwrap_or_default();
        self.client.request(self.port, method, path, content, &body)
    }

    /// As [`Self::raw`], again where a busy server did not come to it. What an earlier try has done is done.
    fn insist(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Refused> {
        let end = std::time::Instant::now() + AGAIN;
        let mut tried = false;
        loop {
            match (self.raw(method, path, body), method) {
                (Err(e), _) if busy(&e) && std::time::Instant::now() < end => {
                    eprintln!("{method} {path} is tried again: {e}");
                    std::thread::sleep(Duration::from_millis(200));
                    tried = true;
                }
                (Err(e), "DELETE") if tried && e.status == 404 => return Ok(Value::Null),
                (Err(e), "POST") if tried && e.status == 409 => {
                    let name = body.and_then(|b| b["metadata"]["name"].as_str()).unwrap_or_default();
                    return self.raw("GET", &format!("{path}/{name}"), None);
                }
                (answer, _) => return answer,
            }
        }
    }

    #[track_caller]
    pub fn create(&self, collection: &str, object: &Value) -> Value {
        let made = self.insist("POST", collection, Some(object));
        made.unwrap_or_else(|e| panic!("{collection}: {e}: {object}"))
    }

    /// A merge patch.
    #[track_caller]
    pub fn patch(&self, path: &str, patch: &Value) -> Value {
        self.insist("PATCH", path, Some(patch)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    #[track_caller]
    pub fn delete(&self, path: &str) {
        let options = json!({ "gracePeriodSeconds": 0 });
        self.insist("DELETE", path, Some(&options)).unwrap_or_else(|e| panic!("{path}: {e}"));
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        self.insist("GET", path, None).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    /// Runs kubectl as the administrator: what it printed, or what it complained of.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        let kubectl = kubernetes_binary("kubectl").expect("kubectl (make k8s builds it)");
        let out = Command::new(kubectl)
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .arg("--cache-dir")
            .arg(self.directory.path().join("kubectl-cache"))
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("kubectl runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if out.status.success() { Ok(text(&out.stdout)) } else { Err(text(&out.stderr)) }
    }
}

impl Drop for RealApiServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether a server is too busy, or cannot reach its etcd in time. One that is not there has no such excuse.
fn busy(e: &Refused) -> bool {
    matches!(e.status, 429 | 503 | 504) || e.status == 500 && e.message.contains("etcdserver")
}

/// The chart's CRDs.
fn crds() -> Vec<Value> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/calico/crds");
    let entries = std::fs::read_dir(directory).expect("the chart's CRDs");
    let mut files: Vec<PathBuf> = entries.map(|e| e.expect("an entry").path()).collect();
    files.sort();
    let yaml = |p: &&PathBuf| p.extension().is_some_and(|e| e == "yaml");
    let read = |p: &PathBuf| {
        let text = std::fs::read_to_string(p).expect("a CRD's file");
        serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", p.display()))
    };
    files.iter().filter(yaml).map(read).collect()
}
