//! A host with pods, an etcd and a whole Felix in network namespaces of their own.
//!
//! Everything is removed when the value goes, also after a failure. Whoever waits, waits a minute: how busy the machine
//! is decides nothing.
#![allow(dead_code)]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

static NEXT: AtomicU32 = AtomicU32::new(0);
/// Where resources are in etcd.
pub const BASE: &str = "/calico/resources/v3/projectcalico.org";
/// Longest wait for anything.
pub const WAIT: Duration = Duration::from_secs(60);

/// True where namespaces and etcd can be had. Without: a note on a person's machine, a failure in CI.
pub fn ready() -> bool {
    let tools = [
        "ip -V",
        "nft -v",
        "iptables-nft -V",
        "iptables-legacy -V",
        "ipset -V",
        "etcd --version",
        "etcdctl version",
    ]
    .iter()
    .all(|t| {
        let mut words = t.split(' ');
        let program = words.next().unwrap_or_default();
        Command::new(program).args(words).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    });
    if nix::unistd::geteuid().is_root() && tools {
        return true;
    }
    let needs = "needs root, ip, nft, iptables, ipset, etcd and etcdctl";
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{needs}");
    eprintln!("skipped: {needs}");
    false
}

fn sh(command: &str) {
    let out = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(out.status.success(), "{command}: {}", String::from_utf8_lossy(&out.stderr));
}

/// A host with pods `a` (10.65.0.2, behind `calia`), `b` (.3) and so on, etcd in the host's namespace.
pub struct World {
    pub ns: String,
    /// Namespaces of the pods.
    pub pods: Vec<String>,
    pub dir: tempfile::TempDir,
    pub etcd: Child,
    pub felix: Option<Child>,
    /// Of Felix.
    pub environment: Vec<(String, String)>,
    /// Left to the datastore instead of nftables for good.
    pub backend_by_datastore: bool,
    /// Pods have an IPv6 address too.
    ipv6: bool,
}

fn etcd(ns: &str, dir: &std::path::Path) -> Child {
    Command::new("ip")
        .args(["netns", "exec", ns, "etcd", "--log-level", "error", "--unsafe-no-fsync", "--data-dir"])
        .arg(dir.join("etcd"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

impl World {
    /// With pods of these names, of one letter each, that are allowed everything.
    pub fn new(names: &[&str], environment: &[(&str, &str)]) -> Self {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let ns = format!("fdp-f{}-{n}", std::process::id());
        // What a killed process of the same number left.
        for left in names.iter().map(|name| format!("{ns}{name}")).chain([ns.clone()]) {
            let _ = Command::new("ip").args(["netns", "del", &left]).stderr(Stdio::null()).status();
        }
        sh(&format!(
            "ip netns add {ns} && ip -n {ns} link set lo up && ip -n {ns} link add up0 type bridge && \
             ip -n {ns} addr add 172.31.0.1/24 dev up0 && ip -n {ns} link set up0 up && \
             ip -n {ns} route add default via 172.31.0.254"
        ));
        let mut pods = Vec::new();
        for (i, name) in names.iter().enumerate() {
            let (pod, addr, mac) = (format!("{ns}{name}"), format!("10.65.0.{}", i + 2), i + 2);
            sh(&format!(
                "ip netns add {pod} && ip -n {pod} link set lo up && \
                 ip link add cali{name} netns {ns} type veth peer name eth0 netns {pod} && \
                 ip -n {ns} link set cali{name} address ee:ee:ee:ee:ee:ee && ip -n {ns} link set cali{name} up && \
                 ip -n {pod} link set eth0 address 02:00:00:00:00:{mac:02x} && \
                 ip -n {pod} addr add {addr}/32 dev eth0 && ip -n {pod} link set eth0 up && \
                 ip -n {pod} route add 169.254.1.1 dev eth0 && ip -n {pod} route add default via 169.254.1.1 dev eth0"
            ));
            pods.push(pod);
        }
        let dir = tempfile::tempdir().unwrap();
        let etcd = etcd(&ns, dir.path());
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let me =
            Self { ns, pods, dir, etcd, felix: None, environment, backend_by_datastore: false, ipv6: false };
        me.eventually("etcd answers", || me.exec("etcdctl endpoint health").0);
        me.datastore_ready(true);
        me.put("tiers/default", r#"{"kind":"Tier","apiVersion":"projectcalico.org/v3","metadata":{"name":"default"},"spec":{"order":1000000,"defaultAction":"Deny"}}"#);
        me.put("nodes/n1", r#"{"kind":"Node","apiVersion":"projectcalico.org/v3","metadata":{"name":"n1"},"spec":{"bgp":{"ipv4Address":"172.31.0.1/24"}}}"#);
        me.put("profiles/open", r#"{"kind":"Profile","apiVersion":"projectcalico.org/v3","metadata":{"name":"open"},"spec":{"ingress":[{"action":"Allow"}],"egress":[{"action":"Allow"}]}}"#);
        names.iter().for_each(|name| me.pod(name));
        me
    }

    /// Gives the pods of [`World::new`] IPv6 too: `a` has `fd00:65::2`, and so on, and those that come later in etcd.
    pub fn add_ipv6(&mut self, names: &[&str]) {
        self.ipv6 = true;
        for (pod, name) in self.pods.iter().zip(names) {
            let (addr, gateway) = (name.as_bytes()[0] - b'a' + 2, "fe80::ecee:eeff:feee:eeee");
            sh(&format!(
                "ip -n {pod} addr add fd00:65::{addr:x}/128 dev eth0 nodad && \
                 ip -n {pod} -6 neigh replace {gateway} lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent && \
                 ip -n {pod} -6 route add default via {gateway} dev eth0"
            ));
        }
        names.iter().for_each(|name| self.pod(name));
    }

    pub fn pod(&self, name: &str) {
        let addr = name.as_bytes()[0] - b'a' + 2;
        let v6 = if self.ipv6 { format!(r#","fd00:65::{addr:x}/128""#) } else { String::new() };
        self.put(&format!("workloadendpoints/default/n1-k8s-{name}-eth0"), &format!(
            r#"{{"kind":"WorkloadEndpoint","apiVersion":"projectcalico.org/v3","metadata":{{"name":"n1-k8s-{name}-eth0","namespace":"default","labels":{{"app":"{name}"}}}},"spec":{{"orchestrator":"k8s","node":"n1","pod":"{name}","endpoint":"eth0","ipNetworks":["10.65.0.{addr}/32"{v6}],"profiles":["open"],"interfaceName":"cali{name}","mac":"02:00:00:00:00:{addr:02x}"}}}}"#
        ));
    }

    /// Locks the datastore, or opens it.
    pub fn datastore_ready(&self, ready: bool) {
        self.put("clusterinformations/default", &format!(
            r#"{{"kind":"ClusterInformation","apiVersion":"projectcalico.org/v3","metadata":{{"name":"default"}},"spec":{{"datastoreReady":{ready}}}}}"#
        ));
    }

    /// One of [`BACKENDS`].
    pub fn backend(&self, settings: &str) {
        self.put("felixconfigurations/default", &format!(
            r#"{{"kind":"FelixConfiguration","apiVersion":"projectcalico.org/v3","metadata":{{"name":"default"}},"spec":{{{settings}}}}}"#
        ));
    }

    /// A policy on a pod's ingress with these rules, as JSON.
    pub fn policy(&self, name: &str, rules: &str) {
        self.put(&format!("networkpolicies/default/{name}"), &format!(
            r#"{{"kind":"NetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{{"name":"{name}","namespace":"default"}},"spec":{{"tier":"default","selector":"app == \"{name}\"","types":["Ingress"],"ingress":[{rules}]}}}}"#
        ));
    }

    pub fn exec(&self, command: &str) -> (bool, String) {
        let out = Command::new("ip")
            .args(["netns", "exec", &self.ns, "sh", "-c", command])
            .env("ETCDCTL_API", "3")
            .env("ETCDCTL_DIAL_TIMEOUT", "30s")
            .env("ETCDCTL_COMMAND_TIMEOUT", "60s")
            .output()
            .unwrap();
        (out.status.success(), String::from_utf8_lossy(&out.stdout).into_owned())
    }

    pub fn put(&self, key: &str, json: &str) {
        let (ok, text) = self.exec(&format!("etcdctl put {BASE}/{key} '{json}'"));
        assert!(ok, "{text}");
    }

    pub fn start(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.path().join("log"));
        let mode = (!self.backend_by_datastore).then_some(("FELIX_NFTABLESMODE", "Enabled"));
        let child = Command::new("ip")
            .args(["netns", "exec", &self.ns, env!("CARGO_BIN_EXE_calico-felix")])
            .env("FELIX_FELIXHOSTNAME", "n1")
            .envs(mode)
            .env("FELIX_HEALTHENABLED", "true")
            .env("FELIX_ENDPOINTSTATUSPATHPREFIX", self.dir.path())
            .env("ETCD_ENDPOINTS", "http://127.0.0.1:2379")
            .env("DATASTORE_TYPE", "etcdv3")
            .env("CALICO_FELIX_SOCKET", self.dir.path().join("felix.sock"))
            .envs(self.environment.iter().cloned())
            .stderr(log.unwrap())
            .spawn();
        self.felix = Some(child.unwrap());
    }

    /// Ends Felix by a signal.
    pub fn kill(&mut self, signal: Signal) {
        let Some(mut child) = self.felix.take() else { return };
        // `ip netns exec` becomes the program: one process.
        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
        child.wait().unwrap();
    }

    pub fn http(&self, port: u16, path: &'static str) -> String {
        self.inside_host(move || {
            let Ok(mut s) = TcpStream::connect(("127.0.0.1", port)) else { return String::new() };
            let _ = s.set_read_timeout(Some(WAIT));
            let _ = write!(s, "GET {path} HTTP/1.0\r\n\r\n");
            let mut text = String::new();
            let _ = s.read_to_string(&mut text);
            text
        })
    }

    pub fn ready(&self) -> bool {
        self.http(9099, "/readiness").contains(" 200 ")
    }

    pub fn live(&self) -> bool {
        self.http(9099, "/liveness").contains(" 200 ")
    }

    /// An etcd over the data of the one before, which has ended.
    pub fn start_etcd(&mut self) {
        self.etcd = etcd(&self.ns, self.dir.path());
        self.eventually("etcd answers", || self.exec("etcdctl endpoint health").0);
    }

    pub fn inside_host<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> T {
        inside(&self.ns, f).join().unwrap()
    }

    /// Tries until it holds.
    #[track_caller]
    pub fn eventually(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let until = Instant::now() + WAIT;
        while !holds() {
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < until, "never: {what}\n{log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for child in self.felix.iter_mut().chain([&mut self.etcd]) {
            let _ = child.kill();
            let _ = child.wait();
        }
        for ns in self.pods.iter().chain([&self.ns]) {
            let _ = Command::new("ip").args(["netns", "del", ns]).status();
        }
    }
}

/// Runs a closure in a thread of a namespace.
pub fn inside<T: Send + 'static>(
    ns: &str,
    f: impl FnOnce() -> T + Send + 'static,
) -> std::thread::JoinHandle<T> {
    let file = std::fs::File::open(format!("/var/run/netns/{ns}")).unwrap();
    std::thread::spawn(move || {
        setns(&file, CloneFlags::CLONE_NEWNET).unwrap();
        f()
    })
}
