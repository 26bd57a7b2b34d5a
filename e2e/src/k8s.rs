//! A real Kubernetes cluster with our Calico as its network, for tests: a handle on `e2e/k8s/cluster`.
//!
//! In: the folder of built binaries. Out: a [`Cluster`] to run kubectl and commands in machines with, and what Calico
//! left on a machine. What always holds: a cluster that the handle brought up is taken down with it; one that stood
//! already is used as it is and stays. Left out: how the cluster is made, which the scripts in `e2e/k8s` say.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::error::Doing as _;
use crate::{LabError, Result};

/// Programs of Kubernetes without which no cluster stands.
const NEEDED: [&str; 6] =
    ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl", "coredns"];

/// A cluster that stands.
#[derive(Debug)]
pub struct Cluster {
    script: PathBuf,
    /// Taken down with the handle.
    owned: bool,
}

/// A pod as the API server shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub name: String,
    pub node: String,
    pub address: String,
}

/// The harness's cache: where the programs and images are, and the cluster's state while one stands.
pub fn cache() -> PathBuf {
    let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let cache = || var("XDG_CACHE_HOME").unwrap_or_else(|| var("HOME").unwrap_or_default().join(".cache"));
    var("CALICO_K8S_DIR").unwrap_or_else(|| cache().join("calico-k8s"))
}

/// What is missing for a cluster on this machine; none where nothing is.
pub fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("root".to_owned());
    }
    let bin = cache().join("bin");
    let program = NEEDED.iter().map(|p| bin.join(p)).find(|p| !p.is_file());
    let images = cache().join("images/agnhost.ref");
    let file = program.or_else(|| (!images.is_file()).then_some(images))?;
    Some(format!("{} (make k8s builds it)", file.display()))
}

impl Cluster {
    /// Uses the cluster that stands, or brings one up with the programs in `bin_dir`. In CI (`CI=true`) it is always a
    /// new one: only then the programs under test are what runs.
    pub fn up(bin_dir: &Path) -> Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("k8s/cluster");
        let stands = cache().join("run/etcd.pid").is_file();
        let mut cluster = Self { script, owned: false };
        let reuse = std::env::var("CI").as_deref() != Ok("true");
        if stands && reuse && cluster.kubectl(&["get", "nodes"]).is_ok() {
            return Ok(cluster);
        }
        if stands {
            cluster.run(&["down"], "")?;
        }
        cluster.owned = std::env::var_os("LAB_KEEP").is_none();
        let mut command = Command::new(&cluster.script);
        command.arg("up").env("BIN_DIR", bin_dir);
        cluster.finish(command, "", "cluster up")?;
        Ok(cluster)
    }

    /// Names of the machines.
    pub fn nodes(&self) -> Result<Vec<String>> {
        let text = self.kubectl(&["get", "nodes", "-o", "name"])?;
        Ok(text.lines().filter_map(|l| l.strip_prefix("node/")).map(str::to_owned).collect())
    }

    /// kubectl as administrator; what it printed.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.run(&[&["kubectl"], arguments].concat(), "")
    }

    /// Applies manifests.
    pub fn apply(&self, yaml: &str) -> Result<String> {
        self.run(&["kubectl", "apply", "-f", "-"], yaml)
    }

    /// calicoctl on the Kubernetes datastore.
    pub fn calicoctl(&self, arguments: &[&str]) -> Result<String> {
        self.run(&[&["calicoctl"], arguments].concat(), "")
    }

    /// A command in a machine, or in the control plane's namespace (`kcp`).
    pub fn on(&self, node: &str, command: &[&str]) -> Result<String> {
        self.run(&[&["on", node], command].concat(), "")
    }

    /// `stop`, `start` or `restart` of a machine's service, by SIGKILL.
    pub fn service(&self, verb: &str, node: &str, name: &str) -> Result<()> {
        self.run(&[verb, node, name], "").map(drop)
    }

    /// Takes calico-node from a machine, and gives it back once `meanwhile` is done. Where it runs as a pod, the pod is
    /// deleted and comes back by itself.
    pub fn without_calico_node(&self, node: &str, meanwhile: impl FnOnce()) -> Result<()> {
        let mode = fs::read_to_string(cache().join("run/mode")).unwrap_or_default();
        if mode.trim() == "pods" {
            let on_node = format!("spec.nodeName={node}");
            let pods = [
                "-n",
                "kube-system",
                "delete",
                "pod",
                "-l",
                "k8s-app=calico-node",
                "--field-selector",
                &on_node,
            ];
            self.kubectl(&pods)?;
            meanwhile();
            return Ok(());
        }
        self.service("stop", node, "calico-node")?;
        meanwhile();
        self.service("start", node, "calico-node")
    }

    /// kubectl that goes on running, such as a port forwarding. The caller ends it.
    pub fn kubectl_background(&self, arguments: &[&str]) -> Result<Child> {
        let mut command = Command::new(&self.script);
        // The script becomes kubectl: ending the child ends it.
        command
            .arg("kubectl")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.spawn().doing(|| format!("starting kubectl {}", arguments.join(" ")))
    }

    /// A command in a pod's only container.
    pub fn exec(&self, namespace: &str, pod: &str, command: &[&str]) -> Result<String> {
        self.kubectl(&[&["-n", namespace, "exec", pod, "--"], command].concat())
    }

    /// Pods of a namespace with a label.
    pub fn pods(&self, namespace: &str, selector: &str) -> Result<Vec<Seen>> {
        let text = self.kubectl(&["-n", namespace, "get", "pods", "-l", selector, "-o", "json"])?;
        let list: Value = serde_json::from_str(&text)
            .map_err(|source| LabError::State { path: "kubectl get pods".into(), source })?;
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(items
            .iter()
            .map(|i| Seen {
                name: text(&i["metadata"]["name"]),
                node: text(&i["spec"]["nodeName"]),
                address: text(&i["status"]["podIP"]),
            })
            .collect())
    }

    /// What pods can leave on a machine: interfaces, routes, network namespaces, policy. Sorted.
    pub fn traces(&self, node: &str) -> Result<BTreeSet<String>> {
        let mut traces = BTreeSet::new();
        for line in self.on(node, &["ip", "-o", "link"])?.lines() {
            let name = line.split_whitespace().nth(1).unwrap_or_default();
            if name.starts_with("cali") {
                traces.insert(format!("interface {}", name.trim_end_matches(':')));
            }
        }
        for line in self.on(node, &["ip", "route"])?.lines().filter(|l| l.contains("dev cali")) {
            traces.insert(format!("route {}", line.trim()));
        }
        for name in self.on(node, &["ls", "/run/netns"])?.split_whitespace() {
            traces.insert(format!("network namespace {name}"));
        }
        let chains = self.on(node, &["nft", "list", "chains"])?;
        let workload = |l: &&str| l.contains("chain cali-tw-") || l.contains("chain cali-fw-");
        traces.extend(chains.lines().filter(workload).map(|l| l.trim().to_owned()));
        Ok(traces)
    }

    /// The reference under which the nodes have an image.
    pub fn image(&self, name: &str) -> Result<String> {
        let file = cache().join(format!("images/{name}.ref"));
        let text = fs::read_to_string(&file).doing(|| format!("reading {}", file.display()))?;
        Ok(text.trim().to_owned())
    }

    fn run(&self, arguments: &[&str], stdin: &str) -> Result<String> {
        let mut command = Command::new(&self.script);
        command.args(arguments);
        self.finish(command, stdin, &arguments.join(" "))
    }

    fn finish(&self, mut command: Command, stdin: &str, what: &str) -> Result<String> {
        let input = if stdin.is_empty() { Stdio::null() } else { Stdio::piped() };
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().doing(|| format!("running {}", self.script.display()))?;
        if let Some(mut pipe) = child.stdin.take() {
            pipe.write_all(stdin.as_bytes()).doing(|| format!("writing to {what}"))?;
        }
        let output = child.wait_with_output().doing(|| format!("waiting for {what}"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        Err(LabError::Command {
            command: what.to_owned(),
            place: "the Kubernetes cluster".to_owned(),
            code: output.status.code().unwrap_or(-1),
            stderr: format!("{}{}", text(&output.stderr), text(&output.stdout)).trim().to_owned(),
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.owned
            && let Err(error) = self.run(&["down"], "")
        {
            eprintln!("the cluster could not be taken down: {error}");
        }
    }
}

/// Asks until the answer is well; the error is what was seen last.
pub fn eventually(
    what: &str,
    limit: Duration,
    mut ask: impl FnMut() -> std::result::Result<(), String>,
) -> Result<Duration> {
    let start = Instant::now();
    loop {
        let Err(seen) = ask() else { return Ok(start.elapsed()) };
        if start.elapsed() > limit {
            return Err(LabError::Timeout { what: what.to_owned(), seconds: limit.as_secs(), seen });
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
