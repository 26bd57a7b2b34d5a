//! The whole of Felix with a real etcd and the real kernel, in a network namespace of its own.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// True where namespaces and etcd can be had. Without: a note on a person's machine, a failure in CI.
fn ready() -> bool {
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
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "needs root, ip, nft, iptables, ipset, etcd and etcdctl"
    );
    eprintln!("skipped: needs root, ip, nft, iptables, ipset, etcd and etcdctl");
    false
}

struct World {
    ns: String,
    dir: tempfile::TempDir,
    etcd: Child,
    felix: Option<Child>,
}

const BASE: &str = "/calico/resources/v3/projectcalico.org";

impl World {
    fn new() -> Self {
        let ns = format!("fdp-a{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let run = |c: &str| assert!(Command::new("sh").args(["-c", c]).status().unwrap().success(), "{c}");
        run(&format!("ip netns add {ns} && ip -n {ns} link set lo up"));
        // A workload's interface with its other end beside it: no pod is needed to see rules and routes.
        run(&format!(
            "ip -n {ns} link add calipod type veth peer name pod0 && ip -n {ns} link set calipod up && ip -n {ns} link set pod0 up"
        ));
        let dir = tempfile::tempdir().unwrap();
        let etcd = Command::new("ip")
            .args(["netns", "exec", &ns, "etcd", "--log-level", "error", "--data-dir"])
            .arg(dir.path().join("etcd"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let me = Self { ns, dir, etcd, felix: None };
        me.eventually("etcd answers", || me.exec("etcdctl endpoint health").0);
        me.put("tiers/default", r#"{"kind":"Tier","apiVersion":"projectcalico.org/v3","metadata":{"name":"default"},"spec":{"order":1000000,"defaultAction":"Deny"}}"#);
        me.put("nodes/n1", r#"{"kind":"Node","apiVersion":"projectcalico.org/v3","metadata":{"name":"n1"},"spec":{"bgp":{"ipv4Address":"172.31.0.1/24"}}}"#);
        me.put("profiles/open", r#"{"kind":"Profile","apiVersion":"projectcalico.org/v3","metadata":{"name":"open"},"spec":{"ingress":[{"action":"Allow"}],"egress":[{"action":"Allow"}]}}"#);
        me.put("workloadendpoints/default/n1-k8s-p-eth0", r#"{"kind":"WorkloadEndpoint","apiVersion":"projectcalico.org/v3","metadata":{"name":"n1-k8s-p-eth0","namespace":"default","labels":{"app":"p"}},"spec":{"orchestrator":"k8s","node":"n1","pod":"p","endpoint":"eth0","ipNetworks":["10.65.0.2/32"],"profiles":["open"],"interfaceName":"calipod"}}"#);
        me
    }

    fn exec(&self, command: &str) -> (bool, String) {
        let out = Command::new("ip")
            .args(["netns", "exec", &self.ns, "sh", "-c", command])
            .env("ETCDCTL_API", "3")
            .output()
            .unwrap();
        (out.status.success(), String::from_utf8_lossy(&out.stdout).into_owned())
    }

    fn put(&self, key: &str, json: &str) {
        let (ok, text) = self.exec(&format!("etcdctl put {BASE}/{key} '{json}'"));
        assert!(ok, "{text}");
    }

    fn delete(&self, key: &str) {
        assert!(self.exec(&format!("etcdctl del {BASE}/{key}")).0);
    }

    fn start(&mut self) {
        let child = Command::new("ip")
            .args(["netns", "exec", &self.ns, env!("CARGO_BIN_EXE_calico-felix")])
            .env("FELIX_FELIXHOSTNAME", "n1")
            .env("FELIX_HEALTHENABLED", "true")
            .env("FELIX_ENDPOINTSTATUSPATHPREFIX", self.dir.path())
            .env("ETCD_ENDPOINTS", "http://127.0.0.1:2379")
            .env("DATASTORE_TYPE", "etcdv3")
            .env("CALICO_FELIX_SOCKET", self.dir.path().join("felix.sock"))
            .env("CALICO_FELIX_RECORD", self.dir.path().join("record"))
            .stderr(
                std::fs::OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(self.dir.path().join("log"))
                    .unwrap(),
            )
            .spawn()
            .unwrap();
        self.felix = Some(child);
    }

    fn signal(&mut self, signal: nix::sys::signal::Signal) {
        let Some(mut child) = self.felix.take() else { return };
        // `ip netns exec` becomes the program: one process.
        let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
        nix::sys::signal::kill(pid, signal).unwrap();
        child.wait().unwrap();
    }

    fn rules(&self) -> String {
        self.exec("nft -a list table ip calico | sed 's/packets [0-9]* bytes [0-9]*//'").1
    }

    fn health(&self, what: &str) -> bool {
        let get = format!(
            "exec 3<>/dev/tcp/127.0.0.1/9099; printf 'GET /{what} HTTP/1.0\\r\\n\\r\\n' >&3; head -1 <&3"
        );
        self.exec(&format!("bash -c \"{}\"", get.replace('"', "\\\""))).1.contains(" 200 ")
    }

    fn eventually(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let until = Instant::now() + Duration::from_secs(10);
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
        let _ = Command::new("ip").args(["netns", "del", &self.ns]).status();
    }
}

#[test]
fn felix_follows_the_datastore_and_survives_its_own_end() {
    if !ready() {
        return;
    }
    use nix::sys::signal::Signal;
    let mut w = World::new();
    w.start();
    w.eventually("ready", || w.health("readiness") && w.health("liveness"));
    assert!(w.rules().contains("goto filter-cali-tw-calipod"));
    assert!(w.exec("ip route").1.contains("10.65.0.2 dev calipod scope link"));

    let policy = r#"{"kind":"NetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"np","namespace":"default"},"spec":{"tier":"default","selector":"app == \"p\"","types":["Ingress"],"ingress":[{"action":"Allow","protocol":"TCP","destination":{"ports":[80]}}]}}"#;
    w.put("networkpolicies/default/np", policy);
    w.eventually("the policy's chain", || w.rules().contains("jump filter-cali-pi-np/default/np "));
    assert!(w.rules().contains("tcp dport 80"));

    // SIGKILL, SIGTERM: everything stays, and the next Felix finds nothing to change.
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        let before = w.rules();
        w.signal(signal);
        assert_eq!(w.rules(), before);
        w.start();
        w.eventually("ready again", || w.health("readiness"));
        assert_eq!(w.rules(), before, "{signal}");
    }

    // While the datastore is away nothing changes.
    let before = w.rules();
    w.etcd.kill().unwrap();
    w.etcd.wait().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(w.rules(), before);
    w.etcd = Command::new("ip")
        .args(["netns", "exec", &w.ns, "etcd", "--log-level", "error", "--data-dir"])
        .arg(w.dir.path().join("etcd"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    w.eventually("etcd answers", || w.exec("etcdctl endpoint health").0);
    w.delete("networkpolicies/default/np");
    w.eventually("the policy is gone", || !w.rules().contains("filter-cali-pi-np/default/np"));

    // Dump and replay.
    let felix = env!("CARGO_BIN_EXE_calico-felix");
    let dump = w.exec(&format!("{felix} dump --socket {}", w.dir.path().join("felix.sock").display())).1;
    assert!(dump.contains("FelixHostname = n1 (environment)") && dump.contains("cali-tw-calipod"), "{dump}");
    assert!(dump.contains("the kernel has what is believed"), "{dump}");
    let (ok, text) = w.exec(&format!("{felix} replay {}", w.dir.path().join("record").display()));
    assert!(ok, "{text}");
}

#[test]
fn a_changed_configuration_is_taken_in_place() {
    if !ready() {
        return;
    }
    let mut w = World::new();
    w.start();
    w.eventually("ready", || w.health("readiness"));
    let to_host = || w.exec("nft list chain ip calico filter-cali-wl-to-host").1;
    assert!(to_host().contains("drop"));
    let pid = w.felix.as_ref().unwrap().id();
    w.put("felixconfigurations/default", r#"{"kind":"FelixConfiguration","apiVersion":"projectcalico.org/v3","metadata":{"name":"default"},"spec":{"defaultEndpointToHostAction":"Accept"}}"#);
    w.eventually("the host accepts", || to_host().contains("accept"));
    w.put("felixconfigurations/node.n1", r#"{"kind":"FelixConfiguration","apiVersion":"projectcalico.org/v3","metadata":{"name":"node.n1"},"spec":{"defaultEndpointToHostAction":"Drop"}}"#);
    w.eventually("the node's own word wins", || to_host().contains("drop"));
    w.eventually("ready", || w.health("readiness"));
    assert_eq!(w.felix.as_ref().unwrap().id(), pid);
    assert!(w.felix.as_mut().unwrap().try_wait().unwrap().is_none(), "the process went on");
}

#[test]
fn a_changed_backend_is_switched_in_place() {
    if !ready() {
        return;
    }
    let mut w = World::new();
    w.start();
    w.eventually("ready", || w.health("readiness"));
    let pid = w.felix.as_ref().unwrap().id();
    // What stands of ours: a table of our own, chains in iptables' of either kind, IP sets.
    let standing = || {
        let has = |command: &str, word: &str| w.exec(command).1.contains(word);
        [
            has("nft list tables", "ip calico"),
            has("iptables-nft-save 2>/dev/null", "-A cali-from-wl-dispatch -i calipod"),
            has("iptables-legacy-save", ":cali-tw-calipod"),
            has("ipset list -n", "cali40"),
        ]
    };
    let configure = |spec: &str| {
        let head = r#"{"kind":"FelixConfiguration","apiVersion":"projectcalico.org/v3","metadata":{"name":"default"}"#;
        w.put("felixconfigurations/default", &format!(r#"{head},"spec":{{{spec}}}}}"#));
    };
    assert_eq!(standing(), [true, false, false, false], "nobody uses iptables here");
    configure(r#""nftablesMode":"Disabled","iptablesBackend":"NFT""#);
    w.eventually("iptables-nft alone", || standing() == [false, true, false, true]);
    configure(r#""nftablesMode":"Disabled","iptablesBackend":"Legacy","chainInsertMode":"Append""#);
    w.eventually("iptables-legacy alone", || standing() == [false, false, true, true]);
    configure(r#""nftablesMode":"Enabled""#);
    w.eventually("nftables alone", || standing() == [true, false, false, false]);
    w.eventually("ready", || w.health("readiness"));
    assert_eq!(w.felix.as_ref().unwrap().id(), pid);
}
