//! A machine for tests: a network namespace with an etcd of its own, pods as further namespaces. Everything is gone
//! when it is dropped.
#![allow(dead_code)] // each test binary uses its own part

pub mod driver;
pub mod kube;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use libcalico_api::{Kind, Resource};
use libcalico_datastore::etcd::EtcdDatastore;
use libcalico_datastore::{Datastore, EtcdConfig, Scope};
use libcalico_model::Key;
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// True where the test can run. In CI it must.
pub fn can_run() -> bool {
    let root = nix::unistd::geteuid().is_root();
    let etcd = Command::new("etcd").arg("--version").stdout(Stdio::null()).status().is_ok();
    let ip = Command::new("ip").arg("-V").stdout(Stdio::null()).status().is_ok();
    let missing =
        [(!root, "root"), (!etcd, "etcd (apt install etcd-server)"), (!ip, "ip (apt install iproute2)")];
    let missing: Vec<&str> = missing.iter().filter(|(m, _)| *m).map(|(_, w)| *w).collect();
    if missing.is_empty() {
        return true;
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "CI needs {missing:?}");
    eprintln!("skipped: needs {}", missing.join(", "));
    false
}

pub struct NetNs {
    pub name: String,
}

impl NetNs {
    pub fn new() -> Self {
        let n = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("cnit{}-{n}", std::process::id());
        // What a killed process of the same number left.
        let _ = Command::new("ip").args(["netns", "del", &name]).stderr(Stdio::null()).status();
        run("ip", &["netns", "add", &name]);
        run("ip", &["-n", &name, "link", "set", "lo", "up"]);
        Self { name }
    }

    pub fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// Runs code inside, on a thread of its own. Children that it starts are inside too.
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let file = File::open(self.path()).unwrap();
        std::thread::scope(|s| {
            s.spawn(move || {
                setns(&file, CloneFlags::CLONE_NEWNET).unwrap();
                f()
            })
            .join()
            .unwrap()
        })
    }

    /// Standard output of a command inside. On standard error `ip` complains of namespaces that come and go beside it.
    pub fn exec(&self, command: &str) -> String {
        let mut words = command.split_whitespace();
        let program = words.next().unwrap().to_owned();
        let args: Vec<String> = words.map(str::to_owned).collect();
        let out = self.enter(|| Command::new(program).args(args).output().unwrap());
        String::from_utf8(out.stdout).unwrap()
    }

    pub fn sysctl(&self, key: &str) -> String {
        let path = format!("/proc/sys/net/{key}");
        self.enter(|| std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}")))
            .trim()
            .to_owned()
    }
}

impl Drop for NetNs {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).stderr(Stdio::null()).status();
    }
}

pub fn run(program: &str, args: &[&str]) {
    let out = Command::new(program).args(args).output().unwrap();
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

pub struct Machine {
    pub ns: NetNs,
    etcd: Option<Child>,
    pub dir: tempfile::TempDir,
}

/// What a call of the plugin gave.
#[derive(Debug)]
pub struct Answer {
    pub ok: bool,
    pub text: String,
    pub stderr: String,
    pub took: Duration,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    pub fn code(&self) -> u64 {
        assert!(!self.ok, "{self:?}");
        self.json()["code"].as_u64().unwrap()
    }

    #[track_caller]
    pub fn success(self) -> Self {
        assert!(self.ok, "{self:?}");
        self
    }

    pub fn address(&self) -> String {
        self.json()["ips"][0]["address"].as_str().unwrap().to_owned()
    }
}

impl Machine {
    pub fn new() -> Self {
        let mut m = Self { ns: NetNs::new(), etcd: None, dir: tempfile::tempdir().unwrap() };
        m.start_etcd();
        m
    }

    pub fn start_etcd(&mut self) {
        let data = self.dir.path().join("etcd");
        let url = "http://127.0.0.1:2379";
        let fsync = if std::env::var_os("FSYNC").is_some() { None } else { Some("--unsafe-no-fsync") };
        let child = self.ns.enter(|| {
            Command::new("etcd")
                .arg("--data-dir")
                .arg(data)
                .args(["--listen-client-urls", url, "--advertise-client-urls", url])
                .args(fsync)
                .args(["--listen-peer-urls", "http://127.0.0.1:2380"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        });
        self.etcd = Some(child);
        let deadline = Instant::now() + Duration::from_secs(120);
        while !self.ns.enter(|| std::net::TcpStream::connect("127.0.0.1:2379").is_ok()) {
            assert!(Instant::now() < deadline, "etcd did not start");
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    pub fn stop_etcd(&mut self) {
        if let Some(mut c) = self.etcd.take() {
            let _ = c.kill();
            let _ = c.wait();
        }
    }

    /// Runs calls on the datastore.
    pub fn store<T: Send, F>(&self, f: impl FnOnce(std::sync::Arc<EtcdDatastore>) -> F + Send) -> T
    where
        F: Future<Output = T>,
    {
        self.ns.enter(|| {
            let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            rt.block_on(async {
                let config =
                    EtcdConfig { endpoints: vec!["http://127.0.0.1:2379".to_owned()], ..Default::default() };
                f(std::sync::Arc::new(EtcdDatastore::new(config))).await
            })
        })
    }

    pub fn put(&self, kind: Kind, name: &str, spec: &Value) {
        let object = json!({"metadata": {"name": name}, "spec": spec});
        let resource = Resource::from_json(kind, object.to_string().as_bytes()).unwrap();
        let key = Key::resource(kind, "", name);
        self.store(|s| async move { s.apply(&key, resource.into()).await.unwrap() });
    }

    /// A node and pools, each with one block where `size` is the pool's.
    pub fn seed(&self, pools: &[(&str, i64)]) {
        self.put(Kind::Node, "node-a", &json!({}));
        for (i, (cidr, size)) in pools.iter().enumerate() {
            self.put(
                Kind::IPPool,
                &format!("pool-{i}"),
                &json!({"cidr": cidr, "blockSize": size, "nodeSelector": "all()", "allowedUses": ["Workload", "Tunnel"]}),
            );
        }
    }

    /// The network configuration that the facts were captured with.
    pub fn conf(&self, version: &str, change: impl FnOnce(&mut Value)) -> Value {
        let mut conf = json!({
            "cniVersion": version,
            "name": "peernet",
            "type": "calico",
            "etcd_endpoints": "http://127.0.0.1:2379",
            "nodename": "node-a",
            "log_level": "debug",
            "log_file_path": self.dir.path().join("cni.log"),
            "mtu": 1500,
            "ipam": {"type": "calico-ipam"},
        });
        change(&mut conf);
        conf
    }

    pub fn spawn(&self, plugin: &str, conf: &Value, env: &[(&str, &str)]) -> Child {
        let program = match plugin {
            "calico" => env!("CARGO_BIN_EXE_calico"),
            _ => env!("CARGO_BIN_EXE_calico-ipam"),
        };
        self.spawn_program(Path::new(program), conf, env)
    }

    fn spawn_program(&self, program: &Path, conf: &Value, env: &[(&str, &str)]) -> Child {
        spawn_in(&self.ns, program, conf, env)
    }

    pub fn call_with(&self, plugin: &str, conf: &Value, env: &[(&str, &str)]) -> Answer {
        let started = Instant::now();
        answer(self.spawn(plugin, conf, env), started)
    }

    /// Calls a program of someone else.
    pub fn call_program(&self, program: &Path, conf: &Value, env: &[(&str, &str)]) -> Answer {
        let started = Instant::now();
        answer(self.spawn_program(program, conf, env), started)
    }

    /// Calls `calico` for a container.
    pub fn call(&self, command: &str, conf: &Value, id: &str, pod: Option<&NetNs>) -> Answer {
        let path = pod.map(NetNs::path).unwrap_or_default();
        self.call_with("calico", conf, &environment(command, id, &path))
    }

    /// Everything in etcd, as text.
    pub fn dump(&self) -> BTreeMap<String, Value> {
        self.store(|s| async move {
            let mut all = BTreeMap::new();
            let scopes = [
                Scope::kind(Kind::WorkloadEndpoint),
                Scope::kind(Kind::Profile),
                Scope::Blocks,
                Scope::BlockAffinities { host: None },
                Scope::Handles,
            ];
            for scope in scopes {
                for kv in s.list(&scope).await.unwrap().items {
                    all.insert(kv.key.path(), serde_json::from_slice(&kv.value.to_bytes()).unwrap());
                }
            }
            all
        })
    }

    /// Addresses that are allocated, with their handles.
    pub fn allocated(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for (path, b) in self.dump() {
            if !path.contains("/assignment/") {
                continue;
            }
            for (o, slot) in b["allocations"].as_array().unwrap().iter().enumerate() {
                if let Some(i) = slot.as_u64() {
                    let handle = b["attributes"][i as usize]["handle_id"].as_str().unwrap_or_default();
                    let before =
                        all.insert(format!("{}+{o}", b["cidr"].as_str().unwrap()), handle.to_owned());
                    assert_eq!(before, None);
                }
            }
        }
        all
    }

    /// Names of the host's interfaces that begin with `cali`.
    pub fn interfaces(&self) -> Vec<String> {
        let links: Value = serde_json::from_str(&self.ns.exec("ip -j link")).unwrap();
        let names = links.as_array().unwrap().iter().map(|l| l["ifname"].as_str().unwrap().to_owned());
        names.filter(|n| n.starts_with("cali")).collect()
    }

    /// Asserts that nothing of any pod is left.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert_eq!(self.allocated(), BTreeMap::new());
        assert_eq!(self.interfaces(), Vec::<String>::new());
        let left: Vec<String> = self
            .dump()
            .into_keys()
            .filter(|k| k.contains("/handle/") || k.contains("workloadendpoints"))
            .collect();
        assert_eq!(left, Vec::<String>::new());
        assert_eq!(self.ns.exec("ip route").trim(), "");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.stop_etcd();
    }
}

/// Starts a plugin in a namespace.
pub fn spawn_in(ns: &NetNs, program: &Path, conf: &Value, env: &[(&str, &str)]) -> Child {
    let stdin = conf.to_string();
    ns.enter(|| {
        let mut child = Command::new(program)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A plugin that ends before it has read everything closes the pipe.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        child
    })
}

pub fn answer(child: Child, started: Instant) -> Answer {
    let out = child.wait_with_output().unwrap();
    Answer {
        ok: out.status.success(),
        text: String::from_utf8(out.stdout).unwrap(),
        stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
        took: started.elapsed(),
    }
}

pub fn environment<'a>(command: &'a str, id: &'a str, netns: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", id),
        ("CNI_NETNS", netns),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/opt/cni/bin"),
    ]
}
