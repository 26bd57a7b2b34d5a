//! Clusters for tests: a real etcd, a real Kubernetes API server, and the built command beside either.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use libcalico_api::Kind;
use libcalico_datastore::etcd::EtcdDatastore;
use libcalico_datastore::{Datastore, EtcdConfig, KubernetesConfig, KubernetesDatastore};
use libcalico_model::{Key, Value};
use libcalico_testing::{RealApiServer, RealEtcd, kubernetes_binary};
use serde_json::json;
use tokio::runtime::Runtime;

/// A datastore of one test, and the command that works on it.
pub trait Cluster {
    /// Environment that leads the command there.
    fn environment(&self) -> Vec<(String, String)>;
    /// A client.
    fn store(&self) -> Arc<dyn Datastore>;
    fn runtime(&self) -> &Runtime;
    /// True where Kubernetes' own objects stand for nodes, pods and profiles.
    fn kubernetes(&self) -> bool;

    /// Runs the command with arguments and standard input.
    fn calicoctl(&self, args: &[&str], input: &str) -> Output {
        run(args, input, &self.environment())
    }

    /// Runs the command and demands that it succeeds. Returns what it printed.
    fn ok(&self, args: &[&str], input: &str) -> String {
        let out = self.calicoctl(args, input);
        assert_eq!(out.code, 0, "calicoctl {args:?}: {}{}\n{input}", out.stdout, out.stderr);
        out.stdout
    }

    /// Runs the command and demands that it fails. Returns its message.
    fn refused(&self, args: &[&str], input: &str) -> String {
        let out = self.calicoctl(args, input);
        assert_eq!(out.code, 1, "calicoctl {args:?} should fail: {}{}\n{input}", out.stdout, out.stderr);
        out.stderr
    }

    /// Writes keys and values as they stand in a dump.
    fn load(&self, pairs: &[(String, String)]) {
        self.runtime().block_on(async {
            let store = self.store();
            for (key, value) in pairs {
                let parsed: Key = key.parse().unwrap();
                let value = Value::parse(&parsed, value.as_bytes()).unwrap();
                let written = store.apply(&parsed, value).await;
                written.unwrap_or_else(|e| panic!("{key}: {e}"));
            }
        });
    }

    /// Writes upstream's dump, as far as the datastore has a place for it: on Kubernetes, nodes, pods and profiles are
    /// Kubernetes' own objects.
    fn load_dump(&self) {
        self.load(&dump());
    }

    /// Makes what Kubernetes makes of a node: nothing on etcd, where calico-node does.
    fn node(&self, _name: &str) {}

    /// Makes a namespace, where there are such objects.
    fn namespace(&self, _name: &str) {}

    /// Makes a pod that runs on a node with an address. Its namespace's profile must be there.
    fn pod(&self, namespace: &str, name: &str, node: &str, labels: &[(&str, &str)], ip: &str) {
        let own: String = labels.iter().map(|(k, v)| format!(", {k}: {v}")).collect();
        let id = format!("{}-k8s-{}-eth0", node.replace('-', "--"), name.replace('-', "--"));
        let text = format!(
            "apiVersion: projectcalico.org/v3\nkind: WorkloadEndpoint\nmetadata: {{name: {id}, namespace: {namespace}, \
             labels: {{projectcalico.org/namespace: {namespace}, projectcalico.org/orchestrator: k8s{own}}}}}\n\
             spec: {{node: {node}, orchestrator: k8s, pod: {name}, endpoint: eth0, containerID: c, \
             interfaceName: cali{}, ipNetworks: [{ip}/32], profiles: [kns.{namespace}]}}\n",
            ip.replace('.', "x").chars().take(10).collect::<String>()
        );
        self.ok(&["apply", "-f", "-"], &text);
    }

    /// What stands at a key.
    fn read(&self, key: &str) -> serde_json::Value {
        let key: Key = key.parse().unwrap();
        let kv = self.runtime().block_on(async { self.store().get(&key).await });
        let kv = kv.unwrap_or_else(|e| panic!("{key}: {e}"));
        serde_json::from_slice(&kv.value.to_bytes()).unwrap()
    }
}

/// An etcd of one test. It ends with the value, also when the test fails.
pub struct Etcd {
    pub server: RealEtcd,
    runtime: Runtime,
}

impl Etcd {
    /// Starts etcd, or says why the test is skipped.
    pub fn start() -> Option<Self> {
        Some(Self { server: RealEtcd::start()?, runtime: new_runtime() })
    }
}

impl Cluster for Etcd {
    fn environment(&self) -> Vec<(String, String)> {
        vec![
            ("DATASTORE_TYPE".to_owned(), "etcdv3".to_owned()),
            ("ETCD_ENDPOINTS".to_owned(), self.server.endpoint()),
        ]
    }

    fn store(&self) -> Arc<dyn Datastore> {
        let config = EtcdConfig { endpoints: vec![self.server.endpoint()], ..EtcdConfig::default() };
        Arc::new(EtcdDatastore::new(config))
    }

    fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    fn kubernetes(&self) -> bool {
        false
    }
}

/// An API server without nodes and kubelets.
pub struct Kubernetes {
    pub server: RealApiServer,
    kubeconfig: String,
    runtime: Runtime,
}

impl Kubernetes {
    /// Starts a server, or says why the test is skipped.
    pub fn start() -> Option<Self> {
        let server = RealApiServer::start()?;
        let kubeconfig = server.kubeconfig().display().to_string();
        Some(Self { server, kubeconfig, runtime: new_runtime() })
    }

    /// Deletes what a test before left: every Calico object, pod, node and NetworkPolicy. Namespaces stay, because
    /// nothing here would end them.
    pub fn reset(&self) {
        let crd = |k: &&Kind| !matches!(k, Kind::Node | Kind::Profile | Kind::WorkloadEndpoint);
        let kinds = || Kind::ALL.iter().filter(crd);
        let calico = "/apis/projectcalico.org/v3";
        let records = ["ipamblocks", "blockaffinities", "ipamhandles"].into_iter();
        let cluster = kinds().filter(|k| !k.namespaced()).map(|k| k.plural());
        let mut paths: Vec<String> = cluster.chain(records).map(|p| format!("{calico}/{p}")).collect();
        paths.push("/api/v1/nodes".to_owned());
        paths.push("/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies".to_owned());
        paths.push("/apis/operator.tigera.io/v1/installations".to_owned());
        let namespaces = self.get("/api/v1/namespaces");
        for ns in namespaces["items"].as_array().unwrap() {
            let ns = ns["metadata"]["name"].as_str().unwrap();
            paths.push(format!("/api/v1/namespaces/{ns}/pods"));
            paths.push(format!("/apis/networking.k8s.io/v1/namespaces/{ns}/networkpolicies"));
            let own = kinds().filter(|k| k.namespaced());
            paths.extend(own.map(|k| format!("{calico}/namespaces/{ns}/{}", k.plural())));
        }
        for path in paths {
            self.server.delete(&path);
        }
    }

    pub fn kubeconfig(&self) -> &str {
        &self.kubeconfig
    }

    /// Creates an object of Kubernetes.
    pub fn create(&self, collection: &str, object: &serde_json::Value) {
        self.server.create(collection, object);
    }

    /// What the API server has at a path.
    pub fn get(&self, path: &str) -> serde_json::Value {
        self.server.get(path)
    }

    /// Runs kubectl as the administrator.
    pub fn kubectl(&self, args: &[&str], input: &str) -> Output {
        let program = kubernetes_binary("kubectl").expect("kubectl beside kube-apiserver");
        let mut command = Command::new(program);
        command.args(["--kubeconfig", &self.kubeconfig]).args(args);
        communicate(&mut command, input)
    }
}

impl Cluster for Kubernetes {
    fn environment(&self) -> Vec<(String, String)> {
        vec![
            ("DATASTORE_TYPE".to_owned(), "kubernetes".to_owned()),
            ("KUBECONFIG".to_owned(), self.kubeconfig.clone()),
        ]
    }

    fn store(&self) -> Arc<dyn Datastore> {
        let kubeconfig = Some(self.kubeconfig.clone());
        Arc::new(KubernetesDatastore::new(KubernetesConfig { kubeconfig, ..KubernetesConfig::default() }))
    }

    fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    fn kubernetes(&self) -> bool {
        true
    }

    fn load_dump(&self) {
        let mut kept = Vec::new();
        for (key, value) in dump() {
            match key.parse::<Key>().unwrap() {
                Key::Resource(r) if r.kind == Kind::Node => {
                    self.node(&r.name);
                    kept.push((key, value));
                }
                Key::Resource(r) if matches!(r.kind, Kind::Profile | Kind::WorkloadEndpoint) => {}
                Key::Resource(r) if !r.namespace.is_empty() => {
                    self.namespace(&r.namespace);
                    kept.push((key, value));
                }
                _ => kept.push((key, value)),
            }
        }
        self.load(&kept);
    }

    fn node(&self, name: &str) {
        let object = json!({ "metadata": { "name": name } });
        // It may be there.
        let _ = self.server.raw("POST", "/api/v1/nodes", Some(&object));
    }

    fn namespace(&self, name: &str) {
        let object = json!({ "metadata": { "name": name } });
        // It may be there.
        let _ = self.server.raw("POST", "/api/v1/namespaces", Some(&object));
    }

    fn pod(&self, namespace: &str, name: &str, node: &str, labels: &[(&str, &str)], ip: &str) {
        self.namespace(namespace);
        self.node(node);
        let labels: serde_json::Map<_, _> = labels.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
        let pods = format!("/api/v1/namespaces/{namespace}/pods");
        let object = json!({
            "metadata": { "name": name, "labels": labels },
            "spec": { "nodeName": node, "containers": [{ "name": "c", "image": "i" }] },
        });
        self.create(&pods, &object);
        let status = json!({ "status": { "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }] } });
        self.server.patch(&format!("{pods}/{name}/status"), &status);
    }
}

fn new_runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Runs the command with nothing in its environment but this.
pub fn run(args: &[&str], input: &str, environment: &[(String, String)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_calicoctl"));
    let path = std::env::var("PATH").unwrap_or_default();
    command.args(args).env_clear().env("PATH", path).envs(environment.iter().cloned());
    communicate(&mut command, input)
}

/// Runs a program with this standard input.
pub fn communicate(command: &mut Command, input: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that does not read its input closes it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let out = child.wait_with_output().unwrap();
    Output {
        code: out.status.code().unwrap(),
        stdout: String::from_utf8(out.stdout).unwrap(),
        stderr: String::from_utf8(out.stderr).unwrap(),
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
