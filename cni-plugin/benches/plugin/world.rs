//! A host as a network namespace with a datastore inside: a node, a pool, and pods where the datastore knows of them.

use std::path::PathBuf;

use libcalico_testing::{EtcdOptions, RealApiServer, RealEtcd};
use serde_json::{Value, json};

use super::call::Job;
use super::support::NetNs;

const NODE: &str = "node-a";
const POOL: &str = "10.65.0.0/16";
const V3: &str = "/apis/projectcalico.org/v3";
const PODS: &str = "/api/v1/namespaces/default/pods";

/// Which datastore, and whether it waits for its disk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Datastore {
    Etcd,
    EtcdDurable,
    Kubernetes,
}

impl Datastore {
    pub const ALL: [Self; 3] = [Self::Etcd, Self::EtcdDurable, Self::Kubernetes];

    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd, no fsync",
            Self::EtcdDurable => "etcd, fsync",
            Self::Kubernetes => "kubernetes, fsync",
        }
    }
}

enum Server {
    Etcd(RealEtcd),
    Kubernetes(Box<RealApiServer>, PathBuf),
}

pub struct World {
    datastore: Datastore,
    // Before the namespace, which goes last.
    server: Server,
    logs: tempfile::TempDir,
    path: String,
    _ns: NetNs,
}

impl World {
    /// None where this machine lacks the server; it has said so.
    pub fn start(datastore: Datastore) -> Option<Self> {
        let ns = NetNs::new();
        let durable = datastore != Datastore::Etcd;
        let options = EtcdOptions { durable, ..EtcdOptions::default() };
        let server = ns.enter(move || match datastore {
            Datastore::Kubernetes => kubernetes(options),
            _ => etcd(options),
        })?;
        let logs = tempfile::tempdir().unwrap();
        Some(Self { datastore, server, logs, path: ns.path(), _ns: ns })
    }

    pub fn name(&self) -> &'static str {
        self.datastore.name()
    }

    /// Path of the host's namespace.
    pub fn host(&self) -> &str {
        &self.path
    }

    /// Pods for one round, made where the datastore is Kubernetes.
    pub fn jobs(&self, program: &str, pods: &[NetNs], round: usize) -> Vec<Job> {
        let jobs: Vec<Job> = pods.iter().enumerate().map(|(i, ns)| self.job(program, ns, round, i)).collect();
        self.with_pods(&jobs, |server, pod| {
            let object = json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": { "name": pod, "labels": { "app": "bench" } },
                "spec": { "nodeName": NODE, "containers": [{ "name": "c", "image": "none" }] },
            });
            server.create(PODS, &object);
        });
        jobs
    }

    fn job(&self, program: &str, ns: &NetNs, round: usize, i: usize) -> Job {
        let log = self.logs.path().join(format!("{program}.log"));
        let mut conf = json!({
            "cniVersion": "0.3.1", "name": "bench", "type": "calico", "nodename": NODE, "mtu": 1500,
            // Upstream's plugin reads the file even where the name is given.
            "nodename_file_optional": true, "log_level": "info", "log_file_path": log, "ipam": { "type": "calico-ipam" },
        });
        let container = format!("{program}-{round}-{i}");
        let (mut args, mut pod) = (String::new(), None);
        match &self.server {
            Server::Etcd(etcd) => conf["etcd_endpoints"] = etcd.endpoint().into(),
            Server::Kubernetes(_, kubeconfig) => {
                conf["datastore_type"] = "kubernetes".into();
                conf["calico_api_group"] = "projectcalico.org/v3".into();
                conf["policy"] = json!({ "type": "k8s" });
                conf["kubernetes"] = json!({ "kubeconfig": kubeconfig });
                args = format!(
                    "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={container};\
                     K8S_POD_INFRA_CONTAINER_ID={container}"
                );
                pod = Some(container.clone());
            }
        }
        Job { stdin: conf.to_string(), container, netns: ns.path(), args, pod }
    }

    /// Removes the pods.
    pub fn forget(&self, jobs: &[Job]) {
        self.with_pods(jobs, |server, pod| server.delete(&format!("{PODS}/{pod}")));
    }

    fn with_pods(&self, jobs: &[Job], f: impl Fn(&RealApiServer, &str) + Sync) {
        if let Server::Kubernetes(server, _) = &self.server {
            // Its client opens a connection for each request, inside.
            let file = std::fs::File::open(&self.path).unwrap();
            std::thread::scope(|s| {
                s.spawn(|| {
                    nix::sched::setns(&file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                    for pod in jobs.iter().filter_map(|j| j.pod.as_deref()) {
                        f(server, pod);
                    }
                });
            });
        }
    }
}

fn etcd(options: EtcdOptions) -> Option<Server> {
    let etcd = RealEtcd::launch(options)?;
    let put = |kind: &str, plural: &str, name: &str, spec: &Value| {
        let object = object(kind, name, spec);
        let key = format!("/calico/resources/v3/projectcalico.org/{plural}/{name}");
        etcd.etcdctl(&["put", &key, &object.to_string()]);
    };
    put("Node", "nodes", NODE, &json!({}));
    put("IPPool", "ippools", "pool", &pool());
    put("ClusterInformation", "clusterinformations", "default", &json!({ "datastoreReady": true }));
    Some(Server::Etcd(etcd))
}

fn kubernetes(options: EtcdOptions) -> Option<Server> {
    let server = RealApiServer::launch(options, &[])?;
    server.create(
        "/api/v1/nodes",
        &json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": NODE }, "spec": {} }),
    );
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "default" } });
    server.create("/api/v1/namespaces/default/serviceaccounts", &account);
    server.create(&format!("{V3}/ippools"), &object("IPPool", "pool", &pool()));
    let ready = object("ClusterInformation", "default", &json!({ "datastoreReady": true }));
    server.create(&format!("{V3}/clusterinformations"), &ready);
    let kubeconfig = server.kubeconfig();
    Some(Server::Kubernetes(Box::new(server), kubeconfig))
}

fn pool() -> Value {
    json!({ "cidr": POOL, "blockSize": 26, "nodeSelector": "all()", "allowedUses": ["Workload", "Tunnel"] })
}

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": { "name": name, "uid": uid(name) }, "spec": spec })
}

/// Any, but always the same.
fn uid(name: &str) -> String {
    format!("00000000-0000-4000-8000-{:0>12}", name.len())
}
