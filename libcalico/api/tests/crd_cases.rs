//! Objects that are taken and objects that are refused: by our own validation, and by a real API server with the CRDs
//! of charts/calico/crds. Both must say the same, so that `kubectl` and `calicoctl` take the same files.
//!
//! A case (data/crd-cases.jsonl) without `says` must be taken; one with it must be refused by the API server with that
//! text, at the field `at` where one is named. The API server is real, over a real etcd, on loopback.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use libcalico_api::{Kind, Resource};
use serde_json::{Value, json};

/// Single addresses are networks to our reader; the API server's format `cidr`, upstream's too, wants a length.
const SERVER_ALONE: &[&str] = &[r#"{"reservedCIDRs":["10.0.0.1"]}"#];

fn cases() -> Vec<Value> {
    include_str!("data/crd-cases.jsonl").lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

/// The object of a case.
fn object(case: &Value) -> Value {
    let kind = case["kind"].as_str().unwrap();
    let version = match kind {
        "ClusterNetworkPolicy" => libcalico_api::cluster_network_policy::API_VERSION,
        _ => libcalico_api::API_VERSION,
    };
    let name = case.get("name").and_then(Value::as_str).unwrap_or("x");
    let mut o = json!({ "apiVersion": version, "kind": kind, "metadata": { "name": name } });
    for (from, to) in [("namespace", "/metadata"), ("spec", "")] {
        if let (Some(value), Some(at)) = (case.get(from), o.pointer_mut(to)) {
            at[from] = value.clone();
        }
    }
    o
}

#[test]
fn our_validation_takes_and_refuses_what_the_api_server_does() {
    let mut wrong = Vec::new();
    for case in cases() {
        let Some(kind) = Kind::ALL.iter().copied().find(|k| case["kind"] == k.name()) else { continue };
        let found = match Resource::from_value_strict(kind, &object(&case)) {
            Err(bad) => bad.iter().map(ToString::to_string).collect(),
            Ok(mut r) => {
                r.set_defaults();
                r.validate().err().unwrap_or_default().iter().map(ToString::to_string).collect::<Vec<_>>()
            }
        };
        let alone = case.get("spec").is_some_and(|s| SERVER_ALONE.contains(&s.to_string().as_str()));
        if found.is_empty() == case.get("says").is_some() && !alone {
            wrong.push(format!("{case}: ours says {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Server {
    kubectl: PathBuf,
    port: u16,
    dir: tempfile::TempDir,
    _processes: [Running; 2],
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Kubernetes' own programs, as `make k8s` leaves them; `None` where they are not there.
fn programs() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or(home);
    let dir = std::env::var_os("CALICO_K8S_BIN").map(PathBuf::from);
    let dir = dir.or_else(|| Some(cache?.join("calico-k8s/bin")))?;
    if dir.join("kube-apiserver").is_file() && dir.join("kubectl").is_file() {
        return Some(dir);
    }
    let required = std::env::var("CALICO_K8S_REQUIRED").as_deref() == Ok("1");
    assert!(!required, "CALICO_K8S_REQUIRED=1 and no kube-apiserver and kubectl in {}", dir.display());
    eprintln!("skipped: no kube-apiserver and kubectl in {}", dir.display());
    None
}

fn spawn(program: &Path, args: &[String], log: &Path) -> Running {
    let log = std::fs::File::create(log).unwrap();
    let child = Command::new(program).args(args).stdout(Stdio::null()).stderr(log).spawn();
    Running(child.unwrap_or_else(|e| panic!("{}: {e}", program.display())))
}

impl Server {
    fn start(programs: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("tokens"), "a-token-for-tests,admin,1,system:masters\n").unwrap();
        let key = Command::new("openssl")
            .args(["genpkey", "-quiet", "-algorithm", "RSA", "-out"])
            .arg(at("key"))
            .status();
        assert!(key.is_ok_and(|s| s.success()), "openssl makes the key of service accounts");
        let (client, peer, port) = (free_port(), free_port(), free_port());
        let key = at("key").display().to_string();
        let etcd = [
            ("data-dir", at("etcd").display().to_string()),
            ("listen-client-urls", format!("http://127.0.0.1:{client}")),
            ("advertise-client-urls", format!("http://127.0.0.1:{client}")),
            ("listen-peer-urls", format!("http://127.0.0.1:{peer}")),
            ("initial-advertise-peer-urls", format!("http://127.0.0.1:{peer}")),
            ("initial-cluster", format!("default=http://127.0.0.1:{peer}")),
            ("unsafe-no-fsync", "true".to_owned()),
        ];
        let api = [
            ("etcd-servers", format!("http://127.0.0.1:{client}")),
            ("bind-address", "127.0.0.1".to_owned()),
            ("secure-port", port.to_string()),
            ("endpoint-reconciler-type", "none".to_owned()),
            ("advertise-address", "192.0.2.1".to_owned()),
            ("cert-dir", dir.path().display().to_string()),
            ("token-auth-file", at("tokens").display().to_string()),
            ("service-account-issuer", "https://kubernetes.default.svc".to_owned()),
            ("service-account-key-file", key.clone()),
            ("service-account-signing-key-file", key),
            ("service-cluster-ip-range", "10.96.0.0/16".to_owned()),
            ("disable-admission-plugins", "ServiceAccount".to_owned()),
        ];
        let flags =
            |list: &[(&str, String)]| list.iter().map(|(k, v)| format!("--{k}={v}")).collect::<Vec<_>>();
        let processes = [
            spawn(Path::new("etcd"), &flags(&etcd), &at("etcd.log")),
            spawn(&programs.join("kube-apiserver"), &flags(&api), &at("api.log")),
        ];
        let server = Self { kubectl: programs.join("kubectl"), port, dir, _processes: processes };
        let deadline = Instant::now() + Duration::from_secs(120);
        while server.kubectl(&["get", "--raw", "/readyz"]).is_err() {
            assert!(Instant::now() < deadline, "the API server does not become ready");
            std::thread::sleep(Duration::from_millis(300));
        }
        server
    }

    /// Output, or what it complained of.
    fn kubectl(&self, args: &[&str]) -> Result<String, String> {
        let out = Command::new(&self.kubectl)
            .args(["--insecure-skip-tls-verify", "--token", "a-token-for-tests", "--kubeconfig", "/dev/null"])
            .args(["--server", &format!("https://127.0.0.1:{}", self.port)])
            .arg("--cache-dir")
            .arg(self.dir.path().join("cache"))
            .args(args)
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if out.status.success() { Ok(text(&out.stdout)) } else { Err(text(&out.stderr)) }
    }

    fn write(&self, name: &str, verb: &[&str], object: &Value) -> Result<String, String> {
        let path = self.dir.path().join(format!("{name}.json"));
        std::fs::write(&path, object.to_string()).unwrap();
        self.kubectl(&[verb, &["-f", &path.display().to_string()]].concat())
    }
}

#[test]
fn the_api_server_takes_and_refuses_the_same_objects_and_says_why() {
    let Some(programs) = programs() else { return };
    let server = Server::start(&programs);
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/calico/crds");
    server.kubectl(&["apply", "--server-side", "-f", folder]).unwrap();
    server.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "-f", folder]).unwrap();

    let mut wrong = Vec::new();
    for (i, case) in cases().into_iter().enumerate() {
        let done = server.write(&format!("case{i}"), &["create", "--dry-run=server"], &object(&case));
        let right = match (&done, case.get("says").and_then(Value::as_str)) {
            (Ok(_), None) => true,
            (Err(e), Some(says)) => {
                e.contains(says) && case.get("at").and_then(Value::as_str).is_none_or(|at| e.contains(at))
            }
            _ => false,
        };
        if !right {
            wrong.push(format!("{case}: {done:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    // What may not change, and what is filled in.
    let pool = |cidr: &str, size: u8| {
        object(&json!({ "kind": "IPPool", "spec": { "cidr": cidr, "blockSize": size } }))
    };
    server.write("pool", &["create"], &pool("10.1.0.0/16", 26)).unwrap();
    let said = server.write("other", &["replace"], &pool("10.2.0.0/16", 26)).unwrap_err();
    assert!(said.contains("the range of a pool cannot change"), "{said}");
    let said = server.write("other", &["replace"], &pool("10.1.0.0/16", 24)).unwrap_err();
    assert!(said.contains("the block size of a pool cannot change"), "{said}");
    let spec: Value =
        serde_json::from_str(&server.kubectl(&["get", "ippool", "x", "-o", "jsonpath={.spec}"]).unwrap())
            .unwrap();
    let filled = json!({
        "cidr": "10.1.0.0/16", "blockSize": 26, "ipipMode": "Never", "vxlanMode": "Never", "nodeSelector": "all()",
        "assignmentMode": "Automatic",
    });
    assert_eq!(spec, filled);

    // The largest policy: the cost of its rules between fields stays within the API server's budget.
    let rule = json!({
        "action": "Allow", "protocol": "TCP", "source": { "nets": vec!["10.0.0.0/8"; 20] },
        "destination": { "ports": (1..=50).collect::<Vec<u16>>() },
    });
    let rules = vec![rule; libcalico_api::policy::MAX_RULES];
    let big =
        object(&json!({ "kind": "GlobalNetworkPolicy", "spec": { "ingress": rules, "egress": rules } }));
    server.write("big", &["create"], &big).unwrap();
}
