//! A machine whose datastore is a real API server: a network namespace with the server inside, pods as further
//! namespaces. Everything is gone when it is dropped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Instant;

use libcalico_testing::{EtcdOptions, Need, RealApiServer, can_run, kubernetes_binary};
use serde_json::{Value, json};

use super::{Answer, NetNs, answer, spawn_in};

pub const API: &str = "/apis/projectcalico.org/v3";

pub struct KubeMachine {
    pub server: Option<RealApiServer>,
    pub ns: NetNs,
    pub dir: tempfile::TempDir,
    kubeconfig: PathBuf,
}

impl KubeMachine {
    /// A cluster of the node `kn1` with one pool of each family.
    pub fn new() -> Option<Self> {
        if !can_run(&[Need::Root, Need::Program("ip", "iproute2"), Need::ApiServer]) {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let policy = dir.path().join("audit.json");
        let rules = json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
            "rules": [{"level": "Metadata"}]});
        std::fs::write(&policy, rules.to_string()).unwrap();
        let arguments = [
            format!("--audit-policy-file={}", policy.display()),
            format!("--audit-log-path={}", dir.path().join("audit.log").display()),
            "--audit-log-mode=blocking".to_owned(),
        ];
        let ns = NetNs::new();
        let launch = || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            RealApiServer::launch(EtcdOptions::default(), &arguments)
        };
        let server = ns.enter(launch)?;
        let kubeconfig = server.kubeconfig();
        let m = Self { server: Some(server), ns, dir, kubeconfig };
        m.create("/api/v1/nodes", &json!({"metadata": {"name": "kn1"}, "spec": {"podCIDRs": ["10.77.1.0/24", "fd77:1::/64"], "podCIDR": "10.77.1.0/24"}}));
        m.pool("pool4", "10.65.0.0/16", 26);
        m.pool("pool6", "fd00:65::/48", 122);
        Some(m)
    }

    pub fn server(&self) -> &RealApiServer {
        self.server.as_ref().unwrap()
    }

    pub fn create(&self, collection: &str, object: &Value) -> Value {
        self.ns.enter(|| self.server().create(collection, object))
    }

    pub fn get(&self, path: &str) -> Value {
        self.ns.enter(|| self.server().get(path))
    }

    pub fn patch(&self, path: &str, patch: &Value) -> Value {
        self.ns.enter(|| self.server().patch(path, patch))
    }

    pub fn delete(&self, path: &str) {
        self.ns.enter(|| self.server().delete(path));
    }

    pub fn pool(&self, name: &str, cidr: &str, block: u8) {
        let spec = json!({"cidr": cidr, "blockSize": block, "nodeSelector": "all()", "allowedUses": ["Workload", "Tunnel"]});
        self.create(
            &format!("{API}/ippools"),
            &json!({"apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": {"name": name}, "spec": spec}),
        );
    }

    /// A pod on the node, with annotations.
    pub fn pod(&self, name: &str, annotations: &Value) -> Value {
        self.create(
            "/api/v1/namespaces/default/pods",
            &json!({"metadata": {"name": name, "labels": {"app": "web"}, "annotations": annotations},
                "spec": {"nodeName": "kn1", "serviceAccountName": "clerk", "containers": [{"name": "c", "image": "i",
                    "ports": [{"name": "http", "containerPort": 80}]}]}}),
        )
    }

    pub fn annotations(&self, pod: &str) -> BTreeMap<String, String> {
        let pod = self.get(&format!("/api/v1/namespaces/default/pods/{pod}"));
        serde_json::from_value(pod["metadata"]["annotations"].clone()).unwrap_or_default()
    }

    /// The configuration that clusters have.
    pub fn conf(&self, version: &str, change: impl FnOnce(&mut Value)) -> Value {
        let mut conf = json!({
            "cniVersion": version,
            "name": "k8s-pod-network",
            "type": "calico",
            "log_level": "debug",
            "log_file_path": self.dir.path().join("cni.log"),
            "datastore_type": "kubernetes",
            "nodename": "kn1",
            "nodename_file_optional": true,
            "mtu": 0,
            "ipam": {"type": "calico-ipam"},
            "policy": {"type": "k8s"},
            "kubernetes": {"kubeconfig": self.kubeconfig},
        });
        change(&mut conf);
        conf
    }

    pub fn spawn(&self, command: &str, conf: &Value, id: &str, pod: Option<(&str, &NetNs)>) -> Child {
        let netns = pod.map(|(_, ns)| ns.path()).unwrap_or_default();
        self.spawn_at(command, conf, id, pod.map(|(name, _)| name), &netns)
    }

    fn spawn_at(&self, command: &str, conf: &Value, id: &str, pod: Option<&str>, netns: &str) -> Child {
        let args = pod.map(|p| {
            format!(
                "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={p};K8S_POD_INFRA_CONTAINER_ID={id}"
            )
        });
        let args = args.unwrap_or_default();
        let path = cni_path();
        let env = [
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", id),
            ("CNI_NETNS", netns),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", &path),
            ("CNI_ARGS", &args),
        ];
        spawn_in(&self.ns, Path::new(env!("CARGO_BIN_EXE_calico")), conf, &env)
    }

    pub fn call(&self, command: &str, conf: &Value, id: &str, pod: Option<(&str, &NetNs)>) -> Answer {
        let started = Instant::now();
        answer(self.spawn(command, conf, id, pod), started)
    }

    /// A call whose network namespace is gone.
    pub fn call_without_ns(&self, command: &str, conf: &Value, id: &str, pod: &str) -> Answer {
        let started = Instant::now();
        answer(self.spawn_at(command, conf, id, Some(pod), ""), started)
    }

    /// Addresses that someone has: address and attribute.
    pub fn allocated(&self) -> BTreeMap<String, Value> {
        let mut all = BTreeMap::new();
        for b in self.get(&format!("{API}/ipamblocks"))["items"].as_array().unwrap() {
            for (o, slot) in b["spec"]["allocations"].as_array().unwrap().iter().enumerate() {
                if let Some(i) = slot.as_u64() {
                    let key = format!("{}+{o}", b["spec"]["cidr"].as_str().unwrap());
                    all.insert(key, b["spec"]["attributes"][i as usize].clone());
                }
            }
        }
        all
    }

    pub fn handles(&self) -> Vec<String> {
        let list = self.get(&format!("{API}/ipamhandles"));
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|h| h["spec"]["handleID"].as_str().unwrap().to_owned())
            .collect()
    }

    pub fn interfaces(&self) -> Vec<String> {
        let links: Value = serde_json::from_str(&self.ns.exec("ip -j link")).unwrap();
        let names = links.as_array().unwrap().iter().map(|l| l["ifname"].as_str().unwrap().to_owned());
        names.filter(|n| n.starts_with("cali")).collect()
    }

    /// Asserts that nothing of any pod is left.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert_eq!(self.interfaces(), Vec::<String>::new());
        assert_eq!(self.ns.exec("ip route").trim(), "");
        assert_eq!(self.allocated(), BTreeMap::new());
        assert_eq!(self.handles(), Vec::<String>::new());
    }

    /// Requests that the API server has answered so far: verb and path.
    pub fn requests(&self) -> Vec<(String, String)> {
        let log = std::fs::read_to_string(self.dir.path().join("audit.log")).unwrap_or_default();
        let mut all = Vec::new();
        for line in log.lines() {
            let Ok(event) = serde_json::from_str::<Value>(line) else { continue };
            // The server's own and the test's requests have other names.
            let agent = event["userAgent"].as_str().unwrap_or_default();
            if event["user"]["username"] == "admin" && !agent.starts_with("kube-apiserver") {
                all.push((
                    event["verb"].to_string(),
                    event["requestURI"].as_str().unwrap_or_default().to_owned(),
                ));
            }
        }
        all
    }
}

/// Where the CNI project's own plugins are.
pub fn cni_path() -> String {
    let cache = kubernetes_binary("kube-apiserver")
        .and_then(|p| Some(p.parent()?.parent()?.join("sysroot/usr/lib/cni").display().to_string()));
    ["/opt/cni/bin".to_owned(), "/usr/lib/cni".to_owned()]
        .into_iter()
        .chain(cache)
        .collect::<Vec<_>>()
        .join(":")
}

/// True where one of the CNI project's own plugins can be run. In CI it must.
pub fn have_plugin(name: &str) -> bool {
    let found = cni_path().split(':').any(|d| Path::new(d).join(name).is_file());
    assert!(
        found || std::env::var("CI").as_deref() != Ok("true"),
        "CI needs {name} (apt install containernetworking-plugins)"
    );
    if !found {
        eprintln!("skipped: needs {name} (apt install containernetworking-plugins)");
    }
    found
}
